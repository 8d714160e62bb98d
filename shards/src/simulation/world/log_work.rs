//! A shard's log: commits, maintenance, probes, and how each of them ends.

use std::time::Duration;

use super::{Progress, World};
use crate::command::Buyer;
use crate::driver::{LogDone, Notice};
use crate::log::{self, AppendError, Hindrance, RollbackCause, Upkeep};
use crate::record::{Entry, Kind, Record};
use crate::shard::{Batch, Release};
use crate::simulation::failure;
use crate::simulation::oracle::{Violation, kind_of};
use crate::simulation::plant::Plant;
use crate::slots::shard_of_slot;

pub(super) enum LogWork {
    Append(Batch),
    Maintain,
    Probe,
}

enum WriteResult {
    Durable,
    RolledBack(RollbackCause),
    Unknown,
}

impl World {
    pub(super) fn commit(
        &mut self,
        index: usize,
        batch: Batch,
        on_worker: bool,
    ) -> Result<Progress, Violation> {
        self.note(|| format!("shard {index} commits {} records", batch.entries.len()));
        // What no request asked for takes no room.
        let is_change = |entry: &&Entry| {
            let expires = [
                Kind::HoldsExpired,
                Kind::HoldsExtended,
                Kind::KeysAged,
                Kind::OrderExpired,
                Kind::OrderSettled,
            ];
            !entry.continues && !expires.contains(&kind_of(&entry.record))
        };
        let changes = batch.entries.iter().filter(is_change).count();
        if changes > self.rates.batch_max {
            return Err(format!("a batch of {changes} changes, above the limit"));
        }
        self.plant_news(index)?;
        if self.plant == Some(Plant::MarkBeforeCommit) {
            self.disk.mark_ahead(index, &batch.entries);
        }
        if self.plant == Some(Plant::AnswerBeforeCommit) {
            let entries = batch.entries.clone();
            self.log_is_done(
                index,
                LogDone::Append {
                    batch,
                    result: Ok(log::Appended::default()),
                    waited: Duration::ZERO,
                    maintenance_is_due: false,
                },
            )?;
            while let Some(Release::Answer(request, reply)) = self.shards[index].driver.next_release() {
                self.send(request, reply)?;
            }
            return self.store(index, &entries, false).map(|()| Progress::Continues);
        }
        // An owner may use another thread where it could also commit in place.
        if on_worker || self.random.within(0, 1) < self.rates.slowness {
            self.count("commits on a worker");
            return self.start_log_work(index, LogWork::Append(batch)).map(|()| Progress::Continues);
        }
        // An owner does not wait in place for another program's lock.
        if self.shards[index].is_locked {
            self.count("commits that wait for a lock");
            if self.plant == Some(Plant::LockedLogKeepsBatch) {
                self.store(index, &batch.entries, false)?;
            }
            return self.start_log_work(index, LogWork::Append(batch)).map(|()| Progress::Continues);
        }
        self.append(index, batch)
    }

    pub(super) fn start_log_work(&mut self, index: usize, work: LogWork) -> Result<(), Violation> {
        let turns = self.random.within(0, self.rates.slowness);
        match self.shards[index].log_work.replace((work, turns)) {
            None => Ok(()),
            Some(_) => Err("a log was given work while it had some".to_owned()),
        }
    }

    pub(super) fn finish_log_work(&mut self, index: usize) -> Result<Progress, Violation> {
        let work = match self.shards[index].log_work.take() {
            None => return Ok(Progress::Continues),
            Some((work, turns @ 1..)) => {
                self.shards[index].log_work = Some((work, turns - 1));
                return Ok(Progress::Continues);
            }
            Some((work, 0)) => work,
        };
        self.shards[index].signal |= self.plant != Some(Plant::LoseSignalOfLog);
        if !matches!(work, LogWork::Append(_)) && self.has_chance(self.rates.fails) {
            self.count("failed maintenance");
            self.note(|| format!("the log of shard {index} fails in its maintenance"));
            let done = match work {
                LogWork::Probe => LogDone::Probe(Err(AppendError::Unknown(failure()))),
                LogWork::Append(_) | LogWork::Maintain => LogDone::Maintain(Err(failure())),
            };
            return self.log_is_done(index, done);
        }
        match work {
            LogWork::Append(batch) => self.append(index, batch),
            LogWork::Maintain => {
                self.disk.sync_mark(index);
                let shard = &mut self.shards[index];
                shard.journal_is_large = shard.is_read;
                let hindrance = shard.is_read.then(|| Hindrance::Readers(Vec::new()));
                let hindrance = hindrance.filter(|_| self.plant != Some(Plant::HindranceUntold));
                let upkeep = Upkeep { hindrance, ..Upkeep::default() };
                self.log_is_done(index, LogDone::Maintain(Ok(upkeep)))
            }
            LogWork::Probe => {
                let shard = &self.shards[index];
                let cause = match (shard.is_locked, shard.is_full) {
                    (true, _) => Some(RollbackCause::Locked),
                    (false, true) => Some(RollbackCause::NoRoom),
                    (false, false) => None,
                };
                if cause.is_none() && self.claim()? == Progress::Crashes {
                    return Ok(Progress::Crashes);
                }
                let result = cause.map_or(Ok(()), |cause| Err(rolled_back(cause)));
                self.log_is_done(index, LogDone::Probe(result))
            }
        }
    }

