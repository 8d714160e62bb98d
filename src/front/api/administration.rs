//! What admins do with accounts: change roles, set passwords, end tokens, remove them.

use std::sync::Arc;

use serde_json::Value;
use shards::command::{ChangePassword, ChangeRole, EndTokens, RemoveUser};
use shards::ids::{Role, UserId, Username};
use shards::outcome::AccountView;

use super::authentication::next_version;
use super::context::RequestContext;
use super::endpoint::{Access, Endpoint, KeyUse, Success, Tag, Takes};
use super::input::{Member, NoBody, NoQueryFirst, body};
use super::output::json_response;
use super::users::{self, Password, User};
use super::work::Work;
use crate::client::{Shards, to_the_end};
use crate::front::http::parse::Method;
use crate::front::http::write::Response;
use crate::front::problem::{Kind, Problem};
use crate::logging::rationed;
use crate::random;

body! {
    /// What an account may do from now on.
    struct RoleChange {
        /// Its tokens end with the change.
        role: Role,
    }
    example { "role": "organizer" }
}

body! {
    /// The password that takes the place of an account's, which its owner has forgotten, or others know.
    struct PasswordReset {
        /// As it is to be.
        new: Password,
    }
    example { "new": "battery staple" }
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

pub(super) static CHANGE_ROLE: Endpoint = Endpoint {
    id: "changeRole",
    method: Method::Patch,
    path: "/api/v1/users/{user}",
    access: Access::Only(&[Role::Admin], KeyUse::Never),
    handler: &Takes(change_role),
    writes: true,
    headers: &[],
    tag: Tag::Accounts,
    summary: "Change an account's role",
    about: "Ends every token and API key of the account.",
    successes: &[Success::json::<User>(200, "The account as it is now.", users::example)],
    problems: &[Kind::LastAdmin],
};

fn change_role(
    context: &RequestContext<'_>,
    user: UserId,
    _: NoQueryFirst,
    RoleChange { role }: RoleChange,
) -> Result<Work, Problem> {
    let (by, address) = (context.actor().user, context.address_for_log());
    let shards = context.api.shards.clone();
    let common = Arc::clone(&context.api.common);
    Ok(Work::future(to_the_end(async move {
        let _alone = common.administration.lock().await;
        let account = account_to_change(&shards, user).await?;
        check_own(&account.username)?;
        if role != Role::Admin {
            keep_an_admin(&shards, &account).await?;
        }
        let username = account.username;
        let change = ChangeRole { user, username, by, role, next_token_version: random::u64() };
        let view = shards.change_role(change).await?;
        rationed!(info, %user, from = account.role.as_str(), to = role.as_str(), %by, %address, "a role was changed");
        Ok(json_response(200, &User::from(view)))
    })))
}

pub(super) static REMOVE: Endpoint = Endpoint {
    id: "removeUser",
    method: Method::Delete,
    path: "/api/v1/users/{user}",
    access: Access::Only(&[Role::Admin], KeyUse::Never),
    handler: &Takes(remove),
    writes: true,
    headers: &[],
    tag: Tag::Accounts,
    summary: "Remove an account",
    about: "It can no longer be used, nor its name taken; its reservations stay. A repeat does nothing.",
    successes: &[Success::empty(204, "It is removed.")],
    problems: &[Kind::LastAdmin],
};

fn remove(context: &RequestContext<'_>, user: UserId, _: NoQueryFirst, _: NoBody) -> Result<Work, Problem> {
    let (by, address) = (context.actor().user, context.address_for_log());
    let shards = context.api.shards.clone();
    let common = Arc::clone(&context.api.common);
    Ok(Work::future(to_the_end(async move {
        let _alone = common.administration.lock().await;
        let account = account_to_change(&shards, user).await?;
        keep_an_admin(&shards, &account).await?;
        shards.remove_user(RemoveUser { user, username: account.username, by }).await?;
        rationed!(info, %user, %by, %address, "an account was removed");
        Ok(Response::empty(204))
    })))
}

pub(super) static SET_PASSWORD: Endpoint = Endpoint {
    id: "setPassword",
    method: Method::Put,
    path: "/api/v1/users/{user}/password",
    access: Access::Only(&[Role::Admin], KeyUse::Never),
    handler: &Takes(set_password),
    writes: true,
    headers: &[],
    tag: Tag::Accounts,
    summary: "Set an account's password",
    about: "Ends every token and API key of the account.",
    successes: &[Success::empty(204, "It is set.")],
    problems: &[Kind::UnclearClientAddress],
};

fn set_password(
    context: &RequestContext<'_>,
    user: UserId,
    _: NoQueryFirst,
    PasswordReset { new }: PasswordReset,
) -> Result<Work, Problem> {
    let (by, address) = (context.actor().user, context.client_address()?);
    let shards = context.api.shards.clone();
    let common = Arc::clone(&context.api.common);
    Ok(Work::future(async move {
        let username = account_to_change(&shards, user).await?.username;
        check_own(&username)?;
        let password_hash = common.passwords.hash(address, new.of(&username, "/new")?).await?;
        let next_token_version = random::u64();
        let token_version = None;
        let change = ChangePassword { user, username, by, token_version, password_hash, next_token_version };
        shards.change_password(change).await?;
        rationed!(info, %user, %by, %address, "an admin set a password");
        Ok(Response::empty(204))
    }))
}

pub(super) static END_SESSIONS: Endpoint = Endpoint {
    id: "endSessionsOf",
    method: Method::Delete,
    path: "/api/v1/users/{user}/sessions",
    access: Access::Only(&[Role::Admin], KeyUse::Never),
    handler: &Takes(end_sessions),
    writes: true,
    headers: &[],
    tag: Tag::Accounts,
    summary: "End an account's sessions",
    about: "Ends every token of the account. Its API keys stay, and whoever knows its password can log in again: to \
            end all that, set another password.",
    successes: &[Success::empty(204, "They have ended.")],
    problems: &[],
};

fn end_sessions(
    context: &RequestContext<'_>,
    user: UserId,
    _: NoQueryFirst,
    _: NoBody,
) -> Result<Work, Problem> {
    let (by, address) = (context.actor().user, context.address_for_log());
    let now = context.api.unix_time();
    let shards = context.api.shards.clone();
    Ok(Work::future(async move {
        let username = account_to_change(&shards, user).await?.username;
        let next_token_version = next_version(&username, now);
        shards.end_tokens(EndTokens { user, username, by, next_token_version }).await?;
        rationed!(info, %user, %by, %address, "an admin ended an account's sessions");
        Ok(Response::empty(204))
    }))
}

/// Refuses what an account of another issuer has not: a password, and another role than customer.
///
/// # Errors
///
/// 403, for such an account.
pub(super) fn check_own(username: &Username) -> Result<(), Problem> {
    if username.is_of_issuer() { Err(Problem::of_another_issuer()) } else { Ok(()) }
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
