//! The oracle: the state after every record on disk, and the replies that are right for it.
//!
//! It is written apart from `state`, in the plainest way, and keeps each event and account as it was
//! after each of its records. A reply is right if the rules give it for one of these states: one no
//! older than what the client could already know when it sent the request, and no newer than the disk.
//! A reply that leaves too early is therefore found when it leaves, without a crash that proves it.

mod api_keys;
mod change;
mod event;
mod history;
mod keys;
mod orders;
mod queries;
mod records;
mod rules;
mod times;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use crate::clock::Now;
use crate::command::{Ask, Buyer, Command, IdempotencyKey, Keyed, Query};
use crate::ids::{ApiKeyNumber, EventId, OrderId, Slot, Timestamp, UserId, Username};
use crate::outcome::{AccountView, Outcome, Rejection, Reply, ReservationStatus, ReservationView};
use crate::record::Entry;
use crate::slots::slot_of_event;
use api_keys::KeysOfOrganizer;
use change::{Change, change_of_command};
pub(super) use change::{kind_of, number_of_buyer};
use event::EventState;
use history::History;
pub(super) use keys::Moment;
use keys::{KeyName, Keys};
use orders::OrderHistories;
use rules::{expected_of_account, expected_of_event, user_view};
use times::SlotTimes;

/// A description of what went wrong.
pub(super) type Violation = String;

/// A client that has a reply knows the effect of this many records of an event, account or organizer's API keys.
#[derive(Debug, Clone)]
pub(super) enum Known {
    Event(EventId, usize),
    Account(Username, usize),
    ApiKeys(UserId, usize),
    Key(KeyName),
    Order(OrderId, usize),
}

/// A request and its reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exchange<'a> {
    /// The step in which the request was sent.
    pub(super) sent: u64,
    /// The time at which it was taken in, if the shard could record then that holds are over, and has undone nothing
    /// since.
    pub(super) taken_in: Option<Timestamp>,
    pub(super) ask: &'a Ask,
    /// The wall time at which a shard took it in.
    pub(super) wall: Timestamp,
    pub(super) reply: &'a Reply,
}

#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// The most reservations of an account in a shard.
    reservations_max: u32,
    events: BTreeMap<EventId, History<EventState>>,
    accounts: BTreeMap<Username, History<AccountView>>,
    api_keys: BTreeMap<UserId, History<KeysOfOrganizer>>,
    /// Keys that are over with the record of a key which follows on disk.
    api_keys_over: Vec<ApiKeyNumber>,
    /// For each change, the number of requests for it that are neither on disk nor answered with
    /// something else.
    outstanding: BTreeMap<Change, i64>,
    times: BTreeMap<Slot, SlotTimes>,
    keys: Keys,
    orders: OrderHistories,
    /// The records of each event.
    records: BTreeMap<EventId, Vec<Entry>>,
}

impl Oracle {
    pub(super) fn new(reservations_max: u32, keys_max: u64) -> Oracle {
        Oracle { reservations_max, keys: Keys::new(keys_max), ..Oracle::default() }
    }

    /// The time goes on: what follows happens at this moment.
    pub(super) fn pass(&mut self, now: Moment) {
        self.keys.pass(now);
    }

    /// The number of keys that are kept on disk.
    pub(super) fn key_count(&self) -> u64 {
        self.keys.count()
    }

    pub(super) fn request_sent(&mut self, ask: &Ask) {
        if let Ask::Command(command) = ask {
            if let Some(key) = command.key() {
                self.keys.sent(key);
            }
            *self.outstanding.entry(change_of_command(command)).or_default() += 1;
        }
    }

    /// A shard takes in a request to this slot, or to all of them, or ends holds in all of them. Returns whether
    /// a slot is ahead of the process, which sees it for the first time.
    pub(super) fn taken_in(
        &mut self,
        slot: Option<Slot>,
        now: Now,
        is_read_only: bool,
        owns: impl Fn(Slot) -> bool,
    ) -> bool {
        if let Some(slot) = slot {
            self.times.entry(slot).or_default();
        }
        let are_seen = |of: &Slot, times: &SlotTimes| !owns(*of) || times.ahead.is_some();
        let is_first = !is_read_only && !self.times.iter().all(|(of, times)| are_seen(of, times));
        let with_holds = if is_first { self.slots_with_holds() } else { BTreeSet::new() };
        let mut is_ahead = false;
        for (&of, times) in self.times.iter_mut().filter(|&(&of, _)| owns(of)) {
            let is_taken_over = times.ahead.is_none() && !is_read_only;
            if is_taken_over {
                times.take_over(now, with_holds.contains(&of));
                is_ahead |= times.ahead > Some(0);
            }
            if is_taken_over || slot.is_none_or(|slot| slot == of) {
                times.take_in(now);
            }
        }
        is_ahead
    }

