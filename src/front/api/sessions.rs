//! Sessions: logging in.

use schemars::JsonSchema;
use serde::Serialize;
use shards::ids::Username;

use super::input::{body, no_query};
use super::output::json_response;
use super::users::User;
use super::work::Work;
use super::{Api, Call};
use crate::front::auth::TOKEN_LIFE_SECONDS;
use crate::front::problem::{Kind, Problem};
use crate::random;

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
    /// Who logs in.
    struct Credentials {
        /// In upper or lower case.
        username: String,
        /// As it was given at registration.
        password: String,
    }
}

pub(super) fn create(api: &Api, call: &Call<'_>) -> Result<Work, Problem> {
    no_query(call.request)?;
    let Credentials { username: name, password } = Credentials::read(call.request)?;
    // What no account can have is as wrong as what none has.
    let username = Username::new(&name).ok();
    let address = call.address(api);
    let shards = api.shards.clone();
    let common = api.common.clone();
    let tokens = api.tokens.clone();
    Ok(Work::future(async move {
        // Names that no account can have are counted like others.
        let counted_as = username.as_ref().map_or(&*name, Username::as_str);
        let guess = common.passwords.guess(counted_as, address)?;
        let account = match username {
            Some(username) => shards.account(username).await?,
            None => None,
        };
        let account = account.filter(|account| !account.removed);
        let hash = account.as_ref().map(|account| account.password_hash.clone());
        let right = guess.check(password, hash).await?;
        let (Some(account), true) = (account, right) else {
            return Err(Problem::wrong_credentials(Kind::WrongCredentials.explanation()));
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
