//! How a core hears of what is new, and sleeps when there is nothing.
//!
//! What comes from outside reaches a core through one epoll instance: its sockets, and the bell that
//! other threads ring. As long as news keep coming the core looks there itself, between its tasks, and
//! takes short naps there. The runtime's own sleep costs some ten times as much (timers that are set and
//! cancelled in its rings, a barrier on all CPUs), so it is left to a core that has really nothing to do.
//!
//! In a nap the runtime hears nothing: what wakes through it from other threads is late by one at most.
//! Its timers are looked at where it has the core, which is each 10 ms while the core is awake.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::bell::Bell;
use super::readiness::Sockets;
use super::{ACTIVITY, PARKED, count_activity, yield_now};

/// A client that is answered asks again within a round trip of a network nearby, and no timer of the
/// server's minds to be late by this much.
const NAP: Duration = Duration::from_millis(2);

/// One core's.
pub(crate) struct Attention {
    sockets: Rc<Sockets>,
    bell: Bell,
    /// Takes in what other threads have left, and says whether there was anything.
    take_in: Box<dyn Fn() -> bool>,
}

impl Attention {
    /// `sockets` are rung by `bell`.
    pub(crate) fn new(
        sockets: Rc<Sockets>,
        bell: Bell,
        take_in: impl Fn() -> bool + 'static,
    ) -> Rc<Attention> {
        Rc::new(Attention { sockets, bell, take_in: Box::new(take_in) })
    }

    /// Starts the task that hears for as long as the core runs. Its turns are no activity.
    pub(crate) fn start(self: Rc<Self>) {
        glommio::spawn_local(async move {
            loop {
                let before = ACTIVITY.get();
                self.hear();
                yield_now().await;
                if ACTIVITY.get() == before && !self.nap(Instant::now() + NAP) {
                    self.park().await;
                }
            }
        })
        .detach();
    }

    /// Lets all others have a turn, and hears, for a task that waits for what they may bring.
    /// Whether nothing came of it, so that it may nap.
    pub(crate) async fn is_quiet(&self) -> bool {
        let before = ACTIVITY.get();
        yield_now().await;
        // The turn of the one who asks is one.
        !self.hear() && ACTIVITY.get() == before + 1
    }

    /// Whether there is anything new; whoever waits for it is woken, and has his turn at the next yield.
    pub(crate) fn hear(&self) -> bool {
        let of_sockets = self.sockets.look();
        let news = (self.take_in)() || of_sockets;
        if news {
            count_activity();
        }
        news
    }

    /// Blocks the core until there is news, or until then, or for as long as a nap may be. False when
    /// there was none.
    pub(crate) fn nap(&self, until: Instant) -> bool {
        self.bell.fall_asleep();
        let heard = self.hear();
        if !heard {
            self.sockets.wait(until.min(Instant::now() + NAP));
        }
        // A core that is parked is woken by its bell alone: another task may nap or hear meanwhile,
        // and take the news away that would have woken it.
        if !PARKED.get() {
            self.bell.wake_up();
        }
        heard || self.hear()
    }

    /// Lets the runtime put the core to sleep, until there is news for it.
    async fn park(&self) {
        self.bell.fall_asleep();
        if !self.hear() {
            PARKED.set(true);
            self.sockets.news().await;
            PARKED.set(false);
        }
        self.bell.wake_up();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::rt::channel::channel;
    use crate::rt::{Core, sleep};

    /// Nothing that another thread sends is overheard, whatever else the core does meanwhile: it is
    /// parked, naps, or hears by another task than the one that attends.
    #[test]
    fn whatever_is_sent_is_heard() {
        const MESSAGES: u64 = 1000;
        let bell = Bell::new().expect("descriptors are left");
        let (sender, receiver) = channel::<u64>(bell.clone());
        let (heard, acknowledged) = mpsc::channel();
        let core = Core::spawn("test", move || async move {
            let sockets = Sockets::new(&bell).expect("descriptors are left");
            let last = Rc::new(Cell::new(0));
            let take_in = {
                let last = Rc::clone(&last);
                move || {
                    let message = receiver.take();
                    if let Some(message) = message {
                        last.set(message);
                        heard.send(message).expect("the test waits for it");
                    }
                    message.is_some()
                }
            };
            let attention = Attention::new(sockets, bell, take_in);
            Rc::clone(&attention).start();
            // Once after each message, since a second look could find what was overheard.
            for message in 1..=MESSAGES {
                while last.get() < message {
                    sleep(Duration::from_micros(100)).await;
                }
                // Long enough, now and then, for the core to be parked.
                sleep(Duration::from_micros(message % 7 * 700)).await;
                if message % 2 == 0 {
                    attention.hear();
                } else {
                    attention.nap(Instant::now() + Duration::from_micros(message % 5 * 50));
                }
            }
        });
        for message in 1..=MESSAGES {
            thread::sleep(Duration::from_micros(message % 11 * 500));
            sender.send(message);
            let answer = acknowledged.recv_timeout(Duration::from_secs(10));
            assert_eq!(answer, Ok(message), "message {message} was not heard");
        }
        core.expect("a thread can be had").join().expect("the core ends in peace");
    }
}
