//! The slots that a shard owns, and the index that is derived from them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::by_customer::ByCustomer;
use super::reservations::subtract;
use super::{Decision, Heard, SlotState, Undo};
use crate::clock::Now;
use crate::command::{Buyer, Command, OrderMessage, Query};
use crate::ids::{EventId, Lsn, ReservationId, Slot, Timestamp, UserId};
use crate::limits::SLOT_COUNT;
use crate::outcome::{Outcome, Part, Rejection, Reply, ReservationView, Totals};
use crate::record::{Gain, Record};
use crate::slots::{SlotSet, slot_of_event};

/// The state of a shard.
#[derive(Debug, PartialEq, Eq)]
pub struct ShardState {
    /// The state of each slot; `None` where another shard owns it.
    slots: Box<[Option<Box<SlotState>>; SLOT_COUNT]>,
    /// The reservations in these slots, by customer. It is derived from the states of the slots and is not a
    /// part of them. It is extended when a slot is adopted. An index for each slot would cost more memory,
    /// and double the time of a reservation.
    pub(super) reservations_of: ByCustomer,
    /// The slots of the accounts in these slots. Derived in the same way: an id does not tell its slot, and looking
    /// into all of them takes a hundred times as long.
    slots_of_users: BTreeMap<UserId, Slot>,
    /// The number of reservations that each organizer has made for buyers without an account, in all slots.
    made_for_others: BTreeMap<UserId, u32>,
    /// The number of reservations of each customer that nobody sees any more, in all slots: those are not in
    /// `reservations_of`, so that no list looks at them.
    aborted: BTreeMap<UserId, u32>,
    /// The number of idempotency keys in all slots.
    key_count: u64,
}

impl Default for ShardState {
    /// The state of a shard without slots.
    fn default() -> ShardState {
        ShardState {
            slots: Box::new([const { None }; SLOT_COUNT]),
            reservations_of: ByCustomer::default(),
            slots_of_users: BTreeMap::new(),
            made_for_others: BTreeMap::new(),
            aborted: BTreeMap::new(),
            key_count: 0,
        }
    }
}

impl ShardState {
    /// Makes empty states of these slots.
    pub fn owning(slots: SlotSet) -> ShardState {
        let mut state = ShardState::default();
        slots.iter().for_each(|slot| state.adopt(slot, SlotState::default()));
        state
    }

    /// Takes over a slot with its state.
    pub fn adopt(&mut self, slot: Slot, state: SlotState) {
        for (customer, id) in state.reservations_by_customer() {
            match state.is_aborted(id) {
                true => *self.aborted.entry(customer).or_default() += 1,
                false => self.reservations_of.insert(customer.0, id),
            }
        }
        for (&organizer, &count) in &state.made_for_others {
            *self.made_for_others.entry(organizer).or_default() += count;
        }
        self.slots_of_users.extend(state.users().map(|user| (user, slot)));
        self.key_count += state.key_count();
        let before = self.slots[slot.index()].replace(Box::new(state));
        assert!(before.is_none(), "slot {slot} was adopted twice");
    }

    /// Gives up a slot; `None` if it is not owned.
    pub fn release(&mut self, slot: Slot) -> Option<SlotState> {
        let state = *self.slots[slot.index()].take()?;
        for (customer, id) in state.reservations_by_customer() {
            match state.is_aborted(id) {
                true => subtract(&mut self.aborted, customer, 1),
                false => self.reservations_of.remove(customer.0, id),
            }
        }
        for (&organizer, &count) in &state.made_for_others {
            subtract(&mut self.made_for_others, organizer, count);
        }
        for user in state.users() {
            self.slots_of_users.remove(&user);
        }
        self.key_count -= state.key_count();
        Some(state)
    }

    pub fn owned(&self) -> SlotSet {
        let owned = self.slots.iter().enumerate().filter(|(_, state)| state.is_some());
        owned.map(|(index, _)| Slot(index as u8)).collect()
    }

    pub fn slot(&self, slot: Slot) -> Option<&SlotState> {
        self.slots[slot.index()].as_deref()
    }

    /// Decides a command, without changing the state.
    pub fn decide(&self, now: Now, slot: Slot, command: Command) -> Decision {
        match self.slot(slot) {
            Some(state) => state.decide(now, command, &self.reservations_of),
            None => Rejection::Elsewhere.into(),
        }
    }

