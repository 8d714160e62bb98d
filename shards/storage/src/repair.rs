//! Repairs a data directory that no server starts on although its logs are whole, since something beside them is
//! lost: a mark, or the manifest. It does what loses nothing that was acknowledged, and keeps what it replaces.
//!
//! A mark shows where a log ends. If it is lost, there is one other proof: the log was closed in order
//! ([`crate::last_start`]), and the manifest names no later start. The records themselves cannot show that none is missing behind the last one, nor can the
//! journal: one that was removed looks like one that was written back, and one that was cut after a commit looks
//! whole. So without that proof a new mark needs the consent of whoever runs the repair.
//!
//! If the manifest is lost, the copy in the log files replaces it: a start writes it into each of them, with its
//! epoch. It is proved that no file is missing if all that it names are there and were claimed in that epoch.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use shards::ids::{Epoch, Lsn, Slot, Timestamp};
use shards::log::Replay;
use shards::record::Record;
use shards::replay::{Extent, Mark};

use crate::check::check_rows;
use crate::directory::{DirectoryLock, find_debris, lock_existing, log_names, sync_directory};
use crate::error::{RecoveryError, io_error};
use crate::file::{Access, Identity, LogFile, Synchronous};
use crate::journal::{journal_of, shared_memory_of};
use crate::last_start;
use crate::manifest::{FILE_NAME, Manifest};
use crate::mark::MarkFile;
use crate::named_file::{NamedLog, open_log, open_mark};

/// The most files that are kept under one name.
const KEPT_MAX: u32 = 1000;

/// Something that keeps a server from starting, and that can be repaired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The manifest is lost, and the log files have a copy of it.
    Manifest { path: PathBuf, reason: String, epoch: Epoch },
    /// A mark is lost, and its log is whole.
    Mark {
        path: PathBuf,
        reason: String,
        /// The number of records in the log, and the time of the last one.
        records: u64,
        last: Option<Timestamp>,
        /// Whether the log was closed in order, and not used since. Then no record is missing at its end.
        is_proven: bool,
    },
    /// The journal of a log is damaged, and the log goes as far as its mark without it.
    Journal { path: PathBuf },
    /// A log of another directory, or one under a wrong name. The manifest does not name it.
    Stranger { path: PathBuf },
}

impl Finding {
    /// Whether nothing that was acknowledged is lost by its repair.
    pub fn is_proven(&self) -> bool {
        match self {
            Finding::Mark { is_proven, .. } => *is_proven,
            Finding::Manifest { .. } | Finding::Journal { .. } | Finding::Stranger { .. } => true,
        }
    }
}

/// What a repair of a directory would do. Until it is dropped, no other process uses the directory.
#[derive(Debug)]
pub struct Repair {
    directory: PathBuf,
    manifest: Option<Manifest>,
    /// Locked, so that nothing is written to them. Those without a mark are to get one.
    logs: Vec<NamedLog>,
    findings: Vec<Finding>,
    _lock: DirectoryLock,
}

impl Repair {
    /// Looks at a directory, and changes nothing.
    ///
    /// # Errors
    ///
    /// If another process has the directory, if it cannot be read, or if something is damaged that cannot be repaired
    /// without losing what was acknowledged.
    pub fn plan(directory: &Path) -> Result<Repair, RecoveryError> {
        let lock = lock_existing(directory)?;
        let mut repair = Repair {
            directory: directory.to_owned(),
            manifest: None,
            logs: Vec::new(),
            findings: Vec::new(),
            _lock: lock,
        };
        let names = log_names(directory)?;
        let Some(manifest) = repair.find_manifest(&names)? else {
            // What a start leaves that was cut off before it wrote a manifest. The next one removes it.
            find_debris(directory, &[], Access::Write)?;
            return Ok(repair);
        };
        repair.open_logs(&manifest)?;
        repair.check_logs(&manifest)?;
        repair.find_strangers(&manifest, &names)?;
        repair.manifest = Some(manifest);
        Ok(repair)
    }

    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The manifest of the directory, or else the copy in its log files; `None` in a directory that no server has
    /// used.
    fn find_manifest(&mut self, names: &[String]) -> Result<Option<Manifest>, RecoveryError> {
        let found = Manifest::read(&self.directory);
        let cluster = found.as_ref().ok().and_then(Option::as_ref).map(|manifest| manifest.cluster);
        let copy = self.newest_copy(names, cluster)?;
        let (mut copy, reason) = match (found, copy) {
            (Ok(Some(manifest)), Some(copy)) if manifest.epochs.last() < copy.epochs.last() => {
                let (ends, used) = (manifest.epochs.last().0, copy.epochs.last().0);
                (
                    copy,
                    format!(
                        "it ends with epoch {ends}, and the logs were used in epoch {used}: an older copy"
                    ),
                )
            }
            (Ok(Some(manifest)), Some(copy))
                if manifest.epochs.last() == copy.epochs.last() && manifest.epochs != copy.epochs =>
            {
                (copy, "not what the last start wrote".to_owned())
            }
            (Ok(None), Some(copy)) => (copy, "missing".to_owned()),
            (Err(RecoveryError::Manifest { reason, .. }), Some(copy)) => (copy, reason),
            (found, _) => return found,
        };
        // All files have to be of that start.
        copy.claimed = copy.epochs.last();
        let path = self.directory.join(FILE_NAME);
        self.findings.push(Finding::Manifest { path, reason, epoch: copy.claimed });
        Ok(Some(copy))
    }

