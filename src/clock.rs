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
    /// By how much the wall clock was corrected since the start, in milliseconds: whole seconds.
    correction: Cell<i64>,
}

impl CoreClock {
    pub(crate) fn new(origin: Origin, metrics: &'static CoreMetrics) -> Rc<CoreClock> {
        let clock = RefCell::new(Clock::new(origin.wall));
        let latest = Cell::new(origin.wall);
        let (is_off, correction) = (Cell::new(false), Cell::new(0));
        Rc::new(CoreClock { clock, origin, metrics, is_off, latest, correction })
    }

    /// Returns the time since the origin.
    pub(crate) fn elapsed(&self) -> Duration {
        boot_time().saturating_sub(self.origin.boot_time)
    }

    pub(crate) fn now(&self) -> Now {
        let mut clock = self.clock.borrow_mut();
        let now = clock.read(self.elapsed(), wall());
        self.latest.set(now.wall);
        self.correction.set(correction(self.correction.get(), now));
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

    /// A steady time as a client's clock has it, as of the latest reading. Small differences are left out: the text
    /// of a deadline would change with each of them.
    pub(crate) fn as_wall(&self, steady: Timestamp) -> Timestamp {
        Timestamp(steady.0.saturating_add_signed(self.correction.get()))
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

/// The wall time minus the steady time, in whole seconds and as milliseconds: the one before, unless it is wrong by a
/// second or more.
fn correction(before: i64, now: Now) -> i64 {
    let offset = now.wall.0.cast_signed() - now.steady.0.cast_signed();
    if (offset - before).abs() < 1000 { before } else { (offset + 500).div_euclid(1000) * 1000 }
}

/// The wall clock; 1970 for whatever is earlier.
pub(crate) fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since_epoch.map_or(0, |since| since.as_millis() as u64))
}

fn boot_time() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correction_is_whole_seconds_and_changes_seldom() {
        let start = 1_700_000_000_000;
        let mut before = 0;
        for (offset, expected) in [
            (0, 0),
            (999, 0),
            (-999, 0),
            (1000, 1000),
            (1999, 1000),
            (1, 1000),
            (0, 0),
            (-1600, -2000),
            (-1001, -2000),
            (-1000, -1000),
            (3_600_499, 3_600_000),
        ] {
            let wall = Timestamp(start + 3_600_000_u64.saturating_add_signed(offset));
            let now = Now { wall, ..Now::at(Timestamp(start + 3_600_000)) };
            before = correction(before, now);
            assert_eq!(before, expected, "{offset}");
        }
    }
}
