//! The whole list of an event's reservations, as a body that is made while its client reads it.
//!
//! Each slice is one question to the event's shard and one for the usernames, and is asked for when the one before is
//! written. So a list of any length takes the memory of a slice, delays no sale, and goes as fast as its reader.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::{mem, vec};

use shards::limits::CUSTOMER_REF_CHARS_MAX;

use super::{EventReservation, POSITION, Slice, Wanted, csv};
use crate::client::{Shards, patiently};
use crate::front::api::authentication::LastingToken;
use crate::front::api::endpoint::Header;
use crate::front::api::output::ToJson;
use crate::front::http::body::{Body, BodyStream, PIECE_BYTES_MAX, Piece};
use crate::front::http::write::{CSV, Response};
use crate::front::problem::Problem;

/// The reservations of a slice. It takes a shard some 0.1 ms, and 60 KiB of memory while its client reads; 300 KiB with
/// the longest refs.
const SLICE: usize = 500;

/// The most bytes of a line: names of members, three times, a username, numbers, and a ref of four bytes a character.
const LINE_BYTES_MAX: usize = 512 + 4 * CUSTOMER_REF_CHARS_MAX;

pub(super) const NDJSON_EXAMPLE: &str = "{\"id\":\"7-42\",\"event\":7,\"customer\":31,\"kind\":\"sale\",\"quantity\":2,\
    \"status\":\"confirmed\",\"created_at\":\"2026-03-02T12:00:00.017Z\",\"customer_name\":\"ada\"}\n";

/// The next slice; `None` if the list cannot go on.
type NextSlice = Pin<Box<dyn Future<Output = Option<Slice>>>>;

pub(super) struct List {
    wanted: Wanted,
    form: &'static str,
    token: Rc<LastingToken>,
    shards: Shards,
    /// What is left of the slice.
    items: vec::IntoIter<EventReservation>,
    next: Next,
    /// Bytes before the next line.
    header: &'static [u8],
}

/// What follows the slice.
enum Next {
    /// More, after this number.
    After(u32),
    Asked(NextSlice),
    Nothing,
    /// The server drains, or the list cannot go on.
    BrokenOff,
}

impl List {
    pub(super) fn new(wanted: Wanted, form: &'static str, token: LastingToken, shards: Shards) -> List {
        let header = if form == CSV { csv::HEADER } else { b"" };
        let (token, items) = (Rc::new(token), Vec::new().into_iter());
        List { wanted, form, token, shards, items, next: Next::Nothing, header }
    }

    /// Asks for the first slice, which decides what the list has.
    ///
    /// # Errors
    ///
    /// Those of every list of an event's reservations.
    pub(super) async fn begin(mut self) -> Result<Response, Problem> {
        let slice = self.wanted.clone().slice(&self.shards, SLICE).await?;
        self.wanted.up_to = Some(slice.last);
        let (event, form) = (self.wanted.event, self.form);
        let position = slice.position.to_string();
        self.take(slice);
        let mut response = Response::empty(200)
            .with(Header::VARY_ACCEPT.name, "Accept".to_owned())
            .with(Header::NO_STORE.name, "no-store".to_owned())
            .with(POSITION.name, position);
        if form == CSV {
            let name = format!("attachment; filename=\"event-{event}-reservations.csv\"");
            response = response.with("Content-Disposition", name);
        }
        Ok(Response { content_type: Some(form), body: Body::Stream(Box::new(self)), ..response })
    }

    fn take(&mut self, slice: Slice) {
        self.items = slice.items.into_iter();
        self.next = slice.next.map_or(Next::Nothing, Next::After);
    }

    /// Asks for the slice after a number, and whether the client may still see it.
    fn ask(&self, after: u32) -> NextSlice {
        let wanted = Wanted { after: Some(after), ..self.wanted.clone() };
        let (shards, token) = (self.shards.clone(), Rc::clone(&self.token));
        Box::pin(async move {
            let slice = patiently(async || wanted.clone().slice(&shards, SLICE).await).await.ok()?;
            let stands = patiently(async || token.stands().await).await.ok()?;
            stands.then_some(slice)
        })
    }

    /// Appends as many lines as a piece has room for.
    fn append_lines(&mut self, output: &mut Vec<u8>) {
        let end = output.len() + PIECE_BYTES_MAX - LINE_BYTES_MAX;
        output.extend_from_slice(mem::take(&mut self.header));
        while output.len() <= end
            && let Some(item) = self.items.next()
        {
            if self.form == CSV {
                csv::append_row(&item, output);
            } else {
                item.append_to(output);
                output.push(b'\n');
            }
        }
    }
}

impl BodyStream for List {
    fn length(&self) -> Option<u64> {
        None
    }

    fn poll_piece(&mut self, context: &mut Context<'_>, output: &mut Vec<u8>) -> Poll<Piece> {
        loop {
            let start = output.len();
            self.append_lines(output);
            let is_written = self.items.len() == 0;
            match &mut self.next {
                Next::BrokenOff => return Poll::Ready(Piece::Failed),
                Next::Nothing if is_written => return Poll::Ready(Piece::Last),
                Next::After(after) if is_written => {
                    let after = *after;
                    self.next = Next::Asked(self.ask(after));
                }
                Next::Nothing | Next::After(_) | Next::Asked(_) => {}
            }
            if output.len() > start {
                return Poll::Ready(Piece::More);
            }
            if let Next::Asked(slice) = &mut self.next {
                match ready!(slice.as_mut().poll(context)) {
                    Some(slice) => self.take(slice),
                    None => self.next = Next::BrokenOff,
                }
            }
        }
    }

    /// Breaks the list off: the rest of a long one takes longer than a drain waits.
    fn drain(&mut self) {
        self.next = Next::BrokenOff;
    }
}
