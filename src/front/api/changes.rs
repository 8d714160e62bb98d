//! Changes: what was decided about events, record by record, for whoever keeps an own copy of it.
//!
//! A change is a record of the log, and is shown once it is committed.

mod change;
mod cursor;
mod lines;
mod pages;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use shards::api_keys::Scope;
use shards::ids::{EventId, Lsn, Role};
use shards::limits::WATCH_MAX;
use shards::outcome::Rejection;
use shards::record::Entry;

use super::common::Common;
use super::context::RequestContext;
use super::endpoint::{Access, Endpoint, Header, KeyUse, Success, Tag, Takes};
use super::input::{Cursor, Limit, NoBody, NoParameter, Parameter, query};
use super::output::{Page, page_example};
use super::work::Work;
use crate::client::{Refused, pause};
use crate::front::http::parse::Method;
use crate::front::http::write::{JSON, NDJSON, Response};
use crate::front::problem::{FieldErrors, Kind, Problem};
use change::{Change, example};
use cursor::{Place, Position};
use lines::{Lines, Of, Start};
use pages::{EventPage, OrganizerPage, Reader};

/// How often a question for the changes of many events looks for some.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How many seconds a question waits for changes.
#[derive(Clone, Copy, Default, JsonSchema)]
#[schemars(transparent)]
struct WaitSeconds(#[schemars(range(min = 0, max = WATCH_MAX.as_secs()), extend("default" = 0))] u64);

impl Parameter for WaitSeconds {
    fn from_text(text: &str) -> Result<WaitSeconds, String> {
        let is_usual =
            text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        let seconds = text.parse().ok().filter(|seconds| is_usual && *seconds <= WATCH_MAX.as_secs());
        seconds
            .map(WaitSeconds)
            .ok_or_else(|| format!("must be a whole number from 0 to {}", WATCH_MAX.as_secs()))
    }
}

query! {
    /// Which changes of an event.
    struct ChangesQuery {
        /// How many changes a page of JSON has at most. Lines have no pages, and refuse it.
        limit: Option<Limit>,
        /// Only those after this position: the `next` of the page before, or the `position` of the last change that
        /// came. Left out, or 0, from the event's first.
        after: Option<Cursor<Position>>,
        /// How many seconds to wait for a change, if there is none. Lines refuse it.
        wait: Option<WaitSeconds>,
    }
}

query! {
    /// Which changes of an organizer's events.
    struct AllChangesQuery {
        /// How many changes a page of JSON has at most. Lines have no pages, and refuse it.
        limit: Option<Limit>,
        /// The `next` of the page before; opaque. Left out, from the first change of each event.
        after: Option<Cursor<Place>>,
        /// How many seconds to wait for a change, if there is none. Lines refuse it.
        wait: Option<WaitSeconds>,
    }
}

const PATH: &str = "/api/v1/events/{event}/changes";
const ALL_PATH: &str = "/api/v1/changes";

const POSITION: Header = Header {
    name: "Boxoffice-Position",
    about: "The `position` of the event's last change when the list began. Later changes are not in it.",
    example: "1041",
};

pub(super) static OF_EVENT: Endpoint = Endpoint {
    id: "listEventChanges",
    method: Method::Get,
    path: PATH,
    access: Access::Only(&[Role::Organizer, Role::Admin], KeyUse::With(Scope::EventsRead)),
    handler: &Takes(of_event),
    writes: false,
    headers: &[],
    tag: Tag::Events,
    summary: "Follow the changes of an event",
    about: "In their order, as they were decided and committed, for its organizer and for admins; those of a deleted event, \
            too. Each names the position of the one before it. Go on with `next`: a page can have fewer changes than \
            `limit`, even none, though there are more. `next` is null when the event is deleted and this is all. \
            With `Accept: application/x-ndjson` an object a line, up to the last change that there is when the list \
            begins; it is complete if the body ends as HTTP says, otherwise go on with `after`.",
    successes: &[
        Success::json::<Page<Change>>(200, "A page, or all changes.", || page_example(&example(), "1041"))
            .with(&[Header::VARY_ACCEPT, Header::NO_STORE, Header::LINK]),
        Success::text("All changes, an object a line.", NDJSON, lines::EXAMPLE).with(&[
            Header::VARY_ACCEPT,
            Header::NO_STORE,
            POSITION,
        ]),
    ],
    problems: &[Kind::NotYours, Kind::LogUnreadable],
};

pub(super) static OF_ORGANIZER: Endpoint = Endpoint {
    id: "listChanges",
    method: Method::Get,
    path: ALL_PATH,
    access: Access::Only(&[Role::Organizer], KeyUse::With(Scope::EventsRead)),
    handler: &Takes(of_organizer),
    writes: false,
    headers: &[],
    tag: Tag::Events,
    summary: "Follow the changes of all your events",
    about: "Those of one event are in their order; between events there is none. Of an event that was handed over to you, \
            those that this list has not passed yet: read the others with the event's own changes. Go on with `next`: \
            a page can have fewer changes than `limit`, even none, though there are more. A question that waits looks for \
            changes twice a second. Admins read the changes of each event.",
    successes: &[
        Success::json::<Page<Change>>(200, "A page, or all changes.", || {
            page_example(&example(), "8~7.1041")
        })
        .with(&[Header::VARY_ACCEPT, Header::NO_STORE, Header::LINK]),
        Success::text("All changes, an object a line.", NDJSON, lines::EXAMPLE)
            .with(&[Header::VARY_ACCEPT, Header::NO_STORE]),
    ],
    problems: &[Kind::LogUnreadable],
};

fn reader(context: &RequestContext<'_>) -> Reader {
    let old_records = context.api.common.old_records.clone();
    Reader { actor: context.actor(), shards: context.api.shards.clone(), old_records }
}

/// Refuses what only pages have.
fn check_of_lines(limit: Option<Limit>, wait: Option<WaitSeconds>) -> Result<(), Problem> {
    let mut errors = FieldErrors::default();
    for (name, is_there) in [("?limit", limit.is_some()), ("?wait", wait.is_some())] {
        if is_there {
            let rule =
                format!("is for pages of JSON, and {NDJSON} has none: leave it out, or ask for {JSON}");
            errors.add(|| name.to_owned(), rule);
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(&errors)) }
}

fn of_event(
    context: &RequestContext<'_>,
    event: EventId,
    ChangesQuery { limit, after, wait }: ChangesQuery,
    _: NoBody,
) -> Result<Work, Problem> {
    let reader = reader(context);
    let after = after.map_or(Lsn(0), |Cursor(Position(after))| after);
    if context.form()? == NDJSON {
        check_of_lines(limit, wait)?;
        let token = Rc::new(context.lasting_token()?);
        return Ok(Work::future(async move {
            let up_to = reader.event(event, Lsn(u64::MAX), 1).await?.position;
            let of = Of::Event { event, up_to };
            Lines { reader, of, token }.begin(Start::After(after)).await
        }));
    }
    let Limit(limit) = limit.unwrap_or_default();
    let wait = Wait::new(wait, context);
    Ok(Work::future(async move {
        let page = event_page(&reader, event, after, limit, &wait).await?;
        let is_over = page.is_deleted && page.is_last();
        let next = (!is_over).then(|| page.complete_to.to_string());
        Ok(respond(page.entries, next, &PATH.replace("{event}", &event.to_string()), limit))
    }))
}

fn of_organizer(
    context: &RequestContext<'_>,
    _: NoParameter,
    AllChangesQuery { limit, after, wait }: AllChangesQuery,
    _: NoBody,
) -> Result<Work, Problem> {
    let reader = reader(context);
    let place = after.map_or_else(Place::default, |Cursor(place)| place);
    if context.form()? == NDJSON {
        check_of_lines(limit, wait)?;
        let token = Rc::new(context.lasting_token()?);
        return Ok(Work::future(async move {
            let of = Of::Organizer { up_to: reader.ends(&place).await?.into() };
            Lines { reader, of, token }.begin(Start::Place(place)).await
        }));
    }
    let Limit(limit) = limit.unwrap_or_default();
    let wait = Wait::new(wait, context);
    Ok(Work::future(async move {
        let page = organizer_page(&reader, place, limit, &wait).await?;
        Ok(respond(page.entries, Some(page.next.to_string()), ALL_PATH, limit))
    }))
}

fn respond(entries: Vec<Entry>, next: Option<String>, address: &str, limit: usize) -> Response {
    let changes = entries.into_iter().filter_map(Change::of).collect();
    Page::up_to(changes, next)
        .respond(address, limit)
        .with(Header::VARY_ACCEPT.name, "Accept".to_owned())
        .with(Header::NO_STORE.name, "no-store".to_owned())
}

/// Until when a question waits.
struct Wait {
    until: Instant,
    common: Arc<Common>,
}

impl Wait {
    fn new(wait: Option<WaitSeconds>, context: &RequestContext<'_>) -> Wait {
        let WaitSeconds(seconds) = wait.unwrap_or_default();
        let until = Instant::now() + Duration::from_secs(seconds);
        Wait { until, common: Arc::clone(&context.api.common) }
    }

    /// What is left; `None` when it is over, or the server drains.
    fn left(&self) -> Option<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        let drains = self.common.draining.load(Ordering::Relaxed);
        Some(left).filter(|left| !drains && !left.is_zero())
    }
}

