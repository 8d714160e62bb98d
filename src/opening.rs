//! Opens the shards with their logs: from a data directory, or empty and in memory.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use shards::ids::{Epoch, EventId, UserId};
use shards::limits::SLOT_COUNT;
use shards::log::RollbackCause;
use shards::log::{Log, MemoryLog};
use shards::record::SlotHead;
use shards::shard::Shard;
use shards::slots::Owners;
use shards::state::ShardState;
use storage::{DirectoryLock, FilesInUse, Progress, Records, Recovered, RecoveryError};

use crate::config::Storage;
use crate::mesh::Asker;
use crate::random;

/// The duration of a recovery after which a progress bar is shown.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

/// A shard and the log that makes its records durable.
pub(crate) type ShardWithLog = (Shard<Asker>, Box<dyn Log>);

/// The opened shards, not yet moved to their cores.
pub(crate) struct Opened {
    pub shards: Vec<ShardWithLog>,
    pub cluster: u64,
    pub highest_event: EventId,
    pub highest_user: UserId,
    pub recovered: Option<RecoveredSummary>,
    /// The records of the data directory; `None` in memory, where the shards keep all.
    pub records: Option<Records>,
    /// The files of the data directory.
    pub files: Option<FilesInUse>,
    /// The lock on the data directory, held until the process ends.
    #[expect(dead_code, reason = "dropping it releases the lock")]
    pub lock: Option<DirectoryLock>,
}

pub(crate) struct RecoveredSummary {
    pub record_count: u64,
    pub epoch: Epoch,
    pub took: Duration,
}

/// Opens the shards.
///
/// # Errors
///
/// When recovery refuses the data directory.
pub(crate) fn open(
    storage: Storage,
    directory: &Path,
    shard_count: usize,
    progress: &Progress,
) -> Result<Opened, RecoveryError> {
    match storage {
        Storage::Sqlite => open_directory(directory, shard_count, progress),
        Storage::Memory => Ok(open_memory(shard_count)),
    }
}

fn open_directory(
    directory: &Path,
    shard_count: usize,
    progress: &Progress,
) -> Result<Opened, RecoveryError> {
    let start = Instant::now();
    let recovered = recover(progress, || storage::open(directory, shard_count, progress));
    let error = match recovered {
        Ok(recovered) => return Ok(opened(recovered, start, |shard| shard)),
        Err(error) => error,
    };
    // Before the first start, there is nothing to read.
    if !error.is_no_room() || !matches!(storage::last_shard_count(directory), Ok(Some(_))) {
        return Err(error);
    }
    progress.begin_again();
    let recovered = recover(progress, || storage::open_without_room(directory, shard_count, progress))?;
    tracing::error!(%error, "no room for a start: reading works, changes are refused until there is room");
    Ok(opened(recovered, start, |shard| shard.refusing(RollbackCause::NoRoom)))
}

/// Recovers on a thread of its own, while this one shows the progress.
fn recover<L: Send>(
    progress: &Progress,
    open: impl FnOnce() -> Result<Recovered<L>, RecoveryError> + Send,
) -> Result<Recovered<L>, RecoveryError> {
    thread::scope(|scope| {
        let recovery = thread::Builder::new().spawn_scoped(scope, open).map_err(RecoveryError::Thread)?;
        if std::io::stderr().is_terminal() {
            show_progress(progress, || recovery.is_finished());
        }
        recovery.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn opened<L: Log + 'static>(
    recovered: Recovered<L>,
    start: Instant,
    prepare: impl Fn(Shard<Asker>) -> Shard<Asker>,
) -> Opened {
    let shards = recovered.shards.into_iter().map(|(state, log)| {
        let log: Box<dyn Log> = Box::new(log);
        (prepare(Shard::new(state, &recovered.heads, recovered.epoch)), log)
    });
    Opened {
        shards: shards.collect(),
        cluster: recovered.cluster,
        highest_event: recovered.highest_event,
        highest_user: recovered.highest_user,
        recovered: Some(RecoveredSummary {
            record_count: recovered.record_count,
            epoch: recovered.epoch,
            took: start.elapsed(),
        }),
        records: Some(recovered.records),
        files: Some(recovered.files),
        lock: Some(recovered.lock),
    }
}

fn show_progress(progress: &Progress, is_finished: impl Fn() -> bool) {
    let start = Instant::now();
    let mut bar: Option<ProgressBar> = None;
    while !is_finished() {
        thread::sleep(Duration::from_millis(20));
        if start.elapsed() >= PROGRESS_AFTER {
            let bar = bar.get_or_insert_with(|| {
                let style = ProgressStyle::with_template(
                    "recovering {bar:40} {human_pos}/{human_len} records, {eta} left",
                );
                ProgressBar::new(0).with_style(style.expect("the template is valid"))
            });
            bar.set_length(progress.records_total.load(Ordering::Relaxed));
            bar.set_position(progress.records_done.load(Ordering::Relaxed));
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

fn open_memory(shard_count: usize) -> Opened {
    let cluster = random::u64();
    let heads = Box::new([SlotHead::empty(cluster); SLOT_COUNT]);
    let owners = Owners::by_modulo(shard_count);
    let shard = |index| {
        let log: Box<dyn Log> = Box::new(MemoryLog);
        let shard = Shard::new(ShardState::owning(owners.slots_of(index)), &heads, Epoch(1));
        // There is no log to read older records from.
        (shard.with_recent_bytes_max(usize::MAX), log)
    };
    Opened {
        shards: (0..shard_count).map(shard).collect(),
        cluster,
        highest_event: EventId(0),
        highest_user: UserId(0),
        recovered: None,
        records: None,
        files: None,
        lock: None,
    }
}
