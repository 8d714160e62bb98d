//! The one clock: it makes a [`Now`] of what the machine's two clocks say.
//!
//! Pure: the readings come in as arguments. Elapsed time comes from a clock that no one can set, and
//! deadlines and ages are counted in it. Times that people read follow the wall clock, but slowly: a wall
//! clock that jumps for a moment must not stamp a sale with a date that the event's later records can
//! then never be earlier than.

use std::time::Duration;

use crate::ids::Timestamp;

/// The wall time may run faster or slower than elapsed time by one part in this many while it follows the
/// wall clock: a difference of a second is gone after 20 seconds.
const SLEW_DIVISOR: u64 = 20;

/// A difference above this is a jump of the wall clock, which an operator should know of.
pub const DIFFERENCE_MAX_MS: u64 = 1000;

/// A jump that has lasted this long is taken for a correction, and followed at once. Time services set a
/// wrong clock right within the first minute of a machine's life.
const JUMP_BELIEVED_AFTER: Duration = Duration::from_secs(60);

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Time since the process started; never jumps.
    pub elapsed: Duration,
    /// The wall clock at the process's start, plus `elapsed`: the time in which deadlines are written.
    pub steady: Timestamp,
    /// The wall clock, followed slowly: the time of records, and of windows of sales. May go back.
    pub wall: Timestamp,
}

impl Now {
    /// A moment at which all clocks agree.
    pub fn at(time: Timestamp) -> Now {
        Now { elapsed: Duration::ZERO, steady: time, wall: time }
    }
}

/// Makes moments. One a core.
#[derive(Debug, Clone)]
pub struct Clock {
    origin: Timestamp,
    /// The elapsed time of the latest reading.
    elapsed: Duration,
    /// The elapsed time that the slew has used up: less than `elapsed` by a remainder, without which a clock
    /// that is read every few microseconds would not move.
    slewed: Duration,
    /// Microseconds by which the wall time is ahead of the steady time.
    offset: i64,
    /// Microseconds by which the wall clock is ahead of the wall time.
    difference: i64,
    /// The jump that is not believed yet: when it was first seen, and the wall clock's offset then.
    jump: Option<(Duration, i64)>,
}

impl Clock {
    /// A clock whose origin is the wall clock of now.
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

    /// Makes a moment of the time since the clock was made, and of what the wall clock says.
    pub fn read(&mut self, elapsed: Duration, wall: Timestamp) -> Now {
        let elapsed = elapsed.max(self.elapsed);
        let steady_us = microseconds(self.origin).saturating_add(elapsed.as_micros() as i64);
        let wall_offset = microseconds(wall) - steady_us;
        let step = (elapsed - self.slewed).as_micros() as u64 / SLEW_DIVISOR;
        self.slewed += Duration::from_micros(step * SLEW_DIVISOR);
        self.elapsed = elapsed;
        let step = step.cast_signed();
        self.offset += (wall_offset - self.offset).clamp(-step, step);
        self.watch_for_jump(wall_offset);
        self.difference = wall_offset - self.offset;
        let wall_us = (steady_us + self.offset).max(0);
        Now { elapsed, steady: milliseconds(steady_us), wall: milliseconds(wall_us) }
    }

    /// Milliseconds by which the wall clock differs from the wall time of the latest moment.
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
                if self.elapsed - since >= JUMP_BELIEVED_AFTER {
                    self.offset = wall_offset;
                    self.jump = None;
                }
            }
            // The first of it, or another jump on top.
            Some(_) | None => self.jump = Some((self.elapsed, wall_offset)),
        }
    }
}

/// A wall clock may say anything: what is beyond the year 140000 is that year.
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

    /// Reads once a second, from `from` to `to` seconds, a wall clock that is off by so many
    /// milliseconds. Returns by how much the last moment's wall time is off.
    fn read(clock: &mut Clock, seconds: std::ops::RangeInclusive<u64>, off: i64) -> i64 {
        let mut last = 0;
        for second in seconds {
            let right = START + second * 1000;
            let now = clock.read(Duration::from_secs(second), Timestamp(right.saturating_add_signed(off)));
            assert_eq!(now.steady, Timestamp(right), "elapsed time knows nothing of the wall clock");
            last = now.wall.0.cast_signed() - right.cast_signed();
        }
        last
    }

    #[test]
    fn a_jump_that_passes_leaves_no_trace() {
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
    fn small_differences_are_slewed_away() {
        let mut clock = Clock::new(Timestamp(START));
        read(&mut clock, 0..=10, 0);
        assert_eq!(read(&mut clock, 11..=14, 900), 200);
        assert_eq!(read(&mut clock, 15..=28, 900), 900);
        assert_eq!(read(&mut clock, 29..=29, -100), 850);
    }
}
