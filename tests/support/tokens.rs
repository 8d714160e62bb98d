//! Tokens made without the server's code, so that tests can sign what the server would not.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Encodes as base64url without padding (RFC 4648 section 5).
pub(crate) fn base64url(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte));
        let bits = bits << (8 * (3 - group.len()));
        for index in 0..=group.len() {
            let sextet = bits >> (18 - 6 * index) & 63;
            text.push(char::from(ALPHABET[sextet as usize]));
        }
    }
    text
}

/// The inverse of [`base64url`].
pub(crate) fn from_base64url(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for character in text.bytes() {
        let sextet = ALPHABET.iter().position(|&known| known == character).expect("base64url");
        bits = bits << 6 | sextet as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// Appends the HMAC-SHA-256 of `message`.
pub(crate) fn signed(secret: &[u8], message: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length");
    mac.update(message.as_bytes());
    format!("{message}.{}", base64url(&mac.finalize().into_bytes()))
}

/// Signs a token with this header and these claims.
pub(crate) fn token(secret: &[u8], header: &str, claims: &str) -> String {
    signed(secret, &format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes())))
}

/// Splits a token into its header as text, its claims and its signature.
pub(crate) fn parts(token: &str) -> (String, Value, Vec<u8>) {
    let parts: Vec<Vec<u8>> = token.split('.').map(from_base64url).collect();
    let [header, claims, signature] = parts.try_into().expect("three segments");
    let claims = serde_json::from_slice(&claims).expect("claims are JSON");
    (String::from_utf8(header).expect("a header is text"), claims, signature)
}

pub(crate) fn from_hex(text: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(digits).collect()
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
        text
    })
}
