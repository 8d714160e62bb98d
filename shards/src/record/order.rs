//! The records of orders: of their parts, in the slots of the events, and of the orders themselves, in the slots of their
//! owners.

use crate::command::Buyer;
use crate::ids::{Attempt, By, OrderId, ReservationId, Timestamp, UserId};
use crate::outcome::OrderPart;

/// Tickets are set aside for an attempt to place an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartPrepared {
    pub id: ReservationId,
    pub by: By,
    pub buyer: Buyer,
    pub quantity: u32,
    /// The account whose order it is to be.
    pub owner: UserId,
    pub attempt: Attempt,
}

/// A part of an order goes on as its coordinator says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartSettled {
    pub id: ReservationId,
    pub by: By,
    /// `None` if none was placed.
    pub order: Option<OrderId>,
    pub step: PartStep,
    /// The number of tickets that are given back.
    pub given_back: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartStep {
    /// The attempt has failed.
    Aborted,
    /// Held for the order.
    Held,
    /// Kept from ending, for an attempt to confirm the order.
    Locked(Attempt),
    /// That attempt has failed.
    Unlocked,
    /// A reservation.
    Confirmed,
    Cancelled,
    Expired,
}

/// All parts of an order are prepared: it is placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderPlaced {
    pub id: OrderId,
    pub by: By,
    pub buyer: Buyer,
    pub parts: Box<[OrderPart]>,
    /// The attempt for which the parts were prepared.
    pub attempt: Attempt,
    /// The end of the hold; `None` if the order is confirmed at once.
    pub deadline: Option<Timestamp>,
}
