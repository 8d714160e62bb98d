//! Shared support for benches: a shard with events and a customer, and the customer's request.
#![allow(dead_code, reason = "no bench uses all of it")]

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use boxoffice::front::auth::Tokens;
use boxoffice::front::http::parse::Version;
use boxoffice::front::http::write::{Envelope, RequestId};
use shards::clock::Now;
use shards::command::{Actor, Ask, Buyer, Command, CreateEvent, CreateUser};
use shards::details::{EventName, NewDetails};
use shards::ids::{Epoch, EventId, Quantity, Quota, ReservationId, Role, Timestamp, UserId, Username};
use shards::limits::{QUOTA_MAX, SLOT_COUNT};
use shards::outcome::{ReservationStatus, ReservationView};
use shards::record::SlotHead;
use shards::replay::Mark;
use shards::shard::{Release, Shard};
use shards::slots::SlotSet;
use shards::state::ShardState;
use storage::{FileHeader, LogFile, MarkFile, SqliteLog, Synchronous};
use tempfile::TempDir;

const CUSTOMER_COUNT: u32 = 10_000;

/// The customer that has an account.
const CUSTOMER: UserId = UserId(4);
const TOKEN_VERSION: u64 = 7;

pub(crate) fn tokens() -> Tokens {
    Tokens::new(&[7; 32], 1)
}

/// Unix time in seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Issues a token for any user. Only that of [`CUSTOMER`] is confirmed by the shard of
/// [`shard_with_events`].
pub(crate) fn token_of(tokens: &Tokens, user: u32) -> String {
    tokens.issue(now(), UserId(user), &username(), Role::Customer, TOKEN_VERSION, format!("{user:016x}"))
}

fn username() -> Username {
    Username::new("cust1").expect("a valid name")
}

/// The request for one ticket of event 1, as the load test's client sends it.
pub(crate) fn request(tokens: &Tokens) -> String {
    format!(
        "POST /api/v1/events/1/reservations HTTP/1.1\r\nHost: localhost:9092\r\nConnection: keep-alive\r\n\
         Authorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{{\"quantity\":1}}",
        token_of(tokens, CUSTOMER.0)
    )
}

/// Creates a shard that owns every slot, with events 1, 2, 3... of the largest quota and the account
/// of [`CUSTOMER`].
pub(crate) fn shard_with_events<A: Default>(event_count: u32) -> Shard<A> {
    let heads = Box::new([SlotHead::empty(1); SLOT_COUNT]);
    let mut shard = Shard::new(ShardState::owning(SlotSet::all()), &heads, Epoch(1));
    let account = Command::CreateUser(Box::new(CreateUser {
        id: CUSTOMER,
        username: username(),
        password_hash: "$argon2id$".into(),
        role: Role::Customer,
        token_version: TOKEN_VERSION,
    }));
    for command in (1..=event_count).map(creation).chain([account]) {
        shard.take_in(Now::at(Timestamp(1000)), Ask::Command(command), A::default());
    }
    let batch = shard.begin_commit().expect("the batch has records");
    shard.finish_commit(batch);
    while let Some(release) = shard.next_release() {
        assert!(matches!(release, Release::Answer(_, Ok(_))), "the ids are new");
    }
    shard
}

pub(crate) fn creation(event: u32) -> Command {
    Command::CreateEvent(Box::new(CreateEvent {
        id: EventId(event),
        organizer: UserId(1),
        key: None,
        details: NewDetails::new(
            EventName::new("Concert").expect("a valid name"),
            Quota::new(u64::from(QUOTA_MAX)).expect("the largest quota is valid"),
        ),
    }))
}

/// The `index`th reservation: events in turn, customers in pseudo-random order.
pub(crate) fn reservation(index: u32, event_count: u32) -> Command {
    let customer = UserId(1 + index.wrapping_mul(2_654_435_761) % CUSTOMER_COUNT);
    Command::Reserve {
        event: EventId(1 + index % event_count),
        actor: Actor::new(customer, Role::Customer),
        buyer: Buyer::Account(customer),
        quantity: Quantity::new(1).expect("one ticket"),
    }
}

/// The shard's answer to a reservation.
pub(crate) fn view() -> ReservationView {
    ReservationView {
        id: ReservationId { event: EventId(1), number: 1234 },
        buyer: Buyer::Account(CUSTOMER),
        quantity: 1,
        status: ReservationStatus::Confirmed,
        expires_at: None,
        created_at: Timestamp(1_800_000_000_000),
        cancelled_at: None,
        order: None,
    }
}

/// What a response's bytes depend on, apart from the response itself.
pub(crate) const ENVELOPE: Envelope<'static> = Envelope {
    request_id: &RequestId::Made { core: 0x0123_abcd, number: 0x1234 },
    date: "Sun, 06 Nov 1994 08:49:37 GMT",
    close: false,
    version: Version::Http11,
    omit_body: false,
    fields: None,
};

/// Creates a log file in a temporary directory.
pub(crate) fn sqlite_log(synchronous: Synchronous) -> (SqliteLog, TempDir) {
    let directory = temporary_directory();
    let path = directory.path().join("log.sqlite");
    let header = FileHeader { cluster: 1, name: "log.sqlite".to_owned() };
    let file = LogFile::create(&path, &header, synchronous).expect("the directory is writable");
    let mark_file = MarkFile::create(&path, header.cluster).expect("the directory is writable");
    let log = SqliteLog::alone(file, mark_file, Mark::EMPTY, Epoch(0)).expect("its files are there");
    (log, directory)
}

/// Creates a directory in `BOXOFFICE_BENCH_DIR`, or else in Cargo's target directory: not in `/tmp`,
/// which may be in memory, where a sync costs nothing.
pub(crate) fn temporary_directory() -> TempDir {
    let parent = std::env::var_os("BOXOFFICE_BENCH_DIR");
    let parent = parent.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    tempfile::Builder::new().prefix("bench-").tempdir_in(parent).expect("the directory is writable")
}
