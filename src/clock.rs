//! Reads the machine's two clocks for the domain's one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use shards::clock::{Clock, DIFFERENCE_MAX_MS, Now};
use shards::ids::Timestamp;

use crate::metrics::CoreMetrics;
use crate::rt;

/// The interval at which an idle core reads its clock, so that it notices a jump and takes a correction
/// before the next request comes.
const TICK: Duration = Duration::from_secs(1);

/// The start of the process's time, one for all cores.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    wall: Timestamp,
    boot_time: Duration,
}

impl Origin {
    pub(crate) fn now() -> Origin {
        Origin { wall: wall(), boot_time: boot_time() }
    }
}

/// A core's clock. Elapsed time is `CLOCK_BOOTTIME`, which goes on while the machine is suspended.
pub(crate) struct CoreClock {
    clock: RefCell<Clock>,
    origin: Origin,
    metrics: &'static CoreMetrics,
    /// The wall clock differs from the wall time by more than [`DIFFERENCE_MAX_MS`].
    is_off: Cell<bool>,
    /// The wall time of the latest reading.
    latest: Cell<Timestamp>,
}

impl CoreClock {
    pub(crate) fn new(origin: Origin, metrics: &'static CoreMetrics) -> Rc<CoreClock> {
        let clock = RefCell::new(Clock::new(origin.wall));
        let latest = Cell::new(origin.wall);
        Rc::new(CoreClock { clock, origin, metrics, is_off: Cell::new(false), latest })
    }

    /// Returns the time since the origin.
    pub(crate) fn elapsed(&self) -> Duration {
        boot_time().saturating_sub(self.origin.boot_time)
    }

    pub(crate) fn now(&self) -> Now {
        let mut clock = self.clock.borrow_mut();
        let now = clock.read(self.elapsed(), wall());
        self.latest.set(now.wall);
        let difference_ms = clock.difference_ms();
        self.metrics.clock_difference_ms.set(difference_ms);
        let is_off = difference_ms > DIFFERENCE_MAX_MS;
        if self.is_off.replace(is_off) != is_off {
            if is_off {
                tracing::warn!(difference_ms, "the wall clock jumped: times of sales follow it slowly");
            } else {
                tracing::info!("times of sales are those of the wall clock again");
            }
        }
        now
    }

    /// The wall time in seconds, as of the latest reading, which is a second old at most.
    pub(crate) fn unix_time(&self) -> u64 {
        self.latest.get().0 / 1000
    }

    /// Reads the clock once a second, for as long as the core runs.
    pub(crate) async fn tick(self: Rc<Self>) {
        loop {
            rt::sleep(TICK).await;
            self.now();
        }
    }
}

/// The wall clock; 1970 for whatever is earlier.
pub(crate) fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since_epoch.map_or(0, |since| since.as_millis() as u64))
}

fn boot_time() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock").into()
}
