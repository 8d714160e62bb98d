//! What a shard knows in memory, as a pure fold over records.
//!
//! [`ShardState::decide`] says what a command would change, [`ShardState::apply`]
//! changes it, live and in recovery alike, and cannot fail. Never in here: a
//! clock, randomness, I/O, threads, the log, or the order of a hash map.

mod accounts;
mod by_customer;
mod chunks;
mod events;
mod reservations;

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{Command, Query};
use crate::ids::{EventId, Timestamp, UserId, Username};
use crate::outcome::{Outcome, Rejection, Reply, Totals};
use crate::record::Record;
use accounts::{Account, Headcount};
use by_customer::ByCustomer;
use events::{Edition, Event, EventTotals};

#[derive(Debug, Default, PartialEq, Eq)]
pub struct ShardState {
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
    /// Every reservation ever made.
    reservations_of: ByCustomer,
}

/// What a command comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// To be applied and logged; then [`ShardState::outcome`] has the answer.
    Change(Record),
    /// Already so: nothing to log.
    Unchanged(Outcome),
}

/// What a record puts an end to and does not say itself.
#[derive(Debug)]
pub enum Replaced {
    Nothing,
    /// An edited event as it was.
    Event(Box<Edition>),
    /// An account as it was.
    Account(Box<Account>),
}

impl ShardState {
    /// What `command` would change, without changing it.
    ///
    /// # Errors
    ///
    /// The rejection, when the rules of the domain refuse it.
    pub fn decide(&self, command: Command) -> Result<Decision, Rejection> {
        match command {
            Command::CreateUser(create) => self.decide_create_user(*create),
            Command::ChangePassword(change) => self.decide_change_password(*change),
            Command::ChangeRole(change) => self.decide_change_role(*change),
            Command::RemoveUser(remove) => self.decide_remove_user(*remove),
            Command::CreateEvent(create) => self.decide_create_event(*create),
            Command::EditEvent(edit) => self.decide_edit_event(*edit),
            Command::DeleteEvent { event, actor, force } => self.decide_delete_event(event, actor, force),
            Command::Reserve { event, customer, quantity } => self.decide_reserve(event, customer, quantity),
            Command::Cancel { reservation, actor } => self.decide_cancel(reservation, actor),
        }
    }

    /// Takes in a record that [`ShardState::decide`] made, now or in an earlier life.
    pub fn apply(&mut self, at: Timestamp, record: &Record) {
        match record {
            Record::UserCreated(user) => self.apply_user_created(user),
            Record::PasswordChanged(changed) => self.apply_password_changed(changed),
            Record::RoleChanged(changed) => self.apply_role_changed(changed),
            Record::UserRemoved(removed) => self.apply_user_removed(removed),
            Record::EventCreated(event) => self.apply_event_created(at, event),
            Record::EventEdited(event) => self.apply_event_edited(at, event),
            Record::EventDeleted { event, .. } => self.apply_event_deleted(at, *event),
            Record::Reserved { id, customer, quantity } => self.apply_reserved(at, *id, *customer, *quantity),
            Record::Cancelled { id, .. } => self.apply_cancelled(at, *id),
        }
    }

    /// What has to be known beforehand to take `record` back.
    pub fn replaced_by(&self, record: &Record) -> Replaced {
        let account = |username| Replaced::Account(Box::new(self.account_as_it_is(username)));
        match record {
            Record::PasswordChanged(changed) => account(&changed.username),
            Record::RoleChanged(changed) => account(&changed.username),
            Record::UserRemoved(removed) => account(&removed.username),
            Record::EventEdited(event) => Replaced::Event(Box::new(self.events[&event.id].edition())),
            Record::UserCreated(_)
            | Record::EventCreated(_)
            | Record::EventDeleted { .. }
            | Record::Reserved { .. }
            | Record::Cancelled { .. } => Replaced::Nothing,
        }
    }

