//! The tables of a log file, and the view `history` for people with a plain `sqlite3` shell.

use shards::record::Kind;

use crate::file::FileHeader;
use crate::last_start;
use crate::rows::KIND_BITS;

/// "boxo" in ASCII, so that `file` and people can tell that boxoffice wrote the file.
pub(crate) const APPLICATION_ID: i32 = 0x626f_786f;
/// The format of a data directory: of its manifest and of its log files. Earlier ones were never released.
pub(crate) const FORMAT: i32 = 3;

/// The statements that make a new file.
pub(crate) fn schema(header: &FileHeader) -> String {
    let view = history_view();
    let cluster = header.cluster.cast_signed();
    let name = &header.name;
    let last_start = last_start::TABLE;
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
             kind INTEGER NOT NULL, -- 128 * (lsn - lsn of the event's record before - 1) + 64 * continues + kind
             event INTEGER NOT NULL,
             number INTEGER NOT NULL,
             user INTEGER NOT NULL,
             quantity INTEGER NOT NULL,
             body BLOB,
             chain INTEGER NOT NULL
         ) STRICT;
         {last_start}
         {view};
         PRAGMA application_id = {APPLICATION_ID};
         PRAGMA user_version = {FORMAT};
         COMMIT;"
    )
}

/// The statement that makes the view `history`, which shows records in words. A file with the view of another
/// version gets this one at a start.
pub(crate) fn history_view() -> String {
    let kind_names: String =
        Kind::ALL.into_iter().map(|kind| format!("WHEN {} THEN '{}' ", kind as u8, kind.name())).collect();
    format!(
        "CREATE VIEW history AS SELECT
             slot, lsn, epoch,
             strftime('%Y-%m-%dT%H:%M:%S', at / 1000, 'unixepoch') || printf('.%03dZ', at % 1000) AS at,
             CASE kind & {KIND_BITS} {kind_names}END AS kind,
             nullif(event, 0) AS event,
             CASE WHEN event > 0 AND number > 0 THEN event || '-' || number END AS reservation,
             nullif(user, 0) AS user,
             quantity
         FROM record ORDER BY position"
    )
}
