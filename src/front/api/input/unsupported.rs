//! Headers that a client relies on, and that the server does not support.

use crate::front::http::parse::Request;
use crate::front::problem::Problem;

/// Refuses what must not be ignored: the preconditions (RFC 9110 sections 13.1.1 and 13.1.2), and keys that make a
/// request take effect once. With a safe method, a key says nothing, and If-None-Match only saves a response.
///
/// # Errors
///
/// 400, with the name of the header.
pub(in crate::front::api) fn check_unsupported(request: &Request<'_>) -> Result<(), Problem> {
    let refused = |name: &[u8]| match name.len() {
        8 => is(name, "If-Match"),
        13 => is(name, "If-None-Match").filter(|_| !request.method.is_safe()),
        15 => is(name, "Idempotency-Key").filter(|_| !request.method.is_safe()),
        _ => None,
    };
    match request.header_names().find_map(refused) {
        Some(name) => Err(Problem::unsupported_header(name)),
        None => Ok(()),
    }
}

fn is(name: &[u8], other: &'static str) -> Option<&'static str> {
    name.eq_ignore_ascii_case(other.as_bytes()).then_some(other)
}
