//! The live stream of availability: server-sent events, as browsers' `EventSource` reads them.
//!
//! A stream keeps the position of each event up to which its client has messages, and no messages: a slow reader gets
//! the latest state when it has read what came before, or is dropped when it reads nothing.

use std::rc::Rc;
use std::task::{Context, Poll};

use shards::ids::{EventId, Lsn};
use shards::outcome::Rejection;

use super::AvailabilityQuery;
use crate::client::{Refused, Shards};
use crate::front::api::context::RequestContext;
use crate::front::api::endpoint::{Access, Endpoint, Header, RequestHeader, Success, Tag, Takes};
use crate::front::api::input::{EventIds, NoBody, NoParameter, NoQuery};
use crate::front::api::output::append_all;
use crate::front::api::work::Work;
use crate::front::http::body::{Body, BodyStream, Piece};
use crate::front::http::parse::{Method, Request};
use crate::front::http::write::{EVENT_STREAM, Response};
use crate::front::live::{Follower, Heard, Hub, News};
use crate::front::problem::{Kind, Problem};
use crate::random;

const UNBUFFERED: Header = Header {
    name: "X-Accel-Buffering",
    about: "Tells a proxy to pass on what comes at once.",
    example: "no",
};
const HEADERS: &[Header] = &[Header::NO_STORE, UNBUFFERED];

/// The time after which clients come back to a server that drained, in milliseconds: somewhere in this range, so that
/// they do not come all at once.
const RETRY_MS: std::ops::Range<u64> = 500..2500;

pub(in crate::front::api) static OF_EVENT: Endpoint = Endpoint {
    id: "streamAvailability",
    method: Method::Get,
    path: "/api/v1/events/{event}/availability/stream",
    access: Access::Anyone,
    handler: &Takes(of_event),
    writes: false,
    headers: &[RequestHeader::LAST_EVENT_ID],
    tag: Tag::Events,
    summary: "Follow the tickets of an event",
    about: "Server-sent events, for `EventSource`: the tickets now, and after each change, at most 10 times a second; \
            changes in between are one message. The id of a message is the `position`. A comment comes at least \
            every 16 seconds. When the event is deleted, `event: deleted` is the last message.",
    successes: &[Success::text(
        "The stream.",
        EVENT_STREAM,
        "data: {\"event\":7,\"quota\":500,\"reserved\":480,\"held\":0,\"remaining\":20,\"position\":1041}\nid: 1041\n\n",
    )
    .with(HEADERS)],
    problems: &[Kind::EventDeleted],
};

pub(in crate::front::api) static OF_SEVERAL: Endpoint = Endpoint {
    id: "streamAvailabilities",
    method: Method::Get,
    path: "/api/v1/availability/stream",
    access: Access::Anyone,
    handler: &Takes(of_several),
    writes: false,
    headers: &[RequestHeader::LAST_EVENT_ID],
    tag: Tag::Events,
    summary: "Follow the tickets of several events",
    about: "The streams of 1 to 100 events in one. Unknown and deleted events are left out; if there is no other, 404. \
            The ids of messages are opaque.",
    successes: &[Success::text(
        "The stream.",
        EVENT_STREAM,
        "data: {\"event\":7,\"quota\":500,\"reserved\":480,\"held\":0,\"remaining\":20,\"position\":1041}\nid: 7:1041\n\n",
    )
    .with(HEADERS)],
    problems: &[Kind::NotFound],
};

fn of_event(context: &RequestContext<'_>, event: EventId, _: NoQuery, _: NoBody) -> Result<Work, Problem> {
    let seen = last_event_id(context.request).and_then(|id| id.parse().ok()).map(Lsn);
    let (shards, hub) = (context.api.shards.clone(), Rc::clone(&context.api.hub));
    Ok(Work::future(async move {
        let view = shards.availability(event).await?;
        let follower = hub.follow(view)?;
        Ok(respond(vec![Followed::new(follower, seen, view.position)], Vec::new(), Form::OfEvent))
    }))
}

fn of_several(
    context: &RequestContext<'_>,
    _: NoParameter,
    AvailabilityQuery { ids: EventIds(events) }: AvailabilityQuery,
    _: NoBody,
) -> Result<Work, Problem> {
    let seen: Vec<(EventId, Lsn)> = last_event_id(context.request).and_then(positions_of).unwrap_or_default();
    let (shards, hub) = (context.api.shards.clone(), Rc::clone(&context.api.hub));
    Ok(Work::future(async move { begin_several(&shards, &hub, events, &seen).await }))
}

