//! Checks before the start that the kernel grants what the runtime needs. The runtime itself would panic, or
//! report another cause.
#![allow(unsafe_code, reason = "io_uring_setup is a raw system call")]

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// The locked memory that the runtime requires, in bytes.
const LOCKED_MEMORY_MIN: u64 = 512 * 1024;

/// What is missing, and how to provide it.
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
    /// Kernels before 5.12 count the rings of all processes of a user against one limit.
    #[error(
        "there is no memory for io_uring: the kernel has none, or this user's processes have locked \
         all they may\n  \
         in a shell: ulimit -l 8192\n  \
         in a systemd unit: LimitMEMLOCK=8M\n  \
         in a container: docker run --ulimit memlock=8388608"
    )]
    NoMemory,
}

/// Checks the limit of locked memory, and that a ring can be made.
///
/// # Errors
///
/// When the runtime cannot start here.
pub(crate) fn check() -> Result<(), RuntimeError> {
    // In bytes; `None` for no limit.
    match getrlimit(Resource::Memlock).current {
        Some(limit) if limit < LOCKED_MEMORY_MIN => {
            return Err(RuntimeError::LockedMemory { limit_kib: limit / 1024 });
        }
        Some(_) | None => {}
    }
    let mut parameters = rustix::io_uring::io_uring_params::default();
    // SAFETY: the parameters are a valid, zeroed struct, as the call requires; the returned descriptor is
    // closed at once.
    match unsafe { rustix::io_uring::io_uring_setup(4, &mut parameters) } {
        Ok(_ring) => Ok(()),
        Err(Errno::NOSYS) => Err(RuntimeError::NoIoUring),
        Err(Errno::NOMEM) => Err(RuntimeError::NoMemory),
        Err(errno) => Err(RuntimeError::Forbidden(errno)),
    }
}
