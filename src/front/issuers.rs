//! Tokens of other issuers: JSON Web Tokens (RFC 7519) signed with ES256, EdDSA (Ed25519) or RS256, by a key of the
//! issuer's key set (RFC 7517).
//!
//! The algorithm follows from the key, never from the token. Depends on neither the runtime nor the shards, and reads
//! no clock: `now` is Unix time in seconds.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use std::{fmt, thread};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use shards::ids::Username;

use super::auth::{LEEWAY_SECONDS, Validity};

/// An upper bound on the tokens of other issuers: some carry many claims.
const TOKEN_BYTES_MAX: usize = 4096;

/// An upper bound on a key set: some 100 RSA keys.
const KEY_SET_BYTES_MAX: usize = 64 * 1024;

/// How often the files are read again. An unknown key id reads nothing, so nobody can make the server read more.
const READ_EVERY: Duration = Duration::from_secs(2);

/// An issuer as the command line names it: `name=NAME,iss=ISS,aud=AUD,keys=FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IssuerOption {
    /// What accounts keep of the issuer.
    name: String,
    /// The claim `iss` of its tokens.
    iss: String,
    /// What the claim `aud` of its tokens has to be, or to contain.
    audience: String,
    keys: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum IssuerError {
    #[error("cannot read the keys of the issuer {name} in {}: {source}", path.display())]
    Read { name: String, path: PathBuf, source: io::Error },
    #[error("cannot use the keys of the issuer {name} in {}: {reason}", path.display())]
    Keys { name: String, path: PathBuf, reason: String },
    #[error("two issuers have the name {0}")]
    SameName(String),
    #[error("two issuers have the iss {0}")]
    SameIss(String),
    #[error("could not start the thread that reads the issuers' keys again: {0}")]
    Thread(io::Error),
}

/// The issuers whose tokens stand for customers. Clones share their keys.
#[derive(Clone, Default)]
pub struct Issuers(Arc<[Issuer]>);

struct Issuer {
    option: IssuerOption,
    keys: RwLock<Keys>,
}

/// A key set, and the text that it was read from.
struct Keys {
    text: Vec<u8>,
    set: Vec<Key>,
}

struct Key {
    id: String,
    material: Material,
}

/// A public key, and with it the one algorithm that it is used for.
enum Material {
    Es256([u8; 65]),
    EdDsa(Vec<u8>),
    Rs256 { n: Vec<u8>, e: Vec<u8> },
}

/// What a token with a good signature says. Only the account's shard can tell whether it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignToken {
    pub username: Username,
    /// The time of issue: a log-out ends what was issued before.
    pub issued_at: u64,
    pub validity: Validity,
}

/// Members that are not named are not used. A member that is named and comes twice is refused.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    typ: Option<String>,
    /// Extensions that have to be understood (RFC 7515 section 4.1.11): none is.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    sub: String,
    exp: u64,
    iat: u64,
    #[serde(default)]
    nbf: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl FromStr for IssuerOption {
    type Err = String;

    fn from_str(text: &str) -> Result<IssuerOption, String> {
        let mut parts = [const { None }; 4];
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("{part:?} is no NAME=VALUE"))?;
            let index = ["name", "iss", "aud", "keys"].iter().position(|&known| known == name);
            let place =
                &mut parts[index.ok_or_else(|| format!("{name:?} is none of name, iss, aud and keys"))?];
            if value.is_empty() || place.replace(value.to_owned()).is_some() {
                return Err(format!("{name} is needed once"));
            }
        }
        let [Some(name), Some(iss), Some(audience), Some(keys)] = parts else {
            return Err("all of name, iss, aud and keys are needed".to_owned());
        };
        Username::of_issuer(&name, "subject")
            .map_err(|_| "name must have 1 to 32 letters a to z, digits, '.', '_' and '-'".to_owned())?;
        Ok(IssuerOption { name, iss, audience, keys: keys.into() })
    }
}

impl Issuers {
    /// Reads the keys of all issuers, and starts a thread that reads them again.
    ///
    /// # Errors
    ///
    /// When keys cannot be read, or none of an issuer can be used.
    pub(crate) fn start(options: &[IssuerOption]) -> Result<Issuers, IssuerError> {
        let issuers = Issuers::read(options)?;
        if !options.is_empty() {
            let issuers = issuers.clone();
            let again = move || loop {
                thread::sleep(READ_EVERY);
                issuers.0.iter().for_each(Issuer::read_again);
            };
            thread::Builder::new().name("issuers".to_owned()).spawn(again).map_err(IssuerError::Thread)?;
        }
        Ok(issuers)
    }

    fn read(options: &[IssuerOption]) -> Result<Issuers, IssuerError> {
        for (index, option) in options.iter().enumerate() {
            if options[..index].iter().any(|other| other.name == option.name) {
                return Err(IssuerError::SameName(option.name.clone()));
            }
            if options[..index].iter().any(|other| other.iss == option.iss) {
                return Err(IssuerError::SameIss(option.iss.clone()));
            }
        }
        let issuer = |option: &IssuerOption| {
            let text = option.text()?;
            let set = option.keys_in(&text)?;
            Ok(Issuer { option: option.clone(), keys: RwLock::new(Keys { text, set }) })
        };
        Ok(Issuers(options.iter().map(issuer).collect::<Result<_, IssuerError>>()?))
    }

