//! The endpoints: from a parsed request to a question for the shards, and from
//! their answer to a response.
//!
//! A handler reads all it needs from the request without waiting; what it returns owns that, so the
//! request's bytes need not be kept.

mod authentication;
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
mod work;

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use shards::command::Actor;
use shards::ids::{EventId, ReservationId, UserId};

pub use common::{Common, ConnectionPermit};
pub use ids::Ids;
pub(super) use output::Page;
pub(super) use pages::docs_file_names;
pub use work::{Begun, Prepared, Running};

pub use demonstration::HIGHEST_EVENT as HIGHEST_DEMO_EVENT;
/// Parts of the way of a reservation, which the benches measure one by one.
pub use reservations::{created as reservation_created, quantity_asked_for};

use super::auth::{Identity, Tokens};
use super::http::parse::Request;
use super::problem::{Kind, Problem};
use super::router::{Access, Endpoint, Route, Routed, find};
use super::verified::Verified;
use crate::client::Shards;
use authentication::Sender;
use work::Work;

/// One core's API.
pub struct Api {
    pub common: Arc<Common>,
    pub shards: Shards,
    pub tokens: Tokens,
    pub verified: Rc<Verified>,
    /// The shards are about to stop, and are not asked any more.
    pub closed: Cell<bool>,
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
        let sender = match route.access {
            Access::Anyone => None,
            Access::LoggedIn | Access::Only(_) => match Sender::of(request, self) {
                Some(sender) => Some(sender),
                None => return Prepared { route: Some(route), work: Err(Problem::unauthorized()) },
            },
        };
        let identity = sender.as_ref().map(|sender| Rc::clone(&sender.identity));
        let call = Call { request, parameter, identity, peer };
        let work = admit(route, &call).and_then(|()| self.run(route, &call));
        let work = match sender.and_then(|sender| sender.token_check) {
            Some(check) => Ok(Work::future(check.before(work))),
            None => work,
        };
        Prepared { route: Some(route), work }
    }

    fn run(&self, route: &Route, call: &Call<'_>) -> Result<Work, Problem> {
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
