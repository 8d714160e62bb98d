//! Reservations: each belongs to an event, and is numbered from 1 there.

use super::by_customer::ByCustomer;
use super::events::Event;
use super::{Decision, OutcomeRef, SlotState};
use crate::clock::Now;
use crate::command::{Actor, Buyer};
use crate::ids::{EventId, Lsn, Quantity, ReservationId, Role, Timestamp, UserId};
use crate::limits::RESERVATIONS_MAX;
use crate::outcome::{Outcome, Rejection, Reply, ReservationStatus, ReservationView};
use crate::record::Record;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reservation {
    created_at: Timestamp,
    /// 0 while it is confirmed: an `Option` would cost eight more bytes a reservation.
    cancelled_at: Timestamp,
    buyer: Buyer,
    quantity: u32,
}

const _: () = assert!(size_of::<Reservation>() <= 24);

const NOT_CANCELLED: Timestamp = Timestamp(0);

impl Reservation {
    /// Whether the actor bought it. The actor's role may be another one now.
    fn is_of(&self, actor: Actor) -> bool {
        self.buyer == Buyer::Account(actor.user)
    }
}

impl Event {
    /// The number of reservations, cancelled ones included.
    fn reservation_count(&self) -> u32 {
        u32::try_from(self.reservations.len()).expect("at most RESERVATIONS_MAX")
    }

    fn reservation(&self, number: u32) -> Option<&Reservation> {
        self.reservations.get(number.checked_sub(1)? as usize)
    }

    /// Counts tickets as a buyer's.
    fn sell(&mut self, buyer: Buyer, tickets: u32) {
        self.take(tickets);
        if let Some(buyers) = &mut self.buyers {
            buyers.add(buyer, tickets);
        }
    }

    /// The inverse of [`Event::sell`].
    fn take_back(&mut self, buyer: Buyer, tickets: u32) {
        self.give_back(tickets);
        if let Some(buyers) = &mut self.buyers {
            buyers.subtract(buyer, tickets);
        }
    }

    /// The tickets of a reservation of a live event that were not given back.
    pub(super) fn live_tickets(&self, number: u32) -> u32 {
        let reservation = &self.reservations[number as usize - 1];
        if reservation.cancelled_at == NOT_CANCELLED { reservation.quantity } else { 0 }
    }

    /// The time at which it was cancelled, alone or with its event.
    fn cancelled_at(&self, reservation: &Reservation) -> Option<Timestamp> {
        match reservation.cancelled_at {
            NOT_CANCELLED => self.deleted_at(),
            at => Some(at),
        }
    }

    /// The view of a reservation that is known to exist.
    pub(super) fn reservation_view(&self, id: ReservationId) -> ReservationView {
        let reservation = self.reservation(id.number).expect("the caller knows that it exists");
        let cancelled_at = self.cancelled_at(reservation);
        ReservationView {
            id,
            buyer: reservation.buyer,
            quantity: reservation.quantity,
            status: match cancelled_at {
                Some(_) => ReservationStatus::Cancelled,
                None => ReservationStatus::Confirmed,
            },
            created_at: reservation.created_at,
            cancelled_at,
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
        let id = ReservationId { event: id, number: made + 1 };
        let reserved = Record::Reserved { id, by: actor.user, buyer, quantity: quantity.get() };
        Ok(Decision::change(reserved, OutcomeRef::Reservation(id)))
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
            event.reservations.push(Reservation {
                created_at: at,
                cancelled_at: NOT_CANCELLED,
                buyer,
                quantity,
            });
            assert_eq!(event.reservations.len(), id.number as usize, "reservations are applied in order");
        })
    }

    /// Undoes the event's last reservation: numbers have no gaps.
    pub(super) fn undo_reserved(&mut self, id: ReservationId, previous: Lsn) {
        self.change_event(id.event, previous, |event| {
            assert_eq!(
                event.reservations.len(),
                id.number as usize,
                "reservations are undone in reverse order"
            );
            let reservation = event.reservations.pop().expect("the count was checked above");
            event.take_back(reservation.buyer, reservation.quantity);
        });
    }

    pub(super) fn decide_cancel(&self, id: ReservationId, actor: Actor) -> Result<Decision, Rejection> {
        let (event, reservation) = self.reservation_to_cancel(id, actor)?;
        if event.cancelled_at(reservation).is_some() {
            return Ok(Decision::unchanged(OutcomeRef::Cancelled));
        }
        let cancelled = Record::Cancelled { id, by: actor.user, quantity: reservation.quantity };
        Ok(Decision::change(cancelled, OutcomeRef::Cancelled))
    }

    pub(super) fn apply_cancelled(&mut self, at: Timestamp, lsn: Lsn, id: ReservationId) -> Lsn {
        self.change_event(id.event, lsn, |event| {
            let reservation = &mut event.reservations[id.number as usize - 1];
            assert_eq!(reservation.cancelled_at, NOT_CANCELLED, "a reservation was cancelled twice");
            reservation.cancelled_at = at;
            let (buyer, quantity) = (reservation.buyer, reservation.quantity);
            event.take_back(buyer, quantity);
        })
    }

    pub(super) fn undo_cancelled(&mut self, id: ReservationId, previous: Lsn) {
        self.change_event(id.event, previous, |event| {
            let reservation = &mut event.reservations[id.number as usize - 1];
            reservation.cancelled_at = NOT_CANCELLED;
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
        if event.cancelled_at(reservation).is_some() {
            return Err(Rejection::ReservationCancelled);
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
            let reservation = &mut event.reservations[id.number as usize - 1];
            assert_eq!(reservation.cancelled_at, NOT_CANCELLED, "a cancelled reservation has no ticket");
            assert!(given_back < reservation.quantity, "a reservation has at least one ticket");
            reservation.quantity -= given_back;
            let buyer = reservation.buyer;
            event.take_back(buyer, given_back);
        })
    }

    pub(super) fn undo_reduced(&mut self, id: ReservationId, previous: Lsn, given_back: u32) {
        self.change_event(id.event, previous, |event| {
            let reservation = &mut event.reservations[id.number as usize - 1];
            reservation.quantity += given_back;
            let buyer = reservation.buyer;
            event.sell(buyer, given_back);
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
        limit: usize,
    ) -> Reply {
        // Also of a deleted event.
        let event = self.events.get(&id).ok_or(Rejection::EventNotFound)?;
        if !event.is_managed_by(actor) {
            return Err(Rejection::NotYourEvent);
        }
        let skip = after.unwrap_or(0) as usize;
        let numbers = (1..=event.reservation_count()).skip(skip).take(limit);
        let views = numbers.map(|number| event.reservation_view(ReservationId { event: id, number }));
        Ok(Outcome::Reservations(views.collect()))
    }

    /// The view of a reservation that is known to exist.
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

    /// The event and reservation, if the actor may cancel it.
    fn reservation_to_cancel(
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
        let reservation = event.reservation(id.number).ok_or(Rejection::ReservationNotFound)?;
        if !reservation.is_of(actor) && !event.is_managed_by(actor) {
            return Err(Rejection::ReservationNotFound);
        }
        Ok((event, reservation))
    }
}
