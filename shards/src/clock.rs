//! The clock of a core: it makes a [`Now`] of readings of the machine's two clocks.
//!
//! It is pure: the readings are arguments. Elapsed time comes from a clock that cannot be set; deadlines and
//! ages are measured in it. The times of records follow the wall clock, but slowly. Otherwise a short jump of
//! the wall clock would put a wrong date on sales.

use std::time::Duration;

use crate::ids::Timestamp;

/// While the wall time follows the wall clock, it runs faster or slower than elapsed time by one part in this
/// many: a difference of one second takes 20 seconds.
const SLEW_DIVISOR: u64 = 20;

/// A larger difference is a jump of the wall clock, and is reported.
pub const DIFFERENCE_MAX_MS: u64 = 1000;

/// A jump that has lasted this long counts as a correction, and is followed at once. Time services correct a
/// wrong clock within the first minute after boot.
const JUMP_ACCEPTED_AFTER: Duration = Duration::from_secs(60);

/// A slot's time may be ahead of the wall time by this much; beyond it, the slot's next record is preceded by
/// one that sets its time back. Corrections of some seconds are ordinary: a start reads the time from hardware
/// that counts whole seconds and drifts by one or two a day. So within this bound, times never decrease in a
/// slot, and a time is wrong by the bound at most, for as long at most.
pub const AHEAD_MAX_MS: u64 = 10_000;

/// A moment, as three times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Time since the process started; never jumps.
    pub elapsed: Duration,
    /// The wall clock at the start of the process, plus `elapsed`. Deadlines are recorded in this time.
    pub steady: Timestamp,
    /// A time that follows the wall clock slowly, for records and sales windows. It may go back.
    pub wall: Timestamp,
}

impl Now {
    /// A moment at which both clocks agree.
    pub fn at(time: Timestamp) -> Now {
        Now { elapsed: Duration::ZERO, steady: time, wall: time }
    }
}

/// The clock of a core.
#[derive(Debug, Clone)]
pub struct Clock {
    origin: Timestamp,
    /// The elapsed time of the latest reading.
    elapsed: Duration,
    /// The elapsed time for which the slew is done. The rest up to `elapsed` is too short for a whole
    /// microsecond of slew, and is kept for the next reading. Otherwise a clock that is read every few
    /// microseconds would never be slewed.
    slewed: Duration,
    /// The wall time minus the steady time, in microseconds.
    offset: i64,
    /// The wall clock minus the wall time, in microseconds.
    difference: i64,
    /// A jump that is not accepted yet: the elapsed time when it was first seen, and the offset of the wall
    /// clock from the steady time then.
    jump: Option<(Duration, i64)>,
}

impl Clock {
    /// Makes a clock that starts at this wall time.
    pub fn new(wall: Timestamp) -> Clock {
        Clock {
            origin: wall,
            elapsed: Duration::ZERO,
            slewed: Duration::ZERO,
            offset: 0,
            difference: 0,
            jump: None,
        }
    }

    /// Makes a moment from the time since the clock was made and a reading of the wall clock.
    pub fn read(&mut self, elapsed: Duration, wall: Timestamp) -> Now {
        let elapsed = elapsed.max(self.elapsed);
        let steady_us = microseconds(self.origin).saturating_add(elapsed.as_micros() as i64);
        let wall_offset = microseconds(wall) - steady_us;
        let unread = elapsed - self.elapsed;
        self.elapsed = elapsed;
        if unread >= JUMP_ACCEPTED_AFTER {
            // The machine was suspended, or nothing read the clock. As at a start, only the wall clock gives
            // the time.
            (self.offset, self.slewed, self.jump) = (wall_offset, elapsed, None);
        } else {
            let step = (elapsed - self.slewed).as_micros() as u64 / SLEW_DIVISOR;
            self.slewed += Duration::from_micros(step * SLEW_DIVISOR);
            let step = step.min(DIFFERENCE_MAX_MS * 1000).cast_signed();
            self.offset += (wall_offset - self.offset).clamp(-step, step);
            self.watch_for_jump(wall_offset);
        }
        self.difference = wall_offset - self.offset;
        let wall_us = (steady_us + self.offset).max(0);
        Now { elapsed, steady: milliseconds(steady_us), wall: milliseconds(wall_us) }
    }

    /// The difference between the wall clock and the wall time at the latest reading, in milliseconds.
    pub fn difference_ms(&self) -> u64 {
        self.difference.unsigned_abs() / 1000
    }

    fn watch_for_jump(&mut self, wall_offset: i64) {
        let is_far = |from: i64| wall_offset.abs_diff(from) > DIFFERENCE_MAX_MS * 1000;
        if !is_far(self.offset) {
            self.jump = None;
            return;
        }
        match self.jump {
            Some((since, offset)) if !is_far(offset) => {
                if self.elapsed - since >= JUMP_ACCEPTED_AFTER {
                    self.offset = wall_offset;
                    self.jump = None;
                }
            }
            // The jump is new, or another one followed.
            Some(_) | None => self.jump = Some((self.elapsed, wall_offset)),
        }
    }
}