    /// Starts the epoch of a process that found no room for it, unless another process has written since.
    fn claim(&mut self) -> Result<Progress, Violation> {
        let Some(ends) = self.waiting.take() else { return Ok(Progress::Continues) };
        if !self.unfenced.is_empty() {
            self.count("files written before a late claim");
            self.note(|| "an earlier process has written".to_owned());
            if self.plant != Some(Plant::ClaimWithoutCheck) {
                return Ok(Progress::Crashes);
            }
            self.write_unfenced()?;
        }
        self.count("late claims");
        self.disk.start_epoch(self.shards.len(), &ends);
        Ok(Progress::Continues)
    }

    /// Stores what a killed process was still writing.
    pub(super) fn write_unfenced(&mut self) -> Result<(), Violation> {
        for (index, entries) in std::mem::take(&mut self.unfenced) {
            self.store(index, &entries, false)?;
        }
        Ok(())
    }

    /// Reports to the driver, and returns whether the process continues.
    fn log_is_done(&mut self, index: usize, done: LogDone) -> Result<Progress, Violation> {
        match self.shards[index].driver.log_is_done(done) {
            Err(_) => Ok(Progress::Crashes),
            Ok(Notice::ReadOnly { cause, .. }) => {
                self.count(match cause {
                    RollbackCause::NoRoom => "full logs",
                    RollbackCause::Locked => "locked logs",
                });
                self.note(|| format!("shard {index} is read-only: {cause:?}"));
                let process = self.process;
                let in_shard =
                    self.requests.iter_mut().filter(|one| one.process == process && one.shard_index == index);
                in_shard.for_each(|one| one.taken_in = None);
                let shard_count = self.shards.len();
                self.oracle.rolled_back(|slot| shard_of_slot(slot, shard_count) == index);
                self.compare_with_disk(Some(index))?;
                Ok(Progress::Continues)
            }
            Ok(Notice::Writable { cause }) => {
                self.count(match cause {
                    RollbackCause::NoRoom => "logs with room again",
                    RollbackCause::Locked => "logs unlocked again",
                });
                self.note(|| format!("shard {index} takes changes again"));
                Ok(Progress::Continues)
            }
            Ok(Notice::Committed { .. }) => {
                self.count("commits");
                Ok(Progress::Continues)
            }
            Ok(Notice::Maintained(upkeep)) => {
                if upkeep.hindrance.is_some() {
                    self.count("hindered maintenance");
                }
                Ok(Progress::Continues)
            }
            Ok(Notice::StillReadOnly) => Ok(Progress::Continues),
        }
    }

    /// Appends a batch and reports to the driver.
    fn append(&mut self, index: usize, mut batch: Batch) -> Result<Progress, Violation> {
        let mut appended = self.write(index, &batch)?;
        match (&appended, self.plant) {
            (WriteResult::RolledBack(RollbackCause::NoRoom), Some(Plant::TakeFullForDone))
            | (WriteResult::RolledBack(RollbackCause::Locked), Some(Plant::TakeLockedForDone)) => {
                appended = WriteResult::Durable;
            }
            (WriteResult::RolledBack(RollbackCause::NoRoom), Some(Plant::FullLogKeepsBatch)) => {
                self.store(index, &batch.entries, false)?
            }
            (WriteResult::RolledBack(_), Some(Plant::KeepLastOfRolledBack)) => drop(batch.entries.pop()),
            (WriteResult::Unknown, Some(Plant::TakeUnknownForFull)) => {
                appended = WriteResult::RolledBack(RollbackCause::NoRoom);
                if self.random.within(0, 1) == 1 {
                    self.store(index, &batch.entries, false)?;
                }
            }
            _ => {}
        }
        let result = match appended {
            WriteResult::Durable => {
                self.shards[index].commits += 1;
                Ok(log::Appended::default())
            }
            WriteResult::RolledBack(cause) => Err(rolled_back(cause)),
            WriteResult::Unknown => {
                // The crash decides what is on disk.
                self.shards[index].log_work = Some((LogWork::Append(batch), 0));
                return Ok(Progress::Crashes);
            }
        };
        let maintenance_is_due = self.shards[index].commits >= 4;
        if maintenance_is_due {
            self.shards[index].commits = 0;
        }
        let waited = Duration::from_micros(self.random.within(0, 300 + 2000 * self.rates.slowness));
        self.log_is_done(index, LogDone::Append { batch, result, waited, maintenance_is_due })
    }

