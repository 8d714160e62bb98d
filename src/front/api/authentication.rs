//! Who sends a request, by its token or API key. One that this core has not seen is good only if a shard says so, which
//! is asked once before the request begins: the account's slot, and for a key its organizer's slot first.

use std::rc::Rc;
use std::sync::Arc;

use shards::api_keys::{ApiKey, ApiKeyView};
use shards::command::Actor;
use shards::ids::UserId;

use super::endpoint::{Endpoint, KeyUse};
use super::work::Work;
use super::{Api, Common};
use crate::account_limits::FrontLimits;
use crate::client::{Refused, Shards};
use crate::clock::CoreClock;
use crate::front::api_keys::{KeyInUse, SentKey};
use crate::front::auth::{Claimed, Credential, Identity, Validity, bearer};
use crate::front::http::parse::Request;
use crate::front::http::write::Response;
use crate::front::problem::Problem;
use crate::front::verified::Verified;

/// The sender of a request.
pub(super) struct Sender {
    pub(super) actor: Actor,
    /// `None` for an API key that this core has not seen: what it may do is not known yet.
    pub(super) identity: Option<Rc<Identity>>,
    /// `None` when this core has asked the shards before.
    pub(super) check: Option<Check>,
}

/// A token with a good signature, or a key of the right form.
enum Presented {
    Token(Claimed),
    Key(SentKey),
}

impl Sender {
    /// # Errors
    ///
    /// 401, without a good token or a key of the right form.
    pub(super) fn of(
        request: &Request<'_>,
        endpoint: &'static Endpoint,
        api: &Api,
    ) -> Result<Sender, Problem> {
        let token = request.header_bytes("authorization").and_then(bearer).ok_or_else(Problem::no_token)?;
        let now = api.unix_time();
        if let Some(identity) = api.verified.get(token, now) {
            if let Credential::Key(key) = &identity.credential {
                key.last_use.note(now);
            }
            return Ok(Sender { actor: identity.actor, identity: Some(identity), check: None });
        }
        let token = str::from_utf8(token).map_err(|_| Problem::no_token())?;
        let presented = Presented::read(token, api, now).ok_or_else(Problem::bad_token)?;
        let (actor, identity) = match &presented {
            Presented::Token(claimed) => (claimed.identity.actor, Some(Rc::clone(&claimed.identity))),
            Presented::Key(key) => (key.actor(), None),
        };
        let check = Check {
            token: token.into(),
            presented,
            endpoint,
            shards: api.shards.clone(),
            verified: Rc::clone(&api.verified),
            limits: Rc::clone(&api.account_limits),
            common: Arc::clone(&api.common),
            clock: Rc::clone(&api.clock),
        };
        Ok(Sender { actor, identity, check: Some(check) })
    }
}

impl Presented {
    fn read(token: &str, api: &Api, now: u64) -> Option<Presented> {
        if SentKey::is_meant(token) {
            return SentKey::read(token).map(Presented::Key);
        }
        api.tokens.verify(token, now).map(Presented::Token)
    }

    /// Asks the shards. `None` if the token or key has ended, or there never was such a key.
    async fn confirm(&self, shards: &Shards, common: &Common) -> Result<Option<Claimed>, Refused> {
        match self {
            Presented::Token(claimed) => {
                let Identity { actor, username, credential } = &*claimed.identity;
                let Credential::Token { version } = *credential else { return Ok(None) };
                let stands = shards.token_stands(actor.user, username.clone(), version).await?;
                Ok(stands.then(|| claimed.clone()))
            }
            Presented::Key(sent) => confirm_key(sent, shards, common).await,
        }
    }
}

async fn confirm_key(sent: &SentKey, shards: &Shards, common: &Common) -> Result<Option<Claimed>, Refused> {
    let kept = shards.api_key(sent.organizer, sent.number).await?;
    let Some(kept) = kept.filter(|kept| sent.has_secret_of(&kept.key)) else { return Ok(None) };
    let ApiKeyView { organizer: user, number, key, created_at: _ } = *kept;
    let ApiKey { name: _, scopes, secret_hash: _, username, account_version, ends_at } = key;
    if !shards.api_keys_stand(user, username.clone(), account_version).await? {
        return Ok(None);
    }
    let actor = sent.actor();
    let last_use = common.key_uses.of(user, number);
    let credential = Credential::Key(KeyInUse { number, scopes, last_use });
    let identity = Rc::new(Identity { actor, username, credential });
    Ok(Some(Claimed { identity, validity: Validity::until(ends_at) }))
}

/// A token that is looked at again while an answer is written.
pub(super) struct LastingToken {
    presented: Presented,
    shards: Shards,
    common: Arc<Common>,
    clock: Rc<CoreClock>,
}

impl LastingToken {
    /// # Errors
    ///
    /// 401, without a good token.
    pub(super) fn of(request: &Request<'_>, api: &Api) -> Result<LastingToken, Problem> {
        let token = request.header("authorization").and_then(|value| bearer(value.as_bytes()));
        let token = token.and_then(|token| str::from_utf8(token).ok()).ok_or_else(Problem::no_token)?;
        let presented = Presented::read(token, api, api.unix_time()).ok_or_else(Problem::bad_token)?;
        let (shards, common) = (api.shards.clone(), Arc::clone(&api.common));
        Ok(LastingToken { presented, shards, common, clock: Rc::clone(&api.clock) })
    }

    /// Whether it has neither expired nor been ended.
    pub(super) async fn stands(&self) -> Result<bool, Refused> {
        let claimed = self.presented.confirm(&self.shards, &self.common).await?;
        Ok(claimed.is_some_and(|claimed| claimed.validity.contains(self.clock.unix_time())))
    }
}

/// A token or key that only shards can confirm: it may have ended.
pub(super) struct Check {
    token: Box<str>,
    presented: Presented,
    endpoint: &'static Endpoint,
    shards: Shards,
    verified: Rc<Verified>,
    limits: Rc<FrontLimits>,
    common: Arc<Common>,
    clock: Rc<CoreClock>,
}

impl Check {
    /// Does the work after the shards have confirmed the token. If it has ended, that is the answer, and not another
    /// problem of the request; so it is if a key may not be used for the request. `changes_of` is the account for which
    /// the work counts as so many changes, if it does.
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
        let asked = self.verified.asking();
        let claimed = self.presented.confirm(&self.shards, &self.common).await?;
        let now = self.clock.unix_time();
        let claimed = claimed.filter(|claimed| claimed.validity.contains(now));
        let claimed = claimed.ok_or_else(Problem::bad_token)?;
        let identity = Rc::clone(&claimed.identity);
        self.verified.remember(asked, self.token, claimed);
        if let Credential::Key(key) = &identity.credential {
            key.last_use.note(now);
        }
        check_key_use(&identity, self.endpoint)
    }
}

/// Checks that the endpoint can be used with what the request was sent with.
///
/// # Errors
///
/// 403, when that is a key without the endpoint's scope, or the endpoint takes no keys.
pub(super) fn check_key_use(identity: &Identity, endpoint: &Endpoint) -> Result<(), Problem> {
    let Credential::Key(KeyInUse { scopes, .. }) = &identity.credential else { return Ok(()) };
    match endpoint.access.key_use() {
        KeyUse::Any => Ok(()),
        KeyUse::With(scope) if scopes.contains(scope) => Ok(()),
        KeyUse::With(scope) => Err(Problem::missing_scope(scope)),
        KeyUse::Never => Err(Problem::not_with_a_key()),
    }
}
