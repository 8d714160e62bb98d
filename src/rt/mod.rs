//! The only place that names the runtime (glommio). Everything that the server
//! needs of one stands here, so that another could take its place.
//!
//! One executor a core, each on a thread of its own; nothing here is shared
//! between cores but [`channel`] and its [`bell`].

pub(crate) mod attention;
pub(crate) mod bell;
pub(crate) mod beside;
pub(crate) mod channel;
pub(crate) mod net;
mod probe;
mod readiness;
pub(crate) mod slept;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::time::Duration;

use glommio::{Latency, LocalExecutorBuilder, Placement, Shares};

pub(crate) use probe::{RuntimeError, check};

/// Registered with the kernel per ring, three rings a core. Only direct file
/// I/O would use it, and there is none; the runtime's default of 10 MiB would
/// only run into the limit of locked memory.
const IO_MEMORY_BYTES: usize = 64 * 1024;

/// A queue with this is told at once of wake-ups from other threads, unless the core naps (see
/// [`attention`]); the default one hears of them when its next timer fires, tens of milliseconds later.
const WAKE_LATENCY: Duration = Duration::from_millis(10);

/// A core's timers, of one, two, three... times this, so that it never sleeps for long.
///
/// The runtime's loop takes "preempted before the first task" for "nothing to
/// run", and may then sleep on tasks that could run until something else wakes
/// it. A start where nothing else comes hung so, with more cores than CPUs. It
/// can happen again as a timer fires, so there are several.
const PULSE: Duration = Duration::from_millis(50);
const PULSES: u32 = 4;

/// The first timer, while the core is awake: nothing but timers would end such a sleep then. They
/// only fire where the runtime has the core, so they cost next to nothing.
const PULSE_AWAKE: Duration = Duration::from_millis(5);

/// A core's thread. Ends when the future that it was started with does.
pub(crate) struct Core(glommio::ExecutorJoinHandle<()>);

impl Core {
    /// Starts an executor and runs on it what `main` returns. The kernel says on which of the process's
    /// CPUs.
    ///
    /// # Errors
    ///
    /// When no thread can be had. Errors of the runtime itself come out of [`Core::join`].
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

/// Runs a task on this core, in its own time.
pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(counted(task)).detach();
}

thread_local! {
    /// What happened on this core: turns of its tasks, and news. Whoever finds it as it was, after
    /// all others could have had a turn, knows that none of them can run.
    static ACTIVITY: Cell<u64> = const { Cell::new(0) };
    /// Nobody looks for news: the runtime has them watched.
    static PARKED: Cell<bool> = const { Cell::new(false) };
}

fn count_activity() {
    ACTIVITY.set(ACTIVITY.get() + 1);
}

/// The task, with its turns counted.
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

/// Lets other tasks of this core run. Whoever calls this has more to do, so the core does not sleep.
pub(crate) async fn yield_now() {
    glommio::executor().yield_now().await;
}
