//! Accounts: register, change one's password; admins list them, change roles, remove them.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use shards::command::{ChangePassword, ChangeRole, CreateUser, RemoveUser};
use shards::ids::{Role, UserId, Username};
use shards::outcome::{AccountView, UserView};

use super::input::{Cursor, Limit, Member, body, no_query, query};
use super::output::{Page, json_response};
use super::work::Work;
use super::{Api, Call, Common};
use crate::client::{Shards, to_the_end};
use crate::front::http::write::Response;
use crate::front::problem::{FieldError, Kind, Problem};
use crate::passwords::{PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN, rules};
use crate::random;

/// An account.
#[derive(Serialize, JsonSchema)]
pub(in crate::front) struct User {
    id: UserId,
    username: Username,
    role: Role,
}

impl From<AccountView> for User {
    fn from(account: AccountView) -> User {
        User { id: account.id, username: account.username, role: account.role }
    }
}

impl From<UserView> for User {
    fn from(user: UserView) -> User {
        User { id: user.id, username: user.username, role: user.role }
    }
}

body! {
    /// An account to be.
    struct NewUser {
        /// The name to log in with, which no other account has.
        username: Username,
        /// Known to its owner alone.
        password: Password,
        /// What the account may do; `customer` when it is left out.
        role: Option<NewRole>,
    }
}

body! {
    /// One's own password, and the one that takes its place.
    struct PasswordChange {
        /// As it is now.
        current: String,
        /// As it is to be.
        new: Password,
    }
}

body! {
    /// What an account may do from now on.
    struct RoleChange {
        /// Its tokens end with the change.
        role: Role,
    }
}

query! {
    /// Which page of the accounts.
    struct UsersQuery {
        /// How many accounts the page has at most.
        limit: Option<Limit>,
        /// The `next` of the page before; opaque.
        after: Option<Cursor<UserId>>,
    }
}

/// A password that is to be an account's: none of the most common ones, and not its username.
#[derive(JsonSchema)]
#[schemars(inline)]
pub(in crate::front) struct Password(
    #[schemars(length(min = PASSWORD_CHARS_MIN, max = PASSWORD_CHARS_MAX), extend("format" = "password"))]
    String,
);

impl Member for Password {
    fn from_json(value: &Value) -> Result<Password, String> {
        let password = String::from_json(value)?;
        rules::check(&password, None)?;
        Ok(Password(password))
    }
}

impl Password {
    fn of(self, username: &Username, pointer: &str) -> Result<String, Problem> {
        let wrong = |detail| Problem::invalid(&[FieldError { pointer: pointer.to_owned(), detail }]);
        rules::check(&self.0, Some(username)).map_err(wrong)?;
        Ok(self.0)
    }
}

impl Member for Role {
    fn from_json(value: &Value) -> Result<Role, String> {
        match value.as_str() {
            Some("customer") => Ok(Role::Customer),
            Some("organizer") => Ok(Role::Organizer),
            Some("admin") => Ok(Role::Admin),
            _ => Err("must be `customer`, `organizer` or `admin`".to_owned()),
        }
    }
}

/// The roles that anyone may take.
#[derive(Clone, Copy, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::front) enum NewRole {
    Customer,
    Organizer,
}

impl Member for NewRole {
    fn from_json(value: &Value) -> Result<NewRole, String> {
        match value.as_str() {
            Some("customer") => Ok(NewRole::Customer),
            Some("organizer") => Ok(NewRole::Organizer),
            _ => Err("must be `customer` or `organizer`".to_owned()),
        }
    }
}

impl From<NewRole> for Role {
    fn from(role: NewRole) -> Role {
        match role {
            NewRole::Customer => Role::Customer,
            NewRole::Organizer => Role::Organizer,
        }
    }
}

pub(super) fn create(api: &Api, call: &Call<'_>) -> Result<Work, Problem> {
    no_query(call.request)?;
    let NewUser { username, password, role } = NewUser::read(call.request)?;
    let password = password.of(&username, "/password")?;
    let role = role.map_or(Role::Customer, Role::from);
    let shards = api.shards.clone();
    let common = api.common.clone();
    Ok(Work::future(async move {
        // Asked before the costly hash; the shard decides again afterwards.
        if shards.account(username.clone()).await?.is_some() {
            return Err(Problem::plain(Kind::UsernameTaken));
        }
        let password_hash = common.passwords.hash(password).await?;
        let id = common.ids.next_user();
        let token_version = random::u64();
        let create = CreateUser { id, username, password_hash, role, token_version };
        let account = shards.create_user(create).await?;
        Ok(json_response(201, &User::from(*account)).with("Location", "/api/v1/users/me".to_owned()))
    }))
}

