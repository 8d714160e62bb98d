//! Channels from one core to another. Without a bound of their own: who sends keeps to one.

use std::sync::mpsc;

use super::bell::Bell;

pub(crate) struct Sender<T> {
    items: mpsc::Sender<T>,
    /// Of the core that receives.
    bell: Bell,
}

pub(crate) struct Receiver<T>(mpsc::Receiver<T>);

/// A channel to the core that `bell` wakes.
pub(crate) fn channel<T>(bell: Bell) -> (Sender<T>, Receiver<T>) {
    let (items, received) = mpsc::channel();
    (Sender { items, bell }, Receiver(received))
}

impl<T> Sender<T> {
    /// Nobody hears of it when the other end is gone.
    pub(crate) fn send(&self, item: T) {
        if self.items.send(item).is_ok() {
            self.bell.ring();
        }
    }
}

impl<T> Receiver<T> {
    /// What waits to be taken; nothing comes of itself, see [`super::attention`].
    pub(crate) fn take(&self) -> Option<T> {
        self.0.try_recv().ok()
    }
}
