//! Opens a data directory: checks every record against its chain, folds them
//! into shards, and makes durable what it read before anyone may rest on it.
//!
//! Epoch by epoch, the files of an epoch in parallel; each record goes to the
//! shard that owns its slot today, so the shard count may change between starts.
//! Whatever does not fit is refused by name, and never replaced by an empty file.

pub(crate) mod judge;
pub(crate) mod manifest;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::ids::{Epoch, EventId, Lsn, Slot, Timestamp, UserId};
use crate::log::{
    Damage, FileHeader, LogError, LogFile, Mark, MarkFile, SqliteLog, Synchronous, find_damage, journal_of,
};
use crate::record::{DecodeError, Record};
use crate::shard::SlotHeads;
use crate::slots::{SlotSet, shard_of_slot};
use crate::state::ShardState;
use judge::{Extent, Judge, judge_ranges, left_over};
use manifest::Manifest;

/// Everything that a server needs to go on where the last one ended.
#[derive(Debug)]
pub struct Recovered {
    /// The state of each shard, with its log.
    pub shards: Vec<(ShardState, SqliteLog)>,
    /// Where the records of each slot end.
    pub heads: SlotHeads,
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

/// Why a data directory was refused: which file, what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error("{action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("data directory {} is in use by another boxoffice process", path.display())]
    Locked { path: PathBuf },
    #[error("{}: not a manifest that this version can read: {reason}", path.display())]
    Manifest { path: PathBuf, reason: String },
    #[error("{}: named by the manifest, but missing", path.display())]
    Missing { path: PathBuf },
    #[error("{}: has records, but the manifest does not name it", path.display())]
    Unnamed { path: PathBuf },
    #[error("{}: not a log file of this version", path.display())]
    NotALog { path: PathBuf },
    #[error("{}: belongs to another data directory", path.display())]
    Foreign { path: PathBuf },
    #[error("{}: is the file {found}, swapped or renamed", path.display())]
    Swapped { path: PathBuf, found: String },
    #[error("{}: slot {slot} is not written to this file in epoch {}", path.display(), epoch.0)]
    WrongFile { path: PathBuf, slot: Slot, epoch: Epoch },
    #[error("{}: has records of epoch {}, which the manifest does not know", path.display(), epoch.0)]
    UnknownEpoch { path: PathBuf, epoch: Epoch },
    #[error("{}: slot {slot}, lsn {lsn} is of epoch {}, and comes after records of a later one", path.display(), epoch.0)]
    OldEpoch { path: PathBuf, slot: Slot, lsn: Lsn, epoch: Epoch },
    #[error("{}: slot {slot} goes on with lsn {found} where {expected} is due: records are missing", path.display())]
    Gap { path: PathBuf, slot: Slot, expected: Lsn, found: Lsn },
    #[error("{}: wrong checksum at slot {slot}, lsn {lsn}", path.display())]
    Checksum { path: PathBuf, slot: Slot, lsn: Lsn },
    #[error("{}: row {found} (slot {slot}, lsn {lsn}) where row {expected} is due: records are missing", path.display())]
    Position { path: PathBuf, expected: u64, found: u64, slot: Slot, lsn: Lsn },
    #[error(
        "{}: ends at row {found}, but row {} was committed (slot {}, lsn {}): records are missing. Its journal, {}, \
         was removed or damaged, or the file is an older copy; restore the whole directory",
        path.display(), mark.row, mark.slot, mark.lsn, journal_of(path).display()
    )]
    Lost { path: PathBuf, found: u64, mark: Mark },
    #[error(
        "{}: row {} is not the one that was committed (slot {}, lsn {}): the file is not the one that was written",
        path.display(), mark.row, mark.slot, mark.lsn
    )]
    Rewritten { path: PathBuf, mark: Mark },
    #[error("{}: {reason}", path.display())]
    Mark { path: PathBuf, reason: String },
    #[error("{}: its header is damaged, and what was committed cannot be read. Restore the file", path.display())]
    JournalHeader { path: PathBuf },
    #[error(
        "{}: frame {frame} is damaged, and there are committed ones behind it: records after row {rows} of its log \
         are missing. Restore the file", path.display()
    )]
    JournalFrame { path: PathBuf, frame: u64, rows: u64 },
    #[error("{}: slot {slot}, lsn {lsn}: {source}", path.display())]
    Decode { path: PathBuf, slot: Slot, lsn: Lsn, source: DecodeError },
    #[error(transparent)]
    Log(#[from] LogError),
}

