//! The rules of the domain as tables of steps and their results.

use std::fmt::Display;

use super::super::by_customer::ByCustomer;
use super::super::{Decision, OutcomeRef, SlotState};
use super::{actor, all_slots};
use crate::api_keys::{ApiKey, Scopes};
use crate::clock::Now;
use crate::command::{
    Buyer, ChangePassword, ChangeRole, Command, CreateEvent, CreateUser, CustomerRef, DeleteEvent, EditEvent,
    EndApiKey, EndTokens, ExpectedVersion, GiveEventId, IdempotencyKey, Keyed, MakeApiKey, Query, RemoveUser,
    Transfer,
};
use crate::details::{DetailsPatch, EventName, NewDetails, RulesPatch, Venue};
use crate::ids::{
    ApiKeyNumber, EventId, HoldTime, Lsn, Quantity, Quota, ReservationId, Role, Timestamp, UserId, Username,
};
use crate::limits::{API_KEYS_MAX, KEYS_OF_CUSTOMER_MAX, RESERVATIONS_MAX};
use crate::outcome::{Availability, Outcome, Rejection, Reply, ReservationStatus, Statuses};
use crate::record::Record;
use crate::slots::slot_of_event;

fn command(words: &[&str]) -> Command {
    let event = EventId(1);
    let tickets = |text: &str| text.parse().unwrap();
    let quota_of = |quota: &str| DetailsPatch {
        quota: Some(Quota::new(tickets(quota)).unwrap()),
        ..DetailsPatch::default()
    };
    let edit = |who: &str, changes, organizer: Option<&str>| {
        Command::EditEvent(Box::new(EditEvent {
            event,
            actor: actor(who),
            version: ExpectedVersion::Any,
            changes,
            organizer: organizer.map(|organizer| actor(organizer).user),
        }))
    };
    match *words {
        [ref words @ .., "if", versions] => {
            let versions = versions.split(',').map(|version| version.parse().unwrap()).collect();
            for_versions(command(words), ExpectedVersion::OneOf(versions))
        }
        ["user", name] => Command::CreateUser(Box::new(CreateUser {
            id: UserId(name.len() as u32),
            username: Username::new(name).unwrap(),
            password_hash: "hash".into(),
            role: Role::Customer,
            token_version: 7,
        })),
        ["password", name, version] => Command::ChangePassword(Box::new(ChangePassword {
            user: UserId(name.len() as u32),
            username: Username::new(name).unwrap(),
            by: UserId(name.len() as u32),
            token_version: Some(version.parse().unwrap()),
            password_hash: "another hash".into(),
            next_token_version: version.parse::<u64>().unwrap() + 1,
        })),
        ["new-password", name] => Command::ChangePassword(Box::new(ChangePassword {
            user: UserId(name.len() as u32),
            username: Username::new(name).unwrap(),
            by: actor("z").user,
            token_version: None,
            password_hash: "set hash".into(),
            next_token_version: 80,
        })),
        ["end-tokens", name] => Command::EndTokens(Box::new(EndTokens {
            user: UserId(name.len() as u32),
            username: Username::new(name).unwrap(),
            by: actor("z").user,
            next_token_version: 90,
        })),
        [who, "make-api-key", ref over @ ..] => Command::MakeApiKey(Box::new(MakeApiKey {
            organizer: actor(who).user,
            key: ApiKey {
                name: "Shop".into(),
                scopes: Scopes::default(),
                secret_hash: [7; 32],
                username: Username::new("organizer").unwrap(),
                account_version: 7,
                ends_at: None,
            },
            over: over.iter().map(|number| ApiKeyNumber(number.parse().unwrap())).collect(),
        })),
        [who, "end-api-key", number] => Command::EndApiKey(EndApiKey {
            organizer: actor(who).user,
            number: ApiKeyNumber(number.parse().unwrap()),
        }),
        ["role", name, role] => Command::ChangeRole(Box::new(ChangeRole {
            user: UserId(name.len() as u32),
            username: Username::new(name).unwrap(),
            by: actor("z").user,
            role: serde_json::from_value(role.into()).unwrap(),
            next_token_version: 70,
        })),
        ["remove", name] => Command::RemoveUser(Box::new(RemoveUser {
            user: UserId(name.len() as u32),
            username: Username::new(name).unwrap(),
            by: actor("z").user,
        })),
        // With the id of another account.
        ["remove", name, user] => Command::RemoveUser(Box::new(RemoveUser {
            user: UserId(user.parse().unwrap()),
            username: Username::new(name).unwrap(),
            by: actor("z").user,
        })),
        ["event", quota] => Command::CreateEvent(Box::new(CreateEvent {
            id: event,
            organizer: actor("o").user,
            key: None,
            details: NewDetails::new(EventName::new("Concert").unwrap(), Quota::new(tickets(quota)).unwrap()),
        })),
        [who, "give", id, "key", name, content] => Command::GiveEventId(Box::new(GiveEventId {
            key: key(who, name, content),
            id: EventId(id.parse().unwrap()),
        })),
        // The content tells the details, as the fingerprint of a request does.
        [who, "create-given", content] => Command::CreateGivenEvent(Box::new(CreateEvent {
            id: event,
            organizer: actor(who).user,
            key: None,
            details: NewDetails::new(
                EventName::new("Concert").unwrap(),
                Quota::new(tickets(content)).unwrap(),
            ),
        })),
        [who, ref words @ .., "key", name] => {
            let command = command(&[&[who], words].concat());
            let content = words.iter().rfind(|word| word.parse::<u64>().is_ok()).unwrap();
            Command::Keyed(Box::new(Keyed { key: key(who, name, content), command }))
        }
        [who, "quota", quota] => edit(who, quota_of(quota), None),
        [who, "venue", venue] => {
            let venue = Some(Venue::new(venue).ok().filter(|_| venue != "none"));
            edit(who, DetailsPatch { venue, ..DetailsPatch::default() }, None)
        }
        [who, "rule", rule, value] => {
            let limit = || Some(Quantity::new(value.parse().unwrap_or(0)));
            let time = || Some(value.parse().ok().map(Timestamp));
            let rules = match rule {
                "reservation" => RulesPatch { max_per_reservation: limit(), ..RulesPatch::default() },
                "customer" => RulesPatch { max_per_customer: limit(), ..RulesPatch::default() },
                "start" => RulesPatch { sales_start: time(), ..RulesPatch::default() },
                "end" => RulesPatch { sales_end: time(), ..RulesPatch::default() },
                _ => panic!("unknown rule: {rule}"),
            };
            edit(who, DetailsPatch { rules, ..DetailsPatch::default() }, None)
        }
        [who, "name", name] => {
            edit(who, DetailsPatch { name: EventName::new(name).ok(), ..DetailsPatch::default() }, None)
        }
        [who, "hand", to] => edit(who, DetailsPatch::default(), Some(to)),
        [who, "hand", to, quota] => edit(who, quota_of(quota), Some(to)),
        [who, "delete", ref options @ ..] => Command::DeleteEvent(Box::new(DeleteEvent {
            event,
            actor: actor(who),
            version: ExpectedVersion::Any,
            force: options == ["force"],
        })),
        [who, "reserve", quantity, ref buyer @ ..] => Command::Reserve {
            event,
            actor: actor(who),
            buyer: buyer_for(who, buyer),
            quantity: Quantity::new(tickets(quantity)).unwrap(),
        },
        [who, "cancel", number] => Command::Cancel {
            reservation: ReservationId { event, number: number.parse().unwrap() },
            actor: actor(who),
        },
        [who, "hold", quantity, seconds, ref buyer @ ..] => Command::Hold {
            event,
            actor: actor(who),
            buyer: buyer_for(who, buyer),
            quantity: Quantity::new(tickets(quantity)).unwrap(),
            time: HoldTime::from_seconds(tickets(seconds)).unwrap(),
        },
        [who, "confirm", number, ref quantity @ ..] => Command::Confirm {
            reservation: ReservationId { event, number: number.parse().unwrap() },
            actor: actor(who),
            quantity: quantity.first().map(|quantity| Quantity::new(tickets(quantity)).unwrap()),
        },
        [who, "release", number] => Command::Release {
            reservation: ReservationId { event, number: number.parse().unwrap() },
            actor: actor(who),
        },
        [who, "reduce", number, quantity] => Command::Reduce {
            reservation: ReservationId { event, number: number.parse().unwrap() },
            actor: actor(who),
            quantity: Quantity::new(tickets(quantity)).unwrap(),
        },
        [who, "transfer", number, "to", to, ref quantity @ ..] => Command::Transfer(Box::new(Transfer {
            reservation: ReservationId { event, number: number.parse().unwrap() },
            actor: actor(who),
            to: (to != "nobody").then(|| buyer_for(to, &["for", to])),
            quantity: quantity.first().map(|quantity| Quantity::new(tickets(quantity)).unwrap()),
        })),
        _ => panic!("unknown command: {words:?}"),
    }
}

