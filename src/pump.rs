//! A shard's loop: take in what waits, decide and apply, make it durable, answer.
//!
//! While one batch is being made durable the next one fills, so that one sync
//! of the disk serves everybody who came in the meantime (group commit). Which
//! answers may go out is the desk's to say.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use shards::desk::Desk;
use shards::ids::Timestamp;
use shards::limits::BATCH_MAX;
use shards::log::{AppendError, Appended, Log, LogError, Upkeep};
use shards::shard::{Batch, Shard};

use crate::mesh::{Inbox, Mesh, ReplyTo, ShardRequest};
use crate::metrics::CoreMetrics;
use crate::rt;
use crate::rt::attention::Attention;
use crate::rt::beside::Beside;
use crate::rt::slept::Slept;

/// A commit that waits for its disk less than this is made on the shard's own
/// core: handing it to another thread and hearing back costs as much CPU, and
/// makes the core sleep and wake in between. ARCHITECTURE.md has the figures.
const INLINE_COMMIT_MAX: Duration = Duration::from_micros(400);

/// How long a full log is left alone before it is tried again.
const PROBE_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Pump {
    desk: Desk<ReplyTo>,
    log: LogSeat,
    inbox: Rc<Inbox>,
    mesh: Rc<Mesh>,
    attention: Rc<Attention>,
    beside: Rc<Beside>,
    /// Moving average of how long a commit waits for its disk.
    disk_wait: Duration,
    company: Company,
    /// Records of a commit.
    batch_max: usize,
    pace: Pace,
    metrics: &'static CoreMetrics,
}

/// Whether clients who are answered ask again at once: then a commit is worth waiting for them.
#[derive(Default)]
struct Company {
    /// By the latest commit.
    answered: usize,
    /// Taken in since.
    came: usize,
    /// They did, the last time that they were waited for.
    comes_back: bool,
    /// Since then.
    commits_alone: u32,
}

/// After so many commits that waited for nobody, one waits, to see whether that has become worth it.
const COMMITS_ALONE_MAX: u32 = 16;

/// However slow the disk is: one that stalled once is not to make the next clients wait too.
const GATHER_MAX: Duration = Duration::from_millis(5);

/// What the pump makes of a slow disk.
#[derive(Clone, Copy)]
struct Pace {
    /// A commit that waits longer for its disk is made beside the core.
    inline_commit_max: Duration,
    /// How long a commit waits at most for more to join it.
    gather_max: Duration,
}

impl Pace {
    const USUAL: Pace = Pace { inline_commit_max: INLINE_COMMIT_MAX, gather_max: GATHER_MAX };
    /// Needs no runtime.
    const BY_HAND: Pace = Pace { inline_commit_max: Duration::MAX, gather_max: Duration::ZERO };
}

/// The log is either here or at work.
enum LogSeat {
    Here(Box<dyn Log>),
    /// Comes back through this, and raises the inbox's signal.
    Away(Rc<RefCell<Option<Returned>>>),
}

/// What the log does on another thread.
enum Job {
    Append(Batch),
    Maintain,
    Probe,
}

/// What comes back from there.
struct Returned {
    log: Box<dyn Log>,
    done: Done,
}

enum Done {
    /// With how long it waited for the disk.
    Append {
        batch: Batch,
        result: Result<Appended, AppendError>,
        waited: Duration,
    },
    Maintain(Result<Upkeep, LogError>),
    Probe(Result<(), AppendError>),
}

impl Pump {
    pub(crate) fn new(
        shard: Shard,
        log: Box<dyn Log>,
        mesh: Rc<Mesh>,
        attention: Rc<Attention>,
        beside: Beside,
        batch_max: usize,
        metrics: &'static CoreMetrics,
    ) -> Pump {
        let (desk, log) = (Desk::new(shard), LogSeat::Here(log));
        let (inbox, beside) = (mesh.inbox(), Rc::new(beside));
        let (disk_wait, pace) = (Duration::ZERO, Pace::USUAL);
        let company = Company::default();
        Pump { desk, log, inbox, mesh, attention, beside, disk_wait, company, batch_max, pace, metrics }
    }

