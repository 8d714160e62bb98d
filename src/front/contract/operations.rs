//! What each endpoint takes and gives, for people and for machines.
//!
//! One `match` without a rest: an endpoint that is not described does not compile.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use crate::front::api::Page;
use crate::front::api::demonstration::{Demonstration, PopulateQuery};
use crate::front::api::events::{DeletionQuery, Event, EventPatch, EventsQuery, NewEvent};
use crate::front::api::input::{Parameters, Property};
use crate::front::api::reservations::{
    EventReservationsQuery, NewReservation, Reservation, ReservationsQuery,
};
use crate::front::api::sessions::{Credentials, Session};
use crate::front::api::system::Health;
use crate::front::api::users::{NewUser, PasswordChange, RoleChange, User, UsersQuery};
use crate::front::http::write::{CSS, HTML, JAVASCRIPT, JSON, METRICS, PLAIN};
use crate::front::problem::Kind;
use crate::front::router::Endpoint;

/// What belongs together in the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Accounts,
    Events,
    Reservations,
    Server,
}

impl Tag {
    pub(super) const ALL: [Tag; 4] = [Tag::Accounts, Tag::Events, Tag::Reservations, Tag::Server];

    pub(super) fn about(self) -> &'static str {
        match self {
            Tag::Accounts => "Register, log in.",
            Tag::Events => "What tickets are sold for, and how many.",
            Tag::Reservations => "Tickets that are sold: all that were asked for, or none.",
            Tag::Server => "Health, metrics, this document, and pages for people.",
        }
    }
}

/// A header of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) example: &'static str,
}

const fn location(example: &'static str) -> Header {
    Header { name: "Location", about: "The address of what was made.", example }
}
pub(super) const LOCATION: Header = location("/api/v1/reservations/7-42");
const LOCATION_OF_USER: Header = location("/api/v1/users/me");
const LOCATION_OF_EVENT: Header = location("/api/v1/events/7");
const ETAG: Header = Header {
    name: "ETag",
    about: "The version of what can be edited. Sales do not change an event's.",
    example: "\"3\"",
};
const PAGE_TAG: Header = Header {
    name: "ETag",
    about: "The version of this file, for If-None-Match.",
    example: "W/\"8d1f03a2c4e5b697\"",
};
const LINK: Header = Header {
    name: "Link",
    about: "The next page, when there is one.",
    example: "</api/v1/events?limit=50&after=57>; rel=\"next\"",
};
const NO_STORE: Header = Header {
    name: "Cache-Control",
    about: "The answer is not to be kept: the next one can differ.",
    example: "no-store",
};
const REVALIDATE: Header = Header {
    name: "Cache-Control",
    about: "The file may be kept, and is to be asked for again with If-None-Match.",
    example: "no-cache",
};
const ENCODING: Header =
    Header { name: "Content-Encoding", about: "gzip, for clients that take it.", example: "gzip" };
const VARY: Header =
    Header { name: "Vary", about: "What the encoding depends on.", example: "Accept-Encoding" };
const POLICY: Header = Header {
    name: "Content-Security-Policy",
    about: "Everything that the page needs comes from this server.",
    example: "default-src 'none'; style-src 'self'",
};
const NO_SNIFFING: Header =
    Header { name: "X-Content-Type-Options", about: "The type is what is said.", example: "nosniff" };

/// A good answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) about: &'static str,
    /// By its media type; some have no body.
    pub(super) content: Option<(&'static str, Form, Value)>,
    pub(super) headers: &'static [Header],
    pub(super) links: &'static [Link],
}

/// What can be asked next: an endpoint, the parameter of its path, and what stands for it, as a JSON
/// pointer into this answer.
pub(super) type Link = (Endpoint, &'static str, &'static str);

const OF_EVENT: &[Link] = &[
    (Endpoint::GetEvent, "event", "/id"),
    (Endpoint::EditEvent, "event", "/id"),
    (Endpoint::DeleteEvent, "event", "/id"),
    (Endpoint::CreateReservation, "event", "/id"),
    (Endpoint::ListEventReservations, "event", "/id"),
];
const OF_EVENTS: &[Link] =
    &[(Endpoint::GetEvent, "event", "/items/0/id"), (Endpoint::CreateReservation, "event", "/items/0/id")];
const OF_RESERVATION: &[Link] = &[
    (Endpoint::GetReservation, "reservation", "/id"),
    (Endpoint::CancelReservation, "reservation", "/id"),
    (Endpoint::GetEvent, "event", "/event"),
];
const OF_RESERVATIONS: &[Link] = &[
    (Endpoint::GetReservation, "reservation", "/items/0/id"),
    (Endpoint::CancelReservation, "reservation", "/items/0/id"),
];

