//! Applies the records of claimed slots to the states of shards, with one thread for each shard.
//!
//! Each record goes to the shard that owns its slot in this start, so the shard count may change between
//! starts.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use shards::ids::{Lsn, Slot, Timestamp};
use shards::log::Replay;
use shards::record::Record;
use shards::slots::{Owners, SlotSet, shard_of_slot};
use shards::state::ShardState;

use crate::error::RecoveryError;
use crate::recovery::Progress;

/// Records that are sent to a shard in one channel message.
type Chunk = Vec<(Slot, Lsn, Timestamp, Record)>;

/// The number of records of a chunk: large enough that the channel's cost does not matter, and small enough
/// that a chunk stays in a CPU's cache.
const CHUNK_RECORDS: usize = 512;
/// The most chunks that wait for a shard. This bounds the memory to some MiB.
const CHUNKS_IN_FLIGHT: usize = 16;

/// Calls `claim` with a [`Replay`], and returns the states that result from the records.
pub(crate) fn into_shards<T>(
    shard_count: usize,
    progress: &Progress,
    claim: impl FnOnce(&dyn Replay) -> Result<T, RecoveryError>,
) -> Result<(Vec<ShardState>, T), RecoveryError> {
    let owners = Owners::by_modulo(shard_count);
    thread::scope(|scope| {
        let (mut senders, mut appliers) = (Vec::new(), Vec::new());
        for shard in 0..shard_count {
            let (sender, receiver) = sync_channel(CHUNKS_IN_FLIGHT);
            let slots = owners.slots_of(shard);
            senders.push(sender);
            appliers.push(start_thread(scope, move || apply_all(slots, receiver))?);
        }
        let to_shards = ToShards { senders, progress };
        let claimed = claim(&to_shards);
        drop(to_shards);
        let states = appliers.into_iter().map(join_thread).collect();
        Ok((states, claimed?))
    })
}

/// Starts a thread. [`thread::Scope::spawn`] would panic if there is none left.
pub(crate) fn start_thread<'scope, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<thread::ScopedJoinHandle<'scope, T>, RecoveryError> {
    thread::Builder::new().spawn_scoped(scope, work).map_err(RecoveryError::Thread)
}

/// Joins a thread, and panics if it panicked.
pub(crate) fn join_thread<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn apply_all(slots: SlotSet, chunks: Receiver<Chunk>) -> ShardState {
    let mut state = ShardState::owning(slots);
    for chunk in chunks {
        for (slot, lsn, at, record) in &chunk {
            state.apply(*slot, *at, *lsn, record);
        }
    }
    state
}

struct ToShards<'a> {
    senders: Vec<SyncSender<Chunk>>,
    progress: &'a Progress,
}

impl Replay for ToShards<'_> {
    fn receiver(&self) -> Box<dyn FnMut(Slot, Lsn, Timestamp, Record) + '_> {
        let chunk =
            |sender| Filling { chunk: Chunk::with_capacity(CHUNK_RECORDS), sender, progress: self.progress };
        let mut filling: Vec<_> = self.senders.iter().map(chunk).collect();
        Box::new(move |slot, lsn, at, record| {
            let shard = shard_of_slot(slot, filling.len());
            filling[shard].push((slot, lsn, at, record));
        })
    }
}

/// A chunk that is being filled for a shard.
struct Filling<'a> {
    chunk: Chunk,
    sender: &'a SyncSender<Chunk>,
    progress: &'a Progress,
}

impl Filling<'_> {
    fn push(&mut self, record: (Slot, Lsn, Timestamp, Record)) {
        self.chunk.push(record);
        if self.chunk.len() == CHUNK_RECORDS {
            self.send();
        }
    }

    fn send(&mut self) {
        self.progress.records_done.fetch_add(self.chunk.len() as u64, Ordering::Relaxed);
        let full = std::mem::replace(&mut self.chunk, Chunk::with_capacity(CHUNK_RECORDS));
        // The receiving thread ends early only if it panics, and its join passes the panic on.
        let _ = self.sender.send(full);
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        if !self.chunk.is_empty() {
            self.send();
        }
    }
}
