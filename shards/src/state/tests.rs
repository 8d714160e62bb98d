//! The rules of the domain as a table: what is done, and what comes of it.

use super::{ShardState, Undo};
use crate::clock::Now;
use crate::command::{
    Actor, Buyer, ChangePassword, ChangeRole, Command, CreateEvent, CreateUser, EditEvent, EventName, Query,
    RemoveUser,
};
use crate::ids::{EventId, Lsn, Quantity, Quota, ReservationId, Role, Slot, Timestamp, UserId, Username};
use crate::outcome::{Outcome, Rejection, Reply, ReservationStatus};
use crate::record::Record;
use crate::slots::{SlotSet, slot_of_event};

/// Customers 1 (a) and 2 (b), organizers 8 (o) and 9 (p), admin 99 (z).
fn actor(name: &str) -> Actor {
    let (user, role) = match name {
        "a" => (1, Role::Customer),
        "b" => (2, Role::Customer),
        "o" => (8, Role::Organizer),
        "p" => (9, Role::Organizer),
        "z" => (99, Role::Admin),
        other => panic!("nobody is called {other}"),
    };
    Actor { user: UserId(user), role }
}

fn command(words: &[&str]) -> Command {
    let event = EventId(1);
    let tickets = |text: &str| text.parse().unwrap();
    match *words {
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
            token_version: version.parse().unwrap(),
            password_hash: "another hash".into(),
            next_token_version: version.parse::<u64>().unwrap() + 1,
        })),
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
        // Another account's id with this name.
        ["remove", name, user] => Command::RemoveUser(Box::new(RemoveUser {
            user: UserId(user.parse().unwrap()),
            username: Username::new(name).unwrap(),
            by: actor("z").user,
        })),
        ["event", quota] => Command::CreateEvent(Box::new(CreateEvent {
            id: event,
            organizer: actor("o").user,
            name: EventName::new("Concert").unwrap(),
            quota: Quota::new(tickets(quota)).unwrap(),
        })),
        [who, "quota", quota] => Command::EditEvent(Box::new(EditEvent {
            event,
            actor: actor(who),
            name: None,
            quota: Some(Quota::new(tickets(quota)).unwrap()),
        })),
        [who, "name", name] => Command::EditEvent(Box::new(EditEvent {
            event,
            actor: actor(who),
            name: EventName::new(name),
            quota: None,
        })),
        [who, "delete"] => Command::DeleteEvent { event, actor: actor(who), force: false },
        [who, "delete", "force"] => Command::DeleteEvent { event, actor: actor(who), force: true },
        [who, "reserve", quantity] => Command::Reserve {
            event,
            actor: actor(who),
            buyer: Buyer::Account(actor(who).user),
            quantity: Quantity::new(tickets(quantity)).unwrap(),
        },
        [who, "cancel", number] => Command::Cancel {
            reservation: ReservationId { event, number: number.parse().unwrap() },
            actor: actor(who),
        },
        _ => panic!("no such command: {words:?}"),
    }
}

fn query(words: &[&str]) -> Option<Query> {
    let event = EventId(1);
    Some(match *words {
        ["token", name, version] => Query::TokenStands {
            user: UserId(name.len() as u32),
            username: Username::new(name).unwrap(),
            token_version: version.parse().unwrap(),
        },
        ["users"] => Query::Users { after: None, limit: 10 },
        ["user-of", id] => Query::AccountOf { user: UserId(id.parse().unwrap()) },
        ["view"] => Query::Event { event },
        ["list"] => Query::Events { after: None, limit: 10, organizer: None },
        [who, "list"] => Query::Events { after: None, limit: 10, organizer: Some(actor(who).user) },
        ["totals"] => Query::Totals,
        [who, "see", number] => {
            let reservation = ReservationId { event, number: number.parse().unwrap() };
            Query::Reservation { reservation, actor: actor(who) }
        }
        [who, "mine"] => Query::CustomerReservations { customer: actor(who).user, after: None, limit: 10 },
        [who, "reservations"] => {
            Query::EventReservations { event, actor: actor(who), after: None, limit: 10 }
        }
        _ => return None,
    })
}