/// A page of an event's changes, as soon as there is one, or when the time is over.
async fn event_page(
    reader: &Reader,
    event: EventId,
    after: Lsn,
    limit: usize,
    wait: &Wait,
) -> Result<EventPage, Refused> {
    loop {
        let page = reader.event(event, after, limit).await?;
        let is_news = !page.entries.is_empty() || page.complete_to > after || page.is_deleted;
        let Some(left) = wait.left().filter(|_| !is_news) else { return Ok(page) };
        // What is not on the page though it is there was not committed when the page was made, and is now.
        if page.is_last() {
            match reader.shards.watch(event, page.position, left).await {
                Ok(_) | Err(Refused::Rejected(Rejection::EventDeleted)) => {}
                Err(refused) => return Err(refused),
            }
        }
    }
}

/// The same for the changes of many events.
async fn organizer_page(
    reader: &Reader,
    place: Place,
    limit: usize,
    wait: &Wait,
) -> Result<OrganizerPage, Refused> {
    loop {
        let page = reader.organizer(place.clone(), None, limit).await?;
        let is_news = !page.entries.is_empty() || page.has_more;
        let Some(left) = wait.left().filter(|_| !is_news) else { return Ok(page) };
        pause(left.min(LOOK_EVERY)).await;
    }
}
