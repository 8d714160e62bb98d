//! Drops an account's tokens and API keys, both called tokens here, on every core before the change that ended
//! them, or one of the keys, is answered.
//!
//! After the commit of the change, its answer waits here, on the core of the shard that decided it,
//! until every core has dropped the account's tokens. This does not depend on the client, which may
//! have disconnected. The messages are finishing messages of the request for the change, so they
//! are never refused.

use std::cell::RefCell;
use std::rc::Rc;

use shards::ids::UserId;
use shards::outcome::{Outcome, Reply, UserView};
use slab::Slab;

use crate::mesh::{Asker, Mesh, Notice};

/// One core's part of the protocol.
pub(crate) struct Revocations {
    mesh: Rc<Mesh>,
    /// Drops an account's tokens on this core.
    forget: Box<dyn Fn(UserId)>,
    /// Revocations that this core's shard began. Messages carry the index of an entry.
    pending: RefCell<Slab<Pending>>,
}

/// An answer that waits for other cores.
struct Pending {
    cores_left: usize,
    asker: Asker,
    reply: Reply,
}

impl Revocations {
    pub(crate) fn new(mesh: Rc<Mesh>, forget: impl Fn(UserId) + 'static) -> Rc<Revocations> {
        Rc::new(Revocations { mesh, forget: Box::new(forget), pending: RefCell::default() })
    }

    pub(crate) fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Sends a committed reply to its caller, if there is one. If the change ends tokens, every core drops
    /// them first, also if no caller waits.
    pub(crate) fn reply(&self, asker: Asker, reply: Reply) {
        match &reply {
            Ok(Outcome::AccountChanged(UserView { id: user, .. }) | Outcome::ApiKeyEnded(user)) => {
                self.revoke(*user, asker, reply);
            }
            Ok(_) | Err(_) => self.send(asker, reply),
        }
    }

    fn send(&self, asker: Asker, reply: Reply) {
        if let Some(reply_to) = asker {
            self.mesh.reply(reply_to, reply);
        }
    }

    fn revoke(&self, user: UserId, asker: Asker, reply: Reply) {
        (self.forget)(user);
        let cores_left = self.mesh.peers().count();
        if cores_left == 0 {
            return self.send(asker, reply);
        }
        let revocation = self.pending.borrow_mut().insert(Pending { cores_left, asker, reply }) as u32;
        for peer in self.mesh.peers() {
            self.mesh.notify(peer, Notice::ForgetTokens { user, revocation });
        }
    }

    /// Handles a notice of another core.
    pub(crate) fn hear(&self, peer: usize, notice: Notice) {
        match notice {
            Notice::ForgetTokens { user, revocation } => {
                (self.forget)(user);
                self.mesh.notify(peer, Notice::TokensForgotten { revocation });
            }
            Notice::TokensForgotten { revocation } => self.count_forgotten(revocation as usize),
        }
    }

    fn count_forgotten(&self, revocation: usize) {
        let mut pending = self.pending.borrow_mut();
        let waiting = pending.get_mut(revocation).expect("it is kept until all cores have answered");
        waiting.cores_left -= 1;
        if waiting.cores_left == 0 {
            let Pending { asker, reply, .. } = pending.remove(revocation);
            drop(pending);
            self.send(asker, reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use shards::command::{Ask, Query};
    use shards::ids::{Role, Slot, Username};
    use shards::slots::Owners;

    use super::*;
    use crate::mesh::{Inbox, MeshEnds, mesh_ends};
    use crate::rt;
    use crate::rt::net::Sockets;
    use crate::rt::reactor::Reactor;

    const CORES: usize = 3;

    /// A core without a shard, whose inbox is left to the test.
    fn assemble(ends: MeshEnds, forget: impl Fn(UserId) + 'static) -> Rc<Revocations> {
        let waker = ends.waker.clone();
        let mesh = Mesh::new(ends, Owners::by_modulo(CORES), Rc::default(), 1);
        let revocations = Revocations::new(Rc::clone(&mesh), forget);
        let sockets = Sockets::new(&waker).expect("descriptors are left");
        let take_in = {
            let revocations = Rc::clone(&revocations);
            move || mesh.take_in(|peer, notice| revocations.hear(peer, notice))
        };
        Reactor::new(sockets, waker, take_in).start();
        revocations
    }

    /// Changes an account on the first core, whose slots include 0.
    async fn change_account(revocations: &Revocations, inbox: &Inbox, user: UserId) {
        let call = revocations.mesh.call(Slot(0), Ask::Query(Query::Totals)).expect("there is room");
        let reply_to = inbox.pop().expect("it was just sent").reply_to;
        revocations.reply(reply_to, Ok(changed(user)));
        assert_eq!(call.await, Ok(changed(user)));
    }

    /// The same for a client that is gone before the change is committed.
    async fn change_account_of_nobody(revocations: &Revocations, inbox: &Inbox, user: UserId) {
        drop(revocations.mesh.call(Slot(0), Ask::Query(Query::Totals)).expect("there is room"));
        let reply_to = inbox.pop().expect("it was just sent").reply_to;
        revocations.reply(reply_to, Ok(changed(user)));
        while !revocations.pending.borrow().is_empty() {
            rt::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(revocations.mesh.calls_in_flight(), 0);
    }

    fn changed(id: UserId) -> Outcome {
        let username = Username::new("ada").expect("a good name");
        Outcome::AccountChanged(UserView { id, username, role: Role::Customer })
    }

    /// The answer waits, however long a core takes to drop the tokens.
    #[test]
    fn a_change_is_answered_when_every_core_has_forgotten_the_tokens() {
        let forgotten = Arc::new(AtomicUsize::new(0));
        let done = Arc::new(AtomicUsize::new(0));
        let ends = mesh_ends(CORES).expect("descriptors are left").into_iter().enumerate();
        let cores = ends.map(|(index, ends)| {
            let (forgotten, done) = (Arc::clone(&forgotten), Arc::clone(&done));
            rt::Executor::of_environment().start_core("test", move || async move {
                let forget = {
                    let forgotten = Arc::clone(&forgotten);
                    move |user| {
                        assert_eq!(user, UserId(7));
                        thread::sleep(Duration::from_millis(20 * index as u64));
                        forgotten.fetch_add(1, Ordering::SeqCst);
                    }
                };
                let revocations = assemble(ends, forget);
                if index == 0 {
                    let inbox = revocations.mesh.inbox();
                    for changes in 1..=3 {
                        change_account(&revocations, &inbox, UserId(7)).await;
                        assert_eq!(forgotten.load(Ordering::SeqCst), changes * CORES);
                        assert!(revocations.pending.borrow().is_empty());
                    }
                    change_account_of_nobody(&revocations, &inbox, UserId(7)).await;
                    assert_eq!(forgotten.load(Ordering::SeqCst), 4 * CORES);
                    done.store(1, Ordering::SeqCst);
                }
                while done.load(Ordering::SeqCst) == 0 {
                    rt::sleep(Duration::from_millis(1)).await;
                }
            })
        });
        let cores: Vec<rt::Core> = cores.map(|core| core.expect("a thread")).collect();
        cores.into_iter().for_each(|core| core.join().expect("the core ends without a panic"));
    }
}
