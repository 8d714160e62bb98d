//! The record of an idempotency key that is kept. Its kind on disk follows from the answer.

use crate::ids::{EventId, OrderId, ReservationId, Timestamp, UserId};

/// A key, and the answer to its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyKept {
    pub user: UserId,
    /// See [`crate::command::IdempotencyKey`].
    pub hash: [u8; 16],
    pub fingerprint: u64,
    pub answer: Answer,
}

impl KeyKept {
    /// Whether the record is [`crate::record::Kind::EventIdGiven`].
    pub fn gives_event_id(&self) -> bool {
        matches!(self.answer, Answer::EventId(_))
    }
}

/// What makes the answer that was first given again, together with what never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A reservation was made, or a hold became one.
    Reservation { id: ReservationId, quantity: u32 },
    /// A hold was made.
    Hold { id: ReservationId, quantity: u32, deadline: Timestamp },
    /// An order was placed, or a held one confirmed.
    Order { id: OrderId },
    /// A held order was placed.
    HeldOrder { id: OrderId, deadline: Timestamp },
    /// An event has this id, or will have it: [`crate::record::Kind::EventIdGiven`].
    EventId(EventId),
}

impl Answer {
    /// The order that it is about.
    pub fn order(self) -> Option<OrderId> {
        match self {
            Answer::Order { id } | Answer::HeldOrder { id, .. } => Some(id),
            Answer::Reservation { .. } | Answer::Hold { .. } | Answer::EventId(_) => None,
        }
    }
}
