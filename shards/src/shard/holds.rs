//! The deadlines of holds: a shard ends holds when their time is over, and says when it next has to.
//!
//! Whoever sees that a hold is over sees a record of it: before a request is decided, the holds of its slot that
//! have reached their deadlines are ended, and the answer waits for these records. Deadlines are in the steady
//! time of the slot: the steady time of the process, or later if the clock of an earlier process was ahead.

use std::time::Duration;

use super::Shard;
use crate::clock::Now;
use crate::ids::{Slot, Timestamp};
use crate::limits::SLOT_COUNT;
use crate::record::Record;
use crate::slots::SlotSet;
use crate::state::SlotState;

/// The most records of a [`Shard::end_holds`]. More are made in the next one, after other requests.
const RECORDS_MAX: usize = 256;

/// The earliest deadline of each slot, in the steady time of the process.
#[derive(Debug)]
pub(super) struct Deadlines {
    /// `NEVER` for a slot without live holds.
    of_slot: Box<[Timestamp; SLOT_COUNT]>,
    /// From this time on, a request may find a hold that is over. The minimum of `of_slot`; 0 until the first
    /// request of the process, and while there are slots in `taken_over`.
    due: Timestamp,
    /// By how much the time of each slot is ahead of the process.
    ahead: Box<[u64; SLOT_COUNT]>,
    /// The slots with holds of an earlier owner, for which `ahead` is not set yet.
    taken_over: SlotSet,
    /// The steady time at which the process started. Known from the first request on.
    origin: Option<Timestamp>,
}

const NEVER: Timestamp = Timestamp(u64::MAX);

impl Deadlines {
    pub(super) fn new() -> Deadlines {
        Deadlines {
            of_slot: Box::new([NEVER; SLOT_COUNT]),
            due: Timestamp(0),
            ahead: Box::new([0; SLOT_COUNT]),
            taken_over: SlotSet::EMPTY,
            origin: None,
        }
    }

    /// Whether a request at this time may find a hold that is over.
    pub(super) fn are_due(&self, now: Now) -> bool {
        self.due <= now.steady
    }

    /// The time as the slot's deadlines have it.
    pub(super) fn time_of_slot(&self, now: Now, slot: Slot) -> Now {
        Now { steady: Timestamp(now.steady.0 + self.ahead[slot.index()]), ..now }
    }

    /// Notes the earliest deadline of a slot after a record was applied.
    pub(super) fn applied(&mut self, slot: Slot, state: &SlotState) {
        self.set(slot, state.first_deadline());
    }

    /// Notes the earliest deadline of a slot after a record was undone.
    pub(super) fn undone(&mut self, slot: Slot, state: &SlotState, record: &Record) {
        self.set(slot, state.first_deadline());
        if matches!(record, Record::HoldsExtended { .. }) {
            self.taken_over.insert(slot);
            self.find_due();
        }
    }

    fn set(&mut self, slot: Slot, deadline: Option<Timestamp>) {
        let ahead = self.ahead[slot.index()];
        let deadline = deadline.map_or(NEVER, |deadline| Timestamp(deadline.0.saturating_sub(ahead)));
        let before = std::mem::replace(&mut self.of_slot[slot.index()], deadline);
        if deadline < self.due {
            self.due = deadline;
        } else if before == self.due && deadline != before {
            self.find_due();
        }
    }

    fn find_due(&mut self) {
        let is_known = self.origin.is_some() && self.taken_over == SlotSet::EMPTY;
        let earliest = || self.of_slot.iter().copied().min().unwrap_or(NEVER);
        self.due = if is_known { earliest() } else { Timestamp(0) };
    }
}

