//! One core of a running server: its start, its work, and its end in order.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::assembly::{Assembled, Parts};
use crate::front::acceptor;
use crate::front::connection::Front;
use crate::mesh::Signal;
use crate::rt;
use crate::rt::net::ListeningSocket;

/// The time that requests in flight have to finish once the server drains. With what comes before and
/// after, the process ends within ten seconds.
const DRAIN_MAX: Duration = Duration::from_secs(8);

/// The time for the last refusals to be sent, after the shards have stopped.
const LAST_RESPONSES_MAX: Duration = Duration::from_millis(100);

/// What a core runs. Can be sent to the core's thread.
pub(super) struct CoreMain {
    pub(super) parts: Parts,
    pub(super) listener: ListeningSocket,
    /// Fronts of all cores that may still send requests to shards.
    pub(super) fronts_open: Arc<AtomicUsize>,
    pub(super) report: mpsc::Sender<Report>,
}

/// How a core's start went.
pub(super) enum Report {
    Runs,
    NotAssembled(io::Error),
}

impl CoreMain {
    /// Serves until the drain is over.
    pub(super) async fn run(self) {
        let assembled = self.parts.assemble().and_then(|core| {
            let listener = self.listener.open(&core.sockets)?;
            Ok((core, listener))
        });
        let (Assembled { front, pump, inbox, sockets, reactor, arrivals, clock }, listener) = match assembled
        {
            Ok(assembled) => assembled,
            Err(error) => {
                let _ = self.report.send(Report::NotAssembled(error));
                return;
            }
        };
        let stop = Rc::new(Cell::new(false));
        let stopped = Rc::new(Signal::default());
        rt::spawn({
            let (stop, stopped) = (Rc::clone(&stop), Rc::clone(&stopped));
            async move {
                pump.run(stop).await;
                stopped.raise();
            }
        });
        rt::spawn({
            let front = Rc::clone(&front);
            let totals = Totals::new(&front);
            Rc::clone(&front.deadlines).sweep(move || {
                front.make_room_for_other_cores();
                totals.renew(&front);
            })
        });
        rt::spawn(clock.tick());
        rt::spawn(arrivals.serve(Rc::clone(&front), sockets));
        reactor.start();
        let _ = self.report.send(Report::Runs);
        acceptor::run(Rc::clone(&front), listener).await;

        front.finish(DRAIN_MAX).await;
        // A shard runs until no front sends requests any more.
        front.api.closed.set(true);
        self.fronts_open.fetch_sub(1, Ordering::AcqRel);
        while self.fronts_open.load(Ordering::Acquire) > 0 {
            rt::sleep(Duration::from_millis(5)).await;
        }
        stop.set(true);
        inbox.signal.raise();
        stopped.wait().await;
        let deadline = Instant::now() + LAST_RESPONSES_MAX;
        while front.is_busy() && Instant::now() < deadline {
            rt::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// The sums over this core's shard that all can read.
struct Totals {
    /// The number of records when they were read.
    records: Cell<u64>,
    is_asking: Cell<bool>,
}

impl Totals {
    /// Those that the core was assembled with.
    fn new(front: &Front) -> Rc<Totals> {
        Rc::new(Totals { records: Cell::new(front.metrics.records.get()), is_asking: Cell::new(false) })
    }

    /// Asks the shard for them if they may have changed, until it stops.
    fn renew(self: &Rc<Self>, front: &Rc<Front>) {
        let records = front.metrics.records.get();
        if records == self.records.get() || self.is_asking.get() || front.api.closed.get() {
            return;
        }
        self.is_asking.set(true);
        let (totals, front) = (Rc::clone(self), Rc::clone(front));
        rt::spawn(async move {
            // An overloaded core tries again.
            if let Ok(sums) = front.api.shards.totals_of_core().await {
                front.metrics.publish(sums);
                totals.records.set(records);
            }
            totals.is_asking.set(false);
        });
    }
}
