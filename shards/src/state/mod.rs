//! What the domain knows in memory, as a pure fold over records.
//!
//! [`SlotState`] is the state of one slot: it needs no other slot, so that it can be handed to another
//! owner whole. [`ShardState`] holds the slots that a shard owns, and what is derived from all of them.
//!
//! [`SlotState::decide`] says what a command changes, [`SlotState::apply`] changes it, live and in recovery
//! alike, and cannot fail. Never in here: a clock, randomness, I/O, threads, the log, or the order of a
//! hash map.

mod accounts;
mod by_customer;
mod chunks;
mod events;
mod owned;
mod reservations;

use std::collections::{BTreeMap, BTreeSet};

use smallvec::{SmallVec, smallvec};

use crate::clock::Now;
use crate::command::{Command, Query};
use crate::ids::{EventId, Lsn, ReservationId, Slot, Timestamp, UserId, Username};
use crate::outcome::{Outcome, Rejection, Reply};
use crate::record::Record;
use accounts::{Account, Headcount};
use events::{Edition, Event, EventTotals};

pub use owned::ShardState;

/// The state of one slot.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SlotState {
    accounts: BTreeMap<Username, Account>,
    /// Of all accounts, by id.
    usernames: BTreeMap<UserId, Username>,
    headcount: Headcount,
    /// Deleted ones stay, so that their id is never taken for an unknown one.
    events: BTreeMap<EventId, Event>,
    /// Those that are not deleted: a list of them does not go over the others.
    live_events: BTreeSet<EventId>,
    /// The same by organizer.
    events_of: BTreeSet<(UserId, EventId)>,
    /// Over those that are not deleted.
    totals: EventTotals,
}

/// What a command comes to: records of its slot, and what happens once they are durable.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision {
    /// To be applied and logged in this order, and committed together; none when nothing changes.
    pub records: SmallVec<[Record; 1]>,
    /// What the answer shows, of the state after the records: see [`SlotState::outcome`].
    pub reply: Result<Shown, Rejection>,
    /// Commands for the owners of other slots, sent once the records are durable. Each follows from the
    /// state that the records lead to, so that it can be sent again after a crash, and its repetition
    /// changes nothing.
    pub messages: Vec<(Slot, Command)>,
}

/// What the answer to a command shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    Account(Username),
    /// The same, where tokens of the account end.
    AccountChanged(Username),
    Event(EventId),
    EventDeleted,
    Reservation(ReservationId),
    Cancelled,
}

/// What a record replaces and does not say itself: what [`SlotState::undo`] needs beside the record.
#[derive(Debug)]
pub enum Undo {
    Nothing,
    /// The edited event as it was.
    Event(Box<Edition>),
    /// The account as it was.
    Account(Box<Account>),
}

impl Decision {
    fn change(record: Record, shown: Shown) -> Decision {
        Decision { records: smallvec![record], reply: Ok(shown), messages: Vec::new() }
    }

    /// All is as the command wants it already.
    fn unchanged(shown: Shown) -> Decision {
        Decision { records: SmallVec::new(), reply: Ok(shown), messages: Vec::new() }
    }
}

impl From<Rejection> for Decision {
    fn from(rejection: Rejection) -> Decision {
        Decision { records: SmallVec::new(), reply: Err(rejection), messages: Vec::new() }
    }
}

impl SlotState {
    /// What `command` changes, without changing it.
    pub fn decide(&self, now: Now, command: Command) -> Decision {
        // No rule depends on the time yet.
        let _ = now;
        let decided = match command {
            Command::CreateUser(create) => self.decide_create_user(*create),
            Command::ChangePassword(change) => self.decide_change_password(*change),
            Command::ChangeRole(change) => self.decide_change_role(*change),
            Command::RemoveUser(remove) => self.decide_remove_user(*remove),
            Command::CreateEvent(create) => self.decide_create_event(*create),
            Command::EditEvent(edit) => self.decide_edit_event(*edit),
            Command::DeleteEvent { event, actor, force } => self.decide_delete_event(event, actor, force),
            Command::Reserve { event, actor, buyer, quantity } => {
                self.decide_reserve(event, actor, buyer, quantity)
            }
            Command::Cancel { reservation, actor } => self.decide_cancel(reservation, actor),
        };
        decided.unwrap_or_else(Decision::from)
    }

