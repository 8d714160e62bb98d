//! Changes: what a command asks for and its record makes, in a form common to both.

use super::orders::digest_of_items;
use crate::api_keys::ApiKey;
use crate::command::{Buyer, Command, Transfer};
use crate::details::{EventDetails, NewDetails, SalesRules, Venue};
use crate::ids::UserId;
use crate::record::{Answer, Kind, Record, Transferred};

/// The kind of a change and up to three numbers that both the command and its record have.
pub(super) type Change = (Kind, u32, u32, u32);

pub(super) fn change_of_command(command: &Command) -> Change {
    match command {
        Command::CreateUser(create) => (Kind::UserCreated, create.id.0, 0, 0),
        Command::ChangePassword(change) => {
            (Kind::PasswordChanged, change.user.0, change.next_token_version as u32, 0)
        }
        Command::ChangeRole(change) => {
            (Kind::RoleChanged, change.user.0, change.next_token_version as u32, change.role as u32)
        }
        Command::RemoveUser(remove) => (Kind::UserRemoved, remove.user.0, remove.by.0, 0),
        Command::EndTokens(end) => (Kind::TokensEnded, end.user.0, end.next_token_version as u32, end.by.0),
        Command::MakeApiKey(make) => change_of_api_key(make.organizer, &make.key),
        Command::EndApiKey(end) => (Kind::ApiKeyEnded, end.organizer.0, end.number.0, 0),
        Command::Keyed(keyed) => change_of_command(&keyed.command),
        Command::GiveEventId(give) => (Kind::EventIdGiven, give.id.0, give.key.user.0, 0),
        Command::CreateEvent(create) | Command::CreateGivenEvent(create) => {
            let NewDetails { name, quota, venue, rules } = &create.details;
            let venue = venue.as_ref().map(Venue::as_str);
            let digest = digest_of_details(name.as_str(), quota.get(), venue, rules);
            (Kind::EventCreated, create.id.0, create.organizer.0, digest)
        }
        Command::EditEvent(edit) => (Kind::EventEdited, edit.event.0, edit.actor.user.0, 0),
        Command::DeleteEvent(delete) => (Kind::EventDeleted, delete.event.0, delete.actor.user.0, 0),
        Command::Reserve { event, actor, buyer, quantity } => {
            (Kind::Reserved, event.0, people(actor.user, buyer), quantity.get())
        }
        Command::Hold { event, actor, buyer, quantity, time: _ } => {
            (Kind::Held, event.0, people(actor.user, buyer), quantity.get())
        }
        Command::Confirm { reservation, actor, .. } => {
            (Kind::Confirmed, reservation.event.0, reservation.number, actor.user.0)
        }
        // Both give up a hold.
        Command::Cancel { reservation, actor } | Command::Release { reservation, actor } => {
            (Kind::Cancelled, reservation.event.0, reservation.number, actor.user.0)
        }
        Command::PlaceOrder(order) => {
            let items = order.items.as_slice().iter().map(|item| (item.event, item.quantity.get()));
            let people = people(order.owner, &order.buyer);
            (Kind::OrderPlaced, people, digest_of_items(items), order.time.is_some().into())
        }
        Command::ConfirmOrder { order, actor } => {
            (Kind::OrderConfirmed, order.user.0, order.number, actor.user.0)
        }
        Command::CancelOrder { order, actor } => {
            (Kind::OrderCancelled, order.user.0, order.number, actor.user.0)
        }
        Command::OrderMessage(_) => unreachable!("no client sends {command:?}"),
        Command::Reduce { reservation, actor, .. } => {
            (Kind::Reduced, reservation.event.0, reservation.number, actor.user.0)
        }
        Command::Transfer(transfer) => {
            let Transfer { reservation, actor, ref to, quantity: _ } = **transfer;
            // Without a receiver there will be no record.
            let people = people(actor.user, to.as_ref().unwrap_or(&Buyer::Account(UserId(0))));
            (Kind::Transferred, reservation.event.0, reservation.number, people)
        }
    }
}

/// A number that differs where the details of an event do.
fn digest_of_details(name: &str, quota: u32, venue: Option<&str>, rules: &SalesRules) -> u32 {
    let texts = format!("{name:?} {venue:?} {rules:?}");
    texts.bytes().fold(quota, |digest, byte| digest.wrapping_mul(31).wrapping_add(byte.into()))
}

fn change_of_api_key(organizer: UserId, key: &ApiKey) -> Change {
    (Kind::ApiKeyMade, organizer.0, key.account_version as u32, key.secret_hash[0].into())
}

/// The account that acted and the buyer, in one number.
fn people(by: UserId, buyer: &Buyer) -> u32 {
    by.0 << 16 | number_of_buyer(buyer)
}

