//! Accounts and sessions: register, log in, who am I.

use serde::Serialize;
use shards::command::CreateUser;
use shards::ids::{Role, UserId, Username};
use shards::outcome::AccountView;

use super::input::{Body, Query, text};
use super::{Answer, Api, Call, json_response};
use crate::front::auth::TOKEN_LIFE_SECONDS;
use crate::front::problem::{Kind, Problem};
use crate::passwords::{PASSWORD_BYTES_MAX, PASSWORD_BYTES_MIN};
use crate::random;

#[derive(Serialize)]
struct User {
    id: UserId,
    username: Username,
    role: Role,
}

impl From<AccountView> for User {
    fn from(account: AccountView) -> User {
        User { id: account.id, username: account.username, role: account.role }
    }
}

#[derive(Serialize)]
struct Session {
    token: String,
    token_type: &'static str,
    /// In seconds.
    expires_in: u64,
    user: User,
}

pub(super) fn create_user(api: &Api, call: &Call<'_>) -> Answer {
    Query::read(call.request).finish()?;
    let mut body = Body::read(call.request)?;
    let username =
        body.required("username", |value| Username::new(&text(value)?).map_err(|error| error.to_string()));
    let password = body.required("password", |value| {
        let password = text(value)?;
        let fits = (PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len());
        let rule = || format!("must have {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes");
        if fits { Ok(password) } else { Err(rule()) }
    });
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

pub(super) fn create_session(api: &Api, call: &Call<'_>) -> Answer {
    Query::read(call.request).finish()?;
    let mut body = Body::read(call.request)?;
    let username = body.required("username", text);
    let password = body.required("password", text);
    body.finish()?;
    let (Some(username), Some(password)) = (username, password) else {
        unreachable!("an error would have been noted")
    };
    // What no account can have is as wrong as what none has; it is not hashed at length.
    let username = Username::new(&username).ok();
    let password = Some(password).filter(|password| password.len() <= PASSWORD_BYTES_MAX);
    let shards = api.shards.clone();
    let common = api.common.clone();
    let tokens = api.tokens.clone();
    Ok(Box::pin(async move {
        let account = match username {
            Some(username) => shards.account(username).await?,
            None => None,
        };
        let hash = account.as_ref().map(|account| account.password_hash.clone());
        let right = common.passwords.verify(password.clone().unwrap_or_default(), hash).await?;
        let (Some(account), Some(_), true) = (account, password, right) else {
            return Err(
                Problem::plain(Kind::WrongCredentials).header("WWW-Authenticate", "Bearer".to_owned())
            );
        };
        let id = format!("{:016x}", random::u64());
        let token = tokens.issue(account.id, &account.username, account.role, account.token_version, id);
        let session = Session {
            token,
            token_type: "Bearer",
            expires_in: TOKEN_LIFE_SECONDS,
            user: User::from(*account),
        };
        Ok(json_response(201, &session).with("Cache-Control", "no-store".to_owned()))
    }))
}

pub(super) fn get_me(api: &Api, call: &Call<'_>) -> Answer {
    Query::read(call.request).finish()?;
    let identity = call.identity().clone();
    let shards = api.shards.clone();
    Ok(Box::pin(async move {
        let account = shards.account(identity.username).await?;
        let account = account.filter(|account| account.id == identity.actor.user);
        let account = account.ok_or_else(Problem::unauthorized)?;
        Ok(json_response(200, &User::from(*account)))
    }))
}
