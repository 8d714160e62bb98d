//! The rules of the domain, written a second time, independently of `state`.

use super::event::EventState;
use crate::command::{Actor, Ask, Buyer, Command, Doubt, ExpectedVersion, Query, Transfer};
use crate::details::{DetailsPatch, RulesPatch, SalesRules};
use crate::ids::{Quantity, ReservationId, Role, Timestamp, UserId};
use crate::limits::{RESERVATIONS_MAX, SCANNED_MAX};
use crate::outcome::{
    AccountView, ChangeSlice, EventView, Outcome, Rejection, ReservationSlice, ReservationStatus,
    ReservationView, Statuses, UserView,
};

/// What the rules say to a request about an event in this state: the outcome, the rejection, or `None`
/// if a command makes a record. `wall` is the time at which a command was taken in.
pub(super) fn expected_of_event(
    event: Option<&EventState>,
    ask: &Ask,
    wall: Timestamp,
) -> Result<Option<Outcome>, Rejection> {
    match ask {
        Ask::Command(command) => expected_of_command(event, command, wall),
        Ask::Query(query) => expected_of_query(event, query).map(Some),
    }
}

fn expected_of_command(
    event: Option<&EventState>,
    command: &Command,
    wall: Timestamp,
) -> Result<Option<Outcome>, Rejection> {
    Ok(match command {
        Command::CreateEvent(create) => match event {
            None if is_empty_window(&create.details.rules) => return Err(Rejection::EmptyWindow),
            None => None,
            Some(_) => return Err(Rejection::EventExists),
        },
        Command::CreateGivenEvent(_) => {
            event.map(|event| Outcome::Replayed(Box::new(Outcome::Event(Box::new(event.first.clone())))))
        }
        Command::Keyed(keyed) => return expected_of_command(event, &keyed.command, wall),
        Command::EditEvent(edit) => {
            let event = managed(event, edit.actor, &edit.version)?;
            let DetailsPatch { name, quota, venue, rules } = &edit.changes;
            let before = &event.view.details;
            let committed = event.view.reserved + event.view.held;
            let rules = patched(before.rules(), rules);
            if is_empty_window(&rules) {
                return Err(Rejection::EmptyWindow);
            }
            let quota = quota.map(|quota| quota.get());
            if quota.is_some_and(|quota| quota < committed) {
                return Err(Rejection::QuotaBelowCommitted { committed });
            }
            let same_name = name.as_ref().is_none_or(|name| name.as_str() == &*before.name);
            let same_quota = quota.is_none_or(|quota| quota == before.quota);
            let venue = venue.as_ref().map(|venue| venue.as_ref().map(|venue| venue.as_str()));
            let same_venue = venue.is_none_or(|venue| venue == before.venue.as_deref());
            let same_organizer = edit.organizer.is_none_or(|organizer| organizer == event.view.organizer);
            let same_details = same_name && same_quota && same_venue && rules == before.rules();
            (same_details && same_organizer).then(|| view(event))
        }
        Command::DeleteEvent(delete) => {
            let EventView { reserved, held, .. } = managed(event, delete.actor, &delete.version)?.view;
            if reserved + held > 0 && !delete.force {
                return Err(Rejection::HasReservations { reserved, held });
            }
            if event.is_some_and(|event| !event.doubts.is_empty()) {
                return Err(Rejection::OrderInDoubt);
            }
            None
        }
        Command::Reserve { actor, buyer, quantity, .. } | Command::Hold { actor, buyer, quantity, .. } => {
            let event = live(event)?;
            check_seller(event, *actor, buyer)?;
            if !matches!(buyer, Buyer::Guest | Buyer::Block) {
                check_window(&event.view.details.rules(), wall)?;
            }
            event.check_limits(buyer, quantity.get())?;
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
            let reservation = visible(event, *reservation, *actor)?;
            check_doubt(event, reservation)?;
            match reservation.status {
                ReservationStatus::Confirmed | ReservationStatus::Held => None,
                ReservationStatus::Cancelled | ReservationStatus::Expired => Some(Outcome::Cancelled),
            }
        }
        Command::Release { reservation, actor } => {
            let reservation = visible(event, *reservation, *actor)?;
            check_doubt(event, reservation)?;
            match reservation.status {
                ReservationStatus::Held => None,
                ReservationStatus::Cancelled | ReservationStatus::Expired => Some(Outcome::Cancelled),
                ReservationStatus::Confirmed => {
                    return Err(Rejection::HoldConfirmed { quantity: reservation.quantity });
                }
            }
        }
        Command::Confirm { reservation, actor, quantity } => {
            let reservation = visible(event, *reservation, *actor)?;
            let is_organizers = event.is_some_and(|event| is_organizer(event, *actor));
            match &reservation.buyer {
                Buyer::Account(customer) if *customer == actor.user => {}
                Buyer::Ref(_) | Buyer::Guest | Buyer::Block if is_organizers => {}
                _ => return Err(Rejection::NotYourReservation),
            }
            check_alone(reservation)?;
            let has = reservation.quantity;
            let asked = quantity.map_or(has, Quantity::get);
            match reservation.status {
                ReservationStatus::Held if asked <= has => None,
                ReservationStatus::Held => return Err(Rejection::QuantityAbove { quantity: has }),
                ReservationStatus::Confirmed if asked == has => {
                    Some(Outcome::Reservation(reservation.clone()))
                }
                ReservationStatus::Confirmed => return Err(Rejection::HoldConfirmed { quantity: has }),
                ReservationStatus::Expired => return Err(Rejection::HoldExpired),
                ReservationStatus::Cancelled => return Err(Rejection::HoldReleased),
            }
        }
        Command::Reduce { reservation, actor, quantity } => {
            let reservation = visible(event, *reservation, *actor)?;
            check_alone(reservation)?;
            match (reservation.status, reservation.quantity) {
                (ReservationStatus::Cancelled, _) => return Err(Rejection::ReservationCancelled),
                (ReservationStatus::Expired, _) => return Err(Rejection::HoldExpired),
                (ReservationStatus::Confirmed | ReservationStatus::Held, has) if quantity.get() > has => {
                    return Err(Rejection::QuantityAbove { quantity: has });
                }
                (ReservationStatus::Confirmed | ReservationStatus::Held, has) => {
                    (quantity.get() == has).then(|| Outcome::Reservation(reservation.clone()))
                }
            }
        }
        Command::Transfer(transfer) => {
            let Transfer { reservation, actor, to, quantity } = &**transfer;
            let one = visible(event, *reservation, *actor)?;
            let event = event.ok_or(Rejection::ReservationNotFound)?;
            let is_own = one.buyer == Buyer::Account(actor.user);
            if !is_own && !is_organizer(event, *actor) {
                return Err(Rejection::NotYourReservation);
            }
            if let Some(to) = to {
                check_seller(event, *actor, to)?;
            }
            let asked = quantity.map_or(one.quantity, Quantity::get);
            check_alone(one)?;
            match one.status {
                ReservationStatus::Held => return Err(Rejection::HoldNotConfirmed),
                ReservationStatus::Expired => return Err(Rejection::HoldExpired),
                ReservationStatus::Cancelled => return Err(Rejection::ReservationCancelled),
                ReservationStatus::Confirmed if asked > one.quantity => {
                    return Err(Rejection::QuantityAbove { quantity: one.quantity });
                }
                ReservationStatus::Confirmed if Some(&one.buyer) == to.as_ref() => {
                    Some(Outcome::Reservation(one.clone()))
                }
                ReservationStatus::Confirmed => {
                    let Some(to) = to else { return Err(Rejection::ReceiverNotFound) };
                    event.check_customer(to, asked)?;
                    if asked < one.quantity && event.reservations.len() >= RESERVATIONS_MAX as usize {
                        return Err(Rejection::NumbersUsedUp);
                    }
                    None
                }
            }
        }
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
    })
}

