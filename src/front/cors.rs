//! Cross-origin resource sharing: which pages of other origins may call the API from a browser
//! (<https://fetch.spec.whatwg.org/#http-cors-protocol>).
//!
//! Without `--cors-origin`, nothing of this is written. Credentials of the browser (cookies) are never allowed: a page
//! sends its token itself.

use std::collections::HashMap;

use super::api::{Header, RequestHeader};
use super::http::parse::{Method, Request};
use super::http::write::Response;
use super::router::{Routed, find, normalized};

/// How long a browser may use the answer to a preflight, in seconds: two hours, the most that Chromium takes. Routes
/// change with the server's version only.
const MAX_AGE: &str = "7200";

/// An origin: a scheme, a host, and a port if it is not the scheme's usual one; or `*`, all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(Box<str>);

impl Origin {
    /// Reads an origin as browsers send it (RFC 6454 section 6.2).
    ///
    /// # Errors
    ///
    /// What it has to be.
    pub(crate) fn new(text: &str) -> Result<Origin, String> {
        let text = text.trim();
        let is_origin = || {
            let (scheme, host) = text.split_once("://")?;
            let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
            let is_host = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte));
            let usual = [("http", ":80"), ("https", ":443")];
            let has_usual_port = usual.iter().any(|(of, port)| scheme == *of && host.ends_with(port));
            let has_port = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
            let is_port = |port: &str| port.parse::<u16>().is_ok_and(|number| number.to_string() == port);
            let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
            let is_whole = !scheme.is_empty() && !host.is_empty();
            let port_is_good = has_port.is_none_or(|(_, port)| is_port(port) && !has_usual_port);
            Some(is_whole && is_scheme && is_host && is_lower && port_is_good)
        };
        if text == "*" || is_origin() == Some(true) {
            return Ok(Origin(text.into()));
        }
        Err("must be * or an origin as browsers send it, in lower case, without a path, and without the usual port: \
             like https://shop.example or http://localhost:8080"
            .to_owned())
    }
}

/// The origins that may call the API, with the headers of answers to each.
#[derive(Debug)]
pub struct Cors {
    /// For every origin, if all may.
    any: Option<Fields>,
    /// By origin.
    exact: HashMap<Box<str>, Fields>,
    /// For what comes from no origin, or from none of these: caches must not give that answer to others.
    others: Fields,
}

/// Field lines of a response's head, each with a line end before it.
pub type Fields = &'static str;

impl Cors {
    /// `None` if no origin may.
    pub(crate) fn of(origins: &[Origin]) -> Option<Cors> {
        if origins.is_empty() {
            return None;
        }
        let any = origins.iter().any(|origin| &*origin.0 == "*");
        let exact = origins.iter().map(|Origin(origin)| (origin.clone(), fields(origin, true)));
        Some(Cors {
            any: any.then(|| fields("*", false)),
            exact: if any { HashMap::new() } else { exact.collect() },
            others: "\r\nVary: Origin",
        })
    }

    /// The fields of the answer to a request from this origin.
    fn for_origin(&self, origin: Option<&[u8]>) -> Fields {
        let origin = origin.and_then(|origin| str::from_utf8(origin).ok());
        let exact = || self.exact.get(origin?).copied();
        self.any.or_else(exact).unwrap_or(self.others)
    }

    pub(crate) fn for_request(&self, request: &Request<'_>) -> Fields {
        self.for_origin(request.header_bytes("origin"))
    }

    /// The fields of the answer to bytes that are no request, as far as they name an origin, since a page should see
    /// what is wrong; or to none at all. If only one origin may, it is named in any case.
    pub(crate) fn for_bytes(&self, bytes: &[u8]) -> Fields {
        let mut lines = bytes.split(|&byte| byte == b'\n').take_while(|line| !line.trim_ascii().is_empty());
        let origin = lines.find_map(|line| {
            let (name, value) = line.split_at_checked("origin:".len())?;
            name.eq_ignore_ascii_case(b"origin:").then(|| value.trim_ascii())
        });
        match (origin, self.exact.len()) {
            (None, 1) => self.exact.values().next().copied().unwrap_or(self.others),
            _ => self.for_origin(origin),
        }
    }

