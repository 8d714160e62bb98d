//! Records: the durable facts. State results from applying them in order.
//!
//! `kind.rs` numbers them, `codec.rs` turns them into the columns of a row and back, `body.rs` holds what
//! does not fit columns, and `entry.rs` gives a record its place in a slot. The form is described in
//! `docs/decisions/record-form.md`.

mod body;
mod codec;
mod entry;
mod key;
mod kind;
#[cfg(test)]
mod tests;

use crate::api_keys::ApiKey;
use crate::command::Buyer;
use crate::details::EventDetails;
use crate::ids::{ApiKeyNumber, EventId, ReservationId, Role, Timestamp, UserId, Username};
pub use codec::{Columns, DecodeError};
pub use entry::{Entry, SlotHead, Stamp};
pub use key::{Answer, KeyKept};
pub use kind::Kind;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    UserCreated(Box<UserCreated>),
    EventCreated(Box<EventCreated>),
    /// Has all details of the event as they are after the edit, and its new organizer after a hand-over.
    EventEdited(Box<EventEdited>),
    EventDeleted {
        event: EventId,
        by: UserId,
        /// The number of tickets of the live reservations and holds, which this record cancels.
        tickets: u32,
    },
    Reserved {
        id: ReservationId,
        /// The account that acted.
        by: UserId,
        /// The holder of the tickets.
        buyer: Buyer,
        quantity: u32,
    },
    Cancelled {
        id: ReservationId,
        by: UserId,
        /// The number of tickets that are given back.
        quantity: u32,
    },
    /// A part of a reservation was cancelled.
    Reduced {
        id: ReservationId,
        by: UserId,
        /// The number of tickets that are given back.
        quantity: u32,
    },
    Held(Box<Held>),
    /// A hold became a reservation.
    Confirmed {
        id: ReservationId,
        by: UserId,
        /// The number of tickets of the hold that the reservation does not have.
        given_back: u32,
    },
    /// A hold was given up.
    Released {
        id: ReservationId,
        by: UserId,
        /// The number of tickets that are given back.
        quantity: u32,
    },
    /// All holds of the event with a deadline up to this one are over.
    HoldsExpired {
        event: EventId,
        up_to: Timestamp,
        /// The number of tickets that are given back.
        tickets: u32,
    },
    /// A process that took over the slot at this time gives each live hold at least
    /// [`crate::limits::HOLD_MS_AFTER_START`] from then.
    HoldsExtended {
        from: Timestamp,
    },
    PasswordChanged(Box<PasswordChanged>),
    RoleChanged(Box<RoleChanged>),
    UserRemoved(Box<UserRemoved>),
    TokensEnded(Box<TokensEnded>),
    ApiKeyMade(Box<ApiKeyMade>),
    /// A key was ended by its organizer; or it is forgotten, since a change of the account had ended it.
    ApiKeyEnded {
        organizer: UserId,
        number: ApiKeyNumber,
    },
    /// The slot's time goes on from this record's, which is lower than that of the record before. The only
    /// record whose time may be. It is made by the command of the record that follows it.
    TimeSetBack,
    /// A key is kept, with the answer to its request. It is made by the command of the record before, if that
    /// answer is one to a change.
    KeyKept(Box<KeyKept>),
    /// A new generation of the slot's keys begins, and those that ended long enough ago are forgotten.
    KeysAged {
        /// Milliseconds since the generation before began; at most [`crate::limits::KEY_KEPT`], after which all
        /// others are forgotten anyway.
        since_ms: u32,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCreated {
    pub id: UserId,
    pub username: Username,
    pub password_hash: Box<str>,
    pub role: Role,
    pub token_version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordChanged {
    pub id: UserId,
    pub username: Username,
    /// The account itself, or an admin.
    pub by: UserId,
    pub password_hash: Box<str>,
    pub token_version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleChanged {
    pub id: UserId,
    pub username: Username,
    /// The admin.
    pub by: UserId,
    pub role: Role,
    pub token_version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRemoved {
    pub id: UserId,
    pub username: Username,
    /// The admin.
    pub by: UserId,
}

/// All tokens of an account end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokensEnded {
    pub id: UserId,
    pub username: Username,
    /// The account itself, or an admin.
    pub by: UserId,
    pub token_version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyMade {
    pub organizer: UserId,
    pub number: ApiKeyNumber,
    pub key: ApiKey,
}

/// Tickets are held for a buyer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub id: ReservationId,
    /// The account that acted.
    pub by: UserId,
    pub buyer: Buyer,
    pub quantity: u32,
    /// The end of the hold, if it is neither confirmed nor released before.
    pub deadline: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventCreated {
    pub id: EventId,
    pub organizer: UserId,
    pub details: EventDetails,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventEdited {
    pub id: EventId,
    pub by: UserId,
    /// All details as they are after the edit.
    pub details: EventDetails,
    /// The organizer from now on, if the event is handed over.
    pub organizer: Option<UserId>,
}

impl Record {
    /// The reservation or hold that the record makes, and its buyer.
    pub fn reservation_made(&self) -> Option<(ReservationId, Buyer)> {
        match self {
            Record::Reserved { id, buyer, .. } => Some((*id, *buyer)),
            Record::Held(held) => Some((held.id, held.buyer)),
            Record::UserCreated(_)
            | Record::EventCreated(_)
            | Record::EventEdited(_)
            | Record::EventDeleted { .. }
            | Record::Cancelled { .. }
            | Record::Reduced { .. }
            | Record::Confirmed { .. }
            | Record::Released { .. }
            | Record::HoldsExpired { .. }
            | Record::HoldsExtended { .. }
            | Record::PasswordChanged(_)
            | Record::RoleChanged(_)
            | Record::UserRemoved(_)
            | Record::TokensEnded(_)
            | Record::ApiKeyMade(_)
            | Record::ApiKeyEnded { .. }
            | Record::TimeSetBack
            | Record::KeyKept(_)
            | Record::KeysAged { .. } => None,
        }
    }

    /// The event that the record is about, if it is about one.
    pub fn event(&self) -> Option<EventId> {
        match self {
            Record::EventCreated(event) => Some(event.id),
            Record::EventEdited(event) => Some(event.id),
            Record::EventDeleted { event, .. } => Some(*event),
            Record::Held(held) => Some(held.id.event),
            Record::HoldsExpired { event, .. } => Some(*event),
            Record::Reserved { id, .. }
            | Record::Cancelled { id, .. }
            | Record::Reduced { id, .. }
            | Record::Confirmed { id, .. }
            | Record::Released { id, .. } => Some(id.event),
            Record::UserCreated(_)
            | Record::PasswordChanged(_)
            | Record::RoleChanged(_)
            | Record::UserRemoved(_)
            | Record::TokensEnded(_)
            | Record::ApiKeyMade(_)
            | Record::ApiKeyEnded { .. }
            | Record::HoldsExtended { .. }
            | Record::TimeSetBack
            | Record::KeyKept(_)
            | Record::KeysAged { .. } => None,
        }
    }
}
