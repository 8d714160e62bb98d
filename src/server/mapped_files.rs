//! Says why the process ends when memory that is mapped to a file cannot be used: SIGBUS.
//!
//! SQLite maps the index of a log's journal. Where a file system gives a block to each write anew (btrfs, or XFS
//! after a copy that shares blocks), the kernel may find no room for such a write, and it can tell only by this
//! signal. It also sends it if somebody truncates the file, or the disk fails.
#![allow(unsafe_code, reason = "a signal handler, and statvfs(2) in it")]

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::statvfs;
use signal_hook::consts::SIGBUS;
use signal_hook::low_level::{emulate_default_handler, register};

use crate::logging::{self, LogFormat};

/// A file system with less space than this counts as full: no write of SQLite's shared memory needs as much.
const FULL_BELOW_BYTES: u64 = 1 << 20;

/// Makes a SIGBUS end the process with a line in the log.
///
/// # Errors
///
/// When the signal cannot be handled.
pub(super) fn report_faults(format: LogFormat, data: &Path) -> io::Result<()> {
    let directory = CString::new(data.as_os_str().as_bytes())?;
    let place = data.display();
    let safe = "what was acknowledged is on disk";
    let full = logging::line(
        format,
        &format!(
            "boxoffice: SIGBUS: memory that is mapped to a file was not written: the file system of {place} is \
             full; {safe}. Make room, and start again; a start without room serves reads"
        ),
    );
    let other = logging::line(
        format,
        &format!(
            "boxoffice: SIGBUS: memory that is mapped to a file cannot be used: a file in {place} was truncated, a \
             quota is used up, or the disk failed (the kernel's log tells). Start again: the start checks all files"
        ),
    );
    let report = move || {
        let is_full = statvfs(&*directory)
            .is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) < FULL_BELOW_BYTES);
        logging::write_in_signal_handler(if is_full { full.as_bytes() } else { other.as_bytes() });
        let _ = emulate_default_handler(SIGBUS);
    };
    // SAFETY: the handler allocates nothing and takes no lock. It makes system calls only.
    unsafe { register(SIGBUS, report) }.map(drop)
}
