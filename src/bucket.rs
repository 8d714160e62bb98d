//! Limits at an even rate (the generic cell rate algorithm, ITU-T I.371).

use crate::table::Entry;

/// A leaky bucket: it takes so many amounts at once, and after that as many as run out of it. The unit of times and
/// amounts is the user's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bucket {
    /// When all that is in it has run out.
    empty_at: u64,
}

impl Bucket {
    /// The time until it has room for another amount.
    pub(crate) fn wait(&self, now: u64, amount: u64, room: u64) -> u64 {
        (self.empty_at.saturating_sub(now) + amount).saturating_sub(room)
    }

    pub(crate) fn add(&mut self, now: u64, amount: u64) {
        self.empty_at = self.empty_at.max(now) + amount;
    }

    pub(crate) fn take_back(&mut self, amount: u64) {
        self.empty_at = self.empty_at.saturating_sub(amount);
    }
}

impl Entry for Bucket {
    fn worth(&self, now: u64) -> u64 {
        self.empty_at.saturating_sub(now)
    }
}
