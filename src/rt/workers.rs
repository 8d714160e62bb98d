//! Threads for work that blocks: jobs that wait in turn, and results that tasks of a core await.
//!
//! A worker sends its result to the core that asked, and wakes that core if it sleeps. The core delivers the
//! result when it next polls (see [`super::reactor`]), so a task is always woken on its own core.

mod lines;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use futures_channel::oneshot;

use super::channel::{Receiver, Sender, channel};
use super::waker::CoreWaker;
use lines::Lines;

/// The niceness of workers with low priority.
const LOW_PRIORITY: i32 = 10;

/// Does its work, or refuses it, and sends the result to the core that asked.
type Job = Box<dyn FnOnce(Order) + Send>;

enum Order {
    Do,
    Refuse,
}

/// Delivers a result, on the core that asked for it.
pub(super) type Completion = Box<dyn FnOnce() + Send>;

/// No place was left for a job, or another client's job got it, and nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull;

/// Threads that take jobs from bounded lines, one for each client `C` (see [`Lines`]). They end when all clones of
/// this are dropped and no job waits.
#[derive(Clone)]
pub(crate) struct Workers<C> {
    lines: Arc<Mutex<Lines<C, Job>>>,
    /// One message for each job that waits.
    wakes: mpsc::Sender<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    Normal,
    /// Runs at a higher niceness, so that the cores get the CPU first.
    Low,
}

impl<C: PartialEq + Send + 'static> Workers<C> {
    /// Starts a thread for each name. At most `waiting_max` jobs wait for a thread.
    ///
    /// # Errors
    ///
    /// When a thread cannot be started.
    pub(crate) fn start(
        names: impl IntoIterator<Item = String>,
        waiting_max: usize,
        priority: Priority,
    ) -> io::Result<Workers<C>> {
        let (wakes, woken) = mpsc::channel();
        let woken = Arc::new(Mutex::new(woken));
        let lines = Arc::new(Mutex::new(Lines::new(waiting_max)));
        for name in names {
            let (woken, lines) = (Arc::clone(&woken), Arc::clone(&lines));
            thread::Builder::new().name(name).spawn(move || work(&woken, &lines, priority))?;
        }
        Ok(Workers { lines, wakes })
    }

    /// Puts `work` in the client's line, and returns a future of its result: [`QueueFull`] if it has no place, or
    /// loses it later. The work is done even if that future is dropped.
    ///
    /// # Panics
    ///
    /// When this thread is no core. The future panics when `work` does.
    pub(crate) fn run<T, W>(
        &self,
        client: C,
        work: W,
    ) -> impl Future<Output = Result<T, QueueFull>> + use<T, W, C>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let core = COMPLETIONS.with_borrow(Clone::clone).expect("only tasks of a core wait for workers");
        let (sender, result) = oneshot::channel::<thread::Result<Result<T, QueueFull>>>();
        let job = move |order| {
            let result = match order {
                Order::Do => catch_unwind(AssertUnwindSafe(work)).map(Ok),
                Order::Refuse => Ok(Err(QueueFull)),
            };
            core.send(Box::new(move || {
                // Fails when the future was dropped.
                let _ = sender.send(result);
            }));
        };
        let refused = lock(&self.lines).push(client, Box::new(job));
        match refused {
            Some(job) => job(Order::Refuse),
            None => self.wakes.send(()).expect("workers live as long as this"),
        }
        async {
            let result = result.await.expect("each job sends its result");
            result.unwrap_or_else(|panic| resume_unwind(panic))
        }
    }
}

fn work<C: PartialEq>(woken: &Mutex<mpsc::Receiver<()>>, lines: &Mutex<Lines<C, Job>>, priority: Priority) {
    // On Linux the niceness is that of the calling thread.
    if priority == Priority::Low
        && let Err(error) = rustix::process::nice(LOW_PRIORITY)
    {
        tracing::warn!(%error, "workers run at normal priority");
    }
    loop {
        let next = lock(woken).recv();
        let Ok(()) = next else { return };
        let job = lock(lines).pop().expect("each message is for a job that waits");
        job(Order::Do);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    use crate::rt::Executor;
    use crate::rt::reactor::Reactor;
    use crate::rt::readiness::Sockets;

    fn workers(waiting_max: usize) -> Workers<()> {
        Workers::start(["worker".to_owned()], waiting_max, Priority::Low).expect("a thread can be started")
    }

    /// Runs `main` on a core with a reactor, and returns how the core ended.
    fn on_a_core<F: Future<Output = ()> + 'static>(
        executor: Executor,
        main: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<()> {
        let core = executor.start_core("test", move || async move {
            let waker = CoreWaker::new().expect("descriptors are left");
            let sockets = Sockets::new(&waker).expect("descriptors are left");
            Reactor::new(sockets, waker, || false).start();
            main().await;
        });
        core.expect("a thread can be started").join()
    }

    /// One core on each executor. It is busy, sleeps or is parked when the result comes.
    #[test]
    fn a_result_wakes_the_core_that_asked() {
        const JOBS: u64 = 300;
        let workers = workers(2);
        let ask = move |workers: Workers<()>| async move {
            for job in 0..JOBS {
                let work = move || {
                    thread::sleep(Duration::from_micros(job % 7 * 700));
                    job
                };
                assert_eq!(workers.run((), work).await, Ok(job), "each core asks for one at a time");
            }
        };
        let (sender, ended) = mpsc::channel();
        for executor in Executor::BOTH {
            let (workers, sender) = (workers.clone(), sender.clone());
            thread::spawn(move || sender.send(on_a_core(executor, move || ask(workers))));
        }
        for _ in Executor::BOTH {
            let ended = ended.recv_timeout(Duration::from_secs(30));
            ended.expect("each result wakes its core").expect("no task panics");
        }
    }

    #[test]
    fn a_full_queue_refuses() {
        let workers =
            Workers::start(["worker".to_owned()], 2, Priority::Low).expect("a thread can be started");
        let ended = on_a_core(Executor::of_environment(), move || async move {
            let (release, held) = mpsc::channel::<()>();
            let (began, begun) = mpsc::channel();
            let first = workers.run('a', move || {
                began.send(()).expect("the test waits for it");
                held.recv().expect("the test sends it");
                1
            });
            begun.recv().expect("the worker takes the first job");
            let second = workers.run('a', || 2);
            let third = workers.run('a', || 3);
            assert_eq!(workers.run('a', || 4).await, Err(QueueFull));
            let fifth = workers.run('b', || 5);
            assert_eq!(third.await, Err(QueueFull), "another client's job got its place");
            release.send(()).expect("the worker waits for it");
            assert_eq!((first.await, second.await, fifth.await), (Ok(1), Ok(2), Ok(5)));

            // A job whose result is not awaited is done all the same.
            let (told, done) = mpsc::channel();
            drop(workers.run('a', move || told.send(()).expect("the test waits for it")));
            done.recv().expect("the worker does it");
        });
        ended.expect("no task panics");
    }

    #[test]
    fn a_panic_is_carried_over() {
        let workers = workers(1);
        let ended = on_a_core(Executor::of_environment(), move || async move {
            let failed = workers.run((), || panic!("on the worker"));
            let failed = AssertUnwindSafe(pin!(failed)).catch_unwind().await;
            let panic = failed.map(|_: Result<(), QueueFull>| ()).expect_err("the panic is this task's");
            assert_eq!(panic.downcast_ref(), Some(&"on the worker"));
            assert_eq!(workers.run((), || 2).await, Ok(2), "the worker goes on");
        });
        ended.expect("the panic was caught");
    }
}
