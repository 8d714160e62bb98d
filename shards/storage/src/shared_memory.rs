//! The room of SQLite's shared memory: the index of a log's journal, in a file that SQLite maps into memory.
//!
//! SQLite extends the file after it has synced a commit. If there is no room then, the commit fails and is in the
//! journal all the same. So the file is extended before a commit, by more than a commit usually needs.
//!
//! The format: <https://sqlite.org/walformat.html#the_wal_index_file_format>.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};

use crate::journal::shared_memory_of;

/// SQLite extends the file by regions of this size. Each has entries for this many frames, the first one for fewer,
/// since the header is in it.
const REGION_BYTES: u64 = 32 << 10;
const REGION_FRAMES: u64 = 4096;
const HEADER_FRAMES: u64 = 34;

/// A frame of a page of 4096 bytes.
const FRAME_BYTES: u64 = 4096 + 24;

/// The frames for which there is room before a commit: 16 MiB, more than it has unless many bodies are of the largest
/// size.
const COMMIT_FRAMES: u64 = 4096;

#[derive(Debug)]
pub(crate) struct SharedMemory {
    /// Closing it releases the locks of SQLite on the file, so it is open for as long as the log.
    file: File,
    /// How much of it is known to be allocated.
    bytes: u64,
}

impl SharedMemory {
    /// Opens the file of a log that SQLite has opened.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub(crate) fn of(log: &Path) -> io::Result<SharedMemory> {
        let file = File::options().read(true).write(true).open(shared_memory_of(log))?;
        Ok(SharedMemory { file, bytes: 0 })
    }

    /// Makes sure that a commit to a journal of this length has room in the index.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub(crate) fn reserve(&mut self, journal_bytes: u64) -> io::Result<()> {
        let frames = journal_bytes / FRAME_BYTES + HEADER_FRAMES + COMMIT_FRAMES;
        let needed = (frames / REGION_FRAMES + 1) * REGION_BYTES;
        if needed <= self.bytes {
            return Ok(());
        }
        match retry_on_intr(|| fallocate(&self.file, FallocateFlags::empty(), 0, needed)) {
            // Where a file system cannot, SQLite still extends the file.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.bytes = needed,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
