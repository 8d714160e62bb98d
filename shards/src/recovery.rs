//! Opens a data directory: checks every record against its chain, folds them
//! into shards, and makes durable what it read before anyone may rest on it.
//!
//! Epoch by epoch, the files of an epoch in parallel; each record goes to the
//! shard that owns its slot today, so the shard count may change between starts.
//! Whatever does not fit is refused by name, and never replaced by an empty file.

mod manifest;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::ids::{Epoch, EventId, Lsn, Slot, Timestamp, UserId};
use crate::limits::SLOT_COUNT;
use crate::log::{
    Damage, FileHeader, LogError, LogFile, Mark, MarkFile, Row, SqliteLog, Synchronous, find_damage,
    journal_of,
};
use crate::record::{DecodeError, Record, SlotHead};
use crate::shard::{Shard, SlotHeads};
use crate::slots::shard_of_slot;
use crate::state::ShardState;
use manifest::{EpochRange, Manifest};

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
    #[error("{}: slot {slot} goes on with lsn {found} where {expected} is due: records are missing", path.display())]
    Gap { path: PathBuf, slot: Slot, expected: Lsn, found: Lsn },
    #[error("{}: wrong checksum at slot {slot}, lsn {lsn}", path.display())]
    Checksum { path: PathBuf, slot: Slot, lsn: Lsn },
    #[error("{}: row {found} (slot {slot}, lsn {lsn}) where row {expected} is due: records are missing", path.display())]
    Position { path: PathBuf, expected: u64, found: u64, slot: Slot, lsn: Lsn },
    #[error(
        "{}: ends at row {found}, but row {} was committed (slot {}, lsn {}): records are missing. Its journal, {}, \
         was removed or damaged, or the file is an older copy; restore both, or the whole directory",
        path.display(), mark.row, mark.slot, mark.lsn, journal_of(path).display()
    )]
    Lost { path: PathBuf, found: u64, mark: Mark },
    #[error(
        "{}: row {} is not the one that was committed (slot {}, lsn {}): the file is not the one that was written",
        path.display(), mark.row, mark.slot, mark.lsn
    )]
    Rewritten { path: PathBuf, mark: Mark },
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
    let mut files = open_named_files(directory, &manifest)?;
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
        let NamedFile { log, mark_file, end, .. } = files.swap_remove(index);
        let log = SqliteLog::new(log, mark_file, end);
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
    Ok(Manifest::read(directory)?.and_then(|manifest| manifest.last_shard_count()))
}

/// Makes the directory, for its owner's eyes only, and locks it.
///
/// # Errors
///
/// When it cannot be made or written, or another process has it.
fn lock_directory(directory: &Path) -> Result<DirectoryLock, RecoveryError> {
    use std::os::unix::fs::DirBuilderExt;
    let create = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    create.map_err(io_error("create data directory", directory))?;
    sync_parent(directory)?;
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
    /// The last row that was committed, as far as is known: it has to be there.
    committed: Mark,
    /// The last row that was replayed.
    end: Mark,
}

impl NamedFile {
    /// Only after [`LogFile::make_durable`]: a mark is never ahead of its log.
    fn write_mark(&self) -> Result<(), RecoveryError> {
        let written = self.mark_file.write(&self.end).and_then(|()| self.mark_file.sync());
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
fn open_named_files(directory: &Path, manifest: &Manifest) -> Result<Vec<NamedFile>, RecoveryError> {
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
        let opened = MarkFile::open(&path, manifest.cluster).map_err(io_error("read", &mark_path))?;
        let (mark_file, committed) = opened.ok_or(RecoveryError::Missing { path: mark_path })?;
        let found = log.row_count()?;
        if found < committed.row {
            return Err(RecoveryError::Lost { path, found, mark: committed });
        }
        check_journal(&path, found)?;
        files.push(NamedFile { name, log, mark_file, committed, end: Mark::EMPTY });
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
            None if !log.is_blank()? => return Err(RecoveryError::NotALog { path }),
            Some(_) | None => {}
        }
    }
    Ok(debris)
}

