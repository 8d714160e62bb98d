//! What a customer with a long memory would write down: everything that was
//! asked, everything that is on disk, and what each answer proves.
//!
//! Written apart from `state`, in the plainest way: every event and account is
//! kept as it was after each of its records, and an answer is right when it is
//! what the rules say of one of these, no older than what its asker could know
//! and no newer than the disk.

mod change;
mod event;
mod history;
mod queries;
mod records;
mod rules;

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::command::{Ask, Command};
use crate::ids::{EventId, Lsn, Slot, Timestamp, Username};
use crate::outcome::{AccountView, Outcome, Rejection, Reply};
pub(super) use change::kind_of;
use change::{Change, change_of_command};
use event::EventState;
use history::History;
use rules::{expected_of_account, expected_of_event, user_view};

/// What went wrong, in words.
pub(super) type Violation = String;

/// An answer proves that the asker knows of so many of the records of this.
#[derive(Debug, Clone)]
pub(super) enum Known {
    Event(EventId, usize),
    Account(Username, usize),
}

#[derive(Debug, Default)]
pub(super) struct Oracle {
    events: BTreeMap<EventId, History<EventState>>,
    accounts: BTreeMap<Username, History<AccountView>>,
    /// How often each change was asked for, less how often it is on disk or was not made.
    open: BTreeMap<Change, i64>,
    /// Of the last record of each slot.
    heads: BTreeMap<Slot, (Lsn, Timestamp)>,
}

impl Oracle {
    pub(super) fn asked(&mut self, ask: &Ask) {
        if let Ask::Command(command) = ask {
            *self.open.entry(change_of_command(command)).or_default() += 1;
        }
    }

    /// Whether `reply` may go out now to what was asked in step `asked`. What it proves is
    /// known from when it arrives.
    pub(super) fn check(
        &mut self,
        asked: u64,
        ask: &Ask,
        reply: &Reply,
        owns: impl Fn(Slot) -> bool,
    ) -> Result<Vec<Known>, Violation> {
        match ask {
            Ask::Command(command) => {
                let (known, is_made) = self.check_command(asked, command, ask, reply)?;
                if !is_made {
                    self.close(change_of_command(command), &format_args!("{command:?} -> {reply:?}"))?;
                }
                Ok(known.into_iter().collect())
            }
            Ask::Query(query) => self.check_query(asked, query, ask, reply, owns),
        }
    }

    /// Also says whether the reply is that of the record that this command made.
    fn check_command(
        &mut self,
        asked: u64,
        command: &Command,
        ask: &Ask,
        reply: &Reply,
    ) -> Result<(Option<Known>, bool), Violation> {
        match reply {
            Err(Rejection::LogFull) => return Ok((None, false)),
            // The server gives an id once.
            Err(Rejection::EventExists) => return Err(format!("an event's id was given twice: {ask:?}")),
            _ => {}
        }
        let change = change_of_command(command);
        let username = match command {
            Command::CreateUser(create) => Some(&create.username),
            Command::ChangePassword(change) => Some(&change.username),
            Command::ChangeRole(change) => Some(&change.username),
            Command::RemoveUser(remove) => Some(&remove.username),
            Command::CreateEvent(_)
            | Command::EditEvent(_)
            | Command::DeleteEvent { .. }
            | Command::Reserve { .. }
            | Command::Cancel { .. } => None,
        };
        if let Some(username) = username {
            let history = self.accounts.entry(username.clone()).or_default();
            let outcome = |state: &AccountView| match command {
                Command::CreateUser(_) => Outcome::Account(Some(Box::new(state.clone()))),
                _ => Outcome::AccountChanged(user_view(state)),
            };
            let (count, is_made) = history.find_answer(
                asked,
                change,
                reply,
                |state| expected_of_account(state, ask),
                outcome,
            )?;
            return Ok((Some(Known::Account(username.clone(), count)), is_made));
        }
        let event = EventId(change.1);
        let history = self.events.entry(event).or_default();
        let outcome = |state: &EventState| state.outcome(command);
        let (count, is_made) =
            history.find_answer(asked, change, reply, |state| expected_of_event(state, ask), outcome)?;
        Ok((Some(Known::Event(event, count)), is_made))
    }

    /// An answer has arrived in step `now`.
    pub(super) fn arrived(&mut self, now: u64, known: Vec<Known>) {
        for known in known {
            match known {
                Known::Event(id, count) => self.events.entry(id).or_default().learn(now, count),
                Known::Account(username, count) => {
                    self.accounts.entry(username).or_default().learn(now, count);
                }
            }
        }
    }

    /// A change that was asked for is on disk, or was not made.
    fn close(&mut self, change: Change, what: &dyn Debug) -> Result<(), Violation> {
        let open = self.open.entry(change).or_default();
        *open -= 1;
        if *open < 0 {
            return Err(format!("nobody asked for what is on disk, or it was refused: {what:?}"));
        }
        Ok(())
    }
}
