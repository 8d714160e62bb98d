//! Where the records of a slot lie in a log file: a sparse index in memory, without which a page of
//! records would cost a scan of the file.
//!
//! It is made while a file is replayed and extended with each append. For each slot it has the row
//! of every [`STEP_RECORDS`]th record. Between these, the file is divided into blocks of rows, and each
//! block has the set of its slots and of its events (by hash), so that a search skips the blocks that
//! have nothing for it. Together that is 0.4 bytes a record, and at most twice as much while the
//! vectors have room to grow.

use std::sync::{Mutex, MutexGuard, PoisonError};

use shards::ids::{EventId, Lsn, Slot};
use shards::limits::SLOT_COUNT;
use shards::slots::SlotSet;

/// 16 bytes for each so many records of a slot.
const STEP_RECORDS: u64 = 64;
/// Rows of a block, with 64 bytes for each block.
const BLOCK_ROWS: u64 = 512;
/// Blocks that are looked at under the lock at a time: some 10 us.
const LOOK_BLOCKS: usize = 4096;

/// The index of one file, shared by the log that appends to it and those who read.
#[derive(Debug, Default)]
pub(crate) struct FileIndex(Mutex<Rows>);

impl FileIndex {
    /// Held for the time of a look, or of an append's pushes.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct Rows {
    slots: Box<[SlotRows; SLOT_COUNT]>,
    blocks: Vec<Block>,
}

#[derive(Debug, Clone, Default)]
struct SlotRows {
    /// In the order of both. A slot's records may be in several files by turns; the first record of
    /// each stretch in this file is a step.
    steps: Vec<Step>,
    /// The last record in this file.
    last: Lsn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) lsn: Lsn,
    pub(crate) row: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Block {
    slots: SlotSet,
    /// Bit `hash_of_event`.
    events: [u64; 4],
}

/// Consecutive rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl RowRange {
    pub(crate) fn blocks(self) -> usize {
        ((self.last - 1) / BLOCK_ROWS - (self.first - 1) / BLOCK_ROWS + 1) as usize
    }
}

impl Default for Rows {
    fn default() -> Rows {
        let slots = vec![SlotRows::default(); SLOT_COUNT].try_into().expect("one for each slot");
        Rows { slots, blocks: Vec::new() }
    }
}

impl Rows {
    /// Adds the file's next row, counted from 1. `event` is 0 for none.
    pub(crate) fn add(&mut self, row: u64, slot: Slot, lsn: Lsn, event: EventId) {
        let rows = &mut self.slots[slot.index()];
        let is_step = match rows.steps.last() {
            Some(step) => lsn != rows.last.next() || lsn.0 - step.lsn.0 >= STEP_RECORDS,
            None => true,
        };
        if is_step {
            rows.steps.push(Step { lsn, row });
        }
        rows.last = lsn;
        let block = ((row - 1) / BLOCK_ROWS) as usize;
        if block == self.blocks.len() {
            self.blocks.push(Block::default());
        }
        let block = &mut self.blocks[block];
        block.slots.insert(slot);
        let (word, bit) = place_of_event(event);
        block.events[word] |= bit;
    }

    /// The last step of a slot that is not behind `lsn`.
    pub(crate) fn step_before(&self, slot: Slot, lsn: Lsn) -> Option<Step> {
        let steps = &self.slots[slot.index()].steps;
        let behind = steps.partition_point(|step| step.lsn <= lsn);
        behind.checked_sub(1).map(|index| steps[index])
    }

    /// The last step of a slot that is not behind `row`.
    pub(crate) fn step_before_row(&self, slot: Slot, row: u64) -> Option<Step> {
        let steps = &self.slots[slot.index()].steps;
        let behind = steps.partition_point(|step| step.row <= row);
        behind.checked_sub(1).map(|index| steps[index])
    }

    /// The first step of a slot behind `lsn`.
    pub(crate) fn first_after(&self, slot: Slot, lsn: Lsn) -> Option<Lsn> {
        let steps = &self.slots[slot.index()].steps;
        steps.get(steps.partition_point(|step| step.lsn <= lsn)).map(|step| step.lsn)
    }

    /// The last record of a slot in this file; 0 when it has none.
    pub(crate) fn last(&self, slot: Slot) -> Lsn {
        self.slots[slot.index()].last
    }

    /// Adds rows from `first` on that may be of `slot` and `event` to `ranges`, in order and at most so many
    /// blocks. Looks at [`LOOK_BLOCKS`] blocks at most, so that the log does not wait long for the lock.
    /// Returns the row at which to go on looking; `None` at the end, or when it has all it wants.
    pub(crate) fn candidates(
        &self,
        slot: Slot,
        event: Option<EventId>,
        first: u64,
        blocks_max: usize,
        ranges: &mut Vec<RowRange>,
    ) -> Option<u64> {
        let has = |block: &Block| {
            let has_event = event.is_none_or(|event| {
                let (word, bit) = place_of_event(event);
                block.events[word] & bit != 0
            });
            has_event && block.slots.contains(slot)
        };
        let start = (first - 1) / BLOCK_ROWS;
        let mut wanted = blocks_max - ranges.iter().map(|range| range.blocks()).sum::<usize>();
        let blocks = (start..).zip(self.blocks.get(start as usize..).unwrap_or_default());
        for (index, _) in blocks.take(LOOK_BLOCKS).filter(|(_, block)| has(block)) {
            if wanted == 0 {
                return None;
            }
            wanted -= 1;
            let range = RowRange { first: first.max(index * BLOCK_ROWS + 1), last: (index + 1) * BLOCK_ROWS };
            match ranges.last_mut() {
                Some(before) if before.last + 1 == range.first => before.last = range.last,
                Some(_) | None => ranges.push(range),
            }
        }
        let next = start as usize + LOOK_BLOCKS;
        (wanted > 0 && next < self.blocks.len()).then(|| next as u64 * BLOCK_ROWS + 1)
    }
}

fn place_of_event(event: EventId) -> (usize, u64) {
    let hash = (event.0.wrapping_mul(0x9e37_79b1) >> 24) as usize;
    (hash / 64, 1 << (hash % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(rows: &Rows) -> usize {
        let steps: usize = rows.slots.iter().map(|slot| slot.steps.len() * size_of::<Step>()).sum();
        steps + rows.blocks.len() * size_of::<Block>()
    }

    #[test]
    fn a_record_costs_less_than_half_a_byte() {
        for slot_count in [1, 4, 256] {
            let mut rows = Rows::default();
            const RECORDS: u64 = 1_000_000;
            for record in 0..RECORDS {
                let slot = Slot((record % slot_count) as u8);
                rows.add(record + 1, slot, Lsn(record / slot_count + 1), EventId(slot.0.into()));
            }
            let each = bytes(&rows) as f64 / RECORDS as f64;
            println!("{slot_count} slots: {each:.3} bytes a record");
            assert!(each < 0.5, "{slot_count} slots: {each} bytes");
        }
    }
}
