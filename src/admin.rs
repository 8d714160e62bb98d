//! `boxoffice admin`: changes a data directory while no server uses it.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use shards::clock::Now;
use shards::command::{Ask, Command, CreateUser};
use shards::ids::{Role, UserId, Username, UsernameError};
use shards::limits::LOCK_WAIT_MAX;
use shards::log::{AppendError, Log};
use shards::outcome::Rejection;
use shards::shard::{Release, Shard};
use shards::slots::{shard_of_slot, slot_of_username};
use storage::{Progress, RecoveryError, SqliteLog};

use crate::clock::wall;
use crate::given_secret::{Given, GivenError};
use crate::passwords::hash_now;
use crate::passwords::rules::NewPassword;
use crate::random;
use crate::server::{default_shard_count, keep_secrets, recovery_hint, survive_long_files};

/// How scripts can give the password.
pub(crate) const PASSWORD: Given = Given {
    variable: "BOXOFFICE_ADMIN_PASSWORD",
    file_variable: "BOXOFFICE_ADMIN_PASSWORD_FILE",
    credential: "admin-password",
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error("username {0}")]
    Username(#[from] UsernameError),
    #[error("read the password: {0}")]
    ReadPassword(io::Error),
    #[error(transparent)]
    Given(#[from] GivenError),
    #[error("the value of {0} is not UTF-8")]
    NotText(String),
    #[error("the password {0}")]
    Password(String),
    #[error("the two passwords differ")]
    PasswordsDiffer,
    #[error("the username is taken")]
    UsernameTaken,
    #[error(
        "the last account id, {}, was given out; make another account an admin with PATCH /api/v1/users/ID",
        u32::MAX
    )]
    IdsUsedUp,
    #[error("data directory {} is in use: stop the server first, then run this again", path.display())]
    InUse { path: PathBuf },
    #[error("{0}{hint}", hint = recovery_hint(.0))]
    Recovery(RecoveryError),
    #[error(transparent)]
    Log(#[from] AppendError),
}

/// Creates an admin account durably and returns its id.
///
/// # Errors
///
/// When the username or password is invalid, no id is left, or the data directory is in use or cannot
/// be recovered.
pub(crate) fn create(directory: &Path, username: &str) -> Result<UserId, AdminError> {
    keep_secrets();
    survive_long_files();
    let username = Username::new(username)?;
    let password = read_password()?;
    let password = NewPassword::new(&password).map_err(AdminError::Password)?;
    password.check_beside(&username).map_err(AdminError::Password)?;
    let password_hash = hash_now(password.as_str());

    let refused = |error| match error {
        RecoveryError::Locked { path } => AdminError::InUse { path },
        other => AdminError::Recovery(other),
    };
    let last = storage::last_shard_count(directory).map_err(refused)?;
    let shard_count = last.unwrap_or_else(default_shard_count);
    let recovered = storage::open(directory, shard_count, &Progress::default()).map_err(refused)?;
    let id = recovered.highest_user.0.checked_add(1).map(UserId).ok_or(AdminError::IdsUsedUp)?;
    let (mut states, mut logs): (Vec<_>, Vec<_>) = recovered.shards.into_iter().unzip();
    let owner = shard_of_slot(slot_of_username(&username), shard_count);
    let shard = Shard::new(states.swap_remove(owner), &recovered.heads, recovered.epoch);
    let token_version = random::u64();
    let create = CreateUser { id, username, password_hash, role: Role::Admin, token_version };
    let created = create_user(shard, &mut logs[owner], create);
    for log in logs {
        // What was committed is stored, whether or not this works.
        let _ = Box::new(log).close();
    }
    created.map(|()| id)
}

fn create_user(mut shard: Shard<()>, log: &mut SqliteLog, create: CreateUser) -> Result<(), AdminError> {
    shard.take_in(Now::at(wall()), Ask::Command(Command::CreateUser(Box::new(create))), ());
    match shard.next_release() {
        // The acknowledgement is held until the record is durable.
        None => {}
        Some(Release::Answer((), Err(Rejection::UsernameTaken))) => return Err(AdminError::UsernameTaken),
        Some(other) => unreachable!("creating a user was answered with {other:?}"),
    }
    let batch = shard.begin_commit().expect("the command produced a record");
    log.append(&batch.entries, LOCK_WAIT_MAX).map(drop).map_err(AdminError::from)
}

/// Reads the password that is given; else from the terminal, twice and without echo; else one line from
/// standard input.
fn read_password() -> Result<String, AdminError> {
    if let Some((place, password)) = PASSWORD.read()? {
        return String::from_utf8(password).map_err(|_| AdminError::NotText(place));
    }
    if !io::stdin().is_terminal() {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map_err(AdminError::ReadPassword)?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let first = rpassword::prompt_password("Password: ").map_err(AdminError::ReadPassword)?;
    let second = rpassword::prompt_password("Repeat the password: ").map_err(AdminError::ReadPassword)?;
    if first == second { Ok(first) } else { Err(AdminError::PasswordsDiffer) }
}