/// Who gets the tickets: the actor; or `for` a ref such as `@x`, `guest`, `block` or another actor.
fn buyer_for(who: &str, words: &[&str]) -> Buyer {
    match *words {
        [] => Buyer::Account(actor(who).user),
        ["for", "guest"] => Buyer::Guest,
        ["for", "block"] => Buyer::Block,
        ["for", text] if text.starts_with('@') => Buyer::Ref(CustomerRef::new(text).unwrap()),
        ["for", other] => Buyer::Account(actor(other).user),
        _ => panic!("unknown buyer: {words:?}"),
    }
}

fn key(who: &str, name: &str, content: &str) -> IdempotencyKey {
    let (user, is_bounded) = (actor(who).user, actor(who).role == Role::Customer);
    let hash = [name.parse().unwrap(); 16];
    IdempotencyKey { user, is_bounded, hash, fingerprint: content.parse().unwrap() }
}

fn for_versions(mut command: Command, expected: ExpectedVersion) -> Command {
    match &mut command {
        Command::EditEvent(edit) => edit.version = expected,
        Command::DeleteEvent(delete) => delete.version = expected,
        other => panic!("{other:?} is for any version"),
    }
    command
}

fn query(words: &[&str]) -> Option<Query> {
    let event = EventId(1);
    Some(match *words {
        ["token", name, version] => Query::TokenStands {
            user: UserId(name.len() as u32),
            username: Username::new(name).unwrap(),
            token_version: version.parse().unwrap(),
        },
        [who, "api-key", number] => {
            Query::ApiKey { organizer: actor(who).user, number: ApiKeyNumber(number.parse().unwrap()) }
        }
        [who, "api-keys"] => Query::ApiKeys { organizer: actor(who).user },
        ["keys-of", name, version] => Query::ApiKeysStand {
            user: UserId(name.len() as u32),
            username: Username::new(name).unwrap(),
            account_version: version.parse().unwrap(),
        },
        ["users"] => Query::Users { after: None, limit: 10 },
        ["user-of", id] => Query::AccountOf { user: UserId(id.parse().unwrap()) },
        ["names", ref users @ ..] => {
            Query::Usernames { users: users.iter().map(|user| UserId(user.parse().unwrap())).collect() }
        }
        ["view"] => Query::Event { event },
        ["left"] => Query::Availability { event },
        ["left-of", ref events @ ..] => Query::Availabilities {
            events: events.iter().map(|event| EventId(event.parse().unwrap())).collect(),
        },
        ["list"] => Query::Events { after: None, limit: 10, organizer: None },
        [who, "list"] => Query::Events { after: None, limit: 10, organizer: Some(actor(who).user) },
        [who, "made"] => Query::EventsCreated { organizer: actor(who).user },
        ["totals"] => Query::Totals,
        [who, "given", name, content] => Query::GivenEventId { key: key(who, name, content) },
        [who, "see", number] => {
            let reservation = ReservationId { event, number: number.parse().unwrap() };
            Query::Reservation { reservation, actor: actor(who) }
        }
        [who, "mine"] => Query::CustomerReservations { customer: actor(who).user, after: None, limit: 10 },
        [who, "reservations"] => {
            let statuses = Statuses::ALL;
            let (after, up_to) = (None, None);
            let customer_ref = None;
            Query::EventReservations {
                event,
                actor: actor(who),
                after,
                up_to,
                statuses,
                customer_ref,
                limit: 10,
            }
        }
        [who, "reservations", "of", text, after] => Query::EventReservations {
            event,
            actor: actor(who),
            after: after.parse().ok(),
            up_to: None,
            statuses: Statuses::ALL,
            customer_ref: CustomerRef::new(text).ok(),
            limit: 2,
        },
        [who, "reservations", after, up_to, ref statuses @ ..] => {
            let number = |text: &str| Some(text.parse().unwrap());
            let named =
                |name: &&str| ReservationStatus::ALL.into_iter().find(|one| one.as_str() == *name).unwrap();
            Query::EventReservations {
                event,
                actor: actor(who),
                after: number(after),
                up_to: number(up_to),
                statuses: statuses.iter().map(named).collect(),
                customer_ref: None,
                limit: 2,
            }
        }
        _ => return None,
    })
}

