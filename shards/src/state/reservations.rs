//! Reservations: each belongs to an event, and is numbered from 1 there.

use std::collections::BTreeMap;

use super::by_customer::ByCustomer;
use super::events::Event;
use super::holds::NO_DEADLINE;
use super::refs::{Holder, RefNumber, Refs};
use super::{Decision, OutcomeRef, SlotState};
use crate::clock::Now;
use crate::command::{Actor, Buyer, CustomerRef};
use crate::ids::{EventId, Lsn, Quantity, ReservationId, Timestamp, UserId};
use crate::limits::{RESERVATIONS_MAX, SCANNED_MAX};
use crate::outcome::{
    Outcome, Rejection, Reply, ReservationSlice, ReservationStatus, ReservationView, Statuses,
};
use crate::record::Record;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reservation {
    pub(super) created_at: Timestamp,
    /// A [`Standing`] in eight bytes instead of sixteen: 0 for a confirmed one, the time of the cancellation, or
    /// the deadline with [`HELD`]. Beside it, which [`Holder`] it is ([`KIND_BITS`]).
    standing: u64,
    /// The account or the number of the ref; 0 for a holder that has neither.
    holder: u32,
    pub(super) quantity: u32,
}

const _: () = assert!(size_of::<Reservation>() <= 24);

/// The bit of a deadline. No time has it, or the next two.
const HELD: u64 = 1 << 63;

/// The bits that say what `holder` is: none for an account.
const KIND_BITS: u64 = 3 << 61;
const REF: u64 = 1 << 61;
const GUEST: u64 = 2 << 61;
const BLOCK: u64 = 3 << 61;

/// The standings of parts of orders. No deadline is as late.
const PREPARED: u64 = !KIND_BITS;
const PLEDGED: u64 = PREPARED - 1;
const ABORTED: u64 = PREPARED - 2;
const LAPSED: u64 = PREPARED - 3;

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
    pub(super) fn new(
        created_at: Timestamp,
        standing: Standing,
        holder: Holder,
        quantity: u32,
    ) -> Reservation {
        let mut reservation = Reservation { created_at, standing: 0, holder: 0, quantity };
        reservation.set_holder(holder);
        reservation.set_standing(standing);
        reservation
    }

    pub(super) fn holder(&self) -> Holder {
        match self.standing & KIND_BITS {
            0 => Holder::Account(UserId(self.holder)),
            REF => Holder::Ref(RefNumber(self.holder)),
            GUEST => Holder::Guest,
            _ => Holder::Block,
        }
    }

    pub(super) fn set_holder(&mut self, holder: Holder) {
        let (kind, number) = match holder {
            Holder::Account(UserId(id)) => (0, id),
            Holder::Ref(RefNumber(number)) => (REF, number),
            Holder::Guest => (GUEST, 0),
            Holder::Block => (BLOCK, 0),
        };
        self.standing = self.standing & !KIND_BITS | kind;
        self.holder = number;
    }

    /// The standing as far as records of this reservation alone say.
    pub(super) fn standing(&self) -> Standing {
        match self.standing & !KIND_BITS {
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
        let standing = match standing {
            Standing::Confirmed => 0,
            Standing::Held { deadline } | Standing::Expired { deadline } => deadline.0 | HELD,
            Standing::Cancelled { at } => at.0,
            Standing::Prepared => PREPARED,
            Standing::Pledged => PLEDGED,
            Standing::Aborted => ABORTED,
            Standing::Lapsed => LAPSED,
        };
        self.standing = self.standing & KIND_BITS | standing;
    }

    fn is_shown(&self) -> bool {
        !matches!(self.standing & !KIND_BITS, PREPARED | ABORTED)
    }

    /// Whether the actor bought it. The actor's role may be another one now.
    pub(super) fn is_of(&self, actor: Actor) -> bool {
        self.holder() == Holder::Account(actor.user)
    }
}

impl Event {
    /// The number of reservations, cancelled ones included.
    pub(super) fn reservation_count(&self) -> u32 {
        u32::try_from(self.reservations.len()).expect("at most RESERVATIONS_MAX")
    }

    /// The number of the next reservation.
    pub(super) fn next_number(&self) -> Result<u32, Rejection> {
        match self.reservation_count() {
            RESERVATIONS_MAX => Err(Rejection::NumbersUsedUp),
            made => Ok(made + 1),
        }
    }

