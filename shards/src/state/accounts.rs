//! Accounts: each on its username's slot, so that usernames are unique.

use std::ops::Bound;

use super::{Decision, OutcomeRef, SlotState};
use crate::command::{ChangePassword, ChangeRole, CreateUser, EndTokens, RemoveUser};
use crate::ids::{Role, UserId, Username};
use crate::outcome::{AccountView, Rejection, Totals, UserView};
use crate::record::{PasswordChanged, Record, RoleChanged, TokensEnded, UserCreated, UserRemoved};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    id: UserId,
    /// Empty once the account is removed.
    password_hash: Box<str>,
    role: Role,
    token_version: u64,
    /// The token version of the last change of password or role: API keys outlive a log-out.
    key_version: u64,
    /// The username stays taken, and the reservations stay.
    removed: bool,
}

/// The numbers of accounts that can be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct AccountTotals {
    pub(super) accounts: u64,
    /// The admins among them.
    pub(super) admins: u64,
}

impl AccountTotals {
    fn add(&mut self, account: &Account) {
        self.accounts += u64::from(!account.removed);
        self.admins += u64::from(account.is_admin());
    }

    /// The inverse of [`AccountTotals::add`].
    fn subtract(&mut self, account: &Account) {
        self.accounts -= u64::from(!account.removed);
        self.admins -= u64::from(account.is_admin());
    }
}

impl Account {
    /// Ends all tokens and API keys.
    fn set_version(&mut self, version: u64) {
        (self.token_version, self.key_version) = (version, version);
    }

    fn is_admin(&self) -> bool {
        self.role == Role::Admin && !self.removed
    }
}

impl SlotState {
    pub(super) fn decide_create_user(&self, create: CreateUser) -> Result<Decision, Rejection> {
        if self.accounts.contains_key(&create.username) {
            return Err(Rejection::UsernameTaken);
        }
        let CreateUser { id, username, password_hash, role, token_version } = create;
        let outcome = OutcomeRef::Account(username.clone());
        let created = UserCreated { id, username, password_hash, role, token_version };
        Ok(Decision::change(Record::UserCreated(Box::new(created)), outcome))
    }

    pub(super) fn apply_user_created(&mut self, user: &UserCreated) {
        let account = Account {
            id: user.id,
            password_hash: user.password_hash.clone(),
            role: user.role,
            token_version: user.token_version,
            key_version: user.token_version,
            removed: false,
        };
        self.account_totals.add(&account);
        let before = self.accounts.insert(user.username.clone(), account);
        assert!(before.is_none(), "a username was used twice: {}", user.username);
        let before = self.usernames.insert(user.id, user.username.clone());
        assert!(before.is_none(), "a user's id was used twice: {}", user.id);
    }

    pub(super) fn undo_user_created(&mut self, user: &UserCreated) {
        let account = self.accounts.remove(&user.username);
        self.account_totals.subtract(&account.expect("the record created this account"));
        self.usernames.remove(&user.id);
    }

    /// Refused if the account has changed since the password was checked.
    pub(super) fn decide_change_password(&self, change: ChangePassword) -> Result<Decision, Rejection> {
        let ChangePassword { user: id, username, by, token_version, password_hash, next_token_version } =
            change;
        let account = self.usable_account(id, &username);
        match token_version {
            Some(version) if account.is_none_or(|account| account.token_version != version) => {
                return Err(Rejection::TokenEnded);
            }
            None if account.is_none() => return Err(Rejection::UserNotFound),
            Some(_) | None => {}
        }
        let outcome = OutcomeRef::AccountChanged(username.clone());
        let token_version = next_token_version;
        let changed = PasswordChanged { id, username, by, password_hash, token_version };
        Ok(Decision::change(Record::PasswordChanged(Box::new(changed)), outcome))
    }

    pub(super) fn apply_password_changed(&mut self, changed: &PasswordChanged) {
        self.change_account(&changed.username, |account| {
            account.password_hash = changed.password_hash.clone();
            account.set_version(changed.token_version);
        });
    }

    pub(super) fn decide_change_role(&self, change: ChangeRole) -> Result<Decision, Rejection> {
        let ChangeRole { user: id, username, by, role, next_token_version } = change;
        let account = self.usable_account(id, &username).ok_or(Rejection::UserNotFound)?;
        let outcome = OutcomeRef::AccountChanged(username.clone());
        if account.role == role {
            return Ok(Decision::unchanged(outcome));
        }
        let changed = RoleChanged { id, username, by, role, token_version: next_token_version };
        Ok(Decision::change(Record::RoleChanged(Box::new(changed)), outcome))
    }

