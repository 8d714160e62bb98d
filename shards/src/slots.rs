//! Slots: the stable hash that gives each event, account and user its slot, and sets of slots.
//!
//! The hash is written into every log for ever: it may not change.

use std::fmt;

use twox_hash::XxHash3_64;

use crate::ids::{EventId, Slot, UserId, Username};
use crate::limits::SLOT_COUNT;

/// The slot of an event and of all its reservations.
pub fn slot_of_event(event: EventId) -> Slot {
    slot_of_bytes(&u64::from(event.0).to_le_bytes())
}

/// The home of what a user has beside accounts and events: idempotency keys, orders. An account
/// itself lies on its username's slot, which an id does not give.
pub fn slot_of_user(user: UserId) -> Slot {
    slot_of_bytes(&u64::from(user.0).to_le_bytes())
}

/// The slot of an account.
pub fn slot_of_username(username: &Username) -> Slot {
    slot_of_bytes(username.as_str().as_bytes())
}

/// The index of the shard that owns a slot among `shard_count` shards.
pub fn shard_of_slot(slot: Slot, shard_count: usize) -> usize {
    slot.index() % shard_count
}

fn slot_of_bytes(bytes: &[u8]) -> Slot {
    const _: () = assert!(SLOT_COUNT == 256, "a slot is one byte of the hash");
    Slot(XxHash3_64::oneshot_with_seed(0, bytes).to_le_bytes()[0])
}

/// A set of slots, in 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct SlotSet {
    words: [u64; SLOT_COUNT / 64],
}

impl SlotSet {
    pub const EMPTY: SlotSet = SlotSet { words: [0; SLOT_COUNT / 64] };

    pub fn insert(&mut self, slot: Slot) {
        self.words[slot.index() / 64] |= 1 << (slot.index() % 64);
    }

    pub fn remove(&mut self, slot: Slot) {
        self.words[slot.index() / 64] &= !(1 << (slot.index() % 64));
    }

    pub fn contains(&self, slot: Slot) -> bool {
        self.words[slot.index() / 64] & (1 << (slot.index() % 64)) != 0
    }

    pub fn is_empty(&self) -> bool {
        *self == SlotSet::EMPTY
    }

    /// Whether all slots are in it.
    pub fn is_full(&self) -> bool {
        self.words.iter().all(|&word| word == u64::MAX)
    }

    pub fn is_disjoint(&self, other: &SlotSet) -> bool {
        self.words.iter().zip(&other.words).all(|(one, other)| one & other == 0)
    }

    #[must_use]
    pub fn union(mut self, other: &SlotSet) -> SlotSet {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
        self
    }

    /// Ascending.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + use<> {
        let set = *self;
        (0..=u8::MAX).map(Slot).filter(move |&slot| set.contains(slot))
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> SlotSet {
        let mut set = SlotSet::EMPTY;
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|slot| slot.0)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_never_change() {
        let events = [1, 2, 3, 4, 5, 1000, u32::MAX].map(|id| slot_of_event(EventId(id)).0);
        assert_eq!(events, [46, 67, 125, 120, 140, 141, 137]);
        let names = ["admin", "org1", "cust1"].map(|name| slot_of_username(&Username::new(name).unwrap()).0);
        assert_eq!(names, [63, 88, 251]);
        let users = [1, 2, 3, 1000, u32::MAX].map(|id| slot_of_user(UserId(id)).0);
        assert_eq!(users, [46, 67, 125, 141, 137]);
    }

    #[test]
    fn a_set_has_what_was_inserted() {
        let some: SlotSet = [0, 63, 64, 255].map(Slot).into_iter().collect();
        assert_eq!(some.iter().map(|slot| slot.0).collect::<Vec<_>>(), [0, 63, 64, 255]);
        assert!(some.contains(Slot(64)) && !some.contains(Slot(65)));
        let mut rest = SlotSet::EMPTY;
        (0..=u8::MAX).map(Slot).filter(|&slot| !some.contains(slot)).for_each(|slot| rest.insert(slot));
        assert!(some.is_disjoint(&rest) && some.union(&rest).is_full() && !rest.is_full());
        rest.insert(Slot(0));
        assert!(!some.is_disjoint(&rest));
        rest.remove(Slot(0));
        assert!(some.is_disjoint(&rest) && SlotSet::EMPTY.is_empty() && !some.is_empty());
    }

    #[test]
    fn the_four_events_of_the_demonstration_split_two_and_two() {
        let shards = [1, 2, 3, 4].map(|id| shard_of_slot(slot_of_event(EventId(id)), 2));
        assert_eq!(shards.iter().filter(|&&shard| shard == 0).count(), 2, "{shards:?}");
    }
}
