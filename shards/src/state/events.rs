//! Events and their quota.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::buyers::Buyers;
use super::chunks::Chunks;
use super::holds::Holds;
use super::parts::Parts;
use super::reservations::{Reservation, subtract};
use super::{Decision, OutcomeRef, SlotState};
use crate::command::{Actor, CreateEvent, DeleteEvent, EditEvent, ExpectedVersion};
use crate::details::EventDetails;
use crate::ids::{EventId, Lsn, OrderId, Role, Timestamp, UserId};
use crate::outcome::{Availability, ChangeSlice, EventView, Outcome, Rejection, Reply, Totals};
use crate::record::{EventCreated, EventEdited, Record};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) edition: Edition,
    /// Tickets of confirmed reservations.
    reserved: u32,
    /// Tickets of live holds. Together with `reserved` never above the quota.
    pub(super) held: u32,
    created_at: Timestamp,
    deleted_at: Option<Timestamp>,
    /// The position of the event's last record.
    last_record: Lsn,
    pub(super) holds: Option<Box<Holds>>,
    /// There while reservations are parts of orders.
    pub(super) parts: Option<Box<Parts>>,
    /// There while the event limits the tickets of a customer.
    pub(super) buyers: Option<Box<Buyers>>,
    /// The reservations: number n at index n - 1. Cancelled ones stay.
    pub(super) reservations: Chunks<Reservation>,
}

/// The part of an event that an edit replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edition {
    organizer: UserId,
    details: EventDetails,
    /// An event can be edited 2^32 times within days.
    pub(super) version: u64,
    updated_at: Timestamp,
}

/// What an edit replaces.
#[derive(Debug)]
pub struct EventBefore {
    edition: Edition,
    /// The parts that leave their orders with the event.
    leaving: Vec<(u32, OrderId)>,
}

/// Sums over events, updated with each record so that totals need no scan.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EventTotals {
    pub(super) events: u64,
    pub(super) quota: u64,
    pub(super) reserved: u64,
    pub(super) held: u64,
}

impl EventTotals {
    fn add(&mut self, event: &Event) {
        if !event.is_deleted() {
            self.events += 1;
            self.quota += u64::from(event.edition.details.quota);
            self.reserved += u64::from(event.reserved);
            self.held += u64::from(event.held);
        }
    }

    /// The inverse of [`EventTotals::add`].
    fn subtract(&mut self, event: &Event) {
        if !event.is_deleted() {
            self.events -= 1;
            self.quota -= u64::from(event.edition.details.quota);
            self.reserved -= u64::from(event.reserved);
            self.held -= u64::from(event.held);
        }
    }
}

impl Edition {
    pub(super) fn details(&self) -> &EventDetails {
        &self.details
    }
}

impl Event {
    pub(super) fn remaining(&self) -> u32 {
        self.edition.details.quota - self.committed()
    }

    /// The tickets that are reserved or held.
    pub(super) fn committed(&self) -> u32 {
        self.reserved + self.held
    }

    pub(super) fn last_record(&self) -> Lsn {
        self.last_record
    }

    fn last_record_of(&self) -> (UserId, Lsn) {
        (self.edition.organizer, self.last_record)
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.deleted_at.is_some()
    }

    pub(super) fn deleted_at(&self) -> Option<Timestamp> {
        self.deleted_at
    }

    pub(super) fn is_managed_by(&self, actor: Actor) -> bool {
        actor.role == Role::Admin || self.is_sold_by(actor)
    }

    /// Whether the actor sells the event's tickets: as its organizer, to customers without an account here.
    pub(super) fn is_sold_by(&self, actor: Actor) -> bool {
        actor.role == Role::Organizer && actor.user == self.edition.organizer
    }

    /// Its organizer. The account's role may be another one now.
    pub(super) fn organizer(&self) -> UserId {
        self.edition.organizer
    }

    /// Counts tickets as reserved. No other code does.
    pub(super) fn take(&mut self, tickets: u32) {
        assert!(tickets <= self.remaining(), "sold beyond the quota");
        self.reserved += tickets;
    }

