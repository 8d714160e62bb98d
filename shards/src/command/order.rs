//! Orders: tickets of several events, all or none; and the messages by which the coordinator of an order and the
//! owners of its events agree. `docs/decisions/orders.md` describes the protocol.

use super::{Actor, Buyer};
use crate::ids::{Attempt, By, EventId, HoldTime, OrderId, Quantity, ReservationId, Slot, UserId};
use crate::limits::ORDER_ITEMS_MAX;
use crate::outcome::Rejection;
use crate::slots::{slot_of_event, slot_of_user};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceOrder {
    /// The account whose order it is: a customer, or the organizer who sells. The order is kept in its slot.
    pub owner: UserId,
    pub actor: Actor,
    pub buyer: Buyer,
    pub items: OrderItems,
    /// The time for which all items are held; `None` if they are bought at once.
    pub time: Option<HoldTime>,
}

/// Tickets of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderItem {
    pub event: EventId,
    pub quantity: Quantity,
}

/// The items of an order: 1 to [`ORDER_ITEMS_MAX`], of different events, as the client has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderItems(Box<[OrderItem]>);

/// Why items are not those of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrderItemsError {
    #[error("an order has 1 to {ORDER_ITEMS_MAX} items")]
    Count,
    /// With the index of the second item of the event.
    #[error("event {event} is there twice")]
    EventTwice { event: EventId, index: usize },
}

impl OrderItems {
    /// # Errors
    ///
    /// If there are none or too many, or two are of the same event.
    pub fn new(items: Vec<OrderItem>) -> Result<OrderItems, OrderItemsError> {
        if !(1..=ORDER_ITEMS_MAX).contains(&items.len()) {
            return Err(OrderItemsError::Count);
        }
        for (index, item) in items.iter().enumerate() {
            if items[..index].iter().any(|earlier| earlier.event == item.event) {
                return Err(OrderItemsError::EventTwice { event: item.event, index });
            }
        }
        Ok(OrderItems(items.into()))
    }

    pub fn as_slice(&self) -> &[OrderItem] {
        &self.0
    }
}

/// A message of the protocol. It may come twice, late, or in another order than it was sent: then it changes nothing,
/// and is answered with what the sender needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderMessage {
    /// To the event: set tickets aside for an attempt.
    Prepare(Prepare),
    /// To the coordinator: they are, under this number.
    Prepared { owner: UserId, attempt: Attempt, part: ReservationId },
    /// To the coordinator: they are not.
    Refused { owner: UserId, attempt: Attempt, event: EventId, why: Rejection },
    /// To the event: the attempt at which the part was prepared has failed.
    Abort { owner: UserId, attempt: Attempt, part: ReservationId },
    /// To the coordinator: what has become of the attempt? The part waits for it.
    Ask { doubt: Doubt, part: ReservationId },
    /// To the event: what has become of the part.
    Settle(Settle),
    /// To the coordinator: this is done.
    Settled { order: OrderId, part: ReservationId, fate: PartFate },
    /// To the event: keep a held part from ending until the attempt to confirm its order is over.
    Lock { order: OrderId, attempt: Attempt, part: ReservationId, by: By },
    /// To the coordinator: the part is kept.
    Locked { order: OrderId, attempt: Attempt, part: ReservationId },
    /// To the coordinator: the part has ended.
    Gone { order: OrderId, attempt: Attempt, part: ReservationId },
    /// To the event: the attempt to confirm has failed.
    Unlock { order: OrderId, attempt: Attempt, part: ReservationId },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepare {
    pub owner: UserId,
    pub attempt: Attempt,
    pub actor: Actor,
    pub buyer: Buyer,
    pub item: OrderItem,
}

/// The attempt of which a part does not know what has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The order is not known to the part yet.
    Placing {
        owner: UserId,
        attempt: Attempt,
    },
    Confirming {
        order: OrderId,
        attempt: Attempt,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settle {
    pub order: OrderId,
    /// The attempt that placed the order: the part may still be prepared for it. `None` if all parts are known to have
    /// heard of the order.
    pub placed_by: Option<Attempt>,
    pub part: ReservationId,
    pub fate: PartFate,
    pub by: By,
}

/// What an order has decided about its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartFate {
    /// Held until the order is confirmed or ends.
    Held,
    Confirmed,
    /// Given up, or cancelled.
    Cancelled,
    Expired,
}

impl OrderMessage {
    /// The slot that the message is for.
    pub fn slot(&self) -> Slot {
        match self {
            OrderMessage::Prepare(prepare) => slot_of_event(prepare.item.event),
            OrderMessage::Settle(settle) => slot_of_event(settle.part.event),
            OrderMessage::Abort { part, .. }
            | OrderMessage::Lock { part, .. }
            | OrderMessage::Unlock { part, .. } => slot_of_event(part.event),
            OrderMessage::Prepared { owner, .. } | OrderMessage::Refused { owner, .. } => {
                slot_of_user(*owner)
            }
            OrderMessage::Ask { doubt, .. } => slot_of_user(doubt.owner()),
            OrderMessage::Settled { order, .. }
            | OrderMessage::Locked { order, .. }
            | OrderMessage::Gone { order, .. } => slot_of_user(order.user),
        }
    }
}

impl Doubt {
    pub fn owner(self) -> UserId {
        match self {
            Doubt::Placing { owner, .. } => owner,
            Doubt::Confirming { order, .. } => order.user,
        }
    }
}
