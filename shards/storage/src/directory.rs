//! A data directory: its lock, who may use it, its syncs, and debris, which are the empty files of a start that
//! crashed.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::error::{RecoveryError, io_error};
use crate::failure::synced;
use crate::file::{Access, Identity, LogFile};
use crate::journal::{journal_of, shared_memory_of};
use crate::mark::MarkFile;
use crate::named_file::check_journal;

/// An exclusive `flock(2)` on a data directory itself: a file in it could be removed while it is locked. The
/// kernel releases it when the process ends.
#[derive(Debug)]
pub struct DirectoryLock(File);

/// Makes the directory, if it is missing, with access for its owner only, and locks it.
///
/// # Errors
///
/// When it cannot be made or written, other users can write it, or another process has it.
pub(crate) fn lock_directory(directory: &Path) -> Result<DirectoryLock, RecoveryError> {
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
    let lock = lock_existing(directory)?;
    keep_private(&lock.0, directory)?;
    Ok(lock)
}

/// Locks a directory that is there, and changes nothing.
///
/// # Errors
///
/// When it is not there, other users can write it, or another process has it.
pub(crate) fn lock_existing(directory: &Path) -> Result<DirectoryLock, RecoveryError> {
    let opened = File::open(directory).map_err(io_error("open", directory))?;
    match opened.try_lock() {
        Ok(()) => {
            check_private(&opened, directory)?;
            Ok(DirectoryLock(opened))
        }
        Err(TryLockError::WouldBlock) => Err(RecoveryError::Locked { path: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io_error("lock", directory)(source)),
    }
}

/// Refuses a directory in which other users could have replaced files. Returns the mode.
fn check_private(opened: &File, path: &Path) -> Result<u32, RecoveryError> {
    let mode = opened.metadata().map_err(io_error("read the mode of", path))?.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(RecoveryError::WritableByOthers { path: path.to_owned(), mode });
    }
    Ok(mode)
}

/// Takes away what other users may do, so that the modes of the files in the directory do not matter, such as
/// those of files that were copied from a backup.
fn keep_private(opened: &File, path: &Path) -> Result<(), RecoveryError> {
    let mode = check_private(opened, path)?;
    if mode & 0o077 != 0 {
        let private = Permissions::from_mode(mode & !0o077);
        opened.set_permissions(private).map_err(io_error("run chmod 700 on", path))?;
    }
    Ok(())
}

/// Makes a new file that its owner alone can read. What was there is removed: it may be open to other users, or a
/// link to a file elsewhere.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    remove_if_there(path)?;
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Gives a file of a data directory a new content, for its owner alone, and syncs it. A crash leaves the old
/// content or the new one.
///
/// # Errors
///
/// When it cannot be written.
pub fn replace_file(directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = directory.join(format!("{name}.new"));
    let mut file = create_private(&temporary)?;
    file.write_all(content)?;
    synced(file.sync_all())?;
    fs::rename(&temporary, directory.join(name))?;
    synced(File::open(directory)?.sync_all())
}

/// Finds log files that the manifest does not name. A crash before the manifest was written leaves
/// such files, all empty; one with records is refused.
pub(crate) fn find_debris(
    directory: &Path,
    names: &[String],
    access: Access,
) -> Result<Vec<String>, RecoveryError> {
    let mut debris = log_names(directory)?;
    debris.retain(|name| !names.contains(name));
    for name in &debris {
        let path = directory.join(name);
        let log = LogFile::open_for(&path, access)?;
        match log.identity()? {
            Identity::Log(_) if log.row_count()? > 0 => return Err(RecoveryError::Unnamed { path }),
            Identity::Log(header) => {
                // A crash leaves no mark, an incomplete one, or one without rows. A mark with rows shows that
                // there are records, which a damaged journal hides.
                match MarkFile::open(&path, header.cluster) {
                    Ok(Some((_, mark))) if mark.row > 0 => return Err(RecoveryError::Unnamed { path }),
                    Err(error) if error.kind() != io::ErrorKind::InvalidData => {
                        return Err(io_error("read", &MarkFile::path_for(&path))(error));
                    }
                    Ok(Some(_) | None) | Err(_) => {}
                }
            }
            Identity::OtherFormat(format) => return Err(RecoveryError::of_format(path, format.into())),
            Identity::NotALog if !log.is_blank()? => return Err(RecoveryError::NotALog { path }),
            Identity::NotALog => {}
        }
        check_journal(&path, 0)?;
    }
    Ok(debris)
}

/// The names of all files that are named like log files, in order.
pub(crate) fn log_names(directory: &Path) -> Result<Vec<String>, RecoveryError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(io_error("list", directory))? {
        let entry = entry.map_err(io_error("list", directory))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with("shard-") && name.ends_with(".sqlite") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Removes empty log files with their marks and journals, so that nothing of them is left for new files of
/// the same names.
pub(crate) fn remove_debris(directory: &Path, names: &[String]) -> Result<(), RecoveryError> {
    for name in names {
        let log = directory.join(name);
        for path in [MarkFile::path_for(&log), journal_of(&log), shared_memory_of(&log), log] {
            remove_if_there(&path).map_err(io_error("remove", &path))?;
        }
    }
    Ok(())
}

pub(crate) fn sync_directory(directory: &Path) -> Result<(), RecoveryError> {
    let sync = File::open(directory).and_then(|directory| directory.sync_all());
    sync.map_err(io_error("sync", directory))
}

/// Syncs the parent directory. Without this a power cut soon after the first start could lose the
/// whole directory.
fn sync_parent(directory: &Path) -> Result<(), RecoveryError> {
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    match sync_directory(parent.unwrap_or(Path::new("."))) {
        // The parent cannot be read, so it cannot be synced. Then an administrator made the directory, and is
        // responsible for its durability.
        Err(RecoveryError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}
