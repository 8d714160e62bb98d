#!/usr/bin/env python3
"""Generates tokens.tsv: tokens, and whether the server must accept them.

An independent implementation of RFC 7515, RFC 7518 and RFC 2104 with Python's hashlib only:
`python3 tests/data/tokens.py > tests/data/tokens.tsv`. Columns: verdict, secret in hexadecimal,
id of the data directory in hexadecimal, comment, token.
"""

import base64
import hashlib
import json

SECRET = bytes(range(32))
CLUSTER = 0x0123456789ABCDEF
FAR = 4102444800  # 2100-01-01
BLOCK = 64


def url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hmac(secret, message, digest=hashlib.sha256, block=BLOCK):
    if len(secret) > block:
        secret = digest(secret).digest()
    secret = secret.ljust(block, b"\0")
    inner = digest(bytes(byte ^ 0x36 for byte in secret) + message).digest()
    return digest(bytes(byte ^ 0x5C for byte in secret) + inner).digest()


def compact(value):
    return json.dumps(value, separators=(",", ":")).encode()


HEADER = compact({"typ": "JWT", "alg": "HS256"})
CLAIMS = {
    "iss": "boxoffice",
    "aud": f"boxoffice:{CLUSTER:016x}",
    "sub": "7",
    "name": "ada",
    "role": "organizer",
    "ver": "ffffffffffffffff",
    "iat": 1000000000,
    "exp": FAR,
    "jti": "0123456789abcdef",
}


def signed(header=HEADER, claims=None, secret=SECRET):
    message = f"{url(header)}.{url(compact(CLAIMS if claims is None else claims))}"
    return message, hmac(secret, message.encode())


def row(verdict, comment, token, secret=SECRET):
    print(verdict, secret.hex(), f"{CLUSTER:016x}", comment, token, sep="\t")


def changed(**changes):
    """Returns the claims with some replaced, or omitted if the new value is None."""
    return {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}


MESSAGE, TAG = signed()
GOOD = f"{MESSAGE}.{url(TAG)}"

# Secrets around the block size of SHA-256, where HMAC pads or hashes them.
for length in (32, 33, 48, 63, 64, 65, 96, 128, 200):
    secret = bytes((7 * index + length) % 256 for index in range(length))
    message, tag = signed(secret=secret)
    row("valid", f"secret of {length} bytes", f"{message}.{url(tag)}", secret)
for role in ("customer", "organizer", "admin"):
    message, tag = signed(claims=changed(role=role))
    row("valid", f"role {role}", f"{message}.{url(tag)}")
for name, claims in {
    "highest user": changed(sub="4294967295"),
    "name of 64 characters": changed(name="z" * 64),
    "claims in another order": dict(reversed(CLAIMS.items())),
    "version 0": changed(ver="0000000000000000"),
}.items():
    message, tag = signed(claims=claims)
    row("valid", name, f"{message}.{url(tag)}")

# The tag.
for length in range(len(TAG)):
    row("invalid", f"tag cut to {length} bytes", f"{MESSAGE}.{url(TAG[:length])}")
for index in range(len(TAG)):
    for bit in (0, 7):
        flipped = bytearray(TAG)
        flipped[index] ^= 1 << bit
        row("invalid", f"bit {bit} of tag byte {index} flipped", f"{MESSAGE}.{url(bytes(flipped))}")
for name, tag in {
    "one byte more": TAG + b"\0",
    "twice": TAG + TAG,
    "all zero": bytes(32),
    "all one": b"\xff" * 32,
    "complement": bytes(byte ^ 0xFF for byte in TAG),
    "reversed": TAG[::-1],
    "of the claims alone": hmac(SECRET, MESSAGE.split(".")[1].encode()),
    "of the header alone": hmac(SECRET, MESSAGE.split(".")[0].encode()),
    "of the decoded parts": hmac(SECRET, HEADER + b"." + compact(CLAIMS)),
    "of the message and a dot": hmac(SECRET, MESSAGE.encode() + b"."),
    "of nothing": hmac(SECRET, b""),
    "with an empty secret": hmac(b"", MESSAGE.encode()),
    "with a cut secret": hmac(SECRET[:31], MESSAGE.encode()),
    "with a longer secret": hmac(SECRET + b"\1", MESSAGE.encode()),
    "with the secret in hexadecimal": hmac(SECRET.hex().encode(), MESSAGE.encode()),
    "with the secret in base64": hmac(base64.b64encode(SECRET), MESSAGE.encode()),
    "plain hash of the message": hashlib.sha256(MESSAGE.encode()).digest(),
    "plain hash of secret and message": hashlib.sha256(SECRET + MESSAGE.encode()).digest(),
    "HMAC with SHA-1": hmac(SECRET, MESSAGE.encode(), hashlib.sha1),
    "HMAC with SHA-224": hmac(SECRET, MESSAGE.encode(), hashlib.sha224),
    "HMAC with SHA-384": hmac(SECRET, MESSAGE.encode(), hashlib.sha384, 128),
    "HMAC with SHA-512": hmac(SECRET, MESSAGE.encode(), hashlib.sha512, 128),
    "HMAC with SHA-512, cut": hmac(SECRET, MESSAGE.encode(), hashlib.sha512, 128)[:32],
    "HMAC with SHA3-256": hmac(SECRET, MESSAGE.encode(), hashlib.sha3_256, 136),
}.items():
    row("invalid", f"tag: {name}", f"{MESSAGE}.{url(tag)}")
