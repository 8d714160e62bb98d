//! What one thread rings to wake another's core.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};

/// Costs a system call only when nobody on the core looks for news.
///
/// Who rings has left something before, and who falls asleep looks once more after it has said so:
/// with a fence on both sides, one of them sees the other.
#[derive(Clone)]
pub(crate) struct Bell(Arc<Inner>);

struct Inner {
    /// Counts for ever: nobody reads it, an edge is enough.
    event: OwnedFd,
    asleep: AtomicBool,
}

impl Bell {
    /// # Errors
    ///
    /// For want of a descriptor.
    pub(crate) fn new() -> io::Result<Bell> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Bell(Arc::new(Inner { event, asleep: AtomicBool::new(false) })))
    }

    /// Something was left for the core to find.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.0.asleep.load(Ordering::Relaxed) {
            rustix::io::write(&self.0.event, &1_u64.to_ne_bytes()).expect("a count of rings has room");
        }
    }

    /// By the core itself, before it looks for the last time.
    pub(super) fn fall_asleep(&self) {
        self.0.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(super) fn wake_up(&self) {
        self.0.asleep.store(false, Ordering::Relaxed);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}