    /// The inverse of [`ShardState::apply`], of the last record that was applied and not
    /// taken back. `replaced` is what [`ShardState::replaced_by`] said before.
    pub fn undo(&mut self, record: &Record, replaced: Replaced) {
        match (record, replaced) {
            (Record::UserCreated(user), Replaced::Nothing) => self.undo_user_created(user),
            (Record::PasswordChanged(changed), Replaced::Account(before)) => {
                self.undo_account_change(&changed.username, *before);
            }
            (Record::RoleChanged(changed), Replaced::Account(before)) => {
                self.undo_account_change(&changed.username, *before);
            }
            (Record::UserRemoved(removed), Replaced::Account(before)) => {
                self.undo_account_change(&removed.username, *before);
            }
            (Record::EventCreated(event), Replaced::Nothing) => self.undo_event_created(event.id),
            (Record::EventEdited(event), Replaced::Event(before)) => {
                self.undo_event_edited(event.id, *before)
            }
            (Record::EventDeleted { event, tickets, .. }, Replaced::Nothing) => {
                self.undo_event_deleted(*event, *tickets);
            }
            (Record::Reserved { id, customer, .. }, Replaced::Nothing) => self.undo_reserved(*id, *customer),
            (Record::Cancelled { id, .. }, Replaced::Nothing) => self.undo_cancelled(*id),
            (record, replaced) => unreachable!("{record:?} does not replace {replaced:?}"),
        }
    }

    /// The answer to the command that made `record`, which was just applied.
    pub fn outcome(&self, record: &Record) -> Outcome {
        match record {
            Record::UserCreated(user) => Outcome::Account(self.account(&user.username)),
            Record::PasswordChanged(changed) => self.account_changed(&changed.username),
            Record::RoleChanged(changed) => self.account_changed(&changed.username),
            Record::UserRemoved(removed) => self.account_changed(&removed.username),
            Record::EventCreated(event) => Outcome::Event(Box::new(self.events[&event.id].view(event.id))),
            Record::EventEdited(event) => Outcome::Event(Box::new(self.events[&event.id].view(event.id))),
            Record::EventDeleted { .. } => Outcome::EventDeleted,
            Record::Reserved { id, .. } => Outcome::Reservation(self.events[&id.event].reservation_view(*id)),
            Record::Cancelled { .. } => Outcome::Cancelled,
        }
    }

    /// # Errors
    ///
    /// The rejection, when what is asked for is not there or not the asker's to see.
    pub fn query(&self, query: &Query) -> Reply {
        match query {
            Query::Account { username } => Ok(Outcome::Account(self.account(username))),
            Query::AccountOf { user } => Ok(Outcome::Account(self.account_of(*user))),
            Query::TokenStands { user, username, token_version } => {
                Ok(Outcome::TokenStands(self.token_stands(*user, username, *token_version)))
            }
            Query::Users { after, limit } => Ok(self.query_users(*after, *limit)),
            Query::Event { event } => self.query_event(*event),
            Query::Events { after, limit, organizer } => Ok(self.query_events(*after, *limit, *organizer)),
            Query::Reservation { reservation, actor } => self.query_reservation(*reservation, *actor),
            Query::EventReservations { event, actor, after, limit } => {
                self.query_event_reservations(*event, *actor, *after, *limit)
            }
            Query::CustomerReservations { customer, after, limit } => {
                Ok(self.query_customer_reservations(*customer, *after, *limit))
            }
            Query::Totals => Ok(Outcome::Totals(self.totals())),
        }
    }

    /// The highest ids in use, from which the next ones are counted; 0 for none.
    pub fn highest_ids(&self) -> (EventId, UserId) {
        let event = self.events.keys().next_back().copied();
        let user = self.usernames.keys().next_back().copied();
        (event.unwrap_or(EventId(0)), user.unwrap_or(UserId(0)))
    }

    fn totals(&self) -> Totals {
        let EventTotals { events, quota, reserved } = self.totals;
        let Headcount { accounts, admins } = self.headcount;
        Totals { events, accounts, admins, quota, reserved }
    }
}

#[cfg(test)]
mod tests;
