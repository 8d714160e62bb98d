//! A block device whose content is in this process, which records every write and flush that reaches it.
//!
//! It is a loop device over a file that this process serves by the FUSE protocol (`linux/fuse.h`), so it needs no
//! kernel module for block devices. The file is the root of its file system: a mount point may be a regular
//! file, and then there are no names to look up.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The size of a device: the least that XFS takes.
const DEVICE_BYTES: u64 = 300 << 20;
/// The part of a content that is copied when it changes.
const CHUNK_BYTES: usize = 64 << 10;
/// The largest write of the kernel, and what a request has besides.
const WRITE_MAX: usize = 128 << 10;
const REQUEST_MAX: usize = WRITE_MAX + 4096;

/// The timeout of an unmount, since the io_uring instances of a killed server hold its files for a moment.
const RELEASE_MAX: Duration = Duration::from_secs(10);

/// The content of a device. Copies share what does not differ.
#[derive(Clone)]
pub(crate) struct Content(Vec<Arc<[u8; CHUNK_BYTES]>>);

impl Content {
    fn zeros() -> Content {
        Content(vec![Arc::new([0; CHUNK_BYTES]); DEVICE_BYTES as usize / CHUNK_BYTES])
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

pub(crate) struct Device {
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
        let opened = File::options().read(true).write(true).open("/dev/fuse");
        let fuse = opened.map_err(|error| format!("/dev/fuse: {error}"))?;
        // The number is that of the standard input.
        let options = "fd=0,rootmode=100000,user_id=0,group_id=0";
        let mut mount = Command::new("mount");
        mount.args(["-i", "-t", "fuse", "-o", options, "recorded"]).arg(&file);
        call(mount.stdin(fuse.try_clone().expect("a free descriptor")))?;
        let state = State {
            content: Content::zeros(),
            entries: Vec::new(),
            flushes: 0,
            journals: 0,
            ledger: PathBuf::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let served = Arc::clone(&state);
        thread::spawn(move || serve(fuse, &served));
        Ok(Device { state, file, root })
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
    }
}

/// Runs a command; returns its standard error if it fails.
fn call(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {}", stderr.trim())) }
}

/// Answers requests of the kernel until the file is unmounted.
fn serve(mut fuse: File, state: &Mutex<State>) {
    let mut buffer = vec![0; REQUEST_MAX];
    loop {
        let length = match fuse.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.raw_os_error() == Some(NO_DEVICE) => return,
            // The request was interrupted before it was read.
            Err(error) if error.raw_os_error() == Some(NO_ENTRY) => continue,
            Err(error) => panic!("read from /dev/fuse: {error}"),
        };
        let request = &buffer[..length];
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let (error, body) = match state.answer(request) {
            Some(Ok(body)) => (0, body),
            Some(Err(error)) => (-error, Vec::new()),
            None => continue,
        };
        let mut reply = Vec::with_capacity(16 + body.len());
        reply.extend((16 + body.len() as u32).to_ne_bytes());
        reply.extend(error.to_ne_bytes());
        reply.extend(&request[8..16]);
        reply.extend(body);
        // Fails if the request was interrupted meanwhile.
        let _ = fuse.write(&reply);
    }
}

const NO_ENTRY: i32 = 2;
const NO_DEVICE: i32 = 19;
const NO_SUCH_CALL: i32 = 38;

/// Requests, by their number in `enum fuse_opcode`.
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;

/// Where the members of a request's own part begin, behind `struct fuse_in_header`.
const HEADER: usize = 40;
/// The data of a write, behind `struct fuse_write_in`.
const DATA: usize = HEADER + 40;

impl State {
    /// The body of the reply to a request, or an error; `None` if the kernel expects no reply.
    fn answer(&mut self, request: &[u8]) -> Option<Result<Vec<u8>, i32>> {
        let offset = || word(request, HEADER + 8);
        Some(Ok(match half(request, 4) {
            INIT => init(),
            GETATTR => attributes(),
            // The page cache of the kernel is not used: a write is seen when it is done.
            OPEN => [0u64, 1].map(u64::to_ne_bytes).concat(),
            READ => self.content.read(offset(), half(request, HEADER + 16) as usize),
            WRITE => {
                let (at, data) = (offset(), &request[DATA..]);
                self.content.write(at, data);
                self.journals += usize::from(has_header(data, JOURNAL));
                self.enter(Action::Write { at, data: data.to_vec() });
                (data.len() as u64).to_ne_bytes().to_vec()
            }
            FSYNC => {
                self.flushes += 1;
                self.enter(Action::Flush);
                Vec::new()
            }
            RELEASE | FLUSH => Vec::new(),
            FORGET | INTERRUPT => return None,
            _ => return Some(Err(NO_SUCH_CALL)),
        }))
    }

    fn enter(&mut self, action: Action) {
        let ledger = std::fs::metadata(&self.ledger).map_or(0, |metadata| metadata.len());
        self.entries.push(Entry { action, ledger });
    }
}

/// The reply to the first request, `struct fuse_init_out`: the version of the protocol, and large writes.
fn init() -> Vec<u8> {
    let big_writes = 1 << 5;
    let mut words = [0u32; 16];
    words[..8].copy_from_slice(&[7, 31, 0, big_writes, 0, WRITE_MAX as u32, 1, 0]);
    words.map(u32::to_ne_bytes).concat()
}

/// A regular file of the device's size, which does not change: `struct fuse_attr_out`.
fn attributes() -> Vec<u8> {
    let (valid_seconds, inode, blocks) = (3600, 1, DEVICE_BYTES / 512);
    let long = [valid_seconds, 0, inode, DEVICE_BYTES, blocks, 0, 0, 0].map(u64::to_ne_bytes).concat();
    let (mode, links, block_bytes) = (0o100_600, 1, 4096);
    let short = [0, 0, 0, mode, links, 0, 0, 0, block_bytes, 0].map(u32::to_ne_bytes).concat();
    [long, short].concat()
}

fn word(request: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(request[at..at + 8].try_into().expect("eight bytes"))
}

fn half(request: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(request[at..at + 4].try_into().expect("four bytes"))
}
