//! Parts of orders, in the slots of their events.
//!
//! A part is a reservation that its order's coordinator decides about. Until the order is placed it is *prepared*: its
//! tickets are held, and nobody sees it. A part of a held order has no deadline of its own. While a part waits to hear
//! what has become of an attempt to place or confirm its order, it is *in doubt*, and nobody else can end it.

use std::collections::BTreeMap;

use super::SlotState;
use super::by_customer::ByCustomer;
use super::events::Event;
use super::holds::NO_DEADLINE;
use super::refs::Holder;
use super::reservations::{Reservation, Standing};
use crate::clock::Now;
use crate::command::{Doubt, OrderMessage, PartFate, Prepare, Settle};
use crate::ids::{Attempt, Lsn, OrderId, ReservationId, Timestamp, UserId};
use crate::record::{PartPrepared, PartSettled, PartStep, Record};

/// The parts among an event's reservations, by number.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// The order of each part. Those that are prepared have none yet.
    orders: BTreeMap<u32, OrderId>,
    doubts: BTreeMap<u32, Doubt>,
    /// The parts that are prepared, so that a message that comes twice prepares one.
    prepared: BTreeMap<(UserId, Attempt), u32>,
}

/// What an owner does about a message: a record, and a message back that leaves once the record is durable.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub record: Option<Record>,
    pub answer: Option<OrderMessage>,
}

/// What a [`Record::PartSettled`] replaces.
#[derive(Debug)]
pub struct PartBefore {
    standing: Standing,
    order: Option<OrderId>,
    doubt: Option<Doubt>,
}

impl Heard {
    fn nothing() -> Heard {
        Heard::default()
    }

    pub(super) fn answer(answer: OrderMessage) -> Heard {
        Heard { record: None, answer: Some(answer) }
    }
}

impl Parts {
    fn set_doubt(&mut self, number: u32, doubt: Option<Doubt>) {
        if let Some(Doubt::Placing { owner, attempt }) = self.doubts.remove(&number) {
            self.prepared.remove(&(owner, attempt));
        }
        if let Some(doubt) = doubt {
            if let Doubt::Placing { owner, attempt } = doubt {
                self.prepared.insert((owner, attempt), number);
            }
            self.doubts.insert(number, doubt);
        }
    }

    fn set_order(&mut self, number: u32, order: Option<OrderId>) {
        match order {
            Some(order) => self.orders.insert(number, order),
            None => self.orders.remove(&number),
        };
    }
}

impl Event {
    /// The order of which a reservation is a part.
    pub(super) fn order_of(&self, number: u32) -> Option<OrderId> {
        self.parts.as_ref()?.orders.get(&number).copied()
    }

    /// Whether a part leaves its order, whose account neither has it nor sells it any more: tickets for others go to
    /// the event's next `organizer`. One that is still held waits for its order.
    fn leaves(&self, number: u32, order: OrderId, organizer: UserId) -> bool {
        let reservation = self.reservation(number).expect("a part is a reservation");
        let waits = matches!(reservation.standing(), Standing::Prepared | Standing::Pledged);
        let is_own = reservation.holder() == Holder::Account(order.user);
        !waits && !is_own && order.user != organizer
    }

    /// The parts that leave their orders when the event gets this organizer. For good: their orders may have ended when
    /// the event comes back. Visits all parts of the event.
    pub(super) fn parts_leaving_to(&self, organizer: UserId) -> Vec<(u32, OrderId)> {
        let parts = self.parts.iter().flat_map(|parts| &parts.orders);
        let parts = parts.map(|(&number, &order)| (number, order));
        parts.filter(|&(number, order)| self.leaves(number, order, organizer)).collect()
    }

    /// Takes parts out of their orders that leave with a hand-over.
    pub(super) fn let_parts_leave(&mut self, organizer: UserId) {
        for (number, _) in self.parts_leaving_to(organizer) {
            self.set_order(number, None);
        }
    }

    /// The order of a reservation that is held for one.
    pub(super) fn order_of_pledged(&self, number: u32) -> OrderId {
        self.order_of(number).expect("it is held for an order")
    }

    pub(super) fn doubt_of(&self, number: u32) -> Option<Doubt> {
        self.parts.as_ref()?.doubts.get(&number).copied()
    }

