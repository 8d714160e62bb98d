//! The record of an idempotency key that is kept. Its kind on disk follows from the answer.

use crate::command::Buyer;
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

/// What makes the answer that was first given again, together with what never changes. The buyer of a reservation
/// may have changed since: it was the key's user, unless the answer says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A reservation was made, or a hold became one.
    Reservation { id: ReservationId, quantity: u32 },
    /// A hold was made.
    Hold { id: ReservationId, quantity: u32, deadline: Timestamp },
    /// A reservation or hold with another buyer.
    OfAnother(Box<OfAnother>),
    /// An order was placed, or a held one confirmed.
    Order { id: OrderId },
    /// A held order was placed.
    HeldOrder { id: OrderId, deadline: Timestamp },
    /// An event has this id, or will have it: [`crate::record::Kind::EventIdGiven`].
    EventId(EventId),
}

/// A reservation or hold of a buyer who is not the key's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfAnother {
    pub id: ReservationId,
    pub quantity: u32,
    /// The end of the hold, if the answer is one.
    pub deadline: Option<Timestamp>,
    pub buyer: Buyer,
}

impl Answer {
    /// The answer to a user: a reservation, or with a deadline a hold.
    pub fn of(
        user: UserId,
        id: ReservationId,
        quantity: u32,
        deadline: Option<Timestamp>,
        buyer: Buyer,
    ) -> Answer {
        match deadline {
            _ if buyer != Buyer::Account(user) => {
                Answer::OfAnother(Box::new(OfAnother { id, quantity, deadline, buyer }))
            }
            None => Answer::Reservation { id, quantity },
            Some(deadline) => Answer::Hold { id, quantity, deadline },
        }
    }

    /// The order that it is about.
    pub fn order(&self) -> Option<OrderId> {
        match self {
            Answer::Order { id } | Answer::HeldOrder { id, .. } => Some(*id),
            Answer::Reservation { .. } | Answer::Hold { .. } | Answer::OfAnother(_) | Answer::EventId(_) => {
                None
            }
        }
    }
}
