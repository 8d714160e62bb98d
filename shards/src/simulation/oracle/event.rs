//! The state of an event after each of its records.

use super::Violation;
use crate::command::{Actor, Buyer, Command};
use crate::ids::{Role, Timestamp};
use crate::outcome::{EventView, Outcome, Rejection, ReservationStatus, ReservationView};
use crate::record::Record;

#[derive(Debug, Clone)]
pub(super) struct EventState {
    pub(super) view: EventView,
    pub(super) is_deleted: bool,
    pub(super) reservations: Vec<ReservationView>,
}

impl EventState {
    pub(super) fn after(
        before: Option<&EventState>,
        at: Timestamp,
        record: &Record,
    ) -> Result<EventState, Violation> {
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
            let created = EventState { view, is_deleted: false, reservations: Vec::new() };
            return before.map_or(Ok(created), |before| Err(format!("{record:?} after {before:?}")));
        }
        let before = before.filter(|before| !before.is_deleted);
        let mut state = before.cloned().ok_or_else(|| format!("no event for {record:?}"))?;
        match record {
            Record::UserCreated(_)
            | Record::PasswordChanged(_)
            | Record::RoleChanged(_)
            | Record::UserRemoved(_)
            | Record::TimeSetBack
            | Record::EventCreated(_) => unreachable!("{record:?} changes no event"),
            Record::EventEdited(edited) => {
                if edited.organizer == Some(state.view.organizer) {
                    return Err(format!("{record:?} hands over to the same organizer"));
                }
                state.view.organizer = edited.organizer.unwrap_or(state.view.organizer);
                state.view.details = edited.details.clone();
                state.view.version += 1;
                state.view.updated_at = at;
            }
            &Record::EventDeleted { tickets, .. } => {
                if tickets != state.view.reserved {
                    return Err(format!("{record:?} cancels {} tickets", state.view.reserved));
                }
                state.is_deleted = true;
                state.reservations.iter_mut().for_each(|reservation| cancel(reservation, at));
            }
            &Record::Reserved { id, by: _, buyer, quantity } => {
                state.check_limits(buyer, quantity).map_err(|limit| format!("{record:?}: {limit:?}"))?;
                let (status, created_at) = (ReservationStatus::Confirmed, at);
                let new = ReservationView { id, buyer, quantity, status, created_at, cancelled_at: None };
                state.reservations.push(new);
                if id.number as usize != state.reservations.len() {
                    return Err(format!("{record:?} is number {}", state.reservations.len()));
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
                    one.status == ReservationStatus::Confirmed && one.quantity > quantity
                };
                match reservation.filter(has_more) {
                    Some(reservation) if quantity > 0 => reservation.quantity -= quantity,
                    _ => return Err(format!("nothing to give back for {record:?}")),
                }
            }
        }
        let confirmed = |one: &&ReservationView| one.status == ReservationStatus::Confirmed;
        state.view.reserved = state.reservations.iter().filter(confirmed).map(|one| one.quantity).sum();
        let remaining = state.view.details.quota.checked_sub(state.view.reserved);
        state.view.remaining = remaining.ok_or_else(|| format!("oversold by {record:?}: {state:?}"))?;
        Ok(state)
    }

    /// Checks that the limits of the event allow a reservation.
    pub(super) fn check_limits(&self, buyer: Buyer, quantity: u32) -> Result<(), Rejection> {
        let rules = self.view.details.rules();
        if let Some(most) = rules.max_per_reservation
            && quantity > most.get()
        {
            return Err(Rejection::ReservationLimit { allowed: most.get() });
        }
        let own = self.reservations.iter().filter(|one| one.buyer == buyer);
        let live = own.filter(|one| one.status == ReservationStatus::Confirmed);
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
            | Command::RemoveUser(_) => unreachable!("an account is not an event"),
            Command::CreateEvent(_) => Outcome::Event(Box::new(self.view.clone())),
            Command::EditEvent(edit) => {
                let organizer = edit.organizer.unwrap_or(self.view.organizer);
                Outcome::Event(Box::new(EventView { organizer, ..self.view.clone() }))
            }
            Command::DeleteEvent(_) => Outcome::EventDeleted,
            Command::Reserve { .. } => {
                Outcome::Reservation(*self.reservations.last().expect("the record made one"))
            }
            Command::Cancel { .. } => Outcome::Cancelled,
            Command::Reduce { reservation, quantity, .. } => {
                let reduced = self.reservations[reservation.number as usize - 1];
                Outcome::Reservation(ReservationView { quantity: quantity.get(), ..reduced })
            }
        }
    }

    pub(super) fn is_managed_by(&self, actor: Actor) -> bool {
        actor.role == Role::Admin || (actor.role == Role::Organizer && actor.user == self.view.organizer)
    }
}

fn cancel(reservation: &mut ReservationView, at: Timestamp) {
    if reservation.status == ReservationStatus::Confirmed {
        reservation.status = ReservationStatus::Cancelled;
        reservation.cancelled_at = Some(at);
    }
}
