//! A shard's loop: does what the shard's driver says, with a real log, a real clock and real clients.
//!
//! The driver alone decides the order of the steps. The pump does what a pure state machine cannot do: it
//! reads the clock, calls the log or sends it to its thread, sends answers, and waits.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Once;
use std::time::{Duration, Instant};

use shards::driver::{Driver, Gather, LogDone, Notice, Pace, Step};
use shards::ids::{Slot, Timestamp};
use shards::limits::LOCK_WAIT_MAX;
use shards::log::{AppendError, Log, LogError, RollbackCause};
use shards::outcome::{OrderView, Outcome, Rejection, ReservationView};
use shards::shard::{Batch, Release, Shard};
use shards::slots::{slot_of_event, slot_of_user};

use crate::account_limits::{AccountLimit, Refusals};
use crate::clock::CoreClock;
use crate::mesh::{Asker, Inbox, ShardRequest};
use crate::metrics::CoreMetrics;
use crate::revocation::Revocations;
use crate::rt;
use crate::rt::off_cpu::OffCpu;
use crate::rt::reactor::Reactor;
use crate::rt::workers::Workers;
use crate::upkeep::UpkeepReport;

/// The longest timer that is set for a driver's deadline. A later deadline takes several.
const WAKE_UP_MAX: Duration = Duration::from_secs(1);

pub(crate) struct Pump {
    driver: Driver<Asker>,
    log: LogPlace,
    clock: Rc<CoreClock>,
    inbox: Rc<Inbox>,
    revocations: Rc<Revocations>,
    refusals: Refusals,
    reactor: Rc<Reactor>,
    log_worker: Workers<()>,
    /// The time at which a timer raises the inbox's signal, so that the driver takes its next step.
    wake_at: Option<Duration>,
    upkeep: UpkeepReport,
    metrics: &'static CoreMetrics,
}

/// Where the log is: with the pump, or on the worker thread.
enum LogPlace {
    Here(Box<dyn Log>),
    /// The worker's result is put here, and then the inbox's signal is raised.
    Away(Rc<RefCell<Option<Returned>>>),
}

/// Work that the log does on the worker thread.
enum LogWork {
    Append(Batch),
    Maintain,
    Probe,
}

/// The log after its work on the worker thread, with the result.
struct Returned {
    log: Box<dyn Log>,
    done: LogDone,
}

/// What a pump is made of.
pub(crate) struct PumpParts {
    pub(crate) shard: Shard<Asker>,
    pub(crate) log: Box<dyn Log>,
    pub(crate) inbox: Rc<Inbox>,
    pub(crate) revocations: Rc<Revocations>,
    pub(crate) refusals: Refusals,
    pub(crate) reactor: Rc<Reactor>,
    pub(crate) log_worker: Workers<()>,
    pub(crate) clock: Rc<CoreClock>,
    pub(crate) batch_max: usize,
    pub(crate) pace: Pace,
    pub(crate) metrics: &'static CoreMetrics,
}

impl Pump {
    pub(crate) fn new(parts: PumpParts) -> Pump {
        let PumpParts {
            shard,
            log,
            inbox,
            revocations,
            refusals,
            reactor,
            log_worker,
            clock,
            batch_max,
            pace,
            metrics,
        } = parts;
        metrics.show_read_only(shard.read_only());
        let mut driver = Driver::new(shard, batch_max, pace);
        if log.maintenance_is_due() {
            driver.maintain_first();
        }
        Pump {
            driver,
            log: LogPlace::Here(log),
            clock,
            inbox,
            revocations,
            refusals,
            reactor,
            log_worker,
            wake_at: None,
            upkeep: UpkeepReport::new(metrics),
            metrics,
        }
    }

