//! The slot of each event and account, and the owner of each slot.
//!
//! Every log depends on the hash from ids to slots: it must never change.

use std::fmt;

use twox_hash::XxHash3_64;

use crate::ids::{EventId, Slot, UserId, Username};
use crate::limits::{SHARD_COUNT_MAX, SLOT_COUNT};

/// The slot of an event and of all its reservations.
pub fn slot_of_event(event: EventId) -> Slot {
    slot_of_bytes(&u64::from(event.0).to_le_bytes())
}

/// The slot for the data of a user beside account and events: idempotency keys, orders. The account itself is
/// in the slot of its username, which does not follow from the id.
pub fn slot_of_user(user: UserId) -> Slot {
    slot_of_bytes(&u64::from(user.0).to_le_bytes())
}

/// The slot of an account.
pub fn slot_of_username(username: &Username) -> Slot {
    slot_of_bytes(username.as_str().as_bytes())
}

/// The shard that owns a slot after a start with `shard_count` shards. Used in recovery, where a directory is
/// opened without a server, and to make [`Owners`]. All other code asks `Owners`.
pub fn shard_of_slot(slot: Slot, shard_count: usize) -> usize {
    slot.index() % shard_count
}

fn slot_of_bytes(bytes: &[u8]) -> Slot {
    const _: () = assert!(SLOT_COUNT == 256, "a slot is one byte of the hash");
    Slot(XxHash3_64::oneshot_with_seed(0, bytes).to_le_bytes()[0])
}

/// The owner of each slot: the index of its shard and core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owners {
    of: [u8; SLOT_COUNT],
}

impl Owners {
    /// The owners after a start with `shard_count` shards.
    pub fn by_modulo(shard_count: usize) -> Owners {
        const _: () = assert!(SHARD_COUNT_MAX <= u8::MAX as usize, "a shard's index fits one byte");
        assert!((1..=SHARD_COUNT_MAX).contains(&shard_count), "{shard_count} shards");
        let of = std::array::from_fn(|slot| shard_of_slot(Slot(slot as u8), shard_count) as u8);
        Owners { of }
    }

    pub fn of(&self, slot: Slot) -> usize {
        usize::from(self.of[slot.index()])
    }

    pub fn slots_of(&self, owner: usize) -> SlotSet {
        SlotSet::all().iter().filter(|&slot| self.of(slot) == owner).collect()
    }

    /// The owners of at least one slot, in ascending order.
    pub fn distinct(&self) -> impl Iterator<Item = usize> {
        let mut owns = [false; u8::MAX as usize + 1];
        self.of.iter().for_each(|&owner| owns[usize::from(owner)] = true);
        owns.into_iter().enumerate().filter_map(|(owner, owns)| owns.then_some(owner))
    }
}

/// A set of slots, one bit for each.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct SlotSet([u64; SLOT_COUNT / 64]);

impl SlotSet {
    pub const EMPTY: SlotSet = SlotSet([0; SLOT_COUNT / 64]);

    pub fn all() -> SlotSet {
        SlotSet([u64::MAX; SLOT_COUNT / 64])
    }

    pub fn insert(&mut self, slot: Slot) {
        self.0[slot.index() / 64] |= 1 << (slot.index() % 64);
    }

    pub fn remove(&mut self, slot: Slot) {
        self.0[slot.index() / 64] &= !(1 << (slot.index() % 64));
    }

    pub fn contains(&self, slot: Slot) -> bool {
        self.0[slot.index() / 64] & 1 << (slot.index() % 64) != 0
    }

    #[must_use]
    pub fn union(&self, other: &SlotSet) -> SlotSet {
        SlotSet(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    pub fn is_disjoint(&self, other: &SlotSet) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, its)| mine & its == 0)
    }

    /// Whether the set has every slot.
    pub fn is_full(&self) -> bool {
        *self == SlotSet::all()
    }

    /// The slots in ascending order.
    pub fn iter(self) -> impl Iterator<Item = Slot> {
        (0..=u8::MAX).map(Slot).filter(move |&slot| self.contains(slot))
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> SlotSet {
        let mut set = SlotSet::default();
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
    fn the_four_events_of_the_demonstration_split_two_and_two() {
        let shards = [1, 2, 3, 4].map(|id| shard_of_slot(slot_of_event(EventId(id)), 2));
        assert_eq!(shards.iter().filter(|&&shard| shard == 0).count(), 2, "{shards:?}");
    }

    #[test]
    fn every_slot_has_one_owner() {
        for shard_count in 1..=SHARD_COUNT_MAX {
            let owners = Owners::by_modulo(shard_count);
            assert_eq!(owners.distinct().collect::<Vec<_>>(), (0..shard_count).collect::<Vec<_>>());
            let mut covered = SlotSet::default();
            for owner in owners.distinct() {
                let slots = owners.slots_of(owner);
                assert!(slots.iter().all(|slot| owners.of(slot) == owner));
                assert!(slots.is_disjoint(&covered), "{shard_count} shards: a slot has two owners");
                covered = covered.union(&slots);
            }
            assert!(covered.is_full(), "{shard_count} shards: a slot has no owner");
        }
    }

    #[test]
    fn a_set_has_what_was_inserted() {
        let slots = [0, 1, 63, 64, 127, 128, 200, 255].map(Slot);
        let set: SlotSet = slots.into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), slots);
        assert!(slots.iter().all(|&slot| set.contains(slot)) && !set.contains(Slot(2)));
        let others: SlotSet = SlotSet::all().iter().filter(|&slot| !set.contains(slot)).collect();
        assert!(set.is_disjoint(&others) && !set.is_disjoint(&set));
        assert!(set.union(&others).is_full());
        let mut rest = others;
        rest.insert(Slot(0));
        assert!(!rest.is_disjoint(&set));
        rest.remove(Slot(0));
        assert_eq!(rest, others);
        // Without any one slot, the set is not full.
        for missing in SlotSet::all().iter() {
            let rest: SlotSet = SlotSet::all().iter().filter(|&slot| slot != missing).collect();
            assert!(!rest.is_full(), "without slot {missing}");
        }
    }
}
