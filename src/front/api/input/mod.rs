//! What clients send, read into types: JSON bodies, query parameters, Accept.
//!
//! All broken rules of a request are reported at once, up to a bound.

mod accept;
mod body;
mod idempotency_key;
mod if_match;
mod json;
mod member;
mod path;
mod property;
mod query;
mod unsupported;

pub(super) use accept::{check_accept, lists};
pub(in crate::front) use body::{BodyDescription, FromBody};
pub(super) use body::{BodyReader, Field, NoBody, body};
pub(super) use idempotency_key::{IDEMPOTENCY_KEY, idempotency_key};
pub(super) use if_match::{IF_MATCH, expected_version};
pub(super) use member::{Member, Nullable, ReservationIds};
pub(super) use path::NoParameter;
pub(in crate::front) use path::{FromPath, PathParameter};
pub(in crate::front) use property::Property;
pub(in crate::front) use query::FromQuery;
pub(super) use query::{AnyQuery, Cursor, Limit, NoQuery, NoQueryFirst, Parameter, QueryReader, query};
pub(super) use unsupported::check_unsupported;