impl<A> Shard<A> {
    /// Notes that a slot was taken over. Its live holds get more time before anything else happens in it.
    pub(super) fn take_over_holds(&mut self, slot: Slot) {
        let state = self.state.slot(slot).expect("the slot is owned");
        let deadlines = &mut self.deadlines;
        deadlines.ahead[slot.index()] = 0;
        deadlines.of_slot[slot.index()] = NEVER;
        if state.first_deadline().is_some() || state.holds_over() > Timestamp(0) {
            deadlines.taken_over.insert(slot);
        }
        deadlines.find_due();
    }

    /// Forgets the deadlines of a slot that is given up.
    pub(super) fn give_up_holds(&mut self, slot: Slot) {
        self.deadlines.of_slot[slot.index()] = NEVER;
        self.deadlines.taken_over.remove(slot);
        self.deadlines.find_due();
    }

    /// The end of a hold of this slot in the steady time of the process.
    pub fn process_time(&self, slot: Slot, end: Timestamp) -> Timestamp {
        Timestamp(end.0.saturating_sub(self.deadlines.ahead[slot.index()]))
    }

    /// The elapsed time at which [`Shard::end_holds`] has something to do. `None` while the log is read-only: holds
    /// that are over then stay live until it takes records.
    pub fn holds_end_at(&self) -> Option<Duration> {
        let Deadlines { due, taken_over, origin, .. } = &self.deadlines;
        if self.read_only.is_some() {
            return None;
        }
        if *taken_over != SlotSet::EMPTY {
            return Some(Duration::ZERO);
        }
        // Without a request there is no hold.
        let origin = origin.filter(|_| *due != NEVER)?;
        Some(Duration::from_millis(due.0.saturating_sub(origin.0)))
    }

    /// Ends holds that have reached their deadlines, in any slot. Stops after some records, so that requests do not
    /// wait.
    pub(super) fn end_holds(&mut self, now: Now) {
        if self.read_only.is_none() {
            self.extend_holds(now);
            let most = self.open.len() + RECORDS_MAX;
            SlotSet::all().iter().for_each(|slot| self.end_holds_of(now, slot, most));
        }
    }

    /// Ends the holds that a request to this slot, or to all of them, must not see as live.
    pub(super) fn end_holds_for(&mut self, now: Now, slot: Option<Slot>) {
        if self.read_only.is_none() {
            self.extend_holds(now);
            match slot {
                Some(slot) => self.end_holds_of(now, slot, usize::MAX),
                None => SlotSet::all().iter().for_each(|slot| self.end_holds_of(now, slot, usize::MAX)),
            }
        }
    }

    /// Ends the holds of a slot, while the open batch has less than `most` records.
    fn end_holds_of(&mut self, now: Now, slot: Slot, most: usize) {
        if self.deadlines.of_slot[slot.index()] > now.steady {
            return;
        }
        let slot_time = self.deadlines.time_of_slot(now, slot);
        while self.open.len() < most
            && let Some(expired) = self.state.slot(slot).and_then(|state| state.expiry_due(slot_time))
        {
            let order = match &expired {
                Record::OrderExpired { id } => Some(*id),
                _ => None,
            };
            self.log_all(now.wall, slot, [expired].into_iter().collect());
            if let Some(order) = order {
                self.owe(now, order);
            }
        }
    }

    /// Gives the live holds of slots that were taken over more time, once.
    fn extend_holds(&mut self, now: Now) {
        let deadlines = &mut self.deadlines;
        deadlines.origin = Some(Timestamp(now.steady.0.saturating_sub(now.elapsed.as_millis() as u64)));
        for slot in std::mem::take(&mut deadlines.taken_over).iter() {
            let state = self.state.slot(slot).expect("a slot that was taken over is owned");
            let ahead = state.holds_over().0.saturating_sub(now.steady.0);
            self.deadlines.ahead[slot.index()] = ahead;
            if state.first_deadline().is_some() {
                let from = self.deadlines.time_of_slot(now, slot).steady;
                self.log_all(now.wall, slot, [Record::HoldsExtended { from }].into_iter().collect());
            }
        }
        self.deadlines.find_due();
    }
}