    /// The copy of the manifest in the log that was claimed last, of this cluster if it is known.
    fn newest_copy(&self, names: &[String], cluster: Option<u64>) -> Result<Option<Manifest>, RecoveryError> {
        let mut newest: Option<Manifest> = None;
        for name in names {
            let path = self.directory.join(name);
            let log = LogFile::open(&path, Synchronous::Full)?;
            let Identity::Log(header) = log.identity()? else { continue };
            let Some(last_start) = last_start::read(&log)? else { continue };
            let copy = Manifest::parse(last_start.manifest.as_bytes(), path)?;
            let fits = header.name == *name
                && header.cluster == copy.cluster
                && cluster.is_none_or(|cluster| cluster == copy.cluster)
                && last_start.epoch == copy.epochs.last()
                && newest.as_ref().is_none_or(|newest| newest.epochs.last() < last_start.epoch);
            if fits {
                newest = Some(copy);
            }
        }
        Ok(newest)
    }

    /// Opens all logs that the manifest names, and finds the marks that are lost.
    fn open_logs(&mut self, manifest: &Manifest) -> Result<(), RecoveryError> {
        // It says whether a start has claimed the logs since. Such a claim may be in a journal that was removed.
        let manifest_is_found = self.findings.is_empty();
        for name in manifest.epochs.file_names() {
            let file = open_log(&self.directory, &name, manifest.cluster, Access::Write)?;
            file.lock()?;
            let (committed, lost) = match open_mark(&file, manifest.cluster) {
                Ok((_, committed)) => (committed, None),
                Err(RecoveryError::Missing { path }) => (Mark::EMPTY, Some((path, "missing".to_owned()))),
                Err(RecoveryError::Mark { path, reason }) => (Mark::EMPTY, Some((path, reason))),
                Err(error) => return Err(error),
            };
            let log = NamedLog { name, extent: Extent::new(committed), file };
            log.check_claim(&self.directory, manifest)?;
            let records = match log.check_end() {
                // SQLite reads nothing of such a journal. The mark is synced with the first commit to a journal, so
                // there was none.
                Err(RecoveryError::JournalHeader { path })
                    if lost.is_none() && log.file.row_count()? == committed.row =>
                {
                    self.findings.push(Finding::Journal { path });
                    committed.row
                }
                records => records?,
            };
            if let Some((path, reason)) = lost {
                let (last, is_closed) = (last_time(&log.file, records)?, is_closed(&log.file)?);
                let is_proven = is_closed && manifest_is_found;
                self.findings.push(Finding::Mark { path, reason, records, last, is_proven });
            }
            self.logs.push(log);
        }
        Ok(())
    }

    fn check_logs(&mut self, manifest: &Manifest) -> Result<(), RecoveryError> {
        let mut logs: Vec<_> = self.logs.iter_mut().collect();
        check_rows(manifest, &mut logs, &Nowhere).map(drop)
    }

