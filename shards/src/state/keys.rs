//! Idempotency keys: each with the answer that was first given to it, for at least 24 hours.
//!
//! Keys are forgotten in generations, by records alone, so that live and replayed state answer alike. When a
//! generation begins and how old it is depends on clocks, so the shard decides that and makes the record.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::by_customer::ByCustomer;
use super::{Decision, OutcomeRef, SlotState};
use crate::clock::Now;
use crate::command::{Buyer, CreateEvent, GiveEventId, IdempotencyKey, Keyed};
use crate::details::EventDetails;
use crate::ids::{EventId, Lsn, Timestamp, UserId};
use crate::limits::{KEY_KEPT, KEYS_OF_CUSTOMER_MAX};
use crate::outcome::{EventView, Outcome, Rejection, Reply, ReservationStatus, ReservationView};
use crate::record::{Answer, Held, KeyKept, OfAnother, Record};

/// The keys of a slot.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Keys {
    /// The newest generation is the last one.
    generations: VecDeque<Generation>,
    /// The number of keys in all generations.
    count: u64,
}

/// Keys that are forgotten together. A generation ends when the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// The record with which it began, and the time of that.
    pub lsn: Lsn,
    pub at: Timestamp,
    /// The time at which it began, in milliseconds since the slot's first generation began.
    began_ms: u64,
    /// Shared with the data that undoes the end of a generation, and then not changed.
    keys: Arc<BTreeMap<KeyId, Kept>>,
}

/// Generations that a record dropped, the oldest first.
#[derive(Debug, Default)]
pub struct DroppedGenerations(pub Vec<Generation>);

/// A key's user and hash.
type KeyId = (UserId, [u8; 16]);

#[derive(Debug, PartialEq, Eq)]
struct Kept {
    fingerprint: u64,
    answer: Answer,
}

const _: () = assert!(size_of::<(KeyId, Kept)>() <= 56, "ten million keys take 0.7 gigabytes");

impl Generation {
    fn new(lsn: Lsn, at: Timestamp, began_ms: u64) -> Generation {
        Generation { lsn, at, began_ms, keys: Arc::default() }
    }

    #[cfg(test)]
    pub(crate) fn with_keys(count: u32) -> Generation {
        let kept = || Kept { fingerprint: 0, answer: Answer::EventId(EventId(1)) };
        let keys = (1..=count).map(|user| ((UserId(user), [0; 16]), kept()));
        Generation { keys: Arc::new(keys.collect()), ..Generation::new(Lsn(1), Timestamp(1), 0) }
    }

