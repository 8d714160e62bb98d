//! Idempotency keys: every life of each key, from the record that keeps it until its generation is dropped, and the
//! replies that are right for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Exchange, Violation};
use crate::command::{Buyer, IdempotencyKey};
use crate::ids::{Lsn, OrderId, ReservationId, Role, Slot, UserId};
use crate::limits::KEYS_OF_CUSTOMER_MAX;
use crate::outcome::{OrderStatus, OrderView, Outcome, ReservationStatus, ReservationView};
use crate::record::{Answer, Entry, KeyKept, OfAnother, Record};
use crate::simulation::workload::role_of;

const HOUR: Duration = Duration::from_hours(1);
const DAY_MS: u64 = 24 * 3_600_000;
/// The time that may pass between the moment at which a command is decided and the commit of its records.
const COMMIT_MAX: Duration = Duration::from_mins(15);

/// A key as the oracle names it.
pub(in crate::simulation) type KeyName = (UserId, [u8; 16]);

/// A moment of the world: the time that has really passed since it began, and the number of the process.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::simulation) struct Moment {
    pub(in crate::simulation) time: Duration,
    pub(in crate::simulation) process: u64,
}

#[derive(Debug, Default)]
pub(super) struct Keys {
    now: Moment,
    /// The most keys of a shard.
    max: u64,
    lives: BTreeMap<KeyName, Vec<Life>>,
    slots: BTreeMap<Slot, SlotKeys>,
    /// Requests with keys that were sent, by their fingerprints.
    sent: BTreeSet<(KeyName, u64)>,
}

#[derive(Debug)]
struct Life {
    slot: Slot,
    fingerprint: u64,
    first: Outcome,
    since: Moment,
    /// The step from which on some client knows that the key is kept.
    known: Option<u64>,
    is_over: bool,
}

/// What a record changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changed {
    Reservation(ReservationId),
    Order(OrderId),
}

/// What the records of a slot say.
#[derive(Debug, Default)]
struct SlotKeys {
    /// The beginning of each generation since the first, in milliseconds, and the keys that it still has.
    generations: Vec<(u64, Vec<KeyName>)>,
    /// The slot's last record, and what it changed if the next record has to be its key.
    last: (Lsn, Option<Changed>),
}

impl Keys {
    pub(super) fn new(max: u64) -> Keys {
        Keys { max, ..Keys::default() }
    }

    pub(super) fn pass(&mut self, now: Moment) {
        self.now = now;
    }

    pub(super) fn sent(&mut self, key: &IdempotencyKey) {
        self.sent.insert((name(key), key.fingerprint));
    }

    pub(super) fn count(&self) -> u64 {
        self.slots.values().map(SlotKeys::count).sum()
    }

    /// Takes the next record of a slot. `view_of` gives reservations, and `order_of` orders, as they are after the records
    /// before.
    pub(super) fn add(
        &mut self,
        entry: &Entry,
        view_of: impl Fn(ReservationId) -> Option<ReservationView>,
        order_of: impl Fn(OrderId) -> Option<OrderView>,
        owns: impl Fn(Slot) -> bool,
    ) -> Result<(), Violation> {
        let last = &mut self.slots.entry(entry.slot).or_default().last;
        let (before, of_key) = std::mem::replace(last, (entry.lsn, None));
        let of_key = of_key.filter(|_| before.next() == entry.lsn);
        let changed = match &entry.record {
            Record::Reserved { id, .. } | Record::Confirmed { id, .. } => Some(Changed::Reservation(*id)),
            Record::Held(held) => Some(Changed::Reservation(held.id)),
            Record::Transferred(transferred) => Some(Changed::Reservation(transferred.received())),
            Record::OrderPlaced(placed) => Some(Changed::Order(placed.id)),
            Record::OrderConfirmed { id, .. } => Some(Changed::Order(*id)),
            _ => None,
        };
        last.1 = changed.filter(|_| entry.continues);
        match &entry.record {
            Record::KeyKept(kept) => {
                let first = match kept.answer.order() {
                    Some(id) => first_of_order(kept, of_key, order_of(id)),
                    None => first_of_others(kept, of_key, view_of),
                };
                let first = first.ok_or_else(|| format!("not the answer of the record before: {entry:?}"))?;
                self.add_key(entry, kept, first, owns)
            }
            _ if of_key.is_some() => Err(format!("{entry:?} follows a reservation with a key")),
            &Record::KeysAged { since_ms } => self.add_generation(entry, since_ms),
            _ => Ok(()),
        }
    }

