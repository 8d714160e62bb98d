//! The endpoints: from a parsed request to a question for the shards, and from
//! their answer to a response.
//!
//! Each endpoint reads all that it needs from the request first, without
//! waiting, and returns a future that owns it: the request's bytes can go.

mod common;
pub(super) mod demonstration;
pub(super) mod events;
mod ids;
pub(super) mod input;
mod output;
mod pages;
pub(super) mod reservations;
pub(super) mod sessions;
pub(super) mod system;
pub(super) mod users;

use std::cell::Cell;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use shards::command::Actor;
use shards::ids::{EventId, ReservationId, UserId};

pub use common::{Common, ConnectionPermit};
pub use ids::Ids;
pub(super) use output::Page;
pub(super) use pages::docs_file_names;

pub use demonstration::HIGHEST_EVENT as HIGHEST_DEMO_EVENT;
/// Parts of the way of a reservation, which the benches measure one by one.
pub use reservations::{created as reservation_created, quantity_asked_for};

use super::auth::{self, Claimed, Identity, Tokens, bearer};
use super::contract;
use super::http::parse::Request;
use super::http::write::Response;
use super::problem::{Kind, Problem};
use super::router::{Access, Endpoint, Route, Routed, find};
use super::verified::Verified;
use crate::client::Shards;

/// One core's API.
pub struct Api {
    pub common: Arc<Common>,
    pub shards: Shards,
    pub tokens: Tokens,
    pub verified: Rc<Verified>,
    /// The shards are about to stop, and are not asked any more.
    pub closed: Cell<bool>,
}

/// A request that runs, and ends in an answer.
pub type Running = Pin<Box<dyn Future<Output = Result<Response, Problem>>>>;

/// What an endpoint makes of a request: an answer to come, or at once what is wrong with it.
pub(super) type Answer = Result<Running, Problem>;

/// A request that owns all it needs, and has done nothing yet.
pub struct Prepared {
    pub answer: Answer,
    /// The one shard that it asks, where that is one question to one shard.
    pub shard: Option<usize>,
    /// It changes nothing.
    pub safe: bool,
}

impl Prepared {
    fn refused(problem: Problem) -> Prepared {
        Prepared { answer: Err(problem), shard: None, safe: true }
    }
}

impl Api {
    /// Routes, authenticates and reads a request of the client at `peer`; runs nothing yet.
    pub fn prepare(&self, request: &Request<'_>, peer: IpAddr) -> Prepared {
        if self.closed.get() {
            return Prepared::refused(Problem::not_ready(&self.common.boot_id));
        }
        match find(request.method, request.path) {
            Routed::To { route, parameter } => self.prepare_for(route, parameter, request, peer),
            Routed::WrongMethod { allow } => {
                Prepared::refused(Problem::method_not_allowed(request.method, allow))
            }
            Routed::NotFound => Prepared::refused(Problem::plain(Kind::NotFound)),
        }
    }

    fn prepare_for(
        &self,
        route: &'static Route,
        parameter: &str,
        request: &Request<'_>,
        peer: IpAddr,
    ) -> Prepared {
        let asker = match route.access {
            Access::Anyone => None,
            Access::LoggedIn | Access::Only(_) => match self.asker(request) {
                Some(asker) => Some(asker),
                None => {
                    let answer = contract::checked(route, Err(Problem::unauthorized()));
                    return Prepared { answer, shard: None, safe: true };
                }
            },
        };
        let identity = asker.as_ref().map(|asker| Rc::clone(&asker.identity));
        let call = Call { request, parameter, identity, peer };
        let answer = contract::checked(route, admit(route, &call).and_then(|()| self.run(route, &call)));
        // Making the demonstration data is a GET for a browser's sake alone.
        let safe = request.method.is_safe() && route.endpoint != Endpoint::Populate;
        match asker {
            // It asks more than one shard, or one more than once.
            Some(asker) if asker.doubt.is_some() => {
                Prepared { answer: contract::checked(route, asker.before(answer)), shard: None, safe }
            }
            _ => Prepared { answer, shard: self.shard_asked(route.endpoint, &call), safe },
        }
    }

    /// Who a request's token speaks for; `None` without a good one.
    fn asker(&self, request: &Request<'_>) -> Option<Asker> {
        let token = bearer(request.header("authorization")?)?;
        if let Some(identity) = self.verified.get(token, auth::now()) {
            return Some(Asker { identity, doubt: None });
        }
        let claimed = self.tokens.verify(token)?;
        let doubt = Doubt {
            token: token.into(),
            claimed: claimed.clone(),
            shards: self.shards.clone(),
            verified: Rc::clone(&self.verified),
        };
        Some(Asker { identity: claimed.identity, doubt: Some(doubt) })
    }

