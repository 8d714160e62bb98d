//! Sessions: logging in and out.

use std::rc::Rc;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use shards::command::EndTokens;
use shards::ids::Username;
use shards::outcome::AccountView;

use super::authentication::next_version;
use super::context::RequestContext;
use super::endpoint::{Access, Endpoint, Header, KeyUse, Success, Tag, Takes};
use super::input::{NoBody, NoParameter, NoQuery, body};
use super::output::json_response;
use super::users::{self, User};
use super::work::Work;
use crate::front::auth::{Identity, TOKEN_LIFE_SECONDS};
use crate::front::http::parse::Method;
use crate::front::http::write::Response;
use crate::front::problem::{Kind, Problem};
use crate::logging::rationed;
use crate::random;

/// What logging in gives.
#[derive(Serialize, JsonSchema)]
struct Session {
    /// A JWT, for `Authorization: Bearer TOKEN`.
    token: String,
    #[schemars(extend("const" = "Bearer"))]
    token_type: &'static str,
    /// In seconds.
    expires_in: u64,
    user: User,
}

body! {
    /// Who logs in.
    struct Credentials {
        /// In upper or lower case.
        username: String,
        /// As it was given at registration.
        password: String,
    }
    example { "username": "ada", "password": "correct horse" }
}

pub(super) static CREATE: Endpoint = Endpoint {
    id: "createSession",
    method: Method::Post,
    path: "/api/v1/sessions",
    access: Access::Anyone,
    handler: &Takes(create),
    writes: false,
    headers: &[],
    tag: Tag::Accounts,
    summary: "Log in",
    about: "Gives a token, to be sent as `Authorization: Bearer TOKEN` with what needs one.",
    successes: &[Success::json::<Session>(201, "The token.", example).with(&[Header::NO_STORE])],
    problems: &[Kind::UnclearClientAddress, Kind::WrongCredentials, Kind::TooManyAttempts],
};

fn example() -> Value {
    json!({
        "token": "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl",
        "token_type": "Bearer",
        "expires_in": 43200,
        "user": users::example(),
    })
}

fn create(
    context: &RequestContext<'_>,
    _: NoParameter,
    _: NoQuery,
    Credentials { username: name, password }: Credentials,
) -> Result<Work, Problem> {
    // A name that no account can have is as wrong as one that no account has.
    let username = Username::new(&name).ok();
    let address = context.client_address()?;
    let shards = context.api.shards.clone();
    let common = Arc::clone(&context.api.common);
    let tokens = context.api.tokens.clone();
    let clock = Rc::clone(&context.api.clock);
    Ok(Work::future(async move {
        let account = match &username {
            Some(username) => shards.account(username.clone()).await?,
            None => None,
        };
        let account = account.filter(|account| !account.removed);
        let hash = account.as_ref().map(|account| account.password_hash.clone());
        // Names that no account can have are counted like others.
        let counted_as = username.as_ref().map_or(&*name, Username::as_str);
        let right = common.passwords.guess(counted_as, address, password, hash).await?;
        if !right {
            let user = account.as_ref().map(|account| account.id.0);
            rationed!(warn, user, %address, "a login failed");
        }
        let (Some(account), true) = (account, right) else {
            return Err(Problem::wrong_credentials(Kind::WrongCredentials.explanation()));
        };
        let id = format!("{:016x}", random::u64());
        let AccountView { id: user, username, role, token_version, .. } = &*account;
        let token = tokens.issue(clock.unix_time(), *user, username, *role, *token_version, id);
        let session = Session {
            token,
            token_type: "Bearer",
            expires_in: TOKEN_LIFE_SECONDS,
            user: User::from(*account),
        };
        Ok(json_response(201, &session).with("Cache-Control", "no-store".to_owned()))
    }))
}

pub(super) static END: Endpoint = Endpoint {
    id: "endSessions",
    method: Method::Delete,
    path: "/api/v1/sessions",
    access: Access::LoggedIn(KeyUse::Never),
    handler: &Takes(end),
    writes: true,
    headers: &[],
    tag: Tag::Accounts,
    summary: "Log out",
    about: "Ends every token of the account, this one too, on all devices. API keys stay.",
    successes: &[Success::empty(204, "They have ended.")],
    problems: &[],
};

fn end(context: &RequestContext<'_>, _: NoParameter, _: NoQuery, _: NoBody) -> Result<Work, Problem> {
    let Identity { actor, username, credential: _ } = context.identity_without_key()?.clone();
    let (user, by) = (actor.user, actor.user);
    let next_token_version = next_version(&username, context.api.unix_time());
    let shards = context.api.shards.clone();
    Ok(Work::future(async move {
        shards.end_tokens(EndTokens { user, username, by, next_token_version }).await?;
        Ok(Response::empty(204))
    }))
}
