//! The times of a slot: its records' times are those of the clock when a request was taken in, or a little later, and
//! the deadlines of holds follow from the elapsed time then.

use std::collections::VecDeque;

use super::Violation;
use crate::clock::{AHEAD_MAX_MS, Now};
use crate::ids::{Epoch, Lsn, Timestamp};
use crate::record::{Entry, Record};
use crate::simulation::workload::HOLD_SECONDS;

#[derive(Debug, Default)]
pub(super) struct SlotTimes {
    /// The position and time of the slot's last record on disk.
    last: (Lsn, Timestamp),
    /// Whether that record set the time back.
    is_set_back: bool,
    /// Whether the same command also made the next record.
    continues: bool,
    /// The requests that the process took in, in order. Those before the request of the last record are gone.
    taken_in: VecDeque<TakenIn>,
    /// The epoch of the slot's last record.
    epoch: Epoch,
    /// The highest time up to which holds of the slot are over on disk.
    over: Timestamp,
    /// By how much the slot's time is ahead of the process: an earlier one may have had a clock that was ahead. `None`
    /// until the process has given the slot's holds more time.
    pub(super) ahead: Option<u64>,
    /// Whether the record of that is not on disk yet.
    awaits_extension: bool,
}

/// The times at which a request was taken in.
#[derive(Debug)]
struct TakenIn {
    wall: Timestamp,
    /// The time in which the slot has its deadlines.
    slot_time: Timestamp,
}

impl SlotTimes {
    pub(super) fn take_in(&mut self, now: Now) {
        let slot_time = Timestamp(now.steady.0 + self.ahead.unwrap_or(0));
        self.taken_in.push_back(TakenIn { wall: now.wall.max(Timestamp(1)), slot_time });
    }

    /// The process sees the slot for the first time.
    pub(super) fn take_over(&mut self, now: Now, has_live_holds: bool) {
        self.ahead = Some(self.over.0.saturating_sub(now.steady.0));
        self.awaits_extension = has_live_holds;
    }

    /// What is not on disk is undone.
    pub(super) fn roll_back(&mut self) {
        if self.awaits_extension {
            self.ahead = None;
        }
    }

    /// Another process begins.
    pub(super) fn begin_process(&mut self) {
        (self.ahead, self.awaits_extension) = (None, false);
    }

    /// Forgets the requests of a process that has ended.
    pub(super) fn end_process(&mut self) {
        self.taken_in.clear();
    }

    /// Takes the slot's next record. A record's time comes down as soon as it would be too far ahead of its
    /// request's, and only then. Before anything else, a process gives the slot's live holds more time.
    pub(super) fn add(&mut self, entry: &Entry, has_live_holds: bool) -> Result<(), Violation> {
        let (lsn, last) = self.last;
        let is_set_back = entry.record == Record::TimeSetBack;
        let is_extension = matches!(entry.record, Record::HoldsExtended { .. });
        let is_first = entry.epoch > self.epoch;
        let is_right = entry.lsn == lsn.next()
            && (is_set_back || is_extension == (is_first && has_live_holds))
            && match (is_set_back, self.is_set_back) {
                (false, false) if self.continues => entry.at == last,
                (true, is_second) => last.0 > entry.at.0 + AHEAD_MAX_MS && entry.continues && !is_second,
                (false, true) => entry.at == last && self.find(entry, |wall| entry.at == wall),
                (false, false) => {
                    self.find(entry, |wall| entry.at == wall.max(last) && entry.at.0 <= wall.0 + AHEAD_MAX_MS)
                }
            };
        if !is_right {
            return Err(format!("{entry:?} follows {self:?}"));
        }
        self.last = (entry.lsn, entry.at);
        (self.is_set_back, self.continues) = (is_set_back, entry.continues);
        if !is_set_back {
            self.epoch = entry.epoch;
        }
        match entry.record {
            Record::HoldsExpired { up_to, .. } => self.over = self.over.max(up_to),
            Record::HoldsExtended { .. } => self.awaits_extension = false,
            _ => {}
        }
        Ok(())
    }

    /// Drops requests up to the first with fitting times. Those without a record are dropped on the way. It stays, since
    /// holds may have ended before it was decided.
    fn find(&mut self, entry: &Entry, fits: impl Fn(Timestamp) -> bool) -> bool {
        let fits = |one: &TakenIn| fits(one.wall) && fits_deadline(&entry.record, one.slot_time);
        let found = self.taken_in.iter().position(fits);
        self.taken_in.drain(..found.unwrap_or(0));
        found.is_some()
    }
}

/// Whether the deadline in a record fits the time at which its request was taken in.
fn fits_deadline(record: &Record, slot_time: Timestamp) -> bool {
    match record {
        Record::Held(held) => {
            HOLD_SECONDS.iter().any(|seconds| held.deadline.0 == slot_time.0 + seconds * 1000)
        }
        Record::OrderPlaced(order) => order.deadline.is_none_or(|deadline| {
            HOLD_SECONDS.iter().any(|seconds| deadline.0 == slot_time.0 + seconds * 1000)
        }),
        Record::HoldsExpired { up_to: time, .. } | Record::HoldsExtended { from: time } => *time == slot_time,
        _ => true,
    }
}
