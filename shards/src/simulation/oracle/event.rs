//! The state of an event after each of its records.

use super::Violation;
use std::collections::{BTreeMap, BTreeSet};

use crate::command::{Actor, Buyer, Command, Doubt};
use crate::ids::{Lsn, OrderId, Quantity, Role, Timestamp, UserId};
use crate::outcome::{Availability, EventView, Outcome, Rejection, ReservationStatus, ReservationView};
use crate::record::{Entry, Gain, Held, PartPrepared, PartSettled, PartStep, Record, Transferred};

#[derive(Debug, Clone)]
pub(super) struct EventState {
    pub(super) view: EventView,
    /// The view when it was created.
    pub(super) first: EventView,
    pub(super) is_deleted: bool,
    /// The position of the last record.
    pub(super) position: Lsn,
    pub(super) reservations: Vec<ReservationView>,
    /// Who made each reservation that was for a buyer without an account.
    pub(super) made_for_others: Vec<UserId>,
    /// The numbers of those that nobody sees: prepared for an order, or for one that failed.
    pub(super) hidden: BTreeSet<u32>,
    /// What parts of orders wait for.
    pub(super) doubts: BTreeMap<u32, Doubt>,
}

impl EventState {
    pub(super) fn after(before: Option<&EventState>, entry: &Entry) -> Result<EventState, Violation> {
        let Entry { at, lsn: position, ref record, .. } = *entry;
        if let Record::EventCreated(event) = record {
            let view = EventView {
                id: event.id,
                organizer: event.organizer,
                details: event.details.clone(),
                reserved: 0,
                held: 0,
                remaining: event.details.quota,
                version: 1,
                created_at: at,
                updated_at: at,
            };
            let created = EventState {
                first: view.clone(),
                view,
                is_deleted: false,
                position,
                reservations: Vec::new(),
                made_for_others: Vec::new(),
                hidden: BTreeSet::new(),
                doubts: BTreeMap::new(),
            };
            return before.map_or(Ok(created), |before| Err(format!("{record:?} after {before:?}")));
        }
        let before = before.filter(|before| !before.is_deleted);
        let mut state = before.cloned().ok_or_else(|| format!("no event for {record:?}"))?;
        state.position = position;
        match record {
            Record::UserCreated(_)
            | Record::PasswordChanged(_)
            | Record::RoleChanged(_)
            | Record::UserRemoved(_)
            | Record::TokensEnded(_)
            | Record::ApiKeyMade(_)
            | Record::ApiKeyEnded { .. }
            | Record::HoldsExtended { .. }
            | Record::OrderPlaced(_)
            | Record::OrderConfirmed { .. }
            | Record::OrderCancelled { .. }
            | Record::OrderExpired { .. }
            | Record::OrderSettled { .. }
            | Record::TimeSetBack
            | Record::KeyKept(_)
            | Record::KeysAged { .. }
            | Record::EventCreated(_) => unreachable!("{record:?} changes no event"),
            Record::EventEdited(edited) => {
                if edited.organizer == Some(state.view.organizer) {
                    return Err(format!("{record:?} hands over to the same organizer"));
                }
                state.view.organizer = edited.organizer.unwrap_or(state.view.organizer);
                state.view.details = edited.details.clone();
                state.view.version += 1;
                state.view.updated_at = at;
                state.leave_orders();
            }
            &Record::EventDeleted { tickets, .. } => {
                let live = state.view.reserved + state.view.held;
                if tickets != live || !state.doubts.is_empty() {
                    return Err(format!("{record:?} cancels {live} tickets"));
                }
                state.is_deleted = true;
                state.reservations.iter_mut().for_each(|reservation| cancel(reservation, at));
            }
            &Record::Reserved { id: _, by: _, ref buyer, quantity } => {
                state.check_limits(buyer, quantity).map_err(|limit| format!("{record:?}: {limit:?}"))?;
                state.add(record, quantity, ReservationStatus::Confirmed, at, None)?;
            }
            Record::Held(held) => {
                let &Held { id: _, by: _, ref buyer, quantity, deadline } = &**held;
                state.check_limits(buyer, quantity).map_err(|limit| format!("{record:?}: {limit:?}"))?;
                state.add(record, quantity, ReservationStatus::Held, at, Some(deadline))?;
            }
            Record::Transferred(transferred) => {
                let &Transferred { id, by: _, ref to, part } = &**transferred;
                let one = state.reservations.get(id.number as usize - 1).cloned();
                let is_confirmed =
                    |one: &ReservationView| one.status == ReservationStatus::Confirmed && one.buyer != *to;
                let one = one.filter(is_confirmed);
                let one = one.ok_or_else(|| format!("nothing to transfer for {record:?}"))?;
                let tickets = part.map_or(one.quantity, |part| part.quantity);
                state.check_customer(to, tickets).map_err(|limit| format!("{record:?}: {limit:?}"))?;
                match part {
                    None => {
                        let one = &mut state.reservations[id.number as usize - 1];
                        (one.buyer, one.order) = (to.clone(), None);
                    }
                    Some(_) if 0 < tickets && tickets < one.quantity => {
                        state.reservations[id.number as usize - 1].quantity -= tickets;
                        state.add(record, tickets, ReservationStatus::Confirmed, at, None)?;
                    }
                    Some(_) => return Err(format!("{record:?} gives a part of {one:?}")),
                }
            }
            Record::PartPrepared(part) => {
                let &PartPrepared { id, by: _, ref buyer, quantity, owner, attempt } = &**part;
                state.check_limits(buyer, quantity).map_err(|limit| format!("{record:?}: {limit:?}"))?;
                if !matches!(buyer, Buyer::Account(_)) && owner != state.view.organizer {
                    return Err(format!("not for the organizer's order: {record:?}"));
                }
                state.add(record, quantity, ReservationStatus::Held, at, None)?;
                state.reservations[id.number as usize - 1].order = Some(OrderId { user: owner, number: 0 });
                state.hidden.insert(id.number);
                let doubt = Doubt::Placing { owner, attempt };
                if state.doubts.values().any(|other| *other == doubt) {
                    return Err(format!("prepared twice: {record:?}"));
                }
                state.doubts.insert(id.number, doubt);
            }
            Record::PartSettled(part) => state.settle(part, at)?,
            &Record::Confirmed { id, by: _, given_back } => {
                match state.reservations.get_mut(id.number as usize - 1) {
                    Some(one)
                        if one.status == ReservationStatus::Held
                            && one.expires_at.is_some()
                            && one.quantity > given_back =>
                    {
                        one.status = ReservationStatus::Confirmed;
                        one.expires_at = None;
                        one.quantity -= given_back;
                    }
                    other => return Err(format!("{record:?} confirms {other:?}")),
                }
            }
            &Record::Released { id, by: _, quantity } => {
                match state.reservations.get_mut(id.number as usize - 1) {
                    Some(one)
                        if one.status == ReservationStatus::Held
                            && !state.doubts.contains_key(&id.number)
                            && one.quantity == quantity =>
                    {
                        cancel(one, at);
                    }
                    other => return Err(format!("{record:?} gives up {other:?}")),
                }
            }
            &Record::HoldsExpired { event: _, up_to, tickets } => {
                let over = state.reservations.iter_mut().filter(|one| is_over(one, up_to));
                let ended = over.map(|one| {
                    one.status = ReservationStatus::Expired;
                    one.quantity
                });
                let ended: u32 = ended.sum();
                if ended != tickets || tickets == 0 {
                    return Err(format!("{record:?} ends holds of {ended} tickets"));
                }
            }
            &Record::Cancelled { id, by: _, quantity } => {
                let reservation = state.reservations.get_mut(id.number as usize - 1);
                let is_confirmed = |one: &&mut ReservationView| {
                    one.status == ReservationStatus::Confirmed && one.quantity == quantity
                };
                match reservation.filter(is_confirmed) {
                    Some(reservation) => cancel(reservation, at),
                    None => return Err(format!("nothing to cancel for {record:?}")),
                }
            }
            &Record::Reduced { id, by: _, quantity } => {
                let reservation = state.reservations.get_mut(id.number as usize - 1);
                let has_more = |one: &&mut ReservationView| {
                    let is_live =
                        matches!(one.status, ReservationStatus::Confirmed | ReservationStatus::Held);
                    is_live && one.quantity > quantity
                };
                match reservation.filter(has_more) {
                    Some(reservation) if quantity > 0 => reservation.quantity -= quantity,
                    _ => return Err(format!("nothing to give back for {record:?}")),
                }
            }
        }
        state.view.reserved = state.tickets(ReservationStatus::Confirmed);
        state.view.held = state.tickets(ReservationStatus::Held);
        let remaining = state.view.details.quota.checked_sub(state.view.reserved + state.view.held);
        state.view.remaining = remaining.ok_or_else(|| format!("oversold by {record:?}: {state:?}"))?;
        Ok(state)
    }

