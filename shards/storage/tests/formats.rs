//! Directories of each format since 3, as earlier builds left them: `format_3` beside this file, and
//! `format_3_later`, which a later build went on with. What is in them has to be read for ever, to the same
//! state.
//!
//! Format 3 is final with the first release. Until then a change of it makes its directories anew: remove
//! them, and run `BOXOFFICE_WRITE_FORMAT=1 cargo test -p storage --test formats`.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion, in its helpers too")]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shards::api_keys::{ApiKey, ApiKeyView, Scope};
use shards::command::{Buyer, Query};
use shards::details::SalesRules;
use shards::ids::{ApiKeyNumber, EventId, Lsn, Slot, Timestamp, UserId, Username};
use shards::log::{Log, ReadRecords};
use shards::outcome::{Outcome, ReservationView};
use shards::record::{Entry, Kind, Record, SlotHead};
use shards::slots::{slot_of_event, slot_of_user, slot_of_username};
use support::{Office, all_reservations, copy_directory};

/// What was done in `format_3`, in two starts of two shards, and in `format_3_later` in three more. Events 1 and
/// 19 are in one slot. The fourth start gives the holds a minute.
const SCRIPTS: [&str; 5] = [
    "user ada 7 | user bob 8 | user user1 9 | event 1 quota 100 | event 2 quota 10 | event 3 quota 5 | event 19 quota 7
     | reserve 1 for 7 2 | reserve 2 for 8 3 | reserve 1 for 8 1 | reserve 3 for 7 5 | cancel 1-1",
    "reserve 1 for 7 4 by 50 | reserve 2 for 7 1 | edit 1 quota 90 | delete 3 | password ada 7 | organizer bob 8
     | remove user1 9 | cancel 2-1 | reserve 19 for 8 1",
    "clock 4922000000000 | reserve 19 for 8 1 | clock 1700000003100 | reserve 19 for 7 3 | cancel 19-2
     | reduce 19-3 2 | event 6 quota 20 | hold 6 for 7 5 600 | hold 6 for 8 4 10 | hold 6 for 7 3 20 | release 6-3
     | hold 6 for 8 2 600 | reserve 19 for 7 1 key first | give 77 to 50 key first
     | rules 19 2 3 1700000000000 1800000000000",
    // More than an hour later.
    "confirm 6-1 3 by 7 | clock 1700000120000 | reserve 6 for 7 1 | sell 6 for @c7 2 by 50 key shop
     | sell 6 for guest 1 by 50 | sell 6 for block 4 by 50 | transfer 6-8 to @c7 3 by 50 | transfer 6-6 to @c8 by 50
     | transfer 6-5 to 8 by 7 | clock 1700009999999 | reserve 19 for 8 1 key second
     | cancel 19-4 | set-password ada 7 | api-key Shop of bob 8 over | api-key Kiosk of bob 8 over
     | api-key Door of bob 8 over 1 | end-api-key 8 2 | end-tokens bob 8",
    "event 7 quota 9 | event 8 quota 9 | order 7:1,8:2 for 7 | deliver | order 8:1,7:2 for 7 600 | deliver
     | order 7:1,3:1 for 8 | deliver | order 7:3 for 8 10 | deliver | confirm order 7-2 | deliver
     | cancel order 7-1 | deliver | clock 1700000025000 | cancel order 8-1 | deliver
     | sell 7 for @c7 1 by 50 with 3",
];

/// The answers of keys, and of an event's id that comes next.
const KEYS: [(&str, &str); 4] = [
    ("reserve 19 for 7 1 key first", "19-4: 1 for 7, Confirmed"),
    ("reserve 19 for 8 1 key second", "19-5: 1 for 8, Confirmed"),
    ("sell 6 for @c7 2 by 50 key shop", "6-6: 2 for @c7, Confirmed"),
    ("give 78 to 50 key first", "77"),
];

