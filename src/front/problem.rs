//! Errors as clients see them: RFC 9457 problem details, and a page for each
//! kind, all from one table.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Map, Value, json};
use shards::ids::Role;
use shards::outcome::Rejection;

use super::http::parse::{Limits, Method, Parser, Refusal};
use super::http::write::Response;
use crate::client::Refused;
use crate::passwords::{QueueFull, TooManyAttempts};

pub const PROBLEM_JSON: &str = "application/problem+json";

/// Seconds after which an overloaded server may be asked again.
const RETRY_AFTER_SECONDS: u32 = 1;

macro_rules! kinds {
    ($($kind:ident $slug:literal $status:literal $title:literal
        $([$member:ident: $type:ty, $about:literal])?
        $explanation:literal)*) => {
        /// The kind of a problem: what `type` points to.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind { $($kind),* }

        impl Kind {
            pub const ALL: &[Kind] = &[$(Kind::$kind),*];

            pub fn slug(self) -> &'static str {
                match self { $(Kind::$kind => $slug),* }
            }

            pub fn status(self) -> u16 {
                match self { $(Kind::$kind => $status),* }
            }

            pub fn title(self) -> &'static str {
                match self { $(Kind::$kind => $title),* }
            }

            /// What it means, and what to change.
            pub fn explanation(self) -> &'static str {
                match self { $(Kind::$kind => $explanation),* }
            }

            /// The member that a problem of this kind has beside the four that all have.
            pub fn member(self) -> Option<ExtensionMember> {
                match self {
                    $(Kind::$kind => None$(.or(Some(ExtensionMember {
                        name: stringify!($member),
                        about: $about,
                        schema: SchemaGenerator::subschema_for::<$type>,
                    })))?,)*
                }
            }
        }
    };
}