    /// The inverse of [`Event::take`].
    pub(super) fn give_back(&mut self, tickets: u32) {
        assert!(tickets <= self.reserved, "gave back more than was sold");
        self.reserved -= tickets;
    }

    pub(super) fn view(&self, id: EventId) -> EventView {
        EventView {
            id,
            organizer: self.edition.organizer,
            details: self.edition.details.clone(),
            reserved: self.reserved,
            held: self.held,
            remaining: self.remaining(),
            version: self.edition.version,
            created_at: self.created_at,
            updated_at: self.edition.updated_at,
        }
    }

    fn availability(&self, event: EventId) -> Availability {
        Availability {
            event,
            quota: self.edition.details.quota,
            reserved: self.reserved,
            held: self.held,
            remaining: self.remaining(),
            position: self.last_record,
        }
    }
}

impl SlotState {
    /// An event that exists and is not deleted.
    pub(super) fn live_event(&self, id: EventId) -> Result<&Event, Rejection> {
        let event = self.events.get(&id).ok_or(Rejection::EventNotFound)?;
        if event.is_deleted() {
            return Err(Rejection::EventDeleted);
        }
        Ok(event)
    }

    /// A live event of an expected version that the actor may manage.
    fn event_to_change(
        &self,
        id: EventId,
        actor: Actor,
        expected: &ExpectedVersion,
    ) -> Result<&Event, Rejection> {
        let event = self.live_event(id)?;
        if !event.is_managed_by(actor) {
            return Err(Rejection::NotYourEvent);
        }
        let version = event.edition.version;
        if !expected.allows(version) {
            return Err(Rejection::VersionMismatch { version });
        }
        Ok(event)
    }

    /// Applies or undoes a record of an event, and updates the totals and the event's last record with it. All
    /// changes of an event go through here. Returns the previous last record.
    pub(super) fn change_event(
        &mut self,
        id: EventId,
        last_record: Lsn,
        change: impl FnOnce(&mut Event),
    ) -> Lsn {
        let event = self.events.get_mut(&id).expect("a record of an event follows that event's creation");
        self.totals.subtract(event);
        let indexed = event.last_record_of();
        change_indexed(&mut self.deadlines, id, event, change);
        assert!(event.committed() <= event.edition.details.quota, "more is reserved and held than the quota");
        self.totals.add(event);
        let previous = std::mem::replace(&mut event.last_record, last_record);
        self.last_records.change(id, indexed, event.last_record_of());
        previous
    }

    /// Moves deadlines of an event's holds. Changes nothing else of the event.
    pub(super) fn change_deadlines(&mut self, id: EventId, change: impl FnOnce(&mut Event)) {
        let event = self.events.get_mut(&id).expect("the event has holds");
        change_indexed(&mut self.deadlines, id, event, change);
    }

    pub(super) fn decide_create_event(&self, create: CreateEvent) -> Result<Decision, Rejection> {
        if self.events.contains_key(&create.id) {
            return Err(Rejection::EventExists);
        }
        let CreateEvent { id, organizer, details } = create;
        if !details.rules.have_a_window() {
            return Err(Rejection::EmptyWindow);
        }
        let created = EventCreated { id, organizer, details: details.into() };
        Ok(Decision::change(Record::EventCreated(Box::new(created)), OutcomeRef::Event(id)))
    }

    pub(super) fn apply_event_created(&mut self, at: Timestamp, lsn: Lsn, created: &EventCreated) {
        let mut event = Event {
            edition: Edition {
                organizer: created.organizer,
                details: created.details.clone(),
                version: 1,
                updated_at: at,
            },
            reserved: 0,
            held: 0,
            created_at: at,
            deleted_at: None,
            last_record: lsn,
            holds: None,
            parts: None,
            buyers: None,
            reservations: Chunks::new(),
        };
        event.fit_buyers();
        self.totals.add(&event);
        self.live_events.insert(created.id);
        self.events_of.insert((created.organizer, created.id));
        self.last_records.insert(event.last_record_of(), created.id);
        *self.events_created.entry(created.organizer).or_default() += 1;
        let before = self.events.insert(created.id, event);
        assert!(before.is_none(), "an event's id was used twice: {}", created.id);
    }