/// A reply in a word or two: `ok` for a change, `same` if nothing changed.
fn describe(reply: &Reply, changed: bool) -> String {
    let outcome = match reply {
        Ok(outcome) => outcome,
        Err(rejection) => {
            return match rejection {
                Rejection::SoldOut { remaining } => format!("sold-out {remaining}"),
                Rejection::NumbersUsedUp => "used-up".to_owned(),
                Rejection::SalesNotOpen { opens_at } => format!("opens {opens_at:?}"),
                Rejection::SalesClosed => "closed".to_owned(),
                Rejection::ReservationLimit { allowed } => format!("at-most {allowed}"),
                Rejection::CustomerLimit { allowed } => format!("{allowed} more"),
                Rejection::EmptyWindow => "no-window".to_owned(),
                Rejection::QuotaBelowCommitted { committed } => format!("below {committed}"),
                Rejection::HasReservations { reserved, held } => format!("has {}", sum(*reserved, *held)),
                Rejection::UsernameTaken => "taken".to_owned(),
                Rejection::UserNotFound => "no-user".to_owned(),
                Rejection::TokenEnded => "ended".to_owned(),
                Rejection::ApiKeyNotFound => "no-api-key".to_owned(),
                Rejection::TooManyApiKeys => "too-many-api-keys".to_owned(),
                Rejection::EventExists => "exists".to_owned(),
                Rejection::EventNotFound => "no-event".to_owned(),
                Rejection::EventDeleted => "deleted".to_owned(),
                Rejection::NotYourEvent => "not-yours".to_owned(),
                Rejection::VersionMismatch { version } => format!("is v{version}"),
                Rejection::NotYourReservation => "not-your-reservation".to_owned(),
                Rejection::ReservationNotFound => "no-reservation".to_owned(),
                Rejection::ReservationCancelled => "was-cancelled".to_owned(),
                Rejection::QuantityAbove { quantity } => format!("has {quantity}"),
                Rejection::HoldExpired => "hold-expired".to_owned(),
                Rejection::HoldReleased => "hold-released".to_owned(),
                Rejection::HoldConfirmed { quantity } => format!("hold-confirmed {quantity}"),
                Rejection::AccountLimit { .. } => unreachable!("the state has no limits of accounts"),
                Rejection::HoldNotConfirmed => "is-held".to_owned(),
                Rejection::ReceiverNotFound => "no-receiver".to_owned(),
                Rejection::KeyReused => "reused".to_owned(),
                Rejection::TooManyKeys { .. } => "too-many-keys".to_owned(),
                Rejection::NoRoomForKeys => unreachable!("the state has no limit of all keys"),
                Rejection::OrderNotFound => "no-order".to_owned(),
                Rejection::NotYourOrder => "not-your-order".to_owned(),
                Rejection::PartOfOrder { order } => format!("part of {order}"),
                Rejection::OrderInDoubt => "in-doubt".to_owned(),
                Rejection::OrderRefused { .. }
                | Rejection::PartsGone { .. }
                | Rejection::OrderBusy
                | Rejection::KeyInFlight
                | Rejection::Overloaded => unreachable!("a shard refuses this, and no state"),
                Rejection::LogFull | Rejection::LogLocked | Rejection::Elsewhere => {
                    unreachable!("all slots are owned, and there is no log")
                }
            };
        }
    };
    let outcome = match outcome {
        Outcome::Part(part) => &part.outcome,
        outcome => outcome,
    };
    match outcome {
        _ if changed => "ok".to_owned(),
        Outcome::Event(event) => {
            let quota = event.details.quota;
            assert_eq!(quota, event.reserved + event.held + event.remaining);
            let at = event.details.venue.as_ref().map_or(String::new(), |venue| format!(" at {venue}"));
            format!("{}/{quota} v{}{at}", sum(event.reserved, event.held), event.version)
        }
        Outcome::Availability(one) => describe_availability(one),
        Outcome::Availabilities(list) => {
            list.iter().map(describe_availability).collect::<Vec<_>>().join(", ")
        }
        Outcome::Events(events) => format!("{} events", events.len()),
        Outcome::Reservation(reservation) => {
            let quantity = reservation.quantity;
            let buyer = match &reservation.buyer {
                Buyer::Account(_) => String::new(),
                Buyer::Ref(text) => format!(" for {}", text.as_str()),
                Buyer::Guest | Buyer::Block => format!(" for {}", reservation.buyer.kind().as_str()),
            };
            match reservation.status {
                ReservationStatus::Confirmed => format!("confirmed {quantity}{buyer}"),
                ReservationStatus::Cancelled => format!("cancelled {quantity}{buyer}"),
                status @ (ReservationStatus::Held | ReservationStatus::Expired) => {
                    let left = reservation.expires_at.unwrap().0 - START_MS;
                    format!("{} {quantity}{buyer} until {left}", status.as_str())
                }
            }
        }
        Outcome::Reservations(list) => {
            let is_live = |status| matches!(status, ReservationStatus::Confirmed | ReservationStatus::Held);
            let live = list.iter().filter(|one| is_live(one.status));
            format!("{} of {}", live.count(), list.len())
        }
        Outcome::ReservationSlice(slice) => {
            let is_live = |status| matches!(status, ReservationStatus::Confirmed | ReservationStatus::Held);
            let live = slice.views.iter().filter(|one| is_live(one.status));
            let more = slice.next.map_or(String::new(), |next| format!(", more after {next}"));
            format!("{} of {}{more}", live.count(), slice.views.len())
        }
        Outcome::Order(order) => format!("{:?} with {} parts", order.status, order.parts.len()),
        Outcome::Orders(orders) => format!("{} orders", orders.views.len()),
        Outcome::Changes(slice) => format!("{} {}", slice.position, slice.is_deleted),
        Outcome::ChangedEvents(changed) => format!("{changed:?}"),
        Outcome::Usernames(names) => {
            names.iter().map(|(user, name)| format!("{user} {name}")).collect::<Vec<_>>().join(", ")
        }
        Outcome::Account(account) => account.as_ref().map_or("none".to_owned(), |account| {
            format!(
                "{} {}",
                account.username,
                if account.removed { "removed" } else { &account.password_hash }
            )
        }),
        Outcome::Stands(stands) => stands.to_string(),
        Outcome::Users(users) => {
            let names = users.iter().map(|user| format!("{} {}", user.username, user.role.as_str()));
            names.collect::<Vec<_>>().join(", ")
        }
        Outcome::EventsCreated(count) => format!("{count} made"),
        Outcome::Totals(totals) if totals.accounts > 0 => {
            format!("{} with {} admins", totals.accounts, totals.admins)
        }
        Outcome::Totals(totals) => {
            format!("{} of {}", sum(totals.reserved, totals.held), totals.quota)
        }
        Outcome::GivenEventId(id) => format!("id {}", id.map_or(0, |id| id.0)),
        Outcome::Replayed(first) => format!("again {}", describe(&Ok((**first).clone()), false)),
        Outcome::Part(_) => unreachable!("a part of a part"),
        Outcome::ApiKey(key) => key.as_ref().map_or("none".to_owned(), |key| format!("key {}", key.number)),
        Outcome::ApiKeys(keys) => {
            let numbers = keys.iter().map(|key| key.number.to_string());
            format!("keys: {}", numbers.collect::<Vec<_>>().join(", ")).trim_end().to_owned()
        }
        Outcome::ApiKeyEnded(_) | Outcome::AccountChanged(_) | Outcome::EventDeleted | Outcome::Cancelled => {
            "same".to_owned()
        }
    }
}

fn describe_availability(one: &Availability) -> String {
    assert_eq!(one.quota, one.reserved + one.held + one.remaining);
    format!("{} of {} at {}", one.remaining, one.quota, one.position)
}

/// The tickets that are reserved, and behind a plus those that are held.
fn sum<N: Display + Default + PartialEq>(reserved: N, held: N) -> String {
    if held == N::default() { reserved.to_string() } else { format!("{reserved}+{held}") }
}

/// The time of the first step. Each step is a millisecond after the one before; `wait` with seconds lets more time
/// pass.
const START_MS: u64 = 1000;