    /// Requests to one shard keep their order on the way; see the connection's pipelining.
    fn shard_asked(&self, endpoint: Endpoint, call: &Call<'_>) -> Option<usize> {
        let event = match endpoint {
            Endpoint::GetEvent
            | Endpoint::EditEvent
            | Endpoint::DeleteEvent
            | Endpoint::ListEventReservations
            | Endpoint::CreateReservation => call.event().ok()?,
            Endpoint::GetReservation | Endpoint::CancelReservation => call.reservation().ok()?.event,
            Endpoint::CreateUser
            | Endpoint::CreateSession
            | Endpoint::GetMe
            | Endpoint::ChangePassword
            | Endpoint::ListUsers
            | Endpoint::ChangeRole
            | Endpoint::RemoveUser
            | Endpoint::CreateEvent
            | Endpoint::ListEvents
            | Endpoint::ListReservations
            | Endpoint::Populate
            | Endpoint::Live
            | Endpoint::Ready
            | Endpoint::Metrics
            | Endpoint::Contract
            | Endpoint::Docs
            | Endpoint::DocsFile
            | Endpoint::ProblemList
            | Endpoint::ProblemPage => return None,
        };
        Some(self.shards.owner_of_event(event))
    }

    fn run(&self, route: &Route, call: &Call<'_>) -> Answer {
        if route.speaks_json() {
            input::check_accept(call.request)?;
        }
        match route.endpoint {
            Endpoint::CreateUser => users::create(self, call),
            Endpoint::CreateSession => sessions::create(self, call),
            Endpoint::GetMe => users::get_me(call),
            Endpoint::ChangePassword => users::change_password(self, call),
            Endpoint::ListUsers => users::list(self, call),
            Endpoint::ChangeRole => users::change_role(self, call),
            Endpoint::RemoveUser => users::remove(self, call),
            Endpoint::CreateEvent => events::create(self, call),
            Endpoint::ListEvents => events::list(self, call),
            Endpoint::GetEvent => events::get(self, call),
            Endpoint::EditEvent => events::edit(self, call),
            Endpoint::DeleteEvent => events::delete(self, call),
            Endpoint::ListEventReservations => reservations::list_of_event(self, call),
            Endpoint::CreateReservation => reservations::create(self, call),
            Endpoint::ListReservations => reservations::list(self, call),
            Endpoint::GetReservation => reservations::get(self, call),
            Endpoint::CancelReservation => reservations::cancel(self, call),
            Endpoint::Populate => demonstration::populate(self, call),
            Endpoint::Live => system::live(self, call),
            Endpoint::Ready => system::ready(self, call),
            Endpoint::Metrics => system::metrics(self, call),
            Endpoint::Contract => pages::contract(call),
            Endpoint::Docs => pages::docs(call),
            Endpoint::DocsFile => pages::docs_file(call),
            Endpoint::ProblemList => pages::problem_list(call),
            Endpoint::ProblemPage => pages::problem(call),
        }
    }
}

/// Whether the asker's role may do it at all.
fn admit(route: &Route, call: &Call<'_>) -> Result<(), Problem> {
    let Access::Only(roles) = route.access else { return Ok(()) };
    let role = call.actor().role;
    if roles.contains(&role) {
        return Ok(());
    }
    Err(Problem::forbidden(role, roles))
}

/// Who asks, as the token says.
struct Asker {
    identity: Rc<Identity>,
    /// Gone when this core has asked the account's shard before.
    doubt: Option<Doubt>,
}

/// A token that is good in itself. Its account may have changed since it was given.
struct Doubt {
    token: Box<str>,
    claimed: Claimed,
    shards: Shards,
    verified: Rc<Verified>,
}

impl Asker {
    /// The answer, whatever it is, once the account stands by the token.
    fn before(self, answer: Answer) -> Answer {
        match self.doubt {
            None => answer,
            Some(doubt) => Ok(Box::pin(async move {
                doubt.settle().await?;
                answer?.await
            })),
        }
    }
}

impl Doubt {
    async fn settle(self) -> Result<(), Problem> {
        let Claimed { identity, token_version, .. } = &self.claimed;
        let asked = self.verified.asking();
        let (user, username) = (identity.actor.user, identity.username.clone());
        if !self.shards.token_stands(user, username, *token_version).await? {
            return Err(Problem::unauthorized());
        }
        self.verified.remember(asked, self.token, self.claimed);
        Ok(())
    }
}

/// A request on its way to its endpoint.
struct Call<'a> {
    request: &'a Request<'a>,
    /// What the path has in the place of the braces.
    parameter: &'a str,
    identity: Option<Rc<Identity>>,
    peer: IpAddr,
}

impl Call<'_> {
    /// Of a route that lets nobody in without a token.
    fn identity(&self) -> &Identity {
        self.identity.as_ref().expect("the route's access demands a token")
    }

    fn actor(&self) -> Actor {
        self.identity().actor
    }

    fn event(&self) -> Result<EventId, Problem> {
        self.parameter.parse().map_err(|_| Problem::plain(Kind::NotFound))
    }

    fn user(&self) -> Result<UserId, Problem> {
        self.parameter.parse().map_err(|_| Problem::plain(Kind::NotFound))
    }

    /// Of the client: what our own proxy says, where there is one, else the other end.
    fn address(&self, api: &Api) -> IpAddr {
        // The last proxy adds to the end; what stands before it may be anybody's invention.
        let trusted = api.common.trust_forwarded_for.then_some("x-forwarded-for");
        let lines = trusted.and_then(|name| self.request.headers(name).last());
        let last = lines.and_then(|line| line.rsplit(',').next());
        last.and_then(|address| address.trim().parse().ok()).unwrap_or(self.peer)
    }

    fn reservation(&self) -> Result<ReservationId, Problem> {
        self.parameter.parse().map_err(|_| Problem::plain(Kind::NotFound))
    }
}
