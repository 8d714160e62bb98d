//! Accounts: register, view one's own, change one's password; admins list them.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use shards::command::{Actor, ChangePassword, CreateUser};
use shards::ids::{Role, UserId, Username};
use shards::outcome::{AccountView, UserView};

use super::administration::check_own;
use super::context::RequestContext;
use super::endpoint::{Access, Endpoint, Header, KeyUse, Success, Tag, Takes};
use super::input::{Cursor, Limit, Member, NoBody, NoParameter, NoQuery, body, query};
use super::output::{Page, json_response, page_example};
use super::work::Work;
use crate::client::{Refused, Shards};
use crate::front::auth::Identity;
use crate::front::http::parse::Method;
use crate::front::http::write::Response;
use crate::front::problem::{FieldErrors, Kind, Problem};
use crate::logging::rationed;
use crate::passwords::rules::{NewPassword, PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN};
use crate::random;

/// An account.
#[derive(Serialize, JsonSchema)]
pub(super) struct User {
    id: UserId,
    username: Username,
    role: Role,
}

impl From<AccountView> for User {
    /// Leaves out the account's secrets, and that it is removed: a removed account is never shown.
    fn from(account: AccountView) -> User {
        let AccountView {
            id,
            username,
            password_hash: _,
            role,
            token_version: _,
            key_version: _,
            removed: _,
        } = account;
        User { id, username, role }
    }
}

impl From<UserView> for User {
    fn from(user: UserView) -> User {
        let UserView { id, username, role } = user;
        User { id, username, role }
    }
}

pub(super) fn example() -> Value {
    json!({ "id": 31, "username": "ada", "role": "customer" })
}

body! {
    /// An account to be.
    struct NewUser {
        /// The name to log in with, which no other account has.
        username: Username,
        /// Known to its owner alone.
        password: Password,
        /// What the account may do; `customer` when it is left out. Which ones may register is the operator's choice.
        role: Option<Role>,
    }
    example { "username": "ada", "password": "correct horse", "role": "customer" }
}

body! {
    /// One's own password, and the one that takes its place.
    struct PasswordChange {
        /// As it is now.
        current: String,
        /// As it is to be.
        new: Password,
    }
    example { "current": "correct horse", "new": "battery staple" }
}

query! {
    /// Which page of the accounts.
    struct UsersQuery {
        /// How many accounts the page has at most.
        limit: Option<Limit>,
        /// The `next` of the page before; opaque.
        after: Option<Cursor<UserId>>,
        /// Only the account with this name, in upper or lower case.
        username: Option<Username>,
    }
}

/// A password that is to be an account's: none of the most common ones, and not its username.
#[derive(JsonSchema)]
#[schemars(inline)]
pub(super) struct Password(
    #[schemars(
        with = "String",
        length(min = PASSWORD_CHARS_MIN, max = PASSWORD_CHARS_MAX),
        extend("format" = "password")
    )]
    NewPassword,
);

impl Member for Password {
    fn from_json(value: &Value) -> Result<Password, String> {
        NewPassword::new(&String::from_json(value)?).map(Password)
    }
}

impl Password {
    pub(super) fn of(self, username: &Username, pointer: &str) -> Result<NewPassword, Problem> {
        let wrong = |detail: String| Problem::invalid(&FieldErrors::of(pointer, detail));
        self.0.check_beside(username).map_err(wrong)?;
        Ok(self.0)
    }
}

pub(super) static CREATE: Endpoint = Endpoint {
    id: "createUser",
    method: Method::Post,
    path: "/api/v1/users",
    access: Access::Optional(KeyUse::Never),
    handler: &Takes(create),
    writes: true,
    headers: &[],
    tag: Tag::Accounts,
    summary: "Register",
    about: "Makes an account. Without a token, or with one of another role than admin, the role is one that may register: \
            `customer`, unless the operator chose another rule (`--registration`). With an admin's token it is any role, \
            and nothing is counted. The first admin is made on the server: `boxoffice admin create`.",
    successes: &[
        Success::json::<User>(201, "The account.", example).with(&[Header::location("/api/v1/users/me")])
    ],
    problems: &[
        Kind::RegistrationClosed,
        Kind::UnclearClientAddress,
        Kind::UsernameTaken,
        Kind::TooManyRegistrations,
        Kind::IdsUsedUp,
    ],
};

