//! Cores on glommio: its executor runs the tasks, and its io_uring puts an idle core to sleep.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use glommio::io::PollableFd;
use glommio::{ExecutorJoinHandle, Latency, LocalExecutorBuilder, Placement, Shares};

/// Memory that is registered with the kernel for each ring, three rings a core. Only direct file I/O would
/// use it, and there is none; the runtime's default of 10 MiB would exceed the limit of locked memory.
const IO_MEMORY_BYTES: usize = 64 * 1024;

/// The latency class of the server's task queue: it receives wake-ups from other threads at once, unless the core
/// blocks in epoll (see [`super::reactor`]). The default queue receives them when its next timer fires, tens of
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

thread_local! {
    /// The core does not poll: the runtime waits for events.
    static PARKED: Cell<bool> = const { Cell::new(false) };
}

/// Starts a core, and runs the future that `main` returns on it.
pub(super) fn start<F>(
    name: &str,
    main: impl FnOnce() -> F + Send + 'static,
) -> io::Result<ExecutorJoinHandle<()>>
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
        let task = glommio::spawn_local_into(async move { main().await }, queue);
        for index in 1..=PULSES {
            glommio::spawn_local(async move {
                loop {
                    let awake = index == 1 && !is_parked();
                    sleep(if awake { PULSE_AWAKE } else { PULSE * index }).await;
                }
            })
            .detach();
        }
        task.expect("the queue was just made").await;
    });
    handle.map_err(io::Error::from)
}

pub(super) fn spawn(task: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(task).detach();
}

pub(super) async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// Waits until the epoll instance has events. The runtime may put the core to sleep meanwhile.
pub(super) async fn park(epoll: Rc<OwnedFd>) {
    PARKED.set(true);
    let pollable = PollableFd::new(epoll).expect("this runs on the runtime");
    pollable.readable().await.expect("an epoll instance can be polled");
    PARKED.set(false);
}

/// Whether a task waits in [`park`]. Always false on the other executor.
pub(super) fn is_parked() -> bool {
    PARKED.get()
}
