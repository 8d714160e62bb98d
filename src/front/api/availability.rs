//! Availability: the tickets of events, for pages that ask again and again.

mod stream;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shards::command::Query;
use shards::ids::{EventId, Quota};
use shards::outcome::{self, Outcome};

use super::context::RequestContext;
use super::endpoint::{Access, Endpoint, Header, Link, RequestHeader, Success, Tag, Takes};
use super::events;
use super::input::{EventIds, KnownTags, NoBody, NoParameter, NoQuery, query};
use super::output::{ToJson, json_response};
use super::work::Work;
use crate::client::view;
use crate::front::http::parse::Method;
use crate::front::http::write::{Response, entity_tag};
use crate::front::problem::{Kind, Problem};
pub(super) use stream::{OF_EVENT, OF_SEVERAL};

/// The tickets of an event. `quota = reserved + held + remaining`, in every answer.
#[derive(Serialize, JsonSchema)]
struct Availability {
    event: EventId,
    #[schemars(with = "Quota")]
    quota: u32,
    /// Tickets that are sold.
    reserved: u32,
    /// Tickets of live holds.
    held: u32,
    /// Tickets that can be had.
    remaining: u32,
    /// Rises with every change of this event, and with nothing else; by more than one at a time, too. The same
    /// after a restart.
    position: u64,
}

/// The tickets of several events.
#[derive(Serialize, JsonSchema)]
struct AvailabilityList {
    /// By the events' ids. Unknown and deleted events are left out.
    items: Vec<Availability>,
}

query! {
    /// Which events.
    struct AvailabilityQuery {
        /// The ids of 1 to 100 events, separated by commas.
        ids: EventIds,
    }
}

impl From<outcome::Availability> for Availability {
    fn from(view: outcome::Availability) -> Availability {
        let outcome::Availability { event, quota, reserved, held, remaining, position } = view;
        Availability { event, quota, reserved, held, remaining, position: position.0 }
    }
}

/// The tickets of an event as JSON.
pub(crate) fn as_json(view: outcome::Availability) -> Vec<u8> {
    let mut text = Vec::new();
    Availability::from(view).append_to(&mut text);
    text
}

fn example() -> Value {
    json!({ "event": 7, "quota": 500, "reserved": 480, "held": 0, "remaining": 20, "position": 1041 })
}

const ETAG: Header = Header {
    name: "ETag",
    about: "Changes with every change of the tickets. For If-None-Match.",
    example: "\"1041\"",
};
const REVALIDATE: Header = Header {
    name: "Cache-Control",
    about: "The answer may be kept, but asked about each time.",
    example: "no-cache",
};
const HEADERS: &[Header] = &[ETAG, REVALIDATE];
const UNCHANGED: Success = Success::empty(304, "It is what the client has already.").with(HEADERS);
const OF_AVAILABILITY: &[Link] = &[(&events::GET, "event", "/event")];

pub(super) static GET: Endpoint = Endpoint {
    id: "getAvailability",
    method: Method::Get,
    path: "/api/v1/events/{event}/availability",
    access: Access::Anyone,
    handler: &Takes(get),
    writes: false,
    headers: &[RequestHeader::IF_NONE_MATCH],
    tag: Tag::Events,
    summary: "View the tickets of an event",
    about: "As of the newest commit. With `If-None-Match`, 304 while nothing has changed.",
    successes: &[
        Success::json::<Availability>(200, "The tickets.", example).with(HEADERS).then(OF_AVAILABILITY),
        UNCHANGED,
    ],
    problems: &[Kind::EventDeleted],
};

fn get(context: &RequestContext<'_>, event: EventId, _: NoQuery, _: NoBody) -> Result<Work, Problem> {
    let known = KnownTags::read(context.request);
    Ok(Work::query(Query::Availability { event }, move |outcome| {
        let view = view!(Outcome::Availability, outcome);
        respond(&known, entity_tag(view.position.0), || json_response(200, &Availability::from(view)))
    }))
}

pub(super) static LIST: Endpoint = Endpoint {
    id: "listAvailability",
    method: Method::Get,
    path: "/api/v1/availability",
    access: Access::Anyone,
    handler: &Takes(list),
    writes: false,
    headers: &[RequestHeader::IF_NONE_MATCH],
    tag: Tag::Events,
    summary: "View the tickets of several events",
    about: "Each event as of a commit; no snapshot: each shard answers in its own time.",
    successes: &[
        Success::json::<AvailabilityList>(200, "The tickets.", || json!({ "items": [example()] }))
            .with(HEADERS),
        UNCHANGED,
    ],
    problems: &[],
};

fn list(
    context: &RequestContext<'_>,
    _: NoParameter,
    AvailabilityQuery { ids: EventIds(events) }: AvailabilityQuery,
    _: NoBody,
) -> Result<Work, Problem> {
    let known = KnownTags::read(context.request);
    let shards = context.api.shards.clone();
    Ok(Work::future(async move {
        let views = shards.availabilities(events.into()).await?;
        let tag = tag_of(&views);
        let items = || views.into_iter().map(Availability::from).collect();
        Ok(respond(&known, tag, || json_response(200, &AvailabilityList { items: items() })))
    }))
}

/// The tag of several events: a digest of their positions.
fn tag_of(views: &[outcome::Availability]) -> String {
    let mut digest = Sha256::new();
    for view in views {
        digest.update(view.event.0.to_le_bytes());
        digest.update(view.position.0.to_le_bytes());
    }
    let digest = digest.finalize();
    let start: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{start}\"")
}

fn respond(known: &KnownTags, tag: String, whole: impl FnOnce() -> Response) -> Response {
    let response = if known.has(&tag) { Response::empty(304) } else { whole() };
    response.with("ETag", tag).with("Cache-Control", "no-cache".to_owned())
}
