//! What clients see of orders.

use serde::Serialize;

use super::{Rejection, ReservationStatus, ReservationView};
use crate::command::Buyer;
use crate::ids::{EventId, OrderId, ReservationId, Timestamp};

/// An order as its coordinator knows it. Parts that have ended alone are known to their events:
/// [`OrderView::with_parts`] puts both together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderView {
    pub id: OrderId,
    pub buyer: Buyer,
    /// The parts as first given, in the order of the request.
    pub parts: Box<[OrderPart]>,
    pub status: OrderStatus,
    pub created_at: Timestamp,
    /// The end of the hold, in the steady time of the order's slot. Set when the status is `Held` or `Expired`.
    pub expires_at: Option<Timestamp>,
    /// Set when the order was cancelled as a whole.
    pub cancelled_at: Option<Timestamp>,
}

/// A part of an account's orders, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderSlice {
    pub views: Vec<OrderView>,
    /// The number of the last order that was looked at, if there are more. So a slice can be empty, and have more.
    pub next: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderPart {
    pub reservation: ReservationId,
    pub quantity: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    Confirmed,
    Held,
    Cancelled,
    /// It was held, and not confirmed in time.
    Expired,
    /// Tickets of it were given back or transferred, and others were not. A coordinator does not know this.
    PartlyCancelled,
}

impl OrderStatus {
    pub const ALL: [OrderStatus; 5] = [
        OrderStatus::Confirmed,
        OrderStatus::Held,
        OrderStatus::Cancelled,
        OrderStatus::Expired,
        OrderStatus::PartlyCancelled,
    ];
}

/// An item of a refused order that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedItem {
    pub event: EventId,
    pub why: Rejection,
}

impl OrderView {
    /// The order with the status that its parts give it. `parts` are views of its parts, in any order; those that are
    /// missing count as first given.
    #[must_use]
    pub fn with_parts(self, parts: &[ReservationView]) -> OrderView {
        let (mut live, mut given_back) = (false, false);
        for part in &self.parts {
            match parts.iter().find(|view| view.id == part.reservation) {
                Some(view) => {
                    let is_live = match view.status {
                        // What was transferred is no part of the order any more.
                        ReservationStatus::Confirmed | ReservationStatus::Held => view.order == Some(self.id),
                        ReservationStatus::Cancelled | ReservationStatus::Expired => false,
                    };
                    live |= is_live;
                    given_back |= !is_live || view.quantity < part.quantity;
                }
                None => live = true,
            }
        }
        let status = match self.status {
            OrderStatus::Confirmed | OrderStatus::Held if !live => OrderStatus::Cancelled,
            OrderStatus::Confirmed | OrderStatus::Held if given_back => OrderStatus::PartlyCancelled,
            status => status,
        };
        OrderView { status, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UserId;

    #[test]
    fn parts_that_ended_alone_show_in_the_order() {
        use OrderStatus::{Cancelled, Confirmed, Expired, Held, PartlyCancelled};
        let quantity = 3;
        let reservation = |number| ReservationId { event: EventId(number), number: 1 };
        let order = |status| OrderView {
            id: OrderId { user: UserId(1), number: 1 },
            buyer: Buyer::Account(UserId(1)),
            parts: [1, 2].map(|number| OrderPart { reservation: reservation(number), quantity }).into(),
            status,
            created_at: Timestamp(1),
            expires_at: None,
            cancelled_at: None,
        };
        let part = |number, status, quantity| ReservationView {
            id: reservation(number),
            buyer: Buyer::Account(UserId(1)),
            quantity,
            status,
            created_at: Timestamp(1),
            expires_at: None,
            cancelled_at: None,
            order: Some(OrderId { user: UserId(1), number: 1 }),
        };
        let (kept, gone) = (ReservationStatus::Confirmed, ReservationStatus::Cancelled);
        for (status, first, second, shown) in [
            (Confirmed, (kept, 3), (kept, 3), Confirmed),
            (Confirmed, (kept, 2), (kept, 3), PartlyCancelled),
            (Confirmed, (gone, 3), (kept, 3), PartlyCancelled),
            (Confirmed, (gone, 3), (gone, 3), Cancelled),
            (Held, (gone, 3), (ReservationStatus::Held, 3), PartlyCancelled),
            (Held, (gone, 3), (gone, 3), Cancelled),
            (Cancelled, (gone, 3), (kept, 3), Cancelled),
            (Expired, (gone, 3), (gone, 3), Expired),
        ] {
            let parts = [part(2, second.0, second.1), part(1, first.0, first.1)];
            assert_eq!(order(status).with_parts(&parts).status, shown, "{status:?}: {parts:?}");
        }
        assert_eq!(order(Held).with_parts(&[]).status, Held);
        // What was transferred is another's.
        let transferred = ReservationView { order: None, ..part(1, kept, 3) };
        let parts = [transferred.clone(), part(2, kept, 3)];
        assert_eq!(order(Confirmed).with_parts(&parts).status, PartlyCancelled);
        let parts = [transferred.clone(), ReservationView { id: reservation(2), ..transferred }];
        assert_eq!(order(Confirmed).with_parts(&parts).status, Cancelled);
    }
}
