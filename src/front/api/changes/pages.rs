//! Pages of changes: the latest from the shard's memory, older ones from the log.

use std::collections::BTreeMap;

use shards::command::{Actor, SlotPositions};
use shards::ids::{EventId, Lsn, Slot};
use shards::limits::SLOT_COUNT;
use shards::log::{LogError, RecordPage};
use shards::outcome::{ChangeSlice, RecentChanges, Rejection};
use shards::record::Entry;
use shards::slots::slot_of_event;

use super::cursor::Place;
use crate::client::{Refused, Shards};
use crate::old_records::OldRecords;

/// The most events that are asked for one page of the changes of many.
const EVENTS_MAX: usize = 200;

/// What pages are read with, and for whom.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) actor: Actor,
    pub(super) shards: Shards,
    pub(super) old_records: Option<OldRecords>,
}

/// Changes of one event.
pub(super) struct EventPage {
    pub(super) entries: Vec<Entry>,
    /// There are no other changes up to here.
    pub(super) complete_to: Lsn,
    /// The event's last change when it was asked.
    pub(super) position: Lsn,
    pub(super) is_deleted: bool,
}

impl EventPage {
    /// Whether it goes to the event's last change.
    pub(super) fn is_last(&self) -> bool {
        self.complete_to >= self.position
    }
}

/// Changes of an organizer's events.
pub(super) struct OrganizerPage {
    pub(super) entries: Vec<Entry>,
    pub(super) next: Place,
    /// Whether there were more.
    pub(super) has_more: bool,
}

/// The changes of some events of one slot.
struct SlotPage {
    entries: Vec<Entry>,
    complete_to: Lsn,
}

impl Reader {
    /// The changes of an event after a position: at most `limit`, and maybe fewer than there are.
    ///
    /// # Errors
    ///
    /// Those of a list of the event's reservations; [`Refused::Unreadable`].
    pub(super) async fn event(&self, event: EventId, after: Lsn, limit: usize) -> Result<EventPage, Refused> {
        let slice = self.shards.changes(event, self.actor, after, limit).await?;
        let ChangeSlice { position, is_deleted, recent } = *slice;
        let RecentChanges { entries, complete_to } = match recent {
            Some(recent) => recent,
            None => self.old_changes(event, after, position, limit).await?,
        };
        Ok(EventPage { entries, complete_to, position, is_deleted })
    }

    /// Reads the changes of an event up to `position`, which are all committed.
    async fn old_changes(
        &self,
        event: EventId,
        after: Lsn,
        position: Lsn,
        limit: usize,
    ) -> Result<RecentChanges, Refused> {
        let unreadable = |error: &LogError| {
            tracing::error!(%error, %event, "the changes of an event cannot be read");
            Refused::Unreadable
        };
        // Without a log, all changes are in memory.
        let old_records = self.old_records.as_ref().ok_or(Refused::Unreadable)?;
        let read = old_records.read_after(self.actor.user, event, after, limit).await;
        let RecordPage { mut entries, searched, is_last } =
            read.map_err(|_| Refused::Overloaded)?.map_err(|error| unreadable(&error))?;
        // Who asked may see what there was when the shard allowed it.
        entries.retain(|entry| entry.lsn <= position);
        let complete_to = if is_last { position } else { searched.min(position) };
        let begins = entries.first().is_none_or(|first| first.previous <= after);
        let last = entries.last().map_or(after, |last| last.lsn);
        if begins && (complete_to < position || last == position) {
            return Ok(RecentChanges { entries, complete_to });
        }
        Err(unreadable(&LogError {
            action: "read",
            place: format!("the log, after position {after}"),
            source: format!("changes up to position {position} are missing").into(),
        }))
    }

    /// The changes of all events of the organizer after a place, up to certain positions if there are any.
    ///
    /// # Errors
    ///
    /// As [`Reader::event`].
    pub(super) async fn organizer(
        &self,
        mut place: Place,
        up_to: Option<&SlotPositions>,
        limit: usize,
    ) -> Result<OrganizerPage, Refused> {
        let by_slot = self.changed(&place, up_to).await?;
        let mut entries: Vec<Entry> = Vec::new();
        let (mut asked, mut has_more) = (0, false);
        // From the one whose turn it is, so that a busy slot does not keep the others waiting.
        let first = place.turn;
        let in_turn = by_slot.range(first..).chain(by_slot.range(..first));
        for (&slot, events) in in_turn {
            if entries.len() == limit || asked > 0 && asked + events.len() > EVENTS_MAX {
                has_more = true;
                break;
            }
            asked += events.len();
            let after = place.positions[slot.index()];
            let end = events.iter().map(|&(_, position)| position).max().unwrap_or(after);
            let end = up_to.map_or(end, |up_to| end.min(up_to[slot.index()]));
            let page = self.slot(events, after, end, limit - entries.len()).await?;
            has_more |= page.complete_to < end;
            entries.extend(page.entries);
            place.positions[slot.index()] = page.complete_to;
            place.turn = Slot(slot.0.wrapping_add(1));
        }
        Ok(OrganizerPage { entries, next: place, has_more })
    }

    /// The organizer's events with changes after a place, by slot.
    async fn changed(
        &self,
        place: &Place,
        up_to: Option<&SlotPositions>,
    ) -> Result<BTreeMap<Slot, Vec<(EventId, Lsn)>>, Refused> {
        let changed = self.shards.changed_events(self.actor.user, place.positions.clone()).await?;
        let mut by_slot: BTreeMap<Slot, Vec<(EventId, Lsn)>> = BTreeMap::new();
        for (event, position) in changed {
            let slot = slot_of_event(event);
            if up_to.is_none_or(|up_to| place.positions[slot.index()] < up_to[slot.index()]) {
                by_slot.entry(slot).or_default().push((event, position));
            }
        }
        Ok(by_slot)
    }

    /// The positions up to which the organizer's events have changed now.
    pub(super) async fn ends(&self, place: &Place) -> Result<Box<SlotPositions>, Refused> {
        let mut ends = Box::new([Lsn(0); SLOT_COUNT]);
        for (slot, events) in self.changed(place, None).await? {
            ends[slot.index()] = events.into_iter().map(|(_, position)| position).max().unwrap_or_default();
        }
        Ok(ends)
    }

    /// The changes of events of one slot, in order. The owner named these events and their last positions at one
    /// moment, and `end` is not above the highest. Later changes of any of them are behind it.
    async fn slot(
        &self,
        events: &[(EventId, Lsn)],
        after: Lsn,
        end: Lsn,
        limit: usize,
    ) -> Result<SlotPage, Refused> {
        let (mut entries, mut complete_to) = (Vec::new(), end);
        for &(event, position) in events {
            let page = match self.event(event, after, limit).await {
                // It was handed over meanwhile.
                Err(Refused::Rejected(Rejection::NotYourEvent)) => continue,
                page => page?,
            };
            if page.complete_to < position {
                complete_to = complete_to.min(page.complete_to);
            }
            entries.extend(page.entries);
        }
        entries.retain(|entry: &Entry| entry.lsn <= complete_to);
        entries.sort_unstable_by_key(|entry| entry.lsn);
        if entries.len() > limit {
            entries.truncate(limit);
            complete_to = entries.last().map_or(after, |last| last.lsn);
        }
        Ok(SlotPage { entries, complete_to })
    }
}
