//! Errors as RFC 9457 problem details, with boxoffice's texts for the same errors. Unlike boxoffice,
//! this reports only the first error in a body.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::domain::{Refusal, Role};

/// An error response. Boxed, so that results are small.
#[derive(Debug)]
pub(crate) struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    slug: &'static str,
    title: &'static str,
    detail: String,
    member: Option<(&'static str, Value)>,
    header: Option<(HeaderName, &'static str)>,
}

impl Problem {
    fn new(status: u16, slug: &'static str, title: &'static str, detail: impl Into<String>) -> Problem {
        let status = StatusCode::from_u16(status).expect("the statuses here are valid");
        Problem(Box::new(Parts { status, slug, title, detail: detail.into(), member: None, header: None }))
    }

    fn with(mut self, name: &'static str, value: Value) -> Problem {
        self.0.member = Some((name, value));
        self
    }

    fn header(mut self, name: HeaderName, value: &'static str) -> Problem {
        self.0.header = Some((name, value));
        self
    }

    pub(crate) fn malformed_json(failure: &serde_json::Error) -> Problem {
        let detail = format!("The body is not JSON: {failure}.");
        Problem::new(400, "malformed-json", "The body is not JSON", detail)
    }

    pub(crate) fn unauthorized() -> Problem {
        let detail = "Log in with POST /api/v1/sessions and send the token as 'Authorization: Bearer TOKEN'. \
                      Tokens end after some hours; then log in again.";
        Problem::new(401, "unauthorized", "A valid token is needed", detail)
            .header(WWW_AUTHENTICATE, "Bearer")
    }

    pub(crate) fn wrong_credentials() -> Problem {
        let detail = "No account has this username and password; which of the two is wrong is not said. \
                      Correct them, or register with POST /api/v1/users.";
        Problem::new(401, "wrong-credentials", "Username or password is wrong", detail)
            .header(WWW_AUTHENTICATE, "Bearer")
    }

    pub(crate) fn forbidden(role: Role, allowed: &[Role]) -> Problem {
        let allowed: Vec<&str> = allowed.iter().map(|role| role.as_str()).collect();
        let detail = format!("Your role is {}; this is for {}.", role.as_str(), allowed.join(" or "));
        Problem::new(403, "forbidden", "Your role may not do this", detail)
    }

    pub(crate) fn not_found() -> Problem {
        let detail = "Nothing with this address exists, or it is not yours to see. Check the address, and \
                      whose token you send.";
        Problem::new(404, "not-found", "There is no such thing", detail)
    }

    pub(crate) fn method_not_allowed() -> Problem {
        let detail = "Use one of the methods that the Allow header names.";
        Problem::new(405, "method-not-allowed", "This address does not take this method", detail)
    }

    pub(crate) fn content_too_large() -> Problem {
        let detail = "No request of this API needs more than 64 KiB. Send less.";
        Problem::new(413, "content-too-large", "The body is too large", detail)
    }

    pub(crate) fn unsupported_media_type(media: &str) -> Problem {
        let detail = format!("The body is said to be {media:?}; send application/json.");
        Problem::new(415, "unsupported-media-type", "Only JSON is taken here", detail)
    }

    /// Invalid input. `pointer` is a JSON pointer into the body, empty for the whole body, or `?name`
    /// for a query parameter.
    pub(crate) fn invalid(pointer: &str, detail: &str) -> Problem {
        let all = match pointer {
            "" => format!("The body: {detail}."),
            pointer => format!("{pointer}: {detail}"),
        };
        Problem::new(422, "invalid", "The request breaks a rule", all)
            .with("errors", json!([{"pointer": pointer, "detail": detail}]))
    }

    pub(crate) fn not_ready(boot_id: &str) -> Problem {
        let detail = "It is about to stop. Nothing was done; try again after 'Retry-After' seconds.";
        Problem::new(503, "not-ready", "The server is not ready", detail)
            .with("boot_id", json!(boot_id))
            .header(RETRY_AFTER, "1")
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        match refusal {
            Refusal::SoldOut { remaining } => {
                let detail = match remaining {
                    0 => "No ticket is left.".to_owned(),
                    1 => "Only 1 ticket is left.".to_owned(),
                    several => format!("Only {several} tickets are left."),
                };
                Problem::new(409, "sold-out", "Not enough tickets are left", detail)
                    .with("remaining", json!(remaining))
            }
            Refusal::QuotaBelowCommitted { committed } => {
                let detail = format!("{committed} tickets are reserved; the quota has to be at least that.");
                let title = "More tickets are reserved than the new quota";
                Problem::new(409, "quota-below-committed", title, detail).with("committed", json!(committed))
            }
            Refusal::HasReservations { reserved } => {
                let detail = format!("{reserved} tickets are reserved. Add ?force=true to cancel them all.");
                Problem::new(409, "has-reservations", "The event has live reservations", detail)
            }
            Refusal::UsernameTaken => {
                let detail = "Usernames are unique, whatever their case. Choose another.";
                Problem::new(409, "username-taken", "The username is taken", detail)
            }
            Refusal::EventExists => {
                let detail = "The demonstration data is made where no other events are. Start the server \
                              with empty stores.";
                Problem::new(409, "event-exists", "Other events exist already", detail)
            }
            Refusal::EventDeleted => {
                let detail = "It will not come back; its reservations are cancelled. GET /api/v1/events \
                              lists those that are left.";
                Problem::new(410, "event-deleted", "The event was deleted", detail)
            }
            Refusal::NotYourEvent => {
                let detail = "Only the organizer who created an event may change it or see its \
                              reservations. Log in as that organizer.";
                Problem::new(403, "not-yours", "This event is another organizer's", detail)
            }
            Refusal::NotFound => Problem::not_found(),
            Refusal::Overloaded => {
                let detail = "More requests are in flight than can be answered soon. Nothing was done for \
                              this one; try again after 'Retry-After' seconds.";
                let title = "The server is overloaded: nothing was done";
                Problem::new(503, "overloaded", title, detail).header(RETRY_AFTER, "1")
            }
            Refusal::Failed(reason) => {
                eprintln!("{reason}");
                let detail = "Whether it was done is not known: look before you try again. The server's \
                              output says what failed.";
                Problem::new(500, "store-failed", "A store of the server failed", detail)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Parts { status, slug, title, detail, member, header } = *self.0;
        let mut body = Map::new();
        body.insert("type".to_owned(), json!(format!("/problems/{}", slug)));
        body.insert("title".to_owned(), json!(title));
        body.insert("status".to_owned(), json!(status.as_u16()));
        body.insert("detail".to_owned(), json!(detail));
        if let Some((name, value)) = member {
            body.insert(name.to_owned(), value);
        }
        let body = Value::Object(body).to_string();
        let content_type = [(CONTENT_TYPE, "application/problem+json")];
        match header {
            Some(header) => (status, content_type, [header], body).into_response(),
            None => (status, content_type, body).into_response(),
        }
    }
}
