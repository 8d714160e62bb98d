//! The server, its clients and its disks, one step after the other: whatever
//! could happen next is drawn from the seed.

mod checks;
mod log_work;
mod network;
mod restart;
mod shard;

use std::collections::BTreeMap;
use std::time::Duration;

use super::disk::{Damage, Disk};
use super::oracle::{Oracle, Violation};
use super::plant::Plant;
use super::random::Random;
use super::workload::Ids;
use crate::ids::{Slot, Timestamp};
use crate::record::Entry;
use crate::slots::shard_of_slot;
use network::{Message, Question};
use shard::SimulatedShard;

const STEPS: [u64; 2] = [100, 500];
const HOUR_MS: u64 = 3_600_000;
/// 2023-11-14.
const START_MS: u64 = 1_700_000_000_000;

pub(super) struct World {
    random: Random,
    plant: Option<Plant>,
    nature: Nature,
    now: u64,
    /// Since the process started.
    elapsed: Duration,
    wall: Timestamp,
    disk: Disk,
    /// Empty while the server is down.
    shards: Vec<SimulatedShard>,
    wire: Vec<Message>,
    questions: Vec<Question>,
    ids: Ids,
    oracle: Oracle,
    /// What a killed process was writing, for [`Plant::OldEpochWrites`].
    late: Vec<(usize, Vec<Entry>)>,
    /// How often what happened, by name.
    pub(super) seen: BTreeMap<&'static str, u64>,
    /// Every step in words, if they are wanted.
    pub(super) steps: Option<Vec<String>>,
}

/// How bad it is in this world: chances in 1000, of each step or each commit.
struct Nature {
    crash: u64,
    clock_jump: u64,
    fills: u64,
    fails: u64,
    lies: u64,
    /// Turns that a commit takes at most.
    slowness: u64,
    /// The most records of a commit.
    batch_max: usize,
}

/// Whether a world goes on.
#[derive(PartialEq, Eq)]
enum Then {
    Goes,
    /// The process has to end.
    Crashes,
    /// The server refuses to start, or what was lost cannot be known: nothing to be judged is left.
    Ends,
}

impl World {
    pub(super) fn new(seed: u64, plant: Option<Plant>, with_steps: bool) -> World {
        let mut random = Random::new(seed);
        let mut one_in = |chance: u64, most: u64| match random.within(1, chance) {
            1 => random.within(1, most),
            _ => 0,
        };
        let nature = Nature {
            crash: one_in(1, 25),
            clock_jump: one_in(2, 100),
            fills: one_in(3, 40),
            fails: one_in(2, 60),
            lies: one_in(12, 300),
            slowness: one_in(2, 8),
            batch_max: 1 + one_in(2, 20) as usize,
        };
        World {
            plant,
            nature,
            now: 0,
            elapsed: Duration::ZERO,
            wall: Timestamp(START_MS),
            disk: Disk::new(random.next()),
            shards: Vec::new(),
            wire: Vec::new(),
            questions: Vec::new(),
            ids: Ids::default(),
            oracle: Oracle::default(),
            late: Vec::new(),
            seen: BTreeMap::new(),
            steps: with_steps.then(Vec::new),
            random,
        }
    }

    /// # Errors
    ///
    /// The first thing that should not have been.
    pub(super) fn run(&mut self) -> Result<(), Violation> {
        if self.start(&Damage::None)? == Then::Ends {
            return Ok(());
        }
        for _ in 0..self.random.within(STEPS[0], STEPS[1]) {
            self.now += 1;
            let passed = self.random.within(0, 5);
            self.elapsed += Duration::from_millis(passed);
            self.wall.0 += passed;
            let then = match self.step()? {
                Then::Crashes => self.crash()?,
                then => then,
            };
            if then == Then::Ends {
                return Ok(());
            }
        }
        self.come_to_rest()?;
        for _ in 0..2 {
            if self.crash()? == Then::Ends {
                return Ok(());
            }
        }
        self.check_acknowledged()?;
        let damage = self.disk.edit(&mut self.random);
        self.note(|| format!("somebody edits the disk: {damage:?}"));
        self.start(&damage).map(drop)
    }

    fn step(&mut self) -> Result<Then, Violation> {
        if self.has_chance(self.nature.crash) {
            return Ok(Then::Crashes);
        }
        if self.has_chance(self.nature.clock_jump) {
            self.jump();
        }
        if self.has_chance(self.nature.fills) {
            let shard = self.any_shard();
            shard.is_full = !shard.is_full;
            let full = shard.is_full;
            self.note(|| format!("a disk has {} room", if full { "no" } else { "again" }));
        }
        match self.random.within(0, 99) {
            0..30 => self.ask(),
            30..65 if !self.wire.is_empty() => {
                let index = self.random.within(0, self.wire.len() as u64 - 1) as usize;
                self.deliver(index);
            }
            _ => {
                let index = self.random.within(0, self.shards.len() as u64 - 1) as usize;
                return self.turn(index);
            }
        }
        Ok(Then::Goes)
    }

    fn jump(&mut self) {
        let by = match self.random.within(0, 2) {
            0 => HOUR_MS,
            1 => 24 * 365 * 10 * HOUR_MS,
            _ => self.wall.0,
        };
        let forward = self.random.within(0, 1) == 0;
        self.wall = Timestamp(if forward { self.wall.0 + by } else { self.wall.0.saturating_sub(by) });
        // A clock that goes on doubling would end the world some day.
        self.wall.0 = self.wall.0.min(1 << 50);
        self.count("clock jumps");
        let clock = self.wall;
        self.note(|| format!("the clock says {clock:?}"));
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
        *self.seen.entry(what).or_default() += 1;
    }

    fn note(&mut self, step: impl FnOnce() -> String) {
        if let Some(steps) = &mut self.steps {
            steps.push(format!("{:4} {}", self.now, step()));
        }
    }
}
