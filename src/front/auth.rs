//! Who asks: bearer tokens, signed with HS256 and nothing else.
//!
//! Knows neither the runtime nor the shards.

use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use shards::command::Actor;
use shards::ids::{Role, UserId, Username};

/// A token's life: a working day at the box office, and no more.
pub const TOKEN_LIFE_SECONDS: u64 = 12 * 60 * 60;

/// Between the clock that signed and the clock that checks, which are both ours.
const LEEWAY_SECONDS: u64 = 5;

/// Above any token that this server gives.
const TOKEN_BYTES_MAX: usize = 4096;

/// `{"typ":"JWT","alg":"HS256"}.`, as this server writes it. Only its own tokens are any good,
/// so no other header is even read: no `alg` in another spelling, no `jwk`, `jku`, `x5u` or `crit`.
const HEADER: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.";

const ISSUER: &str = "boxoffice";

/// Who a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub actor: Actor,
    pub username: Username,
}

/// What a good token says. Whether its account still stands by it is for a shard to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    pub identity: Rc<Identity>,
    pub token_version: u64,
    /// The last second, since 1970, in which it is good.
    pub good_until: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    /// The data directory that the account is in.
    aud: String,
    sub: String,
    name: String,
    role: Role,
    /// As text: JSON's numbers are not safe above 2^53.
    ver: String,
    iat: u64,
    exp: u64,
    jti: String,
}

/// Signs and verifies. One a core.
#[derive(Clone)]
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    audience: String,
}

impl Tokens {
    /// `secret` has at least 32 bytes; `cluster` names the data directory whose accounts these are.
    pub fn new(secret: &[u8], cluster: u64) -> Tokens {
        // A second install, by another core or test, finds the same provider.
        let _ = PROVIDER.install_default();
        let audience = format!("boxoffice:{cluster:016x}");
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
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

    /// A token for an account, good for [`TOKEN_LIFE_SECONDS`].
    pub fn issue(&self, user: UserId, username: &Username, role: Role, version: u64, id: String) -> String {
        let now = now();
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

    /// What a token says; `None` for whatever is not a good one, and nobody learns why.
    pub fn verify(&self, token: &str) -> Option<Claimed> {
        if !token.starts_with(HEADER) || token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).ok()?.claims;
        let actor = Actor { user: claims.sub.parse().ok()?, role: claims.role };
        let username = Username::new(&claims.name).ok()?;
        Some(Claimed {
            identity: Rc::new(Identity { actor, username }),
            token_version: u64::from_str_radix(&claims.ver, 16).ok()?,
            good_until: claims.exp.saturating_add(LEEWAY_SECONDS),
        })
    }
}

/// The token in the value of an Authorization header.
pub fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The cryptography for jsonwebtoken: HMAC-SHA-256, and a refusal of everything
/// else. Its own providers bring in RSA with an open advisory, or a large C
/// build, for algorithms that are never used here.
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

    fn token_of(tokens: &Tokens) -> String {
        let username = Username::new("ada").unwrap();
        tokens.issue(UserId(7), &username, Role::Organizer, u64::MAX, "j1".to_owned())
    }

    #[test]
    fn a_token_speaks_for_its_account() {
        let tokens = Tokens::new(SECRET, 1);
        let token = token_of(&tokens);
        assert!(token.starts_with(HEADER), "{token}");
        let Claimed { identity, token_version, good_until } = tokens.verify(&token).unwrap();
        assert_eq!(identity.actor, Actor { user: UserId(7), role: Role::Organizer });
        assert_eq!(identity.username.as_str(), "ada");
        assert_eq!(token_version, u64::MAX);
        let left = good_until - now();
        assert!((TOKEN_LIFE_SECONDS..=TOKEN_LIFE_SECONDS + LEEWAY_SECONDS).contains(&left), "{left}");
    }

    #[test]
    fn bearers_are_found() {
        let rows = [
            ("Bearer x.y.z", Some("x.y.z")),
            ("bearer  x.y.z", Some("x.y.z")),
            ("Basic x.y.z", None),
            ("Bearer", None),
            ("x.y.z", None),
            ("", None),
        ];
        for (value, token) in rows {
            assert_eq!(bearer(value), token, "{value}");
        }
    }

    #[test]
    fn anything_else_speaks_for_nobody() {
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
            assert_eq!(tokens.verify(&token), None, "{name}");
        }
    }
}
