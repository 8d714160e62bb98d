//! A block device whose content is in this process, which records every write and flush that reaches it.
//!
//! It is a loop device over a file that this process serves. So it needs no kernel module but FUSE, unlike
//! dm-log-writes, nbd and ublk.

use std::fs::File;
use std::io::{self, Write};
use std::iter;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::fuse::{self, Served};

/// The size of a device: the least that XFS takes.
const DEVICE_BYTES: u64 = 300 << 20;
/// The part of a content that is copied when it changes.
const CHUNK_BYTES: usize = 64 << 10;

/// The timeout of an unmount, since the io_uring instances of a killed server hold its files for a moment.
const RELEASE_MAX: Duration = Duration::from_secs(10);

/// The content of a device. Copies share what does not differ.
#[derive(Clone)]
pub(crate) struct Content(Vec<Arc<[u8; CHUNK_BYTES]>>);

impl Content {
    fn zeros() -> Content {
        let chunk = Arc::new([0; CHUNK_BYTES]);
        Content(iter::repeat_n(chunk, DEVICE_BYTES as usize / CHUNK_BYTES).collect())
    }

    fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let mut data = Vec::with_capacity(length);
        while data.len() < length {
            let at = at as usize + data.len();
            let rest = &self.0[at / CHUNK_BYTES][at % CHUNK_BYTES..];
            data.extend_from_slice(&rest[..rest.len().min(length - data.len())]);
        }
        data
    }

    pub(crate) fn write(&mut self, at: u64, mut data: &[u8]) {
        let mut at = at as usize;
        while !data.is_empty() {
            let (start, length) = (at % CHUNK_BYTES, data.len().min(CHUNK_BYTES - at % CHUNK_BYTES));
            let chunk = Arc::make_mut(&mut self.0[at / CHUNK_BYTES]);
            chunk[start..start + length].copy_from_slice(&data[..length]);
            (at, data) = (at + length, &data[length..]);
        }
    }

    /// Writes the content to a file, for whoever looks into a failure.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let mut file = File::create(path)?;
        self.0.iter().try_for_each(|chunk| file.write_all(&**chunk))
    }
}

/// The first bytes of a database of SQLite, and of its journal.
const DATABASE: &[u8] = b"SQLite format 3\0";
const JOURNAL: &[u8] = &[0x37, 0x7f, 0x06];
/// The smallest block of a file system. Files begin at one.
const BLOCK_BYTES_MIN: usize = 1024;

fn has_header(data: &[u8], header: &[u8]) -> bool {
    data.chunks(BLOCK_BYTES_MIN).any(|block| block.starts_with(header))
}

pub(crate) enum Action {
    Write { at: u64, data: Vec<u8> },
    Flush,
}

/// What reached the device, in this order.
pub(crate) struct Entry {
    pub(crate) action: Action,
    /// The length of the ledger at the moment before.
    pub(crate) ledger: u64,
}

impl Entry {
    pub(crate) fn is_flush(&self) -> bool {
        matches!(self.action, Action::Flush)
    }

    /// Whether it writes the beginning of a database or of a journal: a file is made or claimed, or a journal is
    /// written back or begun anew.
    pub(crate) fn has_header(&self) -> bool {
        match &self.action {
            Action::Write { data, .. } => has_header(data, DATABASE) || has_header(data, JOURNAL),
            Action::Flush => false,
        }
    }
}

struct State {
    content: Content,
    entries: Vec<Entry>,
    flushes: usize,
    journals: usize,
    /// The file whose length each entry notes.
    ledger: PathBuf,
}

impl Served for State {
    fn length(&self) -> u64 {
        DEVICE_BYTES
    }

    fn read(&self, at: u64, length: usize) -> Vec<u8> {
        self.content.read(at, length)
    }

    fn write(&mut self, at: u64, data: &[u8]) {
        self.content.write(at, data);
        self.journals += usize::from(has_header(data, JOURNAL));
        self.enter(Action::Write { at, data: data.to_vec() });
    }

    fn sync(&mut self) {
        self.flushes += 1;
        self.enter(Action::Flush);
    }
}

impl State {
    fn enter(&mut self, action: Action) {
        let ledger = std::fs::metadata(&self.ledger).map_or(0, |metadata| metadata.len());
        self.entries.push(Entry { action, ledger });
    }
}

pub(crate) struct Device {
    /// Ends after this process. Otherwise a kill of the last process in a mount namespace would end in an unmount
    /// that waits for that process.
    keeper: Child,
    state: Arc<Mutex<State>>,
    /// The file that this process serves.
    file: PathBuf,
    /// Where the device is mounted.
    pub(crate) root: PathBuf,
}

impl Device {
    /// Makes an empty device in a folder. The error says what this machine lacks.
    pub(crate) fn make(folder: &Path) -> Result<Device, String> {
        let (file, root) = (folder.join("device"), folder.join("disk"));
        std::fs::create_dir(&root).expect("the folder is ours");
        File::create(&file).expect("the folder is ours");
        let state = State {
            content: Content::zeros(),
            entries: Vec::new(),
            flushes: 0,
            journals: 0,
            ledger: PathBuf::new(),
        };
        let state = Arc::new(Mutex::new(state));
        fuse::mount(&file, Arc::clone(&state))?;
        let mut keeper = Command::new("cat");
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
        let keeper = keeper.spawn().expect("cat is everywhere");
        Ok(Device { keeper, state, file, root })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a file system on the device, which must not be mounted.
    pub(crate) fn format(&self, mkfs: &[&str]) -> Result<(), String> {
        call(Command::new(mkfs[0]).args(&mkfs[1..]).arg(&self.file).stdin(Stdio::null()))
    }

    pub(crate) fn mount(&self) -> Result<(), String> {
        call(Command::new("mount").args(["-o", "loop"]).args([&self.file, &self.root]).stdin(Stdio::null()))
    }

    /// Unmounts the device. Processes that use it must have ended.
    pub(crate) fn unmount(&self) {
        let start = Instant::now();
        while let Err(why) = call(Command::new("umount").arg(&self.root)) {
            assert!(start.elapsed() < RELEASE_MAX, "{why}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The content now. From now on, each entry notes the length of this ledger.
    pub(crate) fn record(&self, ledger: &Path) -> Content {
        let mut state = self.state();
        state.entries.clear();
        state.ledger = ledger.to_owned();
        state.content.clone()
    }

    /// The number of entries so far.
    pub(crate) fn position(&self) -> usize {
        self.state().entries.len()
    }

    /// The number of flushes so far.
    pub(crate) fn flushes(&self) -> usize {
        self.state().flushes
    }

    /// The number of journals of SQLite that were begun or begun anew so far.
    pub(crate) fn journals(&self) -> usize {
        self.state().journals
    }

    /// The entries since the recording began.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        std::mem::take(&mut self.state().entries)
    }

    /// Gives the device another content. It must not be mounted.
    pub(crate) fn load(&self, content: Content) {
        self.state().content = content;
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // A busy mount is detached, and released when its last user ends.
        for mounted in [&self.root, &self.file] {
            if call(Command::new("umount").arg(mounted)).is_err() {
                let _ = call(Command::new("umount").arg("-l").arg(mounted));
            }
        }
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Runs a command; returns its standard error if it fails.
pub(crate) fn call(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {}", stderr.trim())) }
}
