//! Which endpoint a method and a path mean: one table for everything.
//!
//! Knows neither the runtime nor the shards' insides.

use shards::ids::Role;

use super::http::parse::Method;

/// Everything that can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    CreateUser,
    CreateSession,
    GetMe,
    ChangePassword,
    ListUsers,
    ChangeRole,
    RemoveUser,
    CreateEvent,
    ListEvents,
    GetEvent,
    EditEvent,
    DeleteEvent,
    ListEventReservations,
    CreateReservation,
    ListReservations,
    GetReservation,
    CancelReservation,
    Populate,
    Live,
    Ready,
    Metrics,
    Contract,
    Docs,
    DocsFile,
    ProblemList,
    ProblemPage,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Anyone,
    LoggedIn,
    Only(&'static [Role]),
}

#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub method: Method,
    /// A segment in braces takes any text.
    pub path: &'static str,
    /// What stands before and after that segment.
    around: Option<(&'static str, &'static str)>,
    pub endpoint: Endpoint,
    pub access: Access,
}

impl Route {
    /// Gives JSON and nothing else, which a client can refuse (RFC 9110 section 12.5.1).
    pub fn speaks_json(&self) -> bool {
        self.path.starts_with("/api/")
    }
}

const fn route(method: Method, path: &'static str, endpoint: Endpoint, access: Access) -> Route {
    Route { method, path, around: around(path), endpoint, access }
}

/// Cut at the table's making, not at each request.
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

const CUSTOMER: Access = Access::Only(&[Role::Customer]);
const ORGANIZER: Access = Access::Only(&[Role::Organizer]);
const ADMIN: Access = Access::Only(&[Role::Admin]);
const MANAGERS: Access = Access::Only(&[Role::Organizer, Role::Admin]);
const CANCELLERS: Access = Access::Only(&[Role::Customer, Role::Admin]);

pub const ROUTES: &[Route] = &[
    route(Method::Post, "/api/v1/events/{event}/reservations", Endpoint::CreateReservation, CUSTOMER),
    route(Method::Get, "/api/v1/events/{event}/reservations", Endpoint::ListEventReservations, MANAGERS),
    route(Method::Post, "/api/v1/users", Endpoint::CreateUser, Access::Anyone),
    route(Method::Get, "/api/v1/users", Endpoint::ListUsers, ADMIN),
    route(Method::Patch, "/api/v1/users/{user}", Endpoint::ChangeRole, ADMIN),
    route(Method::Delete, "/api/v1/users/{user}", Endpoint::RemoveUser, ADMIN),
    route(Method::Get, "/api/v1/users/me", Endpoint::GetMe, Access::LoggedIn),
    route(Method::Put, "/api/v1/users/me/password", Endpoint::ChangePassword, Access::LoggedIn),
    route(Method::Post, "/api/v1/sessions", Endpoint::CreateSession, Access::Anyone),
    route(Method::Post, "/api/v1/events", Endpoint::CreateEvent, ORGANIZER),
    route(Method::Get, "/api/v1/events", Endpoint::ListEvents, Access::Anyone),
    route(Method::Get, "/api/v1/events/{event}", Endpoint::GetEvent, Access::Anyone),
    route(Method::Patch, "/api/v1/events/{event}", Endpoint::EditEvent, ORGANIZER),
    route(Method::Delete, "/api/v1/events/{event}", Endpoint::DeleteEvent, MANAGERS),
    route(Method::Get, "/api/v1/reservations", Endpoint::ListReservations, CUSTOMER),
    route(Method::Get, "/api/v1/reservations/{reservation}", Endpoint::GetReservation, Access::LoggedIn),
    route(Method::Delete, "/api/v1/reservations/{reservation}", Endpoint::CancelReservation, CANCELLERS),
    route(Method::Get, "/api/v1/pop", Endpoint::Populate, Access::Anyone),
    route(Method::Get, "/livez", Endpoint::Live, Access::Anyone),
    route(Method::Get, "/readyz", Endpoint::Ready, Access::Anyone),
    route(Method::Get, "/metrics", Endpoint::Metrics, Access::Anyone),
    route(Method::Get, "/openapi.json", Endpoint::Contract, Access::Anyone),
    route(Method::Get, "/docs", Endpoint::Docs, Access::Anyone),
    route(Method::Get, "/docs/{file}", Endpoint::DocsFile, Access::Anyone),
    route(Method::Get, "/problems", Endpoint::ProblemList, Access::Anyone),
    route(Method::Get, "/problems/{name}", Endpoint::ProblemPage, Access::Anyone),
];

