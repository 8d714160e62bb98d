//! What handlers give: JSON, pages of lists.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

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

    /// A page whose end the shard knows.
    pub(super) fn up_to(items: Vec<T>, next: Option<String>) -> Page<T> {
        Page { items, next }
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
