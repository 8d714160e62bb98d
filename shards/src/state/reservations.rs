//! Reservations: each a row of its event, numbered from 1.

use super::events::Event;
use super::{Decision, Shown, SlotState};
use crate::command::{Actor, Buyer};
use crate::ids::{EventId, Lsn, Quantity, ReservationId, Role, Timestamp, UserId};
use crate::outcome::{Outcome, Rejection, Reply, ReservationStatus, ReservationView};
use crate::record::Record;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reservation {
    created_at: Timestamp,
    /// 0 while it is confirmed: an `Option` would cost eight bytes a ticket.
    cancelled_at: Timestamp,
    buyer: Buyer,
    quantity: u32,
}

const _: () = assert!(size_of::<Reservation>() <= 24);

const NOT_CANCELLED: Timestamp = Timestamp(0);

impl Event {
    fn reservation(&self, number: u32) -> Option<&Reservation> {
        self.reservations.get(number.checked_sub(1)? as usize)
    }

    /// When it was cancelled, by itself or with its event.
    fn cancelled_at(&self, reservation: &Reservation) -> Option<Timestamp> {
        match reservation.cancelled_at {
            NOT_CANCELLED => self.deleted_at(),
            at => Some(at),
        }
    }

    /// The view of a reservation that is known to exist.
    pub(super) fn reservation_view(&self, id: ReservationId) -> ReservationView {
        let reservation = self.reservation(id.number).expect("an id of the index has its reservation");
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
        id: EventId,
        actor: Actor,
        buyer: Buyer,
        quantity: Quantity,
    ) -> Result<Decision, Rejection> {
        let event = self.live_event(id)?;
        if quantity.get() > event.remaining() {
            return Err(Rejection::SoldOut { remaining: event.remaining() });
        }
        let number = u32::try_from(event.reservations.len() + 1);
        let number = number.expect("fewer than 2^32 reservations of one event: 100 GiB of memory");
        let id = ReservationId { event: id, number };
        let reserved = Record::Reserved { id, by: actor.user, buyer, quantity: quantity.get() };
        Ok(Decision::change(reserved, Shown::Reservation(id)))
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
            event.take(quantity);
            event.reservations.push(Reservation {
                created_at: at,
                cancelled_at: NOT_CANCELLED,
                buyer,
                quantity,
            });
            assert_eq!(event.reservations.len(), id.number as usize, "a reservation out of order");
        })
    }

    /// Only ever the event's last one: numbers have no gaps.
    pub(super) fn undo_reserved(&mut self, id: ReservationId, previous: Lsn) {
        self.change_event(id.event, previous, |event| {
            assert_eq!(event.reservations.len(), id.number as usize, "a reservation taken back out of order");
            let reservation = event.reservations.pop().expect("counted above");
            event.give_back(reservation.quantity);
        });
    }

    pub(super) fn decide_cancel(&self, id: ReservationId, actor: Actor) -> Result<Decision, Rejection> {
        let (event, reservation) = self.reservation_seen_by(id, actor)?;
        if event.cancelled_at(reservation).is_some() {
            return Ok(Decision::unchanged(Shown::Cancelled));
        }
        let cancelled = Record::Cancelled { id, by: actor.user, quantity: reservation.quantity };
        Ok(Decision::change(cancelled, Shown::Cancelled))
    }

    pub(super) fn apply_cancelled(&mut self, at: Timestamp, lsn: Lsn, id: ReservationId) -> Lsn {
        self.change_event(id.event, lsn, |event| {
            let reservation = &mut event.reservations[id.number as usize - 1];
            assert_eq!(reservation.cancelled_at, NOT_CANCELLED, "a reservation was cancelled twice");
            reservation.cancelled_at = at;
            let quantity = reservation.quantity;
            event.give_back(quantity);
        })
    }

    pub(super) fn undo_cancelled(&mut self, id: ReservationId, previous: Lsn) {
        self.change_event(id.event, previous, |event| {
            let reservation = &mut event.reservations[id.number as usize - 1];
            reservation.cancelled_at = NOT_CANCELLED;
            let quantity = reservation.quantity;
            event.take(quantity);
        });
    }

    pub(super) fn query_reservation(&self, id: ReservationId, actor: Actor) -> Reply {
        let (event, _) = self.reservation_seen_by(id, actor)?;
        Ok(Outcome::Reservation(event.reservation_view(id)))
    }

    pub(super) fn query_event_reservations(
        &self,
        id: EventId,
        actor: Actor,
        after: Option<u32>,
        limit: usize,
    ) -> Reply {
        let event = self.managed_event(id, actor)?;
        let skip = after.unwrap_or(0) as usize;
        let numbers = (1..=event.reservations.len() as u32).skip(skip).take(limit);
        let views = numbers.map(|number| event.reservation_view(ReservationId { event: id, number }));
        Ok(Outcome::Reservations(views.collect()))
    }

    /// The view of a reservation that is known to exist.
    pub(super) fn reservation_view(&self, id: ReservationId) -> ReservationView {
        self.events[&id.event].reservation_view(id)
    }

    /// Every reservation ever made by an account.
    pub(super) fn reservations_by_customer(&self) -> impl Iterator<Item = (UserId, ReservationId)> {
        self.events.iter().flat_map(|(&event, of_event)| {
            let numbers = 1..=of_event.reservations.len() as u32;
            numbers.map(move |number| {
                let Buyer::Account(customer) = of_event.reservations[number as usize - 1].buyer;
                (customer, ReservationId { event, number })
            })
        })
    }

    /// Another's reservation looks just like one that does not exist.
    fn reservation_seen_by(
        &self,
        id: ReservationId,
        actor: Actor,
    ) -> Result<(&Event, &Reservation), Rejection> {
        let event = self.events.get(&id.event).ok_or(Rejection::ReservationNotFound)?;
        let reservation = event.reservation(id.number).ok_or(Rejection::ReservationNotFound)?;
        let seen = match actor.role {
            Role::Customer => reservation.buyer == Buyer::Account(actor.user),
            Role::Organizer | Role::Admin => event.is_managed_by(actor),
        };
        if !seen {
            return Err(Rejection::ReservationNotFound);
        }
        Ok((event, reservation))
    }
}
