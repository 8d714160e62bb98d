//! A request on its way to its handler: who sends it, from where, and whether they may.

use std::cell::{Cell, OnceCell};
use std::net::IpAddr;

use shards::command::{Actor, Command, ExpectedVersion, IdempotencyKey, Keyed};
use shards::outcome::Outcome;

use super::Api;
use super::authentication::{LastingToken, Newcomer, NoSender, Sender, check_key_use};
use super::endpoint::{Access, Endpoint, Header, KeyUse, RequestHeader};
use super::input::{accepted, check_unsupported, expected_version, idempotency_key};
use super::work::{Prepared, Work};
use crate::front::auth::Identity;
use crate::front::http::parse::Request;
use crate::front::http::write::Response;
use crate::front::problem::{Kind, Problem};

/// A request, and the endpoint that it is for.
pub(in crate::front) struct RequestContext<'a> {
    pub(super) api: &'a Api,
    pub(super) request: &'a Request<'a>,
    endpoint: &'static Endpoint,
    /// What the path has in the place of the braces.
    pub(super) parameter: &'a str,
    peer: IpAddr,
    /// Empty until a token has been looked at.
    sender: OnceCell<Sender>,
    /// The sender, if only the account's shard can tell who that is.
    newcomer: OnceCell<Newcomer>,
    /// The number of changes that the request counts as, at an endpoint that changes something.
    changes: Cell<u32>,
    /// Whether the request has a key, at an endpoint that takes one.
    has_key: Cell<bool>,
}

