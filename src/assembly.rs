//! Joins the parts of one core: front, mesh and pump.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use shards::driver::Pace;
use shards::log::Log;
use shards::shard::Shard;
use shards::slots::Owners;

use crate::client::Shards;
use crate::front::api::{Api, Common};
use crate::front::auth::Tokens;
use crate::front::connection::Front;
use crate::front::deadlines::Timeouts;
use crate::front::http::parse::Limits;
use crate::front::verified::Verified;
use crate::mesh::{Asker, Inbox, Mesh, MeshEnds};
use crate::pump::{Pump, PumpParts};
use crate::revocation::Revocations;
use crate::rt::attention::Attention;
use crate::rt::beside::Beside;
use crate::rt::net::Sockets;

/// What a core is made of, and can be sent to its thread.
pub(crate) struct Parts {
    pub index: usize,
    pub shard: Shard<Asker>,
    pub pace: Pace,
    pub log: Box<dyn Log>,
    pub ends: MeshEnds,
    pub common: Arc<Common>,
    pub tokens: Tokens,
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub calls_in_flight_max: usize,
    pub batch_max: usize,
}

/// A core that waits for its connections, and for its pump to be run.
pub(crate) struct Assembled {
    pub front: Rc<Front>,
    pub pump: Pump,
    pub inbox: Rc<Inbox>,
    pub sockets: Rc<Sockets>,
    pub attention: Rc<Attention>,
}

impl Parts {
    /// On the core's own thread.
    ///
    /// # Errors
    ///
    /// For want of a descriptor or a thread.
    pub(crate) fn assemble(self) -> io::Result<Assembled> {
        let metrics = &self.common.metrics.cores[self.index];
        let inbox = Rc::new(Inbox::default());
        let verified = Rc::new(Verified::default());
        let bell = self.ends.bell.clone();
        let owners = Owners::by_modulo(self.ends.core_count());
        let mesh = Mesh::new(self.ends, owners, Rc::clone(&inbox), self.calls_in_flight_max);
        let forget = {
            let verified = Rc::clone(&verified);
            move |user| verified.revoke(user)
        };
        let revocations = Revocations::new(Rc::clone(&mesh), forget);
        let sockets = Sockets::new(&bell)?;
        let take_in = {
            let (mesh, revocations) = (Rc::clone(&mesh), Rc::clone(&revocations));
            move || mesh.take_in(|peer, notice| revocations.hear(peer, notice))
        };
        let attention = Attention::new(Rc::clone(&sockets), bell, take_in);
        let beside = Beside::start("log", &sockets)?;
        let pump = Pump::new(PumpParts {
            shard: self.shard,
            log: self.log,
            inbox: Rc::clone(&inbox),
            revocations,
            attention: Rc::clone(&attention),
            beside,
            batch_max: self.batch_max,
            pace: self.pace,
            metrics,
        });
        let api = Api {
            common: self.common,
            shards: Shards::new(mesh),
            tokens: self.tokens,
            verified,
            closed: Cell::new(false),
        };
        let front = Rc::new(Front::new(api, metrics, self.limits, self.timeouts));
        Ok(Assembled { front, pump, inbox, sockets, attention })
    }
}
