//! The router: maps a method and a path to an endpoint.
//!
//! Depends on neither the runtime nor the internals of the shards.

use std::borrow::Cow;

use super::api::{ENDPOINTS, Endpoint};
use super::http::parse::Method;

/// An entry of the routing table. It copies the method and the path, so that matching does not
/// follow a pointer to the endpoint.
#[derive(Clone, Copy)]
pub struct Route {
    pub method: Method,
    /// The pattern of the path. A segment in braces matches any text.
    pub path: &'static str,
    /// The parts of the pattern before and after the segment in braces.
    around: Option<(&'static str, &'static str)>,
    pub endpoint: &'static Endpoint,
}

pub static ROUTES: [Route; ENDPOINTS.len()] = {
    let mut routes = [Route::new(ENDPOINTS[0]); ENDPOINTS.len()];
    let mut index = 1;
    while index < routes.len() {
        routes[index] = Route::new(ENDPOINTS[index]);
        index += 1;
    }
    routes
};

impl Route {
    const fn new(endpoint: &'static Endpoint) -> Route {
        let &Endpoint { method, path, .. } = endpoint;
        Route { method, path, around: around(path), endpoint }
    }
}

/// Splits a pattern at its segment in braces, at compile time.
const fn around(path: &str) -> Option<(&str, &str)> {
    let (mut open, bytes) = (0, path.as_bytes());
    while open < bytes.len() && bytes[open] != b'{' {
        open += 1;
    }
    if open == bytes.len() {
        return None;
    }
    let mut close = open;
    while bytes[close] != b'}' {
        close += 1;
    }
    Some((path.split_at(open).0, path.split_at(close + 1).1))
}

/// The lengths of the patterns without braces, as bits. Most paths have none of them, and need no comparison.
const LITERAL_LENGTHS: u64 = {
    let (mut lengths, mut index) = (0, 0);
    while index < ENDPOINTS.len() {
        let path = ENDPOINTS[index].path;
        if around(path).is_none() {
            assert!(path.len() < u64::BITS as usize, "a literal path is short");
            lengths |= 1 << path.len();
        }
        index += 1;
    }
    lengths
};

fn has_length_of_a_literal(path: &str) -> bool {
    path.len() < u64::BITS as usize && LITERAL_LENGTHS >> path.len() & 1 == 1
}

/// The result of routing a request.
pub enum Routed<'p> {
    To {
        endpoint: &'static Endpoint,
        /// The text of the segment in braces; empty if the pattern has none.
        parameter: &'p str,
    },
    /// The path exists, but not with this method.
    WrongMethod {
        /// The value of the Allow header.
        allow: String,
    },
    NotFound,
}

/// The path with its percent-encoded unreserved characters decoded: both forms are the same path (RFC 3986
/// section 6.2.2.2). Dots stay encoded, so that no segment becomes `.` or `..`, which mean another path.
pub fn normalized(path: &str) -> Cow<'_, str> {
    // Without an early end, so that the compiler vectorizes it: most paths have none.
    if !path.bytes().fold(false, |found, byte| found | (byte == b'%')) {
        return Cow::Borrowed(path);
    }
    let mut parts = path.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) => {
                decoded.push(char::from(byte));
                decoded.push_str(&part[2..]);
            }
            Some(_) | None => {
                decoded.push('%');
                decoded.push_str(part);
            }
        }
    }
    Cow::Owned(decoded)
}

/// Finds the endpoint. HEAD is routed as GET; the writer omits the body (RFC 9110 section 9.3.2).
pub fn find<'p>(method: Method, path: &'p str) -> Routed<'p> {
    let wanted = if method == Method::Head { Method::Get } else { method };
    let mut known_path = None;
    // A literal route takes precedence over a pattern that matches the same path.
    let is_literal = has_length_of_a_literal(path) && ROUTES.iter().any(|route| route.path == path);
    for route in ROUTES.iter().filter(|route| !is_literal || route.path == path) {
        let Some(parameter) = matches(route, path) else { continue };
        if route.method == wanted {
            return Routed::To { endpoint: route.endpoint, parameter };
        }
        known_path = Some(route.path);
    }
    known_path.map_or(Routed::NotFound, |path| Routed::WrongMethod { allow: allowed(path) })
}

