//! What an endpoint is: one value beside its handler. The router, the contract, authorization and the
//! checks of a request are made from these values.

use std::ptr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};
use shards::api_keys::Scope;
use shards::ids::Role;

use super::context::RequestContext;
use super::input::{
    BodyDescription, FromBody, FromPath, FromQuery, IDEMPOTENCY_KEY, IF_MATCH, PathParameter, Property,
};
use super::work::Work;
use super::{holds, reservations};
use crate::front::http::parse::Method;
use crate::front::http::write::JSON;
use crate::front::problem::{Kind, PROBLEM_JSON, Problem};

/// One operation of the API.
pub struct Endpoint {
    /// Its name in the contract.
    pub id: &'static str,
    pub method: Method,
    /// A segment in braces stands for the handler's path parameter.
    pub path: &'static str,
    pub access: Access,
    pub(in crate::front) handler: &'static dyn Handler,
    /// Whether it writes to the log, and so can be refused because the log is full.
    pub(in crate::front) writes: bool,
    /// Headers of a request that it reads, beside those that every endpoint does.
    pub(in crate::front) headers: &'static [RequestHeader],
    pub(in crate::front) tag: Tag,
    pub(in crate::front) summary: &'static str,
    pub(in crate::front) about: &'static str,
    pub(in crate::front) successes: &'static [Success],
    /// Problems beside those that follow from the other members.
    pub(in crate::front) problems: &'static [Kind],
}

impl Endpoint {
    /// Whether it gives JSON, or data in the other forms that its successes have, which a client can refuse (RFC 9110
    /// section 12.5.1).
    pub(in crate::front) fn speaks_json(&self) -> bool {
        self.path.starts_with("/api/")
    }

    /// The media types of the endpoint's successes. If these have no body, those of its problems: clients that are
    /// made from the contract accept nothing else then.
    pub(in crate::front) fn forms(&self) -> impl Iterator<Item = &'static str> {
        let media = self.successes.iter().filter_map(|success| Some(success.content.as_ref()?.media));
        let mut media = media.peekable();
        let of_problems: &[_] = if media.peek().is_none() { &[JSON, PROBLEM_JSON] } else { &[] };
        of_problems.iter().copied().chain(media)
    }

    /// Whether a request can have a key, with which it takes effect once.
    pub(in crate::front) fn takes_keys(&self) -> bool {
        self.headers.contains(&RequestHeader::IDEMPOTENCY_KEY)
    }

    /// Whether its requests count as changes of the account that sends them. Reservations and holds do
    /// not: the quota of the event and the number of an account's reservations limit these.
    pub(in crate::front) fn counts_as_change(&self) -> bool {
        let reserves = [&reservations::CREATE, &holds::CREATE].iter().any(|one| ptr::eq(self, *one));
        self.writes && self.access.reads_tokens() && !reserves
    }
}

/// Who may use an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Tokens are not looked at.
    Anyone,
    /// A token is not required. If the handler reads a token that was sent, that token has to be valid.
    Optional(KeyUse),
    LoggedIn(KeyUse),
    Only(&'static [Role], KeyUse),
    /// Anyone, while the server serves demonstration data; else the endpoint does not exist.
    Demo,
}

impl Access {
    /// Whether a token can be needed.
    pub fn reads_tokens(self) -> bool {
        match self {
            Access::Anyone | Access::Demo => false,
            Access::Optional(_) | Access::LoggedIn(_) | Access::Only(..) => true,
        }
    }

    pub fn key_use(self) -> KeyUse {
        match self {
            Access::Anyone | Access::Demo => KeyUse::Never,
            Access::Optional(key_use) | Access::LoggedIn(key_use) | Access::Only(_, key_use) => key_use,
        }
    }
}

/// Whether an API key serves as a token. It stands for its organizer, who has to be allowed to use the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    Never,
    /// Every key.
    Any,
    /// A key with this scope.
    With(Scope),
}

