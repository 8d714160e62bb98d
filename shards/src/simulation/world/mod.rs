//! The simulated world: a server, its clients and its disks. The seed decides what happens in each step.
//!
//! Here are the world, its steps and its clock; `network.rs` has the messages between clients and shards,
//! `shard.rs` and `log_work.rs` do the steps of a shard's driver, `restart.rs` ends and starts processes,
//! and `checks.rs` compares what should be equal.

mod changes;
mod checks;
mod log_work;
mod network;
mod restart;
mod shard;
mod watches;

use std::collections::BTreeMap;
use std::time::Duration;

use super::disk::{Damage, Disk};
use super::oracle::{Moment, Oracle, Violation};
use super::plant::Plant;
use super::random::Random;
use super::workload::{Ids, START};
use crate::ids::{Slot, Timestamp, UserId};
use crate::outcome::Rejection;
use crate::record::Entry;
use crate::replay::Mark;
use crate::slots::shard_of_slot;
use network::{Message, SentRequest};
use shard::SimulatedShard;
use watches::Watches;

const STEPS: [u64; 2] = [100, 500];
const SUSPENSION: Duration = Duration::from_secs(60);
const HOUR_MS: u64 = 3_600_000;

pub(super) struct World {
    random: Random,
    plant: Option<Plant>,
    rates: FaultRates,
    /// The most reservations of an account in a shard.
    reservations_max: u32,
    now: u64,
    /// The most idempotency keys of a shard.
    keys_max: u64,
    /// The time since the process started.
    elapsed: Duration,
    /// The time before it started.
    earlier: Duration,
    wall: Timestamp,
    /// The steps in which no time passes.
    still: u64,
    disk: Disk,
    /// The number of the process. One that is killed before it starts its epoch leaves the epoch to the next one.
    process: u64,
    /// How far a process has read the files that found no room for its start, until it starts its epoch.
    waiting: Option<Vec<Mark>>,
    /// Batches that a killed process was writing, with their shards. It may go on writing until the next epoch.
    unfenced: Vec<(usize, Vec<Entry>)>,
    /// Empty while the server is down.
    shards: Vec<SimulatedShard>,
    wire: Vec<Message>,
    requests: Vec<SentRequest>,
    watches: Watches,
    /// Whether clients send no more requests.
    is_finishing: bool,
    ids: Ids,
    oracle: Oracle,
    /// Batches that a killed process was writing, with their shards, for [`Plant::OldEpochWrites`].
    late_writes: Vec<(usize, Vec<Entry>)>,
    /// The latest wall time that a shard was told, for [`Plant::KeepLatestTime`].
    latest_wall: Timestamp,
    /// The rejections of keys, for [`Plant::KeepRejections`].
    kept_rejections: BTreeMap<(UserId, [u8; 16]), Rejection>,
    /// The number of times that each thing happened.
    pub(super) counts: BTreeMap<&'static str, u64>,
    /// A line for each step, if a trace was asked for.
    pub(super) trace: Option<Vec<String>>,
}

/// How often things go wrong in this world: chances in 1000, per step or per commit.
struct FaultRates {
    crash: u64,
    clock_jump: u64,
    hours: u64,
    /// Messages between slots that are lost, and that come twice.
    loses: u64,
    repeats: u64,
    fills: u64,
    locks: u64,
    reads: u64,
    pause: u64,
    fails: u64,
    lies: u64,
    /// The most turns that a commit takes.
    slowness: u64,
    /// The messages in flight above which no more requests are sent. What takes several messages ends in time only if
    /// these are few.
    in_flight_max: usize,
    /// The most records of a commit.
    batch_max: usize,
    /// See [`crate::driver::Pace`]. Few, since a shard makes only some commits before it crashes.
    commits_alone_max: u32,
}

/// No world makes as many reservations as this.
const NO_LIMIT: u32 = 1000;

