//! Checks of the replies to queries.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::event::EventState;
use super::history::History;
use super::rules::{expected_of_account, expected_of_event, user_view};
use super::{Exchange, Known, Oracle, Violation};
use crate::command::{Ask, Buyer, Query};
use crate::ids::{EventId, Lsn, ReservationId, Role, Slot, Timestamp, UserId, Username};
use crate::outcome::{
    AccountView, Availability, ChangeSlice, EventView, Outcome, Part, RecentChanges, Rejection, Reply,
    ReservationView, Statuses, Totals, UserView,
};
use crate::simulation::workload::ADMIN;
use crate::slots::{SlotSet, slot_of_event, slot_of_username};

impl Oracle {
    pub(super) fn check_query(
        &mut self,
        query: &Query,
        exchange: Exchange<'_>,
        owns: impl Fn(Slot) -> bool,
    ) -> Result<Vec<Known>, Violation> {
        if let Some(checked) = self.check_order_query(query, exchange) {
            return checked;
        }
        match (query, exchange.reply) {
            (
                Query::Account { username }
                | Query::TokenStands { username, .. }
                | Query::ApiKeysStand { username, .. },
                _,
            ) => {
                let is_right = |state: Option<&_>| {
                    expected_of_account(state, exchange.ask).transpose().as_ref() == Some(exchange.reply)
                };
                let count = self.accounts.entry(username.clone()).or_default().find(exchange, is_right)?;
                Ok(vec![Known::Account(username.clone(), count)])
            }
            (
                Query::Event { event }
                | Query::Availability { event }
                | Query::Watch { event, .. }
                | Query::EventReservations { event, .. },
                _,
            ) => self.check_event_query(*event, exchange),
            (Query::Changes { event, after, limit, .. }, _) => {
                self.check_changes(*event, *after, *limit, exchange)
            }
            (Query::Reservation { reservation, .. }, _) => {
                self.check_event_query(reservation.event, exchange)
            }
            (_, Ok(Outcome::Part(part))) => self.check_part(query, part, exchange, owns),
            _ => Err(format!("{exchange:?}")),
        }
    }

    /// Checks one shard's answer to a query over all slots.
    fn check_part(
        &self,
        query: &Query,
        part: &Part,
        exchange: Exchange<'_>,
        owns: impl Fn(Slot) -> bool,
    ) -> Result<Vec<Known>, Violation> {
        if part.slots != SlotSet::all().iter().filter(|&slot| owns(slot)).collect() {
            return Err(format!("the part is not that of the owned slots: {exchange:?}"));
        }
        let owns_account = |username: &Username| owns(slot_of_username(username));
        let owns = |id| owns(slot_of_event(id));
        match (query, &part.outcome) {
            (Query::Events { after, limit, organizer }, Outcome::Events(list)) => {
                self.check_events(*after, *limit, *organizer, list, exchange, owns)
            }
            (Query::CustomerReservations { customer, after, limit }, Outcome::Reservations(list)) => {
                self.check_reservations(*customer, *after, *limit, list, exchange, owns)
            }
            (Query::Users { after, limit }, Outcome::Users(list)) => {
                self.check_users(*after, *limit, list, exchange, owns_account)
            }
            (Query::Usernames { users }, Outcome::Usernames(list)) => {
                self.check_usernames(users, list, exchange, owns_account)
            }
            (Query::AccountOf { user }, Outcome::Account(account)) => {
                let found = account.as_deref();
                let is_right = |username: &Username, state: Option<&AccountView>| {
                    state.filter(|account| account.id == *user)
                        == found.filter(|account| account.username == *username)
                };
                self.check_each_account(exchange, found.map(|found| &found.username), owns_account, is_right)
            }
            (Query::Availabilities { events }, Outcome::Availabilities(list)) => {
                self.check_availabilities(events, list, exchange, owns)
            }
            (Query::Parts { parts }, Outcome::Reservations(list)) => {
                self.check_parts(parts, list, exchange, owns)
            }
            (Query::ChangedEvents { organizer, after }, Outcome::ChangedEvents(list)) => {
                let is_right = |id: EventId, state: Option<&EventState>| {
                    let changed = state.filter(|state| {
                        state.view.organizer == *organizer
                            && state.position > after[slot_of_event(id).index()]
                    });
                    let listed =
                        list.iter().filter(|(listed, _)| *listed == id).map(|&(_, position)| position);
                    listed.eq(changed.map(|state| state.position))
                };
                self.check_each_event(exchange, list.iter().map(|(id, _)| *id), owns, is_right)
            }
            (Query::EventsCreated { organizer }, Outcome::EventsCreated(count)) => {
                self.check_events_created(*organizer, *count, exchange, owns)
            }
            (Query::Totals, Outcome::Totals(totals)) if totals.reserved + totals.held <= totals.quota => {
                Ok(Vec::new())
            }
            _ => Err(format!("{exchange:?}")),
        }
    }

