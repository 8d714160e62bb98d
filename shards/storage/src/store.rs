//! A data directory as a store of logs. To claim it is to check every row and to start an epoch.
//!
//! Rows are checked epoch by epoch, with the files of an epoch in parallel. Nothing is written before all
//! rows are checked. Where there is no room to write, a directory is read without a claim: `waiting` claims it
//! later.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use shards::ids::{Epoch, EventId};
use shards::log::{Claim, LogStore, Replay};
use shards::replay::{RangeCheck, Row, check_ranges, left_over};
use shards::shard::SlotHeads;
use shards::slots::SlotSet;

use crate::directory::{find_debris, remove_debris, sync_directory};
use crate::error::{RecoveryError, in_file, io_error};
use crate::file::Access;
use crate::log::SqliteLog;
use crate::manifest::Manifest;
use crate::named_file::{NamedFile, create_file, open_named_files};
use crate::reader::Records;
use crate::recovery::Progress;
use crate::replay::{join_thread, start_thread};
use crate::room;
use crate::watch::{Watch, WatchedLog};

/// A data directory with its files open. The caller has its lock.
pub(crate) struct Directory {
    path: PathBuf,
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
}

impl Directory {
    /// # Errors
    ///
    /// If it cannot be written, or if a file is not the one that the manifest names.
    pub(crate) fn open(
        path: &Path,
        shard_count: usize,
        access: Access,
        progress: &Progress,
    ) -> Result<Directory, RecoveryError> {
        let manifest = match Manifest::read(path)? {
            Some(manifest) => manifest,
            None => Manifest::new(random_cluster()),
        };
        let names = manifest.epochs.file_names();
        if access == Access::Write {
            room::check(path, new_files_max(&names, shard_count))?;
        }
        let debris = find_debris(path, &names, access)?;
        let files = open_named_files(path, &manifest, access, progress)?;
        Ok(Directory { path: path.to_owned(), manifest, debris, files, shard_count })
    }

    pub(crate) fn cluster(&self) -> u64 {
        self.manifest.cluster
    }

    /// The epoch of the last start.
    fn last_epoch(&self) -> Epoch {
        self.manifest.epochs.last()
    }

    fn next_epoch(&self) -> Epoch {
        Epoch(self.last_epoch().0 + 1)
    }

    pub(crate) fn files_mut(&mut self) -> &mut [NamedFile] {
        &mut self.files
    }

    /// Closes all files, and returns how far they were read. Call it after [`Directory::read`].
    pub(crate) fn into_read(self) -> (Manifest, Vec<NamedFile>) {
        (self.manifest, self.files)
    }

    pub(crate) fn records(&self) -> Records {
        Records::of(self.files.iter().map(|file| &file.log))
    }

    /// Returns the log of each shard in the order of their indices. Call it after the claim.
    ///
    /// # Errors
    ///
    /// When a file was removed meanwhile.
    pub(crate) fn into_logs(self) -> Result<Logs, RecoveryError> {
        let epoch = self.manifest.epochs.last();
        let records = self.records();
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
            let failed = io_error("open the shared memory of", log.path());
            SqliteLog::new(log, mark_file, extent.end, epoch, (Arc::clone(&watch), index)).map_err(failed)
        };
        let logs: Result<_, _> = names.iter().map(log).collect();
        let logs = logs?;
        Ok(Logs { logs, records, watch })
    }

    /// Locks all files until they are claimed, so that nothing is written while they are read.
    pub(crate) fn lock_files(&self) -> Result<(), RecoveryError> {
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

    /// Checks that no file was claimed last in another epoch than the manifest says.
    fn check_claims(&self) -> Result<(), RecoveryError> {
        for NamedFile { name, log, .. } in &self.files {
            let epoch = log.epoch().map_err(log.failed("read the header of"))?;
            self.manifest.check_claim(&self.path, name, epoch)?;
        }
        Ok(())
    }

    /// Reads all records without a claim, and writes nothing. The claim names the epoch that is to be started.
    ///
    /// # Errors
    ///
    /// If any record is not as it was written.
    pub(crate) fn read(&mut self, replay: &dyn Replay) -> Result<Claim, RecoveryError> {
        let heads = self.check(replay)?;
        self.check_claims()?;
        Ok(Claim { epoch: self.next_epoch(), heads })
    }

    /// Starts an epoch in the manifest, unless it is there, claims all files for it, and makes what was read
    /// durable.
    ///
    /// # Errors
    ///
    /// When the disk refuses, or a file was claimed last in another epoch than the manifest says.
    pub(crate) fn start_epoch(&mut self, epoch: Epoch) -> Result<(), RecoveryError> {
        self.check_claims()?;
        remove_debris(&self.path, &self.debris)?;
        let names: Vec<String> = (0..self.shard_count).map(file_name).collect();
        for name in &names {
            if !self.files.iter().any(|file| &file.name == name) {
                self.files.push(create_file(&self.path, name, self.manifest.cluster)?);
            }
        }
        sync_directory(&self.path)?;
        if self.last_epoch() < epoch {
            self.manifest.epochs.add(names);
            self.manifest.write(&self.path)?;
        }
        assert_eq!(self.last_epoch(), epoch, "epochs are started one after the other");
        for file in &self.files {
            file.log.make_durable(epoch)?;
            file.write_mark()?;
        }
        self.manifest.claimed = epoch;
        self.manifest.write(&self.path)
    }
}

impl LogStore for Directory {
    type Error = RecoveryError;

    fn claim(&mut self, slots: &SlotSet, replay: &dyn Replay) -> Result<Claim, RecoveryError> {
        assert!(slots.is_full(), "a locked directory is claimed as a whole");
        self.lock_files()?;
        let heads = self.check(replay)?;
        let epoch = self.next_epoch();
        self.start_epoch(epoch)?;
        Ok(Claim { epoch, heads })
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

/// The most files that a start makes: a journal and its shared memory for each log, a log and a mark for each new
/// shard, a manifest, and a secret.
fn new_files_max(names: &[String], shard_count: usize) -> usize {
    let new = (0..shard_count).filter(|&index| !names.contains(&file_name(index))).count();
    2 * (names.len() + new) + 2 * new + 2
}

fn file_name(shard_index: usize) -> String {
    format!("shard-{shard_index:02}.sqlite")
}

fn random_cluster() -> u64 {
    getrandom::u64().expect("the kernel has random bytes")
}