    /// A shard has undone what is not on disk.
    pub(super) fn rolled_back(&mut self, owns: impl Fn(Slot) -> bool) {
        self.times.iter_mut().filter(|&(&of, _)| owns(of)).for_each(|(_, times)| times.roll_back());
    }

    pub(super) fn process_begun(&mut self) {
        self.times.values_mut().for_each(SlotTimes::begin_process);
    }

    /// Whether the state of an event may be seen in this exchange: no hold is live that was over before.
    fn is_current(&self, event: EventId, exchange: Exchange<'_>) -> impl Fn(&EventState) -> bool + use<> {
        let ahead = self.times.get(&slot_of_event(event)).and_then(|times| times.ahead).unwrap_or(0);
        let time = exchange.taken_in.map(|time| Timestamp(time.0 + ahead));
        move |state| state.is_current(time)
    }

    pub(super) fn process_ended(&mut self) {
        self.times.values_mut().for_each(SlotTimes::end_process);
    }

    /// Checks that a reply may leave now. Returns what a client knows once it has the reply.
    pub(super) fn check(
        &mut self,
        exchange: Exchange<'_>,
        owns: impl Fn(Slot) -> bool,
    ) -> Result<Vec<Known>, Violation> {
        match exchange.ask {
            Ask::Command(command) => {
                let (mut known, made_a_record) = match command.key() {
                    Some(key) => self.check_command_with_key(command, key, exchange, owns)?,
                    None => self.check_command(command, exchange, owns)?,
                };
                if !made_a_record {
                    self.settle(change_of_command(command), &exchange)?;
                }
                if let (Some(key), Ok(_)) = (command.key(), exchange.reply) {
                    known.push(Known::Key(keys::name(key)));
                }
                Ok(known)
            }
            Ask::Query(Query::GivenEventId { key }) => {
                let found = match exchange.reply {
                    Ok(Outcome::GivenEventId(None)) => {
                        self.keys.check_unknown(key, exchange)?;
                        None
                    }
                    Ok(first) => {
                        self.keys.check_first(key, first, exchange)?;
                        Some(Known::Key(keys::name(key)))
                    }
                    Err(_) => {
                        self.check_key_refusal(key, exchange)?;
                        None
                    }
                };
                Ok(found.into_iter().collect())
            }
            Ask::Query(Query::ApiKey { organizer, .. } | Query::ApiKeys { organizer }) => {
                Ok(vec![self.check_api_keys(*organizer, exchange)?.0])
            }
            Ask::Query(query) => self.check_query(query, exchange, owns),
        }
    }

    /// Checks a reply to a command with a key, as [`Oracle::check_command`] does.
    fn check_command_with_key(
        &mut self,
        command: &Command,
        key: &IdempotencyKey,
        exchange: Exchange<'_>,
        owns: impl Fn(Slot) -> bool,
    ) -> Result<(Vec<Known>, bool), Violation> {
        let none = |()| (Vec::new(), false);
        match (command, exchange.reply) {
            (_, Ok(Outcome::Replayed(first))) => self.keys.check_first(key, first, exchange).map(none),
            (_, Err(Rejection::LogFull | Rejection::LogLocked)) => Ok(none(())),
            (_, Err(Rejection::KeyReused)) => self.check_key_refusal(key, exchange).map(none),
            (_, Err(Rejection::TooManyKeys { .. })) => {
                self.keys.check_too_many(key, command.slot(), exchange).map(none)
            }
            (_, Err(Rejection::NoRoomForKeys)) => self.keys.check_no_room(key, exchange, owns).map(none),
            (Command::GiveEventId(give), Ok(outcome)) => {
                self.keys.check_first(key, outcome, exchange)?;
                Ok((Vec::new(), *outcome == Outcome::GivenEventId(Some(give.id))))
            }
            // Another request with the key is being worked on, and may never take effect.
            (_, Err(Rejection::KeyInFlight)) => Ok(none(())),
            (Command::Keyed(keyed), reply) => {
                self.keys.check_unknown(key, exchange)?;
                if let Ok(outcome) = reply {
                    self.keys.check_first(key, outcome, exchange)?;
                }
                let Keyed { key: _, command } = &**keyed;
                self.check_command(command, exchange, owns)
            }
            _ => Err(format!("{exchange:?}")),
        }
    }

