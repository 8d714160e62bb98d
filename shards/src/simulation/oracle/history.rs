//! The history of one event or account: its state after each record, and which records clients know of.

use std::fmt::Debug;

use super::change::Change;
use super::{Exchange, Violation};
use crate::outcome::{Outcome, Rejection};

#[derive(Debug)]
pub(super) struct History<T> {
    /// The change that each record made, and the state after it.
    pub(super) states: Vec<(Change, T)>,
    /// The indexes of records whose command was answered.
    pub(super) answered: Vec<usize>,
    /// Steps, each with the number of records that some client knew of from that step on. Both rise.
    known: Vec<(u64, usize)>,
}

impl<T> Default for History<T> {
    fn default() -> History<T> {
        History { states: Vec::new(), answered: Vec::new(), known: Vec::new() }
    }
}

impl<T: Debug> History<T> {
    pub(super) fn last(&self) -> Option<&T> {
        self.states.last().map(|(_, state)| state)
    }

    /// Notes that a client knows of `count` records from step `now` on.
    pub(super) fn add_known(&mut self, now: u64, count: usize) {
        if self.known.last().is_none_or(|&(_, known)| known < count) {
            self.known.push((now, count));
        }
    }

    /// Finds the number of records after which `is_right` first holds, among those that the client could
    /// know of when it sent the request, and later ones.
    pub(super) fn find(
        &self,
        exchange: Exchange<'_>,
        is_right: impl Fn(Option<&T>) -> bool,
    ) -> Result<usize, Violation> {
        let mut counts = self.known_at(exchange.sent)..=self.states.len();
        counts.find(|&count| is_right(self.after(count))).ok_or_else(|| self.mismatch(exchange))
    }

    /// The same for a command that asks for `change`. `expected` is what the rules say to it in a state:
    /// `None` where it makes a record. `is_current` says whether it may have been taken in, and answered, with this
    /// state. `is_outstanding` says whether requests for this change can have made none: if all their records are on disk,
    /// this one made one of them. Also returns whether it made the last of these records.
    pub(super) fn find_answer(
        &mut self,
        change: Change,
        exchange: Exchange<'_>,
        expected: impl Fn(Option<&T>) -> Result<Option<Outcome>, Rejection>,
        outcome: impl Fn(&T) -> Outcome,
        is_current: impl Fn(&T) -> bool,
        is_outstanding: bool,
    ) -> Result<(usize, bool), Violation> {
        for count in self.known_at(exchange.sent)..=self.states.len() {
            if !self.after(count).is_none_or(&is_current) {
                continue;
            }
            match expected(self.after(count)).transpose() {
                Some(expected) if is_outstanding && expected == *exchange.reply => return Ok((count, false)),
                Some(_) => {}
                None => {
                    let Some((made, state)) = self.states.get(count) else { continue };
                    if *made == change
                        && !self.answered.contains(&count)
                        && is_current(state)
                        && exchange.reply.as_ref() == Ok(&outcome(state))
                    {
                        self.answered.push(count);
                        return Ok((count + 1, true));
                    }
                }
            }
        }
        Err(self.mismatch(exchange))
    }

    fn mismatch(&self, exchange: Exchange<'_>) -> Violation {
        let known = self.known_at(exchange.sent);
        let states: Vec<_> = self.states.iter().enumerate().skip(known.saturating_sub(1)).collect();
        format!("{exchange:?}: wrong after each of {known} or more records of {states:#?}")
    }

    /// The number of records that clients could know of in this step.
    pub(super) fn known_at(&self, step: u64) -> usize {
        let known = self.known.iter().rev().find(|known| known.0 <= step);
        known.map_or(0, |&(_, count)| count)
    }

    /// The state after `count` records; `None` before the first.
    pub(super) fn after(&self, count: usize) -> Option<&T> {
        Some(&self.states.get(count.checked_sub(1)?)?.1)
    }
}
