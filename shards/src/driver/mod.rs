//! The order of a shard's steps, as a pure state machine: take in, gather, commit, release, roll back, probe,
//! maintain, wake.
//!
//! A driver opens no file, waits for nothing and reads no clock. Its owner calls [`Driver::step`] and does
//! what the step says: the server with a real log and clock, the simulation with simulated ones. While one
//! batch is made durable, the next one fills, so that one sync of the disk serves all requests that came
//! meanwhile (group commit).

mod batching;

use std::time::Duration;

use crate::clock::Now;
use crate::command::{Ask, Command};
use crate::ids::Slot;
use crate::limits::BATCH_MAX;
use crate::log::{AppendError, Appended, LogError, RollbackCause, Upkeep};
use crate::outcome::Reply;
use crate::shard::{Batch, Release, Shard};
use crate::slots::SlotSet;
use batching::Batching;
pub use batching::{Gather, Pace};

/// The time between two probes of a log that is full or locked.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// The time after which a maintenance that something hindered is tried again.
const MAINTAIN_AGAIN: Duration = Duration::from_secs(1);

/// A shard and the state of its steps. `A` is the asker: where an answer goes.
#[derive(Debug)]
pub struct Driver<A> {
    shard: Shard<A>,
    log: LogUse,
    batching: Batching,
    /// The most records of a commit.
    batch_max: usize,
    phase: Phase,
    maintenance: Maintenance,
    /// The time of the next probe of a log that is full or locked.
    probe_at: Option<Duration>,
    stopping: bool,
}

/// Whether the log is at work. It does one thing at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogUse {
    Idle,
    Busy,
}

/// When the log is maintained next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maintenance {
    /// When the log says so, after a commit or a start.
    NotDue,
    Due,
    /// Something hindered the last one. The next step sets the time.
    Hindered,
    At(Duration),
}

/// The next step of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Expire,
    TakeIn,
    Commit,
    Rest,
}

/// The next action of a driver's owner.
#[derive(Debug)]
pub enum Step<A> {
    Answer(A, Reply),
    /// Send a command to the owner of its slot. It needs no answer.
    Send(Slot, Command),
    /// Call [`Driver::expire`]: holds have reached their deadlines, idempotency keys are to be forgotten, or questions
    /// have waited long enough for news.
    Expire,
    /// Give at most this many of the waiting requests to [`Driver::take_in`], while [`Driver::has_room`].
    TakeIn(usize),
    /// Let clients and other tasks run, so that more requests can join the batch, then call
    /// [`Driver::gathered`].
    Gather(Gather),
    /// Append the batch to the log, and report the result to [`Driver::log_is_done`].
    Append {
        batch: Batch,
        /// Whether to append on another thread, because the disk is slow. If not, the owner may append on its
        /// own thread, but not wait there for another program's lock on the log.
        on_worker: bool,
    },
    /// Run the log's maintenance on another thread, and report the result to [`Driver::log_is_done`].
    Maintain,
    /// Test on another thread whether the log takes entries again, and report the result to
    /// [`Driver::log_is_done`].
    Probe,
    /// Let other tasks run, then call [`Driver::step`] again: requests wait.
    Yield,
    /// Call [`Driver::step`] again when a request comes, when the log is done, or at this time.
    Wait {
        until: Option<Duration>,
    },
    /// Close the log: no work is left.
    Stop,
}

/// The result of the log's work.
#[derive(Debug)]
pub enum LogDone {
    Append {
        batch: Batch,
        result: Result<Appended, AppendError>,
        /// The time that the thread waited for the disk.
        waited: Duration,
        /// Whether the log needs maintenance.
        maintenance_is_due: bool,
    },
    Maintain(Result<Upkeep, LogError>),
    Probe(Result<(), AppendError>),
}

/// A change that logs and metrics report.
#[derive(Debug)]
pub enum Notice {
    Committed {
        records: usize,
    },
    /// The log takes no entries, for this cause, which is a new one. Changes are refused.
    ReadOnly {
        cause: RollbackCause,
        error: LogError,
    },
    StillReadOnly,
    /// The log takes entries again: this cause is over.
    Writable {
        cause: RollbackCause,
    },
    Maintained(Upkeep),
}

