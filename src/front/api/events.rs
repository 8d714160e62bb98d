//! Events: create, list, view, edit, delete.

use std::rc::Rc;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use shards::api_keys::Scope;
use shards::command::{Actor, Command, CreateEvent, DeleteEvent, EditEvent, GiveEventId, Query};
use shards::details::{DetailsPatch, EventDetails, EventName, NewDetails, RulesPatch, SalesRules, Venue};
use shards::ids::{EventId, Quantity, Quota, Role, UserId};
use shards::outcome::{EventView, Outcome, Rejection};

use super::context::{RequestContext, replayed_or_new};
use super::endpoint::{Access, Endpoint, Header, KeyUse, Link, RequestHeader, Success, Tag, Takes};
use super::input::{
    Cursor, Limit, NoBody, NoParameter, NoQuery, NoQueryFirst, Nullable, Parameter, body, query,
};
use super::output::{Page, json_response, page_example};
use super::work::Work;
use super::{event_reservations, holds, reservations};
use crate::client::{Shards, view};
use crate::front::http::parse::Method;
use crate::front::http::write::{Response, entity_tag};
use crate::front::problem::{FieldErrors, Kind, Problem};
use crate::front::rfc3339::Rfc3339;

/// An event. `quota = reserved + held + remaining`, in every answer.
#[derive(Serialize, JsonSchema)]
struct Event {
    id: EventId,
    #[schemars(with = "EventName")]
    name: Box<str>,
    /// The account that manages it: the one that created it, or that it was handed over to.
    organizer: UserId,
    #[schemars(with = "Quota")]
    quota: u32,
    /// Null when none was given.
    #[schemars(with = "Option<Venue>")]
    venue: Option<Box<str>>,
    /// The most tickets of a reservation or hold; null for no limit.
    #[schemars(with = "Option<Quantity>")]
    max_per_reservation: Option<u32>,
    /// The most tickets of a customer, over all live reservations and holds; null for no limit.
    #[schemars(with = "Option<Quantity>")]
    max_per_customer: Option<u32>,
    /// From when on tickets are sold; null for at once.
    sales_start: Option<Rfc3339>,
    /// From when on no more tickets are sold; null for no end.
    sales_end: Option<Rfc3339>,
    /// Tickets that are sold.
    reserved: u32,
    /// Tickets of holds that are not over.
    held: u32,
    /// Tickets that can be had.
    remaining: u32,
    created_at: Rfc3339,
    /// Of what an edit can change; sales do not change it.
    updated_at: Rfc3339,
}

body! {
    /// An event to be.
    struct NewEvent {
        /// What it is called.
        name: EventName,
        /// The most tickets that can be reserved at once.
        quota: Quota,
        /// Where it takes place.
        venue: Option<Nullable<Venue>>,
        /// The most tickets of a reservation or hold.
        max_per_reservation: Option<Nullable<Quantity>>,
        /// The most tickets of a customer, over all live reservations and holds of the event.
        max_per_customer: Option<Nullable<Quantity>>,
        /// From when on tickets are sold. Cut to milliseconds.
        sales_start: Option<Nullable<Rfc3339>>,
        /// From when on no more tickets are sold: after `sales_start`. Cut to milliseconds.
        sales_end: Option<Nullable<Rfc3339>>,
    }
    example { "name": "Recital", "quota": 500 }
}

body! {
    /// A merge patch (RFC 7396): what is left out stays as it is, and null removes what is optional.
    struct EventPatch {
        /// What it is called from now on.
        name: Option<EventName>,
        /// Not below what is reserved and held already.
        quota: Option<Quota>,
        /// Where it takes place; null removes it.
        venue: Option<Nullable<Venue>>,
        /// The most tickets of a reservation or hold from now on; null removes the limit.
        max_per_reservation: Option<Nullable<Quantity>>,
        /// The most tickets of a customer, over all live reservations and holds of the event; null removes the
        /// limit. Who has more keeps them.
        max_per_customer: Option<Nullable<Quantity>>,
        /// From when on tickets are sold; null for at once.
        sales_start: Option<Nullable<Rfc3339>>,
        /// From when on no more tickets are sold: after `sales_start`. Null for no end.
        sales_end: Option<Nullable<Rfc3339>>,
        /// The organizer who gets the event; it is no longer its present organizer's.
        organizer: Option<UserId>,
    }
    example { "quota": 600 }
}

