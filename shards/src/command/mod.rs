//! What may be asked of a shard: a [`Command`] may change state, a [`Query`] may not.
//!
//! Everything in here is already parsed and authenticated. Whether the asker's
//! role may do it at all is decided before; what depends on who owns the thing
//! asked for is decided by the shard that has it.

mod event_name;
mod query;
mod venue;

use crate::details::{DetailsPatch, NewDetails};
use crate::ids::{EventId, Quantity, ReservationId, Role, Slot, UserId, Username};
use crate::slots::{slot_of_event, slot_of_username};
pub use event_name::EventName;
pub use query::Query;
pub use venue::Venue;

/// What is asked of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Command(Command),
    Query(Query),
}

/// Who acts, or asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor {
    pub user: UserId,
    pub role: Role,
}

/// Whom tickets are for, which may be another than who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buyer {
    Account(UserId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    CreateUser(Box<CreateUser>),
    ChangePassword(Box<ChangePassword>),
    ChangeRole(Box<ChangeRole>),
    /// The account can no longer be used; what it reserved stays.
    RemoveUser(Box<RemoveUser>),
    CreateEvent(Box<CreateEvent>),
    EditEvent(Box<EditEvent>),
    DeleteEvent {
        event: EventId,
        actor: Actor,
        /// Cancels what is reserved; without it live reservations refuse the deletion.
        force: bool,
    },
    Reserve {
        event: EventId,
        actor: Actor,
        buyer: Buyer,
        quantity: Quantity,
    },
    Cancel {
        reservation: ReservationId,
        actor: Actor,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateUser {
    /// Fresh: never given to anyone before.
    pub id: UserId,
    pub username: Username,
    /// In PHC string format.
    pub password_hash: Box<str>,
    pub role: Role,
    /// 64 random bits that this account's tokens carry.
    pub token_version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePassword {
    pub user: UserId,
    pub username: Username,
    /// What the account had when its present password was looked at.
    pub token_version: u64,
    /// In PHC string format.
    pub password_hash: Box<str>,
    /// 64 fresh random bits: tokens that carry others end.
    pub next_token_version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRole {
    pub user: UserId,
    pub username: Username,
    /// The admin.
    pub by: UserId,
    pub role: Role,
    /// 64 fresh random bits: tokens that carry others end.
    pub next_token_version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveUser {
    pub user: UserId,
    pub username: Username,
    /// The admin.
    pub by: UserId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateEvent {
    /// Fresh: never given to any event before.
    pub id: EventId,
    pub organizer: UserId,
    pub details: NewDetails,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditEvent {
    pub event: EventId,
    pub actor: Actor,
    pub changes: DetailsPatch,
}

impl Ask {
    /// The one slot that is asked; `None` for a question to every slot.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Ask::Command(command) => Some(command.slot()),
            Ask::Query(query) => query.slot(),
        }
    }
}

impl Command {
    /// The slot that this command changes.
    pub fn slot(&self) -> Slot {
        match self {
            Command::CreateUser(create) => slot_of_username(&create.username),
            Command::ChangePassword(change) => slot_of_username(&change.username),
            Command::ChangeRole(change) => slot_of_username(&change.username),
            Command::RemoveUser(remove) => slot_of_username(&remove.username),
            Command::CreateEvent(create) => slot_of_event(create.id),
            Command::EditEvent(edit) => slot_of_event(edit.event),
            Command::DeleteEvent { event, .. } | Command::Reserve { event, .. } => slot_of_event(*event),
            Command::Cancel { reservation, .. } => slot_of_event(reservation.event),
        }
    }
}
