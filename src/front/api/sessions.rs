//! Accounts and sessions: register, log in, who am I.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use shards::command::CreateUser;
use shards::ids::{Role, UserId, Username};
use shards::outcome::AccountView;

use super::input::{Member, body, no_query};
use super::{Answer, Api, Call, json_response};
use crate::front::auth::TOKEN_LIFE_SECONDS;
use crate::front::problem::{Kind, Problem};
use crate::passwords::{PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN, has_good_length};
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

/// What logging in gives.
#[derive(Serialize, JsonSchema)]
pub(in crate::front) struct Session {
    /// A JWT, for `Authorization: Bearer TOKEN`.
    token: String,
    #[schemars(extend("const" = "Bearer"))]
    token_type: &'static str,
    /// In seconds.
    expires_in: u64,
    user: User,
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
    /// Who logs in.
    struct Credentials {
        /// In upper or lower case.
        username: String,
        /// As it was given at registration.
        password: String,
    }
}

/// A password that an account may have.
#[derive(JsonSchema)]
#[schemars(transparent)]
pub(in crate::front) struct Password(
    #[schemars(length(min = PASSWORD_CHARS_MIN, max = PASSWORD_CHARS_MAX), extend("format" = "password"))]
    String,
);

impl Member for Password {
    fn from_json(value: &Value) -> Result<Password, String> {
        let password = String::from_json(value)?;
        let rule = || format!("must have {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters");
        if has_good_length(&password) { Ok(Password(password)) } else { Err(rule()) }
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

pub(super) fn create_user(api: &Api, call: &Call<'_>) -> Answer {
    no_query(call.request)?;
    let NewUser { username, password: Password(password), role } = NewUser::read(call.request)?;
    let role = role.map_or(Role::Customer, Role::from);
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
    no_query(call.request)?;
    let Credentials { username, password } = Credentials::read(call.request)?;
    // What no account can have is as wrong as what none has; it is not hashed at length.
    let username = Username::new(&username).ok();
    let password = Some(password).filter(|password| password.chars().count() <= PASSWORD_CHARS_MAX);
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
            return Err(Problem::wrong_credentials());
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
    no_query(call.request)?;
    let identity = call.identity().clone();
    let shards = api.shards.clone();
    Ok(Box::pin(async move {
        let account = shards.account(identity.username).await?;
        let account = account.filter(|account| account.id == identity.actor.user);
        let account = account.ok_or_else(Problem::unauthorized)?;
        Ok(json_response(200, &User::from(*account)))
    }))
}
