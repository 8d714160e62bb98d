//! Why a server could not start or go on, and what an operator can do about it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

use rustix::fs::{Access, access, statvfs};
use rustix::io::Errno;
use rustix::process::geteuid;
use shards::log::LogError;
use storage::RecoveryError;

use crate::front::issuers::IssuerError;
use crate::rt::Refusal;
use crate::secret::SecretError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("{0}{remedy}\n  or leave --executor out: the server then runs without io_uring", remedy = .0.remedy())]
    Executor(#[from] Refusal),
    #[error(
        "{address} is taken: another process listens there\n  choose another address with --listen, or port 0 for a free one"
    )]
    AddressTaken { address: SocketAddr },
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    #[error("listen on {address}: {source}{}", listen_hint(source))]
    Listen { address: SocketAddr, source: io::Error },
    #[error(
        "--demo serves accounts with a known password, so it listens on loopback only, not on {address}\n  \
         use --listen 127.0.0.1:9092, or leave --demo out"
    )]
    DemoBeyondLoopback { address: SocketAddr },
    #[error("{source}{}", recovery_hint(source))]
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
    #[error("handle signals: {0}")]
    Signals(io::Error),
    #[error("connect the cores: {0}")]
    Mesh(io::Error),
    #[error("core {index} failed: {source}")]
    Core { index: usize, source: io::Error },
}

fn listen_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "\n  a port below 1024 needs a privilege: choose another with --listen, and let a proxy listen on this \
             one; or start as root; or allow it, with AmbientCapabilities=CAP_NET_BIND_SERVICE in a systemd unit"
        }
        io::ErrorKind::AddrNotAvailable => {
            "\n  no network interface of this machine has the address: with --listen, give one that it has, or \
             [::]:9092 for all of them"
        }
        _ => "",
    }
}

/// What an operator can do about a data directory that was refused.
pub(crate) fn recovery_hint(error: &RecoveryError) -> Cow<'static, str> {
    if error.is_no_room() {
        return no_room_hint(error).into();
    }
    if let Some((path, source)) = error.system_error() {
        return system_hint(path, source);
    }
    match error.may_be_repaired() {
        Some(directory) => format!(
            "\n  nothing was changed; see what can be repaired: boxoffice repair --data {}\n  or restore the file from a \
             backup, or move the whole directory away to start empty",
            directory.display()
        )
        .into(),
        None => refusal_hint(error).into(),
    }
}

/// What an operator can do about an error of the operating system.
fn system_hint(path: &Path, error: &io::Error) -> Cow<'static, str> {
    // The directory to be made may be missing, and so may some above it.
    let there = path.ancestors().find_map(|place| Some((place, fs::metadata(place).ok()?)));
    match (error.kind(), there) {
        (io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory, Some((place, metadata)))
            if !metadata.is_dir() =>
        {
            return format!("\n  {} is not a directory: choose one with --data", place.display()).into();
        }
        (io::ErrorKind::PermissionDenied, Some((place, metadata)))
            if access(path, Access::READ_OK | Access::WRITE_OK) == Err(Errno::ACCESS) || place != path =>
        {
            return permission_hint(path, place, metadata.uid()).into();
        }
        _ => {}
    }
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE | Errno::NFILE) => {
            "\n  nothing is known to be damaged: raise the limit of open files (ulimit -n in a shell, LimitNOFILE in a systemd unit), \
             and start again"
        }
        Some(Errno::NOMEM) => "\n  nothing is known to be damaged: free memory, and start again",
        Some(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR | Errno::ROFS | Errno::NAMETOOLONG) => {
            "\n  choose a directory that this user can write with --data"
        }
        Some(Errno::NOSPC | Errno::DQUOT) => "\n  the data is probably intact: free disk space, and start again",
        Some(_) | None => {
            "\n  nothing is known to be damaged: start again; if that does not help, look for errors of the disk in the \
             kernel's log (dmesg)"
        }
    }
    .into()
}

/// `place` is `path`, or the directory above it that is there.
fn permission_hint(path: &Path, place: &Path, owner: u32) -> String {
    let user = geteuid().as_raw();
    if owner == user {
        return format!(
            "\n  choose another directory with --data, or give its owner access: chmod -R u+rwX {}",
            place.display()
        );
    }
    let whose = if owner == 0 { "root".to_owned() } else { format!("user {owner}") };
    let remedy =
        if place == path { format!("chown -R {user}") } else { format!("install -d -m 700 -o {user}") };
    let (place, path) = (place.display(), path.display());
    format!(
        "\n  {place} is owned by {whose}, and this is user {user}: run this as {whose}; or, as root: {remedy} {path}; \
         or choose another directory with --data"
    )
}

/// What is missing, and where. `error` says that there is no room.
fn no_room_hint(error: &RecoveryError) -> String {
    let (path, kind) = match (error.system_error(), error) {
        (Some((path, source)), _) => (path, source.kind()),
        // SQLite's own error says no more.
        (None, RecoveryError::Log(LogError { place, .. })) => (Path::new(place), io::ErrorKind::StorageFull),
        (None, _) => (Path::new("."), io::ErrorKind::StorageFull),
    };
    // The directory to be made may be missing, and so may some above it.
    let place = path.ancestors().find(|place| place.exists()).unwrap_or(Path::new("."));
    let of_place = format!("the file system of {}", place.display());
    let missing = match kind {
        io::ErrorKind::QuotaExceeded => format!("a quota on {of_place} is used up: raise it, or remove files"),
        io::ErrorKind::FileTooLarge => {
            "files may not become longer: raise the limit (ulimit -f in a shell, LimitFSIZE in a systemd unit)".to_owned()
        }
        _ if statvfs(place).is_ok_and(|found| found.f_files > 0 && found.f_favail == 0) => {
            format!("{of_place} has no inodes left: remove files")
        }
        _ => format!("{of_place} is full: make room"),
    };
    format!("\n  {missing}, and start again; nothing was lost")
}

fn refusal_hint(error: &RecoveryError) -> &'static str {
    match error {
        RecoveryError::Locked { .. } => "\n  stop that process, or choose another directory with --data",
        RecoveryError::Thread(_) => {
            "\n  raise the limit of threads: ulimit -u in a shell, TasksMax in a systemd unit, --pids-limit of a \
             container; or use fewer --shards"
        }
        RecoveryError::WritableByOthers { .. } => {
            "\n  if nobody else has been in it: chmod 700 that directory, and start again; or choose another with --data, \
             such as a new one inside it"
        }
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
