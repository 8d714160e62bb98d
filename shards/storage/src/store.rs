//! A data directory as a store of logs. To claim it is to check every row and to start an epoch.
//!
//! Nothing is written before all rows are checked. Where there is no room to write, a directory is read without a
//! claim: `waiting` claims it later.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use shards::ids::Epoch;
use shards::log::{AppendError, Claim, LogStore, Replay};
use shards::shard::SlotHeads;
use shards::slots::SlotSet;

use crate::check::check_rows;
use crate::directory::{find_debris, remove_debris, sync_directory};
use crate::error::{RecoveryError, io_error};
use crate::file::{Access, LogFile};
use crate::last_start;
use crate::log::SqliteLog;
use crate::manifest::Manifest;
use crate::named_file::{NamedFile, create_file, open_named_files};
use crate::reader::Records;
use crate::recovery::Progress;
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
    pub(crate) fn last_epoch(&self) -> Epoch {
        self.manifest.epochs.last()
    }

    fn next_epoch(&self) -> Epoch {
        Epoch(self.last_epoch().0 + 1)
    }

    pub(crate) fn files_mut(&mut self) -> &mut [NamedFile] {
        &mut self.files
    }

    /// Returns the files, with how far they were read. Call it after [`Directory::read`].
    pub(crate) fn into_read(self) -> (Manifest, Vec<NamedFile>) {
        (self.manifest, self.files)
    }

    pub(crate) fn records(&self) -> Records {
        Records::of(self.files.iter().map(|file| &file.log.file))
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
        let watched = |NamedFile { log, .. }: &NamedFile| {
            let file = &log.file;
            let is_used = names.contains(&log.name);
            let watched = if is_used { WatchedLog::in_use(file, epoch) } else { WatchedLog::unused(file) };
            watched.map_err(io_error("watch", file.path()))
        };
        let watched: Result<Vec<_>, _> = self.files.iter().map(watched).collect();
        let watch = Arc::new(Watch::new(self.path, self.manifest.text().into_bytes(), watched?));
        let mut files: Vec<Option<NamedFile>> = self.files.into_iter().map(Some).collect();
        let log = |name: &String| {
            let is_named =
                |file: &Option<NamedFile>| file.as_ref().is_some_and(|file| file.log.name == *name);
            let index = files.iter().position(is_named).expect("made by the claim");
            let NamedFile { log, mark_file } = files[index].take().expect("just found");
            SqliteLog::new(log.file, mark_file, log.extent.end, epoch, (Arc::clone(&watch), index))
        };
        let logs = names.iter().map(log).collect::<Result<_, _>>()?;
        Ok(Logs { logs, records, watch })
    }

    /// Locks all files until they are claimed, so that nothing is written while they are read.
    pub(crate) fn lock_files(&self) -> Result<(), RecoveryError> {
        for NamedFile { log, .. } in &self.files {
            log.file.lock()?;
        }
        match Manifest::read(&self.path)? {
            Some(now) if now != self.manifest => Err(RecoveryError::Locked { path: self.path.clone() }),
            Some(_) | None => Ok(()),
        }
    }

    /// Checks every row of every file, and gives the records to `replay`.
    fn check(&mut self, replay: &dyn Replay) -> Result<SlotHeads, RecoveryError> {
        let mut logs: Vec<_> = self.files.iter_mut().map(|file| &mut file.log).collect();
        check_rows(&self.manifest, &mut logs, replay)
    }

    /// Checks that no file was claimed last in another epoch than the manifest says.
    fn check_claims(&self) -> Result<(), RecoveryError> {
        for NamedFile { log, .. } in &self.files {
            log.check_claim(&self.path, &self.manifest)?;
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
            if !self.files.iter().any(|file| &file.log.name == name) {
                self.files.push(create_file(&self.path, name, self.manifest.cluster)?);
            }
        }
        sync_directory(&self.path)?;
        if self.last_epoch() < epoch {
            self.manifest.epochs.add(names.clone());
            self.manifest.write(&self.path)?;
        }
        assert_eq!(self.last_epoch(), epoch, "epochs are started one after the other");
        let text = self.manifest.text();
        for file in &self.files {
            file.log.file.make_durable(epoch, &text)?;
            file.write_mark()?;
        }
        self.manifest.claimed = epoch;
        self.manifest.write(&self.path)?;
        for file in self.files.iter().filter(|file| !names.contains(&file.log.name)) {
            close_unused(&file.log.file, epoch)?;
        }
        Ok(())
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

/// Closes a log that no shard writes in this epoch.
fn close_unused(log: &LogFile, epoch: Epoch) -> Result<(), RecoveryError> {
    let begin = || log.connection().execute_batch("BEGIN IMMEDIATE");
    match last_start::close(log, epoch, || begin().map_err(|error| log.commit_failed(error))) {
        Ok(()) | Err(AppendError::RolledBack { .. }) => Ok(()),
        Err(AppendError::Fenced(error) | AppendError::Unknown(error)) => Err(error.into()),
    }
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
