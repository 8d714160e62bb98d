//! Holds: reservations that are over at a deadline, unless they are confirmed before.
//!
//! A reservation keeps its deadline. That its hold is over follows from a bound of the event, so one record ends
//! any number of holds. The tickets of live holds are summed by deadline.

use std::collections::BTreeMap;

use super::events::Event;
use super::refs::Holder;
use super::reservations::{Reservation, Standing};
use super::{Decision, OutcomeRef, SlotState, Undo};
use crate::clock::Now;
use crate::command::{Actor, Buyer};
use crate::ids::{EventId, HoldTime, Lsn, OrderId, Quantity, ReservationId, Timestamp};
use crate::limits::{HOLD_MS_AFTER_START, HOLD_SECONDS_MAX};
use crate::outcome::Rejection;
use crate::record::{Held, Record};

/// The deadline of what is held for an order, which has none of its own. No hold has one as late.
pub(super) const NO_DEADLINE: Timestamp = Timestamp(u64::MAX >> 1);

/// The holds of an event that has or had some.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Holds {
    /// The tickets of the live holds, by deadline. No sum is 0.
    tickets: BTreeMap<Timestamp, u32>,
    /// All holds with a deadline up to this one are over.
    over: Timestamp,
}

/// What a [`Record::HoldsExpired`] replaces. The sums that it removes follow from the reservations.
#[derive(Debug)]
pub struct Expiry {
    /// The event's bound.
    over: Timestamp,
    /// The highest bound of the slot's events.
    holds_over: Timestamp,
}

/// The live holds with their deadlines.
#[derive(Debug)]
pub struct LiveHolds {
    /// Their numbers and deadlines, by event.
    events: Vec<(EventId, Vec<(u32, Timestamp)>)>,
    orders: Vec<(OrderId, Timestamp)>,
}

impl Event {
    /// The deadline up to which holds are over.
    pub(super) fn holds_over(&self) -> Timestamp {
        self.holds.as_ref().map_or(Timestamp(0), |holds| holds.over)
    }

    /// The earliest deadline of a live hold.
    pub(super) fn first_deadline(&self) -> Option<Timestamp> {
        let holds = self.holds.as_ref()?;
        if self.is_deleted() {
            return None;
        }
        let first = holds.tickets.first_key_value().map(|(&deadline, _)| deadline);
        first.filter(|&deadline| deadline < NO_DEADLINE)
    }

    /// Counts tickets as held. The inverse of [`Event::end_hold`].
    pub(super) fn hold(&mut self, holder: Holder, deadline: Timestamp, tickets: u32) {
        assert!(tickets <= self.remaining(), "held beyond the quota");
        self.held += tickets;
        *self.holds.get_or_insert_default().tickets.entry(deadline).or_default() += tickets;
        if let Some(buyers) = &mut self.buyers {
            buyers.add(holder, Some(deadline), tickets);
        }
    }

    /// Counts tickets as held no longer.
    pub(super) fn end_hold(&mut self, holder: Holder, deadline: Timestamp, tickets: u32) {
        self.held -= tickets;
        let holds = self.holds.as_mut().expect("the event has this hold");
        let sum = holds.tickets.get_mut(&deadline).expect("the hold is live");
        *sum -= tickets;
        if *sum == 0 {
            holds.tickets.remove(&deadline);
        }
        self.drop_unused_holds();
        if let Some(buyers) = &mut self.buyers {
            buyers.subtract(holder, Some(deadline), tickets);
        }
    }

    /// The tickets of the live holds with a deadline up to this one.
    fn tickets_up_to(&self, deadline: Timestamp) -> u32 {
        self.holds
            .as_ref()
            .map_or(0, |holds| holds.tickets.range(..=deadline).map(|(_, tickets)| tickets).sum())
    }

    /// The tickets of all holds that were live when the event was deleted.
    pub(super) fn tickets_held_at_deletion(&self) -> u32 {
        self.tickets_up_to(Timestamp(u64::MAX))
    }

    /// So that undoing the first hold leads to the state before.
    fn drop_unused_holds(&mut self) {
        self.holds.take_if(|holds| **holds == Holds::default());
    }

