//! The instructions of a reservation, from request bytes to response bytes, counted by valgrind,
//! which gives the same figures on a busy machine as on an idle one.
//!
//! Each function does one step for [`RESERVATIONS`] reservations. `benches/counted/run` runs this,
//! divides, and compares with the committed figures. The runtime and the kernel are not included.

#![allow(unused_qualifications, reason = "the macros of gungraun qualify all names")]

use std::hint::black_box;
use std::mem;
use std::time::Duration;

use boxoffice::front::api::{Api, quantity_asked_for, reservation_created};
use boxoffice::front::auth::bearer;
use boxoffice::front::http::parse::{Limits, Method, Parser, Progress, Request};
use boxoffice::front::http::write::Response;
use boxoffice::front::router::{Routed, find};
use gungraun::{Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use shards::clock::Now;
use shards::command::Ask;
use shards::ids::Timestamp;
use shards::log::{Log, MemoryLog};
use shards::outcome::ReservationView;
use shards::record::Entry;
use shards::shard::Shard;
use storage::Synchronous;
use tempfile::TempDir;

mod round_trips;
#[path = "../support/mod.rs"]
mod support;

use round_trips::{RESERVATIONS, RoundTrips, in_memory, in_sqlite};

/// The allocator of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// All steps, with one or more clients that each send one request at a time.
#[library_benchmark]
#[bench::memory_1(in_memory(1))]
#[bench::memory_80(in_memory(80))]
#[bench::sqlite_1(in_sqlite(1))]
#[bench::sqlite_80(in_sqlite(80))]
fn whole(mut round_trips: RoundTrips) -> RoundTrips {
    round_trips.run();
    round_trips
}

fn bytes() -> &'static [u8] {
    support::request(&support::tokens()).leak().as_bytes()
}

fn parsed(bytes: &'static [u8]) -> Request<'static> {
    match Box::leak(Box::new(Parser::new(Limits::default()))).parse(bytes) {
        Ok(Progress::Complete { request, .. }) => request,
        _ => panic!("the request is valid"),
    }
}

#[library_benchmark]
#[bench::request(bytes())]
fn parse(bytes: &'static [u8]) {
    for _ in 0..RESERVATIONS {
        let mut parser = Parser::new(Limits::default());
        assert!(matches!(parser.parse(black_box(bytes)), Ok(Progress::Complete { .. })));
    }
}

#[library_benchmark]
#[bench::reservation("/api/v1/events/1/reservations")]
fn route(path: &str) {
    for _ in 0..RESERVATIONS {
        assert!(matches!(find(Method::Post, black_box(path)), Routed::To { .. }));
    }
}

fn known_token() -> (RoundTrips, Request<'static>) {
    let round_trips = in_memory(1);
    let request = parsed(round_trips.request);
    (round_trips, request)
}

#[library_benchmark]
#[bench::known_token(known_token())]
fn authenticate((round_trips, request): (RoundTrips, Request<'static>)) -> (RoundTrips, Request<'static>) {
    let api: &Api = round_trips.core.api();
    for _ in 0..RESERVATIONS {
        let authorization = black_box(&request).header_bytes("authorization");
        let token = authorization.and_then(bearer).expect("a bearer token");
        black_box(api.verified.get(token, api.unix_time()).expect("the token is cached"));
    }
    (round_trips, request)
}

#[library_benchmark]
#[bench::body(parsed(bytes()))]
fn json(request: Request<'static>) -> Request<'static> {
    for _ in 0..RESERVATIONS {
        let quantity = quantity_asked_for(black_box(&request));
        assert!(black_box(quantity).is_ok(), "the body is valid");
    }
    request
}

fn shard_and_asks() -> (Shard<u32>, Vec<Ask>) {
    let mut shard = support::shard_with_events(round_trips::EVENTS);
    let ask = |index| Ask::Command(support::reservation(index, round_trips::EVENTS));
    shard.take_in(Now::at(Timestamp(2000)), ask(0), 0);
    (shard, (0..RESERVATIONS as u32).map(ask).collect())
}

// Decides, applies, encodes, and computes the checksum.
#[library_benchmark]
#[bench::take_in(shard_and_asks())]
fn shard((mut shard, asks): (Shard<u32>, Vec<Ask>)) -> Shard<u32> {
    for ask in asks {
        shard.take_in(Now::at(Timestamp(2000)), black_box(ask), 0);
    }
    shard
}

fn full_shard() -> Shard<u32> {
    let (mut shard, asks) = shard_and_asks();
    for ask in asks {
        shard.take_in(Now::at(Timestamp(2000)), ask, 0);
    }
    shard
}

#[library_benchmark]
#[bench::after_commit(full_shard())]
fn answer(mut shard: Shard<u32>) -> Shard<u32> {
    let batch = shard.begin_commit().expect("the batch has records");
    MemoryLog.append(black_box(&batch.entries), Duration::ZERO).expect("append to memory");
    shard.finish_commit(batch);
    while let Some(answer) = shard.next_release() {
        drop(black_box(answer));
    }
    shard
}

fn entries() -> Vec<Entry> {
    full_shard().begin_commit().expect("the batch has records").entries
}

#[library_benchmark]
#[bench::each(entries())]
fn encode(entries: Vec<Entry>) -> Vec<Entry> {
    for entry in &entries {
        black_box(black_box(&entry.record).encode());
    }
    entries
}

struct Batches {
    log: Box<dyn Log>,
    entries: Vec<Entry>,
    size: usize,
    _directory: TempDir,
}

fn batches(size: usize) -> Batches {
    let (mut log, directory) = support::sqlite_log(Synchronous::Full);
    let entries = entries();
    log.append(&entries[..1], Duration::ZERO).expect("append to the log");
    Batches { log: Box::new(log), entries, size, _directory: directory }
}

#[library_benchmark]
#[bench::by_1(batches(1))]
#[bench::by_80(batches(80))]
fn sqlite(mut batches: Batches) -> Batches {
    for batch in batches.entries[..RESERVATIONS].chunks(batches.size) {
        batches.log.append(black_box(batch), Duration::ZERO).expect("append to the log");
    }
    batches
}

#[library_benchmark]
#[bench::created(support::view())]
fn respond(view: ReservationView) {
    for _ in 0..RESERVATIONS {
        black_box(reservation_created(black_box(view.clone())));
    }
}

#[library_benchmark]
#[bench::created(reservation_created(support::view()))]
fn write(response: Response) {
    let mut out = Vec::with_capacity(4096);
    for _ in 0..RESERVATIONS {
        black_box(&response).write(black_box(&support::ENVELOPE), &mut out);
        out.clear();
    }
    mem::forget(response);
}

library_benchmark_group!(
    name = reservation,
    benchmarks = [whole, parse, route, authenticate, json, shard, encode, sqlite, answer, respond, write]
);

main!(
    config = LibraryBenchmarkConfig::default()
        .tool(Callgrind::with_args(["--cache-sim=no"]))
        // Valgrind counts `rep stosb` as one instruction per byte, so glibc must not use it.
        .env("GLIBC_TUNABLES", "glibc.cpu.x86_rep_stosb_threshold=1000000000:glibc.cpu.x86_rep_movsb_threshold=1000000000")
        .pass_through_env("BOXOFFICE_BENCH_DIR");
    library_benchmark_groups = reservation
);