/// A handler, whatever it takes.
pub(in crate::front) trait Handler: Sync {
    /// Reads what the handler takes, the body last, and runs it.
    fn handle(&self, context: &RequestContext<'_>) -> Result<Work, Problem>;

    fn path_parameter(&self) -> Option<PathParameter>;

    /// Whether a query with an unknown or invalid parameter is refused.
    fn checks_query(&self) -> bool;

    fn query_parameters(&self, schemas: &mut SchemaGenerator) -> Vec<Property>;

    fn body(&self) -> Option<BodyDescription>;
}

/// A handler made of a function. The types of its arguments say what is read from the path, the query and the
/// body.
pub(super) struct Takes<P, Q, B>(pub(super) fn(&RequestContext<'_>, P, Q, B) -> Result<Work, Problem>);

impl<P: FromPath, Q: FromQuery, B: FromBody> Handler for Takes<P, Q, B> {
    fn handle(&self, context: &RequestContext<'_>) -> Result<Work, Problem> {
        let path = P::read(context.parameter).ok_or_else(|| Problem::plain(Kind::NotFound));
        let (path, query) = if Q::BEFORE_PATH {
            let query = Q::read(context.request)?;
            (path?, query)
        } else {
            (path?, Q::read(context.request)?)
        };
        let body = B::read(context.request)?;
        (self.0)(context, path, query, body)
    }

    fn path_parameter(&self) -> Option<PathParameter> {
        P::PARAMETER
    }

    fn checks_query(&self) -> bool {
        Q::CHECKED
    }

    fn query_parameters(&self, schemas: &mut SchemaGenerator) -> Vec<Property> {
        Q::parameters(schemas)
    }

    fn body(&self) -> Option<BodyDescription> {
        B::DESCRIPTION
    }
}

/// A header of a request, as the contract has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::front) struct RequestHeader {
    /// Its name among the contract's components.
    pub(in crate::front) id: &'static str,
    pub(in crate::front) name: &'static str,
    pub(in crate::front) about: &'static str,
}

impl RequestHeader {
    pub(in crate::front) const REQUEST_ID: RequestHeader = RequestHeader {
        id: "RequestId",
        name: "X-Request-Id",
        about: "Comes back with the answer, if it has 1 to 64 characters of `A-Z a-z 0-9 - _ . :`.",
    };
    pub(in crate::front) const IF_NONE_MATCH: RequestHeader = RequestHeader {
        id: "IfNoneMatch",
        name: "If-None-Match",
        about: "The ETag of what the client has: if it is still good, the answer is 304.",
    };
    pub(in crate::front) const IF_MATCH: RequestHeader = RequestHeader {
        id: "IfMatch",
        name: IF_MATCH,
        about: "ETags of the event: if it has none of them any more, nothing is done and the answer is 412. `*` \
                stands for any; a weak tag is none.",
    };
    pub(in crate::front) const IDEMPOTENCY_KEY: RequestHeader = RequestHeader {
        id: "IdempotencyKey",
        name: IDEMPOTENCY_KEY,
        about: "Makes the request take effect once: sent again with the same key, by the same account, within 24 hours, \
                it has the answer of the first time, with `Idempotent-Replayed: true`. A random one for each new \
                request, of 1 to 255 characters of visible ASCII, in quotes or bare.",
    };
    pub(in crate::front) const LAST_EVENT_ID: RequestHeader = RequestHeader {
        id: "LastEventId",
        name: "Last-Event-ID",
        about: "The id of the last message that the client has, of any server with these data: the stream goes on from \
                there, and is silent at first if nothing has changed since. Another text counts as none.",
    };
    /// All that the contract describes.
    pub(in crate::front) const ALL: [RequestHeader; 5] = [
        RequestHeader::REQUEST_ID,
        RequestHeader::IF_NONE_MATCH,
        RequestHeader::IF_MATCH,
        RequestHeader::IDEMPOTENCY_KEY,
        RequestHeader::LAST_EVENT_ID,
    ];
}

/// The group of an endpoint in the OpenAPI document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::front) enum Tag {
    Accounts,
    Events,
    Reservations,
    Orders,
    Server,
}

impl Tag {
    pub(in crate::front) const ALL: [Tag; 5] =
        [Tag::Accounts, Tag::Events, Tag::Reservations, Tag::Orders, Tag::Server];

