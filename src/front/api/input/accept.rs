//! Which forms of an answer a client accepts (RFC 9110 section 12.5).

use crate::front::http::parse::Request;
use crate::front::problem::{Kind, Problem};

/// # Errors
///
/// 406, when the client accepts no JSON (RFC 9110 section 12.5.1).
pub(in crate::front::api) fn check_accept(request: &Request<'_>) -> Result<(), Problem> {
    if request.elements("accept").next().is_none()
        || lists(request, "accept", &["application/json", "application/*", "*/*"])
    {
        return Ok(());
    }
    Err(Problem::plain(Kind::NotAcceptable))
}

/// Whether the Accept or Accept-Encoding fields accept one of `names`. The first of these that is listed
/// decides, so the most specific comes first (RFC 9110 section 12.5.1).
pub(in crate::front::api) fn lists(request: &Request<'_>, field: &str, names: &[&str]) -> bool {
    let taken = |name: &&str| {
        request.elements(field).find_map(|element| {
            let mut parts = element.split(';').map(str::trim);
            let is_it = parts.next().is_some_and(|first| first.eq_ignore_ascii_case(name));
            is_it.then(|| !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000")))
        })
    };
    names.iter().find_map(taken).unwrap_or(false)
}
