//! The events of each organizer, in the order of their last records.
//!
//! Whoever waits for changes of an organizer's events asks often, and must not go through all of them.

use std::collections::BTreeMap;

use crate::ids::{EventId, Lsn, UserId};

/// A sorted list for each organizer with events. The usual record is of the event that changed last, and moves nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LastRecords(BTreeMap<UserId, Vec<(Lsn, EventId)>>);

impl LastRecords {
    pub(super) fn insert(&mut self, (organizer, position): (UserId, Lsn), event: EventId) {
        let events = self.0.entry(organizer).or_default();
        let index = events.partition_point(|&(other, _)| other < position);
        events.insert(index, (position, event));
    }

    pub(super) fn remove(&mut self, (organizer, position): (UserId, Lsn)) {
        let events = self.0.get_mut(&organizer).expect("the organizer has the event");
        let found = events.binary_search_by_key(&position, |&(other, _)| other);
        events.remove(found.expect("each event is in the list of its organizer"));
        if events.is_empty() {
            self.0.remove(&organizer);
        }
    }

    /// Gives an event another last record, and maybe another organizer.
    pub(super) fn change(&mut self, event: EventId, from: (UserId, Lsn), to: (UserId, Lsn)) {
        if from.0 == to.0
            && from.1 < to.1
            && let Some(last) = self.0.get_mut(&from.0).and_then(|events| events.last_mut())
            && last.0 == from.1
        {
            last.0 = to.1;
        } else {
            self.remove(from);
            self.insert(to, event);
        }
    }

    /// An organizer's events whose last record is after a position, with that record's position, in the order of these.
    pub(super) fn after(&self, organizer: UserId, after: Lsn) -> impl Iterator<Item = (EventId, Lsn)> {
        let events = self.0.get(&organizer).map_or(&[][..], Vec::as_slice);
        let first = events.partition_point(|&(position, _)| position <= after);
        events[first..].iter().map(|&(position, event)| (event, position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_in_the_order_of_their_last_records() {
        let [org1, org2] = [UserId(1), UserId(2)];
        let mut records = LastRecords::default();
        let after = |records: &LastRecords, organizer, after| {
            records.after(organizer, Lsn(after)).map(|(event, Lsn(last))| (event.0, last)).collect::<Vec<_>>()
        };
        records.insert((org1, Lsn(1)), EventId(7));
        records.insert((org1, Lsn(3)), EventId(8));
        assert_eq!(after(&records, org1, 0), [(7, 1), (8, 3)]);
        // The one that changed last; another; the same with its undo.
        records.change(EventId(8), (org1, Lsn(3)), (org1, Lsn(4)));
        assert_eq!(after(&records, org1, 1), [(8, 4)]);
        records.change(EventId(7), (org1, Lsn(1)), (org1, Lsn(5)));
        assert_eq!(after(&records, org1, 0), [(8, 4), (7, 5)]);
        assert_eq!(after(&records, org1, 4), [(7, 5)]);
        records.change(EventId(7), (org1, Lsn(5)), (org1, Lsn(1)));
        assert_eq!(after(&records, org1, 0), [(7, 1), (8, 4)]);
        // Handed over, which leaves no trace when all are gone.
        records.change(EventId(8), (org1, Lsn(4)), (org2, Lsn(6)));
        assert_eq!((after(&records, org1, 0), after(&records, org2, 5)), (vec![(7, 1)], vec![(8, 6)]));
        assert!(after(&records, org2, 6).is_empty() && after(&records, UserId(3), 0).is_empty());
        records.remove((org1, Lsn(1)));
        records.remove((org2, Lsn(6)));
        assert_eq!(records, LastRecords::default());
    }
}
