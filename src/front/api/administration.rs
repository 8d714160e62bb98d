//! What admins do with accounts: change roles, remove them.

use std::sync::Arc;

use serde_json::Value;
use shards::command::{ChangeRole, RemoveUser};
use shards::ids::{Role, UserId};
use shards::outcome::AccountView;

use super::context::RequestContext;
use super::endpoint::{Access, Endpoint, Success, Tag, Takes};
use super::input::{Member, NoBody, NoQueryFirst, body};
use super::output::json_response;
use super::users::{self, User};
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
    access: Access::Only(&[Role::Admin]),
    handler: &Takes(change_role),
    writes: true,
    headers: &[],
    tag: Tag::Accounts,
    summary: "Change an account's role",
    about: "Ends every token of the account.",
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
    access: Access::Only(&[Role::Admin]),
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
