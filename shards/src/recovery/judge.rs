//! Which rows count: every row of every file is checked against the end of its
//! slot, range by range of epochs.
//!
//! Opens nothing, and waits for nothing: whoever reads the files gives their
//! rows here, be they SQLite's or simulated.

use std::path::Path;

use super::RecoveryError;
use super::manifest::{EpochRange, Manifest};
use crate::ids::Epoch;
use crate::limits::SLOT_COUNT;
use crate::log::{Mark, Row};
use crate::record::{Record, SlotHead};
use crate::shard::SlotHeads;

/// How far a file goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// The last row that was committed, as far as is known: it has to be there.
    committed: Mark,
    /// The last row that was judged.
    pub(crate) end: Mark,
}

impl Extent {
    /// A file that is still to be read.
    pub(crate) fn of(committed: Mark) -> Extent {
        Extent { committed, end: Mark::EMPTY }
    }

    /// # Errors
    ///
    /// When rows of what was committed are not there.
    pub(crate) fn check_row_count(&self, path: &Path, found: u64) -> Result<(), RecoveryError> {
        match self.committed {
            mark if found < mark.row => Err(RecoveryError::Lost { path: path.to_owned(), found, mark }),
            _ => Ok(()),
        }
    }

    fn check_position(&self, path: &Path, row: &Row<'_>) -> Result<(), RecoveryError> {
        let (expected, &Row { position: found, slot, lsn, .. }) = (self.end.row + 1, row);
        if found != expected {
            return Err(RecoveryError::Position { path: path.to_owned(), expected, found, slot, lsn });
        }
        Ok(())
    }

    /// Goes on to a row, which has to be as it was committed.
    fn go_on(&mut self, path: &Path, row: &Row<'_>) -> Result<(), RecoveryError> {
        let &Row { position, slot, lsn, chain, .. } = row;
        self.end = Mark { row: position, slot, lsn, chain };
        if position == self.committed.row && self.end != self.committed {
            return Err(RecoveryError::Rewritten { path: path.to_owned(), mark: self.committed });
        }
        Ok(())
    }
}

/// Judges the rows of one file in one range of epochs.
#[derive(Debug)]
pub(crate) struct Judge<'a> {
    range: &'a EpochRange,
    pub(crate) file_index: usize,
    pub(crate) heads: SlotHeads,
    /// Of the row before: a file is written by one start after the other.
    epoch: Epoch,
}

impl Judge<'_> {
    /// The record of a row that its slot goes on with; `None` for a row of a later range,
    /// with which this one ends.
    ///
    /// # Errors
    ///
    /// When it is any other row. `path` and `extent` are the file's.
    pub(crate) fn take(
        &mut self,
        path: &Path,
        extent: &mut Extent,
        row: &Row<'_>,
    ) -> Result<Option<Record>, RecoveryError> {
        let &Row { slot, epoch, lsn, .. } = row;
        if epoch > self.range.last {
            return Ok(None);
        }
        if epoch < self.range.first {
            return Err(RecoveryError::UnknownEpoch { path: path.to_owned(), epoch });
        }
        if epoch < self.epoch {
            return Err(RecoveryError::OldEpoch { path: path.to_owned(), slot, lsn, epoch });
        }
        self.epoch = epoch;
        if self.range.file_of_slot(slot.index()) != self.file_index {
            return Err(RecoveryError::WrongFile { path: path.to_owned(), slot, epoch });
        }
        extent.check_position(path, row)?;
        let record = check_row(path, row, &mut self.heads[slot.index()])?;
        extent.go_on(path, row)?;
        Ok(Some(record))
    }
}

/// Goes through the ranges of epochs. For each, `read` is given its files with their judges,
/// and gives every judge back that has seen its file's rows up to a later range.
/// Returns where every slot ends.
pub(crate) fn judge_ranges<F>(
    manifest: &Manifest,
    files: &mut [F],
    name: impl Fn(&F) -> &str,
    mut read: impl for<'a> FnMut(Vec<(&'a mut F, Judge<'a>)>) -> Result<Vec<Judge<'a>>, RecoveryError>,
) -> Result<SlotHeads, RecoveryError> {
    let mut heads = Box::new([SlotHead::empty(manifest.cluster); SLOT_COUNT]);
    for range in &manifest.epochs {
        let of_range = |file: &mut F| range.files.iter().position(|other| other == name(file));
        let readings = files.iter_mut().filter_map(|file| {
            let file_index = of_range(file)?;
            Some((file, Judge { range, file_index, heads: heads.clone(), epoch: range.first }))
        });
        let readings = readings.collect();
        for judge in read(readings)? {
            for slot in (0..SLOT_COUNT).filter(|&slot| range.file_of_slot(slot) == judge.file_index) {
                heads[slot] = judge.heads[slot];
            }
        }
    }
    Ok(heads)
}

/// What is wrong with a row that is left when all ranges have been read.
pub(crate) fn left_over(manifest: &Manifest, path: &Path, row: &Row<'_>) -> RecoveryError {
    let (path, &Row { slot, epoch, .. }) = (path.to_owned(), row);
    match epoch > manifest.last_epoch() {
        true => RecoveryError::UnknownEpoch { path, epoch },
        false => RecoveryError::WrongFile { path, slot, epoch },
    }
}

/// Takes a row in only if it is the one that its slot goes on with.
fn check_row(path: &Path, row: &Row<'_>, head: &mut SlotHead) -> Result<Record, RecoveryError> {
    let Row { position: _, slot, epoch, lsn, at, ref columns, chain } = *row;
    let path = || path.to_owned();
    let expected = head.lsn.next();
    if lsn != expected {
        return Err(RecoveryError::Gap { path: path(), slot, expected, found: lsn });
    }
    if head.chain_next(slot, epoch, lsn, at, columns) != chain {
        return Err(RecoveryError::Checksum { path: path(), slot, lsn });
    }
    *head = SlotHead { lsn, chain, at };
    Record::decode(columns).map_err(|source| RecoveryError::Decode { path: path(), slot, lsn, source })
}