    /// Calls [`SlotState::apply`]. The slot must be owned.
    pub fn apply(&mut self, slot: Slot, at: Timestamp, lsn: Lsn, record: &Record) -> Lsn {
        if let &Record::Reserved { id, buyer: Buyer::Account(customer), .. } = record {
            // By far the most frequent.
            self.reservations_of.insert(customer.0, id);
            return self.slot_mut(slot).apply(at, lsn, record);
        }
        if let Some((customer, id)) = self.slot_mut(slot).customer_who_gives(record) {
            self.reservations_of.remove(customer.0, id);
        }
        match record.gain() {
            Some(Gain { id, buyer: Buyer::Account(customer), .. }) => {
                self.reservations_of.insert(customer.0, id);
            }
            Some(Gain { by, is_new: true, .. }) => *self.made_for_others.entry(by.user).or_default() += 1,
            Some(_) | None => {}
        }
        if let Some((customer, id)) = self.slot_mut(slot).customer_of_aborted(record) {
            self.reservations_of.remove(customer.0, id);
            *self.aborted.entry(customer).or_default() += 1;
        }
        if let Record::UserCreated(user) = record {
            self.slots_of_users.insert(user.id, slot);
        }
        self.change(slot, record, |state| state.apply(at, lsn, record))
    }

    /// Calls [`SlotState::undo`]. Different slots may be undone in any order.
    pub fn undo(&mut self, slot: Slot, previous: Lsn, record: &Record, undo: Undo) {
        self.change(slot, record, |state| state.undo(previous, record, undo));
        match record.gain() {
            Some(Gain { id, buyer: Buyer::Account(customer), .. }) => {
                self.reservations_of.remove(customer.0, id);
            }
            Some(Gain { by, is_new: true, .. }) => subtract(&mut self.made_for_others, by.user, 1),
            Some(_) | None => {}
        }
        if let Some((customer, id)) = self.slot_mut(slot).customer_who_gives(record) {
            self.reservations_of.insert(customer.0, id);
        }
        if let Some((customer, id)) = self.slot_mut(slot).customer_of_aborted(record) {
            self.reservations_of.insert(customer.0, id);
            subtract(&mut self.aborted, customer, 1);
        }
        if let Record::UserCreated(user) = record {
            self.slots_of_users.remove(&user.id);
        }
    }

    /// Applies or undoes a record, and counts the keys anew if it is one of keys.
    fn change<T>(&mut self, slot: Slot, record: &Record, change: impl FnOnce(&mut SlotState) -> T) -> T {
        let state = self.slot_mut(slot);
        if !matches!(record, Record::KeyKept(_) | Record::KeysAged { .. }) {
            return change(state);
        }
        let before = state.key_count();
        let result = change(state);
        let after = state.key_count();
        self.key_count = self.key_count - before + after;
        result
    }

    fn slot_mut(&mut self, slot: Slot) -> &mut SlotState {
        self.slots[slot.index()].as_mut().expect("a record belongs to an owned slot")
    }

    fn states(&self) -> impl Iterator<Item = &SlotState> {
        self.slots.iter().flatten().map(|state| &**state)
    }

    /// Answers a query. The answer to a query over all slots is an [`Outcome::Part`] for the owned ones.
    ///
    /// # Errors
    ///
    /// A rejection, if the subject does not exist or the actor may not see it.
    pub fn query(&self, query: &Query) -> Reply {
        if let Some(slot) = query.slot() {
            return self.slot(slot).ok_or(Rejection::Elsewhere)?.query(query);
        }
        let outcome = match *query {
            Query::AccountOf { user } => {
                Outcome::Account(self.state_of_user(user).and_then(|state| state.account_of(user)))
            }
            Query::Users { after, limit } => {
                let users = self.merged(limit, |state| state.users_after(after));
                Outcome::Users(users.into_iter().map(|(state, user)| state.user_view_of(user)).collect())
            }
            Query::Usernames { ref users } => {
                let known = users.iter().filter_map(|&user| {
                    let username = self.state_of_user(user)?.username_of(user)?;
                    Some((user, username))
                });
                Outcome::Usernames(known.collect())
            }
            Query::Events { after, limit, organizer } => {
                let events = match organizer {
                    Some(organizer) => self.merged(limit, |state| state.events_of_after(organizer, after)),
                    None => self.merged(limit, |state| state.events_after(after)),
                };
                Outcome::Events(events.into_iter().map(|(state, event)| state.event_view(event)).collect())
            }
            Query::Availabilities { ref events } => {
                let known = events.iter().filter_map(|&event| {
                    let state = self.slot(slot_of_event(event))?;
                    state.availability(event)
                });
                Outcome::Availabilities(known.collect())
            }
            Query::ChangedEvents { organizer, ref after } => {
                let owned = self.owned();
                let slots = owned.iter().filter_map(|slot| Some((self.slot(slot)?, after[slot.index()])));
                let changed = slots.flat_map(|(state, after)| state.events_changed_after(organizer, after));
                Outcome::ChangedEvents(changed.collect())
            }
            Query::CustomerReservations { customer, after, limit } => {
                let ids = self.reservations_of.after(customer.0, after);
                let ids = ids.filter(|id| self.shows(*id)).take(limit);
                Outcome::Reservations(ids.map(|id| self.reservation_view(id)).collect())
            }
            Query::Parts { ref parts } => {
                let known = parts.iter().filter(|part| self.shows(**part));
                Outcome::Reservations(known.map(|&part| self.reservation_view(part)).collect())
            }
            Query::EventsCreated { organizer } => {
                let counts = self.states().map(|state| u64::from(state.events_created_by(organizer)));
                Outcome::EventsCreated(counts.sum())
            }
            Query::Totals => Outcome::Totals(self.totals()),
            Query::Account { .. }
            | Query::TokenStands { .. }
            | Query::ApiKeysStand { .. }
            | Query::Event { .. }
            | Query::Availability { .. }
            | Query::Watch { .. }
            | Query::GivenEventId { .. }
            | Query::ApiKey { .. }
            | Query::ApiKeys { .. }
            | Query::Reservation { .. }
            | Query::Order { .. }
            | Query::Orders { .. }
            | Query::Changes { .. }
            | Query::EventReservations { .. } => unreachable!("{query:?} is about one slot"),
        };
        Ok(Outcome::Part(Box::new(Part { slots: self.owned(), outcome })))
    }

