//! The state of the domain in memory, as a pure fold over records.
//!
//! [`SlotState`] is the state of one slot. It depends on no other slot, so it can move to another owner.
//! [`ShardState`] holds the slots that a shard owns, and what is derived from all of them.
//!
//! [`ShardState::decide`] returns the records of a command, and [`SlotState::apply`] applies them. `apply`
//! cannot fail, and is the same code live and in recovery. State depends on no clock, randomness, I/O,
//! thread, log, or order of a hash map.

mod accounts;
mod api_keys;
mod buyers;
mod by_customer;
mod chunks;
mod events;
mod holds;
mod keys;
mod last_records;
mod orders;
mod owned;
mod parts;
mod refs;
mod reservations;
mod transfers;

use std::collections::{BTreeMap, BTreeSet};

use smallvec::{SmallVec, smallvec};

use crate::clock::Now;
use crate::command::{Command, Query};
use crate::details::EventDetails;
use crate::ids::{ApiKeyNumber, EventId, Lsn, OrderId, ReservationId, Slot, Timestamp, UserId, Username};
use crate::outcome::{Outcome, Rejection, Reply};
use crate::record::{Answer, Record};
use accounts::{Account, AccountTotals};
use api_keys::{ApiKeys, KeptApiKey};
use by_customer::ByCustomer;
use events::{Event, EventBefore, EventTotals};
use holds::{Expiry, LiveHolds};
use keys::Keys;
use last_records::LastRecords;
use orders::{OrderBefore, Orders};
use parts::PartBefore;
use refs::Refs;
use transfers::Giver;

pub use keys::{DroppedGenerations, Generation};
pub use orders::{Confirmable, OrderCommit};
pub use owned::ShardState;
pub use parts::Heard;

/// The state of one slot.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SlotState {
    accounts: BTreeMap<Username, Account>,
    /// The usernames of all accounts, by id.
    usernames: BTreeMap<UserId, Username>,
    account_totals: AccountTotals,
    /// The API keys of each organizer.
    api_keys: BTreeMap<UserId, ApiKeys>,
    /// All events. Deleted ones stay, so that they can be told from unknown ones.
    events: BTreeMap<EventId, Event>,
    /// The events that are not deleted, so that a list of them does not visit the others.
    live_events: BTreeSet<EventId>,
    /// The events that are not deleted, by organizer.
    events_of: BTreeSet<(UserId, EventId)>,
    /// All events, deleted ones included.
    last_records: LastRecords,
    /// The number of events that each account has created, deleted ones included: all that take memory. An
    /// event always counts for the account that created it.
    events_created: BTreeMap<UserId, u32>,
    /// Sums over the events that are not deleted.
    totals: EventTotals,
    /// The events with live holds, by the earliest deadline of each.
    deadlines: BTreeSet<(Timestamp, EventId)>,
    /// The highest deadline up to which the holds of some event are over.
    holds_over: Timestamp,
    /// The customers' refs that reservations have.
    refs: Refs,
    /// The number of reservations that each organizer has made for buyers without an account: all that take memory.
    made_for_others: BTreeMap<UserId, u32>,
    /// Idempotency keys.
    keys: Keys,
    orders: Orders,
}

/// The result of a command: records of its slot, and what happens once they are durable.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision {
    /// Records that are applied and logged in this order, and committed together; none if nothing changes.
    pub records: SmallVec<[Record; 1]>,
    /// The answer. [`SlotState::outcome`] makes it from the state after the records.
    pub reply: Result<OutcomeRef, Rejection>,
    /// Commands for the owners of other slots, sent once the records are durable. Each can be derived from
    /// the state after the records, so that it can be sent again after a crash. If it arrives twice, the
    /// second time must change nothing.
    pub messages: Vec<(Slot, Command)>,
}

