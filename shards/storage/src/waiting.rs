//! A start that found no room: it has read the files and claimed none of them, and waits until it can.
//!
//! What was read is synced, so answers may depend on it. Nothing is written before the claim, so there is nothing
//! that the claim of another process could collide with. The claim opens the files anew, checks that they end as
//! they were read, and goes on as every start does. Each shard's log asks for it when it is probed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shards::ids::Epoch;
use shards::log::{AppendError, Appended, Log, LogError, RollbackCause, Upkeep};
use shards::record::Entry;
use shards::replay::Extent;

use crate::directory::sync_directory;
use crate::error::{RecoveryError, io_error};
use crate::file::{Access, log_error};
use crate::index::FileIndex;
use crate::journal::journal_of;
use crate::log::SqliteLog;
use crate::manifest::{self, Manifest};
use crate::mark::MarkFile;
use crate::named_file::{NamedFile, NamedLog};
use crate::recovery::Progress;
use crate::store::{Directory, Logs};
use crate::watch::{Watch, WatchedLog};

/// The time between two attempts to claim the files, whatever the number of logs that ask for it.
const CLAIM_EVERY: Duration = Duration::from_millis(500);

/// The files of a start that has not claimed them yet, shared by its logs.
#[derive(Debug)]
pub struct WaitingStart {
    directory: PathBuf,
    manifest: Manifest,
    shard_count: usize,
    /// The epoch that the claim starts.
    epoch: Epoch,
    read: Vec<ReadFile>,
    /// What the watch saves beside the logs and the manifest.
    kept: Mutex<Vec<(&'static str, Vec<u8>)>>,
    state: Mutex<State>,
}

/// How far a log file was read.
#[derive(Debug)]
struct ReadFile {
    name: String,
    path: PathBuf,
    extent: Extent,
    index: Arc<FileIndex>,
}

#[derive(Debug)]
enum State {
    Waits {
        /// Watches the files as they were read.
        watch: Arc<Watch>,
        next_claim: Instant,
        /// Why the last claim failed.
        cause: RollbackCause,
    },
    Claimed {
        watch: Arc<Watch>,
        /// The log of each shard, until the shard takes it.
        logs: Vec<Option<SqliteLog>>,
    },
}

impl WaitingStart {
    /// Closes the files, and makes what was read of them durable.
    ///
    /// # Errors
    ///
    /// When the disk refuses, or a file was removed meanwhile.
    pub(crate) fn new(
        path: &Path,
        directory: Directory,
        shard_count: usize,
        epoch: Epoch,
    ) -> Result<WaitingStart, RecoveryError> {
        let (manifest, files) = directory.into_read();
        let read = |NamedFile { log: NamedLog { name, file, extent }, .. }: NamedFile| ReadFile {
            name,
            path: file.path().to_owned(),
            extent,
            index: Arc::clone(file.index()),
        };
        let read: Vec<ReadFile> = files.into_iter().map(read).collect();
        sync(&path.join(manifest::FILE_NAME))?;
        for ReadFile { path, .. } in &read {
            sync(path)?;
            sync(&MarkFile::path_for(path))?;
            sync(&journal_of(path))?;
        }
        sync_directory(path)?;
        let watch = watch_read(path, &manifest, &read)?;
        let state = State::Waits { watch, next_claim: Instant::now(), cause: RollbackCause::NoRoom };
        let (directory, state) = (path.to_owned(), Mutex::new(state));
        Ok(WaitingStart { directory, manifest, shard_count, epoch, read, kept: Mutex::default(), state })
    }

    /// Adds a file of this content to what is saved if files are removed.
    pub(crate) fn keep(&self, name: &'static str, content: Vec<u8>) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Waits { watch, .. } | State::Claimed { watch, .. } => watch.keep(name, content.clone()),
        }
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push((name, content));
    }

    /// Has a watch that follows another one save the same files.
    fn keep_all(&self, watch: &Watch) {
        for (name, content) in &*self.kept.lock().unwrap_or_else(PoisonError::into_inner) {
            watch.keep(name, content.clone());
        }
    }

