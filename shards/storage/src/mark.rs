//! A mark beside a log file says how far the log was committed.
//!
//! SQLite drops what follows damage in its journal, and treats a missing journal as an empty one, so a log
//! file alone cannot show that its end is missing. The mark is written after each commit and before any
//! answer, so after a kill it covers everything that was acknowledged. It is synced with the first commit after a
//! checkpoint and not with each: a power cut may leave an older mark, but never one that is ahead of the log, nor
//! one that does not show that the journal has records.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shards::ids::{Lsn, Slot};
use shards::record::Entry;
use shards::replay::Mark;
use twox_hash::XxHash3_64;

use crate::directory::{create_private, replace_file};

/// The size of the file. It is overwritten in place, and fits into one sector, which a disk writes as a
/// whole.
const FILE_BYTES: usize = 256;

/// Returns the mark after a batch was appended.
pub(crate) fn advanced(mark: Mark, batch: &[Entry]) -> Mark {
    let row = mark.row + batch.len() as u64;
    batch.last().map_or(mark, |last| Mark { row, slot: last.slot, lsn: last.lsn, chain: last.chain })
}

/// The file's content: one line of JSON, padded with spaces.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    log: &'a str,
    row: u64,
    slot: u8,
    lsn: u64,
    /// A text, since numbers of JSON are not safe above 2^53.
    chain: &'a str,
    /// Checksum of the members above, seeded with the cluster's id.
    checksum: &'a str,
}

/// The open file that a mark is written to.
#[derive(Debug)]
pub struct MarkFile {
    file: File,
    path: PathBuf,
    /// Name of the log file, without directory.
    log: String,
    cluster: u64,
}

impl MarkFile {
    /// Path of the mark of a log file.
    pub fn path_for(log: &Path) -> PathBuf {
        log.with_extension("mark")
    }

    /// Makes a mark of an empty log and syncs it. The caller has to sync the directory.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn create(log: &Path, cluster: u64) -> io::Result<MarkFile> {
        let path = MarkFile::path_for(log);
        let file = create_private(&path)?;
        let mark = MarkFile { file, path, log: file_name(log), cluster };
        mark.write(&Mark::EMPTY)?;
        mark.sync()?;
        Ok(mark)
    }

    /// Gives a log file a new mark, and syncs it. A mark that is there is replaced.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(crate) fn replace(log: &Path, cluster: u64, mark: &Mark) -> io::Result<()> {
        let path = MarkFile::path_for(log);
        let directory = path.parent().unwrap_or(Path::new("."));
        replace_file(directory, &file_name(&path), &content(&file_name(log), cluster, mark)?)
    }

    /// Opens the mark of a log file and reads it, without changing it. `None` when there is none.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] when it is not what was written for this log file.
    pub fn open(log: &Path, cluster: u64) -> io::Result<Option<(MarkFile, Mark)>> {
        let path = MarkFile::path_for(log);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let file = File::options().write(true).open(&path)?;
        let mark_file = MarkFile { file, path, log: file_name(log), cluster };
        let mark =
            mark_file.parse(&text).map_err(|reason| io::Error::new(io::ErrorKind::InvalidData, reason))?;
        Ok(Some((mark_file, mark)))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// # Errors
    ///
    /// When the disk refuses.
    pub fn write(&self, mark: &Mark) -> io::Result<()> {
        self.file.write_all_at(&content(&self.log, self.cluster, mark)?, 0)
    }

    /// # Errors
    ///
    /// When the disk refuses.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn parse(&self, text: &[u8]) -> Result<Mark, String> {
        let line: Line<'_> = serde_json::from_slice(text).map_err(|error| format!("not a mark: {error}"))?;
        if line.log != self.log {
            return Err(format!("is the mark of {}, swapped or renamed", line.log));
        }
        let chain = u64::from_str_radix(line.chain, 16).map_err(|error| format!("chain: {error}"))?;
        let mark = Mark { row: line.row, slot: Slot(line.slot), lsn: Lsn(line.lsn), chain };
        if line.checksum != checksum(&self.log, self.cluster, &mark) {
            return Err("wrong checksum".to_owned());
        }
        Ok(mark)
    }
}

/// The content of the mark of a log file.
fn content(log: &str, cluster: u64, mark: &Mark) -> io::Result<[u8; FILE_BYTES]> {
    let mut text = [b' '; FILE_BYTES];
    let chain = format!("{:016x}", mark.chain);
    let checksum = checksum(log, cluster, mark);
    let line =
        Line { log, row: mark.row, slot: mark.slot.0, lsn: mark.lsn.0, chain: &chain, checksum: &checksum };
    let mut rest = &mut text[..FILE_BYTES - 1];
    serde_json::to_writer(&mut rest, &line)?;
    text[FILE_BYTES - 1] = b'\n';
    Ok(text)
}

fn checksum(log: &str, cluster: u64, mark: &Mark) -> String {
    let Mark { row, slot, lsn, chain } = mark;
    let mut text = Vec::with_capacity(FILE_BYTES);
    write!(text, "{log} {row} {slot} {lsn} {chain}").expect("memory takes everything");
    format!("{:016x}", XxHash3_64::oneshot_with_seed(cluster, &text))
}

fn file_name(log: &Path) -> String {
    log.file_name().expect("a log file has a name").to_string_lossy().into_owned()
}
