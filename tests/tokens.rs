//! Tokens: what is taken for one, and every way to forge one that we know of.

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use boxoffice::front::auth::Tokens;
use serde_json::{Value, json};
use support::client::{Answer, request};
use support::server::{Server, serve};
use support::tokens::{base64url, from_hex, parts, signed, to_hex, token};
use support::{PASSWORD, create_event};
use tempfile::tempdir;

/// Made by `tests/data/tokens.py`, which says what the columns are.
const VECTORS: &str = include_str!("data/tokens.tsv");

#[test]
fn vectors_of_another_implementation() {
    let (mut valid, mut invalid) = (0, 0);
    let mut wrong = Vec::new();
    for line in VECTORS.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [verdict, secret, cluster, comment, token] = columns[..] else { panic!("{line}") };
        let cluster = u64::from_str_radix(cluster, 16).expect(line);
        let taken = Tokens::new(&from_hex(secret), cluster).verify(token).is_some();
        match (verdict, taken) {
            ("valid", true) => valid += 1,
            ("invalid", false) => invalid += 1,
            _ => wrong.push(format!("{verdict}, taken: {taken}: {comment}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{valid} valid and {invalid} invalid vectors");
    assert!(valid >= 18 && invalid >= 200, "{valid} {invalid}");
}

const SECRET: &[u8] = b"a secret that the test knows: 32+";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// The claims with some of them set; those set to null are left out.
fn with(claims: &Value, changes: Value) -> String {
    let mut claims = claims.clone();
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    claims.to_string()
}

const HEADER: &str = r#"{"typ":"JWT","alg":"HS256"}"#;

/// What is wrong, and the value of the Authorization header.
fn attacks(good: &str) -> Vec<(String, String)> {
    let (_, claims, signature) = parts(good);
    let (message, tag) = good.rsplit_once('.').expect("segments");
    let (head, payload) = message.split_once('.').expect("segments");
    let text = claims.to_string();
    let mut rows = Vec::new();
    let mut add = |name: String, token: String| rows.push((name, format!("Bearer {token}")));

    for alg in ["none", "None", "NONE", "nOnE", "nonE", ""] {
        let head = base64url(format!(r#"{{"typ":"JWT","alg":"{alg}"}}"#).as_bytes());
        add(format!("alg {alg:?}, no signature"), format!("{head}.{payload}."));
        add(format!("alg {alg:?}, two segments"), format!("{head}.{payload}"));
        add(format!("alg {alg:?}, signed"), signed(SECRET, &format!("{head}.{payload}")));
        add(format!("alg {alg:?}, the good one's signature"), format!("{head}.{payload}.{tag}"));
    }
    for alg in ["HS384", "HS512", "RS256", "RS512", "ES256", "PS256", "EdDSA", "hs256", "HS256 ", "HS1"] {
        let header = format!(r#"{{"typ":"JWT","alg":"{alg}"}}"#);
        add(format!("alg {alg:?}"), token(SECRET, &header, &text));
    }
    for extra in [
        r#""jwk":{"kty":"oct","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#,
        r#""jku":"https://example.com/keys""#,
        r#""x5u":"https://example.com/cert""#,
        r#""x5c":["MIIB"]"#,
        r#""crit":["exp"]"#,
        r#""crit":[]"#,
        r#""kid":"../../dev/null""#,
        r#""alg":"HS256""#,
        r#""b64":false,"crit":["b64"]"#,
        r#""zip":"DEF""#,
        r#""cty":"JWT""#,
    ] {
        let header = format!(r#"{{"typ":"JWT","alg":"HS256",{extra}}}"#);
        add(format!("header with {extra}"), token(SECRET, &header, &text));
    }
    // With the key that its own header offers.
    let header = r#"{"typ":"JWT","alg":"HS256","jwk":{"kty":"oct","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}"#;
    add("signed with the jwk".to_owned(), token(&[0; 32], header, &text));

    for secret in
        ["", "secret", "boxoffice", "changeme", "your-256-bit-secret", "a secret that the test knows: 32"]
    {
        add(format!("signed with {secret:?}"), token(secret.as_bytes(), HEADER, &text));
    }
    add("empty signature".to_owned(), format!("{message}."));
    add("stripped signature".to_owned(), message.to_owned());
    for (index, bit) in [(0, 0), (15, 3), (31, 7)] {
        let mut flipped = signature.clone();
        flipped[index] ^= 1 << bit;
        add(format!("signature bit {index}.{bit} flipped"), format!("{message}.{}", base64url(&flipped)));
    }
    add("signature of another token".to_owned(), {
        let other = token(SECRET, HEADER, &with(&claims, json!({ "jti": "0" })));
        format!("{message}.{}", other.rsplit_once('.').expect("segments").1)
    });
    add("signature in hexadecimal".to_owned(), format!("{message}.{}", to_hex(&signature)));

    for (name, changes) in [
        ("role", json!({ "role": "admin" })),
        ("sub", json!({ "sub": "2" })),
        ("name", json!({ "name": "grace" })),
        ("exp", json!({ "exp": now() + 1_000_000_000 })),
        ("ver", json!({ "ver": "0000000000000000" })),
    ] {
        let edited = base64url(with(&claims, changes).as_bytes());
        add(format!("edited payload: {name}"), format!("{head}.{edited}.{tag}"));
    }
    for (name, changes) in [
        ("exp missing", json!({ "exp": null })),
        ("exp past", json!({ "exp": now() - 60 })),
        ("exp past the leeway", json!({ "exp": now() - 7 })),
        ("exp as text", json!({ "exp": (now() + 60).to_string() })),
        ("exp with a fraction", json!({ "exp": now() as f64 + 60.5 })),
        ("exp negative", json!({ "exp": -1 })),
        ("exp in a list", json!({ "exp": [now() + 60] })),
        ("nbf ahead", json!({ "nbf": now() + 60 })),
        ("nbf as text", json!({ "nbf": "0" })),
        ("iss missing", json!({ "iss": null })),
        ("iss wrong", json!({ "iss": "box office" })),
        ("aud missing", json!({ "aud": null })),
        ("aud wrong", json!({ "aud": "boxoffice:0000000000000000" })),
        ("aud a prefix", json!({ "aud": "boxoffice" })),
        ("sub missing", json!({ "sub": null })),
        ("sub wrong", json!({ "sub": "4000000000" })),
        ("sub a number", json!({ "sub": 1 })),
        ("sub and name of different accounts", json!({ "name": "grace" })),
        ("name of nobody", json!({ "name": "nobody" })),
        ("name missing", json!({ "name": null })),
        ("role missing", json!({ "role": null })),
        ("role unknown", json!({ "role": "superuser" })),
        ("ver missing", json!({ "ver": null })),
        ("ver wrong", json!({ "ver": "0123456789abcdef" })),
        ("one claim more", json!({ "scope": "all" })),
    ] {
        add(name.to_owned(), token(SECRET, HEADER, &with(&claims, changes)));
    }
    for name in ["sub", "exp", "role", "ver", "aud", "iss"] {
        let twice = format!("{},\"{name}\":{}}}", &text[..text.len() - 1], claims[name]);
        add(format!("{name} twice"), token(SECRET, HEADER, &twice));
    }

    add("padded".to_owned(), format!("{good}="));
    add("padded to four".to_owned(), format!("{head}==.{payload}==.{tag}="));
    for (from, to) in [('-', '+'), ('_', '/')] {
        // Some token whose signature has that character.
        let other = (0..).map(|id| token(SECRET, HEADER, &with(&claims, json!({ "jti": id.to_string() }))));
        let other = other
            .into_iter()
            .find(|token| token.rsplit_once('.').expect("segments").1.contains(from))
            .expect("there is one");
        let (message, tag) = other.rsplit_once('.').expect("segments");
        add(format!("{to} for {from}"), format!("{message}.{}", tag.replace(from, &to.to_string())));
    }
    add("two segments".to_owned(), format!("{head}.{payload}"));
    add("four segments".to_owned(), format!("{good}.{tag}"));
    add("five segments".to_owned(), format!("{good}.{tag}.{tag}"));
    add("one segment".to_owned(), head.to_owned());
    add("dots".to_owned(), "..".to_owned());
    add("nothing".to_owned(), String::new());
    add("above 4 KiB".to_owned(), {
        let claims = with(&claims, json!({ "jti": "x".repeat(4096) }));
        token(SECRET, HEADER, &claims)
    });
    add("quoted".to_owned(), format!("\"{good}\""));
    add("two tokens".to_owned(), format!("{good}, {good}"));
    add("a parameter behind".to_owned(), format!("{good}; a=b"));
    for scheme in ["Basic", "Token", "JWT", "Digest", "Bearer:", "BearerBearer"] {
        rows.push((format!("scheme {scheme}"), format!("{scheme} {good}")));
    }
    rows.push(("no scheme".to_owned(), good.to_owned()));
    rows.push(("tab behind the scheme".to_owned(), format!("Bearer\t{good}")));
    rows
}

#[test]
fn no_forged_token_is_taken() {
    let data = tempdir().unwrap();
    let mut command = serve(data.path());
    command.args(["--shards", "2"]).env("BOXOFFICE_TOKEN_SECRET", str::from_utf8(SECRET).unwrap());
    let server = Server::spawn(command);
    let client = server.client();
    let ada = client.sign_up("ada", "organizer");
    client.sign_up("grace", "organizer");
    let event = create_event(&ada, 5);
    let good = ada.token.clone().unwrap();
    let (header, claims, _) = parts(&good);
    assert_eq!(header, HEADER);
    assert_eq!(token(SECRET, HEADER, &claims.to_string()).len(), good.len(), "what we sign ourselves");

    let path = format!("/api/v1/events/{event}");
    let body = r#"{"quota":1}"#;
    let mut wire = server.wire();
    let mut ask = |method: &str, path: &str, fields: &str| {
        let body = if method == "GET" { "" } else { body };
        wire.ask(request(method, path, None, fields, body))
    };
    let asked = |answer: Answer| {
        let fields = ["content-type", "www-authenticate", "cache-control", "connection"];
        let fields = fields.map(|name| answer.header(name).map(str::to_owned));
        (answer.status, fields, answer.text().to_owned())
    };
    let missing = asked(ask("GET", "/api/v1/users/me", ""));
    assert_eq!((missing.0, missing.1[1].as_deref()), (401, Some("Bearer")));
    let rows = attacks(&good);
    for (name, authorization) in &rows {
        let field = format!("Authorization: {authorization}\r\n");
        // Twice, and on routes for those who are logged in, for some roles, and for one's own.
        for (method, path) in [
            ("GET", "/api/v1/users/me"),
            ("PATCH", &path),
            ("GET", "/api/v1/events?organizer=me"),
            ("GET", "/api/v1/users/me"),
        ] {
            assert_eq!(asked(ask(method, path, &field)), missing, "{name}: {method} {path}");
        }
        // Where none is needed, a bad one is none.
        assert_eq!(ask("GET", &path, &field).status, 200, "{name} on an open route");
    }
    for query in ["token", "access_token", "authorization", "bearer"] {
        let path = format!("{path}?{query}={good}");
        assert_eq!(asked(ask("PATCH", &path, "")), missing, "token in the query as {query}");
    }
    for field in ["X-Authorization", "Proxy-Authorization", "Cookie", "X-Access-Token"] {
        let field = format!("{field}: Bearer {good}\r\n");
        assert_eq!(asked(ask("PATCH", &path, &field)), missing, "token in {field:.20}");
    }
    println!("{} forged tokens, each asked five times, and 8 places that are not for tokens", rows.len());
    assert!(rows.len() >= 100, "{}", rows.len());

    // Ours are taken, so that the rows above fail for what they name.
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    for token in [
        good.clone(),
        token(SECRET, HEADER, &claims.to_string()),
        token(SECRET, HEADER, &with(&claims, json!({ "exp": now() - 3 }))),
    ] {
        ask("GET", "/api/v1/users/me", &bearer(&token)).expect(200);
        ask("GET", "/api/v1/users/me", &bearer(&token)).expect(200);
    }
    let seen = client.get(&path).expect(200).json();
    assert_eq!(seen["quota"], 5, "a forged token changed it");
}

/// A token that was seen is not good for longer than one that was not.
#[test]
fn a_token_that_is_remembered_ends_in_time() {
    let data = tempdir().unwrap();
    let mut command = serve(data.path());
    command.args(["--shards", "2"]).env("BOXOFFICE_TOKEN_SECRET", str::from_utf8(SECRET).unwrap());
    let server = Server::spawn(command);
    let ada = server.client().sign_up("ada", "customer");
    let (_, claims, _) = parts(ada.token.as_ref().unwrap());
    let end = now() - 3;
    let ending = server.client().with_token(&token(SECRET, HEADER, &with(&claims, json!({ "exp": end }))));
    let mut seen = 0;
    loop {
        let before = now();
        let status = ending.get("/api/v1/users/me").status;
        // Five seconds of leeway, and what the request took.
        match status {
            200 => assert!(before <= end + 5, "taken {} s after its end", before - end),
            401 => {
                assert!(now() > end + 5, "refused {} s after its end", now() - end);
                break;
            }
            other => panic!("{other}"),
        }
        seen += 1;
    }
    assert!(seen > 1, "it was not remembered before it ended");
    server.client().log_in("ada", PASSWORD).get("/api/v1/users/me").expect(200);
}

#[test]
fn two_tokens_are_none() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path(), &["--shards", "1", "--storage", "memory"]);
    let token = server.client().sign_up("ada", "customer").token.unwrap();
    for second in [token.as_str(), "x"] {
        let fields = format!("Authorization: Bearer {token}\r\nauthorization: Bearer {second}\r\n");
        let mut wire = server.wire();
        let answer = wire.ask(request("GET", "/api/v1/users/me", None, &fields, ""));
        assert!(answer.closes());
        answer.problem(400, "malformed-request");
        wire.expect_end();
    }
}
