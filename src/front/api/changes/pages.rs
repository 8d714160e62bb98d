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

/// The most events that are asked for one page of the changes of many, and of one slot.
const EVENTS_MAX: usize = 200;
/// The most events of a slot that are read from the log one by one. If there are more, its records are read once for all.
const READ_ALONE_MAX: usize = 4;
/// The most records of a slot that are read at once.
const SLOT_RECORDS_MAX: usize = 1000;
/// How often one page of the changes of many reads the log, unless its last slot needs up to [`READ_ALONE_MAX`] more.
const READS_MAX: usize = 8;

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
    /// How often the log was read.
    reads: usize,
}

/// Events of one slot. The owner named them and their last positions at one moment.
struct ChangedEvents<'a> {
    slot: Slot,
    /// In ascending order.
    events: &'a [(EventId, Lsn)],
    after: Lsn,
    /// Not above the highest of the positions. Later changes of any of them are behind it.
    end: Lsn,
}

impl Reader {
    /// The changes of an event after a position: at most `limit`, and maybe fewer than there are.
    ///
    /// # Errors
    ///
    /// Those of a list of the event's reservations; [`Refused::Unreadable`].
    pub(super) async fn event(&self, event: EventId, after: Lsn, limit: usize) -> Result<EventPage, Refused> {
        let slice = *self.shards.changes(event, self.actor, after, limit).await?;
        self.page(slice, event, after, limit).await
    }

    /// The page that a shard's answer is for: what is in memory, or what the log has.
    async fn page(
        &self,
        slice: ChangeSlice,
        event: EventId,
        after: Lsn,
        limit: usize,
    ) -> Result<EventPage, Refused> {
        let ChangeSlice { position, is_deleted, recent } = slice;
        let RecentChanges { entries, complete_to } = match recent {
            Some(recent) => recent,
            None => self.old_changes(event, after, position, limit).await?,
        };
        Ok(EventPage { entries, complete_to, position, is_deleted })
    }

    /// Reads a page of records of a slot, or of one event in it.
    async fn read_log(
        &self,
        (slot, event): (Slot, Option<EventId>),
        after: Lsn,
        limit: usize,
    ) -> Result<RecordPage, Refused> {
        // Without a log, all changes are in memory.
        let old_records = self.old_records.as_ref().ok_or(Refused::Unreadable)?;
        let read = old_records.read_after(self.actor.user, slot, event, after, limit).await;
        read.map_err(|_| Refused::Overloaded)?.map_err(|error| unreadable(&error))
    }

    /// Reads the changes of an event up to `position`, which are all committed.
    async fn old_changes(
        &self,
        event: EventId,
        after: Lsn,
        position: Lsn,
        limit: usize,
    ) -> Result<RecentChanges, Refused> {
        let place = (slot_of_event(event), Some(event));
        let RecordPage { mut entries, searched, is_last } = self.read_log(place, after, limit).await?;
        // Who asked may see what there was when the shard allowed it.
        entries.retain(|entry| entry.lsn <= position);
        let complete_to = if is_last { position } else { searched.min(position) };
        let begins = entries.first().is_none_or(|first| first.previous <= after);
        let last = entries.last().map_or(after, |last| last.lsn);
        if begins && (complete_to < position || last == position) {
            return Ok(RecentChanges { entries, complete_to });
        }
        Err(missing(after, position))
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
        let (mut asked, mut reads, mut has_more) = (0, 0, false);
        // From the one whose turn it is, so that a busy slot does not keep the others waiting.
        let first = place.turn;
        let in_turn = by_slot.range(first..).chain(by_slot.range(..first));
        for (&slot, events) in in_turn {
            let is_full = entries.len() == limit || reads >= READS_MAX;
            if is_full || asked > 0 && asked + events.len() > EVENTS_MAX {
                has_more = true;
                break;
            }
            asked += events.len();
            let after = place.positions[slot.index()];
            let end = events.iter().map(|&(_, position)| position).max().unwrap_or(after);
            let end = up_to.map_or(end, |up_to| end.min(up_to[slot.index()]));
            let changed = ChangedEvents { slot, events, after, end };
            let page = self.slot(&changed, limit - entries.len()).await?;
            has_more |= page.complete_to < end;
            reads += page.reads;
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
        by_slot.values_mut().for_each(|events| events.sort_unstable());
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

    /// The changes of events of one slot, in order.
    async fn slot(&self, changed: &ChangedEvents<'_>, limit: usize) -> Result<SlotPage, Refused> {
        let mut page = self.slot_pages(changed, limit).await?;
        page.entries.retain(|entry: &Entry| entry.lsn <= page.complete_to);
        page.entries.sort_unstable_by_key(|entry| entry.lsn);
        if page.entries.len() > limit {
            page.entries.truncate(limit);
            page.complete_to = page.entries.last().map_or(changed.after, |last| last.lsn);
        }
        Ok(page)
    }

    /// The same in any order, and maybe more than belong to the page.
    async fn slot_pages(&self, changed: &ChangedEvents<'_>, limit: usize) -> Result<SlotPage, Refused> {
        let &ChangedEvents { events, after, end, .. } = changed;
        if self.old_records.is_some() && events.len() > EVENTS_MAX {
            return self.records_of_slot(changed).await;
        }
        let mut slices = Vec::new();
        for &(event, position) in events {
            match self.shards.changes(event, self.actor, after, limit).await {
                Ok(slice) => slices.push((event, position, *slice)),
                // It was handed over meanwhile.
                Err(Refused::Rejected(Rejection::NotYourEvent)) => {}
                Err(refused) => return Err(refused),
            }
        }
        let reads = slices.iter().filter(|(_, _, slice)| slice.recent.is_none()).count();
        if reads > READ_ALONE_MAX {
            return self.records_of_slot(changed).await;
        }
        let mut page = SlotPage { entries: Vec::new(), complete_to: end, reads };
        for (event, position, slice) in slices {
            let of_event = self.page(slice, event, after, limit).await?;
            if of_event.complete_to < position {
                page.complete_to = page.complete_to.min(of_event.complete_to);
            }
            page.entries.extend(of_event.entries);
        }
        Ok(page)
    }

    /// Reads the slot's records once for all of its events. Up to `end`, these were the organizer's when their owner named
    /// them.
    async fn records_of_slot(
        &self,
        &ChangedEvents { slot, events, after, end }: &ChangedEvents<'_>,
    ) -> Result<SlotPage, Refused> {
        let RecordPage { mut entries, searched, is_last } =
            self.read_log((slot, None), after, SLOT_RECORDS_MAX).await?;
        if is_last && searched < end {
            return Err(missing(after, end));
        }
        let is_of = |event| events.binary_search_by_key(&event, |&(event, _)| event).is_ok();
        entries.retain(|entry| entry.record.event().is_some_and(is_of));
        Ok(SlotPage { entries, complete_to: searched.min(end), reads: 1 })
    }
}

fn unreadable(error: &LogError) -> Refused {
    tracing::error!(%error, "the changes of events cannot be read");
    Refused::Unreadable
}

fn missing(after: Lsn, position: Lsn) -> Refused {
    unreadable(&LogError {
        action: "read",
        place: format!("the log, after position {after}"),
        source: format!("changes up to position {position} are missing").into(),
    })
}