/// A member that problems of a kind have beside `type`, `title`, `status` and `detail` (RFC 9457 section 3.2).
pub struct ExtensionMember {
    pub name: &'static str,
    pub about: &'static str,
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

kinds! {
    MalformedRequest "malformed-request" 400 "The request is not valid HTTP"
        "The bytes could be read in more than one way, or not at all. The connection is closed, and nothing after this request was run. Use a client that speaks HTTP/1.1 as RFC 9112 says."
    MalformedJson "malformed-json" 400 "The body is not JSON"
        "The body has to be one JSON text (RFC 8259) in UTF-8. The detail says where reading it failed."
    Unauthorized "unauthorized" 401 "A valid token is needed"
        "Log in with POST /api/v1/sessions and send the token as 'Authorization: Bearer TOKEN'. Tokens end after some hours; then log in again."
    WrongCredentials "wrong-credentials" 401 "Username or password is wrong"
        "No account has this username and password; which of the two is wrong is not said. Correct them, or register with POST /api/v1/users."
    Forbidden "forbidden" 403 "Your role may not do this"
        "Customers reserve, organizers manage their events, admins view and delete. Log in with an account that may."
    NotYours "not-yours" 403 "This event is another organizer's"
        "Only the organizer who created an event may change it or see its reservations. Log in as that organizer."
    NotFound "not-found" 404 "There is no such thing"
        "Nothing with this address exists, or it is not yours to see. Check the address, and whose token you send."
    MethodNotAllowed "method-not-allowed" 405 "This address does not take this method"
        "Use one of the methods that the Allow header names."
    NotAcceptable "not-acceptable" 406 "Only JSON is served here"
        "The Accept header excludes application/json. Add it, or leave the header out."
    RequestTimeout "request-timeout" 408 "The request took too long to come"
        "A head has to be whole some seconds after its first byte, and a body has to keep up a modem's pace. Nothing was done; send the request again."
    SoldOut "sold-out" 409 "Not enough tickets are left"
        [remaining: u32, "Tickets that are left."]
        "The event has fewer tickets left than were asked for; 'remaining' says how many. Ask for fewer, or try again when others cancel."
    QuotaBelowCommitted "quota-below-committed" 409 "More tickets are reserved than the new quota"
        [committed: u32, "Tickets that are reserved: the least that the quota can be."]
        "A quota cannot fall below what is reserved already; 'committed' says how many that is. Set it to at least that."
    HasReservations "has-reservations" 409 "The event has live reservations"
        "Deleting the event would cancel them. Add '?force=true' to do so."
    UsernameTaken "username-taken" 409 "The username is taken"
        "Usernames are unique, whatever their case. Choose another."
    LastAdmin "last-admin" 409 "The last admin stays an admin"
        "Without an admin nobody could make one again but who has the server's data directory. Make another account an admin first."
    EventExists "event-exists" 409 "Other events exist already"
        "The demonstration data is made on an empty server only. Start one with a fresh data directory."
    EventDeleted "event-deleted" 410 "The event was deleted"
        "It will not come back; its reservations are cancelled. GET /api/v1/events lists those that are left."
    ContentTooLarge "content-too-large" 413 "The body is too large"
        "No request of this API needs more than 64 KiB. Send less."
    UriTooLong "uri-too-long" 414 "The request target is too long"
        "No address of this API needs more than 8 KiB. Send a shorter one."
    UnsupportedMediaType "unsupported-media-type" 415 "Only JSON is taken here"
        "Send the body as 'Content-Type: application/json'."
    ExpectationFailed "expectation-failed" 417 "The Expect header asks for something unknown"
        "Expect '100-continue', or leave the header out."
    Invalid "invalid" 422 "The request breaks a rule"
        [errors: Vec<FieldError>, "Everything that is wrong, at once."]
        "Each entry of 'errors' names a member of the body by a JSON pointer, or a query parameter by '?name', and says what it has to be."
    TooManyAttempts "too-many-attempts" 429 "Too many failed logins"
        "The password of this account was guessed at too often, from this address or from many. This guess was not looked at; try again after 'Retry-After' seconds. Logging in from an address that succeeded before is not slowed by what others do."
    HeadersTooLarge "headers-too-large" 431 "The request's headers are too large"
        "Send at most 64 fields and, unless the server was told otherwise, 16 KiB in all."
    NotImplemented "not-implemented" 501 "The method is unknown"
        "Use one of the methods of RFC 9110, PATCH or QUERY."
    Overloaded "overloaded" 503 "The server is overloaded: nothing was done"
        "More requests are in flight than can be answered soon. Nothing was done for this one; try again after 'Retry-After' seconds."
    TooManyConnections "too-many-connections" 503 "All connections are taken"
        "The server holds as many connections as it may. Nothing was done; try again after 'Retry-After' seconds, and keep fewer connections open."
    NotReady "not-ready" 503 "The server is not ready"
        [boot_id: String, "Of this start of the server; the next one has another."]
        "It is about to stop. Nothing was done; try again after 'Retry-After' seconds."
    VersionNotSupported "version-not-supported" 505 "This version of HTTP is not spoken here"
        "Use HTTP/1.1 or HTTP/1.0."
    LogFull "log-full" 507 "The disk of the log is full: nothing was done"
        "The server can change nothing until there is room on its disk again, which it notices by itself within a second. Nothing was done; reading works meanwhile. Tell whoever runs the server, and try again after 'Retry-After' seconds."
}

impl Kind {
    /// Such a problem, made as real ones are: for the pages and the contract.
    pub fn example(self) -> Problem {
        match self {
            Kind::MalformedRequest => refused("GET / HTTP/1.1\r\n\r\n"),
            Kind::MalformedJson => {
                let failure = serde_json::from_str::<Value>("{\"quantity\":}");
                Problem::malformed_json(&failure.expect_err("it is no JSON"))
            }
            Kind::Unauthorized => Problem::unauthorized(),
            Kind::WrongCredentials => Problem::wrong_credentials(self.explanation()),
            Kind::Forbidden => Problem::forbidden(Role::Admin, &[Role::Customer]),
            Kind::NotYours => Rejection::NotYourEvent.into(),
            Kind::MethodNotAllowed => Problem::method_not_allowed(Method::Put, "GET, HEAD, POST".to_owned()),
            Kind::SoldOut => Rejection::SoldOut { remaining: 1 }.into(),
            Kind::QuotaBelowCommitted => Rejection::QuotaBelowCommitted { committed: 480 }.into(),
            Kind::HasReservations => Rejection::HasReservations { reserved: 480 }.into(),
            Kind::UsernameTaken => Rejection::UsernameTaken.into(),
            Kind::TooManyAttempts => TooManyAttempts { retry_after_seconds: 30 }.into(),
            Kind::EventExists => Rejection::EventExists.into(),
            Kind::EventDeleted => Rejection::EventDeleted.into(),
            Kind::ContentTooLarge => {
                refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n")
            }
            Kind::UriTooLong => refused(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(16 * 1024))),
            Kind::UnsupportedMediaType => Problem::unsupported_media_type("text/xml"),
            Kind::ExpectationFailed => refused("GET / HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\n\r\n"),
            Kind::Invalid => Problem::invalid(&[
                FieldError { pointer: "/quantity".to_owned(), detail: "must be a whole number".to_owned() },
                FieldError { pointer: "/quantitty".to_owned(), detail: "is not known here".to_owned() },
            ]),
            Kind::HeadersTooLarge => refused(&format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100))),
            Kind::NotImplemented => refused("BREW / HTTP/1.1\r\n"),
            Kind::VersionNotSupported => refused("GET / HTTP/2.0\r\n"),
            Kind::Overloaded | Kind::TooManyConnections => Problem::unavailable(self),
            Kind::LogFull => Rejection::LogFull.into(),
            Kind::NotReady => Problem::not_ready("5f2b8c90aa41d7e3"),
            Kind::NotFound | Kind::LastAdmin | Kind::NotAcceptable | Kind::RequestTimeout => {
                Problem::plain(self)
            }
        }
    }
}

