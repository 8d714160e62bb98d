//! Bounded channels from one core to another.

use glommio::channels::shared_channel;

/// Not yet on the core that it will serve.
pub(crate) struct Sender<T: Send>(shared_channel::SharedSender<T>);
pub(crate) struct Receiver<T: Send>(shared_channel::SharedReceiver<T>);

pub(crate) struct ConnectedSender<T: Send>(shared_channel::ConnectedSender<T>);
pub(crate) struct ConnectedReceiver<T: Send>(shared_channel::ConnectedReceiver<T>);

pub(crate) fn bounded<T: Send + 'static>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = shared_channel::new_bounded(capacity);
    (Sender(sender), Receiver(receiver))
}

impl<T: Send + 'static> Sender<T> {
    /// Waits for the other end to do the same on its core.
    pub(crate) async fn connect(self) -> ConnectedSender<T> {
        ConnectedSender(self.0.connect().await)
    }
}

impl<T: Send + 'static> Receiver<T> {
    /// Waits for the other end to do the same on its core.
    pub(crate) async fn connect(self) -> ConnectedReceiver<T> {
        ConnectedReceiver(self.0.connect().await)
    }
}

impl<T: Send> ConnectedSender<T> {
    /// Waits for room. False when the other end is gone.
    pub(crate) async fn send(&self, item: T) -> bool {
        self.0.send(item).await.is_ok()
    }
}

impl<T: Send> ConnectedReceiver<T> {
    /// `None` when the other end is gone.
    pub(crate) async fn receive(&self) -> Option<T> {
        self.0.recv().await
    }
}
