//! Who sends a request, by its token. A token that this core has not seen is good only if its account
//! still stands by it, so the account's slot is asked once before the request begins.

use std::rc::Rc;

use shards::ids::UserId;

use super::Api;
use super::work::Work;
use crate::account_limits::FrontLimits;
use crate::client::{Refused, Shards};
use crate::clock::CoreClock;
use crate::front::auth::{Claimed, Identity, bearer};
use crate::front::http::parse::Request;
use crate::front::http::write::Response;
use crate::front::problem::Problem;
use crate::front::verified::Verified;

/// The sender of a request, as its token says.
pub(super) struct Sender {
    pub(super) identity: Rc<Identity>,
    /// `None` when this core has asked the account's slot before.
    pub(super) token_check: Option<TokenCheck>,
}

impl Sender {
    /// # Errors
    ///
    /// 401, without a good token.
    pub(super) fn of(request: &Request<'_>, api: &Api) -> Result<Sender, Problem> {
        let token = request.header_bytes("authorization").and_then(bearer).ok_or_else(Problem::no_token)?;
        let now = api.unix_time();
        if let Some(identity) = api.verified.get(token, now) {
            return Ok(Sender { identity, token_check: None });
        }
        let token = str::from_utf8(token).map_err(|_| Problem::no_token())?;
        let claimed = api.tokens.verify(token, now).ok_or_else(Problem::bad_token)?;
        let token_check = TokenCheck {
            token: token.into(),
            claimed: claimed.clone(),
            shards: api.shards.clone(),
            verified: Rc::clone(&api.verified),
            limits: Rc::clone(&api.account_limits),
        };
        Ok(Sender { identity: claimed.identity, token_check: Some(token_check) })
    }
}

/// A token that is looked at again while an answer is written.
pub(super) struct LastingToken {
    claimed: Claimed,
    shards: Shards,
    clock: Rc<CoreClock>,
}

impl LastingToken {
    /// # Errors
    ///
    /// 401, without a good token.
    pub(super) fn of(request: &Request<'_>, api: &Api) -> Result<LastingToken, Problem> {
        let token = request.header("authorization").and_then(|value| bearer(value.as_bytes()));
        let token = token.and_then(|token| str::from_utf8(token).ok()).ok_or_else(Problem::no_token)?;
        let claimed = api.tokens.verify(token, api.unix_time()).ok_or_else(Problem::bad_token)?;
        Ok(LastingToken { claimed, shards: api.shards.clone(), clock: Rc::clone(&api.clock) })
    }

    /// Whether it has neither expired nor been ended by a change of its account.
    pub(super) async fn stands(&self) -> Result<bool, Refused> {
        let Claimed { identity, token_version, validity } = &self.claimed;
        let (user, username) = (identity.actor.user, identity.username.clone());
        let stands = self.shards.token_stands(user, username, *token_version).await?;
        Ok(stands && validity.contains(self.clock.unix_time()))
    }
}

/// A token with a good signature, whose account may have changed since it was issued.
pub(super) struct TokenCheck {
    token: Box<str>,
    claimed: Claimed,
    shards: Shards,
    verified: Rc<Verified>,
    limits: Rc<FrontLimits>,
}

impl TokenCheck {
    /// Does the work after the account's shard has confirmed the token. If the token has ended, that is
    /// the answer, and not another problem of the request. `changes_of` is the account for which the work
    /// counts as so many changes, if it does.
    pub(super) async fn before(
        self,
        work: Result<Work, Problem>,
        changes_of: Option<(UserId, u32)>,
    ) -> Result<Response, Problem> {
        let (shards, limits) = (self.shards.clone(), Rc::clone(&self.limits));
        self.run().await?;
        let work = work?;
        if let Some((account, count)) = changes_of {
            limits.take_changes(account, count)?;
        }
        work.run(&shards).await
    }

    async fn run(self) -> Result<(), Problem> {
        let Claimed { identity, token_version, validity: _ } = &self.claimed;
        let asked = self.verified.asking();
        let (user, username) = (identity.actor.user, identity.username.clone());
        if !self.shards.token_stands(user, username, *token_version).await? {
            return Err(Problem::bad_token());
        }
        self.verified.remember(asked, self.token, self.claimed);
        Ok(())
    }
}
