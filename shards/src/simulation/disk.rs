//! Simulated log files, as SQLite would leave them: a batch is there as a whole
//! or not at all, since what is torn is cut off when the file is opened.

use std::ops::RangeInclusive;

use super::plant::Plant;
use super::random::Random;
use crate::ids::{Epoch, Lsn, Slot, Timestamp};
use crate::record::{Columns, Entry, Record, SlotHead, Stamp};
use crate::replay::{Epochs, Extent, Mark, RangeCheck, ReplayError, Row, check_ranges, left_over};
use crate::shard::SlotHeads;
use crate::slots::{Owners, shard_of_slot};
use crate::state::ShardState;

/// A data directory.
#[derive(Debug)]
pub(super) struct Disk {
    cluster: u64,
    epochs: Epochs,
    files: Vec<SimulatedFile>,
}

#[derive(Debug)]
struct SimulatedFile {
    name: String,
    rows: Vec<Row<'static>>,
    /// Rows, by position, that were called durable and are not.
    lies: Vec<RangeInclusive<u64>>,
    mark: Mark,
    /// As it was when it was last synced.
    synced_mark: Mark,
    /// How far the recovery that is under way has come.
    extent: Extent,
}

/// What recovery makes of a disk.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) states: Vec<ShardState>,
    pub(super) heads: SlotHeads,
    /// Of every file, its last row.
    ends: Vec<Mark>,
}

/// Why recovery refuses a disk.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {error}")]
pub(super) struct Refusal {
    file: String,
    error: ReplayError,
}

/// What is wrong with a disk, and so what recovery has to say.
#[derive(Debug)]
pub(super) enum Damage {
    None,
    /// The last records are gone, which nobody can tell.
    LostTail,
    /// One of these has to be found.
    Lost(Vec<Loss>),
    Checksum(Slot, Lsn),
    /// Of a file, the row that was marked is another one, and all its checksums are right.
    Rewritten(String),
    /// It depends on what else is on the disk which of the checks sees it first.
    Refused,
}

/// How missing rows show.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// A slot goes on behind this lsn, which is not there.
    Lsn(Slot, Lsn),
    /// A file goes on behind this row, which is not there.
    Row(String, u64),
    /// A file ends before its mark.
    End(String),
}

impl Damage {
    /// Whether `result` is what this damage has to lead to.
    pub(super) fn fits<T>(&self, result: &Result<T, Refusal>) -> bool {
        match (self, result) {
            (Damage::None | Damage::LostTail, Ok(_)) | (Damage::Refused, Err(_)) => true,
            (Damage::Lost(losses), Err(Refusal { file, error })) => {
                let loss = match error {
                    ReplayError::Gap { slot, expected, .. } => Loss::Lsn(*slot, *expected),
                    ReplayError::Position { expected, .. } => Loss::Row(file.clone(), *expected),
                    ReplayError::Lost { .. } => Loss::End(file.clone()),
                    _ => return false,
                };
                losses.contains(&loss)
            }
            (Damage::Checksum(slot, lsn), Err(Refusal { error, .. })) => {
                matches!(error, ReplayError::Checksum { slot: found, lsn: at } if (slot, lsn) == (found, at))
            }
            (Damage::Rewritten(file), Err(Refusal { file: found, error })) => {
                file == found && matches!(error, ReplayError::Rewritten { .. })
            }
            (_, Ok(_) | Err(_)) => false,
        }
    }
}

impl Disk {
    pub(super) fn new(cluster: u64) -> Disk {
        Disk { cluster, epochs: Epochs::default(), files: Vec::new() }
    }

    pub(super) fn last_epoch(&self) -> Epoch {
        self.epochs.last()
    }

    pub(super) fn last_shard_count(&self) -> Option<usize> {
        self.epochs.last_shard_count()
    }

