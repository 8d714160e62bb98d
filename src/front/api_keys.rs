//! API keys as texts: `box_{organizer}_{number}_{secret}{checksum}`.
//!
//! The text names the key's organizer and number, and so the slot that keeps it. The prefix and the checksum let
//! scanners of sources and logs recognize a key, and let the server refuse what is none without asking a shard.
//! Depends on neither the runtime nor the shards.

use ctutils::CtEq;
use sha2::{Digest, Sha256};
use shards::api_keys::{ApiKey, Scopes};
use shards::command::Actor;
use shards::ids::{ApiKeyNumber, Role, UserId};

use super::key_uses::LastUse;

const PREFIX: &str = "box_";

/// The digits of secrets and checksums, in base 62: no sign that a double click would stop at.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The digits of 128 bits.
const SECRET_DIGITS: usize = 22;

/// The digits of a CRC-32.
const CHECKSUM_DIGITS: usize = 6;

/// The secret of a key: 128 random bits, as digits.
pub(super) struct Secret(String);

/// A key that a client sent: of the right form. Whether it exists only its organizer's slot can say.
pub(super) struct SentKey {
    pub(super) organizer: UserId,
    pub(super) number: ApiKeyNumber,
    hash: [u8; 32],
}

/// A key that a request was sent with.
#[derive(Debug, Clone)]
pub struct KeyInUse {
    pub number: ApiKeyNumber,
    pub scopes: Scopes,
    pub last_use: LastUse,
}

impl Secret {
    pub(super) fn new(random: u128) -> Secret {
        Secret(digits(random, SECRET_DIGITS))
    }

    /// What is kept of it. Nobody can try all secrets of 128 bits, so a fast hash is as good as a slow one.
    pub(super) fn hash(&self) -> [u8; 32] {
        hash(&self.0)
    }

    /// The key, as its organizer gets it.
    pub(super) fn key(&self, organizer: UserId, number: ApiKeyNumber) -> String {
        let text = format!("{PREFIX}{organizer}_{number}_{}", self.0);
        format!("{text}{}", checksum(&text))
    }
}

impl SentKey {
    /// Who acts with the key, if it is good: it is made for an organizer, and ends with the role.
    pub(super) fn actor(&self) -> Actor {
        Actor { user: self.organizer, role: Role::Organizer, key: Some(self.number) }
    }

    /// Whether a token is meant to be an API key.
    pub(super) fn is_meant(token: &str) -> bool {
        token.starts_with(PREFIX)
    }

    /// `None` if the text is no key that this server makes.
    pub(super) fn read(token: &str) -> Option<SentKey> {
        let (text, checksum_given) = token.split_at_checked(token.len().checked_sub(CHECKSUM_DIGITS)?)?;
        let (organizer, rest) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let (number, secret) = rest.split_once('_')?;
        let is_secret = secret.len() == SECRET_DIGITS && secret.bytes().all(|byte| DIGITS.contains(&byte));
        if !is_secret || checksum(text) != checksum_given {
            return None;
        }
        let (organizer, number) = (organizer.parse().ok()?, number.parse().ok()?);
        Some(SentKey { organizer, number, hash: hash(secret) })
    }

    /// Whether it has the secret of this key. Takes the same time for all that have not.
    pub(super) fn has_secret_of(&self, key: &ApiKey) -> bool {
        self.hash.ct_eq(&key.secret_hash).to_bool()
    }
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

fn checksum(text: &str) -> String {
    digits(crc32(text.as_bytes()).into(), CHECKSUM_DIGITS)
}

/// The last `count` digits of a number.
fn digits(mut number: u128, count: usize) -> String {
    let mut text = vec![0; count];
    for digit in text.iter_mut().rev() {
        *digit = DIGITS[(number % 62) as usize];
        number /= 62;
    }
    String::from_utf8(text).expect("the digits are ASCII")
}

/// CRC-32 as of gzip and zip (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> String {
        Secret::new(u128::MAX).key(UserId(12), ApiKeyNumber(3))
    }

    #[test]
    fn a_key_names_its_organizer_and_number() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926, "the check value of the CRC catalogue");
        let key = key();
        assert!(key.starts_with("box_12_3_7n42DGM5Tflk9n8mt7Fhc7"), "{key}");
        assert_eq!(key.len(), "box_12_3_".len() + SECRET_DIGITS + CHECKSUM_DIGITS);
        let SentKey { organizer, number, hash } = SentKey::read(&key).unwrap();
        assert_eq!((organizer, number), (UserId(12), ApiKeyNumber(3)));
        assert_eq!(hash, Secret::new(u128::MAX).hash());
        assert_ne!(hash, Secret::new(u128::MAX - 1).hash());
    }

    #[test]
    fn a_key_with_one_other_character_is_none() {
        let key = key();
        for at in 0..key.len() {
            for other in ["0", "a", "Z", "_", "~", " "] {
                let mut changed = key.clone();
                changed.replace_range(at..=at, other);
                assert!(changed == key || SentKey::read(&changed).is_none(), "{changed}");
            }
            assert!(SentKey::read(&key[..at]).is_none(), "{at} characters");
        }
        for text in ["", "box_", "box_1_1_", "é", "box_éééé", &format!("{key}x")] {
            assert!(SentKey::read(text).is_none(), "{text}");
        }
        // The right checksum does not make another form one.
        for text in ["box_012_3_", "box_12_0_", "box_12_3_0", "box_4294967296_3_", "Box_12_3_"] {
            let text = format!("{text}{}", "A".repeat(SECRET_DIGITS));
            assert!(SentKey::read(&format!("{text}{}", checksum(&text))).is_none(), "{text}");
        }
    }
}