/// The kind of a command's outcome, and the account, event or reservation that it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutcomeRef {
    Account(Username),
    /// An account whose earlier tokens have ended.
    AccountChanged(Username),
    ApiKey(UserId, ApiKeyNumber),
    /// A key of an organizer that has ended.
    ApiKeyEnded(UserId),
    Event(EventId),
    EventDeleted,
    Reservation(ReservationId),
    Order(OrderId),
    Cancelled,
    GivenEventId(EventId),
    /// The answer that a key has.
    Replayed {
        user: UserId,
        answer: Answer,
    },
    /// The event as it was created.
    EventAsCreated {
        id: EventId,
        organizer: UserId,
        details: Box<EventDetails>,
    },
}

/// The data that a record replaced. [`SlotState::undo`] needs it in addition to the record.
#[derive(Debug)]
pub enum Undo {
    Nothing,
    /// The edited event as it was.
    Event(Box<EventBefore>),
    /// The account as it was.
    Account(Box<Account>),
    /// The API key that ended.
    ApiKey(Box<KeptApiKey>),
    /// The tickets and deadline of a hold that ended.
    Hold {
        quantity: u32,
        deadline: Timestamp,
    },
    /// Who had the tickets that were transferred.
    Giver(Box<Giver>),
    Expiry(Box<Expiry>),
    Deadlines(Box<LiveHolds>),
    /// The generations of keys that were dropped.
    Generations(Box<DroppedGenerations>),
    /// The part of an order as it was.
    Part(Box<PartBefore>),
    /// The order as it was.
    Order(Box<OrderBefore>),
}

const _: () = assert!(size_of::<Undo>() <= 16, "there is one for each record of a batch");

impl Decision {
    fn change(record: Record, outcome: OutcomeRef) -> Decision {
        Decision { records: smallvec![record], reply: Ok(outcome), messages: Vec::new() }
    }

    /// The state is already as the command wants it.
    fn unchanged(outcome: OutcomeRef) -> Decision {
        Decision { records: SmallVec::new(), reply: Ok(outcome), messages: Vec::new() }
    }
}

impl From<Rejection> for Decision {
    fn from(rejection: Rejection) -> Decision {
        Decision { records: SmallVec::new(), reply: Err(rejection), messages: Vec::new() }
    }
}

impl SlotState {
    /// Decides a command, without changing the state. `index` has the reservations of this slot, and maybe of
    /// others, which make no difference.
    fn decide(&self, now: Now, command: Command, index: &ByCustomer) -> Decision {
        let decided = match command {
            Command::CreateUser(create) => self.decide_create_user(*create),
            Command::ChangePassword(change) => self.decide_change_password(*change),
            Command::ChangeRole(change) => self.decide_change_role(*change),
            Command::RemoveUser(remove) => self.decide_remove_user(*remove),
            Command::EndTokens(end) => self.decide_end_tokens(*end),
            Command::MakeApiKey(make) => self.decide_make_api_key(*make),
            Command::EndApiKey(end) => self.decide_end_api_key(end),
            Command::CreateEvent(create) => self.decide_create_event(*create),
            Command::CreateGivenEvent(create) => self.decide_create_given_event(*create),
            Command::GiveEventId(give) => self.decide_give_event_id(*give),
            Command::EditEvent(edit) => self.decide_edit_event(*edit),
            Command::DeleteEvent(delete) => self.decide_delete_event(&delete),
            Command::Reserve { event, actor, buyer, quantity } => {
                self.decide_reserve(now, event, actor, buyer, quantity, index)
            }
            Command::Hold { event, actor, buyer, quantity, time } => {
                let id = self.next_reservation(now, event, actor, &buyer, quantity, index);
                id.map(|id| SlotState::decide_hold(now, id, actor, buyer, quantity, time))
            }
            Command::Confirm { reservation, actor, quantity } => {
                self.decide_confirm(reservation, actor, quantity)
            }
            Command::Release { reservation, actor } => self.decide_release(reservation, actor),
            Command::Cancel { reservation, actor } => self.decide_cancel(reservation, actor),
            Command::Reduce { reservation, actor, quantity } => {
                self.decide_reduce(reservation, actor, quantity)
            }
            Command::Transfer(transfer) => self.decide_transfer(*transfer, index),
            Command::Keyed(keyed) => self.decide_keyed(now, *keyed, index),
            Command::CancelOrder { order, actor } => self.decide_cancel_order(order, actor),
            Command::PlaceOrder(_) | Command::ConfirmOrder { .. } | Command::OrderMessage(_) => {
                unreachable!("one slot does not decide this alone")
            }
        };
        decided.unwrap_or_else(Decision::from)
    }