/// Records that no command makes: `expire` ends the holds that have reached their deadlines, `start` gives live
/// holds more time.
fn record(words: &[&str], state: &SlotState, now: Now) -> Option<Option<Record>> {
    match *words {
        ["expire"] => Some(state.expiry_due(now)),
        ["start"] => Some(Some(Record::HoldsExtended { from: now.steady })),
        _ => None,
    }
}

/// Runs steps separated by `|`, each `step -> result`. At the end, replaying the records must give the same
/// state, and undoing them one by one must give every earlier state.
pub(super) fn check(steps: &str) {
    let mut state = all_slots();
    let mut records = Vec::new();
    let mut undo_steps = Vec::new();
    let mut now = Now::at(Timestamp(START_MS));
    for (index, step) in steps.split('|').enumerate() {
        let (action, expected) = step.split_once("->").expect("a step has an arrow");
        let words: Vec<&str> = action.split_whitespace().collect();
        let slot_of_1 = slot_of_event(EventId(1));
        let (reply, changed) = if let Some(query) = query(&words) {
            (state.query(&query), false)
        } else if let ["wait", seconds] = *words {
            now = Now::at(Timestamp(now.steady.0 + seconds.parse::<u64>().unwrap() * 1000));
            (Ok(Outcome::Cancelled), true)
        } else {
            let of_event = state.slot(slot_of_1).expect("all slots are owned");
            let (slot, decision) = match record(&words, of_event, now) {
                Some(record) => (
                    slot_of_1,
                    Decision {
                        records: record.into_iter().collect(),
                        reply: Ok(OutcomeRef::Cancelled),
                        messages: Vec::new(),
                    },
                ),
                None => {
                    let command = command(&words);
                    (command.slot(), state.decide(now, command.slot(), command))
                }
            };
            let changed = !decision.records.is_empty();
            for record in decision.records {
                let lsn = Lsn(1 + records.len() as u64);
                let of_slot = state.slot(slot).expect("all slots are owned");
                let (before, undo) = (format!("{state:?}"), of_slot.undo_of(&record));
                let previous = state.apply(slot, now.wall, lsn, &record);
                undo_steps.push((before, slot, previous, record.clone(), undo));
                records.push((slot, now.wall, lsn, record));
                state.check_sums();
            }
            let of_slot = state.slot(slot).expect("all slots are owned");
            (decision.reply.map(|outcome| of_slot.outcome(&outcome)), changed)
        };
        assert_eq!(describe(&reply, changed), expected.trim(), "step {index} of {steps}");
        now = Now::at(Timestamp(now.steady.0 + 1));
    }
    let mut replayed = all_slots();
    for (slot, at, lsn, record) in &records {
        replayed.apply(*slot, *at, *lsn, record);
    }
    assert_eq!(format!("{replayed:?}"), format!("{state:?}"), "replay of {steps}");
    while let Some((before, slot, previous, record, undo)) = undo_steps.pop() {
        state.undo(slot, previous, &record, undo);
        assert_eq!(format!("{state:?}"), before, "undo of {record:?} in {steps}");
        state.check_sums();
    }
}

#[test]
fn reservations_stay_within_the_quota() {
    check("event 2 -> ok | a reserve 2 -> ok");
    check(
        "event 2 -> ok | a reserve 1 -> ok | b reserve 2 -> sold-out 1 | b reserve 1 -> ok | a reserve 1 -> sold-out 0 | view -> 2/2 v1",
    );
    check("event 0 -> ok | a reserve 1 -> sold-out 0");
    check("a reserve 1 -> no-event");
    check("event 10000000 -> ok | a reserve 10000000 -> ok | view -> 10000000/10000000 v1");
}

/// The position is that of the event's last record: it rises with whatever changes the event, and with nothing else.
#[test]
fn availability_has_the_position_of_the_last_change() {
    check(
        "left -> no-event | left-of 1 2 ->  | event 5 -> ok | left -> 5 of 5 at 1 | a reserve 2 -> ok | left -> 3 of 5 at 2 | a reserve 4 -> sold-out 3 | o quota 5 -> 2/5 v1 | left -> 3 of 5 at 2 | a reduce 1 1 -> ok | o name Recital -> ok | left-of 1 2 -> 4 of 5 at 4 | a cancel 1 -> ok | left -> 5 of 5 at 5 | o delete -> ok | left -> deleted | left-of 1 -> ",
    );
}

#[test]
fn the_numbers_of_an_event_end() {
    let cycles: String = (1..RESERVATIONS_MAX)
        .map(|number| format!(" | a reserve 1 -> ok | a cancel {number} -> ok"))
        .collect();
    check(&format!(
        "event 2 -> ok{cycles} | a reserve 1 -> ok | a reserve 2 -> sold-out 1 | a reserve 1 -> used-up | view -> 1/2 v1 | o reservations -> 0 of 5, more after 5 | o reservations 5 9 confirmed -> 1 of 1 | a cancel {RESERVATIONS_MAX} -> ok | a reserve 1 -> used-up | o quota 3 -> ok | o delete -> ok"
    ));
}

#[test]
fn a_cancel_gives_the_tickets_back_once() {
    check(
        "event 2 -> ok | a reserve 2 -> ok | a cancel 1 -> ok | a cancel 1 -> same | view -> 0/2 v1 | b reserve 2 -> ok | a cancel 1 -> same | view -> 2/2 v1",
    );
    check(
        "event 2 -> ok | a reserve 2 -> ok | b cancel 1 -> no-reservation | z cancel 1 -> ok | a see 1 -> cancelled 2",
    );
    check("event 2 -> ok | a cancel 1 -> no-reservation | a cancel 0 -> no-reservation");
}

#[test]
fn a_part_of_a_reservation_is_given_back() {
    check(
        "event 5 -> ok | a reserve 4 -> ok | a reduce 1 3 -> ok | view -> 3/5 v1 | a see 1 -> confirmed 3 | b reserve 2 -> ok | b reserve 1 -> sold-out 0 | a reduce 1 3 -> confirmed 3 | a reduce 1 4 -> has 3 | a reduce 1 1 -> ok | z reduce 2 1 -> ok | view -> 2/5 v1 | a cancel 1 -> ok | view -> 1/5 v1 | a reduce 1 1 -> was-cancelled | a see 1 -> cancelled 1",
    );
    // As a cancellation: by its customer, in any role, by the event's organizer and by admins.
    check(
        "event 5 -> ok | a reserve 4 -> ok | b reduce 1 1 -> no-reservation | o reduce 1 3 -> ok | p reduce 1 1 -> no-reservation | a-organizer reduce 1 2 -> ok | a reduce 2 1 -> no-reservation | a reduce 0 1 -> no-reservation | o quota 2 -> ok | o quota 1 -> below 2 | o delete -> has 2 | o delete force -> ok | a reduce 1 1 -> was-cancelled",
    );
}

#[test]
fn a_reservation_is_visible_to_its_customer_the_organizer_and_admins() {
    check(
        "event 2 -> ok | a reserve 1 -> ok | a see 1 -> confirmed 1 | b see 1 -> no-reservation | o see 1 -> confirmed 1 | p see 1 -> no-reservation | z see 1 -> confirmed 1",
    );
    check(
        "event 2 -> ok | a reserve 1 -> ok | b reserve 1 -> ok | a mine -> 1 of 1 | o reservations -> 2 of 2 | p reservations -> not-yours | z reservations -> 2 of 2",
    );
}

