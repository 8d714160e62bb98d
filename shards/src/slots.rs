//! Where a thing lives: stable hash to a slot, slot to a shard.
//!
//! The hash is written into every log for ever: it may not change.

use twox_hash::XxHash3_64;

use crate::ids::{EventId, Slot, Username};
use crate::limits::SLOT_COUNT;

/// The slot of an event and of all its reservations.
pub fn slot_of_event(event: EventId) -> Slot {
    slot_of_bytes(&u64::from(event.0).to_le_bytes())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_never_change() {
        let events = [1, 2, 3, 4, 5, 1000, u32::MAX].map(|id| slot_of_event(EventId(id)).0);
        assert_eq!(events, [46, 67, 125, 120, 140, 141, 137]);
        let names = ["admin", "org1", "cust1"].map(|name| slot_of_username(&Username::new(name).unwrap()).0);
        assert_eq!(names, [63, 88, 251]);
    }

    #[test]
    fn the_four_events_of_the_demonstration_split_two_and_two() {
        let shards = [1, 2, 3, 4].map(|id| shard_of_slot(slot_of_event(EventId(id)), 2));
        assert_eq!(shards.iter().filter(|&&shard| shard == 0).count(), 2, "{shards:?}");
    }
}
