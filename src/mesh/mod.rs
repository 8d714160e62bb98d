//! The transport between cores: requests to the owners of slots, and what completes them.
//!
//! There are two classes of messages ([`message`]):
//!
//! - A *request* reserves a place for its reply before anything is sent. When no place is left it
//!   is refused ([`Overloaded`]), and nothing was sent. So the number of messages is bounded.
//! - A *finishing* message completes what a request began: a reply, or a step of a protocol that
//!   a request caused ([`Notice`]). It is never refused.
//!
//! Requests are addressed to slots. One table ([`Owners`]) says which core owns a slot. A core
//! receives messages when it polls, see [`Mesh::take_in`].

mod calls;
mod channels;
mod inbox;
mod message;
mod signal;

use std::rc::Rc;

use shards::command::{Ask, Command, Query};
use shards::ids::Slot;
use shards::outcome::Reply;
use shards::slots::Owners;

pub(crate) use calls::{CALLS_IN_FLIGHT_DEFAULT, CALLS_IN_FLIGHT_MAX, CALLS_IN_FLIGHT_MIN, Call, Overloaded};
pub(crate) use channels::{MeshEnds, mesh_ends};
pub(crate) use inbox::Inbox;
pub(crate) use message::{Asker, Notice, ReplyTo, ShardRequest};
pub(crate) use signal::Signal;

use crate::rt;
use crate::rt::channel::Receiver;
use calls::{Calls, Class};
use channels::{Outbox, Parcel};
use message::{Finishing, Message};

/// One core's part of the transport.
pub struct Mesh {
    core: usize,
    owners: Owners,
    calls: Rc<Calls>,
    inbox: Rc<Inbox>,
    /// By core; the outbox at this core's own index stays empty.
    outboxes: Vec<Rc<Outbox>>,
    /// Each with the core that sends to it.
    receivers: Vec<(usize, Receiver<Parcel>)>,
}

impl Mesh {
    /// Starts a courier for each other core. Requests for the slots of this core go to `inbox`.
    pub fn new(ends: MeshEnds, owners: Owners, inbox: Rc<Inbox>, calls_max: usize) -> Rc<Mesh> {
        let outboxes: Vec<Rc<Outbox>> = ends.peers.iter().map(|_| Rc::default()).collect();
        let mut receivers = Vec::new();
        for (peer, channels) in ends.peers.into_iter().enumerate() {
            if let Some((sender, receiver)) = channels {
                rt::spawn(Rc::clone(&outboxes[peer]).courier(sender));
                receivers.push((peer, receiver));
            }
        }
        Rc::new(Mesh { core: ends.core, owners, calls: Calls::new(calls_max), inbox, outboxes, receivers })
    }

    #[cfg(test)]
    pub fn inbox(&self) -> Rc<Inbox> {
        Rc::clone(&self.inbox)
    }

    #[cfg(test)]
    pub fn calls_in_flight(&self) -> usize {
        self.calls.in_flight()
    }

    /// Lets no question wait for news at this core's shard any more: the server drains.
    pub fn close_watches(&self) {
        self.inbox.close_watches();
    }

    /// The core that owns a slot.
    pub fn owner(&self, slot: Slot) -> usize {
        self.owners.of(slot)
    }

    /// All other cores.
    pub fn peers(&self) -> impl Iterator<Item = usize> {
        self.receivers.iter().map(|(peer, _)| *peer)
    }

    /// Sends a question to the owner of a slot, at once. Awaiting the call gives the reply.
    ///
    /// # Errors
    ///
    /// [`Overloaded`], and nothing was sent.
    pub fn call(&self, slot: Slot, ask: Ask) -> Result<Call, Overloaded> {
        self.request(self.owners.of(slot), ask)
    }

    /// Sends a question to the shard of this core.
    ///
    /// # Errors
    ///
    /// [`Overloaded`], and nothing was sent.
    pub fn call_own(&self, query: Query) -> Result<Call, Overloaded> {
        self.request(self.core, Ask::Query(query))
    }

    /// Sends a question to every owner of slots. The caller checks that the parts cover all slots.
    ///
    /// # Errors
    ///
    /// [`Overloaded`]: some owners may have been asked, and their replies will be dropped.
    pub fn call_all(&self, query: &Query) -> Result<Vec<Call>, Overloaded> {
        let owners = self.owners.distinct();
        owners.map(|owner| self.request(owner, Ask::Query(query.clone()))).collect()
    }