#[test]
fn a_buyer_keeps_a_reservation_in_another_role() {
    check(
        "event 5 -> ok | a reserve 1 -> ok | a-organizer see 1 -> confirmed 1 | b-organizer see 1 -> no-reservation | a-organizer mine -> 1 of 1 | a-organizer reservations -> not-yours | a-organizer cancel 1 -> ok | a-organizer cancel 1 -> same | a-organizer cancel 2 -> no-reservation",
    );
    check(
        "event 5 -> ok | a reserve 1 -> ok | p cancel 1 -> no-reservation | b-organizer cancel 1 -> no-reservation | z cancel 1 -> ok | o cancel 1 -> same | a reserve 1 -> ok | o cancel 2 -> ok | a see 2 -> cancelled 1",
    );
}

#[test]
fn events_are_edited_by_their_organizer() {
    check(
        "event 2 -> ok | p quota 3 -> not-yours | o quota 3 -> ok | view -> 0/3 v2 | o name New -> ok | view -> 0/3 v3",
    );
    check(
        "event 2 -> ok | a reserve 2 -> ok | o quota 1 -> below 2 | o quota 2 -> 2/2 v1 | o quota 5 -> ok | b reserve 3 -> ok",
    );
    check("o quota 1 -> no-event");
    check(
        "event 2 -> ok | o venue Hall -> ok | view -> 0/2 v2 at Hall | o venue Hall -> 0/2 v2 at Hall | o quota 3 -> ok | view -> 0/3 v3 at Hall | o venue none -> ok | view -> 0/3 v4 | p venue Hall -> not-yours",
    );
}

#[test]
fn a_change_for_other_versions_changes_nothing() {
    check(
        "event 5 -> ok | o quota 6 if 1 -> ok | o quota 7 if 1 -> is v2 | o quota 7 if 3,9 -> is v2 | view -> 0/6 v2 | o quota 7 if 9,2 -> ok | view -> 0/7 v3",
    );
    // Sales do not change the version; edits that change nothing do not either.
    check(
        "event 5 -> ok | a reserve 2 -> ok | o quota 5 if 1 -> 2/5 v1 | o quota 9 if 1 -> ok | z quota 5 if 1 -> is v2",
    );
    // First of all, whether the event is there and the actor's.
    check(
        "o quota 5 if 1 -> no-event | o delete if 1 -> no-event | event 5 -> ok | p quota 6 if 9 -> not-yours | p delete if 9 -> not-yours | a reserve 2 -> ok | o quota 1 if 9 -> is v1 | o quota 1 if 1 -> below 2 | o delete if 2 -> is v1 | o delete if 1 -> has 2 | o delete force if 2 -> is v1 | view -> 2/5 v1 | o delete force if 1 -> ok | o quota 6 if 9 -> deleted | o delete if 9 -> deleted",
    );
    // A hand-over is an edit.
    check(
        "event 5 -> ok | o hand p if 2 -> is v1 | o hand p if 1 -> ok | p hand o 4 if 1 -> is v2 | p hand o 4 if 2 -> ok",
    );
}

#[test]
fn a_hand_over_moves_an_event_to_another_organizer() {
    check(
        "event 5 -> ok | a reserve 2 -> ok | totals -> 2 of 5 | z hand p -> ok | view -> 2/5 v2 | totals -> 2 of 5 | o list -> 0 events | p list -> 1 events | o quota 6 -> not-yours | o hand o -> not-yours | o reservations -> not-yours | o see 1 -> no-reservation | o delete force -> not-yours | p see 1 -> confirmed 2 | p reservations -> 1 of 1 | z hand p -> 2/5 v2 | p hand p -> 2/5 v2 | p quota 6 -> ok | p list -> 1 events | p hand o -> ok | o list -> 1 events | p list -> 0 events | o delete force -> ok | o list -> 0 events | o reservations -> 0 of 1 | p reservations -> not-yours | z hand p -> deleted",
    );
    // With other changes: all or none.
    check(
        "event 5 -> ok | a reserve 2 -> ok | z hand p 1 -> below 2 | o list -> 1 events | z hand p 2 -> ok | view -> 2/2 v2 | p list -> 1 events | p hand p 3 -> ok | view -> 2/3 v3 | a cancel 1 -> ok | p delete -> ok | p list -> 0 events | o list -> 0 events",
    );
    check(
        "z hand p -> no-event | event 5 -> ok | p hand p -> not-yours | a hand a -> not-yours | o hand p -> ok",
    );
}

#[test]
fn an_admin_closes_an_event() {
    check(
        "event 5 -> ok | a reserve 2 -> ok | z quota 1 -> below 2 | z quota 2 -> ok | b reserve 1 -> sold-out 0 | o quota 3 -> ok | b reserve 1 -> ok",
    );
}

/// Steps are a millisecond apart, the first at 1000.
#[test]
fn an_event_is_on_sale_from_its_start_until_its_end() {
    check(
        "event 9 -> ok | o rule start 1004 -> ok | a reserve 1 -> opens Timestamp(1004) | a reserve 1 -> opens Timestamp(1004) | a reserve 1 -> ok | o rule end 1008 -> ok | a reserve 1 -> ok | a reserve 1 -> ok | a reserve 1 -> closed | o rule end none -> ok | a reserve 1 -> ok",
    );
    // What is sold can be given back at any time, and the rules can be changed.
    check(
        "event 9 -> ok | a reserve 3 -> ok | o rule end 1000 -> ok | a reserve 1 -> closed | a reduce 1 2 -> ok | a cancel 1 -> ok | o quota 5 -> ok | o rule end 1007 -> ok | a reserve 1 -> closed | o rule start 1000 -> ok | o rule start 1007 -> no-window | o rule start 1006 -> ok | o rule end 1006 -> no-window | o rule end 1005 -> no-window | o quota 4 -> ok",
    );
    // The window is looked at first, and the event before it.
    check(
        "event 9 -> ok | o rule start 2000 -> ok | o rule reservation 1 -> ok | a reserve 2 -> opens Timestamp(2000) | o rule start none -> ok | o rule end 1000 -> ok | a reserve 2 -> closed | o rule end none -> ok | a reserve 2 -> at-most 1 | o delete -> ok | a reserve 2 -> deleted",
    );
}

#[test]
fn a_reservation_has_at_most_as_many_tickets_as_its_event_says() {
    check(
        "event 9 -> ok | o rule reservation 2 -> ok | a reserve 3 -> at-most 2 | a reserve 2 -> ok | a reserve 2 -> ok | o rule reservation 2 -> 4/9 v2 | o rule reservation 1 -> ok | a reserve 2 -> at-most 1 | o rule reservation none -> ok | a reserve 5 -> ok | view -> 9/9 v4",
    );
}