query! {
    /// Which page of the events.
    struct EventsQuery {
        /// `me`: only the events of the token's account.
        organizer: Option<Me>,
        /// How many events the page has at most.
        limit: Option<Limit>,
        /// The `next` of the page before; opaque.
        after: Option<Cursor<EventId>>,
    }
}

query! {
    /// How an event is deleted.
    struct DeletionQuery {
        /// Cancels the event's live reservations and holds; without it they refuse the deletion.
        force: Option<bool>,
    }
}

/// The token's account.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Me {
    Me,
}

impl Parameter for Me {
    fn from_text(text: &str) -> Result<Me, String> {
        if text == "me" { Ok(Me::Me) } else { Err("must be `me`".to_owned()) }
    }
}

impl From<EventView> for Event {
    fn from(view: EventView) -> Event {
        let EventView {
            id,
            organizer,
            details,
            reserved,
            held,
            remaining,
            // The ETag.
            version: _,
            created_at,
            updated_at,
        } = view;
        let SalesRules { max_per_reservation, max_per_customer, sales_start, sales_end } = details.rules();
        let EventDetails { name, quota, venue, rules: _ } = details;
        Event {
            id,
            name,
            organizer,
            quota,
            venue,
            max_per_reservation: max_per_reservation.map(Quantity::get),
            max_per_customer: max_per_customer.map(Quantity::get),
            sales_start: sales_start.map(Rfc3339),
            sales_end: sales_end.map(Rfc3339),
            reserved,
            held,
            remaining,
            created_at: Rfc3339(created_at),
            updated_at: Rfc3339(updated_at),
        }
    }
}

fn respond(status: u16, view: EventView) -> Response {
    let tag = entity_tag(view.version);
    json_response(status, &Event::from(view)).with("ETag", tag)
}

fn example() -> Value {
    json!({
        "id": 7,
        "name": "Recital",
        "organizer": 12,
        "quota": 500,
        "venue": "Main hall, 1 Opera Square",
        "max_per_reservation": 4,
        "max_per_customer": 8,
        "sales_start": "2026-03-02T11:00:00.000Z",
        "sales_end": null,
        "reserved": 470,
        "held": 10,
        "remaining": 20,
        "created_at": "2026-03-01T09:00:00.000Z",
        "updated_at": "2026-03-01T09:00:00.000Z",
    })
}

const ETAG: Header = Header {
    name: "ETag",
    about: "The version of what can be edited. Sales do not change an event's.",
    example: "\"3\"",
};

const OF_EVENT: &[Link] = &[
    (&GET, "event", "/id"),
    (&EDIT, "event", "/id"),
    (&DELETE, "event", "/id"),
    (&reservations::CREATE, "event", "/id"),
    (&event_reservations::LIST, "event", "/id"),
    (&holds::CREATE, "event", "/id"),
];
const OF_EVENTS: &[Link] = &[(&GET, "event", "/items/0/id"), (&reservations::CREATE, "event", "/items/0/id")];

pub(super) static CREATE: Endpoint = Endpoint {
    id: "createEvent",
    method: Method::Post,
    path: "/api/v1/events",
    access: Access::Only(&[Role::Organizer], KeyUse::With(Scope::EventsWrite)),
    handler: &Takes(create),
    writes: true,
    headers: &[RequestHeader::IDEMPOTENCY_KEY],
    tag: Tag::Events,
    summary: "Create an event",
    about: "On sale at once, or from `sales_start` on. Its organizer and admins edit it.",
    successes: &[Success::json::<Event>(201, "The event.", example)
        .with(&[Header::location("/api/v1/events/7"), ETAG, Header::REPLAYED])
        .then(OF_EVENT)],
    problems: &[Kind::IdsUsedUp],
};

