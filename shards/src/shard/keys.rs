//! Idempotency keys of a shard: how many it keeps, and when a slot begins a new generation of them.

mod ages;
mod forgotten;

use std::time::Duration;

use smallvec::smallvec;

use super::Shard;
use crate::clock::Now;
use crate::command::IdempotencyKey;
use crate::ids::Slot;
use crate::limits::{KEY_GENERATION, KEY_KEPT};
use crate::outcome::Rejection;
use crate::record::Record;
use crate::state::Decision;
pub(in crate::shard) use ages::KeyAges;
pub(in crate::shard) use forgotten::ForgottenKeys;

impl<A> Shard<A> {
    /// Checks that a key is kept already, or can be.
    pub(super) fn check_room_for_key(&self, slot: Slot, key: &IdempotencyKey) -> Result<(), Rejection> {
        let keeps = || self.state.slot(slot).is_some_and(|state| state.keeps(key));
        if self.state.key_count() >= self.keys_max && !keeps() {
            return Err(Rejection::NoRoomForKeys);
        }
        Ok(())
    }

    /// Makes the key of a decision the first one of another generation, if the slot's newest one is old enough.
    pub(super) fn begin_generation_if_due(&mut self, now: Now, slot: Slot, decision: &mut Decision) {
        if let Some(aged) = self.due_generation(now, slot) {
            decision.records.insert(0, aged);
            self.forgotten_keys.expect_one();
        }
    }

    /// Notes that a decision which keeps a key was carried out.
    pub(super) fn note_kept_key(&mut self, now: Now, slot: Slot) {
        self.note_generation(now, slot);
        // The slot may have older generations. The next look finds the right time.
        self.keys_due_at.get_or_insert(now.elapsed);
    }

    /// Notes that a slot was taken over, maybe with keys.
    pub(super) fn take_over_keys(&mut self, slot: Slot) {
        if self.state.slot(slot).is_some_and(|state| state.key_count() > 0) {
            self.keys_due_at = Some(Duration::ZERO);
        }
    }

    /// Notes that the records which are not committed were undone. Generations that they began are due again.
    pub(super) fn note_undone_keys(&mut self) {
        self.forgotten_keys.expect_none();
        if self.state.key_count() > 0 {
            self.keys_due_at = Some(Duration::ZERO);
        }
    }

    /// Ages keys, if a slot may need it.
    pub(super) fn age_keys_if_due(&mut self, now: Now) {
        if self.read_only.is_none() && self.keys_due_at.is_some_and(|at| at <= now.elapsed) {
            self.age_keys(now);
            self.keys_due_at = self.keys_due(now);
        }
    }

    /// The time since the process started at which [`Shard::age_keys`] has something to do; `None` while no key is
    /// kept.
    fn keys_due(&mut self, now: Now) -> Option<Duration> {
        let (state, ages) = (&self.state, &mut self.key_ages);
        let with_keys = state.owned().iter().filter_map(|slot| Some((slot, state.slot(slot)?)));
        let with_keys = with_keys.filter(|(_, state)| state.key_count() > 0);
        let newest = with_keys.filter_map(|(slot, state)| Some((slot, state.generations()?.1)));
        let left = newest.map(|(slot, newest)| KEY_GENERATION.saturating_sub(ages.age(slot, newest, now)));
        left.min().map(|left| now.elapsed + left)
    }

    /// Begins a new generation of keys in each slot where one is due, so that keys are forgotten also where no new ones
    /// come.
    fn age_keys(&mut self, now: Now) {
        for slot in self.owned().iter() {
            let has_keys = self.state.slot(slot).is_some_and(|state| state.key_count() > 0);
            if let Some(aged) = self.due_generation(now, slot).filter(|_| has_keys) {
                self.forgotten_keys.expect_one();
                self.log_all(now.wall, slot, smallvec![aged]);
                self.note_generation(now, slot);
            }
        }
    }

    /// The record that begins a new generation, if the newest one is old enough.
    fn due_generation(&mut self, now: Now, slot: Slot) -> Option<Record> {
        let (_, newest) = self.state.slot(slot)?.generations()?;
        let age = self.key_ages.age(slot, newest, now);
        let since_ms = age.min(KEY_KEPT).as_millis() as u32;
        (age >= KEY_GENERATION).then_some(Record::KeysAged { since_ms })
    }

    fn note_generation(&mut self, now: Now, slot: Slot) {
        if let Some((oldest, newest)) = self.state.slot(slot).and_then(|state| state.generations()) {
            self.key_ages.begin(slot, oldest, newest, now);
        }
    }
}

#[cfg(test)]
mod tests;
