//! The age of each slot's newest generation of idempotency keys.
//!
//! It is measured in elapsed time. Of a generation that began before this process, or while another shard had the slot,
//! the wall clock says how old it was when this shard first looked, between nothing and an hour: a wrong clock neither
//! keeps keys for ever nor makes them forgotten much too early.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Now;
use crate::ids::{Lsn, Slot};
use crate::limits::KEY_GENERATION;
use crate::state::Generation;

/// Generations by slot and first record. So an undone record leaves nothing wrong behind: the one before it is still
/// here.
#[derive(Debug, Default)]
pub(in crate::shard) struct KeyAges {
    known: BTreeMap<(Slot, Lsn), Known>,
}

/// The age of a generation at a moment.
#[derive(Debug, Clone, Copy)]
struct Known {
    age: Duration,
    /// The time since the process started.
    elapsed: Duration,
}

impl KeyAges {
    /// The age of a slot's newest generation.
    pub(super) fn age(&mut self, slot: Slot, newest: &Generation, now: Now) -> Duration {
        let known = self.known.entry((slot, newest.lsn)).or_insert_with(|| {
            let age = Duration::from_millis(now.wall.0.saturating_sub(newest.at.0)).min(KEY_GENERATION);
            Known { age, elapsed: now.elapsed }
        });
        known.age + now.elapsed.saturating_sub(known.elapsed)
    }

    /// Notes that a slot's newest generation begins now, unless it is known already. Forgets those that the slot has
    /// dropped.
    pub(super) fn begin(&mut self, slot: Slot, oldest: &Generation, newest: &Generation, now: Now) {
        let known = Known { age: Duration::ZERO, elapsed: now.elapsed };
        if self.known.contains_key(&(slot, newest.lsn)) {
            return;
        }
        self.known.insert((slot, newest.lsn), known);
        let dropped = self.known.range((slot, Lsn(0))..(slot, oldest.lsn));
        let dropped: Vec<_> = dropped.map(|(&generation, _)| generation).collect();
        for generation in dropped {
            self.known.remove(&generation);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Forgets the generation that began with a record, if one did.
    pub(in crate::shard) fn forget(&mut self, slot: Slot, lsn: Lsn) {
        self.known.remove(&(slot, lsn));
    }
}