/// What has to come of the first two.
const STATE: [&str; 12] = [
    "event 1: Event 1 ☂, organizer 50, quota 90, reserved 5, version 2",
    "1-1: 2 for 7, Cancelled",
    "1-2: 1 for 8, Confirmed",
    "1-3: 4 for 7, Confirmed",
    "event 2: Event 2 ☂, organizer 50, quota 10, reserved 1, version 1",
    "2-1: 3 for 8, Cancelled",
    "2-2: 1 for 7, Confirmed",
    "event 19: Event 19 ☂, organizer 50, quota 7, reserved 1, version 1",
    "19-1: 1 for 8, Confirmed",
    "ada: 7, Customer, $argon2id$new-of-ada, 1, removed false",
    "bob: 8, Organizer, $argon2id$of-bob, 4294967296, removed false",
    "user1: 9, Customer, , 18446744073709551606, removed true",
];

/// What differs after the others.
const STATE_LATER: [&str; 31] = [
    "event 19: Event 19 ☂, organizer 50, quota 7, reserved 4, version 2",
    "rules of 19: at most 2 and 3, from 1700000000000 to 1800000000000",
    "19-1: 1 for 8, Confirmed",
    "19-2: 1 for 8, Cancelled",
    "19-3: 2 for 7, Confirmed",
    "19-4: 1 for 7, Cancelled",
    "19-5: 1 for 8, Confirmed",
    "event 6: Event 6 ☂, organizer 50, quota 20, reserved 11, version 1",
    "6-1: 3 for 7, Confirmed",
    "6-2: 4 for 8, Expired",
    "6-3: 3 for 7, Cancelled",
    "6-4: 2 for 8, Held",
    "6-5: 1 for 8, Confirmed",
    "6-6: 2 for @c8, Confirmed",
    "6-7: 1 for guest, Confirmed",
    "6-8: 1 for block, Confirmed",
    "6-9: 3 for @c7, Confirmed",
    "event 7: Event 7 ☂, organizer 50, quota 9, reserved 3, version 1",
    "7-1: 1 for 7, Cancelled, of 7-1",
    "7-2: 2 for 7, Confirmed, of 7-2",
    "7-4: 3 for 8, Expired, of 8-1",
    "7-5: 1 for @c7, Confirmed",
    "event 8: Event 8 ☂, organizer 50, quota 9, reserved 1, version 1",
    "8-1: 2 for 7, Cancelled, of 7-1",
    "8-2: 1 for 7, Confirmed, of 7-2",
    "orders of 7: 7-1 Cancelled, 7-2 Confirmed",
    "orders of 8: 8-1 Expired",
    "ada: 7, Customer, $argon2id$set-of-ada, 2, removed false",
    "bob: 8, Organizer, $argon2id$of-bob, 3, removed false",
    "user1: 9, Customer, , 18446744073709551606, removed true",
    "API key 3 of 8: Door, events:read sell, of bob, 4294967296, no end",
];

