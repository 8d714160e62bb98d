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

/// A log file and its mark.
#[derive(Debug)]
pub(crate) struct NamedFile {
    pub(crate) name: String,
    pub(crate) log: LogFile,
    pub(crate) mark_file: MarkFile,
    pub(crate) extent: Extent,
}

impl NamedFile {
    /// Writes and syncs the mark. Call it after [`LogFile::make_durable`], since a mark must never be ahead
    /// of its log.
    pub(crate) fn write_mark(&self) -> Result<(), RecoveryError> {
        let written = self.mark_file.write(&self.extent.end).and_then(|()| self.mark_file.sync());
        written.map_err(io_error("write", self.mark_file.path()))
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
            self.log.continue_index(index);
        }
        let Mark { row, chain, .. } = self.extent.end;
        let mut found = (0, Mark::EMPTY.chain);
        self.log.rows_after(row.saturating_sub(1), |row| -> Result<bool, RecoveryError> {
            found = (row.position, row.chain);
            Ok(true)
        })?;
        if found != (row, chain) {
            return Err(RecoveryError::WrittenMeanwhile { path: self.log.path().to_owned() });
        }
        Ok(())
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
        let path = directory.join(&name);
        if !path.try_exists().map_err(io_error("look for", &path))? {
            return Err(RecoveryError::Missing { path });
        }
        let log = LogFile::open_for(&path, access)?;
        let header = match log.identity()? {
            Identity::Log(header) => header,
            Identity::OtherFormat(format) => return Err(RecoveryError::of_format(path, format.into())),
            Identity::NotALog => return Err(RecoveryError::NotALog { path }),
        };
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
    let log = LogFile::create(&path, &header, Synchronous::Full)?;
    let mark_file =
        MarkFile::create(&path, cluster).map_err(io_error("write", &MarkFile::path_for(&path)))?;
    Ok(NamedFile { name: name.to_owned(), log, mark_file, extent: Extent::new(Mark::EMPTY) })
}
