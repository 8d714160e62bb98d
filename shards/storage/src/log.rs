//! The log of a running shard, in one SQLite file.
//!
//! SQLite's own write-ahead journal makes a batch durable with one sync.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shards::ids::{Epoch, EventId};
use shards::limits::{CHECKPOINT_PAGES, JOURNAL_BYTES_MAX};
use shards::log::{AppendError, Appended, Hindrance, Log, LogError, RollbackCause, Upkeep};
use shards::record::Entry;
use shards::replay::Mark;

use crate::failure::{is_locked, is_no_room};
use crate::file::{LogFile, log_error};
use crate::journal::{journal_of, shared_memory_of};
use crate::last_start;
use crate::mark::{MarkFile, advanced};
use crate::rows::{ROWS_TOGETHER, RowInsert, insert_of_rows};
use crate::shared_memory::SharedMemory;
use crate::watch::{Watch, WatchedLog};

/// The size of a page, of those that SQLite makes.
const PAGE_BYTES: u64 = 4096;

/// The longest wait for readers, so that they do not keep a journal from being emptied by following each other. Commits
/// wait meanwhile. A reader of this server takes some 10 ms.
const READERS_WAIT: Duration = Duration::from_millis(50);

/// The log of a running shard.
#[derive(Debug)]
pub struct SqliteLog {
    file: LogFile,
    /// Dropped after `file`.
    shared_memory: SharedMemory,
    watch: Arc<Watch>,
    /// The index of the file in `watch`.
    watched: usize,
    mark_file: MarkFile,
    /// The last mark that was written.
    mark: Mark,
    /// Whether the mark was synced since the last checkpoint. Then it shows that the journal has records.
    mark_is_synced: bool,
    /// The epoch for which the file was claimed.
    epoch: Epoch,
    /// The pages that SQLite has written to its journal since the last checkpoint.
    journal_pages: Arc<AtomicU64>,
    /// The statement that inserts one row; `insert_together` inserts [`ROWS_TOGETHER`].
    insert_one: String,
    insert_together: String,
}

impl SqliteLog {
    /// Makes a log that appends to `file`, which was claimed for `epoch` and is the one of this index in `watch`.
    /// `mark` describes the last row of the file, and `mark_file` has the same content.
    ///
    /// # Errors
    ///
    /// When a file of SQLite's was removed.
    pub(crate) fn new(
        mut file: LogFile,
        mark_file: MarkFile,
        mark: Mark,
        epoch: Epoch,
        watched: (Arc<Watch>, usize),
    ) -> Result<SqliteLog, LogError> {
        // A start leaves a journal that a reader needs.
        let left = watched.0.journal_bytes(watched.1)? / PAGE_BYTES;
        let journal_pages = Arc::new(AtomicU64::new(left));
        let written = Arc::clone(&journal_pages);
        let mut before = 0;
        let count = move |pages| {
            // SQLite has begun the journal anew if it has fewer pages.
            let more = if pages > before { pages - before } else { pages };
            before = pages;
            written.fetch_add(more, Ordering::Relaxed);
        };
        file.count_journal_pages(count).map_err(file.failed("set up"))?;
        let shared_memory = SharedMemory::of(file.path())
            .map_err(|source| log_error(&shared_memory_of(file.path()), "open", source))?;
        Ok(SqliteLog {
            file,
            shared_memory,
            watch: watched.0,
            watched: watched.1,
            mark_file,
            mark,
            mark_is_synced: false,
            epoch,
            journal_pages,
            insert_one: insert_of_rows(1),
            insert_together: insert_of_rows(ROWS_TOGETHER),
        })
    }

    /// Makes a log of a file that belongs to no data directory.
    ///
    /// # Errors
    ///
    /// When its files are not there.
    pub fn alone(file: LogFile, mark_file: MarkFile, mark: Mark, epoch: Epoch) -> io::Result<SqliteLog> {
        let directory = file.path().parent().unwrap_or(Path::new("")).to_owned();
        let watch = Watch::new(directory, Vec::new(), vec![WatchedLog::in_use(&file, epoch)?]);
        SqliteLog::new(file, mark_file, mark, epoch, (Arc::new(watch), 0)).map_err(io::Error::other)
    }