#[test]
fn a_customer_has_at_most_as_many_tickets_as_the_event_says() {
    check(
        "event 9 -> ok | o rule customer 3 -> ok | a reserve 4 -> 3 more | a reserve 2 -> ok | a reserve 2 -> 1 more | b reserve 3 -> ok | a reserve 1 -> ok | a reserve 1 -> 0 more | a cancel 1 -> ok | a reserve 3 -> 2 more | a reserve 2 -> ok | a reserve 1 -> 0 more | b reduce 2 1 -> ok | b reserve 3 -> 2 more | b reserve 2 -> ok | view -> 6/9 v2",
    );
    // Set, raised and lowered under sale: what is sold counts, and stays sold.
    check(
        "event 9 -> ok | a reserve 2 -> ok | a reserve 2 -> ok | a cancel 1 -> ok | o rule customer 3 -> ok | a reserve 2 -> 1 more | o rule customer 1 -> ok | a reserve 1 -> 0 more | a cancel 2 -> ok | a reserve 1 -> ok | o rule customer none -> ok | a reserve 3 -> ok | o rule customer 5 -> ok | a reserve 2 -> 1 more | a reserve 1 -> ok",
    );
    // Looked at before what is left, and after the limit of a reservation.
    check(
        "event 2 -> ok | o rule customer 1 -> ok | o rule reservation 2 -> ok | a reserve 3 -> at-most 2 | a reserve 2 -> 1 more | a reserve 1 -> ok | b reserve 1 -> ok | a reserve 1 -> 0 more | p reserve 1 -> sold-out 0 | o delete force -> ok | a reserve 1 -> deleted",
    );
}

#[test]
fn a_version_does_not_come_again() {
    let mut state = SlotState::default();
    let mut apply = |words: &[&str], change: fn(&mut SlotState)| {
        let decision = state.decide(Now::at(Timestamp(1000)), command(words), &ByCustomer::default());
        for record in &decision.records {
            state.apply(Timestamp(1000), Lsn(1), record);
        }
        change(&mut state);
        describe(&state.query(&Query::Event { event: EventId(1) }), false)
    };
    let many_edits = |state: &mut SlotState| {
        state.events.get_mut(&EventId(1)).unwrap().edition.version = u32::MAX.into();
    };
    assert_eq!(apply(&["event", "2"], many_edits), "0/2 v4294967295");
    assert_eq!(apply(&["o", "quota", "3"], |_| ()), "0/3 v4294967296");
}

#[test]
fn deleting_an_event_cancels_its_reservations() {
    check(
        "event 2 -> ok | a reserve 1 -> ok | o delete -> has 1 | o delete force -> ok | view -> deleted | list -> 0 events | a see 1 -> cancelled 1 | a cancel 1 -> same | a mine -> 0 of 1 | a reserve 1 -> deleted | o quota 5 -> deleted | o delete -> deleted",
    );
    check(
        "event 5 -> ok | a reserve 1 -> ok | b reserve 2 -> ok | a cancel 1 -> ok | o delete force -> ok | o reservations -> 0 of 2 | z reservations -> 0 of 2 | p reservations -> not-yours | a reservations -> not-yours | o see 2 -> cancelled 2 | p see 2 -> no-reservation | b cancel 2 -> same | z cancel 2 -> same",
    );
    check("o reservations -> no-event");
    check(
        "event 9 -> ok | a reserve 1 -> ok | b reserve 1 -> ok | a hold 1 10 -> ok | b cancel 2 -> ok | o reservations 0 9 confirmed held -> 2 of 2 | o reservations 0 2 confirmed held -> 1 of 1 | o reservations 0 1 cancelled -> 0 of 0 | o reservations 1 9 cancelled -> 0 of 1 | o reservations 0 9 confirmed held cancelled -> 1 of 2, more after 2 | o reservations 2 9 confirmed held -> 1 of 1 | o reservations 3 9 held -> 0 of 0 | o reservations 9 9 held -> 0 of 0 | wait 10 -> ok | expire -> ok | o reservations 0 9 held -> 0 of 0 | o reservations 0 9 expired -> 0 of 1 | o delete force -> ok | o reservations 0 9 confirmed -> 0 of 0 | a reservations 0 9 held -> not-yours",
    );
    check("event 2 -> ok | p delete -> not-yours | z delete -> ok | event 2 -> exists");
    check("event 2 -> ok | a reserve 1 -> ok | a cancel 1 -> ok | o delete -> ok | a see 1 -> cancelled 1");
}

#[test]
fn totals_and_lists_leave_out_deleted_events() {
    check(
        "totals -> 0 of 0 | event 9 -> ok | a reserve 2 -> ok | totals -> 2 of 9 | o quota 5 -> ok | totals -> 2 of 5 | b reserve 1 -> ok | a cancel 1 -> ok | totals -> 1 of 5 | o delete force -> ok | totals -> 0 of 0",
    );
    check(
        "o list -> 0 events | event 9 -> ok | o list -> 1 events | p list -> 0 events | o delete -> ok | o list -> 0 events",
    );
}

#[test]
fn the_events_that_an_account_created_are_counted_and_deleted_ones_stay() {
    check(
        "o made -> 0 made | event 9 -> ok | o made -> 1 made | p made -> 0 made | event 9 -> exists | o quota 5 -> ok | o made -> 1 made | o delete -> ok | o made -> 1 made",
    );
}

#[test]
fn usernames_are_unique_without_regard_to_case() {
    check("user ada -> ok | user ADA -> taken | user adam -> ok");
}

#[test]
fn a_change_of_an_account_ends_its_tokens() {
    check(
        "user ada -> ok | token ada 7 -> true | token ada 8 -> false | token eve 7 -> false | password ada 7 -> ok | user-of 3 -> ada another hash | token ada 7 -> false | token ada 8 -> true | password ada 7 -> ended | password ada 8 -> ok",
    );
    check(
        "user ada -> ok | role ada organizer -> ok | token ada 7 -> false | token ada 70 -> true | role ada organizer -> same | token ada 70 -> true | users -> ada organizer",
    );
    check("password ada 7 -> ended | role ada admin -> no-user | remove ada -> no-user | user-of 3 -> none");
}

#[test]
fn an_admin_sets_passwords_and_ends_tokens() {
    check(
        "user ada -> ok | new-password ada -> ok | user-of 3 -> ada set hash | token ada 7 -> false | token ada 80 -> true | end-tokens ada -> ok | user-of 3 -> ada set hash | token ada 80 -> false | token ada 90 -> true | password ada 80 -> ended",
    );
    // API keys outlive a log-out, and nothing else.
    check(
        "user ada -> ok | keys-of ada 7 -> true | end-tokens ada -> ok | keys-of ada 7 -> true | keys-of ada 90 -> false | new-password ada -> ok | keys-of ada 7 -> false | keys-of ada 80 -> true | end-tokens ada -> ok | role ada organizer -> ok | keys-of ada 80 -> false | keys-of ada 70 -> true | keys-of eve 70 -> false | remove ada -> ok | keys-of ada 70 -> false",
    );
    check(
        "new-password ada -> no-user | end-tokens ada -> no-user | user ada -> ok | remove ada -> ok | new-password ada -> no-user | end-tokens ada -> no-user | user-of 3 -> ada removed",
    );
}