async fn begin_several(
    shards: &Shards,
    hub: &Rc<Hub>,
    events: Vec<EventId>,
    seen: &[(EventId, Lsn)],
) -> Result<Response, Problem> {
    let views = shards.availabilities(events.clone().into()).await?;
    if views.is_empty() {
        return Err(Refused::Rejected(Rejection::EventNotFound).into());
    }
    let has = |event| views.iter().any(|view| view.event == event);
    let is_gone = |event: &EventId| events.contains(event) && !has(*event);
    let gone = seen.iter().map(|(event, _)| *event).filter(is_gone).map(News::deleted).collect();
    let mut followed = Vec::with_capacity(views.len());
    for view in views {
        let seen = seen.iter().find(|(event, _)| *event == view.event).map(|(_, position)| *position);
        followed.push(Followed::new(hub.follow(view)?, seen, view.position));
    }
    Ok(respond(followed, gone, Form::OfSeveral))
}

fn last_event_id<'a>(request: &Request<'a>) -> Option<&'a str> {
    request.header(RequestHeader::LAST_EVENT_ID.name)
}

/// The positions in the id of a message about one of several events; `None` if it is no such id.
fn positions_of(id: &str) -> Option<Vec<(EventId, Lsn)>> {
    let pair = |text: &str| {
        let (event, position) = text.split_once(':')?;
        Some((EventId(event.parse().ok()?), Lsn(position.parse().ok()?)))
    };
    id.split(',').map(pair).collect()
}

fn respond(followed: Vec<Followed>, gone: Vec<News>, form: Form) -> Response {
    let stream = Stream { followed, gone, form, is_draining: false };
    let response = Response::empty(200)
        .with(Header::NO_STORE.name, "no-store".to_owned())
        .with(UNBUFFERED.name, "no".to_owned());
    Response { content_type: Some(EVENT_STREAM), body: Body::Stream(Box::new(stream)), ..response }
}

#[derive(Clone, Copy)]
enum Form {
    OfEvent,
    OfSeveral,
}

struct Stream {
    followed: Vec<Followed>,
    /// Events of which the client does not know yet that they are deleted.
    gone: Vec<News>,
    form: Form,
    is_draining: bool,
}

struct Followed {
    follower: Follower,
    /// The position up to which the client has messages.
    seen: Lsn,
}

impl Followed {
    /// `now` is the event's position. One who has seen a later one has it from elsewhere: a copy of the data, say.
    fn new(follower: Follower, seen: Option<Lsn>, now: Lsn) -> Followed {
        let seen = seen.filter(|&seen| seen <= now).unwrap_or(Lsn(0));
        Followed { follower, seen }
    }
}

impl Stream {
    /// Appends what is new. Returns whether the client is to hear that the server is there.
    fn append_news(&mut self, context: &Context<'_>, output: &mut Vec<u8>) -> bool {
        let start = output.len();
        let mut append = |news: &News| {
            if output.len() > start {
                output.push(b'\n');
            }
            output.extend_from_slice(&news.lines);
        };
        std::mem::take(&mut self.gone).iter().for_each(&mut append);
        let mut beats = false;
        self.followed.retain_mut(|one| match one.follower.poll_news(one.seen, context) {
            Poll::Ready(Heard::News(news)) => {
                append(&news);
                one.seen = news.position.unwrap_or(one.seen);
                news.position.is_some()
            }
            Poll::Ready(Heard::Beat) => {
                beats = true;
                true
            }
            Poll::Pending => true,
        });
        if output.len() > start {
            self.append_id(output);
            output.push(b'\n');
        }
        beats
    }

    /// Appends the id of the last of several messages. A client that got the others only gets them again.
    fn append_id(&self, output: &mut Vec<u8>) {
        for (index, Followed { follower, seen }) in self.followed.iter().enumerate() {
            let seen = seen.0.to_string();
            match self.form {
                Form::OfEvent => append_all(output, [b"id: ", seen.as_bytes()]),
                Form::OfSeveral => {
                    let event = follower.event().to_string();
                    let before: &[u8] = if index == 0 { b"id: " } else { b"," };
                    append_all(output, [before, event.as_bytes(), b":", seen.as_bytes()]);
                }
            }
        }
        if !self.followed.is_empty() {
            output.push(b'\n');
        }
    }
}

impl BodyStream for Stream {
    fn length(&self) -> Option<u64> {
        None
    }

    fn poll_piece(&mut self, context: &mut Context<'_>, output: &mut Vec<u8>) -> Poll<Piece> {
        if self.is_draining {
            let retry = RETRY_MS.start + random::u64() % (RETRY_MS.end - RETRY_MS.start);
            append_all(output, [b"retry: ", retry.to_string().as_bytes(), b"\n\n"]);
            return Poll::Ready(Piece::Last);
        }
        let start = output.len();
        let beats = self.append_news(context, output);
        if self.followed.is_empty() {
            return Poll::Ready(Piece::Last);
        }
        if output.len() == start {
            if !beats {
                return Poll::Pending;
            }
            output.extend_from_slice(b":\n\n");
        }
        Poll::Ready(Piece::More)
    }

    fn is_live(&self) -> bool {
        true
    }

    /// Ends the stream with the time after which the client comes back.
    fn drain(&mut self) {
        self.is_draining = true;
    }
}
