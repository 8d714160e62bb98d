//! Errors as clients see them: RFC 9457 problem details, and a page for each
//! kind, all from one table.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};
use shards::outcome::Rejection;

use super::http::parse::Refusal;
use super::http::write::Response;
use crate::client::Refused;
use crate::passwords::{QueueFull, TooManyAttempts};

const PROBLEM_JSON: &str = "application/problem+json";

/// Seconds after which an overloaded server may be asked again.
const RETRY_AFTER_SECONDS: u32 = 1;

macro_rules! kinds {
    ($($kind:ident $slug:literal $status:literal $title:literal $explanation:literal)*) => {
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

            /// For the page: what it means, and what to do.
            pub fn explanation(self) -> &'static str {
                match self { $(Kind::$kind => $explanation),* }
            }
        }
    };
}

kinds! {
    MalformedRequest "malformed-request" 400 "The request is not valid HTTP"
        "The bytes could be read in more than one way, or not at all. The connection is closed, and nothing after this request was run. Use a client that speaks HTTP/1.1 as RFC 9112 says."
    MalformedJson "malformed-json" 400 "The body is not JSON"
        "The body has to be one JSON text (RFC 8259) in UTF-8. The detail says where reading it failed."
    Unauthorized "unauthorized" 401 "A valid token is needed"
        "Log in with POST /api/v1/sessions and send the token as 'Authorization: Bearer TOKEN'. Tokens end after some hours; then log in again."
    WrongCredentials "wrong-credentials" 401 "Username or password is wrong"
        "No account has this username and password. Which of the two is wrong is not said."
    Forbidden "forbidden" 403 "Your role may not do this"
        "Customers reserve, organizers manage their events, admins view and delete. Log in with an account that may."
    NotYours "not-yours" 403 "This event is another organizer's"
        "Only the organizer who created an event may change it or see its reservations."
    NotFound "not-found" 404 "There is no such thing"
        "Nothing with this address exists, or it is not yours to see."
    MethodNotAllowed "method-not-allowed" 405 "This address does not take this method"
        "The Allow header names the methods that it does take."
    NotAcceptable "not-acceptable" 406 "Only JSON is served here"
        "The Accept header excludes application/json. Add it, or leave the header out."
    RequestTimeout "request-timeout" 408 "The request took too long to come"
        "A head has to be whole some seconds after its first byte, and a body has to keep up a modem's pace. Nothing was done; send the request again."
    SoldOut "sold-out" 409 "Not enough tickets are left"
        "The event has fewer tickets left than were asked for; 'remaining' says how many. Ask for fewer, or try again when others cancel."
    QuotaBelowCommitted "quota-below-committed" 409 "More tickets are reserved than the new quota"
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
        "It will not come back; its reservations are cancelled."
    ContentTooLarge "content-too-large" 413 "The body is too large"
        "No request of this API needs more than 64 KiB."
    UriTooLong "uri-too-long" 414 "The request target is too long"
        "No address of this API needs more than 8 KiB."
    UnsupportedMediaType "unsupported-media-type" 415 "Only JSON is taken here"
        "Send the body as 'Content-Type: application/json'."
    ExpectationFailed "expectation-failed" 417 "The Expect header asks for something unknown"
        "Only '100-continue' can be expected."
    Invalid "invalid" 422 "The request breaks a rule"
        "Each entry of 'errors' names a member of the body by a JSON pointer, or a query parameter by '?name', and says what it has to be."
    TooManyAttempts "too-many-attempts" 429 "Too many failed logins"
        "The password of this account was guessed at too often, from this address or from many. This guess was not looked at; try again after 'Retry-After' seconds. Logging in from an address that succeeded before is not slowed by what others do."
    HeadersTooLarge "headers-too-large" 431 "The request's headers are too large"
        "At most 64 fields and, unless the server was told otherwise, 16 KiB in all."
    NotImplemented "not-implemented" 501 "The method is unknown"
        "This server knows the methods of RFC 9110, and PATCH."
    Overloaded "overloaded" 503 "The server is overloaded: nothing was done"
        "More requests are in flight than can be answered soon. Nothing was done for this one; try again after 'Retry-After' seconds."
    TooManyConnections "too-many-connections" 503 "All connections are taken"
        "The server holds as many connections as it may. Nothing was done; try again after 'Retry-After' seconds, and keep fewer connections open."
    NotReady "not-ready" 503 "The server is not ready"
        "It is about to stop. Nothing was done; try again after 'Retry-After' seconds."
    VersionNotSupported "version-not-supported" 505 "This version of HTTP is not spoken here"
        "Use HTTP/1.1."
    LogFull "log-full" 507 "The disk of the log is full: nothing was done"
        "The server can change nothing until there is room on its disk again, which it notices by itself within a second. Nothing was done; reading works meanwhile. Tell whoever runs the server, and try again after 'Retry-After' seconds."
}

/// One thing that is wrong with a request's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) into the body, or `?name` for a query parameter.
    pub pointer: String,
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

    /// One body for all causes: what is wrong with a token is nobody's business.
    pub fn unauthorized() -> Problem {
        Problem::plain(Kind::Unauthorized).header("WWW-Authenticate", "Bearer".to_owned())
    }

    pub fn wrong_credentials(detail: &'static str) -> Problem {
        Problem::new(Kind::WrongCredentials, detail).header("WWW-Authenticate", "Bearer".to_owned())
    }

    pub fn invalid(errors: &[FieldError]) -> Problem {
        let detail = match errors {
            [only] => format!("{}: {}", only.pointer, only.detail),
            several => format!("{} members break a rule", several.len()),
        };
        Problem::new(Kind::Invalid, detail).extend("errors", json!(errors))
    }

    pub fn unavailable(kind: Kind) -> Problem {
        Problem::plain(kind).header("Retry-After", RETRY_AFTER_SECONDS.to_string())
    }

    pub fn header(mut self, name: &'static str, value: String) -> Problem {
        self.headers.push((name, value));
        self
    }

    pub fn extend(mut self, name: &'static str, value: Value) -> Problem {
        self.extensions.push((name, value));
        self
    }

    pub fn into_response(self) -> Response {
        let mut members = Map::new();
        members.insert("type".to_owned(), json!(format!("/problems/{}", self.kind.slug())));
        members.insert("title".to_owned(), json!(self.kind.title()));
        members.insert("status".to_owned(), json!(self.kind.status()));
        members.insert("detail".to_owned(), json!(self.detail));
        for (name, value) in self.extensions {
            members.insert(name.to_owned(), value);
        }
        let body = Value::Object(members).to_string().into_bytes();
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_unique() {
        let mut slugs: Vec<_> = Kind::ALL.iter().map(|kind| kind.slug()).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), Kind::ALL.len());
    }
}