    pub(super) fn apply_role_changed(&mut self, changed: &RoleChanged) {
        self.change_account(&changed.username, |account| {
            account.role = changed.role;
            account.set_version(changed.token_version);
        });
    }

    pub(super) fn decide_end_tokens(&self, end: EndTokens) -> Result<Decision, Rejection> {
        let EndTokens { user: id, username, by, next_token_version: token_version } = end;
        if self.usable_account(id, &username).is_none() {
            return Err(Rejection::UserNotFound);
        }
        let outcome = OutcomeRef::AccountChanged(username.clone());
        let ended = TokensEnded { id, username, by, token_version };
        Ok(Decision::change(Record::TokensEnded(Box::new(ended)), outcome))
    }

    pub(super) fn apply_tokens_ended(&mut self, ended: &TokensEnded) {
        self.change_account(&ended.username, |account| account.token_version = ended.token_version);
    }

    pub(super) fn decide_remove_user(&self, remove: RemoveUser) -> Result<Decision, Rejection> {
        let RemoveUser { user: id, username, by } = remove;
        let account = self.accounts.get(&username).filter(|account| account.id == id);
        // A repetition gets the same answer as the change, which other cores may not have seen yet.
        let outcome = OutcomeRef::AccountChanged(username.clone());
        if account.ok_or(Rejection::UserNotFound)?.removed {
            return Ok(Decision::unchanged(outcome));
        }
        Ok(Decision::change(Record::UserRemoved(Box::new(UserRemoved { id, username, by })), outcome))
    }

    pub(super) fn apply_user_removed(&mut self, removed: &UserRemoved) {
        self.change_account(&removed.username, |account| {
            account.removed = true;
            account.password_hash = "".into();
        });
    }

    /// The whole account, which any change saves for its undo: changes are rare, and accounts small.
    pub(super) fn account_to_undo(&self, username: &Username) -> Account {
        self.accounts[username].clone()
    }

    pub(super) fn undo_account_change(&mut self, username: &Username, before: Account) {
        self.change_account(username, |account| *account = before);
    }

    /// Changes an account, and updates the totals.
    fn change_account(&mut self, username: &Username, change: impl FnOnce(&mut Account)) {
        let account = self.accounts.get_mut(username);
        let account = account.expect("a record of an account follows that account's creation");
        self.account_totals.subtract(account);
        change(account);
        self.account_totals.add(account);
    }

    pub(super) fn account(&self, username: &Username) -> Option<Box<AccountView>> {
        let account = self.accounts.get(username)?;
        Some(Box::new(AccountView {
            id: account.id,
            username: username.clone(),
            password_hash: account.password_hash.clone(),
            role: account.role,
            token_version: account.token_version,
            key_version: account.key_version,
            removed: account.removed,
        }))
    }

    pub(super) fn account_of(&self, user: UserId) -> Option<Box<AccountView>> {
        self.account(self.usernames.get(&user)?)
    }

    /// The username of an account, which may be removed.
    pub(super) fn username_of(&self, user: UserId) -> Option<Username> {
        self.usernames.get(&user).cloned()
    }

    /// The ids of all accounts, removed ones included.
    pub(super) fn users(&self) -> impl Iterator<Item = UserId> {
        self.usernames.keys().copied()
    }

    pub(super) fn token_stands(&self, user: UserId, username: &Username, token_version: u64) -> bool {
        self.usable_account(user, username).is_some_and(|account| account.token_version == token_version)
    }

    pub(super) fn api_keys_stand(&self, user: UserId, username: &Username, account_version: u64) -> bool {
        self.usable_account(user, username).is_some_and(|account| account.key_version == account_version)
    }

    /// The account with this name, if it has this id and is not removed.
    fn usable_account(&self, user: UserId, username: &Username) -> Option<&Account> {
        self.accounts.get(username).filter(|account| account.id == user && !account.removed)
    }

    /// The ids of the accounts after `after` that were not removed.
    pub(super) fn users_after(&self, after: Option<UserId>) -> impl Iterator<Item = UserId> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let users = self.usernames.range((start, Bound::Unbounded));
        users.filter(|(_, username)| !self.accounts[*username].removed).map(|(&id, _)| id)
    }

    /// The view of an account that is known to exist.
    pub(super) fn user_view_of(&self, user: UserId) -> UserView {
        self.user_view(&self.usernames[&user])
    }

    /// Adds this slot's accounts to the totals.
    pub(super) fn add_accounts_to(&self, totals: &mut Totals) {
        let AccountTotals { accounts, admins } = self.account_totals;
        totals.accounts += accounts;
        totals.admins += admins;
    }

    pub(super) fn user_view(&self, username: &Username) -> UserView {
        let account = &self.accounts[username];
        UserView { id: account.id, username: username.clone(), role: account.role }
    }
}
