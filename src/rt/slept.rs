//! How long a thread sleeps.

use std::fs::File;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use rustix::io::pread;

/// Of the time since this was made: what its thread slept, waiting for a disk or whatever else. Not
/// what it ran, and not what it waited for a CPU that others had.
pub(crate) struct Slept {
    start: Instant,
    awake: Duration,
}

impl Slept {
    pub(crate) fn start() -> Slept {
        Slept { start: Instant::now(), awake: awake() }
    }

    /// On the same thread.
    pub(crate) fn time(&self) -> Duration {
        self.start.elapsed().saturating_sub(awake().saturating_sub(self.awake))
    }
}

/// For how long this thread ran, or could have.
fn awake() -> Duration {
    let ran = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("each thread has this clock");
    Duration::from(ran) + waited_for_a_cpu()
}

thread_local! {
    /// `None` on a kernel that does not count this.
    static SCHEDSTAT: Option<File> = File::open("/proc/thread-self/schedstat").ok();
}

/// The second figure of `schedstat`, in nanoseconds (Linux, `Documentation/scheduler/sched-stats.rst`).
fn waited_for_a_cpu() -> Duration {
    let read = SCHEDSTAT.with(|file| {
        let mut line = [0; 80];
        let length = pread(file.as_ref()?, &mut line, 0).ok()?;
        str::from_utf8(&line[..length]).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
    });
    Duration::from_nanos(read.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;
    use std::{hint, thread};

    use super::*;

    const SPAN: Duration = Duration::from_millis(50);

    #[test]
    fn sleep_is_sleep() {
        let slept = Slept::start();
        thread::sleep(SPAN);
        assert!(slept.time() > SPAN / 2, "{:?} of {SPAN:?}", slept.time());
    }

    /// However many want the CPUs. Several times, since a virtual machine may stand still meanwhile.
    #[test]
    fn running_and_waiting_for_a_cpu_are_no_sleep() {
        let threads = 4 * thread::available_parallelism().map_or(1, NonZero::get);
        let spin = || {
            let (slept, start) = (Slept::start(), Instant::now());
            while start.elapsed() < SPAN {
                hint::spin_loop();
            }
            slept.time()
        };
        let shortest = (0..10).flat_map(|_| {
            thread::scope(|scope| {
                let spinning: Vec<_> = (0..threads).map(|_| scope.spawn(spin)).collect();
                spinning.into_iter().map(|thread| thread.join().expect("it only spins")).max()
            })
        });
        let shortest = shortest.min().expect("ten times");
        assert!(shortest < SPAN / 2, "{shortest:?} of {SPAN:?}");
    }
}
