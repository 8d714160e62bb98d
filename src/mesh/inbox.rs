//! The requests that wait for a core's shard.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::message::ShardRequest;
use super::signal::Signal;

/// A queue. Its length is bounded by the calls that all cores may have in flight.
#[derive(Default)]
pub struct Inbox {
    requests: RefCell<VecDeque<ShardRequest>>,
    /// Raised with each request.
    pub signal: Signal,
    /// Whether questions for news are answered at once.
    watches_are_closed: Cell<bool>,
}

impl Inbox {
    pub(super) fn push(&self, request: ShardRequest) {
        self.requests.borrow_mut().push_back(request);
        self.signal.raise();
    }

    pub fn pop(&self) -> Option<ShardRequest> {
        self.requests.borrow_mut().pop_front()
    }

    pub(super) fn close_watches(&self) {
        self.watches_are_closed.set(true);
        self.signal.raise();
    }

    pub fn watches_are_closed(&self) -> bool {
        self.watches_are_closed.get()
    }

    pub fn is_empty(&self) -> bool {
        self.requests.borrow().is_empty()
    }
}