fn is_organizer(event: &EventState, actor: Actor) -> bool {
    actor.role == Role::Organizer && actor.user == event.view.organizer
}

/// Only the organizer sells to buyers without an account.
pub(super) fn check_seller(event: &EventState, actor: Actor, buyer: &Buyer) -> Result<(), Rejection> {
    let may = matches!(buyer, Buyer::Account(_)) || is_organizer(event, actor);
    may.then_some(()).ok_or(Rejection::NotYourEvent)
}

fn expected_of_query(event: Option<&EventState>, query: &Query) -> Result<Outcome, Rejection> {
    Ok(match query {
        Query::Event { .. } => view(live(event)?),
        Query::Availability { .. } | Query::Watch { .. } => {
            Outcome::Availability(live(event)?.availability())
        }
        Query::Reservation { reservation, actor } => {
            Outcome::Reservation(visible(event, *reservation, *actor)?.clone())
        }
        Query::Changes { actor, .. } => {
            let event = event.ok_or(Rejection::EventNotFound)?;
            if !event.is_managed_by(*actor) {
                return Err(Rejection::NotYourEvent);
            }
            let (position, is_deleted) = (event.position, event.is_deleted);
            Outcome::Changes(Box::new(ChangeSlice { position, is_deleted, recent: None }))
        }
        Query::EventReservations { event: _, actor, after, up_to, statuses, customer_ref, limit } => {
            let event = event.ok_or(Rejection::EventNotFound)?;
            if !event.is_managed_by(*actor) {
                return Err(Rejection::NotYourEvent);
            }
            let of = customer_ref.clone().map(Buyer::Ref);
            slice(event, after.unwrap_or(0), up_to.unwrap_or(u32::MAX), *statuses, of.as_ref(), *limit)
        }
        Query::Account { .. }
        | Query::AccountOf { .. }
        | Query::TokenStands { .. }
        | Query::ApiKeysStand { .. }
        | Query::Users { .. }
        | Query::Usernames { .. }
        | Query::Events { .. }
        | Query::Availabilities { .. }
        | Query::ChangedEvents { .. }
        | Query::CustomerReservations { .. }
        | Query::Order { .. }
        | Query::Orders { .. }
        | Query::Parts { .. }
        | Query::EventsCreated { .. }
        | Query::GivenEventId { .. }
        | Query::ApiKey { .. }
        | Query::ApiKeys { .. }
        | Query::Totals => unreachable!("{query:?} is not about one event"),
    })
}

