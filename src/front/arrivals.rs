//! Connections that the standby thread accepted while their core was stalled, on that core.

use std::cell::RefCell;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::connection::{self, Front};
use super::places::Place;
use crate::logging::rationed;
use crate::mesh::Signal;
use crate::rt::channel::Receiver;
use crate::rt::net::{Sockets, Stream};

/// An accepted connection of which nothing was read.
pub(crate) struct Arrival {
    /// Does not block.
    pub(crate) socket: OwnedFd,
    pub(crate) peer: IpAddr,
    /// `None` if no place was left.
    pub(crate) place: Option<Place>,
}

/// The connections that were handed to a core and wait for their task.
pub(crate) struct Arrivals {
    received: Receiver<Arrival>,
    waiting: RefCell<Vec<Arrival>>,
    came: Signal,
}

impl Arrivals {
    pub(crate) fn new(received: Receiver<Arrival>) -> Rc<Arrivals> {
        Rc::new(Arrivals { received, waiting: RefCell::default(), came: Signal::default() })
    }

    /// Receives what was handed over. Returns whether that was anything.
    pub(crate) fn take_in(&self) -> bool {
        let mut came = false;
        while let Some(arrival) = self.received.take() {
            self.waiting.borrow_mut().push(arrival);
            came = true;
        }
        if came {
            self.came.raise();
        }
        came
    }

    /// Serves them as if the core had accepted them itself, for as long as the core runs.
    pub(crate) async fn serve(self: Rc<Self>, front: Rc<Front>, sockets: Rc<Sockets>) {
        loop {
            self.came.wait().await;
            for Arrival { socket, peer, place } in self.waiting.take() {
                match Stream::new(&sockets, socket, peer) {
                    Ok(stream) => connection::admit(&front, stream, place),
                    Err(error) => rationed!(warn, %error, "failed to take over a connection"),
                }
            }
        }
    }
}