    fn write(&mut self, index: usize, batch: &Batch) -> Result<WriteResult, Violation> {
        if self.has_chance(self.rates.fails) {
            self.count("failed commits");
            self.note(|| format!("the log of shard {index} fails"));
            return Ok(WriteResult::Unknown);
        }
        if self.shards[index].is_locked {
            return Ok(WriteResult::RolledBack(RollbackCause::Locked));
        }
        // A single record may still fit.
        if self.shards[index].is_full && (batch.entries.len() > 1 || self.has_chance(800)) {
            return Ok(WriteResult::RolledBack(RollbackCause::NoRoom));
        }
        if self.shards[index].is_full {
            self.count("commits while the disk is full");
        }
        let lie = self.has_chance(self.rates.lies);
        self.store(index, &batch.entries, lie)?;
        self.disk.mark(index);
        Ok(WriteResult::Durable)
    }

    /// Puts a whole batch on disk. If `lie`, a power cut may lose it.
    pub(super) fn store(&mut self, index: usize, entries: &[Entry], lie: bool) -> Result<(), Violation> {
        self.disk.append(index, entries, lie);
        let shard_count = self.disk.last_shard_count().expect("a process has started");
        self.oracle.pass(self.moment());
        for entry in entries {
            self.count(kind_of(&entry.record).name());
            if let Record::Reserved { by, buyer: Buyer::Account(customer), .. } = entry.record
                && by.user != customer
            {
                self.count("reservations made by another account");
            }
            if let Record::Reserved { by, .. } = entry.record
                && by.key().is_some()
            {
                self.count("reservations made with an API key");
            }
            self.count_buyers(&entry.record);
            if let Record::Confirmed { given_back: 1.., .. } = entry.record {
                self.count("holds confirmed in part");
            }
            if let Record::HoldsExpired { event, up_to, .. } = entry.record {
                let ended = self.oracle.holds_up_to(event, up_to);
                if ended.len() > 1 {
                    self.count("expiries of several holds");
                }
                if ended.contains(&up_to) {
                    self.count("expiries at the deadline");
                }
            }
            if matches!(entry.record, Record::ApiKeyEnded { .. }) && entry.continues {
                self.count("API keys forgotten");
            }
            if let Record::EventEdited(edited) = &entry.record
                && edited.organizer.is_some()
            {
                self.count("hand-overs");
            }
            let keys = self.oracle.key_count();
            self.oracle.add_record(entry, |slot| shard_of_slot(slot, shard_count) == index)?;
            if self.oracle.key_count() < keys {
                self.count("keys forgotten");
            }
        }
        let rows = self.disk.row_count(index);
        self.note(|| {
            format!("shard {index} has {rows} rows on disk{}", if lie { ", not synced" } else { "" })
        });
        Ok(())
    }
}

impl World {
    fn count_buyers(&mut self, record: &Record) {
        if let Record::Transferred(transferred) = record {
            if transferred.part.is_some() {
                self.count("transfers of a part");
            }
            if matches!(transferred.to, Buyer::Ref(_)) {
                self.count("transfers to refs");
            }
        } else if let Some(gain) = record.gain() {
            match gain.buyer {
                Buyer::Account(_) => {}
                Buyer::Ref(_) => self.count("sales to refs"),
                Buyer::Guest => self.count("sales to guests"),
                Buyer::Block => self.count("blocks"),
            }
        }
    }
}

fn rolled_back(cause: RollbackCause) -> AppendError {
    AppendError::RolledBack { cause, error: failure() }
}