/// An exclusive lock on a data directory; the kernel gives it back when the process ends.
#[derive(Debug)]
pub struct DirectoryLock(#[expect(dead_code, reason = "held for its lock")] File);

/// Opens `directory`, making it if need be, as a new epoch of `shard_count` shards.
///
/// # Errors
///
/// When another process has it, when it cannot be written, or when anything in
/// it is not as it was left: see [`RecoveryError`].
pub fn open(directory: &Path, shard_count: usize, progress: &Progress) -> Result<Recovered, RecoveryError> {
    assert!((1..=crate::limits::SHARD_COUNT_MAX).contains(&shard_count), "shard count {shard_count}");
    let lock = lock_directory(directory)?;
    let manifest = match Manifest::read(directory)? {
        Some(manifest) => manifest,
        None => Manifest::new(random_cluster()),
    };
    let debris = find_debris(directory, &manifest.file_names())?;
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
    let epoch = manifest.last_epoch();
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
        shards.push((state, log));
    }
    Ok(Recovered {
        shards,
        heads: replayed.heads,
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
    Ok(Manifest::read(directory)?.and_then(|manifest| manifest.last_shard_count()))
}

/// Makes the directory, for its owner's eyes only, and locks it.
///
/// # Errors
///
/// When it cannot be made or written, or another process has it.
fn lock_directory(directory: &Path) -> Result<DirectoryLock, RecoveryError> {
    use std::os::unix::fs::DirBuilderExt;
    let made: Vec<&Path> = directory
        .ancestors()
        .take_while(|level| !level.as_os_str().is_empty() && !level.exists())
        .chain([directory])
        .collect();
    let create = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    create.map_err(io_error("create data directory", directory))?;
    for level in made {
        sync_parent(level)?;
    }
    let path = directory.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(DirectoryLock(file)),
        Err(TryLockError::WouldBlock) => Err(RecoveryError::Locked { path: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io_error("lock", &path)(source)),
    }
}

struct NamedFile {
    name: String,
    log: LogFile,
    mark_file: MarkFile,
    extent: Extent,
}

impl NamedFile {
    /// Only after [`LogFile::make_durable`]: a mark is never ahead of its log.
    fn write_mark(&self) -> Result<(), RecoveryError> {
        let written = self.mark_file.write(&self.extent.end).and_then(|()| self.mark_file.sync());
        written.map_err(io_error("write", self.mark_file.path()))
    }
}

fn file_name(shard_index: usize) -> String {
    format!("shard-{shard_index:02}.sqlite")
}

fn random_cluster() -> u64 {
    getrandom::u64().expect("the kernel has random bytes")
}

/// Opens every file that the manifest names, and checks that each is what it is said to be.
fn open_named_files(
    directory: &Path,
    manifest: &Manifest,
    progress: &Progress,
) -> Result<Vec<NamedFile>, RecoveryError> {
    let mut files = Vec::new();
    for name in manifest.file_names() {
        let path = directory.join(&name);
        if !path.try_exists().map_err(io_error("look for", &path))? {
            return Err(RecoveryError::Missing { path });
        }
        let log = LogFile::open(&path, Synchronous::Full)?;
        let header = log.header()?.ok_or_else(|| RecoveryError::NotALog { path: path.clone() })?;
        if header.cluster != manifest.cluster {
            return Err(RecoveryError::Foreign { path });
        }
        if header.name != name {
            return Err(RecoveryError::Swapped { path, found: header.name });
        }
        let mark_path = MarkFile::path_for(&path);
        let opened = MarkFile::open(&path, manifest.cluster).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => {
                RecoveryError::Mark { path: mark_path.clone(), reason: error.to_string() }
            }
            _ => io_error("read", &mark_path)(error),
        });
        let (mark_file, committed) = opened?.ok_or(RecoveryError::Missing { path: mark_path })?;
        let (extent, row_count) = (Extent::of(committed), log.row_count()?);
        extent.check_row_count(&path, row_count)?;
        check_journal(&path, row_count)?;
        progress.records_total.fetch_add(row_count, Ordering::Relaxed);
        files.push(NamedFile { name, log, mark_file, extent });
    }
    Ok(files)
}

/// `rows` is what SQLite finds in the log with this journal.
fn check_journal(log: &Path, rows: u64) -> Result<(), RecoveryError> {
    let path = journal_of(log);
    match find_damage(log).map_err(io_error("read", &path))? {
        None => Ok(()),
        Some(Damage::Header) => Err(RecoveryError::JournalHeader { path }),
        Some(Damage::Frame(frame)) => Err(RecoveryError::JournalFrame { path, frame, rows }),
    }
}

/// Log files that no manifest names are what a crash before the manifest was
/// written leaves: debris, if they are empty. Refuses those that are not.
fn find_debris(directory: &Path, names: &[String]) -> Result<Vec<String>, RecoveryError> {
    let mut debris = Vec::new();
    for entry in fs::read_dir(directory).map_err(io_error("list", directory))? {
        let entry = entry.map_err(io_error("list", directory))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_log = name.starts_with("shard-") && name.ends_with(".sqlite");
        if is_log && !names.contains(&name) {
            debris.push(name);
        }
    }
    debris.sort();
    for name in &debris {
        let path = directory.join(name);
        let log = LogFile::open(&path, Synchronous::Full)?;
        match log.header()? {
            Some(_) if log.row_count()? > 0 => return Err(RecoveryError::Unnamed { path }),
            Some(header) => {
                // Half a mark is what a crash leaves; a whole one says what a damaged journal does not.
                let mark = MarkFile::open(&path, header.cluster);
                if matches!(mark, Ok(Some((_, mark))) if mark.row > 0) {
                    return Err(RecoveryError::Unnamed { path });
                }
            }
            None if !log.is_blank()? => return Err(RecoveryError::NotALog { path }),
            None => {}
        }
        check_journal(&path, 0)?;
    }
    Ok(debris)
}

