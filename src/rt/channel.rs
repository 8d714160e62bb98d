//! Channels that end at a core. Unbounded: their users bound what is in flight.

use std::sync::mpsc;

use super::waker::CoreWaker;

pub(crate) struct Sender<T> {
    items: mpsc::Sender<T>,
    /// Wakes the core that receives.
    waker: CoreWaker,
}

pub(crate) struct Receiver<T>(mpsc::Receiver<T>);

/// A channel to the core that `waker` wakes.
pub(crate) fn channel<T>(waker: CoreWaker) -> (Sender<T>, Receiver<T>) {
    let (items, received) = mpsc::channel();
    (Sender { items, waker }, Receiver(received))
}

impl<T> Sender<T> {
    /// Sends an item and wakes the core. Drops the item when the receiver is gone.
    pub(crate) fn send(&self, item: T) {
        if self.items.send(item).is_ok() {
            self.waker.wake();
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { items: self.items.clone(), waker: self.waker.clone() }
    }
}

impl<T> Receiver<T> {
    /// The next item, if there is one. No task is woken by an item: the core takes items when it polls, see
    /// [`super::reactor`].
    pub(crate) fn take(&self) -> Option<T> {
        self.0.try_recv().ok()
    }
}
