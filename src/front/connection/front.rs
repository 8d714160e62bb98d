//! One core's front: what all of its connections share.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use crate::front::api::Api;
use crate::front::deadlines::{Deadlines, Timeouts};
use crate::front::http::parse::{Limits, Request};
use crate::front::http::write::{DateClock, RequestId};
use crate::metrics::CoreMetrics;
use crate::random;

/// The longest X-Request-Id of a client that is taken over.
const REQUEST_ID_BYTES_MAX: usize = 64;

pub struct Front {
    pub api: Api,
    pub metrics: &'static CoreMetrics,
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub deadlines: Rc<Deadlines>,
    pub(super) dates: DateClock,
    /// Connections between a request's whole head and the last byte of its answer. One that has
    /// not even sent a head waits for nothing, and nobody waits for it.
    busy: Cell<usize>,
    /// Rejected connections that linger.
    pub(super) lingering: Cell<usize>,
    /// Begins the ids of this core's requests.
    core_id: u32,
    pub(super) requests: Cell<u64>,
    /// Lent to the connection that reads.
    pub(super) input: Cell<Vec<u8>>,
    /// Lent to the connection that writes.
    pub(super) output: Cell<Vec<u8>>,
}

impl Front {
    pub fn new(api: Api, metrics: &'static CoreMetrics, limits: Limits, timeouts: Timeouts) -> Front {
        Front {
            api,
            metrics,
            limits,
            timeouts,
            deadlines: Rc::default(),
            dates: DateClock::default(),
            busy: Cell::new(0),
            lingering: Cell::new(0),
            core_id: random::u64() as u32,
            requests: Cell::new(0),
            input: Cell::default(),
            output: Cell::default(),
        }
    }

    /// Whether any request is being run or answered, or its body read.
    pub fn is_busy(&self) -> bool {
        self.busy.get() > 0
    }

    pub fn is_draining(&self) -> bool {
        self.api.common.draining.load(Ordering::Relaxed)
    }

    /// The client's own id, if it is a sensible one, so that logs on both sides can be joined.
    pub(super) fn request_id(&self, request: Option<&Request<'_>>) -> RequestId {
        let own = request.and_then(|request| request.header("x-request-id")).filter(|id| {
            (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
        });
        match own {
            Some(own) => RequestId::Given(own.into()),
            None => RequestId::Made { core: self.core_id, number: self.requests.get() },
        }
    }
}

/// Counts a connection as busy for as long as it lives.
pub(super) struct BusyMark(Rc<Front>);

impl BusyMark {
    pub(super) fn new(front: &Rc<Front>) -> BusyMark {
        front.busy.update(|busy| busy + 1);
        BusyMark(Rc::clone(front))
    }
}

impl Drop for BusyMark {
    fn drop(&mut self) {
        self.0.busy.update(|busy| busy - 1);
    }
}
