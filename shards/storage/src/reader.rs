//! Reads committed records of a data directory while its logs run.
//!
//! Each reader has its own connections. They only read, so no commit waits for them. A commit may wait for a
//! reader's search in the index, which takes some 10 us at most. A log adds records to the index after it has
//! committed them, and a reader reads only records that are in the index.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::named_params;
use shards::ids::{EventId, Lsn, Slot};
use shards::log::{LogError, ReadRecords, RecordPage};
use shards::record::{Entry, Record, SlotHead};
use shards::replay::{ReplayError, Row};

use crate::file::LogFile;
use crate::index::{FileIndex, RowRange};
use crate::rows::{SELECT_OF_SLOT, decode_row};

/// The most blocks that are read for one page, which takes some 10 ms. There are more than between two steps
/// of the index, so that each page gets further than the previous one.
const PAGE_BLOCKS_MAX: usize = 256;

/// All log files of a directory, also those that no log writes any more.
#[derive(Debug, Clone)]
pub struct Records(Vec<(PathBuf, Arc<FileIndex>)>);

impl Records {
    pub(crate) fn of<'a>(files: impl Iterator<Item = &'a LogFile>) -> Records {
        Records(files.map(|file| (file.path().to_owned(), Arc::clone(file.index()))).collect())
    }

    /// Makes a reader with its own connections, which any thread may use.
    pub fn reader(&self) -> RecordReader {
        let file = |(path, index): &(PathBuf, Arc<FileIndex>)| ReadFile {
            path: path.clone(),
            index: Arc::clone(index),
            log: None,
        };
        RecordReader { files: self.0.iter().map(file).collect() }
    }
}

#[derive(Debug)]
pub struct RecordReader {
    files: Vec<ReadFile>,
}

#[derive(Debug)]
struct ReadFile {
    path: PathBuf,
    index: Arc<FileIndex>,
    /// Opened when it is first needed.
    log: Option<LogFile>,
}

/// Consecutive records of a slot that lie in one file.
struct Stretch {
    file: usize,
    lsns: (Lsn, Lsn),
    ranges: Vec<RowRange>,
    /// The lsn up to which these ranges are known to have all matching records.
    searched: Lsn,
}

impl ReadRecords for RecordReader {
    fn read_after(
        &mut self,
        slot: Slot,
        event: Option<EventId>,
        after: Lsn,
        limit: usize,
    ) -> Result<RecordPage, LogError> {
        let mut page = RecordPage { entries: Vec::new(), searched: after, is_last: false };
        let mut blocks_left = PAGE_BLOCKS_MAX;
        while page.entries.len() < limit && blocks_left > 0 {
            // `after` comes from a client and may be any number.
            let next = Lsn(page.searched.0.saturating_add(1));
            let Some(stretch) = self.stretch(slot, event, next, blocks_left) else {
                page.is_last = true;
                break;
            };
            let file = &mut self.files[stretch.file];
            for &range in &stretch.ranges {
                blocks_left = blocks_left.saturating_sub(range.blocks());
                file.read(slot, event, &stretch, range, limit, &mut page.entries)?;
                if page.entries.len() == limit {
                    break;
                }
            }
            let last = page.entries.last().map_or(after, |entry| entry.lsn);
            let searched = if page.entries.len() == limit { last } else { stretch.searched.max(last) };
            page.searched = page.searched.max(searched);
        }
        Ok(page)
    }
}

impl RecordReader {
    /// Finds the record `next` of a slot and the records that follow it in the same file. `None` if it is
    /// not committed yet.
    fn stretch(&self, slot: Slot, event: Option<EventId>, next: Lsn, blocks_max: usize) -> Option<Stretch> {
        // The record is in the file that has the last step at or before it.
        let begins = |file: &ReadFile| file.index.lock().step_before(slot, next).map(|step| step.lsn);
        let (file, _) = self.files.iter().map(begins).enumerate().max_by_key(|&(_, begin)| begin)?;
        let others = self.files.iter().enumerate().filter(|&(other, _)| other != file);
        let ends = others.filter_map(|(_, other)| other.index.lock().first_after(slot, next));
        let end = ends.min().map_or(Lsn(u64::MAX), |first| Lsn(first.0 - 1));
        let index = &self.files[file].index;
        let last = index.lock().last(slot).min(end);
        (next <= last).then(|| Stretch::new(index, file, slot, event, (next, last), blocks_max))
    }
}

