//! Who sends a request, by its token or API key. One that this core has not seen is good only if a shard says so, which
//! is asked once before the request begins: the account's slot, and for a key its organizer's slot first.

use std::rc::Rc;
use std::sync::Arc;

use shards::api_keys::{ApiKey, ApiKeyView};
use shards::command::{Actor, CreateUser};
use shards::ids::{Role, UserId, Username};
use shards::outcome::{AccountView, Rejection};

use super::endpoint::{Endpoint, KeyUse};
use super::work::Work;
use super::{Api, Common};
use crate::account_limits::FrontLimits;
use crate::client::{Refused, Shards};
use crate::clock::CoreClock;
use crate::front::api_keys::{KeyInUse, SentKey};
use crate::front::auth::{Claimed, Credential, Identity, LEEWAY_SECONDS, Validity, bearer};
use crate::front::http::parse::Request;
use crate::front::http::write::Response;
use crate::front::issuers::ForeignToken;
use crate::front::problem::Problem;
use crate::front::verified::Verified;
use crate::random;

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
    /// Its account may not be there yet.
    Foreign(ForeignToken),
}

/// Why a request has no sender.
pub(super) enum NoSender {
    Refused(Problem),
    /// It is known once [`Newcomer::arrive`] has ended.
    Newcomer(Newcomer),
}

impl From<Problem> for NoSender {
    fn from(problem: Problem) -> NoSender {
        NoSender::Refused(problem)
    }
}

/// A token of another issuer that this core has not seen. It does not say the account's id, which the request's work
/// needs, so the request is read again when the account is known.
pub(in crate::front) struct Newcomer {
    token: Box<str>,
    foreign: ForeignToken,
    shards: Shards,
    verified: Rc<Verified>,
    common: Arc<Common>,
}

impl Newcomer {
    /// Keeps the token if it stands. Makes its account if it has none.
    ///
    /// # Errors
    ///
    /// 401, if the account was removed, or the token ended by a log-out.
    pub(in crate::front) async fn arrive(self) -> Result<(), Problem> {
        let Newcomer { token, foreign, shards, verified, common } = self;
        if shards.account(foreign.username.clone()).await?.is_none() {
            let (id, username) = (common.ids.next_user()?, foreign.username.clone());
            let create =
                CreateUser { id, username, password_hash: "".into(), role: Role::Customer, token_version: 0 };
            match shards.create_user(create).await {
                // Another core was first.
                Ok(_) | Err(Refused::Rejected(Rejection::UsernameTaken)) => {}
                Err(refused) => return Err(refused.into()),
            }
        }
        let asked = verified.asking();
        let claimed = confirm_foreign(&foreign, &shards).await?.ok_or_else(Problem::bad_token)?;
        verified.remember(asked, token, claimed);
        Ok(())
    }
}

/// What a log-out makes the token version of an account: random bits, as its tokens carry. Those of another issuer
/// carry none; there it is the last second whose tokens have ended, also those that the issuer's clock dates ahead.
pub(super) fn next_version(username: &Username, now: u64) -> u64 {
    if username.is_of_issuer() { now.saturating_add(LEEWAY_SECONDS) } else { random::u64() }
}

async fn confirm_foreign(foreign: &ForeignToken, shards: &Shards) -> Result<Option<Claimed>, Refused> {
    let account = shards.account(foreign.username.clone()).await?;
    let stands = |account: &AccountView| !account.removed && account.token_version < foreign.issued_at;
    let Some(account) = account.filter(|account| stands(account)) else { return Ok(None) };
    let AccountView { id: user, username, role, .. } = *account;
    let identity =
        Rc::new(Identity { actor: Actor::new(user, role), username, credential: Credential::Foreign });
    Ok(Some(Claimed { identity, validity: foreign.validity }))
}

impl Sender {
    /// # Errors
    ///
    /// 401, without a good token or a key of the right form; and for a token of another issuer that this core has not
    /// seen, with what makes it known.
    pub(super) fn of(
        request: &Request<'_>,
        endpoint: &'static Endpoint,
        api: &Api,
    ) -> Result<Sender, NoSender> {
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
        let common = Arc::clone(&api.common);
        let (actor, identity) = match &presented {
            Presented::Foreign(foreign) => {
                let (shards, verified) = (api.shards.clone(), Rc::clone(&api.verified));
                let foreign = foreign.clone();
                return Err(NoSender::Newcomer(Newcomer {
                    token: token.into(),
                    foreign,
                    shards,
                    verified,
                    common,
                }));
            }
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
            common,
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
        let own = api.tokens.verify(token, now).map(Presented::Token);
        own.or_else(|| api.common.issuers.verify(token, now).map(Presented::Foreign))
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
            Presented::Foreign(foreign) => confirm_foreign(foreign, shards).await,
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
