//! Measures holds: their memory, and the time for which the end of many of them, or a start, keeps a shard busy
//! (the median of some rounds, and the range):
//! `cargo run --release -p shards --example holds -- [HOLDS OLDER_RESERVATIONS]`.
//!
//! All belong to one event, and the holds have different deadlines.

use std::time::{Duration, Instant};

use shards::clock::Now;
use shards::command::{Actor, Ask, Buyer, Command, CreateEvent, Query};
use shards::details::{EventName, NewDetails};
use shards::ids::{Epoch, EventId, HoldTime, Quantity, Quota, Role, Timestamp, UserId};
use shards::limits::{QUOTA_MAX, SLOT_COUNT};
use shards::log::RollbackCause;
use shards::record::SlotHead;
use shards::shard::{Release, Shard};
use shards::slots::{SlotSet, slot_of_event};
use shards::state::ShardState;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EVENT: EventId = EventId(1);
const BATCH: u32 = 100;
const HOLDS: u32 = 100_000;
const OLDER: u32 = 9_500_000;
const START_MS: u64 = 1_800_000_000_000;
const MINUTE_MS: u64 = 60_000;
const ROUNDS: u64 = 5;

fn main() {
    let arguments: Vec<u32> =
        std::env::args().skip(1).map(|text| text.parse().expect("whole numbers")).collect();
    let (holds, older) = match arguments[..] {
        [] => (HOLDS, OLDER),
        [holds, older] => (holds, older),
        _ => panic!("HOLDS OLDER_RESERVATIONS, or nothing"),
    };
    let heads = Box::new([SlotHead::empty(1); SLOT_COUNT]);
    let mut shard = Shard::new(ShardState::owning(SlotSet::all()), &heads, Epoch(1));
    ask(&mut shard, START_MS, Ask::Command(creation()));
    commit(&mut shard);
    make(&mut shard, START_MS, older, 0, None);
    let before = resident_bytes();
    let end = make(&mut shard, START_MS, holds, 1, HoldTime::from_seconds(600));
    let bytes = (resident_bytes() - before) as f64 / f64::from(holds);
    println!("{holds} holds of an event with {older} older reservations: {bytes:.1} bytes each");

    let mut now = end;
    let mut took: [Vec<Duration>; 4] = Default::default();
    for round in 1..=ROUNDS {
        took[0].push(view(&mut shard, now + 10 * MINUTE_MS));
        took[1].push(roll_back(&mut shard));
        view(&mut shard, now + 10 * MINUTE_MS);
        commit(&mut shard);

        let end = make(&mut shard, now + 20 * MINUTE_MS, holds, 1, HoldTime::from_seconds(600));
        let (state, head) = shard.release_slot(slot_of_event(EVENT)).expect("it is owned");
        shard = Shard::new(ShardState::default(), &heads, Epoch(2 + round));
        shard.adopt(slot_of_event(EVENT), state, head, Epoch(2 + round));
        took[2].push(view(&mut shard, end));
        took[3].push(roll_back(&mut shard));
        view(&mut shard, end);
        commit(&mut shard);
        now = end;
    }
    let names = [
        "the request that finds all of them over",
        "its rollback",
        "the first request of a start",
        "its rollback",
    ];
    for (mut took, name) in took.into_iter().zip(names) {
        took.sort();
        let [least, median, most] =
            [0, took.len() / 2, took.len() - 1].map(|at| took[at].as_secs_f64() * 1e3);
        println!("{name}: {median:.2} ms ({least:.2} to {most:.2})");
    }
}

/// Makes reservations, or holds for this time, one in each `step` milliseconds. Returns the time of the last one.
fn make(shard: &mut Shard<()>, now: u64, count: u32, step: u64, time: Option<HoldTime>) -> u64 {
    for index in 0..count {
        let customer = UserId(1 + index.wrapping_mul(2_654_435_761) % 1_000_000);
        let (event, buyer, quantity) =
            (EVENT, Buyer::Account(customer), Quantity::new(1).expect("one ticket"));
        let actor = Actor::new(customer, Role::Customer);
        let command = match time {
            Some(time) => Command::Hold { event, actor, buyer, quantity, time },
            None => Command::Reserve { event, actor, buyer, quantity },
        };
        ask(shard, now + u64::from(index) * step, Ask::Command(command));
        if index % BATCH == BATCH - 1 || index == count - 1 {
            commit(shard);
        }
    }
    now + u64::from(count) * step
}

fn creation() -> Command {
    Command::CreateEvent(Box::new(CreateEvent {
        id: EVENT,
        organizer: UserId(1),
        key: None,
        details: NewDetails::new(
            EventName::new("Concert").expect("a good name"),
            Quota::new(u64::from(QUOTA_MAX)).expect("the largest"),
        ),
    }))
}

fn ask(shard: &mut Shard<()>, now: u64, ask: Ask) {
    shard.take_in(Now::at(Timestamp(now)), ask, ());
}

/// Asks for the event, and returns how long that kept the shard busy.
fn view(shard: &mut Shard<()>, now: u64) -> Duration {
    let start = Instant::now();
    ask(shard, now, Ask::Query(Query::Event { event: EVENT }));
    start.elapsed()
}

/// Rolls back the open batch, and returns how long that kept the shard busy.
fn roll_back(shard: &mut Shard<()>) -> Duration {
    let batch = shard.begin_commit().expect("it has a record");
    assert_eq!(batch.entries.len(), 1);
    let start = Instant::now();
    shard.roll_back(batch, RollbackCause::NoRoom);
    let took = start.elapsed();
    shard.resume();
    release(shard);
    took
}

fn commit(shard: &mut Shard<()>) {
    let batch = shard.begin_commit().expect("the batch has records");
    shard.finish_commit(batch);
    release(shard);
}

fn release(shard: &mut Shard<()>) {
    while let Some(release) = shard.next_release() {
        assert!(matches!(release, Release::Answer((), Ok(_))), "tickets remain: {release:?}");
    }
}

fn resident_bytes() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux has it");
    let kibibytes = line.trim().strip_suffix(" kB").expect("in this unit").trim();
    kibibytes.parse::<i64>().expect("a whole number") * 1024
}
