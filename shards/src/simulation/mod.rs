//! A simulation of the whole domain, without I/O, threads or a clock: clients, messages, shards, logs,
//! restarts and faults, in an order that a seed decides.
//!
//! A test runs 10,000 seeds, or `BOXOFFICE_SEEDS`. The first one comes from the machine's clock or from
//! `BOXOFFICE_TEST_SEED`. A seed that fails prints its trace and the command that runs it alone.
//!
//! Real are `Driver`, `Shard`, `ShardState`, the clock, the epochs, and the replay check of each row.
//! Simulated are the owner of the driver (in the server: the pump, which needs the runtime), the mesh, and
//! SQLite's files.

mod coverage;
mod disk;
mod oracle;
mod plant;
#[path = "../../../tests/support/random.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod random;
mod workload;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::log::LogError;
use crate::record::Kind;
use coverage::{Counts, EXPECTED, merge};
use plant::Plant;
use random::Random;
use world::World;

const SEEDS: u64 = 10_000;

/// The error of a log that fails. Its text is not used.
fn failure() -> LogError {
    LogError { action: "simulate", place: "log".to_owned(), source: "simulated failure".into() }
}

/// # Errors
///
/// The first violation.
fn run(seed: u64, plant: Option<Plant>) -> Result<Counts, String> {
    let mut world = World::new(seed, plant, false);
    outcome(&mut world).map(|()| world.counts)
}

fn outcome(world: &mut World) -> Result<(), String> {
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

/// The steps of a seed, one a line, and how it ended.
fn trace(seed: u64) -> String {
    let mut world = World::new(seed, None, true);
    let outcome = outcome(&mut world);
    let lines = world.trace.unwrap_or_default().join("\n");
    let end =
        outcome.map_or_else(|violation| format!("VIOLATION: {violation}"), |()| "no violation".to_owned());
    format!("{lines}\n{end}")
}

fn seeds_wanted() -> u64 {
    let given = std::env::var("BOXOFFICE_SEEDS").ok();
    given.map_or(SEEDS, |text| text.parse().expect("BOXOFFICE_SEEDS is a whole number"))
}

#[test]
fn whatever_happens_nothing_acknowledged_is_lost() {
    let (start, count) = (Instant::now(), seeds_wanted());
    let first = Random::seeded().seed();
    if count == 1 {
        println!("{}", trace(first));
    }
    let next = AtomicU64::new(0);
    let worker = || {
        let mut counts = Counts::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return counts;
            }
            let seed = first.wrapping_add(index);
            match run(seed, None) {
                Ok(more) => merge(&mut counts, more),
                Err(violation) => {
                    // One violation is enough.
                    next.store(count, Ordering::Relaxed);
                    panic!(
                        "{}\n\nseed {seed}: {violation}\nto repeat it:\n  BOXOFFICE_TEST_SEED={seed} \
                         BOXOFFICE_SEEDS=1 cargo test -p shards simulation::whatever -- --nocapture\n",
                        trace(seed)
                    );
                }
            }
        }
    };
    let counts = thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, |count| count.get());
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let mut counts = Counts::new();
        for worker in workers {
            merge(&mut counts, worker.join().expect("the violation is printed above"));
        }
        counts
    });
    println!("{count} seeds from {first} on in {:.1} s: {counts:#?}", start.elapsed().as_secs_f64());
    if count >= SEEDS {
        let wanted = EXPECTED.into_iter().chain(Kind::ALL.map(Kind::name));
        let missing: Vec<_> = wanted.filter(|what| !counts.contains_key(what)).collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
    }
}

#[test]
fn a_seed_always_gives_the_same_trace() {
    for seed in 0..100 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
    assert_ne!(trace(0), trace(1));
}

#[test]
fn planted_bugs_are_found() {
    let mut not_found = Vec::new();
    for plant in Plant::ALL {
        let found = (0..SEEDS).find_map(|seed| Some((seed, run(seed, Some(plant)).err()?)));
        match found {
            Some((seed, violation)) => {
                let violation: String = violation.chars().take(200).collect();
                println!("{plant:?} is found by seed {seed}: {violation}");
            }
            None => not_found.push(plant),
        }
    }
    assert!(not_found.is_empty(), "not found in {SEEDS} seeds: {not_found:?}");
}
