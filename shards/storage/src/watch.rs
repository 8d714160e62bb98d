//! Watches whether the files of a running server are still its files, and saves their content if they are not.
//!
//! A process goes on reading and writing a file that was removed or replaced, and everything that it writes is
//! gone when it ends. So the links of a log's files are counted after each commit, before any answer to it, and
//! once a second the files are compared with those under their names. If they differ, nothing more is written.
//! The removed files are copied to a directory from which a server can start, since they are there as long as
//! this process has them open.
//!
//! The descriptors here are those of [`open_path`], which SQLite's locks survive. The exception is one of the shared
//! memory, which is not closed while the log is open; the log has another such one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use shards::ids::Epoch;
use shards::log::{LogError, Reader};

use crate::directory::{create_private, replace_file};
use crate::failure::{Failure, is_locked};
use crate::file::{LogFile, Synchronous, inode_of, log_error, open_path};
use crate::journal::{self, journal_of, shared_memory_of};
use crate::log::fenced;
use crate::manifest;
use crate::mark::MarkFile;
use crate::readers::readers;

/// The most directories that are tried for a copy of the files under one name.
const COPIES_MAX: u32 = 100;

/// How often a journal that became shorter is compared with what SQLite reads of it, and the time in between.
const LOOKS: u32 = 5;
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// What became of a file that is in use.
#[derive(Debug, thiserror::Error)]
enum Change {
    #[error("it was removed, or replaced, while this server was running")]
    Removed,
    #[error("another file has its name: it was moved or replaced while this server was running")]
    Moved,
    #[error("it was truncated while this server was running")]
    Truncated,
    #[error("it cannot be looked at: {0}")]
    Unknown(io::Error),
}

/// All log files of a data directory with their marks.
#[derive(Debug)]
pub struct Watch {
    directory: PathBuf,
    /// The names and contents of the files that a copy has beside those of the logs: the manifest, and others that
    /// the server knows.
    contents: Mutex<Vec<(&'static str, Vec<u8>)>>,
    logs: Vec<WatchedLog>,
    /// Held for reading while a log is written. Set once, when the files are no longer those of this process, to
    /// what happened.
    end: RwLock<Option<String>>,
}

/// The files of a log. One that no shard writes any more has no journal.
#[derive(Debug)]
pub(crate) struct WatchedLog {
    log: WatchedFile,
    mark: WatchedFile,
    journal: Option<Journal>,
    /// Whether the log is in use. SQLite removes the journal when it closes a log.
    in_use: AtomicBool,
    claim: Mutex<Option<Claimed>>,
}

/// A log that a shard writes, which this process has claimed. It is read through a connection of its own.
#[derive(Debug)]
struct Claimed {
    reader: LogFile,
    epoch: Epoch,
}

/// SQLite's index of a journal.
#[derive(Debug)]
struct SharedMemory {
    file: WatchedFile,
    /// The same file, opened so that the locks on it can be asked for. Closed with the log, or with the process.
    locks: File,
}

#[derive(Debug)]
struct Journal {
    file: WatchedFile,
    /// `None` where nothing is written.
    shared_memory: Option<SharedMemory>,
    /// The length that the journal had after the last commit, or less.
    bytes: AtomicU64,
}

#[derive(Debug)]
struct WatchedFile {
    path: PathBuf,
    file: File,
    inode: (u64, u64),
    /// The greatest length so far.
    bytes: AtomicU64,
}

impl WatchedFile {
    fn open(path: PathBuf) -> io::Result<WatchedFile> {
        let file = open_path(&path)?;
        let found = file.metadata()?;
        Ok(WatchedFile { path, file, inode: inode_of(&found), bytes: AtomicU64::new(found.len()) })
    }

    fn length(&self) -> Result<u64, Change> {
        let found = rustix::fs::fstat(&self.file).map_err(|error| Change::Unknown(error.into()))?;
        if found.st_nlink == 0 {
            return Err(Change::Removed);
        }
        Ok(found.st_size.cast_unsigned())
    }

    /// Checks that the file is still under its name.
    fn check_name(&self) -> Result<(), Change> {
        self.length()?;
        match fs::metadata(&self.path) {
            Ok(found) if inode_of(&found) == self.inode => Ok(()),
            Ok(_) => Err(Change::Moved),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Change::Moved),
            Err(error) => Err(Change::Unknown(error)),
        }
    }

    /// Checks a file that never gets shorter.
    fn check_length(&self) -> Result<(), Change> {
        let bytes = self.length()?;
        if self.bytes.fetch_max(bytes, Ordering::SeqCst) > bytes { Err(Change::Truncated) } else { Ok(()) }
    }

