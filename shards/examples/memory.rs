//! Measures the memory of a reservation, including its entry in the index by customer, and the time to make
//! one: `cargo run --release -p shards --example memory -- [EVENTS CUSTOMERS RESERVATIONS [keys|refs]]`.
//!
//! With `refs` as the last argument, customers have no accounts, but refs of 24 characters.
//!
//! With `keys` as the last argument, each reservation has an idempotency key, and the time in which a shard forgets all
//! keys is measured, too.
//!
//! Bytes are the growth of the process's resident set, with the server's allocator. Ten million reservations
//! take up to 600 MB.

use std::time::{Duration, Instant};

use shards::clock::Now;
use shards::command::{Actor, Ask, Buyer, Command, CreateEvent, CustomerRef, IdempotencyKey, Keyed};
use shards::details::{EventName, NewDetails};
use shards::ids::{Epoch, EventId, Quantity, Quota, Role, Timestamp, UserId};
use shards::limits::{QUOTA_MAX, SLOT_COUNT};
use shards::record::SlotHead;
use shards::shard::{Release, Shard};
use shards::slots::SlotSet;
use shards::state::ShardState;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: u32 = 100;
const RESERVATIONS: u32 = 10_000_000;
/// Numbers of events and customers: few customers with long lists, a busy box office, nearly one customer for
/// each reservation, and many events in turn so that every list is out of order.
const CASES: [(u32, u32); 4] = [(64, 1_000), (1_000, 100_000), (1_000, 10_000_000), (100_000, 100_000)];

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let has_keys = arguments.pop_if(|last| last == "keys").is_some();
    let has_refs = arguments.pop_if(|last| last == "refs").is_some();
    let numbers: Vec<u32> = arguments.iter().map(|text| text.parse().expect("whole numbers")).collect();
    match numbers[..] {
        // Each case in its own process: the allocator would reuse freed memory.
        [] => {
            let program = std::env::current_exe().expect("a running program has a file");
            for (events, customers) in CASES {
                let arguments = [events, customers, RESERVATIONS].map(|number| number.to_string());
                let status = std::process::Command::new(&program).args(arguments).status();
                assert!(status.expect("the program starts").success());
            }
        }
        [events, customers, reservations] => fill(events, customers, reservations, has_keys, has_refs),
        _ => panic!("EVENTS CUSTOMERS RESERVATIONS [keys|refs], or nothing"),
    }
}

fn fill(events: u32, customers: u32, reservations: u32, has_keys: bool, has_refs: bool) {
    let heads = Box::new([SlotHead::empty(1); SLOT_COUNT]);
    let mut shard = Shard::new(ShardState::owning(SlotSet::all()), &heads, Epoch(1));
    for event in 1..=events {
        shard.take_in(Now::at(Timestamp(1000)), Ask::Command(creation(event)), ());
    }
    commit(&mut shard);

    let (before, start) = (resident_bytes(), Instant::now());
    let mut longest = Duration::ZERO;
    for index in 0..reservations {
        let mut command = reservation(index, events, customers);
        if has_keys {
            command = with_key(command, index);
        }
        if has_refs {
            command = for_ref(command);
        }
        let began = Instant::now();
        shard.take_in(Now::at(Timestamp(2000)), Ask::Command(command), ());
        longest = longest.max(began.elapsed());
        if index % BATCH == BATCH - 1 {
            commit(&mut shard);
        }
    }
    let count = f64::from(reservations);
    println!(
        "{reservations} reservations, {events} events, {customers} customers: {:.1} bytes and {:.0} ns each, the longest {:.1} ms",
        (resident_bytes() - before) as f64 / count,
        start.elapsed().as_nanos() as f64 / count,
        longest.as_secs_f64() * 1e3,
    );
    if has_keys {
        forget(&mut shard);
    }
}

/// Lets a day and an hour pass, and measures the longest step in which keys are forgotten.
fn forget(shard: &mut Shard<()>) {
    let mut longest = Duration::ZERO;
    for hours in [1, 25] {
        let (elapsed, time) = (Duration::from_hours(hours), Timestamp(2000 + hours * 3_600_000));
        let began = Instant::now();
        shard.expire(Now { elapsed, steady: time, wall: time });
        commit(shard);
        longest = longest.max(began.elapsed());
    }
    assert_eq!(shard.state().key_count(), 0, "all keys are older than a day");
    println!("all keys are forgotten, the longest step {:.2} ms", longest.as_secs_f64() * 1e3);
}

/// The digests of a real key look random, and so do these.
fn with_key(command: Command, index: u32) -> Command {
    let Command::Reserve { actor, .. } = command else { unreachable!("it is a reservation") };
    let half = |seed: u64| (seed ^ u64::from(index)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let mut hash = [0; 16];
    hash[..8].copy_from_slice(&half(7).wrapping_mul(half(11) | 1).to_le_bytes());
    hash[8..].copy_from_slice(&half(13).wrapping_mul(half(17) | 1).to_le_bytes());
    let key = IdempotencyKey { user: actor.user, is_bounded: false, hash, fingerprint: half(3) };
    Command::Keyed(Box::new(Keyed { key, command }))
}

/// Sells to a ref instead of an account.
fn for_ref(command: Command) -> Command {
    let Command::Reserve { event, buyer: Buyer::Account(customer), quantity, .. } = command else {
        unreachable!("it is a reservation of an account")
    };
    let text = format!("{:024}", u64::from(customer.0).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let buyer = Buyer::Ref(CustomerRef::new(&text).expect("a good ref"));
    let actor = Actor::new(UserId(1), Role::Organizer);
    Command::Reserve { event, actor, buyer, quantity }
}

fn commit(shard: &mut Shard<()>) {
    let batch = shard.begin_commit().expect("the batch has records");
    shard.finish_commit(batch);
    while let Some(release) = shard.next_release() {
        assert!(matches!(release, Release::Answer((), Ok(_))), "ids are new, and tickets remain");
    }
}

fn creation(event: u32) -> Command {
    Command::CreateEvent(Box::new(CreateEvent {
        id: EventId(event),
        organizer: UserId(1),
        key: None,
        details: NewDetails::new(
            EventName::new("Concert").expect("a good name"),
            Quota::new(u64::from(QUOTA_MAX)).expect("the largest"),
        ),
    }))
}

/// The reservation with this index: events in turn, customers at random.
fn reservation(index: u32, events: u32, customers: u32) -> Command {
    let spread = u64::from(index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let spread = (spread ^ (spread >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32;
    let customer = UserId(1 + spread as u32 % customers);
    Command::Reserve {
        event: EventId(1 + index % events),
        actor: Actor::new(customer, Role::Customer),
        buyer: Buyer::Account(customer),
        quantity: Quantity::new(1).expect("one ticket"),
    }
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux has it");
    let kibibytes = line.trim().strip_suffix(" kB").expect("in this unit").trim();
    kibibytes.parse::<u64>().expect("a whole number") * 1024
}
