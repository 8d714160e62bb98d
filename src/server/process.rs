//! Settings of the process: descriptors, permissions of new files, cores, panics, and the CPUs that it may use.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io;
use std::num::NonZero;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shards::limits::SHARD_COUNT_MAX;

use storage::FilesInUse;

use super::error::ServeError;
use crate::logging::{self, LogFormat};
use crate::pump::end_process;

/// Descriptors of a core: its rings, epoll instance, waker, listener and log, with those that watch the log. An idle
/// core has 20; the rest is a margin, since the runtime panics when there are too few.
const DESCRIPTORS_PER_CORE: usize = 32;

/// Descriptors of the process itself and of its first clients.
const DESCRIPTORS_MIN: usize = 64;

/// Descriptors that connections do not get: for logs, the runtime, and clients whose connection is refused.
const DESCRIPTORS_RESERVED: usize = 512;

/// The number of CPUs that this process may use at a time, by its affinity and its control group.
pub(super) fn cpu_count() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// The number of shards where none is given.
pub(crate) fn default_shard_count() -> usize {
    cpu_count().min(SHARD_COUNT_MAX)
}

/// Makes new files readable by their owner alone, since the log has hashes of passwords, and makes the kernel write
/// no core when the process is killed or panics: its memory has secrets.
pub(crate) fn keep_secrets() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // Below the size of any core file, and the one limit that also holds where the kernel pipes cores to a program
    // (`coredump_pipe` in fs/coredump.c). The process stays dumpable, so that its user can trace it.
    let no_core = Rlimit { current: Some(1), maximum: Some(1) };
    if let Err(error) = setrlimit(Resource::Core, no_core) {
        tracing::warn!(%error, "cores could not be disabled");
    }
}

/// Ends the process on a panic. A panic is a bug, after which the state of a shard cannot be trusted; a restart
/// recovers what is durable.
pub(super) fn abort_on_panic(format: LogFormat) {
    std::panic::set_hook(Box::new(move |panic| {
        let thread = thread::current();
        let mut text = format!("thread '{}' {panic}", thread.name().unwrap_or("without a name"));
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            text += &format!("\n{backtrace}");
        }
        logging::report(format, &text);
        std::process::abort();
    }));
}

/// How often the files of the data directory are looked at, beside the look after each commit.
const WATCH: Duration = Duration::from_secs(1);

/// Starts a thread that ends the process when a file of the data directory is removed, moved or replaced.
///
/// # Errors
///
/// When there is no thread left.
pub(super) fn watch_files(files: FilesInUse) -> io::Result<()> {
    let check = move || {
        loop {
            thread::sleep(WATCH);
            if let Err(error) = files.check() {
                end_process(&error);
            }
        }
    };
    thread::Builder::new().name("files".to_owned()).spawn(check).map(drop)
}

/// Raises the limit of open files as far as the system allows. Returns the limit.
///
/// # Errors
///
/// When it is too low for that many shards.
pub(super) fn raise_descriptor_limit(shards: usize) -> Result<usize, ServeError> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files could not be raised");
            limit.current
        }
    };
    let limit = current.map_or(usize::MAX, |current| usize::try_from(current).unwrap_or(usize::MAX));
    let needed = DESCRIPTORS_MIN + DESCRIPTORS_PER_CORE * shards;
    if limit < needed {
        return Err(ServeError::FewDescriptors { shards, needed, limit });
    }
    Ok(limit)
}

/// The number of connections where none is given: those for which there are descriptors.
pub(super) fn default_connections_max(descriptor_limit: usize, shards: usize) -> usize {
    let left = descriptor_limit - DESCRIPTORS_PER_CORE * shards;
    left - DESCRIPTORS_RESERVED.min(left / 2)
}
