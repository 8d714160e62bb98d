//! Accounts: unique usernames, each on its username's slot.

use super::{Decision, ShardState};
use crate::command::CreateUser;
use crate::ids::{Role, UserId, Username};
use crate::outcome::{AccountView, Rejection};
use crate::record::{Record, UserCreated};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Account {
    id: UserId,
    password_hash: Box<str>,
    role: Role,
    token_version: u64,
}

impl Account {
    pub(super) fn id(&self) -> UserId {
        self.id
    }
}

impl ShardState {
    pub(super) fn decide_create_user(&self, create: CreateUser) -> Result<Decision, Rejection> {
        if self.accounts.contains_key(&create.username) {
            return Err(Rejection::UsernameTaken);
        }
        Ok(Decision::Change(Record::UserCreated(Box::new(UserCreated {
            id: create.id,
            username: create.username,
            password_hash: create.password_hash,
            role: create.role,
            token_version: create.token_version,
        }))))
    }

    pub(super) fn apply_user_created(&mut self, user: &UserCreated) {
        let account = Account {
            id: user.id,
            password_hash: user.password_hash.clone(),
            role: user.role,
            token_version: user.token_version,
        };
        let before = self.accounts.insert(user.username.clone(), account);
        assert!(before.is_none(), "a username was given twice: {}", user.username);
    }

    pub(super) fn undo_user_created(&mut self, user: &UserCreated) {
        let account = self.accounts.remove(&user.username);
        assert!(account.is_some(), "an account that was not there is taken back: {}", user.username);
    }

    pub(super) fn account(&self, username: &Username) -> Option<Box<AccountView>> {
        let account = self.accounts.get(username)?;
        Some(Box::new(AccountView {
            id: account.id,
            username: username.clone(),
            password_hash: account.password_hash.clone(),
            role: account.role,
            token_version: account.token_version,
        }))
    }
}
