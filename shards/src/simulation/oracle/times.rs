//! The times of a slot's records: each is that of the clock when the command was taken in, or a little later.

use std::collections::VecDeque;

use super::Violation;
use crate::clock::AHEAD_MAX_MS;
use crate::ids::{Lsn, Timestamp};
use crate::record::{Entry, Record};

#[derive(Debug, Default)]
pub(super) struct SlotTimes {
    /// The position and time of the slot's last record on disk.
    last: (Lsn, Timestamp),
    /// Whether that record set the time back.
    is_set_back: bool,
    /// Whether the same command also made the next record.
    continues: bool,
    /// The wall time of each command that the process took in, in order. Those before the command of the last
    /// record are gone.
    commands: VecDeque<Timestamp>,
}

impl SlotTimes {
    pub(super) fn take_in(&mut self, wall: Timestamp) {
        self.commands.push_back(wall.max(Timestamp(1)));
    }

    /// Forgets the commands of a process that has ended.
    pub(super) fn end_process(&mut self) {
        self.commands.clear();
    }

    /// Takes the slot's next record. A record's time comes down as soon as it would be too far ahead of its
    /// command's, and only then.
    pub(super) fn add(&mut self, entry: &Entry) -> Result<(), Violation> {
        let (lsn, last) = self.last;
        let is_right = entry.lsn == lsn.next()
            && match (entry.record == Record::TimeSetBack, self.is_set_back) {
                (false, false) if self.continues => entry.at == last,
                (true, is_second) => last.0 > entry.at.0 + AHEAD_MAX_MS && entry.continues && !is_second,
                (false, true) => entry.at == last && self.find_command(|wall| entry.at == wall),
                (false, false) => self
                    .find_command(|wall| entry.at == wall.max(last) && entry.at.0 <= wall.0 + AHEAD_MAX_MS),
            };
        if !is_right {
            return Err(format!("{entry:?} follows lsn {lsn} of {last:?}"));
        }
        self.last = (entry.lsn, entry.at);
        (self.is_set_back, self.continues) = (entry.record == Record::TimeSetBack, entry.continues);
        Ok(())
    }

    /// Drops commands up to the first with a fitting time. Those without a record are dropped on the way.
    fn find_command(&mut self, fits: impl Fn(Timestamp) -> bool) -> bool {
        std::iter::from_fn(|| self.commands.pop_front()).any(fits)
    }
}
