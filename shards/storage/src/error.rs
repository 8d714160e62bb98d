//! Why a data directory was refused: which file, and what is wrong with it.

use std::io;
use std::path::{Path, PathBuf};

use shards::ids::Epoch;
use shards::log::LogError;
use shards::replay::ReplayError;

use crate::failure::{Failure, is_locked, is_no_room};
use crate::journal::journal_of;
use crate::schema::FORMAT;

#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error("{action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("start a thread: {0}")]
    Thread(io::Error),
    #[error("data directory {} is in use by another boxoffice process", path.display())]
    Locked { path: PathBuf },
    #[error("other users can write data directory {}, and so replace its files (mode {mode:04o})", path.display())]
    WritableByOthers { path: PathBuf, mode: u32 },
    #[error("{}: not a manifest that this version can read: {reason}", path.display())]
    Manifest { path: PathBuf, reason: String },
    #[error(
        "{}: format {format} of a boxoffice before the first release, which no later version reads", path.display()
    )]
    OldFormat { path: PathBuf, format: i64 },
    #[error(
        "{}: format {format}, written by a newer boxoffice: start that one; restore or move nothing", path.display()
    )]
    NewFormat { path: PathBuf, format: i64 },
    #[error("{}: named by the manifest, but missing", path.display())]
    Missing { path: PathBuf },
    #[error("{}: has records, but the manifest does not name it", path.display())]
    Unnamed { path: PathBuf },
    #[error("{}: not a log file", path.display())]
    NotALog { path: PathBuf },
    #[error("{}: belongs to another data directory", path.display())]
    Foreign { path: PathBuf },
    #[error("{}: is the file {found}, swapped or renamed", path.display())]
    Swapped { path: PathBuf, found: String },
    #[error(
        "{}: an older copy, in use last in epoch {}, while the directory was in use in epoch {}: restore the newest \
         copy, or an older one of the whole directory", path.display(), epoch.0, claimed.0
    )]
    OlderCopy { path: PathBuf, epoch: Epoch, claimed: Epoch },
    #[error("{}: another process has written it since this one read it", path.display())]
    WrittenMeanwhile { path: PathBuf },
    #[error("{}: {source}{}", path.display(), advice(path, source))]
    Replay { path: PathBuf, source: ReplayError },
    #[error("{}: {reason}", path.display())]
    Mark { path: PathBuf, reason: String },
    #[error("{}: its header is damaged, and what was committed cannot be read. Restore the file", path.display())]
    JournalHeader { path: PathBuf },
    #[error(
        "{}: frame {frame} is damaged, and there are committed ones behind it: records after row {rows} of its log \
         are missing. Restore the file", path.display()
    )]
    JournalFrame { path: PathBuf, frame: u64, rows: u64 },
    #[error(transparent)]
    Log(#[from] LogError),
}

impl RecoveryError {
    /// The error of a file in another format than this version writes.
    pub(crate) fn of_format(path: PathBuf, format: i64) -> RecoveryError {
        match format < FORMAT.into() {
            true => RecoveryError::OldFormat { path, format },
            false => RecoveryError::NewFormat { path, format },
        }
    }

    /// Whether a newer version wrote the directory. Then only that version can open it.
    pub fn is_newer(&self) -> bool {
        if let RecoveryError::Replay { source: ReplayError::Decode { source, .. }, .. } = self {
            return source.is_newer();
        }
        matches!(self, RecoveryError::NewFormat { .. })
    }

    /// Whether there is no room: no space, no inode, no quota, or a limit of the length of files.
    pub fn is_no_room(&self) -> bool {
        match self {
            // After a sync that found no room, it is not known what is on disk.
            RecoveryError::Io { action, source, .. } => *action != "sync" && is_no_room(source),
            RecoveryError::Log(LogError { source, .. }) => match source.downcast_ref() {
                Some(failure) if failure.is_of_sync() => false,
                Some(Failure { error, system }) => {
                    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
                        || system.as_ref().is_some_and(is_no_room)
                }
                None => source.downcast_ref().is_some_and(is_no_room),
            },
            _ => false,
        }
    }

    /// Whether another program has a lock on a log file.
    pub(crate) fn is_of_lock(&self) -> bool {
        let RecoveryError::Log(LogError { source, .. }) = self else { return false };
        source.downcast_ref().is_some_and(|Failure { error, .. }| is_locked(error))
    }

    /// Whether SQLite or the disk failed without any known damage to the data, so that a later start may
    /// succeed.
    pub fn is_transient(&self) -> bool {
        use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        let RecoveryError::Log(LogError { source, .. }) = self else { return false };
        let Some(Failure { error, system: None }) = source.downcast_ref() else { return true };
        let is_damage = matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
            || matches!(
                error,
                FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..)
            );
        !is_damage
    }

    /// The operating system's error, and the file that it was about.
    pub fn system_error(&self) -> Option<(&Path, &io::Error)> {
        if let RecoveryError::Io { path, source, .. } = self {
            return Some((path, source));
        }
        let RecoveryError::Log(LogError { place, source, .. }) = self else { return None };
        let failure: Option<&Failure> = source.downcast_ref();
        let error = failure.and_then(|failure| failure.system.as_ref()).or_else(|| source.downcast_ref());
        error.map(|error| (Path::new(place), error))
    }

    /// The data directory, if [`crate::Repair`] may help: what is lost is not a log.
    pub fn may_be_repaired(&self) -> Option<&Path> {
        let (RecoveryError::Missing { path }
        | RecoveryError::Mark { path, .. }
        | RecoveryError::Manifest { path, .. }
        | RecoveryError::JournalHeader { path }
        | RecoveryError::Unnamed { path }) = self
        else {
            return None;
        };
        let is_log = path.extension().is_some_and(|extension| extension == "sqlite");
        let is_lost = matches!(self, RecoveryError::Missing { .. }) && is_log;
        path.parent().filter(|_| !is_lost)
    }
}

fn advice(path: &Path, error: &ReplayError) -> String {
    match error {
        ReplayError::Lost { .. } => format!(
            ". Its journal, {}, was removed or damaged, or the file is an older copy; restore the whole directory",
            journal_of(path).display()
        ),
        ReplayError::WrongFile { .. }
        | ReplayError::UnknownEpoch { .. }
        | ReplayError::OldEpoch { .. }
        | ReplayError::Gap { .. }
        | ReplayError::Checksum { .. }
        | ReplayError::Time { .. }
        | ReplayError::Position { .. }
        | ReplayError::Rewritten { .. }
        | ReplayError::Decode { .. } => String::new(),
    }
}

pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecoveryError + use<> {
    let path = path.to_owned();
    move |source| RecoveryError::Io { action, path, source }
}

/// Adds the path of the file in which a row was refused.
pub(crate) fn in_file(path: &Path) -> impl Fn(ReplayError) -> RecoveryError + use<'_> {
    move |source| RecoveryError::Replay { path: path.to_owned(), source }
}
