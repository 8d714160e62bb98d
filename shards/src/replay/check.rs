//! Checks that every row of every file follows the last row of its slot. It goes through the ranges of epochs
//! in order.

use super::{EpochRange, Epochs, Mark, ReplayError, Row};
use crate::ids::Epoch;
use crate::limits::SLOT_COUNT;
use crate::record::{Record, SlotHead};
use crate::shard::SlotHeads;

/// The rows of a file: how far they were committed, and how far they are checked.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// The last row that is known to be committed. The file must have it.
    committed: Mark,
    /// The last row that was checked.
    pub end: Mark,
}

impl Extent {
    /// The extent of a file that is still to be read.
    pub fn new(committed: Mark) -> Extent {
        Extent { committed, end: Mark::EMPTY }
    }

    /// # Errors
    ///
    /// [`ReplayError::Lost`] if committed rows are missing.
    pub fn check_row_count(&self, found: u64) -> Result<(), ReplayError> {
        match self.committed {
            mark if found < mark.row => Err(ReplayError::Lost { found, mark }),
            _ => Ok(()),
        }
    }

    fn check_position(&self, row: &Row<'_>) -> Result<(), ReplayError> {
        let (expected, &Row { position: found, slot, lsn, .. }) = (self.end.row + 1, row);
        if found != expected {
            return Err(ReplayError::Position { expected, found, slot, lsn });
        }
        Ok(())
    }

    /// Advances to a row. If it is the last committed one, it has to match the mark.
    fn advance(&mut self, row: &Row<'_>) -> Result<(), ReplayError> {
        let &Row { position, slot, lsn, chain, .. } = row;
        self.end = Mark { row: position, slot, lsn, chain };
        if position == self.committed.row && self.end != self.committed {
            return Err(ReplayError::Rewritten { mark: self.committed });
        }
        Ok(())
    }
}

/// The check of the rows of one file in one range of epochs.
#[derive(Debug)]
pub struct RangeCheck<'a> {
    range: &'a EpochRange,
    pub(crate) file_index: usize,
    pub(crate) heads: SlotHeads,
    /// The epoch of the previous row. Epochs never decrease within a file.
    epoch: Epoch,
}

impl RangeCheck<'_> {
    /// Returns the record of a row that is the next of its slot; `None` for a row of a later range, at
    /// which the rows of this range end. `extent` is that of the file.
    ///
    /// # Errors
    ///
    /// If it is any other row.
    pub fn take(&mut self, extent: &mut Extent, row: &Row<'_>) -> Result<Option<Record>, ReplayError> {
        let &Row { slot, epoch, lsn, .. } = row;
        if epoch > self.range.last {
            return Ok(None);
        }
        if epoch < self.range.first {
            return Err(ReplayError::UnknownEpoch { epoch });
        }
        if epoch < self.epoch {
            return Err(ReplayError::OldEpoch { slot, lsn, epoch });
        }
        self.epoch = epoch;
        if self.range.file_of_slot(slot.index()) != self.file_index {
            return Err(ReplayError::WrongFile { slot, epoch });
        }
        extent.check_position(row)?;
        let record = check_row(row, &mut self.heads[slot.index()])?;
        extent.advance(row)?;
        Ok(Some(record))
    }
}

/// Goes through the ranges of epochs. `read` is called once for each range, with the files of the range
/// and a check for each. It passes the rows of each file to the file's check until the check returns
/// `None`, and returns the checks. `name` returns the name of a file. Returns the head of every slot.
///
/// # Errors
///
/// What `read` returned.
pub fn check_ranges<F, E>(
    cluster: u64,
    epochs: &Epochs,
    files: &mut [F],
    name: impl Fn(&F) -> &str,
    mut read: impl for<'a> FnMut(Vec<(&'a mut F, RangeCheck<'a>)>) -> Result<Vec<RangeCheck<'a>>, E>,
) -> Result<SlotHeads, E> {
    let mut heads = Box::new([SlotHead::empty(cluster); SLOT_COUNT]);
    for range in epochs.ranges() {
        let of_range = |file: &mut F| range.files.iter().position(|other| other == name(file));
        let readings = files.iter_mut().filter_map(|file| {
            let file_index = of_range(file)?;
            Some((file, RangeCheck { range, file_index, heads: heads.clone(), epoch: range.first }))
        });
        let readings = readings.collect();
        for check in read(readings)? {
            for slot in (0..SLOT_COUNT).filter(|&slot| range.file_of_slot(slot) == check.file_index) {
                heads[slot] = check.heads[slot];
            }
        }
    }
    Ok(heads)
}

/// The error of a row that is left after all ranges have been read.
pub fn left_over(epochs: &Epochs, row: &Row<'_>) -> ReplayError {
    let &Row { slot, epoch, .. } = row;
    match epoch > epochs.last() {
        true => ReplayError::UnknownEpoch { epoch },
        false => ReplayError::WrongFile { slot, epoch },
    }
}

/// Takes a row only if it is the next of its slot.
fn check_row(row: &Row<'_>, head: &mut SlotHead) -> Result<Record, ReplayError> {
    let Row { slot, lsn, at, ref columns, chain, .. } = *row;
    let expected = head.lsn.next();
    if lsn != expected {
        return Err(ReplayError::Gap { slot, expected, found: lsn });
    }
    if head.chain_next(&row.stamp(), columns) != chain {
        return Err(ReplayError::Checksum { slot, lsn });
    }
    let record = Record::decode(columns).map_err(|source| ReplayError::Decode { slot, lsn, source })?;
    if !head.takes_time(at, &record) {
        return Err(ReplayError::Time { slot, lsn, before: head.at, found: at });
    }
    *head = SlotHead { lsn, chain, at };
    Ok(record)
}
