//! `boxoffice admin`: changes a data directory while no server uses it.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use shards::clock::Now;
use shards::command::{Ask, ChangePassword, Command, CreateUser, EndTokens, Query};
use shards::ids::{Role, Slot, UserId, Username, UsernameError};
use shards::limits::LOCK_WAIT_MAX;
use shards::log::{AppendError, Log};
use shards::outcome::{Outcome, Rejection, UserView};
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
    #[error("there is no account with this username; see: boxoffice admin list")]
    NoSuchAccount,
    #[error("there is no data directory {}", path.display())]
    NoDirectory { path: PathBuf },
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
    let username = Username::new(username)?;
    let password_hash = hash_of_new_password(&username)?;
    let mut accounts = Accounts::open(directory)?;
    let id = accounts.highest.0.checked_add(1).map(UserId).ok_or(AdminError::IdsUsedUp)?;
    let slot = slot_of_username(&username);
    let token_version = random::u64();
    let create = CreateUser { id, username, password_hash, role: Role::Admin, token_version };
    let created = accounts.change(slot, Command::CreateUser(Box::new(create)));
    accounts.close();
    created.map(|()| id)
}

/// All accounts that can be used, by id.
///
/// # Errors
///
/// When there is no data directory, or it is in use or cannot be recovered.
pub(crate) fn list(directory: &Path) -> Result<Vec<UserView>, AdminError> {
    let mut accounts = Accounts::open_existing(directory)?;
    let mut users = accounts.all();
    accounts.close();
    users.sort_unstable_by_key(|user| user.id);
    Ok(users)
}

/// Gives an account another password, which ends its tokens and API keys. The log says that the account did so itself.
///
/// # Errors
///
/// When the password is invalid, there is no such account, or the data directory is in use or cannot be recovered.
pub(crate) fn set_password(directory: &Path, username: &str) -> Result<(), AdminError> {
    let username = Username::new(username)?;
    let password_hash = hash_of_new_password(&username)?;
    change_account(directory, username, |user, username| {
        let (token_version, next_token_version) = (None, random::u64());
        let change =
            ChangePassword { user, username, by: user, token_version, password_hash, next_token_version };
        Command::ChangePassword(Box::new(change))
    })
}

/// Ends all tokens of an account; its API keys stay. The log says that the account did so itself.
///
/// # Errors
///
/// When there is no such account, or the data directory is in use or cannot be recovered.
pub(crate) fn end_tokens(directory: &Path, username: &str) -> Result<(), AdminError> {
    change_account(directory, Username::new(username)?, |user, username| {
        let next_token_version = random::u64();
        Command::EndTokens(Box::new(EndTokens { user, username, by: user, next_token_version }))
    })
}

fn change_account(
    directory: &Path,
    username: Username,
    change: impl FnOnce(UserId, Username) -> Command,
) -> Result<(), AdminError> {
    let mut accounts = Accounts::open_existing(directory)?;
    let known = accounts.all().into_iter().find(|user| user.username == username);
    let changed = match known {
        None => Err(AdminError::NoSuchAccount),
        Some(user) => accounts.change(slot_of_username(&username), change(user.id, username)),
    };
    accounts.close();
    changed
}

fn hash_of_new_password(username: &Username) -> Result<Box<str>, AdminError> {
    let password = read_password()?;
    let password = NewPassword::new(&password).map_err(AdminError::Password)?;
    password.check_beside(username).map_err(AdminError::Password)?;
    Ok(hash_now(password.as_str()))
}

/// The accounts of a data directory that no server uses.
struct Accounts {
    shards: Vec<(Shard<()>, SqliteLog)>,
    /// The highest id that was given out.
    highest: UserId,
}

impl Accounts {
    /// Recovers a data directory, or makes it.
    fn open(directory: &Path) -> Result<Accounts, AdminError> {
        keep_secrets();
        survive_long_files();
        let refused = |error| match error {
            RecoveryError::Locked { path } => AdminError::InUse { path },
            other => AdminError::Recovery(other),
        };
        let last = storage::last_shard_count(directory).map_err(refused)?;
        let shard_count = last.unwrap_or_else(default_shard_count);
        let recovered = storage::open(directory, shard_count, &Progress::default()).map_err(refused)?;
        let shard = |(state, log)| (Shard::new(state, &recovered.heads, recovered.epoch), log);
        let shards = recovered.shards.into_iter().map(shard).collect();
        Ok(Accounts { shards, highest: recovered.highest_user })
    }

    fn open_existing(directory: &Path) -> Result<Accounts, AdminError> {
        if !directory.is_dir() {
            return Err(AdminError::NoDirectory { path: directory.to_owned() });
        }
        Accounts::open(directory)
    }

    fn all(&mut self) -> Vec<UserView> {
        let mut users = Vec::new();
        for (shard, _) in &mut self.shards {
            let query = Query::Users { after: None, limit: usize::MAX };
            shard.take_in(Now::at(wall()), Ask::Query(query), ());
            match shard.next_release() {
                Some(Release::Answer((), Ok(Outcome::Part(part)))) => match part.outcome {
                    Outcome::Users(part) => users.extend(part),
                    other => unreachable!("a list of users is {other:?}"),
                },
                other => unreachable!("a list of users was answered with {other:?}"),
            }
        }
        users
    }

    /// Commits a change of an account of a slot.
    fn change(&mut self, slot: Slot, command: Command) -> Result<(), AdminError> {
        let owner = shard_of_slot(slot, self.shards.len());
        let (shard, log) = &mut self.shards[owner];
        shard.take_in(Now::at(wall()), Ask::Command(command), ());
        match shard.next_release() {
            // The acknowledgement is held until the record is durable.
            None => {}
            Some(Release::Answer((), Err(Rejection::UsernameTaken))) => {
                return Err(AdminError::UsernameTaken);
            }
            Some(other) => unreachable!("a change of an account was answered with {other:?}"),
        }
        let batch = shard.begin_commit().expect("the command produced a record");
        log.append(&batch.entries, LOCK_WAIT_MAX).map(drop).map_err(AdminError::from)
    }

    fn close(self) {
        for (_, log) in self.shards {
            // What was committed is stored, whether or not this works.
            let _ = Box::new(log).close();
        }
    }
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