    /// The numbers of the reservations that are held until a deadline, with their deadlines. Visits all reservations since
    /// the first of them.
    fn live_holds(&self) -> impl Iterator<Item = (u32, Timestamp)> {
        let (mut left, over) = (self.held - self.held_for_orders(), self.holds_over());
        let numbers = (1..=self.reservation_count()).rev();
        let holds = numbers.map_while(move |number| {
            if left == 0 {
                return None;
            }
            let reservation = &self.reservations[number as usize - 1];
            let Standing::Held { deadline } = reservation.standing() else { return Some(None) };
            if deadline <= over {
                return Some(None);
            }
            left -= reservation.quantity;
            Some(Some((number, deadline)))
        });
        holds.flatten()
    }

    /// The tickets that are held without a deadline.
    fn held_for_orders(&self) -> u32 {
        let sum = self.holds.as_ref().and_then(|holds| holds.tickets.get(&NO_DEADLINE));
        sum.copied().unwrap_or(0)
    }

    /// Gives the live holds other deadlines. `holds` has all of them.
    fn set_deadlines(&mut self, holds: &[(u32, Timestamp)]) {
        let mut sums: Vec<(Timestamp, u32)> = Vec::with_capacity(holds.len());
        for &(number, deadline) in holds {
            let reservation = &mut self.reservations[number as usize - 1];
            reservation.set_standing(Standing::Held { deadline });
            sums.push((deadline, reservation.quantity));
        }
        let tickets: u32 = sums.iter().map(|&(_, tickets)| tickets).sum();
        let for_orders = self.held_for_orders();
        assert_eq!(tickets + for_orders, self.held, "all live holds get deadlines");
        sums.sort_unstable_by_key(|&(deadline, _)| deadline);
        sums.dedup_by(|next, sum| {
            let is_same = next.0 == sum.0;
            sum.1 += if is_same { next.1 } else { 0 };
            is_same
        });
        let holds = self.holds.as_mut().expect("the event has live holds");
        holds.tickets = sums.into_iter().collect();
        if for_orders > 0 {
            holds.tickets.insert(NO_DEADLINE, for_orders);
        }
        self.forget_buyers();
    }
}

/// The deadline that a live hold has after a start at the time `from`. How much time has passed since the process
/// before, only the wall clock tells, which may have been set. A hold gets at least [`HOLD_MS_AFTER_START`]; and
/// at most the longest time of a hold, which is no less than what it had left.
fn extended(deadline: Timestamp, from: Timestamp) -> Timestamp {
    let most = u64::from(HOLD_SECONDS_MAX) * 1000;
    Timestamp(deadline.0.clamp(from.0 + HOLD_MS_AFTER_START, from.0 + most))
}

impl SlotState {
    /// The earliest deadline of a live hold or a held order.
    pub(crate) fn first_deadline(&self) -> Option<Timestamp> {
        let of_events = self.deadlines.first().map(|&(deadline, _)| deadline);
        let of_orders = self.orders.first_deadline().map(|(deadline, _)| deadline);
        of_events.into_iter().chain(of_orders).min()
    }

    /// The highest deadline up to which the holds of some event are over. New deadlines must be later.
    pub(crate) fn holds_over(&self) -> Timestamp {
        self.holds_over
    }

    /// The record that ends all holds of an event that have reached their deadlines, for the event whose holds
    /// have waited longest; then one that ends a held order.
    pub(crate) fn expiry_due(&self, now: Now) -> Option<Record> {
        self.holds_expiry_due(now).or_else(|| self.order_expiry_due(now))
    }

    fn holds_expiry_due(&self, now: Now) -> Option<Record> {
        let &(deadline, event) = self.deadlines.first()?;
        let up_to = now.steady;
        let tickets = || self.events[&event].tickets_up_to(up_to);
        (deadline <= up_to).then(|| Record::HoldsExpired { event, up_to, tickets: tickets() })
    }

    /// Decides a hold with the id that [`SlotState::next_reservation`] returned.
    pub(super) fn decide_hold(
        now: Now,
        id: ReservationId,
        actor: Actor,
        buyer: Buyer,
        quantity: Quantity,
        time: HoldTime,
    ) -> Decision {
        let deadline = Timestamp(now.steady.0 + time.milliseconds());
        let held = Held { id, by: actor.by(), buyer, quantity: quantity.get(), deadline };
        Decision::change(Record::Held(Box::new(held)), OutcomeRef::Reservation(id))
    }