/// As the token says: whatever could differ would have ended it.
pub(super) fn get_me(call: &Call<'_>) -> Result<Work, Problem> {
    no_query(call.request)?;
    let identity = call.identity();
    let (actor, username) = (identity.actor, identity.username.clone());
    let me = User { id: actor.user, username, role: actor.role };
    Ok(Work::Ready(json_response(200, &me)))
}

/// The present password is asked for, and guesses at it are counted as at a login: whoever
/// found a token shall not get the account with it.
pub(super) fn change_password(api: &Api, call: &Call<'_>) -> Result<Work, Problem> {
    no_query(call.request)?;
    let identity = call.identity();
    let (user, username) = (identity.actor.user, identity.username.clone());
    let PasswordChange { current, new } = PasswordChange::read(call.request)?;
    let new = new.of(&username, "/new")?;
    let address = call.address(api);
    let shards = api.shards.clone();
    let common = api.common.clone();
    Ok(Work::future(async move {
        let guess = common.passwords.guess(username.as_str(), address)?;
        let account = shards.account(username.clone()).await?;
        let account = account.filter(|account| account.id == user && !account.removed);
        let account = account.ok_or_else(Problem::unauthorized)?;
        if !guess.check(current, Some(account.password_hash)).await? {
            return Err(Problem::wrong_credentials("The current password is another."));
        }
        let change = ChangePassword {
            user,
            username,
            token_version: account.token_version,
            password_hash: common.passwords.hash(new).await?,
            next_token_version: random::u64(),
        };
        shards.change_password(change).await?;
        Ok(Response::empty(204))
    }))
}

pub(super) fn list(api: &Api, call: &Call<'_>) -> Result<Work, Problem> {
    let UsersQuery { limit, after } = UsersQuery::read(call.request)?;
    let Limit(limit) = limit.unwrap_or_default();
    let after = after.map(|Cursor(user)| user);
    let shards = api.shards.clone();
    Ok(Work::future(async move {
        let views = shards.users(after, limit + 1).await?;
        let page: Page<User> = Page::new(views, limit, |view| view.id.to_string());
        Ok(page.respond("/api/v1/users", limit))
    }))
}

pub(super) fn change_role(api: &Api, call: &Call<'_>) -> Result<Work, Problem> {
    no_query(call.request)?;
    let user = call.user()?;
    let RoleChange { role } = RoleChange::read(call.request)?;
    let by = call.actor().user;
    let shards = api.shards.clone();
    let common = api.common.clone();
    Ok(Work::future(to_the_end(async move {
        let _alone = common.administration.lock().await;
        let account = account_to_change(&shards, user).await?;
        if role != Role::Admin {
            keep_an_admin(&shards, &account).await?;
        }
        let username = account.username;
        let change = ChangeRole { user, username, by, role, next_token_version: random::u64() };
        let view = shards.change_role(change).await?;
        Ok(json_response(200, &User::from(view)))
    })))
}

/// A repeat is answered as the first, and does nothing.
pub(super) fn remove(api: &Api, call: &Call<'_>) -> Result<Work, Problem> {
    no_query(call.request)?;
    let user = call.user()?;
    let by = call.actor().user;
    let shards = api.shards.clone();
    let common: Arc<Common> = api.common.clone();
    Ok(Work::future(to_the_end(async move {
        let _alone = common.administration.lock().await;
        let account = account_to_change(&shards, user).await?;
        keep_an_admin(&shards, &account).await?;
        shards.remove_user(RemoveUser { user, username: account.username, by }).await?;
        Ok(Response::empty(204))
    })))
}

async fn account_to_change(shards: &Shards, user: UserId) -> Result<Box<AccountView>, Problem> {
    shards.account_of(user).await?.ok_or_else(|| Problem::plain(Kind::NotFound))
}

/// Refuses, where the account that is about to change is the last admin. While one such change is under way
/// no other is, so that two admins cannot remove each other at the same time.
async fn keep_an_admin(shards: &Shards, account: &AccountView) -> Result<(), Problem> {
    if account.role != Role::Admin || account.removed {
        return Ok(());
    }
    match shards.totals().await?.admins {
        0 | 1 => Err(Problem::plain(Kind::LastAdmin)),
        _ => Ok(()),
    }
}
