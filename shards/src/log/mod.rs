//! A shard's write-ahead log: what is in it survives, what is not never happened.

mod journal;
mod mark;
mod memory;
mod sqlite;

use std::io;
use std::path::PathBuf;

use crate::record::Entry;
pub use journal::{Damage, find_damage, journal_of};
pub use mark::{Mark, MarkFile};
pub use memory::MemoryLog;
pub use sqlite::{FileHeader, LogFile, Row, SqliteLog, Synchronous};

/// Synchronous on purpose: an implementation may block, and is called where
/// blocking is allowed, never inside the runtime.
pub trait Log: Send {
    /// Makes every entry durable, or says that it could not.
    ///
    /// # Errors
    ///
    /// See [`AppendError`], which says what may be done after one.
    fn append(&mut self, batch: &[Entry]) -> Result<(), AppendError>;

    /// Tries whether there is room again, after [`AppendError::RolledBack`].
    ///
    /// # Errors
    ///
    /// As of [`Log::append`]: `RolledBack` says that there is none yet.
    fn probe(&mut self) -> Result<(), AppendError>;

    /// Whether [`Log::maintain`] has something to do.
    fn maintenance_is_due(&self) -> bool;

    /// Upkeep that can wait until the batch's answers are on their way.
    ///
    /// # Errors
    ///
    /// As bad as [`AppendError::Unknown`], and to be treated as one.
    fn maintain(&mut self) -> Result<Upkeep, LogError>;

    /// Leaves everything in order. Nothing is appended any more.
    ///
    /// # Errors
    ///
    /// When the disk refuses: what was committed is safe all the same, as after a kill.
    fn close(self: Box<Self>) -> Result<(), LogError>;
}

/// What a failed commit leaves behind.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk is full, and nothing of the batch is on it. Later calls may be made.
    #[error(transparent)]
    RolledBack(LogError),
    /// Nobody knows which of the entries are on disk (a sync that is tried again can lie), and
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

/// A log that could not be read or written. What an operator needs: which file, and what
/// the disk said.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}: {source}", path.display())]
pub struct LogError {
    /// Verb and object: "commit to", "checkpoint".
    pub action: &'static str,
    pub path: PathBuf,
    pub source: LogErrorSource,
}

impl LogError {
    /// Whether the file is not as it was written, so that trying again is of no use.
    pub fn is_damage(&self) -> bool {
        use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match &self.source {
            LogErrorSource::Io(_) => false,
            LogErrorSource::Sqlite(error) => {
                matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
                    || matches!(
                        error,
                        FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..)
                    )
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LogErrorSource {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}
