//! From any core to any shard and back: channels, credits, pending replies.
//!
//! A call takes a place for its reply before anything is sent; when there is no
//! place left it is refused, and nothing has happened. So everything in flight
//! is bounded, and what ends something (a reply) always finds room. Handlers
//! never wait for a channel: messages pile up in an outbox, within that bound,
//! and one courier task for each other core carries them over, all at once. The
//! other core finds them when it next looks, see [`Mesh::take_in`].
//!
//! An answer that says that an account has changed waits here until every core has
//! forgotten the account's tokens. What that takes is sent in the room of the call
//! that it answers, and so is never refused either.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use shards::command::Ask;
use shards::ids::UserId;
use shards::limits::SHARD_COUNT_MAX;
use shards::outcome::{Outcome, Reply};
use slab::Slab;

use crate::rt;
use crate::rt::bell::Bell;
use crate::rt::channel::{Receiver, Sender, channel};

/// Calls that one core may have in flight, unless it is told otherwise: some 20 ms of work
/// for one shard, so that what is accepted is also answered soon.
pub(crate) const CALLS_IN_FLIGHT_DEFAULT: usize = 4096;

/// A list over all events takes a place for each shard.
pub(crate) const CALLS_IN_FLIGHT_MIN: usize = SHARD_COUNT_MAX;

/// A second of work for one shard: who waits longer has long asked again.
pub(crate) const CALLS_IN_FLIGHT_MAX: usize = 65_536;

/// Where a reply goes: the place that its call took.
#[derive(Debug, Clone, Copy)]
pub struct ReplyTo {
    core: u16,
    place: u32,
}

#[derive(Debug)]
pub struct ShardRequest {
    pub ask: Ask,
    pub reply_to: ReplyTo,
}

const _: () = assert!(size_of::<ShardRequest>() <= 128, "requests are moved about by value");

#[derive(Debug)]
enum Message {
    Request(ShardRequest),
    Reply(u32, Reply),
    /// An account's tokens have ended.
    Revoke(UserId, RevocationNumber),
    /// They are forgotten here.
    Revoked(RevocationNumber),
}

/// Among those that a core waits for.
type RevocationNumber = u32;

type Parcel = Vec<Message>;

/// A core's ends of all channels.
pub struct MeshEnds {
    core: usize,
    /// Wakes this core.
    pub(crate) bell: Bell,
    /// By peer; `None` at our own place.
    peers: Vec<Option<(Sender<Parcel>, Receiver<Parcel>)>>,
}

/// Makes the channels between `core_count` cores.
///
/// # Errors
///
/// For want of descriptors.
pub(crate) fn mesh_ends(core_count: usize) -> io::Result<Vec<MeshEnds>> {
    let bells = (0..core_count).map(|_| Bell::new()).collect::<io::Result<Vec<Bell>>>()?;
    let mut senders: Vec<Vec<Option<Sender<Parcel>>>> = Vec::new();
    let mut receivers: Vec<Vec<Option<Receiver<Parcel>>>> = Vec::new();
    for _ in 0..core_count {
        senders.push((0..core_count).map(|_| None).collect());
        receivers.push((0..core_count).map(|_| None).collect());
    }
    for from in 0..core_count {
        for to in (0..core_count).filter(|&to| to != from) {
            let (sender, receiver) = channel(bells[to].clone());
            senders[from][to] = Some(sender);
            receivers[to][from] = Some(receiver);
        }
    }
    let ends = bells.into_iter().zip(senders.into_iter().zip(receivers)).enumerate();
    let ends = ends.map(|(core, (bell, (senders, receivers)))| MeshEnds {
        core,
        bell,
        peers: senders.into_iter().zip(receivers).map(|(sender, receiver)| sender.zip(receiver)).collect(),
    });
    Ok(ends.collect())
}