fn create(context: &RequestContext<'_>, _: NoParameter, _: NoQuery, body: NewEvent) -> Result<Work, Problem> {
    let Actor { user: organizer, role: _, key: api_key } = context.actor();
    let details = new_details(body);
    if !details.rules.have_a_window() {
        // The slot would say so, too, but the event would have used up an id.
        return Err(Rejection::EmptyWindow.into());
    }
    let shards = context.api.shards.clone();
    let common = Arc::clone(&context.api.common);
    let limits = Rc::clone(&context.api.account_limits);
    let key = context.key()?;
    Ok(Work::future(async move {
        let new_id = async || {
            if limits.limits_events() {
                // Requests that are under way at the same time are not counted yet.
                limits.check_events(organizer, shards.events_created(organizer).await?)?;
            }
            common.ids.next_event()
        };
        let Some(key) = key else {
            let id = new_id().await?;
            return Ok(created(
                *shards.create_event(CreateEvent { id, organizer, key: api_key, details }).await?,
            ));
        };
        // The key has its event's id before the event is created, so that whoever repeats the request creates the same
        // one. A request that was let through once is not held against the limits again.
        let id = match shards.given_event_id(key).await? {
            Some(id) => id,
            None => shards.give_event_id(GiveEventId { key, id: new_id().await? }).await?,
        };
        let outcome = shards.create_given_event(CreateEvent { id, organizer, key: api_key, details }).await?;
        Ok(replayed_or_new(outcome, |outcome| created(*view!(Outcome::Event, outcome))))
    }))
}

fn new_details(body: NewEvent) -> NewDetails {
    let NewEvent { name, quota, venue, max_per_reservation, max_per_customer, sales_start, sales_end } = body;
    let rules = SalesRules {
        max_per_reservation: max_per_reservation.and_then(|Nullable(most)| most),
        max_per_customer: max_per_customer.and_then(|Nullable(most)| most),
        sales_start: sales_start.and_then(|Nullable(time)| time).map(|Rfc3339(time)| time),
        sales_end: sales_end.and_then(|Nullable(time)| time).map(|Rfc3339(time)| time),
    };
    NewDetails { name, quota, venue: venue.and_then(|Nullable(venue)| venue), rules }
}

fn created(view: EventView) -> Response {
    let location = format!("/api/v1/events/{}", view.id);
    respond(201, view).with("Location", location)
}

pub(super) static LIST: Endpoint = Endpoint {
    id: "listEvents",
    method: Method::Get,
    path: "/api/v1/events",
    access: Access::Optional(KeyUse::With(Scope::EventsRead)),
    handler: &Takes(list),
    writes: false,
    headers: &[],
    tag: Tag::Events,
    summary: "List the events",
    about: "By id. No snapshot: each shard answers in its own time. `organizer=me` needs a token.",
    successes: &[Success::json::<Page<Event>>(200, "A page.", || page_example(&example(), "7"))
        .with(&[Header::LINK])
        .then(OF_EVENTS)],
    problems: &[],
};

fn list(
    context: &RequestContext<'_>,
    _: NoParameter,
    EventsQuery { organizer, limit, after }: EventsQuery,
    _: NoBody,
) -> Result<Work, Problem> {
    let Limit(limit) = limit.unwrap_or_default();
    let after = after.map(|Cursor(event)| event);
    let (organizer, address) = match organizer {
        Some(Me::Me) => {
            let actor = context.actor_if_given()?.ok_or_else(Problem::no_token)?;
            (Some(actor.user), "/api/v1/events?organizer=me")
        }
        None => (None, "/api/v1/events"),
    };
    let shards = context.api.shards.clone();
    Ok(Work::future(async move {
        let views = shards.events(after, limit + 1, organizer).await?;
        let page: Page<Event> = Page::new(views, limit, |view| view.id.to_string());
        Ok(page.respond(address, limit))
    }))
}

pub(super) static GET: Endpoint = Endpoint {
    id: "getEvent",
    method: Method::Get,
    path: "/api/v1/events/{event}",
    access: Access::Anyone,
    handler: &Takes(get),
    writes: false,
    headers: &[],
    tag: Tag::Events,
    summary: "View an event",
    about: "What is left of its tickets, as of the newest commit.",
    successes: &[Success::json::<Event>(200, "The event.", example).with(&[ETAG, Header::NO_STORE])],
    problems: &[Kind::EventDeleted],
};

fn get(_: &RequestContext<'_>, event: EventId, _: NoQueryFirst, _: NoBody) -> Result<Work, Problem> {
    Ok(Work::query(Query::Event { event }, |outcome| {
        respond(200, *view!(Outcome::Event, outcome)).with("Cache-Control", "no-store".to_owned())
    }))
}