    pub(super) fn apply_held(&mut self, at: Timestamp, lsn: Lsn, held: &Held) -> Lsn {
        let &Held { id, by, ref buyer, quantity, deadline } = held;
        let holder = self.take_holder(by.user, buyer, id);
        self.change_event(id.event, lsn, |event| {
            assert!(deadline > event.holds_over(), "a hold is over before it begins");
            event.hold(holder, deadline, quantity);
            event.add_reservation(id, Reservation::new(at, Standing::Held { deadline }, holder, quantity));
        })
    }

    pub(super) fn undo_held(&mut self, held: &Held, previous: Lsn) {
        let &Held { id, by, buyer: _, quantity, deadline } = held;
        let holder = self.holder(id);
        self.change_event(id.event, previous, |event| {
            event.remove_reservation(id);
            event.end_hold(holder, deadline, quantity);
        });
        self.give_back_holder(by.user, holder, id);
    }

    pub(super) fn decide_confirm(
        &self,
        id: ReservationId,
        actor: Actor,
        quantity: Option<Quantity>,
    ) -> Result<Decision, Rejection> {
        let (event, reservation) = self.reservation_to_confirm(id, actor)?;
        let has = reservation.quantity;
        let quantity = quantity.map_or(has, Quantity::get);
        match event.standing(reservation) {
            Standing::Pledged => Err(Rejection::PartOfOrder { order: event.order_of_pledged(id.number) }),
            Standing::Held { .. } if quantity > has => Err(Rejection::QuantityAbove { quantity: has }),
            Standing::Held { .. } => {
                let confirmed = Record::Confirmed { id, by: actor.by(), given_back: has - quantity };
                Ok(Decision::change(confirmed, OutcomeRef::Reservation(id)))
            }
            Standing::Confirmed if quantity == has => Ok(Decision::unchanged(OutcomeRef::Reservation(id))),
            Standing::Confirmed => Err(Rejection::HoldConfirmed { quantity: has }),
            Standing::Expired { .. } | Standing::Lapsed => Err(Rejection::HoldExpired),
            Standing::Cancelled { .. } => Err(Rejection::HoldReleased),
            hidden @ (Standing::Prepared | Standing::Aborted) => {
                unreachable!("nobody sees what is {hidden:?}")
            }
        }
    }

    pub(super) fn apply_confirmed(&mut self, lsn: Lsn, id: ReservationId, given_back: u32) -> Lsn {
        self.change_event(id.event, lsn, |event| {
            let reservation = event.reservation_mut(id);
            let (standing, holder, has) =
                (reservation.standing(), reservation.holder(), reservation.quantity);
            let Standing::Held { deadline } = standing else { unreachable!("{id} is not held") };
            assert!(given_back < has, "a reservation has at least one ticket");
            reservation.set_standing(Standing::Confirmed);
            reservation.quantity = has - given_back;
            event.end_hold(holder, deadline, has);
            event.sell(holder, has - given_back);
        })
    }

    pub(super) fn decide_release(&self, id: ReservationId, actor: Actor) -> Result<Decision, Rejection> {
        let (event, reservation) = self.reservation_visible_to(id, actor)?;
        match event.standing(reservation) {
            Standing::Confirmed => Err(Rejection::HoldConfirmed { quantity: reservation.quantity }),
            Standing::Pledged if event.doubt_of(id.number).is_some() => Err(Rejection::OrderInDoubt),
            Standing::Held { .. } | Standing::Pledged => {
                let released = Record::Released { id, by: actor.by(), quantity: reservation.quantity };
                Ok(Decision::change(released, OutcomeRef::Cancelled))
            }
            Standing::Expired { .. } | Standing::Lapsed | Standing::Cancelled { .. } => {
                Ok(Decision::unchanged(OutcomeRef::Cancelled))
            }
            hidden @ (Standing::Prepared | Standing::Aborted) => {
                unreachable!("nobody sees what is {hidden:?}")
            }
        }
    }

