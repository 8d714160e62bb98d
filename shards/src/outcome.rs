//! What a shard answers: an [`Outcome`], or a [`Rejection`].
//!
//! A rejection is a value of the domain (sold out, not found...), never a fault
//! of the machine.

use schemars::JsonSchema;
use serde::Serialize;

use crate::command::Buyer;
use crate::details::EventDetails;
use crate::ids::{EventId, ReservationId, Role, Timestamp, UserId, Username};

pub type Reply = Result<Outcome, Rejection>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Account(Option<Box<AccountView>>),
    /// A password, a role, or whether the account can be used at all. To be answered only when
    /// no core takes the account's earlier tokens any more.
    AccountChanged(UserView),
    TokenStands(bool),
    Users(Vec<UserView>),
    Event(Box<EventView>),
    Events(Vec<EventView>),
    EventDeleted,
    Reservation(ReservationView),
    Reservations(Vec<ReservationView>),
    Cancelled,
    Totals(Totals),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountView {
    pub id: UserId,
    pub username: Username,
    pub password_hash: Box<str>,
    pub role: Role,
    pub token_version: u64,
    /// It can no longer be used; its username stays taken.
    pub removed: bool,
}

/// What others may know of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserView {
    pub id: UserId,
    pub username: Username,
    pub role: Role,
}

/// `quota = reserved + held + remaining`, always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventView {
    pub id: EventId,
    pub organizer: UserId,
    pub details: EventDetails,
    pub reserved: u32,
    pub held: u32,
    pub remaining: u32,
    /// Version of what an organizer can edit, from 1; sales do not change it.
    pub version: u32,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReservationView {
    pub id: ReservationId,
    pub buyer: Buyer,
    pub quantity: u32,
    pub status: ReservationStatus,
    pub created_at: Timestamp,
    /// Set when the status is `Cancelled`.
    pub cancelled_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReservationStatus {
    Confirmed,
    Cancelled,
}

/// Sums over a shard's events that are not deleted, and over its accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub events: u64,
    /// Without those that were removed.
    pub accounts: u64,
    /// Of these.
    pub admins: u64,
    pub quota: u64,
    pub reserved: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    SoldOut {
        remaining: u32,
    },
    QuotaBelowCommitted {
        committed: u32,
    },
    HasReservations {
        reserved: u32,
    },
    UsernameTaken,
    UserNotFound,
    /// The account has changed since.
    TokenEnded,
    EventExists,
    EventNotFound,
    EventDeleted,
    NotYourEvent,
    ReservationNotFound,
    /// The log has no room for any change.
    LogFull,
    /// The slot has another owner: nothing was done here.
    Elsewhere,
}