    fn add(
        &mut self,
        record: &Record,
        quantity: u32,
        status: ReservationStatus,
        created_at: Timestamp,
        expires_at: Option<Timestamp>,
    ) -> Result<(), Violation> {
        let Some(Gain { id, by, buyer, is_new: true }) = record.gain() else {
            return Err(format!("{record:?} makes no reservation"));
        };
        let (buyer, cancelled_at) = (buyer.clone(), None);
        if !matches!(buyer, Buyer::Account(_)) {
            self.made_for_others.push(by);
        }
        let new = ReservationView {
            id,
            buyer,
            quantity,
            status,
            created_at,
            expires_at,
            cancelled_at,
            order: None,
        };
        self.reservations.push(new);
        let number = self.reservations.len();
        if id.number as usize == number { Ok(()) } else { Err(format!("{id} is number {number}")) }
    }

    /// What an order has decided about a part.
    fn settle(&mut self, part: &PartSettled, at: Timestamp) -> Result<(), Violation> {
        let wrong = |state: &EventState| Err(format!("{part:?} after {state:?}"));
        let &PartSettled { id, by: _, order, step, given_back } = part;
        let doubt = self.doubts.remove(&id.number);
        let is_prepared = matches!(doubt, Some(Doubt::Placing { .. }));
        let before = self.reservations.get(id.number as usize - 1).cloned();
        let Some(before) = before else { return wrong(self) };
        let is_of_order = match (before.order, order) {
            (Some(before), Some(order)) => {
                before == order || is_prepared && before == OrderId { number: 0, ..order }
            }
            (Some(_), None) => is_prepared && step == PartStep::Aborted,
            (None, _) => false,
        };
        let is_held = before.status == ReservationStatus::Held;
        let is_right = match step {
            PartStep::Aborted | PartStep::Held => is_prepared && is_held,
            PartStep::Locked(_) => !is_prepared && is_held,
            PartStep::Unlocked => matches!(doubt, Some(Doubt::Confirming { .. })) && is_held,
            PartStep::Confirmed => doubt.is_some() && is_held,
            PartStep::Cancelled => is_held || before.status == ReservationStatus::Confirmed,
            PartStep::Expired => is_held,
        };
        let gives_back = matches!(step, PartStep::Aborted | PartStep::Cancelled | PartStep::Expired);
        let given = if gives_back { before.quantity } else { 0 };
        if !is_of_order || !is_right || given_back != given {
            return wrong(self);
        }
        if let (PartStep::Locked(attempt), Some(order)) = (step, order) {
            self.doubts.insert(id.number, Doubt::Confirming { order, attempt });
        }
        let one = &mut self.reservations[id.number as usize - 1];
        match step {
            PartStep::Aborted | PartStep::Cancelled => cancel(one, at),
            PartStep::Expired => one.status = ReservationStatus::Expired,
            PartStep::Confirmed => one.status = ReservationStatus::Confirmed,
            PartStep::Held | PartStep::Locked(_) | PartStep::Unlocked => {}
        }
        one.order = order.or(one.order);
        self.leave_orders();
        if step != PartStep::Aborted {
            self.hidden.remove(&id.number);
        }
        Ok(())
    }

