//! The rules of the domain, written a second time, independently of `state`.

use super::event::EventState;
use crate::command::{Actor, Ask, Buyer, Command, ExpectedVersion, Query};
use crate::details::DetailsPatch;
use crate::ids::{ReservationId, Role, UserId};
use crate::limits::RESERVATIONS_MAX;
use crate::outcome::{AccountView, Outcome, Rejection, ReservationStatus, ReservationView, UserView};

/// What the rules say to a request about an event in this state: the outcome, the rejection, or `None`
/// if a command makes a record.
pub(super) fn expected_of_event(event: Option<&EventState>, ask: &Ask) -> Result<Option<Outcome>, Rejection> {
    match ask {
        Ask::Command(command) => expected_of_command(event, command),
        Ask::Query(query) => expected_of_query(event, query).map(Some),
    }
}

fn expected_of_command(event: Option<&EventState>, command: &Command) -> Result<Option<Outcome>, Rejection> {
    Ok(match command {
        Command::CreateEvent(_) => match event {
            None => None,
            Some(_) => return Err(Rejection::EventExists),
        },
        Command::CreateGivenEvent(_) => {
            event.map(|event| Outcome::Replayed(Box::new(Outcome::Event(Box::new(event.first.clone())))))
        }
        Command::Keyed(keyed) => return expected_of_command(event, &keyed.command),
        Command::EditEvent(edit) => {
            let event = managed(event, edit.actor, &edit.version)?;
            let DetailsPatch { name, quota, venue } = &edit.changes;
            let (before, reserved) = (&event.view.details, event.view.reserved);
            let quota = quota.map(|quota| quota.get());
            if quota.is_some_and(|quota| quota < reserved) {
                return Err(Rejection::QuotaBelowCommitted { committed: reserved });
            }
            let same_name = name.as_ref().is_none_or(|name| name.as_str() == &*before.name);
            let same_quota = quota.is_none_or(|quota| quota == before.quota);
            let venue = venue.as_ref().map(|venue| venue.as_ref().map(|venue| venue.as_str()));
            let same_venue = venue.is_none_or(|venue| venue == before.venue.as_deref());
            let same_organizer = edit.organizer.is_none_or(|organizer| organizer == event.view.organizer);
            (same_name && same_quota && same_venue && same_organizer).then(|| view(event))
        }
        Command::DeleteEvent(delete) => {
            let reserved = managed(event, delete.actor, &delete.version)?.view.reserved;
            if reserved > 0 && !delete.force {
                return Err(Rejection::HasReservations { reserved });
            }
            None
        }
        Command::Reserve { quantity, .. } => {
            let event = live(event)?;
            let remaining = event.view.remaining;
            if quantity.get() > remaining {
                return Err(Rejection::SoldOut { remaining });
            }
            if event.reservations.len() >= RESERVATIONS_MAX as usize {
                return Err(Rejection::NumbersUsedUp);
            }
            None
        }
        Command::Cancel { reservation, actor } => {
            let reservation = cancellable(event, *reservation, *actor)?;
            (reservation.status == ReservationStatus::Cancelled).then_some(Outcome::Cancelled)
        }
        Command::Reduce { reservation, actor, quantity } => {
            let reservation = cancellable(event, *reservation, *actor)?;
            match (reservation.status, reservation.quantity) {
                (ReservationStatus::Cancelled, _) => return Err(Rejection::ReservationCancelled),
                (ReservationStatus::Confirmed, has) if quantity.get() > has => {
                    return Err(Rejection::QuantityAbove { quantity: has });
                }
                (ReservationStatus::Confirmed, has) => {
                    (quantity.get() == has).then_some(Outcome::Reservation(*reservation))
                }
            }
        }
        Command::CreateUser(_)
        | Command::ChangePassword(_)
        | Command::ChangeRole(_)
        | Command::RemoveUser(_)
        | Command::GiveEventId(_) => unreachable!("{command:?} is not about an event"),
    })
}