    pub(super) fn has_doubts(&self) -> bool {
        self.parts.as_ref().is_some_and(|parts| !parts.doubts.is_empty())
    }

    /// Notes of which order a reservation is a part.
    pub(super) fn set_order(&mut self, number: u32, order: Option<OrderId>) {
        if order != self.order_of(number) {
            self.change_parts(|parts| parts.set_order(number, order));
        }
    }

    fn change_parts(&mut self, change: impl FnOnce(&mut Parts)) {
        change(self.parts.get_or_insert_default());
        self.parts.take_if(|parts| **parts == Parts::default());
    }

    /// Moves a part to another standing, and its tickets with it.
    fn move_part(&mut self, id: ReservationId, to: Standing) {
        let reservation = self.reservation_mut(id);
        let (from, holder, quantity) = (reservation.standing(), reservation.holder(), reservation.quantity);
        reservation.set_standing(to);
        match tickets_of(from) {
            Tickets::Held => self.end_hold(holder, NO_DEADLINE, quantity),
            Tickets::Reserved => self.take_back(holder, quantity),
            Tickets::None => {}
        }
        match tickets_of(to) {
            Tickets::Held => self.hold(holder, NO_DEADLINE, quantity),
            Tickets::Reserved => self.sell(holder, quantity),
            Tickets::None => {}
        }
    }
}

/// What a part counts as.
enum Tickets {
    Held,
    Reserved,
    None,
}

fn tickets_of(standing: Standing) -> Tickets {
    match standing {
        Standing::Prepared | Standing::Pledged => Tickets::Held,
        Standing::Confirmed => Tickets::Reserved,
        Standing::Aborted | Standing::Lapsed | Standing::Cancelled { .. } => Tickets::None,
        Standing::Held { .. } | Standing::Expired { .. } => unreachable!("a part has no deadline"),
    }
}

impl SlotState {
    /// Decides a message to the owner of an event.
    ///
    /// # Panics
    ///
    /// On a message to a coordinator.
    pub(super) fn hear_of_part(&self, now: Now, message: &OrderMessage, index: &ByCustomer) -> Heard {
        match message {
            OrderMessage::Prepare(prepare) => self.prepare_part(now, prepare, index),
            OrderMessage::Abort { owner, attempt, part } => {
                let doubt = Doubt::Placing { owner: *owner, attempt: *attempt };
                self.end_doubt(*part, doubt, *owner, None, PartStep::Aborted)
            }
            OrderMessage::Settle(settle) => self.settle_part(settle),
            OrderMessage::Lock { order, attempt, part, by } => self.lock_part(*order, *attempt, *part, *by),
            OrderMessage::Unlock { order, attempt, part } => {
                let doubt = Doubt::Confirming { order: *order, attempt: *attempt };
                self.end_doubt(*part, doubt, order.user, Some(*order), PartStep::Unlocked)
            }
            OrderMessage::Prepared { .. }
            | OrderMessage::Refused { .. }
            | OrderMessage::Ask { .. }
            | OrderMessage::Settled { .. }
            | OrderMessage::Locked { .. }
            | OrderMessage::Gone { .. } => unreachable!("{message:?} is for a coordinator"),
        }
    }

    fn prepare_part(&self, now: Now, prepare: &Prepare, index: &ByCustomer) -> Heard {
        let &Prepare { owner, attempt, actor, ref buyer, item } = prepare;
        let prepared = |part| Some(OrderMessage::Prepared { owner, attempt, part });
        let parts = self.events.get(&item.event).and_then(|event| event.parts.as_ref());
        if let Some(&number) = parts.and_then(|parts| parts.prepared.get(&(owner, attempt))) {
            return Heard { record: None, answer: prepared(ReservationId { event: item.event, number }) };
        }
        match self.next_reservation(now, item.event, actor, buyer, item.quantity, index) {
            Ok(id) => {
                let (by, quantity) = (actor.user, item.quantity.get());
                let part = PartPrepared { id, by, buyer: buyer.clone(), quantity, owner, attempt };
                Heard { record: Some(Record::PartPrepared(Box::new(part))), answer: prepared(id) }
            }
            Err(why) => Heard::answer(OrderMessage::Refused { owner, attempt, event: item.event, why }),
        }
    }

