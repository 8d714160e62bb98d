//! Queries: requests that change nothing.

use std::time::Duration;

use super::{Actor, CustomerRef, IdempotencyKey};
use crate::ids::{ApiKeyNumber, EventId, Lsn, OrderId, ReservationId, Slot, UserId, Username};
use crate::limits::SLOT_COUNT;
use crate::outcome::Statuses;
use crate::slots::{slot_of_event, slot_of_user, slot_of_username};

/// For each slot, a position up to which its records are known.
pub type SlotPositions = [Lsn; SLOT_COUNT];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    Account {
        username: Username,
    },
    /// The account with this id, if this shard has it.
    AccountOf {
        user: UserId,
    },
    /// Whether a token of this account and version is still valid.
    TokenStands {
        user: UserId,
        username: Username,
        token_version: u64,
    },
    /// Whether API keys of this account and version are still valid, if they were not ended.
    ApiKeysStand {
        user: UserId,
        username: Username,
        account_version: u64,
    },
    /// This shard's part of the accounts, by id, after `after`.
    Users {
        after: Option<UserId>,
        limit: usize,
    },
    /// This shard's part of the usernames of these accounts, by id, removed ones included.
    Usernames {
        /// In ascending order, none twice.
        users: Box<[UserId]>,
    },
    Event {
        event: EventId,
    },
    /// The tickets of an event.
    Availability {
        event: EventId,
    },
    /// The tickets of an event, as soon as its position is another than `after`, which an earlier answer had: the
    /// question waits for that, or for `wait` to be over, [`WATCH_MAX`](crate::limits::WATCH_MAX) at most. An answer
    /// with the same position says that there is nothing new. It may come early: when the server stops, or undoes what
    /// it could not commit.
    Watch {
        event: EventId,
        after: Lsn,
        wait: Duration,
    },
    /// This shard's part of the tickets of these events, by id. Unknown and deleted events are left out.
    Availabilities {
        /// In ascending order, none twice.
        events: Box<[EventId]>,
    },
    /// This shard's part of the events, by id, after `after`, of one organizer or of all.
    Events {
        after: Option<EventId>,
        limit: usize,
        organizer: Option<UserId>,
    },
    Reservation {
        reservation: ReservationId,
        actor: Actor,
    },
    /// An event's reservations by number, for its organizer and for admins, also if it is deleted. The shard looks
    /// at [`SCANNED_MAX`](crate::limits::SCANNED_MAX) of them at most, and says where it stopped.
    EventReservations {
        event: EventId,
        actor: Actor,
        after: Option<u32>,
        /// The last number that is wanted; `None` for all.
        up_to: Option<u32>,
        statuses: Statuses,
        /// Only those with this ref, if there is one.
        customer_ref: Option<CustomerRef>,
        limit: usize,
    },
    /// How far an event's records go, for its organizer and for admins, also if it is deleted; and those after
    /// `after`, `limit` at most, if the shard keeps them in memory.
    Changes {
        event: EventId,
        actor: Actor,
        after: Lsn,
        limit: usize,
    },
    /// This shard's part of the events of an organizer, deleted ones included, that have records after a position of
    /// their slot.
    ChangedEvents {
        organizer: UserId,
        after: Box<SlotPositions>,
    },
    /// This shard's part of a customer's reservations, by event and number, after `after`.
    CustomerReservations {
        customer: UserId,
        after: Option<ReservationId>,
        limit: usize,
    },
    /// An order, for its owner and for admins.
    Order {
        order: OrderId,
        actor: Actor,
    },
    /// The orders of an account by number, after `after`; with a ref, those for this customer of the organizer's.
    Orders {
        owner: UserId,
        after: Option<u32>,
        customer_ref: Option<CustomerRef>,
        limit: usize,
    },
    /// This shard's part of these reservations, which are parts of orders. Those that are not known are left out.
    Parts {
        /// In ascending order, none twice.
        parts: Box<[ReservationId]>,
    },
    /// This shard's part of the number of events that an account has created, deleted ones included.
    EventsCreated {
        organizer: UserId,
    },
    /// The event's id that was given to a key.
    GivenEventId {
        key: IdempotencyKey,
    },
    /// An API key that was not ended.
    ApiKey {
        organizer: UserId,
        number: ApiKeyNumber,
    },
    /// The API keys of an organizer that were not ended.
    ApiKeys {
        organizer: UserId,
    },
    /// This shard's part of the totals.
    Totals,
}

impl Query {
    /// The slot of this query; `None` for a query over all slots, of which each shard answers its part.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Query::Account { username }
            | Query::TokenStands { username, .. }
            | Query::ApiKeysStand { username, .. } => Some(slot_of_username(username)),
            Query::Event { event }
            | Query::Availability { event }
            | Query::Watch { event, .. }
            | Query::Changes { event, .. }
            | Query::EventReservations { event, .. } => Some(slot_of_event(*event)),
            Query::Reservation { reservation, .. } => Some(slot_of_event(reservation.event)),
            Query::GivenEventId { key } => Some(slot_of_user(key.user)),
            Query::Order { order, .. } => Some(slot_of_user(order.user)),
            Query::Orders { owner, .. } => Some(slot_of_user(*owner)),
            Query::ApiKey { organizer, .. } | Query::ApiKeys { organizer } => Some(slot_of_user(*organizer)),
            Query::AccountOf { .. }
            | Query::Users { .. }
            | Query::Usernames { .. }
            | Query::Events { .. }
            | Query::Availabilities { .. }
            | Query::ChangedEvents { .. }
            | Query::CustomerReservations { .. }
            | Query::Parts { .. }
            | Query::EventsCreated { .. }
            | Query::Totals => None,
        }
    }
}