row("invalid", "tag in hexadecimal", f"{MESSAGE}.{TAG.hex()}")
row("invalid", "tag padded", f"{GOOD}=")
row("invalid", "tag padded in the URL's way", f"{GOOD}%3D")
# 32 bytes leave two bits of the last character unused.
last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
for unused in (1, 2, 3):
    row("invalid", f"unused bits {unused}", GOOD[:-1] + last[last.index(GOOD[-1]) | unused])
for number in range(1000):
    message, tag = signed(claims=changed(jti=f"{number:016x}"))
    if any(character in url(tag) for character in "-_"):
        row("valid", "both alphabets differ in the tag", f"{message}.{url(tag)}")
        standard = base64.b64encode(tag).rstrip(b"=").decode()
        row("invalid", "tag in the standard alphabet", f"{message}.{standard}")
        break

# The header, with a valid signature.
for name, header in {
    "alg none": compact({"typ": "JWT", "alg": "none"}),
    "alg HS384": compact({"typ": "JWT", "alg": "HS384"}),
    "alg hs256": compact({"typ": "JWT", "alg": "hs256"}),
    "alg twice": b'{"typ":"JWT","alg":"none","alg":"HS256"}',
    "alg missing": compact({"typ": "JWT"}),
    "typ missing": compact({"alg": "HS256"}),
    "another order": compact({"alg": "HS256", "typ": "JWT"}),
    "space": b'{"typ": "JWT","alg":"HS256"}',
    "kid": compact({"typ": "JWT", "alg": "HS256", "kid": "1"}),
    "crit": compact({"typ": "JWT", "alg": "HS256", "crit": ["exp"]}),
    "b64 false": compact({"typ": "JWT", "alg": "HS256", "crit": ["b64"], "b64": False}),
    "zip": compact({"typ": "JWT", "alg": "HS256", "zip": "DEF"}),
    "array": b'["JWT","HS256"]',
    "empty": b"",
}.items():
    message, tag = signed(header=header)
    row("invalid", f"header: {name}", f"{message}.{url(tag)}")

# The claims, with a valid signature.
for name, claims in {
    "past exp": changed(exp=1000000001),
    "exp 0": changed(exp=0),
    "negative exp": changed(exp=-1),
    "exp as text": changed(exp=str(FAR)),
    "exp with a fraction": changed(exp=FAR + 0.5),
    "nbf ahead": changed(nbf=FAR - 1),
    "another iss": changed(iss="Boxoffice"),
    "iss in a list": changed(iss=["boxoffice"]),
    "another aud": changed(aud="boxoffice:0123456789abcdee"),
    "aud in a list": changed(aud=[CLAIMS["aud"]]),
    "sub 0": changed(sub="0"),
    "sub as a number": changed(sub=7),
    "sub too large": changed(sub="4294967296"),
    "sub with a sign": changed(sub="+7"),
    "sub with a zero in front": changed(sub="07"),
    "name too short": changed(name="ab"),
    "another role": changed(role="root"),
    "role in capitals": changed(role="Admin"),
    "ver as a number": changed(ver=7),
    "ver too long": changed(ver="1" * 17),
    "one more claim": changed(admin=True),
    **{f"{name} missing": changed(**{name: None}) for name in CLAIMS},
    **{f"{name} null": {**CLAIMS, name: None} for name in CLAIMS},
}.items():
    message, tag = signed(claims=claims)
    row("invalid", f"claims: {name}", f"{message}.{url(tag)}")
for name in CLAIMS:
    text = compact(CLAIMS)[:-1] + b"," + compact({name: CLAIMS[name]})[1:]
    message = f"{url(HEADER)}.{url(text)}"
    row("invalid", f"claims: {name} twice", f"{message}.{url(hmac(SECRET, message.encode()))}")
for name, text in {
    "no JSON": b"ada",
    "no object": b'["ada"]',
    "empty": b"",
    "something behind": compact(CLAIMS) + b"x",
    "not UTF-8": compact(CLAIMS).replace(b"ada", b"\xff\xfe\xfd"),
}.items():
    message = f"{url(HEADER)}.{url(text)}"
    row("invalid", f"claims: {name}", f"{message}.{url(hmac(SECRET, message.encode()))}")

# The whole token.
row("valid", "the token that these are made of", GOOD)
header, claims, tag = GOOD.split(".")
for name, token in {
    "two segments": f"{header}.{claims}",
    "four segments": f"{GOOD}.{tag}",
    "five segments": f"{GOOD}.{tag}.{tag}",
    "an empty segment in front": f".{GOOD}",
    "an empty segment behind": f"{GOOD}.",
    "no claims": f"{header}..{tag}",
    "a space behind": f"{GOOD} ",
    "a space within": f"{header}. {claims}.{tag}",
    "claims padded": f"{header}.{claims}=.{tag}",
}.items():
    row("invalid", name, token)
