//! Simulated log files, as SQLite would leave them: a batch is there as a whole
//! or not at all, since what is torn is cut off when the file is opened.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;

use super::plant::Plant;
use super::random::Random;
use crate::ids::{Epoch, Lsn, Slot, Timestamp};
use crate::log::Row;
use crate::record::{Columns, Entry, Record, SlotHead};
use crate::recovery::RecoveryError;
use crate::recovery::judge::{Judge, judge_ranges, left_over};
use crate::recovery::manifest::Manifest;
use crate::shard::SlotHeads;
use crate::slots::shard_of_slot;
use crate::state::ShardState;

/// A data directory.
#[derive(Debug)]
pub(super) struct Disk {
    manifest: Manifest,
    files: Vec<SimulatedFile>,
}

#[derive(Debug, Clone)]
struct SimulatedFile {
    name: String,
    path: PathBuf,
    rows: Vec<Row<'static>>,
    /// How far the recovery that is under way has read.
    read_to: usize,
    /// Rows that were called durable and are not.
    lies: Vec<Range<usize>>,
}

/// What recovery makes of a disk.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) states: Vec<ShardState>,
    pub(super) heads: SlotHeads,
}

/// What is wrong with a disk, and so what recovery has to say.
#[derive(Debug)]
pub(super) enum Damage {
    None,
    /// A slot's last records are gone, which nobody can tell.
    LostTail,
    /// A gap of one of these.
    LostMiddle(BTreeSet<(Slot, Lsn)>),
    Checksum(Slot, Lsn),
    /// It depends on what else is on the disk which of the checks sees it first.
    Refused,
}

impl Damage {
    /// Whether `result` is what this damage has to lead to.
    pub(super) fn fits<T>(&self, result: &Result<T, RecoveryError>) -> bool {
        match (self, result) {
            (Damage::None, Ok(_)) | (Damage::LostTail, Ok(_)) | (Damage::Refused, Err(_)) => true,
            (Damage::LostMiddle(gaps), Err(RecoveryError::Gap { slot, expected, .. })) => {
                gaps.contains(&(*slot, *expected))
            }
            (Damage::Checksum(slot, lsn), Err(RecoveryError::Checksum { slot: found, lsn: at, .. })) => {
                (slot, lsn) == (found, at)
            }
            (_, Ok(_) | Err(_)) => false,
        }
    }
}

impl Disk {
    pub(super) fn new(cluster: u64) -> Disk {
        Disk { manifest: Manifest::new(cluster), files: Vec::new() }
    }

    pub(super) fn last_epoch(&self) -> Epoch {
        self.manifest.last_epoch()
    }

    pub(super) fn last_shard_count(&self) -> Option<usize> {
        self.manifest.last_shard_count()
    }

    /// What recovery does once it has refused nothing: makes the files that are missing,
    /// and raises the epoch.
    pub(super) fn start_epoch(&mut self, shard_count: usize) -> Epoch {
        let names: Vec<String> = (0..shard_count).map(|index| format!("shard-{index:02}")).collect();
        for name in &names {
            if !self.files.iter().any(|file| &file.name == name) {
                let (name, path) = (name.clone(), PathBuf::from(name));
                self.files.push(SimulatedFile { name, path, rows: Vec::new(), read_to: 0, lies: Vec::new() });
            }
        }
        self.manifest = self.manifest.clone().with_next_epoch(names);
        self.manifest.last_epoch()
    }

    /// Puts a batch into the file of a shard; as a lie, it may be gone after a crash.
    pub(super) fn append(&mut self, shard_index: usize, entries: &[Entry], lie: bool) {
        // Files are made in the order of their shards, and stay.
        let file = &mut self.files[shard_index];
        let start = file.rows.len();
        file.rows.extend(entries.iter().map(row));
        if lie {
            file.lies.push(start..file.rows.len());
        }
    }

    pub(super) fn rows_in(&self, shard_index: usize) -> usize {
        self.files[shard_index].rows.len()
    }

    /// Power is cut: of what was a lie some is lost, and sometimes all that followed it.
    pub(super) fn lose_lies(&mut self, random: &mut Random) -> Damage {
        let mut lost = Vec::new();
        for file in &mut self.files {
            for lie in std::mem::take(&mut file.lies).into_iter().rev() {
                let lie = match random.within(0, 3) {
                    0 | 1 => lie,
                    2 => lie.start..file.rows.len(),
                    _ => continue,
                };
                lost.extend(file.rows.drain(lie).map(|row| (row.slot, row.lsn)));
            }
        }
        self.damage_of_losing(&lost)
    }

    fn damage_of_losing(&self, lost: &[(Slot, Lsn)]) -> Damage {
        let mut gaps = BTreeSet::new();
        for slot in lost.iter().map(|&(slot, _)| slot) {
            let first = lost.iter().filter(|lost| lost.0 == slot).map(|lost| lost.1).min();
            let first = first.expect("one was lost");
            if self.files.iter().flat_map(|file| &file.rows).any(|row| row.slot == slot && row.lsn > first) {
                gaps.insert((slot, first));
            }
        }
        match (lost.is_empty(), gaps.is_empty()) {
            (true, _) => Damage::None,
            (false, true) => Damage::LostTail,
            (false, false) => Damage::LostMiddle(gaps),
        }
    }