#[test]
fn an_organizer_has_so_many_api_keys() {
    const { assert!(API_KEYS_MAX == 3) };
    check(
        "o api-keys -> keys: | o end-api-key 1 -> no-api-key | o make-api-key -> ok | o make-api-key -> ok | o api-key 2 -> key 2 | p api-key 2 -> none | o make-api-key -> ok | o make-api-key -> too-many-api-keys | p make-api-key -> ok | o end-api-key 2 -> ok | o api-key 2 -> none | o end-api-key 2 -> same | o end-api-key 4 -> no-api-key | o make-api-key -> ok | o api-keys -> keys: 1, 3, 4 | p api-keys -> keys: 1",
    );
    // Keys that are over make room.
    check(
        "o make-api-key -> ok | o make-api-key -> ok | o make-api-key -> ok | o make-api-key 1 3 -> ok | o api-keys -> keys: 2, 4 | o make-api-key 1 9 -> ok | o make-api-key 3 -> too-many-api-keys | o end-api-key 4 -> ok | o api-keys -> keys: 2, 5",
    );
}

#[test]
fn a_removed_account_keeps_only_its_name() {
    check(
        "user ada -> ok | user adam -> ok | users -> ada customer, adam customer | remove ada 4 -> no-user | remove ada -> ok | users -> adam customer | user-of 3 -> ada removed | token ada 7 -> false | user ada -> taken | password ada 7 -> ended | role ada admin -> no-user | remove ada -> same",
    );
    check(
        "user ada -> ok | user adam -> ok | totals -> 2 with 0 admins | role ada admin -> ok | totals -> 2 with 1 admins | remove ada -> ok | totals -> 1 with 0 admins",
    );
}

#[test]
fn a_request_with_a_key_is_done_once() {
    check(
        "event 5 -> ok | a reserve 2 key 1 -> ok | a reserve 2 key 1 -> again confirmed 2 | view -> 2/5 v1 | a reserve 1 key 1 -> reused | b reserve 2 key 1 -> ok | b reserve 2 key 1 -> again confirmed 2 | a mine -> 1 of 1 | view -> 4/5 v1",
    );
    // The answer is the first one, whatever becomes of the reservation and its event.
    check(
        "event 5 -> ok | a reserve 3 key 1 -> ok | a reduce 1 1 -> ok | a reserve 3 key 1 -> again confirmed 3 | a cancel 1 -> ok | a reserve 3 key 1 -> again confirmed 3 | b reserve 5 -> ok | a reserve 3 key 1 -> again confirmed 3 | o delete force -> ok | a reserve 3 key 1 -> again confirmed 3 | a reserve 3 key 2 -> deleted",
    );
    // A rejection is not kept.
    check(
        "event 2 -> ok | b reserve 2 -> ok | a reserve 1 key 1 -> sold-out 0 | a reserve 2 key 1 -> sold-out 0 | b cancel 1 -> ok | a reserve 1 key 1 -> ok | a reserve 2 key 1 -> reused",
    );
    check("a reserve 1 key 1 -> no-event | event 1 -> ok | a reserve 1 key 1 -> ok");
}

#[test]
fn a_customer_has_so_many_keys() {
    const { assert!(KEYS_OF_CUSTOMER_MAX == 2) };
    check(
        "event 9 -> ok | a reserve 1 key 1 -> ok | a reserve 1 key 2 -> ok | a reserve 1 key 3 -> too-many-keys | a reserve 99 key 3 -> too-many-keys | a reserve 1 key 1 -> again confirmed 1 | a reserve 2 key 2 -> reused | a reserve 1 -> ok | b reserve 1 key 3 -> ok | a-organizer reserve 1 key 3 -> ok | view -> 5/9 v1",
    );
}

#[test]
fn an_event_is_created_once_for_a_key() {
    check(
        "o given 1 5 -> id 0 | o give 1 key 1 5 -> ok | o given 1 5 -> id 1 | o given 1 6 -> reused | p given 1 6 -> id 0 | o give 7 key 1 5 -> id 1 | o give 7 key 1 6 -> reused | view -> no-event | o create-given 5 -> ok | o create-given 5 -> again 0/5 v1 | o made -> 1 made | a reserve 2 -> ok | o quota 8 -> ok | view -> 2/8 v2 | o create-given 5 -> again 0/5 v1 | o hand p -> ok | o delete force -> not-yours | p delete force -> ok | o create-given 5 -> again 0/5 v1 | o made -> 1 made",
    );
    check(
        "o give 1 key 1 5 -> ok | o give 2 key 2 5 -> ok | o give 3 key 3 5 -> ok | o give 9 key 3 5 -> id 3",
    );
}

#[test]
fn organizers_sell_their_own_events_to_refs() {
    check(
        "event 9 -> ok | o reserve 2 for @x -> ok | o see 1 -> confirmed 2 for @x | p reserve 1 for @x -> not-yours | z reserve 1 for @x -> not-yours | a reserve 1 for @x -> not-yours | a see 1 -> no-reservation | a cancel 1 -> no-reservation | z see 1 -> confirmed 2 for @x | o mine -> 0 of 0 | o reduce 1 1 -> ok | o cancel 1 -> ok | o see 1 -> cancelled 1 for @x | z cancel 1 -> same",
    );
    check(
        "event 9 -> ok | o hold 2 10 for @x -> ok | o see 1 -> held 2 for @x until 10001 | a confirm 1 -> no-reservation | z confirm 1 -> not-your-reservation | o confirm 1 1 -> ok | o see 1 -> confirmed 1 for @x | o hold 2 10 for @y -> ok | o release 2 -> ok | a hold 1 10 -> ok | o confirm 3 -> not-your-reservation | o release 3 -> ok | a confirm 3 -> hold-released",
    );
    // After a hand-over, the new organizer has them.
    check(
        "event 9 -> ok | o reserve 2 for @x -> ok | o hand p -> ok | o reserve 1 for @x -> not-yours | o see 1 -> no-reservation | p see 1 -> confirmed 2 for @x | p rule customer 3 -> ok | p reserve 2 for @x -> 1 more | p cancel 1 -> ok | p reserve 3 for @x -> ok",
    );
    check("o reserve 1 for @x -> no-event | event 1 -> ok | o delete -> ok | p reserve 1 for @x -> deleted");
}

#[test]
fn a_ref_is_a_customer_to_the_limits() {
    check(
        "event 20 -> ok | o rule customer 3 -> ok | o reserve 2 for @x -> ok | o reserve 2 for @x -> 1 more | o reserve 3 for @X -> ok | o hold 1 10 for @x -> ok | o reserve 1 for @x -> 0 more | a reserve 3 -> ok | o release 3 -> ok | o reserve 1 for @x -> ok | o cancel 1 -> ok | o reserve 3 for @x -> 2 more | o rule customer 1 -> ok | o reserve 1 for @x -> 0 more | o rule customer none -> ok | o reserve 1 for @x -> ok | o rule customer 3 -> ok | o reserve 2 for @x -> 1 more",
    );
    check(
        "event 20 -> ok | o rule reservation 2 -> ok | o reserve 3 for @x -> at-most 2 | o rule start 2000 -> ok | o reserve 1 for @x -> opens Timestamp(2000) | o rule start none -> ok | o rule end 1000 -> ok | o hold 1 10 for @x -> closed",
    );
}