    pub(super) fn undo_event_created(&mut self, created: &EventCreated) {
        let id = created.id;
        let event = self.events.remove(&id).expect("the record created this event");
        assert!(event.reservations.is_empty(), "later records of an event are undone before its creation");
        self.totals.subtract(&event);
        self.live_events.remove(&id);
        self.events_of.remove(&(event.edition.organizer, id));
        self.last_records.remove(event.last_record_of());
        subtract(&mut self.events_created, created.organizer, 1);
    }

    pub(super) fn decide_edit_event(&self, edit: EditEvent) -> Result<Decision, Rejection> {
        let EditEvent { event: id, actor, version, changes, organizer } = edit;
        let event = self.event_to_change(id, actor, &version)?;
        let details = changes.apply_to(&event.edition.details);
        if !details.rules().have_a_window() {
            return Err(Rejection::EmptyWindow);
        }
        if details.quota < event.committed() {
            return Err(Rejection::QuotaBelowCommitted { committed: event.committed() });
        }
        let organizer = organizer.filter(|&organizer| organizer != event.edition.organizer);
        if details == event.edition.details && organizer.is_none() {
            return Ok(Decision::unchanged(OutcomeRef::Event(id)));
        }
        let edited = EventEdited { id, by: actor.user, details, organizer };
        Ok(Decision::change(Record::EventEdited(Box::new(edited)), OutcomeRef::Event(id)))
    }

    pub(super) fn apply_event_edited(&mut self, at: Timestamp, lsn: Lsn, edited: &EventEdited) -> Lsn {
        if let Some(organizer) = edited.organizer {
            self.index_under(organizer, edited.id);
        }
        self.change_event(edited.id, lsn, |event| {
            event.edition = Edition {
                organizer: edited.organizer.unwrap_or(event.edition.organizer),
                details: edited.details.clone(),
                version: event.edition.version + 1,
                updated_at: at,
            };
            event.fit_buyers();
            if let Some(organizer) = edited.organizer {
                event.let_parts_leave(organizer);
            }
        })
    }

    /// What [`Record::EventEdited`] replaces.
    pub(super) fn event_to_undo(&self, edited: &EventEdited) -> EventBefore {
        let event = &self.events[&edited.id];
        let leaving = edited.organizer.map(|organizer| event.parts_leaving_to(organizer));
        EventBefore { edition: event.edition.clone(), leaving: leaving.unwrap_or_default() }
    }

    pub(super) fn undo_event_edited(&mut self, id: EventId, previous: Lsn, before: EventBefore) {
        let EventBefore { edition, leaving } = before;
        self.index_under(edition.organizer, id);
        self.change_event(id, previous, |event| {
            event.edition = edition;
            event.fit_buyers();
            leaving.into_iter().for_each(|(number, order)| event.set_order(number, Some(order)));
        });
    }

    /// Moves a live event in the index by organizer. Called before the event itself gets this organizer.
    fn index_under(&mut self, organizer: UserId, id: EventId) {
        self.events_of.remove(&(self.events[&id].edition.organizer, id));
        self.events_of.insert((organizer, id));
    }

    pub(super) fn decide_delete_event(&self, delete: &DeleteEvent) -> Result<Decision, Rejection> {
        let DeleteEvent { event: id, actor, version, force } = delete;
        let event = self.event_to_change(*id, *actor, version)?;
        if event.committed() > 0 && !force {
            return Err(Rejection::HasReservations { reserved: event.reserved, held: event.held });
        }
        if event.has_doubts() {
            return Err(Rejection::OrderInDoubt);
        }
        let deleted = Record::EventDeleted { event: *id, by: actor.user, tickets: event.committed() };
        Ok(Decision::change(deleted, OutcomeRef::EventDeleted))
    }

    /// Cancels all live reservations and holds by marking the event as deleted, in constant time.
    pub(super) fn apply_event_deleted(&mut self, at: Timestamp, lsn: Lsn, id: EventId) -> Lsn {
        self.live_events.remove(&id);
        self.events_of.remove(&(self.events[&id].edition.organizer, id));
        self.change_event(id, lsn, |event| {
            event.deleted_at = Some(at);
            (event.reserved, event.held) = (0, 0);
            event.fit_buyers();
        })
    }

