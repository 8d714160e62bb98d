//! The requests that wait for a core's shard.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::message::ShardRequest;
use super::signal::Signal;

/// A queue. Its length is bounded by the calls that all cores may have in flight.
#[derive(Default)]
pub struct Inbox {
    requests: RefCell<VecDeque<ShardRequest>>,
    /// Raised with each request.
    pub signal: Signal,
}

impl Inbox {
    pub(super) fn push(&self, request: ShardRequest) {
        self.requests.borrow_mut().push_back(request);
        self.signal.raise();
    }

    pub fn pop(&self) -> Option<ShardRequest> {
        self.requests.borrow_mut().pop_front()
    }

    pub fn is_empty(&self) -> bool {
        self.requests.borrow().is_empty()
    }
}