/// A number that differs where buyers do.
pub(in crate::simulation) fn number_of_buyer(buyer: &Buyer) -> u32 {
    match buyer {
        Buyer::Account(customer) => customer.0,
        Buyer::Ref(text) => 1000 + text.as_str().bytes().map(u32::from).sum::<u32>(),
        Buyer::Guest => 998,
        Buyer::Block => 999,
    }
}

pub(in crate::simulation) fn kind_of(record: &Record) -> Kind {
    match record {
        Record::Released { .. } => Kind::Released,
        record => change_of_record(record).0,
    }
}

pub(super) fn change_of_record(record: &Record) -> Change {
    match record {
        Record::UserCreated(user) => (Kind::UserCreated, user.id.0, 0, 0),
        Record::PasswordChanged(changed) => {
            (Kind::PasswordChanged, changed.id.0, changed.token_version as u32, 0)
        }
        Record::RoleChanged(changed) => {
            (Kind::RoleChanged, changed.id.0, changed.token_version as u32, changed.role as u32)
        }
        Record::UserRemoved(removed) => (Kind::UserRemoved, removed.id.0, removed.by.0, 0),
        Record::TokensEnded(ended) => (Kind::TokensEnded, ended.id.0, ended.token_version as u32, ended.by.0),
        Record::ApiKeyMade(made) => change_of_api_key(made.organizer, &made.key),
        Record::ApiKeyEnded { organizer, number } => (Kind::ApiKeyEnded, organizer.0, number.0, 0),
        Record::EventCreated(event) => {
            let EventDetails { name, quota, venue, rules: _ } = &event.details;
            let digest = digest_of_details(name, *quota, venue.as_deref(), &event.details.rules());
            (Kind::EventCreated, event.id.0, event.organizer.0, digest)
        }
        Record::EventEdited(event) => (Kind::EventEdited, event.id.0, event.by.0, 0),
        Record::EventDeleted { event, by, .. } => (Kind::EventDeleted, event.0, by.0, 0),
        Record::Reserved { id, by, buyer, quantity } => {
            (Kind::Reserved, id.event.0, people(*by, buyer), *quantity)
        }
        Record::Held(held) => (Kind::Held, held.id.event.0, people(held.by, &held.buyer), held.quantity),
        Record::Transferred(transferred) => {
            let Transferred { id, by, to, part: _ } = &**transferred;
            (Kind::Transferred, id.event.0, id.number, people(*by, to))
        }
        Record::Confirmed { id, by, .. } => (Kind::Confirmed, id.event.0, id.number, by.0),
        Record::HoldsExpired { event, .. } => (Kind::HoldsExpired, event.0, 0, 0),
        Record::HoldsExtended { .. } => (Kind::HoldsExtended, 0, 0, 0),
        Record::PartPrepared(part) => (Kind::PartPrepared, part.id.event.0, part.id.number, 0),
        Record::PartSettled(part) => (Kind::PartSettled, part.id.event.0, part.id.number, 0),
        Record::OrderPlaced(order) => {
            let items = order.parts.iter().map(|part| (part.reservation.event, part.quantity));
            let people = people(order.id.user, &order.buyer);
            (Kind::OrderPlaced, people, digest_of_items(items), order.deadline.is_some().into())
        }
        Record::OrderConfirmed { id, by } => (Kind::OrderConfirmed, id.user.0, id.number, by.0),
        Record::OrderCancelled { id, by } => (Kind::OrderCancelled, id.user.0, id.number, by.0),
        Record::OrderExpired { id } => (Kind::OrderExpired, id.user.0, id.number, 0),
        Record::OrderSettled { id } => (Kind::OrderSettled, id.user.0, id.number, 0),
        Record::Cancelled { id, by, .. } | Record::Released { id, by, .. } => {
            (Kind::Cancelled, id.event.0, id.number, by.0)
        }
        Record::Reduced { id, by, .. } => (Kind::Reduced, id.event.0, id.number, by.0),
        Record::TimeSetBack => (Kind::TimeSetBack, 0, 0, 0),
        Record::KeysAged { .. } => (Kind::KeysAged, 0, 0, 0),
        Record::KeyKept(kept) => match &kept.answer {
            Answer::Reservation { id, .. } | Answer::Hold { id, .. } => {
                (Kind::KeyKept, id.event.0, id.number, kept.user.0)
            }
            Answer::OfAnother(another) => (Kind::KeyKept, another.id.event.0, another.id.number, kept.user.0),
            Answer::Order { id } | Answer::HeldOrder { id, .. } => {
                (Kind::KeyKept, id.user.0, id.number, kept.user.0)
            }
            Answer::EventId(event) => (Kind::EventIdGiven, event.0, kept.user.0, 0),
        },
    }
}