/// What a request is for.
#[derive(Debug)]
pub enum Routed<'p> {
    To {
        route: &'static Route,
        /// What stands for the segment in braces; empty where there is none.
        parameter: &'p str,
    },
    /// The path is known, but not with this method.
    WrongMethod {
        /// The Allow header's value.
        allow: String,
    },
    NotFound,
}

/// HEAD is GET, and the writer leaves the body out (RFC 9110 section 9.3.2).
pub fn find<'p>(method: Method, path: &'p str) -> Routed<'p> {
    let wanted = if method == Method::Head { Method::Get } else { method };
    let mut known_path = None;
    // A path that is a route's own is no other route's parameter.
    let is_literal = ROUTES.iter().any(|route| route.path == path);
    for route in ROUTES.iter().filter(|route| !is_literal || route.path == path) {
        let Some(parameter) = matches(route, path) else { continue };
        if route.method == wanted {
            return Routed::To { route, parameter };
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

/// The Allow header's value for a path: every method that some route has on it.
fn allowed(path: &str) -> String {
    let methods = ROUTES.iter().filter(|route| route.path == path).map(|route| route.method);
    let names: Vec<&str> = methods
        .flat_map(|method| match method {
            Method::Get => vec!["GET", "HEAD"],
            other => vec![other.as_str()],
        })
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_matched_whole() {
        let rows = [
            (Method::Get, "/api/v1/events", "ListEvents "),
            (Method::Head, "/api/v1/events", "ListEvents "),
            (Method::Post, "/api/v1/events/7/reservations", "CreateReservation 7"),
            (Method::Delete, "/api/v1/reservations/7-1", "CancelReservation 7-1"),
            (Method::Get, "/api/v1/events/", "not found"),
            (Method::Get, "/api/v1/events//reservations", "not found"),
            (Method::Get, "/api/v1/events/7/8/reservations", "not found"),
            (Method::Get, "/api/v1/events/7/", "not found"),
            (Method::Get, "/API/v1/events", "not found"),
            (Method::Get, "*", "not found"),
            (Method::Put, "/api/v1/events/7", "allow GET, HEAD, PATCH, DELETE"),
            (Method::Post, "/livez", "allow GET, HEAD"),
            (Method::Query, "/api/v1/events", "allow POST, GET, HEAD"),
            (Method::Get, "/api/v1/users/me", "GetMe "),
            (Method::Put, "/api/v1/users/me", "allow GET, HEAD"),
            (Method::Patch, "/api/v1/users/me", "allow GET, HEAD"),
            (Method::Delete, "/api/v1/users/me", "allow GET, HEAD"),
            (Method::Put, "/api/v1/users/me/password", "ChangePassword "),
            (Method::Put, "/api/v1/users/7/password", "not found"),
            (Method::Delete, "/api/v1/users/7", "RemoveUser 7"),
            (Method::Get, "/api/v1/users/7", "allow PATCH, DELETE"),
            (Method::Put, "/api/v1/users", "allow POST, GET, HEAD"),
        ];
        for (method, path, expected) in rows {
            let found = match find(method, path) {
                Routed::To { route, parameter } => format!("{:?} {parameter}", route.endpoint),
                Routed::WrongMethod { allow } => format!("allow {allow}"),
                Routed::NotFound => "not found".to_owned(),
            };
            assert_eq!(found, expected, "{method:?} {path}");
        }
    }
}
