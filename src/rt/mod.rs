//! The only module that names the runtime (glommio). It contains everything that the server needs of a
//! runtime, so that glommio can be replaced.
//!
//! Each core is one executor on a thread of its own. Cores share nothing here but channels ([`channel`]),
//! wakers ([`waker`]) and threads for work that blocks ([`workers`]).

pub(crate) mod channel;
pub(crate) mod net;
pub(crate) mod off_cpu;
mod probe;
pub(crate) mod reactor;
mod readiness;
pub(crate) mod waker;
pub(crate) mod workers;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use glommio::{Latency, LocalExecutorBuilder, Placement, Shares};

pub(crate) use probe::{RuntimeError, check};

/// Memory that is registered with the kernel for each ring, three rings a core. Only direct file I/O would
/// use it, and there is none; the runtime's default of 10 MiB would exceed the limit of locked memory.
const IO_MEMORY_BYTES: usize = 64 * 1024;

/// The latency class of the server's task queue: it receives wake-ups from other threads at once, unless the core
/// blocks in epoll (see [`reactor`]). The default queue receives them when its next timer fires, tens of
/// milliseconds later.
const WAKE_LATENCY: Duration = Duration::from_millis(10);

/// A core has timers of one, two, three... times this period, so that it never sleeps for long.
///
/// The runtime's loop mistakes "preempted before the first task" for "nothing to run". It may then sleep
/// although tasks are runnable, until another event wakes it. With more cores than CPUs, a start during which
/// no other event came hung for this reason. It can happen again when a timer fires, so there are several.
const PULSE: Duration = Duration::from_millis(50);
const PULSES: u32 = 4;

/// The period of the first timer while the core is awake, when only a timer would end such a sleep. Timers
/// fire only when the runtime has the core, so they cost next to nothing.
const PULSE_AWAKE: Duration = Duration::from_millis(5);

/// A core's thread. It ends with the future that it was started with.
pub(crate) struct Core(glommio::ExecutorJoinHandle<()>);

impl Core {
    /// Starts an executor and runs the future that `main` returns on it. The kernel chooses among the
    /// process's CPUs.
    ///
    /// # Errors
    ///
    /// When no thread can be started. Errors of the runtime itself are returned by [`Core::join`].
    pub(crate) fn spawn<F>(name: &str, main: impl FnOnce() -> F + Send + 'static) -> io::Result<Core>
    where
        F: Future<Output = ()> + 'static,
    {
        let builder = LocalExecutorBuilder::new(Placement::Unbound).name(name).io_memory(IO_MEMORY_BYTES);
        let handle = builder.spawn(move || async move {
            let queue = glommio::executor().create_task_queue(
                Shares::default(),
                Latency::Matters(WAKE_LATENCY),
                "server",
            );
            let task = glommio::spawn_local_into(async move { counted(main()).await }, queue);
            for index in 1..=PULSES {
                glommio::spawn_local(async move {
                    loop {
                        let awake = index == 1 && !PARKED.get();
                        sleep(if awake { PULSE_AWAKE } else { PULSE * index }).await;
                    }
                })
                .detach();
            }
            task.expect("the queue was just made").await;
        });
        Ok(Core(handle.map_err(io::Error::from)?))
    }

    /// Waits for the core to end.
    ///
    /// # Errors
    ///
    /// When its executor could not start, or a task on it panicked.
    pub(crate) fn join(self) -> io::Result<()> {
        self.0.join().map_err(io::Error::from)
    }
}

/// Starts a task on this core, and does not wait for it.
pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(counted(task)).detach();
}

thread_local! {
    /// Counts turns of this core's tasks, and polls that found something. If it is unchanged after all other
    /// tasks could have had a turn, none of them is runnable.
    static ACTIVITY: Cell<u64> = const { Cell::new(0) };
    /// The core does not poll: the runtime waits for events.
    static PARKED: Cell<bool> = const { Cell::new(false) };
}

fn count_activity() {
    ACTIVITY.set(ACTIVITY.get() + 1);
}

/// Counts the turns of a task.
async fn counted(task: impl Future<Output = ()>) {
    let mut task = pin!(task);
    poll_fn(|context| {
        count_activity();
        task.as_mut().poll(context)
    })
    .await;
}

pub(crate) async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// How long a task runs at a time while it always has something to do. It is some hundred requests long,
/// so that yielding costs little, and short beside the time in which a client expects an answer.
const TIME_SLICE: Duration = Duration::from_millis(1);

/// The time that a task has before other tasks of its core have to run. A task that serves a client checks
/// it wherever it could go on for as long as the client sends, since nothing interrupts it.
pub(crate) struct TimeSlice {
    since: Instant,
}

impl TimeSlice {
    /// A slice that begins now.
    pub(crate) fn begin() -> TimeSlice {
        TimeSlice::since(Instant::now())
    }

    /// A slice that has begun.
    pub(crate) fn since(since: Instant) -> TimeSlice {
        TimeSlice { since }
    }

    /// If the slice is over, lets other tasks run, and begins the next one.
    pub(crate) async fn yield_if_over(&mut self) {
        if self.since.elapsed() >= TIME_SLICE {
            yield_now().await;
            self.since = Instant::now();
        }
    }
}

/// Lets other tasks of this core run. The calling task stays runnable, so the core does not sleep.
pub(crate) async fn yield_now() {
    glommio::executor().yield_now().await;
}
