//! Which of a core's sockets can be read or written: one epoll instance for all of
//! them, edge-triggered.
//!
//! The runtime's own way is a poll request to the kernel for each read that has to
//! wait. The kernel interrupts a running thread for each of them that completes, and
//! each costs an entry in both rings; here a socket is registered once, news gather in
//! silence, and one system call brings all of them.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use glommio::io::PollableFd;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use slab::Slab;

use super::bell::Bell;

/// News that one system call brings.
const EVENTS_AT_ONCE: usize = 256;

/// What news of the core's bell come as: no socket has this number.
const BELL: u64 = u64::MAX;

/// A core's sockets, and its bell.
pub(crate) struct Sockets {
    epoll: Rc<OwnedFd>,
    /// By the number that the kernel gives back with news.
    sockets: RefCell<Slab<Rc<Sides>>>,
    events: RefCell<Vec<Event>>,
}

/// A registered socket, or whatever else the kernel can watch.
struct Sides {
    read: Side,
    write: Side,
    /// The other end has closed its side, or there is an error: a read tells which. No news will
    /// come of that a second time.
    ended: Cell<bool>,
}

/// One direction of a socket.
#[derive(Default)]
struct Side {
    /// Until the kernel says that a call would have to wait.
    ready: Cell<bool>,
    waiter: Cell<Option<Waker>>,
}

/// A socket, and what is known of it. Closed when this is dropped.
pub(super) struct Watched {
    socket: OwnedFd,
    sides: Rc<Sides>,
    sockets: Rc<Sockets>,
    key: usize,
}

impl Sockets {
    /// # Errors
    ///
    /// For want of a descriptor.
    pub(crate) fn new(bell: &Bell) -> io::Result<Rc<Sockets>> {
        let epoll = Rc::new(epoll::create(CreateFlags::CLOEXEC)?);
        epoll::add(&*epoll, bell, EventData::new_u64(BELL), EventFlags::IN | EventFlags::ET)?;
        let events = RefCell::new(Vec::with_capacity(EVENTS_AT_ONCE));
        Ok(Rc::new(Sockets { epoll, sockets: RefCell::default(), events }))
    }

    /// Whether there is anything new; whoever waits for it is woken.
    pub(crate) fn look(&self) -> bool {
        let mut news = 0;
        loop {
            let count = self.look_once();
            news += count;
            if count < EVENTS_AT_ONCE {
                return news > 0;
            }
        }
    }

    /// How many sockets had news.
    fn look_once(&self) -> usize {
        let mut events = self.events.borrow_mut();
        events.clear();
        match epoll::wait(&*self.epoll, spare_capacity(&mut events), Some(&Timespec::default())) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("waiting for sockets: {error}"),
        }
        let sockets = self.sockets.borrow();
        for event in &*events {
            if let Some(sides) = usize::try_from(event.data.u64()).ok().and_then(|key| sockets.get(key)) {
                sides.hear(event.flags);
            }
        }
        events.len()
    }

    /// Blocks the thread until there is something to look at, or until then.
    pub(super) fn wait(&self, until: Instant) {
        let time = until.saturating_duration_since(Instant::now());
        let time = Timespec::try_from(time).expect("nobody waits for centuries");
        // Epoll's own timeout counts milliseconds on kernels before 5.11.
        match poll(&mut [PollFd::new(&*self.epoll, PollFlags::IN)], Some(&time)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("waiting for sockets: {error}"),
        }
    }

    /// Waits, on the runtime, until there is something to look at.
    pub(super) async fn news(&self) {
        let pollable = PollableFd::new(Rc::clone(&self.epoll)).expect("this runs on the runtime");
        pollable.readable().await.expect("an epoll instance can be polled");
    }

    /// Registers a socket, which has to be non-blocking.
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
    fn hear(&self, news: EventFlags) {
        let ended = news.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        if ended {
            self.ended.set(true);
        }
        if ended || news.contains(EventFlags::IN) {
            self.read.raise();
        }
        if news.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
            self.write.raise();
        }
    }
}

impl Side {
    /// Nothing is known yet: it has to be tried.
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
    pub(super) fn poll_readable(&self, context: &Context<'_>) -> Poll<()> {
        self.sides.read.poll(context)
    }

    /// Ready when the other end has closed its side, or there is an error.
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

    /// A read brought less than it had room for, or nothing: news come when there is more.
    pub(super) fn was_emptied(&self) {
        // The end is no news any more, and still has to be read.
        self.sides.read.ready.set(self.sides.ended.get());
    }

    /// A call found that it would have to wait.
    pub(super) fn would_block(&self) {
        self.sides.ended.set(false);
        self.sides.read.ready.set(false);
    }

    pub(super) fn was_filled(&self) {
        self.sides.write.ready.set(false);
    }

    pub(super) fn sockets(&self) -> &Rc<Sockets> {
        &self.sockets
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Watched {
    /// Closing the socket takes it out of the epoll instance.
    fn drop(&mut self) {
        self.sockets.sockets.borrow_mut().remove(self.key);
    }
}