    fn request(&self, owner: usize, ask: Ask) -> Result<Call, Overloaded> {
        // A question for news may wait for long, and takes no place of those that are answered soon.
        let class = match ask {
            Ask::Query(Query::Watch { .. }) => Class::Watch,
            Ask::Query(_) | Ask::Command(_) => Class::Request,
        };
        let call = self.calls.begin(class)?;
        let reply_to = ReplyTo { core: self.core as u16, place: call.place() };
        let request = ShardRequest { ask, reply_to: Some(reply_to) };
        if owner == self.core {
            self.inbox.push(request);
        } else {
            self.outboxes[owner].push(Message::Request(request));
        }
        Ok(call)
    }

    /// Sends a reply to its caller, on whatever core.
    pub fn reply(&self, reply_to: ReplyTo, reply: Reply) {
        let ReplyTo { core, place } = reply_to;
        let core = usize::from(core);
        if core == self.core {
            self.calls.settle(place, reply);
        } else {
            self.outboxes[core].push(Message::Finishing(Finishing::Reply { place, reply }));
        }
    }

    /// Sends a command that another slot's command led to. It gets no reply: the sender repeats it until the
    /// state of the other slot shows that it arrived.
    pub fn send(&self, slot: Slot, command: Command) {
        let owner = self.owners.of(slot);
        if owner == self.core {
            self.inbox.push(ShardRequest { ask: Ask::Command(command), reply_to: None });
        } else {
            self.outboxes[owner].push(Message::Finishing(Finishing::Command(command)));
        }
    }

    /// Sends a notice to another core.
    pub fn notify(&self, peer: usize, notice: Notice) {
        self.outboxes[peer].push(Message::Finishing(Finishing::Notice(notice)));
    }