impl Stretch {
    fn new(
        index: &FileIndex,
        file: usize,
        slot: Slot,
        event: Option<EventId>,
        lsns: (Lsn, Lsn),
        blocks_max: usize,
    ) -> Stretch {
        let (next, last) = lsns;
        let mut ranges = Vec::new();
        let mut look_from = Some(index.lock().step_before(slot, next).expect("the file has the record").row);
        while let Some(first) = look_from {
            look_from = index.lock().candidates(slot, event, first, blocks_max, &mut ranges);
        }
        let blocks: usize = ranges.iter().map(|range: &RowRange| range.blocks()).sum();
        let searched = match ranges.last() {
            Some(range) if blocks >= blocks_max => {
                let step = index.lock().step_before_row(slot, range.last);
                step.map_or(Lsn(0), |step| step.lsn).min(last)
            }
            Some(_) | None => last,
        };
        Stretch { file, lsns, ranges, searched }
    }
}

impl ReadFile {
    fn read(
        &mut self,
        slot: Slot,
        event: Option<EventId>,
        stretch: &Stretch,
        range: RowRange,
        limit: usize,
        entries: &mut Vec<Entry>,
    ) -> Result<(), LogError> {
        let log = match &mut self.log {
            Some(log) => log,
            none => none.insert(LogFile::open_beside(&self.path)?),
        };
        let failed = log.failed("read");
        let mut statement = log.connection().prepare_cached(SELECT_OF_SLOT).map_err(&failed)?;
        let parameters = named_params! {
            ":first": range.first.cast_signed(),
            ":last": range.last.cast_signed(),
            ":slot": slot.0,
            ":event": event.map_or(0, |event| event.0),
            ":lsn_first": stretch.lsns.0.0.cast_signed(),
            ":lsn_last": stretch.lsns.1.0.cast_signed(),
            ":limit": i64::try_from(limit - entries.len()).unwrap_or(i64::MAX),
        };
        let mut rows = statement.query(parameters).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            let row = decode_row(row).map_err(&failed)?;
            let refused = |source: ReplayError| LogError {
                action: "read",
                place: self.path.display().to_string(),
                source: source.into(),
            };
            check(&row, event, entries.last(), stretch.lsns.0).map_err(refused)?;
            entries.push(entry_of(&row).map_err(refused)?);
        }
        Ok(())
    }
}

/// Checks that a row follows the previous entry of the page. Records of a slot are checked by lsn and
/// checksum, records of one event by the lsn of the event's previous record, which each row has. The checksum
/// of a page's first row is not checked, nor is anything of it in a page of one event.
fn check(
    row: &Row<'_>,
    event: Option<EventId>,
    before: Option<&Entry>,
    first: Lsn,
) -> Result<(), ReplayError> {
    let (slot, found) = (row.slot, row.lsn);
    let gap = |expected| Err(ReplayError::Gap { slot, expected, found });
    match (event, before) {
        (Some(_), None) => Ok(()),
        (Some(_), Some(before)) if row.previous == before.lsn => Ok(()),
        (Some(_), Some(_)) => gap(row.previous),
        (None, None) if found == first => Ok(()),
        (None, None) => gap(first),
        (None, Some(before)) if found != before.lsn.next() => gap(before.lsn.next()),
        (None, Some(before)) => {
            let head = SlotHead { lsn: before.lsn, chain: before.chain, at: before.at };
            let is_chained = head.chain_next(&row.stamp(), &row.columns) == row.chain;
            if is_chained { Ok(()) } else { Err(ReplayError::Checksum { slot, lsn: found }) }
        }
    }
}

fn entry_of(row: &Row<'_>) -> Result<Entry, ReplayError> {
    let &Row { position: _, slot, epoch, lsn, at, previous, continues, ref columns, chain } = row;
    let record = Record::decode(columns).map_err(|source| ReplayError::Decode { slot, lsn, source })?;
    Ok(Entry { slot, epoch, lsn, at, previous, continues, record, chain })
}
