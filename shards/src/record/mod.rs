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
mod order;
#[cfg(test)]
mod tests;

use crate::api_keys::ApiKey;
use crate::command::Buyer;
use crate::details::EventDetails;
use crate::ids::{ApiKeyNumber, By, EventId, OrderId, ReservationId, Role, Timestamp, UserId, Username};
pub use codec::{Columns, DecodeError};
pub use entry::{Entry, SlotHead, Stamp};
pub use key::{Answer, KeyKept, OfAnother};
pub use kind::Kind;
pub use order::{OrderPlaced, PartPrepared, PartSettled, PartStep};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    UserCreated(Box<UserCreated>),
    EventCreated(Box<EventCreated>),
    /// Has all details of the event as they are after the edit, and its new organizer after a hand-over.
    EventEdited(Box<EventEdited>),
    EventDeleted {
        event: EventId,
        by: By,
        /// The number of tickets of the live reservations and holds, which this record cancels.
        tickets: u32,
    },
    Reserved {
        id: ReservationId,
        by: By,
        /// The holder of the tickets.
        buyer: Buyer,
        quantity: u32,
    },
    Cancelled {
        id: ReservationId,
        by: By,
        /// The number of tickets that are given back.
        quantity: u32,
    },
    /// A part of a reservation was cancelled.
    Reduced {
        id: ReservationId,
        by: By,
        /// The number of tickets that are given back.
        quantity: u32,
    },
    /// A reservation, or a part of it, got another buyer.
    Transferred(Box<Transferred>),
    Held(Box<Held>),
    /// A hold became a reservation.
    Confirmed {
        id: ReservationId,
        by: By,
        /// The number of tickets of the hold that the reservation does not have.
        given_back: u32,
    },
    /// A hold was given up.
    Released {
        id: ReservationId,
        by: By,
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
    PartPrepared(Box<PartPrepared>),
    PartSettled(Box<PartSettled>),
    OrderPlaced(Box<OrderPlaced>),
    /// A held order is bought.
    OrderConfirmed {
        id: OrderId,
        by: By,
    },
    /// An order was given up or cancelled.
    OrderCancelled {
        id: OrderId,
        by: By,
    },
    /// The time of a held order is over.
    OrderExpired {
        id: OrderId,
    },
    /// All parts of an order are as it says: it owes them nothing.
    OrderSettled {
        id: OrderId,
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
    pub by: By,
    pub buyer: Buyer,
    pub quantity: u32,
    /// The end of the hold, if it is neither confirmed nor released before.
    pub deadline: Timestamp,
}

/// Tickets of a reservation are another buyer's from now on. As many are reserved as before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transferred {
    pub id: ReservationId,
    pub by: By,
    pub to: Buyer,
    /// `None` if the whole reservation is transferred.
    pub part: Option<TransferredPart>,
}

/// The reservation that the receiver of a part gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferredPart {
    /// The event's next number.
    pub number: u32,
    /// Fewer than the reservation has from which they come.
    pub quantity: u32,
}

/// What a record gives a buyer: a reservation that is new, or that was another's.
#[derive(Debug, Clone, Copy)]
pub struct Gain<'r> {
    pub id: ReservationId,
    pub by: By,
    pub buyer: &'r Buyer,
    pub is_new: bool,
}

impl Transferred {
    /// The reservation that the receiver has afterwards.
    pub fn received(&self) -> ReservationId {
        let number = self.part.map_or(self.id.number, |part| part.number);
        ReservationId { number, ..self.id }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventCreated {
    pub id: EventId,
    pub organizer: UserId,
    /// The organizer's API key that was used.
    pub key: Option<ApiKeyNumber>,
    pub details: EventDetails,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventEdited {
    pub id: EventId,
    pub by: By,
    /// All details as they are after the edit.
    pub details: EventDetails,
    /// The organizer from now on, if the event is handed over.
    pub organizer: Option<UserId>,
}

impl Record {
    /// The reservation or hold that a buyer gets by the record.
    pub fn gain(&self) -> Option<Gain<'_>> {
        match self {
            Record::Reserved { id, by, buyer, .. } => Some(Gain { id: *id, by: *by, buyer, is_new: true }),
            Record::Held(held) => {
                let Held { id, by, buyer, .. } = &**held;
                Some(Gain { id: *id, by: *by, buyer, is_new: true })
            }
            Record::PartPrepared(part) => {
                let PartPrepared { id, by, buyer, .. } = &**part;
                Some(Gain { id: *id, by: *by, buyer, is_new: true })
            }
            Record::Transferred(transferred) => {
                let (id, is_new) = (transferred.received(), transferred.part.is_some());
                Some(Gain { id, by: transferred.by, buyer: &transferred.to, is_new })
            }
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
            | Record::PartSettled(_)
            | Record::OrderPlaced(_)
            | Record::OrderConfirmed { .. }
            | Record::OrderCancelled { .. }
            | Record::OrderExpired { .. }
            | Record::OrderSettled { .. }
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
            Record::Transferred(transferred) => Some(transferred.id.event),
            Record::PartPrepared(part) => Some(part.id.event),
            Record::PartSettled(part) => Some(part.id.event),
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
            | Record::OrderPlaced(_)
            | Record::OrderConfirmed { .. }
            | Record::OrderCancelled { .. }
            | Record::OrderExpired { .. }
            | Record::OrderSettled { .. }
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
