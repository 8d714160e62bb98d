//! The interface to a store of records: claiming slots, replaying and reading their records.
//!
//! The interface is by slot, so that it fits both files that hold many slots and a database that is
//! queried slot by slot.

use super::LogError;
use crate::ids::{Epoch, EventId, Lsn, Slot, Timestamp};
use crate::record::{Entry, Record};
use crate::shard::SlotHeads;
use crate::slots::SlotSet;

/// A place that keeps the records of slots.
pub trait LogStore {
    type Error;

    /// Starts a new epoch, in which only this process may append to `slots`; appends of earlier owners
    /// fail from then on. Gives every record of these slots to `replay`. No answer may depend on the
    /// records before this has returned.
    ///
    /// # Errors
    ///
    /// If the slots cannot be claimed, or any of their records is not as it was written.
    fn claim(&mut self, slots: &SlotSet, replay: &dyn Replay) -> Result<Claim, Self::Error>;
}

/// The result of a claim.
#[derive(Debug)]
pub struct Claim {
    pub epoch: Epoch,
    /// The head of each claimed slot.
    pub heads: SlotHeads,
}

/// Takes the records of claimed slots.
pub trait Replay: Sync {
    /// Makes a receiver for one thread. The records of a slot come in the order of their lsns. If
    /// later records of a slot go to another receiver, the first receiver is dropped before.
    fn receiver(&self) -> Box<dyn FnMut(Slot, Lsn, Timestamp, Record) + '_>;
}

/// Reads committed records while logs append.
pub trait ReadRecords: Send {
    /// Returns at most `limit` records of `slot` with an lsn above `after`, in order; if `event` is
    /// given, only those of this event. The work of a call is bounded, so it may return fewer records
    /// than there are, even none.
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
    /// The records up to this lsn were searched. The next page begins after it.
    pub searched: Lsn,
    /// Whether there was no committed record after `searched` when this page was read.
    pub is_last: bool,
}