/// Limits the wall clock to the year 140000, so that no sum overflows.
fn microseconds(time: Timestamp) -> i64 {
    time.0.min(1 << 52).cast_signed() * 1000
}

fn milliseconds(microseconds: i64) -> Timestamp {
    Timestamp(microseconds.cast_unsigned() / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_700_000_000_000;
    const HOUR: i64 = 3_600_000;
    const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR;

    /// Reads the clock once in each of these seconds, with a wall clock that is off by `off` milliseconds.
    /// Returns by how much the last wall time is off.
    fn read(clock: &mut Clock, seconds: std::ops::RangeInclusive<u64>, off: i64) -> i64 {
        let mut last = 0;
        for second in seconds {
            let right = START + second * 1000;
            let now = clock.read(Duration::from_secs(second), Timestamp(right.saturating_add_signed(off)));
            assert_eq!(now.steady, Timestamp(right), "elapsed time does not depend on the wall clock");
            last = now.wall.0.cast_signed() - right.cast_signed();
        }
        last
    }

    #[test]
    fn a_short_jump_has_no_lasting_effect() {
        for off in [HOUR, -HOUR, TEN_YEARS, -TEN_YEARS] {
            let mut clock = Clock::new(Timestamp(START));
            assert_eq!(read(&mut clock, 0..=10, 0), 0);
            let moved = read(&mut clock, 11..=40, off);
            assert_eq!(moved, off.signum() * 30 * 50, "no faster than the slew");
            assert!(clock.difference_ms() > DIFFERENCE_MAX_MS);
            assert_eq!(read(&mut clock, 41..=100, 0), 0, "off by {off}");
            assert_eq!(clock.difference_ms(), 0);
        }
    }

    #[test]
    fn a_jump_that_lasts_is_followed() {
        for off in [HOUR, -HOUR, TEN_YEARS, -TEN_YEARS] {
            let mut clock = Clock::new(Timestamp(START));
            read(&mut clock, 0..=10, 0);
            assert_ne!(read(&mut clock, 11..=70, off), off, "not yet");
            assert_eq!(read(&mut clock, 71..=72, off), off);
            assert_eq!(clock.difference_ms(), 0);
        }
    }

    /// A busy core reads its clock every few microseconds.
    #[test]
    fn the_slew_does_not_depend_on_how_often_the_clock_is_read() {
        for interval_us in [1, 7, 19, 39, 1000] {
            let mut clock = Clock::new(Timestamp(START));
            let mut now = Now::at(Timestamp(START));
            for elapsed_us in (0..=2_000_000).step_by(interval_us) {
                let elapsed = Duration::from_micros(elapsed_us);
                now = clock.read(elapsed, Timestamp(START + 900 + elapsed_us / 1000));
            }
            let moved = now.wall.0 - now.steady.0;
            assert!((99..=100).contains(&moved), "{moved} ms, read every {interval_us} us");
        }
    }

    #[test]
    fn a_clock_that_was_not_read_for_long_follows_at_once() {
        for off in [HOUR, -HOUR, TEN_YEARS, -TEN_YEARS] {
            let mut clock = Clock::new(Timestamp(START));
            read(&mut clock, 0..=10, 0);
            assert_eq!(read(&mut clock, 7200..=7200, off), off);
            assert_eq!(clock.difference_ms(), 0);
        }
    }

    /// In a debug build, an overflow would be a panic. The kernel's clocks end after 292 years.
    #[test]
    fn no_reading_overflows() {
        const YEARS: u64 = 365 * 24 * 3600;
        for origin in [0, START, 1 << 52, u64::MAX] {
            let mut clock = Clock::new(Timestamp(origin));
            for seconds in [0, 1, 2, 100, 101, YEARS, YEARS + 1, 300 * YEARS, 300 * YEARS + 1] {
                for wall in [u64::MAX, 0, START, 1 << 52, 0] {
                    let now = clock.read(Duration::from_secs(seconds), Timestamp(wall));
                    assert!(now.wall.0 <= 1 << 54, "{origin} {seconds} {wall}: {now:?}");
                }
            }
        }
    }

    #[test]
    fn small_differences_are_slewed_away() {
        let mut clock = Clock::new(Timestamp(START));
        read(&mut clock, 0..=10, 0);
        assert_eq!(read(&mut clock, 11..=14, 900), 200);
        assert_eq!(read(&mut clock, 15..=28, 900), 900);
        assert_eq!(read(&mut clock, 29..=29, -100), 850);
    }
}