#[test]
fn guests_and_blocks_have_no_limits_but_the_quota() {
    check(
        "event 9 -> ok | o rule customer 1 -> ok | o rule reservation 1 -> ok | o rule start 9000 -> ok | o reserve 3 for block -> ok | o hold 2 10 for guest -> ok | o reserve 3 for block -> ok | view -> 6+2/9 v4 | o reserve 2 for guest -> sold-out 1 | o confirm 2 1 -> ok | o see 2 -> confirmed 1 for guest | o see 1 -> confirmed 3 for block | o cancel 1 -> ok | z cancel 3 -> ok | view -> 1/9 v4 | a reserve 1 for guest -> not-yours | z reserve 1 for block -> not-yours",
    );
}

#[test]
fn an_organizer_lists_the_reservations_of_a_ref() {
    check(
        "event 9 -> ok | o reservations of @x 0 -> 0 of 0 | o reserve 1 for @x -> ok | o reserve 1 for @y -> ok | a reserve 1 -> ok | o hold 1 10 for @x -> ok | o reserve 1 for @x -> ok | o cancel 1 -> ok | o reservations of @x 0 -> 1 of 2, more after 4 | o reservations of @x 4 -> 1 of 1 | o reservations of @x 5 -> 0 of 0 | o reservations of @y 0 -> 1 of 1 | o reservations of @z 0 -> 0 of 0 | p reservations of @x 0 -> not-yours | o delete force -> ok | o reservations of @y 0 -> 0 of 1",
    );
}

#[test]
fn a_reservation_is_transferred_whole_or_in_part() {
    check(
        "event 9 -> ok | a reserve 3 -> ok | a transfer 1 to b -> ok | b see 1 -> confirmed 3 | a see 1 -> no-reservation | a mine -> 0 of 0 | b mine -> 1 of 1 | a transfer 1 to b -> no-reservation | b transfer 1 to a 1 -> ok | b see 1 -> confirmed 2 | a see 2 -> confirmed 1 | a mine -> 1 of 1 | b mine -> 1 of 1 | view -> 3/9 v1 | a cancel 2 -> ok | a transfer 2 to b -> was-cancelled | b transfer 1 to a 3 -> has 2 | b transfer 1 to a 2 -> ok | a mine -> 1 of 2 | b mine -> 0 of 0 | view -> 2/9 v1",
    );
    // To whoever has it already, and to nobody.
    check(
        "event 9 -> ok | a reserve 3 -> ok | a transfer 1 to a -> confirmed 3 | a transfer 1 to a 1 -> confirmed 3 | a transfer 1 to nobody -> no-receiver | a transfer 1 to nobody 4 -> has 3 | b transfer 1 to nobody -> no-reservation | left -> 6 of 9 at 2 | a cancel 1 -> ok | a transfer 1 to nobody -> was-cancelled",
    );
    check(
        "a transfer 1 to b -> no-reservation | event 9 -> ok | a hold 2 10 -> ok | a transfer 1 to b -> is-held | wait 10 -> ok | expire -> ok | a transfer 1 to b -> hold-expired | a reserve 1 -> ok | o delete force -> ok | a transfer 2 to b -> was-cancelled",
    );
    // When the numbers of the event are used up, still as a whole.
    let sold = " | a reserve 2 -> ok".repeat(RESERVATIONS_MAX as usize);
    check(&format!("event 99 -> ok{sold} | a transfer 1 to b 1 -> used-up | a transfer 1 to b -> ok"));
}

#[test]
fn buyers_and_the_events_organizer_transfer_and_only_organizers_to_refs() {
    check(
        "event 9 -> ok | a reserve 3 -> ok | b transfer 1 to b -> no-reservation | p transfer 1 to b -> no-reservation | z transfer 1 to b -> not-your-reservation | a transfer 1 to @x -> not-yours | a-organizer transfer 1 to @x -> not-yours | o transfer 1 to @x 1 -> ok | o see 2 -> confirmed 1 for @x | a transfer 2 to a -> no-reservation | o transfer 2 to @y -> ok | o see 2 -> confirmed 1 for @y | o transfer 2 to @y -> confirmed 1 for @y | o transfer 2 to b -> ok | b mine -> 1 of 1 | a-organizer transfer 1 to b -> ok | b mine -> 2 of 2 | o transfer 1 to @x -> ok | b mine -> 1 of 1 | o reservations of @y 0 -> 0 of 0 | o reservations of @x 0 -> 1 of 1",
    );
    // What was set aside is given out.
    check(
        "event 9 -> ok | o reserve 9 for block -> ok | o transfer 1 to @x 2 -> ok | o transfer 1 to a 3 -> ok | o see 1 -> confirmed 4 for block | a mine -> 1 of 1 | o reserve 1 for guest -> sold-out 0 | o cancel 1 -> ok | view -> 5/9 v1",
    );
}

#[test]
fn a_receiver_has_at_most_as_many_tickets_as_the_event_says() {
    check(
        "event 20 -> ok | a reserve 5 -> ok | b reserve 1 -> ok | o rule customer 3 -> ok | a transfer 1 to b -> 2 more | a transfer 1 to b 3 -> 2 more | a transfer 1 to b 2 -> ok | a reserve 1 -> 0 more | b reserve 1 -> 0 more | a transfer 1 to b 1 -> 0 more | o transfer 1 to @x 2 -> ok | o transfer 1 to @x -> ok | o reserve 1 for @x -> 0 more | a reserve 3 -> ok | o transfer 5 to @x 1 -> 0 more | o transfer 4 to @y -> ok | o reserve 3 for @x -> 2 more | o reserve 2 for @x -> ok",
    );
    // No other rule of a sale holds.
    check(
        "event 20 -> ok | a reserve 5 -> ok | o rule reservation 1 -> ok | o rule end 1000 -> ok | a transfer 1 to b -> ok",
    );
}

#[test]
fn a_key_has_the_first_answer_whoever_has_the_tickets_now() {
    check(
        "event 9 -> ok | a reserve 3 key 1 -> ok | a transfer 1 to b -> ok | a reserve 3 key 1 -> again confirmed 3 | b transfer 1 to a 1 key 5 -> ok | a cancel 2 -> ok | b transfer 1 to a 1 key 5 -> again confirmed 1 | b transfer 1 to a 2 key 5 -> reused | b transfer 1 to a key 6 -> ok | a transfer 1 to b -> ok | b transfer 1 to a key 6 -> again confirmed 2",
    );
    check(
        "event 9 -> ok | o hold 2 10 for @x key 2 -> ok | o confirm 1 2 key 3 -> ok | o transfer 1 to @y key 4 -> ok | o transfer 1 to @z -> ok | o reservations of @x 0 -> 0 of 0 | o hold 2 10 for @x key 2 -> again held 2 for @x until 10001 | o confirm 1 2 key 3 -> again confirmed 2 for @x | o transfer 1 to @y key 4 -> again confirmed 2 for @y | o reserve 1 for guest key 7 -> ok | o transfer 2 to a -> ok | o reserve 1 for guest key 7 -> again confirmed 1 for guest",
    );
}
