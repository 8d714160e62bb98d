//! The whole list of an event's reservations. Each slice is one question to the event's shard and one for the
//! usernames.

use std::rc::Rc;

use shards::limits::CUSTOMER_REF_CHARS_MAX;

use super::{EventReservation, POSITION, Slice, Wanted, csv};
use crate::client::{Shards, patiently};
use crate::front::api::authentication::LastingToken;
use crate::front::api::endpoint::Header;
use crate::front::api::output::ToJson;
use crate::front::api::slices::{self, NextSlice, Sliced, Slices};
use crate::front::http::body::Body;
use crate::front::http::write::{CSV, Response};
use crate::front::problem::Problem;

/// The reservations of a slice. It takes a shard some 0.1 ms, and 60 KiB of memory while its client reads; 300 KiB with
/// the longest refs.
const SLICE: usize = 500;

pub(super) const NDJSON_EXAMPLE: &str = "{\"id\":\"7-42\",\"event\":7,\"customer\":31,\"kind\":\"sale\",\"quantity\":2,\
    \"status\":\"confirmed\",\"created_at\":\"2026-03-02T12:00:00.017Z\",\"customer_name\":\"ada\"}\n";

pub(super) struct List {
    wanted: Wanted,
    form: &'static str,
    token: Rc<LastingToken>,
    shards: Shards,
}

impl List {
    pub(super) fn new(wanted: Wanted, form: &'static str, token: LastingToken, shards: Shards) -> List {
        List { wanted, form, token: Rc::new(token), shards }
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
        let mut response = Response::empty(200)
            .with(Header::VARY_ACCEPT.name, "Accept".to_owned())
            .with(Header::NO_STORE.name, "no-store".to_owned())
            .with(POSITION.name, slice.position.to_string());
        if form == CSV {
            let name = format!("attachment; filename=\"event-{event}-reservations.csv\"");
            response = response.with("Content-Disposition", name);
        }
        let header = if form == CSV { csv::HEADER } else { b"" };
        let list = Sliced::new(self, slice.into(), header);
        Ok(Response { content_type: Some(form), body: Body::Stream(Box::new(list)), ..response })
    }
}

impl From<Slice> for slices::Slice<List> {
    fn from(slice: Slice) -> slices::Slice<List> {
        slices::Slice { items: slice.items, next: slice.next }
    }
}

impl Slices for List {
    type Item = EventReservation;
    /// After this number.
    type Place = u32;
    /// Names of members, three times, a username, numbers, and a ref of four bytes a character.
    const LINE_BYTES_MAX: usize = 512 + 4 * CUSTOMER_REF_CHARS_MAX;

    fn ask(&self, after: u32) -> NextSlice<List> {
        let wanted = Wanted { after: Some(after), ..self.wanted.clone() };
        let (shards, token) = (self.shards.clone(), Rc::clone(&self.token));
        Box::pin(async move {
            let slice = patiently(async || wanted.clone().slice(&shards, SLICE).await).await.ok()?;
            let stands = patiently(async || token.stands().await).await.ok()?;
            stands.then(|| slice.into())
        })
    }

    fn append_line(&self, item: &EventReservation, output: &mut Vec<u8>) {
        if self.form == CSV {
            csv::append_row(item, output);
        } else {
            item.append_to(output);
            output.push(b'\n');
        }
    }
}
