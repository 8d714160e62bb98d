//! The store of boxoffice's logs: a data directory with one SQLite file for each shard.
//!
//! [`open`] recovers the state that the last start left, and returns shards with their logs. The domain
//! (`shards`) defines what a record is and which rows are valid. Only this crate knows files, paths and
//! SQLite.

mod check;
mod directory;
mod error;
mod failure;
mod file;
mod index;
mod journal;
mod last_start;
mod log;
mod manifest;
mod mark;
mod named_file;
mod reader;
mod readers;
mod recovery;
mod repair;
mod replay;
mod room;
mod rows;
mod schema;
mod shared_memory;
mod store;
mod waiting;
mod watch;

pub use directory::{DirectoryLock, replace_file};
pub use error::RecoveryError;
pub use failure::is_no_room;
pub use file::{FileHeader, Identity, LogFile, Synchronous};
pub use log::SqliteLog;
pub use mark::MarkFile;
pub use reader::{RecordReader, Records};
pub use recovery::{FilesInUse, Progress, Recovered, last_shard_count, open, open_without_room};
pub use repair::{Finding, Repair};
pub use waiting::{WaitingLog, WaitingStart};
pub use watch::Watch;

/// The version of SQLite that is in this program.
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}
