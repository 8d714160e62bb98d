//! A log file: an SQLite database with one row for each record.
//!
//! The server runs its own checkpoints. SQLite's default hook (`sqlite3WalDefaultHook`) ignores the
//! error of a failed checkpoint, and so could hide that a disk fails.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use shards::ids::Epoch;
use shards::log::{AppendError, LogError, RollbackCause};
use shards::replay::Row;

use crate::failure::{Failure, found_no_room, is_locked};
use crate::index::FileIndex;
use crate::journal::{self, journal_of};
use crate::last_start;
use crate::rows::{SELECT, decode_row, small};
use crate::schema::{APPLICATION_ID, FORMAT, history_view, schema};

/// The oldest SQLite that is safe. Older ones can lose a commit when a checkpoint races with a writer
/// (<https://sqlite.org/wal.html#walresetbug>).
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// How long a start waits for another process that has a lock (a shell, a backup). After this it fails.
const LOCK_WAIT_AT_START: Duration = Duration::from_secs(5);

/// Whether a commit waits until it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    /// Commits survive a power cut. The server uses only this.
    Full,
    /// A power cut loses the last commits. For measuring the cost of `Full`.
    Normal,
}

/// The identity of a file, stored inside it, so that a swapped or foreign file is noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHeader {
    pub cluster: u64,
    pub name: String,
}

/// What opening a log file may add to its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// SQLite makes a journal and its shared memory, if they are missing.
    Write,
    /// Nothing, since there is no room. The file is read as it is, and no other process can write it meanwhile.
    ReadOnly,
}

/// The type of a file, by its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    Log(FileHeader),
    /// A log file of an earlier or a later format.
    OtherFormat(i32),
    /// Not a complete log file.
    NotALog,
}

/// An open log file. No record is written to it before [`LogFile::make_durable`].
#[derive(Debug)]
pub struct LogFile {
    connection: Connection,
    path: PathBuf,
    /// The device and the inode that had this path when the file was opened.
    inode: (u64, u64),
    index: Arc<FileIndex>,
}

