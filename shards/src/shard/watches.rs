//! Questions that wait for news of an event.
//!
//! They are answered with the state that a batch leads to, when that batch is closed, and leave with the answers of
//! the batch: many changes of an event are one answer, and none shows what a crash could undo.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use smallvec::{SmallVec, smallvec};

use super::{Pending, Release, Shard};
use crate::clock::Now;
use crate::command::Query;
use crate::ids::{EventId, Lsn, Slot};
use crate::limits::WATCH_MAX;
use crate::outcome::{Outcome, Rejection, Reply};
use crate::slots::slot_of_event;

#[derive(Debug)]
pub(super) struct Watches<A> {
    of_event: BTreeMap<EventId, SmallVec<[Watch<A>; 1]>>,
    /// An entry for each event and deadline.
    deadlines: BTreeSet<(Duration, EventId)>,
    /// Whether none may wait.
    are_closed: bool,
}

#[derive(Debug)]
struct Watch<A> {
    /// The elapsed time at which it is answered without news.
    until: Duration,
    asker: A,
}

impl<A> Watches<A> {
    pub(super) fn new() -> Watches<A> {
        Watches { of_event: BTreeMap::new(), deadlines: BTreeSet::new(), are_closed: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.of_event.is_empty()
    }

    /// Whether a question waits, which would be answered with `reply` now.
    pub(super) fn must_wait(&self, reply: &Reply, after: Lsn) -> bool {
        !self.are_closed && matches!(reply, Ok(Outcome::Availability(now)) if now.position == after)
    }

    pub(super) fn add(&mut self, now: Now, event: EventId, wait: Duration, asker: A) {
        let until = now.elapsed + wait.min(WATCH_MAX);
        self.deadlines.insert((until, event));
        self.of_event.entry(event).or_default().push(Watch { until, asker });
    }

    /// The elapsed time of the earliest deadline.
    pub(super) fn end_at(&self) -> Option<Duration> {
        self.deadlines.first().map(|(until, _)| *until)
    }

    fn take(&mut self, event: EventId) -> SmallVec<[Watch<A>; 1]> {
        let watches = self.of_event.remove(&event).unwrap_or_default();
        for watch in &watches {
            self.deadlines.remove(&(watch.until, event));
        }
        watches
    }

    /// Takes those of the earliest deadline, if it has passed.
    fn take_over(&mut self, now: Now) -> Option<(EventId, SmallVec<[Watch<A>; 1]>)> {
        let &(until, event) = self.deadlines.first().filter(|(until, _)| *until <= now.elapsed)?;
        self.deadlines.remove(&(until, event));
        let Entry::Occupied(mut watches) = self.of_event.entry(event) else {
            unreachable!("a deadline belongs to a watch")
        };
        let mut over = smallvec![];
        while let Some(index) = watches.get().iter().position(|watch| watch.until == until) {
            over.push(watches.get_mut().swap_remove(index));
        }
        if watches.get().is_empty() {
            watches.remove();
        }
        Some((event, over))
    }
}

impl<A> Shard<A> {
    /// Answers those who wait for news of the events that the open batch changes.
    pub(super) fn answer_watches_of_batch(&mut self) {
        let mut index = 0;
        while !self.watches.is_empty()
            && let Some(entry) = self.open.get(index)
        {
            index += 1;
            if let Some(event) = entry.record.event() {
                let watches = self.watches.take(event);
                self.answer_watches(event, watches);
            }
        }
    }

    /// Answers those whose time is over.
    pub(super) fn end_watches(&mut self, now: Now) {
        while let Some((event, watches)) = self.watches.take_over(now) {
            self.answer_watches(event, watches);
        }
    }

    /// Answers all that wait, and from now on each question at once.
    pub fn close_watches(&mut self) {
        self.watches.are_closed = true;
        while let Some((&event, _)) = self.watches.of_event.first_key_value() {
            let watches = self.watches.take(event);
            self.answer_watches(event, watches);
        }
    }

    /// Refuses those who wait for news of a slot that is given up.
    pub(super) fn give_up_watches(&mut self, slot: Slot) {
        let events = self.watches.of_event.keys().copied();
        let events: Vec<EventId> = events.filter(|&event| slot_of_event(event) == slot).collect();
        for event in events {
            for Watch { asker, .. } in self.watches.take(event) {
                self.release(Release::Answer(asker, Err(Rejection::Elsewhere)));
            }
        }
    }

    fn answer_watches(&mut self, event: EventId, watches: SmallVec<[Watch<A>; 1]>) {
        for Watch { asker, .. } in watches {
            // After a rollback, the answer is what is left.
            let query = Query::Availability { event };
            let release = Release::Answer(asker, self.state.query(&query));
            self.pending.push_back(Pending { after: self.applied, release, query: Some(query) });
        }
    }
}
