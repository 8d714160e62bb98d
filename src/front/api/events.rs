//! Events: create, list, view, edit, delete.

use serde::Serialize;
use shards::command::{CreateEvent, EditEvent};
use shards::ids::{EventId, UserId};
use shards::outcome::EventView;

use super::input::{Body, PageRequest, Query, event_name, quota, truth};
use super::{Answer, Api, Call, Page, Rfc3339, Running, json_response};
use crate::front::http::write::Response;
use crate::front::problem::Problem;

#[derive(Serialize)]
struct Event {
    id: EventId,
    name: Box<str>,
    organizer: UserId,
    quota: u32,
    reserved: u32,
    held: u32,
    remaining: u32,
    created_at: Rfc3339,
    updated_at: Rfc3339,
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
    Query::read(call.request).finish()?;
    let mut body = Body::read(call.request)?;
    let name = body.required("name", event_name);
    let quota = body.required("quota", quota);
    body.finish()?;
    let (Some(name), Some(quota)) = (name, quota) else { unreachable!("an error would have been noted") };
    let organizer = call.actor().user;
    let shards = api.shards.clone();
    let id = api.common.ids.next_event();
    Ok(Box::pin(async move {
        let view = shards.create_event(CreateEvent { id, organizer, name, quota }).await?;
        Ok(respond(201, *view).with("Location", format!("/api/v1/events/{id}")))
    }))
}

pub(super) fn list(api: &Api, call: &Call<'_>) -> Answer {
    let mut query = Query::read(call.request);
    let mine = query.take("organizer", |text| match text {
        "me" => Ok(()),
        _ => Err("must be `me`".to_owned()),
    });
    let PageRequest { limit, after } = query.take_page();
    query.finish()?;
    // Without `organizer` the route is open, and does not look at tokens.
    let asker = match mine {
        None => None,
        Some(()) => Some(api.asker(call.request).ok_or_else(Problem::unauthorized)?),
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
    Query::read(call.request).finish()?;
    let id = call.event()?;
    let shards = api.shards.clone();
    Ok(Box::pin(async move {
        let view = shards.event(id).await?;
        Ok(respond(200, *view).with("Cache-Control", "no-store".to_owned()))
    }))
}

/// A merge patch (RFC 7396) of `name` and `quota`; neither can be removed.
pub(super) fn edit(api: &Api, call: &Call<'_>) -> Answer {
    Query::read(call.request).finish()?;
    let event = call.event()?;
    let mut body = Body::read(call.request)?;
    let name = body.optional("name", event_name);
    let quota = body.optional("quota", quota);
    body.finish()?;
    let actor = call.actor();
    let shards = api.shards.clone();
    Ok(Box::pin(async move {
        let view = shards.edit_event(EditEvent { event, actor, name, quota }).await?;
        Ok(respond(200, *view))
    }))
}

pub(super) fn delete(api: &Api, call: &Call<'_>) -> Answer {
    let event = call.event()?;
    let mut query = Query::read(call.request);
    let force = query.take("force", truth).unwrap_or(false);
    query.finish()?;
    let actor = call.actor();
    let shards = api.shards.clone();
    Ok(Box::pin(async move {
        shards.delete_event(event, actor, force).await?;
        Ok(Response::empty(204))
    }))
}
