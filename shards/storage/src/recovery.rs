//! Opens a data directory: checks every record against the chain of its slot, applies the records to the
//! shards' states, and makes what it read durable before any answer may depend on it.
//!
//! If a file does not fit, the error names it, and it is never replaced by an empty one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shards::ids::{Epoch, EventId, UserId};
use shards::limits::SHARD_COUNT_MAX;
use shards::log::{Claim, LogError, LogStore};
use shards::shard::SlotHeads;
use shards::slots::SlotSet;
use shards::state::ShardState;

use crate::directory::{DirectoryLock, lock_directory};
use crate::error::RecoveryError;
use crate::file::Access;
use crate::log::SqliteLog;
use crate::manifest::Manifest;
use crate::reader::Records;
use crate::replay::into_shards;
use crate::store::{Directory, Logs};
use crate::waiting::{WaitingLog, WaitingStart};
use crate::watch::Watch;

/// Everything that a server needs to continue from the last start.
#[derive(Debug)]
pub struct Recovered<L = SqliteLog> {
    /// The state of each shard, with its log.
    pub shards: Vec<(ShardState, L)>,
    /// The head of each slot.
    pub heads: SlotHeads,
    /// Makes readers of all committed records, also those of earlier epochs.
    pub records: Records,
    /// The random id of this data directory.
    pub cluster: u64,
    pub epoch: Epoch,
    pub record_count: u64,
    /// The highest id of an event, 0 for none. `highest_user` is that of a user.
    pub highest_event: EventId,
    pub highest_user: UserId,
    /// The files in use. A server checks them once a second.
    pub files: FilesInUse,
    /// Keeps other processes out of the directory until it is dropped.
    pub lock: DirectoryLock,
}

/// The files of a data directory that a process uses.
#[derive(Debug, Clone)]
pub enum FilesInUse {
    Claimed(Arc<Watch>),
    Waiting(Arc<WaitingStart>),
}

impl FilesInUse {
    /// Checks that all files are still those that were opened.
    ///
    /// # Errors
    ///
    /// As those of [`Watch::check`].
    pub fn check(&self) -> Result<(), LogError> {
        match self {
            FilesInUse::Claimed(watch) => watch.check(),
            FilesInUse::Waiting(start) => start.check(),
        }
    }

    /// Adds a file of this content to what is saved if files are removed.
    pub fn keep(&self, name: &'static str, content: Vec<u8>) {
        match self {
            FilesInUse::Claimed(watch) => watch.keep(name, content),
            FilesInUse::Waiting(start) => start.keep(name, content),
        }
    }
}

/// How far recovery has come. It can be read from another thread.
#[derive(Debug, Default)]
pub struct Progress {
    pub records_total: AtomicU64,
    pub records_done: AtomicU64,
}

impl Progress {
    /// For another attempt.
    pub fn begin_again(&self) {
        self.records_total.store(0, Ordering::Relaxed);
        self.records_done.store(0, Ordering::Relaxed);
    }
}

/// Opens `directory` as a new epoch of `shard_count` shards; makes the directory if there is none.
///
/// # Errors
///
/// If another process has it, if it cannot be written, or if anything in it is not as it was left: see
/// [`RecoveryError`].
pub fn open(directory: &Path, shard_count: usize, progress: &Progress) -> Result<Recovered, RecoveryError> {
    assert!((1..=SHARD_COUNT_MAX).contains(&shard_count), "shard count {shard_count}");
    let lock = lock_directory(directory)?;
    let mut opened = Directory::open(directory, shard_count, Access::Write, progress)?;
    let (states, claim) = into_shards(shard_count, progress, |replay| opened.claim(&SlotSet::all(), replay))?;
    let cluster = opened.cluster();
    let Logs { logs, records, watch } = opened.into_logs()?;
    let files = FilesInUse::Claimed(watch);
    Ok(Opened { logs, records, cluster, files, lock }.with(states, claim, progress))
}

/// Opens a directory that has no room for a start, and writes nothing. The logs take no entries until a probe finds
/// room. It starts the epoch then.
///
/// # Errors
///
/// As those of [`open`]; also if there was no start before.
pub fn open_without_room(
    directory: &Path,
    shard_count: usize,
    progress: &Progress,
) -> Result<Recovered<WaitingLog>, RecoveryError> {
    let lock = lock_directory(directory)?;
    let mut opened = Directory::open(directory, shard_count, Access::ReadOnly, progress)?;
    let (states, claim) = into_shards(shard_count, progress, |replay| opened.read(replay))?;
    let (cluster, records) = (opened.cluster(), opened.records());
    let start = Arc::new(WaitingStart::new(directory, opened, shard_count, claim.epoch)?);
    let logs = (0..shard_count).map(|index| WaitingLog::new(&start, index)).collect();
    let files = FilesInUse::Waiting(start);
    Ok(Opened { logs, records, cluster, files, lock }.with(states, claim, progress))
}

/// An opened directory without the states of its shards.
struct Opened<L> {
    logs: Vec<L>,
    records: Records,
    cluster: u64,
    files: FilesInUse,
    lock: DirectoryLock,
}

impl<L> Opened<L> {
    fn with(self, states: Vec<ShardState>, claim: Claim, progress: &Progress) -> Recovered<L> {
        let Opened { logs, records, cluster, files, lock } = self;
        let highest_event = states.iter().map(|state| state.highest_ids().0).max();
        let highest_user = states.iter().map(|state| state.highest_ids().1).max();
        Recovered {
            shards: states.into_iter().zip(logs).collect(),
            heads: claim.heads,
            records,
            cluster,
            epoch: claim.epoch,
            record_count: progress.records_done.load(Ordering::Relaxed),
            highest_event: highest_event.unwrap_or(EventId(0)),
            highest_user: highest_user.unwrap_or(UserId(0)),
            files,
            lock,
        }
    }
}

/// The shard count of the last start in `directory`; `None` before the first.
///
/// # Errors
///
/// When the manifest is there but cannot be read.
pub fn last_shard_count(directory: &Path) -> Result<Option<usize>, RecoveryError> {
    Ok(Manifest::read(directory)?.and_then(|manifest| manifest.epochs.last_shard_count()))
}
