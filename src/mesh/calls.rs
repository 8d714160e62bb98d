//! Places for replies: each call in flight has one, up to a limit.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use shards::limits::SHARD_COUNT_MAX;
use shards::outcome::Reply;
use slab::Slab;

/// The default limit of calls that one core may have in flight: some 50 ms of work for one
/// core, so that what is accepted is also answered soon.
pub(crate) const CALLS_IN_FLIGHT_DEFAULT: usize = 4096;

/// The minimum of the limit: a list over all events takes a place for each shard.
pub(crate) const CALLS_IN_FLIGHT_MIN: usize = SHARD_COUNT_MAX;

/// The maximum of the limit: almost a second of work for one core. A client that waits longer has
/// long asked again.
pub(crate) const CALLS_IN_FLIGHT_MAX: usize = 65_536;

/// The most questions for news that one core has in flight. They wait at the owner, for seconds, and would take the
/// places of requests. One takes some 200 bytes.
const WATCHES_MAX: usize = 16_384;

/// The error of a call that would exceed the limit of calls in flight. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overloaded;

/// The places of one core.
pub(super) struct Calls {
    max: usize,
    /// Places whose reply has not arrived. A reply that has arrived and was not read yet does not
    /// count, so a client that does not read its answers cannot make the server refuse others.
    in_flight: Cell<usize>,
    /// The same for questions for news, which have places of their own.
    watches: Cell<usize>,
    places: RefCell<Slab<(Class, Place)>>,
}

/// What a call counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Request,
    /// A question that may wait for news.
    Watch,
}

enum Place {
    Waiting(Option<Waker>),
    Replied(Reply),
    /// The caller is gone; the reply will be dropped.
    Abandoned,
}

impl Calls {
    pub(super) fn new(max: usize) -> Rc<Calls> {
        Rc::new(Calls { max, in_flight: Cell::new(0), watches: Cell::new(0), places: RefCell::default() })
    }

    #[cfg(test)]
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    fn count(&self, class: Class) -> (&Cell<usize>, usize) {
        match class {
            Class::Request => (&self.in_flight, self.max),
            Class::Watch => (&self.watches, WATCHES_MAX),
        }
    }

    pub(super) fn begin(self: &Rc<Self>, class: Class) -> Result<Call, Overloaded> {
        let (count, max) = self.count(class);
        if count.get() == max {
            return Err(Overloaded);
        }
        count.update(|calls| calls + 1);
        let place = self.places.borrow_mut().insert((class, Place::Waiting(None)));
        Ok(Call { calls: Rc::clone(self), place })
    }

    /// Puts a reply into the place that was taken for it.
    pub(super) fn settle(&self, place: u32, reply: Reply) {
        let mut places = self.places.borrow_mut();
        let place = place as usize;
        let (class, waiting) = places.get_mut(place).expect("a place is kept until its reply has come");
        self.count(*class).0.update(|calls| calls - 1);
        match std::mem::replace(waiting, Place::Replied(reply)) {
            Place::Waiting(waker) => {
                drop(places);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Place::Abandoned => drop(places.remove(place)),
            Place::Replied(_) => unreachable!("a call has one reply"),
        }
    }
}

/// A future of a reply. Dropping it discards the reply; the request has been sent and is carried out.
#[must_use]
pub struct Call {
    calls: Rc<Calls>,
    place: usize,
}

impl Call {
    pub(super) fn place(&self) -> u32 {
        self.place as u32
    }
}

impl Future for Call {
    type Output = Reply;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        let mut places = self.calls.places.borrow_mut();
        match &mut places[self.place].1 {
            waiting @ Place::Waiting(_) => {
                *waiting = Place::Waiting(Some(context.waker().clone()));
                Poll::Pending
            }
            replied @ Place::Replied(_) => {
                let Place::Replied(reply) = std::mem::replace(replied, Place::Abandoned) else {
                    unreachable!("matched above")
                };
                Poll::Ready(reply)
            }
            Place::Abandoned => unreachable!("a call is not polled after its reply"),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut places = self.calls.places.borrow_mut();
        match &mut places[self.place].1 {
            waiting @ Place::Waiting(_) => *waiting = Place::Abandoned,
            Place::Replied(_) | Place::Abandoned => drop(places.remove(self.place)),
        }
    }
}