    /// What an account ordered for others leaves its order when the event has another organizer; what is held, when it
    /// is confirmed or ends.
    fn leave_orders(&mut self) {
        let organizer = self.view.organizer;
        for one in self.reservations.iter_mut().filter(|one| one.status != ReservationStatus::Held) {
            let stays = |order: &OrderId| order.user == organizer || one.buyer == Buyer::Account(order.user);
            one.order = one.order.filter(stays);
        }
    }

    /// The reservations that somebody sees.
    pub(super) fn shown(&self) -> impl Iterator<Item = &ReservationView> {
        self.reservations.iter().filter(|one| !self.hidden.contains(&one.id.number))
    }

    /// Whether some hold has a deadline.
    pub(super) fn has_deadlines(&self) -> bool {
        let is_due = |one: &ReservationView| one.status == ReservationStatus::Held && one.order.is_none();
        !self.is_deleted && self.reservations.iter().any(is_due)
    }

    fn tickets(&self, status: ReservationStatus) -> u32 {
        self.reservations.iter().filter(|one| one.status == status).map(|one| one.quantity).sum()
    }

    /// The state after a start at the time `from`, if it changes something.
    pub(super) fn extended(&self, from: Timestamp) -> Option<EventState> {
        if !self.has_deadlines() {
            return None;
        }
        let mut state = self.clone();
        for one in &mut state.reservations {
            if let (ReservationStatus::Held, Some(end)) = (one.status, &mut one.expires_at) {
                *end = extended(*end, from);
            }
        }
        Some(state)
    }

    /// Whether no hold is live whose time is over at this time.
    pub(super) fn is_current(&self, time: Option<Timestamp>) -> bool {
        time.is_none_or(|time| !self.reservations.iter().any(|one| is_over(one, time)))
    }

