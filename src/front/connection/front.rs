//! The front of one core: the state that all of its connections share.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::front::api::{Api, Prepared};
use crate::front::deadlines::{Deadlines, Timeouts};
use crate::front::http::parse::{Limits, Request};
use crate::front::http::write::{DateClock, RequestId};
use crate::metrics::CoreMetrics;
use crate::random;
use crate::rt;

/// The longest time that a draining server waits for the last pieces of streams.
const STREAMS_END_MAX: Duration = Duration::from_secs(1);

pub(crate) struct Front {
    pub api: Api,
    pub metrics: &'static CoreMetrics,
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub deadlines: Rc<Deadlines>,
    pub(super) dates: DateClock,
    /// The number of connections that have read the whole head of a request and not written the last
    /// byte of its answer. Those that write a body of unknown length do not count.
    busy: Cell<usize>,
    /// An entry for each body of unknown length that is being written: the waker of the task that
    /// waits for its next piece. It is woken when the server drains.
    streams: RefCell<Slab<Option<Waker>>>,
    /// The number of rejected connections that linger.
    pub(super) lingering: Cell<usize>,
    /// The first part of the ids of this core's requests.
    core_id: u32,
    pub(super) requests: Cell<u64>,
    /// A buffer, lent to the connection that reads.
    pub(super) input: Cell<Vec<u8>>,
    /// A buffer, lent to the connection that writes.
    pub(super) output: Cell<Vec<u8>>,
    /// Answers some requests before the API does.
    #[cfg(test)]
    pub(super) test_endpoint: Option<super::tests::Endpoint>,
}

impl Front {
    pub(crate) fn new(api: Api, metrics: &'static CoreMetrics, limits: Limits, timeouts: Timeouts) -> Front {
        Front {
            api,
            metrics,
            limits,
            timeouts,
            deadlines: Rc::default(),
            dates: DateClock::default(),
            busy: Cell::new(0),
            streams: RefCell::default(),
            lingering: Cell::new(0),
            core_id: random::u64() as u32,
            requests: Cell::new(0),
            input: Cell::default(),
            output: Cell::default(),
            #[cfg(test)]
            test_endpoint: None,
        }
    }

    pub(super) fn prepare(&self, request: &Request<'_>, peer: IpAddr) -> Prepared {
        #[cfg(test)]
        if let Some(response) = self.test_endpoint.as_ref().and_then(|endpoint| endpoint(request)) {
            return Prepared::ready(response);
        }
        self.api.prepare(request, peer)
    }

    /// Whether any request is being read after its head, run, or answered. Streams of unknown length
    /// do not count.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.get() > 0
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.api.common.draining.load(Ordering::Relaxed)
    }

    /// Wakes all streams, so that they notice that the server drains.
    pub(crate) fn wake_streams(&self) {
        let wakers: Vec<Waker> =
            self.streams.borrow_mut().iter_mut().filter_map(|(_, waker)| waker.take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits until no request is in progress, for `time_max` at most, and until no stream is, for
    /// [`STREAMS_END_MAX`] at most.
    pub(crate) async fn finish(&self, time_max: Duration) {
        let start = Instant::now();
        let under_way = || {
            let took = start.elapsed();
            let streams = !self.streams.borrow().is_empty();
            self.is_busy() && took < time_max || streams && took < STREAMS_END_MAX
        };
        while under_way() {
            rt::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) fn request_id(&self, request: Option<&Request<'_>>) -> RequestId {
        RequestId::of(request, self.core_id, self.requests.get())
    }
}

/// Counts a connection as busy until the mark is dropped.
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

/// Counts a connection as streaming, and not as busy, until the mark is dropped.
pub(super) struct StreamMark {
    front: Rc<Front>,
    key: usize,
    /// Whether the stream was told that the server drains.
    told: bool,
}

impl StreamMark {
    /// Marks a connection that has a [`BusyMark`].
    pub(super) fn new(front: &Rc<Front>) -> StreamMark {
        front.busy.update(|busy| busy - 1);
        let key = front.streams.borrow_mut().insert(None);
        StreamMark { front: Rc::clone(front), key, told: false }
    }

    /// Returns `Ready` once, when the server drains.
    pub(super) fn poll_drain(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.told {
            return Poll::Pending;
        }
        if self.front.is_draining() {
            self.told = true;
            return Poll::Ready(());
        }
        self.front.streams.borrow_mut()[self.key] = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for StreamMark {
    fn drop(&mut self) {
        self.front.streams.borrow_mut().remove(self.key);
        self.front.busy.update(|busy| busy + 1);
    }
}
