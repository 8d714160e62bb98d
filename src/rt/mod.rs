//! The only module that names a runtime. It contains everything that the server needs of one, so that it can be
//! replaced.
//!
//! Each core is one executor on a thread of its own: glommio's ([`on_glommio`]), or, where io_uring is refused,
//! async-executor's ([`on_epoll`]). Only this module knows which. Cores share nothing here but channels
//! ([`channel`]), wakers ([`waker`]) and threads for work that blocks ([`workers`]).

pub(crate) mod channel;
mod executor;
pub(crate) mod net;
pub(crate) mod off_cpu;
mod on_epoll;
mod on_glommio;
mod probe;
pub(crate) mod reactor;
mod readiness;
mod timers;
pub(crate) mod waker;
pub(crate) mod workers;

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

pub(crate) use executor::{Core, Executor, ExecutorChoice};
pub(crate) use futures_lite::future::yield_now;
pub(crate) use probe::Refusal;

/// Starts a task on this core, and does not wait for it.
pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) {
    spawn_uncounted(Counted { task });
}

/// Starts a task whose turns do not count as activity.
fn spawn_uncounted(task: impl Future<Output = ()> + 'static) {
    if on_epoll::is_here() {
        on_epoll::spawn(task);
    } else {
        on_glommio::spawn(task);
    }
}

thread_local! {
    /// Counts turns of this core's tasks, and polls that found something. If it is unchanged after all other
    /// tasks could have had a turn, none of them is runnable.
    static ACTIVITY: Cell<u64> = const { Cell::new(0) };
}

fn count_activity() {
    ACTIVITY.set(ACTIVITY.get() + 1);
}

pin_project! {
    /// A task whose turns are counted.
    struct Counted<F> {
        #[pin]
        task: F,
    }
}

impl<F: Future<Output = ()>> Future for Counted<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        count_activity();
        self.project().task.poll(context)
    }
}

pub(crate) async fn sleep(duration: Duration) {
    if on_epoll::is_here() {
        on_epoll::sleep(duration).await;
    } else {
        on_glommio::sleep(duration).await;
    }
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