/// One core's part of the mesh.
pub struct Mesh {
    core: usize,
    outboxes: Vec<Outbox>,
    /// With the core that each is from.
    receivers: Vec<(usize, Receiver<Parcel>)>,
    calls_max: usize,
    /// Places whose reply has not come. One that waits to be taken does not count: a client
    /// that does not read its answers may not keep others from asking.
    calls_in_flight: Cell<usize>,
    places: RefCell<Slab<Place>>,
    inbox: Rc<Inbox>,
    /// Makes this core forget an account's tokens.
    forget: Box<dyn Fn(UserId)>,
    revocations: RefCell<Slab<Revocation>>,
}

/// An answer that waits until all cores have forgotten an account's tokens.
struct Revocation {
    cores_left: usize,
    reply_to: ReplyTo,
    reply: Reply,
}

/// What is to go to one other core.
#[derive(Default)]
struct Outbox {
    messages: RefCell<Parcel>,
    filled: Signal,
}

/// What waits for this core's shard. Bounded by the calls that all cores may have in flight.
#[derive(Default)]
pub struct Inbox {
    requests: RefCell<VecDeque<ShardRequest>>,
    pub signal: Signal,
}

enum Place {
    Waiting(Option<Waker>),
    Replied(Reply),
    /// The caller is gone; the reply will be dropped.
    Abandoned,
}

/// As many calls are in flight as may be. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overloaded;

impl Mesh {
    /// This core's part, with a courier for each other core. `forget` is to make this core
    /// forget an account's tokens.
    pub fn new(
        ends: MeshEnds,
        inbox: Rc<Inbox>,
        calls_max: usize,
        forget: impl Fn(UserId) + 'static,
    ) -> Rc<Mesh> {
        let outboxes = ends.peers.iter().map(|_| Outbox::default()).collect();
        let peers = ends.peers.into_iter().enumerate();
        let peers = peers.filter_map(|(peer, channels)| channels.map(|channels| (peer, channels)));
        let (senders, receivers): (Vec<_>, Vec<_>) =
            peers.map(|(peer, (sender, receiver))| ((peer, sender), (peer, receiver))).unzip();
        let mesh = Rc::new(Mesh {
            core: ends.core,
            outboxes,
            receivers,
            calls_max,
            calls_in_flight: Cell::new(0),
            places: RefCell::default(),
            inbox,
            forget: Box::new(forget),
            revocations: RefCell::default(),
        });
        for (peer, sender) in senders {
            rt::spawn(Rc::clone(&mesh).carry(peer, sender));
        }
        mesh
    }

    pub fn shard_count(&self) -> usize {
        self.outboxes.len()
    }

    pub fn inbox(&self) -> Rc<Inbox> {
        Rc::clone(&self.inbox)
    }

    pub fn calls_in_flight(&self) -> usize {
        self.calls_in_flight.get()
    }

    /// Sends at once; the reply comes by awaiting what this returns.
    ///
    /// # Errors
    ///
    /// [`Overloaded`], and nothing was sent.
    pub fn call(self: &Rc<Self>, shard: usize, ask: Ask) -> Result<Call, Overloaded> {
        if self.calls_in_flight.get() == self.calls_max {
            return Err(Overloaded);
        }
        self.calls_in_flight.update(|calls| calls + 1);
        let place = self.places.borrow_mut().insert(Place::Waiting(None));
        let reply_to = ReplyTo { core: self.core as u16, place: place as u32 };
        let request = ShardRequest { ask, reply_to };
        if shard == self.core {
            self.inbox.push(request);
        } else {
            self.outboxes[shard].push(Message::Request(request));
        }
        Ok(Call { mesh: Rc::clone(self), place })
    }

    /// Gives a reply to whoever called, on whatever core; one that ends tokens not before
    /// every core has forgotten them.
    pub fn reply(&self, reply_to: ReplyTo, reply: Reply) {
        match &reply {
            Ok(Outcome::AccountChanged(user)) => self.revoke(user.id, reply_to, reply),
            _ => self.deliver(reply_to, reply),
        }
    }