    /// Finds logs that no start of this directory has made.
    fn find_strangers(&mut self, manifest: &Manifest, names: &[String]) -> Result<(), RecoveryError> {
        let named = manifest.epochs.file_names();
        for name in names.iter().filter(|name| !named.contains(name)) {
            let path = self.directory.join(name);
            let log = LogFile::open(&path, Synchronous::Full)?;
            match log.identity()? {
                Identity::Log(header) if header.cluster == manifest.cluster && header.name == *name => {
                    // Refused if it is not empty.
                    let others: Vec<_> = names.iter().filter(|other| *other != name).cloned().collect();
                    find_debris(&self.directory, &others, Access::Write)?;
                }
                Identity::Log(_) => self.findings.push(Finding::Stranger { path }),
                Identity::OtherFormat(format) => return Err(RecoveryError::of_format(path, format.into())),
                Identity::NotALog if log.is_blank()? => {}
                Identity::NotALog => self.findings.push(Finding::Stranger { path }),
            }
        }
        Ok(())
    }

    /// Does it. Returns the names of the files that were renamed, and their new names.
    ///
    /// # Errors
    ///
    /// When the disk refuses. Another repair goes on from there.
    pub fn run(&self) -> Result<Vec<(PathBuf, PathBuf)>, RecoveryError> {
        let mut kept = Vec::new();
        for finding in &self.findings {
            match finding {
                Finding::Manifest { path, .. } | Finding::Mark { path, .. } | Finding::Journal { path } => {
                    keep(path, &mut kept)?;
                }
                Finding::Stranger { path } => {
                    for path in
                        [MarkFile::path_for(path), journal_of(path), shared_memory_of(path), path.clone()]
                    {
                        keep(&path, &mut kept)?;
                    }
                }
            }
        }
        let manifest = self.manifest.as_ref();
        for log in &self.logs {
            let (path, cluster) = (log.file.path(), manifest.map_or(0, |manifest| manifest.cluster));
            let mark = MarkFile::path_for(path);
            if self.finds(&mark) {
                sync_journal(path)?;
                MarkFile::replace(path, cluster, &log.extent.end).map_err(io_error("write", &mark))?;
            }
        }
        match manifest {
            Some(manifest) if self.finds(&self.directory.join(FILE_NAME)) => {
                manifest.write(&self.directory)?
            }
            Some(_) | None => {}
        }
        sync_directory(&self.directory)?;
        Ok(kept)
    }

    fn finds(&self, lost: &Path) -> bool {
        self.findings.iter().any(|finding| match finding {
            Finding::Manifest { path, .. } | Finding::Mark { path, .. } => path == lost,
            Finding::Journal { .. } | Finding::Stranger { .. } => false,
        })
    }
}

/// Whether the last server closed the log in order.
fn is_closed(log: &LogFile) -> Result<bool, RecoveryError> {
    Ok(last_start::read(log)?.is_some_and(|last_start| last_start.is_closed))
}

/// The time of the last of this many records.
fn last_time(log: &LogFile, records: u64) -> Result<Option<Timestamp>, RecoveryError> {
    let mut last = None;
    log.rows_after(records.saturating_sub(1), |row| {
        last = Some(row.at);
        Ok::<_, RecoveryError>(true)
    })?;
    Ok(last)
}

/// Makes the records durable that a killed process has left in the kernel's cache: a mark must never be ahead of its
/// log. What is in the log itself was synced by the checkpoint that wrote it.
fn sync_journal(log: &Path) -> Result<(), RecoveryError> {
    let path = journal_of(log);
    match File::open(&path).and_then(|journal| journal.sync_all()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("sync", &path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Gives a file that is there another name, `shard-00.mark.before-repair-1`.
fn keep(path: &Path, kept: &mut Vec<(PathBuf, PathBuf)>) -> Result<(), RecoveryError> {
    if path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    for number in 1..=KEPT_MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".before-repair-{number}"));
        let name = PathBuf::from(name);
        if !name.try_exists().map_err(io_error("look for", &name))? {
            fs::rename(path, &name).map_err(io_error("rename", path))?;
            kept.push((path.to_owned(), name));
            return Ok(());
        }
    }
    Err(io_error("rename", path)(io::ErrorKind::AlreadyExists.into()))
}

/// Takes records of which no state is made.
struct Nowhere;

impl Replay for Nowhere {
    fn receiver(&self) -> Box<dyn FnMut(Slot, Lsn, Timestamp, Record) + '_> {
        Box::new(|_, _, _, _| {})
    }
}
