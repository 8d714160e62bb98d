//! Reservations: each belongs to an event, and is numbered from 1 there.

use super::by_customer::ByCustomer;
use super::events::Event;
use super::holds::NO_DEADLINE;
use super::{Decision, OutcomeRef, SlotState};
use crate::clock::Now;
use crate::command::{Actor, Buyer};
use crate::ids::{EventId, Lsn, Quantity, ReservationId, Role, Timestamp, UserId};
use crate::limits::{RESERVATIONS_MAX, SCANNED_MAX};
use crate::outcome::{
    Outcome, Rejection, Reply, ReservationSlice, ReservationStatus, ReservationView, Statuses,
};
use crate::record::Record;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reservation {
    pub(super) created_at: Timestamp,
    /// A [`Standing`] in eight bytes instead of sixteen: 0 for a confirmed one, the time of the cancellation, or
    /// the deadline with [`HELD`].
    standing: u64,
    pub(super) buyer: Buyer,
    pub(super) quantity: u32,
}

const _: () = assert!(size_of::<Reservation>() <= 24);

/// The bit of a deadline. No time has it.
const HELD: u64 = 1 << 63;

/// The standings of parts of orders. No deadline is as late.
const PREPARED: u64 = u64::MAX;
const PLEDGED: u64 = u64::MAX - 1;
const ABORTED: u64 = u64::MAX - 2;
const LAPSED: u64 = u64::MAX - 3;

/// Whether a reservation has tickets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Confirmed,
    Held {
        deadline: Timestamp,
    },
    /// Was held until the deadline. A reservation does not know this alone: see [`Event::standing`].
    Expired {
        deadline: Timestamp,
    },
    Cancelled {
        at: Timestamp,
    },
    /// Held for an attempt to place an order. Nobody sees it.
    Prepared,
    /// Held for an order, without a deadline of its own.
    Pledged,
    /// Was prepared for an attempt that failed. Nobody sees it.
    Aborted,
    /// Was held for an order whose time was over.
    Lapsed,
}

impl Standing {
    /// The inverse of [`Standing::deadline`], of what is held.
    pub(super) fn held_until(deadline: Timestamp) -> Standing {
        if deadline == NO_DEADLINE { Standing::Pledged } else { Standing::Held { deadline } }
    }

    /// The deadline of what can be given up; [`NO_DEADLINE`] if it is held for an order.
    pub(super) fn deadline(self) -> Option<Timestamp> {
        match self {
            Standing::Held { deadline } => Some(deadline),
            Standing::Pledged => Some(NO_DEADLINE),
            Standing::Confirmed
            | Standing::Expired { .. }
            | Standing::Cancelled { .. }
            | Standing::Prepared
            | Standing::Aborted
            | Standing::Lapsed => None,
        }
    }
}

impl Reservation {
    pub(super) fn new(created_at: Timestamp, standing: Standing, buyer: Buyer, quantity: u32) -> Reservation {
        let mut reservation = Reservation { created_at, standing: 0, buyer, quantity };
        reservation.set_standing(standing);
        reservation
    }

    /// The standing as far as records of this reservation alone say.
    pub(super) fn standing(&self) -> Standing {
        match self.standing {
            0 => Standing::Confirmed,
            PREPARED => Standing::Prepared,
            PLEDGED => Standing::Pledged,
            ABORTED => Standing::Aborted,
            LAPSED => Standing::Lapsed,
            deadline if deadline & HELD != 0 => Standing::Held { deadline: Timestamp(deadline & !HELD) },
            at => Standing::Cancelled { at: Timestamp(at) },
        }
    }

    pub(super) fn set_standing(&mut self, standing: Standing) {
        self.standing = match standing {
            Standing::Confirmed => 0,
            Standing::Held { deadline } | Standing::Expired { deadline } => deadline.0 | HELD,
            Standing::Cancelled { at } => at.0,
            Standing::Prepared => PREPARED,
            Standing::Pledged => PLEDGED,
            Standing::Aborted => ABORTED,
            Standing::Lapsed => LAPSED,
        };
    }

    fn is_shown(&self) -> bool {
        !matches!(self.standing, PREPARED | ABORTED)
    }

    /// Whether the actor bought it. The actor's role may be another one now.
    fn is_of(&self, actor: Actor) -> bool {
        self.buyer == Buyer::Account(actor.user)
    }
}