/// So that the next files of these names start clean.
fn remove_debris(directory: &Path, names: &[String]) -> Result<(), RecoveryError> {
    for name in names {
        let log = directory.join(name);
        let beside = ["-wal", "-shm"].map(|suffix| directory.join(format!("{name}{suffix}")));
        for path in [MarkFile::path_for(&log), log].into_iter().chain(beside) {
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
    Ok(NamedFile { name: name.to_owned(), log, mark_file, committed: Mark::EMPTY, end: Mark::EMPTY })
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
type Chunk = Vec<(Timestamp, Record)>;

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
    for file in &*files {
        progress.records_total.fetch_add(file.log.row_count()?, Ordering::Relaxed);
    }
    let mut heads = Box::new([SlotHead::empty(manifest.cluster); SLOT_COUNT]);
    let states = thread::scope(|scope| {
        let (senders, appliers): (Vec<_>, Vec<_>) = (0..shard_count)
            .map(|_| {
                let (sender, receiver) = sync_channel(CHUNKS_IN_FLIGHT);
                (sender, scope.spawn(move || apply_all(receiver)))
            })
            .unzip();
        let result = read_ranges(manifest, files, &mut heads, &senders, progress);
        drop(senders);
        let states = appliers.into_iter().map(join_thread).collect();
        result.map(|()| states)
    })?;
    Ok(Replayed { states, heads })
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
    heads: &mut SlotHeads,
    senders: &[SyncSender<Chunk>],
    progress: &Progress,
) -> Result<(), RecoveryError> {
    for range in &manifest.epochs {
        let readings: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = files
                .iter_mut()
                .filter_map(|file| Some((range.files.iter().position(|name| *name == file.name)?, file)))
                .map(|(file_index, file)| {
                    let reader = Reader::new(range, file_index, file, heads.clone(), senders, progress);
                    scope.spawn(move || reader.run())
                })
                .collect();
            threads.into_iter().map(join_thread).collect()
        });
        for reading in readings {
            let (file_index, file_heads) = reading?;
            for slot in (0..SLOT_COUNT).filter(|&slot| range.file_of_slot(slot) == file_index) {
                heads[slot] = file_heads[slot];
            }
        }
    }
    for file in files {
        file.log.rows_after(file.end.row, |row| -> Result<bool, RecoveryError> {
            let path = file.log.path().to_owned();
            Err(match row.epoch > manifest.last_epoch() {
                true => RecoveryError::UnknownEpoch { path, epoch: row.epoch },
                false => RecoveryError::WrongFile { path, slot: row.slot, epoch: row.epoch },
            })
        })?;
    }
    Ok(())
}

/// Reads one file's rows of one range of epochs.
struct Reader<'a> {
    range: &'a EpochRange,
    file_index: usize,
    file: &'a mut NamedFile,
    heads: SlotHeads,
    senders: &'a [SyncSender<Chunk>],
    /// One being filled for each shard.
    chunks: Vec<Chunk>,
    progress: &'a Progress,
}

impl<'a> Reader<'a> {
    fn new(
        range: &'a EpochRange,
        file_index: usize,
        file: &'a mut NamedFile,
        heads: SlotHeads,
        senders: &'a [SyncSender<Chunk>],
        progress: &'a Progress,
    ) -> Reader<'a> {
        let chunks = senders.iter().map(|_| Chunk::new()).collect();
        Reader { range, file_index, file, heads, senders, chunks, progress }
    }

    /// Returns which file this was, and the heads as they are after it.
    fn run(self) -> Result<(usize, SlotHeads), RecoveryError> {
        let Reader { range, file_index, file, mut heads, senders, mut chunks, progress } = self;
        let path = file.log.path();
        let committed = file.committed;
        let mut end = file.end;
        file.log.rows_after(end.row, |row| -> Result<bool, RecoveryError> {
            if row.epoch > range.last {
                return Ok(false);
            }
            if row.epoch < range.first {
                return Err(RecoveryError::UnknownEpoch { path: path.to_owned(), epoch: row.epoch });
            }
            if range.file_of_slot(row.slot.index()) != file_index {
                let path = path.to_owned();
                return Err(RecoveryError::WrongFile { path, slot: row.slot, epoch: row.epoch });
            }
            if row.position != end.row + 1 {
                return Err(RecoveryError::Position {
                    path: path.to_owned(),
                    expected: end.row + 1,
                    found: row.position,
                    slot: row.slot,
                    lsn: row.lsn,
                });
            }
            let record = check_row(path, row, &mut heads[row.slot.index()])?;
            end = Mark { row: row.position, slot: row.slot, lsn: row.lsn, chain: row.chain };
            if end.row == committed.row && end != committed {
                return Err(RecoveryError::Rewritten { path: path.to_owned(), mark: committed });
            }
            let shard = shard_of_slot(row.slot, chunks.len());
            chunks[shard].push((row.at, record));
            if chunks[shard].len() == CHUNK_RECORDS {
                send(&mut chunks[shard], &senders[shard], progress);
            }
            Ok(true)
        })?;
        file.end = end;
        for (chunk, sender) in chunks.iter_mut().zip(senders) {
            send(chunk, sender, progress);
        }
        Ok((file_index, heads))
    }
}

fn send(chunk: &mut Chunk, sender: &SyncSender<Chunk>, progress: &Progress) {
    if chunk.is_empty() {
        return;
    }
    progress.records_done.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    let full = std::mem::take(chunk);
    // An applier ends early only by a panic, which goes on where it is joined.
    let _ = sender.send(full);
}

/// Takes a row in only if it is the one that its slot goes on with.
fn check_row(path: &Path, row: &Row<'_>, head: &mut SlotHead) -> Result<Record, RecoveryError> {
    let Row { position: _, slot, epoch, lsn, at, ref columns, chain } = *row;
    let path = || path.to_owned();
    let expected = head.lsn.next();
    if lsn != expected {
        return Err(RecoveryError::Gap { path: path(), slot, expected, found: lsn });
    }
    if head.chain_next(slot, epoch, lsn, at, columns) != chain {
        return Err(RecoveryError::Checksum { path: path(), slot, lsn });
    }
    *head = SlotHead { lsn, chain, at };
    Record::decode(columns).map_err(|source| RecoveryError::Decode { path: path(), slot, lsn, source })
}
