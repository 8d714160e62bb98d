//! The cost of the domain without a network: finding a slot, deciding and applying, answering,
//! encoding, committing to each log, and recovering.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use shards::clock::Now;
use shards::command::Ask;
use shards::ids::{EventId, Timestamp};
use shards::log::{Log, MemoryLog};
use shards::record::{Entry, SlotHead};
use shards::shard::{Release, Shard};
use shards::slots::{shard_of_slot, slot_of_event};
use storage::{Progress, Recovered, SqliteLog, Synchronous};

mod support;

use support::{creation, reservation, shard_with_events, sqlite_log, temporary_directory};

/// The number of events of the demonstration, and of a large installation.
const EVENT_COUNTS: [u32; 2] = [4, 1000];
const RESERVE_BATCH: u32 = 100;
/// The number of batches per sample. Each sample uses a new shard, so that all have the same size.
const RESERVE_BATCHES: u32 = 100;

const COMMIT_BATCHES: [u32; 4] = [1, 10, 100, 1000];

const RECOVERED_RECORDS: u32 = 1_000_000;
const RECOVERED_EVENTS: u32 = 64;

/// Measures requests from the shard's input to its answer, with a log in memory.
fn reserve(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reserve");
    group.throughput(Throughput::Elements(u64::from(RESERVE_BATCH * RESERVE_BATCHES)));
    for event_count in EVENT_COUNTS {
        for batch_size in [1, RESERVE_BATCH] {
            group.bench_function(format!("events {event_count}, batch {batch_size}"), |bencher| {
                let fresh = || shard_with_events(event_count);
                let run = |shard: &mut Shard<u32>| run_batches(shard, batch_size, event_count);
                bencher.iter_batched_ref(fresh, run, BatchSize::PerIteration);
            });
        }
    }
}

/// Makes reservations in batches, each until it is answered.
fn run_batches(shard: &mut Shard<u32>, batch_size: u32, event_count: u32) {
    for start in (0..RESERVE_BATCH * RESERVE_BATCHES).step_by(batch_size as usize) {
        for index in start..start + batch_size {
            let ask = Ask::Command(reservation(index, event_count));
            shard.take_in(Now::at(Timestamp(2000)), black_box(ask), index);
        }
        let batch = shard.begin_commit().expect("the batch has records");
        MemoryLog.append(&batch.entries, Duration::ZERO).expect("append to memory");
        shard.finish_commit(batch);
        while let Some(release) = shard.next_release() {
            black_box(release);
        }
    }
}

/// Measures the steps before and after the decision.
fn parts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parts");
    group.throughput(Throughput::Elements(1));
    group.bench_function("slot of an event", |bencher| {
        bencher.iter(|| slot_of_event(black_box(EventId(7))));
    });
    let entry = entries(1).pop().expect("one entry");
    group.bench_function("encode a record", |bencher| {
        bencher.iter(|| black_box(&black_box(&entry).record.encode()).quantity);
    });
    let (head, columns) = (SlotHead::empty(1), entry.record.encode());
    group.bench_function("checksum of a record", |bencher| {
        let stamp = entry.stamp();
        bencher.iter(|| black_box(&head).chain_next(black_box(&stamp), black_box(&columns)));
    });
    group.finish();
}

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    // Bounds the size of the files, which grow by some 200 MiB per second at batch 1000.
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for batch in COMMIT_BATCHES {
        let entries = entries(batch);
        group.throughput(Throughput::Elements(entries.len() as u64));
        for (name, synchronous) in [("full", Synchronous::Full), ("normal", Synchronous::Normal)] {
            let (mut log, _directory) = sqlite_log(synchronous);
            bench_commit(&mut group, BenchmarkId::new(name, batch), &mut log, &entries);
        }
        bench_commit(&mut group, BenchmarkId::new("memory", batch), &mut MemoryLog, &entries);
    }
}

/// Measures commits including maintenance, whose cost belongs to them.
fn bench_commit(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    log: &mut dyn Log,
    entries: &[Entry],
) {
    group.bench_function(id, |bencher| {
        bencher.iter(|| {
            log.append(black_box(entries), Duration::ZERO).expect("append to the log");
            if log.maintenance_is_due() {
                log.maintain().expect("maintain the log");
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
            // Measured without the drop, which frees memory and is not part of a recovery, but must
            // release the directory's lock before the next one.
            bencher.iter_custom(|iterations| {
                let mut took = Duration::ZERO;
                for _ in 0..iterations {
                    let start = Instant::now();
                    let recovered = storage::open(directory.path(), file_count, &Progress::default());
                    took += start.elapsed();
                    assert_eq!(recovered.expect("the directory is valid").record_count, records);
                }
                took
            });
        });
    }
}

fn entries(count: u32) -> Vec<Entry> {
    let mut shard: Shard<()> = shard_with_events(EVENT_COUNTS[0]);
    for index in 0..count {
        let ask = Ask::Command(reservation(index, EVENT_COUNTS[0]));
        shard.take_in(Now::at(Timestamp(2000)), ask, ());
    }
    shard.begin_commit().expect("the batch has records").entries
}

/// Creates a data directory of `file_count` shards with the records to recover.
fn fill(directory: &Path, file_count: usize) {
    let recovered = storage::open(directory, file_count, &Progress::default());
    let Recovered { shards, heads, epoch, .. } = recovered.expect("the directory is new");
    let shards = shards.into_iter().map(|(state, log)| (Shard::new(state, &heads, epoch), log));
    let mut shards: Vec<(Shard<()>, SqliteLog)> = shards.collect();
    let creations = (1..=RECOVERED_EVENTS).map(creation);
    let reservations = (0..RECOVERED_RECORDS).map(|index| reservation(index, RECOVERED_EVENTS));
    for (index, command) in creations.chain(reservations).enumerate() {
        let (shard, _) = &mut shards[shard_of_slot(command.slot(), file_count)];
        shard.take_in(Now::at(Timestamp(2000)), Ask::Command(command), ());
        if index % 10_000 == 0 {
            shards.iter_mut().for_each(|(shard, log)| write(shard, log));
        }
    }
    shards.iter_mut().for_each(|(shard, log)| write(shard, log));
}

fn write(shard: &mut Shard<()>, log: &mut SqliteLog) {
    if let Some(batch) = shard.begin_commit() {
        log.append(&batch.entries, Duration::ZERO).expect("append to the log");
        if log.maintenance_is_due() {
            log.maintain().expect("maintain the log");
        }
        shard.finish_commit(batch);
        while let Some(release) = shard.next_release() {
            assert!(matches!(release, Release::Answer((), Ok(_))), "tickets are left");
        }
    }
}

criterion_group!(benches, parts, reserve, commit, recover);
criterion_main!(benches);
