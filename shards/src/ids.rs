//! Typed identifiers and quantities: what cannot be written cannot be wrong.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::{QUOTA_MAX, USERNAME_BYTES_MAX, USERNAME_BYTES_MIN};

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

            /// Decimal digits only, from 1, without sign or leading zero: one id, one text.
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                parse_canonical_u32(text).map($name)
            }
        }
    };
}

small_integer_id!(
    /// An event: 1, 2, 3... Given out once, never again.
    EventId
);
small_integer_id!(
    /// An account: 1, 2, 3... Given out once, never again.
    UserId
);

small_integer_id!(
    /// Which of its event's reservations: 1, 2, 3...
    ReservationNumber
);

/// The text names nothing that could exist.
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

/// A reservation: the `number`th of its event, written `{event}-{number}`, so
/// that the id alone says which shard has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationId {
    pub event: EventId,
    /// From 1, without gaps within the event.
    pub number: u32,
}

impl ReservationId {
    /// As it is displayed, in a third of the time that formatting takes: every sale says it twice.
    #[must_use]
    pub fn to_text(self) -> String {
        let (mut event, mut number) = (itoa::Buffer::new(), itoa::Buffer::new());
        [event.format(self.event.0), "-", number.format(self.number)].concat()
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

/// Tickets asked for or held by one reservation: 1 to [`QUOTA_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(NonZeroU32);

impl Quantity {
    /// `None` unless 1 to [`QUOTA_MAX`].
    pub fn new(tickets: u64) -> Option<Quantity> {
        let tickets = u32::try_from(tickets).ok().filter(|&n| n <= QUOTA_MAX)?;
        NonZeroU32::new(tickets).map(Quantity)
    }

    pub fn get(self) -> u32 {
        self.0.get()
    }
}

/// The most tickets that an event may have reserved at once: 0 to [`QUOTA_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quota(u32);

impl Quota {
    /// `None` above [`QUOTA_MAX`].
    pub fn new(tickets: u64) -> Option<Quota> {
        let tickets = u32::try_from(tickets).ok()?;
        (tickets <= QUOTA_MAX).then_some(Quota(tickets))
    }

    pub fn get(self) -> u32 {
        self.0
    }
}

/// A name to log in with: 3 to 64 of `a-z 0-9 . _ -`, case folded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Username(Box<str>);

/// What is wrong with a username, in words for its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UsernameError {
    #[error("must have {USERNAME_BYTES_MIN} to {USERNAME_BYTES_MAX} characters")]
    Length,
    #[error("may only have letters a to z, digits, '.', '_' and '-'")]
    Character,
}

impl Username {
    /// Folds upper case to lower, so that `Ada` and `ada` are one account.
    pub fn new(text: &str) -> Result<Username, UsernameError> {
        if !(USERNAME_BYTES_MIN..=USERNAME_BYTES_MAX).contains(&text.chars().count()) {
            return Err(UsernameError::Length);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !text.bytes().all(allowed) {
            return Err(UsernameError::Character);
        }
        Ok(Username(text.to_ascii_lowercase().into_boxed_str()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Customer,
    Organizer,
    Admin,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Customer => "customer",
            Role::Organizer => "organizer",
            Role::Admin => "admin",
        }
    }
}

/// One of the [`crate::limits::SLOT_COUNT`] hash partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u8);

impl Slot {
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A slot's log sequence number: from 1, without gaps. 0 is "nothing yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    pub fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One start of the server, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// Milliseconds since 1970-01-01 UTC. Never goes back within a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp(pub u64);

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

    #[test]
    fn quantities_are_bounded() {
        for (tickets, ok) in
            [(0, false), (1, true), (10_000_000, true), (10_000_001, false), (u64::MAX, false)]
        {
            assert_eq!(Quantity::new(tickets).is_some(), ok, "{tickets}");
        }
        for (tickets, ok) in [(0, true), (10_000_000, true), (10_000_001, false), (1 << 32, false)] {
            assert_eq!(Quota::new(tickets).is_some(), ok, "{tickets}");
        }
    }

    #[test]
    fn usernames_are_folded_and_checked() {
        assert_eq!(Username::new("Ada.L_9-x").unwrap().as_str(), "ada.l_9-x");
        for (text, error) in [
            ("ab", UsernameError::Length),
            ("éé", UsernameError::Length),
            ("a b", UsernameError::Character),
            ("ada\u{0}", UsernameError::Character),
            ("adé", UsernameError::Character),
        ] {
            assert_eq!(Username::new(text), Err(error), "{text:?}");
        }
        assert!(Username::new(&"a".repeat(64)).is_ok());
        assert_eq!(Username::new(&"a".repeat(65)), Err(UsernameError::Length));
    }
}
