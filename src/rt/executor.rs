//! Which executor runs the cores, and a core's thread.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;

use super::probe::{self, Refusal};
use super::{Counted, on_epoll, on_glommio};

/// What an operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ExecutorChoice {
    /// glommio where io_uring is allowed, else epoll
    Auto,
    /// glommio, which needs io_uring
    Glommio,
    /// async-executor, which sleeps in epoll and needs no io_uring
    Epoll,
}

/// What runs the tasks of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Executor(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Glommio,
    Epoll,
}

impl Executor {
    #[cfg(test)]
    pub(crate) const BOTH: [Executor; 2] = [Executor(Kind::Glommio), Executor(Kind::Epoll)];

    /// The executor to use here. Logs which, and why.
    ///
    /// # Errors
    ///
    /// When one is asked for that cannot run here.
    pub(crate) fn choose(choice: ExecutorChoice) -> Result<Executor, Refusal> {
        let kind = match choice {
            ExecutorChoice::Auto => match probe::check() {
                Ok(()) => {
                    tracing::info!("tasks run on glommio: io_uring is allowed here");
                    Kind::Glommio
                }
                Err(refusal) => {
                    tracing::info!("tasks run on epoll, without io_uring: {refusal}");
                    Kind::Epoll
                }
            },
            ExecutorChoice::Glommio => {
                probe::check()?;
                tracing::info!("tasks run on glommio: it was asked for");
                Kind::Glommio
            }
            ExecutorChoice::Epoll => {
                tracing::info!("tasks run on epoll, without io_uring: it was asked for");
                Kind::Epoll
            }
        };
        Ok(Executor(kind))
    }

    /// The executor that `BOXOFFICE_EXECUTOR` names, as for a server.
    #[cfg(any(test, feature = "bench"))]
    pub(crate) fn of_environment() -> Executor {
        let name = std::env::var("BOXOFFICE_EXECUTOR").unwrap_or_else(|_| "auto".to_owned());
        let choice = clap::ValueEnum::from_str(&name, true).expect("the name of an executor");
        // A thread that has made a ring is interrupted when the kernel releases it, and so are reads of a test.
        let chosen = std::thread::spawn(move || Executor::choose(choice)).join();
        chosen.expect("no panic").expect("it can run here")
    }

    /// Starts a core, and runs the future that `main` returns on it. The kernel chooses among the process's
    /// CPUs.
    ///
    /// # Errors
    ///
    /// When no thread can be started. Errors of the executor itself are returned by [`Core::join`].
    pub(crate) fn start_core<F>(
        self,
        name: &str,
        main: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<Core>
    where
        F: Future<Output = ()> + 'static,
    {
        let main = move || Counted { task: main() };
        Ok(match self.0 {
            Kind::Glommio => Core::OnGlommio(on_glommio::start(name, main)?),
            Kind::Epoll => Core::OnEpoll(on_epoll::start(name, main)?),
        })
    }
}

/// A core's thread. It ends with the future that it was started with.
pub(crate) enum Core {
    OnGlommio(glommio::ExecutorJoinHandle<()>),
    OnEpoll(JoinHandle<()>),
}

impl Core {
    /// Waits for the core to end.
    ///
    /// # Errors
    ///
    /// When its executor could not start, or a task on it panicked.
    pub(crate) fn join(self) -> io::Result<()> {
        match self {
            Core::OnGlommio(handle) => handle.join().map_err(io::Error::from),
            Core::OnEpoll(handle) => handle.join().map_err(|_| io::Error::other("a task panicked")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::sync::mpsc;
    use std::task::{Poll, Waker};
    use std::thread;
    use std::time::{Duration, Instant};

    use nix::time::{ClockId, clock_gettime};

    use super::*;
    use crate::rt::reactor::Reactor;
    use crate::rt::readiness::Sockets;
    use crate::rt::waker::CoreWaker;
    use crate::rt::{sleep, spawn, yield_now};

    /// A core with a reactor that is told of nothing.
    fn start_alone<F: Future<Output = ()> + 'static>(
        executor: Executor,
        main: impl FnOnce() -> F + Send + 'static,
    ) -> Core {
        let core = executor.start_core("test", move || async move {
            let waker = CoreWaker::new().expect("descriptors are left");
            let sockets = Sockets::new(&waker).expect("descriptors are left");
            Reactor::new(sockets, waker, || false).start();
            main().await;
        });
        core.expect("a thread can be started")
    }

    /// A task that another thread makes runnable runs, while the core is busy, sleeps, or is about to.
    #[test]
    fn a_wake_up_by_another_thread_is_not_lost() {
        const TURNS: u64 = 1000;
        for executor in Executor::BOTH {
            let (wakers, woken) = mpsc::channel::<Waker>();
            let core = start_alone(executor, move || async move {
                for turn in 0..TURNS {
                    let mut is_asked = false;
                    poll_fn(|context| {
                        if is_asked {
                            return Poll::Ready(());
                        }
                        is_asked = true;
                        wakers.send(context.waker().clone()).expect("the test receives it");
                        Poll::Pending
                    })
                    .await;
                    if turn % 3 == 0 {
                        yield_now().await;
                    }
                }
            });
            for turn in 0..TURNS {
                let waker = woken.recv_timeout(Duration::from_secs(10));
                let waker = waker.unwrap_or_else(|_| panic!("{executor:?}: wake-up {turn} was lost"));
                thread::sleep(Duration::from_micros(turn % 8 * 20));
                waker.wake();
            }
            core.join().expect("the core ends without a panic");
        }
    }

    /// Sleeps end in the order of their times, and none too early.
    #[test]
    fn tasks_sleep_as_long_as_they_say() {
        for executor in Executor::BOTH {
            let core = start_alone(executor, || async {
                let (start, ended) = (Instant::now(), Rc::<RefCell<Vec<u64>>>::default());
                for millis in [60, 5, 30, 0] {
                    let ended = Rc::clone(&ended);
                    spawn(async move {
                        sleep(Duration::from_millis(millis)).await;
                        assert!(start.elapsed() >= Duration::from_millis(millis));
                        ended.borrow_mut().push(millis);
                    });
                }
                while ended.borrow().len() < 4 {
                    sleep(Duration::from_millis(10)).await;
                }
                assert_eq!(*ended.borrow(), [0, 5, 30, 60]);
            });
            core.join().expect("no task panics");
        }
    }

    #[test]
    fn a_panic_of_any_task_ends_the_core() {
        for executor in Executor::BOTH {
            let core = start_alone(executor, || async {
                spawn(async { panic!("a panic that the test expects") });
                loop {
                    sleep(Duration::from_millis(10)).await;
                }
            });
            core.join().expect_err("a task has panicked");
        }
    }

    /// An idle core uses no CPU time, and so does one that waits for a timer.
    #[test]
    fn an_idle_core_sleeps() {
        const SPAN: Duration = Duration::from_secs(1);
        for executor in Executor::BOTH {
            let core = start_alone(executor, || async {
                let ran =
                    || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("it is there"));
                let before = ran();
                sleep(SPAN).await;
                let used = ran() - before;
                assert!(used < SPAN / 2, "an idle core used {used:?} of {SPAN:?}");
            });
            core.join().expect("no task panics");
        }
    }
}
