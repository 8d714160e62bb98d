//! A simulated shard, and what its core does for the steps of its driver that need no log.

use std::collections::VecDeque;
use std::time::Duration;

use super::changes::early_changes;
use super::log_work::LogWork;
use super::{Progress, World};
use crate::clock::{AHEAD_MAX_MS, Clock, Now};
use crate::command::{Ask, Buyer, Command, ExpectedVersion, OrderMessage, Query};
use crate::driver::{Driver, Gather, Step};
use crate::outcome::{Outcome, Rejection, Reply, ReservationStatus};
use crate::shard::Release;
use crate::simulation::oracle::Violation;
use crate::simulation::plant::Plant;
use crate::slots::shard_of_slot;
use crate::state::ShardState;

/// The most requests that a shard takes in at once.
const TAKE_IN_MAX: u64 = 6;
/// The most steps of a driver in one turn of its core.
const DRIVER_STEPS_MAX: u64 = 20;
/// The longest time that passes at once because all cores sleep.
const NAP_MAX: Duration = Duration::from_secs(2);

pub(super) struct SimulatedShard {
    pub(super) driver: Driver<usize>,
    pub(super) clock: Clock,
    pub(super) inbox: VecDeque<Inbound>,
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

/// What waits for a shard.
pub(super) enum Inbound {
    /// A client's request, by its index.
    Request(usize),
    /// From the owner of a slot.
    Message(OrderMessage),
}

/// The asker of a message, which gets no answer.
const NOBODY: usize = usize::MAX;

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
                Step::Send(slot, command) => self.send_message(slot, command),
                Step::Expire => self.expire(index),
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
                        && until <= self.elapsed + NAP_MAX
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
        self.check_watches(index)?;
        Ok(Progress::Continues)
    }

    fn take_in(&mut self, index: usize, most: usize) -> Result<(), Violation> {
        for _ in 0..self.random.within(0, TAKE_IN_MAX.min(most as u64)) {
            if !self.shards[index].driver.has_room() && self.plant != Some(Plant::TakeInTooMany) {
                break;
            }
            let request = match self.shards[index].inbox.pop_front() {
                Some(Inbound::Request(request)) => request,
                Some(Inbound::Message(message)) => {
                    self.hear(index, message);
                    continue;
                }
                None => break,
            };
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
            let is_read_only = driver.shard().read_only().is_some();
            let shard_count = self.shards.len();
            let owns = |slot| shard_of_slot(slot, shard_count) == index;
            if self.oracle.taken_in(ask.slot(), now, is_read_only, owns) {
                self.count("slots ahead of their process");
            }
            self.requests[request].taken_in = (!is_read_only).then_some(now.steady);
            self.requests[request].wall = now.wall;
            self.watch_taken_in(request, &mut ask, index, now.elapsed);
            let SimulatedShard { driver, log_work, .. } = &mut self.shards[index];
            if let Ask::Command(
                Command::Reserve { event, ref buyer, .. } | Command::Hold { event, ref buyer, .. },
            ) = ask
            {
                match self.plant {
                    Some(Plant::ForgetTickets) => driver.shard().state().forget_tickets(event, buyer),
                    Some(Plant::ForgetTicketsOfRefs) if matches!(buyer, Buyer::Ref(_)) => {
                        driver.shard().state().forget_tickets(event, buyer);
                    }
                    Some(Plant::ForgetHeldTickets) => {
                        driver.shard().state().forget_held_tickets(event, buyer);
                    }
                    Some(Plant::WindowLate) => now.wall.0 = now.wall.0.saturating_sub(1),
                    Some(Plant::WindowBySteadyClock) => now.wall = now.steady,
                    _ => {}
                }
            }
            match (&mut ask, self.plant) {
                (Ask::Command(Command::Confirm { quantity, .. }), Some(Plant::ConfirmAll)) => {
                    *quantity = None
                }
                (Ask::Command(Command::Transfer(transfer)), Some(Plant::TransferAll)) => {
                    transfer.quantity = None;
                }
                (Ask::Command(Command::Confirm { .. }), Some(Plant::ConfirmTooLate)) => {
                    now.steady.0 -= just_before_deadline(driver, now.elapsed, 1000);
                }
                (Ask::Query(_), Some(Plant::HoldsEndLateForReaders)) => {
                    now.steady.0 -= just_before_deadline(driver, now.elapsed, 1);
                }
                (_, Some(Plant::DeadlinesByWallClock)) => now.steady = now.wall,
                _ => {}
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
                (Ask::Query(query), Some(Plant::AnswerReadsAtOnce)) => Some(state.query(query)),
                (
                    &Ask::Query(ref query @ Query::Changes { event, after, .. }),
                    Some(Plant::ShowChangesEarly),
                ) => early_changes(state, log_work.as_ref(), query, (event, after)),
                (Ask::Command(command), Some(Plant::AnswerRejectionsAtOnce)) => {
                    state.decide(now, command.slot(), command.clone()).reply.err().map(Err)
                }
                (Ask::Command(command), Some(Plant::CountAllEvents)) if driver.shard().is_at_rest() => {
                    limit_of_all_events(state, now, command).map(Err)
                }
                (Ask::Command(command), Some(Plant::LimitBlocks)) if driver.shard().is_at_rest() => {
                    limit_of_block(state, now, command).map(Err)
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

    /// A shard takes in a message of a slot's owner.
    fn hear(&mut self, index: usize, message: OrderMessage) {
        let SimulatedShard { driver, clock, .. } = &mut self.shards[index];
        let now = clock.read(self.elapsed, self.wall);
        let is_read_only = driver.shard().read_only().is_some();
        let shard_count = self.shards.len();
        let owns = |slot| shard_of_slot(slot, shard_count) == index;
        if self.oracle.taken_in(Some(message.slot()), now, is_read_only, owns) {
            self.count("slots ahead of their process");
        }
        self.note(|| format!("shard {index} hears {message:?}"));
        if let (Some(Plant::ForgetOrderedForRefs), OrderMessage::Prepare(prepare)) = (self.plant, &message)
            && matches!(prepare.buyer, Buyer::Ref(_))
        {
            self.shards[index].driver.shard().state().forget_tickets(prepare.item.event, &prepare.buyer);
        }
        let command = Command::OrderMessage(Box::new(message));
        self.shards[index].driver.take_in(now, Ask::Command(command), NOBODY);
    }

    fn expire(&mut self, index: usize) {
        // Some cores are late. Requests find holds ended all the same.
        if self.random.within(0, 1) == 0 || self.plant == Some(Plant::EndHoldsForRequestsOnly) {
            return;
        }
        self.note(|| format!("shard {index} ends holds and ages keys"));
        let now = self.shards[index].clock.read(self.elapsed, self.wall);
        let shard_count = self.shards.len();
        let owns = |slot| shard_of_slot(slot, shard_count) == index;
        let is_read_only = self.shards[index].driver.shard().read_only().is_some();
        if self.oracle.taken_in(None, now, is_read_only, owns) {
            self.count("slots ahead of their process");
        }
        self.shards[index].driver.expire(now);
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

    fn answer(&mut self, index: usize, request: usize, mut reply: Reply) -> Result<(), Violation> {
        self.watch_answered(index, request, &mut reply)?;
        if self.plant == Some(Plant::ShowNextPosition)
            && let Ok(Outcome::Availability(one)) = &mut reply
        {
            one.position = one.position.next();
        }
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

/// The refusal of a reservation that the buyer may make, if the event's limit counted the tickets of all events, for
/// [`Plant::CountAllEvents`].
fn limit_of_all_events(state: &ShardState, now: Now, command: &Command) -> Option<Rejection> {
    let &Command::Reserve { event, buyer: Buyer::Account(customer), quantity, .. } = command else {
        return None;
    };
    let Ok(Outcome::Event(view)) = state.query(&Query::Event { event }) else { return None };
    let most = view.details.rules().max_per_customer?.get();
    let all = Query::CustomerReservations { customer, after: None, limit: usize::MAX };
    let Ok(Outcome::Part(part)) = state.query(&all) else { return None };
    let Outcome::Reservations(list) = part.outcome else { return None };
    let live = list.iter().filter(|one| one.status == ReservationStatus::Confirmed);
    let allowed = most.saturating_sub(live.map(|one| one.quantity).sum());
    let is_taken = state.decide(now, command.slot(), command.clone()).reply.is_ok();
    (is_taken && quantity.get() > allowed).then_some(Rejection::CustomerLimit { allowed })
}

/// The refusal of tickets that are set aside, if the limit of a reservation counted for them, for
/// [`Plant::LimitBlocks`].
fn limit_of_block(state: &ShardState, now: Now, command: &Command) -> Option<Rejection> {
    let &Command::Reserve { event, buyer: Buyer::Block, quantity, .. } = command else { return None };
    let Ok(Outcome::Event(view)) = state.query(&Query::Event { event }) else { return None };
    let allowed = view.details.rules().max_per_reservation?.get();
    let is_taken = state.decide(now, command.slot(), command.clone()).reply.is_ok();
    (is_taken && quantity.get() > allowed).then_some(Rejection::ReservationLimit { allowed })
}

/// The milliseconds since just before a deadline that has passed, if there are at most so many.
fn just_before_deadline(driver: &Driver<usize>, elapsed: Duration, most: u64) -> u64 {
    let end = driver.shard().holds_end_at().filter(|end| !end.is_zero());
    let late = end.and_then(|end| elapsed.checked_sub(end)).map(|late| late.as_millis() as u64 + 1);
    late.filter(|&late| late <= most).unwrap_or(0)
}