impl Event {
    /// The number of reservations, cancelled ones included.
    pub(super) fn reservation_count(&self) -> u32 {
        u32::try_from(self.reservations.len()).expect("at most RESERVATIONS_MAX")
    }

    pub(super) fn reservation(&self, number: u32) -> Option<&Reservation> {
        self.reservations.get(number.checked_sub(1)? as usize)
    }

    pub(super) fn reservation_mut(&mut self, id: ReservationId) -> &mut Reservation {
        &mut self.reservations[id.number as usize - 1]
    }

    #[inline(always)]
    pub(super) fn add_reservation(&mut self, id: ReservationId, reservation: Reservation) {
        self.reservations.push(reservation);
        assert_eq!(self.reservations.len(), id.number as usize, "reservations are applied in order");
    }

    /// Removes the last reservation, to undo it: numbers have no gaps.
    pub(super) fn remove_reservation(&mut self, id: ReservationId) {
        assert_eq!(self.reservations.len(), id.number as usize, "reservations are undone in reverse order");
        self.reservations.pop();
    }

    /// Counts tickets as reserved by a buyer.
    pub(super) fn sell(&mut self, buyer: Buyer, tickets: u32) {
        self.take(tickets);
        if let Some(buyers) = &mut self.buyers {
            buyers.add(buyer, None, tickets);
        }
    }

    /// The inverse of [`Event::sell`].
    pub(super) fn take_back(&mut self, buyer: Buyer, tickets: u32) {
        self.give_back(tickets);
        if let Some(buyers) = &mut self.buyers {
            buyers.subtract(buyer, None, tickets);
        }
    }

    /// The standing, as the records of the event say as well: they may end holds, or cancel all that is left.
    pub(super) fn standing(&self, reservation: &Reservation) -> Standing {
        match reservation.standing() {
            Standing::Held { deadline } if deadline <= self.holds_over() => Standing::Expired { deadline },
            standing @ (Standing::Held { .. } | Standing::Confirmed | Standing::Pledged) => {
                match self.deleted_at() {
                    Some(at) => Standing::Cancelled { at },
                    None => standing,
                }
            }
            standing @ (Standing::Cancelled { .. }
            | Standing::Expired { .. }
            | Standing::Prepared
            | Standing::Aborted
            | Standing::Lapsed) => standing,
        }
    }

    /// Whether anybody sees a reservation.
    pub(super) fn shows(&self, number: u32) -> bool {
        self.reservation(number).is_some_and(Reservation::is_shown)
    }

    /// The view of a reservation that is known to exist, and to be shown.
    pub(super) fn reservation_view(&self, id: ReservationId) -> ReservationView {
        let reservation = self.reservation(id.number).expect("the caller knows that it exists");
        let (status, expires_at, cancelled_at) = match self.standing(reservation) {
            Standing::Confirmed => (ReservationStatus::Confirmed, None, None),
            Standing::Held { deadline } => (ReservationStatus::Held, Some(deadline), None),
            Standing::Pledged => (ReservationStatus::Held, None, None),
            Standing::Lapsed => (ReservationStatus::Expired, None, None),
            Standing::Expired { deadline } => (ReservationStatus::Expired, Some(deadline), None),
            Standing::Cancelled { at } => (ReservationStatus::Cancelled, None, Some(at)),
            hidden @ (Standing::Prepared | Standing::Aborted) => {
                unreachable!("nobody sees what is {hidden:?}")
            }
        };
        ReservationView {
            id,
            buyer: reservation.buyer,
            quantity: reservation.quantity,
            status,
            created_at: reservation.created_at,
            expires_at,
            cancelled_at,
            order: self.order_of(id.number),
        }
    }
}

impl SlotState {
    pub(super) fn decide_reserve(
        &self,
        now: Now,
        id: EventId,
        actor: Actor,
        buyer: Buyer,
        quantity: Quantity,
        index: &ByCustomer,
    ) -> Result<Decision, Rejection> {
        let id = self.next_reservation(now, id, buyer, quantity, index)?;
        let reserved = Record::Reserved { id, by: actor.user, buyer, quantity: quantity.get() };
        Ok(Decision::change(reserved, OutcomeRef::Reservation(id)))
    }

