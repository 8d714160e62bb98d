//! When something about an order is said again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::{OrderId, ReservationId};

/// What waits for an answer from another slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// An attempt, by its number.
    Attempt(u64),
    /// An order whose parts have not all heard of it.
    Order(OrderId),
    /// A part in doubt.
    Part(ReservationId),
    /// The records of orders whose parts have.
    Records,
}

/// The timers of a shard's orders: one for each thing that waits.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// The time at which each is due, in elapsed time, and how long it waited for that.
    armed: BTreeMap<Timer, (Duration, Duration)>,
    by_time: BTreeSet<(Duration, Timer)>,
}

impl Timers {
    /// Makes a timer due after `wait`, and not before.
    pub(super) fn arm(&mut self, timer: Timer, elapsed: Duration, wait: Duration) {
        self.disarm(timer);
        let due = elapsed + wait;
        self.armed.insert(timer, (due, wait));
        self.by_time.insert((due, timer));
    }

    /// Makes a timer due at once, unless it is armed.
    pub(super) fn arm_now(&mut self, timer: Timer) {
        if !self.armed.contains_key(&timer) {
            self.arm(timer, Duration::ZERO, Duration::ZERO);
        }
    }

    /// Makes a timer due after `wait`, unless it is armed.
    pub(super) fn arm_once(&mut self, timer: Timer, elapsed: Duration, wait: Duration) {
        if !self.armed.contains_key(&timer) {
            self.arm(timer, elapsed, wait);
        }
    }

    pub(super) fn disarm(&mut self, timer: Timer) {
        if let Some((due, _)) = self.armed.remove(&timer) {
            self.by_time.remove(&(due, timer));
        }
    }

    /// The time of the earliest.
    pub(super) fn due_at(&self) -> Option<Duration> {
        self.by_time.first().map(|&(due, _)| due)
    }

    /// Takes a timer that is due, with how long it waited.
    pub(super) fn take_due(&mut self, elapsed: Duration) -> Option<(Timer, Duration)> {
        let &(due, timer) = self.by_time.first()?;
        if due > elapsed {
            return None;
        }
        self.by_time.pop_first();
        let (_, waited) = self.armed.remove(&timer).expect("it is armed");
        Some((timer, waited))
    }
}
