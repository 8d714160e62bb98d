//! Events: create, list, view, edit, delete.

use schemars::JsonSchema;
use serde::Serialize;
use shards::command::{CreateEvent, EditEvent, EventName};
use shards::ids::{EventId, Quota, UserId};
use shards::outcome::EventView;

use super::input::{Cursor, Limit, Parameter, body, no_query, query};
use super::output::{Page, Rfc3339, json_response};
use super::{Answer, Api, Call, Running};
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

pub(super) fn create(api: &Api, call: &Call<'_>) -> Answer {
    no_query(call.request)?;
    let NewEvent { name, quota } = NewEvent::read(call.request)?;
    let organizer = call.actor().user;
    let shards = api.shards.clone();
    let id = api.common.ids.next_event();
    Ok(Box::pin(async move {
        let view = shards.create_event(CreateEvent { id, organizer, name, quota }).await?;
        Ok(respond(201, *view).with("Location", format!("/api/v1/events/{id}")))
    }))
}

pub(super) fn list(api: &Api, call: &Call<'_>) -> Answer {
    let EventsQuery { limit, after, organizer } = EventsQuery::read(call.request)?;
    let Limit(limit) = limit.unwrap_or_default();
    let after = after.map(|Cursor(event)| event);
    // Without `organizer` the route is open, and does not look at tokens.
    let asker = match organizer {
        None => None,
        Some(Me::Me) => Some(api.asker(call.request).ok_or_else(Problem::unauthorized)?),
    };
    let organizer = asker.as_ref().map(|asker| asker.identity.actor.user);
    let shards = api.shards.clone();
    let answer: Running = Box::pin(async move {
        let views = shards.events(after, limit + 1, organizer).await?;
        let page: Page<Event> = Page::new(views, limit, |view| view.id.to_string());
        let address = if organizer.is_some() { "/api/v1/events?organizer=me" } else { "/api/v1/events" };
        Ok(page.respond(address, limit))
    });
    match asker {
        None => Ok(answer),
        Some(asker) => asker.before(Ok(answer)),
    }
}

pub(super) fn get(api: &Api, call: &Call<'_>) -> Answer {
    no_query(call.request)?;
    let id = call.event()?;
    let shards = api.shards.clone();
    Ok(Box::pin(async move {
        let view = shards.event(id).await?;
        Ok(respond(200, *view).with("Cache-Control", "no-store".to_owned()))
    }))
}

pub(super) fn edit(api: &Api, call: &Call<'_>) -> Answer {
    no_query(call.request)?;
    let event = call.event()?;
    let EventPatch { name, quota } = EventPatch::read(call.request)?;
    let actor = call.actor();
    let shards = api.shards.clone();
    Ok(Box::pin(async move {
        let view = shards.edit_event(EditEvent { event, actor, name, quota }).await?;
        Ok(respond(200, *view))
    }))
}

pub(super) fn delete(api: &Api, call: &Call<'_>) -> Answer {
    let event = call.event()?;
    let force = DeletionQuery::read(call.request)?.force.unwrap_or(false);
    let actor = call.actor();
    let shards = api.shards.clone();
    Ok(Box::pin(async move {
        shards.delete_event(event, actor, force).await?;
        Ok(Response::empty(204))
    }))
}