    fn add_key(
        &mut self,
        entry: &Entry,
        kept: &KeyKept,
        first: Outcome,
        owns: impl Fn(Slot) -> bool,
    ) -> Result<(), Violation> {
        let wrong = |what: &str| Err(format!("{what}: {entry:?}"));
        let &KeyKept { user, hash, fingerprint, answer: _ } = kept;
        let name = (user, hash);
        if !self.sent.contains(&(name, fingerprint)) {
            return wrong("no client sent this key");
        }
        let lives = self.lives.entry(name).or_default();
        if lives.iter().any(|life| !life.is_over) {
            return wrong("a key was kept twice");
        }
        let (slot, since) = (entry.slot, self.now);
        lives.push(Life { slot, fingerprint, first, since, known: None, is_over: false });
        let of_slot = self.slots.entry(slot).or_default();
        if of_slot.generations.is_empty() {
            of_slot.generations.push((0, Vec::new()));
        }
        of_slot.generations.last_mut().expect("there is one").1.push(name);
        let of_user = of_slot.generations.iter().flat_map(|(_, names)| names).filter(|name| name.0 == user);
        if role_of(user) == Role::Customer && of_user.count() > KEYS_OF_CUSTOMER_MAX {
            return wrong("more keys than a customer may have");
        }
        let owned = self.slots.iter().filter(|&(&slot, _)| owns(slot));
        if owned.map(|(_, keys)| keys.count()).sum::<u64>() > self.max {
            return wrong("more keys than a shard may have");
        }
        Ok(())
    }

    /// Drops generations, and checks that none of their keys is forgotten too early. What the wall clock said across
    /// each start may be wrong, by up to an hour.
    fn add_generation(&mut self, entry: &Entry, since_ms: u32) -> Result<(), Violation> {
        let of_slot = self.slots.entry(entry.slot).or_default();
        let began = of_slot.generations.last().ok_or("no generation comes first")?.0 + u64::from(since_ms);
        of_slot.generations.push((began, Vec::new()));
        let ends: Vec<u64> = of_slot.generations.iter().skip(1).map(|(began, _)| *began).collect();
        let dropped = ends.iter().take_while(|&&end| end + DAY_MS <= began).count();
        for name in of_slot.generations.drain(..dropped).flat_map(|(_, names)| names) {
            let life = self.lives.get_mut(&name).and_then(|lives| lives.last_mut());
            let life = life.expect("a key of a generation has a life");
            let starts = (self.now.process - life.since.process) as u32;
            let age = self.now.time - life.since.time + COMMIT_MAX + HOUR * starts;
            if age < 24 * HOUR {
                return Err(format!("{name:?} is forgotten after {age:?}: {life:?}"));
            }
            life.is_over = true;
        }
        Ok(())
    }

    /// Notes that a client knows from step `now` on that a key is kept.
    pub(super) fn add_known(&mut self, now: u64, name: KeyName) {
        if let Some(life) = self.lives.get_mut(&name).and_then(|lives| lives.last_mut()) {
            life.known.get_or_insert(now);
        }
    }

    /// Checks the answer of a key that is kept: it is the one that was first given to the same request.
    pub(super) fn check_first(
        &self,
        key: &IdempotencyKey,
        first: &Outcome,
        exchange: Exchange<'_>,
    ) -> Result<(), Violation> {
        let mut lives = self.lives.get(&name(key)).into_iter().flatten();
        let is_right = |life: &Life| life.fingerprint == key.fingerprint && life.first == *first;
        lives.any(is_right).then_some(()).ok_or_else(|| self.wrong(key, exchange))
    }

    /// Checks a refusal of a key that was used for another request.
    pub(super) fn check_reused(&self, key: &IdempotencyKey, exchange: Exchange<'_>) -> Result<(), Violation> {
        let mut lives = self.lives.get(&name(key)).into_iter().flatten();
        let is_another = lives.any(|life| life.fingerprint != key.fingerprint);
        is_another.then_some(()).ok_or_else(|| self.wrong(key, exchange))
    }

