//! The files that a manifest names: each log and its mark, which are checked against the manifest.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shards::replay::{Extent, Mark};

use crate::error::{RecoveryError, in_file, io_error};
use crate::file::{Access, FileHeader, Identity, LogFile, Synchronous};
use crate::index::FileIndex;
use crate::journal::{Damage, find_damage, journal_of};
use crate::manifest::Manifest;
use crate::mark::MarkFile;
use crate::recovery::Progress;

/// A log file that the manifest names, and how far it is checked.
#[derive(Debug)]
pub(crate) struct NamedLog {
    pub(crate) name: String,
    pub(crate) file: LogFile,
    pub(crate) extent: Extent,
}

/// A log file and its mark.
#[derive(Debug)]
pub(crate) struct NamedFile {
    pub(crate) log: NamedLog,
    pub(crate) mark_file: MarkFile,
}

impl NamedFile {
    /// Writes and syncs the mark. Call it after [`LogFile::make_durable`], since a mark must never be ahead
    /// of its log.
    pub(crate) fn write_mark(&self) -> Result<(), RecoveryError> {
        let written = self.mark_file.write(&self.log.extent.end).and_then(|()| self.mark_file.sync());
        written.map_err(io_error("write", self.mark_file.path()))
    }
}

/// Opens every file that the manifest names, and checks that it is the log of that name and directory, that
/// it has all rows up to its mark, and that its journal is not damaged.
pub(crate) fn open_named_files(
    directory: &Path,
    manifest: &Manifest,
    access: Access,
    progress: &Progress,
) -> Result<Vec<NamedFile>, RecoveryError> {
    let mut files = Vec::new();
    for name in manifest.epochs.file_names() {
        let file = open_log(directory, &name, manifest.cluster, access)?;
        let (mark_file, committed) = open_mark(&file, manifest.cluster)?;
        let log = NamedLog { name, extent: Extent::new(committed), file };
        let row_count = log.check_end()?;
        progress.records_total.fetch_add(row_count, Ordering::Relaxed);
        files.push(NamedFile { log, mark_file });
    }
    Ok(files)
}

/// Opens the log of this name and directory.
pub(crate) fn open_log(
    directory: &Path,
    name: &str,
    cluster: u64,
    access: Access,
) -> Result<LogFile, RecoveryError> {
    let path = directory.join(name);
    if !path.try_exists().map_err(io_error("look for", &path))? {
        return Err(RecoveryError::Missing { path });
    }
    let log = LogFile::open_for(&path, access)?;
    let header = match log.identity()? {
        Identity::Log(header) => header,
        Identity::OtherFormat(format) => return Err(RecoveryError::of_format(path, format.into())),
        Identity::NotALog => return Err(RecoveryError::NotALog { path }),
    };
    if header.cluster != cluster {
        return Err(RecoveryError::Foreign { path });
    }
    if header.name != name {
        return Err(RecoveryError::Swapped { path, found: header.name });
    }
    Ok(log)
}

/// Opens the mark of a log.
///
/// # Errors
///
/// [`RecoveryError::Missing`] or [`RecoveryError::Mark`] if it is lost.
pub(crate) fn open_mark(log: &LogFile, cluster: u64) -> Result<(MarkFile, Mark), RecoveryError> {
    let path = MarkFile::path_for(log.path());
    match MarkFile::open(log.path(), cluster) {
        Ok(Some(opened)) => Ok(opened),
        Ok(None) => Err(RecoveryError::Missing { path }),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(RecoveryError::Mark { path, reason: error.to_string() })
        }
        Err(error) => Err(io_error("read", &path)(error)),
    }
}

impl NamedLog {
    /// Checks that the log goes as far as its mark, and that its journal is not damaged. Returns the number of
    /// rows.
    pub(crate) fn check_end(&self) -> Result<u64, RecoveryError> {
        let (path, row_count) = (self.file.path(), self.file.row_count()?);
        self.extent.check_row_count(row_count).map_err(in_file(path))?;
        check_journal(path, row_count)?;
        Ok(row_count)
    }

    /// Continues after an earlier reading of the file, or without one, if the file was empty. Nothing else was
    /// written since.
    ///
    /// # Errors
    ///
    /// When the file does not end as it was read.
    pub(crate) fn resume(&mut self, read: Option<(Extent, &Arc<FileIndex>)>) -> Result<(), RecoveryError> {
        if let Some((extent, index)) = read {
            self.extent = extent;
            self.file.continue_index(index);
        }
        let Mark { row, chain, .. } = self.extent.end;
        let mut found = (0, Mark::EMPTY.chain);
        self.file.rows_after(row.saturating_sub(1), |row| -> Result<bool, RecoveryError> {
            found = (row.position, row.chain);
            Ok(true)
        })?;
        if found != (row, chain) {
            return Err(RecoveryError::WrittenMeanwhile { path: self.file.path().to_owned() });
        }
        Ok(())
    }

    /// Checks the epoch in which the log was claimed last.
    pub(crate) fn check_claim(&self, directory: &Path, manifest: &Manifest) -> Result<(), RecoveryError> {
        let epoch = self.file.epoch().map_err(self.file.failed("read the header of"))?;
        manifest.check_claim(directory, &self.name, epoch)
    }
}

/// Refuses a damaged journal. `rows` is the number of rows that SQLite finds in the log with this journal.
pub(crate) fn check_journal(log: &Path, rows: u64) -> Result<(), RecoveryError> {
    let path = journal_of(log);
    match find_damage(log).map_err(io_error("read", &path))? {
        None => Ok(()),
        Some(Damage::Header) => Err(RecoveryError::JournalHeader { path }),
        Some(Damage::Frame(frame)) => Err(RecoveryError::JournalFrame { path, frame, rows }),
    }
}

pub(crate) fn create_file(directory: &Path, name: &str, cluster: u64) -> Result<NamedFile, RecoveryError> {
    let header = FileHeader { cluster, name: name.to_owned() };
    let path = directory.join(name);
    let file = LogFile::create(&path, &header, Synchronous::Full)?;
    let mark_file =
        MarkFile::create(&path, cluster).map_err(io_error("write", &MarkFile::path_for(&path)))?;
    let log = NamedLog { name: name.to_owned(), file, extent: Extent::new(Mark::EMPTY) };
    Ok(NamedFile { log, mark_file })
}
