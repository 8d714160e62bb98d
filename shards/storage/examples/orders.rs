//! What orders cost beside reservations, in one shard with a log on disk:
//! `cargo run --release -p storage --example orders -- SECONDS`.
//!
//! Each row is a load for so many seconds: clients that each wait for their answer before they ask again. It prints
//! the requests and tickets' reservations in a second, the time and the commits from a request to its answer, and
//! the records of a request. Messages between slots are delivered with the next batch, as a core does it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use shards::clock::Now;
use shards::command::{Actor, Ask, Buyer, Command, CreateEvent, OrderItem, OrderItems, PlaceOrder};
use shards::details::{EventName, NewDetails};
use shards::ids::{EventId, Quantity, Quota, Role, Timestamp, UserId};
use shards::limits::QUOTA_MAX;
use shards::log::Log;
use shards::shard::{Release, Shard};
use storage::{Progress, SqliteLog};

/// No load sells one out.
const EVENTS: u32 = 100;
const FIRST_CUSTOMER: u32 = 1000;

/// The asker of a message, which gets no answer.
const NOBODY: usize = usize::MAX;

struct Load {
    /// `None` for reservations.
    items: Option<u32>,
    clients: usize,
    /// Whether all orders are of one account, and so in one slot.
    is_one_owner: bool,
}

struct Office {
    shard: Shard<usize>,
    log: SqliteLog,
    inbox: VecDeque<(Ask, usize)>,
    start: Instant,
    commits: u64,
    records: u64,
}

/// Sums over the answers of a load.
#[derive(Default)]
struct Sums {
    answers: u64,
    times: Vec<Duration>,
    commits: u64,
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).expect("SECONDS");
    println!("| request | clients | requests/s | reservations/s | p50 ms | commits waited | records |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for clients in [1, 256] {
        for items in [None, Some(1), Some(2), Some(4), Some(20)] {
            run(&Load { items, clients, is_one_owner: false }, seconds);
        }
    }
    for items in [1, 2, 4, 20] {
        run(&Load { items: Some(items), clients: 256, is_one_owner: true }, seconds);
    }
}

fn run(load: &Load, seconds: u64) {
    let directory =
        tempfile::Builder::new().prefix("orders-").tempdir_in("target").expect("a target directory");
    let mut recovered = storage::open(directory.path(), 1, &Progress::default()).expect("a new directory");
    let (state, log) = recovered.shards.pop().expect("one shard");
    let shard = Shard::new(state, &recovered.heads, recovered.epoch);
    let (inbox, start) = (VecDeque::new(), Instant::now());
    let mut office = Office { shard, log, inbox, start, commits: 0, records: 0 };
    for id in (1..=EVENTS).map(EventId) {
        let name = EventName::new("Concert").expect("a good name");
        let quota = Quota::new(QUOTA_MAX.into()).expect("the most");
        let create =
            CreateEvent { id, organizer: UserId(1), key: None, details: NewDetails::new(name, quota) };
        office.inbox.push_back((Ask::Command(Command::CreateEvent(Box::new(create))), NOBODY));
    }
    office.turn(|_| {});
    (office.commits, office.records) = (0, 0);

    let mut asked = vec![(Instant::now(), 0); load.clients];
    let mut turn = 0;
    let mut answered: Vec<usize> = (0..load.clients).collect();
    let mut sums = Sums::default();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        for client in answered.drain(..) {
            turn += 1;
            asked[client] = (Instant::now(), office.commits);
            office.inbox.push_back((Ask::Command(request(load, client, turn)), client));
        }
        office.turn(|client| answered.push(client));
        for &client in &answered {
            let (sent, commits) = asked[client];
            sums.times.push(sent.elapsed());
            sums.commits += office.commits - commits;
            sums.answers += 1;
        }
    }
    print(load, &mut sums, start.elapsed(), office.records);
}

fn print(load: &Load, sums: &mut Sums, elapsed: Duration, records: u64) {
    let what = match (load.items, load.is_one_owner) {
        (None, _) => "reservation".to_owned(),
        (Some(items), false) => format!("order of {items}"),
        (Some(items), true) => format!("order of {items}, one owner"),
    };
    sums.times.sort_unstable();
    let answers = sums.answers as f64;
    let per_second = answers / elapsed.as_secs_f64();
    println!(
        "| {what} | {} | {per_second:.0} | {:.0} | {:.2} | {:.1} | {:.1} |",
        load.clients,
        per_second * f64::from(load.items.unwrap_or(1)),
        sums.times[sums.times.len() / 2].as_secs_f64() * 1e3,
        sums.commits as f64 / answers,
        records as f64 / answers
    );
}

fn request(load: &Load, client: usize, turn: u32) -> Command {
    let owner = if load.is_one_owner { 0 } else { client as u32 };
    let user = UserId(FIRST_CUSTOMER + owner);
    let (actor, buyer) = (Actor::new(user, Role::Customer), Buyer::Account(user));
    let quantity = Quantity::new(1).expect("one");
    let event = |index: u32| EventId(1 + (turn * 7 + index) % EVENTS);
    let Some(items) = load.items else {
        return Command::Reserve { event: event(0), actor, buyer, quantity };
    };
    let items = (0..items).map(|index| OrderItem { event: event(index), quantity }).collect();
    let items = OrderItems::new(items).expect("different events");
    Command::PlaceOrder(Box::new(PlaceOrder { owner: user, actor, buyer, items, time: None }))
}

impl Office {
    /// Takes in what waits, commits it, and lets out what may leave.
    fn turn(&mut self, mut answered: impl FnMut(usize)) {
        let elapsed = self.start.elapsed();
        let time = Timestamp(1_700_000_000_000 + elapsed.as_millis() as u64);
        let now = Now { elapsed, steady: time, wall: time };
        for (ask, asker) in std::mem::take(&mut self.inbox) {
            self.shard.take_in(now, ask, asker);
        }
        if self.shard.expires_at().is_some_and(|at| at <= elapsed) {
            self.shard.expire(now);
        }
        if let Some(batch) = self.shard.begin_commit() {
            self.records += batch.entries.len() as u64;
            self.log.append(&batch.entries, Duration::ZERO).expect("the log takes it");
            self.shard.finish_commit(batch);
            self.commits += 1;
        }
        while let Some(release) = self.shard.next_release() {
            match release {
                Release::Answer(NOBODY, _) => {}
                Release::Answer(client, reply) => {
                    reply.expect("tickets are left");
                    answered(client);
                }
                Release::Message(_, message) => self.inbox.push_back((Ask::Command(message), NOBODY)),
            }
        }
    }
}
