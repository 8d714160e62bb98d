//! Wakes a core from another thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::task::Wake;

use rustix::event::{EventfdFlags, eventfd};

/// An eventfd that is written only while the core is asleep, so that waking a busy core costs no system call.
///
/// The waking thread makes its message available, and then reads `asleep`. The core sets `asleep`, and then
/// looks for messages once more. With a fence between the two steps on both sides, either the thread sees
/// `asleep` or the core sees the message, so no wake-up is lost.
#[derive(Clone)]
pub(crate) struct CoreWaker(Arc<Inner>);

struct Inner {
    /// Never read: epoll is edge-triggered, so each write is an event.
    event: OwnedFd,
    asleep: AtomicBool,
    turns: Turns,
}

/// Counts the polls of a core. Aligned so that counting them does not slow down those who read `asleep`.
#[repr(align(128))]
struct Turns(AtomicU64);

impl CoreWaker {
    /// # Errors
    ///
    /// When there are too few descriptors.
    pub(crate) fn new() -> io::Result<CoreWaker> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(CoreWaker(Arc::new(Inner {
            event,
            asleep: AtomicBool::new(false),
            turns: Turns(AtomicU64::new(0)),
        })))
    }

    /// Wakes the core if it is asleep. Called after a message was made available to it.
    pub(crate) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.0.asleep.load(Ordering::Relaxed) {
            rustix::io::write(&self.0.event, &1_u64.to_ne_bytes())
                .expect("a 64-bit counter does not overflow");
        }
    }

    /// How often the core has polled for events. If that does not change although an event waits, something blocks
    /// the core.
    pub(crate) fn turns(&self) -> u64 {
        self.0.turns.0.load(Ordering::Relaxed)
    }

    /// Called by the core itself: no other thread writes it.
    pub(super) fn count_turn(&self) {
        let turns = &self.0.turns.0;
        turns.store(turns.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Called by the core itself, before it looks for messages for the last time.
    pub(super) fn set_asleep(&self) {
        self.0.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(super) fn set_awake(&self) {
        self.0.asleep.store(false, Ordering::Relaxed);
    }
}

/// Wakes the core after a task of it was made runnable.
impl Wake for CoreWaker {
    fn wake(self: Arc<Self>) {
        CoreWaker::wake(&self);
    }
}

impl AsFd for CoreWaker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}