    /// Checks that the limits of the event allow a reservation.
    pub(super) fn check_limits(&self, buyer: &Buyer, quantity: u32) -> Result<(), Rejection> {
        if [Buyer::Guest, Buyer::Block].contains(buyer) {
            return Ok(());
        }
        let rules = self.view.details.rules();
        if let Some(most) = rules.max_per_reservation
            && quantity > most.get()
        {
            return Err(Rejection::ReservationLimit { allowed: most.get() });
        }
        self.check_customer(buyer, quantity)
    }

    /// Checks that the event's limit of a customer allows so many more tickets.
    pub(super) fn check_customer(&self, buyer: &Buyer, quantity: u32) -> Result<(), Rejection> {
        let rules = self.view.details.rules();
        let own = self.reservations.iter().filter(|one| one.buyer == *buyer);
        let live =
            own.filter(|one| matches!(one.status, ReservationStatus::Confirmed | ReservationStatus::Held));
        let has: u32 = live.map(|one| one.quantity).sum();
        match rules.max_per_customer {
            Some(most) if has + quantity > most.get() => {
                Err(Rejection::CustomerLimit { allowed: most.get() - has.min(most.get()) })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The outcome of the command whose record led to this state.
    pub(super) fn outcome(&self, command: &Command) -> Outcome {
        match command {
            Command::CreateUser(_)
            | Command::ChangePassword(_)
            | Command::ChangeRole(_)
            | Command::RemoveUser(_)
            | Command::EndTokens(_)
            | Command::MakeApiKey(_)
            | Command::EndApiKey(_)
            | Command::GiveEventId(_)
            | Command::PlaceOrder(_)
            | Command::ConfirmOrder { .. }
            | Command::CancelOrder { .. }
            | Command::OrderMessage(_) => unreachable!("{command:?} is not about an event"),
            Command::Keyed(keyed) => self.outcome(&keyed.command),
            Command::CreateEvent(_) | Command::CreateGivenEvent(_) => {
                Outcome::Event(Box::new(self.view.clone()))
            }
            Command::EditEvent(edit) => {
                let organizer = edit.organizer.unwrap_or(self.view.organizer);
                Outcome::Event(Box::new(EventView { organizer, ..self.view.clone() }))
            }
            Command::DeleteEvent(_) => Outcome::EventDeleted,
            Command::Reserve { .. } | Command::Hold { .. } => {
                Outcome::Reservation(self.reservations.last().expect("the record made one").clone())
            }
            Command::Cancel { .. } | Command::Release { .. } => Outcome::Cancelled,
            Command::Confirm { reservation, quantity, .. } => {
                let confirmed = self.reservations[reservation.number as usize - 1].clone();
                let quantity = quantity.map_or(confirmed.quantity, Quantity::get);
                Outcome::Reservation(ReservationView { quantity, ..confirmed })
            }
            Command::Reduce { reservation, quantity, .. } => {
                let reduced = self.reservations[reservation.number as usize - 1].clone();
                Outcome::Reservation(ReservationView { quantity: quantity.get(), ..reduced })
            }
            Command::Transfer(transfer) => {
                let whole = &self.reservations[transfer.reservation.number as usize - 1];
                let part = self.reservations.last().expect("the event has one");
                let is_whole = Some(&whole.buyer) == transfer.to.as_ref();
                Outcome::Reservation(if is_whole { whole } else { part }.clone())
            }
        }
    }

    pub(super) fn availability(&self) -> Availability {
        let EventView { id: event, reserved, held, remaining, .. } = self.view;
        Availability {
            event,
            quota: self.view.details.quota,
            reserved,
            held,
            remaining,
            position: self.position,
        }
    }

    pub(super) fn is_managed_by(&self, actor: Actor) -> bool {
        actor.role == Role::Admin || (actor.role == Role::Organizer && actor.user == self.view.organizer)
    }
}

/// A minute at least, half an hour at most.
pub(super) fn extended(end: Timestamp, from: Timestamp) -> Timestamp {
    Timestamp(end.0.max(from.0 + 60_000).min(from.0 + 1_800_000))
}

fn cancel(reservation: &mut ReservationView, at: Timestamp) {
    if matches!(reservation.status, ReservationStatus::Confirmed | ReservationStatus::Held) {
        reservation.status = ReservationStatus::Cancelled;
        reservation.expires_at = None;
        reservation.cancelled_at = Some(at);
    }
}

fn is_over(reservation: &ReservationView, time: Timestamp) -> bool {
    // A part of an order has no deadline.
    reservation.status == ReservationStatus::Held
        && reservation.order.is_none()
        && reservation.expires_at.is_none_or(|end| end <= time)
}
