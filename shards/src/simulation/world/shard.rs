//! A simulated shard, and what its core does for the steps of its driver that need no log.

use std::collections::VecDeque;
use std::time::Duration;

use super::log_work::LogWork;
use super::{Progress, World};
use crate::clock::{AHEAD_MAX_MS, Clock};
use crate::command::{Ask, Command, ExpectedVersion};
use crate::driver::{Driver, Gather, Step};
use crate::outcome::Reply;
use crate::shard::Release;
use crate::simulation::oracle::Violation;
use crate::simulation::plant::Plant;

/// The most requests that a shard takes in at once.
const TAKE_IN_MAX: u64 = 6;
/// The most steps of a driver in one turn of its core.
const DRIVER_STEPS_MAX: u64 = 20;

pub(super) struct SimulatedShard {
    pub(super) driver: Driver<usize>,
    pub(super) clock: Clock,
    pub(super) inbox: VecDeque<usize>,
    /// Raised when a request arrives or the log is done; wakes the core.
    pub(super) signal: bool,
    /// While the core sleeps, the time at which it wakes without a signal.
    pub(super) sleeps_until: Option<Duration>,
    pub(super) driver_state: DriverState,
    /// The log's work on another thread, and the turns that it still takes.
    pub(super) log_work: Option<(LogWork, u64)>,
    /// Whether its disk is full.
    pub(super) is_full: bool,
    /// Whether another program has locked its log.
    pub(super) is_locked: bool,
    /// Whether another program reads an older state of its log.
    pub(super) is_read: bool,
    /// Whether a maintenance could not empty the log's journal.
    pub(super) journal_is_large: bool,
    /// The number of commits since the last maintenance.
    pub(super) commits: u64,
}

/// How far a driver is from its stop.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DriverState {
    Runs,
    /// It has to stop once no work is left.
    Stopping,
    Stopped,
}

impl SimulatedShard {
    pub(super) fn new(driver: Driver<usize>, clock: Clock) -> SimulatedShard {
        SimulatedShard {
            driver,
            clock,
            inbox: VecDeque::new(),
            signal: false,
            sleeps_until: None,
            driver_state: DriverState::Runs,
            log_work: None,
            is_full: false,
            is_locked: false,
            is_read: false,
            journal_is_large: false,
            commits: 0,
        }
    }

    /// Tells the driver that no more requests will come.
    pub(super) fn stop(&mut self) {
        if self.driver_state == DriverState::Runs {
            self.driver.stop();
            self.driver_state = DriverState::Stopping;
            self.signal = true;
        }
    }

    /// Whether nothing waits, for the core or for the log.
    pub(super) fn is_idle(&self) -> bool {
        self.driver.shard().is_at_rest() && self.inbox.is_empty() && self.log_work.is_none()
    }

    /// Whether the core has a reason to run. Takes the signal if that is the reason.
    fn wakes(&mut self, elapsed: Duration) -> bool {
        if self.driver_state == DriverState::Stopped {
            return false;
        }
        let Some(until) = self.sleeps_until else { return true };
        if !self.signal && elapsed < until {
            return false;
        }
        (self.signal, self.sleeps_until) = (false, None);
        true
    }

    /// Sleeps until a time or a signal. Returns false if the signal is already there.
    fn sleeps(&mut self, until: Option<Duration>) -> bool {
        if std::mem::take(&mut self.signal) {
            return false;
        }
        self.sleeps_until = Some(until.unwrap_or(Duration::MAX));
        true
    }
}

