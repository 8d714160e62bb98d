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
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use super::places::Holder;
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

/// The most connections that are listed at a time as those that give way next.
const WAITING_MAX: usize = 1024;

/// Listing them again before the next sweep looks at so many connections, at most, for each that gave way.
const ENTRIES_FOR_EACH_CLOSED: usize = 64;

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
    waiting: RefCell<Waiting>,
}

/// Connections that wait for a request, as they were when they were last listed. Keeping them in order at all
/// times would cost each request something, and they are needed only when places run short.
#[derive(Default)]
struct Waiting {
    /// At most [`WAITING_MAX`], in the order in which they give way, with their keys. Some have gone on
    /// since.
    longest_first: VecDeque<(Wait, Tick, usize)>,
    listed: Option<Tick>,
    /// How many of them were closed.
    closed: usize,
}

impl Waiting {
    /// In each sweep once, and again when all are used up, if their number makes up for the time that listing
    /// takes.
    fn is_outdated(&self, now: Tick, entry_count: usize) -> bool {
        self.listed != Some(now)
            || self.longest_first.is_empty()
                && self.closed > 0
                && self.closed >= entry_count / ENTRIES_FOR_EACH_CLOSED
    }

    fn list(&mut self, now: Tick, entries: &Slab<Rc<Entry>>) {
        let waits = |entry: &Entry| {
            let has_deadline = entry.due.get() != Tick::NEVER;
            let may_end = match entry.wait.get() {
                Wait::FirstRequest | Wait::NextRequest => has_deadline,
                Wait::News => true,
                Wait::Rest | Wait::Reading | Wait::GivenWay => false,
            };
            may_end && entry.holder.is_some()
        };
        let waiting = entries.iter().filter(|(_, entry)| waits(entry));
        let mut waiting: Vec<_> =
            waiting.map(|(key, entry)| (entry.wait.get(), entry.due.get(), key)).collect();
        if waiting.len() > WAITING_MAX {
            waiting.select_nth_unstable(WAITING_MAX);
            waiting.truncate(WAITING_MAX);
        }
        waiting.sort_unstable();
        *self = Waiting { longest_first: waiting.into(), listed: Some(now), closed: 0 };
    }
}

/// What a connection waits for. Those that wait for a request or for news give way to other clients, in this
/// order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wait {
    /// It never sent anything.
    FirstRequest,
    NextRequest,
    /// For something to tell its client, which follows a live stream and goes on with it over another connection.
    News,
    /// To send more of a request.
    Rest,
    /// To read its response.
    Reading,
    /// For nothing: it gives way.
    GivenWay,
}

struct Entry {
    closer: Closer,
    /// `None` if it does not give way.
    holder: Option<Holder>,
    due: Cell<Tick>,
    wait: Cell<Wait>,
    expired: Cell<bool>,
    /// Wakes the task that waits in a read.
    waiter: Cell<Option<Waker>>,
}

impl Entry {
    fn expire(&self) {
        self.due.set(Tick::NEVER);
        self.expired.set(true);
        if self.wait.get() == Wait::Reading {
            self.closer.end();
        } else if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    fn give_way(&self) {
        if self.wait.replace(Wait::GivenWay) == Wait::News {
            self.closer.end();
        } else {
            self.expire();
        }
    }
}

impl Deadlines {
    /// Sweeps until the core stops, and calls `after_each`.
    pub(crate) async fn sweep(self: Rc<Self>, after_each: impl Fn()) {
        loop {
            rt::sleep(SWEEP).await;
            let now = Tick(self.now.get().0 + 1);
            self.now.set(now);
            for (_, entry) in self.entries.borrow().iter() {
                if entry.due.get() < now {
                    entry.expire();
                }
            }
            after_each();
        }
    }

    /// Closes a connection that waits for a request or for news, to make room for another one: of those that
    /// may give way, one that never sent anything, or else one between requests, and of these the one that
    /// waits longest, or else a live stream. Returns what it waited for.
    pub(crate) fn close_waiting(&self, may_give_way: impl Fn(Holder, Wait) -> bool) -> Option<Wait> {
        let entries = self.entries.borrow();
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_outdated(self.now.get(), entries.len()) {
            waiting.list(self.now.get(), &entries);
        }
        let mut index = 0;
        while let Some(&(wait, due, key)) = waiting.longest_first.get(index) {
            let entry = entries.get(key).filter(|entry| entry.wait.get() == wait && entry.due.get() == due);
            if entry.is_some_and(|entry| !entry.holder.is_some_and(|holder| may_give_way(holder, wait))) {
                index += 1;
                continue;
            }
            waiting.longest_first.remove(index);
            // Others have gone on, or are about to. What a client sends during a stream does not count.
            if let Some(entry) = entry.filter(|entry| wait == Wait::News || !entry.closer.has_input()) {
                waiting.closed += 1;
                entry.give_way();
                return Some(wait);
            }
        }
        None
    }

    /// Registers a connection; with its holder if it may give way to others. The returned deadline must be
    /// dropped before the connection.
    pub(crate) fn deadline(self: &Rc<Self>, closer: Closer, holder: Option<Holder>) -> Deadline {
        let entry = Rc::new(Entry {
            closer,
            holder,
            due: Cell::new(Tick::NEVER),
            wait: Cell::new(Wait::Rest),
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
    pub(crate) fn read_until(&self, due: Tick, wait: Wait) {
        self.entry.expired.set(false);
        self.entry.wait.set(wait);
        self.entry.due.set(due);
    }

    /// Sets the time at which an unfinished write is ended.
    pub(crate) fn write_until(&self, due: Tick) {
        self.entry.wait.set(Wait::Reading);
        self.entry.due.set(due);
    }

    /// Removes the deadline, while the connection waits for something to tell its client.
    pub(crate) fn wait_for_news(&self) {
        self.entry.wait.set(Wait::News);
        self.entry.due.set(Tick::NEVER);
    }

    /// Removes the deadline, while the connection waits for the server and not for its client.
    pub(crate) fn clear(&self) {
        self.entry.due.set(Tick::NEVER);
    }

    /// Whether the connection is to close at once, whatever its client sends: another one has its place.
    pub(crate) fn has_given_way(&self) -> bool {
        self.entry.wait.get() == Wait::GivenWay
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
