//! The events of each organizer, in the order of their last records.
//!
//! Whoever waits for changes of an organizer's events asks often, and must not go through all of them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use crate::ids::{EventId, Lsn, UserId};

/// The last records of each organizer with events.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LastRecords(BTreeMap<UserId, OfOrganizer>);

/// The usual record is of the event that changed last. That event stands apart, so that the record moves nothing.
#[derive(Debug, PartialEq, Eq)]
struct OfOrganizer {
    newest: (Lsn, EventId),
    others: BTreeMap<Lsn, EventId>,
}

impl LastRecords {
    pub(super) fn insert(&mut self, (organizer, position): (UserId, Lsn), event: EventId) {
        let added = (position, event);
        match self.0.entry(organizer) {
            Entry::Vacant(entry) => {
                entry.insert(OfOrganizer { newest: added, others: BTreeMap::new() });
            }
            Entry::Occupied(mut entry) => {
                let OfOrganizer { newest, others } = entry.get_mut();
                let (position, event) =
                    if newest.0 < position { std::mem::replace(newest, added) } else { added };
                others.insert(position, event);
            }
        }
    }

    pub(super) fn remove(&mut self, (organizer, position): (UserId, Lsn)) {
        let OfOrganizer { newest, others } =
            self.0.get_mut(&organizer).expect("an event's organizer has events");
        if newest.0 != position {
            others.remove(&position).expect("each event is among those of its organizer");
        } else if let Some(next) = others.pop_last() {
            *newest = next;
        } else {
            self.0.remove(&organizer);
        }
    }

    /// Gives an event another last record, and maybe another organizer.
    pub(super) fn change(&mut self, event: EventId, from: (UserId, Lsn), to: (UserId, Lsn)) {
        if from.0 == to.0
            && from.1 < to.1
            && let Some(OfOrganizer { newest, .. }) = self.0.get_mut(&from.0)
            && newest.0 == from.1
        {
            newest.0 = to.1;
        } else {
            self.remove(from);
            self.insert(to, event);
        }
    }

    /// An organizer's events whose last record is after a position, with that record's position, in the order of these.
    pub(super) fn after(&self, organizer: UserId, after: Lsn) -> impl Iterator<Item = (EventId, Lsn)> {
        let all = self.0.get(&organizer).into_iter().flat_map(move |OfOrganizer { newest, others }| {
            let others = others.range((Bound::Excluded(after), Bound::Unbounded));
            others.map(|(&position, &event)| (position, event)).chain([*newest])
        });
        all.filter(move |&(position, _)| position > after).map(|(position, event)| (event, position))
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