impl LogFile {
    /// Makes a new, empty file. The caller has to sync the directory.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn create(path: &Path, header: &FileHeader, synchronous: Synchronous) -> Result<LogFile, LogError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let file = LogFile::connect(path, flags, synchronous)?;
        file.take_over()?;
        file.connection.execute_batch(&schema(header)).map_err(file.failed("create"))?;
        file.empty_journal(Duration::ZERO).map_err(file.failed("checkpoint"))?;
        Ok(file)
    }

    /// Opens a file that must be there. Until [`LogFile::make_durable`] nothing is
    /// written, so that a file that turns out to be the wrong one stays as it is.
    ///
    /// # Errors
    ///
    /// If the file is missing, unreadable, or no SQLite database.
    pub fn open(path: &Path, synchronous: Synchronous) -> Result<LogFile, LogError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        LogFile::connect(path, flags, synchronous)
    }

    /// Opens a file that must be there.
    ///
    /// # Errors
    ///
    /// As those of [`LogFile::open`].
    pub(crate) fn open_for(path: &Path, access: Access) -> Result<LogFile, LogError> {
        match access {
            Access::Write => LogFile::open(path, Synchronous::Full),
            Access::ReadOnly => LogFile::open_in_place(path),
        }
    }

    /// Opens a file without making any other. The index of a journal is kept in memory (SQLite's VFS `unix-excl`),
    /// which locks other processes out. Without a journal, everything is in the file itself.
    fn open_in_place(path: &Path) -> Result<LogFile, LogError> {
        let journal = match fs::metadata(journal_of(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            journal => journal.map_err(|source| log_error(path, "open", source))?.len(),
        };
        let connection = if journal > 0 {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            Connection::open_with_flags_and_vfs(path, flags, c"unix-excl")
        } else {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
                | OpenFlags::SQLITE_OPEN_NO_MUTEX
                | OpenFlags::SQLITE_OPEN_URI;
            Connection::open_with_flags(immutable(path), flags)
        };
        let connection =
            connection.map_err(|error| log_error(path, "open", Failure::of_open(error, path)))?;
        LogFile::set_up(connection, path, Synchronous::Full)
    }

    /// Opens a second connection to the file of a running log, for reading a few rows at a time.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub(crate) fn open_beside(path: &Path) -> Result<LogFile, LogError> {
        let file = LogFile::open(path, Synchronous::Full)?;
        let settings = "PRAGMA query_only = ON; PRAGMA cache_size = -512;";
        file.connection.execute_batch(settings).map_err(file.failed("open"))?;
        Ok(file)
    }

    fn connect(path: &Path, flags: OpenFlags, synchronous: Synchronous) -> Result<LogFile, LogError> {
        assert!(
            rusqlite::version_number() >= SQLITE_VERSION_MIN,
            "this build's SQLite {} can lose commits",
            rusqlite::version()
        );
        let connection = Connection::open_with_flags(path, flags)
            .map_err(|error| log_error(path, "open", Failure::of_open(error, path)))?;
        LogFile::set_up(connection, path, synchronous)
    }

    fn set_up(connection: Connection, path: &Path, synchronous: Synchronous) -> Result<LogFile, LogError> {
        let failed = |error| log_error(path, "open", Failure::new(error, &connection));
        let level = match synchronous {
            Synchronous::Full => "FULL",
            Synchronous::Normal => "NORMAL",
        };
        // First of all: otherwise closing the connection would checkpoint the journal, even if the journal belongs
        // to another file, or if what follows fails.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
        connection.busy_timeout(LOCK_WAIT_AT_START).map_err(failed)?;
        connection
            .execute_batch(&format!(
                "PRAGMA synchronous = {level};
                 PRAGMA wal_autocheckpoint = 0;
                 PRAGMA cache_size = -8192;
                 PRAGMA trusted_schema = OFF;"
            ))
            .map_err(failed)?;
        let file = fs::metadata(path).map_err(|source| log_error(path, "open", source))?;
        let inode = inode_of(&file);
        Ok(LogFile { connection, path: path.to_owned(), inode, index: Arc::default() })
    }

    /// Prepares the file for writing, once it is known to be the right one.
    fn take_over(&self) -> Result<(), LogError> {
        let failed = self.failed("set up");
        let mode: String = self
            .connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
            .map_err(&failed)?;
        if mode != "wal" {
            // Without shared memory, as on some network file systems, SQLite keeps its previous mode.
            let cannot = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
            let reason = format!("this file system has no WAL for SQLite, it stays at {mode}");
            let error = rusqlite::Error::SqliteFailure(cannot, Some(reason));
            return Err(log_error(&self.path, "set up", Failure { error, system: None }));
        }
        let no_checkpoint = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        self.connection.set_db_config(no_checkpoint, false).map(drop).map_err(&failed)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The index of the rows that were replayed or appended so far.
    pub(crate) fn index(&self) -> &Arc<FileIndex> {
        &self.index
    }

    /// Continues the index of an earlier opening of the same file.
    pub(crate) fn continue_index(&mut self, index: &Arc<FileIndex>) {
        self.index = Arc::clone(index);
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Reads the header, and returns the type of the file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn identity(&self) -> Result<Identity, LogError> {
        let read = || -> rusqlite::Result<Identity> {
            let pragma = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
            if pragma("application_id")? != APPLICATION_ID {
                return Ok(Identity::NotALog);
            }
            let format = pragma("user_version")?;
            if format != FORMAT {
                return Ok(Identity::OtherFormat(format));
            }
            let header = self.connection.query_row("SELECT cluster, name FROM header", [], |row| {
                Ok(FileHeader { cluster: row.get::<_, i64>(0)?.cast_unsigned(), name: row.get(1)? })
            });
            Ok(header.optional()?.map_or(Identity::NotALog, Identity::Log))
        };
        read().map_err(self.failed("read the header of"))
    }

    /// Whether the file has nothing in it, not even its tables.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn is_blank(&self) -> Result<bool, LogError> {
        let tables = "SELECT count(*) FROM sqlite_schema";
        let count = self.connection.query_row(tables, [], |row| row.get::<_, i64>(0));
        count.map(|count| count == 0).map_err(self.failed("read"))
    }

    /// The position of the last row, which is also the number of rows, since rows are only appended.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn row_count(&self) -> Result<u64, LogError> {
        let last = "SELECT coalesce(max(position), 0) FROM record";
        // Fails for a negative number, which would count as more rows than any.
        let count = self.connection.query_row(last, [], |row| small(row, 0));
        count.map_err(self.failed("read"))
    }

    /// Calls `visit` with every row after `position`, in the order written, until it returns false.
    /// Returns the position of the last row for which it returned true.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or if `visit` returns an error.
    pub fn rows_after<E: From<LogError>>(
        &self,
        mut position: u64,
        mut visit: impl FnMut(&Row<'_>) -> Result<bool, E>,
    ) -> Result<u64, E> {
        let failed = |source| E::from(self.failed("read")(source));
        let mut statement = self.connection.prepare_cached(SELECT).map_err(failed)?;
        let mut rows = statement.query([position.cast_signed()]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let row = decode_row(row).map_err(failed)?;
            if !visit(&row)? {
                break;
            }
            position = row.position;
        }
        Ok(position)
    }

    /// Takes the write lock, which is held until [`LogFile::make_durable`], or until the file is closed. Another
    /// process that still appends waits, and finds the epoch of this one afterwards.
    ///
    /// # Errors
    ///
    /// When another process has the lock for too long.
    pub(crate) fn lock(&self) -> Result<(), LogError> {
        self.wait_for_locks(LOCK_WAIT_AT_START).map_err(self.failed("lock"))?;
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(self.failed("lock"))
    }

    /// The last epoch in which a process claimed the file.
    pub(crate) fn epoch(&self) -> rusqlite::Result<Epoch> {
        let mut epoch = self.connection.prepare_cached("SELECT epoch FROM header")?;
        epoch.query_row([], |row| row.get(0).map(i64::cast_unsigned).map(Epoch))
    }

    /// Claims the file for `epoch`, so that processes of earlier epochs append nothing more, and puts a copy of the
    /// manifest into it. Makes everything that was read durable, so that answers may depend on it. What a killed
    /// process wrote may still be only in the kernel's page cache.
    ///
    /// # Errors
    ///
    /// When the disk refuses, or another process has the write lock.
    pub fn make_durable(&self, epoch: Epoch, manifest: &str) -> Result<(), LogError> {
        if self.connection.is_autocommit() {
            self.lock()?;
        }
        self.cut_journal()?;
        self.renew_history_view().map_err(self.failed("renew the view in"))?;
        let claim = || {
            self.connection.execute("UPDATE header SET epoch = ?1", [epoch.0.cast_signed()])?;
            last_start::write(&self.connection, manifest)?;
            // The sync of this commit is one of the whole journal.
            self.connection.execute_batch("COMMIT")
        };
        claim().map_err(self.failed("commit to"))?;
        self.take_over()?;
        // If a reader prevents it, the next checkpoint does it.
        self.empty_journal(Duration::ZERO).map(drop).map_err(self.failed("checkpoint"))
    }

    fn renew_history_view(&self) -> rusqlite::Result<()> {
        let view = history_view();
        let existing = "SELECT sql FROM sqlite_schema WHERE type = 'view' AND name = 'history'";
        let existing = self.connection.query_row(existing, [], |row| row.get::<_, String>(0)).optional()?;
        if existing.as_ref() == Some(&view) {
            return Ok(());
        }
        self.connection.execute_batch(&format!("DROP VIEW IF EXISTS history; {view};"))
    }

    /// Removes the frames of a commit that was cut off or found no room, inside a write transaction that has
    /// written nothing yet. Otherwise its commit could overwrite only a part of these frames before a power
    /// cut. Those that are left after it would look like commits that followed a damaged frame.
    ///
    /// # Errors
    ///
    /// When the disk refuses, or another file has the path now: its journal belongs to another process.
    pub(crate) fn cut_journal(&self) -> Result<(), LogError> {
        assert!(!self.connection.is_autocommit(), "another process could write meanwhile");
        let place = journal_of(&self.path);
        let failed = |source| log_error(&place, "cut", source);
        if inode_of(&fs::metadata(&self.path).map_err(failed)?) != self.inode {
            return Err(failed(io::Error::other("its log file was moved, and another one took its place")));
        }
        // A connection with an open transaction cannot ask for the journal's length.
        let other = LogFile::open(&self.path, Synchronous::Full)?;
        let Some(frames) = other.journal_frames().map_err(self.failed("read the journal of"))? else {
            return Ok(());
        };
        journal::cut(&self.path, frames).map_err(failed)
    }

    /// Makes later statements wait for locks of other processes for at most this time.
    pub(crate) fn wait_for_locks(&self, most: Duration) -> rusqlite::Result<()> {
        self.connection.busy_timeout(most)
    }

    /// The frames of the journal that SQLite reads; `None` if another program has turned the journal off.
    fn journal_frames(&self) -> rusqlite::Result<Option<u64>> {
        let length = "PRAGMA wal_checkpoint(NOOP)";
        let frames = self.connection.query_row(length, [], |row| row.get::<_, i64>(1))?;
        Ok(u64::try_from(frames).ok())
    }

    /// The length of the part of the journal that SQLite reads.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub(crate) fn journal_bytes(&self) -> Result<u64, LogError> {
        let read = || {
            let page_bytes =
                self.connection.pragma_query_value(None, "page_size", |row| row.get::<_, u32>(0))?;
            Ok(journal::length_of(self.journal_frames()?.unwrap_or(0), page_bytes.into()))
        };
        read().map_err(self.failed("read the journal of"))
    }

    /// Calls `count` after each commit with the pages that the journal has then.
    pub(crate) fn count_journal_pages(
        &mut self,
        mut count: impl FnMut(u64) + Send + 'static,
    ) -> rusqlite::Result<()> {
        let hook = move |_: &mut Wal, pages: i32| {
            count(u64::try_from(pages).unwrap_or(0));
            Ok(())
        };
        self.connection.wal_hook(Some(hook))
    }

    /// Writes the journal back as far as readers allow, without waiting for any. Returns the pages that are left.
    pub(crate) fn write_back(&self) -> rusqlite::Result<u64> {
        // Its columns: whether it was busy, pages in the journal, pages of these that were written back.
        let mut checkpoint = self.connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?;
        let left = checkpoint.query_row([], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?));
        left.map(|left| u64::try_from(left).unwrap_or(0))
    }

    /// Writes the journal back and empties it, if readers and writers of other processes allow it within `wait`.
    /// Returns whether it is empty now.
    pub(crate) fn empty_journal(&self, wait: Duration) -> rusqlite::Result<bool> {
        self.wait_for_locks(wait)?;
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy = self.connection.query_row(checkpoint, [], |row| row.get::<_, i64>(0));
        match busy {
            Err(error) if is_locked(&error) => Ok(false),
            busy => Ok(busy? == 0),
        }
    }

    /// Classifies a failed commit. It is known to be rolled back in two cases, if SQLite undoes the
    /// transaction: a write found no room before the frame that completes the commit was written; and another
    /// process had a lock that the transaction needed before it could write anything.
    ///
    /// If the journal's index cannot grow (`SQLITE_IOERR_SHMSIZE`), the commit may be in the journal: SQLite
    /// extends the index after the sync.
    pub(crate) fn commit_failed(&self, error: rusqlite::Error) -> AppendError {
        let cause = match &error {
            error if self.found_no_room(error) => Some(RollbackCause::NoRoom),
            error if is_locked(error) => Some(RollbackCause::Locked),
            _ => None,
        };
        let is_undone =
            || self.connection.is_autocommit() || self.connection.execute_batch("ROLLBACK").is_ok();
        let error = self.failed("commit to")(error);
        let cause = cause.filter(|_| is_undone());
        match cause {
            Some(cause) => AppendError::RolledBack { cause, error },
            None => AppendError::Unknown(error),
        }
    }

    /// Whether a write found no room. Call it before the connection is used again.
    pub(crate) fn found_no_room(&self, error: &rusqlite::Error) -> bool {
        found_no_room(&self.connection, error)
    }

    pub(crate) fn failed(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> LogError + use<'_> {
        move |error| log_error(&self.path, action, Failure::new(error, &self.connection))
    }
}

/// Opens a file without the right to read or write it. Closing any other descriptor of an SQLite file would release
/// the locks that SQLite has on it
/// (<https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_>).
pub(crate) fn open_path(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::PATH.bits().cast_signed();
    File::options().read(true).custom_flags(flags).open(path)
}

/// What tells a file from others, whatever its name: its device and its inode.
pub(crate) fn inode_of(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// The error of `action` on the file or directory `path`.
pub(crate) fn log_error(
    path: &Path,
    action: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> LogError {
    LogError { action, place: path.display().to_string(), source: source.into() }
}

/// The URI of a file that does not change while it is read, so SQLite needs no lock and no journal
/// (<https://sqlite.org/uri.html#uriimmutable>).
fn immutable(path: &Path) -> String {
    use std::fmt::Write;
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(byte.into()),
            _ => write!(uri, "%{byte:02X}").expect("memory takes everything"),
        }
    }
    uri + "?immutable=1"
}
