//! Joins the parts of one core: front, mesh and pump.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use shards::driver::Pace;
use shards::log::Log;
use shards::shard::Shard;
use shards::slots::Owners;

use crate::account_limits::{AccountLimits, FrontLimits, Refusals};
use crate::client::Shards;
use crate::clock::{CoreClock, Origin};
use crate::front::api::{Api, Common, as_json};
use crate::front::arrivals::{Arrival, Arrivals};
use crate::front::auth::Tokens;
use crate::front::connection::Front;
use crate::front::deadlines::Timeouts;
use crate::front::http::parse::Limits;
use crate::front::live::Hub;
use crate::front::verified::Verified;
use crate::mesh::{Asker, Inbox, Mesh, MeshEnds};
use crate::pump::{Pump, PumpParts};
use crate::revocation::Revocations;
use crate::rt::channel::Receiver;
use crate::rt::net::Sockets;
use crate::rt::reactor::Reactor;
use crate::rt::workers::{Priority, Workers};

/// What a core is made of. Can be sent to the core's thread.
pub(crate) struct Parts {
    pub index: usize,
    pub shard: Shard<Asker>,
    pub pace: Pace,
    pub origin: Origin,
    pub log: Box<dyn Log>,
    pub ends: MeshEnds,
    /// Connections that the standby thread hands over.
    pub arrivals: Receiver<Arrival>,
    pub common: Arc<Common>,
    pub tokens: Tokens,
    pub limits: Limits,
    pub account_limits: AccountLimits,
    pub timeouts: Timeouts,
    pub calls_in_flight_max: usize,
    pub batch_max: usize,
    /// The most idempotency keys of all shards; 0 for no limit.
    pub idempotency_keys_max: u64,
}

/// A core whose pump and reactor are not started yet, without connections.
pub(crate) struct Assembled {
    pub front: Rc<Front>,
    pub pump: Pump,
    pub inbox: Rc<Inbox>,
    pub sockets: Rc<Sockets>,
    pub reactor: Rc<Reactor>,
    pub arrivals: Rc<Arrivals>,
    pub clock: Rc<CoreClock>,
}

impl Parts {
    /// Joins the parts, on the core's own thread.
    ///
    /// # Errors
    ///
    /// When there are too few descriptors, or a thread cannot be started.
    pub(crate) fn assemble(self) -> io::Result<Assembled> {
        let metrics = &self.common.metrics.cores[self.index];
        metrics.publish(self.shard.state().totals());
        let inbox = Rc::new(Inbox::default());
        let verified = Rc::new(Verified::default());
        let waker = self.ends.waker.clone();
        let core_count = self.ends.core_count();
        let owners = Owners::by_modulo(core_count);
        let mesh = Mesh::new(self.ends, owners, Rc::clone(&inbox), self.calls_in_flight_max);
        let forget = {
            let verified = Rc::clone(&verified);
            move |user| verified.revoke(user)
        };
        let revocations = Revocations::new(Rc::clone(&mesh), forget);
        let sockets = Sockets::new(&waker)?;
        let arrivals = Arrivals::new(self.arrivals);
        let take_in = {
            let (mesh, revocations, arrivals) =
                (Rc::clone(&mesh), Rc::clone(&revocations), Rc::clone(&arrivals));
            move || {
                let messages = mesh.take_in(|peer, notice| revocations.hear(peer, notice));
                arrivals.take_in() || messages
            }
        };
        let reactor = Reactor::new(Rc::clone(&sockets), waker, take_in);
        // The pump sends its log away whole, so there is one job at a time.
        let log_worker = Workers::start(["log".to_owned()], 1, Priority::Normal)?;
        let clock = CoreClock::new(self.origin, metrics);
        let refusals = Refusals::new(metrics);
        let reservations_max = match self.account_limits.reservations {
            0 => u32::MAX,
            most => most,
        };
        let keys_max = match self.idempotency_keys_max {
            0 => u64::MAX,
            all => all.div_ceil(core_count as u64),
        };
        let pump = Pump::new(PumpParts {
            shard: self.shard.with_reservations_max(reservations_max).with_keys_max(keys_max),
            log: self.log,
            inbox: Rc::clone(&inbox),
            revocations,
            refusals,
            reactor: Rc::clone(&reactor),
            log_worker,
            clock: Rc::clone(&clock),
            batch_max: self.batch_max,
            pace: self.pace,
            metrics,
        });
        let shards = Shards::new(mesh);
        let api = Api {
            common: self.common,
            hub: Hub::new(shards.clone(), as_json),
            shards,
            tokens: self.tokens,
            verified,
            account_limits: Rc::new(FrontLimits::new(self.account_limits, refusals)),
            clock: Rc::clone(&clock),
            closed: Cell::new(false),
        };
        let front = Rc::new(Front::new(api, metrics, self.limits, self.timeouts));
        Ok(Assembled { front, pump, inbox, sockets, reactor, arrivals, clock })
    }
}
