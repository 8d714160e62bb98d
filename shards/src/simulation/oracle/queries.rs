//! Whether the answer to a query is right.

use super::event::EventState;
use super::history::History;
use super::rules::{expected_of_account, expected_of_event};
use super::{Known, Oracle, Violation};
use crate::command::{Ask, Buyer, Query};
use crate::ids::{EventId, ReservationId, Role, Slot};
use crate::outcome::{Outcome, Rejection, Reply, ReservationView, Totals};
use crate::simulation::workload::ADMIN;
use crate::slots::{slot_of_event, slot_of_username};

impl Oracle {
    pub(super) fn check_query(
        &mut self,
        asked: u64,
        query: &Query,
        ask: &Ask,
        reply: &Reply,
        owns: impl Fn(Slot) -> bool,
    ) -> Result<Vec<Known>, Violation> {
        let of_event = |oracle: &mut Oracle, event: EventId| -> Result<Vec<Known>, Violation> {
            let history = oracle.events.entry(event).or_default();
            let count = history
                .find(asked, |state| expected_of_event(state, ask).transpose().as_ref() == Some(reply));
            Ok(vec![Known::Event(event, count.ok_or_else(|| history.complain(asked, ask, reply))?)])
        };
        match (query, reply) {
            (Query::Account { username } | Query::TokenStands { username, .. }, _) => {
                let history = self.accounts.entry(username.clone()).or_default();
                let is_right =
                    |state: Option<&_>| expected_of_account(state, ask).transpose().as_ref() == Some(reply);
                let count = history.find(asked, is_right);
                let count = count.ok_or_else(|| history.complain(asked, ask, reply))?;
                Ok(vec![Known::Account(username.clone(), count)])
            }
            (Query::Event { event } | Query::EventReservations { event, .. }, _) => of_event(self, *event),
            (Query::Reservation { reservation, .. }, _) => of_event(self, reservation.event),
            (Query::Events { after, limit, organizer }, Ok(Outcome::Events(list))) => {
                let is_listed = |state: &EventState| {
                    !state.is_deleted && organizer.is_none_or(|organizer| organizer == state.view.organizer)
                };
                let in_range = |id: EventId| {
                    let ends_at = if list.len() < *limit { None } else { list.last().map(|last| last.id) };
                    owns(slot_of_event(id))
                        && after.is_none_or(|after| id > after)
                        && ends_at.is_none_or(|end| id <= end)
                };
                let of = |id: EventId| list.iter().filter(move |view| view.id == id);
                let is_right = |id: EventId, state: Option<&EventState>| {
                    of(id).eq(state.filter(|state| is_listed(state)).map(|state| &state.view))
                };
                let sorted = list.is_sorted_by(|one, next| one.id < next.id) && list.len() <= *limit;
                self.check_list(
                    asked,
                    ask,
                    reply,
                    sorted,
                    list.iter().map(|view| view.id),
                    in_range,
                    is_right,
                )
            }
            (Query::CustomerReservations { customer, after, limit }, Ok(Outcome::Reservations(list))) => {
                let ends_at = if list.len() < *limit { None } else { list.last().map(|last| last.id) };
                let is_listed = |view: &&ReservationView| {
                    view.buyer == Buyer::Account(*customer)
                        && after.is_none_or(|after| view.id > after)
                        && ends_at.is_none_or(|end| view.id <= end)
                };
                let is_right = |id: EventId, state: Option<&EventState>| {
                    let reservations = state.map_or(&[][..], |state| &state.reservations);
                    list.iter().filter(|view| view.id.event == id).eq(reservations.iter().filter(is_listed))
                };
                let sorted = list.is_sorted_by(|one, next| one.id < next.id) && list.len() <= *limit;
                let ids = list.iter().map(|view| view.id.event);
                self.check_list(asked, ask, reply, sorted, ids, |id| owns(slot_of_event(id)), is_right)
            }
            (Query::Totals, Ok(Outcome::Totals(totals))) if totals.reserved <= totals.quota => Ok(Vec::new()),
            _ => Err(format!("{ask:?} -> {reply:?}")),
        }
    }

    /// A list over many events is right when it is right in each of them that is `in_range`,
    /// and names no other.
    #[expect(clippy::too_many_arguments, reason = "the two lists differ in nothing else")]
    fn check_list(
        &self,
        asked: u64,
        ask: &Ask,
        reply: &Reply,
        sorted: bool,
        mut ids: impl Iterator<Item = EventId>,
        in_range: impl Fn(EventId) -> bool,
        is_right: impl Fn(EventId, Option<&EventState>) -> bool,
    ) -> Result<Vec<Known>, Violation> {
        if !sorted || !ids.all(|id| in_range(id) && self.events.contains_key(&id)) {
            return Err(format!("{ask:?} -> {reply:?}"));
        }
        let mut known = Vec::new();
        for (&id, history) in self.events.iter().filter(|(id, _)| in_range(**id)) {
            let count = history.find(asked, |state| is_right(id, state));
            known.push(Known::Event(id, count.ok_or_else(|| history.complain(asked, ask, reply))?));
        }
        Ok(known)
    }

    /// Whether shards that have nothing under way know just what is on disk.
    pub(in crate::simulation) fn check_all(
        &self,
        query: impl Fn(Slot, &Query) -> Reply,
        totals: Totals,
    ) -> Result<(), Violation> {
        let usable = || self.accounts.values().flat_map(History::last).filter(|account| !account.removed);
        let accounts = usable().count() as u64;
        let admins = usable().filter(|account| account.role == Role::Admin).count() as u64;
        let mut sum = Totals { accounts, admins, ..Totals::default() };
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
            let all = Query::EventReservations { event, actor: ADMIN, after: None, limit: usize::MAX };
            let count = history.last().map_or(0, |state| state.reservations.len() as u32);
            let each = (1..=count + 1).map(|number| Query::Reservation {
                reservation: ReservationId { event, number },
                actor: ADMIN,
            });
            for query in [Query::Event { event }, all].into_iter().chain(each) {
                ask(slot_of_event(event), query, &|ask| expected_of_event(history.last(), ask))?;
            }
            if let Some(state) = history.last().filter(|state| !state.is_deleted) {
                sum.events += 1;
                sum.quota += u64::from(state.view.quota);
                sum.reserved += u64::from(state.view.reserved);
            }
        }
        if sum != totals {
            return Err(format!("the shards sum up to {totals:?}, the disk to {sum:?}"));
        }
        Ok(())
    }
}