    /// Ends a part's doubt, if it has this one.
    fn end_doubt(
        &self,
        part: ReservationId,
        doubt: Doubt,
        by: UserId,
        order: Option<OrderId>,
        step: PartStep,
    ) -> Heard {
        let Some((event, reservation)) = self.part(part) else { return Heard::nothing() };
        if event.doubt_of(part.number) != Some(doubt) {
            return Heard::nothing();
        }
        Heard { record: Some(settled(part, by, order, step, reservation)), answer: None }
    }

    fn settle_part(&self, settle: &Settle) -> Heard {
        let &Settle { order, placed_by, part, fate, by } = settle;
        let answer = Some(OrderMessage::Settled { order, part, fate });
        let Some((event, reservation)) = self.part(part) else { return Heard::nothing() };
        let is_of_order = match event.doubt_of(part.number) {
            Some(Doubt::Placing { owner, attempt }) => owner == order.user && Some(attempt) == placed_by,
            Some(Doubt::Confirming { .. }) | None => event.order_of(part.number) == Some(order),
        };
        if !is_of_order {
            // It was transferred since, or its event was handed over.
            let left = event.doubt_of(part.number).is_none() && event.order_of(part.number).is_none();
            return if left { Heard { record: None, answer } } else { Heard::nothing() };
        }
        let step = match (event.standing(reservation), fate) {
            (Standing::Prepared, PartFate::Held) => PartStep::Held,
            (Standing::Prepared | Standing::Pledged, PartFate::Confirmed) => PartStep::Confirmed,
            (Standing::Prepared | Standing::Pledged | Standing::Confirmed, PartFate::Cancelled) => {
                PartStep::Cancelled
            }
            (Standing::Prepared | Standing::Pledged, PartFate::Expired) => PartStep::Expired,
            // It is so already, or a later message came before this one, or the part has ended alone.
            _ => return Heard { record: None, answer },
        };
        Heard { record: Some(settled(part, by, Some(order), step, reservation)), answer }
    }

    fn lock_part(&self, order: OrderId, attempt: Attempt, part: ReservationId, by: UserId) -> Heard {
        let Some((event, reservation)) = self.part(part) else { return Heard::nothing() };
        if event.order_of(part.number) != Some(order) {
            return Heard::nothing();
        }
        let locked = Some(OrderMessage::Locked { order, attempt, part });
        let gone = Heard::answer(OrderMessage::Gone { order, attempt, part });
        match event.standing(reservation) {
            Standing::Pledged => match event.doubt_of(part.number) {
                // Only one attempt is under way, the latest: a message of an earlier one was late.
                Some(Doubt::Confirming { attempt: latest, .. }) if latest > attempt => Heard::nothing(),
                Some(Doubt::Confirming { attempt: latest, .. }) if latest == attempt => {
                    Heard { record: None, answer: locked }
                }
                _ => {
                    let step = PartStep::Locked(attempt);
                    Heard { record: Some(settled(part, by, Some(order), step, reservation)), answer: locked }
                }
            },
            Standing::Cancelled { .. } | Standing::Lapsed | Standing::Aborted => gone,
            // The order is confirmed already: that attempt is over.
            Standing::Confirmed => Heard::nothing(),
            standing @ (Standing::Prepared | Standing::Held { .. } | Standing::Expired { .. }) => {
                unreachable!("a part of an order is {standing:?}")
            }
        }
    }

    /// Whether a reservation was prepared for an attempt that failed.
    pub(super) fn is_aborted(&self, id: ReservationId) -> bool {
        self.part(id).is_some_and(|(_, reservation)| reservation.standing() == Standing::Aborted)
    }

    /// The customer whose part a record aborts. Who that is does not change.
    pub(super) fn customer_of_aborted(&self, record: &Record) -> Option<(UserId, ReservationId)> {
        let Record::PartSettled(part) = record else { return None };
        match (part.step, self.holder(part.id)) {
            (PartStep::Aborted, Holder::Account(customer)) => Some((customer, part.id)),
            _ => None,
        }
    }

    fn part(&self, id: ReservationId) -> Option<(&Event, &Reservation)> {
        let event = self.events.get(&id.event)?;
        Some((event, event.reservation(id.number)?))
    }