fn expected_of_query(event: Option<&EventState>, query: &Query) -> Result<Outcome, Rejection> {
    Ok(match query {
        Query::Event { .. } => view(live(event)?),
        Query::Reservation { reservation, actor } => {
            Outcome::Reservation(*visible(event, *reservation, *actor)?)
        }
        Query::EventReservations { actor, after, limit, .. } => {
            let event = event.ok_or(Rejection::EventNotFound)?;
            if !event.is_managed_by(*actor) {
                return Err(Rejection::NotYourEvent);
            }
            let reservations = event.reservations.iter();
            let part =
                reservations.filter(|one| after.is_none_or(|after| one.id.number > after)).take(*limit);
            Outcome::Reservations(part.copied().collect())
        }
        Query::Account { .. }
        | Query::AccountOf { .. }
        | Query::TokenStands { .. }
        | Query::Users { .. }
        | Query::Events { .. }
        | Query::CustomerReservations { .. }
        | Query::EventsCreated { .. }
        | Query::GivenEventId { .. }
        | Query::Totals => unreachable!("{query:?} is not about one event"),
    })
}

fn view(event: &EventState) -> Outcome {
    Outcome::Event(Box::new(event.view.clone()))
}

fn live(event: Option<&EventState>) -> Result<&EventState, Rejection> {
    match event {
        None => Err(Rejection::EventNotFound),
        Some(event) if event.is_deleted => Err(Rejection::EventDeleted),
        Some(event) => Ok(event),
    }
}

fn managed<'a>(
    event: Option<&'a EventState>,
    actor: Actor,
    expected: &ExpectedVersion,
) -> Result<&'a EventState, Rejection> {
    let event = live(event)?;
    let version = event.view.version;
    match expected {
        _ if !event.is_managed_by(actor) => Err(Rejection::NotYourEvent),
        ExpectedVersion::OneOf(versions) if versions.iter().all(|&one| one != version) => {
            Err(Rejection::VersionMismatch { version })
        }
        ExpectedVersion::Any | ExpectedVersion::OneOf(_) => Ok(event),
    }
}

fn visible(
    event: Option<&EventState>,
    id: ReservationId,
    actor: Actor,
) -> Result<&ReservationView, Rejection> {
    let event = event.ok_or(Rejection::ReservationNotFound)?;
    let index = (id.number as usize).checked_sub(1).ok_or(Rejection::ReservationNotFound)?;
    let is_visible =
        |one: &&ReservationView| one.buyer == Buyer::Account(actor.user) || event.is_managed_by(actor);
    event.reservations.get(index).filter(is_visible).ok_or(Rejection::ReservationNotFound)
}

fn cancellable(
    event: Option<&EventState>,
    id: ReservationId,
    actor: Actor,
) -> Result<&ReservationView, Rejection> {
    let reservation = visible(event, id, actor)?;
    let may = actor.role == Role::Admin || reservation.buyer == Buyer::Account(actor.user);
    may.then_some(reservation).ok_or(Rejection::NotYourReservation)
}

/// The same for a request about an account.
pub(super) fn expected_of_account(
    account: Option<&AccountView>,
    ask: &Ask,
) -> Result<Option<Outcome>, Rejection> {
    match (ask, account) {
        (Ask::Command(Command::CreateUser(_)), None) => Ok(None),
        (Ask::Command(Command::CreateUser(_)), Some(_)) => Err(Rejection::UsernameTaken),
        (Ask::Command(Command::ChangePassword(change)), account) => {
            match account.filter(|account| stands(account, change.user, change.token_version)) {
                Some(_) => Ok(None),
                None => Err(Rejection::TokenEnded),
            }
        }
        (Ask::Command(Command::ChangeRole(change)), account) => {
            let account = account.filter(|account| account.id == change.user && !account.removed);
            let account = account.ok_or(Rejection::UserNotFound)?;
            Ok((account.role == change.role).then(|| Outcome::AccountChanged(user_view(account))))
        }
        (Ask::Command(Command::RemoveUser(remove)), account) => {
            let account = account.filter(|account| account.id == remove.user);
            let account = account.ok_or(Rejection::UserNotFound)?;
            Ok(account.removed.then(|| Outcome::AccountChanged(user_view(account))))
        }
        (Ask::Query(Query::TokenStands { user, token_version, .. }), account) => Ok(Some(
            Outcome::TokenStands(account.is_some_and(|account| stands(account, *user, *token_version))),
        )),
        (_, account) => Ok(Some(Outcome::Account(account.cloned().map(Box::new)))),
    }
}

fn stands(account: &AccountView, user: UserId, token_version: u64) -> bool {
    account.id == user && account.token_version == token_version && !account.removed
}

pub(super) fn user_view(account: &AccountView) -> UserView {
    UserView { id: account.id, username: account.username.clone(), role: account.role }
}
