//! The rules of the domain, written a second time.

use super::event::EventState;
use crate::command::{Actor, Ask, Buyer, Command, Query};
use crate::ids::{ReservationId, Role, UserId};
use crate::outcome::{AccountView, Outcome, Rejection, ReservationStatus, ReservationView, UserView};

/// What the rules say to `ask`, about an event; `None` where it makes a change.
pub(super) fn expected_of_event(event: Option<&EventState>, ask: &Ask) -> Result<Option<Outcome>, Rejection> {
    let live = || match event {
        None => Err(Rejection::EventNotFound),
        Some(event) if event.is_deleted => Err(Rejection::EventDeleted),
        Some(event) => Ok(event),
    };
    let managed = |actor| live()?.is_managed_by(actor).then(live).ok_or(Rejection::NotYourEvent)?;
    let seen = |id: ReservationId, actor: Actor| {
        let reservation =
            event.and_then(|event| event.reservations.get((id.number as usize).checked_sub(1)?));
        let is_seen = |one: &&ReservationView| match actor.role {
            Role::Customer => one.buyer == Buyer::Account(actor.user),
            Role::Organizer | Role::Admin => event.is_some_and(|event| event.is_managed_by(actor)),
        };
        reservation.filter(is_seen).ok_or(Rejection::ReservationNotFound)
    };
    let view = |event: &EventState| Outcome::Event(Box::new(event.view.clone()));
    Ok(match ask {
        Ask::Command(Command::CreateEvent(_)) => match event {
            None => None,
            Some(_) => return Err(Rejection::EventExists),
        },
        Ask::Command(Command::EditEvent(edit)) => {
            let event = managed(edit.actor)?;
            let (quota, reserved) = (edit.quota.map(|quota| quota.get()), event.view.reserved);
            if quota.is_some_and(|quota| quota < reserved) {
                return Err(Rejection::QuotaBelowCommitted { committed: reserved });
            }
            let same_name = edit.name.as_ref().is_none_or(|name| name.as_str() == &*event.view.name);
            (same_name && quota.is_none_or(|quota| quota == event.view.quota)).then(|| view(event))
        }
        Ask::Command(Command::DeleteEvent { actor, force, .. }) => {
            let reserved = managed(*actor)?.view.reserved;
            if reserved > 0 && !force {
                return Err(Rejection::HasReservations { reserved });
            }
            None
        }
        Ask::Command(Command::Reserve { quantity, .. }) => {
            let remaining = live()?.view.remaining;
            if quantity.get() > remaining {
                return Err(Rejection::SoldOut { remaining });
            }
            None
        }
        Ask::Command(Command::Cancel { reservation, actor }) => {
            let cancelled = seen(*reservation, *actor)?.status == ReservationStatus::Cancelled;
            cancelled.then_some(Outcome::Cancelled)
        }
        Ask::Query(Query::Event { .. }) => Some(view(live()?)),
        Ask::Query(Query::Reservation { reservation, actor }) => {
            Some(Outcome::Reservation(*seen(*reservation, *actor)?))
        }
        Ask::Query(Query::EventReservations { actor, after, limit, .. }) => {
            let reservations = managed(*actor)?.reservations.iter();
            let part =
                reservations.filter(|one| after.is_none_or(|after| one.id.number > after)).take(*limit);
            Some(Outcome::Reservations(part.copied().collect()))
        }
        Ask::Command(
            Command::CreateUser(_)
            | Command::ChangePassword(_)
            | Command::ChangeRole(_)
            | Command::RemoveUser(_),
        )
        | Ask::Query(
            Query::Account { .. }
            | Query::AccountOf { .. }
            | Query::TokenStands { .. }
            | Query::Users { .. }
            | Query::Events { .. }
            | Query::CustomerReservations { .. }
            | Query::Totals,
        ) => unreachable!("{ask:?} is not about one event"),
    })
}

/// The same about an account.
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
