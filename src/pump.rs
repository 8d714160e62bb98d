//! A shard's loop: take in what waits, decide and apply, make it durable, answer.
//!
//! While one batch is being made durable the next one fills, so that one sync
//! of the disk serves everybody who came in the meantime (group commit).
//! Answers are held until the log is as far as what they saw.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use shards::ids::Timestamp;
use shards::limits::BATCH_MAX;
use shards::log::{Log, LogError, Upkeep};
use shards::outcome::Reply;
use shards::shard::{Batch, BatchNumber, Shard};

use crate::mesh::{Ask, Inbox, Mesh, ReplyTo, ShardRequest};
use crate::metrics::CoreMetrics;
use crate::rt;

/// A commit that waits for its disk less than this is made on the shard's own
/// core: handing it to another thread and hearing back costs as much CPU, and
/// makes the core sleep and wake in between. ARCHITECTURE.md has the figures.
const INLINE_COMMIT_MAX: Duration = Duration::from_micros(400);

/// What a row costs in CPU time, whoever writes it.
const ROW_COST: Duration = Duration::from_nanos(300);

pub(crate) struct Pump {
    shard: Shard,
    log: LogSeat,
    inbox: Rc<Inbox>,
    mesh: Rc<Mesh>,
    /// In the order of their batch numbers.
    held: VecDeque<Held>,
    /// Moving average of how long a commit waits for its disk.
    disk_wait: Duration,
    metrics: &'static CoreMetrics,
}

/// A reply that waits for its batch.
struct Held {
    after: BatchNumber,
    reply_to: ReplyTo,
    reply: Reply,
}

/// The log is either here or at work.
enum LogSeat {
    Here(Box<dyn Log>),
    /// Comes back through this, and raises the inbox's signal.
    Away(Rc<RefCell<Option<Returned>>>),
}

/// What a job on another thread brings back.
struct Returned {
    log: Box<dyn Log>,
    /// `None` when the job was upkeep.
    batch: Option<Batch>,
    result: Result<Upkeep, LogError>,
    took: Duration,
}

impl Pump {
    pub(crate) fn new(
        shard: Shard,
        log: Box<dyn Log>,
        inbox: Rc<Inbox>,
        mesh: Rc<Mesh>,
        metrics: &'static CoreMetrics,
    ) -> Pump {
        let log = LogSeat::Here(log);
        Pump { shard, log, inbox, mesh, held: VecDeque::new(), disk_wait: Duration::ZERO, metrics }
    }

    /// Runs for as long as the core does, or until `stop` is set and nothing is left to do.
    ///
    /// A commit that fails ends the process: memory is ahead of the disk then,
    /// nobody knows by how much, and a restart recovers what is certain.
    pub(crate) async fn run(mut self, stop: Rc<std::cell::Cell<bool>>) {
        loop {
            self.take_log_back();
            self.take_in();
            self.commit();
            if !self.inbox.is_empty() {
                rt::yield_now().await;
            } else if stop.get() && matches!(self.log, LogSeat::Here(_)) {
                assert!(self.held.is_empty(), "an answer was left behind");
                return;
            } else {
                self.inbox.signal.wait().await;
            }
        }
    }

    fn take_in(&mut self) {
        let now = wall_clock();
        for _ in 0..BATCH_MAX {
            let Some(ShardRequest { ask, reply_to }) = self.inbox.pop() else { break };
            let answer = match ask {
                Ask::Command(command) => self.shard.command(now, command),
                Ask::Query(query) => self.shard.query(&query),
            };
            if self.shard.is_committed(answer.after) {
                self.mesh.reply(reply_to, answer.reply);
            } else {
                self.held.push_back(Held { after: answer.after, reply_to, reply: answer.reply });
            }
        }
    }

    /// Makes the open batch durable, if there is one and the log is here.
    fn commit(&mut self) {
        let LogSeat::Here(log) = &mut self.log else { return };
        let Some(batch) = self.shard.begin_commit() else { return };
        if self.disk_wait > INLINE_COMMIT_MAX {
            self.send_log_away(Some(batch));
            return;
        }
        let start = Instant::now();
        let result = log.append(&batch.entries);
        let took = start.elapsed();
        self.finish_commit(batch, result, took);
        self.maintain();
    }

    fn finish_commit(&mut self, batch: Batch, result: Result<(), LogError>, took: Duration) {
        if let Err(error) = result {
            end_process(&error);
        }
        let waited = took.saturating_sub(ROW_COST * batch.entries.len() as u32);
        self.disk_wait = (self.disk_wait * 7 + waited) / 8;
        self.metrics.commits.add(1);
        self.metrics.records.add(batch.entries.len() as u64);
        self.shard.finish_commit(batch);
        while let Some(held) = self.held.pop_front_if(|held| self.shard.is_committed(held.after)) {
            self.mesh.reply(held.reply_to, held.reply);
        }
    }

    /// Upkeep takes milliseconds, so it is never done on the shard's core.
    fn maintain(&mut self) {
        if let LogSeat::Here(log) = &self.log
            && log.maintenance_is_due()
        {
            self.send_log_away(None);
        }
    }

    fn send_log_away(&mut self, batch: Option<Batch>) {
        let seat = Rc::new(RefCell::new(None));
        let LogSeat::Here(mut log) = std::mem::replace(&mut self.log, LogSeat::Away(Rc::clone(&seat))) else {
            unreachable!("the log is sent away from here only")
        };
        let inbox = Rc::clone(&self.inbox);
        rt::spawn(async move {
            let job = move || {
                let start = Instant::now();
                let result = match &batch {
                    Some(batch) => log.append(&batch.entries).map(|()| Upkeep::default()),
                    None => log.maintain(),
                };
                Returned { log, batch, result, took: start.elapsed() }
            };
            let returned = rt::blocking(job).await;
            *seat.borrow_mut() = Some(returned);
            inbox.signal.raise();
        });
    }

    fn take_log_back(&mut self) {
        let LogSeat::Away(seat) = &self.log else { return };
        let Some(Returned { log, batch, result, took }) = seat.take() else { return };
        self.log = LogSeat::Here(log);
        match batch {
            Some(batch) => {
                self.finish_commit(batch, result.map(drop), took);
                self.maintain();
            }
            None => match result {
                Ok(Upkeep { pages_pinned: 0 }) => {}
                Ok(Upkeep { pages_pinned }) => {
                    tracing::warn!(pages_pinned, "a reader keeps the log's journal from being written back");
                }
                Err(error) => end_process(&error),
            },
        }
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