    /// Applies a record that [`ShardState::decide`] made, now or before a restart. `lsn` is the record's.
    /// Returns the lsn of the event's previous record; 0 for an event's first record, and for a record of no
    /// event.
    pub fn apply(&mut self, at: Timestamp, lsn: Lsn, record: &Record) -> Lsn {
        match record {
            Record::UserCreated(user) => self.apply_user_created(user),
            Record::PasswordChanged(changed) => self.apply_password_changed(changed),
            Record::RoleChanged(changed) => self.apply_role_changed(changed),
            Record::UserRemoved(removed) => self.apply_user_removed(removed),
            Record::TokensEnded(ended) => self.apply_tokens_ended(ended),
            Record::ApiKeyMade(made) => self.apply_api_key_made(at, made),
            Record::ApiKeyEnded { organizer, number } => self.apply_api_key_ended(*organizer, *number),
            Record::EventCreated(event) => self.apply_event_created(at, lsn, event),
            Record::EventEdited(event) => return self.apply_event_edited(at, lsn, event),
            Record::EventDeleted { event, .. } => return self.apply_event_deleted(at, lsn, *event),
            Record::Reserved { id, by, buyer, quantity } => {
                return self.apply_reserved(at, lsn, *id, *by, buyer, *quantity);
            }
            Record::Transferred(transferred) => return self.apply_transferred(at, lsn, transferred),
            Record::Cancelled { id, .. } => return self.apply_cancelled(at, lsn, *id),
            Record::Reduced { id, by: _, quantity } => return self.apply_reduced(lsn, *id, *quantity),
            Record::Held(held) => return self.apply_held(at, lsn, held),
            Record::Confirmed { id, by: _, given_back } => {
                return self.apply_confirmed(lsn, *id, *given_back);
            }
            Record::Released { id, .. } => return self.apply_released(at, lsn, *id),
            Record::HoldsExpired { event, up_to, tickets } => {
                return self.apply_holds_expired(lsn, *event, *up_to, *tickets);
            }
            Record::HoldsExtended { from } => self.apply_holds_extended(*from),
            Record::PartPrepared(part) => return self.apply_part_prepared(at, lsn, part),
            Record::PartSettled(part) => return self.apply_part_settled(at, lsn, part),
            Record::OrderPlaced(order) => self.apply_order_placed(at, order),
            Record::OrderConfirmed { id, by } => self.apply_order_confirmed(*id, *by),
            Record::OrderCancelled { id, by } => self.apply_order_cancelled(at, *id, *by),
            Record::OrderExpired { id } => self.apply_order_expired(*id),
            Record::OrderSettled { id } => self.apply_order_settled(*id),
            // The slot's head has its time.
            Record::TimeSetBack => {}
            Record::KeyKept(kept) => self.apply_key_kept(at, lsn, kept),
            Record::KeysAged { since_ms } => self.apply_keys_aged(at, lsn, *since_ms),
        }
        Lsn(0)
    }

