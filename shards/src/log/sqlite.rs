//! The default log: one SQLite file a shard, one row a record.
//!
//! SQLite's own write-ahead journal makes a batch durable with one sync.
//! Checkpoints are ours to run: SQLite's default hook throws the result of a
//! failed one away (`sqlite3WalDefaultHook`), and with it the news of a bad disk.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::{AppendError, Log, LogError, Mark, MarkFile, Upkeep};
use crate::ids::{Epoch, Lsn, Slot, Timestamp};
use crate::limits::CHECKPOINT_PAGES;
use crate::record::{Columns, Entry, Kind};

/// "boxo", so that `file` and a curious reader can tell whose this is.
const APPLICATION_ID: i32 = 0x626f_786f;
/// Of the tables in a log file. Raised with each change of them.
const FILE_FORMAT: i32 = 1;
/// Older ones can lose a commit when a checkpoint races with a writer
/// (<https://sqlite.org/wal.html#walresetbug>).
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// Another process may look into the file (a shell, a backup). It never holds
/// the write lock for long; if it does, the commit fails and says so.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const INSERT: &str =
    "INSERT INTO record (slot, epoch, lsn, at, kind, event, number, user, quantity, body, chain) VALUES ";
const ROW_PARAMETERS: usize = 11;
/// Rows that one statement inserts, when there are as many: they share what a statement costs.
const ROWS_TOGETHER: usize = 16;
const SELECT: &str = "SELECT position, slot, epoch, lsn, at, kind, event, number, user, quantity, body, chain \
     FROM record WHERE position > ?1 ORDER BY position";

/// How much a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synchronous {
    /// Survives a power cut. The only one that the server uses.
    Full,
    /// Loses the last commits in a power cut: for measuring what `Full` costs.
    Normal,
}

/// Says which file this is, inside the file, so that a swapped or foreign one is found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHeader {
    pub cluster: u64,
    pub name: String,
}

/// An open log file, before it is known whether it will be written to.
#[derive(Debug)]
pub struct LogFile {
    connection: Connection,
    path: PathBuf,
}

/// One row as read back, still unchecked.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    /// From 1, without gaps: rows are only ever appended.
    pub position: u64,
    pub slot: Slot,
    pub epoch: Epoch,
    pub lsn: Lsn,
    pub at: Timestamp,
    pub columns: Columns<'a>,
    pub chain: u64,
}

