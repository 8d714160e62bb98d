//! Errors of SQLite with what the system said, and what they mean for a log.
#![allow(unsafe_code, reason = "rusqlite has no call for the system's error number")]

use std::io;

use rusqlite::ffi::{SQLITE_IOERR_WRITE, sqlite3_system_errno};
use rusqlite::{Connection, ErrorCode};

/// An error of SQLite.
#[derive(Debug, thiserror::Error)]
#[error("{error}{}", system.as_ref().map(|system| format!(": {system}")).unwrap_or_default())]
pub(crate) struct SqliteError {
    pub(crate) error: rusqlite::Error,
    /// The error of the system call that failed, where SQLite keeps it.
    pub(crate) system: Option<io::Error>,
}

impl SqliteError {
    /// Call it before the connection is used again.
    pub(crate) fn of(connection: &Connection, error: rusqlite::Error) -> SqliteError {
        let system = system_error(connection, &error);
        SqliteError { error, system }
    }
}

/// Whether a write found no room: no space on the disk, no quota left, or the file may not become longer. If a
/// sync finds no room, SQLite reports another I/O error.
///
/// All three end SQLite's `unixWrite`, but only for `ENOSPC` it returns `SQLITE_FULL`.
pub(crate) fn found_no_room(connection: &Connection, error: &rusqlite::Error) -> bool {
    let is_of_write = error.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_IOERR_WRITE);
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || is_of_write && system_error(connection, error).is_some_and(|error| is_no_room(&error))
}

/// Whether another process has a lock. `SQLITE_PROTOCOL` says the same after many attempts.
pub(crate) fn is_locked(error: &rusqlite::Error) -> bool {
    use ErrorCode::{DatabaseBusy, FileLockingProtocolFailed};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | FileLockingProtocolFailed))
}

/// Whether there was no room: no space or inode, no quota left, or the file may not become longer.
pub fn is_no_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn system_error(connection: &Connection, error: &rusqlite::Error) -> Option<io::Error> {
    if !matches!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen)) {
        return None;
    }
    // SAFETY: the handle of an open connection, which is not used by another thread meanwhile.
    let number = unsafe { sqlite3_system_errno(connection.handle()) };
    (number != 0).then(|| io::Error::from_raw_os_error(number))
}
