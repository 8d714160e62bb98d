//! Cores without io_uring: async-executor runs the tasks, and the reactor puts an idle core to sleep in epoll.
//!
//! Tasks run in the order in which they became runnable. The reactor's own task is always one of them, so each
//! round of the others ends with a poll, and it is the reactor that finds that nothing else is runnable.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use async_executor::LocalExecutor;
use futures_lite::future::block_on;
use pin_project_lite::pin_project;

use super::timers::Timers;

/// What a core's thread has.
#[derive(Default)]
struct Here {
    executor: LocalExecutor<'static>,
    timers: Rc<Timers>,
    /// Of a task that nobody awaits.
    panic: Cell<Option<Box<dyn Any + Send>>>,
}

thread_local! {
    /// `None` on a thread that is no core of this executor.
    static HERE: RefCell<Option<Rc<Here>>> = const { RefCell::new(None) };
}

/// Starts a core, and runs the future that `main` returns on it.
pub(super) fn start<F>(name: &str, main: impl FnOnce() -> F + Send + 'static) -> io::Result<JoinHandle<()>>
where
    F: Future<Output = ()> + 'static,
{
    thread::Builder::new().name(name.to_owned()).spawn(move || run(async move { main().await }))
}

/// Runs tasks until `main` has ended, and drops the others.
///
/// # Panics
///
/// When a task has panicked.
fn run(main: impl Future<Output = ()> + 'static) {
    let here = Rc::<Here>::default();
    let _stay = Stay::begin(Rc::clone(&here));
    let main = here.executor.spawn(main);
    while !main.is_finished() {
        assert!(here.executor.try_tick(), "a core has nothing to do, and its reactor has not started");
        if let Some(panic) = here.panic.take() {
            resume_unwind(panic);
        }
    }
    block_on(main);
}

/// What a thread has as long as it is a core. The tasks that are left are dropped after that.
struct Stay;

impl Stay {
    fn begin(here: Rc<Here>) -> Stay {
        HERE.set(Some(here));
        Stay
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        HERE.set(None);
    }
}

/// Whether this thread is a core of this executor.
pub(super) fn is_here() -> bool {
    HERE.with_borrow(Option::is_some)
}

/// # Panics
///
/// When this thread is no core of this executor, as all functions below.
pub(super) fn spawn(task: impl Future<Output = ()> + 'static) {
    with(|here| {
        here.executor.spawn(Detached { task }).detach();
    });
}

pin_project! {
    /// A task that nobody awaits. If it panics, so does its core.
    struct Detached<F> {
        #[pin]
        task: F,
    }
}

impl<F: Future<Output = ()>> Future for Detached<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let polled = catch_unwind(AssertUnwindSafe(|| self.project().task.poll(context)));
        polled.unwrap_or_else(|panic| {
            with(|here| here.panic.set(Some(panic)));
            Poll::Ready(())
        })
    }
}

pub(super) async fn sleep(duration: Duration) {
    let timers = with(|here| Rc::clone(&here.timers));
    timers.sleep_until(Instant::now() + duration).await;
}

/// Wakes the tasks whose time has come.
pub(super) fn fire_timers() {
    with(|here| here.timers.fire(Instant::now()));
}

/// Calls `block`, with the time until which it may block the thread, unless a task is runnable. `waker` is called
/// if another thread makes one so meanwhile.
pub(super) fn block(waker: &Waker, block: impl FnOnce(Option<Instant>)) {
    with(|here| {
        let mut tick = pin!(here.executor.tick());
        // Otherwise it has run a task.
        if tick.as_mut().poll(&mut Context::from_waker(waker)).is_pending() {
            block(here.timers.next());
        }
    });
}

fn with<T>(call: impl FnOnce(&Here) -> T) -> T {
    HERE.with_borrow(|here| call(here.as_deref().expect("this thread is a core of this executor")))
}