    /// Checks that an answer may treat a key as one that is not kept: no client knew otherwise when the request was
    /// sent.
    pub(super) fn check_unknown(
        &self,
        key: &IdempotencyKey,
        exchange: Exchange<'_>,
    ) -> Result<(), Violation> {
        let mut lives = self.lives.get(&name(key)).into_iter().flatten();
        let is_kept = |life: &Life| !life.is_over && life.known.is_some_and(|known| known <= exchange.sent);
        if lives.any(is_kept) { Err(self.wrong(key, exchange)) } else { Ok(()) }
    }

    /// Checks a refusal for the number of a customer's keys in a slot.
    pub(super) fn check_too_many(
        &self,
        key: &IdempotencyKey,
        slot: Slot,
        exchange: Exchange<'_>,
    ) -> Result<(), Violation> {
        let lives = self.lives.iter().filter(|((user, _), _)| *user == key.user).flat_map(|(_, lives)| lives);
        let had = lives.filter(|life| life.slot == slot).count();
        if role_of(key.user) != Role::Customer || had < KEYS_OF_CUSTOMER_MAX {
            return Err(self.wrong(key, exchange));
        }
        self.check_unknown(key, exchange)
    }

    /// Checks a refusal for the number of all keys.
    pub(super) fn check_no_room(
        &self,
        key: &IdempotencyKey,
        exchange: Exchange<'_>,
        owns: impl Fn(Slot) -> bool,
    ) -> Result<(), Violation> {
        let lives = self.lives.values().flatten();
        let had = lives.filter(|life| owns(life.slot)).count() as u64;
        if had < self.max { Err(self.wrong(key, exchange)) } else { self.check_unknown(key, exchange) }
    }

    fn wrong(&self, key: &IdempotencyKey, exchange: Exchange<'_>) -> Violation {
        format!("{exchange:?}: wrong for the key with the lives {:#?}", self.lives.get(&name(key)))
    }
}

impl SlotKeys {
    fn count(&self) -> u64 {
        self.generations.iter().map(|(_, names)| names.len() as u64).sum()
    }
}

/// The first answer of a key that is kept with an order.
fn first_of_order(kept: &KeyKept, changed: Option<Changed>, view: Option<OrderView>) -> Option<Outcome> {
    let view = view?;
    let is_right = match kept.answer {
        Answer::HeldOrder { id, deadline } => {
            (view.status, view.expires_at) == (OrderStatus::Held, Some(deadline))
                && changed == Some(Changed::Order(id))
        }
        // Without a record before, it was confirmed already.
        Answer::Order { id } => {
            view.status == OrderStatus::Confirmed
                && changed.is_none_or(|changed| changed == Changed::Order(id))
        }
        Answer::Reservation { .. } | Answer::Hold { .. } | Answer::OfAnother(_) | Answer::EventId(_) => false,
    };
    (is_right && view.id.user == kept.user).then(|| Outcome::Order(Box::new(view)))
}

/// The first answer of a key that is kept with something else.
fn first_of_others(
    kept: &KeyKept,
    changed: Option<Changed>,
    view_of: impl Fn(ReservationId) -> Option<ReservationView>,
) -> Option<Outcome> {
    let own = Buyer::Account(kept.user);
    let (id, quantity, deadline, buyer) = match kept.answer {
        Answer::Reservation { id, quantity } => (id, quantity, None, own),
        Answer::Hold { id, quantity, deadline } => (id, quantity, Some(deadline), own),
        Answer::OfAnother(ref another) => {
            let OfAnother { id, quantity, deadline, buyer } = (**another).clone();
            (id, quantity, deadline, buyer)
        }
        Answer::EventId(event) => {
            return changed.is_none().then_some(Outcome::GivenEventId(Some(event)));
        }
        Answer::Order { .. } | Answer::HeldOrder { .. } => return None,
    };
    let status = if deadline.is_none() { ReservationStatus::Confirmed } else { ReservationStatus::Held };
    let view = view_of(id)?;
    let is_right = (view.status, view.quantity, view.expires_at) == (status, quantity, deadline)
        && view.buyer == buyer
        // Without a record before, it was confirmed already.
        && match changed {
            Some(changed) => changed == Changed::Reservation(id),
            None => status == ReservationStatus::Confirmed,
        };
    is_right.then_some(Outcome::Reservation(view))
}

pub(super) fn name(key: &IdempotencyKey) -> KeyName {
    (key.user, key.hash)
}