    /// Receives what other cores have sent, and calls `hear` with each notice and the core that
    /// sent it. Returns whether there were any messages.
    pub fn take_in(&self, hear: impl Fn(usize, Notice)) -> bool {
        let mut came = false;
        for (peer, receiver) in &self.receivers {
            while let Some(parcel) = receiver.take() {
                came = true;
                for message in parcel {
                    match message {
                        // Once slots can move, check here that this core still owns the slot.
                        Message::Request(request) => self.inbox.push(request),
                        Message::Finishing(Finishing::Command(command)) => {
                            self.inbox.push(ShardRequest { ask: Ask::Command(command), reply_to: None });
                        }
                        Message::Finishing(Finishing::Reply { place, reply }) => {
                            self.calls.settle(place, reply);
                        }
                        Message::Finishing(Finishing::Notice(notice)) => hear(*peer, notice),
                    }
                }
            }
        }
        came
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;
    use shards::outcome::{Outcome, Totals};

    use super::*;

    /// A connection whose client does not read its answers does not read its replies, either.
    #[test]
    fn a_reply_that_nobody_takes_keeps_nobody_from_asking() {
        let inbox = Rc::new(Inbox::default());
        let ends = mesh_ends(1).expect("descriptors are left").pop().expect("one core");
        let mesh = Mesh::new(ends, Owners::by_modulo(1), Rc::clone(&inbox), 2);
        let call = || mesh.call(Slot(7), Ask::Query(Query::Totals));
        let (first, second) = (call().expect("a place"), call().expect("a place"));
        assert!(matches!(call(), Err(Overloaded)), "both places are taken");
        let reply = || {
            let request = inbox.pop().expect("it was sent");
            mesh.reply(request.reply_to.expect("it was called"), Ok(Outcome::Totals(Totals::default())));
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

    #[test]
    fn a_question_that_waits_takes_no_place_of_a_request() {
        use shards::ids::{EventId, Lsn};
        let inbox = Rc::new(Inbox::default());
        let ends = mesh_ends(1).expect("descriptors are left").pop().expect("one core");
        let mesh = Mesh::new(ends, Owners::by_modulo(1), Rc::clone(&inbox), 1);
        let wait = std::time::Duration::from_secs(10);
        let watch = Ask::Query(Query::Watch { event: EventId(7), after: Lsn(1), wait });
        let watches = [(); 3].map(|()| mesh.call(Slot(7), watch.clone()).expect("a place of their own"));
        let _call = mesh.call(Slot(7), Ask::Query(Query::Totals)).expect("the one place of a request");
        assert!(mesh.call(Slot(7), Ask::Query(Query::Totals)).is_err(), "the place is taken");
        drop(watches);
        while let Some(request) = inbox.pop() {
            mesh.reply(request.reply_to.expect("it was called"), Ok(Outcome::Totals(Totals::default())));
        }
        assert_eq!(mesh.calls_in_flight(), 0);
    }

    #[test]
    fn a_command_that_finishes_something_is_never_refused() {
        use shards::command::Actor;
        use shards::ids::{EventId, ReservationId, Role, UserId};
        let inbox = Rc::new(Inbox::default());
        let ends = mesh_ends(1).expect("descriptors are left").pop().expect("one core");
        let mesh = Mesh::new(ends, Owners::by_modulo(1), Rc::clone(&inbox), 1);
        let _call = mesh.call(Slot(7), Ask::Query(Query::Totals)).expect("a place");
        assert!(mesh.call(Slot(7), Ask::Query(Query::Totals)).is_err(), "the place is taken");
        let reservation = ReservationId { event: EventId(1), number: 1 };
        let command = Command::Cancel { reservation, actor: Actor::new(UserId(1), Role::Admin) };
        mesh.send(command.slot(), command.clone());
        assert!(inbox.pop().is_some_and(|request| request.reply_to.is_some()), "the call");
        let sent = inbox.pop().expect("it was sent");
        assert_eq!((sent.ask, sent.reply_to.is_none()), (Ask::Command(command), true));
    }

    /// The second of two cores owns the slot, and gets the command without a reply's place.
    #[test]
    fn a_command_reaches_the_owner_on_another_core() {
        use std::sync::mpsc::channel;

        use shards::command::Actor;
        use shards::ids::{EventId, ReservationId, Role, UserId};
        use shards::slots::slot_of_event;

        use crate::rt::net::Sockets;
        use crate::rt::reactor::Reactor;
        use crate::rt::{Core, Executor};

        let owners = Owners::by_modulo(2);
        let event = (1..).map(EventId).find(|&event| owners.of(slot_of_event(event)) == 1);
        let reservation = ReservationId { event: event.expect("half of the slots"), number: 1 };
        let command = Command::Cancel { reservation, actor: Actor::new(UserId(1), Role::Admin) };
        let (arrived, received) = channel();
        let cores =
            mesh_ends(2).expect("descriptors are left").into_iter().enumerate().map(|(index, ends)| {
                let (owners, command, arrived) = (owners.clone(), command.clone(), arrived.clone());
                Executor::of_environment().start_core("test", move || async move {
                    let (waker, inbox) = (ends.waker.clone(), Rc::new(Inbox::default()));
                    let mesh = Mesh::new(ends, owners, Rc::clone(&inbox), 1);
                    let sockets = Sockets::new(&waker).expect("descriptors are left");
                    let take_in = {
                        let mesh = Rc::clone(&mesh);
                        move || mesh.take_in(|_, notice| panic!("{notice:?}"))
                    };
                    Reactor::new(sockets, waker, take_in).start();
                    if index == 0 {
                        mesh.send(command.slot(), command);
                        // Lets the courier run before the core ends.
                        rt::sleep(std::time::Duration::from_millis(50)).await;
                    } else {
                        inbox.signal.wait().await;
                        let ShardRequest { ask, reply_to } = inbox.pop().expect("the signal says so");
                        arrived.send((ask, reply_to.is_none())).expect("the test waits for it");
                    }
                })
            });
        let cores: Vec<Core> = cores.map(|core| core.expect("a thread")).collect();
        let arrived = received.recv_timeout(std::time::Duration::from_secs(10));
        assert_eq!(arrived, Ok((Ask::Command(command), true)));
        cores.into_iter().for_each(|core| core.join().expect("the core ends in peace"));
    }

    #[test]
    fn a_question_to_all_owners_takes_a_place_for_each() {
        let inbox = Rc::new(Inbox::default());
        let ends = mesh_ends(1).expect("descriptors are left").pop().expect("one core");
        let mesh = Mesh::new(ends, Owners::by_modulo(1), Rc::clone(&inbox), 1);
        let mut calls = mesh.call_all(&Query::Totals).expect("a place");
        assert!(mesh.call_all(&Query::Totals).is_err(), "the place is taken");
        let request = inbox.pop().expect("it was sent");
        assert!(inbox.is_empty(), "there is one owner");
        mesh.reply(request.reply_to.expect("it was called"), Ok(Outcome::Totals(Totals::default())));
        assert!(block_on(calls.pop().expect("one call")).is_ok());
    }
}