    pub(super) fn undo_event_deleted(&mut self, id: EventId, previous: Lsn, tickets: u32) {
        self.live_events.insert(id);
        self.events_of.insert((self.events[&id].edition.organizer, id));
        self.change_event(id, previous, |event| {
            event.deleted_at = None;
            event.held = event.tickets_held_at_deletion();
            event.take(tickets - event.held);
            event.fit_buyers();
        });
    }

    pub(super) fn query_event(&self, id: EventId) -> Reply {
        Ok(Outcome::Event(Box::new(self.live_event(id)?.view(id))))
    }

    pub(super) fn query_availability(&self, id: EventId) -> Reply {
        Ok(Outcome::Availability(self.live_event(id)?.availability(id)))
    }

    /// The tickets of an event; `None` if it is unknown or deleted.
    pub(super) fn availability(&self, id: EventId) -> Option<Availability> {
        Some(self.live_event(id).ok()?.availability(id))
    }

    /// The view of an event that is known to exist.
    pub(super) fn event_view(&self, id: EventId) -> EventView {
        self.events[&id].view(id)
    }

    /// The ids of the live events after `after`.
    pub(super) fn events_after(&self, after: Option<EventId>) -> impl Iterator<Item = EventId> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.live_events.range((start, Bound::Unbounded)).copied()
    }

    /// The ids of an organizer's live events after `after`.
    pub(super) fn events_of_after(
        &self,
        organizer: UserId,
        after: Option<EventId>,
    ) -> impl Iterator<Item = EventId> {
        let first = (organizer, after.unwrap_or(EventId(0)));
        let last = (organizer, EventId(u32::MAX));
        let ids = self.events_of.range((Bound::Excluded(first), Bound::Included(last)));
        ids.map(|&(_, id)| id)
    }

    pub(super) fn query_changes(&self, id: EventId, actor: Actor) -> Reply {
        // Also of a deleted event.
        let event = self.events.get(&id).ok_or(Rejection::EventNotFound)?;
        if !event.is_managed_by(actor) {
            return Err(Rejection::NotYourEvent);
        }
        let (position, is_deleted) = (event.last_record, event.is_deleted());
        Ok(Outcome::Changes(Box::new(ChangeSlice { position, is_deleted, recent: None })))
    }

    /// An organizer's events, deleted ones included, whose last record is after `after`, with that record's position.
    pub(super) fn events_changed_after(
        &self,
        organizer: UserId,
        after: Lsn,
    ) -> impl Iterator<Item = (EventId, Lsn)> {
        self.last_records.after(organizer, after)
    }

    /// The number of events that an account has created, deleted ones included.
    pub(super) fn events_created_by(&self, organizer: UserId) -> u32 {
        self.events_created.get(&organizer).copied().unwrap_or(0)
    }

    /// The highest event id and user id in use, or given to a key; 0 for none.
    pub(super) fn highest_ids(&self) -> (EventId, UserId) {
        let event = self.events.keys().next_back().copied().max(Some(self.highest_given_event()));
        let user = self.usernames.keys().next_back().copied();
        (event.unwrap_or(EventId(0)), user.unwrap_or(UserId(0)))
    }

    /// Adds this slot's part of the totals.
    pub(super) fn add_to(&self, totals: &mut Totals) {
        let EventTotals { events, quota, reserved, held } = self.totals;
        totals.events += events;
        totals.quota += quota;
        totals.reserved += reserved;
        totals.held += held;
        totals.keys += self.key_count();
        self.add_accounts_to(totals);
    }
}

/// Changes an event, and its entry in the index of the earliest deadlines with it.
#[inline(always)]
fn change_indexed(
    deadlines: &mut BTreeSet<(Timestamp, EventId)>,
    id: EventId,
    event: &mut Event,
    change: impl FnOnce(&mut Event),
) {
    let before = event.first_deadline();
    change(event);
    let after = event.first_deadline();
    if before == after {
        return;
    }
    if let Some(before) = before {
        deadlines.remove(&(before, id));
    }
    if let Some(after) = after {
        deadlines.insert((after, id));
    }
}