/// Says that a username is taken after the hash, and counts it as a registration: else one could ask for thousands of
/// names a second.
fn create(
    context: &RequestContext<'_>,
    _: NoParameter,
    _: NoQuery,
    NewUser { username, password, role }: NewUser,
) -> Result<Work, Problem> {
    let password = password.of(&username, "/password")?;
    let role = role.unwrap_or(Role::Customer);
    let by_admin =
        context.actor_if_given()?.filter(|actor| actor.role == Role::Admin).map(|actor| actor.user);
    let registration = context.api.common.registration;
    if by_admin.is_none() && !registration.allows(role) {
        return Err(Problem::registration_closed(registration, role));
    }
    let address = context.client_address()?;
    let shards = context.api.shards.clone();
    let common = Arc::clone(&context.api.common);
    Ok(Work::future(async move {
        let password_hash = match by_admin {
            Some(_) => common.passwords.hash(address, password).await?,
            None => common.passwords.hash_to_register(address, password).await?,
        };
        // Asked before an id is given out; the account's slot decides again afterwards.
        if shards.account(username.clone()).await?.is_some() {
            return Err(Problem::plain(Kind::UsernameTaken));
        }
        let id = common.ids.next_user()?;
        let token_version = random::u64();
        let create = CreateUser { id, username, password_hash, role, token_version };
        let account = shards.create_user(create).await?;
        if let Some(by) = by_admin {
            let user = account.id;
            rationed!(info, %user, role = role.as_str(), %by, %address, "an admin made an account");
        }
        let location = match by_admin {
            Some(_) => format!("/api/v1/users/{}", account.id),
            None => "/api/v1/users/me".to_owned(),
        };
        Ok(json_response(201, &User::from(*account)).with("Location", location))
    }))
}

pub(super) static GET_ME: Endpoint = Endpoint {
    id: "getMe",
    method: Method::Get,
    path: "/api/v1/users/me",
    access: Access::LoggedIn(KeyUse::Any),
    handler: &Takes(get_me),
    writes: false,
    headers: &[],
    tag: Tag::Accounts,
    summary: "Who am I",
    about: "The account of the token.",
    successes: &[Success::json::<User>(200, "The account.", example)],
    problems: &[],
};

/// Answers as the token says: a change of the account would have ended it.
fn get_me(context: &RequestContext<'_>, _: NoParameter, _: NoQuery, _: NoBody) -> Result<Work, Problem> {
    let Actor { user: id, role, key: _ } = context.actor();
    if let Some(Identity { username, .. }) = context.identity() {
        return Ok(Work::Ready(json_response(200, &User { id, username: username.clone(), role })));
    }
    // An API key does not say the name.
    let shards = context.api.shards.clone();
    Ok(Work::future(async move {
        usable(&shards, id).await.map(|account| json_response(200, &User::from(*account)))
    }))
}

/// The account with this id.
///
/// # Errors
///
/// 404, if there is none, or it was removed.
async fn usable(shards: &Shards, user: UserId) -> Result<Box<AccountView>, Problem> {
    let account = shards.account_of(user).await?.filter(|account| !account.removed);
    account.ok_or_else(|| Problem::plain(Kind::NotFound))
}

pub(super) static CHANGE_PASSWORD: Endpoint = Endpoint {
    id: "changePassword",
    method: Method::Put,
    path: "/api/v1/users/me/password",
    access: Access::LoggedIn(KeyUse::Never),
    handler: &Takes(change_password),
    writes: true,
    headers: &[],
    tag: Tag::Accounts,
    summary: "Change one's password",
    about: "Ends every token of the account, this one too, and every API key. Guesses at `current` are counted as at a login.",
    successes: &[Success::empty(204, "It is changed; log in again.")],
    problems: &[Kind::UnclearClientAddress, Kind::WrongCredentials, Kind::TooManyAttempts],
};

