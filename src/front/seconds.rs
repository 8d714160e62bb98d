//! The time of day in whole seconds, which dates need.

use nix::time::{ClockId, clock_gettime};

/// The current Unix time in seconds; 0 for whatever is earlier.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).expect("Linux has this clock");
    u64::try_from(now.tv_sec()).unwrap_or(0)
}