    /// The id of the next reservation, if the event has so many tickets and its rules allow the sale.
    ///
    /// Inlined, as [`Event::add_reservation`] is: holds use both, and a reservation should not pay for that.
    #[inline(always)]
    pub(super) fn next_reservation(
        &self,
        now: Now,
        id: EventId,
        buyer: Buyer,
        quantity: Quantity,
        index: &ByCustomer,
    ) -> Result<ReservationId, Rejection> {
        let event = self.live_event(id)?;
        if let Some(rules) = &event.edition.details().rules {
            event.check_rules(id, rules, now.wall, buyer, quantity, index)?;
        }
        if quantity.get() > event.remaining() {
            return Err(Rejection::SoldOut { remaining: event.remaining() });
        }
        let made = event.reservation_count();
        if made == RESERVATIONS_MAX {
            return Err(Rejection::NumbersUsedUp);
        }
        Ok(ReservationId { event: id, number: made + 1 })
    }

    pub(super) fn apply_reserved(
        &mut self,
        at: Timestamp,
        lsn: Lsn,
        id: ReservationId,
        buyer: Buyer,
        quantity: u32,
    ) -> Lsn {
        self.change_event(id.event, lsn, |event| {
            event.sell(buyer, quantity);
            event.add_reservation(id, Reservation::new(at, Standing::Confirmed, buyer, quantity));
        })
    }

    pub(super) fn undo_reserved(&mut self, id: ReservationId, previous: Lsn, quantity: u32) {
        self.change_event(id.event, previous, |event| {
            let buyer = event.reservation_mut(id).buyer;
            event.remove_reservation(id);
            event.take_back(buyer, quantity);
        });
    }

    pub(super) fn decide_cancel(&self, id: ReservationId, actor: Actor) -> Result<Decision, Rejection> {
        let (event, reservation) = self.reservation_to_cancel(id, actor)?;
        if event.standing(reservation) != Standing::Confirmed {
            return self.decide_release(id, actor);
        }
        let cancelled = Record::Cancelled { id, by: actor.user, quantity: reservation.quantity };
        Ok(Decision::change(cancelled, OutcomeRef::Cancelled))
    }

    pub(super) fn apply_cancelled(&mut self, at: Timestamp, lsn: Lsn, id: ReservationId) -> Lsn {
        self.change_event(id.event, lsn, |event| {
            let reservation = event.reservation_mut(id);
            assert_eq!(reservation.standing(), Standing::Confirmed, "a reservation was cancelled twice");
            reservation.set_standing(Standing::Cancelled { at });
            let (buyer, quantity) = (reservation.buyer, reservation.quantity);
            event.take_back(buyer, quantity);
        })
    }

    pub(super) fn undo_cancelled(&mut self, id: ReservationId, previous: Lsn) {
        self.change_event(id.event, previous, |event| {
            let reservation = event.reservation_mut(id);
            reservation.set_standing(Standing::Confirmed);
            let (buyer, quantity) = (reservation.buyer, reservation.quantity);
            event.sell(buyer, quantity);
        });
    }

    pub(super) fn decide_reduce(
        &self,
        id: ReservationId,
        actor: Actor,
        left: Quantity,
    ) -> Result<Decision, Rejection> {
        let (event, reservation) = self.reservation_to_cancel(id, actor)?;
        match event.standing(reservation) {
            Standing::Confirmed | Standing::Held { .. } => {}
            Standing::Pledged => {
                return Err(Rejection::PartOfOrder { order: event.order_of_pledged(id.number) });
            }
            Standing::Expired { .. } | Standing::Lapsed => return Err(Rejection::HoldExpired),
            Standing::Cancelled { .. } => return Err(Rejection::ReservationCancelled),
            hidden @ (Standing::Prepared | Standing::Aborted) => {
                unreachable!("nobody sees what is {hidden:?}")
            }
        }
        let quantity = reservation.quantity;
        let given_back = quantity.checked_sub(left.get()).ok_or(Rejection::QuantityAbove { quantity })?;
        if given_back == 0 {
            return Ok(Decision::unchanged(OutcomeRef::Reservation(id)));
        }
        let reduced = Record::Reduced { id, by: actor.user, quantity: given_back };
        Ok(Decision::change(reduced, OutcomeRef::Reservation(id)))
    }

    pub(super) fn apply_reduced(&mut self, lsn: Lsn, id: ReservationId, given_back: u32) -> Lsn {
        self.change_event(id.event, lsn, |event| {
            let reservation = event.reservation_mut(id);
            assert!(given_back < reservation.quantity, "a reservation has at least one ticket");
            reservation.quantity -= given_back;
            let (standing, buyer) = (reservation.standing(), reservation.buyer);
            match standing {
                Standing::Confirmed => event.take_back(buyer, given_back),
                Standing::Held { deadline } => event.end_hold(buyer, deadline, given_back),
                ended => unreachable!("{id} has no ticket: {ended:?}"),
            }
        })
    }

