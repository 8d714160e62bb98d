//! The order of a shard's steps, as a state machine: take in, decide, gather, commit, release, roll back,
//! probe, maintain, wake.
//!
//! Pure: it opens no file, waits for nothing and reads no clock. Its owner calls [`Driver::step`] and does
//! what that says, with a real log and a real clock in the server, with simulated ones in the simulation.
//! While one batch is being made durable the next one fills, so that one sync of the disk serves every
//! request that came meanwhile (group commit).

mod batching;

use std::time::Duration;

use crate::clock::Now;
use crate::command::{Ask, Command};
use crate::ids::Slot;
use crate::limits::BATCH_MAX;
use crate::log::{AppendError, Appended, LogError, Upkeep};
use crate::outcome::Reply;
use crate::shard::{Batch, Release, Shard};
use crate::slots::SlotSet;
use batching::Batching;
pub use batching::{Gather, Pace};

/// How long a full log is left alone before it is tried again.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// A shard with what drives it. `A` is the asker: where an answer goes.
#[derive(Debug)]
pub struct Driver<A> {
    shard: Shard<A>,
    log: LogUse,
    batching: Batching,
    /// The most records of a commit.
    batch_max: usize,
    phase: Phase,
    maintenance_is_due: bool,
    /// When a full log is tried again.
    probe_at: Option<Duration>,
    stopping: bool,
}

/// What the log is doing. It does one thing at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogUse {
    Idle,
    Busy,
}

/// Where a round of steps is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    TakeIn,
    Commit,
    Rest,
}

/// What the owner of a driver has to do next.
#[derive(Debug)]
pub enum Step<A> {
    Answer(A, Reply),
    /// Send a command to the owner of its slot. It needs no answer.
    Send(Slot, Command),
    /// Give at most so many of the requests that wait to [`Driver::take_in`].
    TakeIn(usize),
    /// Let clients and other tasks run, so that more requests can join the batch, then call
    /// [`Driver::gathered`].
    Gather(Gather),
    /// Append the batch to the log, and say how it went by [`Driver::log_is_done`].
    Append {
        batch: Batch,
        /// On another thread: the disk is slow. Else where the owner runs.
        beside: bool,
    },
    /// Run the log's upkeep on another thread, and say how it went by [`Driver::log_is_done`].
    Maintain,
    /// Try on another thread whether the log has room again, and say so by [`Driver::log_is_done`].
    Probe,
    /// Let other tasks run; then go on, since requests wait.
    Yield,
    /// Go on when a request comes, when the log is done, or at this time.
    Wait {
        until: Option<Duration>,
    },
    /// Close the log: all is done.
    Stop,
}

/// What the log has done.
#[derive(Debug)]
pub enum LogDone {
    Append {
        batch: Batch,
        result: Result<Appended, AppendError>,
        /// How long the thread waited for the disk.
        waited: Duration,
        /// The log has upkeep to do.
        maintenance_is_due: bool,
    },
    Maintain(Result<Upkeep, LogError>),
    Probe(Result<(), AppendError>),
}

/// What an operator may want to know of the log's work.
#[derive(Debug)]
pub enum Notice {
    Committed { records: usize },
    LogIsFull(LogError),
    LogIsStillFull,
    LogHasRoom,
    Maintained(Upkeep),
}

impl<A> Driver<A> {
    pub fn new(shard: Shard<A>, batch_max: usize, pace: Pace) -> Driver<A> {
        Driver {
            shard,
            log: LogUse::Idle,
            batching: Batching::new(pace),
            batch_max,
            phase: Phase::TakeIn,
            maintenance_is_due: false,
            probe_at: None,
            stopping: false,
        }
    }

    pub fn shard(&self) -> &Shard<A> {
        &self.shard
    }

    /// The shard as it stands, for a process that ends without another step.
    pub fn into_shard(self) -> Shard<A> {
        self.shard
    }

    /// Takes in a request, in answer to [`Step::TakeIn`].
    pub fn take_in(&mut self, now: Now, ask: Ask, asker: A) {
        self.batching.count_request();
        self.shard.take_in(now, ask, asker);
    }

    /// Others had a turn, in answer to [`Step::Gather`]. `news`: whether anything came of it.
    pub fn gathered(&mut self, news: bool) {
        self.batching.gathered(news);
    }