    /// What recovery does once it has refused nothing: makes the files that are missing,
    /// raises the epoch, and marks how far each file goes.
    pub(super) fn start_epoch(&mut self, shard_count: usize, replayed: &Replayed) -> Epoch {
        for (file, end) in self.files.iter_mut().zip(&replayed.ends) {
            file.mark = *end;
            file.synced_mark = *end;
            file.lies.clear();
        }
        let names: Vec<String> = (0..shard_count).map(|index| format!("shard-{index:02}")).collect();
        // Files are made in the order of their shards, and stay.
        for name in &names[self.files.len().min(shard_count)..] {
            self.files.push(SimulatedFile {
                name: name.clone(),
                rows: Vec::new(),
                lies: Vec::new(),
                mark: Mark::EMPTY,
                synced_mark: Mark::EMPTY,
                extent: Extent::new(Mark::EMPTY),
            });
        }
        self.epochs.add(names);
        self.epochs.last()
    }

    /// Puts a batch into the file of a shard; as a lie, it may be gone after a power cut.
    pub(super) fn append(&mut self, shard_index: usize, entries: &[Entry], lie: bool) {
        let file = &mut self.files[shard_index];
        let before = file.last_position();
        file.rows.extend((before + 1..).zip(entries).map(|(position, entry)| row(position, entry)));
        if lie {
            file.lies.push(before + 1..=file.last_position());
        }
    }

    /// Marks what the file of a shard has.
    pub(super) fn mark(&mut self, shard_index: usize) {
        let file = &mut self.files[shard_index];
        file.mark = file.rows.last().map_or(Mark::EMPTY, mark_of);
    }

    /// Together with a checkpoint.
    pub(super) fn sync_mark(&mut self, shard_index: usize) {
        let file = &mut self.files[shard_index];
        file.synced_mark = file.mark;
    }

    /// For [`Plant::MarkBeforeCommit`].
    pub(super) fn mark_ahead(&mut self, shard_index: usize, entries: &[Entry]) {
        let file = &mut self.files[shard_index];
        let last = entries.last().expect("a batch is not empty");
        file.mark = mark_of(&row(file.last_position() + entries.len() as u64, last));
    }

    pub(super) fn row_count(&self, shard_index: usize) -> usize {
        self.files[shard_index].rows.len()
    }

    /// Of the lies some turn out, and sometimes take along all that followed. Marks may be old.
    pub(super) fn lose_power(&mut self, random: &mut Random) -> Damage {
        let mut lost = Vec::new();
        for file in &mut self.files {
            if random.within(0, 1) == 0 {
                file.mark = file.synced_mark;
            }
            for lie in std::mem::take(&mut file.lies) {
                let lie = match random.within(0, 3) {
                    0 | 1 => lie,
                    2 => *lie.start()..=u64::MAX,
                    _ => continue,
                };
                lost.extend(file.rows.extract_if(.., |row| lie.contains(&row.position)));
            }
        }
        self.damage_of_losing(&lost)
    }

