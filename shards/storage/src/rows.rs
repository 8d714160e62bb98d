//! Records as rows: the statements that insert and read them.

use std::borrow::Cow;

use rusqlite::CachedStatement;
use rusqlite::types::ValueRef;
use shards::ids::{Epoch, Lsn, Slot, Timestamp};
use shards::record::{Columns, Entry};
use shards::replay::Row;

/// Each row's position is NULL: SQLite makes it the position after the last one. It then appends to the table without
/// a search in it, an eighth of the instructions of a commit of 80 records.
const INSERT: &str = "INSERT INTO record \
     (position, slot, epoch, lsn, at, kind, event, number, user, quantity, body, chain) VALUES ";
/// The parameters of a row: its integers, and then its body.
const ROW_INTEGERS: usize = 10;
const ROW_PARAMETERS: usize = ROW_INTEGERS + 1;
/// The number of rows that one statement inserts if a batch has as many, so that they share the fixed cost of
/// a statement.
pub(crate) const ROWS_TOGETHER: usize = 16;
pub(crate) const SELECT: &str = "SELECT position, slot, epoch, lsn, at, kind, event, number, user, quantity, body, chain \
     FROM record WHERE position > ?1 ORDER BY position";
pub(crate) const SELECT_OF_SLOT: &str = "SELECT position, slot, epoch, lsn, at, kind, event, number, user, quantity, body, chain FROM record \
     WHERE position BETWEEN :first AND :last AND slot = :slot AND (:event = 0 OR event = :event) \
     AND lsn BETWEEN :lsn_first AND :lsn_last ORDER BY position LIMIT :limit";

/// The content of the column `kind`: `128 * (distance - 1) + 64 * continues + kind`.
///
/// The distance is the record's lsn minus the lsn of the event's previous record, or 0 if there is none. The
/// three values share a column, since each column of its own costs a commit 4 % and a recovery 5 %. SQLite
/// stores 0 and 1 without a byte, and -128 to 127 in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PackedKind {
    kind: u8,
    continues: bool,
    previous: Lsn,
}

/// The bits of the kind itself.
pub(crate) const KIND_BITS: i64 = 63;
const CONTINUES: i64 = 64;
const DISTANCE_SHIFT: u32 = 7;

impl PackedKind {
    fn pack(self, lsn: Lsn) -> i64 {
        let distance = if self.previous == Lsn(0) { 0 } else { (lsn.0 - self.previous.0).cast_signed() };
        let continues = if self.continues { CONTINUES } else { 0 };
        ((distance - 1) << DISTANCE_SHIFT) | continues | i64::from(self.kind)
    }

    /// The inverse of `pack`; `None` if no row with this lsn can have this number.
    fn unpack(packed: i64, lsn: Lsn) -> Option<PackedKind> {
        let distance = u64::try_from((packed >> DISTANCE_SHIFT) + 1).ok()?;
        let previous = match distance {
            0 => Lsn(0),
            distance => Lsn(lsn.0.checked_sub(distance).filter(|&previous| previous > 0)?),
        };
        let kind = (packed & KIND_BITS) as u8;
        Some(PackedKind { kind, continues: packed & CONTINUES != 0, previous })
    }
}

/// The statement that inserts `count` rows.
pub(crate) fn insert_of_rows(count: usize) -> String {
    let rows = (0..count).map(|row| {
        let parameter = |number: usize| format!("?{}", row * ROW_PARAMETERS + number);
        let integers: Vec<String> = (1..ROW_INTEGERS).map(parameter).collect();
        let (chain, body) = (parameter(ROW_INTEGERS), parameter(ROW_PARAMETERS));
        format!("(NULL, {}, {body}, {chain})", integers.join(", "))
    });
    format!("{INSERT}{}", rows.collect::<Vec<_>>().join(", "))
}

/// A statement that inserts rows, with what is bound to it. A value that is bound already, such as the epoch in the
/// same row of the execution before, is not bound again: SQLite takes some sixty instructions for each.
pub(crate) struct RowInsert<'c> {
    statement: CachedStatement<'c>,
    /// The integers of each row that are bound; `None` for NULL.
    bound: Vec<[Option<i64>; ROW_INTEGERS]>,
}