    fn mark_failed(&self, action: &'static str) -> impl Fn(io::Error) -> LogError + use<'_> {
        move |source| log_error(self.mark_file.path(), action, source)
    }

    /// Begins a transaction, in which no other process writes.
    fn begin(&self, lock_wait: Duration) -> Result<(), AppendError> {
        let begin = || {
            self.file.wait_for_locks(lock_wait)?;
            self.file.connection().prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            self.file.epoch()
        };
        let epoch = begin().map_err(|error| self.commit_failed(error))?;
        if epoch == self.epoch {
            return Ok(());
        }
        self.file.connection().execute_batch("ROLLBACK").map_err(|error| self.commit_failed(error))?;
        Err(AppendError::Fenced(fenced(&self.file, self.epoch, epoch)))
    }

    fn commit_failed(&self, error: rusqlite::Error) -> AppendError {
        self.file.commit_failed(error)
    }

    /// Makes sure that a commit can be indexed, so that it does not fail when it is in the journal.
    fn reserve_index(&mut self, journal_bytes: u64) -> Result<(), AppendError> {
        self.shared_memory.reserve(journal_bytes).map_err(|source| {
            let is_no_room = is_no_room(&source);
            let error = log_error(&shared_memory_of(self.file.path()), "extend", source);
            match is_no_room {
                true => AppendError::RolledBack { cause: RollbackCause::NoRoom, error },
                false => AppendError::Unknown(error),
            }
        })
    }

    /// Stores the batch, and marks that it is stored.
    fn commit(&mut self, batch: &[Entry], lock_wait: Duration) -> Result<(), AppendError> {
        let watch = Arc::clone(&self.watch);
        let _writing = watch.writing().map_err(AppendError::Unknown)?;
        self.begin(lock_wait)?;
        self.insert_all(batch).map_err(|error| self.commit_failed(error))?;
        self.mark = advanced(self.mark, batch);
        let marked = self.mark_file.write(&self.mark).map_err(self.mark_failed("write"));
        marked.map_err(AppendError::Unknown)?;
        if !self.mark_is_synced {
            self.mark_file.sync().map_err(self.mark_failed("sync")).map_err(AppendError::Unknown)?;
            self.mark_is_synced = true;
        }
        Ok(())
    }

    /// Inserts the rows and commits.
    ///
    /// # Errors
    ///
    /// Also if there were other rows than those that this log knows, which another process wrote or deleted.
    fn insert_all(&self, batch: &[Entry]) -> rusqlite::Result<()> {
        let connection = self.file.connection();
        let (together, alone) = batch.as_chunks::<ROWS_TOGETHER>();
        if !together.is_empty() {
            let mut rows = RowInsert::new(connection.prepare_cached(&self.insert_together)?, ROWS_TOGETHER);
            for entries in together {
                rows.insert(entries)?;
            }
        }
        if !alone.is_empty() {
            let mut row = RowInsert::new(connection.prepare_cached(&self.insert_one)?, 1);
            for entry in alone.chunks(1) {
                row.insert(entry)?;
            }
        }
        let (last, expected) = (connection.last_insert_rowid(), self.mark.row + batch.len() as u64);
        if !batch.is_empty() && last.cast_unsigned() != expected {
            return Err(not_where_expected(last, expected));
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }
}

impl Drop for SqliteLog {
    /// Lets the log's own connection be the last one, which writes the journal back.
    fn drop(&mut self) {
        self.watch.close(self.watched);
    }
}

/// The error of a process of epoch `ours` whose file another one has claimed for epoch `theirs`.
pub(crate) fn fenced(file: &LogFile, ours: Epoch, theirs: Epoch) -> LogError {
    let source = format!(
        "another process claimed it in epoch {}, and this one, of epoch {}, may not write it any more",
        theirs.0, ours.0
    );
    log_error(file.path(), "commit to", source)
}

/// The error of rows that did not get their positions.
fn not_where_expected(last: i64, expected: u64) -> rusqlite::Error {
    let constraint = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CONSTRAINT);
    let reason = format!(
        "the batch would end at row {last} instead of {expected}: another program has written to the file"
    );
    rusqlite::Error::SqliteFailure(constraint, Some(reason))
}

/// A commit that leaves the data as it is and still writes a page. An update to the same value would write
/// none.
const PROBE: &str = "INSERT INTO header SELECT * FROM header;
     DELETE FROM header WHERE rowid > 1;
     COMMIT;";

impl Log for SqliteLog {
    fn append(&mut self, batch: &[Entry], lock_wait: Duration) -> Result<Appended, AppendError> {
        let journal_bytes = self.watch.check_before(self.watched).map_err(AppendError::Unknown)?;
        self.reserve_index(journal_bytes)?;
        let first_row = self.mark.row + 1;
        self.commit(batch, lock_wait)?;
        self.watch.check_after(self.watched).map_err(AppendError::Unknown)?;
        let mut rows = self.file.index().lock();
        for (row, entry) in (first_row..).zip(batch) {
            rows.add(row, entry.slot, entry.lsn, entry.record.event().unwrap_or(EventId(0)));
        }
        Ok(Appended::default())
    }

