//! Questions that change nothing.

use super::Actor;
use crate::ids::{EventId, ReservationId, Slot, UserId, Username};
use crate::slots::{slot_of_event, slot_of_username};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    Account {
        username: Username,
    },
    /// The account of an id, if this shard has it.
    AccountOf {
        user: UserId,
    },
    /// Whether a token of that account and version is still good.
    TokenStands {
        user: UserId,
        username: Username,
        token_version: u64,
    },
    /// This shard's part of the accounts by id, those after `after`.
    Users {
        after: Option<UserId>,
        limit: usize,
    },
    Event {
        event: EventId,
    },
    /// Events by id, those after `after`, of one organizer or of all.
    Events {
        after: Option<EventId>,
        limit: usize,
        organizer: Option<UserId>,
    },
    Reservation {
        reservation: ReservationId,
        actor: Actor,
    },
    /// An event's reservations by number, for its organizer and for admins.
    EventReservations {
        event: EventId,
        actor: Actor,
        after: Option<u32>,
        limit: usize,
    },
    /// This shard's part of a customer's reservations, by event, then number.
    CustomerReservations {
        customer: UserId,
        after: Option<ReservationId>,
        limit: usize,
    },
    /// This shard's part of the totals over everything.
    Totals,
}

impl Query {
    /// The slot that this query is about; `None` for one over all slots, of which each shard answers a part.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Query::Account { username } | Query::TokenStands { username, .. } => {
                Some(slot_of_username(username))
            }
            Query::Event { event } | Query::EventReservations { event, .. } => Some(slot_of_event(*event)),
            Query::Reservation { reservation, .. } => Some(slot_of_event(reservation.event)),
            Query::AccountOf { .. }
            | Query::Users { .. }
            | Query::Events { .. }
            | Query::CustomerReservations { .. }
            | Query::Totals => None,
        }
    }
}