    /// Returns what `record` would replace. Called before [`SlotState::apply`].
    pub fn undo_of(&self, record: &Record) -> Undo {
        let account = |username| Undo::Account(Box::new(self.account_to_undo(username)));
        match record {
            Record::PasswordChanged(changed) => account(&changed.username),
            Record::RoleChanged(changed) => account(&changed.username),
            Record::UserRemoved(removed) => account(&removed.username),
            Record::TokensEnded(ended) => account(&ended.username),
            Record::ApiKeyEnded { organizer, number } => {
                Undo::ApiKey(Box::new(self.api_key_to_undo(*organizer, *number)))
            }
            Record::EventEdited(event) => Undo::Event(Box::new(self.event_to_undo(event))),
            Record::Confirmed { id, .. } | Record::Released { id, .. } => self.hold_to_undo(*id),
            Record::Transferred(transferred) => self.giver_to_undo(transferred.id),
            Record::HoldsExpired { event, .. } => self.expiry_to_undo(*event),
            Record::HoldsExtended { .. } => self.holds_to_undo(),
            Record::PartSettled(part) => Undo::Part(Box::new(self.part_to_undo(part.id))),
            Record::OrderConfirmed { id, .. }
            | Record::OrderCancelled { id, .. }
            | Record::OrderExpired { id }
            | Record::OrderSettled { id } => Undo::Order(Box::new(self.order_to_undo(*id))),
            Record::KeysAged { since_ms } => Undo::Generations(Box::new(self.generations_to_undo(*since_ms))),
            Record::UserCreated(_)
            | Record::ApiKeyMade(_)
            | Record::Held(_)
            | Record::EventCreated(_)
            | Record::EventDeleted { .. }
            | Record::Reserved { .. }
            | Record::Cancelled { .. }
            | Record::Reduced { .. }
            | Record::PartPrepared(_)
            | Record::OrderPlaced(_)
            | Record::TimeSetBack
            | Record::KeyKept(_) => Undo::Nothing,
        }
    }