    /// Frees some keys of a generation that was dropped for good. Returns how many.
    pub fn free(&mut self, most: usize) -> usize {
        let keys = Arc::get_mut(&mut self.keys).expect("nothing undoes it any more");
        let count = most.min(keys.len());
        for _ in 0..count {
            keys.pop_first();
        }
        count
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Keys {
    fn find(&self, user: UserId, hash: [u8; 16]) -> Option<&Kept> {
        self.generations.iter().rev().find_map(|generation| generation.keys.get(&(user, hash)))
    }

    /// Whether a user has `count` keys or more. Does not count further.
    fn has_as_many(&self, user: UserId, count: usize) -> bool {
        let of_user = (user, [u8::MIN; 16])..=(user, [u8::MAX; 16]);
        let keys = self.generations.iter().flat_map(|generation| generation.keys.range(of_user.clone()));
        keys.take(count).count() == count
    }

    /// The keys of the newest generation.
    fn newest_keys(&mut self) -> &mut BTreeMap<KeyId, Kept> {
        let newest = self.generations.back_mut().expect("a generation begins with its first key or before");
        Arc::get_mut(&mut newest.keys).expect("only generations that were dropped are shared")
    }

    /// The number of generations that a record drops: of those that ended at least 24 hours before the new one.
    fn outlived(&self, since_ms: u32) -> usize {
        let now_ms = self.newest_began_ms() + u64::from(since_ms);
        let ends = self.generations.iter().skip(1).map(|next| next.began_ms);
        ends.take_while(|end_ms| end_ms + KEY_KEPT.as_millis() as u64 <= now_ms).count()
    }

    fn newest_began_ms(&self) -> u64 {
        self.generations.back().map_or(0, |newest| newest.began_ms)
    }
}

impl SlotState {
    /// The number of keys that are kept.
    pub fn key_count(&self) -> u64 {
        self.keys.count
    }

    /// The oldest and the newest generation of keys.
    pub fn generations(&self) -> Option<(&Generation, &Generation)> {
        Some((self.keys.generations.front()?, self.keys.generations.back()?))
    }

    pub fn keeps(&self, key: &IdempotencyKey) -> bool {
        self.keys.find(key.user, key.hash).is_some()
    }

    /// The highest event id that was given to a key; 0 for none.
    pub(super) fn highest_given_event(&self) -> EventId {
        let kept = self.keys.generations.iter().flat_map(|generation| generation.keys.values());
        let given = kept.filter_map(|kept| match kept.answer {
            Answer::EventId(event) => Some(event),
            Answer::Reservation { .. }
            | Answer::Hold { .. }
            | Answer::OfAnother(_)
            | Answer::Order { .. }
            | Answer::HeldOrder { .. } => None,
        });
        given.max().unwrap_or(EventId(0))
    }

    pub(super) fn decide_keyed(
        &self,
        now: Now,
        keyed: Keyed,
        index: &ByCustomer,
    ) -> Result<Decision, Rejection> {
        let Keyed { key, command } = keyed;
        self.with_key(Some(&key), || Ok(self.decide(now, command, index)))
    }

    /// Decides, unless the key has an answer already, and keeps the answer with the key.
    pub(super) fn with_key(
        &self,
        key: Option<&IdempotencyKey>,
        decide: impl FnOnce() -> Result<Decision, Rejection>,
    ) -> Result<Decision, Rejection> {
        let Some(key) = key else { return decide() };
        if let Some(answer) = self.first_answer(key)? {
            return Ok(Decision::unchanged(OutcomeRef::Replayed { user: key.user, answer }));
        }
        self.check_key_count(key)?;
        let mut decision = decide()?;
        if let Ok(outcome) = &decision.reply {
            let answer = self.answer_of(key.user, outcome, &decision.records);
            decision.records.push(kept(key, answer));
        }
        Ok(decision)
    }

    pub(super) fn decide_give_event_id(&self, give: GiveEventId) -> Result<Decision, Rejection> {
        let GiveEventId { key, id } = give;
        if let Some(given) = self.given_event_id(&key)? {
            return Ok(Decision::unchanged(OutcomeRef::GivenEventId(given)));
        }
        self.check_key_count(&key)?;
        Ok(Decision::change(kept(&key, Answer::EventId(id)), OutcomeRef::GivenEventId(id)))
    }

    /// Decides the creation of an event whose id only one key has, so an event with this id is that key's.
    pub(super) fn decide_create_given_event(&self, create: CreateEvent) -> Result<Decision, Rejection> {
        if !self.events.contains_key(&create.id) {
            return self.decide_create_event(create);
        }
        let CreateEvent { id, organizer, key: _, details } = create;
        Ok(Decision::unchanged(OutcomeRef::EventAsCreated {
            id,
            organizer,
            details: Box::new(details.into()),
        }))
    }

    pub(super) fn query_given_event_id(&self, key: &IdempotencyKey) -> Reply {
        Ok(Outcome::GivenEventId(self.given_event_id(key)?))
    }

    fn given_event_id(&self, key: &IdempotencyKey) -> Result<Option<EventId>, Rejection> {
        Ok(self.first_answer(key)?.map(|answer| match answer {
            Answer::EventId(event) => event,
            Answer::Reservation { .. }
            | Answer::Hold { .. }
            | Answer::OfAnother(_)
            | Answer::Order { .. }
            | Answer::HeldOrder { .. } => {
                unreachable!("the hash of a key tells its endpoint")
            }
        }))
    }

    /// The answer that was first given to a key; `None` if the key is not kept.
    pub(crate) fn first_answer(&self, key: &IdempotencyKey) -> Result<Option<Answer>, Rejection> {
        match self.keys.find(key.user, key.hash) {
            None => Ok(None),
            Some(kept) if kept.fingerprint == key.fingerprint => Ok(Some(kept.answer.clone())),
            Some(_) => Err(Rejection::KeyReused),
        }
    }

    pub(crate) fn check_key_count(&self, key: &IdempotencyKey) -> Result<(), Rejection> {
        if key.is_bounded && self.keys.has_as_many(key.user, KEYS_OF_CUSTOMER_MAX) {
            return Err(Rejection::TooManyKeys { user: key.user });
        }
        Ok(())
    }

    pub(super) fn apply_key_kept(&mut self, at: Timestamp, lsn: Lsn, kept: &KeyKept) {
        if self.keys.generations.is_empty() {
            self.keys.generations.push_back(Generation::new(lsn, at, 0));
        }
        let &KeyKept { user, hash, fingerprint, ref answer } = kept;
        let answer = answer.clone();
        let before = self.keys.newest_keys().insert((user, hash), Kept { fingerprint, answer });
        assert!(before.is_none(), "a key was kept twice: {kept:?}");
        self.keys.count += 1;
    }

    pub(super) fn undo_key_kept(&mut self, kept: &KeyKept) {
        let newest = self.keys.newest_keys();
        newest.remove(&(kept.user, kept.hash)).expect("it was kept");
        // Every other generation began with a record of its own, some time after the first.
        if newest.is_empty() && self.keys.newest_began_ms() == 0 {
            self.keys.generations.pop_back();
        }
        self.keys.count -= 1;
    }

    pub(super) fn apply_keys_aged(&mut self, at: Timestamp, lsn: Lsn, since_ms: u32) {
        let outlived = self.keys.outlived(since_ms);
        let began_ms = self.keys.newest_began_ms() + u64::from(since_ms);
        for generation in self.keys.generations.drain(..outlived) {
            self.keys.count -= generation.keys.len() as u64;
        }
        self.keys.generations.push_back(Generation::new(lsn, at, began_ms));
    }

    /// The generations that a record would drop.
    pub(super) fn generations_to_undo(&self, since_ms: u32) -> DroppedGenerations {
        let outlived = self.keys.outlived(since_ms);
        DroppedGenerations(self.keys.generations.range(..outlived).cloned().collect())
    }

    pub(super) fn undo_keys_aged(&mut self, dropped: DroppedGenerations) {
        let newest = self.keys.generations.pop_back().expect("the record began a generation");
        assert!(newest.keys.is_empty(), "later records are undone before");
        for generation in dropped.0.into_iter().rev() {
            self.keys.count += generation.keys.len() as u64;
            self.keys.generations.push_front(generation);
        }
    }

    /// The outcome that was given first, though things have changed since.
    pub(super) fn replayed(&self, user: UserId, answer: &Answer) -> Outcome {
        let view = |id, quantity, expires_at: Option<Timestamp>, buyer| {
            let status =
                if expires_at.is_some() { ReservationStatus::Held } else { ReservationStatus::Confirmed };
            let cancelled_at = None;
            let now = self.reservation_view(id);
            Outcome::Reservation(ReservationView { buyer, quantity, status, expires_at, cancelled_at, ..now })
        };
        let first = match *answer {
            Answer::Reservation { id, quantity } => view(id, quantity, None, Buyer::Account(user)),
            Answer::Hold { id, quantity, deadline } => {
                view(id, quantity, Some(deadline), Buyer::Account(user))
            }
            Answer::OfAnother(ref another) => {
                let OfAnother { id, quantity, deadline, ref buyer } = **another;
                view(id, quantity, deadline, buyer.clone())
            }
            Answer::Order { .. } | Answer::HeldOrder { .. } => {
                Outcome::Order(Box::new(self.order_as_answered(answer)))
            }
            Answer::EventId(event) => Outcome::GivenEventId(Some(event)),
        };
        Outcome::Replayed(Box::new(first))
    }

    /// What has to be kept to give a decision's answer again.
    fn answer_of(&self, user: UserId, outcome: &OutcomeRef, records: &[Record]) -> Answer {
        if let OutcomeRef::Order(id) = *outcome {
            return self.answer_about_order(id, records);
        }
        let OutcomeRef::Reservation(id) = *outcome else {
            unreachable!("no key is taken for a command that leads to {outcome:?}")
        };
        let (quantity, deadline, buyer) = match records {
            [Record::Reserved { buyer, quantity, .. }] => (*quantity, None, buyer.clone()),
            [Record::Held(held)] => {
                let Held { buyer, quantity, deadline, .. } = &**held;
                (*quantity, Some(*deadline), buyer.clone())
            }
            [Record::Confirmed { given_back, .. }] => {
                let ReservationView { quantity, buyer, .. } = self.reservation_view(id);
                (quantity - given_back, None, buyer)
            }
            [Record::Transferred(transferred)] => {
                let quantity = match transferred.part {
                    Some(part) => part.quantity,
                    None => self.reservation_view(id).quantity,
                };
                (quantity, None, transferred.to.clone())
            }
            // It is as the command wants it already.
            [] => {
                let ReservationView { quantity, buyer, .. } = self.reservation_view(id);
                (quantity, None, buyer)
            }
            other => unreachable!("no key is taken for a command that makes {other:?}"),
        };
        Answer::of(user, id, quantity, deadline, buyer)
    }

    /// The view of an event as it was when it was created.
    pub(super) fn event_as_created(&self, id: EventId, organizer: UserId, details: EventDetails) -> Outcome {
        let created_at = self.event_view(id).created_at;
        let remaining = details.quota;
        let first = EventView {
            id,
            organizer,
            details,
            reserved: 0,
            held: 0,
            remaining,
            version: 1,
            created_at,
            updated_at: created_at,
        };
        Outcome::Replayed(Box::new(Outcome::Event(Box::new(first))))
    }
}

fn kept(key: &IdempotencyKey, answer: Answer) -> Record {
    let &IdempotencyKey { user, is_bounded: _, hash, fingerprint } = key;
    Record::KeyKept(Box::new(KeyKept { user, hash, fingerprint, answer }))
}