    /// Checks how far an event's records go, and that those of the page are the ones on disk, without a gap, and go
    /// as far as the client could know.
    fn check_changes(
        &mut self,
        event: EventId,
        after: Lsn,
        limit: usize,
        exchange: Exchange<'_>,
    ) -> Result<Vec<Known>, Violation> {
        let Ok(Outcome::Changes(slice)) = exchange.reply else {
            return self.check_event_query(event, exchange);
        };
        let ChangeSlice { position, is_deleted, ref recent } = **slice;
        let without_records =
            Ok(Outcome::Changes(Box::new(ChangeSlice { position, is_deleted, recent: None })));
        let known = self.check_event_query(event, Exchange { reply: &without_records, ..exchange })?;
        let Some(RecentChanges { entries, complete_to }) = recent else {
            let is_new = position > after;
            return if is_new { Ok(known) } else { Err(format!("no need of the log: {exchange:?}")) };
        };
        let on_disk = self.records.get(&event).map_or(&[][..], Vec::as_slice);
        let expected = on_disk.iter().filter(|entry| entry.lsn > after).take(entries.len());
        let history = self.events.entry(event).or_default();
        let could_know =
            history.after(history.known_at(exchange.sent)).map_or(Lsn(0), |state| state.position);
        let goes_far = entries.len() == limit || *complete_to >= could_know;
        let ends = *complete_to == entries.last().map_or(after, |entry| entry.lsn);
        if entries.len() <= limit && entries.iter().eq(expected) && goes_far && ends {
            Ok(known)
        } else {
            Err(format!("{exchange:?}: on disk are {on_disk:#?}"))
        }
    }

    fn check_event_query(&mut self, event: EventId, exchange: Exchange<'_>) -> Result<Vec<Known>, Violation> {
        let is_current = self.is_current(event, exchange);
        let is_right = |state: Option<&_>| {
            state.is_none_or(&is_current)
                && expected_of_event(state, exchange.ask, exchange.wall).transpose().as_ref()
                    == Some(exchange.reply)
        };
        let count = self.events.entry(event).or_default().find(exchange, is_right)?;
        Ok(vec![Known::Event(event, count)])
    }

    /// Checks one shard's part of the list of events.
    fn check_events(
        &self,
        after: Option<EventId>,
        limit: usize,
        organizer: Option<UserId>,
        list: &[EventView],
        exchange: Exchange<'_>,
        owns: impl Fn(EventId) -> bool,
    ) -> Result<Vec<Known>, Violation> {
        let is_on_page = range_of_page(list.iter().map(|view| view.id), after, limit, exchange)?;
        let in_range = |id| owns(id) && is_on_page(id);
        let is_listed = |state: &&EventState| {
            !state.is_deleted && organizer.is_none_or(|organizer| organizer == state.view.organizer)
        };
        let is_right = |id: EventId, state: Option<&EventState>| {
            let views = list.iter().filter(|view| view.id == id);
            views.eq(state.filter(is_listed).map(|state| &state.view))
        };
        self.check_each_event(exchange, list.iter().map(|view| view.id), in_range, is_right)
    }

    /// Checks one shard's part of the tickets of some events.
    fn check_availabilities(
        &self,
        asked: &[EventId],
        list: &[Availability],
        exchange: Exchange<'_>,
        owns: impl Fn(EventId) -> bool,
    ) -> Result<Vec<Known>, Violation> {
        if !list.is_sorted_by(|one, next| one.event < next.event) {
            return Err(format!("{exchange:?}"));
        }
        let in_range = |id| owns(id) && asked.contains(&id);
        let is_right = |id: EventId, state: Option<&EventState>| {
            let expected = state.filter(|state| !state.is_deleted).map(EventState::availability);
            list.iter().copied().find(|one| one.event == id) == expected
        };
        self.check_each_event(exchange, list.iter().map(|one| one.event), in_range, is_right)
    }

