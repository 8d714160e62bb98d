//! What a start leaves in each log file: a copy of the manifest, and later whether the log was closed in order.
//!
//! Both are for [`crate::repair`]. They show what a directory had if its manifest is lost, and where a log ends
//! if its mark is lost.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use shards::ids::Epoch;
use shards::log::{AppendError, LogError};

use crate::file::LogFile;

/// Makes the table. `closed` is the last epoch whose server closed the log in order, 0 for none.
pub(crate) const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS last_start (manifest TEXT NOT NULL, closed INTEGER NOT NULL) STRICT;";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastStart {
    /// The epoch for which the file was claimed.
    pub(crate) epoch: Epoch,
    /// The content of the manifest at the claim.
    pub(crate) manifest: String,
    /// Whether the log was closed in order afterwards. Then it has everything that was written to it.
    pub(crate) is_closed: bool,
}

/// Replaces the copy of the manifest, inside the transaction that claims the file.
pub(crate) fn write(connection: &Connection, manifest: &str) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("{TABLE} DELETE FROM last_start;"))?;
    connection.execute("INSERT INTO last_start VALUES (?1, 0)", [manifest]).map(drop)
}

/// Reads what the last start left; `None` if it was one of a version that left nothing, or if there was none.
///
/// # Errors
///
/// When the file cannot be read.
pub(crate) fn read(log: &LogFile) -> Result<Option<LastStart>, LogError> {
    let read = || {
        let connection = log.connection();
        let table = "SELECT 1 FROM sqlite_schema WHERE name = 'last_start'";
        if connection.query_row(table, [], |_| Ok(())).optional()?.is_none() {
            return Ok(None);
        }
        let epoch = log.epoch()?;
        let row = connection.query_row("SELECT manifest, closed FROM last_start", [], |row| {
            let closed = Epoch(row.get::<_, i64>(1)?.cast_unsigned());
            Ok(LastStart { epoch, manifest: row.get(0)?, is_closed: closed == epoch })
        });
        row.optional()
    };
    read().map_err(log.failed("read"))
}

/// Empties the journal, and then notes that the log was closed in order in `epoch`, in a transaction that `begin`
/// begins. A note that is in the journal together with records could be written back without them, if somebody
/// interrupts that and removes the journal.
///
/// # Errors
///
/// If another process or a full disk prevents it, the error says that nothing was written.
pub(crate) fn close(
    log: &LogFile,
    epoch: Epoch,
    begin: impl FnOnce() -> Result<(), AppendError>,
) -> Result<(), AppendError> {
    let failed = |error| log.commit_failed(error);
    if log.empty_journal(Duration::ZERO).map_err(failed)? {
        begin()?;
        let note = format!("UPDATE last_start SET closed = {}; COMMIT;", epoch.0);
        log.connection().execute_batch(&note).map_err(failed)?;
        log.empty_journal(Duration::ZERO).map_err(failed)?;
    }
    Ok(())
}