    /// Verifies a token. `None` for every invalid one, without a reason, because clients are not told one.
    pub fn verify(&self, token: &str, now: u64) -> Option<ForeignToken> {
        if self.0.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let header: Header = from_segment(header)?;
        let is_jwt = header.typ.is_none_or(|typ| {
            let typ = typ.to_ascii_lowercase();
            ["jwt", "at+jwt", "application/at+jwt"].contains(&typ.as_str())
        });
        if header.crit || !is_jwt {
            return None;
        }
        let claims: Claims = from_segment(claims)?;
        let issuer = self.0.iter().find(|issuer| issuer.option.iss == claims.iss)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let is_signed = {
            let keys = issuer.keys.read().unwrap_or_else(PoisonError::into_inner);
            let key = keys.set.iter().find(|key| key.id == header.kid)?;
            key.material.algorithm() == header.alg && key.material.has_signed(message.as_bytes(), &signature)
        };
        if !is_signed || !claims.aud.has(&issuer.option.audience) {
            return None;
        }
        let first = claims.nbf.max(claims.iat).saturating_sub(LEEWAY_SECONDS);
        let validity = Validity { first, last: claims.exp.saturating_add(LEEWAY_SECONDS) };
        let username = Username::of_issuer(&issuer.option.name, &claims.sub).ok()?;
        validity.contains(now).then_some(ForeignToken { username, issued_at: claims.iat, validity })
    }
}

fn from_segment<T: for<'de> Deserialize<'de>>(segment: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(segment).ok()?).ok()
}

impl Audience {
    fn has(&self, audience: &str) -> bool {
        match self {
            Audience::One(one) => one == audience,
            Audience::Several(several) => several.iter().any(|one| one == audience),
        }
    }
}

impl IssuerOption {
    fn text(&self) -> Result<Vec<u8>, IssuerError> {
        let mut text = Vec::new();
        let read = File::open(&self.keys)
            .and_then(|file| file.take(KEY_SET_BYTES_MAX as u64 + 1).read_to_end(&mut text));
        match read {
            Ok(length) if length <= KEY_SET_BYTES_MAX => Ok(text),
            Ok(_) => Err(self.unusable(format!("more than {KEY_SET_BYTES_MAX} bytes"))),
            Err(source) => {
                Err(IssuerError::Read { name: self.name.clone(), path: self.keys.clone(), source })
            }
        }
    }

    /// The keys of a set that can verify tokens. Others are for other uses, and are left out.
    fn keys_in(&self, text: &[u8]) -> Result<Vec<Key>, IssuerError> {
        let set: JwkSet = serde_json::from_slice(text).map_err(|error| self.unusable(error))?;
        let keys: Vec<Key> = set.keys.into_iter().filter_map(Jwk::key).collect();
        for (index, key) in keys.iter().enumerate() {
            if keys[..index].iter().any(|other| other.id == key.id) {
                return Err(self.unusable(format!("two keys have the id {:?}", key.id)));
            }
        }
        if keys.is_empty() {
            return Err(self.unusable("no key with an id for ES256, EdDSA or RS256 is there"));
        }
        Ok(keys)
    }

    fn unusable(&self, reason: impl fmt::Display) -> IssuerError {
        IssuerError::Keys { name: self.name.clone(), path: self.keys.clone(), reason: reason.to_string() }
    }
}

impl Issuer {
    /// Takes over the file's keys if it has others. If it cannot be used, the former keys stay.
    fn read_again(&self) {
        let changed = self.option.text().and_then(|text| {
            if self.keys.read().unwrap_or_else(PoisonError::into_inner).text == text {
                return Ok(None);
            }
            Ok(Some(Keys { set: self.option.keys_in(&text)?, text }))
        });
        match changed {
            Ok(None) => {}
            Ok(Some(keys)) => {
                let count = keys.set.len();
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
                tracing::info!(issuer = self.option.name, keys = count, "the keys of an issuer have changed");
            }
            Err(error) => crate::logging::rationed!(warn, %error, "the former keys of an issuer stay"),
        }
    }
}

impl Jwk {
    /// `None` if it cannot be used: of another type, for another use, or without an id.
    fn key(self) -> Option<Key> {
        let decode = |member: Option<String>| URL_SAFE_NO_PAD.decode(member?).ok();
        let material = match (self.kty.as_str(), self.crv.as_deref()) {
            ("EC", Some("P-256")) => {
                let (x, y): ([u8; 32], [u8; 32]) =
                    (decode(self.x)?.try_into().ok()?, decode(self.y)?.try_into().ok()?);
                let mut point = [4; 65];
                point[1..33].copy_from_slice(&x);
                point[33..].copy_from_slice(&y);
                Material::Es256(point)
            }
            ("OKP", Some("Ed25519")) => Material::EdDsa(decode(self.x)?),
            ("RSA", None) => Material::Rs256 { n: decode(self.n)?, e: decode(self.e)? },
            _ => return None,
        };
        let is_for_tokens = self.used_for.is_none_or(|used_for| used_for == "sig")
            && self.alg.is_none_or(|alg| alg == material.algorithm());
        is_for_tokens.then_some(Key { id: self.kid?, material })
    }
}

impl Material {
    fn algorithm(&self) -> &'static str {
        match self {
            Material::Es256(_) => "ES256",
            Material::EdDsa(_) => "EdDSA",
            Material::Rs256 { .. } => "RS256",
        }
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self {
            Material::Es256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Material::EdDsa(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
            Material::Rs256 { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
        };
        verified.is_ok()
    }
}