    /// Runs until `stop` is set and no work is left.
    pub(crate) async fn run(mut self, stop: Rc<Cell<bool>>) {
        loop {
            self.take_log_back();
            if stop.get() {
                self.driver.stop();
            }
            if self.inbox.watches_are_closed() {
                self.driver.close_watches();
            }
            while let Some(release) = self.driver.next_release() {
                self.release(release);
            }
            match self.driver.step(|| self.clock.elapsed(), !self.inbox.is_empty()) {
                Step::Answer(asker, reply) => self.release(Release::Answer(asker, reply)),
                Step::Send(slot, command) => self.release(Release::Message(slot, command)),
                Step::Expire => self.driver.expire(self.clock.now()),
                Step::TakeIn(most) => self.take_in(most),
                Step::Gather(gather) => self.gather(gather).await,
                Step::Append { batch, on_worker: true } => self.send_log_away(LogWork::Append(batch)),
                Step::Append { batch, on_worker: false } => self.append(batch),
                Step::Maintain => self.send_log_away(LogWork::Maintain),
                Step::Probe => self.send_log_away(LogWork::Probe),
                Step::Yield => rt::yield_now().await,
                Step::Wait { until } => {
                    self.wake_up_at(until);
                    self.inbox.signal.wait().await;
                }
                Step::Stop => break,
            }
        }
        if let LogPlace::Here(log) = self.log
            && let Err(error) = log.close()
        {
            end_process(&error);
        }
    }

    fn release(&self, release: Release<Asker>) {
        match release {
            Release::Answer(asker, mut reply) => {
                match &mut reply {
                    Ok(outcome) => self.show_deadlines(outcome),
                    Err(Rejection::AccountLimit { account, most: _ }) => {
                        self.refusals.note(*account, AccountLimit::Reservations);
                    }
                    Err(Rejection::TooManyKeys { user }) => self.refusals.note_keys_of(*user),
                    Err(Rejection::NoRoomForKeys) => self.refusals.note_keys(),
                    Err(_) => {}
                }
                self.revocations.reply(asker, reply);
            }
            Release::Message(slot, command) => self.revocations.mesh().send(slot, command),
        }
    }

    /// Gives the ends of holds in wall time, which clients compare with their clocks.
    fn show_deadlines(&self, outcome: &mut Outcome) {
        let shown =
            |slot: Slot, end: Timestamp| self.clock.as_wall(self.driver.shard().process_time(slot, end));
        let show = |view: &mut ReservationView| {
            view.expires_at = view.expires_at.map(|end| shown(slot_of_event(view.id.event), end));
        };
        let show_order = |view: &mut OrderView| {
            view.expires_at = view.expires_at.map(|end| shown(slot_of_user(view.id.user), end));
        };
        match outcome {
            Outcome::Reservation(view) => show(view),
            Outcome::Reservations(views) => views.iter_mut().for_each(show),
            Outcome::ReservationSlice(slice) => slice.views.iter_mut().for_each(show),
            Outcome::Order(view) => show_order(view),
            Outcome::Orders(slice) => slice.views.iter_mut().for_each(show_order),
            Outcome::Part(part) => self.show_deadlines(&mut part.outcome),
            Outcome::Replayed(first) => self.show_deadlines(first),
            Outcome::Account(_)
            | Outcome::AccountChanged(_)
            | Outcome::ApiKey(_)
            | Outcome::ApiKeys(_)
            | Outcome::ApiKeyEnded(_)
            | Outcome::Stands(_)
            | Outcome::Users(_)
            | Outcome::Usernames(_)
            | Outcome::Event(_)
            | Outcome::Events(_)
            | Outcome::EventDeleted
            | Outcome::Availability(_)
            | Outcome::GivenEventId(_)
            | Outcome::Availabilities(_)
            // As they were decided.
            | Outcome::Changes(_)
            | Outcome::ChangedEvents(_)
            | Outcome::Cancelled
            | Outcome::EventsCreated(_)
            | Outcome::Totals(_) => {}
        }
    }

    fn take_in(&mut self, most: usize) {
        let now = self.clock.now();
        for _ in 0..most {
            if !self.driver.has_room() {
                break;
            }
            let Some(ShardRequest { ask, reply_to }) = self.inbox.pop() else { break };
            self.driver.take_in(now, ask, reply_to);
        }
    }

    async fn gather(&mut self, gather: Gather) {
        let news = match gather {
            Gather::Once => {
                // Connections write their answers, and read what the last poll reported.
                rt::yield_now().await;
                let is_new = self.reactor.poll();
                is_new || !self.inbox.is_empty()
            }
            Gather::Until(until) => {
                if self.reactor.is_idle().await {
                    let left = until.saturating_sub(self.clock.elapsed());
                    self.reactor.sleep_until(Instant::now() + left);
                }
                true
            }
        };
        self.driver.gathered(news);
    }

