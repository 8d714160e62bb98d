//! Tokens of another issuer: who they stand for, what ends them, rotated keys, and known ways to forge one.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};
use support::client::{Client, request};
use support::create_event;
use support::server::{Server, serve};
use support::tokens::{base64url, signed};
use tempfile::tempdir;

/// Made by `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -outform DER`.
const RSA_KEY: &[u8] = include_bytes!("data/issuer_rsa.der");

enum Signer {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

impl Signer {
    fn es256() -> Signer {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a new key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random);
        Signer::Es256(pair.expect("a key of ring"))
    }

    fn eddsa() -> Signer {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a new key");
        Signer::EdDsa(Ed25519KeyPair::from_pkcs8(key.as_ref()).expect("a key of ring"))
    }

    fn rs256() -> Signer {
        Signer::Rs256(RsaKeyPair::from_der(RSA_KEY).expect("a key"))
    }

    fn alg(&self) -> &'static str {
        match self {
            Signer::Es256(_) => "ES256",
            Signer::EdDsa(_) => "EdDSA",
            Signer::Rs256(_) => "RS256",
        }
    }

    fn public(&self) -> Vec<u8> {
        match self {
            Signer::Es256(pair) => pair.public_key().as_ref().to_vec(),
            Signer::EdDsa(pair) => pair.public_key().as_ref().to_vec(),
            Signer::Rs256(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    fn jwk(&self, kid: &str) -> Value {
        let public = self.public();
        match self {
            Signer::Es256(_) => json!({ "kty": "EC", "crv": "P-256", "kid": kid,
                "x": base64url(&public[1..33]), "y": base64url(&public[33..]) }),
            Signer::EdDsa(_) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64url(&public) })
            }
            Signer::Rs256(pair) => {
                let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({ "kty": "RSA", "kid": kid, "n": base64url(&n), "e": base64url(&e) })
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Signer::Es256(pair) => pair.sign(&random, message).expect("signed").as_ref().to_vec(),
            Signer::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
            Signer::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("signed");
                signature
            }
        }
    }

    fn token(&self, header: &Value, claims: &str) -> String {
        let message =
            format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.as_bytes()));
        format!("{message}.{}", base64url(&self.sign(message.as_bytes())))
    }

    /// A good token.
    fn good(&self, kid: &str, subject: &str) -> String {
        self.token(&json!({ "alg": self.alg(), "kid": kid, "typ": "JWT" }), &claims(subject).to_string())
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn claims(subject: &str) -> Value {
    json!({ "iss": "https://id.example", "aud": "tickets", "sub": subject, "iat": now(), "exp": now() + 600 })
}

fn with(changes: Value) -> String {
    let mut claims = claims("ada");
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    claims.to_string()
}

fn write_keys(path: &Path, keys: &[Value]) {
    fs::write(path, json!({ "keys": keys }).to_string()).expect("written");
}

fn with_issuer(data: &Path, keys: &Path) -> Command {
    let mut command = serve(data);
    let issuer = format!("name=shop,iss=https://id.example,aud=tickets,keys={}", keys.display());
    command.args(["--shards", "2", "--registration", "open", "--issuer", &issuer]);
    command
}

fn me(client: &Client) -> Value {
    client.get("/api/v1/users/me").expect(200).json()
}

#[test]
fn a_subject_is_one_customer_whatever_key_signs_and_after_a_restart() {
    let (data, files) = (tempdir().unwrap(), tempdir().unwrap());
    let keys = files.path().join("keys.json");
    let signers = [("a", Signer::es256()), ("b", Signer::eddsa()), ("c", Signer::rs256())];
    write_keys(&keys, &signers.iter().map(|(kid, signer)| signer.jwk(kid)).collect::<Vec<_>>());
    let server = Server::spawn(with_issuer(data.path(), &keys));
    let client = server.client();
    let event = create_event(&client.sign_up("org", "organizer"), 50);
    // Many at once, on both cores.
    let tokens: Vec<String> = signers.iter().map(|(kid, signer)| signer.good(kid, "Ada")).collect();
    let ids: Vec<Value> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..24)
            .map(|n| {
                let client = server.client().with_token(&tokens[n % tokens.len()]);
                scope.spawn(move || me(&client))
            })
            .collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| id == &ids[0]), "{ids:?}");
    assert_eq!((&ids[0]["username"], &ids[0]["role"]), (&json!("shop:Ada"), &json!("customer")));

    let ada = client.with_token(&tokens[0]);
    let path = format!("/api/v1/events/{event}/reservations");
    ada.post(&path, &json!({ "quantity": 2 })).expect(201);
    // The first request of a subject may be a sale.
    let other = client.with_token(&signers[1].1.good("b", "ada"));
    other.post(&path, &json!({ "quantity": 1 })).expect(201);
    assert_ne!(me(&other)["id"], ids[0]["id"], "another subject");
    ada.post("/api/v1/events", &json!({ "name": "Mine", "quota": 1 })).problem(403, "forbidden");
    for username in ["shop:Ada", "Ada"] {
        let login = json!({ "username": username, "password": "" });
        client.post("/api/v1/sessions", &login).problem(401, "wrong-credentials");
    }
    drop(server);

    let server = Server::spawn(with_issuer(data.path(), &keys));
    let ada = server.client().with_token(&tokens[2]);
    assert_eq!(me(&ada), ids[0], "the same account after a restart");
    let sold = ada.get("/api/v1/reservations").expect(200).json();
    assert_eq!(sold["items"].as_array().map(Vec::len), Some(1), "{sold}");
}

