//! Attempts to place or confirm orders. They are no part of the state: what dies with a process was never promised.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::command::{Actor, IdempotencyKey, OrderMessage, PlaceOrder, Prepare};
use crate::ids::{Attempt, EventId, OrderId, ReservationId, Slot, UserId};
use crate::limits::ORDERS_UNDERWAY_MAX;
use crate::outcome::{OrderPart, RefusedItem, Rejection};

/// The attempts of a shard, by number.
#[derive(Debug)]
pub(super) struct Underway<A> {
    last_number: u64,
    attempts: BTreeMap<u64, Trial<A>>,
    confirming: BTreeSet<OrderId>,
    /// The keys of these requests.
    keys: BTreeSet<(UserId, [u8; 16])>,
}

/// An attempt whose events are asked.
#[derive(Debug)]
pub(super) struct Trial<A> {
    pub(super) slot: Slot,
    pub(super) attempt: Attempt,
    pub(super) asker: A,
    pub(super) key: Option<IdempotencyKey>,
    pub(super) aim: Aim,
    /// What each event said, in the order of the parts.
    votes: Vec<Vote>,
    /// The elapsed time at which it began.
    pub(super) begun: Duration,
}

#[derive(Debug)]
pub(super) enum Aim {
    Place(Box<PlaceOrder>),
    Confirm { order: OrderId, actor: Actor, parts: Vec<ReservationId> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Vote {
    Missing,
    Yes(ReservationId),
    No(Rejection),
}

/// What all events together said.
#[derive(Debug)]
pub(super) enum Verdict {
    Agreed(Box<[OrderPart]>),
    Refused(Vec<RefusedItem>),
}

impl<A> Default for Underway<A> {
    fn default() -> Underway<A> {
        Underway {
            last_number: 0,
            attempts: BTreeMap::new(),
            confirming: BTreeSet::new(),
            keys: BTreeSet::new(),
        }
    }
}

impl<A> Underway<A> {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    /// Checks that another attempt may begin.
    pub(super) fn check_room(&self) -> Result<(), Rejection> {
        if self.attempts.len() >= ORDERS_UNDERWAY_MAX { Err(Rejection::Overloaded) } else { Ok(()) }
    }

    /// Checks that no request with this key is under way. It may fail, so whether the key is used is not known.
    pub(super) fn check_key(&self, key: &IdempotencyKey) -> Result<(), Rejection> {
        if self.keys.contains(&(key.user, key.hash)) { Err(Rejection::KeyInFlight) } else { Ok(()) }
    }

    pub(super) fn is_confirming(&self, order: OrderId) -> bool {
        self.confirming.contains(&order)
    }

    /// The number of the next attempt. None is given twice.
    pub(super) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub(super) fn begin(&mut self, trial: Trial<A>) {
        if let Some(key) = &trial.key {
            self.keys.insert((key.user, key.hash));
        }
        if let Aim::Confirm { order, .. } = &trial.aim {
            self.confirming.insert(*order);
        }
        self.attempts.insert(trial.attempt.number, trial);
    }

    pub(super) fn end(&mut self, number: u64) -> Option<Trial<A>> {
        let trial = self.attempts.remove(&number)?;
        if let Some(key) = &trial.key {
            self.keys.remove(&(key.user, key.hash));
        }
        if let Aim::Confirm { order, .. } = &trial.aim {
            self.confirming.remove(order);
        }
        Some(trial)
    }

    pub(super) fn get(&self, number: u64) -> Option<&Trial<A>> {
        self.attempts.get(&number)
    }

    /// The attempt that a part waits for, if it is under way.
    pub(super) fn find(&mut self, slot: Slot, attempt: Attempt) -> Option<&mut Trial<A>> {
        let trial = self.attempts.get_mut(&attempt.number)?;
        (trial.slot == slot && trial.attempt == attempt).then_some(trial)
    }

    /// The numbers of the attempts of a slot.
    pub(super) fn numbers_of(&self, slot: Slot) -> Vec<u64> {
        self.attempts.values().filter(|trial| trial.slot == slot).map(|trial| trial.attempt.number).collect()
    }
}

impl<A> Trial<A> {
    pub(super) fn new(
        slot: Slot,
        attempt: Attempt,
        asker: A,
        key: Option<IdempotencyKey>,
        aim: Aim,
        begun: Duration,
    ) -> Trial<A> {
        let count = match &aim {
            Aim::Place(order) => order.items.as_slice().len(),
            Aim::Confirm { parts, .. } => parts.len(),
        };
        Trial { slot, attempt, asker, key, aim, votes: vec![Vote::Missing; count], begun }
    }

    fn events(&self) -> Vec<EventId> {
        match &self.aim {
            Aim::Place(order) => order.items.as_slice().iter().map(|item| item.event).collect(),
            Aim::Confirm { parts, .. } => parts.iter().map(|part| part.event).collect(),
        }
    }

    /// Notes what an event said. Returns whether that is what counts: an event has one vote.
    pub(super) fn vote(&mut self, event: EventId, vote: Vote) -> bool {
        let Some(index) = self.events().iter().position(|&one| one == event) else { return false };
        if self.votes[index] == Vote::Missing {
            self.votes[index] = vote.clone();
        }
        self.votes[index] == vote
    }

    /// The messages to the events that have not said anything.
    pub(super) fn questions(&self) -> Vec<OrderMessage> {
        let attempt = self.attempt;
        let missing = self.votes.iter().enumerate().filter(|(_, vote)| **vote == Vote::Missing);
        let question = |(index, _)| match &self.aim {
            Aim::Place(order) => {
                let PlaceOrder { owner, actor, ref buyer, ref items, time: _ } = **order;
                let buyer = buyer.clone();
                let item = items.as_slice()[index];
                OrderMessage::Prepare(Prepare { owner, attempt, actor, buyer, item })
            }
            Aim::Confirm { order, actor, parts } => {
                OrderMessage::Lock { order: *order, attempt, part: parts[index], by: actor.by() }
            }
        };
        missing.map(question).collect()
    }

    /// The messages that end the attempt at the events that agreed.
    pub(super) fn ends(&self) -> Vec<OrderMessage> {
        let attempt = self.attempt;
        let agreed = self.votes.iter().filter_map(|vote| match vote {
            Vote::Yes(part) => Some(*part),
            Vote::Missing | Vote::No(_) => None,
        });
        let end = |part| match &self.aim {
            Aim::Place(order) => OrderMessage::Abort { owner: order.owner, attempt, part },
            Aim::Confirm { order, .. } => OrderMessage::Unlock { order: *order, attempt, part },
        };
        agreed.map(end).collect()
    }

    /// What the events said; `None` while one has not.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        let (mut agreed, mut refused) = (Vec::new(), Vec::new());
        for (index, (vote, event)) in self.votes.iter().zip(self.events()).enumerate() {
            match vote {
                Vote::Missing => return None,
                Vote::Yes(reservation) => {
                    let quantity = match &self.aim {
                        Aim::Place(order) => order.items.as_slice()[index].quantity.get(),
                        // The order has it.
                        Aim::Confirm { .. } => 0,
                    };
                    agreed.push(OrderPart { reservation: *reservation, quantity });
                }
                Vote::No(why) => refused.push(RefusedItem { event, why: why.clone() }),
            }
        }
        Some(if refused.is_empty() { Verdict::Agreed(agreed.into()) } else { Verdict::Refused(refused) })
    }
}
