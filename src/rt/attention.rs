//! How a core hears of what is new, and sleeps when there is nothing.
//!
//! What comes from outside reaches a core through one epoll instance: its sockets, and the bell that
//! other threads ring. As long as news keep coming the core looks there itself, between its tasks, and
//! takes short naps there. The runtime's own sleep costs some ten times as much (timers that are set and
//! cancelled in its rings, a barrier on all CPUs), so it is left to a core that has really nothing to do.
//! In a nap the runtime hears nothing: its timers, and wakers used by other threads, can be late by one.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Yielding;
use super::bell::Bell;
use super::readiness::Sockets;

/// A client that is answered asks again within a round trip of a network nearby, and no timer of the
/// server's minds to be late by this much.
const NAP: Duration = Duration::from_millis(2);

/// How often all tasks have a turn, without any news, before the core naps: who is woken by
/// a task that was woken gets his, too.
const QUIET_ROUNDS: u32 = 3;

/// One core's.
pub(crate) struct Attention {
    sockets: Rc<Sockets>,
    bell: Bell,
    /// The runtime wakes whoever attends, and until then the bell has to be rung: also when another
    /// task hears in between, and takes the news away that would have woken him.
    parked: Cell<bool>,
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
        Rc::new(Attention { sockets, bell, parked: Cell::new(false), take_in: Box::new(take_in) })
    }

    /// Hears for as long as the core runs.
    pub(crate) async fn attend(self: Rc<Self>) {
        loop {
            let mut rounds = QuietRounds::default();
            while !rounds.are_over(self.hear() || Yielding::is_anyone()) {
                super::let_others_run().await;
            }
            if !self.nap(Instant::now() + NAP) {
                self.park().await;
            }
        }
    }

    /// Whether there is anything new; whoever waits for it is woken, and has his turn at the next yield.
    pub(crate) fn hear(&self) -> bool {
        let of_sockets = self.sockets.look();
        (self.take_in)() || of_sockets
    }

    /// Blocks the core until there is news, or until then. False when there was none.
    pub(crate) fn nap(&self, until: Instant) -> bool {
        self.bell.fall_asleep();
        let heard = self.hear();
        if !heard {
            self.sockets.wait(until);
        }
        if !self.parked.get() {
            self.bell.wake_up();
        }
        heard || self.hear()
    }

    /// Lets the runtime put the core to sleep, until there is news for it.
    async fn park(&self) {
        self.bell.fall_asleep();
        if !self.hear() {
            self.parked.set(true);
            self.sockets.news().await;
            self.parked.set(false);
        }
        self.bell.wake_up();
    }
}

/// Counts rounds in which nothing came.
#[derive(Default)]
pub(crate) struct QuietRounds(u32);

impl QuietRounds {
    /// After a round. Every one with news begins anew.
    pub(crate) fn are_over(&mut self, news: bool) -> bool {
        self.0 = if news { 0 } else { self.0 + 1 };
        self.0 > QUIET_ROUNDS
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::rt::channel::channel;
    use crate::rt::{self, Core};

    /// Nothing that another thread sends is overheard, whatever else the core does meanwhile: it is
    /// parked, naps, or hears by another task than the one that attends.
    #[test]
    fn whatever_is_sent_is_heard() {
        const MESSAGES: u64 = 1000;
        let bell = Bell::new().expect("descriptors are left");
        let (sender, receiver) = channel::<u64>(bell.clone());
        let (heard, acknowledged) = mpsc::channel();
        let core = Core::spawn("test", 0, move || async move {
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
            rt::spawn(Rc::clone(&attention).attend());
            // Once after each message, since a second look could find what was overheard.
            for message in 1..=MESSAGES {
                while last.get() < message {
                    rt::sleep(Duration::from_micros(100)).await;
                }
                // Long enough, now and then, for the core to be parked.
                rt::sleep(Duration::from_micros(message % 7 * 700)).await;
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