impl<'c> RowInsert<'c> {
    /// `statement` is [`insert_of_rows`] of this number of rows.
    pub(crate) fn new(statement: CachedStatement<'c>, row_count: usize) -> RowInsert<'c> {
        RowInsert { statement, bound: vec![[None; ROW_INTEGERS]; row_count] }
    }

    /// Inserts a row for each entry, as many as the statement takes. The caller checks the positions that they got.
    pub(crate) fn insert(&mut self, entries: &[Entry]) -> rusqlite::Result<()> {
        let mut has_body = false;
        let mut parameter = 0;
        for (entry, bound) in entries.iter().zip(&mut self.bound) {
            let columns = entry.record.encode();
            let Entry { slot, epoch, lsn, at, previous, continues, chain, record: _ } = *entry;
            let integers: [i64; ROW_INTEGERS] = [
                slot.0.into(),
                epoch.0.cast_signed(),
                lsn.0.cast_signed(),
                at.0.cast_signed(),
                PackedKind { kind: columns.kind, continues, previous }.pack(lsn),
                columns.event.into(),
                columns.number.into(),
                columns.user.into(),
                columns.quantity.into(),
                chain.cast_signed(),
            ];
            for (value, bound) in integers.into_iter().zip(bound) {
                parameter += 1;
                if *bound != Some(value) {
                    self.statement.raw_bind_parameter(parameter, value)?;
                    *bound = Some(value);
                }
            }
            parameter += 1;
            // An unbound parameter is NULL, and most records have no body.
            if !columns.body.is_empty() {
                self.statement.raw_bind_parameter(parameter, &*columns.body)?;
                has_body = true;
            }
        }
        self.statement.raw_execute()?;
        if has_body {
            self.statement.clear_bindings();
            self.bound.fill([None; ROW_INTEGERS]);
        }
        Ok(())
    }
}

pub(crate) fn decode_row<'a>(row: &'a rusqlite::Row<'_>) -> rusqlite::Result<Row<'a>> {
    let number = |column| integer(row, column).map(i64::cast_unsigned);
    let (lsn, packed) = (Lsn(number(3)?), integer(row, 5)?);
    let out_of_range = rusqlite::Error::IntegralValueOutOfRange(5, packed);
    let PackedKind { kind, continues, previous } = PackedKind::unpack(packed, lsn).ok_or(out_of_range)?;
    let body = row.get_ref(10)?.as_blob_or_null()?.unwrap_or_default();
    let columns = Columns {
        kind,
        event: small(row, 6)?,
        number: small(row, 7)?,
        user: small(row, 8)?,
        quantity: small(row, 9)?,
        body: Cow::Borrowed(body),
    };
    Ok(Row {
        position: number(0)?,
        slot: Slot(small(row, 1)?),
        epoch: Epoch(number(2)?),
        lsn,
        at: Timestamp(number(4)?),
        previous,
        continues,
        columns,
        chain: number(11)?,
    })
}

/// Reads an integer in half of the instructions of `Row::get`. A recovery reads eleven for each record.
fn integer(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<i64> {
    match row.get_ref(column)? {
        ValueRef::Integer(integer) => Ok(integer),
        other => Err(rusqlite::Error::InvalidColumnType(column, String::new(), other.data_type())),
    }
}

pub(crate) fn small<T: TryFrom<i64>>(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<T> {
    let integer = integer(row, column)?;
    T::try_from(integer).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, integer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_packed_and_unpacked() {
        let lsn = Lsn(1000);
        for (kind, continues, previous, packed) in [
            (1, false, 999, 1),
            (0, false, 999, 0),
            (63, true, 999, 127),
            (1, false, 0, -127),
            (63, true, 0, -1),
            (2, false, 998, 128 + 2),
            (2, true, 1, 998 * 128 + 64 + 2),
        ] {
            let unpacked = PackedKind { kind, continues, previous: Lsn(previous) };
            assert_eq!(unpacked.pack(lsn), packed, "{unpacked:?}");
            assert_eq!(PackedKind::unpack(packed, lsn), Some(unpacked));
        }
        for packed in [-129, 999 * 128, i64::MAX, i64::MIN] {
            assert_eq!(PackedKind::unpack(packed, lsn), None, "{packed}");
        }
    }
}