    /// The answer to a preflight for a path with these methods; `None` if the request is none, or from an origin that
    /// may not.
    fn preflight(&self, request: &Request<'_>, methods: &str) -> Option<Response> {
        let is_preflight = request.header_bytes("access-control-request-method").is_some()
            && request.header_bytes("origin").is_some();
        if !is_preflight || self.for_request(request) == self.others {
            return None;
        }
        let headers: Vec<&str> = ["Authorization", "Content-Type"]
            .into_iter()
            .chain(RequestHeader::ALL.iter().map(|header| header.name))
            .collect();
        Some(
            Response::empty(204)
                .with("Access-Control-Allow-Methods", methods.to_owned())
                .with("Access-Control-Allow-Headers", headers.join(", "))
                .with("Access-Control-Max-Age", MAX_AGE.to_owned()),
        )
    }
}

/// The answer to a preflight, by the routes of its path; `None` if the request is none, or from an origin that may not, or
/// nothing has this path.
pub(super) fn preflight(cors: &Cors, request: &Request<'_>) -> Option<Response> {
    if request.method != Method::Options {
        return None;
    }
    match find(request.method, &normalized(request.path)) {
        Routed::WrongMethod { allow } => cors.preflight(request, &allow),
        Routed::To { .. } | Routed::NotFound => None,
    }
}

/// The fields of answers that the origin may read. Made once for each origin of a start.
fn fields(origin: &str, varies: bool) -> Fields {
    let exposed =
        ["Location", "ETag", Header::LINK.name, "Retry-After", "X-Request-Id", Header::REPLAYED.name];
    let vary = if varies { "\r\nVary: Origin" } else { "" };
    let exposed = exposed.join(", ");
    let fields = format!(
        "\r\nAccess-Control-Allow-Origin: {origin}\r\nAccess-Control-Expose-Headers: {exposed}{vary}"
    );
    Box::leak(fields.into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_those_that_browsers_send() {
        for good in ["*", "https://shop.example", "http://localhost:8080", "http://[::1]:3000", "app://shop"]
        {
            assert!(Origin::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "null",
            "shop.example",
            "https://",
            "://shop.example",
            "https://shop.example/",
            "https://Shop.example",
            "https://*.shop.example",
            "https://shop.example:443",
            "http://shop.example:80",
            "https://shop.example:",
            "https://shop.example:080",
            "https://shop.example:65536",
            "https://shop.example\r\nX: y",
            "https://a b",
        ] {
            assert!(Origin::new(bad).is_err_and(|rule| rule.contains("like https://")), "{bad}");
        }
    }

    #[test]
    fn the_origin_of_what_is_no_request_is_found() {
        let origins = |texts: &[&str]| {
            let origins: Vec<Origin> = texts.iter().map(|text| Origin::new(text).unwrap()).collect();
            Cors::of(&origins).unwrap()
        };
        let two = origins(&["https://a.example", "https://b.example"]);
        for (bytes, is_allowed) in [
            (
                "POST / HTTP/1.1\r\nHost: x\r\nORIGIN: https://b.example \r\nContent-Length: 9999999\r\n\r\n",
                true,
            ),
            ("POST / HTTP/1.1\r\nOrigin: https://c.example\r\n\r\n", false),
            ("POST / HTTP/1.1\r\n\r\nOrigin: https://b.example\r\n", false),
            ("POST / HTTP/1.1\r\nX-Origin: https://b.example\r\n", false),
            ("origin", false),
            ("", false),
        ] {
            let fields = two.for_bytes(bytes.as_bytes());
            assert_eq!(fields.contains("Allow-Origin: https://b.example\r\n"), is_allowed, "{bytes}");
            assert!(fields.ends_with("Vary: Origin"), "{bytes}");
        }
        let one = origins(&["https://a.example"]);
        assert!(one.for_bytes(b"").contains("Allow-Origin: https://a.example\r\n"));
        assert_eq!(one.for_bytes(b"GET / HTTP/1.1\r\nOrigin: https://b.example\r\n"), one.others);
        let all = origins(&["*", "https://a.example"]);
        assert!(all.for_bytes(b"").contains("Allow-Origin: *\r\n") && !all.for_bytes(b"").contains("Vary"));
    }
}