/// What the parser says of these bytes.
fn refused(bytes: &str) -> Problem {
    let refusal = Parser::new(Limits::default()).parse(bytes.as_bytes()).err();
    refusal.expect("the examples are no requests").into()
}

/// One thing that is wrong with a request's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) into the body, or `?name` for a query parameter.
    pub pointer: String,
    /// What it has to be.
    pub detail: String,
}

#[derive(Debug)]
pub struct Problem {
    kind: Kind,
    detail: Cow<'static, str>,
    extensions: Vec<(&'static str, Value)>,
    headers: Vec<(&'static str, String)>,
}

impl Problem {
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem { kind, detail: detail.into(), extensions: Vec::new(), headers: Vec::new() }
    }

    /// With the explanation as detail, where there is nothing particular to say.
    pub fn plain(kind: Kind) -> Problem {
        Problem::new(kind, kind.explanation())
    }

    /// The same body for all causes, so that it does not tell what is wrong with a token.
    pub fn unauthorized() -> Problem {
        Problem::plain(Kind::Unauthorized).header("WWW-Authenticate", "Bearer".to_owned())
    }

    pub fn wrong_credentials(detail: &'static str) -> Problem {
        Problem::new(Kind::WrongCredentials, detail).header("WWW-Authenticate", "Bearer".to_owned())
    }

    pub fn method_not_allowed(method: Method, allow: String) -> Problem {
        let detail = format!("{} is not for this address; use one of {allow}.", method.as_str());
        Problem::new(Kind::MethodNotAllowed, detail).header("Allow", allow)
    }

    pub fn forbidden(role: Role, allowed: &[Role]) -> Problem {
        let allowed: Vec<&str> = allowed.iter().map(|role| role.as_str()).collect();
        let detail = format!("Your role is {}; this is for {}.", role.as_str(), allowed.join(" or "));
        Problem::new(Kind::Forbidden, detail)
    }

    pub fn unsupported_media_type(media: &str) -> Problem {
        let detail = format!("The body is said to be {media:?}; send application/json.");
        Problem::new(Kind::UnsupportedMediaType, detail)
    }

    pub fn malformed_json(failure: &serde_json::Error) -> Problem {
        Problem::new(Kind::MalformedJson, format!("The body is not JSON: {failure}."))
    }

    pub fn not_ready(boot_id: &str) -> Problem {
        Problem::unavailable(Kind::NotReady).extend("boot_id", json!(boot_id))
    }

    pub fn invalid(errors: &[FieldError]) -> Problem {
        let detail = match errors {
            [only] if only.pointer.is_empty() => format!("The body {}.", only.detail),
            [only] => format!("{}: {}", only.pointer, only.detail),
            several => format!("{} rules are broken: 'errors' names each.", several.len()),
        };
        Problem::new(Kind::Invalid, detail).extend("errors", json!(errors))
    }

    pub fn unavailable(kind: Kind) -> Problem {
        Problem::plain(kind).header("Retry-After", RETRY_AFTER_SECONDS.to_string())
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.headers.iter().map(|(name, value)| (*name, value.as_str()))
    }

    fn header(mut self, name: &'static str, value: String) -> Problem {
        self.headers.push((name, value));
        self
    }

    fn extend(mut self, name: &'static str, value: Value) -> Problem {
        debug_assert_eq!(self.kind.member().map(|member| member.name), Some(name), "{:?}", self.kind);
        self.extensions.push((name, value));
        self
    }

    /// The body, as JSON.
    pub fn body(&self) -> Value {
        let mut members = Map::new();
        members.insert("type".to_owned(), json!(format!("/problems/{}", self.kind.slug())));
        members.insert("title".to_owned(), json!(self.kind.title()));
        members.insert("status".to_owned(), json!(self.kind.status()));
        members.insert("detail".to_owned(), json!(self.detail));
        for (name, value) in &self.extensions {
            members.insert((*name).to_owned(), value.clone());
        }
        Value::Object(members)
    }

    pub fn into_response(self) -> Response {
        let body = self.body().to_string().into_bytes();
        let response = Response::new(self.kind.status(), PROBLEM_JSON, body);
        Response { headers: self.headers, ..response }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let kind = match refusal.status {
            413 => Kind::ContentTooLarge,
            414 => Kind::UriTooLong,
            417 => Kind::ExpectationFailed,
            431 => Kind::HeadersTooLarge,
            501 => Kind::NotImplemented,
            505 => Kind::VersionNotSupported,
            _ => Kind::MalformedRequest,
        };
        assert_eq!(kind.status(), refusal.status, "a refusal without a kind: {refusal:?}");
        Problem::new(kind, refusal.detail)
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        match refused {
            Refused::Rejected(rejection) => rejection.into(),
            Refused::Overloaded => Problem::unavailable(Kind::Overloaded),
        }
    }
}

impl From<QueueFull> for Problem {
    fn from(QueueFull: QueueFull) -> Problem {
        Problem::unavailable(Kind::Overloaded)
    }
}

impl From<TooManyAttempts> for Problem {
    fn from(TooManyAttempts { retry_after_seconds }: TooManyAttempts) -> Problem {
        Problem::plain(Kind::TooManyAttempts).header("Retry-After", retry_after_seconds.to_string())
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Problem {
        match rejection {
            Rejection::SoldOut { remaining } => {
                let detail = match remaining {
                    0 => "No ticket is left.".to_owned(),
                    1 => "Only 1 ticket is left.".to_owned(),
                    several => format!("Only {several} tickets are left."),
                };
                Problem::new(Kind::SoldOut, detail).extend("remaining", json!(remaining))
            }
            Rejection::QuotaBelowCommitted { committed } => {
                let detail = format!("{committed} tickets are reserved; the quota has to be at least that.");
                Problem::new(Kind::QuotaBelowCommitted, detail).extend("committed", json!(committed))
            }
            Rejection::HasReservations { reserved } => Problem::new(
                Kind::HasReservations,
                format!("{reserved} tickets are reserved. Add ?force=true to cancel them all."),
            ),
            Rejection::UsernameTaken => Problem::plain(Kind::UsernameTaken),
            Rejection::EventExists => Problem::plain(Kind::EventExists),
            Rejection::UserNotFound | Rejection::EventNotFound | Rejection::ReservationNotFound => {
                Problem::plain(Kind::NotFound)
            }
            Rejection::TokenEnded => Problem::unauthorized(),
            Rejection::EventDeleted => Problem::plain(Kind::EventDeleted),
            Rejection::NotYourEvent => Problem::plain(Kind::NotYours),
            Rejection::LogFull => Problem::unavailable(Kind::LogFull),
            // The slot moved while the request was on its way.
            Rejection::Elsewhere => Problem::unavailable(Kind::Overloaded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::http::write::reason;
    use super::*;

    #[test]
    fn slugs_are_unique() {
        let mut slugs: Vec<_> = Kind::ALL.iter().map(|kind| kind.slug()).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), Kind::ALL.len());
    }

    #[test]
    fn examples_are_of_their_kind_and_whole() {
        for &kind in Kind::ALL {
            let example = kind.example();
            assert_eq!(example.kind(), kind);
            let members = example.body();
            let own = kind.member().map(|member| member.name);
            let wanted = ["type", "title", "status", "detail"].into_iter().chain(own);
            assert_eq!(members.as_object().unwrap().len(), wanted.clone().count(), "{kind:?}");
            assert!(wanted.into_iter().all(|name| !members[name].is_null()), "{kind:?}");
            assert_ne!(reason(kind.status()), "", "{kind:?}");
        }
    }
}
