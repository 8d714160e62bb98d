//! Records as rows: the statements that insert and read them.

use std::borrow::Cow;

use shards::ids::{Epoch, Lsn, Slot, Timestamp};
use shards::record::{Columns, Entry};
use shards::replay::Row;

const INSERT: &str =
    "INSERT INTO record (slot, epoch, lsn, at, kind, event, number, user, quantity, body, chain) VALUES ";
const ROW_PARAMETERS: usize = 11;
/// Rows that one statement inserts, when there are as many: they share what a statement costs.
pub(crate) const ROWS_TOGETHER: usize = 16;
pub(crate) const SELECT: &str = "SELECT position, slot, epoch, lsn, at, kind, event, number, user, quantity, body, chain \
     FROM record WHERE position > ?1 ORDER BY position";
pub(crate) const SELECT_OF_SLOT: &str = "SELECT position, slot, epoch, lsn, at, kind, event, number, user, quantity, body, chain FROM record \
     WHERE position BETWEEN :first AND :last AND slot = :slot AND (:event = 0 OR event = :event) \
     AND lsn BETWEEN :lsn_first AND :lsn_last ORDER BY position LIMIT :limit";

/// The statement that inserts so many rows.
pub(crate) fn insert_of_rows(count: usize) -> String {
    let row = format!("({})", ["?"; ROW_PARAMETERS].join(", "));
    format!("{INSERT}{}", vec![row; count].join(", "))
}

/// Runs a statement for as many rows as there are entries.
pub(crate) fn insert_rows(
    insert: &mut rusqlite::CachedStatement<'_>,
    entries: &[Entry],
) -> rusqlite::Result<()> {
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

pub(crate) fn decode_row<'a>(row: &'a rusqlite::Row<'_>) -> rusqlite::Result<Row<'a>> {
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