/// The reservations with these statuses and numbers, of one buyer or all, as far as a shard looks.
fn slice(
    event: &EventState,
    after: u32,
    up_to: u32,
    statuses: Statuses,
    of: Option<&Buyer>,
    limit: usize,
) -> Outcome {
    let number = |one: &&ReservationView| one.id.number;
    let is_wanted = |one: &&ReservationView| {
        after < number(one) && number(one) <= up_to && of.is_none_or(|buyer| one.buyer == *buyer)
    };
    let range: Vec<&ReservationView> = event.reservations.iter().filter(is_wanted).collect();
    let within_reach = &range[..range.len().min(SCANNED_MAX as usize)];
    let shown = within_reach.iter().copied().filter(|one| !event.hidden.contains(&one.id.number));
    let fitting = shown.filter(|one| statuses.contains(one.status));
    let views: Vec<ReservationView> = fitting.take(limit).cloned().collect();
    let end = if views.len() == limit { views.last() } else { within_reach.last().copied() };
    let next = end.map(|end| end.id.number).filter(|end| range.iter().any(|one| number(one) > *end));
    let last = event.reservations.len() as u32;
    let position = event.availability().position;
    Outcome::ReservationSlice(Box::new(ReservationSlice { views, next, position, last }))
}

fn patched(mut rules: SalesRules, patch: &RulesPatch) -> SalesRules {
    if let Some(most) = patch.max_per_reservation {
        rules.max_per_reservation = most;
    }
    if let Some(most) = patch.max_per_customer {
        rules.max_per_customer = most;
    }
    if let Some(start) = patch.sales_start {
        rules.sales_start = start;
    }
    if let Some(end) = patch.sales_end {
        rules.sales_end = end;
    }
    rules
}

