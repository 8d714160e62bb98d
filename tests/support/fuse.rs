//! One file that this process serves to the kernel, by the FUSE protocol (`linux/fuse.h`).
//!
//! The file is the root of its file system: a mount point may be a regular file, and then there are no names to
//! look up. The kernel's page cache is not used.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::device::call;

/// The content of the file. Its length does not change.
pub(crate) trait Served: Send + 'static {
    fn length(&self) -> u64;
    fn read(&self, at: u64, length: usize) -> Vec<u8>;
    fn write(&mut self, at: u64, data: &[u8]);
    fn sync(&mut self);
}

/// The largest write of the kernel, and what a request has besides.
const WRITE_MAX: usize = 128 << 10;
const REQUEST_MAX: usize = WRITE_MAX + 4096;

/// Mounts a file over the one that is there, and serves it until it is unmounted.
pub(crate) fn mount(file: &Path, served: Arc<Mutex<impl Served>>) -> Result<(), String> {
    let opened = File::options().read(true).write(true).open("/dev/fuse");
    let fuse = opened.map_err(|error| format!("/dev/fuse: {error}"))?;
    // The number is that of the standard input.
    let options = "fd=0,rootmode=100000,user_id=0,group_id=0";
    let mut mount = Command::new("mount");
    mount.args(["-i", "-t", "fuse", "-o", options, "recorded"]).arg(file);
    call(mount.stdin(fuse.try_clone().expect("a free descriptor")))?;
    thread::spawn(move || serve(fuse, &served));
    Ok(())
}

fn serve(mut fuse: File, served: &Mutex<impl Served>) {
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
        let body = answer(&mut *served.lock().unwrap_or_else(PoisonError::into_inner), request);
        let (error, body) = match body {
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

/// The body of the reply to a request, or an error; `None` if the kernel expects no reply.
fn answer(served: &mut impl Served, request: &[u8]) -> Option<Result<Vec<u8>, i32>> {
    let offset = || word(request, HEADER + 8);
    Some(Ok(match half(request, 4) {
        INIT => init(),
        GETATTR => attributes(served.length()),
        // A handle, and FOPEN_DIRECT_IO.
        OPEN => [0u64, 1].map(u64::to_ne_bytes).concat(),
        READ => served.read(offset(), half(request, HEADER + 16) as usize),
        WRITE => {
            let data = &request[DATA..];
            served.write(offset(), data);
            (data.len() as u64).to_ne_bytes().to_vec()
        }
        FSYNC => {
            served.sync();
            Vec::new()
        }
        RELEASE | FLUSH => Vec::new(),
        FORGET | INTERRUPT => return None,
        _ => return Some(Err(NO_SUCH_CALL)),
    }))
}

/// The reply to the first request, `struct fuse_init_out`: the version of the protocol, and large writes.
fn init() -> Vec<u8> {
    let big_writes = 1 << 5;
    let mut words = [0u32; 16];
    words[..8].copy_from_slice(&[7, 31, 0, big_writes, 0, WRITE_MAX as u32, 1, 0]);
    words.map(u32::to_ne_bytes).concat()
}

/// A regular file of this length: `struct fuse_attr_out`.
fn attributes(length: u64) -> Vec<u8> {
    let (valid_seconds, inode, blocks) = (3600, 1, length / 512);
    let long = [valid_seconds, 0, inode, length, blocks, 0, 0, 0].map(u64::to_ne_bytes).concat();
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
