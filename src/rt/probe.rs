//! Asks the kernel for what the runtime needs before it starts: its own
//! answers, when refused, are a panic or speak of something else.
#![allow(unsafe_code, reason = "io_uring_setup is a raw system call")]

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// What the runtime insists on.
const LOCKED_MEMORY_MIN: u64 = 512 * 1024;

/// What is missing, and how to have it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeError {
    #[error(
        "this kernel is too old for io_uring\n  \
         boxoffice needs Linux 5.8 or later"
    )]
    NoIoUring,
    #[error(
        "io_uring is forbidden here ({0})\n  \
         on a host: sysctl kernel.io_uring_disabled=0\n  \
         in a container: the default seccomp profile forbids it; allow io_uring_setup, io_uring_enter and \
         io_uring_register, e.g. docker run --security-opt seccomp=PROFILE.json"
    )]
    Forbidden(Errno),
    #[error(
        "the limit of locked memory is {limit_kib} KiB, io_uring needs {} KiB\n  \
         in a shell: ulimit -l 8192\n  \
         in a systemd unit: LimitMEMLOCK=8M\n  \
         in a container: docker run --ulimit memlock=8388608",
        LOCKED_MEMORY_MIN / 1024
    )]
    LockedMemory { limit_kib: u64 },
}

/// # Errors
///
/// When the runtime could not start here.
pub(crate) fn check() -> Result<(), RuntimeError> {
    let mut parameters = rustix::io_uring::io_uring_params::default();
    // SAFETY: the parameters are a valid, zeroed struct, as the call asks for;
    // the descriptor that comes back is closed at once.
    match unsafe { rustix::io_uring::io_uring_setup(4, &mut parameters) } {
        Ok(_ring) => {}
        Err(Errno::NOSYS) => return Err(RuntimeError::NoIoUring),
        Err(Errno::NOMEM) => return Err(locked_memory(current_limit().unwrap_or(0))),
        Err(errno) => return Err(RuntimeError::Forbidden(errno)),
    }
    match current_limit() {
        Some(limit) if limit < LOCKED_MEMORY_MIN => Err(locked_memory(limit)),
        Some(_) | None => Ok(()),
    }
}

/// In bytes; `None` for no limit.
fn current_limit() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}

fn locked_memory(limit: u64) -> RuntimeError {
    RuntimeError::LockedMemory { limit_kib: limit / 1024 }
}
