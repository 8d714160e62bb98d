//! A mark beside a log file says how far the log was committed.
//!
//! SQLite drops what follows damage in its journal, and treats a missing journal as an empty one, so a log
//! file alone cannot show that its end is missing. The mark is written after each commit and before any
//! answer, so after a kill it covers everything that was acknowledged. It is synced with the first commit after a
//! checkpoint and not with each: a power cut may leave an older mark, but never one that is ahead of the log, nor
//! one that does not show that the journal has records.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use shards::ids::{Lsn, Slot};
use shards::record::Entry;
use shards::replay::Mark;
use twox_hash::XxHash3_64;

use crate::directory::{create_private, replace_file};
use crate::failure::synced;

/// The size of the file. It is overwritten in place, and fits into one sector, which a disk writes as a
/// whole.
const FILE_BYTES: usize = 256;

/// Returns the mark after a batch was appended.
pub(crate) fn advanced(mark: Mark, batch: &[Entry]) -> Mark {
    let row = mark.row + batch.len() as u64;
    batch.last().map_or(mark, |last| Mark { row, slot: last.slot, lsn: last.lsn, chain: last.chain })
}

/// The file's content: one line of JSON, padded with spaces. [`Form::line`] writes it.
#[derive(Deserialize)]
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
    form: Form,
}

/// What the marks of one log file have in common.
#[derive(Debug)]
struct Form {
    /// Name of the log file, without directory.
    log: String,
    /// The line up to the number of the row, which is the same in each mark of the file.
    begin: String,
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
        let mark = MarkFile::of(file, path, log, cluster);
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
        replace_file(directory, &file_name(&path), &Form::of(log, cluster).content(mark))
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
        let mark_file = MarkFile::of(file, path, log, cluster);
        let mark = mark_file
            .form
            .parse(&text)
            .map_err(|reason| io::Error::new(io::ErrorKind::InvalidData, reason))?;
        Ok(Some((mark_file, mark)))
    }

    fn of(file: File, path: PathBuf, log: &Path, cluster: u64) -> MarkFile {
        MarkFile { file, path, form: Form::of(log, cluster) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// # Errors
    ///
    /// When the disk refuses.
    pub fn write(&self, mark: &Mark) -> io::Result<()> {
        self.file.write_all_at(&self.form.content(mark), 0)
    }

    /// # Errors
    ///
    /// When the disk refuses.
    pub fn sync(&self) -> io::Result<()> {
        synced(self.file.sync_data())
    }
}

impl Form {
    fn of(log: &Path, cluster: u64) -> Form {
        let log = file_name(log);
        let begin = format!("{{\"log\":{},\"row\":", serde_json::Value::from(&*log));
        Form { log, begin, cluster }
    }

    fn content(&self, mark: &Mark) -> Vec<u8> {
        let mut text = self.line(mark);
        assert!(text.len() < FILE_BYTES, "the name of a log file is short");
        text.resize(FILE_BYTES - 1, b' ');
        text.push(b'\n');
        text
    }

    /// The line of a mark. Each commit writes one, and serde_json and the standard library's formatting take nine
    /// times as many instructions.
    fn line(&self, mark: &Mark) -> Vec<u8> {
        let &Mark { row, slot, lsn, chain } = mark;
        let mut number = itoa::Buffer::new();
        let mut line = Vec::with_capacity(FILE_BYTES);
        for (before, number_of) in [(&*self.begin, row), (",\"slot\":", slot.0.into()), (",\"lsn\":", lsn.0)]
        {
            line.extend_from_slice(before.as_bytes());
            line.extend_from_slice(number.format(number_of).as_bytes());
        }
        for (before, number_of) in [(",\"chain\":\"", chain), ("\",\"checksum\":\"", self.checksum(mark))] {
            line.extend_from_slice(before.as_bytes());
            line.extend_from_slice(&hexadecimal(number_of));
        }
        line.extend_from_slice(b"\"}");
        line
    }

    fn parse(&self, text: &[u8]) -> Result<Mark, String> {
        let line: Line<'_> = serde_json::from_slice(text).map_err(|error| format!("not a mark: {error}"))?;
        if line.log != self.log {
            return Err(format!("is the mark of {}, swapped or renamed", line.log));
        }
        let chain = u64::from_str_radix(line.chain, 16).map_err(|error| format!("chain: {error}"))?;
        let mark = Mark { row: line.row, slot: Slot(line.slot), lsn: Lsn(line.lsn), chain };
        if line.checksum.as_bytes() != hexadecimal(self.checksum(&mark)) {
            return Err("wrong checksum".to_owned());
        }
        Ok(mark)
    }

    fn checksum(&self, mark: &Mark) -> u64 {
        let &Mark { row, slot, lsn, chain } = mark;
        let mut number = itoa::Buffer::new();
        let mut text = Vec::with_capacity(FILE_BYTES);
        text.extend_from_slice(self.log.as_bytes());
        for part in [row, slot.0.into(), lsn.0, chain] {
            text.push(b' ');
            text.extend_from_slice(number.format(part).as_bytes());
        }
        XxHash3_64::oneshot_with_seed(self.cluster, &text)
    }
}

fn hexadecimal(number: u64) -> [u8; 16] {
    let mut left = number;
    std::array::from_fn(|_| {
        left = left.rotate_left(4);
        b"0123456789abcdef"[(left & 15) as usize]
    })
}

fn file_name(log: &Path) -> String {
    log.file_name().expect("a log file has a name").to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        for (name, mark) in [
            ("log.sqlite", Mark::EMPTY),
            ("longest.sqlite", Mark { row: u64::MAX, slot: Slot(255), lsn: Lsn(u64::MAX), chain: u64::MAX }),
            ("shard-00.sqlite", Mark { row: 10, slot: Slot(46), lsn: Lsn(8), chain: 0x00b8_b57a_ae3c_bae7 }),
        ] {
            let log = directory.path().join(name);
            MarkFile::create(&log, 7).unwrap().write(&mark).unwrap();
            assert_eq!(MarkFile::open(&log, 7).unwrap().unwrap().1, mark);
            assert_eq!(fs::read(MarkFile::path_for(&log)).unwrap().len(), FILE_BYTES);
            assert_eq!(MarkFile::open(&log, 8).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
