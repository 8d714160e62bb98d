//! What plain reservations cost on disk and when they are read back:
//! `cargo run --release -p storage --example log_size -- RECORDS EVENTS`. With `holds` as third argument, holds; with
//! `keys`, reservations of which each has an idempotency key; with `refs`, reservations for refs of 24 characters; with
//! `shop`, the same, made with an API key.
//!
//! Writes them to a directory below `target` in commits of 1000, then prints bytes a record, the time of a
//! recovery, and of pages of 100 records behind random positions, of a slot and of one event.
//! Events beside the busy ones, with one reservation in 10,000, show what a rare slot costs.

use std::path::Path;
use std::time::{Duration, Instant};

use shards::clock::Now;
use shards::command::{Actor, Ask, Buyer, Command, CreateEvent, CustomerRef, IdempotencyKey, Keyed};
use shards::details::{EventName, NewDetails};
use shards::ids::{ApiKeyNumber, EventId, HoldTime, Lsn, Quantity, Quota, Role, Slot, Timestamp, UserId};
use shards::limits::QUOTA_MAX;
use shards::log::{Log, ReadRecords};
use shards::shard::{Release, Shard};
use shards::slots::slot_of_event;
use storage::{Progress, RecordReader, Recovered};

const COMMIT_RECORDS: u32 = 1000;
const CUSTOMERS: u32 = 10_000;
const PAGE_RECORDS: usize = 100;
const PAGES: u64 = 200;
/// Sells one ticket in so many.
const RARE_EVERY: u32 = 10_000;

#[derive(Clone, Copy)]
enum What {
    Reservations,
    Holds,
    Keys,
    Refs,
    Shop,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            What::Reservations => "reservations",
            What::Holds => "holds",
            What::Keys => "reservations with their keys",
            What::Refs => "reservations for refs of 24 characters",
            What::Shop => "reservations for refs of 24 characters, made with an API key,",
        }
    }
}

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let what = match arguments.get(2).map(String::as_str) {
        None => What::Reservations,
        Some("holds") => What::Holds,
        Some("keys") => What::Keys,
        Some("refs") => What::Refs,
        Some("shop") => What::Shop,
        Some(other) => panic!("{other} is none of holds, keys, refs and shop"),
    };
    arguments.truncate(2);
    let numbers: Vec<u32> = arguments.iter().map(|text| text.parse().expect("whole numbers")).collect();
    let [records, events] = numbers[..] else { panic!("RECORDS EVENTS [holds|keys|refs|shop]") };
    let directory =
        tempfile::Builder::new().prefix("log-size-").tempdir_in("target").expect("a target directory");
    write(directory.path(), records, events, what);
    let bytes = std::fs::metadata(directory.path().join("shard-00.sqlite")).expect("the log is there").len();
    let rows = f64::from(records + events + 1);
    println!("{records} {} of {events} events: {:.2} bytes each", what.name(), bytes as f64 / rows);

    let start = Instant::now();
    let recovered = open(directory.path());
    println!("recovered in {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
    let rare = EventId(events + 1);
    let mut reader = recovered.records.reader();
    pages(&mut reader, "the slot of event 1", slot_of_event(EventId(1)), None);
    pages(&mut reader, "event 1", slot_of_event(EventId(1)), Some(EventId(1)));
    pages(&mut reader, "the rare event", slot_of_event(rare), Some(rare));
}

fn open(directory: &Path) -> Recovered {
    storage::open(directory, 1, &Progress::default()).expect("the directory is as it was left")
}