    fn check_key_refusal(&self, key: &IdempotencyKey, exchange: Exchange<'_>) -> Result<(), Violation> {
        match exchange.reply {
            Err(Rejection::KeyReused) => self.keys.check_reused(key, exchange),
            _ => Err(format!("{exchange:?}")),
        }
    }

    /// Also returns whether the reply is that of a record which this command made.
    fn check_command(
        &mut self,
        command: &Command,
        exchange: Exchange<'_>,
        owns: impl Fn(Slot) -> bool,
    ) -> Result<(Vec<Known>, bool), Violation> {
        match exchange.reply {
            Err(Rejection::LogFull | Rejection::LogLocked) => return Ok((Vec::new(), false)),
            Err(Rejection::AccountLimit { .. }) if !command.is_about_order() => {
                return Ok((vec![self.check_account_limit(command, exchange, owns)?], false));
            }
            Err(Rejection::EventExists) => return Err(format!("an event's id was used twice: {exchange:?}")),
            _ => {}
        }
        let change = change_of_command(command);
        let is_outstanding = self.is_outstanding(change);
        if let Some(organizer) = Oracle::organizer_of(exchange.ask) {
            let (known, made_a_record) = self.check_api_keys(organizer, exchange)?;
            return Ok((vec![known], made_a_record));
        }
        if command.is_about_order() {
            return self.check_order_command(command, change, exchange);
        }
        let username = match command {
            Command::CreateUser(create) => Some(&create.username),
            Command::ChangePassword(change) => Some(&change.username),
            Command::ChangeRole(change) => Some(&change.username),
            Command::RemoveUser(remove) => Some(&remove.username),
            Command::EndTokens(end) => Some(&end.username),
            Command::MakeApiKey(_)
            | Command::EndApiKey(_)
            | Command::CreateEvent(_)
            | Command::CreateGivenEvent(_)
            | Command::GiveEventId(_)
            | Command::Keyed(_)
            | Command::EditEvent(_)
            | Command::DeleteEvent(_)
            | Command::Reserve { .. }
            | Command::Hold { .. }
            | Command::Confirm { .. }
            | Command::Release { .. }
            | Command::Cancel { .. }
            | Command::Reduce { .. }
            | Command::PlaceOrder(_)
            | Command::ConfirmOrder { .. }
            | Command::CancelOrder { .. }
            | Command::OrderMessage(_)
            | Command::Transfer(_) => None,
        };
        if let Some(username) = username {
            let history = self.accounts.entry(username.clone()).or_default();
            let outcome = |state: &AccountView| match command {
                Command::CreateUser(_) => Outcome::Account(Some(Box::new(state.clone()))),
                _ => Outcome::AccountChanged(user_view(state)),
            };
            let expected = |state: Option<&_>| expected_of_account(state, exchange.ask);
            let (count, made_a_record) =
                history.find_answer(change, exchange, expected, outcome, |_| true, is_outstanding)?;
            return Ok((vec![Known::Account(username.clone(), count)], made_a_record));
        }
        let event = EventId(change.1);
        let is_current = self.is_current(event, exchange);
        let history = self.events.entry(event).or_default();
        let expected = |state: Option<&_>| expected_of_event(state, exchange.ask, exchange.wall);
        let outcome = |state: &EventState| state.outcome(command);
        let (count, made_a_record) =
            history.find_answer(change, exchange, expected, outcome, is_current, is_outstanding)?;
        Ok((vec![Known::Event(event, count)], made_a_record))
    }

    /// Checks that a reservation is refused only if the event would have taken it, and if the buyer has as many
    /// as the limit on the disk of this shard: the refusal waited for all that it counted.
    fn check_account_limit(
        &mut self,
        command: &Command,
        exchange: Exchange<'_>,
        owns: impl Fn(Slot) -> bool,
    ) -> Result<Known, Violation> {
        let (event, actor, buyer) = match command {
            Command::Reserve { event, actor, buyer, .. } | Command::Hold { event, actor, buyer, .. } => {
                (event, actor, Some(buyer))
            }
            Command::Transfer(transfer) => {
                (&transfer.reservation.event, &transfer.actor, transfer.to.as_ref())
            }
            _ => return Err(format!("{exchange:?}")),
        };
        let Some(buyer) = buyer else { return Err(format!("{exchange:?}")) };
        let most = self.reservations_max;
        let (account, count) = self.count_of_limit(actor.user, buyer, owns);
        if *exchange.reply != Err(Rejection::AccountLimit { account, most }) || count < most as usize {
            return Err(format!("{exchange:?}: the limit is {most}"));
        }
        let is_current = self.is_current(*event, exchange);
        let is_takeable = |state: Option<&_>| {
            state.is_none_or(&is_current) && expected_of_event(state, exchange.ask, exchange.wall) == Ok(None)
        };
        let count = self.events.entry(*event).or_default().find(exchange, is_takeable)?;
        Ok(Known::Event(*event, count))
    }