    /// Commits on this core as soon as it can, however slow the disk is: for benches without a runtime.
    pub(crate) fn by_hand(self) -> Pump {
        Pump { pace: Pace::BY_HAND, ..self }
    }

    /// Runs for as long as the core does, or until `stop` is set and nothing is left to do.
    ///
    /// A commit that fails ends the process: memory is ahead of the disk then,
    /// nobody knows by how much, and a restart recovers what is certain. Only a
    /// full disk is survived, where it is known that nothing was written.
    pub(crate) async fn run(mut self, stop: Rc<Cell<bool>>) {
        loop {
            self.take_log_back();
            self.take_in();
            if !self.desk.shard().is_read_only() {
                self.gather().await;
                self.commit();
            }
            // Also when the commit just now found no room, and nobody asks for anything more.
            if self.desk.shard().is_read_only() && self.log_is_here() && !stop.get() {
                self.send_log_away(Job::Probe);
            }
            if !self.inbox.is_empty() && (self.log_is_here() || !self.batch_is_full()) {
                rt::yield_now().await;
            } else if stop.get() && self.log_is_here() {
                break;
            } else {
                self.inbox.signal.wait().await;
            }
        }
        assert!(self.desk.is_empty(), "an answer was left behind");
        if let LogSeat::Here(log) = self.log
            && let Err(error) = log.close()
        {
            end_process(&error);
        }
    }

    fn log_is_here(&self) -> bool {
        matches!(self.log, LogSeat::Here(_))
    }

    fn batch_is_full(&self) -> bool {
        self.desk.shard().open_records() >= self.batch_max
    }

    fn take_in(&mut self) {
        let now = wall_clock();
        for _ in 0..BATCH_MAX {
            if self.batch_is_full() {
                break;
            }
            let Some(ShardRequest { ask, reply_to }) = self.inbox.pop() else { break };
            self.company.came += 1;
            self.desk.take_in(now, ask, reply_to);
        }
        self.answer();
    }

    /// Gives out every answer that may go.
    fn answer(&mut self) {
        while let Some((reply_to, reply)) = self.desk.next_answer() {
            self.mesh.reply(reply_to, reply);
        }
    }

    /// Before a commit, takes in what comes meanwhile: clients who were just answered, and whose
    /// next requests would else have to wait for the commit after this one.
    async fn gather(&mut self) {
        if !self.log_is_here() || self.desk.is_empty() {
            return;
        }
        if self.disk_is_slow() {
            self.await_company().await;
        } else {
            self.hear_company().await;
        }
    }

    /// For as long as there is something new, and no longer than some two waits for the disk.
    async fn hear_company(&mut self) {
        let end = Instant::now() + (self.disk_wait * 2).min(self.pace.gather_max);
        while !self.batch_is_full() && Instant::now() < end {
            // The connections write their answers and read what they have heard of.
            rt::yield_now().await;
            let heard = self.attention.hear();
            if self.inbox.is_empty() && !heard {
                break;
            }
            self.take_in();
        }
    }

    /// Until as many came as were answered, or half of the time is over that a commit waits for its
    /// disk: two halves of the clients that take turns get half of what the disk can do.
    async fn await_company(&mut self) {
        if !self.company.comes_back && self.company.commits_alone < COMMITS_ALONE_MAX {
            self.company.commits_alone += 1;
            return;
        }
        let end = Instant::now() + (self.disk_wait / 2).min(self.pace.gather_max);
        while self.company.came < self.company.answered && !self.batch_is_full() && Instant::now() < end {
            if self.attention.is_quiet().await {
                self.attention.nap(end);
            }
            self.take_in();
        }
        let Company { answered, came, .. } = self.company;
        self.company.comes_back = came * 4 >= answered * 3;
        self.company.commits_alone = 0;
    }

    /// Commits are made beside the core.
    fn disk_is_slow(&self) -> bool {
        self.disk_wait > self.pace.inline_commit_max
    }