impl LogFile {
    /// Makes a new, empty file. The directory's entry is the caller's to sync.
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
        file.checkpoint()?;
        Ok(file)
    }

    /// Opens a file that must be there. Until [`LogFile::make_durable`] nothing is
    /// written, so that a file that turns out to be the wrong one stays as it is.
    ///
    /// # Errors
    ///
    /// When there is none, or it is no SQLite database, or not readable.
    pub fn open(path: &Path, synchronous: Synchronous) -> Result<LogFile, LogError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        LogFile::connect(path, flags, synchronous)
    }

    fn connect(path: &Path, flags: OpenFlags, synchronous: Synchronous) -> Result<LogFile, LogError> {
        assert!(
            rusqlite::version_number() >= SQLITE_VERSION_MIN,
            "this build's SQLite {} can lose commits",
            rusqlite::version()
        );
        let failed = |source: rusqlite::Error| LogError {
            action: "open",
            path: path.to_owned(),
            source: source.into(),
        };
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        let level = match synchronous {
            Synchronous::Full => "FULL",
            Synchronous::Normal => "NORMAL",
        };
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        connection
            .execute_batch(&format!(
                "PRAGMA synchronous = {level};
                 PRAGMA wal_autocheckpoint = 0;
                 PRAGMA cache_size = -8192;
                 PRAGMA trusted_schema = OFF;"
            ))
            .map_err(failed)?;
        // Else a close would write the journal back, even into a file that it does not belong to.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
        Ok(LogFile { connection, path: path.to_owned() })
    }

    /// The file is the right one, and this process's to write.
    fn take_over(&self) -> Result<(), LogError> {
        let failed = self.failed("set up");
        let mode: String = self
            .connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
            .map_err(&failed)?;
        if mode != "wal" {
            // Without shared memory (some network file systems) SQLite stays as it was.
            let cannot = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
            let reason = format!("this file system has no WAL for SQLite, it stays at {mode}");
            return Err(failed(rusqlite::Error::SqliteFailure(cannot, Some(reason))));
        }
        let no_checkpoint = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        self.connection.set_db_config(no_checkpoint, false).map(drop).map_err(&failed)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says it is; `None` when it is not a whole log file of this format.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn header(&self) -> Result<Option<FileHeader>, LogError> {
        let read = || -> rusqlite::Result<Option<FileHeader>> {
            let pragma = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
            if pragma("application_id")? != APPLICATION_ID || pragma("user_version")? != FILE_FORMAT {
                return Ok(None);
            }
            let header = self.connection.query_row("SELECT cluster, name FROM header", [], |row| {
                Ok(FileHeader { cluster: row.get::<_, i64>(0)?.cast_unsigned(), name: row.get(1)? })
            });
            header.optional()
        };
        read().map_err(self.failed("read the header of"))
    }

    /// Whether nothing was ever written to it, not even its tables.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn is_blank(&self) -> Result<bool, LogError> {
        let tables = "SELECT count(*) FROM sqlite_schema";
        let count = self.connection.query_row(tables, [], |row| row.get::<_, i64>(0));
        count.map(|count| count == 0).map_err(self.failed("read"))
    }

    /// Position of the last row, which is also their count: rows are only ever appended.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn row_count(&self) -> Result<u64, LogError> {
        let count = self.connection.query_row("SELECT coalesce(max(position), 0) FROM record", [], |row| {
            row.get::<_, i64>(0).map(i64::cast_unsigned)
        });
        count.map_err(self.failed("read"))
    }

    /// Gives every row after `position` to `visit`, in the order written, until it
    /// returns false. Returns the position of the last row that it took.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or what `visit` returned.
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

    /// Makes everything read so far durable, so that answers may rest on it: what a
    /// killed process left behind may be in the page cache alone.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub fn make_durable(&self, epoch: Epoch) -> Result<(), LogError> {
        self.take_over()?;
        // First, so that the frames of a commit that was cut off are gone: torn by a power cut, a
        // commit over the first of them would look like damage with others behind it.
        self.checkpoint()?;
        self.renew_history_view().map_err(self.failed("renew the view in"))?;
        let update = self.connection.execute("UPDATE header SET epoch = ?1", [epoch.0.cast_signed()]);
        update.map_err(self.failed("commit to"))?;
        self.checkpoint()
    }

    fn renew_history_view(&self) -> rusqlite::Result<()> {
        let view = history_view();
        let existing = "SELECT sql FROM sqlite_schema WHERE type = 'view' AND name = 'history'";
        let existing = self.connection.query_row(existing, [], |row| row.get::<_, String>(0)).optional()?;
        if existing.as_ref() == Some(&view) {
            return Ok(());
        }
        self.connection.execute_batch(&format!("BEGIN; DROP VIEW IF EXISTS history; {view}; COMMIT;"))
    }

    /// Writes SQLite's journal back into the file, all of it, and empties it.
    ///
    /// # Errors
    ///
    /// When the disk refuses, or a reader of another process stands in the way.
    pub fn checkpoint(&self) -> Result<(), LogError> {
        if !self.empty_journal().map_err(self.failed("checkpoint"))? {
            let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
            return Err(self.failed("checkpoint")(rusqlite::Error::SqliteFailure(busy, None)));
        }
        Ok(())
    }

    /// [`LogFile::empty_journal`] without waiting for readers.
    fn try_to_empty_journal(&self) -> rusqlite::Result<bool> {
        self.connection.busy_timeout(Duration::ZERO)?;
        let emptied = self.empty_journal();
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        emptied
    }

    /// False when a reader of another process stands in the way.
    fn empty_journal(&self) -> rusqlite::Result<bool> {
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        self.connection.query_row(checkpoint, [], |row| row.get::<_, i64>(0)).map(|busy| busy == 0)
    }

    /// Rolled back is only what is known to be so: `SQLITE_FULL` comes from a write that found
    /// no room, before the frame that would make a commit, and then the transaction is undone.
    fn commit_failed(&self, error: rusqlite::Error) -> AppendError {
        let is_undone =
            || self.connection.is_autocommit() || self.connection.execute_batch("ROLLBACK").is_ok();
        let rolled_back = is_full(&error) && is_undone();
        let error = self.failed("commit to")(error);
        if rolled_back { AppendError::RolledBack(error) } else { AppendError::Unknown(error) }
    }

    fn failed(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> LogError + use<'_> {
        move |source| LogError { action, path: self.path.clone(), source: source.into() }
    }
}