type Form = fn(&mut SchemaGenerator) -> Schema;

impl Answer {
    fn json<T: JsonSchema>(status: u16, about: &'static str, example: Value) -> Answer {
        let content = Some((JSON, SchemaGenerator::subschema_for::<T> as Form, example));
        Answer { status, about, content, headers: &[], links: &[] }
    }

    fn text(about: &'static str, media: &'static str, example: &str) -> Answer {
        let content = Some((media, SchemaGenerator::subschema_for::<String> as Form, json!(example)));
        Answer { status: 200, about, content, headers: &[], links: &[] }
    }

    fn empty(status: u16, about: &'static str) -> Answer {
        Answer { status, about, content: None, headers: &[], links: &[] }
    }

    fn then(mut self, links: &'static [Link]) -> Answer {
        self.links = links;
        self
    }

    fn with(mut self, headers: &'static [Header]) -> Answer {
        self.headers = headers;
        self
    }
}

/// What an endpoint takes and gives, beside what follows from its route.
pub(super) struct Operation {
    pub(super) tag: Tag,
    pub(super) summary: &'static str,
    pub(super) about: &'static str,
    pub(super) query: Option<fn(&mut SchemaGenerator) -> Vec<Property>>,
    pub(super) body: Option<(Form, Value)>,
    /// Takes If-None-Match.
    pub(super) revalidates: bool,
    /// Works without a token, and otherwise with one.
    pub(super) token_helps: bool,
    pub(super) answers: Vec<Answer>,
    pub(super) problems: &'static [Kind],
}

impl Operation {
    fn new(tag: Tag, summary: &'static str, about: &'static str, answers: Vec<Answer>) -> Operation {
        let (query, body, revalidates, token_helps, problems) = (None, None, false, false, &[]);
        Operation { tag, summary, about, query, body, revalidates, token_helps, answers, problems }
    }

    /// A file of the binary.
    fn file(summary: &'static str, about: &'static str, media: &'static str, example: &str) -> Operation {
        let headers = &[PAGE_TAG, REVALIDATE, ENCODING, VARY, POLICY, NO_SNIFFING];
        let answers = vec![
            Answer::text("The file.", media, example).with(headers),
            Answer::empty(304, "It is what the client has already.").with(&[PAGE_TAG, REVALIDATE, VARY]),
        ];
        Operation { revalidates: true, ..Operation::new(Tag::Server, summary, about, answers) }
    }

    fn query<Q: Parameters>(self) -> Operation {
        Operation { query: Some(Q::list), ..self }
    }

    fn body<B: JsonSchema>(self, example: Value) -> Operation {
        Operation { body: Some((SchemaGenerator::subschema_for::<B>, example)), ..self }
    }

    fn problems(self, problems: &'static [Kind]) -> Operation {
        Operation { problems, ..self }
    }
}

fn event() -> Value {
    json!({
        "id": 7,
        "name": "Recital",
        "organizer": 12,
        "quota": 500,
        "reserved": 480,
        "held": 0,
        "remaining": 20,
        "created_at": "2026-03-01T09:00:00.000Z",
        "updated_at": "2026-03-01T09:00:00.000Z",
    })
}

fn reservation() -> Value {
    json!({
        "id": "7-42",
        "event": 7,
        "customer": 31,
        "quantity": 2,
        "status": "confirmed",
        "created_at": "2026-03-02T12:00:00.017Z",
    })
}

fn user() -> Value {
    json!({ "id": 31, "username": "ada", "role": "customer" })
}

fn page(item: &Value, next: &str) -> Value {
    json!({ "items": [item], "next": next })
}