    pub(in crate::front) fn about(self) -> &'static str {
        match self {
            Tag::Accounts => "Register, log in.",
            Tag::Events => "What tickets are sold for, and how many.",
            Tag::Reservations => {
                "Tickets that are sold, or held for a time: all that were asked for, or none."
            }
            Tag::Orders => "Tickets of several events: all that were asked for, or none.",
            Tag::Server => "Health, metrics, this document, and pages for people.",
        }
    }
}

/// A response that is no problem, as the contract has it.
pub(in crate::front) struct Success {
    pub(in crate::front) status: u16,
    pub(in crate::front) about: &'static str,
    /// `None` for a response without a body.
    pub(in crate::front) content: Option<Content>,
    pub(in crate::front) headers: &'static [Header],
    pub(in crate::front) links: &'static [Link],
}

/// A body of a response.
pub(in crate::front) struct Content {
    pub(in crate::front) media: &'static str,
    pub(in crate::front) schema: fn(&mut SchemaGenerator) -> Schema,
    example: Example,
}

enum Example {
    Json(fn() -> Value),
    Text(&'static str),
}

impl Content {
    pub(in crate::front) fn example(&self) -> Value {
        match self.example {
            Example::Json(make) => make(),
            Example::Text(text) => json!(text),
        }
    }
}

/// An endpoint that can be used next: the endpoint, its path parameter, and the JSON pointer to that
/// parameter's value in this response.
pub(in crate::front) type Link = (&'static Endpoint, &'static str, &'static str);

impl Success {
    pub(super) const fn json<T: JsonSchema>(
        status: u16,
        about: &'static str,
        example: fn() -> Value,
    ) -> Success {
        let (schema, example) = (SchemaGenerator::subschema_for::<T>, Example::Json(example));
        let content = Some(Content { media: JSON, schema, example });
        Success { status, about, content, headers: &[], links: &[] }
    }

    pub(super) const fn text(about: &'static str, media: &'static str, example: &'static str) -> Success {
        let (schema, example) = (SchemaGenerator::subschema_for::<String>, Example::Text(example));
        let content = Some(Content { media, schema, example });
        Success { status: 200, about, content, headers: &[], links: &[] }
    }

    pub(super) const fn empty(status: u16, about: &'static str) -> Success {
        Success { status, about, content: None, headers: &[], links: &[] }
    }

    pub(super) const fn with(self, headers: &'static [Header]) -> Success {
        Success { headers, ..self }
    }

    pub(super) const fn then(self, links: &'static [Link]) -> Success {
        Success { links, ..self }
    }
}

/// A header of a response, as the contract has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::front) struct Header {
    pub(in crate::front) name: &'static str,
    pub(in crate::front) about: &'static str,
    pub(in crate::front) example: &'static str,
}

impl Header {
    /// The next page of a list.
    pub(in crate::front) const LINK: Header = Header {
        name: "Link",
        about: "The next page, when there is one.",
        example: "</api/v1/events?limit=50&after=57>; rel=\"next\"",
    };
    pub(super) const NO_STORE: Header = Header {
        name: "Cache-Control",
        about: "The answer is not to be kept: the next one can differ.",
        example: "no-store",
    };

    pub(super) const VARY_ACCEPT: Header = Header {
        name: "Vary",
        about: "The form of the answer depends on this header of the request.",
        example: "Accept",
    };

    /// That this is the answer of an earlier request with the same key.
    pub(in crate::front) const REPLAYED: Header = Header {
        name: "Idempotent-Replayed",
        about: "There when an earlier request with this Idempotency-Key did it: this is the answer as first given, \
                whatever has changed since.",
        example: "true",
    };

    pub(super) const fn location(example: &'static str) -> Header {
        Header { name: "Location", about: "The address of what was made.", example }
    }
}