/// The log of a running shard.
#[derive(Debug)]
pub struct SqliteLog {
    file: LogFile,
    mark_file: MarkFile,
    /// As it was written last.
    mark: Mark,
    /// Estimate of the pages in SQLite's journal.
    journal_pages: u64,
    /// The statements for one row and for [`ROWS_TOGETHER`].
    insert_one: String,
    insert_together: String,
}

impl SqliteLog {
    /// `mark` is where `file` ends, as `mark_file` says.
    pub fn new(file: LogFile, mark_file: MarkFile, mark: Mark) -> SqliteLog {
        SqliteLog {
            file,
            mark_file,
            mark,
            journal_pages: 0,
            insert_one: insert_of_rows(1),
            insert_together: insert_of_rows(ROWS_TOGETHER),
        }
    }

    fn mark_failed(&self, action: &'static str) -> impl Fn(std::io::Error) -> LogError + use<'_> {
        move |source| LogError { action, path: self.mark_file.path().to_owned(), source: source.into() }
    }

    fn insert_all(&self, batch: &[Entry]) -> rusqlite::Result<()> {
        let connection = &self.file.connection;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let (together, alone) = batch.as_chunks::<ROWS_TOGETHER>();
        if !together.is_empty() {
            let mut insert = connection.prepare_cached(&self.insert_together)?;
            together.iter().try_for_each(|entries| insert_rows(&mut insert, entries))?;
        }
        if !alone.is_empty() {
            let mut insert = connection.prepare_cached(&self.insert_one)?;
            alone.chunks(1).try_for_each(|entry| insert_rows(&mut insert, entry))?;
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }
}

/// Dirties a page and leaves everything as it was: an update that changes nothing would not.
const PROBE: &str = "BEGIN IMMEDIATE;
     INSERT INTO header SELECT * FROM header;
     DELETE FROM header WHERE rowid > 1;
     COMMIT;";

impl Log for SqliteLog {
    fn append(&mut self, batch: &[Entry]) -> Result<(), AppendError> {
        self.insert_all(batch).map_err(|error| self.file.commit_failed(error))?;
        self.mark = self.mark.advanced(batch);
        let marked = self.mark_file.write(&self.mark).map_err(self.mark_failed("write"));
        marked.map_err(AppendError::Unknown)?;
        // A commit writes the tail page of the table, and one more for each
        // hundred rows or so; a rough count is enough to know when it is time.
        self.journal_pages += 2 + batch.len() as u64 / 64;
        Ok(())
    }

    /// Empties the journal first: that may make room, and takes away what is in it of the
    /// commit that failed, which recovery would have to tell from a damaged one.
    fn probe(&mut self) -> Result<(), AppendError> {
        let failed = |error| self.file.commit_failed(error);
        if self.file.try_to_empty_journal().map_err(failed)? {
            self.journal_pages = 0;
        }
        self.file.connection.execute_batch(PROBE).map_err(failed)
    }

    fn maintenance_is_due(&self) -> bool {
        self.journal_pages >= CHECKPOINT_PAGES
    }

    /// Checkpoints as much as readers of other processes let through, and syncs the mark, so
    /// that a power cut leaves no older one than of the checkpoint before.
    fn maintain(&mut self) -> Result<Upkeep, LogError> {
        self.journal_pages = 0;
        self.mark_file.sync().map_err(self.mark_failed("sync"))?;
        let connection = &self.file.connection;
        // busy, pages in the journal, pages of these written back.
        let checkpoint = || {
            let mut statement = connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?;
            statement.query_row([], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
        };
        match checkpoint() {
            Ok((pages, written_back)) => {
                let pages_pinned = u64::try_from(pages - written_back).unwrap_or(0);
                Ok(Upkeep { pages_pinned, no_room: false })
            }
            Err(error) if is_full(&error) => Ok(Upkeep { pages_pinned: 0, no_room: true }),
            Err(error) => Err(self.file.failed("checkpoint")(error)),
        }
    }

    fn close(self: Box<Self>) -> Result<(), LogError> {
        match self.file.try_to_empty_journal() {
            // A reader beside us, or a full disk: the journal stays, and the next start reads it.
            Ok(_) => {}
            Err(error) if is_full(&error) => {}
            Err(error) => return Err(self.file.failed("checkpoint")(error)),
        }
        self.mark_file.sync().map_err(self.mark_failed("sync"))
    }
}

/// No room on the disk, as a write says it. A sync that says so is another matter.
fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}

/// The statement that inserts so many rows.
fn insert_of_rows(count: usize) -> String {
    let row = format!("({})", ["?"; ROW_PARAMETERS].join(", "));
    format!("{INSERT}{}", vec![row; count].join(", "))
}

/// Runs a statement for as many rows as there are entries.
fn insert_rows(insert: &mut rusqlite::CachedStatement<'_>, entries: &[Entry]) -> rusqlite::Result<()> {
    let mut parameter = 1;
    for entry in entries {
        let columns = entry.record.encode();
        let mut bind = |value: i64| {
            parameter += 1;
            insert.raw_bind_parameter(parameter - 1, value)
        };
        bind(entry.slot.0.into())?;
        bind(entry.epoch.0.cast_signed())?;
        bind(entry.lsn.0.cast_signed())?;
        bind(entry.at.0.cast_signed())?;
        bind(columns.kind.into())?;
        bind(columns.event.into())?;
        bind(columns.number.into())?;
        bind(columns.user.into())?;
        bind(columns.quantity.into())?;
        let body = (!columns.body.is_empty()).then_some(&*columns.body);
        insert.raw_bind_parameter(parameter, body)?;
        insert.raw_bind_parameter(parameter + 1, entry.chain.cast_signed())?;
        parameter += 2;
    }
    insert.raw_execute()?;
    Ok(())
}

fn decode_row<'a>(row: &'a rusqlite::Row<'_>) -> rusqlite::Result<Row<'a>> {
    let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    let body = row.get_ref(10)?.as_str_or_null()?.unwrap_or("");
    let columns = Columns {
        kind: row.get(5)?,
        event: row.get(6)?,
        number: row.get(7)?,
        user: row.get(8)?,
        quantity: row.get(9)?,
        body: Cow::Borrowed(body),
    };
    Ok(Row {
        position: number(0)?,
        slot: Slot(row.get(1)?),
        epoch: Epoch(number(2)?),
        lsn: Lsn(number(3)?),
        at: Timestamp(number(4)?),
        columns,
        chain: number(11)?,
    })
}

/// Tables for us, and the view `history` for people with a plain `sqlite3` shell.
fn schema(header: &FileHeader) -> String {
    let view = history_view();
    let cluster = header.cluster.cast_signed();
    let name = &header.name;
    format!(
        "BEGIN;
         CREATE TABLE header (cluster INTEGER NOT NULL, name TEXT NOT NULL, epoch INTEGER NOT NULL) STRICT;
         INSERT INTO header VALUES ({cluster}, '{name}', 0);
         CREATE TABLE record (
             position INTEGER PRIMARY KEY,
             slot INTEGER NOT NULL,
             epoch INTEGER NOT NULL,
             lsn INTEGER NOT NULL,
             at INTEGER NOT NULL,
             kind INTEGER NOT NULL,
             event INTEGER NOT NULL,
             number INTEGER NOT NULL,
             user INTEGER NOT NULL,
             quantity INTEGER NOT NULL,
             body TEXT,
             chain INTEGER NOT NULL
         ) STRICT;
         {view};
         PRAGMA application_id = {APPLICATION_ID};
         PRAGMA user_version = {FILE_FORMAT};
         COMMIT;"
    )
}

/// Says what is in the file in words. Made anew where it lacks the words of this version.
fn history_view() -> String {
    let kind_names: String =
        Kind::ALL.into_iter().map(|kind| format!("WHEN {} THEN '{}' ", kind as u8, kind.name())).collect();
    format!(
        "CREATE VIEW history AS SELECT
             slot, lsn, epoch,
             strftime('%Y-%m-%dT%H:%M:%S', at / 1000, 'unixepoch') || printf('.%03dZ', at % 1000) AS at,
             CASE kind {kind_names}END AS kind,
             nullif(event, 0) AS event,
             CASE WHEN number > 0 THEN event || '-' || number END AS reservation,
             nullif(user, 0) AS user,
             quantity
         FROM record ORDER BY position"
    )
}
