//! How a core hears of what is new, and sleeps when there is nothing.
//!
//! What comes from outside reaches a core through one epoll instance: its sockets, and the bell that
//! other threads ring. As long as news keep coming the core looks there itself, between its tasks, and
//! takes short naps there. The runtime's own sleep costs some ten times as much (timers that are set and
//! cancelled in its rings, a barrier on all CPUs), so it is left to a core that has really nothing to do.
//! In a nap the runtime hears nothing: its timers, and wakers used by other threads, can be late by one.

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
        self.bell.wake_up();
        heard || self.hear()
    }

    /// Lets the runtime put the core to sleep, until there is news for it.
    async fn park(&self) {
        self.bell.fall_asleep();
        if !self.hear() {
            self.sockets.news().await;
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
