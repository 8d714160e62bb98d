//! The latest committed records of events, kept in memory so that those who follow an event need no disk.
//!
//! Of each event, the newest records are kept, without a gap. When there are too many bytes, the record that was
//! committed first goes first. They are no part of the state: after a start there are none, and the log has all.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::{EventId, Lsn, Slot};
use crate::outcome::RecentChanges;
use crate::record::{Entry, Record};
use crate::slots::slot_of_event;

/// The bytes of the records that a shard keeps, unless it keeps all: some 170,000 sales. The lists that they are in have
/// up to as much room again, to grow.
pub const RECENT_BYTES_MAX: usize = 16 << 20;

/// What an entry takes beside its record's own allocations: its place among those of its event, and in the order.
const ENTRY_BYTES: usize = size_of::<Entry>() + size_of::<EventId>();

const _: () = assert!(ENTRY_BYTES <= 96, "[`RECENT_BYTES_MAX`] says how many sales it has room for");

#[derive(Debug)]
pub(super) struct Recent {
    of_event: BTreeMap<EventId, VecDeque<Entry>>,
    /// The event of each entry, in the order of commits. May have events whose entries were dropped.
    order: VecDeque<EventId>,
    bytes: usize,
    bytes_max: usize,
}

impl Recent {
    pub(super) fn new(bytes_max: usize) -> Recent {
        Recent { of_event: BTreeMap::new(), order: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Adds a committed entry, if it is of an event.
    pub(super) fn add(&mut self, entry: Entry) {
        let Some(event) = entry.record.event() else { return };
        self.bytes += bytes_of(&entry);
        self.of_event.entry(event).or_default().push_back(entry);
        self.order.push_back(event);
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.drop_first(oldest);
        }
    }

    fn drop_first(&mut self, event: EventId) {
        let Some(entries) = self.of_event.get_mut(&event) else { return };
        if let Some(entry) = entries.pop_front() {
            self.bytes -= bytes_of(&entry);
        }
        if entries.is_empty() {
            self.of_event.remove(&event);
        }
    }

    /// Drops the records of a slot that is given up: its next owner adds others.
    pub(super) fn give_up(&mut self, slot: Slot) {
        let events: Vec<EventId> =
            self.of_event.keys().copied().filter(|&event| slot_of_event(event) == slot).collect();
        for event in events {
            let entries = self.of_event.remove(&event).unwrap_or_default();
            self.bytes -= entries.iter().map(bytes_of).sum::<usize>();
        }
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
        if kept.front()?.previous > after {
            return None;
        }
        let first = kept.partition_point(|entry| entry.lsn <= after);
        let entries: Vec<Entry> = kept.range(first..).take(limit).cloned().collect();
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
            record: Record::Reserved { id, by: UserId(2), buyer: Buyer::Account(UserId(2)), quantity: 1 },
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
        assert_eq!(recent.bytes, ENTRY_BYTES);
        recent.add(entry(1, 12, 11));
        assert_eq!(recent.after(EventId(1), Lsn(7), Lsn(12), 9), None, "others may have come between");
        for lsn in 13..20 {
            recent.add(entry(1, lsn, lsn - 1));
        }
        assert_eq!(recent.bytes, 3 * ENTRY_BYTES);
        assert!(recent.after(EventId(1), Lsn(16), Lsn(19), 9).is_some());
    }
}