fn matches<'p>(route: &Route, path: &'p str) -> Option<&'p str> {
    let Some((before, after)) = route.around else {
        return (route.path == path).then_some("");
    };
    let parameter = path.strip_prefix(before)?.strip_suffix(after)?;
    (!parameter.is_empty() && !parameter.contains('/')).then_some(parameter)
}

/// The value of the Allow header for a path: the methods of all its routes.
fn allowed(path: &str) -> String {
    names(ROUTES.iter().filter(|route| route.path == path).map(|route| route.method)).join(", ")
}

/// The value of the Allow header for the server as a whole (RFC 9110 section 9.3.7).
pub fn allowed_anywhere() -> String {
    let methods = [Method::Get, Method::Post, Method::Put, Method::Patch, Method::Delete];
    let used = methods.into_iter().filter(|&method| ROUTES.iter().any(|route| route.method == method));
    names(used.chain([Method::Options])).join(", ")
}

/// HEAD is allowed where GET is.
fn names(methods: impl Iterator<Item = Method>) -> Vec<&'static str> {
    let names = methods.flat_map(|method| match method {
        Method::Get => vec!["GET", "HEAD"],
        other => vec![other.as_str()],
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_braces_is_that_of_the_parameter() {
        for Route { path, around, endpoint, .. } in &ROUTES {
            let parameter = endpoint.handler.path_parameter();
            let braces = around.map(|(before, after)| &path[before.len() + 1..path.len() - after.len() - 1]);
            assert_eq!(parameter.map(|parameter| parameter.name), braces, "{path}");
        }
    }

    #[test]
    fn only_unreserved_characters_are_decoded() {
        let rows = [
            ("/a/b-c", "/a/b-c"),
            ("/%61/%7E%7e%2D%2d%5F%30%5a", "/a/~~--_0Z"),
            ("/%2E%2e/.%2e", "/%2E%2e/.%2e"),
            ("/a%2Fb%5Cc%00%20%25%3A%C3%A9", "/a%2Fb%5Cc%00%20%25%3A%C3%A9"),
            // Decoded once.
            ("/%2561%%36%31", "/%2561%61"),
        ];
        for (path, expected) in rows {
            assert_eq!(normalized(path), expected, "{path}");
        }
    }

    #[test]
    fn requests_are_routed() {
        let rows = [
            (Method::Get, "/api/v1/events", "listEvents "),
            (Method::Head, "/api/v1/events", "listEvents "),
            (Method::Post, "/api/v1/events/7/reservations", "createReservation 7"),
            (Method::Delete, "/api/v1/reservations/7-1", "cancelReservation 7-1"),
            (Method::Get, "/api/v1/events/", "not found"),
            (Method::Get, "/api/v1/events//reservations", "not found"),
            (Method::Get, "/api/v1/events/7/8/reservations", "not found"),
            (Method::Get, "/api/v1/events/7/", "not found"),
            (Method::Get, "/API/v1/events", "not found"),
            (Method::Get, "*", "not found"),
            (Method::Put, "/api/v1/events/7", "allow GET, HEAD, PATCH, DELETE"),
            (Method::Post, "/livez", "allow GET, HEAD"),
            (Method::Query, "/api/v1/events", "allow POST, GET, HEAD"),
            (Method::Get, "/api/v1/users/me", "getMe "),
            (Method::Put, "/api/v1/users/me", "allow GET, HEAD"),
            (Method::Patch, "/api/v1/users/me", "allow GET, HEAD"),
            (Method::Delete, "/api/v1/users/me", "allow GET, HEAD"),
            (Method::Put, "/api/v1/users/me/password", "changePassword "),
            (Method::Put, "/api/v1/users/7/password", "setPassword 7"),
            (Method::Delete, "/api/v1/users/7", "removeUser 7"),
            (Method::Get, "/api/v1/users/7", "getUser 7"),
            (Method::Put, "/api/v1/users/7", "allow GET, HEAD, PATCH, DELETE"),
            (Method::Put, "/api/v1/users", "allow POST, GET, HEAD"),
        ];
        for (method, path, expected) in rows {
            let found = match find(method, path) {
                Routed::To { endpoint, parameter } => format!("{} {parameter}", endpoint.id),
                Routed::WrongMethod { allow } => format!("allow {allow}"),
                Routed::NotFound => "not found".to_owned(),
            };
            assert_eq!(found, expected, "{method:?} {path}");
        }
    }
}
