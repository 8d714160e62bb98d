//! The latest committed records of events, kept in memory so that those who follow an event need no disk.
//!
//! Of each event, the newest records are kept, without a gap. When there are too many bytes, the record that was
//! committed first goes first. They are no part of the state: after a start there are none, and the log has all.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::{EventId, Lsn, Slot};
use crate::outcome::RecentChanges;
use crate::record::{Entry, Record};
use crate::slots::slot_of_event;

/// The bytes of the records that a shard keeps, unless it keeps all: some 170,000 sales. With the room in which lists
/// grow, and with what finds the records of an event, they take at most three times as much.
pub const RECENT_BYTES_MAX: usize = 16 << 20;

/// What an entry takes beside its record's own allocations: itself, and its number among those of its event.
const ENTRY_BYTES: usize = size_of::<Entry>() + size_of::<u64>();

const _: () = assert!(ENTRY_BYTES <= 96, "[`RECENT_BYTES_MAX`] says how many sales it has room for");

/// The room for numbers that an event may keep unused, so that few records are moved.
const ROOM_MIN: usize = 64;

#[derive(Debug)]
pub(super) struct Recent {
    /// In the order of commits. May have entries of slots that were given up.
    entries: VecDeque<Entry>,
    /// How many entries were dropped, which is the number of the first that is kept.
    dropped: u64,
    /// The numbers of an event's entries. They are lists of numbers and not of entries, because most events have few,
    /// and the list of an event that had many keeps room.
    of_event: BTreeMap<EventId, VecDeque<u64>>,
    bytes: usize,
    bytes_max: usize,
}

impl Recent {
    pub(super) fn new(bytes_max: usize) -> Recent {
        Recent { entries: VecDeque::new(), dropped: 0, of_event: BTreeMap::new(), bytes: 0, bytes_max }
    }

    /// Adds a committed entry, if it is of an event.
    pub(super) fn add(&mut self, entry: Entry) {
        let Some(event) = entry.record.event() else { return };
        self.bytes += bytes_of(&entry);
        let number = self.dropped + self.entries.len() as u64;
        self.of_event.entry(event).or_default().push_back(number);
        self.entries.push_back(entry);
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.entries.pop_front()
        {
            self.bytes -= bytes_of(&oldest);
            self.forget_number(&oldest);
            self.dropped += 1;
        }
    }

    /// Forgets the number of the oldest entry, unless its slot was given up.
    fn forget_number(&mut self, oldest: &Entry) {
        let Some(event) = oldest.record.event() else { return };
        let Some(numbers) = self.of_event.get_mut(&event) else { return };
        numbers.pop_front_if(|number| *number == self.dropped);
        if numbers.is_empty() {
            self.of_event.remove(&event);
        } else if numbers.capacity() > ROOM_MIN.max(4 * numbers.len()) {
            numbers.shrink_to(2 * numbers.len());
        }
    }

    fn entry(&self, number: u64) -> &Entry {
        &self.entries[(number - self.dropped) as usize]
    }

    /// Shows no records of a slot that is given up: its next owner adds others.
    pub(super) fn give_up(&mut self, slot: Slot) {
        self.of_event.retain(|&event, _| slot_of_event(event) != slot);
    }

    /// At most `limit` records of an event after a position; `None` if some of them are not kept. `position` is the
    /// event's last record, which may not be committed yet.
    pub(super) fn after(
        &self,
        event: EventId,
        after: Lsn,
        position: Lsn,
        limit: usize,
    ) -> Option<RecentChanges> {
        if position <= after {
            return Some(RecentChanges { entries: Vec::new(), complete_to: after });
        }
        let kept = self.of_event.get(&event)?;
        if self.entry(*kept.front()?).previous > after {
            return None;
        }
        let first = kept.partition_point(|&number| self.entry(number).lsn <= after);
        let numbers = kept.range(first..).take(limit);
        let entries: Vec<Entry> = numbers.map(|&number| self.entry(number).clone()).collect();
        let complete_to = entries.last().map_or(after, |entry| entry.lsn);
        Some(RecentChanges { entries, complete_to })
    }
}