fn write(directory: &Path, records: u32, events: u32, what: What) {
    let Recovered { mut shards, heads, epoch, .. } = open(directory);
    let (state, mut log) = shards.pop().expect("one shard");
    let mut shard: Shard<()> = Shard::new(state, &heads, epoch);
    let rare = events + 1;
    let creations = (1..=rare).map(|event| {
        Command::CreateEvent(Box::new(CreateEvent {
            id: EventId(event),
            organizer: UserId(1),
            key: None,
            details: NewDetails::new(
                EventName::new("Concert").expect("a good name"),
                Quota::new(u64::from(QUOTA_MAX)).expect("the largest"),
            ),
        }))
    });
    let reservations = (0..records).map(|index| {
        let customer = UserId(1 + index.wrapping_mul(2_654_435_761) % CUSTOMERS);
        let event = EventId(if index % RARE_EVERY == 0 { rare } else { 1 + index % events });
        let actor = Actor::new(customer, Role::Customer);
        let (buyer, quantity) = (Buyer::Account(customer), Quantity::new(1).expect("one ticket"));
        match what {
            What::Reservations => Command::Reserve { event, actor, buyer, quantity },
            What::Holds => Command::Hold { event, actor, buyer, quantity, time: HoldTime::default() },
            What::Keys => with_key(Command::Reserve { event, actor, buyer, quantity }, customer, index),
            What::Refs | What::Shop => {
                let key = matches!(what, What::Shop).then_some(ApiKeyNumber(1));
                let actor = Actor { user: UserId(1), role: Role::Organizer, key };
                let text = format!("{:024}", u64::from(customer.0) * 1_000_003);
                let buyer = Buyer::Ref(CustomerRef::new(&text).expect("a good ref"));
                Command::Reserve { event, actor, buyer, quantity }
            }
        }
    });
    let mut now = 1_800_000_000_000;
    let mut appending = Duration::ZERO;
    for (index, command) in (1..).zip(creations.chain(reservations)) {
        shard.take_in(Now::at(Timestamp(now)), Ask::Command(command), ());
        if index % COMMIT_RECORDS == 0 || index == records + rare {
            now += 20;
            let batch = shard.begin_commit().expect("the batch has records");
            let start = Instant::now();
            log.append(&batch.entries, Duration::ZERO).expect("the disk takes it");
            appending += start.elapsed();
            if log.maintenance_is_due() {
                log.maintain().expect("the disk takes it");
            }
            shard.finish_commit(batch);
            while let Some(release) = shard.next_release() {
                assert!(matches!(release, Release::Answer((), Ok(_))), "{release:?}");
            }
        }
    }
    println!("appended in {:.0} ms", appending.as_secs_f64() * 1e3);
    Box::new(log).close().expect("the disk takes it");
}

/// The digests of a real key look random, and so do these.
fn with_key(command: Command, user: UserId, index: u32) -> Command {
    let half = |seed: u64| (seed ^ u64::from(index)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let fingerprint = half(3).wrapping_mul(half(5) | 1);
    let mut hash = [0; 16];
    hash[..8].copy_from_slice(&half(7).wrapping_mul(half(11) | 1).to_le_bytes());
    hash[8..].copy_from_slice(&half(13).wrapping_mul(half(17) | 1).to_le_bytes());
    let key = IdempotencyKey { user, is_bounded: false, hash, fingerprint };
    Command::Keyed(Box::new(Keyed { key, command }))
}

fn pages(reader: &mut RecordReader, name: &str, slot: Slot, event: Option<EventId>) {
    let end = last_lsn(reader, slot);
    let mut took: Vec<Duration> = (0..PAGES)
        .map(|page| {
            let start = Instant::now();
            let (mut after, mut found) = (Lsn(end.0 * page / PAGES), 0);
            while found < PAGE_RECORDS {
                let page =
                    reader.read_after(slot, event, after, PAGE_RECORDS - found).expect("it can be read");
                (after, found) = (page.searched, found + page.entries.len());
                if page.is_last {
                    break;
                }
            }
            start.elapsed()
        })
        .collect();
    took.sort();
    let ms = |index: usize| took[index].as_secs_f64() * 1e3;
    let (median, longest) = (took.len() / 2, took.len() - 1);
    println!(
        "a page of {PAGE_RECORDS} of {name}: median {:.2} ms, longest {:.2} ms",
        ms(median),
        ms(longest)
    );
}

fn last_lsn(reader: &mut RecordReader, slot: Slot) -> Lsn {
    let mut after = Lsn(0);
    loop {
        let page = reader.read_after(slot, None, after, usize::MAX).expect("it can be read");
        after = page.searched;
        if page.is_last {
            return after;
        }
    }
}
