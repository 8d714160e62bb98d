//! Records as rows: the statements that insert and read them.

use std::borrow::Cow;

use shards::ids::{Epoch, Lsn, Slot, Timestamp};
use shards::record::{Columns, Entry};
use shards::replay::Row;

const INSERT: &str = "INSERT INTO record (slot, epoch, lsn, at, kind, event, number, user, quantity, distance, body, chain) VALUES ";
const ROW_PARAMETERS: usize = 12;
/// Rows that one statement inserts, when there are as many: they share what a statement costs.
pub(crate) const ROWS_TOGETHER: usize = 16;
pub(crate) const SELECT: &str = "SELECT position, slot, epoch, lsn, at, kind, event, number, user, quantity, distance, body, chain \
     FROM record WHERE position > ?1 ORDER BY position";
pub(crate) const SELECT_OF_SLOT: &str = "SELECT position, slot, epoch, lsn, at, kind, event, number, user, quantity, distance, body, chain FROM record \
     WHERE position BETWEEN :first AND :last AND slot = :slot AND (:event = 0 OR event = :event) \
     AND lsn BETWEEN :lsn_first AND :lsn_last ORDER BY position LIMIT :limit";

/// In the column `kind`: the same command made the slot's next record too.
pub(crate) const CONTINUES: u8 = 64;

/// How many records of the slot ago the event had one; 0 for never. SQLite stores 0 and 1 without a byte.
fn distance(lsn: Lsn, previous: Lsn) -> u64 {
    if previous == Lsn(0) { 0 } else { lsn.0 - previous.0 }
}

fn previous(lsn: Lsn, distance: u64) -> rusqlite::Result<Lsn> {
    match distance {
        0 => Ok(Lsn(0)),
        distance if distance < lsn.0 => Ok(Lsn(lsn.0 - distance)),
        distance => Err(rusqlite::Error::IntegralValueOutOfRange(10, distance.cast_signed())),
    }
}

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
        bind((columns.kind | if entry.continues { CONTINUES } else { 0 }).into())?;
        bind(columns.event.into())?;
        bind(columns.number.into())?;
        bind(columns.user.into())?;
        bind(columns.quantity.into())?;
        bind(distance(entry.lsn, entry.previous).cast_signed())?;
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
    let (lsn, kind) = (Lsn(number(3)?), row.get::<_, u8>(5)?);
    let body = row.get_ref(11)?.as_blob_or_null()?.unwrap_or_default();
    let columns = Columns {
        kind: kind & !CONTINUES,
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
        lsn,
        at: Timestamp(number(4)?),
        previous: previous(lsn, number(10)?)?,
        continues: kind & CONTINUES != 0,
        columns,
        chain: number(12)?,
    })
}