fn is_empty_window(rules: &SalesRules) -> bool {
    let start = rules.sales_start.unwrap_or(Timestamp(0));
    rules.sales_start.is_some() && rules.sales_end.is_some_and(|end| end <= start)
}

fn check_window(rules: &SalesRules, wall: Timestamp) -> Result<(), Rejection> {
    match (rules.sales_start, rules.sales_end) {
        (Some(opens_at), _) if wall.0 < opens_at.0 => Err(Rejection::SalesNotOpen { opens_at }),
        (_, Some(end)) if end.0 <= wall.0 => Err(Rejection::SalesClosed),
        _ => Ok(()),
    }
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
    let shown = event.reservations.get(index).filter(|one| !event.hidden.contains(&one.id.number));
    shown.filter(is_visible).ok_or(Rejection::ReservationNotFound)
}

/// A part that waits for the confirmation of its order does not end.
fn check_doubt(event: Option<&EventState>, reservation: &ReservationView) -> Result<(), Rejection> {
    let doubt = event.and_then(|event| event.doubts.get(&reservation.id.number));
    match doubt {
        Some(Doubt::Placing { .. } | Doubt::Confirming { .. }) => Err(Rejection::OrderInDoubt),
        None => Ok(()),
    }
}

/// What is held for an order does not change alone, except that it ends.
fn check_alone(reservation: &ReservationView) -> Result<(), Rejection> {
    match (reservation.status, reservation.order) {
        (ReservationStatus::Held, Some(order)) => Err(Rejection::PartOfOrder { order }),
        _ => Ok(()),
    }
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
            let usable = account.filter(|account| account.id == change.user && !account.removed);
            match (usable, change.token_version) {
                (Some(account), Some(version)) if account.token_version == version => Ok(None),
                (Some(_), None) => Ok(None),
                (_, Some(_)) => Err(Rejection::TokenEnded),
                (None, None) => Err(Rejection::UserNotFound),
            }
        }
        (Ask::Command(Command::ChangeRole(change)), account) => {
            let account = account.filter(|account| account.id == change.user && !account.removed);
            let account = account.ok_or(Rejection::UserNotFound)?;
            Ok((account.role == change.role).then(|| Outcome::AccountChanged(user_view(account))))
        }
        (Ask::Command(Command::EndTokens(end)), account) => {
            match account.filter(|account| account.id == end.user && !account.removed) {
                Some(_) => Ok(None),
                None => Err(Rejection::UserNotFound),
            }
        }
        (Ask::Command(Command::RemoveUser(remove)), account) => {
            let account = account.filter(|account| account.id == remove.user);
            let account = account.ok_or(Rejection::UserNotFound)?;
            Ok(account.removed.then(|| Outcome::AccountChanged(user_view(account))))
        }
        (Ask::Query(Query::ApiKeysStand { user, account_version, .. }), account) => {
            let stands = account.is_some_and(|account| {
                account.id == *user && account.key_version == *account_version && !account.removed
            });
            Ok(Some(Outcome::Stands(stands)))
        }
        (Ask::Query(Query::TokenStands { user, token_version, .. }), account) => {
            Ok(Some(Outcome::Stands(account.is_some_and(|account| stands(account, *user, *token_version)))))
        }
        (_, account) => Ok(Some(Outcome::Account(account.cloned().map(Box::new)))),
    }
}

fn stands(account: &AccountView, user: UserId, token_version: u64) -> bool {
    account.id == user && account.token_version == token_version && !account.removed
}

pub(super) fn user_view(account: &AccountView) -> UserView {
    UserView { id: account.id, username: account.username.clone(), role: account.role }
}
