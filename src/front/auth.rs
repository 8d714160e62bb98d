//! Bearer tokens: JSON Web Tokens signed with HS256, and no other algorithm.
//!
//! Depends on neither the runtime nor the shards, and reads no clock: `now` is Unix time in seconds.

use std::rc::Rc;

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use shards::clock::AHEAD_MAX_MS;
use shards::command::Actor;
use shards::ids::{Role, Timestamp, UserId, Username};

use super::api_keys::KeyInUse;

/// The lifetime of a token: one working day.
pub const TOKEN_LIFE_SECONDS: u64 = 12 * 60 * 60;

/// The accepted difference between the clocks at signing and at verification. Both are this
/// server's.
pub(in crate::front) const LEEWAY_SECONDS: u64 = 5;

/// By how much a token's time of issue may be ahead of the time of its verification. A token that is further
/// ahead is from a clock that was wrong. It would be valid until that time comes again, and 12 hours more.
const AHEAD_SECONDS_MAX: u64 = AHEAD_MAX_MS / 1000;

/// An upper bound on the tokens that this server issues.
const TOKEN_BYTES_MAX: usize = 4096;

/// `{"typ":"JWT","alg":"HS256"}.`, encoded as this server encodes it. Only this server's tokens are
/// valid, so no other header is parsed: no `alg` in another spelling, no `jwk`, `jku`, `x5u` or
/// `crit`.
const HEADER: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.";

const ISSUER: &str = "boxoffice";

/// The account that a token was issued for, or an API key made.
#[derive(Debug, Clone)]
pub struct Identity {
    pub actor: Actor,
    pub username: Username,
    pub credential: Credential,
}

/// What a request was sent with.
#[derive(Debug, Clone)]
pub enum Credential {
    /// With the version that the account's tokens had at its issue.
    Token {
        version: u64,
    },
    Key(KeyInUse),
    /// A token of another issuer.
    Foreign,
}

/// The claims of a token with a valid signature, or an API key that exists. Only the account's shard can tell whether
/// it still stands.
#[derive(Debug, Clone)]
pub struct Claimed {
    pub identity: Rc<Identity>,
    pub validity: Validity,
}

/// When a token is valid: the first and the last second, in Unix time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub first: u64,
    pub last: u64,
}

impl Validity {
    /// Up to the last whole second before a time, if there is one.
    pub fn until(end: Option<Timestamp>) -> Validity {
        let last = end.map_or(u64::MAX, |end| (end.0 / 1000).saturating_sub(1));
        Validity { first: 0, last }
    }

    pub fn contains(self, now: u64) -> bool {
        self.first <= now && now <= self.last
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    /// The data directory that holds the account.
    aud: String,
    sub: String,
    name: String,
    role: Role,
    /// The token version, as text: JSON numbers are not exact above 2^53.
    ver: String,
    iat: u64,
    exp: u64,
    jti: String,
}

/// Signs and verifies tokens; each core has one.
#[derive(Clone)]
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    audience: String,
}

impl Tokens {
    /// Creates the signer. `secret` has at least 32 bytes; `cluster` identifies the data directory
    /// that holds the accounts.
    pub fn new(secret: &[u8], cluster: u64) -> Tokens {
        // Fails if another core or test has installed the provider already, which is the same one.
        let _ = PROVIDER.install_default();
        let audience = format!("boxoffice:{cluster:016x}");
        let mut validation = Validation::new(Algorithm::HS256);
        // `verify` checks the expiry. The crate's own check reads the clock and subtracts without a look
        // at overflow, so a clock in the first seconds of 1970 would end the process in a debug build.
        validation.validate_exp = false;
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[&audience]);
        Tokens {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            validation,
            audience,
        }
    }

    /// Issues a token for an account, valid for [`TOKEN_LIFE_SECONDS`].
    pub fn issue(
        &self,
        now: u64,
        user: UserId,
        username: &Username,
        role: Role,
        version: u64,
        id: String,
    ) -> String {
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: self.audience.clone(),
            sub: user.to_string(),
            name: username.as_str().to_owned(),
            role,
            ver: format!("{version:016x}"),
            iat: now,
            exp: now + TOKEN_LIFE_SECONDS,
            jti: id,
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding);
        token.expect("claims of strings and numbers can be signed")
    }

    /// Verifies a token and returns its claims. Returns `None` for every invalid token, without a
    /// reason, because clients are not told one.
    pub fn verify(&self, token: &str, now: u64) -> Option<Claimed> {
        if !token.starts_with(HEADER) || token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).ok()?.claims;
        let validity = Validity {
            first: claims.iat.saturating_sub(AHEAD_SECONDS_MAX),
            last: claims.exp.saturating_add(LEEWAY_SECONDS),
        };
        if !validity.contains(now) {
            return None;
        }
        let actor = Actor::new(claims.sub.parse().ok()?, claims.role);
        let username = Username::new(&claims.name).ok()?;
        let version = u64::from_str_radix(&claims.ver, 16).ok()?;
        Some(Claimed {
            identity: Rc::new(Identity { actor, username, credential: Credential::Token { version } }),
            validity,
        })
    }
}

