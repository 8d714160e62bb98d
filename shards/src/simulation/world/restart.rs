//! The end of a process, and the start of the next one.

use super::checks::compare;
use super::log_work::LogWork;
use super::network::Message;
use super::shard::SimulatedShard;
use super::{Progress, World};
use crate::clock::Clock;
use crate::driver::{Driver, Pace};
use crate::ids::{Epoch, Timestamp};
use crate::log::RollbackCause;
use crate::shard::Shard;
use crate::simulation::disk::{Damage, Replayed};
use crate::simulation::oracle::Violation;
use crate::simulation::plant::Plant;
use crate::simulation::workload::Ids;

const SHARDS_MAX: u64 = 5;

impl World {
    /// Kills the process and starts the next one, sometimes after a power cut.
    pub(super) fn crash(&mut self) -> Result<Progress, Violation> {
        self.count("crashes");
        self.note(|| "the process is killed".to_owned());
        let mut under_way = Vec::new();
        let mut ended = Vec::new();
        for (index, SimulatedShard { driver, log_work, .. }) in self.shards.drain(..).enumerate() {
            let mut shard = driver.into_shard();
            // Rolling back, as for a full log, leads to the committed state.
            let batch = match log_work {
                Some((LogWork::Append(batch), _)) => {
                    under_way.push((index, batch.entries.clone()));
                    Some(batch)
                }
                Some((LogWork::Maintain | LogWork::Probe, _)) | None => shard.begin_commit(),
            };
            if let Some(batch) = batch {
                shard.roll_back(batch, RollbackCause::NoRoom);
            }
            ended.push(shard);
        }
        self.watches.clear();
        self.waiting = None;
        let replayed = self.replay(ended.len())?;
        for (index, shard) in ended.iter().enumerate() {
            compare(index, shard.state(), &replayed.states[index])?;
        }
        self.write_unfenced()?;
        for (index, entries) in under_way {
            match self.random.within(0, 2) {
                _ if self.plant == Some(Plant::OldEpochWrites) => self.late_writes.push((index, entries)),
                0 => {
                    self.count("crashes in a commit: all of it is on disk");
                    self.store(index, &entries, false)?;
                    if self.random.within(0, 1) == 1 {
                        self.disk.mark(index);
                    }
                }
                1 => {
                    self.count("crashes in a commit: nothing of it is");
                    self.unfenced.push((index, entries));
                }
                // Cut off when the file is opened.
                _ => self.count("crashes in a commit: torn"),
            }
        }
        let random = &mut self.random;
        // Messages between slots may arrive at the next process.
        self.wire.retain(|message| match message {
            Message::Reply { .. } | Message::Between(_) => random.within(0, 1) == 1,
            Message::Request(_) => false,
        });
        if self.random.within(0, 1) == 0 {
            return self.start(&Damage::None);
        }
        self.count("power cuts");
        self.unfenced.clear();
        self.note(|| "the machine loses power".to_owned());
        let damage = self.disk.lose_power(&mut self.random);
        self.start(&damage)
    }

    /// Starts a process: recovers, checks the result, and continues with it.
    pub(super) fn start(&mut self, damage: &Damage) -> Result<Progress, Violation> {
        let shard_count = self.random.within(1, SHARDS_MAX) as usize;
        self.note(|| format!("the server starts with {shard_count} shards on a disk with damage {damage:?}"));
        let replayed = self.disk.replay(shard_count, self.plant);
        if !damage.fits(&replayed) {
            let result = replayed.map(|_| "accepted").map_err(|refusal| refusal.to_string());
            return Err(format!("recovery of a disk with damage {damage:?}: {result:?}"));
        }
        let (Ok(replayed), Damage::None) = (replayed, damage) else {
            self.count(match damage {
                Damage::None => unreachable!("a disk without damage is accepted"),
                Damage::LostTail => "damage: lost tail",
                Damage::Lost(_) => "damage: lost",
                Damage::Checksum(..) => "damage: checksum",
                Damage::Time(..) => "damage: time",
                Damage::Rewritten(_) => "damage: rewritten",
                Damage::Refused => "damage: other",
            });
            return Ok(Progress::Ends);
        };
        if self.has_chance(50) {
            self.count("interrupted starts");
            return self.start(damage);
        }
        self.count("starts");
        if self.disk.last_shard_count().is_some_and(|before| before != shard_count) {
            self.count("starts with another shard count");
        }
        let Replayed { states, mut heads, ends } = replayed;
        let last = self.disk.last_epoch();
        let has_room = self.rates.fills == 0 || last == Epoch(0) || self.random.within(0, 3) > 0;
        if has_room {
            self.unfenced.clear();
            self.disk.start_epoch(shard_count, &ends);
        } else {
            self.count("starts without room");
            self.note(|| "there is no room for a start".to_owned());
            self.disk.sync();
            self.waiting = Some(ends);
        }
        let epoch = Epoch(last.0 + 1);
        if self.has_chance(50) {
            self.count("interrupted starts");
            self.waiting = None;
            return self.start(damage);
        }
        self.process += 1;
        self.ids.event = states.iter().map(|state| state.highest_ids().0.0).max().unwrap_or(0);
        self.ids.user = states.iter().map(|state| state.highest_ids().1.0).max().unwrap_or(0);
        match self.plant {
            Some(Plant::ForgetIds) => self.ids = Ids::default(),
            Some(Plant::ForgetTimes) => heads.iter_mut().for_each(|head| head.at = Timestamp(0)),
            _ => {}
        }
        self.earlier += std::mem::take(&mut self.elapsed);
        self.oracle.process_begun();
        if has_room {
            // Otherwise, what the earlier process was writing may still reach the files.
            self.oracle.process_ended();
        }
        let mut pace = Pace::USUAL;
        pace.commits_alone_max = self.rates.commits_alone_max;
        let reservations_max = match self.plant {
            Some(Plant::ForgetAccountLimit) => u32::MAX,
            Some(Plant::AccountLimitTooLow) => self.reservations_max - 1,
            _ => self.reservations_max,
        };
        let keys_max = self.keys_max;
        // Few of the latest records are kept, or none.
        let recent_bytes_max = self.random.within(0, 6) as usize * 256;
        let left_large = self.has_chance(100);
        let shards = states.into_iter().map(|state| {
            let mut shard = Shard::new(state, &heads, epoch)
                .with_reservations_max(reservations_max)
                .with_keys_max(keys_max)
                .with_recent_bytes_max(recent_bytes_max);
            if !has_room {
                shard = shard.refusing(RollbackCause::NoRoom);
            }
            let mut driver = Driver::new(shard, self.rates.batch_max, pace);
            // A log whose journal was left large says so.
            if left_large && has_room {
                driver.maintain_first();
            }
            SimulatedShard { is_full: !has_room, ..SimulatedShard::new(driver, Clock::new(self.wall)) }
        });
        self.shards = shards.collect();
        if has_room {
            for (index, entries) in std::mem::take(&mut self.late_writes) {
                if index < shard_count {
                    self.disk.append(index, &entries, false);
                }
            }
        }
        self.check_shards()?;
        Ok(Progress::Continues)
    }
}
