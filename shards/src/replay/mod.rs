//! The replay check decides which rows that were read back are records of the log.
//!
//! It does no I/O: the caller passes the rows, which may be read from files or simulated. Errors say what is
//! wrong with a row; the caller adds the file that it came from.

mod check;
mod epochs;

use crate::ids::{Epoch, Lsn, Slot, Timestamp};
use crate::record::{Columns, DecodeError, Stamp};
pub use check::{Extent, RangeCheck, check_ranges, left_over};
pub use epochs::{EpochRange, Epochs};

/// One row as read back, still unchecked.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    /// The row's number in its file: from 1, without gaps, since rows are only appended.
    pub position: u64,
    pub slot: Slot,
    pub epoch: Epoch,
    pub lsn: Lsn,
    pub at: Timestamp,
    pub previous: Lsn,
    pub continues: bool,
    pub columns: Columns<'a>,
    pub chain: u64,
}

impl Row<'_> {
    pub fn stamp(&self) -> Stamp {
        let &Row { position: _, slot, epoch, lsn, at, previous, continues, columns: _, chain: _ } = self;
        Stamp { slot, epoch, lsn, at, previous, continues }
    }
}

/// The last record that a log file is known to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Position of its row, from 1; 0 when there is none.
    pub row: u64,
    pub slot: Slot,
    pub lsn: Lsn,
    pub chain: u64,
}

impl Mark {
    pub const EMPTY: Mark = Mark { row: 0, slot: Slot(0), lsn: Lsn(0), chain: 0 };
}

/// Why a row, or a file as a whole, was refused.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("slot {slot} is not written to this file in epoch {}", epoch.0)]
    WrongFile { slot: Slot, epoch: Epoch },
    #[error("has records of epoch {}, which the manifest does not know", epoch.0)]
    UnknownEpoch { epoch: Epoch },
    #[error("slot {slot}, lsn {lsn} is of epoch {}, and comes after records of a later one", epoch.0)]
    OldEpoch { slot: Slot, lsn: Lsn, epoch: Epoch },
    #[error("slot {slot} goes on with lsn {found} where {expected} is due: records are missing")]
    Gap { slot: Slot, expected: Lsn, found: Lsn },
    #[error("wrong checksum at slot {slot}, lsn {lsn}")]
    Checksum { slot: Slot, lsn: Lsn },
    #[error("slot {slot}, lsn {lsn} has the time {} after {}, and time goes back only by a record that says so", found.0, before.0)]
    Time { slot: Slot, lsn: Lsn, before: Timestamp, found: Timestamp },
    #[error("row {found} (slot {slot}, lsn {lsn}) where row {expected} is due: records are missing")]
    Position { expected: u64, found: u64, slot: Slot, lsn: Lsn },
    #[error(
        "ends at row {found}, but row {} was committed (slot {}, lsn {}): records are missing",
        mark.row, mark.slot, mark.lsn
    )]
    Lost { found: u64, mark: Mark },
    #[error(
        "row {} is not the one that was committed (slot {}, lsn {}): the file is not the one that was written",
        mark.row, mark.slot, mark.lsn
    )]
    Rewritten { mark: Mark },
    #[error("slot {slot}, lsn {lsn}: {source}")]
    Decode { slot: Slot, lsn: Lsn, source: DecodeError },
}