    /// Checks that the actor may make a reservation for a buyer. Organizers sell their own events to whom they want.
    #[inline(always)]
    pub(super) fn check_seller(&self, actor: Actor, buyer: &Buyer) -> Result<(), Rejection> {
        match buyer {
            Buyer::Account(_) => Ok(()),
            Buyer::Ref(_) | Buyer::Guest | Buyer::Block if self.is_sold_by(actor) => Ok(()),
            Buyer::Ref(_) | Buyer::Guest | Buyer::Block => Err(Rejection::NotYourEvent),
        }
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
    pub(super) fn sell(&mut self, holder: Holder, tickets: u32) {
        self.take(tickets);
        if let Some(buyers) = &mut self.buyers {
            buyers.add(holder, None, tickets);
        }
    }

    /// The inverse of [`Event::sell`].
    pub(super) fn take_back(&mut self, holder: Holder, tickets: u32) {
        self.give_back(tickets);
        if let Some(buyers) = &mut self.buyers {
            buyers.subtract(holder, None, tickets);
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
    fn reservation_view(&self, id: ReservationId, refs: &Refs) -> ReservationView {
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
            buyer: refs.buyer(reservation.holder()),
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
        let id = self.next_reservation(now, id, actor, &buyer, quantity, index)?;
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
        actor: Actor,
        buyer: &Buyer,
        quantity: Quantity,
        index: &ByCustomer,
    ) -> Result<ReservationId, Rejection> {
        let event = self.live_event(id)?;
        event.check_seller(actor, buyer)?;
        self.check_sale(now, id, event, buyer, quantity, index)?;
        if quantity.get() > event.remaining() {
            return Err(Rejection::SoldOut { remaining: event.remaining() });
        }
        Ok(ReservationId { event: id, number: event.next_number()? })
    }

    pub(super) fn apply_reserved(
        &mut self,
        at: Timestamp,
        lsn: Lsn,
        id: ReservationId,
        by: UserId,
        buyer: &Buyer,
        quantity: u32,
    ) -> Lsn {
        let holder = self.take_holder(by, buyer, id);
        self.change_event(id.event, lsn, |event| {
            event.sell(holder, quantity);
            event.add_reservation(id, Reservation::new(at, Standing::Confirmed, holder, quantity));
        })
    }

    pub(super) fn undo_reserved(&mut self, id: ReservationId, previous: Lsn, by: UserId, quantity: u32) {
        let holder = self.holder(id);
        self.change_event(id.event, previous, |event| {
            event.remove_reservation(id);
            event.take_back(holder, quantity);
        });
        self.give_back_holder(by, holder, id);
    }

    pub(super) fn decide_cancel(&self, id: ReservationId, actor: Actor) -> Result<Decision, Rejection> {
        let (event, reservation) = self.reservation_visible_to(id, actor)?;
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
            let (holder, quantity) = (reservation.holder(), reservation.quantity);
            event.take_back(holder, quantity);
        })
    }

    pub(super) fn undo_cancelled(&mut self, id: ReservationId, previous: Lsn) {
        self.change_event(id.event, previous, |event| {
            let reservation = event.reservation_mut(id);
            reservation.set_standing(Standing::Confirmed);
            let (holder, quantity) = (reservation.holder(), reservation.quantity);
            event.sell(holder, quantity);
        });
    }

    pub(super) fn decide_reduce(
        &self,
        id: ReservationId,
        actor: Actor,
        left: Quantity,
    ) -> Result<Decision, Rejection> {
        let (event, reservation) = self.reservation_visible_to(id, actor)?;
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
            let (standing, holder) = (reservation.standing(), reservation.holder());
            match standing {
                Standing::Confirmed => event.take_back(holder, given_back),
                Standing::Held { deadline } => event.end_hold(holder, deadline, given_back),
                ended => unreachable!("{id} has no ticket: {ended:?}"),
            }
        })
    }

    pub(super) fn undo_reduced(&mut self, id: ReservationId, previous: Lsn, given_back: u32) {
        self.change_event(id.event, previous, |event| {
            let reservation = event.reservation_mut(id);
            reservation.quantity += given_back;
            let (standing, holder) = (reservation.standing(), reservation.holder());
            match standing {
                Standing::Held { deadline } => event.hold(holder, deadline, given_back),
                _ => event.sell(holder, given_back),
            }
        });
    }

    pub(super) fn query_reservation(&self, id: ReservationId, actor: Actor) -> Reply {
        self.reservation_visible_to(id, actor)?;
        Ok(Outcome::Reservation(self.reservation_view(id)))
    }

    pub(super) fn query_event_reservations(
        &self,
        id: EventId,
        actor: Actor,
        (after, up_to): (u32, u32),
        statuses: Statuses,
        customer_ref: Option<&CustomerRef>,
        limit: usize,
    ) -> Reply {
        // Also of a deleted event.
        let event = self.events.get(&id).ok_or(Rejection::EventNotFound)?;
        if !event.is_managed_by(actor) {
            return Err(Rejection::NotYourEvent);
        }
        let last = event.reservation_count();
        let end = last.min(up_to);
        let all = customer_ref.is_none().then(|| after.saturating_add(1)..=end);
        let of_ref = customer_ref.and_then(|text| self.refs.find(text));
        let of_ref = of_ref.map(|number| self.refs.at_event_after(number, id, after));
        let numbers = all.into_iter().flatten().chain(of_ref.into_iter().flatten());
        let mut numbers = numbers.take_while(|&number| number <= end).peekable();
        let (mut views, mut next) = (Vec::new(), None);
        for _ in 0..SCANNED_MAX {
            let Some(number) = numbers.next_if(|_| views.len() < limit) else { break };
            next = Some(number);
            if !event.shows(number) {
                continue;
            }
            let view = event.reservation_view(ReservationId { event: id, number }, &self.refs);
            if statuses.contains(view.status) {
                views.push(view);
            }
        }
        let next = next.filter(|_| numbers.peek().is_some());
        let position = event.last_record();
        Ok(Outcome::ReservationSlice(Box::new(ReservationSlice { views, next, position, last })))
    }

    pub(super) fn shows(&self, id: ReservationId) -> bool {
        self.events.get(&id.event).is_some_and(|event| event.shows(id.number))
    }

    /// The view of a reservation that is known to exist, and to be shown.
    pub(super) fn reservation_view(&self, id: ReservationId) -> ReservationView {
        self.events[&id.event].reservation_view(id, &self.refs)
    }

    /// The holder of a reservation that is known to exist.
    pub(super) fn holder(&self, id: ReservationId) -> Holder {
        self.events[&id.event].reservations[id.number as usize - 1].holder()
    }

    /// The holder of a reservation that an account makes for a buyer.
    #[inline(always)]
    pub(super) fn take_holder(&mut self, by: UserId, buyer: &Buyer, id: ReservationId) -> Holder {
        if let Buyer::Account(customer) = buyer {
            return Holder::Account(*customer);
        }
        *self.made_for_others.entry(by).or_default() += 1;
        self.refs.take(buyer, id)
    }

    /// The inverse of [`SlotState::take_holder`], when the reservation is gone.
    pub(super) fn give_back_holder(&mut self, by: UserId, holder: Holder, id: ReservationId) {
        if let Holder::Account(_) = holder {
            return;
        }
        subtract(&mut self.made_for_others, by, 1);
        self.refs.give_back(holder, id);
    }

    /// All reservations of the slot that customers with accounts have, with these.
    pub(super) fn reservations_by_customer(&self) -> impl Iterator<Item = (UserId, ReservationId)> {
        self.events.iter().flat_map(|(&event, of_event)| {
            let numbers = 1..=of_event.reservation_count();
            numbers.filter_map(move |number| match of_event.reservations[number as usize - 1].holder() {
                Holder::Account(customer) => Some((customer, ReservationId { event, number })),
                Holder::Ref(_) | Holder::Guest | Holder::Block => None,
            })
        })
    }

    /// The event and reservation, if the actor may confirm it: who bought it, or its event's organizer, if the buyer has
    /// no account.
    pub(super) fn reservation_to_confirm(
        &self,
        id: ReservationId,
        actor: Actor,
    ) -> Result<(&Event, &Reservation), Rejection> {
        let (event, reservation) = self.reservation_visible_to(id, actor)?;
        let has_account = matches!(reservation.holder(), Holder::Account(_));
        if reservation.is_of(actor) || (!has_account && event.is_sold_by(actor)) {
            return Ok((event, reservation));
        }
        Err(Rejection::NotYourReservation)
    }

    /// The event and reservation, if the actor may see it, and so cancel it: who bought it, its event's organizer and
    /// admins. Otherwise the rejection is the same as if it did not exist.
    pub(super) fn reservation_visible_to(
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

/// Takes from an account's count, and drops a count of 0.
pub(super) fn subtract(counts: &mut BTreeMap<UserId, u32>, account: UserId, less: u32) {
    let count = counts.get_mut(&account).expect("it was counted");
    *count -= less;
    if *count == 0 {
        counts.remove(&account);
    }
}