    /// A path to the file itself, whatever its name is now.
    fn magic_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    fn copy_to(&self, copy: &Path) -> io::Result<()> {
        let mut copy = create_private(copy)?;
        io::copy(&mut File::open(self.magic_path())?, &mut copy)?;
        copy.sync_all()
    }
}

impl WatchedLog {
    /// The files of a log that a shard writes, and that was claimed for `epoch`. SQLite has opened them.
    ///
    /// # Errors
    ///
    /// When one of them is not there.
    pub(crate) fn in_use(log: &LogFile, epoch: Epoch) -> io::Result<WatchedLog> {
        let reader = LogFile::open_beside(log.path()).map_err(io::Error::other)?;
        // Whoever closes the log waits for a look at it.
        reader.wait_for_locks(Duration::ZERO).map_err(io::Error::other)?;
        for log in [log, &reader] {
            // SQLite opens the journal with the first read.
            log.epoch().map_err(io::Error::other)?;
        }
        let journal = Journal {
            file: WatchedFile::open(journal_of(log.path()))?,
            shared_memory: Some(SharedMemory {
                file: WatchedFile::open(shared_memory_of(log.path()))?,
                locks: File::open(shared_memory_of(log.path()))?,
            }),
            bytes: AtomicU64::new(0),
        };
        let claim = Mutex::new(Some(Claimed { reader, epoch }));
        Ok(WatchedLog { journal: Some(journal), claim, ..WatchedLog::unused(log)? })
    }

    /// The files of a log that was read and is not claimed yet.
    ///
    /// # Errors
    ///
    /// When one of them is not there.
    pub(crate) fn without_writer(log: &Path) -> io::Result<WatchedLog> {
        let journal = match WatchedFile::open(journal_of(log)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            file => Some(Journal { file: file?, shared_memory: None, bytes: AtomicU64::new(0) }),
        };
        Ok(WatchedLog { journal, ..WatchedLog::at(log)? })
    }

    /// The files of a log that no shard writes any more.
    ///
    /// # Errors
    ///
    /// When one of them is not there.
    pub(crate) fn unused(log: &LogFile) -> io::Result<WatchedLog> {
        WatchedLog::at(log.path())
    }

    fn at(log: &Path) -> io::Result<WatchedLog> {
        let mark = WatchedFile::open(MarkFile::path_for(log))?;
        let log = WatchedFile::open(log.to_owned())?;
        Ok(WatchedLog { log, mark, journal: None, in_use: AtomicBool::new(true), claim: Mutex::default() })
    }

    fn files(&self) -> impl Iterator<Item = &WatchedFile> {
        let journal = self.journal.as_ref();
        let shared_memory =
            journal.and_then(|journal| journal.shared_memory.as_ref()).map(|memory| &memory.file);
        let journal = journal.map(|journal| &journal.file);
        [&self.log, &self.mark].into_iter().chain(journal).chain(shared_memory)
    }

    /// Checks what the open files themselves tell, by one system call each.
    fn check_open_files(&self) -> Result<(), (&Path, Change)> {
        for file in [&self.log, &self.mark] {
            file.check_length().map_err(|change| (&*file.path, change))?;
        }
        if let Some(Journal { shared_memory: Some(SharedMemory { file, .. }), .. }) = &self.journal {
            file.length().map_err(|change| (&*file.path, change))?;
        }
        Ok(())
    }

    /// The journal, if a shard writes it. Another program may write the journal of a log back and remove it that no
    /// process has open.
    fn written_journal(&self) -> Option<&Journal> {
        self.journal.as_ref().filter(|journal| journal.shared_memory.is_some())
    }

    fn check(&self) -> Result<(), (&Path, Change)> {
        let is_own = |file: &&WatchedFile| match &self.journal {
            Some(journal) => self.written_journal().is_some() || !std::ptr::eq(*file, &journal.file),
            None => true,
        };
        for file in self.files().filter(is_own) {
            file.check_name().map_err(|change| (&*file.path, change))?;
        }
        self.check_open_files()?;
        self.check_journal()?;
        self.check_header()
    }

    /// Checks that the journal is no shorter than it was, unless SQLite has emptied it: for this process, or for
    /// another program that has written all of it back.
    /// Returns its length.
    fn check_journal(&self) -> Result<u64, (&Path, Change)> {
        let Some(Journal { file, bytes, .. }) = self.written_journal() else { return Ok(0) };
        let failed = |change| (&*file.path, change);
        let expected = bytes.load(Ordering::SeqCst);
        let length = file.length().map_err(failed)?;
        if length >= expected {
            return Ok(length);
        }
        for _ in 0..LOOKS {
            // In this order: what SQLite reads was written before. If the journal is emptied in between, the next
            // look finds it so.
            let used = match journal_bytes(&self.log.path) {
                Ok(used) => used,
                // The next look finds it.
                Err(error) if is_scarcity(&error) => return Ok(length),
                Err(error) => return Err(failed(Change::Unknown(error))),
            };
            let length = file.length().map_err(failed)?;
            if length >= used {
                let _ = bytes.compare_exchange(expected, length, Ordering::SeqCst, Ordering::SeqCst);
                return Ok(length);
            }
            thread::sleep(LOOK_PAUSE);
        }
        Err(failed(Change::Truncated))
    }

