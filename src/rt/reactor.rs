//! Polls for events, and puts the core to sleep when there are none.
//!
//! Events reach a core through one epoll instance: those of its sockets, and of the [`CoreWaker`] by which
//! other threads wake it. While there is work, the core polls that instance between tasks. When no task has
//! run since the last poll, it blocks there.
//!
//! On the executor without io_uring that is all: the core blocks until its next timer, and a task that another
//! thread makes runnable wakes it.
//!
//! On glommio the core blocks for up to [`SLEEP_MAX`], and then hands over to the runtime. The runtime's own
//! sleep costs some ten times as much (timers that are set and cancelled in its rings, a barrier on all CPUs),
//! so only an idle core uses it. While a core blocks in epoll, the runtime is not polled: a wake-up that another
//! thread sends through the runtime is late by up to [`SLEEP_MAX`]. The runtime checks its timers every 10 ms
//! while the core is awake.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::channel::Receiver;
use super::readiness::Sockets;
use super::waker::CoreWaker;
use super::workers::{self, Completion};
use super::{ACTIVITY, count_activity, on_epoll, on_glommio, spawn_uncounted, yield_now};

/// The longest sleep in epoll of a core on glommio, and of a task. It is longer than a round trip on a nearby
/// network, so the next request of a client that was answered usually arrives during the sleep. It is short
/// enough that the delay does not matter to any timer of the server.
const SLEEP_MAX: Duration = Duration::from_millis(2);

/// The event loop of one core.
pub(crate) struct Reactor {
    sockets: Rc<Sockets>,
    waker: CoreWaker,
    /// Receives messages of other cores, and returns whether there were any.
    take_in: Box<dyn Fn() -> bool>,
    /// Results of worker threads for tasks of this core.
    completions: Receiver<Completion>,
}

impl Reactor {
    /// The reactor of this thread's core. `waker` is registered with `sockets`.
    pub(crate) fn new(
        sockets: Rc<Sockets>,
        waker: CoreWaker,
        take_in: impl Fn() -> bool + 'static,
    ) -> Rc<Reactor> {
        let completions = workers::completions(waker.clone());
        Rc::new(Reactor { sockets, waker, take_in: Box::new(take_in), completions })
    }

    /// Starts the task that polls until the core ends. Its turns do not count as activity.
    pub(crate) fn start(self: Rc<Self>) {
        if on_epoll::is_here() {
            spawn_uncounted(async move { self.run_on_epoll().await });
        } else {
            spawn_uncounted(async move { self.run_on_glommio().await });
        }
    }

    async fn run_on_epoll(&self) {
        let waker = Waker::from(Arc::new(self.waker.clone()));
        loop {
            let before = ACTIVITY.get();
            on_epoll::fire_timers();
            self.poll();
            yield_now().await;
            if ACTIVITY.get() == before {
                self.block(&waker);
            }
        }
    }

    async fn run_on_glommio(&self) {
        loop {
            let before = ACTIVITY.get();
            self.poll();
            yield_now().await;
            if ACTIVITY.get() == before && !self.sleep_until(Instant::now() + SLEEP_MAX) {
                self.park().await;
            }
        }
    }

    /// Lets all other tasks run once, and polls. Returns whether none of them ran and nothing was new, so
    /// that the calling task may put the core to sleep.
    pub(crate) async fn is_idle(&self) -> bool {
        let before = ACTIVITY.get();
        yield_now().await;
        // The turn of the calling task counts once.
        !self.poll() && ACTIVITY.get() == before + 1
    }

    /// Polls without blocking, and wakes the tasks that wait for what is new. Returns whether anything was.
    pub(crate) fn poll(&self) -> bool {
        self.waker.count_turn();
        let from_sockets = self.sockets.poll();
        let from_workers = self.complete();
        let from_cores = (self.take_in)();
        let is_new = from_sockets || from_workers || from_cores;
        if is_new {
            count_activity();
        }
        is_new
    }

    /// Delivers the results that workers have sent. Returns whether there were any.
    fn complete(&self) -> bool {
        let mut came = false;
        while let Some(deliver) = self.completions.take() {
            deliver();
            came = true;
        }
        came
    }

    /// Blocks the thread until there are events, but not beyond `until`, nor for longer than [`SLEEP_MAX`].
    /// Returns whether anything was new.
    pub(crate) fn sleep_until(&self, until: Instant) -> bool {
        self.waker.set_asleep();
        let was_new = self.poll();
        if !was_new {
            self.sockets.block_until(Some(until.min(Instant::now() + SLEEP_MAX)));
        }
        // While `park` waits, another task may poll or sleep here, and consume the events that would have
        // ended the wait. Then only the waker can end it, so the waker stays armed.
        if !on_glommio::is_parked() {
            self.waker.set_awake();
        }
        was_new || self.poll()
    }

    /// Lets the runtime put the core to sleep, until there are events.
    async fn park(&self) {
        self.waker.set_asleep();
        if !self.poll() {
            on_glommio::park(Rc::clone(self.sockets.epoll())).await;
        }
        self.waker.set_awake();
    }

    /// Blocks the thread until there are events, a timer is due, or `waker` is called: by another thread that has
    /// made a task runnable.
    fn block(&self, waker: &Waker) {
        self.waker.set_asleep();
        if !self.poll() {
            on_epoll::block(waker, |until| self.sockets.block_until(until));
        }
        self.waker.set_awake();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::rt::channel::channel;
    use crate::rt::{Executor, sleep};

    /// A message of another thread is taken in whether the core is parked, sleeps, or is polled by a task
    /// other than the reactor's own.
    #[test]
    fn every_message_is_taken_in() {
        thread::scope(|scope| {
            for executor in Executor::BOTH {
                scope.spawn(move || take_in_every_message(executor));
            }
        });
    }

    fn take_in_every_message(executor: Executor) {
        const MESSAGES: u64 = 1000;
        let waker = CoreWaker::new().expect("descriptors are left");
        let (sender, receiver) = channel::<u64>(waker.clone());
        let (taken, acknowledged) = mpsc::channel();
        let core = executor.start_core("test", move || async move {
            let sockets = Sockets::new(&waker).expect("descriptors are left");
            let last = Rc::new(Cell::new(0));
            let take_in = {
                let last = Rc::clone(&last);
                move || {
                    let message = receiver.take();
                    if let Some(message) = message {
                        last.set(message);
                        taken.send(message).expect("the test receives it");
                    }
                    message.is_some()
                }
            };
            let reactor = Reactor::new(sockets, waker, take_in);
            Rc::clone(&reactor).start();
            // Polls once after each message, since a second poll could find what the first one missed.
            for message in 1..=MESSAGES {
                while last.get() < message {
                    sleep(Duration::from_micros(100)).await;
                }
                // Sometimes long enough for the core to be parked.
                sleep(Duration::from_micros(message % 7 * 700)).await;
                if message % 2 == 0 {
                    reactor.poll();
                } else {
                    reactor.sleep_until(Instant::now() + Duration::from_micros(message % 5 * 50));
                }
            }
        });
        for message in 1..=MESSAGES {
            thread::sleep(Duration::from_micros(message % 11 * 500));
            sender.send(message);
            let answer = acknowledged.recv_timeout(Duration::from_secs(10));
            assert_eq!(answer, Ok(message), "{executor:?}: message {message} was not taken in");
        }
        core.expect("a thread can be started").join().expect("the core ends without a panic");
    }
}
