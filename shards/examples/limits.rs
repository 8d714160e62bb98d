//! Measures a reservation at an event that limits the tickets of a customer, by the reservations that the customer
//! has there, and the edit that sets the limit: `cargo run --release -p shards --example limits`.
//!
//! Ten million reservations take some 600 MB.

use std::time::{Duration, Instant};

use shards::clock::Now;
use shards::command::{Actor, Ask, Buyer, Command, CreateEvent, EditEvent, ExpectedVersion};
use shards::details::{DetailsPatch, EventName, NewDetails, RulesPatch};
use shards::ids::{Epoch, EventId, Quantity, Quota, Role, Timestamp, UserId};
use shards::limits::{QUOTA_MAX, SLOT_COUNT};
use shards::record::SlotHead;
use shards::shard::{Release, Shard};
use shards::slots::SlotSet;
use shards::state::ShardState;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The reservations of each customer.
const OWN: [u32; 7] = [1, 8, 31, 100, 10_000, 100_000, 1_000_000];
/// The fewest reservations of an event, and the fewest customers, who reserve in turn.
const RESERVATIONS_MIN: u32 = 1_000_000;
const CUSTOMERS_MIN: u32 = 9;

fn main() {
    println!("reservations  of each   without  set the   with it, each customer's");
    println!("of the event  customer  a limit  limit         first    second");
    for own in OWN {
        let mut shard = shard();
        let event = EventId(1);
        let customers = (RESERVATIONS_MIN / own).max(CUSTOMERS_MIN);
        create(&mut shard, event);
        for _ in 0..own {
            for customer in 1..=customers {
                take_in(&mut shard, reservation(event, UserId(customer)));
            }
        }
        let without = mean(&mut shard, event, customers);
        let edit = set_limit(&mut shard, event);
        let [first, second] = [(); 2].map(|()| mean(&mut shard, event, customers));
        println!(
            "{:>12}  {own:>8}  {without:>7.0?}  {edit:>7.0?}  {first:>14.1?}  {second:>8.0?}",
            own * customers
        );
    }
}

fn shard() -> Shard<()> {
    let heads = Box::new([SlotHead::empty(1); SLOT_COUNT]);
    Shard::new(ShardState::owning(SlotSet::all()), &heads, Epoch(1))
}

fn create(shard: &mut Shard<()>, id: EventId) {
    let name = EventName::new("Concert").expect("a valid name");
    let details = NewDetails::new(name, Quota::new(u64::from(QUOTA_MAX)).expect("the highest quota"));
    take_in(
        shard,
        Command::CreateEvent(Box::new(CreateEvent { id, organizer: UserId(1), key: None, details })),
    );
}

fn set_limit(shard: &mut Shard<()>, event: EventId) -> Duration {
    let limit = Quantity::new(u64::from(QUOTA_MAX));
    let rules = RulesPatch { max_per_customer: Some(limit), ..RulesPatch::default() };
    let edit = EditEvent {
        event,
        actor: Actor::new(UserId(1), Role::Organizer),
        version: ExpectedVersion::Any,
        changes: DetailsPatch { rules, ..DetailsPatch::default() },
        organizer: None,
    };
    time(shard, || Command::EditEvent(Box::new(edit)))
}

/// The mean time of a reservation of each customer.
fn mean(shard: &mut Shard<()>, event: EventId, customers: u32) -> Duration {
    let each = (1..=customers).map(|customer| time(shard, || reservation(event, UserId(customer))));
    each.sum::<Duration>() / customers
}

fn reservation(event: EventId, customer: UserId) -> Command {
    let actor = Actor::new(customer, Role::Customer);
    let quantity = Quantity::new(1).expect("at least one");
    Command::Reserve { event, actor, buyer: Buyer::Account(customer), quantity }
}

fn time(shard: &mut Shard<()>, command: impl FnOnce() -> Command) -> Duration {
    let command = command();
    let start = Instant::now();
    shard.take_in(Now::at(Timestamp(1000)), Ask::Command(command), ());
    let took = start.elapsed();
    commit(shard);
    took
}

fn take_in(shard: &mut Shard<()>, command: Command) {
    shard.take_in(Now::at(Timestamp(1000)), Ask::Command(command), ());
    commit(shard);
}

fn commit(shard: &mut Shard<()>) {
    let batch = shard.begin_commit().expect("the batch has a record");
    shard.finish_commit(batch);
    while let Some(release) = shard.next_release() {
        assert!(matches!(release, Release::Answer((), Ok(_))), "{release:?}");
    }
}
