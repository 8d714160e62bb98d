//! What the domain costs by itself, without a network: deciding and applying,
//! committing to each log, and recovering.
//!
//! Files go to `BOXOFFICE_BENCH_DIR`, or else below Cargo's target directory:
//! never to `/tmp`, which may be memory and then has no disk to wait for.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use shards::command::{Command, CreateEvent, EventName};
use shards::ids::{Epoch, EventId, Quantity, Quota, Timestamp, UserId};
use shards::limits::{QUOTA_MAX, SLOT_COUNT};
use shards::log::{FileHeader, Log, LogFile, Mark, MarkFile, MemoryLog, SqliteLog, Synchronous};
use shards::record::{Entry, SlotHead};
use shards::recovery::{self, Progress};
use shards::shard::Shard;
use shards::slots::shard_of_slot;
use shards::state::ShardState;
use tempfile::TempDir;

/// A demonstration, and a busy box office.
const EVENT_COUNTS: [u32; 2] = [4, 1000];
const CUSTOMER_COUNT: u32 = 10_000;

const RESERVE_BATCH: u32 = 100;
/// Each measured on a fresh shard, so that every sample sees the same sizes.
const RESERVE_BATCHES: u32 = 100;

const COMMIT_BATCHES: [u32; 4] = [1, 10, 100, 1000];

const RECOVERED_RECORDS: u32 = 1_000_000;
const RECOVERED_EVENTS: u32 = 64;

fn reserve(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reserve");
    group.throughput(Throughput::Elements(u64::from(RESERVE_BATCH * RESERVE_BATCHES)));
    for event_count in EVENT_COUNTS {
        group.bench_function(BenchmarkId::new("events", event_count), |bencher| {
            let fresh = || shard_with_events(event_count);
            let run = |shard: &mut Shard| {
                for batch in 0..RESERVE_BATCHES {
                    for index in batch * RESERVE_BATCH..(batch + 1) * RESERVE_BATCH {
                        black_box(shard.command(Timestamp(2000), reservation(index, event_count)));
                    }
                    let batch = shard.begin_commit().expect("the batch has records");
                    MemoryLog.append(&batch.entries).expect("memory takes everything");
                    shard.finish_commit(batch);
                }
            };
            bencher.iter_batched_ref(fresh, run, BatchSize::PerIteration);
        });
    }
}

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    // Bounds how large the files grow: a second at batch 1000 is some 200 MiB.
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for batch in COMMIT_BATCHES {
        let entries = entries(batch);
        group.throughput(Throughput::Elements(entries.len() as u64));
        for (name, synchronous) in [("full", Synchronous::Full), ("normal", Synchronous::Normal)] {
            let directory = temporary_directory();
            let path = directory.path().join("log.sqlite");
            let header = FileHeader { cluster: 1, name: "log.sqlite".to_owned() };
            let file = LogFile::create(&path, &header, synchronous).expect("the directory is writable");
            let mark_file = MarkFile::create(&path, header.cluster).expect("the directory is writable");
            let mut log = SqliteLog::new(file, mark_file, Mark::EMPTY);
            bench_commit(&mut group, BenchmarkId::new(name, batch), &mut log, &entries);
        }
        bench_commit(&mut group, BenchmarkId::new("memory", batch), &mut MemoryLog, &entries);
    }
}

/// With the upkeep, which every commit has to pay for in the end.
fn bench_commit(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    log: &mut dyn Log,
    entries: &[Entry],
) {
    group.bench_function(id, |bencher| {
        bencher.iter(|| {
            log.append(black_box(entries)).expect("the disk takes it");
            if log.maintenance_is_due() {
                log.maintain().expect("the disk takes it");
            }
        });
    });
}

fn recover(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recover");
    group.sample_size(10).measurement_time(Duration::from_secs(15));
    for file_count in [1, 2] {
        let directory = temporary_directory();
        fill(directory.path(), file_count);
        let records = u64::from(RECOVERED_RECORDS + RECOVERED_EVENTS);
        group.throughput(Throughput::Elements(records));
        group.bench_function(BenchmarkId::new("files", file_count), |bencher| {
            // Timed by hand: giving the memory back is no part of a recovery,
            // and has to be over before the next can have the directory's lock.
            bencher.iter_custom(|iterations| {
                let mut took = Duration::ZERO;
                for _ in 0..iterations {
                    let start = Instant::now();
                    let recovered = recovery::open(directory.path(), file_count, &Progress::default());
                    took += start.elapsed();
                    assert_eq!(recovered.expect("it was left whole").record_count, records);
                }
                took
            });
        });
    }
}

/// A shard that owns every slot, with events 1, 2, 3... of the largest quota.
fn shard_with_events(event_count: u32) -> Shard {
    let heads = Box::new([SlotHead::empty(1); SLOT_COUNT]);
    let mut shard = Shard::new(ShardState::default(), heads, Epoch(1));
    for event in 1..=event_count {
        shard.command(Timestamp(1000), creation(event)).reply.expect("the id is fresh");
    }
    let batch = shard.begin_commit().expect("the batch has records");
    shard.finish_commit(batch);
    shard
}

fn creation(event: u32) -> Command {
    Command::CreateEvent(Box::new(CreateEvent {
        id: EventId(event),
        organizer: UserId(1),
        name: EventName::new("Concert").expect("a good name"),
        quota: Quota::new(u64::from(QUOTA_MAX)).expect("the largest"),
    }))
}

/// The `index`th reservation: events in turn, customers spread.
fn reservation(index: u32, event_count: u32) -> Command {
    Command::Reserve {
        event: EventId(1 + index % event_count),
        customer: UserId(1 + index.wrapping_mul(2_654_435_761) % CUSTOMER_COUNT),
        quantity: Quantity::new(1).expect("one ticket"),
    }
}

fn entries(count: u32) -> Vec<Entry> {
    let mut shard = shard_with_events(EVENT_COUNTS[0]);
    for index in 0..count {
        shard.command(Timestamp(2000), reservation(index, EVENT_COUNTS[0])).reply.expect("tickets are left");
    }
    shard.begin_commit().expect("the batch has records").entries
}

/// Makes a data directory of `file_count` shards with the records to recover.
fn fill(directory: &Path, file_count: usize) {
    let recovered = recovery::open(directory, file_count, &Progress::default());
    let mut shards = recovered.expect("the directory is fresh").shards;
    let creations = (1..=RECOVERED_EVENTS).map(creation);
    let reservations = (0..RECOVERED_RECORDS).map(|index| reservation(index, RECOVERED_EVENTS));
    for (index, command) in creations.chain(reservations).enumerate() {
        let (shard, _) = &mut shards[shard_of_slot(command.slot(), file_count)];
        shard.command(Timestamp(2000), command).reply.expect("tickets are left");
        if index % 10_000 == 0 {
            shards.iter_mut().for_each(|(shard, log)| write(shard, log));
        }
    }
    shards.iter_mut().for_each(|(shard, log)| write(shard, log));
}

fn write(shard: &mut Shard, log: &mut SqliteLog) {
    if let Some(batch) = shard.begin_commit() {
        log.append(&batch.entries).expect("the disk takes it");
        if log.maintenance_is_due() {
            log.maintain().expect("the disk takes it");
        }
        shard.finish_commit(batch);
    }
}

fn temporary_directory() -> TempDir {
    let parent = std::env::var_os("BOXOFFICE_BENCH_DIR");
    let parent = parent.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    tempfile::Builder::new().prefix("domain-").tempdir_in(parent).expect("the directory is writable")
}

criterion_group!(benches, reserve, commit, recover);
criterion_main!(benches);
