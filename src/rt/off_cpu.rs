//! How long a thread was off its CPU, waiting.

use std::fs::File;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use rustix::io::pread;

/// Measures how long this thread is blocked, on a disk or anything else. Excludes the time in which it ran, and
/// the time in which it was runnable but other threads had the CPUs.
pub(crate) struct OffCpu {
    start: Instant,
    runnable: Duration,
}

impl OffCpu {
    pub(crate) fn start() -> OffCpu {
        OffCpu { start: Instant::now(), runnable: runnable() }
    }

    /// The time off CPU since the start, which was on the same thread.
    pub(crate) fn time(&self) -> Duration {
        self.start.elapsed().saturating_sub(runnable().saturating_sub(self.runnable))
    }
}

/// How long this thread has been running or runnable.
fn runnable() -> Duration {
    let ran = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("each thread has this clock");
    Duration::from(ran) + waited_for_cpu()
}

thread_local! {
    /// `None` on a kernel without these statistics.
    static SCHEDSTAT: Option<File> = File::open("/proc/thread-self/schedstat").ok();
}

/// The time on a run queue: the second figure of `schedstat`, in nanoseconds (Linux,
/// `Documentation/scheduler/sched-stats.rst`).
fn waited_for_cpu() -> Duration {
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
    fn sleep_is_off_cpu() {
        let off_cpu = OffCpu::start();
        thread::sleep(SPAN);
        assert!(off_cpu.time() > SPAN / 2, "{:?} of {SPAN:?}", off_cpu.time());
    }

    /// With more runnable threads than CPUs. Repeated, since a virtual machine may be paused meanwhile.
    #[test]
    fn running_and_waiting_for_a_cpu_are_not_off_cpu() {
        let threads = 4 * thread::available_parallelism().map_or(1, NonZero::get);
        let spin = || {
            let (off_cpu, start) = (OffCpu::start(), Instant::now());
            while start.elapsed() < SPAN {
                hint::spin_loop();
            }
            off_cpu.time()
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
