//! Ends connections whose clients take too long, with one sweep per core instead of a timer per
//! connection.
//!
//! A deadline is a cell that the connection sets; the sweep checks each of them ten times a second.
//! When a deadline has passed, the sweep wakes a connection that reads, which can still answer 408,
//! and shuts down the socket of one that writes, since its client does not read.
//!
//! The socket of a connection that reads is not shut down: the kernel would answer further bytes
//! from the client with a reset, and the reset could arrive before the 408.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use crate::rt;
use crate::rt::net::Closer;

/// The time limits for clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// The time for a whole head, from its first byte. Browsers send it in one segment.
    pub head: Duration,
    /// The time before the rate of a body is enforced, since connections may start slowly.
    pub body_grace: Duration,
    /// The time between requests. Proxies keep connections open for about a minute.
    pub idle: Duration,
    /// The time in which a client must read some of its response.
    pub stalled: Duration,
}

/// The minimum rate of a body after [`Timeouts::body_grace`]; a modem exceeds it.
pub(crate) const BODY_BYTES_PER_SECOND: u64 = 1024;

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            head: Duration::from_secs(10),
            body_grace: Duration::from_secs(5),
            idle: Duration::from_secs(60),
            stalled: Duration::from_secs(10),
        }
    }
}

/// The time between two sweeps, and so the maximum delay of a timeout: 2 % of the shortest default.
/// Sweeping ten thousand connections costs some 0.01 % of a core.
const SWEEP: Duration = Duration::from_millis(100);

/// A point in time, in sweeps since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Tick(u64);

impl Tick {
    const NEVER: Tick = Tick(u64::MAX);

    pub(crate) fn after(self, time: Duration) -> Tick {
        let ticks = u64::try_from(time.as_millis().div_ceil(SWEEP.as_millis())).unwrap_or(u64::MAX);
        Tick(self.0.saturating_add(ticks))
    }
}

/// The deadlines of one core's connections.
#[derive(Default)]
pub(crate) struct Deadlines {
    now: Cell<Tick>,
    entries: RefCell<Slab<Rc<Entry>>>,
}

struct Entry {
    closer: Closer,
    due: Cell<Tick>,
    /// The connection waits for the client to read, not to send.
    writing: Cell<bool>,
    expired: Cell<bool>,
    /// Wakes the task that waits in a read.
    waiter: Cell<Option<Waker>>,
}

impl Entry {
    fn expire(&self) {
        self.due.set(Tick::NEVER);
        self.expired.set(true);
        if self.writing.get() {
            self.closer.end();
        } else if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }
}

impl Deadlines {
    /// Sweeps until the core stops.
    pub(crate) async fn sweep(self: Rc<Self>) {
        loop {
            rt::sleep(SWEEP).await;
            let now = Tick(self.now.get().0 + 1);
            self.now.set(now);
            for (_, entry) in self.entries.borrow().iter() {
                if entry.due.get() < now {
                    entry.expire();
                }
            }
        }
    }

    /// Registers a connection. The returned deadline must be dropped before the connection.
    pub(crate) fn deadline(self: &Rc<Self>, closer: Closer) -> Deadline {
        let entry = Rc::new(Entry {
            closer,
            due: Cell::new(Tick::NEVER),
            writing: Cell::new(false),
            expired: Cell::new(false),
            waiter: Cell::new(None),
        });
        let key = self.entries.borrow_mut().insert(Rc::clone(&entry));
        Deadline { deadlines: Rc::clone(self), entry, key }
    }
}

/// One connection's deadline.
pub(crate) struct Deadline {
    deadlines: Rc<Deadlines>,
    entry: Rc<Entry>,
    key: usize,
}

impl Deadline {
    pub(crate) fn now(&self) -> Tick {
        self.deadlines.now.get()
    }

    /// Sets the time by which the client must have sent what the connection reads.
    pub(crate) fn read_until(&self, due: Tick) {
        self.entry.expired.set(false);
        self.entry.writing.set(false);
        self.entry.due.set(due);
    }

    /// Sets the time at which an unfinished write is ended.
    pub(crate) fn write_until(&self, due: Tick) {
        self.entry.writing.set(true);
        self.entry.due.set(due);
    }

    /// Removes the deadline, while the connection waits for the server and not for its client.
    pub(crate) fn clear(&self) {
        self.entry.due.set(Tick::NEVER);
    }

    pub(crate) fn has_expired(&self) -> bool {
        self.entry.expired.get()
    }

    /// Completes when the deadline has passed.
    pub(crate) fn poll_expired(&self, context: &Context<'_>) -> Poll<()> {
        if self.has_expired() {
            return Poll::Ready(());
        }
        self.entry.waiter.set(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.deadlines.entries.borrow_mut().remove(self.key);
    }
}
