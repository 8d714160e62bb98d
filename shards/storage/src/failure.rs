//! An error of SQLite, with what the operating system said, and what it means for a log.
#![expect(unsafe_code, reason = "rusqlite has no call for the operating system's error")]

use std::fmt;
use std::io;
use std::path::Path;
use std::ptr;

use rusqlite::{Connection, ErrorCode, ffi};
use rustix::io::Errno;

use crate::file::open_path;

/// Why SQLite failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: rusqlite::Error,
    /// The operating system's error, if it was one that made SQLite fail.
    pub(crate) system: Option<io::Error>,
}

impl Failure {
    pub(crate) fn new(error: rusqlite::Error, connection: &Connection) -> Failure {
        let errno = match error.sqlite_error_code() {
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => system_errno(connection),
            // SQLite reports a read that fails as a corrupt file (`SQLITE_IOERR_CORRUPTFS` in its source).
            Some(ErrorCode::DatabaseCorrupt) => read_errno(connection),
            Some(_) | None => 0,
        };
        Failure { error, system: (errno != 0).then(|| io::Error::from_raw_os_error(errno)) }
    }

    /// Whether a sync failed. Then it is not known what is on disk, and another sync may hide it.
    pub(crate) fn is_of_sync(&self) -> bool {
        let of_sync = [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC, ffi::SQLITE_IOERR_CLOSE];
        self.error.sqlite_error().is_some_and(|error| of_sync.contains(&error.extended_code))
    }

    /// The error of a file that could not be opened, so that there is no connection to ask.
    pub(crate) fn of_open(error: rusqlite::Error, path: &Path) -> Failure {
        let opened = open_path(path);
        let accessed = rustix::fs::access(path, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK);
        // SQLite has read the header, and says no more than this.
        let is_unread =
            error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_CORRUPTFS);
        let unread = is_unread.then(|| Errno::IO.into());
        let system = opened.err().or_else(|| accessed.err().map(io::Error::from)).or(unread);
        Failure { error, system }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { error, system } = self;
        match (error.sqlite_error_code(), system) {
            (_, None) => error.fmt(formatter),
            (Some(ErrorCode::DatabaseCorrupt), Some(system)) => {
                write!(formatter, "it could not be read: {system}")
            }
            (_, Some(system)) => write!(formatter, "{error}: {system}"),
        }
    }
}

impl std::error::Error for Failure {}

/// Whether a write found no room: no space on the disk, no quota left, or the file may not become longer. If a
/// sync finds no room, SQLite reports another I/O error. Call it before the connection is used again.
///
/// All three end SQLite's `unixWrite`, but only for `ENOSPC` it returns `SQLITE_FULL`.
pub(crate) fn found_no_room(connection: &Connection, error: &rusqlite::Error) -> bool {
    let is_of_write =
        error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_WRITE);
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || is_of_write && is_no_room(&io::Error::from_raw_os_error(system_errno(connection)))
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

/// Marks the error of a sync that found no room as another one: it is not known what is on disk then.
pub(crate) fn synced(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if is_no_room(&error) => Err(io::Error::other(format!("a sync failed: {error}"))),
        result => result,
    }
}

/// The last error of the operating system for which SQLite could not open, read or write a file.
fn system_errno(connection: &Connection) -> i32 {
    // SAFETY: the handle is valid as long as the connection is borrowed.
    unsafe { ffi::sqlite3_system_errno(connection.handle()) }
}

/// The error by which a read of the log or of its journal has failed, or 0.
fn read_errno(connection: &Connection) -> i32 {
    let mut errnos = [0; 2];
    let [of_log, of_journal] = &mut errnos;
    // SAFETY: the handle is valid as long as the connection is borrowed, and so is the file that SQLite names. The
    // last argument of each operation points to what it writes, an integer or a pointer to a file.
    unsafe {
        let handle = connection.handle();
        let main = c"main".as_ptr();
        ffi::sqlite3_file_control(handle, main, ffi::SQLITE_FCNTL_LAST_ERRNO, ptr::from_mut(of_log).cast());
        let mut journal: *mut ffi::sqlite3_file = ptr::null_mut();
        let operation = ffi::SQLITE_FCNTL_JOURNAL_POINTER;
        ffi::sqlite3_file_control(handle, main, operation, ptr::from_mut(&mut journal).cast());
        let methods = journal.as_ref().and_then(|journal| journal.pMethods.as_ref());
        if let Some(control) = methods.and_then(|methods| methods.xFileControl) {
            control(journal, ffi::SQLITE_FCNTL_LAST_ERRNO, ptr::from_mut(of_journal).cast());
        }
    }
    let is_of_a_read =
        |errno: &i32| [Errno::IO, Errno::NXIO, Errno::RANGE].map(Errno::raw_os_error).contains(errno);
    errnos.into_iter().find(is_of_a_read).unwrap_or(0)
}