    /// The state that has an account.
    fn state_of_user(&self, user: UserId) -> Option<&SlotState> {
        self.slot(*self.slots_of_users.get(&user)?)
    }

    /// Whether an account has `count` reservations or more in the owned slots: cancelled ones included, and those that
    /// refused orders have left.
    pub fn has_reservations(&self, account: UserId, count: u32) -> bool {
        let aborted = self.aborted.get(&account).copied().unwrap_or(0);
        self.reservations_of.has_as_many(account.0, count.saturating_sub(aborted) as usize)
    }

    /// Whether an account has made `count` reservations or more in the owned slots for buyers without an account,
    /// cancelled ones included.
    pub fn has_made_for_others(&self, account: UserId, count: u32) -> bool {
        self.made_for_others.get(&account).copied().unwrap_or(0) >= count
    }

    /// The number of idempotency keys in the owned slots.
    pub fn key_count(&self) -> u64 {
        self.key_count
    }

    /// The highest event id and user id in use, or given to a key; 0 for none. New ids continue after them.
    pub fn highest_ids(&self) -> (EventId, UserId) {
        self.states()
            .map(SlotState::highest_ids)
            .fold((EventId(0), UserId(0)), |highest, ids| (highest.0.max(ids.0), highest.1.max(ids.1)))
    }

    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for state in self.states() {
            state.add_to(&mut totals);
        }
        totals
    }

    /// Decides a message to the owner of an event; `None` if the slot is not owned.
    pub fn hear_of_part(&self, now: Now, slot: Slot, message: &OrderMessage) -> Option<Heard> {
        Some(self.slot(slot)?.hear_of_part(now, message, &self.reservations_of))
    }

    fn shows(&self, id: ReservationId) -> bool {
        self.slot(slot_of_event(id.event)).is_some_and(|state| state.shows(id))
    }

    /// The view of a reservation in the index.
    fn reservation_view(&self, id: ReservationId) -> ReservationView {
        let state =
            self.slot(slot_of_event(id.event)).expect("the index only has reservations of owned slots");
        state.reservation_view(id)
    }

    /// Merges the keys of all slots: the smallest `limit` of them in order, each with its slot's state.
    /// `list` returns a slot's keys in order.
    fn merged<'s, K: Ord, L: Iterator<Item = K>>(
        &'s self,
        limit: usize,
        list: impl Fn(&'s SlotState) -> L,
    ) -> Vec<(&'s SlotState, K)> {
        let mut lists: Vec<(&SlotState, L)> = self.states().map(|state| (state, list(state))).collect();
        let firsts = lists.iter_mut().enumerate();
        let firsts = firsts.filter_map(|(index, (_, keys))| Some(Reverse((keys.next()?, index))));
        let mut next: BinaryHeap<_> = firsts.collect();
        let mut merged = Vec::new();
        while merged.len() < limit
            && let Some(Reverse((key, index))) = next.pop()
        {
            let (state, keys) = &mut lists[index];
            merged.push((*state, key));
            next.extend(keys.next().map(|key| Reverse((key, index))));
        }
        merged
    }
}
