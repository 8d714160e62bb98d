//! Reads the machine's two clocks for the domain's one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use shards::clock::{Clock, DIFFERENCE_MAX_MS, Now};
use shards::ids::Timestamp;

use crate::metrics::CoreMetrics;

/// A core's clock. Elapsed time is `CLOCK_BOOTTIME`, which goes on while the machine is suspended.
pub(crate) struct CoreClock {
    clock: Clock,
    start: Duration,
    metrics: &'static CoreMetrics,
    is_off: bool,
}

impl CoreClock {
    pub(crate) fn new(metrics: &'static CoreMetrics) -> CoreClock {
        CoreClock { clock: Clock::new(wall()), start: boot_time(), metrics, is_off: false }
    }

    /// Time since this clock was made.
    pub(crate) fn elapsed(&self) -> Duration {
        boot_time().saturating_sub(self.start)
    }

    pub(crate) fn now(&mut self) -> Now {
        let now = self.clock.read(self.elapsed(), wall());
        let difference_ms = self.clock.difference_ms();
        self.metrics.clock_difference_ms.set(difference_ms);
        if self.is_off != (difference_ms > DIFFERENCE_MAX_MS) {
            self.is_off = !self.is_off;
            if self.is_off {
                tracing::warn!(difference_ms, "the wall clock jumped: times of sales follow it slowly");
            } else {
                tracing::info!("times of sales are those of the wall clock again");
            }
        }
        now
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
