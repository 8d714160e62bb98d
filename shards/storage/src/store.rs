//! A data directory as a store of logs. To claim it is to check every row and to start an epoch.
//!
//! Rows are checked epoch by epoch, with the files of an epoch in parallel. Nothing is written before all
//! rows are checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use shards::ids::EventId;
use shards::log::{Claim, LogStore, Replay};
use shards::replay::{RangeCheck, Row, check_ranges, left_over};
use shards::shard::SlotHeads;
use shards::slots::SlotSet;

use crate::directory::{DirectoryLock, find_debris, lock_directory, remove_debris, sync_directory};
use crate::error::{RecoveryError, in_file, io_error};
use crate::log::SqliteLog;
use crate::manifest::Manifest;
use crate::named_file::{NamedFile, create_file, open_named_files};
use crate::reader::Records;
use crate::recovery::Progress;
use crate::replay::{join_thread, start_thread};
use crate::watch::{Watch, WatchedLog};

/// A locked data directory with its files open.
pub(crate) struct Directory {
    path: PathBuf,
    pub(crate) lock: DirectoryLock,
    manifest: Manifest,
    debris: Vec<String>,
    files: Vec<NamedFile>,
    /// The number of shards, and of files, of the epoch that a claim starts.
    shard_count: usize,
}

/// The logs of a claimed directory.
pub(crate) struct Logs {
    pub(crate) logs: Vec<SqliteLog>,
    /// Those of all files.
    pub(crate) records: Records,
    pub(crate) watch: Arc<Watch>,
    pub(crate) lock: DirectoryLock,
}

impl Directory {
    /// # Errors
    ///
    /// If another process has the directory, if it cannot be written, or if a file is not the one that the
    /// manifest names.
    pub(crate) fn open(
        path: &Path,
        shard_count: usize,
        progress: &Progress,
    ) -> Result<Directory, RecoveryError> {
        let lock = lock_directory(path)?;
        let manifest = match Manifest::read(path)? {
            Some(manifest) => manifest,
            None => Manifest::new(random_cluster()),
        };
        let debris = find_debris(path, &manifest.epochs.file_names())?;
        let files = open_named_files(path, &manifest, progress)?;
        Ok(Directory { path: path.to_owned(), lock, manifest, debris, files, shard_count })
    }

    pub(crate) fn cluster(&self) -> u64 {
        self.manifest.cluster
    }

    /// Returns the log of each shard in the order of their indices. Call it after the claim.
    ///
    /// # Errors
    ///
    /// When a file was removed meanwhile.
    pub(crate) fn into_logs(self) -> Result<Logs, RecoveryError> {
        let epoch = self.manifest.epochs.last();
        let records = Records::of(self.files.iter().map(|file| &file.log));
        let names: Vec<String> = (0..self.shard_count).map(file_name).collect();
        let watched = |file: &NamedFile| {
            let log = &file.log;
            let watched =
                if names.contains(&file.name) { WatchedLog::in_use(log) } else { WatchedLog::unused(log) };
            watched.map_err(io_error("watch", log.path()))
        };
        let watched: Result<Vec<_>, _> = self.files.iter().map(watched).collect();
        let watch = Arc::new(Watch::new(self.path, self.manifest.text(), watched?));
        let mut files: Vec<Option<NamedFile>> = self.files.into_iter().map(Some).collect();
        let log = |name: &String| {
            let is_named = |file: &Option<NamedFile>| file.as_ref().is_some_and(|file| file.name == *name);
            let index = files.iter().position(is_named).expect("made by the claim");
            let NamedFile { log, mark_file, extent, .. } = files[index].take().expect("just found");
            SqliteLog::new(log, mark_file, extent.end, epoch, (Arc::clone(&watch), index))
        };
        let logs = names.iter().map(log).collect::<Result<_, _>>()?;
        Ok(Logs { logs, records, watch, lock: self.lock })
    }

