//! A sparse index in memory of where the records of a slot are in a log file. Without it, reading a page
//! of records would scan the file.
//!
//! It is built while a file is replayed and extended with each append. It has two parts:
//!
//! - For each slot, the steps: the row of every [`STEP_RECORDS`]th record.
//! - For each block of [`BLOCK_ROWS`] rows, the set of the slots and of the hashes of the events that have
//!   rows in it. A search skips the blocks without the slot or event.
//!
//! Together they take 0.4 bytes for each record, and up to twice that while the vectors have room to grow.

use std::sync::{Mutex, MutexGuard, PoisonError};

use shards::ids::{EventId, Lsn, Slot};
use shards::limits::SLOT_COUNT;
use shards::slots::SlotSet;

/// The number of records of a slot from one step to the next. A step takes 16 bytes.
const STEP_RECORDS: u64 = 64;
/// The number of rows of a block. A block takes 64 bytes.
const BLOCK_ROWS: u64 = 512;
/// The most blocks that are searched while the lock is held, which takes some 10 us.
const LOOK_BLOCKS: usize = 4096;

/// The index of one file, shared by the log that appends to it and its readers.
#[derive(Debug, Default)]
pub(crate) struct FileIndex(Mutex<Rows>);

impl FileIndex {
    /// Locks the index. Hold the lock only for one search, or to add the rows of one append.
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
    /// Steps, ordered by lsn and by row. If a slot's records alternate between files, the first record
    /// of each stretch in this file is a step, too.
    steps: Vec<Step>,
    /// The lsn of the slot's last record in this file.
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
    /// A bitmap of the hashes of events.
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

    /// The last step of a slot at or before `lsn`.
    pub(crate) fn step_before(&self, slot: Slot, lsn: Lsn) -> Option<Step> {
        let steps = &self.slots[slot.index()].steps;
        let behind = steps.partition_point(|step| step.lsn <= lsn);
        behind.checked_sub(1).map(|index| steps[index])
    }

    /// The last step of a slot at or before `row`.
    pub(crate) fn step_before_row(&self, slot: Slot, row: u64) -> Option<Step> {
        let steps = &self.slots[slot.index()].steps;
        let behind = steps.partition_point(|step| step.row <= row);
        behind.checked_sub(1).map(|index| steps[index])
    }

    /// The lsn of the first step of a slot after `lsn`.
    pub(crate) fn first_after(&self, slot: Slot, lsn: Lsn) -> Option<Lsn> {
        let steps = &self.slots[slot.index()].steps;
        steps.get(steps.partition_point(|step| step.lsn <= lsn)).map(|step| step.lsn)
    }

    /// The lsn of the last record of a slot in this file; 0 if it has none.
    pub(crate) fn last(&self, slot: Slot) -> Lsn {
        self.slots[slot.index()].last
    }

    /// Adds to `ranges`, in order, the rows from `first` on that may be of `slot` and `event`, until the
    /// ranges have `blocks_max` blocks. Searches at most [`LOOK_BLOCKS`] blocks, so that the log does not
    /// wait long for the lock. Returns the row at which to continue the search; `None` at the end of the
    /// file, or if the ranges are full.
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