    /// What a part does not know.
    pub(crate) fn doubt(&self, part: ReservationId) -> Option<Doubt> {
        self.events.get(&part.event)?.doubt_of(part.number)
    }

    /// The parts that are in doubt. Visits all events.
    pub(crate) fn doubts(&self) -> impl Iterator<Item = ReservationId> {
        let with_parts = self.events.iter().filter_map(|(&id, event)| Some((id, event.parts.as_ref()?)));
        with_parts.flat_map(|(event, parts)| {
            parts.doubts.keys().map(move |&number| ReservationId { event, number })
        })
    }

    pub(super) fn apply_part_prepared(&mut self, at: Timestamp, lsn: Lsn, part: &PartPrepared) -> Lsn {
        let &PartPrepared { id, by, ref buyer, quantity, owner, attempt } = part;
        let holder = self.take_holder(by, buyer, id);
        self.change_event(id.event, lsn, |event| {
            event.hold(holder, NO_DEADLINE, quantity);
            event.add_reservation(id, Reservation::new(at, Standing::Prepared, holder, quantity));
            event.change_parts(|parts| {
                parts.set_doubt(id.number, Some(Doubt::Placing { owner, attempt }));
            });
        })
    }

    pub(super) fn undo_part_prepared(&mut self, part: &PartPrepared, previous: Lsn) {
        let holder = self.holder(part.id);
        self.change_event(part.id.event, previous, |event| {
            event.change_parts(|parts| parts.set_doubt(part.id.number, None));
            event.remove_reservation(part.id);
            event.end_hold(holder, NO_DEADLINE, part.quantity);
        });
        self.give_back_holder(part.by, holder, part.id);
    }

    pub(super) fn apply_part_settled(&mut self, at: Timestamp, lsn: Lsn, part: &PartSettled) -> Lsn {
        let &PartSettled { id, by: _, order, step, given_back: _ } = part;
        self.change_event(id.event, lsn, |event| {
            let (to, doubt) = match step {
                PartStep::Aborted => (Some(Standing::Aborted), None),
                PartStep::Held => (Some(Standing::Pledged), None),
                PartStep::Locked(attempt) => {
                    let order = order.expect("only a part of an order is locked");
                    (None, Some(Doubt::Confirming { order, attempt }))
                }
                PartStep::Unlocked => (None, None),
                PartStep::Confirmed => (Some(Standing::Confirmed), None),
                PartStep::Cancelled => (Some(Standing::Cancelled { at }), None),
                PartStep::Expired => (Some(Standing::Lapsed), None),
            };
            if let Some(to) = to {
                event.move_part(id, to);
            }
            let order = order.filter(|&order| !event.leaves(id.number, order, event.organizer()));
            event.change_parts(|parts| {
                parts.set_doubt(id.number, doubt);
                parts.set_order(id.number, order);
            });
        })
    }

    /// What [`Record::PartSettled`] replaces.
    pub(super) fn part_to_undo(&self, id: ReservationId) -> PartBefore {
        let event = &self.events[&id.event];
        let standing = event.reservation(id.number).expect("the part is prepared").standing();
        PartBefore { standing, order: event.order_of(id.number), doubt: event.doubt_of(id.number) }
    }

    pub(super) fn undo_part_settled(&mut self, id: ReservationId, previous: Lsn, before: &PartBefore) {
        let &PartBefore { standing, order, doubt } = before;
        self.change_event(id.event, previous, |event| {
            event.move_part(id, standing);
            event.change_parts(|parts| {
                parts.set_doubt(id.number, doubt);
                parts.set_order(id.number, order);
            });
        });
    }
}

fn settled(
    id: ReservationId,
    by: UserId,
    order: Option<OrderId>,
    step: PartStep,
    reservation: &Reservation,
) -> Record {
    let given_back = match step {
        PartStep::Aborted | PartStep::Cancelled | PartStep::Expired => reservation.quantity,
        PartStep::Held | PartStep::Locked(_) | PartStep::Unlocked | PartStep::Confirmed => 0,
    };
    Record::PartSettled(Box::new(PartSettled { id, by, order, step, given_back }))
}
