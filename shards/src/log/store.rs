//! Where records are kept: claiming slots, replaying and reading their records.
//!
//! The seam is by slot, so that it fits files that hold many slots and a database that is asked
//! slot by slot.

use super::LogError;
use crate::ids::{Epoch, EventId, Lsn, Slot, Timestamp};
use crate::record::{Entry, Record};
use crate::shard::SlotHeads;
use crate::slots::SlotSet;

/// A place that keeps the records of slots.
pub trait LogStore {
    type Error;

    /// Makes `slots` this process's to append to, as of a new epoch; appends of earlier owners
    /// fail from then on. Gives every record of these slots to `replay`. Nothing may be answered
    /// from the records before this has returned.
    ///
    /// # Errors
    ///
    /// When the slots cannot be had, or any of their records is not as it was written.
    fn claim(&mut self, slots: &SlotSet, replay: &dyn Replay) -> Result<Claim, Self::Error>;
}

/// What a claim gave.
#[derive(Debug)]
pub struct Claim {
    pub epoch: Epoch,
    /// Where the records of each claimed slot end.
    pub heads: SlotHeads,
}

/// Takes the records of claimed slots.
pub trait Replay: Sync {
    /// A receiver for one thread. The records of a slot come in the order of their lsns, and a
    /// receiver is dropped before a later record of one of its slots goes to another.
    fn receiver(&self) -> Box<dyn FnMut(Slot, Lsn, Timestamp, Record) + '_>;
}

/// Reads committed records beside the appends of running logs.
pub trait ReadRecords: Send {
    /// Returns records of `slot` with an lsn above `after`, in order, at most `limit`; of one event
    /// only if `event` says so. The work of a call is bounded, so it may return fewer than there are.
    ///
    /// # Errors
    ///
    /// When the records cannot be read, or are not as they were written.
    fn read_after(
        &mut self,
        slot: Slot,
        event: Option<EventId>,
        after: Lsn,
        limit: usize,
    ) -> Result<RecordPage, LogError>;
}

/// A part of a slot's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordPage {
    pub entries: Vec<Entry>,
    /// Every record up to here was looked at: where the next page begins.
    pub searched: Lsn,
    /// There was no committed record behind `searched` when this page was read.
    pub is_last: bool,
}