    /// Undoes [`SlotState::apply`] of the slot's last record. `previous` is what `apply` returned, `undo`
    /// what [`SlotState::undo_of`] returned.
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
            (Record::TokensEnded(ended), Undo::Account(before)) => {
                self.undo_account_change(&ended.username, *before);
            }
            (Record::ApiKeyMade(made), Undo::Nothing) => self.undo_api_key_made(made),
            (Record::ApiKeyEnded { organizer, number }, Undo::ApiKey(before)) => {
                self.undo_api_key_ended(*organizer, *number, *before);
            }
            (Record::EventCreated(event), Undo::Nothing) => self.undo_event_created(event),
            (Record::EventEdited(event), Undo::Event(before)) => {
                self.undo_event_edited(event.id, previous, *before);
            }
            (Record::EventDeleted { event, tickets, .. }, Undo::Nothing) => {
                self.undo_event_deleted(*event, previous, *tickets);
            }
            (Record::Reserved { id, by, quantity, .. }, Undo::Nothing) => {
                self.undo_reserved(*id, previous, *by, *quantity);
            }
            (Record::Transferred(transferred), Undo::Giver(giver)) => {
                self.undo_transferred(transferred, previous, &giver);
            }
            (Record::Held(held), Undo::Nothing) => self.undo_held(held, previous),
            (
                Record::Confirmed { id, .. } | Record::Released { id, .. },
                Undo::Hold { quantity, deadline },
            ) => {
                self.undo_end_of_hold(*id, previous, quantity, deadline);
            }
            (Record::HoldsExpired { event, tickets, .. }, Undo::Expiry(before)) => {
                self.undo_holds_expired(*event, previous, *tickets, &before);
            }
            (Record::HoldsExtended { .. }, Undo::Deadlines(before)) => self.undo_holds_extended(&before),
            (Record::Cancelled { id, .. }, Undo::Nothing) => self.undo_cancelled(*id, previous),
            (Record::Reduced { id, quantity, .. }, Undo::Nothing) => {
                self.undo_reduced(*id, previous, *quantity);
            }
            (Record::PartPrepared(part), Undo::Nothing) => self.undo_part_prepared(part, previous),
            (Record::PartSettled(part), Undo::Part(before)) => {
                self.undo_part_settled(part.id, previous, &before);
            }
            (Record::OrderPlaced(order), Undo::Nothing) => self.undo_order_placed(order.id),
            (
                Record::OrderConfirmed { id, .. }
                | Record::OrderCancelled { id, .. }
                | Record::OrderExpired { id }
                | Record::OrderSettled { id },
                Undo::Order(before),
            ) => self.undo_order_change(*id, &before),
            (Record::TimeSetBack, Undo::Nothing) => {}
            (Record::KeyKept(kept), Undo::Nothing) => self.undo_key_kept(kept),
            (Record::KeysAged { .. }, Undo::Generations(dropped)) => self.undo_keys_aged(*dropped),
            (record, undo) => unreachable!("{record:?} does not replace {undo:?}"),
        }
    }

    /// Makes the outcome of a command whose records are applied.
    pub fn outcome(&self, of: &OutcomeRef) -> Outcome {
        match of {
            OutcomeRef::Account(username) => Outcome::Account(self.account(username)),
            OutcomeRef::AccountChanged(username) => Outcome::AccountChanged(self.user_view(username)),
            OutcomeRef::ApiKey(organizer, number) => Outcome::ApiKey(self.api_key(*organizer, *number)),
            OutcomeRef::ApiKeyEnded(organizer) => Outcome::ApiKeyEnded(*organizer),
            OutcomeRef::Event(event) => Outcome::Event(Box::new(self.events[event].view(*event))),
            OutcomeRef::EventDeleted => Outcome::EventDeleted,
            OutcomeRef::Reservation(id) => Outcome::Reservation(self.reservation_view(*id)),
            OutcomeRef::Order(id) => Outcome::Order(Box::new(self.order_view(*id))),
            OutcomeRef::Cancelled => Outcome::Cancelled,
            OutcomeRef::GivenEventId(id) => Outcome::GivenEventId(Some(*id)),
            OutcomeRef::Replayed { user, answer } => self.replayed(*user, answer),
            OutcomeRef::EventAsCreated { id, organizer, details } => {
                self.event_as_created(*id, *organizer, (**details).clone())
            }
        }
    }

    /// Answers a query about this slot alone.
    ///
    /// # Errors
    ///
    /// A rejection, if the subject does not exist or the actor may not see it.
    ///
    /// # Panics
    ///
    /// On a query over all slots: [`ShardState::query`] answers these.
    fn query(&self, query: &Query) -> Reply {
        match query {
            Query::Account { username } => Ok(Outcome::Account(self.account(username))),
            Query::TokenStands { user, username, token_version } => {
                Ok(Outcome::Stands(self.token_stands(*user, username, *token_version)))
            }
            Query::ApiKeysStand { user, username, account_version } => {
                Ok(Outcome::Stands(self.api_keys_stand(*user, username, *account_version)))
            }
            Query::Event { event } => self.query_event(*event),
            Query::Availability { event } | Query::Watch { event, .. } => self.query_availability(*event),
            Query::ApiKey { organizer, number } => Ok(Outcome::ApiKey(self.api_key(*organizer, *number))),
            Query::ApiKeys { organizer } => Ok(Outcome::ApiKeys(self.api_keys_of(*organizer))),
            Query::GivenEventId { key } => self.query_given_event_id(key),
            Query::Reservation { reservation, actor } => self.query_reservation(*reservation, *actor),
            Query::Changes { event, actor, after: _, limit: _ } => self.query_changes(*event, *actor),
            Query::EventReservations { event, actor, after, up_to, statuses, customer_ref, limit } => {
                let range = (after.unwrap_or(0), up_to.unwrap_or(u32::MAX));
                self.query_event_reservations(*event, *actor, range, *statuses, customer_ref.as_ref(), *limit)
            }
            Query::Order { order, actor } => self.query_order(*order, *actor),
            Query::Orders { owner, after, customer_ref, limit } => {
                Ok(self.query_orders(*owner, *after, customer_ref.as_ref(), *limit))
            }
            Query::AccountOf { .. }
            | Query::Users { .. }
            | Query::Usernames { .. }
            | Query::Events { .. }
            | Query::Availabilities { .. }
            | Query::ChangedEvents { .. }
            | Query::CustomerReservations { .. }
            | Query::Parts { .. }
            | Query::EventsCreated { .. }
            | Query::Totals => unreachable!("{query:?} is over all slots"),
        }
    }
}

#[cfg(test)]
mod tests;
