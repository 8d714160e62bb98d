//! Finds the processes that use a log beside this one, by the locks that they have on SQLite's shared memory.
//!
//! The kernel says who has a lock (`F_GETLK`): one process for each byte, and never this one.

use std::fs::{self, File};
use std::ops::Range;

use rustix::process::{Flock, FlockType, fcntl_getlk};
use shards::log::Reader;

/// The bytes of the shared memory that are locked by whoever writes, checkpoints, recovers or reads the log
/// (<https://sqlite.org/walformat.html#locks>). The byte after these is locked by whoever has the log open.
const LOCKS: Range<u64> = 120..128;

/// The processes that have locks on a log's shared memory now.
pub(crate) fn readers(shared_memory: &File) -> Vec<Reader> {
    let holder = |start| {
        // Nothing is locked by this: it only asks what would be in the way.
        let lock = Flock { start, length: 1, ..Flock::from(FlockType::WriteLock) };
        let found = fcntl_getlk(shared_memory, &lock).ok().flatten();
        found.map(|found| found.pid.map(|pid| pid.as_raw_nonzero().get()))
    };
    let mut holders: Vec<_> = LOCKS.filter_map(holder).collect();
    holders.sort_unstable();
    holders.dedup();
    holders.into_iter().map(reader).collect()
}

/// The kernel gives no id for a process that is not in this one's namespace, and -1 if the lock belongs to an open
/// file instead of a process.
fn reader(pid: Option<i32>) -> Reader {
    let pid = pid.and_then(|pid| u32::try_from(pid).ok());
    let name = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    Reader { pid, name: name.map(|name| printable(name.trim_end())) }
}

/// A process chooses its name, which goes to logs and metrics.
fn printable(name: &str) -> String {
    let is_plain = |letter: char| letter == ' ' || letter.is_ascii_graphic() && !matches!(letter, '"' | '\\');
    name.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect()
}