    /// Checks that no other process has claimed the log. The next commit would find it, but until then this process
    /// would answer reads from what it knows.
    fn check_claim(&self) -> Result<(), LogError> {
        let claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Claimed { reader, epoch }) = &*claim else { return Ok(()) };
        match reader.epoch() {
            Ok(found) if found == *epoch => Ok(()),
            Ok(found) => Err(fenced(reader, *epoch, found)),
            // The next look finds it.
            Err(error) if is_locked(&error) => Ok(()),
            Err(error) => Err(reader.failed("read the header of")(error)),
        }
    }

    /// Checks that the journal begins as one, if it has anything. SQLite has no lock on it, so it may be opened.
    fn check_header(&self) -> Result<(), (&Path, Change)> {
        let Some(Journal { file, .. }) = self.written_journal() else { return Ok(()) };
        let mut header = Vec::new();
        let read =
            File::open(file.magic_path()).and_then(|journal| journal.take(32).read_to_end(&mut header));
        match read {
            Ok(_) if header.len() < 32 || journal::is_header(&header) => Ok(()),
            Ok(_) => Err((&*file.path, Change::Truncated)),
            // The next look finds it.
            Err(error) if is_scarcity(&error) => Ok(()),
            Err(error) => Err((&*file.path, Change::Unknown(error))),
        }
    }
}

/// Whether the process or the machine has too few descriptors or too little memory at the moment.
fn is_scarcity(error: &io::Error) -> bool {
    let of_log = error.get_ref().and_then(|inner| inner.downcast_ref::<LogError>());
    let failure = of_log.and_then(|error| error.source.downcast_ref::<Failure>());
    let error = failure.and_then(|failure| failure.system.as_ref()).unwrap_or(error);
    let scarcity = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| scarcity.contains(&errno))
}

/// The length of the part of a log's journal that SQLite reads.
fn journal_bytes(log: &Path) -> io::Result<u64> {
    let bytes = LogFile::open(log, Synchronous::Full).and_then(|log| log.journal_bytes());
    bytes.map_err(io::Error::other)
}

impl Watch {
    /// `manifest` is the content of the manifest's file.
    pub(crate) fn new(directory: PathBuf, manifest: Vec<u8>, logs: Vec<WatchedLog>) -> Watch {
        // Compared with what the kernel says of open files.
        let directory = fs::canonicalize(&directory).unwrap_or(directory);
        let contents = Mutex::new(vec![(manifest::FILE_NAME, manifest)]);
        Watch { directory, contents, logs, end: RwLock::default() }
    }

    /// Adds a file of this content to what is saved if files are removed.
    pub fn keep(&self, name: &'static str, content: Vec<u8>) {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner).push((name, content));
    }

    /// Checks the files of a log before a checkpoint of it.
    ///
    /// # Errors
    ///
    /// As those of [`Watch::check`].
    pub(crate) fn check_before_checkpoint(&self, log: usize) -> Result<(), LogError> {
        self.logs[log].check().map_err(|(path, change)| self.end(path, change))
    }

    /// Checks the journal of a log before a commit to it, and returns its length.
    ///
    /// # Errors
    ///
    /// As those of [`Watch::check`].
    pub(crate) fn check_before(&self, log: usize) -> Result<u64, LogError> {
        self.logs[log].check_journal().map_err(|(path, change)| self.end(path, change))
    }

