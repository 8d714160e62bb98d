//! The endpoints: from a parsed request to a question for the shards, and from the outcome to a response.
//!
//! A handler reads all it needs from the request without waiting; what it returns owns that, so the
//! request's bytes need not be kept.

mod administration;
mod authentication;
mod availability;
mod buyers;
mod cancellations;
mod changes;
mod common;
mod context;
mod demonstration;
mod endpoint;
mod event_reservations;
mod events;
mod holds;
mod ids;
mod input;
mod keys;
mod orders;
mod output;
mod pages;
mod problem_pages;
mod reservations;
mod sessions;
mod slices;
mod system;
mod transfers;
mod users;
mod work;

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

pub(in crate::front) use authentication::Newcomer;
pub use common::Common;
pub use demonstration::HIGHEST_EVENT as HIGHEST_DEMO_EVENT;
pub use endpoint::{Access, Endpoint, KeyUse};
pub(super) use endpoint::{Header, RequestHeader, Success, Tag};
pub use ids::Ids;
/// Steps of a reservation, for the benches.
#[cfg(feature = "bench")]
pub use reservations::steps::{quantity_asked_for, reservation_created};
pub(super) use system::answer_without_core;
pub use work::{Begun, Prepared, Running};

use super::auth::Tokens;
use super::cors::preflight;
use super::http::parse::{Method, Request};
use super::http::write::Response;
use super::live::Hub;
use super::problem::{Kind, Problem};
use super::router::{Routed, allowed_anywhere, find, normalized};
use super::verified::Verified;
use crate::account_limits::FrontLimits;
use crate::client::Shards;
use crate::clock::CoreClock;
pub(crate) use availability::as_json;
use context::RequestContext;

/// Every endpoint, the most used ones first.
pub(super) static ENDPOINTS: &[&Endpoint] = &[
    &reservations::CREATE,
    &event_reservations::LIST,
    &users::CREATE,
    &users::LIST,
    &users::GET,
    &administration::CHANGE_ROLE,
    &administration::REMOVE,
    &administration::SET_PASSWORD,
    &administration::END_SESSIONS,
    &users::GET_ME,
    &users::CHANGE_PASSWORD,
    &sessions::CREATE,
    &sessions::END,
    &keys::CREATE,
    &keys::LIST,
    &keys::END,
    &events::CREATE,
    &events::LIST,
    &events::GET,
    &availability::GET,
    &availability::LIST,
    &availability::OF_EVENT,
    &availability::OF_SEVERAL,
    &changes::OF_EVENT,
    &changes::OF_ORGANIZER,
    &events::EDIT,
    &events::DELETE,
    &reservations::LIST,
    &reservations::GET,
    &cancellations::CANCEL,
    &cancellations::REDUCE,
    &cancellations::CANCEL_SEVERAL,
    &transfers::TRANSFER,
    &holds::CREATE,
    &holds::CONFIRM,
    &holds::RELEASE,
    &orders::CREATE,
    &orders::LIST,
    &orders::GET,
    &orders::CONFIRM,
    &orders::CANCEL,
    &demonstration::POPULATE,
    &system::LIVE,
    &system::READY,
    &system::METRICS,
    &pages::HOME,
    &pages::CONTRACT,
    &pages::DOCS,
    &pages::DOCS_FILE,
    &pages::PROBLEM_LIST,
    &pages::PROBLEM_PAGE,
];

/// One core's API.
pub struct Api {
    pub common: Arc<Common>,
    pub shards: Shards,
    pub(crate) hub: Rc<Hub>,
    pub tokens: Tokens,
    pub verified: Rc<Verified>,
    pub account_limits: Rc<FrontLimits>,
    pub(crate) clock: Rc<CoreClock>,
    /// The shards are about to stop, and are not asked any more.
    pub closed: Cell<bool>,
}

impl Api {
    /// The server drains: nothing waits for news any more.
    pub(in crate::front) fn end_waiting(&self) {
        self.hub.close();
    }

    /// The time by which tokens are issued and expire, in seconds.
    pub fn unix_time(&self) -> u64 {
        self.clock.unix_time()
    }

    /// Routes, authenticates and reads a request of the client at `peer`. Nothing of it begins yet.
    pub fn prepare(&self, request: &Request<'_>, peer: IpAddr) -> Prepared {
        if let Some(cors) = &self.common.cors
            && let Some(response) = preflight(cors, request)
        {
            return Prepared::ready(response);
        }
        if self.closed.get() {
            return Prepared::refused(Problem::not_ready(&self.common.boot_id));
        }
        // RFC 9110 section 9.3.7: about the server as a whole.
        if request.method == Method::Options && request.path == "*" {
            return Prepared::ready(Response::empty(200).with("Allow", allowed_anywhere()));
        }
        let path = normalized(request.path);
        match find(request.method, &path) {
            Routed::To { endpoint, parameter } => {
                RequestContext::new(self, request, endpoint, parameter, peer).prepare()
            }
            Routed::WrongMethod { allow } => {
                Prepared::refused(Problem::method_not_allowed(request.method, allow))
            }
            Routed::NotFound => Prepared::refused(Problem::plain(Kind::NotFound)),
        }
    }
}