    fn revoke(&self, user: UserId, reply_to: ReplyTo, reply: Reply) {
        (self.forget)(user);
        let cores_left = self.outboxes.len() - 1;
        if cores_left == 0 {
            return self.deliver(reply_to, reply);
        }
        let number = self.revocations.borrow_mut().insert(Revocation { cores_left, reply_to, reply });
        for (_, outbox) in self.outboxes.iter().enumerate().filter(|&(core, _)| core != self.core) {
            outbox.push(Message::Revoke(user, number as RevocationNumber));
        }
    }

    /// Some core has forgotten the tokens of a revocation.
    fn count_revoked(&self, number: RevocationNumber) {
        let number = number as usize;
        let mut revocations = self.revocations.borrow_mut();
        let revocation = revocations.get_mut(number).expect("it is kept until all have answered");
        revocation.cores_left -= 1;
        if revocation.cores_left == 0 {
            let Revocation { reply_to, reply, .. } = revocations.remove(number);
            drop(revocations);
            self.deliver(reply_to, reply);
        }
    }

    fn deliver(&self, reply_to: ReplyTo, reply: Reply) {
        let core = usize::from(reply_to.core);
        if core == self.core {
            self.settle(reply_to.place, reply);
        } else {
            self.outboxes[core].push(Message::Reply(reply_to.place, reply));
        }
    }

    fn settle(&self, place: u32, reply: Reply) {
        self.calls_in_flight.update(|calls| calls - 1);
        let mut places = self.places.borrow_mut();
        let place = place as usize;
        let waiting = places.get_mut(place).expect("a place is kept until its reply has come");
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

    async fn carry(self: Rc<Self>, peer: usize, sender: Sender<Parcel>) {
        let outbox = &self.outboxes[peer];
        loop {
            outbox.filled.wait().await;
            let parcel = outbox.messages.take();
            if !parcel.is_empty() {
                sender.send(parcel);
            }
        }
    }

    /// Takes in what other cores have sent. Whether there was anything.
    pub fn take_in(&self) -> bool {
        let mut came = false;
        for (peer, receiver) in &self.receivers {
            while let Some(parcel) = receiver.take() {
                came = true;
                for message in parcel {
                    self.accept(*peer, message);
                }
            }
        }
        came
    }

    fn accept(&self, peer: usize, message: Message) {
        match message {
            Message::Request(request) => self.inbox.push(request),
            Message::Reply(place, reply) => self.settle(place, reply),
            Message::Revoke(user, number) => {
                (self.forget)(user);
                self.outboxes[peer].push(Message::Revoked(number));
            }
            Message::Revoked(number) => self.count_revoked(number),
        }
    }
}

impl Outbox {
    fn push(&self, message: Message) {
        self.messages.borrow_mut().push(message);
        self.filled.raise();
    }
}

impl Inbox {
    fn push(&self, request: ShardRequest) {
        self.requests.borrow_mut().push_back(request);
        self.signal.raise();
    }

    pub fn pop(&self) -> Option<ShardRequest> {
        self.requests.borrow_mut().pop_front()
    }