/// Whether a world continues.
#[derive(PartialEq, Eq)]
enum Progress {
    Continues,
    /// The process must end.
    Crashes,
    /// The server refuses to start, or records were lost without a trace: nothing is left to check.
    Ends,
}

impl World {
    pub(super) fn new(seed: u64, plant: Option<Plant>, with_trace: bool) -> World {
        let mut random = Random::new(seed);
        let mut one_in = |chance: u64, most: u64| match random.within(1, chance) {
            1 => random.within(1, most),
            _ => 0,
        };
        let hours = one_in(6, 150);
        let rates = FaultRates {
            // In a world of days, a process lives for days.
            crash: one_in(1, if hours > 0 { 4 } else { 25 }),
            clock_jump: one_in(2, 100),
            hours,
            fills: one_in(3, 40),
            fails: one_in(2, 60),
            lies: one_in(12, 300),
            locks: one_in(3, 40),
            reads: one_in(3, 40),
            loses: one_in(3, 200),
            repeats: one_in(3, 200),
            pause: one_in(2, 40),
            slowness: one_in(2, 8),
            in_flight_max: match one_in(3, 20) {
                0 => usize::MAX,
                few => 2 + few as usize,
            },
            batch_max: 1 + one_in(2, 20) as usize,
            commits_alone_max: one_in(2, 4) as u32,
        };
        let reservations_max = match random.within(1, 3) {
            1 => random.within(1, 6) as u32,
            _ => NO_LIMIT,
        };
        let keys_max = match random.within(1, 4) {
            1 => random.within(1, 8),
            _ => u64::from(NO_LIMIT),
        };
        World {
            plant,
            rates,
            now: 0,
            elapsed: Duration::ZERO,
            earlier: Duration::ZERO,
            keys_max,
            wall: START,
            still: 0,
            reservations_max,
            disk: Disk::new(random.next()),
            process: 0,
            waiting: None,
            unfenced: Vec::new(),
            shards: Vec::new(),
            wire: Vec::new(),
            requests: Vec::new(),
            watches: Watches::default(),
            is_finishing: false,
            ids: Ids::default(),
            oracle: Oracle::new(reservations_max, keys_max),
            late_writes: Vec::new(),
            latest_wall: Timestamp(0),
            kept_rejections: BTreeMap::new(),
            counts: BTreeMap::new(),
            trace: with_trace.then(Vec::new),
            random,
        }
    }

    /// # Errors
    ///
    /// The first violation.
    pub(super) fn run(&mut self) -> Result<(), Violation> {
        if self.start(&Damage::None)? == Progress::Ends {
            return Ok(());
        }
        for _ in 0..self.random.within(STEPS[0], STEPS[1]) {
            self.now += 1;
            self.let_time_pass();
            let then = match self.step()? {
                Progress::Crashes => self.crash()?,
                then => then,
            };
            if then == Progress::Ends {
                return Ok(());
            }
        }
        self.finish_requests()?;
        // A start without room writes no marks, which the check of the edited file needs.
        self.rates.fills = 0;
        for _ in 0..2 {
            if self.crash()? == Progress::Ends {
                return Ok(());
            }
        }
        self.check_acknowledged()?;
        let damage = self.disk.edit(&mut self.random);
        self.note(|| format!("a file is edited: {damage:?}"));
        self.start(&damage).map(drop)
    }