pub(super) static EDIT: Endpoint = Endpoint {
    id: "editEvent",
    method: Method::Patch,
    path: "/api/v1/events/{event}",
    access: Access::Only(&[Role::Organizer, Role::Admin], KeyUse::With(Scope::EventsWrite)),
    handler: &Takes(edit),
    writes: true,
    headers: &[RequestHeader::IF_MATCH],
    tag: Tag::Events,
    summary: "Edit an event",
    about: "For its organizer and for admins. A merge patch (RFC 7396), sent as JSON or as \
            `application/merge-patch+json`. `organizer` hands the event over to another organizer. A quota \
            equal to `reserved` and `held` together closes the event.",
    successes: &[Success::json::<Event>(200, "The event as it is now.", example).with(&[ETAG])],
    problems: &[Kind::NotYours, Kind::VersionMismatch, Kind::QuotaBelowCommitted, Kind::EventDeleted],
};

fn edit(
    context: &RequestContext<'_>,
    event: EventId,
    _: NoQueryFirst,
    body: EventPatch,
) -> Result<Work, Problem> {
    let (changes, organizer) = changes(body);
    let version = context.expected_version()?;
    let edit = EditEvent { event, actor: context.actor(), version, changes, organizer };
    let Some(organizer) = organizer else {
        let command = Command::EditEvent(Box::new(edit));
        return Ok(Work::command(command, |outcome| respond(200, *view!(Outcome::Event, outcome))));
    };
    let shards = context.api.shards.clone();
    Ok(Work::future(async move {
        if is_organizer(&shards, organizer).await? {
            return Ok(respond(200, *shards.edit_event(edit).await?));
        }
        // Refused. But who may not edit the event gets the event's answer, and so does not learn here which
        // ids are organizers: an edit that changes nothing has that answer.
        let nothing = EditEvent { changes: DetailsPatch::default(), organizer: None, ..edit };
        shards.edit_event(nothing).await?;
        let errors = FieldErrors::of("/organizer", "must be the id of an account whose role is organizer");
        Err(Problem::invalid(&errors))
    }))
}

/// The changes of details, and the organizer who gets the event.
fn changes(body: EventPatch) -> (DetailsPatch, Option<UserId>) {
    let EventPatch {
        name,
        quota,
        venue,
        max_per_reservation,
        max_per_customer,
        sales_start,
        sales_end,
        organizer,
    } = body;
    let rules = RulesPatch {
        max_per_reservation: max_per_reservation.map(|Nullable(most)| most),
        max_per_customer: max_per_customer.map(|Nullable(most)| most),
        sales_start: sales_start.map(|Nullable(time)| time.map(|Rfc3339(time)| time)),
        sales_end: sales_end.map(|Nullable(time)| time.map(|Rfc3339(time)| time)),
    };
    (DetailsPatch { name, quota, venue: venue.map(|Nullable(venue)| venue), rules }, organizer)
}

/// Whether an event may be handed over to this account: only if it may also create events. If its role changes
/// after this check, it has an event without being an organizer, as if the role had changed after the hand-over.
async fn is_organizer(shards: &Shards, user: UserId) -> Result<bool, Problem> {
    let account = shards.account_of(user).await?;
    Ok(account.is_some_and(|account| account.role == Role::Organizer && !account.removed))
}

pub(super) static DELETE: Endpoint = Endpoint {
    id: "deleteEvent",
    method: Method::Delete,
    path: "/api/v1/events/{event}",
    access: Access::Only(&[Role::Organizer, Role::Admin], KeyUse::With(Scope::EventsWrite)),
    handler: &Takes(delete),
    writes: true,
    headers: &[RequestHeader::IF_MATCH],
    tag: Tag::Events,
    summary: "Delete an event",
    about: "For its organizer and for admins. It will not come back.",
    successes: &[Success::empty(204, "It is deleted, and its reservations and holds are cancelled.")],
    problems: &[
        Kind::NotYours,
        Kind::VersionMismatch,
        Kind::HasReservations,
        Kind::OrderInDoubt,
        Kind::EventDeleted,
    ],
};

fn delete(
    context: &RequestContext<'_>,
    event: EventId,
    DeletionQuery { force }: DeletionQuery,
    _: NoBody,
) -> Result<Work, Problem> {
    let version = context.expected_version()?;
    let delete = DeleteEvent { event, actor: context.actor(), version, force: force.unwrap_or(false) };
    Ok(Work::command(Command::DeleteEvent(Box::new(delete)), |_| Response::empty(204)))
}
