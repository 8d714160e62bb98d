//! Why a server could not start or go on, and what an operator can do about it.

use std::io;
use std::net::SocketAddr;

use storage::RecoveryError;

use crate::rt::RuntimeError;
use crate::secret::SecretError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(
        "{address} is taken: another process listens there\n  choose another address with --listen, or port 0 for a free one"
    )]
    AddressTaken { address: SocketAddr },
    #[error("listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error(
        "--demo serves accounts with a known password, so it listens on loopback only, not on {address}\n  \
         use --listen 127.0.0.1:9092, or leave --demo out"
    )]
    DemoBeyondLoopback { address: SocketAddr },
    #[error("{source}{}", hint(source))]
    Recovery {
        #[from]
        source: RecoveryError,
    },
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(
        "{shards} shards need a limit of at least {needed} open files, it is {limit}\n  \
         in a shell: ulimit -n 65536; in a systemd unit: LimitNOFILE=65536; or fewer --shards"
    )]
    FewDescriptors { shards: usize, needed: usize, limit: usize },
    #[error("start a thread: {0}")]
    Thread(io::Error),
    #[error("connect the cores: {0}")]
    Mesh(io::Error),
    #[error("core {index} failed: {source}")]
    Core { index: usize, source: io::Error },
}

fn hint(error: &RecoveryError) -> &'static str {
    match error {
        RecoveryError::Locked { .. } => "\n  stop that process, or choose another directory with --data",
        RecoveryError::Thread(_) => {
            "\n  raise the limit of threads: ulimit -u in a shell, TasksMax in a systemd unit, --pids-limit of a \
             container; or use fewer --shards"
        }
        RecoveryError::Io { .. } => "\n  choose a directory that this user can write with --data",
        RecoveryError::OldFormat { .. } => {
            "\n  nothing was changed; move the whole directory away to start empty"
        }
        error if error.is_newer() => "",
        error if error.is_transient() => {
            "\n  the data is probably intact: free disk space, close other programs that have the file open, \
             and start again"
        }
        _ => {
            "\n  nothing was changed; restore the file from a backup, or move the whole directory away to start empty"
        }
    }
}
