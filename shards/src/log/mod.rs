//! A shard's write-ahead log. After a restart, state is what the records in the log say, and nothing else.
//!
//! The traits do not depend on where a log is kept: an implementation may write files, or use a database.

mod memory;
mod store;

use std::error::Error;
use std::time::Duration;

use crate::record::Entry;
use crate::slots::SlotSet;
pub use memory::MemoryLog;
pub use store::{Claim, LogStore, ReadRecords, RecordPage, Replay};

/// A log. Its methods are synchronous and may block. The caller decides on which thread they run.
pub trait Log: Send {
    /// Makes the entries durable. Those of one slot are stored together or not at all. Entries of slots
    /// that another process has claimed are not stored; [`Appended::fenced`] names these slots. If another
    /// program has locked the log, waits for at most `lock_wait`.
    ///
    /// # Errors
    ///
    /// See [`AppendError`], which says whether the log may be used afterwards.
    fn append(&mut self, batch: &[Entry], lock_wait: Duration) -> Result<Appended, AppendError>;

    /// Tests whether the log takes entries again, after [`AppendError::RolledBack`]. Does not wait for locks.
    ///
    /// # Errors
    ///
    /// Like those of [`Log::append`]: `RolledBack` says that it does not yet.
    fn probe(&mut self) -> Result<(), AppendError>;

    /// Whether [`Log::maintain`] has something to do.
    fn maintenance_is_due(&self) -> bool;

    /// Does the upkeep that can wait until the batch's answers are sent. Waits for readers only for moments.
    ///
    /// # Errors
    ///
    /// After an error the process has to end, as after [`AppendError::Unknown`].
    fn maintain(&mut self) -> Result<Upkeep, LogError>;

    /// Closes the log. Nothing is appended afterwards.
    ///
    /// # Errors
    ///
    /// If the disk fails. What was committed is stored nevertheless, as after a kill.
    fn close(self: Box<Self>) -> Result<(), LogError>;
}

/// The result of an append, by slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Appended {
    /// Slots that another process has claimed. Their entries were not stored, and never will be. The
    /// batch's other entries are durable. Always empty for files, which are claimed as a whole: see
    /// [`AppendError::Fenced`].
    pub fenced: SlotSet,
}

/// The error of an append: whether the batch is stored.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Nothing of the batch is stored. The log may be used again.
    #[error("{error}")]
    RolledBack { cause: RollbackCause, error: LogError },
    /// Another process has claimed the log. Nothing of the batch is stored, and never will be: the process has
    /// to end.
    #[error(transparent)]
    Fenced(LogError),
    /// It is unknown which of the entries are stored, and trying again does not help, since a repeated
    /// sync may report success for data that is lost. The log may not be used again: the process has
    /// to end, and a restart recovers.
    #[error(transparent)]
    Unknown(LogError),
}

/// Why nothing of a batch was stored, and why a log takes no entries until this is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollbackCause {
    /// There was no room.
    NoRoom,
    /// Another program has locked the log.
    Locked,
}

/// The result of upkeep.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Upkeep {
    /// The journal: a file, or empty for a log that has none.
    pub journal: String,
    pub journal_bytes: u64,
    /// Why the journal is still too large. Nothing is lost by that, and [`Log::maintain`] is to be tried again.
    pub hindrance: Option<Hindrance>,
}

/// What keeps a journal from being written back and made smaller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance {
    /// There was no room to write pages back. They are safe in the journal.
    NoRoom,
    /// Others read an older state of the log, so the journal grows until they have finished. Those that can be
    /// named: none if they are this process itself, or have just finished.
    Readers(Vec<Reader>),
}

/// A process that reads a log beside this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// Its id; `None` if it is not visible from here, such as that of a process outside of this container.
    pub pid: Option<u32>,
    /// The name of its program, if that can be read.
    pub name: Option<String>,
}

/// A log that could not be read or written: what an operator needs to know.
#[derive(Debug, thiserror::Error)]
#[error("{action} {place}: {source}")]
pub struct LogError {
    /// What was tried, as a verb that fits before `place`: "commit to", "checkpoint".
    pub action: &'static str,
    /// Where: a file, a database.
    pub place: String,
    /// What the disk or the database said.
    pub source: Box<dyn Error + Send + Sync>,
}
