//! Reads log files, checks every row, and folds the records into shards.
//!
//! Epoch by epoch, the files of an epoch in parallel; each record goes to the
//! shard that owns its slot today, so the shard count may change between starts.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use shards::ids::Timestamp;
use shards::record::Record;
use shards::replay::{RangeCheck, Row, check_ranges, left_over};
use shards::shard::SlotHeads;
use shards::slots::shard_of_slot;
use shards::state::ShardState;

use crate::directory::NamedFile;
use crate::error::{RecoveryError, in_file};
use crate::manifest::Manifest;
use crate::recovery::Progress;

pub(crate) struct Replayed {
    pub(crate) states: Vec<ShardState>,
    pub(crate) heads: SlotHeads,
}

/// Records on their way from a file to a shard: one channel message for many.
type Chunk = Vec<(Timestamp, Record)>;

/// Keeps a chunk in a core's cache, and the channel's cost out of sight.
const CHUNK_RECORDS: usize = 512;
/// Lets a reader run ahead while a shard applies, within some MiB.
const CHUNKS_IN_FLIGHT: usize = 16;

pub(crate) fn replay(
    manifest: &Manifest,
    files: &mut [NamedFile],
    shard_count: usize,
    progress: &Progress,
) -> Result<Replayed, RecoveryError> {
    thread::scope(|scope| {
        let (senders, appliers): (Vec<_>, Vec<_>) = (0..shard_count)
            .map(|_| {
                let (sender, receiver) = sync_channel(CHUNKS_IN_FLIGHT);
                (sender, scope.spawn(move || apply_all(receiver)))
            })
            .unzip();
        let heads = read_ranges(manifest, files, &senders, progress);
        drop(senders);
        let states = appliers.into_iter().map(join_thread).collect();
        Ok(Replayed { states, heads: heads? })
    })
}

/// A panic of a helper thread is a bug, and goes on in the one that waits for it.
fn join_thread<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn apply_all(chunks: Receiver<Chunk>) -> ShardState {
    let mut state = ShardState::default();
    for chunk in chunks {
        for (at, record) in &chunk {
            state.apply(*at, record);
        }
    }
    state
}

/// Range by range of epochs, the files of each in parallel.
fn read_ranges(
    manifest: &Manifest,
    files: &mut [NamedFile],
    senders: &[SyncSender<Chunk>],
    progress: &Progress,
) -> Result<SlotHeads, RecoveryError> {
    let heads = check_ranges(
        manifest.cluster,
        &manifest.epochs,
        files,
        |file| &file.name,
        |readings| {
            thread::scope(|scope| {
                let reading = |(file, check)| scope.spawn(|| read_file(file, check, senders, progress));
                let threads: Vec<_> = readings.into_iter().map(reading).collect();
                // All are waited for, whatever the first says.
                let checks: Vec<_> = threads.into_iter().map(join_thread).collect();
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

/// Checks the file's rows of one range, and sends their records to the shards.
fn read_file<'a>(
    file: &mut NamedFile,
    mut check: RangeCheck<'a>,
    senders: &[SyncSender<Chunk>],
    progress: &Progress,
) -> Result<RangeCheck<'a>, RecoveryError> {
    // One being filled for each shard.
    let mut chunks: Vec<Chunk> = senders.iter().map(|_| Chunk::with_capacity(CHUNK_RECORDS)).collect();
    let NamedFile { log, extent, .. } = file;
    log.rows_after(extent.end.row, |row| -> Result<bool, RecoveryError> {
        let Some(record) = check.take(extent, row).map_err(in_file(log.path()))? else { return Ok(false) };
        let shard = shard_of_slot(row.slot, chunks.len());
        chunks[shard].push((row.at, record));
        if chunks[shard].len() == CHUNK_RECORDS {
            send(&mut chunks[shard], &senders[shard], progress);
        }
        Ok(true)
    })?;
    for (chunk, sender) in chunks.iter_mut().zip(senders) {
        send(chunk, sender, progress);
    }
    Ok(check)
}

fn send(chunk: &mut Chunk, sender: &SyncSender<Chunk>, progress: &Progress) {
    if chunk.is_empty() {
        return;
    }
    progress.records_done.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    let full = std::mem::replace(chunk, Chunk::with_capacity(CHUNK_RECORDS));
    // An applier ends early only by a panic, which goes on where it is joined.
    let _ = sender.send(full);
}
