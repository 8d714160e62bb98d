//! A shard's write-ahead log: what is in it survives, what is not never happened.
//!
//! Says nothing of where a log is kept: an implementation may write files, or ask a database.

mod memory;
mod store;

use std::error::Error;

use crate::record::Entry;
use crate::slots::SlotSet;
pub use memory::MemoryLog;
pub use store::{Claim, LogStore, ReadRecords, RecordPage, Replay};

/// Synchronous on purpose: an implementation may block, and is called where
/// blocking is allowed, never inside the runtime.
pub trait Log: Send {
    /// Makes the entries durable, those of each slot together, except those of slots that another
    /// process has claimed: of these it stores nothing, and says which they are.
    ///
    /// # Errors
    ///
    /// See [`AppendError`], which says what may be done after one.
    fn append(&mut self, batch: &[Entry]) -> Result<Appended, AppendError>;

    /// Tries whether there is room again, after [`AppendError::RolledBack`].
    ///
    /// # Errors
    ///
    /// Like those of [`Log::append`]: `RolledBack` says that there is none yet.
    fn probe(&mut self) -> Result<(), AppendError>;

    /// Whether [`Log::maintain`] has something to do.
    fn maintenance_is_due(&self) -> bool;

    /// Upkeep that can wait until the batch's answers are on their way.
    ///
    /// # Errors
    ///
    /// As serious as [`AppendError::Unknown`], and to be treated as one.
    fn maintain(&mut self) -> Result<Upkeep, LogError>;

    /// Leaves everything in order. Nothing is appended any more.
    ///
    /// # Errors
    ///
    /// When the disk refuses: what was committed is safe all the same, as after a kill.
    fn close(self: Box<Self>) -> Result<(), LogError>;
}

/// The verdict on a batch, slot by slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Appended {
    /// Slots that another process has claimed: nothing of theirs was stored, and nothing will be.
    /// The batch's other entries are durable. Always empty for files, which have one owner.
    pub fenced: SlotSet,
}

/// What a failed commit leaves behind.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There was no room, and nothing of the batch is stored. Later calls may be made.
    #[error(transparent)]
    RolledBack(LogError),
    /// It is not known which of the entries are stored (a sync that is tried again can lie), and
    /// no later call may be made: the process has to end and recover.
    #[error(transparent)]
    Unknown(LogError),
}

/// What upkeep found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Upkeep {
    /// Pages that could not be written back, because a reader beside the server needs them
    /// as they were: the journal grows for as long as it does.
    pub pages_pinned: u64,
    /// There was no room to write pages back to. They are safe where they are.
    pub no_room: bool,
}

/// A log that could not be read or written: what an operator needs to know.
#[derive(Debug, thiserror::Error)]
#[error("{action} {place}: {source}")]
pub struct LogError {
    /// What was tried, as verb and object: "commit to", "checkpoint".
    pub action: &'static str,
    /// Where: a file, a database.
    pub place: String,
    /// What the disk or the database said.
    pub source: Box<dyn Error + Send + Sync>,
}