    /// Checks one shard's part of the number of events of an organizer. Other events may be on disk by now than
    /// when they were counted, so the number is between what the client could know and what is on disk.
    fn check_events_created(
        &self,
        organizer: UserId,
        count: u64,
        exchange: Exchange<'_>,
        owns: impl Fn(EventId) -> bool,
    ) -> Result<Vec<Known>, Violation> {
        let owned = self.events.iter().filter(|&(&event, _)| owns(event));
        let created = owned.filter_map(|(_, history)| Some((history, history.states.first()?)));
        let of_organizer = created.filter(|(_, (_, state))| state.view.organizer == organizer);
        let of_organizer: Vec<_> = of_organizer.map(|(history, _)| history).collect();
        let known = of_organizer.iter().filter(|history| history.known_at(exchange.sent) > 0).count() as u64;
        if !(known..=of_organizer.len() as u64).contains(&count) {
            return Err(format!("{exchange:?}: {known} are known, {} are on disk", of_organizer.len()));
        }
        Ok(Vec::new())
    }

    /// Checks one shard's part of a customer's reservations.
    fn check_reservations(
        &self,
        customer: UserId,
        after: Option<ReservationId>,
        limit: usize,
        list: &[ReservationView],
        exchange: Exchange<'_>,
        owns: impl Fn(EventId) -> bool,
    ) -> Result<Vec<Known>, Violation> {
        let is_on_page = range_of_page(list.iter().map(|view| view.id), after, limit, exchange)?;
        let is_listed =
            |view: &&ReservationView| view.buyer == Buyer::Account(customer) && is_on_page(view.id);
        let is_right = |id: EventId, state: Option<&EventState>| {
            let reservations = state.into_iter().flat_map(EventState::shown);
            list.iter().filter(|view| view.id.event == id).eq(reservations.filter(is_listed))
        };
        self.check_each_event(exchange, list.iter().map(|view| view.id.event), owns, is_right)
    }

    /// Checks one shard's answer about some parts of orders.
    fn check_parts(
        &self,
        asked: &[ReservationId],
        list: &[ReservationView],
        exchange: Exchange<'_>,
        owns: impl Fn(EventId) -> bool,
    ) -> Result<Vec<Known>, Violation> {
        let in_range = |id| owns(id) && asked.iter().any(|part| part.event == id);
        let is_right = |id: EventId, state: Option<&EventState>| {
            let shown = state.into_iter().flat_map(EventState::shown);
            let expected = shown.filter(|view| asked.contains(&view.id));
            list.iter().filter(|view| view.id.event == id).eq(expected)
        };
        self.check_each_event(exchange, list.iter().map(|view| view.id.event), in_range, is_right)
    }

    /// Checks one shard's part of the accounts.
    fn check_users(
        &self,
        after: Option<UserId>,
        limit: usize,
        list: &[UserView],
        exchange: Exchange<'_>,
        owns: impl Fn(&Username) -> bool,
    ) -> Result<Vec<Known>, Violation> {
        let is_on_page = range_of_page(list.iter().map(|view| view.id), after, limit, exchange)?;
        let is_listed = |account: &&AccountView| !account.removed && is_on_page(account.id);
        let is_right = |username: &Username, state: Option<&AccountView>| {
            let expected = state.filter(is_listed).map(user_view);
            list.iter().find(|view| view.username == *username) == expected.as_ref()
        };
        self.check_each_account(exchange, list.iter().map(|view| &view.username), owns, is_right)
    }

    /// Checks one shard's part of the usernames of some accounts.
    fn check_usernames(
        &self,
        asked: &[UserId],
        list: &[(UserId, Username)],
        exchange: Exchange<'_>,
        owns: impl Fn(&Username) -> bool,
    ) -> Result<Vec<Known>, Violation> {
        if !list.is_sorted_by(|(one, _), (next, _)| one < next) {
            return Err(format!("{exchange:?}"));
        }
        let is_right = |username: &Username, state: Option<&AccountView>| {
            let expected = state.map(|account| account.id).filter(|id| asked.contains(id));
            list.iter().find(|(_, name)| name == username).map(|(id, _)| *id) == expected
        };
        self.check_each_account(exchange, list.iter().map(|(_, name)| name), owns, is_right)
    }

