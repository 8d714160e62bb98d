//! Typed identifiers and quantities, checked when they are made.

mod account;
mod by;
mod order;
mod place;
mod quantity;

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use account::{Role, Username, UsernameError};
pub use by::By;
pub use order::{Attempt, OrderId};
pub use place::{Epoch, Lsn, Slot, Timestamp};
pub use quantity::{HoldTime, Quantity, Quota};

macro_rules! small_integer_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            /// Reads decimal digits, from 1, without sign or leading zero, so that each id has one text.
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                parse_canonical_u32(text).map($name)
            }
        }
    };
}

small_integer_id!(
    /// The id of an event: 1, 2, 3... Never used twice.
    EventId
);
small_integer_id!(
    /// The id of an account: 1, 2, 3... Never used twice.
    UserId
);

small_integer_id!(
    /// The number of a reservation within its event: 1, 2, 3...
    ReservationNumber
);

small_integer_id!(
    /// The number of an API key among those of its organizer: 1, 2, 3... Never used twice.
    ApiKeyNumber
);

/// The text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id")]
pub struct NotAnId;

fn parse_canonical_u32(text: &str) -> Result<u32, NotAnId> {
    let canonical = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    if !canonical {
        return Err(NotAnId);
    }
    text.parse().map_err(|_| NotAnId)
}

/// The id of a reservation, written `{event}-{number}`. It contains the event, and so gives the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationId {
    pub event: EventId,
    /// The number within the event, from 1, without gaps.
    pub number: u32,
}

impl ReservationId {
    /// The text of the id. Takes a fraction of the time of formatting, and each sale writes it twice.
    #[must_use]
    pub fn to_text(self) -> ReservationIdText {
        let (mut event, mut number) = (itoa::Buffer::new(), itoa::Buffer::new());
        let (event, number) = (event.format(self.event.0), number.format(self.number));
        let mut text =
            ReservationIdText { bytes: [b'-'; ID_TEXT_BYTES], length: event.len() + 1 + number.len() };
        text.bytes[..event.len()].copy_from_slice(event.as_bytes());
        text.bytes[event.len() + 1..text.length].copy_from_slice(number.as_bytes());
        text
    }
}

/// The length of the longest text of a reservation's id.
const ID_TEXT_BYTES: usize = "4294967295-4294967295".len();

/// The text of a reservation's id.
#[derive(Debug)]
pub struct ReservationIdText {
    bytes: [u8; ID_TEXT_BYTES],
    length: usize,
}

impl ReservationIdText {
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Deref for ReservationIdText {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(self.as_bytes()).expect("digits and a hyphen")
    }
}

impl fmt::Display for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_text())
    }
}

impl FromStr for ReservationId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (event, number) = text.split_once('-').ok_or(NotAnId)?;
        Ok(ReservationId { event: event.parse()?, number: parse_canonical_u32(number)? })
    }
}

impl Serialize for ReservationId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_text_each() {
        for (text, id) in [("1", 1), ("42", 42), ("4294967295", u32::MAX)] {
            assert_eq!(text.parse(), Ok(EventId(id)));
            assert_eq!(EventId(id).to_string(), text);
        }
        for text in ["", "0", "01", "+1", "-1", "1 ", "1.0", "4294967296", "x", "١"] {
            assert_eq!(text.parse::<EventId>(), Err(NotAnId), "{text:?}");
        }
        let id = ReservationId { event: EventId(3), number: 7 };
        assert_eq!("3-7".parse(), Ok(id));
        assert_eq!(id.to_string(), "3-7");
        for text in ["3", "3-", "-7", "3-0", "3-07", "3-7-1", "0-1"] {
            assert_eq!(text.parse::<ReservationId>(), Err(NotAnId), "{text:?}");
        }
    }
}