/// A reply in a word or two: `ok` for a change, `same` where nothing changed.
fn describe(reply: &Reply, changed: bool) -> String {
    let outcome = match reply {
        Ok(outcome) => outcome,
        Err(rejection) => {
            return match rejection {
                Rejection::SoldOut { remaining } => format!("sold-out {remaining}"),
                Rejection::QuotaBelowCommitted { committed } => format!("below {committed}"),
                Rejection::HasReservations { reserved } => format!("has {reserved}"),
                Rejection::UsernameTaken => "taken".to_owned(),
                Rejection::UserNotFound => "no-user".to_owned(),
                Rejection::TokenEnded => "ended".to_owned(),
                Rejection::EventExists => "exists".to_owned(),
                Rejection::EventNotFound => "no-event".to_owned(),
                Rejection::EventDeleted => "deleted".to_owned(),
                Rejection::NotYourEvent => "not-yours".to_owned(),
                Rejection::ReservationNotFound => "no-reservation".to_owned(),
                Rejection::LogFull | Rejection::Elsewhere => unreachable!("all slots are here, and no log"),
            };
        }
    };
    match outcome {
        _ if changed => "ok".to_owned(),
        Outcome::Event(event) => {
            assert_eq!(event.quota, event.reserved + event.held + event.remaining);
            format!("{}/{} v{}", event.reserved, event.quota, event.version)
        }
        Outcome::Events(events) => format!("{} events", events.len()),
        Outcome::Reservation(reservation) => match reservation.status {
            ReservationStatus::Confirmed => format!("confirmed {}", reservation.quantity),
            ReservationStatus::Cancelled => format!("cancelled {}", reservation.quantity),
        },
        Outcome::Reservations(list) => {
            let live = list.iter().filter(|one| one.status == ReservationStatus::Confirmed);
            format!("{} of {}", live.count(), list.len())
        }
        Outcome::Account(account) => account.as_ref().map_or("none".to_owned(), |account| {
            format!(
                "{} {}",
                account.username,
                if account.removed { "removed" } else { &account.password_hash }
            )
        }),
        Outcome::TokenStands(stands) => stands.to_string(),
        Outcome::Users(users) => {
            let names = users.iter().map(|user| format!("{} {}", user.username, user.role.as_str()));
            names.collect::<Vec<_>>().join(", ")
        }
        Outcome::Totals(totals) if totals.accounts > 0 => {
            format!("{} with {} admins", totals.accounts, totals.admins)
        }
        Outcome::Totals(totals) => format!("{} of {}", totals.reserved, totals.quota),
        Outcome::AccountChanged(_) | Outcome::EventDeleted | Outcome::Cancelled => "same".to_owned(),
    }
}

fn all_slots() -> ShardState {
    ShardState::owning(SlotSet::all())
}