    fn step(&mut self) -> Result<Progress, Violation> {
        if self.has_chance(self.rates.crash) {
            return Ok(Progress::Crashes);
        }
        if self.has_chance(self.rates.clock_jump) {
            self.jump_clock();
        }
        if self.has_chance(self.rates.hours) && self.shards.iter().all(SimulatedShard::is_idle) {
            self.let_hours_pass();
        }
        if self.has_chance(self.rates.fills) {
            let shard = self.any_shard();
            shard.is_full = !shard.is_full;
            let full = shard.is_full;
            self.note(|| format!("a disk {}", if full { "is full" } else { "has room" }));
        }
        if self.has_chance(self.rates.locks) {
            let shard = self.any_shard();
            shard.is_locked = !shard.is_locked;
            let locked = shard.is_locked;
            self.note(|| format!("another program {} a log", if locked { "locks" } else { "unlocks" }));
        }
        if self.has_chance(self.rates.reads) {
            let shard = self.any_shard();
            shard.is_read = !shard.is_read;
            let read = shard.is_read;
            self.note(|| format!("another program {} to read a log", if read { "begins" } else { "ceases" }));
        }
        match self.random.within(0, 99) {
            0..30 if self.wire.len() < self.rates.in_flight_max => self.ask(),
            30..65 if !self.wire.is_empty() => {
                let index = self.random.within(0, self.wire.len() as u64 - 1) as usize;
                self.deliver(index);
            }
            _ => {
                let index = self.random.within(0, self.shards.len() as u64 - 1) as usize;
                return self.turn(index);
            }
        }
        Ok(Progress::Continues)
    }

    /// Lets some milliseconds pass, or, in a pause, some seconds: often just until the deadline of a hold. After a
    /// pause, time stands still for some steps, so that requests come just then.
    fn let_time_pass(&mut self) {
        if self.still > 0 {
            self.still -= 1;
            return;
        }
        let mut passed = Duration::from_millis(self.random.within(0, 5));
        if self.has_chance(self.rates.pause) {
            self.count("pauses");
            self.still = self.random.within(0, 20);
            let end = self.any_shard().driver.shard().holds_end_at().unwrap_or_default();
            passed = match end.saturating_sub(self.elapsed) {
                Duration::ZERO => Duration::from_millis(self.random.within(0, 12_000)),
                left => match self.random.within(0, 4) {
                    0 => left.saturating_sub(Duration::from_millis(1)),
                    1 => left + Duration::from_millis(1),
                    _ => left,
                },
            };
        }
        self.elapsed += passed;
        self.wall.0 += passed.as_millis() as u64;
    }

    fn jump_clock(&mut self) {
        let by = match self.random.within(0, 2) {
            0 => HOUR_MS,
            1 => 24 * 365 * 10 * HOUR_MS,
            _ => self.wall.0,
        };
        let forward = self.random.within(0, 1) == 0;
        self.wall = Timestamp(if forward { self.wall.0 + by } else { self.wall.0.saturating_sub(by) });
        // Doubling the clock again and again would overflow it.
        self.wall.0 = self.wall.0.min(1 << 50);
        self.count("clock jumps");
        let clock = self.wall;
        self.note(|| format!("the wall clock jumps to {clock:?}"));
        if self.random.within(0, 2) == 0 {
            // A clock that was not read for as long follows at once.
            self.count("suspensions");
            self.note(|| "the machine is suspended meanwhile".to_owned());
            self.elapsed += SUSPENSION;
        }
    }

    /// Lets up to twenty hours pass in which nothing happens.
    fn let_hours_pass(&mut self) {
        let minutes = self.random.within(10, 1200);
        self.count("hours pass");
        self.note(|| format!("{minutes} minutes pass"));
        self.elapsed += Duration::from_mins(minutes);
        self.wall.0 += minutes * 60_000;
    }

    /// The time since the world began, and the process.
    fn moment(&self) -> Moment {
        Moment { time: self.earlier + self.elapsed, process: self.process }
    }

    fn owner(&self, slot: Slot) -> usize {
        shard_of_slot(slot, self.shards.len())
    }

    fn any_shard(&mut self) -> &mut SimulatedShard {
        let index = self.random.within(0, self.shards.len() as u64 - 1) as usize;
        &mut self.shards[index]
    }

    fn has_chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.random.within(1, 1000) <= per_mille
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn note(&mut self, step: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:4} {}", self.now, step()));
        }
    }
}