    /// Locks all files until they are claimed, so that nothing is written while they are read.
    fn lock_files(&self) -> Result<(), RecoveryError> {
        for file in &self.files {
            file.log.lock()?;
        }
        match Manifest::read(&self.path)? {
            Some(now) if now != self.manifest => Err(RecoveryError::Locked { path: self.path.clone() }),
            Some(_) | None => Ok(()),
        }
    }

    /// Checks every row of every file, and gives the records to `replay`.
    fn check(&mut self, replay: &dyn Replay) -> Result<SlotHeads, RecoveryError> {
        let Directory { manifest, files, .. } = self;
        let heads = check_ranges(
            manifest.cluster,
            &manifest.epochs,
            files,
            |file| &file.name,
            |readings| {
                thread::scope(|scope| {
                    let reading = |(file, check)| start_thread(scope, || read_file(file, check, replay));
                    let threads: Result<Vec<_>, _> = readings.into_iter().map(reading).collect();
                    // Waits for all threads, even if the first one fails.
                    let checks: Vec<_> = threads?.into_iter().map(join_thread).collect();
                    checks.into_iter().collect()
                })
            },
        )?;
        for file in files {
            let path = file.log.path();
            let refuse = |row: &Row<'_>| Err(in_file(path)(left_over(&manifest.epochs, row)));
            file.log.rows_after(file.extent.end.row, refuse)?;
        }
        Ok(heads)
    }

    /// Starts the next epoch in the manifest, claims all files for it, and makes what was read durable.
    fn start_epoch(&mut self) -> Result<(), RecoveryError> {
        for NamedFile { name, log, .. } in &self.files {
            let epoch = log.epoch().map_err(log.failed("read the header of"))?;
            self.manifest.check_claim(&self.path, name, epoch)?;
        }
        remove_debris(&self.path, &self.debris)?;
        let names: Vec<String> = (0..self.shard_count).map(file_name).collect();
        for name in &names {
            if !self.files.iter().any(|file| &file.name == name) {
                self.files.push(create_file(&self.path, name, self.manifest.cluster)?);
            }
        }
        sync_directory(&self.path)?;
        self.manifest.epochs.add(names);
        self.manifest.write(&self.path)?;
        for file in &self.files {
            file.log.make_durable(self.manifest.epochs.last())?;
            file.write_mark()?;
        }
        self.manifest.claimed = self.manifest.epochs.last();
        self.manifest.write(&self.path)
    }
}

impl LogStore for Directory {
    type Error = RecoveryError;

    fn claim(&mut self, slots: &SlotSet, replay: &dyn Replay) -> Result<Claim, RecoveryError> {
        assert!(slots.is_full(), "a locked directory is claimed as a whole");
        self.lock_files()?;
        let heads = self.check(replay)?;
        self.start_epoch()?;
        Ok(Claim { epoch: self.manifest.epochs.last(), heads })
    }
}

/// Checks the file's rows of one range, and gives their records to `replay`.
fn read_file<'a>(
    file: &mut NamedFile,
    mut check: RangeCheck<'a>,
    replay: &dyn Replay,
) -> Result<RangeCheck<'a>, RecoveryError> {
    let mut receive = replay.receiver();
    let NamedFile { log, extent, .. } = file;
    let mut index = log.index().lock();
    log.rows_after(extent.end.row, |row| -> Result<bool, RecoveryError> {
        let Some(record) = check.take(extent, row).map_err(in_file(log.path()))? else { return Ok(false) };
        index.add(row.position, row.slot, row.lsn, EventId(row.columns.event));
        receive(row.slot, row.lsn, row.at, record);
        Ok(true)
    })?;
    Ok(check)
}

fn file_name(shard_index: usize) -> String {
    format!("shard-{shard_index:02}.sqlite")
}

fn random_cluster() -> u64 {
    getrandom::u64().expect("the kernel has random bytes")
}