    /// Checks the files, as [`Watch::check`] does.
    ///
    /// # Errors
    ///
    /// As those of [`Watch::check`].
    pub(crate) fn check(&self) -> Result<(), LogError> {
        // Held, since an attempt to claim the files closes and opens them.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Waits { watch, .. } => watch.check(),
            State::Claimed { watch, .. } => {
                let watch = Arc::clone(watch);
                drop(state);
                watch.check()
            }
        }
    }

    /// Returns the log of a shard, once. Claims the files first, if no other shard did.
    fn claim(&self, shard_index: usize) -> Result<SqliteLog, AppendError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Waits { watch, next_claim, cause } = &mut *state {
            if Instant::now() < *next_claim {
                return Err(self.still_waits(*cause));
            }
            watch.check().map_err(AppendError::Unknown)?;
            match self.try_claim() {
                Ok(Logs { logs, watch, .. }) => {
                    self.keep_all(&watch);
                    *state = State::Claimed { watch, logs: logs.into_iter().map(Some).collect() };
                }
                Err(error) => {
                    let (now, error) = self.claim_failed(error)?;
                    *cause = now;
                    *watch = watch_read(&self.directory, &self.manifest, &self.read)
                        .map_err(|error| AppendError::Unknown(self.error(error)))?;
                    self.keep_all(watch);
                    *next_claim = Instant::now() + CLAIM_EVERY;
                    return Err(AppendError::RolledBack { cause: now, error });
                }
            }
        }
        match &mut *state {
            State::Claimed { logs, .. } => {
                Ok(logs[shard_index].take().expect("each shard takes its log once"))
            }
            State::Waits { .. } => unreachable!("claimed above"),
        }
    }

    fn try_claim(&self) -> Result<Logs, RecoveryError> {
        let progress = Progress::default();
        let mut directory = Directory::open(&self.directory, self.shard_count, Access::Write, &progress)?;
        if directory.cluster() != self.manifest.cluster {
            return Err(RecoveryError::Foreign { path: self.directory.clone() });
        }
        directory.lock_files()?;
        // The next one, or this one after an attempt that failed halfway.
        let last = directory.last_epoch();
        if last != self.epoch && last.0 + 1 != self.epoch.0 {
            return Err(RecoveryError::WrittenMeanwhile { path: self.directory.join(manifest::FILE_NAME) });
        }
        for NamedFile { log, .. } in directory.files_mut() {
            let read = self.read.iter().find(|read| read.name == log.name);
            log.resume(read.map(|read| (read.extent, &read.index)))?;
        }
        directory.start_epoch(self.epoch)?;
        directory.into_logs()
    }

    /// Why a claim failed, if it may succeed later.
    fn claim_failed(&self, error: RecoveryError) -> Result<(RollbackCause, LogError), AppendError> {
        let cause = match &error {
            error if error.is_no_room() => RollbackCause::NoRoom,
            error if error.is_of_lock() => RollbackCause::Locked,
            _ => return Err(AppendError::Unknown(self.error(error))),
        };
        Ok((cause, self.error(error)))
    }

    fn still_waits(&self, cause: RollbackCause) -> AppendError {
        let reason = match cause {
            RollbackCause::NoRoom => "there was no room a moment ago",
            RollbackCause::Locked => "another program had a lock a moment ago",
        };
        AppendError::RolledBack { cause, error: self.error(reason) }
    }

    fn error(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> LogError {
        log_error(&self.directory, "claim", source)
    }
}

/// Makes durable what other processes have written, if the file is there.
fn sync(path: &Path) -> Result<(), RecoveryError> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        file => file.and_then(|file| file.sync_all()).map_err(io_error("sync", path)),
    }
}

fn watch_read(directory: &Path, manifest: &Manifest, read: &[ReadFile]) -> Result<Arc<Watch>, RecoveryError> {
    let watched =
        |file: &ReadFile| WatchedLog::without_writer(&file.path).map_err(io_error("watch", &file.path));
    let watched: Result<Vec<_>, _> = read.iter().map(watched).collect();
    Ok(Arc::new(Watch::new(directory.to_owned(), manifest.text().into_bytes(), watched?)))
}

/// The log of a shard whose files may not be claimed yet. It takes no entries before a probe succeeded.
#[derive(Debug)]
pub struct WaitingLog {
    start: Arc<WaitingStart>,
    shard_index: usize,
    /// The log, once the files are claimed.
    log: Option<SqliteLog>,
}

impl WaitingLog {
    pub(crate) fn new(start: &Arc<WaitingStart>, shard_index: usize) -> WaitingLog {
        WaitingLog { start: Arc::clone(start), shard_index, log: None }
    }
}

impl Log for WaitingLog {
    fn append(&mut self, batch: &[Entry], lock_wait: Duration) -> Result<Appended, AppendError> {
        self.log.as_mut().expect("no entries before a probe").append(batch, lock_wait)
    }

    fn probe(&mut self) -> Result<(), AppendError> {
        match &mut self.log {
            Some(log) => log.probe(),
            None => {
                self.log = Some(self.start.claim(self.shard_index)?);
                Ok(())
            }
        }
    }

    fn maintenance_is_due(&self) -> bool {
        self.log.as_ref().is_some_and(Log::maintenance_is_due)
    }

    fn maintain(&mut self) -> Result<Upkeep, LogError> {
        self.log.as_mut().map_or_else(|| Ok(Upkeep::default()), Log::maintain)
    }

    fn close(self: Box<Self>) -> Result<(), LogError> {
        self.log.map_or(Ok(()), |log| Box::new(log).close())
    }
}