    /// The account whose reservations another one for this buyer counts with, and how many these are on disk in these
    /// slots, cancelled ones included: the buyer's, or those that the account `by` made for buyers without an account.
    fn count_of_limit(&self, by: UserId, buyer: &Buyer, owns: impl Fn(Slot) -> bool) -> (UserId, usize) {
        let events = self.events.iter().filter(|&(&event, _)| owns(slot_of_event(event)));
        let states = events.filter_map(|(_, history)| history.last());
        if let Buyer::Account(account) = buyer {
            let reservations = states.flat_map(|state| &state.reservations);
            return (*account, reservations.filter(|reservation| reservation.buyer == *buyer).count());
        }
        let made = states.flat_map(|state| &state.made_for_others);
        (by, made.filter(|&&organizer| organizer == by).count())
    }

    /// The reservations on disk that were a customer's first and are another buyer's.
    pub(super) fn given_away(&self, customer: UserId) -> Vec<ReservationView> {
        let mut given = Vec::new();
        for history in self.events.values() {
            let Some(last) = history.last() else { continue };
            given.extend(
                last.reservations
                    .iter()
                    .filter(|one| one.buyer != Buyer::Account(customer))
                    .filter(|one| {
                        let of_customer = |before: &ReservationView| {
                            before.id == one.id && before.buyer == Buyer::Account(customer)
                        };
                        history.states.iter().any(|(_, state)| state.reservations.iter().any(of_customer))
                    })
                    .cloned(),
            );
        }
        given
    }

    /// The organizer who created an event that is on disk.
    pub(super) fn first_organizer(&self, event: EventId) -> Option<UserId> {
        let (_, created) = self.events.get(&event)?.states.first()?;
        Some(created.view.organizer)
    }

    /// The organizer of an event on disk.
    pub(super) fn organizer(&self, event: EventId) -> Option<UserId> {
        Some(self.events.get(&event)?.last()?.view.organizer)
    }

    /// The deadlines up to this one of an event's live holds on disk.
    pub(super) fn holds_up_to(&self, event: EventId, up_to: Timestamp) -> Vec<Timestamp> {
        let state = self.events.get(&event).and_then(History::last);
        let reservations = state.into_iter().flat_map(|state| &state.reservations);
        let held = reservations.filter(|one| one.status == ReservationStatus::Held);
        held.filter_map(|one| one.expires_at).filter(|&deadline| deadline <= up_to).collect()
    }

    /// Whether this is known of an event that is deleted.
    pub(super) fn is_deleted(&self, known: &Known) -> bool {
        match known {
            Known::Event(id, count) => {
                let state = self.events.get(id).and_then(|history| history.after(*count));
                state.is_some_and(|state| state.is_deleted)
            }
            Known::Account(..) | Known::ApiKeys(..) | Known::Key(_) | Known::Order(..) => false,
        }
    }

    /// A client received a reply in step `now`.
    pub(super) fn reply_arrived(&mut self, now: u64, known: Vec<Known>) {
        for known in known {
            match known {
                Known::Event(id, count) => self.events.entry(id).or_default().add_known(now, count),
                Known::Account(username, count) => {
                    self.accounts.entry(username).or_default().add_known(now, count);
                }
                Known::ApiKeys(organizer, count) => {
                    self.api_keys.entry(organizer).or_default().add_known(now, count);
                }
                Known::Key(name) => self.keys.add_known(now, name),
                Known::Order(id, count) => self.orders.entry(id).or_default().add_known(now, count),
            }
        }
    }

    /// Whether a request for this change is on the list: some have no record yet, and may have made none.
    fn is_outstanding(&self, change: Change) -> bool {
        self.outstanding.get(&change).is_some_and(|count| *count > 0)
    }

    /// Takes one request for a change off the list: its record is on disk, or it made none.
    fn settle(&mut self, change: Change, what: &dyn Debug) -> Result<(), Violation> {
        let outstanding = self.outstanding.entry(change).or_default();
        *outstanding -= 1;
        if *outstanding < 0 {
            return Err(format!("no client asked for this record, or its request was refused: {what:?}"));
        }
        Ok(())
    }
}