#[test]
fn a_log_out_ends_what_was_issued_before() {
    let (data, files) = (tempdir().unwrap(), tempdir().unwrap());
    let keys = files.path().join("keys.json");
    let signer = Signer::es256();
    write_keys(&keys, &[signer.jwk("a")]);
    let server = Server::spawn(with_issuer(data.path(), &keys));
    let ada = server.client().with_token(&signer.good("a", "ada"));
    let before = me(&ada);
    ada.delete("/api/v1/sessions").expect(204);
    ada.get("/api/v1/users/me").problem(401, "unauthorized");
    let password = json!({ "current": "", "new": "battery staple" });
    let start = Instant::now();
    let again = loop {
        let ada = server.client().with_token(&signer.good("a", "ada"));
        match ada.get("/api/v1/users/me").status {
            200 => break ada,
            401 => assert!(start.elapsed() < Duration::from_secs(15), "new tokens are refused"),
            other => panic!("{other}"),
        }
        std::thread::sleep(Duration::from_millis(300));
    };
    assert_eq!(me(&again), before);
    again.put("/api/v1/users/me/password", &password).problem(403, "forbidden");
    ada.get("/api/v1/users/me").problem(401, "unauthorized");
}

#[test]
fn keys_are_rotated_without_a_restart() {
    let (data, files) = (tempdir().unwrap(), tempdir().unwrap());
    let keys = files.path().join("keys.json");
    let (old, new) = (Signer::es256(), Signer::eddsa());
    write_keys(&keys, &[old.jwk("old")]);
    let server = Server::spawn(with_issuer(data.path(), &keys));
    let status = |token: &str| server.client().with_token(token).get("/api/v1/users/me").status;
    assert_eq!((status(&old.good("old", "ada")), status(&new.good("new", "ada"))), (200, 401));
    // A file that cannot be used changes nothing.
    fs::write(&keys, "{").unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(status(&old.good("old", "grace")), 200);
    write_keys(&keys, &[new.jwk("new")]);
    let start = Instant::now();
    while status(&new.good("new", "ada")) != 200 {
        assert!(start.elapsed() < Duration::from_secs(15), "the new key is not taken");
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(status(&old.good("old", "new subject")), 401);
}

#[test]
fn forged_tokens_of_an_issuer_are_refused() {
    let (data, files) = (tempdir().unwrap(), tempdir().unwrap());
    let keys = files.path().join("keys.json");
    let signers = [("a", Signer::es256()), ("b", Signer::eddsa()), ("c", Signer::rs256())];
    let mut set: Vec<Value> = signers.iter().map(|(kid, signer)| signer.jwk(kid)).collect();
    let encrypts = Signer::es256();
    let mut other_use = encrypts.jwk("enc");
    other_use["use"] = json!("enc");
    set.push(other_use);
    set.push(json!({ "kty": "oct", "kid": "oct", "k": base64url(b"0123456789abcdef0123456789abcdef") }));
    write_keys(&keys, &set);
    let server = Server::spawn(with_issuer(data.path(), &keys));
    let mut wire = server.wire();
    let mut rows = Vec::new();
    for (kid, signer) in &signers {
        let alg = signer.alg();
        let head = |changes: Value| {
            let mut header = json!({ "alg": alg, "kid": kid });
            for (name, value) in changes.as_object().unwrap() {
                header[name] = value.clone();
            }
            header.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            header
        };
        let good = signer.good(kid, "ada");
        let (message, tag) = good.rsplit_once('.').unwrap();
        let (first, payload) = message.split_once('.').unwrap();
        let text = claims("ada").to_string();
        for other in ["none", "None", "", "HS256", "RS256", "ES256", "EdDSA", "PS256", "ES384", "Ed25519"] {
            if other != alg {
                rows.push((
                    format!("{alg}: alg {other:?}"),
                    signer.token(&head(json!({ "alg": other })), &text),
                ));
            }
        }
        // The public key as the secret of a MAC.
        for secret in [signer.public(), signer.jwk(kid).to_string().into_bytes()] {
            let header = base64url(head(json!({ "alg": "HS256" })).to_string().as_bytes());
            rows.push((
                format!("{alg}: MAC by the public key"),
                signed(&secret, &format!("{header}.{payload}")),
            ));
        }
        for other in ["none", &alg.to_lowercase()] {
            let header = base64url(head(json!({ "alg": other })).to_string().as_bytes());
            rows.push((format!("{alg}: {other}, no signature"), format!("{header}.{payload}.")));
        }
        let stranger = if alg == "ES256" { Signer::es256() } else { Signer::eddsa() };
        for changes in [
            json!({ "kid": null }),
            json!({ "kid": "unknown" }),
            json!({ "kid": "oct" }),
            json!({ "kid": "../../dev/null" }),
            json!({ "kid": 1 }),
            json!({ "crit": ["exp"] }),
            json!({ "crit": [] }),
            json!({ "b64": false, "crit": ["b64"] }),
            json!({ "typ": "logout+jwt" }),
            json!({ "typ": "secevent+jwt" }),
        ] {
            rows.push((format!("{alg}: header with {changes}"), signer.token(&head(changes), &text)));
        }
        for changes in [json!({}), json!({ "jwk": stranger.jwk(kid) }), json!({ "jku": "http://127.0.0.1/" })]
        {
            rows.push((format!("{alg}: a stranger's, {changes}"), stranger.token(&head(changes), &text)));
        }
        for (other_kid, _) in signers.iter().filter(|(other, _)| other != kid) {
            let header = head(json!({ "kid": other_kid }));
            rows.push((format!("{alg}: by the key of {other_kid}"), signer.token(&header, &text)));
        }
        for changes in [
            json!({ "exp": null }),
            json!({ "exp": now() - 60 }),
            json!({ "exp": (now() + 60).to_string() }),
            json!({ "exp": -1 }),
            json!({ "nbf": now() + 60 }),
            json!({ "nbf": "0" }),
            json!({ "iat": now() + 60 }),
            json!({ "iat": null }),
            json!({ "iss": null }),
            json!({ "iss": "https://id.example/" }),
            json!({ "iss": "boxoffice" }),
            json!({ "iss": ["https://id.example"] }),
            json!({ "aud": null }),
            json!({ "aud": "Tickets" }),
            json!({ "aud": "ticket" }),
            json!({ "aud": [] }),
            json!({ "aud": ["other"] }),
            json!({ "aud": { "tickets": 1 } }),
            json!({ "sub": null }),
            json!({ "sub": "" }),
            json!({ "sub": 1 }),
            json!({ "sub": "a".repeat(256) }),
            json!({ "sub": "ada\n" }),
            json!({ "large": "x".repeat(4096) }),
        ] {
            let name = format!("{alg}: {changes:.60}");
            rows.push((name, signer.token(&head(json!({})), &with(changes))));
        }
        for name in ["sub", "exp", "aud", "iss"] {
            let twice = format!("{},\"{name}\":{}}}", &text[..text.len() - 1], claims("ada")[name]);
            rows.push((format!("{alg}: {name} twice"), signer.token(&head(json!({})), &twice)));
        }
        let edited = base64url(with(json!({ "sub": "grace" })).as_bytes());
        rows.push((format!("{alg}: edited"), format!("{first}.{edited}.{tag}")));
        let mut flipped = signer.sign(message.as_bytes());
        flipped[3] ^= 1;
        rows.push((format!("{alg}: a bit flipped"), format!("{message}.{}", base64url(&flipped))));
        rows.push((format!("{alg}: zeros"), format!("{message}.{}", base64url(&vec![0; flipped.len()]))));
        rows.push((format!("{alg}: stripped"), message.to_owned()));
        rows.push((format!("{alg}: padded"), format!("{good}=")));
        rows.push((format!("{alg}: four segments"), format!("{good}.{tag}")));
    }
    rows.push(("a key for encryption".to_owned(), encrypts.good("enc", "ada")));
    let mut ask = |token: &str| {
        let field = format!("Authorization: Bearer {token}\r\n");
        wire.ask(request("GET", "/api/v1/users/me", None, &field, "")).status
    };
    for (name, token) in &rows {
        assert_eq!((ask(token), ask(token)), (401, 401), "{name}");
    }
    println!("{} forged tokens", rows.len());
    assert!(rows.len() >= 150, "{}", rows.len());
    for (kid, signer) in &signers {
        let header = json!({ "alg": signer.alg(), "kid": kid, "typ": "at+jwt", "x5t": "x" });
        for changes in
            [json!({}), json!({ "aud": ["other", "tickets"] }), json!({ "nbf": now() - 1, "scope": "x" })]
        {
            assert_eq!(ask(&signer.token(&header, &with(changes.clone()))), 200, "{changes}");
        }
    }
}
