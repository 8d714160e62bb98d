//! Headers that a client relies on, where the server does not do what they ask for.

use super::idempotency_key::IDEMPOTENCY_KEY;
use super::if_match::IF_MATCH;
use crate::front::api::ENDPOINTS;
use crate::front::api::endpoint::Endpoint;
use crate::front::http::parse::Request;
use crate::front::problem::Problem;

/// Refuses what must not be ignored: the preconditions (RFC 9110 sections 13.1.1 and 13.1.2), and keys that make a
/// request take effect once. With a safe method, a key says nothing, and If-None-Match only saves a response.
/// Returns whether the request has a key that the endpoint reads.
///
/// # Errors
///
/// 422, with the name of the header, and the endpoints that read it.
pub(in crate::front::api) fn check_unsupported(
    request: &Request<'_>,
    endpoint: &Endpoint,
) -> Result<bool, Problem> {
    let relied_on = |name: &[u8]| match name.len() {
        8 => is(name, IF_MATCH),
        13 => is(name, "If-None-Match").filter(|_| !request.method.is_safe()),
        15 => is(name, IDEMPOTENCY_KEY).filter(|_| !request.method.is_safe()),
        _ => None,
    };
    let mut has_key = false;
    for name in request.header_names().filter_map(relied_on) {
        if !reads(endpoint, name) {
            return Err(unsupported(name));
        }
        has_key |= name == IDEMPOTENCY_KEY;
    }
    Ok(has_key)
}

fn is(name: &[u8], other: &'static str) -> Option<&'static str> {
    name.eq_ignore_ascii_case(other.as_bytes()).then_some(other)
}

fn reads(endpoint: &Endpoint, name: &str) -> bool {
    endpoint.headers.iter().any(|header| header.name == name)
}

fn unsupported(name: &'static str) -> Problem {
    let readers = ENDPOINTS.iter().filter(|endpoint| reads(endpoint, name) && !endpoint.method.is_safe());
    let readers: Vec<_> =
        readers.map(|endpoint| format!("{} {}", endpoint.method.as_str(), endpoint.path)).collect();
    Problem::unsupported_header(name, &readers)
}
