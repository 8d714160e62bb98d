//! Checks before the start whether the system grants what glommio needs.
#![allow(unsafe_code, reason = "io_uring_setup is a raw system call")]

use std::io;

use rustix::io::Errno;
use rustix::io_uring::{IoringFeatureFlags, io_uring_params, io_uring_setup};
use rustix::process::{Resource, getrlimit};

/// The locked memory that glommio requires, in bytes.
const LOCKED_MEMORY_MIN: u64 = 512 * 1024;

/// Why glommio cannot run here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("this kernel has no io_uring ({})", io::Error::from(Errno::NOSYS))]
    NoIoUring,
    #[error("this kernel is too old for io_uring as glommio uses it")]
    TooOld,
    #[error("io_uring is forbidden here ({})", io::Error::from(*.0))]
    Forbidden(Errno),
    #[error(
        "the limit of locked memory is {limit_kib} KiB, io_uring needs {} KiB",
        LOCKED_MEMORY_MIN / 1024
    )]
    LockedMemory { limit_kib: u64 },
    /// Kernels before 5.12 count the rings of all processes of a user against one limit.
    #[error(
        "there is no memory for io_uring: the kernel has none, or this user's processes have locked all they may"
    )]
    NoMemory,
}

impl Refusal {
    /// What an operator can change, as more lines of a message.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Refusal::NoIoUring | Refusal::TooOld => "\n  Linux 5.8 or later has it",
            Refusal::Forbidden(_) => {
                "\n  on a host: sysctl kernel.io_uring_disabled=0\
                 \n  in a container: the default seccomp profile forbids it; allow io_uring_setup, io_uring_enter and \
                 io_uring_register, e.g. docker run --security-opt seccomp=PROFILE.json"
            }
            Refusal::LockedMemory { .. } | Refusal::NoMemory => {
                "\n  in a shell: ulimit -l 8192\
                 \n  in a systemd unit: LimitMEMLOCK=8M\
                 \n  in a container: docker run --ulimit memlock=8388608"
            }
        }
    }
}

/// Checks the limit of locked memory, and that a ring can be made.
///
/// # Errors
///
/// When glommio cannot run here.
pub(super) fn check() -> Result<(), Refusal> {
    // In bytes; `None` for no limit.
    match getrlimit(Resource::Memlock).current {
        Some(limit) if limit < LOCKED_MEMORY_MIN => {
            return Err(Refusal::LockedMemory { limit_kib: limit / 1024 });
        }
        Some(_) | None => {}
    }
    let mut parameters = io_uring_params::default();
    // SAFETY: the parameters are a valid, zeroed struct, as the call requires; the returned descriptor is
    // closed at once.
    match unsafe { io_uring_setup(4, &mut parameters) } {
        // Of Linux 5.7. Linux 5.6 has the last operation that glommio submits.
        Ok(_ring) if !parameters.features.contains(IoringFeatureFlags::FAST_POLL) => Err(Refusal::TooOld),
        Ok(_ring) => Ok(()),
        Err(Errno::NOSYS) => Err(Refusal::NoIoUring),
        Err(Errno::NOMEM) => Err(Refusal::NoMemory),
        Err(errno) => Err(Refusal::Forbidden(errno)),
    }
}