    pub(super) fn undo_reduced(&mut self, id: ReservationId, previous: Lsn, given_back: u32) {
        self.change_event(id.event, previous, |event| {
            let reservation = event.reservation_mut(id);
            reservation.quantity += given_back;
            let (standing, buyer) = (reservation.standing(), reservation.buyer);
            match standing {
                Standing::Held { deadline } => event.hold(buyer, deadline, given_back),
                _ => event.sell(buyer, given_back),
            }
        });
    }

    pub(super) fn query_reservation(&self, id: ReservationId, actor: Actor) -> Reply {
        let (event, _) = self.reservation_visible_to(id, actor)?;
        Ok(Outcome::Reservation(event.reservation_view(id)))
    }

    pub(super) fn query_event_reservations(
        &self,
        id: EventId,
        actor: Actor,
        after: Option<u32>,
        up_to: Option<u32>,
        statuses: Statuses,
        limit: usize,
    ) -> Reply {
        // Also of a deleted event.
        let event = self.events.get(&id).ok_or(Rejection::EventNotFound)?;
        if !event.is_managed_by(actor) {
            return Err(Rejection::NotYourEvent);
        }
        let last = event.reservation_count();
        let end = last.min(up_to.unwrap_or(last));
        let mut looked_at = after.unwrap_or(0).min(end);
        let stop = end.min(looked_at.saturating_add(SCANNED_MAX));
        let mut views = Vec::new();
        while looked_at < stop && views.len() < limit {
            looked_at += 1;
            if !event.shows(looked_at) {
                continue;
            }
            let view = event.reservation_view(ReservationId { event: id, number: looked_at });
            if statuses.contains(view.status) {
                views.push(view);
            }
        }
        let next = (looked_at < end).then_some(looked_at);
        let position = event.last_record();
        Ok(Outcome::ReservationSlice(Box::new(ReservationSlice { views, next, position, last })))
    }

    pub(super) fn shows(&self, id: ReservationId) -> bool {
        self.events.get(&id.event).is_some_and(|event| event.shows(id.number))
    }

    /// The view of a reservation that is known to exist, and to be shown.
    pub(super) fn reservation_view(&self, id: ReservationId) -> ReservationView {
        self.events[&id.event].reservation_view(id)
    }

    /// All reservations of the slot, with the customers who have them.
    pub(super) fn reservations_by_customer(&self) -> impl Iterator<Item = (UserId, ReservationId)> {
        self.events.iter().flat_map(|(&event, of_event)| {
            let numbers = 1..=of_event.reservation_count();
            numbers.map(move |number| {
                let Buyer::Account(customer) = of_event.reservations[number as usize - 1].buyer;
                (customer, ReservationId { event, number })
            })
        })
    }

    /// The event and reservation, if the actor bought it.
    pub(super) fn own_reservation(
        &self,
        id: ReservationId,
        actor: Actor,
    ) -> Result<(&Event, &Reservation), Rejection> {
        let (event, reservation) = self.reservation_visible_to(id, actor)?;
        if !reservation.is_of(actor) {
            return Err(Rejection::NotYourReservation);
        }
        Ok((event, reservation))
    }

    /// The event and reservation, if the actor may cancel it.
    pub(super) fn reservation_to_cancel(
        &self,
        id: ReservationId,
        actor: Actor,
    ) -> Result<(&Event, &Reservation), Rejection> {
        let (event, reservation) = self.reservation_visible_to(id, actor)?;
        if !reservation.is_of(actor) && actor.role != Role::Admin {
            return Err(Rejection::NotYourReservation);
        }
        Ok((event, reservation))
    }

    /// The event and reservation, if the actor may see it. Otherwise the rejection is the same as if it did
    /// not exist.
    fn reservation_visible_to(
        &self,
        id: ReservationId,
        actor: Actor,
    ) -> Result<(&Event, &Reservation), Rejection> {
        let event = self.events.get(&id.event).ok_or(Rejection::ReservationNotFound)?;
        let reservation = event.reservation(id.number).filter(|reservation| reservation.is_shown());
        let reservation = reservation.ok_or(Rejection::ReservationNotFound)?;
        if !reservation.is_of(actor) && !event.is_managed_by(actor) {
            return Err(Rejection::ReservationNotFound);
        }
        Ok((event, reservation))
    }
}
