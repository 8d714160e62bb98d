//! The record of an idempotency key that is kept. Its kind on disk follows from the answer.

use crate::ids::{EventId, ReservationId, Timestamp, UserId};

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
    /// An event has this id, or will have it: [`crate::record::Kind::EventIdGiven`].
    EventId(EventId),
}
