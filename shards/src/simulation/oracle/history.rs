//! What became of one event or account: each state that it was in, and who can know of which.

use std::fmt::Debug;

use super::Violation;
use super::change::Change;
use crate::outcome::{Outcome, Rejection, Reply};

#[derive(Debug)]
pub(super) struct History<T> {
    /// As it was after each of its records, and which change that was.
    pub(super) states: Vec<(Change, T)>,
    /// Records whose command was answered.
    answered: Vec<usize>,
    /// From which step on somebody knew of how many records. Both rise.
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

    pub(super) fn learn(&mut self, now: u64, count: usize) {
        if self.known.last().is_none_or(|&(_, known)| known < count) {
            self.known.push((now, count));
        }
    }

    /// After how many records `is_right` first holds: of those that whoever asked in step
    /// `asked` could know of, or later ones.
    pub(super) fn find(&self, asked: u64, is_right: impl Fn(Option<&T>) -> bool) -> Option<usize> {
        (self.known_at(asked)..=self.states.len()).find(|&count| is_right(self.after(count)))
    }

    /// The same for a command: it saw so many records and changed nothing, or its own was the
    /// last of them.
    pub(super) fn find_answer(
        &mut self,
        asked: u64,
        change: Change,
        reply: &Reply,
        expected: impl Fn(Option<&T>) -> Result<Option<Outcome>, Rejection>,
        outcome: impl Fn(&T) -> Outcome,
    ) -> Result<(usize, bool), Violation> {
        for count in self.known_at(asked)..=self.states.len() {
            match expected(self.after(count)).transpose() {
                Some(expected) if expected == *reply => return Ok((count, false)),
                Some(_) => {}
                None => {
                    let Some((made, state)) = self.states.get(count) else { continue };
                    if *made == change
                        && !self.answered.contains(&count)
                        && reply.as_ref() == Ok(&outcome(state))
                    {
                        self.answered.push(count);
                        return Ok((count + 1, true));
                    }
                }
            }
        }
        Err(self.complain(asked, &change, reply))
    }

    pub(super) fn complain(&self, asked: u64, ask: &dyn Debug, reply: &Reply) -> Violation {
        let known = self.known_at(asked);
        let states: Vec<_> = self.states.iter().enumerate().skip(known.saturating_sub(1)).collect();
        format!("{ask:?} -> {reply:?}, which fits none of {known} or more records of {states:#?}")
    }

    pub(super) fn known_at(&self, step: u64) -> usize {
        let known = self.known.iter().rev().find(|known| known.0 <= step);
        known.map_or(0, |&(_, count)| count)
    }

    /// `None` before the first record.
    pub(super) fn after(&self, count: usize) -> Option<&T> {
        Some(&self.states.get(count.checked_sub(1)?)?.1)
    }
}