fn stored(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// Writes the directories that are missing.
fn write_missing() {
    let (first, later) = (stored("format_3"), stored("format_3_later"));
    if !first.exists() {
        write(&first, &SCRIPTS[..2]);
    }
    if !later.exists() {
        copy_directory(&first, &later);
        write(&later, &SCRIPTS[2..]);
    }
}

fn write(directory: &Path, scripts: &[&str]) {
    for script in scripts {
        let mut office = Office::open(directory, 2);
        for line in script.split('|') {
            office.run(line);
        }
        office.close();
    }
}

fn state(office: &Office) -> Vec<String> {
    let mut lines = Vec::new();
    for event in [1, 2, 3, 19, 6, 7, 8].map(EventId) {
        let slot = slot_of_event(event);
        let Ok(Outcome::Event(view)) = office.answer(slot, &Query::Event { event }) else {
            assert!(matches!(event, EventId(3 | 6..=8)), "the deleted one, and one of later");
            continue;
        };
        lines.push(format!(
            "event {event}: {}, organizer {}, quota {}, reserved {}, version {}",
            view.details.name, view.organizer, view.details.quota, view.reserved, view.version
        ));
        if let Some(rules) = view.details.rules {
            let SalesRules { max_per_reservation, max_per_customer, sales_start, sales_end } = *rules;
            let [most, most_of_customer] =
                [max_per_reservation, max_per_customer].map(|most| most.unwrap().get());
            let [Timestamp(start), Timestamp(end)] = [sales_start, sales_end].map(Option::unwrap);
            lines.push(format!(
                "rules of {event}: at most {most} and {most_of_customer}, from {start} to {end}"
            ));
        }
        let Ok(Outcome::ReservationSlice(slice)) = office.answer(slot, &all_reservations(event)) else {
            panic!("{event}")
        };
        lines.extend(slice.views.iter().map(|view| {
            let order = view.order.map_or(String::new(), |order| format!(", of {order}"));
            let buyer = name_of(&view.buyer);
            format!("{}: {} for {buyer}, {:?}{order}", view.id, view.quantity, view.status)
        }));
    }
    for owner in [7, 8].map(UserId) {
        let query = Query::Orders { owner, after: None, customer_ref: None, limit: usize::MAX };
        let Ok(Outcome::Orders(orders)) = office.answer(slot_of_user(owner), &query) else {
            panic!("{owner}")
        };
        let orders: Vec<_> =
            orders.views.iter().map(|order| format!("{} {:?}", order.id, order.status)).collect();
        if !orders.is_empty() {
            lines.push(format!("orders of {owner}: {}", orders.join(", ")));
        }
    }
    for username in ["ada", "bob", "user1"].map(|name| Username::new(name).unwrap()) {
        let slot = slot_of_username(&username);
        let reply = office.answer(slot, &Query::Account { username });
        let Ok(Outcome::Account(Some(view))) = reply else { panic!("{reply:?}") };
        lines.push(format!(
            "{}: {}, {:?}, {}, {}, removed {}",
            view.username, view.id, view.role, view.password_hash, view.token_version, view.removed
        ));
    }
    let organizer = UserId(8);
    let reply = office.answer(slot_of_user(organizer), &Query::ApiKeys { organizer });
    let Ok(Outcome::ApiKeys(keys)) = reply else { panic!("{reply:?}") };
    lines.extend(keys.into_iter().map(|ApiKeyView { organizer, number, key, created_at: _ }| {
        let ApiKey { name, scopes, secret_hash, username, account_version, ends_at } = key;
        assert_eq!(secret_hash, [7; 32]);
        let scopes: Vec<&str> = scopes.iter().map(Scope::as_str).collect();
        let end = ends_at.map_or("no end".to_owned(), |end| end.0.to_string());
        let scopes = scopes.join(" ");
        format!("API key {number} of {organizer}: {name}, {scopes}, of {username}, {account_version}, {end}")
    }));
    lines
}

fn name_of(buyer: &Buyer) -> String {
    match buyer {
        Buyer::Account(account) => account.to_string(),
        Buyer::Ref(text) => text.as_str().to_owned(),
        Buyer::Guest | Buyer::Block => buyer.kind().as_str().to_owned(),
    }
}

fn entries(office: &Office) -> Vec<Entry> {
    let mut reader = office.recovered.records.reader();
    let slots = (0..=u8::MAX).map(Slot);
    slots.flat_map(|slot| reader.read_after(slot, None, Lsn(0), usize::MAX).unwrap().entries).collect()
}

#[test]
fn directories_of_format_3_are_read_as_they_were_written() {
    if std::env::var_os("BOXOFFICE_WRITE_FORMAT").is_some() {
        write_missing();
    }
    let later = [&STATE[..7], &STATE_LATER].concat();
    let mut kinds = check("format_3", &STATE);
    kinds.append(&mut check("format_3_later", &later));
    let all: BTreeSet<u8> = Kind::ALL.into_iter().map(|kind| kind as u8).collect();
    assert_eq!(kinds, all, "a kind is missing in the directories");
}

#[test]
fn keys_of_an_earlier_build_have_their_answers() {
    for shard_count in [2, 3] {
        let directory = tempfile::tempdir().unwrap();
        copy_directory(&stored("format_3_later"), directory.path());
        let office = Office::open(directory.path(), shard_count);
        assert_eq!(office.recovered.highest_event, EventId(77), "it was given, though it is not used yet");
        for (line, expected) in KEYS {
            let answer = match office.would_answer(line) {
                Ok(Outcome::Replayed(first)) => *first,
                other => other.unwrap(),
            };
            let answer = match answer {
                Outcome::Reservation(view) => {
                    let ReservationView { id, buyer, quantity, status, .. } = view;
                    format!("{id}: {quantity} for {}, {status:?}", name_of(&buyer))
                }
                Outcome::GivenEventId(Some(event)) => event.to_string(),
                other => panic!("{other:?}"),
            };
            assert_eq!(answer, expected, "{line}");
        }
    }
}

/// Returns the kinds of the records in a directory.
fn check(name: &str, expected: &[&str]) -> BTreeSet<u8> {
    let mut kinds = BTreeSet::new();
    for shard_count in [2, 3] {
        let directory = tempfile::tempdir().unwrap();
        copy_directory(&stored(name), directory.path());
        let office = Office::open(directory.path(), shard_count);
        assert_eq!(state(&office), expected, "{name}, {shard_count} shards");

        // This version would write the same bytes: the checksums go over all of them.
        let entries = entries(&office);
        let mut head = SlotHead::empty(office.recovered.cluster);
        for entry in &entries {
            if entry.lsn == Lsn(1) {
                head = SlotHead::empty(office.recovered.cluster);
            }
            let chain = head.chain_next(&entry.stamp(), &entry.record.encode());
            assert_eq!(chain, entry.chain, "{entry:?}");
            head = SlotHead { lsn: entry.lsn, chain, at: entry.at };
        }
        kinds.extend(entries.iter().map(|entry| entry.record.encode().kind));
        assert!(entries.iter().any(|entry| entry.lsn.0 > entry.previous.0 + 1 && entry.previous > Lsn(0)));
        let is_for_another = |entry: &Entry| matches!(entry.record, Record::Reserved { by, buyer: Buyer::Account(buyer), .. } if by.user != buyer);
        assert!(entries.iter().any(is_for_another));
        let with_keys = entries.iter().filter(
            |entry| matches!(entry.record, Record::Reserved { by, .. } if by.key() == Some(ApiKeyNumber(3))),
        );
        assert_eq!(with_keys.count(), usize::from(name == "format_3_later"));
    }
    kinds
}

/// What the form has and no command makes yet.
#[test]
fn records_of_one_command_are_marked_as_such() {
    let directory = tempfile::tempdir().unwrap();
    let mut office = Office::open(directory.path(), 1);
    office.run("event 1 quota 10 | reserve 1 for 1 1");
    let mut written = std::mem::take(&mut office.committed);
    let reserved = written.last().unwrap().clone();
    let mut head = SlotHead { lsn: reserved.lsn, chain: reserved.chain, at: reserved.at };
    let mut batch = Vec::new();
    for (number, continues) in [(2, true), (3, true), (4, false)] {
        let Record::Reserved { mut id, by, buyer, quantity } = reserved.record.clone() else {
            panic!("{reserved:?}")
        };
        id.number = number;
        let record = Record::Reserved { id, by, buyer, quantity };
        let (previous, at) = (head.lsn, Timestamp(head.at.0 + 1));
        let mut entry = Entry { lsn: head.lsn.next(), at, previous, continues, record, ..reserved.clone() };
        entry.chain = head.chain_next(&entry.stamp(), &entry.record.encode());
        head = SlotHead { lsn: entry.lsn, chain: entry.chain, at };
        batch.push(entry);
    }
    office.shards[0].1.append(&batch, Duration::ZERO).unwrap();
    written.extend(batch);
    drop(office);
    let office = Office::open(directory.path(), 1);
    let slot = slot_of_event(EventId(1));
    written.retain(|entry| entry.slot == slot);
    assert_eq!(entries(&office).into_iter().filter(|entry| entry.slot == slot).collect::<Vec<_>>(), written);
}
