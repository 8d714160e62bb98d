//! Threads for work that blocks: a queue of jobs, and results that tasks of a core await.
//!
//! A worker sends its result to the core that asked, and wakes that core if it sleeps. The core delivers the
//! result when it next polls (see [`super::reactor`]), so a task is always woken on its own core.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{self, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use futures_channel::oneshot;

use super::channel::{Receiver, Sender, channel};
use super::waker::CoreWaker;

/// The niceness of workers with low priority.
const LOW_PRIORITY: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// Delivers a result, on the core that asked for it.
pub(super) type Completion = Box<dyn FnOnce() + Send>;

/// The queue is full, and nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull;

/// Threads that share one bounded queue. They end when all clones of this are dropped and the queue is empty.
#[derive(Clone)]
pub(crate) struct Workers {
    jobs: SyncSender<Job>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    Normal,
    /// Runs at a higher niceness, so that the cores get the CPU first.
    Low,
}

impl Workers {
    /// Starts a thread for each name. At most `queue_max` jobs wait for a thread.
    ///
    /// # Errors
    ///
    /// When a thread cannot be started.
    pub(crate) fn start(
        names: impl IntoIterator<Item = String>,
        queue_max: usize,
        priority: Priority,
    ) -> io::Result<Workers> {
        let (jobs, queue) = sync_channel(queue_max);
        let queue = Arc::new(Mutex::new(queue));
        for name in names {
            let queue = Arc::clone(&queue);
            thread::Builder::new().name(name).spawn(move || work(&queue, priority))?;
        }
        Ok(Workers { jobs })
    }

    /// Queues `work`, and returns a future of its result. The work is done even if that future is dropped.
    ///
    /// # Errors
    ///
    /// [`QueueFull`], and `work` is dropped.
    ///
    /// # Panics
    ///
    /// When this thread is no core. The future panics when `work` does.
    pub(crate) fn run<T, W>(&self, work: W) -> Result<impl Future<Output = T> + use<T, W>, QueueFull>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let core = COMPLETIONS.with_borrow(Option::clone).expect("workers are asked by a core");
        let (sender, result) = oneshot::channel::<thread::Result<T>>();
        let job = move || {
            let result = catch_unwind(AssertUnwindSafe(work));
            core.send(Box::new(move || {
                // Fails when the future was dropped.
                let _ = sender.send(result);
            }));
        };
        match self.jobs.try_send(Box::new(job)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(QueueFull),
            Err(TrySendError::Disconnected(_)) => unreachable!("workers live as long as their queue"),
        }
        Ok(async {
            let result = result.await.expect("each job sends its result");
            result.unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}

fn work(queue: &Mutex<mpsc::Receiver<Job>>, priority: Priority) {
    // On Linux the niceness is that of the calling thread.
    if priority == Priority::Low
        && let Err(error) = rustix::process::nice(LOW_PRIORITY)
    {
        tracing::warn!(%error, "workers run at normal priority");
    }
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        job();
    }
}

thread_local! {
    /// Where workers send what they have finished for tasks of this thread's core.
    static COMPLETIONS: RefCell<Option<Sender<Completion>>> = const { RefCell::new(None) };
}

/// Makes this thread the core to which results are sent. `waker` wakes it.
pub(super) fn completions(waker: CoreWaker) -> Receiver<Completion> {
    let (sender, receiver) = channel(waker);
    COMPLETIONS.set(Some(sender));
    receiver
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use futures_lite::FutureExt;

    use super::*;
    use crate::rt::Core;
    use crate::rt::reactor::Reactor;
    use crate::rt::readiness::Sockets;

    fn workers(queue_max: usize) -> Workers {
        Workers::start(["worker".to_owned()], queue_max, Priority::Low).expect("a thread can be started")
    }

    /// Runs `main` on a core with a reactor, and returns how the core ended.
    fn on_a_core<F: Future<Output = ()> + 'static>(
        main: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<()> {
        let core = Core::spawn("test", move || async move {
            let waker = CoreWaker::new().expect("descriptors are left");
            let sockets = Sockets::new(&waker).expect("descriptors are left");
            Reactor::new(sockets, waker, || false).start();
            main().await;
        });
        core.expect("a thread can be started").join()
    }

    /// The core is busy, sleeps or is parked when the result comes.
    #[test]
    fn a_result_wakes_the_core_that_asked() {
        const CORES: usize = 2;
        const JOBS: u64 = 300;
        let workers = workers(CORES);
        let ask = move |workers: Workers| async move {
            for job in 0..JOBS {
                let work = move || {
                    thread::sleep(Duration::from_micros(job % 7 * 700));
                    job
                };
                assert_eq!(workers.run(work).expect("each core asks for one at a time").await, job);
            }
        };
        let (sender, ended) = mpsc::channel();
        for _ in 0..CORES {
            let (workers, sender) = (workers.clone(), sender.clone());
            thread::spawn(move || sender.send(on_a_core(move || ask(workers))));
        }
        for _ in 0..CORES {
            let ended = ended.recv_timeout(Duration::from_secs(30));
            ended.expect("each result wakes its core").expect("no task panics");
        }
    }

    #[test]
    fn a_full_queue_refuses() {
        let workers = workers(1);
        let ended = on_a_core(move || async move {
            let (release, held) = mpsc::channel::<()>();
            let (began, begun) = mpsc::channel();
            let first = workers.run(move || {
                began.send(()).expect("the test waits for it");
                held.recv().expect("the test sends it");
                1
            });
            begun.recv().expect("the worker takes the first job");
            let second = workers.run(|| 2).expect("one job may wait");
            assert!(matches!(workers.run(|| 3), Err(QueueFull)));
            release.send(()).expect("the worker waits for it");
            assert_eq!((first.expect("the queue was empty").await, second.await), (1, 2));

            // A job whose result is not awaited is done all the same.
            let (told, done) = mpsc::channel();
            drop(workers.run(move || told.send(()).expect("the test waits for it")).expect("there is room"));
            done.recv().expect("the worker does it");
        });
        ended.expect("no task panics");
    }

    #[test]
    fn a_panic_is_carried_over() {
        let workers = workers(1);
        let ended = on_a_core(move || async move {
            let failed = workers.run(|| panic!("on the worker")).expect("there is room");
            let failed = AssertUnwindSafe(pin!(failed)).catch_unwind().await;
            let panic = failed.expect_err("the panic is this task's");
            assert_eq!(panic.downcast_ref(), Some(&"on the worker"));
            assert_eq!(workers.run(|| 2).expect("there is room").await, 2, "the worker goes on");
        });
        ended.expect("the panic was caught");
    }
}