    /// Empties the journal first. That may make room. It also removes the frames of the failed commit, which
    /// recovery could otherwise take for damage.
    fn probe(&mut self) -> Result<(), AppendError> {
        self.watch.check_before_checkpoint(self.watched).map_err(AppendError::Unknown)?;
        // Whatever fails below: the next commit may be the first one that a journal has.
        self.mark_is_synced = false;
        let watch = Arc::clone(&self.watch);
        let emptied = {
            let _writing = watch.writing().map_err(AppendError::Unknown)?;
            self.file.empty_journal(Duration::ZERO).map_err(|error| self.commit_failed(error))?
        };
        if emptied {
            self.journal_pages.store(0, Ordering::Relaxed);
        }
        let journal_bytes = watch.check_before(self.watched).map_err(AppendError::Unknown)?;
        let _writing = watch.writing().map_err(AppendError::Unknown)?;
        self.reserve_index(journal_bytes)?;
        self.begin(Duration::ZERO)?;
        if !emptied {
            self.file.cut_journal().map_err(AppendError::Unknown)?;
        }
        self.file.connection().execute_batch(PROBE).map_err(|error| self.commit_failed(error))
    }

    fn maintenance_is_due(&self) -> bool {
        self.journal_pages.load(Ordering::Relaxed) >= CHECKPOINT_PAGES
    }

    /// Syncs the mark, and checkpoints as far as readers allow. The next commit syncs it again: it may be the
    /// first one that a journal has which SQLite begins anew.
    ///
    /// A journal that readers let grow too large is emptied as soon as they allow it. If the oldest of them began after
    /// the last checkpoint, they are short ones that may always overlap: this waits for them, while none of them
    /// gets more to read.
    fn maintain(&mut self) -> Result<Upkeep, LogError> {
        self.watch.check_before_checkpoint(self.watched)?;
        self.journal_pages.store(0, Ordering::Relaxed);
        self.mark_is_synced = false;
        let mut written_back = {
            let _writing = self.watch.writing()?;
            self.mark_file.sync().map_err(self.mark_failed("sync"))?;
            self.file.write_back()
        };
        if let Ok(pages_left) = written_back
            && self.watch.journal_bytes(self.watched)? > JOURNAL_BYTES_MAX
        {
            let wait = if pages_left < CHECKPOINT_PAGES { READERS_WAIT } else { Duration::ZERO };
            let _writing = self.watch.writing()?;
            written_back = self.file.empty_journal(wait).map(|_| pages_left);
        }
        let no_room = match written_back {
            Ok(_) => false,
            Err(error) if self.file.found_no_room(&error) => true,
            // The next one does it.
            Err(error) if is_locked(&error) => false,
            Err(error) => return Err(self.file.failed("checkpoint")(error)),
        };
        let journal_bytes = self.watch.journal_bytes(self.watched)?;
        let hindrance = if no_room {
            Some(Hindrance::NoRoom)
        } else {
            let is_large = journal_bytes > JOURNAL_BYTES_MAX;
            is_large.then(|| Hindrance::Readers(self.watch.readers(self.watched)))
        };
        let journal = journal_of(self.file.path()).display().to_string();
        Ok(Upkeep { journal, journal_bytes, hindrance })
    }

    fn close(self: Box<Self>) -> Result<(), LogError> {
        self.watch.check_before_checkpoint(self.watched)?;
        let watch = Arc::clone(&self.watch);
        let _writing = watch.writing()?;
        watch.close(self.watched);
        // If another process or a full disk prevents it, the journal stays, and the next start reads it.
        match last_start::close(&self.file, self.epoch, || self.begin(Duration::ZERO)) {
            Ok(()) | Err(AppendError::RolledBack { .. }) => {}
            Err(AppendError::Fenced(error) | AppendError::Unknown(error)) => return Err(error),
        }
        self.mark_file.sync().map_err(self.mark_failed("sync"))
    }
}