    /// What it returns is held while a log is written. Nothing else of the watch may be called meanwhile: it could wait
    /// for this to be dropped.
    ///
    /// # Errors
    ///
    /// When the files are no longer those of this process.
    pub(crate) fn writing(&self) -> Result<impl Drop + '_, LogError> {
        let end = self.end.read().unwrap_or_else(PoisonError::into_inner);
        match &*end {
            None => Ok(end),
            Some(reason) => Err(self.error(reason)),
        }
    }

    /// Checks the files of a log after a commit of it, and before any answer to that.
    ///
    /// # Errors
    ///
    /// As those of [`Watch::check`].
    pub(crate) fn check_after(&self, log: usize) -> Result<(), LogError> {
        let log = &self.logs[log];
        log.check_open_files().map_err(|(path, change)| self.end(path, change))?;
        if let Some(journal) = &log.journal {
            let length = journal.file.length().map_err(|change| self.end(&journal.file.path, change))?;
            journal.bytes.store(length, Ordering::SeqCst);
        }
        Ok(())
    }

    /// The length of a log's journal.
    ///
    /// # Errors
    ///
    /// As those of [`Watch::check`].
    pub(crate) fn journal_bytes(&self, log: usize) -> Result<u64, LogError> {
        let Some(Journal { file, .. }) = &self.logs[log].journal else { return Ok(0) };
        file.length().map_err(|change| self.end(&file.path, change))
    }

    /// The processes that use a log beside this one.
    pub(crate) fn readers(&self, log: usize) -> Vec<Reader> {
        let journal = self.logs[log].journal.as_ref();
        let memory = journal.and_then(|journal| journal.shared_memory.as_ref());
        memory.map_or(Vec::new(), |memory| readers(&memory.locks))
    }

    /// Checks all files. Call it once a second.
    ///
    /// # Errors
    ///
    /// When a file is no longer the one that was opened: what happened, and where the data is. Or another process
    /// has claimed a log. The process has to end, and nothing is written any more.
    pub fn check(&self) -> Result<(), LogError> {
        for log in &self.logs {
            // SQLite removes the journal of a log that is closed meanwhile.
            if let Err((path, change)) = log.check()
                && log.in_use.load(Ordering::SeqCst)
            {
                return Err(self.end(path, change));
            }
            log.check_claim()?;
        }
        Ok(())
    }

    /// Ends the watch of a log, before it is closed.
    pub(crate) fn close(&self, log: usize) {
        let log = &self.logs[log];
        log.in_use.store(false, Ordering::SeqCst);
        log.claim.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Lets no log be written any more, and saves what can be saved.
    fn end(&self, path: &Path, change: Change) -> LogError {
        // Waits until no log is being written.
        let mut end = self.end.write().unwrap_or_else(PoisonError::into_inner);
        let reason = end.get_or_insert_with(|| format!("{}: {change}. {}", path.display(), self.save()));
        self.error(reason)
    }

    fn error(&self, reason: &str) -> LogError {
        log_error(&self.directory, "use", reason)
    }

    /// Saves the content of removed files. Returns where the data is, for the operator.
    fn save(&self) -> String {
        let files = || self.logs.iter().flat_map(WatchedLog::files);
        let is_removed = |file: &WatchedFile| matches!(file.length(), Err(Change::Removed));
        if files().any(is_removed) {
            return match self.copy() {
                Ok(copy) => format!(
                    "Everything that was acknowledged is in {}: start with that data directory. Leave what is in \
                     the old one, or move it away",
                    copy.display()
                ),
                Err(error) => format!("Its content could not be saved: {error}"),
            };
        }
        let now = self.logs.first().and_then(|log| fs::read_link(log.log.magic_path()).ok());
        match now.as_deref().and_then(Path::parent) {
            Some(now) if now != self.directory => format!("The files are in {} now", now.display()),
            Some(_) | None => "A start tells whether anything is missing".to_owned(),
        }
    }

    /// Copies all files to a new directory: beside the data directory, or else in it, or among temporary files.
    fn copy(&self) -> io::Result<PathBuf> {
        let name = self.directory.file_name().unwrap_or_default();
        let beside = self.directory.with_file_name(name);
        let places = [beside, self.directory.join("copy"), std::env::temp_dir().join(name)];
        let mut result = Err(io::ErrorKind::NotFound.into());
        for place in places {
            result = new_directory(&place).and_then(|copy| self.copy_to(&copy).map(|()| copy));
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn copy_to(&self, copy: &Path) -> io::Result<()> {
        for log in &self.logs {
            let path = copy.join(log.log.path.file_name().unwrap_or_default());
            log.log.copy_to(&path)?;
            log.mark.copy_to(&MarkFile::path_for(&path))?;
            if let Some(journal) = &log.journal {
                journal.file.copy_to(&journal_of(&path))?;
            }
        }
        let contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        // The manifest last: without it, no server starts from a copy that is not complete.
        contents.iter().rev().try_for_each(|(name, content)| replace_file(copy, name, content))
    }
}

/// Makes a directory that was not there, with a name that begins like `path`.
fn new_directory(path: &Path) -> io::Result<PathBuf> {
    let mut result = Err(io::ErrorKind::AlreadyExists.into());
    for number in 1..=COPIES_MAX {
        let mut copy = OsString::from(path);
        copy.push(format!(".saved-{number}"));
        result = fs::DirBuilder::new().mode(0o700).create(&copy).map(|()| copy.into());
        if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::AlreadyExists) {
            break;
        }
    }
    result
}
