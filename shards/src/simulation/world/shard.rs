//! A simulated shard, and what its core does for the steps of its driver that need no log.

use std::collections::VecDeque;
use std::time::Duration;

use super::log_work::LogWork;
use super::{Progress, World};
use crate::clock::Clock;
use crate::command::Ask;
use crate::driver::{Driver, Gather, Step};
use crate::outcome::Reply;
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
    /// The log's work on another thread, and the turns that it still takes.
    pub(super) log_work: Option<(LogWork, u64)>,
    /// Whether its disk is full.
    pub(super) is_full: bool,
    /// The number of commits since the last maintenance.
    pub(super) commits: u64,
}

impl World {
    /// Runs a core for one turn: some steps of its driver.
    pub(super) fn turn(&mut self, index: usize) -> Result<Progress, Violation> {
        if self.finish_log_work(index)? == Progress::Crashes {
            return Ok(Progress::Crashes);
        }
        // Not all of them: other cores may run between any two steps.
        for _ in 0..self.random.within(1, DRIVER_STEPS_MAX) {
            let requests_wait = !self.shards[index].inbox.is_empty();
            match self.shards[index].driver.step(self.elapsed, requests_wait) {
                Step::Answer(request, reply) => self.answer(index, request, reply)?,
                Step::Send(slot, command) => return Err(format!("a message to slot {slot}: {command:?}")),
                Step::TakeIn(most) => self.take_in(index, most)?,
                Step::Gather(gather) => self.gather(index, gather),
                Step::Append { batch, beside } => {
                    if self.commit(index, batch, beside)? == Progress::Crashes {
                        return Ok(Progress::Crashes);
                    }
                }
                Step::Maintain => self.start_log_work(index, LogWork::Maintain),
                Step::Probe => self.start_log_work(index, LogWork::Probe),
                Step::Yield => break,
                Step::Wait { until } => {
                    if let Some(until) = until
                        && self.random.within(0, 3) == 0
                    {
                        self.elapsed = self.elapsed.max(until);
                    }
                    break;
                }
                Step::Stop => return Err("a driver stopped without being told to".to_owned()),
            }
        }
        Ok(Progress::Continues)
    }

    fn take_in(&mut self, index: usize, most: usize) -> Result<(), Violation> {
        for _ in 0..self.random.within(0, TAKE_IN_MAX.min(most as u64)) {
            let Some(request) = self.shards[index].inbox.pop_front() else { break };
            let ask = self.requests[request].ask.clone();
            let SimulatedShard { driver, clock, .. } = &mut self.shards[index];
            let now = clock.read(self.elapsed, self.wall);
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
        self.elapsed += Duration::from_micros(match gather {
            Gather::Once => self.random.within(0, 100),
            Gather::Until(_) => self.random.within(0, 1000),
        });
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
            && let Some(Step::Answer(other, other_reply)) = self.shards[index].driver.next_release()
        {
            self.send(request, other_reply)?;
            return self.send(other, reply);
        }
        self.send(request, reply)
    }
}