/// Runs steps separated by `|`, each `what is done -> what comes of it`. In the end a state made of the
/// records alone must be the same, and taking them back one by one leads back through every state that
/// there was.
fn check(steps: &str) {
    let mut state = all_slots();
    let mut records = Vec::new();
    let mut way_back = Vec::new();
    for (index, step) in steps.split('|').enumerate() {
        let (done, expected) = step.split_once("->").expect("a step has an arrow");
        let words: Vec<&str> = done.split_whitespace().collect();
        let at = Timestamp(1000 + index as u64);
        let now = Now::at(at);
        let (reply, changed) = match query(&words) {
            Some(query) => (state.query(now, &query), false),
            None => {
                let command = command(&words);
                let slot = command.slot();
                let decision = state.decide(now, slot, command);
                let changed = !decision.records.is_empty();
                for record in decision.records {
                    let lsn = Lsn(1 + records.len() as u64);
                    let of_slot = state.slot(slot).expect("all slots are owned");
                    let (before, undo) = (format!("{state:?}"), of_slot.undo_of(&record));
                    let previous = state.apply(slot, at, lsn, &record);
                    way_back.push((before, slot, previous, record.clone(), undo));
                    records.push((slot, at, lsn, record));
                }
                let of_slot = state.slot(slot).expect("all slots are owned");
                (decision.reply.map(|shown| of_slot.outcome(&shown)), changed)
            }
        };
        assert_eq!(describe(&reply, changed), expected.trim(), "step {index} of {steps}");
    }
    let mut replayed = all_slots();
    for (slot, at, lsn, record) in &records {
        replayed.apply(*slot, *at, *lsn, record);
    }
    assert_eq!(format!("{replayed:?}"), format!("{state:?}"), "replay of {steps}");
    while let Some((before, slot, previous, record, undo)) = way_back.pop() {
        state.undo(slot, previous, &record, undo);
        assert_eq!(format!("{state:?}"), before, "{record:?} taken back in {steps}");
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
fn a_reservation_is_seen_by_its_customer_the_organizer_and_admins() {
    check(
        "event 2 -> ok | a reserve 1 -> ok | a see 1 -> confirmed 1 | b see 1 -> no-reservation | o see 1 -> confirmed 1 | p see 1 -> no-reservation | z see 1 -> confirmed 1",
    );
    check(
        "event 2 -> ok | a reserve 1 -> ok | b reserve 1 -> ok | a mine -> 1 of 1 | o reservations -> 2 of 2 | p reservations -> not-yours | z reservations -> 2 of 2",
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
}

#[test]
fn a_deleted_event_takes_its_reservations_along() {
    check(
        "event 2 -> ok | a reserve 1 -> ok | o delete -> has 1 | o delete force -> ok | view -> deleted | list -> 0 events | a see 1 -> cancelled 1 | a cancel 1 -> same | a mine -> 0 of 1 | a reserve 1 -> deleted | o quota 5 -> deleted | o delete -> deleted | o reservations -> deleted",
    );
    check("event 2 -> ok | p delete -> not-yours | z delete -> ok | event 2 -> exists");
    check("event 2 -> ok | a reserve 1 -> ok | a cancel 1 -> ok | o delete -> ok | a see 1 -> cancelled 1");
}

#[test]
fn totals_and_organizers_lists_are_of_what_is_not_deleted() {
    check(
        "totals -> 0 of 0 | event 9 -> ok | a reserve 2 -> ok | totals -> 2 of 9 | o quota 5 -> ok | totals -> 2 of 5 | b reserve 1 -> ok | a cancel 1 -> ok | totals -> 1 of 5 | o delete force -> ok | totals -> 0 of 0",
    );
    check(
        "o list -> 0 events | event 9 -> ok | o list -> 1 events | p list -> 0 events | o delete -> ok | o list -> 0 events",
    );
}

#[test]
fn usernames_are_unique_whatever_their_case() {
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
fn a_removed_account_keeps_its_name_and_nothing_else() {
    check(
        "user ada -> ok | user adam -> ok | users -> ada customer, adam customer | remove ada 4 -> no-user | remove ada -> ok | users -> adam customer | user-of 3 -> ada removed | token ada 7 -> false | user ada -> taken | password ada 7 -> ended | role ada admin -> no-user | remove ada -> same",
    );
    check(
        "user ada -> ok | user adam -> ok | totals -> 2 with 0 admins | role ada admin -> ok | totals -> 2 with 1 admins | remove ada -> ok | totals -> 1 with 0 admins",
    );
}

/// Draws without a crate: what a test needs is variety that is the same at each run.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// Records of many events and accounts with what takes each back, by slot, and the state that they led to.
struct History {
    /// By slot.
    records: Vec<Vec<(Lsn, Record)>>,
    state: ShardState,
    way_back: Vec<(Slot, Lsn, Record, Undo)>,
}

fn history(draws: &mut Draws) -> History {
    let mut state = all_slots();
    let mut records_of: Vec<Vec<(Lsn, Record)>> = vec![Vec::new(); 256];
    let mut way_back = Vec::new();
    for step in 0..600 {
        let event = EventId(1 + draws.below(12) as u32);
        let customer = UserId(1 + draws.below(3) as u32);
        let by = Actor { user: customer, role: Role::Customer };
        let number = 1 + draws.below(30) as u32;
        let command = match draws.below(12) {
            _ if step < 12 => Command::CreateEvent(Box::new(CreateEvent {
                id: EventId(step + 1),
                organizer: actor("o").user,
                name: EventName::new("Concert").unwrap(),
                quota: Quota::new(60).unwrap(),
            })),
            0 => Command::CreateUser(Box::new(CreateUser {
                id: UserId(step + 1),
                username: Username::new(&format!("user{step}")).unwrap(),
                password_hash: "hash".into(),
                role: Role::Customer,
                token_version: 7,
            })),
            1 => Command::EditEvent(Box::new(EditEvent {
                event,
                actor: actor("o"),
                name: None,
                quota: Quota::new(40 + draws.below(60) as u64),
            })),
            2 if draws.below(8) == 0 => Command::DeleteEvent { event, actor: actor("o"), force: true },
            2 | 3 => Command::Cancel { reservation: ReservationId { event, number }, actor: by },
            _ => Command::Reserve {
                event,
                actor: by,
                buyer: Buyer::Account(customer),
                quantity: Quantity::new(1 + draws.below(3) as u64).unwrap(),
            },
        };
        let slot = command.slot();
        for record in state.decide(Now::at(Timestamp(1)), slot, command).records {
            let records = &mut records_of[slot.index()];
            let lsn = Lsn(1 + records.len() as u64);
            let undo = state.slot(slot).expect("all slots are owned").undo_of(&record);
            let previous = state.apply(slot, Timestamp(lsn.0), lsn, &record);
            let last = records.iter().rev().find(|(_, other)| other.event() == record.event());
            let expected = last.filter(|_| record.event().is_some()).map_or(Lsn(0), |(lsn, _)| *lsn);
            assert_eq!(previous, expected, "the event's record before {record:?}");
            way_back.push((slot, previous, record.clone(), undo));
            records.push((lsn, record));
        }
    }
    History { records: records_of, state, way_back }
}

/// A slot needs no other: its records lead to the same state whatever is applied to other slots between
/// them, and alone; and slots that are adopted one by one make the same shard.
#[test]
fn a_slot_replayed_alone_or_interleaved_is_the_same() {
    let mut draws = Draws(7);
    for _ in 0..20 {
        let History { records, state, .. } = history(&mut draws);
        let mut interleaved = all_slots();
        let mut next = [0; 256];
        let mut left: Vec<usize> = (0..256).filter(|&slot| !records[slot].is_empty()).collect();
        assert!(left.len() > 12);
        while !left.is_empty() {
            let place = draws.below(left.len());
            let slot = left[place];
            let (lsn, record) = &records[slot][next[slot]];
            interleaved.apply(Slot(slot as u8), Timestamp(lsn.0), *lsn, record);
            next[slot] += 1;
            if next[slot] == records[slot].len() {
                left.swap_remove(place);
            }
        }
        assert_eq!(interleaved, state);

        let mut adopted = ShardState::default();
        for slot in (0..=u8::MAX).rev().map(Slot) {
            let mut alone = ShardState::owning([slot].into_iter().collect());
            for (lsn, record) in &records[slot.index()] {
                alone.apply(slot, Timestamp(lsn.0), *lsn, record);
            }
            adopted.adopt(slot, alone.release(slot).expect("it was adopted"));
            assert_eq!(alone, ShardState::default(), "nothing of slot {slot} is left");
        }
        assert_eq!(adopted, state);

        // Given up again, nothing is left of it, and the rest is untouched.
        let mut others: SlotSet = adopted.owned();
        let slot = slot_of_event(EventId(1 + draws.below(12) as u32));
        others.remove(slot);
        let released = adopted.release(slot).expect("it was adopted");
        assert_eq!(adopted.owned(), others);
        assert!(adopted.release(slot).is_none());
        adopted.adopt(slot, released);
        assert_eq!(adopted, state);
    }
}

/// Slots are taken back in any interleaving: within each, last in first out.
#[test]
fn undo_goes_slot_by_slot() {
    let mut draws = Draws(11);
    for _ in 0..20 {
        let History { mut state, way_back, .. } = history(&mut draws);
        let mut of_slot: Vec<Vec<_>> = (0..256).map(|_| Vec::new()).collect();
        way_back.into_iter().for_each(|entry| of_slot[entry.0.index()].push(entry));
        while !of_slot.iter().all(Vec::is_empty) {
            let candidates: Vec<_> = (0..256).filter(|&slot| !of_slot[slot].is_empty()).collect();
            let slot = candidates[draws.below(candidates.len())];
            for _ in 0..=draws.below(5) {
                let Some((slot, previous, record, undo)) = of_slot[slot].pop() else { break };
                state.undo(slot, previous, &record, undo);
            }
        }
        assert_eq!(state, all_slots());
    }
}
