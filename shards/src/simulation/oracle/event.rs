//! The state of an event after each of its records.

use super::Violation;
use crate::command::{Actor, Command};
use crate::ids::{Role, Timestamp};
use crate::outcome::{EventView, Outcome, ReservationStatus, ReservationView};
use crate::record::Record;

#[derive(Debug, Clone)]
pub(super) struct EventState {
    pub(super) view: EventView,
    /// The view when it was created.
    pub(super) first: EventView,
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
            let created =
                EventState { first: view.clone(), view, is_deleted: false, reservations: Vec::new() };
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
            }
            &Record::EventDeleted { tickets, .. } => {
                if tickets != state.view.reserved {
                    return Err(format!("{record:?} cancels {} tickets", state.view.reserved));
                }
                state.is_deleted = true;
                state.reservations.iter_mut().for_each(|reservation| cancel(reservation, at));
            }
            &Record::Reserved { id, by: _, buyer, quantity } => {
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

    /// The outcome of the command whose record led to this state.
    pub(super) fn outcome(&self, command: &Command) -> Outcome {
        match command {
            Command::CreateUser(_)
            | Command::ChangePassword(_)
            | Command::ChangeRole(_)
            | Command::RemoveUser(_)
            | Command::GiveEventId(_) => unreachable!("{command:?} is not about an event"),
            Command::Keyed(keyed) => self.outcome(&keyed.command),
            Command::CreateEvent(_) | Command::CreateGivenEvent(_) => {
                Outcome::Event(Box::new(self.view.clone()))
            }
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
