//! Which of a core's sockets can be read or written: one edge-triggered epoll instance for all of them.
//!
//! The runtime would send the kernel a poll request for each read that has to wait. Each of them takes an
//! entry in both rings, and the kernel interrupts a running thread when one completes. Here a socket is
//! registered once, events collect without interrupting anyone, and one system call returns many.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use slab::Slab;

use super::waker::CoreWaker;

/// Events that one system call returns at most.
const EVENTS_AT_ONCE: usize = 256;

/// The key of the core's waker: no socket has this one.
const WAKER: u64 = u64::MAX;

/// A core's sockets and waker, registered with one epoll instance.
pub(crate) struct Sockets {
    epoll: Rc<OwnedFd>,
    /// By the key that the kernel returns with an event.
    sockets: RefCell<Slab<Rc<Sides>>>,
    events: RefCell<Vec<Event>>,
}

/// The state of a registered socket.
struct Sides {
    read: Side,
    write: Side,
    /// The peer has closed its side, or there is an error: a read tells which. epoll does not report this a
    /// second time.
    ended: Cell<bool>,
}

/// One direction of a socket.
#[derive(Default)]
struct Side {
    /// Set until a call returns `EAGAIN`.
    ready: Cell<bool>,
    waiter: Cell<Option<Waker>>,
}

/// A registered socket and its state. Closed when this is dropped.
pub(super) struct Watched {
    socket: OwnedFd,
    sides: Rc<Sides>,
    sockets: Rc<Sockets>,
    key: usize,
}

impl Sockets {
    /// # Errors
    ///
    /// When there are too few descriptors.
    pub(crate) fn new(waker: &CoreWaker) -> io::Result<Rc<Sockets>> {
        let epoll = Rc::new(epoll::create(CreateFlags::CLOEXEC)?);
        epoll::add(&*epoll, waker, EventData::new_u64(WAKER), EventFlags::IN | EventFlags::ET)?;
        let events = RefCell::new(Vec::with_capacity(EVENTS_AT_ONCE));
        Ok(Rc::new(Sockets { epoll, sockets: RefCell::default(), events }))
    }

    /// Polls without blocking, and wakes the tasks that wait for the events. Returns whether there were any.
    pub(crate) fn poll(&self) -> bool {
        let mut total = 0;
        loop {
            let count = self.poll_once();
            total += count;
            if count < EVENTS_AT_ONCE {
                return total > 0;
            }
        }
    }

    /// Returns the number of events.
    fn poll_once(&self) -> usize {
        let mut events = self.events.borrow_mut();
        events.clear();
        match epoll::wait(&*self.epoll, spare_capacity(&mut events), Some(&Timespec::default())) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("poll the epoll instance: {error}"),
        }
        let sockets = self.sockets.borrow();
        for event in &*events {
            if let Some(sides) = usize::try_from(event.data.u64()).ok().and_then(|key| sockets.get(key)) {
                sides.apply(event.flags);
            }
        }
        events.len()
    }

    /// Blocks the thread until there are events, but not beyond `until`.
    pub(super) fn block_until(&self, until: Option<Instant>) {
        let time = until.map(|until| until.saturating_duration_since(Instant::now()));
        let time = time.map(|time| Timespec::try_from(time).expect("nobody sleeps for centuries"));
        // Epoll's own timeout counts milliseconds on kernels before 5.11.
        match poll(&mut [PollFd::new(&*self.epoll, PollFlags::IN)], time.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("poll the epoll instance: {error}"),
        }
    }

    /// The epoll instance itself.
    pub(super) fn epoll(&self) -> &Rc<OwnedFd> {
        &self.epoll
    }

    /// Registers a non-blocking socket.
    pub(super) fn watch(self: &Rc<Self>, socket: OwnedFd) -> io::Result<Watched> {
        let sides = Rc::new(Sides { read: Side::ready(), write: Side::ready(), ended: Cell::new(false) });
        let key = self.sockets.borrow_mut().insert(Rc::clone(&sides));
        let watched = Watched { socket, sides, sockets: Rc::clone(self), key };
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&*self.epoll, &watched.socket, EventData::new_u64(key as u64), flags)?;
        Ok(watched)
    }
}

impl Sides {
    fn apply(&self, flags: EventFlags) {
        let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        if ended {
            self.ended.set(true);
        }
        if ended || flags.contains(EventFlags::IN) {
            self.read.raise();
        }
        if flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
            self.write.raise();
        }
    }
}

impl Side {
    /// A new socket counts as ready: the first call finds out.
    fn ready() -> Side {
        Side { ready: Cell::new(true), waiter: Cell::new(None) }
    }

    fn raise(&self) {
        self.ready.set(true);
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        if self.ready.get() {
            return Poll::Ready(());
        }
        self.waiter.set(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl Watched {
    pub(super) fn is_readable(&self) -> bool {
        self.sides.read.ready.get()
    }

    pub(super) fn poll_readable(&self, context: &Context<'_>) -> Poll<()> {
        self.sides.read.poll(context)
    }

    /// Ready when the peer has closed its side, or there is an error.
    pub(super) fn poll_ended(&self, context: &Context<'_>) -> Poll<()> {
        if self.sides.ended.get() {
            return Poll::Ready(());
        }
        self.sides.read.waiter.set(Some(context.waker().clone()));
        Poll::Pending
    }

    pub(super) fn poll_writable(&self, context: &Context<'_>) -> Poll<()> {
        self.sides.write.poll(context)
    }

    /// Called after a read that did not fill its buffer: epoll reports when there is more.
    pub(super) fn was_emptied(&self) {
        // The end of the stream was reported already, and still has to be read.
        self.sides.read.ready.set(self.sides.ended.get());
    }

    /// Called after a call that returned `EAGAIN`.
    pub(super) fn would_block(&self) {
        self.sides.ended.set(false);
        self.sides.read.ready.set(false);
    }

    /// Called after a write that returned `EAGAIN`.
    pub(super) fn was_filled(&self) {
        self.sides.write.ready.set(false);
    }

    pub(super) fn sockets(&self) -> &Rc<Sockets> {
        &self.sockets
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Watched {
    /// Closing the socket removes it from the epoll instance.
    fn drop(&mut self) {
        self.sockets.sockets.borrow_mut().remove(self.key);
    }
}
