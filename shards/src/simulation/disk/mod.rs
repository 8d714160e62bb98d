//! Simulated log files, as SQLite leaves them: a batch is there completely or not at all, since SQLite
//! removes a torn one when it opens the file.

mod damage;
mod replay;

use std::ops::RangeInclusive;

use crate::ids::Epoch;
use crate::record::{Columns, Entry};
use crate::replay::{Epochs, Extent, Mark, Row};
pub(super) use damage::Damage;
pub(super) use replay::Replayed;

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
    /// Positions of rows that were reported as durable and are not.
    lies: Vec<RangeInclusive<u64>>,
    mark: Mark,
    /// The mark that survives a power cut.
    synced_mark: Mark,
    /// The rows that the current recovery has checked.
    extent: Extent,
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

    /// Ends a recovery that accepted the disk: marks the end of each file, adds missing files, and begins
    /// an epoch.
    pub(super) fn start_epoch(&mut self, shard_count: usize, ends: &[Mark]) {
        for (file, end) in self.files.iter_mut().zip(ends) {
            file.mark = *end;
            file.synced_mark = *end;
            file.lies.clear();
        }
        let names: Vec<String> = (0..shard_count).map(|index| format!("shard-{index:02}")).collect();
        // Files are made in the order of their shards, and never removed.
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
    }

    /// Makes all rows durable, as a start does that has no room for more.
    pub(super) fn sync(&mut self) {
        self.files.iter_mut().for_each(|file| file.lies.clear());
    }

    /// Appends a batch to a shard's file. If `lie`, a power cut may lose it.
    pub(super) fn append(&mut self, shard_index: usize, entries: &[Entry], lie: bool) {
        let file = &mut self.files[shard_index];
        let before = file.last_position();
        file.rows.extend((before + 1..).zip(entries).map(|(position, entry)| row(position, entry)));
        if lie {
            file.lies.push(before + 1..=file.last_position());
        }
    }

    /// Marks the last row of a shard's file as committed.
    pub(super) fn mark(&mut self, shard_index: usize) {
        let file = &mut self.files[shard_index];
        file.mark = file.rows.last().map_or(Mark::EMPTY, mark_of);
    }

    /// Makes the mark durable, as a checkpoint does.
    pub(super) fn sync_mark(&mut self, shard_index: usize) {
        let file = &mut self.files[shard_index];
        file.synced_mark = file.mark;
    }

    /// Marks a batch before it is written, for [`Plant::MarkBeforeCommit`].
    pub(super) fn mark_ahead(&mut self, shard_index: usize, entries: &[Entry]) {
        let file = &mut self.files[shard_index];
        let last = entries.last().expect("a batch is not empty");
        file.mark = mark_of(&row(file.last_position() + entries.len() as u64, last));
    }

    pub(super) fn row_count(&self, shard_index: usize) -> usize {
        self.files[shard_index].rows.len()
    }
}

impl SimulatedFile {
    fn last_position(&self) -> u64 {
        self.rows.last().map_or(0, |row| row.position)
    }
}

fn mark_of(row: &Row<'_>) -> Mark {
    Mark { row: row.position, slot: row.slot, lsn: row.lsn, chain: row.chain }
}

/// The row of an entry.
fn row(position: u64, entry: &Entry) -> Row<'static> {
    let Columns { kind, event, number, user, quantity, body } = entry.record.encode();
    let body = body.into_owned().into();
    let columns = Columns { kind, event, number, user, quantity, body };
    let &Entry { slot, epoch, lsn, at, previous, continues, chain, .. } = entry;
    Row { position, slot, epoch, lsn, at, previous, continues, columns, chain }
}