    /// Appends on this core, since the disk is fast. If another program has locked the log, nothing is stored
    /// yet, and the log's thread waits for the lock.
    fn append(&mut self, batch: Batch) {
        let LogPlace::Here(log) = &mut self.log else {
            unreachable!("the driver knows that the log is away")
        };
        let locked = RollbackCause::Locked;
        match append(&mut **log, batch, Duration::ZERO) {
            LogDone::Append { batch, result: Err(AppendError::RolledBack { cause, .. }), .. }
                if cause == locked =>
            {
                self.send_log_away(LogWork::Append(batch));
            }
            done => self.log_is_done(done),
        }
    }

    fn send_log_away(&mut self, work: LogWork) {
        let place = Rc::new(RefCell::new(None));
        let LogPlace::Here(mut log) = std::mem::replace(&mut self.log, LogPlace::Away(Rc::clone(&place)))
        else {
            unreachable!("the driver knows that the log is away")
        };
        let work = move || {
            let done = match work {
                LogWork::Append(batch) => append(&mut *log, batch, LOCK_WAIT_MAX),
                LogWork::Maintain => LogDone::Maintain(log.maintain()),
                LogWork::Probe => LogDone::Probe(log.probe()),
            };
            Returned { log, done }
        };
        let returned = self.log_worker.run((), work);
        let inbox = Rc::clone(&self.inbox);
        rt::spawn(async move {
            let returned = returned.await.expect("one job at a time has room");
            *place.borrow_mut() = Some(returned);
            inbox.signal.raise();
        });
    }

    fn take_log_back(&mut self) {
        let LogPlace::Away(place) = &self.log else { return };
        let Some(Returned { log, done }) = place.take() else { return };
        self.log = LogPlace::Here(log);
        self.log_is_done(done);
    }

    /// Reports to the driver. Ends the process if the outcome of a commit is unknown: memory is then ahead of
    /// the disk, and a restart recovers what is durable.
    fn log_is_done(&mut self, done: LogDone) {
        match self.driver.log_is_done(done) {
            Ok(Notice::Committed { records }) => {
                self.metrics.commits.add(1);
                self.metrics.records.add(records as u64);
            }
            Ok(Notice::ReadOnly { cause, error }) => {
                match cause {
                    RollbackCause::NoRoom => tracing::error!(
                        %error,
                        "the disk is full: reading goes on, changes are refused until there is room"
                    ),
                    RollbackCause::Locked => tracing::error!(
                        %error,
                        "another program has locked the log: reading goes on, changes are refused until it \
                         ends its transaction or is stopped"
                    ),
                }
                self.metrics.show_read_only(Some(cause));
            }
            Ok(Notice::StillReadOnly) => {}
            Ok(Notice::Writable { cause }) => {
                match cause {
                    RollbackCause::NoRoom => tracing::info!("the disk has room again: changes are taken"),
                    RollbackCause::Locked => {
                        tracing::info!("the log is no longer locked: changes are taken");
                    }
                }
                self.metrics.show_read_only(None);
            }
            Ok(Notice::Maintained(upkeep)) => self.upkeep.note(upkeep, self.clock.elapsed()),
            Err(error) => end_process(&error),
        }
    }

    /// Raises the inbox's signal when the clock's elapsed time reaches `until`, unless a timer is already set
    /// for that time or earlier.
    fn wake_up_at(&mut self, until: Option<Duration>) {
        let Some(until) = until else { return };
        let elapsed = self.clock.elapsed();
        if self.wake_at.is_some_and(|at| at > elapsed && at <= until) {
            return;
        }
        // Timers stop while the machine is suspended, and this clock does not. So no timer is long.
        let until = until.min(elapsed + WAKE_UP_MAX);
        self.wake_at = Some(until);
        let inbox = Rc::clone(&self.inbox);
        rt::spawn(async move {
            rt::sleep(until.saturating_sub(elapsed)).await;
            inbox.signal.raise();
        });
    }
}

fn append(log: &mut dyn Log, batch: Batch, lock_wait: Duration) -> LogDone {
    let off_cpu = OffCpu::start();
    let result = log.append(&batch.entries, lock_wait);
    LogDone::Append { batch, result, waited: off_cpu.time(), maintenance_is_due: log.maintenance_is_due() }
}

/// Ends the process. Says why once, though several shards may find out.
pub(crate) fn end_process(error: &LogError) -> ! {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::error!(%error, "the log failed: ending, so that a restart recovers what is certain");
    });
    std::process::exit(1)
}