impl World {
    /// Runs a core for one turn, unless it sleeps: some steps of its driver.
    pub(super) fn turn(&mut self, index: usize) -> Result<Progress, Violation> {
        if self.finish_log_work(index)? == Progress::Crashes {
            return Ok(Progress::Crashes);
        }
        if !self.shards[index].wakes(self.elapsed) {
            return Ok(Progress::Continues);
        }
        // Not all of them: other cores may run between any two steps.
        for _ in 0..self.random.within(1, DRIVER_STEPS_MAX) {
            let requests_wait = !self.shards[index].inbox.is_empty();
            match self.shards[index].driver.step(|| self.elapsed, requests_wait) {
                Step::Answer(request, reply) => self.answer(index, request, reply)?,
                Step::Send(slot, command) => return Err(format!("a message to slot {slot}: {command:?}")),
                Step::TakeIn(most) => self.take_in(index, most)?,
                Step::Gather(gather) => self.gather(index, gather),
                Step::Append { batch, on_worker } => {
                    if self.commit(index, batch, on_worker)? == Progress::Crashes {
                        return Ok(Progress::Crashes);
                    }
                }
                Step::Maintain => self.start_log_work(index, LogWork::Maintain)?,
                Step::Probe => self.start_log_work(index, LogWork::Probe)?,
                Step::Yield => break,
                Step::Wait { until } => {
                    let until = until.filter(|_| self.plant != Some(Plant::IgnoreDeadline));
                    if !self.shards[index].sleeps(until) {
                        continue;
                    }
                    if let Some(until) = until
                        && self.random.within(0, 3) == 0
                    {
                        self.elapsed = self.elapsed.max(until);
                    }
                    break;
                }
                Step::Stop => {
                    let shard = &mut self.shards[index];
                    if shard.driver_state != DriverState::Stopping || !shard.inbox.is_empty() {
                        return Err(
                            "a driver stopped without being told to, or with requests left".to_owned()
                        );
                    }
                    shard.driver_state = DriverState::Stopped;
                    self.count("stops");
                    break;
                }
            }
        }
        Ok(Progress::Continues)
    }

    fn take_in(&mut self, index: usize, most: usize) -> Result<(), Violation> {
        for _ in 0..self.random.within(0, TAKE_IN_MAX.min(most as u64)) {
            if !self.shards[index].driver.has_room() && self.plant != Some(Plant::TakeInTooMany) {
                break;
            }
            let Some(request) = self.shards[index].inbox.pop_front() else { break };
            let mut ask = self.requests[request].ask.clone();
            if self.plant == Some(Plant::ChangeAnyVersion) {
                match &mut ask {
                    Ask::Command(Command::EditEvent(edit)) => edit.version = ExpectedVersion::Any,
                    Ask::Command(Command::DeleteEvent(delete)) => delete.version = ExpectedVersion::Any,
                    Ask::Command(_) | Ask::Query(_) => {}
                }
            }
            let SimulatedShard { driver, clock, .. } = &mut self.shards[index];
            let mut now = clock.read(self.elapsed, self.wall);
            if let Ask::Command(command) = &ask {
                self.oracle.taken_in(command.slot(), now.wall);
            }
            if self.plant == Some(Plant::KeepLatestTime) {
                self.latest_wall = self.latest_wall.max(now.wall);
                if self.latest_wall.0 > now.wall.0 + AHEAD_MAX_MS {
                    now.wall = self.latest_wall;
                }
            }
            if self.plant == Some(Plant::AgeKeysTooFast) {
                now.elapsed *= 4;
            }
            let state = driver.shard().state();
            let at_once = match (&ask, self.plant) {
                (Ask::Query(query), Some(Plant::AnswerReadsAtOnce)) => Some(state.query(now, query)),
                (Ask::Command(command), Some(Plant::AnswerRejectionsAtOnce)) => {
                    state.decide(now, command.slot(), command.clone()).reply.err().map(Err)
                }
                _ => None,
            };
            match at_once {
                Some(reply) => self.send(request, reply)?,
                None => driver.take_in(now, ask, request),
            }
        }
        Ok(())
    }

    /// Lets some time pass in which a request may arrive.
    fn gather(&mut self, index: usize, gather: Gather) {
        let (kind, most) = match gather {
            Gather::Once => ("gathers of one turn", 100),
            Gather::Until(_) => ("gathers until a time", 1000),
        };
        self.count(kind);
        self.elapsed += Duration::from_micros(self.random.within(0, most));
        let news = self.random.within(0, 1) == 1;
        if news && !self.wire.is_empty() {
            let message = self.random.within(0, self.wire.len() as u64 - 1) as usize;
            self.deliver(message);
        }
        self.shards[index].driver.gathered(news);
    }

    fn answer(&mut self, index: usize, request: usize, reply: Reply) -> Result<(), Violation> {
        if self.plant == Some(Plant::SwapAnswers)
            && self.has_chance(200)
            && let Some(Release::Answer(other, other_reply)) = self.shards[index].driver.next_release()
        {
            self.send(request, other_reply)?;
            return self.send(other, reply);
        }
        self.send(request, reply)
    }
}
