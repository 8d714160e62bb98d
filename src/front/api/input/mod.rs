//! What clients send, read into types: JSON bodies, query parameters, Accept.
//!
//! All broken rules of a request are reported at once, up to a bound.

mod accept;
mod body;
mod idempotency_key;
mod if_match;
mod if_none_match;
mod json;
mod member;
mod path;
mod property;
mod query;
mod time;
mod unsupported;

pub(super) use accept::{accepted, lists};
pub(in crate::front) use body::{BodyDescription, FromBody};
pub(super) use body::{BodyReader, Field, IfSent, NoBody, body};
pub(super) use idempotency_key::{IDEMPOTENCY_KEY, idempotency_key};
pub(super) use if_match::{IF_MATCH, expected_version};
pub(super) use if_none_match::KnownTags;
pub(super) use member::{Member, Nullable, ReservationIds};
pub(super) use path::NoParameter;
pub(in crate::front) use path::{FromPath, PathParameter};
pub(in crate::front) use property::Property;
pub(in crate::front) use query::FromQuery;
pub(super) use query::{
    AnyQuery, Cursor, EventIds, Limit, NoQuery, NoQueryFirst, Parameter, QueryField, QueryReader,
    StatusFilter, query,
};
pub(super) use unsupported::check_unsupported;