impl<'a> RequestContext<'a> {
    pub(super) fn new(
        api: &'a Api,
        request: &'a Request<'a>,
        endpoint: &'static Endpoint,
        parameter: &'a str,
        peer: IpAddr,
    ) -> RequestContext<'a> {
        RequestContext {
            api,
            request,
            endpoint,
            parameter,
            peer,
            sender: OnceCell::new(),
            newcomer: OnceCell::new(),
            changes: Cell::new(1),
            has_key: Cell::new(false),
        }
    }

    /// Authorizes the request, reads it, and has the handler make its work.
    pub(super) fn prepare(self) -> Prepared {
        let work = check_unsupported(self.request, self.endpoint).and_then(|has_key| {
            self.has_key.set(has_key);
            self.authorize()
        });
        let work = work.and_then(|()| {
            if self.endpoint.speaks_json() {
                self.form()?;
            }
            if self.endpoint.access == Access::Demo && !self.api.common.demo {
                return Err(Problem::plain(Kind::NotFound));
            }
            self.endpoint.handler.handle(&self)
        });
        let endpoint = Some(self.endpoint);
        let Some(Sender { actor, identity: _, check }) = self.sender.into_inner() else {
            let newcomer = self.newcomer.into_inner().map(Box::new);
            return Prepared { endpoint, work, changes_of: None, newcomer };
        };
        let changes_of = self.endpoint.counts_as_change().then_some((actor.user, self.changes.get()));
        match check {
            Some(check) => {
                let work = Ok(Work::future(check.before(work, changes_of)));
                Prepared { endpoint, work, changes_of: None, newcomer: None }
            }
            None => Prepared { endpoint, work, changes_of, newcomer: None },
        }
    }

    /// Whether the sender may use the endpoint at all.
    fn authorize(&self) -> Result<(), Problem> {
        match self.endpoint.access {
            Access::Anyone | Access::Optional(_) | Access::Demo => Ok(()),
            Access::LoggedIn(_) => self.authenticate().map(|_| ()),
            Access::Only(roles, _) => {
                let role = self.authenticate()?.role;
                if roles.contains(&role) { Ok(()) } else { Err(Problem::forbidden(role, roles)) }
            }
        }
    }

    fn authenticate(&self) -> Result<Actor, Problem> {
        if let Some(sender) = self.sender.get() {
            return Ok(sender.actor);
        }
        let sender = Sender::of(self.request, self.endpoint, self.api).map_err(|why| match why {
            NoSender::Refused(problem) => problem,
            NoSender::Newcomer(newcomer) => {
                let _ = self.newcomer.set(newcomer);
                Problem::bad_token()
            }
        })?;
        let sender = self.sender.get_or_init(|| sender);
        if let Some(identity) = &sender.identity {
            check_key_use(identity, self.endpoint)?;
        }
        Ok(sender.actor)
    }

    /// The form of the answer: of those that the endpoint has, the one that the client wants most.
    ///
    /// # Errors
    ///
    /// 406, when it accepts none of them.
    pub(super) fn form(&self) -> Result<&'static str, Problem> {
        accepted(self.request, self.endpoint.forms())
    }

    /// The sender's token, for an answer that takes long, at an endpoint that demands one.
    ///
    /// # Errors
    ///
    /// 401, when the token is not a good one.
    pub(super) fn lasting_token(&self) -> Result<LastingToken, Problem> {
        LastingToken::of(self.request, self.api)
    }

    /// Makes the request count as so many changes of the account that sends it.
    pub(super) fn counts_as(&self, changes: usize) {
        self.changes.set(u32::try_from(changes).unwrap_or(u32::MAX));
    }

    fn sender(&self) -> &Sender {
        self.sender.get().expect("the endpoint's access demands a token")
    }

    /// The sender, at an endpoint that demands a token. `None` for an API key that this core sees for the first time:
    /// the work then waits for the key's check, and is not done if the endpoint takes no keys.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.sender().identity.as_deref()
    }

    /// The sender, at an endpoint that demands a token and takes no API keys.
    ///
    /// # Errors
    ///
    /// 403, for an API key.
    pub(super) fn identity_without_key(&self) -> Result<&Identity, Problem> {
        debug_assert_eq!(self.endpoint.access.key_use(), KeyUse::Never, "{}", self.endpoint.id);
        self.identity().ok_or_else(Problem::not_with_a_key)
    }

    /// The account that acts, at an endpoint that demands a token.
    pub(super) fn actor(&self) -> Actor {
        self.sender().actor
    }

    /// The account that acts, at an endpoint where a token is optional; `None` without one. The work then waits
    /// for the token's check.
    ///
    /// # Errors
    ///
    /// 401, when the token is not a good one; 403 for an API key without the endpoint's scope.
    pub(super) fn actor_if_given(&self) -> Result<Option<Actor>, Problem> {
        debug_assert!(matches!(self.endpoint.access, Access::Optional(_)), "{}", self.endpoint.id);
        match self.request.header("authorization") {
            Some(_) => self.authenticate().map(Some),
            None => Ok(None),
        }
    }

    /// The versions for which the request is meant, at an endpoint that reads [`RequestHeader::IF_MATCH`].
    ///
    /// # Errors
    ///
    /// 422, when If-Match is malformed.
    pub(super) fn expected_version(&self) -> Result<ExpectedVersion, Problem> {
        debug_assert!(self.endpoint.headers.contains(&RequestHeader::IF_MATCH), "{}", self.endpoint.id);
        expected_version(self.request)
    }

    /// The request's key, if it has one. `parameter` of the path and the body have been read.
    ///
    /// # Errors
    ///
    /// 422, when Idempotency-Key is malformed.
    pub(super) fn key(&self) -> Result<Option<IdempotencyKey>, Problem> {
        debug_assert!(self.endpoint.takes_keys(), "{}", self.endpoint.id);
        if !self.has_key.get() {
            return Ok(None);
        }
        idempotency_key(self.request, self.endpoint, self.parameter, self.actor()).map(Some)
    }

    /// The work of a command at an endpoint that takes keys. If the request has one that is kept, nothing is done, and
    /// the response is the first one.
    ///
    /// # Errors
    ///
    /// 422, when Idempotency-Key is malformed.
    pub(super) fn once(
        &self,
        command: Command,
        respond: impl FnOnce(Outcome) -> Response + 'static,
    ) -> Result<Work, Problem> {
        let Some(key) = self.key()? else { return Ok(Work::command(command, respond)) };
        let keyed = Command::Keyed(Box::new(Keyed { key, command }));
        Ok(Work::command(keyed, |outcome| replayed_or_new(outcome, respond)))
    }

    /// The client's address: the other end of the connection, or what a trusted proxy says. An endpoint that
    /// asks for it lists [`Kind::UnclearClientAddress`].
    ///
    /// # Errors
    ///
    /// 400, when a trusted proxy names no address.
    pub(super) fn client_address(&self) -> Result<IpAddr, Problem> {
        self.api.common.proxies.client(self.request, self.peer)
    }

    /// The client's address for a line of the log; the proxy's if that names none.
    pub(super) fn address_for_log(&self) -> IpAddr {
        self.client_address().unwrap_or(self.peer)
    }
}

/// The response to an outcome; marked, if that was first given to an earlier request.
pub(super) fn replayed_or_new(outcome: Outcome, respond: impl FnOnce(Outcome) -> Response) -> Response {
    match outcome {
        Outcome::Replayed(first) => respond(*first).with(Header::REPLAYED.name, "true".to_owned()),
        outcome => respond(outcome),
    }
}