    pub(super) fn apply_released(&mut self, at: Timestamp, lsn: Lsn, id: ReservationId) -> Lsn {
        self.change_event(id.event, lsn, |event| {
            let reservation = event.reservation_mut(id);
            let (standing, holder, quantity) =
                (reservation.standing(), reservation.holder(), reservation.quantity);
            let deadline = standing.deadline().expect("it is held");
            reservation.set_standing(Standing::Cancelled { at });
            event.end_hold(holder, deadline, quantity);
        })
    }

    /// What the end of a hold replaces: its tickets and deadline.
    pub(super) fn hold_to_undo(&self, id: ReservationId) -> Undo {
        let reservation = &self.events[&id.event].reservations[id.number as usize - 1];
        let deadline = reservation.standing().deadline().expect("it is held");
        Undo::Hold { quantity: reservation.quantity, deadline }
    }

    /// Undoes [`Record::Confirmed`] or [`Record::Released`].
    pub(super) fn undo_end_of_hold(
        &mut self,
        id: ReservationId,
        previous: Lsn,
        quantity: u32,
        deadline: Timestamp,
    ) {
        self.change_event(id.event, previous, |event| {
            let reservation = event.reservation_mut(id);
            let confirmed = match reservation.standing() {
                Standing::Confirmed => reservation.quantity,
                _ => 0,
            };
            reservation.set_standing(Standing::held_until(deadline));
            reservation.quantity = quantity;
            let holder = reservation.holder();
            event.take_back(holder, confirmed);
            event.hold(holder, deadline, quantity);
        });
    }

    pub(super) fn apply_holds_expired(
        &mut self,
        lsn: Lsn,
        id: EventId,
        up_to: Timestamp,
        tickets: u32,
    ) -> Lsn {
        self.holds_over = self.holds_over.max(up_to);
        self.change_event(id, lsn, |event| {
            let holds = event.holds.as_mut().expect("the event has holds");
            let later = holds.tickets.split_off(&Timestamp(up_to.0 + 1));
            let over = std::mem::replace(&mut holds.tickets, later);
            assert_eq!(tickets, over.values().sum::<u32>(), "an expiry gives back all tickets that it ends");
            holds.over = holds.over.max(up_to);
            event.held -= tickets;
        })
    }

    /// What [`Record::HoldsExpired`] replaces.
    pub(super) fn expiry_to_undo(&self, id: EventId) -> Undo {
        let over = self.events[&id].holds_over();
        Undo::Expiry(Box::new(Expiry { over, holds_over: self.holds_over }))
    }

    pub(super) fn undo_holds_expired(&mut self, id: EventId, previous: Lsn, tickets: u32, before: &Expiry) {
        let &Expiry { over, holds_over } = before;
        self.holds_over = holds_over;
        self.change_event(id, previous, |event| {
            event.holds.as_mut().expect("the event has holds").over = over;
            event.held += tickets;
            let holds: Vec<_> = event.live_holds().collect();
            event.set_deadlines(&holds);
        });
    }

    /// The live holds with their deadlines, by event.
    pub(super) fn holds_to_undo(&self) -> Undo {
        let events = self.deadlines.iter().map(|&(_, event)| event);
        let events = events.map(|event| (event, self.events[&event].live_holds().collect()));
        Undo::Deadlines(Box::new(LiveHolds { events: events.collect(), orders: self.orders.held() }))
    }

    pub(super) fn apply_holds_extended(&mut self, from: Timestamp) {
        let events: Vec<EventId> = self.deadlines.iter().map(|&(_, event)| event).collect();
        for id in events {
            self.change_deadlines(id, |event| {
                let holds = event.live_holds().map(|(number, deadline)| (number, extended(deadline, from)));
                let holds: Vec<_> = holds.collect();
                event.set_deadlines(&holds);
            });
        }
        let orders = self.orders.held();
        self.orders.set_deadlines(orders.into_iter().map(|(id, deadline)| (id, extended(deadline, from))));
    }

    pub(super) fn undo_holds_extended(&mut self, LiveHolds { events, orders }: &LiveHolds) {
        for (id, holds) in events {
            self.change_deadlines(*id, |event| event.set_deadlines(holds));
        }
        self.orders.set_deadlines(orders.iter().copied());
    }
}
