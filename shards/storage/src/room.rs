//! Whether a data directory has room for a start.
//!
//! A start makes files: SQLite's journals with their shared memory, a manifest, and the files of new shards. It is
//! known before it begins whether they fit, because SQLite does not always tell that there was no room: it tries to
//! open a file that it cannot make in another way, and reports the error of that. Also, where a file system is full,
//! memory that is mapped to a file may not be written (a `SIGBUS` ends the process).

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use crate::directory::create_private;
use crate::error::{RecoveryError, io_error};

/// The directory that holds the files of the check. A crash may leave it.
const NAME: &str = "room.new";

/// The size of each file: that of SQLite's shared memory and some pages, the most that a start writes to one.
const FILE_BYTES: usize = 64 << 10;

/// Checks that there is room for this many new files, and for some pages in each.
///
/// # Errors
///
/// When there is none, or the directory cannot be written.
pub(crate) fn check(directory: &Path, files: usize) -> Result<(), RecoveryError> {
    let place = directory.join(NAME);
    let removed = remove(&place);
    let made = removed.and_then(|()| fs::create_dir(&place)).and_then(|()| make_files(&place, files));
    let removed = remove(&place);
    made.and(removed).map_err(io_error("make files in", directory))
}

fn make_files(place: &Path, files: usize) -> io::Result<()> {
    let content = vec![0; FILE_BYTES];
    (0..files).try_for_each(|number| create_private(&place.join(number.to_string()))?.write_all(&content))
}

fn remove(place: &Path) -> io::Result<()> {
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
