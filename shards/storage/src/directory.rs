//! A data directory: its lock, its files, and what a crash leaves beside them.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use shards::replay::{Extent, Mark};

use crate::error::{RecoveryError, in_file, io_error};
use crate::file::{FileHeader, LogFile, Synchronous};
use crate::journal::{Damage, find_damage, journal_of};
use crate::manifest::Manifest;
use crate::mark::MarkFile;
use crate::recovery::Progress;

/// An exclusive lock on a data directory; the kernel gives it back when the process ends.
#[derive(Debug)]
pub struct DirectoryLock(#[expect(dead_code, reason = "held for its lock")] File);

/// Makes the directory, for its owner's eyes only, and locks it.
///
/// # Errors
///
/// When it cannot be made or written, or another process has it.
pub(crate) fn lock_directory(directory: &Path) -> Result<DirectoryLock, RecoveryError> {
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

pub(crate) struct NamedFile {
    pub(crate) name: String,
    pub(crate) log: LogFile,
    pub(crate) mark_file: MarkFile,
    pub(crate) extent: Extent,
}

impl NamedFile {
    /// Only after [`LogFile::make_durable`]: a mark is never ahead of its log.
    pub(crate) fn write_mark(&self) -> Result<(), RecoveryError> {
        let written = self.mark_file.write(&self.extent.end).and_then(|()| self.mark_file.sync());
        written.map_err(io_error("write", self.mark_file.path()))
    }
}

/// Opens every file that the manifest names, and checks that each is what it is said to be.
pub(crate) fn open_named_files(
    directory: &Path,
    manifest: &Manifest,
    progress: &Progress,
) -> Result<Vec<NamedFile>, RecoveryError> {
    let mut files = Vec::new();
    for name in manifest.epochs.file_names() {
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
        let (extent, row_count) = (Extent::new(committed), log.row_count()?);
        extent.check_row_count(row_count).map_err(in_file(&path))?;
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
pub(crate) fn find_debris(directory: &Path, names: &[String]) -> Result<Vec<String>, RecoveryError> {
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
pub(crate) fn remove_debris(directory: &Path, names: &[String]) -> Result<(), RecoveryError> {
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

pub(crate) fn create_file(directory: &Path, name: &str, cluster: u64) -> Result<NamedFile, RecoveryError> {
    let header = FileHeader { cluster, name: name.to_owned() };
    let path = directory.join(name);
    let log = LogFile::create(&path, &header, Synchronous::Full)?;
    let mark_file =
        MarkFile::create(&path, cluster).map_err(io_error("write", &MarkFile::path_for(&path)))?;
    Ok(NamedFile { name: name.to_owned(), log, mark_file, extent: Extent::new(Mark::EMPTY) })
}

pub(crate) fn sync_directory(directory: &Path) -> Result<(), RecoveryError> {
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
