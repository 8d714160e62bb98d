//! The whole domain driven from one seed, without I/O, threads or a clock:
//! clients, messages, shards, logs and restarts, and everything that may go
//! wrong with them, in an order that the seed says.
//!
//! 10,000 seeds, or as many as `BOXOFFICE_SEEDS` says, the first of them drawn
//! from the clock or given by `BOXOFFICE_TEST_SEED`. A seed that fails prints
//! its steps, and the command that runs it alone.
//!
//! Real here: `Driver`, `Shard`, `ShardState`, the clock, the epochs, and the replay check of
//! each row. Simulated: what does the driver's steps (in the
//! server it is tied to the runtime), the mesh, and SQLite's files.

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
use coverage::{Seen, TO_BE_SEEN, merge};
use plant::Plant;
use random::Random;
use world::World;

const SEEDS: u64 = 10_000;

/// What a log says of itself when it fails; nobody reads it.
fn failure() -> LogError {
    LogError { action: "simulate", place: "log".to_owned(), source: "a failure".into() }
}

/// # Errors
///
/// What went wrong.
fn run(seed: u64, plant: Option<Plant>) -> Result<Seen, String> {
    let mut world = World::new(seed, plant, false);
    outcome(&mut world).map(|()| world.seen)
}

fn outcome(world: &mut World) -> Result<(), String> {
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        Err(format!("a panic: {}", text.unwrap_or_default()))
    })
}

/// The steps of a seed in words, and what went wrong in the end.
fn story(seed: u64) -> String {
    let mut world = World::new(seed, None, true);
    let outcome = outcome(&mut world);
    let steps = world.steps.unwrap_or_default().join("\n");
    let end =
        outcome.map_or_else(|violation| format!("VIOLATED: {violation}"), |()| "all is well".to_owned());
    format!("{steps}\n{end}")
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
        println!("{}", story(first));
    }
    let next = AtomicU64::new(0);
    let worker = || {
        let mut seen = Seen::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return seen;
            }
            let seed = first.wrapping_add(index);
            match run(seed, None) {
                Ok(more) => merge(&mut seen, more),
                Err(violation) => {
                    // Enough was found.
                    next.store(count, Ordering::Relaxed);
                    panic!(
                        "{}\n\nseed {seed}: {violation}\nonce more:\n  BOXOFFICE_TEST_SEED={seed} \
                         BOXOFFICE_SEEDS=1 cargo test -p shards simulation::whatever -- --nocapture\n",
                        story(seed)
                    );
                }
            }
        }
    };
    let seen = thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, |count| count.get());
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let mut seen = Seen::new();
        for worker in workers {
            merge(&mut seen, worker.join().expect("what failed is printed above"));
        }
        seen
    });
    println!("{count} seeds from {first} on in {:.1} s: {seen:#?}", start.elapsed().as_secs_f64());
    if count >= SEEDS {
        let wanted = TO_BE_SEEN.into_iter().chain(Kind::ALL.map(Kind::name));
        let missing: Vec<_> = wanted.filter(|what| !seen.contains_key(what)).collect();
        assert!(missing.is_empty(), "never seen: {missing:?}");
    }
}

#[test]
fn a_seed_always_tells_the_same_story() {
    for seed in 0..100 {
        assert_eq!(story(seed), story(seed), "seed {seed}");
    }
    assert_ne!(story(0), story(1));
}

#[test]
fn planted_bugs_are_found() {
    let mut lost = Vec::new();
    for plant in Plant::ALL {
        let found = (0..SEEDS).find_map(|seed| Some((seed, run(seed, Some(plant)).err()?)));
        match found {
            Some((seed, violation)) => {
                let violation: String = violation.chars().take(200).collect();
                println!("{plant:?} is found by seed {seed}: {violation}");
            }
            None => lost.push(plant),
        }
    }
    assert!(lost.is_empty(), "not found in {SEEDS} seeds: {lost:?}");
}
