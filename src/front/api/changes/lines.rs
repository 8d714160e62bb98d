//! Changes as lines of JSON, up to the end that they had when the list began.

use std::rc::Rc;

use shards::command::SlotPositions;
use shards::ids::{EventId, Lsn};
use shards::limits::{CUSTOMER_REF_CHARS_MAX, EVENT_NAME_CHARS_MAX, VENUE_CHARS_MAX};
use shards::record::Entry;

use super::change::Change;
use super::cursor::Place;
use super::pages::Reader;
use crate::client::{Refused, patiently};
use crate::front::api::authentication::LastingToken;
use crate::front::api::endpoint::Header;
use crate::front::api::output::ToJson;
use crate::front::api::slices::{NextSlice, Slice, Sliced, Slices};
use crate::front::http::body::Body;
use crate::front::http::write::{NDJSON, Response};
use crate::front::problem::Problem;

/// The changes of a slice: at most some 100 KiB of memory for usual ones, while its client reads.
const SLICE: usize = 500;

pub(super) const EXAMPLE: &str = "{\"event\":7,\"position\":1041,\"previous\":1039,\"kind\":\"reserved\",\
    \"at\":\"2026-03-02T12:00:00.017Z\",\"by\":31,\"reservation\":\"7-42\",\"customer\":31,\"sale\":\"sale\",\"quantity\":2}\n";

/// Of which events.
#[derive(Clone)]
pub(super) enum Of {
    Event { event: EventId, up_to: Lsn },
    Organizer { up_to: Rc<SlotPositions> },
}

/// Where the rest begins, by what it is of.
#[derive(Clone)]
pub(super) enum Start {
    After(Lsn),
    Place(Place),
}

pub(super) struct Lines {
    pub(super) reader: Reader,
    pub(super) of: Of,
    pub(super) token: Rc<LastingToken>,
}

impl Lines {
    /// Asks for the first slice.
    ///
    /// # Errors
    ///
    /// Those of a page.
    pub(super) async fn begin(self, start: Start) -> Result<Response, Problem> {
        let first = self.slice(start).await?;
        let position = match &self.of {
            Of::Event { up_to, .. } => Some(*up_to),
            Of::Organizer { .. } => None,
        };
        let mut response = Response::empty(200)
            .with(Header::VARY_ACCEPT.name, "Accept".to_owned())
            .with(Header::NO_STORE.name, "no-store".to_owned());
        if let Some(position) = position {
            response = response.with(super::POSITION.name, position.to_string());
        }
        let body = Body::Stream(Box::new(Sliced::new(self, first, b"")));
        Ok(Response { content_type: Some(NDJSON), body, ..response })
    }

    async fn slice(&self, start: Start) -> Result<Slice<Lines>, Refused> {
        slice(&self.reader, &self.of, start).await
    }
}

async fn slice(reader: &Reader, of: &Of, start: Start) -> Result<Slice<Lines>, Refused> {
    match (of, start) {
        (&Of::Event { event, up_to }, Start::After(after)) => {
            let mut page = reader.event(event, after, SLICE).await?;
            page.entries.retain(|entry| entry.lsn <= up_to);
            let next = (page.complete_to < up_to).then_some(Start::After(page.complete_to));
            Ok(Slice { items: page.entries, next })
        }
        (Of::Organizer { up_to }, Start::Place(place)) => {
            let page = reader.organizer(place, Some(up_to), SLICE).await?;
            Ok(Slice { items: page.entries, next: page.has_more.then_some(Start::Place(page.next)) })
        }
        (Of::Event { .. }, Start::Place(_)) | (Of::Organizer { .. }, Start::After(_)) => {
            unreachable!("a list goes on as it began")
        }
    }
}

impl Slices for Lines {
    type Item = Entry;
    type Place = Start;
    /// Names of members, numbers, and texts of at most four bytes a character.
    const LINE_BYTES_MAX: usize =
        1024 + 4 * (EVENT_NAME_CHARS_MAX + VENUE_CHARS_MAX + CUSTOMER_REF_CHARS_MAX);

    fn ask(&self, start: Start) -> NextSlice<Lines> {
        let (reader, of, token) = (self.reader.clone(), self.of.clone(), Rc::clone(&self.token));
        Box::pin(async move {
            let slice = patiently(async || slice(&reader, &of, start.clone()).await).await.ok()?;
            let stands = patiently(async || token.stands().await).await.ok()?;
            stands.then_some(slice)
        })
    }

    fn append_line(&self, entry: &Entry, output: &mut Vec<u8>) {
        if let Some(change) = Change::of(entry.clone()) {
            change.append_to(output);
            output.push(b'\n');
        }
    }
}