    /// Makes the open batch durable, if there is one and the log is here.
    fn commit(&mut self) {
        let is_slow = self.disk_is_slow();
        let LogSeat::Here(log) = &mut self.log else { return };
        let Some(batch) = self.desk.begin_commit() else { return };
        if is_slow {
            self.send_log_away(Job::Append(batch));
            return;
        }
        let slept = Slept::start();
        let result = log.append(&batch.entries);
        self.finish_commit(batch, result, slept.time());
        self.maintain();
    }

    fn finish_commit(&mut self, batch: Batch, result: Result<Appended, AppendError>, waited: Duration) {
        match result {
            Ok(appended) => {
                assert!(appended.fenced.is_empty(), "the files of a locked directory have one owner");
                self.disk_wait = (self.disk_wait * 7 + waited) / 8;
                self.metrics.commits.add(1);
                self.metrics.records.add(batch.entries.len() as u64);
                (self.company.answered, self.company.came) = (batch.entries.len(), 0);
                self.desk.finish_commit(batch);
            }
            Err(AppendError::RolledBack(error)) => {
                tracing::error!(%error, "the disk is full: reading goes on, changes are refused until there is room");
                self.metrics.log_full.set(1);
                self.desk.roll_back(batch);
            }
            Err(AppendError::Unknown(error)) => end_process(&error),
        }
        self.answer();
    }

    /// Upkeep takes milliseconds, so it is never done on the shard's core.
    fn maintain(&mut self) {
        if let LogSeat::Here(log) = &self.log
            && log.maintenance_is_due()
        {
            self.send_log_away(Job::Maintain);
        }
    }

    fn send_log_away(&mut self, job: Job) {
        let seat = Rc::new(RefCell::new(None));
        let LogSeat::Here(mut log) = std::mem::replace(&mut self.log, LogSeat::Away(Rc::clone(&seat))) else {
            unreachable!("the log is sent away from here only")
        };
        let (inbox, beside) = (Rc::clone(&self.inbox), Rc::clone(&self.beside));
        rt::spawn(async move {
            if matches!(job, Job::Probe) {
                rt::sleep(PROBE_EVERY).await;
            }
            let work = move || {
                let done = do_job(&mut *log, job);
                Returned { log, done }
            };
            let returned = beside.run(work).await;
            *seat.borrow_mut() = Some(returned);
            inbox.signal.raise();
        });
    }

    fn take_log_back(&mut self) {
        let LogSeat::Away(seat) = &self.log else { return };
        let Some(Returned { log, done }) = seat.take() else { return };
        self.log = LogSeat::Here(log);
        match done {
            Done::Append { batch, result, waited } => {
                self.finish_commit(batch, result, waited);
                self.maintain();
            }
            Done::Maintain(Ok(Upkeep { pages_pinned, no_room })) => {
                if pages_pinned > 0 {
                    tracing::warn!(pages_pinned, "a reader keeps the log's journal from being written back");
                }
                if no_room {
                    tracing::warn!(
                        "the disk is too full to write the log's journal back: it goes on growing"
                    );
                }
            }
            Done::Probe(Ok(())) => {
                tracing::info!("the disk has room again: changes are taken");
                self.metrics.log_full.set(0);
                self.desk.resume();
            }
            Done::Probe(Err(AppendError::RolledBack(_))) => {}
            Done::Maintain(Err(error)) | Done::Probe(Err(AppendError::Unknown(error))) => end_process(&error),
        }
    }
}

fn do_job(log: &mut dyn Log, job: Job) -> Done {
    match job {
        Job::Append(batch) => {
            let slept = Slept::start();
            let result = log.append(&batch.entries);
            Done::Append { batch, result, waited: slept.time() }
        }
        Job::Maintain => Done::Maintain(log.maintain()),
        Job::Probe => Done::Probe(log.probe()),
    }
}

fn end_process(error: &LogError) -> ! {
    tracing::error!(%error, "the log failed: ending, so that a restart recovers what is certain");
    std::process::exit(1)
}

pub(crate) fn wall_clock() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(since_epoch.map_or(0, |since| since.as_millis() as u64))
}
