//! Parses bytes with our parser, for comparison with `hyper_oracle`.
//!
//! Owns the comparison of the two results for one request.

use boxoffice::front::http::parse::{Limits, NOT_TEXT, Parser, Progress, Refusal, Request, Version};

use crate::hyper_oracle::Accepted;

pub(crate) enum Ours<'b> {
    Accept { request: Request<'b>, consumed: usize },
    Refuse(Refusal),
    Wait,
}

/// A parser with the default limits.
pub(crate) fn parser() -> Parser {
    Parser::new(Limits::default())
}

/// Parses the first request of the bytes with a new parser.
pub(crate) fn first<'b>(parser: &'b mut Parser, bytes: &'b [u8]) -> Ours<'b> {
    match parser.parse(bytes) {
        Ok(Progress::Complete { request, consumed }) => Ours::Accept { request, consumed },
        Ok(Progress::Incomplete { .. }) => Ours::Wait,
        Err(refusal) => Ours::Refuse(refusal),
    }
}

/// Returns the first difference between the two results for a request.
pub(crate) fn difference(ours: &Request<'_>, consumed: usize, theirs: &Accepted) -> Option<String> {
    let differ = |what: &str, ours: &dyn std::fmt::Debug, theirs: &dyn std::fmt::Debug| {
        Some(format!("{what}: {ours:?}, hyper has {theirs:?}"))
    };
    if consumed != theirs.consumed {
        return differ("end", &consumed, &theirs.consumed);
    }
    if ours.body != theirs.body {
        return differ("body", &ours.body, &theirs.body);
    }
    if ours.method.as_str() != theirs.method {
        return differ("method", &ours.method, &theirs.method);
    }
    if ours.path != theirs.path {
        return differ("path", &ours.path, &theirs.path);
    }
    if ours.query != theirs.query.as_deref() {
        return differ("query", &ours.query, &theirs.query);
    }
    if (ours.version == Version::Http10) != theirs.is_http_1_0 {
        return differ("1.0", &ours.version, &theirs.is_http_1_0);
    }
    for (name, _) in &theirs.fields {
        let of_name = theirs.fields.iter().filter(|(other, _)| other == name);
        let wanted: Vec<_> = of_name.map(|(_, value)| str::from_utf8(value).unwrap_or(NOT_TEXT)).collect();
        let seen: Vec<_> = ours.headers(name).collect();
        if seen != wanted {
            return differ(name, &seen, &wanted);
        }
    }
    for name in ["host", "content-length", "transfer-encoding", "authorization", "cookie", "connection"] {
        if ours.header(name).is_some() && !theirs.fields.iter().any(|(other, _)| other == name) {
            return differ(name, &ours.header(name), &"no such field");
        }
    }
    None
}
