//! What clients send, read into types: JSON bodies, query parameters, Accept.
//!
//! All broken rules of a request are reported at once.

mod accept;
mod body;
mod json;
mod member;
mod property;
mod query;

pub(super) use accept::{check_accept, lists};
pub(super) use body::{BodyReader, Field, body};
pub(super) use member::Member;
pub(in crate::front) use property::Property;
pub(in crate::front) use query::Parameters;
pub(super) use query::{Cursor, Limit, Parameter, QueryReader, no_query, query};

use crate::front::problem::FieldError;

fn error(pointer: &str, detail: &str) -> FieldError {
    FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() }
}