/// Extracts the token from the value of an Authorization header.
pub fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, behind) = authorization.split_at_checked("bearer".len())?;
    let spaces = behind.iter().take_while(|&&byte| byte == b' ').count();
    (scheme.eq_ignore_ascii_case(b"bearer") && spaces > 0).then(|| &behind[spaces..])
}

/// The cryptography provider for jsonwebtoken: HMAC-SHA-256; other algorithms are refused. The
/// providers of that crate depend on an RSA crate with an open security advisory, or on a large C
/// build, for algorithms that this server does not use.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| Ok(Box::new(Hs256::new(*algorithm, key.as_bytes())?)),
    verifier_factory: |algorithm, key| Ok(Box::new(Hs256::new(*algorithm, key.try_get_as_bytes()?)?)),
    key_utils: KeyUtils::new_unimplemented(),
};

struct Hs256(Hmac<Sha256>);

impl Hs256 {
    fn new(algorithm: Algorithm, secret: &[u8]) -> Result<Hs256, Error> {
        if algorithm != Algorithm::HS256 {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
        let mac = Hmac::new_from_slice(secret).map_err(|_| ErrorKind::InvalidKeyFormat)?;
        Ok(Hs256(mac))
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        let mac = self.0.clone().chain_update(message);
        Ok(mac.finalize().into_bytes().to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let mac = self.0.clone().chain_update(message);
        mac.verify_slice(signature).map_err(|_| signature::Error::new())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const NOW: u64 = 1_800_000_000;

    fn token_of(tokens: &Tokens) -> String {
        let username = Username::new("ada").unwrap();
        tokens.issue(NOW, UserId(7), &username, Role::Organizer, u64::MAX, "j1".to_owned())
    }

    #[test]
    fn a_token_identifies_its_account() {
        let tokens = Tokens::new(SECRET, 1);
        let token = token_of(&tokens);
        assert!(token.starts_with(HEADER), "{token}");
        let Claimed { identity, validity } = tokens.verify(&token, NOW).unwrap();
        assert_eq!(identity.actor, Actor::new(UserId(7), Role::Organizer));
        assert_eq!(identity.username.as_str(), "ada");
        assert!(matches!(identity.credential, Credential::Token { version: u64::MAX }));
        assert_eq!(validity, Validity { first: NOW - 10, last: NOW + 12 * 3600 + 5 });
    }

    /// Also when a clock that was ahead at the issue is right again.
    #[test]
    fn tokens_end_whatever_the_clock_shows() {
        let tokens = Tokens::new(SECRET, 1);
        let token = token_of(&tokens);
        for (now, is_good) in [
            (0, false),
            (NOW / 2, false),
            (NOW - 11, false),
            (NOW - 10, true),
            (NOW + TOKEN_LIFE_SECONDS + 5, true),
            (NOW + TOKEN_LIFE_SECONDS + 6, false),
            (u64::MAX, false),
        ] {
            assert_eq!(tokens.verify(&token, now).is_some(), is_good, "at {now}");
        }
    }

    #[test]
    fn a_key_ends_with_the_second_before_its_end() {
        let validity = Validity::until(Some(Timestamp(5000)));
        assert!(validity.contains(0) && validity.contains(4) && !validity.contains(5));
        assert!(!Validity::until(Some(Timestamp(5999))).contains(5));
        assert!(Validity::until(None).contains(u64::MAX));
    }

    #[test]
    fn bearer_tokens_are_extracted() {
        let rows = [
            ("Bearer x.y.z", Some("x.y.z")),
            ("bearer  x.y.z", Some("x.y.z")),
            ("Basic x.y.z", None),
            ("Bearer", None),
            ("Bearers x.y.z", None),
            ("Bearer x", Some("x")),
            ("x.y.z", None),
            ("", None),
        ];
        for (value, token) in rows {
            assert_eq!(bearer(value.as_bytes()), token.map(str::as_bytes), "{value}");
        }
    }

    #[test]
    fn other_tokens_are_refused() {
        let tokens = Tokens::new(SECRET, 1);
        let token = token_of(&tokens);
        let rows = [
            ("another secret", token_of(&Tokens::new(&[7; 32], 1))),
            ("another data directory", token_of(&Tokens::new(SECRET, 2))),
            ("one more character", format!("{token}x")),
            ("empty", String::new()),
            ("too long", format!("{HEADER}{}", "a".repeat(TOKEN_BYTES_MAX))),
        ];
        for (name, token) in rows {
            assert!(tokens.verify(&token, NOW).is_none(), "{name}");
        }
    }
}