impl<A> Driver<A> {
    pub fn new(shard: Shard<A>, batch_max: usize, pace: Pace) -> Driver<A> {
        Driver {
            shard,
            log: LogUse::Idle,
            batching: Batching::new(pace),
            batch_max,
            phase: Phase::Expire,
            maintenance: Maintenance::NotDue,
            probe_at: None,
            stopping: false,
        }
    }

    /// Begins with the log's maintenance, since a start has found it due.
    pub fn maintain_first(&mut self) {
        self.maintenance = Maintenance::Due;
    }

    pub fn shard(&self) -> &Shard<A> {
        &self.shard
    }

    /// Ends the driver without another step, as a crash does.
    pub fn into_shard(self) -> Shard<A> {
        self.shard
    }

    /// Whether the open batch has room. A read takes no room and a change may, so ask this before each
    /// request.
    pub fn has_room(&self) -> bool {
        self.shard.open_records() < self.batch_max
    }

    /// Takes in a request, in answer to [`Step::TakeIn`].
    pub fn take_in(&mut self, now: Now, ask: Ask, asker: A) {
        self.batching.count_request();
        self.shard.take_in(now, ask, asker);
    }

    /// Ends what has reached its time, in answer to [`Step::Expire`].
    pub fn expire(&mut self, now: Now) {
        self.shard.expire(now);
    }

    /// Continues after [`Step::Gather`]. `news` says whether a request or a network event came meanwhile.
    pub fn gathered(&mut self, news: bool) {
        self.batching.gathered(news);
    }

