//! What a shard's log does, and what comes of it.

use std::time::Duration;

use super::{Then, World};
use crate::driver::{LogDone, Notice};
use crate::log::{self, AppendError, Upkeep};
use crate::record::Entry;
use crate::shard::{Batch, Release};
use crate::simulation::failure;
use crate::simulation::oracle::{Violation, kind_of};
use crate::simulation::plant::Plant;

pub(super) enum LogWork {
    Append(Batch),
    Maintain,
    Probe,
}

enum Appended {
    Durable,
    RolledBack,
    Unknown,
}

impl World {
    pub(super) fn commit(&mut self, index: usize, batch: Batch, beside: bool) -> Result<Then, Violation> {
        self.note(|| format!("shard {index} commits {} records", batch.entries.len()));
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
            while let Some(Release::Answer(question, reply)) = self.shards[index].driver.next_release() {
                self.send(question, reply)?;
            }
            return self.keep(index, &entries, false).map(|()| Then::Goes);
        }
        // An owner may also commit on another thread what it could commit in place.
        if beside || self.random.within(0, 1) < self.nature.slowness {
            self.count("commits that take their time");
            self.start_log_work(index, LogWork::Append(batch));
            return Ok(Then::Goes);
        }
        self.append(index, batch)
    }

    pub(super) fn start_log_work(&mut self, index: usize, work: LogWork) {
        let turns = self.random.within(0, self.nature.slowness);
        self.shards[index].log_work = Some((work, turns));
    }

    pub(super) fn finish_log_work(&mut self, index: usize) -> Result<Then, Violation> {
        let work = match self.shards[index].log_work.take() {
            None => return Ok(Then::Goes),
            Some((work, turns @ 1..)) => {
                self.shards[index].log_work = Some((work, turns - 1));
                return Ok(Then::Goes);
            }
            Some((work, 0)) => work,
        };
        if !matches!(work, LogWork::Append(_)) && self.has_chance(self.nature.fails) {
            self.count("failed upkeep");
            self.note(|| format!("the log of shard {index} fails in its upkeep"));
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
                self.log_is_done(index, LogDone::Maintain(Ok(Upkeep::default())))
            }
            LogWork::Probe if self.shards[index].is_full => {
                self.log_is_done(index, LogDone::Probe(Err(AppendError::RolledBack(failure()))))
            }
            LogWork::Probe => {
                self.count("logs with room again");
                self.note(|| format!("shard {index} has room again"));
                self.log_is_done(index, LogDone::Probe(Ok(())))
            }
        }
    }

    /// Tells the driver, which says whether the process goes on.
    fn log_is_done(&mut self, index: usize, done: LogDone) -> Result<Then, Violation> {
        match self.shards[index].driver.log_is_done(done) {
            Err(_) => Ok(Then::Crashes),
            Ok(Notice::LogIsFull(_)) => {
                self.count("full logs");
                self.note(|| format!("shard {index} has no room"));
                self.compare_with_disk(Some(index))?;
                Ok(Then::Goes)
            }
            Ok(Notice::Committed { .. }) => {
                self.count("commits");
                Ok(Then::Goes)
            }
            Ok(Notice::LogIsStillFull | Notice::LogHasRoom | Notice::Maintained(_)) => Ok(Then::Goes),
        }
    }

    /// The log's work, and what the driver makes of it.
    fn append(&mut self, index: usize, mut batch: Batch) -> Result<Then, Violation> {
        let mut appended = self.write(index, &batch)?;
        match (&appended, self.plant) {
            (Appended::RolledBack, Some(Plant::TakeFullForDone)) => appended = Appended::Durable,
            (Appended::RolledBack, Some(Plant::FullLogKeepsBatch)) => {
                self.keep(index, &batch.entries, false)?
            }
            (Appended::RolledBack, Some(Plant::KeepLastOfRolledBack)) => drop(batch.entries.pop()),
            (Appended::Unknown, Some(Plant::TakeUnknownForFull)) => {
                appended = Appended::RolledBack;
                if self.random.within(0, 1) == 1 {
                    self.keep(index, &batch.entries, false)?;
                }
            }
            _ => {}
        }
        let result = match appended {
            Appended::Durable => {
                self.shards[index].commits += 1;
                Ok(log::Appended::default())
            }
            Appended::RolledBack => Err(AppendError::RolledBack(failure())),
            Appended::Unknown => {
                // What became of it is drawn with the crash.
                self.shards[index].log_work = Some((LogWork::Append(batch), 0));
                return Ok(Then::Crashes);
            }
        };
        let maintenance_is_due = self.shards[index].commits >= 4;
        if maintenance_is_due {
            self.shards[index].commits = 0;
        }
        let waited = Duration::from_micros(self.random.within(0, 300 * (1 + self.nature.slowness)));
        self.log_is_done(index, LogDone::Append { batch, result, waited, maintenance_is_due })
    }

    fn write(&mut self, index: usize, batch: &Batch) -> Result<Appended, Violation> {
        if self.has_chance(self.nature.fails) {
            self.count("failed commits");
            self.note(|| format!("the log of shard {index} fails"));
            return Ok(Appended::Unknown);
        }
        // What is small may fit all the same.
        if self.shards[index].is_full && (batch.entries.len() > 1 || self.has_chance(800)) {
            return Ok(Appended::RolledBack);
        }
        if self.shards[index].is_full {
            self.count("commits while the disk is full");
        }
        let lie = self.has_chance(self.nature.lies);
        self.keep(index, &batch.entries, lie)?;
        self.disk.mark(index);
        Ok(Appended::Durable)
    }

    /// Puts a batch on disk, whole.
    pub(super) fn keep(&mut self, index: usize, entries: &[Entry], lie: bool) -> Result<(), Violation> {
        self.disk.append(index, entries, lie);
        for entry in entries {
            self.count(kind_of(&entry.record).name());
            self.oracle.add_record(entry)?;
        }
        let rows = self.disk.row_count(index);
        self.note(|| {
            format!("shard {index} has {rows} rows on disk{}", if lie { ", says a liar" } else { "" })
        });
        Ok(())
    }
}