    /// Checks a reply account by account, as [`check_each`] does.
    fn check_each_account<'a>(
        &self,
        exchange: Exchange<'_>,
        listed: impl IntoIterator<Item = &'a Username>,
        owns: impl Fn(&Username) -> bool,
        is_right: impl Fn(&Username, Option<&AccountView>) -> bool,
    ) -> Result<Vec<Known>, Violation> {
        let listed = listed.into_iter().cloned();
        check_each(&self.accounts, exchange, listed, owns, is_right, Known::Account)
    }

    /// Checks a reply event by event, as [`check_each`] does.
    fn check_each_event(
        &self,
        exchange: Exchange<'_>,
        listed: impl Iterator<Item = EventId>,
        in_range: impl Fn(EventId) -> bool,
        is_right: impl Fn(EventId, Option<&EventState>) -> bool,
    ) -> Result<Vec<Known>, Violation> {
        let in_range = |id: &EventId| in_range(*id);
        let is_right = |id: &EventId, state: Option<&_>| {
            state.is_none_or(self.is_current(*id, exchange)) && is_right(*id, state)
        };
        check_each(&self.events, exchange, listed, in_range, is_right, Known::Event)
    }

    /// Checks that idle shards have the state that is on disk. `query` asks the owner of a slot; `totals` is
    /// the sum over all shards.
    pub(in crate::simulation) fn check_all(
        &self,
        query: impl Fn(Slot, &Query) -> Reply,
        totals: Totals,
    ) -> Result<(), Violation> {
        let usable = || self.accounts.values().flat_map(History::last).filter(|account| !account.removed);
        let accounts = usable().count() as u64;
        let admins = usable().filter(|account| account.role == Role::Admin).count() as u64;
        let mut sum = Totals { accounts, admins, keys: self.keys.count(), ..Totals::default() };
        let ask = |slot, question: Query, expected: &dyn Fn(&Ask) -> Result<Option<Outcome>, Rejection>| {
            let reply = query(slot, &question);
            let ask = Ask::Query(question);
            match expected(&ask).transpose() {
                Some(expected) if expected == reply => Ok(()),
                expected => Err(format!("{ask:?}: shard {reply:?}, disk {expected:?}")),
            }
        };
        for (username, history) in &self.accounts {
            let query = Query::Account { username: username.clone() };
            ask(slot_of_username(username), query, &|ask| expected_of_account(history.last(), ask))?;
        }
        for (&event, history) in &self.events {
            let statuses = Statuses::ALL;
            let limit = usize::MAX;
            let all = Query::EventReservations {
                event,
                actor: ADMIN,
                after: None,
                up_to: None,
                statuses,
                customer_ref: None,
                limit,
            };
            let count = history.last().map_or(0, |state| state.reservations.len() as u32);
            let each = (1..=count + 1).map(|number| Query::Reservation {
                reservation: ReservationId { event, number },
                actor: ADMIN,
            });
            for query in [Query::Event { event }, Query::Availability { event }, all].into_iter().chain(each)
            {
                ask(slot_of_event(event), query, &|ask| {
                    expected_of_event(history.last(), ask, Timestamp(0))
                })?;
            }
            if let Some(state) = history.last().filter(|state| !state.is_deleted) {
                sum.events += 1;
                sum.quota += u64::from(state.view.details.quota);
                sum.reserved += u64::from(state.view.reserved);
                sum.held += u64::from(state.view.held);
            }
        }
        if sum != totals {
            return Err(format!("totals of the shards {totals:?}, of the disk {sum:?}"));
        }
        Ok(())
    }
}

/// Checks the length and order of a page of a list. Returns whether an id is in the range that the page is
/// about: after `after`, and up to the page's last id if the page is full.
fn range_of_page<I: Copy + Ord>(
    ids: impl ExactSizeIterator<Item = I> + Clone,
    after: Option<I>,
    limit: usize,
    exchange: Exchange<'_>,
) -> Result<impl Fn(I) -> bool, Violation> {
    if !ids.clone().is_sorted_by(|one, next| one < next) || ids.len() > limit {
        return Err(format!("{exchange:?}"));
    }
    let is_full = ids.len() == limit;
    let end = ids.last().filter(|_| is_full);
    Ok(move |id| after.is_none_or(|after| id > after) && end.is_none_or(|end| id <= end))
}

/// Checks a reply history by history: `is_right` must hold for each one `in_range`, and those that the
/// reply lists must all be among these.
pub(super) fn check_each<K: Ord + Clone, T: Debug>(
    histories: &BTreeMap<K, History<T>>,
    exchange: Exchange<'_>,
    mut listed: impl Iterator<Item = K>,
    in_range: impl Fn(&K) -> bool,
    is_right: impl Fn(&K, Option<&T>) -> bool,
    known: impl Fn(K, usize) -> Known,
) -> Result<Vec<Known>, Violation> {
    if !listed.all(|key| in_range(&key) && histories.contains_key(&key)) {
        return Err(format!("{exchange:?}"));
    }
    let histories_in_range = histories.iter().filter(|(key, _)| in_range(key));
    histories_in_range
        .map(|(key, history)| Ok(known(key.clone(), history.find(exchange, |state| is_right(key, state))?)))
        .collect()
}