    fn damage_of_losing(&self, lost: &[Row<'_>]) -> Damage {
        if lost.is_empty() {
            return Damage::None;
        }
        let mut losses = Vec::new();
        for slot in lost.iter().map(|row| row.slot) {
            let first = lost.iter().filter(|row| row.slot == slot).map(|row| row.lsn).min();
            let first = first.expect("one was lost");
            if self.files.iter().flat_map(|file| &file.rows).any(|row| row.slot == slot && row.lsn > first) {
                losses.push(Loss::Lsn(slot, first));
            }
        }
        for file in &self.files {
            if file.last_position() < file.mark.row {
                losses.push(Loss::End(file.name.clone()));
            }
            let numbered = (1..).zip(&file.rows).find(|(position, row)| row.position != *position);
            losses.extend(numbered.map(|(position, _)| Loss::Row(file.name.clone(), position)));
        }
        if losses.is_empty() { Damage::LostTail } else { Damage::Lost(losses) }
    }

    /// Somebody edits a file, in one of the ways that a disk or an operator has.
    pub(super) fn edit(&mut self, random: &mut Random) -> Damage {
        let all = self.files.iter().enumerate();
        let all: Vec<_> = all.flat_map(|(file, of)| (0..of.rows.len()).map(move |row| (file, row))).collect();
        if all.is_empty() {
            return Damage::None;
        }
        let (file_index, index) = all[random.within(0, all.len() as u64 - 1) as usize];
        let other_index = random.within(0, self.files.len() as u64 - 1) as usize;
        if random.within(0, 12) == 0 {
            return self.rewrite_last(file_index);
        }
        let rows = &mut self.files[file_index].rows;
        let row = &mut rows[index];
        match random.within(0, 12) {
            0 | 1 => {
                let lost = rows.remove(index);
                return self.damage_of_losing(&[lost]);
            }
            2 => {
                // And closes the gap.
                let lost = rows.remove(index);
                rows[index..].iter_mut().for_each(|row| row.position -= 1);
                return self.damage_of_losing(&[lost]);
            }
            3 => {
                // The newest rows, with their journal.
                let lost: Vec<_> = rows.drain(index..).collect();
                return self.damage_of_losing(&lost);
            }
            4 => {
                let copy = row.clone();
                rows[index..].iter_mut().for_each(|row| row.position += 1);
                rows.insert(index, copy);
                return Damage::Refused;
            }
            5 => {
                let mut moved = rows.remove(index);
                let other = &mut self.files[other_index];
                if file_index != other_index {
                    moved.position = other.last_position() + 1;
                    other.rows.push(moved);
                    return Damage::Refused;
                }
                return self.damage_of_losing(&[moved]);
            }
            6 => {
                row.epoch = Epoch(row.epoch.0 ^ (1 << random.within(0, 40)));
                return Damage::Refused;
            }
            7 => row.at = Timestamp(row.at.0 ^ (1 << random.within(0, 40))),
            8 => row.chain ^= 1 << random.within(0, 63),
            9 => row.columns.quantity ^= 1 << random.within(0, 31),
            10 => row.columns.user ^= 1 << random.within(0, 31),
            11 => row.columns.number ^= 1 << random.within(0, 31),
            _ => row.columns.body.to_mut().push(0),
        }
        Damage::Checksum(row.slot, row.lsn)
    }

    /// Somebody who can make checksums writes a file's last row anew.
    fn rewrite_last(&mut self, file_index: usize) -> Damage {
        let last = self.files[file_index].rows.last().expect("the file has rows");
        let (slot, lsn) = (last.slot, last.lsn);
        let mut rows = self.files.iter().flat_map(|file| &file.rows);
        let before = rows.find(|row| row.slot == slot && row.lsn.next() == lsn);
        let mut head = SlotHead::empty(self.cluster);
        head.chain = before.map_or(head.chain, |before| before.chain);
        let SimulatedFile { rows, name, .. } = &mut self.files[file_index];
        let last = rows.last_mut().expect("looked at above");
        last.at = Timestamp(last.at.0 + 1);
        last.chain = head.chain_next(&last.stamp(), &last.columns);
        Damage::Rewritten(name.clone())
    }

    /// The recovery of the server, over these files, for so many shards.
    pub(super) fn replay(&mut self, shard_count: usize, plant: Option<Plant>) -> Result<Replayed, Refusal> {
        for file in &mut self.files {
            file.extent = Extent::new(file.mark);
            match file.extent.check_row_count(file.last_position()) {
                Err(ReplayError::Lost { .. }) if plant == Some(Plant::IgnoreMarks) => {}
                checked => checked.map_err(in_file(&file.name))?,
            }
        }
        let mut records: Vec<Recovered> = Vec::new();
        let heads = check_ranges(
            self.cluster,
            &self.epochs,
            &mut self.files,
            |file| &file.name,
            |mut readings| {
                for (file, check) in &mut readings {
                    let SimulatedFile { name, rows, extent, .. } = &mut **file;
                    while let Some(row) = next_row(rows, extent) {
                        let taken = take(check, extent, row, plant).map_err(in_file(name))?;
                        let Some(record) = taken else { break };
                        records.push(Recovered { file_index: check.file_index, stamp: row.stamp(), record });
                    }
                }
                Ok(readings.into_iter().map(|(_, check)| check).collect())
            },
        )?;
        for file in &self.files {
            if let Some(row) = next_row(&file.rows, &file.extent) {
                return Err(in_file(&file.name)(left_over(&self.epochs, row)));
            }
        }
        let mut owners = shard_count;
        match plant {
            Some(Plant::ReplayByFile) => records.sort_by_key(|row| row.file_index),
            Some(Plant::ForgetCancels) => {
                records.retain(|row| !matches!(row.record, Record::Cancelled { .. }));
            }
            Some(Plant::RouteByOldCount) => {
                owners = self.last_shard_count().unwrap_or(owners).min(owners);
            }
            _ => {}
        }
        let table = Owners::by_modulo(shard_count);
        let owning = |shard| ShardState::owning(table.slots_of(shard));
        let mut states: Vec<_> = (0..shard_count).map(owning).collect();
        for Recovered { stamp, record, .. } in &records {
            let state = &mut states[shard_of_slot(stamp.slot, owners)];
            let previous = state.apply(stamp.slot, stamp.at, stamp.lsn, record);
            assert!(plant.is_some() || previous == stamp.previous, "{stamp:?} follows lsn {previous}");
        }
        let ends = self.files.iter().map(|file| file.extent.end).collect();
        Ok(Replayed { states, heads, ends })
    }
}

/// A record that recovery takes, and where from.
struct Recovered {
    file_index: usize,
    stamp: Stamp,
    record: Record,
}

impl SimulatedFile {
    fn last_position(&self) -> u64 {
        self.rows.last().map_or(0, |row| row.position)
    }
}

/// The one that recovery comes to now.
fn next_row<'a>(rows: &'a [Row<'static>], extent: &Extent) -> Option<&'a Row<'static>> {
    rows.get(rows.partition_point(|row| row.position <= extent.end.row))
}

fn take(
    check: &mut RangeCheck<'_>,
    extent: &mut Extent,
    row: &Row<'_>,
    plant: Option<Plant>,
) -> Result<Option<Record>, ReplayError> {
    let taken = check.take(extent, row);
    let goes_on = match taken {
        Err(ReplayError::Gap { .. } | ReplayError::Position { .. }) => plant == Some(Plant::IgnoreGaps),
        Err(ReplayError::Checksum { .. }) => plant == Some(Plant::IgnoreChecksums),
        _ => false,
    };
    if !goes_on {
        return taken;
    }
    let Row { slot, lsn, at, ref columns, chain, .. } = *row;
    check.heads[slot.index()] = SlotHead { lsn, chain, at };
    extent.end = mark_of(row);
    Ok(Record::decode(columns).ok())
}

fn in_file(file: &str) -> impl Fn(ReplayError) -> Refusal + use<'_> {
    move |error| Refusal { file: file.to_owned(), error }
}

fn mark_of(row: &Row<'_>) -> Mark {
    Mark { row: row.position, slot: row.slot, lsn: row.lsn, chain: row.chain }
}

/// What the file has of an entry.
fn row(position: u64, entry: &Entry) -> Row<'static> {
    let Columns { kind, event, number, user, quantity, body } = entry.record.encode();
    let body = body.into_owned().into();
    let columns = Columns { kind, event, number, user, quantity, body };
    let &Entry { slot, epoch, lsn, at, previous, continues, chain, .. } = entry;
    Row { position, slot, epoch, lsn, at, previous, continues, columns, chain }
}
