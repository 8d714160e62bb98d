//! Opens a data directory: checks every record against its chain, folds them
//! into shards, and makes durable what it read before an answer may rest on it.
//!
//! Whatever does not fit is refused by name, and never replaced by an empty file.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use shards::ids::{Epoch, EventId, UserId};
use shards::shard::Shard;

use crate::directory::{
    DirectoryLock, NamedFile, create_file, find_debris, lock_directory, open_named_files, remove_debris,
    sync_directory,
};
use crate::error::RecoveryError;
use crate::log::SqliteLog;
use crate::manifest::Manifest;
use crate::replay::replay;

/// Everything that a server needs to go on where the last one ended.
#[derive(Debug)]
pub struct Recovered {
    pub shards: Vec<(Shard, SqliteLog)>,
    /// Names this data directory among all others.
    pub cluster: u64,
    pub epoch: Epoch,
    pub record_count: u64,
    /// The highest ids in use, 0 for none.
    pub highest_event: EventId,
    pub highest_user: UserId,
    /// The directory is this process's alone for as long as this lives.
    pub lock: DirectoryLock,
}

/// How far recovery has come, for whoever watches from another thread.
#[derive(Debug, Default)]
pub struct Progress {
    pub records_total: AtomicU64,
    pub records_done: AtomicU64,
}

/// Opens `directory`, making it if need be, as a new epoch of `shard_count` shards.
///
/// # Errors
///
/// When another process has it, when it cannot be written, or when anything in
/// it is not as it was left: see [`RecoveryError`].
pub fn open(directory: &Path, shard_count: usize, progress: &Progress) -> Result<Recovered, RecoveryError> {
    assert!((1..=shards::limits::SHARD_COUNT_MAX).contains(&shard_count), "shard count {shard_count}");
    let lock = lock_directory(directory)?;
    let manifest = match Manifest::read(directory)? {
        Some(manifest) => manifest,
        None => Manifest::new(random_cluster()),
    };
    let debris = find_debris(directory, &manifest.epochs.file_names())?;
    let mut files = open_named_files(directory, &manifest, progress)?;
    let replayed = replay(&manifest, &mut files, shard_count, progress)?;

    // Nothing is refused from here on: before, nothing may be changed.
    remove_debris(directory, &debris)?;

    let file_names: Vec<String> = (0..shard_count).map(file_name).collect();
    for name in &file_names {
        if !files.iter().any(|file| &file.name == name) {
            files.push(create_file(directory, name, manifest.cluster)?);
        }
    }
    sync_directory(directory)?;
    let manifest = manifest.with_next_epoch(file_names.clone());
    manifest.write(directory)?;
    let epoch = manifest.epochs.last();
    for file in &files {
        file.log.make_durable(epoch)?;
        file.write_mark()?;
    }

    let highest_event = replayed.states.iter().map(|state| state.highest_ids().0).max();
    let highest_user = replayed.states.iter().map(|state| state.highest_ids().1).max();
    let mut shards = Vec::with_capacity(shard_count);
    for (state, name) in replayed.states.into_iter().zip(&file_names) {
        let index = files.iter().position(|file| &file.name == name).expect("opened or made above");
        let NamedFile { log, mark_file, extent, .. } = files.swap_remove(index);
        let log = SqliteLog::new(log, mark_file, extent.end);
        shards.push((Shard::new(state, replayed.heads.clone(), epoch), log));
    }
    Ok(Recovered {
        shards,
        cluster: manifest.cluster,
        epoch,
        record_count: progress.records_done.load(Ordering::Relaxed),
        highest_event: highest_event.unwrap_or(EventId(0)),
        highest_user: highest_user.unwrap_or(UserId(0)),
        lock,
    })
}

/// The shard count of the last start in `directory`; `None` before the first.
///
/// # Errors
///
/// When the manifest is there but cannot be read.
pub fn last_shard_count(directory: &Path) -> Result<Option<usize>, RecoveryError> {
    Ok(Manifest::read(directory)?.and_then(|manifest| manifest.epochs.last_shard_count()))
}

fn file_name(shard_index: usize) -> String {
    format!("shard-{shard_index:02}.sqlite")
}

fn random_cluster() -> u64 {
    getrandom::u64().expect("the kernel has random bytes")
}
