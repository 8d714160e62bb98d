//! The memory of forgotten keys, which is freed bit by bit: that of a generation of millions at once would hold up a shard
//! for a second.

use crate::state::{Generation, Undo};

/// The keys that are freed with a small commit, which takes some 30 us.
const FREED_AT_LEAST: usize = 256;

#[derive(Debug, Default)]
pub(in crate::shard) struct ForgottenKeys {
    /// The generations that begin in batches which are not committed yet. Each may drop others.
    expected: usize,
    generations: Vec<Generation>,
}

impl ForgottenKeys {
    /// Notes that a generation begins.
    pub(super) fn expect_one(&mut self) {
        self.expected += 1;
    }

    /// Notes that all batches that are not committed were undone.
    pub(in crate::shard) fn expect_none(&mut self) {
        self.expected = 0;
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.expected == 0 && self.generations.is_empty()
    }

    /// Takes what a committed batch of so many records dropped, and frees a part of all that was dropped. It is more than
    /// the batch can have kept, so that it does not pile up.
    pub(in crate::shard) fn free_some<'u>(
        &mut self,
        undos: impl Iterator<Item = &'u mut Undo>,
        records: usize,
    ) {
        if self.expected > 0 {
            for undo in undos {
                if let Undo::Generations(dropped) = undo {
                    self.expected -= 1;
                    self.generations.append(&mut dropped.0);
                }
            }
        }
        let mut most = FREED_AT_LEAST.max(records);
        while most > 0
            && let Some(generation) = self.generations.last_mut()
        {
            most -= generation.free(most);
            if generation.is_empty() {
                self.generations.pop();
            }
        }
    }
}