    /// Makes the driver stop once no work is left. The owner gives it no more requests.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.close_watches();
    }

    /// Answers all questions that wait for news, and from now on each one at once: the server drains.
    pub fn close_watches(&mut self) {
        self.shard.close_watches();
    }

    /// Returns the next step. `elapsed` returns the time since the process started, and is called only if it
    /// is needed. `requests_wait` says whether requests wait to be taken in.
    pub fn step(&mut self, elapsed: impl Fn() -> Duration, requests_wait: bool) -> Step<A> {
        if let Some(release) = self.next_release() {
            return match release {
                Release::Answer(asker, reply) => Step::Answer(asker, reply),
                Release::Message(slot, command) => Step::Send(slot, command),
            };
        }
        if self.log == LogUse::Idle && self.is_maintenance_due(&elapsed) {
            self.maintenance = Maintenance::NotDue;
            self.log = LogUse::Busy;
            return Step::Maintain;
        }
        let has_room = self.has_room();
        loop {
            match self.phase {
                Phase::Expire => {
                    self.phase = Phase::TakeIn;
                    if has_room && self.is_expiry_due(&elapsed) {
                        return Step::Expire;
                    }
                }
                Phase::TakeIn => {
                    self.phase = Phase::Commit;
                    if requests_wait && has_room {
                        return Step::TakeIn(BATCH_MAX);
                    }
                }
                Phase::Commit => {
                    self.phase = Phase::Rest;
                    if self.log == LogUse::Idle
                        && let Some(step) = self.use_log(&elapsed, !has_room)
                    {
                        return step;
                    }
                }
                Phase::Rest => {
                    self.phase = Phase::Expire;
                    return if requests_wait && (has_room || self.log == LogUse::Idle) {
                        Step::Yield
                    } else if self.stopping && self.log == LogUse::Idle {
                        assert!(self.shard.is_at_rest(), "an answer was not released");
                        Step::Stop
                    } else {
                        Step::Wait { until: self.next_time() }
                    };
                }
            }
        }
    }

    /// Returns an answer or a message that may leave now. [`Driver::step`] returns these first.
    pub fn next_release(&mut self) -> Option<Release<A>> {
        self.shard.next_release()
    }

    fn is_maintenance_due(&mut self, elapsed: &impl Fn() -> Duration) -> bool {
        match self.maintenance {
            Maintenance::NotDue => false,
            Maintenance::Due => true,
            Maintenance::Hindered => {
                self.maintenance = Maintenance::At(elapsed() + MAINTAIN_AGAIN);
                false
            }
            // A stop closes the log, which tries it as well.
            Maintenance::At(time) => !self.stopping && elapsed() >= time,
        }
    }

    fn is_expiry_due(&self, elapsed: &impl Fn() -> Duration) -> bool {
        // The next process gives holds more time.
        !self.stopping && self.shard.expires_at().is_some_and(|at| at <= elapsed())
    }

    /// The time at which there is something to do, even if nothing comes. While the log is busy, there is none: all
    /// that waits for a time uses the log.
    fn next_time(&self) -> Option<Duration> {
        if self.log == LogUse::Busy {
            return None;
        }
        let expires_at = self.shard.expires_at().filter(|_| !self.stopping);
        let maintain_at = match self.maintenance {
            Maintenance::At(time) => Some(time),
            Maintenance::NotDue | Maintenance::Due | Maintenance::Hindered => None,
        };
        self.probe_at.into_iter().chain(maintain_at).chain(expires_at).min()
    }

    /// Returns the next step that uses the log, if one is due. The log is idle.
    fn use_log(&mut self, elapsed: &impl Fn() -> Duration, batch_is_full: bool) -> Option<Step<A>> {
        if self.shard.read_only().is_some() {
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
            self.phase = Phase::Expire;
            return Some(Step::Gather(gather));
        }
        let batch = self.shard.begin_commit()?;
        self.log = LogUse::Busy;
        Some(Step::Append { batch, on_worker: self.batching.disk_is_slow() })
    }

    /// Takes the result of the log's work that a step asked for.
    ///
    /// # Errors
    ///
    /// If it is unknown which records are on disk, or another process has claimed the log. The process must
    /// end: memory is ahead of the disk, and a restart recovers the records that are stored.
    pub fn log_is_done(&mut self, done: LogDone) -> Result<Notice, LogError> {
        assert_eq!(self.log, LogUse::Busy, "the log had no work");
        self.log = LogUse::Idle;
        match done {
            LogDone::Append { batch, result: Ok(Appended { fenced }), waited, maintenance_is_due } => {
                assert_eq!(fenced, SlotSet::EMPTY, "the files of a locked directory have one owner");
                let records = batch.entries.len();
                self.batching.committed(records, waited);
                if maintenance_is_due {
                    self.maintenance = Maintenance::Due;
                }
                self.shard.finish_commit(batch);
                Ok(Notice::Committed { records })
            }
            LogDone::Append { batch, result: Err(AppendError::RolledBack { cause, error }), .. } => {
                self.batching.rolled_back();
                self.shard.roll_back(batch, cause);
                // The next step sets the time of the probe, even if no more requests come.
                self.phase = Phase::Commit;
                Ok(Notice::ReadOnly { cause, error })
            }
            LogDone::Probe(Ok(())) => {
                let cause = self.shard.read_only().expect("only a read-only log is probed");
                self.shard.resume();
                Ok(Notice::Writable { cause })
            }
            LogDone::Probe(Err(AppendError::RolledBack { cause, error })) => {
                if self.shard.read_only() == Some(cause) {
                    return Ok(Notice::StillReadOnly);
                }
                self.shard.refuse_because(cause);
                Ok(Notice::ReadOnly { cause, error })
            }
            LogDone::Maintain(Ok(upkeep)) => {
                if upkeep.hindrance.is_some() {
                    self.maintenance = Maintenance::Hindered;
                }
                Ok(Notice::Maintained(upkeep))
            }
            LogDone::Append {
                result: Err(AppendError::Unknown(error) | AppendError::Fenced(error)), ..
            }
            | LogDone::Probe(Err(AppendError::Unknown(error) | AppendError::Fenced(error)))
            | LogDone::Maintain(Err(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