pub(super) fn operation(endpoint: Endpoint) -> Operation {
    match endpoint {
        Endpoint::CreateUser => Operation::new(
            Tag::Accounts,
            "Register",
            "Makes an account. The first admin is made on the server: `boxoffice admin create`.",
            vec![
                Answer::json::<User>(201, "The account.", user()).with(&[LOCATION_OF_USER]),
            ],
        )
        .body::<NewUser>(json!({ "username": "ada", "password": "correct horse", "role": "customer" }))
        .problems(&[Kind::UsernameTaken]),
        Endpoint::CreateSession => Operation::new(
            Tag::Accounts,
            "Log in",
            "Gives a token, to be sent as `Authorization: Bearer TOKEN` with what needs one.",
            vec![
                Answer::json::<Session>(
                    201,
                    "The token.",
                    json!({
                        "token": "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl",
                        "token_type": "Bearer",
                        "expires_in": 43200,
                        "user": user(),
                    }),
                )
                .with(&[NO_STORE]),
            ],
        )
        .body::<Credentials>(json!({ "username": "ada", "password": "correct horse" }))
        .problems(&[Kind::WrongCredentials, Kind::TooManyAttempts]),
        Endpoint::GetMe => Operation::new(
            Tag::Accounts,
            "Who am I",
            "The account of the token.",
            vec![Answer::json::<User>(200, "The account.", user())],
        ),
        Endpoint::ChangePassword => Operation::new(
            Tag::Accounts,
            "Change one's password",
            "Ends every token of the account, this one too. Guesses at `current` are counted as at a login.",
            vec![Answer::empty(204, "It is changed; log in again.")],
        )
        .body::<PasswordChange>(json!({ "current": "correct horse", "new": "battery staple" }))
        .problems(&[Kind::WrongCredentials, Kind::TooManyAttempts]),
        Endpoint::ListUsers => Operation::new(
            Tag::Accounts,
            "List the accounts",
            "By id. No snapshot: each shard answers in its own time.",
            vec![Answer::json::<Page<User>>(200, "A page.", page(&user(), "31")).with(&[LINK])],
        )
        .query::<UsersQuery>(),
        Endpoint::ChangeRole => Operation::new(
            Tag::Accounts,
            "Change an account's role",
            "Ends every token of the account.",
            vec![Answer::json::<User>(200, "The account as it is now.", user())],
        )
        .body::<RoleChange>(json!({ "role": "organizer" }))
        .problems(&[Kind::LastAdmin]),
        Endpoint::RemoveUser => Operation::new(
            Tag::Accounts,
            "Remove an account",
            "It can no longer be used, nor its name taken; its reservations stay. A repeat does nothing.",
            vec![Answer::empty(204, "It is removed.")],
        )
        .problems(&[Kind::LastAdmin]),
        Endpoint::CreateEvent => Operation::new(
            Tag::Events,
            "Create an event",
            "On sale at once, and its organizer's alone to edit.",
            vec![Answer::json::<Event>(201, "The event.", event()).with(&[LOCATION_OF_EVENT, ETAG]).then(OF_EVENT)],
        )
        .body::<NewEvent>(json!({ "name": "Recital", "quota": 500 })),
        Endpoint::ListEvents => Operation {
            token_helps: true,
            ..Operation::new(
                Tag::Events,
                "List the events",
                "By id. No snapshot: each shard answers in its own time. `organizer=me` needs a token.",
                vec![Answer::json::<Page<Event>>(200, "A page.", page(&event(), "7")).with(&[LINK]).then(OF_EVENTS)],
            )
        }
        .query::<EventsQuery>()
        .problems(&[Kind::Unauthorized]),
        Endpoint::GetEvent => Operation::new(
            Tag::Events,
            "View an event",
            "What is left of its tickets, as of the newest commit.",
            vec![Answer::json::<Event>(200, "The event.", event()).with(&[ETAG, NO_STORE])],
        )
        .problems(&[Kind::EventDeleted]),
        Endpoint::EditEvent => Operation::new(
            Tag::Events,
            "Edit an event",
            "A merge patch (RFC 7396), sent as JSON or as `application/merge-patch+json`.",
            vec![Answer::json::<Event>(200, "The event as it is now.", event()).with(&[ETAG])],
        )
        .body::<EventPatch>(json!({ "quota": 600 }))
        .problems(&[Kind::NotYours, Kind::QuotaBelowCommitted, Kind::EventDeleted]),
        Endpoint::DeleteEvent => Operation::new(
            Tag::Events,
            "Delete an event",
            "For its organizer and for admins. It will not come back.",
            vec![Answer::empty(204, "It is deleted, and its reservations are cancelled.")],
        )
        .query::<DeletionQuery>()
        .problems(&[Kind::NotYours, Kind::HasReservations, Kind::EventDeleted]),
        Endpoint::ListEventReservations => Operation::new(
            Tag::Reservations,
            "List an event's reservations",
            "By number, for its organizer and for admins.",
            vec![Answer::json::<Page<Reservation>>(200, "A page.", page(&reservation(), "42")).with(&[LINK]).then(OF_RESERVATIONS)],
        )
        .query::<EventReservationsQuery>()
        .problems(&[Kind::NotYours, Kind::EventDeleted]),
        Endpoint::CreateReservation => Operation::new(
            Tag::Reservations,
            "Reserve tickets",
            "All or nothing. A 201 is on disk; a 503 has done nothing. When no answer comes, the reservation may \
             be there: look at `GET /api/v1/reservations` before trying again.",
            vec![Answer::json::<Reservation>(201, "The tickets are yours.", reservation()).with(&[LOCATION]).then(OF_RESERVATION)],
        )
        .body::<NewReservation>(json!({ "quantity": 2 }))
        .problems(&[Kind::SoldOut, Kind::EventDeleted]),
        Endpoint::ListReservations => Operation::new(
            Tag::Reservations,
            "List one's own reservations",
            "By event, then number.",
            vec![
                Answer::json::<Page<Reservation>>(200, "A page.", page(&reservation(), "7-42")).with(&[LINK]).then(OF_RESERVATIONS),
            ],
        )
        .query::<ReservationsQuery>(),
        Endpoint::GetReservation => Operation::new(
            Tag::Reservations,
            "View a reservation",
            "For its customer, its event's organizer, and admins; to others it does not exist.",
            vec![Answer::json::<Reservation>(200, "The reservation.", reservation())],
        ),
        Endpoint::CancelReservation => Operation::new(
            Tag::Reservations,
            "Cancel a reservation",
            "For its customer and for admins. The tickets are for sale again in the same commit, once; a repeat \
             does nothing.",
            vec![Answer::empty(204, "It is cancelled.")],
        ),
        Endpoint::Populate => Operation::new(
            Tag::Server,
            "Make the demonstration data",
            "Served by `boxoffice serve --demo` alone.",
            vec![
                Answer::json::<Demonstration>(
                    200,
                    "What was made.",
                    json!({
                        "users": [{ "username": "cust1", "role": "customer" }],
                        "password": "boxoffice-demo",
                        "events": [1, 2, 3, 4],
                        "quota": 10000,
                    }),
                ),
                Answer::empty(304, "All is there already."),
            ],
        )
        .query::<PopulateQuery>()
        .problems(&[Kind::NotFound, Kind::EventExists, Kind::LogFull]),
        Endpoint::Live => Operation::new(
            Tag::Server,
            "Is the process alive",
            "The process runs, and the core that has this connection serves.",
            vec![Answer::json::<Health>(
                200,
                "It is.",
                json!({ "status": "live", "boot_id": "5f2b8c90aa41d7e3" }),
            )],
        ),
        Endpoint::Ready => Operation::new(
            Tag::Server,
            "Does the server take work",
            "It has recovered, and is not about to stop.",
            vec![Answer::json::<Health>(
                200,
                "It does.",
                json!({ "status": "ready", "boot_id": "5f2b8c90aa41d7e3" }),
            )],
        ),
        Endpoint::Metrics => Operation::new(
            Tag::Server,
            "Metrics",
            "In Prometheus' text format.",
            vec![Answer::text("The metrics.", METRICS, "boxoffice_events 4\n")],
        )
        .problems(&[Kind::Invalid]),
        Endpoint::Contract => {
            let mut operation =
                Operation::file("This document", "OpenAPI 3.1, made from the router's table.", JSON, "");
            operation.answers[0].content =
                Some((JSON, SchemaGenerator::subschema_for::<OpenApi>, json!({ "openapi": "3.1.1" })));
            operation
        }
        Endpoint::Docs => Operation::file(
            "This document in a browser",
            "Shows it, and lets one try it.",
            HTML,
            "<!doctype html>",
        ),
        Endpoint::DocsFile => {
            let mut operation =
                Operation::file("What the pages need", "Styles and scripts.", JAVASCRIPT, "\"use strict\";");
            let css = Answer::text("The file.", CSS, "body { margin: 0 }");
            let licence = Answer::text("The file.", PLAIN, "Copyright");
            let headers = operation.answers[0].headers;
            operation.answers.extend([css, licence].map(|answer| answer.with(headers)));
            operation
        }
        Endpoint::ProblemList => Operation::file(
            "All kinds of problems",
            "A page that lists what an error's `type` can be.",
            HTML,
            "<!doctype html>",
        ),
        Endpoint::ProblemPage => Operation::file(
            "What a problem means",
            "The page that an error's `type` points to: what it means, what to change, and an example.",
            HTML,
            "<!doctype html>",
        ),
    }
}

/// This document, as far as it says of itself.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is a schema alone")]
struct OpenApi {
    /// The version of the OpenAPI specification.
    openapi: String,
}
