//! The channels between cores, and the outbox of each channel.
//!
//! No handler waits for a channel: it puts its message into an outbox. One courier task for each
//! other core sends all messages of an outbox at once, with one wake-up.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use super::message::Message;
use super::signal::Signal;
use crate::rt::channel::{Receiver, Sender, channel};
use crate::rt::waker::CoreWaker;

/// Messages that are sent together.
pub(super) type Parcel = Vec<Message>;

/// A core's ends of all channels.
pub struct MeshEnds {
    pub(super) core: usize,
    /// Wakes this core.
    pub(crate) waker: CoreWaker,
    /// By peer; `None` at the core's own index.
    pub(super) peers: Vec<Option<(Sender<Parcel>, Receiver<Parcel>)>>,
}

impl MeshEnds {
    pub(crate) fn core_count(&self) -> usize {
        self.peers.len()
    }
}

/// Makes the channels between `core_count` cores.
///
/// # Errors
///
/// When there are too few descriptors.
pub(crate) fn mesh_ends(core_count: usize) -> io::Result<Vec<MeshEnds>> {
    let wakers = (0..core_count).map(|_| CoreWaker::new()).collect::<io::Result<Vec<CoreWaker>>>()?;
    let mut senders: Vec<Vec<Option<Sender<Parcel>>>> = Vec::new();
    let mut receivers: Vec<Vec<Option<Receiver<Parcel>>>> = Vec::new();
    for _ in 0..core_count {
        senders.push((0..core_count).map(|_| None).collect());
        receivers.push((0..core_count).map(|_| None).collect());
    }
    for from in 0..core_count {
        for to in (0..core_count).filter(|&to| to != from) {
            let (sender, receiver) = channel(wakers[to].clone());
            senders[from][to] = Some(sender);
            receivers[to][from] = Some(receiver);
        }
    }
    let ends = wakers.into_iter().zip(senders.into_iter().zip(receivers)).enumerate();
    let ends = ends.map(|(core, (waker, (senders, receivers)))| MeshEnds {
        core,
        waker,
        peers: senders.into_iter().zip(receivers).map(|(sender, receiver)| sender.zip(receiver)).collect(),
    });
    Ok(ends.collect())
}

/// The messages that wait to be sent to one other core. Their number is bounded by the calls in
/// flight, see [`super::message`].
#[derive(Default)]
pub(super) struct Outbox {
    messages: RefCell<Parcel>,
    filled: Signal,
}

impl Outbox {
    pub(super) fn push(&self, message: Message) {
        self.messages.borrow_mut().push(message);
        self.filled.raise();
    }

    /// Sends the messages of this outbox until the core ends.
    pub(super) async fn courier(self: Rc<Self>, sender: Sender<Parcel>) {
        loop {
            self.filled.wait().await;
            let parcel = self.messages.take();
            if !parcel.is_empty() {
                sender.send(parcel);
            }
        }
    }
}