/// So that the next files of these names start clean.
fn remove_debris(directory: &Path, names: &[String]) -> Result<(), RecoveryError> {
    for name in names {
        let log = directory.join(name);
        let shared_memory = directory.join(format!("{name}-shm"));
        for path in [MarkFile::path_for(&log), journal_of(&log), shared_memory, log] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", &path)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}

fn create_file(directory: &Path, name: &str, cluster: u64) -> Result<NamedFile, RecoveryError> {
    let header = FileHeader { cluster, name: name.to_owned() };
    let path = directory.join(name);
    let log = LogFile::create(&path, &header, Synchronous::Full)?;
    let mark_file =
        MarkFile::create(&path, cluster).map_err(io_error("write", &MarkFile::path_for(&path)))?;
    Ok(NamedFile { name: name.to_owned(), log, mark_file, extent: Extent::of(Mark::EMPTY) })
}

fn sync_directory(directory: &Path) -> Result<(), RecoveryError> {
    let sync = File::open(directory).and_then(|directory| directory.sync_all());
    sync.map_err(io_error("sync", directory))
}

/// Else a power cut soon after the first start could take the whole directory.
fn sync_parent(directory: &Path) -> Result<(), RecoveryError> {
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    match sync_directory(parent.unwrap_or(Path::new("."))) {
        // A directory made for us in one that we may not read was made durable by its maker.
        Err(RecoveryError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecoveryError {
    let path = path.to_owned();
    move |source| RecoveryError::Io { action, path, source }
}

struct Replayed {
    states: Vec<ShardState>,
    heads: SlotHeads,
}

/// Records on their way from a file to a shard: one channel message for many.
type Chunk = Vec<(Slot, Lsn, Timestamp, Record)>;

/// Keeps a chunk in a core's cache, and the channel's cost out of sight.
const CHUNK_RECORDS: usize = 512;
/// Lets a reader run ahead while a shard applies, within some MiB.
const CHUNKS_IN_FLIGHT: usize = 16;

fn replay(
    manifest: &Manifest,
    files: &mut [NamedFile],
    shard_count: usize,
    progress: &Progress,
) -> Result<Replayed, RecoveryError> {
    thread::scope(|scope| {
        let (senders, appliers): (Vec<_>, Vec<_>) = (0..shard_count)
            .map(|shard| {
                let (sender, receiver) = sync_channel(CHUNKS_IN_FLIGHT);
                let slots = slots_of_shard(shard, shard_count);
                (sender, scope.spawn(move || apply_all(slots, receiver)))
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

fn slots_of_shard(shard: usize, shard_count: usize) -> SlotSet {
    (0..=u8::MAX).map(Slot).filter(|&slot| shard_of_slot(slot, shard_count) == shard).collect()
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

/// Range by range of epochs, the files of each in parallel.
fn read_ranges(
    manifest: &Manifest,
    files: &mut [NamedFile],
    senders: &[SyncSender<Chunk>],
    progress: &Progress,
) -> Result<SlotHeads, RecoveryError> {
    let heads = judge_ranges(
        manifest,
        files,
        |file| &file.name,
        |readings| {
            thread::scope(|scope| {
                let reading = |(file, judge)| scope.spawn(|| read_file(file, judge, senders, progress));
                let threads: Vec<_> = readings.into_iter().map(reading).collect();
                // All are waited for, whatever the first says.
                let judges: Vec<_> = threads.into_iter().map(join_thread).collect();
                judges.into_iter().collect()
            })
        },
    )?;
    for file in files {
        let path = file.log.path();
        file.log.rows_after(file.extent.end.row, |row| Err(left_over(manifest, path, row)))?;
    }
    Ok(heads)
}

/// Gives the judge the file's rows of its range, and the shards what it takes.
fn read_file<'a>(
    file: &mut NamedFile,
    mut judge: Judge<'a>,
    senders: &[SyncSender<Chunk>],
    progress: &Progress,
) -> Result<Judge<'a>, RecoveryError> {
    // One being filled for each shard.
    let mut chunks: Vec<Chunk> = senders.iter().map(|_| Chunk::with_capacity(CHUNK_RECORDS)).collect();
    let NamedFile { log, extent, .. } = file;
    log.rows_after(extent.end.row, |row| -> Result<bool, RecoveryError> {
        let Some(record) = judge.take(log.path(), extent, row)? else { return Ok(false) };
        let shard = shard_of_slot(row.slot, chunks.len());
        chunks[shard].push((row.slot, row.lsn, row.at, record));
        if chunks[shard].len() == CHUNK_RECORDS {
            send(&mut chunks[shard], &senders[shard], progress);
        }
        Ok(true)
    })?;
    for (chunk, sender) in chunks.iter_mut().zip(senders) {
        send(chunk, sender, progress);
    }
    Ok(judge)
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
