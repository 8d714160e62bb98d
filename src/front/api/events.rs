//! Events: create, list, view, edit, delete.

use schemars::JsonSchema;
use serde::Serialize;
use shards::command::{Command, CreateEvent, EditEvent, EventName, Query};
use shards::ids::{EventId, Quota, UserId};
use shards::outcome::{EventView, Outcome};

use super::authentication::Sender;
use super::input::{Cursor, Limit, Parameter, body, no_query, query};
use super::output::{Page, Rfc3339, json_response};
use super::work::Work;
use super::{Api, Call};
use crate::client::view;
use crate::front::http::write::Response;
use crate::front::problem::Problem;

/// An event. `quota = reserved + held + remaining`, in every answer.
#[derive(Serialize, JsonSchema)]
pub(in crate::front) struct Event {
    id: EventId,
    #[schemars(with = "EventName")]
    name: Box<str>,
    /// The account that created it.
    organizer: UserId,
    #[schemars(with = "Quota")]
    quota: u32,
    /// Tickets that are sold.
    reserved: u32,
    /// Tickets that are set aside; 0 for now.
    held: u32,
    /// Tickets that can be had.
    remaining: u32,
    created_at: Rfc3339,
    /// Of the name or the quota; sales do not change it.
    updated_at: Rfc3339,
}

body! {
    /// An event to be.
    struct NewEvent {
        /// What it is called.
        name: EventName,
        /// The most tickets that can be reserved at once.
        quota: Quota,
    }
}

body! {
    /// A merge patch (RFC 7396): what is left out stays as it is; neither can be removed.
    struct EventPatch {
        /// What it is called from now on.
        name: Option<EventName>,
        /// Not below what is reserved already.
        quota: Option<Quota>,
    }
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
        /// Cancels the event's live reservations; without it they refuse the deletion.
        force: Option<bool>,
    }
}

/// The token's account.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(in crate::front) enum Me {
    Me,
}

impl Parameter for Me {
    fn from_text(text: &str) -> Result<Me, String> {
        if text == "me" { Ok(Me::Me) } else { Err("must be `me`".to_owned()) }
    }
}

impl From<EventView> for Event {
    fn from(view: EventView) -> Event {
        Event {
            id: view.id,
            name: view.name,
            organizer: view.organizer,
            quota: view.quota,
            reserved: view.reserved,
            held: view.held,
            remaining: view.remaining,
            created_at: Rfc3339(view.created_at),
            updated_at: Rfc3339(view.updated_at),
        }
    }
}

fn respond(status: u16, view: EventView) -> Response {
    let version = format!("\"{}\"", view.version);
    json_response(status, &Event::from(view)).with("ETag", version)
}

pub(super) fn create(api: &Api, call: &Call<'_>) -> Result<Work, Problem> {
    no_query(call.request)?;
    let NewEvent { name, quota } = NewEvent::read(call.request)?;
    let organizer = call.actor().user;
    let id = api.common.ids.next_event();
    let command = Command::CreateEvent(Box::new(CreateEvent { id, organizer, name, quota }));
    Ok(Work::command(command, |outcome| {
        let view = view!(Outcome::Event, outcome);
        let location = format!("/api/v1/events/{}", view.id);
        respond(201, *view).with("Location", location)
    }))
}

pub(super) fn list(api: &Api, call: &Call<'_>) -> Result<Work, Problem> {
    let EventsQuery { limit, after, organizer } = EventsQuery::read(call.request)?;
    let Limit(limit) = limit.unwrap_or_default();
    let after = after.map(|Cursor(event)| event);
    // Without `organizer` the route is open, and does not look at tokens.
    let sender = match organizer {
        None => None,
        Some(Me::Me) => Some(Sender::of(call.request, api).ok_or_else(Problem::unauthorized)?),
    };
    let organizer = sender.as_ref().map(|sender| sender.identity.actor.user);
    let shards = api.shards.clone();
    let work = Work::future(async move {
        let views = shards.events(after, limit + 1, organizer).await?;
        let page: Page<Event> = Page::new(views, limit, |view| view.id.to_string());
        let address = if organizer.is_some() { "/api/v1/events?organizer=me" } else { "/api/v1/events" };
        Ok(page.respond(address, limit))
    });
    match sender.and_then(|sender| sender.token_check) {
        Some(check) => Ok(Work::future(check.before(Ok(work)))),
        None => Ok(work),
    }
}

pub(super) fn get(_: &Api, call: &Call<'_>) -> Result<Work, Problem> {
    no_query(call.request)?;
    let event = call.event()?;
    Ok(Work::query(Query::Event { event }, |outcome| {
        respond(200, *view!(Outcome::Event, outcome)).with("Cache-Control", "no-store".to_owned())
    }))
}

pub(super) fn edit(_: &Api, call: &Call<'_>) -> Result<Work, Problem> {
    no_query(call.request)?;
    let event = call.event()?;
    let EventPatch { name, quota } = EventPatch::read(call.request)?;
    let command = Command::EditEvent(Box::new(EditEvent { event, actor: call.actor(), name, quota }));
    Ok(Work::command(command, |outcome| respond(200, *view!(Outcome::Event, outcome))))
}

pub(super) fn delete(_: &Api, call: &Call<'_>) -> Result<Work, Problem> {
    let event = call.event()?;
    let DeletionQuery { force } = DeletionQuery::read(call.request)?;
    let command = Command::DeleteEvent { event, actor: call.actor(), force: force.unwrap_or(false) };
    Ok(Work::command(command, |_| Response::empty(204)))
}