    pub fn is_empty(&self) -> bool {
        self.requests.borrow().is_empty()
    }
}

/// A reply that is on its way. Dropping it gives up on the reply, not on the
/// request: that is with its shard already.
#[must_use]
pub struct Call {
    mesh: Rc<Mesh>,
    place: usize,
}

impl Future for Call {
    type Output = Reply;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        let mut places = self.mesh.places.borrow_mut();
        match &mut places[self.place] {
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
        let mut places = self.mesh.places.borrow_mut();
        match &mut places[self.place] {
            waiting @ Place::Waiting(_) => *waiting = Place::Abandoned,
            Place::Replied(_) | Place::Abandoned => drop(places.remove(self.place)),
        }
    }
}

/// Something to look at, for one task of the same core.
#[derive(Default)]
pub struct Signal {
    raised: Cell<bool>,
    waiter: Cell<Option<Waker>>,
}

impl Signal {
    pub fn raise(&self) {
        self.raised.set(true);
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    /// Returns once it has been raised since the last time.
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.raised.replace(false) {
                return Poll::Ready(());
            }
            self.waiter.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use futures_lite::future::block_on;
    use shards::command::Query;
    use shards::ids::{Role, Username};
    use shards::outcome::{Totals, UserView};

    use super::*;
    use crate::rt::attention::Attention;
    use crate::rt::net::Sockets;

    /// A connection whose client does not read its answers takes no reply either.
    #[test]
    fn a_reply_that_nobody_takes_keeps_nobody_from_asking() {
        let inbox = Rc::new(Inbox::default());
        let ends = mesh_ends(1).expect("descriptors are left").pop().expect("one core");
        let mesh = Mesh::new(ends, Rc::clone(&inbox), 2, |_| {});
        let call = || mesh.call(0, Ask::Query(Query::Totals));
        let (first, second) = (call().expect("a place"), call().expect("a place"));
        assert!(matches!(call(), Err(Overloaded)), "both places are taken");
        let reply = || {
            let request = inbox.pop().expect("it was sent");
            mesh.reply(request.reply_to, Ok(Outcome::Totals(Totals::default())));
        };
        reply();
        reply();
        let third = call().expect("nothing is in flight any more");
        assert_eq!(mesh.calls_in_flight(), 1);
        drop(first);
        assert!(block_on(second).is_ok());
        drop(third);
        assert_eq!(mesh.calls_in_flight(), 1, "what is given up is in flight all the same");
        reply();
        assert_eq!(mesh.calls_in_flight(), 0);
    }

    const CORES: usize = 3;

    /// However long a core takes to forget them.
    #[test]
    fn a_change_is_answered_when_every_core_has_forgotten_the_tokens() {
        let forgotten = Arc::new(AtomicUsize::new(0));
        let done = Arc::new(AtomicUsize::new(0));
        let cores =
            mesh_ends(CORES).expect("descriptors are left").into_iter().enumerate().map(|(index, ends)| {
                let (forgotten, done) = (Arc::clone(&forgotten), Arc::clone(&done));
                rt::Core::spawn("test", move || async move {
                    let forget = {
                        let forgotten = Arc::clone(&forgotten);
                        move |user| {
                            assert_eq!(user, UserId(7));
                            thread::sleep(Duration::from_millis(20 * index as u64));
                            forgotten.fetch_add(1, Ordering::SeqCst);
                        }
                    };
                    let inbox = Rc::new(Inbox::default());
                    let bell = ends.bell.clone();
                    let mesh = Mesh::new(ends, Rc::clone(&inbox), 1, forget);
                    let sockets = Sockets::new(&bell).expect("descriptors are left");
                    let take_in = {
                        let mesh = Rc::clone(&mesh);
                        move || mesh.take_in()
                    };
                    Attention::new(sockets, bell, take_in).start();
                    if index == 0 {
                        for changes in 1..=3 {
                            let call = mesh.call(0, Ask::Query(Query::Totals)).expect("there is room");
                            let ShardRequest { reply_to, .. } = inbox.pop().expect("it was just sent");
                            let username = Username::new("ada").expect("a good name");
                            let user = UserView { id: UserId(7), username, role: Role::Customer };
                            mesh.reply(reply_to, Ok(Outcome::AccountChanged(user.clone())));
                            assert_eq!(call.await, Ok(Outcome::AccountChanged(user)));
                            assert_eq!(forgotten.load(Ordering::SeqCst), changes * CORES);
                            assert!(mesh.revocations.borrow().is_empty());
                        }
                        done.store(1, Ordering::SeqCst);
                    }
                    while done.load(Ordering::SeqCst) == 0 {
                        rt::sleep(Duration::from_millis(1)).await;
                    }
                })
            });
        let cores: Vec<rt::Core> = cores.map(|core| core.expect("a thread")).collect();
        cores.into_iter().for_each(|core| core.join().expect("the core ends in peace"));
    }
}