    /// Takes in a record that [`SlotState::decide`] made, now or before a restart. `lsn` is its position
    /// in the slot. Returns the position of the event's record before it; 0 for an event's first record,
    /// and for a record of no event.
    pub fn apply(&mut self, at: Timestamp, lsn: Lsn, record: &Record) -> Lsn {
        match record {
            Record::UserCreated(user) => self.apply_user_created(user),
            Record::PasswordChanged(changed) => self.apply_password_changed(changed),
            Record::RoleChanged(changed) => self.apply_role_changed(changed),
            Record::UserRemoved(removed) => self.apply_user_removed(removed),
            Record::EventCreated(event) => self.apply_event_created(at, lsn, event),
            Record::EventEdited(event) => return self.apply_event_edited(at, lsn, event),
            Record::EventDeleted { event, .. } => return self.apply_event_deleted(at, lsn, *event),
            Record::Reserved { id, by: _, buyer, quantity } => {
                return self.apply_reserved(at, lsn, *id, *buyer, *quantity);
            }
            Record::Cancelled { id, .. } => return self.apply_cancelled(at, lsn, *id),
        }
        Lsn(0)
    }

    /// What has to be known before `record` is applied, to take it back afterwards.
    pub fn undo_of(&self, record: &Record) -> Undo {
        let account = |username| Undo::Account(Box::new(self.account_as_it_is(username)));
        match record {
            Record::PasswordChanged(changed) => account(&changed.username),
            Record::RoleChanged(changed) => account(&changed.username),
            Record::UserRemoved(removed) => account(&removed.username),
            Record::EventEdited(event) => Undo::Event(Box::new(self.events[&event.id].edition())),
            Record::UserCreated(_)
            | Record::EventCreated(_)
            | Record::EventDeleted { .. }
            | Record::Reserved { .. }
            | Record::Cancelled { .. } => Undo::Nothing,
        }
    }

    /// The inverse of [`SlotState::apply`], for the slot's last record that was not taken back. `previous`
    /// is what `apply` returned, `undo` what [`SlotState::undo_of`] returned.
    pub fn undo(&mut self, previous: Lsn, record: &Record, undo: Undo) {
        match (record, undo) {
            (Record::UserCreated(user), Undo::Nothing) => self.undo_user_created(user),
            (Record::PasswordChanged(changed), Undo::Account(before)) => {
                self.undo_account_change(&changed.username, *before);
            }
            (Record::RoleChanged(changed), Undo::Account(before)) => {
                self.undo_account_change(&changed.username, *before);
            }
            (Record::UserRemoved(removed), Undo::Account(before)) => {
                self.undo_account_change(&removed.username, *before);
            }
            (Record::EventCreated(event), Undo::Nothing) => self.undo_event_created(event.id),
            (Record::EventEdited(event), Undo::Event(before)) => {
                self.undo_event_edited(event.id, previous, *before);
            }
            (Record::EventDeleted { event, tickets, .. }, Undo::Nothing) => {
                self.undo_event_deleted(*event, previous, *tickets);
            }
            (Record::Reserved { id, .. }, Undo::Nothing) => self.undo_reserved(*id, previous),
            (Record::Cancelled { id, .. }, Undo::Nothing) => self.undo_cancelled(*id, previous),
            (record, undo) => unreachable!("{record:?} does not replace {undo:?}"),
        }
    }

    /// The answer to a command whose records were just applied, or which changes nothing.
    pub fn outcome(&self, shown: &Shown) -> Outcome {
        match shown {
            Shown::Account(username) => Outcome::Account(self.account(username)),
            Shown::AccountChanged(username) => Outcome::AccountChanged(self.user_view(username)),
            Shown::Event(event) => Outcome::Event(Box::new(self.events[event].view(*event))),
            Shown::EventDeleted => Outcome::EventDeleted,
            Shown::Reservation(id) => Outcome::Reservation(self.events[&id.event].reservation_view(*id)),
            Shown::Cancelled => Outcome::Cancelled,
        }
    }

    /// The answer to a query that concerns this slot alone.
    ///
    /// # Errors
    ///
    /// The rejection, when what is asked for is not there or not the asker's to see.
    ///
    /// # Panics
    ///
    /// On a query over all slots: see [`ShardState::query`].
    fn query(&self, query: &Query) -> Reply {
        match query {
            Query::Account { username } => Ok(Outcome::Account(self.account(username))),
            Query::TokenStands { user, username, token_version } => {
                Ok(Outcome::TokenStands(self.token_stands(*user, username, *token_version)))
            }
            Query::Event { event } => self.query_event(*event),
            Query::Reservation { reservation, actor } => self.query_reservation(*reservation, *actor),
            Query::EventReservations { event, actor, after, limit } => {
                self.query_event_reservations(*event, *actor, *after, *limit)
            }
            Query::AccountOf { .. }
            | Query::Users { .. }
            | Query::Events { .. }
            | Query::CustomerReservations { .. }
            | Query::Totals => unreachable!("{query:?} is over all slots"),
        }
    }
}

#[cfg(test)]
mod tests;