    /// Stops when nothing is left to do. No more requests may come.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// What to do now. `elapsed` gives the time since the process started, and is called only where it
    /// matters; `requests_wait` says whether [`Step::TakeIn`] would find any.
    pub fn step(&mut self, elapsed: impl Fn() -> Duration, requests_wait: bool) -> Step<A> {
        if let Some(release) = self.next_release() {
            return match release {
                Release::Answer(asker, reply) => Step::Answer(asker, reply),
                Release::Message(slot, command) => Step::Send(slot, command),
            };
        }
        if self.maintenance_is_due && self.log == LogUse::Idle {
            self.maintenance_is_due = false;
            self.log = LogUse::Busy;
            return Step::Maintain;
        }
        let room = self.batch_max.saturating_sub(self.shard.open_records());
        loop {
            match self.phase {
                Phase::TakeIn => {
                    self.phase = Phase::Commit;
                    if requests_wait && room > 0 {
                        return Step::TakeIn(room.min(BATCH_MAX));
                    }
                }
                Phase::Commit => {
                    self.phase = Phase::Rest;
                    if self.log == LogUse::Idle
                        && let Some(step) = self.use_log(&elapsed, room == 0)
                    {
                        return step;
                    }
                }
                Phase::Rest => {
                    self.phase = Phase::TakeIn;
                    return if requests_wait && (room > 0 || self.log == LogUse::Idle) {
                        Step::Yield
                    } else if self.stopping && self.log == LogUse::Idle {
                        assert!(self.shard.is_at_rest(), "an answer was left behind");
                        Step::Stop
                    } else {
                        Step::Wait { until: self.probe_at }
                    };
                }
            }
        }
    }

    /// An answer or a message that may leave now. [`Driver::step`] gives these out before anything else.
    pub fn next_release(&mut self) -> Option<Release<A>> {
        self.shard.next_release()
    }

    /// What an idle log is used for now, if anything.
    fn use_log(&mut self, elapsed: &impl Fn() -> Duration, batch_is_full: bool) -> Option<Step<A>> {
        if self.shard.is_read_only() {
            let elapsed = elapsed();
            if self.stopping || elapsed < *self.probe_at.get_or_insert(elapsed + PROBE_EVERY) {
                return None;
            }
            self.probe_at = None;
            self.log = LogUse::Busy;
            return Some(Step::Probe);
        }
        if self.shard.open_records() == 0 {
            return None;
        }
        if let Some(gather) = self.batching.gather(elapsed(), batch_is_full) {
            self.phase = Phase::TakeIn;
            return Some(Step::Gather(gather));
        }
        let batch = self.shard.begin_commit()?;
        self.log = LogUse::Busy;
        Some(Step::Append { batch, beside: self.batching.disk_is_slow() })
    }

    /// The log has done what a step said.
    ///
    /// # Errors
    ///
    /// When nobody knows what is on disk, so that the process has to end: memory is ahead of the disk, and
    /// a restart recovers what is certain.
    pub fn log_is_done(&mut self, done: LogDone) -> Result<Notice, LogError> {
        assert_eq!(self.log, LogUse::Busy, "the log had nothing to do");
        self.log = LogUse::Idle;
        match done {
            LogDone::Append { batch, result: Ok(Appended { fenced }), waited, maintenance_is_due } => {
                assert_eq!(fenced, SlotSet::EMPTY, "the files of a locked directory have one owner");
                let records = batch.entries.len();
                self.batching.committed(records, waited);
                self.maintenance_is_due = maintenance_is_due;
                self.shard.finish_commit(batch);
                Ok(Notice::Committed { records })
            }
            LogDone::Append { batch, result: Err(AppendError::RolledBack(error)), .. } => {
                self.batching.rolled_back();
                self.shard.roll_back(batch);
                // The probe is due in time, also when nobody asks for anything more.
                self.phase = Phase::Commit;
                Ok(Notice::LogIsFull(error))
            }
            LogDone::Probe(Ok(())) => {
                self.shard.resume();
                Ok(Notice::LogHasRoom)
            }
            LogDone::Probe(Err(AppendError::RolledBack(_))) => Ok(Notice::LogIsStillFull),
            LogDone::Maintain(Ok(upkeep)) => Ok(Notice::Maintained(upkeep)),
            LogDone::Append { result: Err(AppendError::Unknown(error)), .. }
            | LogDone::Probe(Err(AppendError::Unknown(error)))
            | LogDone::Maintain(Err(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
