//! Ends connections whose clients take too long: one sweep a core for all of them, and no timer
//! for each.
//!
//! A deadline is a cell that the connection sets as it goes; the sweep looks at each of them a few
//! times a second. A deadline that is past wakes the connection if it reads, and shuts down the
//! socket if it writes: a client that sends too slowly can still be told so, one that does not
//! read cannot.
//!
//! The socket of a late sender is left as it is, since the kernel would answer what comes on one
//! that is shut down with a reset, which may overtake the 408.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use crate::rt;
use crate::rt::net::Closer;

/// How long clients may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a whole head, from its first byte: browsers need one segment.
    pub head: Duration,
    /// Before the pace of a body is measured: a slow start is no attack.
    pub body_grace: Duration,
    /// Between requests: proxies keep connections for a minute or so.
    pub idle: Duration,
    /// For a client that does not read what it asked for.
    pub stalled: Duration,
}

/// The pace that a body has to keep after its grace: a modem does.
pub const BODY_BYTES_PER_SECOND: u64 = 1024;

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

/// The time between two sweeps: a deadline is met this much late at most, which is a hundredth of
/// the shortest, and the sweep of ten thousand connections costs some 0.01 % of a core.
const SWEEP: Duration = Duration::from_millis(100);

/// A moment, in sweeps since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tick(u64);

impl Tick {
    const NEVER: Tick = Tick(u64::MAX);

    pub fn after(self, time: Duration) -> Tick {
        let ticks = u64::try_from(time.as_millis().div_ceil(SWEEP.as_millis())).unwrap_or(u64::MAX);
        Tick(self.0.saturating_add(ticks))
    }
}

/// The deadlines of one core's connections.
#[derive(Default)]
pub struct Deadlines {
    now: Cell<Tick>,
    entries: RefCell<Slab<Rc<Entry>>>,
}

struct Entry {
    closer: Closer,
    due: Cell<Tick>,
    /// The connection waits for the client to read, not to send.
    writing: Cell<bool>,
    expired: Cell<bool>,
    /// The task that waits in a read.
    waiter: Cell<Option<Waker>>,
}

impl Entry {
    fn end(&self) {
        if self.writing.get() {
            self.closer.end();
        } else if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }
}

impl Deadlines {
    /// Sweeps for as long as the core runs.
    pub async fn sweep(self: Rc<Self>) {
        loop {
            rt::sleep(SWEEP).await;
            let now = Tick(self.now.get().0 + 1);
            self.now.set(now);
            for (_, entry) in self.entries.borrow().iter() {
                if entry.due.get() < now {
                    entry.due.set(Tick::NEVER);
                    entry.expired.set(true);
                    entry.end();
                }
            }
        }
    }

    /// The deadline of a connection. It has to be dropped before the connection is.
    pub fn deadline(self: &Rc<Self>, closer: Closer) -> Deadline {
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
pub struct Deadline {
    deadlines: Rc<Deadlines>,
    entry: Rc<Entry>,
    key: usize,
}

impl Deadline {
    pub fn now(&self) -> Tick {
        self.deadlines.now.get()
    }

    /// Reads have to end then.
    pub fn read_until(&self, due: Tick) {
        self.entry.expired.set(false);
        self.entry.writing.set(false);
        self.entry.due.set(due);
    }

    /// The next write is ended then.
    pub fn write_until(&self, due: Tick) {
        self.entry.writing.set(true);
        self.entry.due.set(due);
    }

    /// Sets no deadline: the connection waits for the server, not for its client.
    pub fn clear(&self) {
        self.entry.due.set(Tick::NEVER);
    }

    pub fn has_expired(&self) -> bool {
        self.entry.expired.get()
    }

    /// Ready when the time to read is over.
    pub fn poll_expired(&self, context: &Context<'_>) -> Poll<()> {
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