    /// Somebody edits a file, in one of the ways that a disk or an operator has.
    pub(super) fn edit(&mut self, random: &mut Random) -> Damage {
        let all = self.files.iter().enumerate();
        let all: Vec<_> = all.flat_map(|(file, of)| (0..of.rows.len()).map(move |row| (file, row))).collect();
        if all.is_empty() {
            return Damage::None;
        }
        let (file_index, index) = all[random.within(0, all.len() as u64 - 1) as usize];
        let file_count = self.files.len() as u64;
        let rows = &mut self.files[file_index].rows;
        let row = &mut rows[index];
        let (slot, lsn) = (row.slot, row.lsn);
        match random.within(0, 10) {
            0 | 1 => {
                rows.remove(index);
                return self.damage_of_losing(&[(slot, lsn)]);
            }
            2 => {
                let copy = row.clone();
                rows.insert(index, copy);
                return Damage::Refused;
            }
            3 => {
                let moved = rows.remove(index);
                let other = (file_index as u64 + random.within(1, 5)) % file_count;
                if other == file_index as u64 {
                    return self.damage_of_losing(&[(slot, lsn)]);
                }
                self.files[other as usize].rows.push(moved);
                return Damage::Refused;
            }
            4 => {
                row.epoch = Epoch(row.epoch.0 ^ (1 << random.within(0, 40)));
                return Damage::Refused;
            }
            5 => row.at = Timestamp(row.at.0 ^ (1 << random.within(0, 40))),
            6 => row.chain ^= 1 << random.within(0, 63),
            7 => row.columns.quantity ^= 1 << random.within(0, 31),
            8 => row.columns.user ^= 1 << random.within(0, 31),
            9 => row.columns.number ^= 1 << random.within(0, 31),
            _ => row.columns.body.to_mut().push(' '),
        }
        Damage::Checksum(slot, lsn)
    }

    /// The recovery of the server, over these files, for so many shards.
    pub(super) fn replay(
        &mut self,
        shard_count: usize,
        plant: Option<Plant>,
    ) -> Result<Replayed, RecoveryError> {
        let mut records: Vec<(usize, Slot, Timestamp, Record)> = Vec::new();
        self.files.iter_mut().for_each(|file| file.read_to = 0);
        let heads = judge_ranges(
            &self.manifest,
            &mut self.files,
            |file| &file.name,
            |mut readings| {
                for (file, judge) in &mut readings {
                    while let Some(row) = file.rows.get(file.read_to) {
                        let Some(record) = take(judge, file, row, plant)? else { break };
                        records.push((judge.file_index, row.slot, row.at, record));
                        file.read_to += 1;
                    }
                }
                Ok(readings.into_iter().map(|(_, judge)| judge).collect())
            },
        )?;
        for file in &self.files {
            if let Some(row) = file.rows.get(file.read_to) {
                return Err(left_over(&self.manifest, &file.path, row));
            }
        }
        let mut owners = shard_count;
        match plant {
            Some(Plant::ReplayByFile) => records.sort_by_key(|&(file_index, ..)| file_index),
            Some(Plant::ForgetCancels) => {
                records.retain(|(.., record)| !matches!(record, Record::Cancelled { .. }));
            }
            Some(Plant::RouteByOldCount) => {
                owners = self.last_shard_count().unwrap_or(owners).min(owners);
            }
            _ => {}
        }
        let mut states: Vec<_> = (0..shard_count).map(|_| ShardState::default()).collect();
        for (_, slot, at, record) in &records {
            states[shard_of_slot(*slot, owners)].apply(*at, record);
        }
        Ok(Replayed { states, heads })
    }
}

fn take(
    judge: &mut Judge<'_>,
    file: &SimulatedFile,
    row: &Row<'_>,
    plant: Option<Plant>,
) -> Result<Option<Record>, RecoveryError> {
    let taken = judge.take(&file.path, row);
    let goes_on = match taken {
        Err(RecoveryError::Gap { .. }) => plant == Some(Plant::IgnoreGaps),
        Err(RecoveryError::Checksum { .. }) => plant == Some(Plant::IgnoreChecksums),
        _ => false,
    };
    if !goes_on {
        return taken;
    }
    let Row { slot, lsn, at, ref columns, chain, .. } = *row;
    judge.heads[slot.index()] = SlotHead { lsn, chain, at };
    Ok(Record::decode(columns).ok())
}

/// What the file has of an entry.
fn row(entry: &Entry) -> Row<'static> {
    let columns = entry.record.encode();
    let Columns { kind, event, number, user, quantity, .. } = columns;
    let body = columns.body.into_owned().into();
    let columns = Columns { kind, event, number, user, quantity, body };
    Row { slot: entry.slot, epoch: entry.epoch, lsn: entry.lsn, at: entry.at, columns, chain: entry.chain }
}
