//! The Idempotency-Key field (draft-ietf-httpapi-idempotency-key-header), and what a key is remembered by: digests of
//! the request that it came with.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};
use shards::command::{Actor, IdempotencyKey};
use shards::ids::Role;

use super::json::{self, Json, Members};
use crate::front::api::endpoint::Endpoint;
use crate::front::http::parse::Request;
use crate::front::problem::{FieldErrors, Problem};

/// The name of the field.
pub(in crate::front::api) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// The most characters of a key.
const CHARACTERS_MAX: usize = 255;

/// Reads the key of a request whose body is a good one. `parameter` is that of the path: as all ids, it has one text.
///
/// # Errors
///
/// 422, when the field is not one key.
pub(in crate::front::api) fn idempotency_key(
    request: &Request<'_>,
    endpoint: &Endpoint,
    parameter: &str,
    actor: Actor,
) -> Result<IdempotencyKey, Problem> {
    let mut values = request.headers(IDEMPOTENCY_KEY);
    let sent = match (values.next(), values.next()) {
        (Some(only), None) => read(only).ok_or_else(malformed)?,
        _ => return Err(malformed()),
    };
    let hash = digest([endpoint.method.as_str(), endpoint.path, parameter, &sent].map(str::as_bytes));
    let fingerprint = u64::from_le_bytes(digest([&*content(request)]));
    Ok(IdempotencyKey { user: actor.user, is_bounded: actor.role == Role::Customer, hash, fingerprint })
}

/// The key that a value stands for: a string of structured fields (RFC 8941 section 3.3.3), or its characters without
/// quotes.
fn read(value: &str) -> Option<String> {
    let key = match value.strip_prefix('"') {
        Some(quoted) => unescaped(quoted.strip_suffix('"')?)?,
        None if value.contains(['"', ',']) => return None,
        None => value.to_owned(),
    };
    let is_good =
        (1..=CHARACTERS_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    is_good.then_some(key)
}

/// The characters of a string without its quotes.
fn unescaped(quoted: &str) -> Option<String> {
    let mut key = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        key.push(match character {
            '\\' => characters.next().filter(|escaped| ['"', '\\'].contains(escaped))?,
            '"' => return None,
            other => other,
        });
    }
    Some(key)
}

fn malformed() -> Problem {
    let rule = "must be there once, as 1 to 255 characters of visible ASCII: in quotes, with a backslash before a quote \
                or a backslash; or without quotes, and then without a quote or comma in it";
    Problem::invalid(&FieldErrors::of("Idempotency-Key:", rule))
}

/// A body as it is read, in a form that does not depend on white space, on the order of members, or on the notation of
/// numbers. What a body's reader leaves out counts for nothing, here as there.
fn content(request: &Request<'_>) -> Vec<u8> {
    // A body that was left out is as one without members.
    let members = match json::read(&request.body) {
        Ok(Json::Object(members)) => members,
        Ok(_) | Err(_) => Members::new(),
    };
    let sorted: BTreeMap<&str, &Value> = members.iter().map(|(name, value)| (&**name, value)).collect();
    serde_json::to_vec(&sorted).expect("members of JSON have a JSON form")
}

/// The first bytes of SHA-256 over these parts, each with its length.
fn digest<const PARTS: usize, const BYTES: usize>(parts: [&[u8]; PARTS]) -> [u8; BYTES] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    std::array::from_fn(|index| digest[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_quoted_or_bare() {
        let longest = "k".repeat(CHARACTERS_MAX);
        for (value, key) in [
            ("\"8e03978e-40d5-43e8-bc93-6894a57f9324\"", "8e03978e-40d5-43e8-bc93-6894a57f9324"),
            ("8e03978e", "8e03978e"),
            (&longest, &longest),
            ("\"a\\\"b\\\\c\"", "a\"b\\c"),
            ("a\\b", "a\\b"),
            ("\"a,b\"", "a,b"),
            ("!~", "!~"),
        ] {
            assert_eq!(read(value).as_deref(), Some(key), "{value}");
        }
        let too_long = "k".repeat(CHARACTERS_MAX + 1);
        for value in [
            "",
            "\"",
            "\"\"",
            "\"a",
            "a\"",
            "\"a\"b\"",
            "\"a\\\"",
            "\"a\\n\"",
            "\"a\";b=1",
            "\"a\", \"b\"",
            "a,b",
            "a b",
            "\"a b\"",
            "a\tb",
            "é",
            "\u{fffd}",
            &too_long,
            &format!("\"{too_long}\""),
        ] {
            assert_eq!(read(value), None, "{value}");
        }
    }
}