fn bytes_of(entry: &Entry) -> usize {
    let boxed = match &entry.record {
        // By far the most frequent.
        Record::Reserved { .. } => 0,
        record => record.encode().body.len() + size_of::<Record>(),
    };
    ENTRY_BYTES + boxed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Buyer;
    use crate::ids::{Epoch, ReservationId, Timestamp, UserId};

    fn entry(event: u32, lsn: u64, previous: u64) -> Entry {
        let id = ReservationId { event: EventId(event), number: lsn as u32 };
        Entry {
            slot: slot_of_event(EventId(event)),
            epoch: Epoch(1),
            lsn: Lsn(lsn),
            at: Timestamp(lsn),
            previous: Lsn(previous),
            continues: false,
            record: Record::Reserved {
                id,
                by: UserId(2).into(),
                buyer: Buyer::Account(UserId(2)),
                quantity: 1,
            },
            chain: lsn,
        }
    }

    /// Room for three entries; events 1 and 19 share a slot, and event 2 has another.
    fn recent() -> Recent {
        let mut recent = Recent::new(3 * ENTRY_BYTES);
        for entry in [entry(1, 4, 0), entry(19, 5, 0), entry(1, 6, 4), entry(2, 9, 7), entry(1, 7, 6)] {
            recent.add(entry);
        }
        recent
    }

    #[test]
    fn pages_are_those_that_are_kept_whole() {
        // Kept are 6 and 7 of event 1, and 9 of event 2, which has others before.
        let recent = recent();
        assert_eq!(recent.bytes, 3 * ENTRY_BYTES);
        for (event, after, position, limit, expected) in [
            (1, 4, 7, 9, Some((vec![6, 7], 7))),
            (1, 4, 7, 1, Some((vec![6], 6))),
            (1, 5, 7, 9, Some((vec![6, 7], 7))),
            (1, 6, 7, 9, Some((vec![7], 7))),
            (1, 7, 7, 9, Some((vec![], 7))),
            // One is not committed yet.
            (1, 7, 8, 9, Some((vec![], 7))),
            (1, 9, 7, 9, Some((vec![], 9))),
            (1, 3, 7, 9, None),
            (2, 7, 9, 9, Some((vec![9], 9))),
            (2, 6, 9, 9, None),
            (19, 5, 5, 9, Some((vec![], 5))),
            (19, 4, 5, 9, None),
        ] {
            let found = recent.after(EventId(event), Lsn(after), Lsn(position), limit);
            let found = found.map(|RecentChanges { entries, complete_to }| {
                (entries.iter().map(|entry| entry.lsn.0).collect::<Vec<_>>(), complete_to.0)
            });
            assert_eq!(found, expected, "event {event} after {after} of {position}, {limit}");
        }
    }

    #[test]
    fn a_slot_that_was_given_up_begins_anew() {
        let mut recent = recent();
        recent.give_up(slot_of_event(EventId(1)));
        assert_eq!(recent.after(EventId(1), Lsn(6), Lsn(7), 9), None, "they are the next owner's");
        recent.add(entry(1, 12, 11));
        assert_eq!(recent.after(EventId(1), Lsn(7), Lsn(12), 9), None, "others may have come between");
        for lsn in 13..20 {
            recent.add(entry(1, lsn, lsn - 1));
        }
        assert_eq!(recent.bytes, 3 * ENTRY_BYTES);
        assert!(recent.after(EventId(1), Lsn(16), Lsn(19), 9).is_some());
    }

    /// The bytes that the lists take, with the room in which they grow.
    fn room(recent: &Recent) -> usize {
        let numbers = recent.of_event.values();
        let of_event: usize = numbers.map(|numbers| numbers.capacity() * size_of::<u64>()).sum();
        // A node of the map is at least half full, and has some bytes of its own.
        let map = recent.of_event.len() * 2 * (size_of::<(EventId, VecDeque<u64>)>() + 8);
        recent.entries.capacity() * size_of::<Entry>() + of_event + map
    }

    #[test]
    fn the_room_is_bounded_whatever_events_the_records_are_of() {
        const ENTRIES: u32 = 10_000;
        let bytes_max = ENTRIES as usize * ENTRY_BYTES;
        let check = |recent: &Recent, what: &str| {
            let room = room(recent);
            assert!(room <= 3 * bytes_max, "{what}: {room} bytes for {bytes_max}");
        };
        let mut recent = Recent::new(bytes_max);
        for event in 1..=3 * ENTRIES {
            recent.add(entry(event, event.into(), 0));
        }
        check(&recent, "one record of each event");

        // Sales open one after the other, and each event goes on to sell a ticket now and then.
        let mut recent = Recent::new(bytes_max);
        let mut lsn = 0;
        let mut add = |recent: &mut Recent, event| {
            lsn += 1;
            recent.add(entry(event, lsn, 0));
        };
        for opened in 1..=100 {
            (0..ENTRIES).for_each(|_| add(&mut recent, opened));
            (1..=opened).for_each(|event| add(&mut recent, event));
        }
        assert_eq!(recent.of_event.len(), 100);
        check(&recent, "events that had many");
    }
}
