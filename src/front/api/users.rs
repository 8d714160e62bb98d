//! Accounts: register, change one's password; admins list them, change roles, remove them.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use shards::command::{ChangePassword, ChangeRole, CreateUser, RemoveUser};
use shards::ids::{Role, UserId, Username};
use shards::outcome::{AccountView, UserView};

use super::input::{Body, PageRequest, Query, text};
use super::{Answer, Api, Call, Common, Page, json_response};
use crate::client::{Shards, to_the_end};
use crate::front::http::write::Response;
use crate::front::problem::{Kind, Problem};
use crate::passwords::{PASSWORD_BYTES_MAX, rules};
use crate::random;

#[derive(Serialize)]
pub(super) struct User {
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

/// A password that is to be an account's.
fn new_password(value: &Value, username: Option<&Username>) -> Result<String, String> {
    let password = text(value)?;
    rules::check(&password, username)?;
    Ok(password)
}

pub(super) fn create(api: &Api, call: &Call<'_>) -> Answer {
    Query::read(call.request).finish()?;
    let mut body = Body::read(call.request)?;
    let username =
        body.required("username", |value| Username::new(&text(value)?).map_err(|error| error.to_string()));
    let password = body.required("password", |value| new_password(value, username.as_ref()));
    let role = body.optional("role", |value| match value.as_str() {
        Some("customer") => Ok(Role::Customer),
        Some("organizer") => Ok(Role::Organizer),
        _ => Err("must be `customer` or `organizer`".to_owned()),
    });
    body.finish()?;
    let (Some(username), Some(password)) = (username, password) else {
        unreachable!("an error would have been noted")
    };
    let role = role.unwrap_or(Role::Customer);
    let shards = api.shards.clone();
    let common = api.common.clone();
    Ok(Box::pin(async move {
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
pub(super) fn get_me(call: &Call<'_>) -> Answer {
    Query::read(call.request).finish()?;
    let identity = call.identity();
    let (actor, username) = (identity.actor, identity.username.clone());
    let me = User { id: actor.user, username, role: actor.role };
    Ok(Box::pin(async move { Ok(json_response(200, &me)) }))
}

/// The present password is asked for, and guesses at it are counted as at a login: whoever
/// found a token shall not get the account with it.
pub(super) fn change_password(api: &Api, call: &Call<'_>) -> Answer {
    Query::read(call.request).finish()?;
    let identity = call.identity();
    let (user, username) = (identity.actor.user, identity.username.clone());
    let mut body = Body::read(call.request)?;
    let current = body.required("current", text);
    let new = body.required("new", |value| new_password(value, Some(&username)));
    body.finish()?;
    let (Some(current), Some(new)) = (current, new) else { unreachable!("an error would have been noted") };
    let address = call.address(api);
    let shards = api.shards.clone();
    let common = api.common.clone();
    Ok(Box::pin(async move {
        let guess = common.passwords.guess(username.as_str(), address)?;
        let account = shards.account(username.clone()).await?;
        let account = account.filter(|account| account.id == user && !account.removed);
        let account = account.ok_or_else(Problem::unauthorized)?;
        let fits = current.len() <= PASSWORD_BYTES_MAX;
        let current = if fits { current } else { String::new() };
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

pub(super) fn list(api: &Api, call: &Call<'_>) -> Answer {
    let mut query = Query::read(call.request);
    let PageRequest { limit, after } = query.take_page();
    query.finish()?;
    let shards = api.shards.clone();
    Ok(Box::pin(async move {
        let views = shards.users(after, limit + 1).await?;
        let page: Page<User> = Page::new(views, limit, |view| view.id.to_string());
        Ok(page.respond("/api/v1/users", limit))
    }))
}

pub(super) fn change_role(api: &Api, call: &Call<'_>) -> Answer {
    Query::read(call.request).finish()?;
    let user = call.user()?;
    let mut body = Body::read(call.request)?;
    let role = body.required("role", |value| match value.as_str() {
        Some("customer") => Ok(Role::Customer),
        Some("organizer") => Ok(Role::Organizer),
        Some("admin") => Ok(Role::Admin),
        _ => Err("must be `customer`, `organizer` or `admin`".to_owned()),
    });
    body.finish()?;
    let role = role.expect("an error would have been noted");
    let by = call.actor().user;
    let shards = api.shards.clone();
    let common = api.common.clone();
    Ok(Box::pin(to_the_end(async move {
        let _alone = common.administration.lock().await;
        let account = account_to_change(&shards, user).await?;
        if account.role == Role::Admin && role != Role::Admin {
            keep_an_admin(&shards).await?;
        }
        let username = account.username;
        let change = ChangeRole { user, username, by, role, next_token_version: random::u64() };
        let view = shards.change_role(change).await?;
        Ok(json_response(200, &User::from(view)))
    })))
}

/// A repeat is answered as the first, and does nothing.
pub(super) fn remove(api: &Api, call: &Call<'_>) -> Answer {
    Query::read(call.request).finish()?;
    let user = call.user()?;
    let by = call.actor().user;
    let shards = api.shards.clone();
    let common: Arc<Common> = api.common.clone();
    Ok(Box::pin(to_the_end(async move {
        let _alone = common.administration.lock().await;
        let account = account_to_change(&shards, user).await?;
        if account.role == Role::Admin && !account.removed {
            keep_an_admin(&shards).await?;
        }
        shards.remove_user(RemoveUser { user, username: account.username, by }).await?;
        Ok(Response::empty(204))
    })))
}

async fn account_to_change(shards: &Shards, user: UserId) -> Result<Box<AccountView>, Problem> {
    shards.account_of(user).await?.ok_or_else(|| Problem::plain(Kind::NotFound))
}

/// Refuses, where the admin that is about to go is the last. While one such change is under way
/// no other is, so that two admins cannot remove each other at the same time.
async fn keep_an_admin(shards: &Shards) -> Result<(), Problem> {
    match shards.totals().await?.admins {
        0 | 1 => Err(Problem::plain(Kind::LastAdmin)),
        _ => Ok(()),
    }
}