/// Demands the present password, and counts guesses at it as at a login: a stolen token must not be
/// enough to take over the account.
fn change_password(
    context: &RequestContext<'_>,
    _: NoParameter,
    _: NoQuery,
    PasswordChange { current, new }: PasswordChange,
) -> Result<Work, Problem> {
    let Identity { actor: Actor { user, role: _, key: _ }, username, credential: _ } =
        context.identity_without_key()?.clone();
    check_own(&username)?;
    let new = new.of(&username, "/new")?;
    let address = context.client_address()?;
    let shards = context.api.shards.clone();
    let common = Arc::clone(&context.api.common);
    Ok(Work::future(async move {
        let account = shards.account(username.clone()).await?;
        let account = account.filter(|account| account.id == user && !account.removed);
        let account = account.ok_or_else(Problem::bad_token)?;
        let hash = Some(account.password_hash);
        if !common.passwords.guess(username.as_str(), address, current, hash).await? {
            rationed!(warn, %user, %address, "a change of a password was refused: the current one was wrong");
            return Err(Problem::wrong_credentials("The current password is another."));
        }
        let change = ChangePassword {
            user,
            username,
            by: user,
            token_version: Some(account.token_version),
            password_hash: common.passwords.hash(address, new).await?,
            next_token_version: random::u64(),
        };
        shards.change_password(change).await?;
        Ok(Response::empty(204))
    }))
}

pub(super) static LIST: Endpoint = Endpoint {
    id: "listUsers",
    method: Method::Get,
    path: "/api/v1/users",
    access: Access::Only(&[Role::Admin], KeyUse::Never),
    handler: &Takes(list),
    writes: false,
    headers: &[],
    tag: Tag::Accounts,
    summary: "List the accounts",
    about: "By id. No snapshot: each shard answers in its own time.",
    successes: &[
        Success::json::<Page<User>>(200, "A page.", || page_example(&example(), "31")).with(&[Header::LINK])
    ],
    problems: &[],
};

fn list(
    context: &RequestContext<'_>,
    _: NoParameter,
    UsersQuery { limit, after, username }: UsersQuery,
    _: NoBody,
) -> Result<Work, Problem> {
    let Limit(limit) = limit.unwrap_or_default();
    let after = after.map(|Cursor(user)| user);
    let shards = context.api.shards.clone();
    Ok(Work::future(async move {
        let views = match username {
            Some(username) => named(&shards, username, after).await?,
            None => shards.users(after, limit + 1).await?,
        };
        let page: Page<User> = Page::new(views, limit, |view| view.id.to_string());
        Ok(page.respond("/api/v1/users", limit))
    }))
}

/// The account with this name, if it is on a page after `after`.
async fn named(shards: &Shards, username: Username, after: Option<UserId>) -> Result<Vec<UserView>, Refused> {
    let account = shards.account(username).await?.filter(|account| !account.removed);
    let account = account.filter(|account| after.is_none_or(|after| account.id > after));
    let view =
        |account: AccountView| UserView { id: account.id, username: account.username, role: account.role };
    Ok(account.map(|account| view(*account)).into_iter().collect())
}

pub(super) static GET: Endpoint = Endpoint {
    id: "getUser",
    method: Method::Get,
    path: "/api/v1/users/{user}",
    access: Access::Only(&[Role::Admin], KeyUse::Never),
    handler: &Takes(get),
    writes: false,
    headers: &[],
    tag: Tag::Accounts,
    summary: "View an account",
    about: "A removed one is not found.",
    successes: &[Success::json::<User>(200, "The account.", example)],
    problems: &[],
};

fn get(context: &RequestContext<'_>, user: UserId, _: NoQuery, _: NoBody) -> Result<Work, Problem> {
    let shards = context.api.shards.clone();
    Ok(Work::future(async move {
        usable(&shards, user).await.map(|account| json_response(200, &User::from(*account)))
    }))
}
