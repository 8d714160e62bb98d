//! What handlers give: JSON, pages of lists, times.

use std::cell::Cell;

use jiff::Timestamp as Calendar;
use jiff::fmt::temporal::DateTimePrinter;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use shards::ids::Timestamp;

use crate::front::http::write::{JSON, Response};

/// The capacity to reserve for a body; enough for one event or reservation.
const BODY_BYTES: usize = 256;

/// A view that has a form as JSON.
pub(super) trait ToJson {
    fn append_to(&self, text: &mut Vec<u8>);
}

impl<T: Serialize> ToJson for T {
    fn append_to(&self, text: &mut Vec<u8>) {
        serde_json::to_writer(text, self).expect("a view always has a JSON form");
    }
}

/// Appends the parts of a text.
pub(super) fn append_all<const N: usize>(text: &mut Vec<u8>, parts: [&[u8]; N]) {
    for part in parts {
        text.extend_from_slice(part);
    }
}

pub(super) fn json_response(status: u16, body: &impl ToJson) -> Response {
    let mut text = Vec::with_capacity(BODY_BYTES);
    body.append_to(&mut text);
    // So that a shell's prompt begins a line.
    text.push(b'\n');
    Response::new(status, JSON, text)
}

/// A page of a list: what is on it, and where the next one begins.
#[derive(JsonSchema)]
#[schemars(rename = "{T}Page")]
pub(super) struct Page<T> {
    items: Vec<T>,
    /// Opaque to clients; null at the end.
    next: Option<String>,
}

impl<T: ToJson> ToJson for Page<T> {
    fn append_to(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(b"{\"items\":[");
        for (index, item) in self.items.iter().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            item.append_to(text);
        }
        text.extend_from_slice(b"],\"next\":");
        self.next.append_to(text);
        text.push(b'}');
    }
}

impl<T: ToJson> Page<T> {
    /// `views` has one more than `limit` when there is a next page.
    pub(super) fn new<V>(mut views: Vec<V>, limit: usize, cursor: impl Fn(&V) -> String) -> Page<T>
    where
        T: From<V>,
    {
        let more = views.len() > limit;
        views.truncate(limit);
        let next = views.last().filter(|_| more).map(cursor);
        Page { items: views.into_iter().map(T::from).collect(), next }
    }

    /// `address` is that of the list, with the parameters that the next page needs again.
    pub(super) fn respond(&self, address: &str, limit: usize) -> Response {
        let response = json_response(200, self);
        match &self.next {
            Some(next) => {
                let separator = if address.contains('?') { '&' } else { '?' };
                let link = format!("<{address}{separator}limit={limit}&after={next}>; rel=\"next\"");
                response.with("Link", link)
            }
            None => response,
        }
    }
}

/// An example of a page.
pub(super) fn page_example(item: &Value, next: &str) -> Value {
    json!({ "items": [item], "next": next })
}

/// A timestamp as RFC 3339 with milliseconds. A time after the year 9999, which RFC 3339 cannot write, becomes
/// the last one that [`Calendar`] can.
#[derive(Debug, Clone, Copy, JsonSchema)]
#[schemars(transparent, inline)]
pub(super) struct Rfc3339(#[schemars(with = "String", extend("format" = "date-time"))] pub(super) Timestamp);

/// The length of a time's text.
const TEXT_BYTES: usize = "9999-12-30T22:00:00.999Z".len();

thread_local! {
    /// The latest second that was written, and its text. Times of sales come in order, so that the calendar is
    /// consulted once a second. That takes more instructions than the rest of a sale's answer.
    static SECOND: Cell<(i64, [u8; TEXT_BYTES])> = const { Cell::new((i64::MIN, [0; TEXT_BYTES])) };
}

impl Rfc3339 {
    pub(super) fn text(self) -> [u8; TEXT_BYTES] {
        const MILLISECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
        let at = i64::try_from(self.0.0).unwrap_or(i64::MAX).min(Calendar::MAX.as_millisecond());
        let second = at / 1000;
        let (latest, mut text) = SECOND.get();
        if second != latest {
            let calendar = Calendar::from_second(second).expect("not after the last one");
            let printed = MILLISECONDS.timestamp_to_string(&calendar);
            text = printed.as_bytes().try_into().expect("each has this form");
            SECOND.set((second, text));
        }
        let milliseconds = (at % 1000) as u16;
        for (digit, power) in text[TEXT_BYTES - "000Z".len()..].iter_mut().zip([100, 10, 1]) {
            *digit = b'0' + (milliseconds / power % 10) as u8;
        }
        text
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(str::from_utf8(&self.text()).expect("digits and signs"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_text() {
        const LAST: &str = "9999-12-30T22:00:00.999Z";
        for (milliseconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_700_000_000_045, "2023-11-14T22:13:20.045Z"),
            (1_700_000_000_999, "2023-11-14T22:13:20.999Z"),
            (1_700_000_001_000, "2023-11-14T22:13:21.000Z"),
            (1_700_000_000_300, "2023-11-14T22:13:20.300Z"),
            (253_402_207_200_999, LAST),
            (253_402_207_201_000, LAST),
            (1 << 52, LAST),
            (1 << 63, LAST),
            (u64::MAX, LAST),
        ] {
            assert_eq!(json!(Rfc3339(Timestamp(milliseconds))), json!(text), "{milliseconds}");
        }
    }
}
