//! What a customer with a long memory would write down: everything that was
//! asked, everything that is on disk, and what each answer proves.
//!
//! Written apart from `state`, in the plainest way: every event and account is
//! kept as it was after each of its records, and an answer is right when it is
//! what the rules say of one of these, no older than what its asker could know
//! and no newer than the disk.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::workload::ADMIN;
use crate::command::{Actor, Ask, Buyer, Command, Query};
use crate::ids::{EventId, Lsn, ReservationId, Role, Slot, Timestamp, UserId, Username};
use crate::outcome::{
    AccountView, EventView, Outcome, Rejection, Reply, ReservationStatus, ReservationView, Totals, UserView,
};
use crate::record::{Entry, Kind, Record};
use crate::slots::{slot_of_event, slot_of_username};

/// What went wrong, in words.
pub(super) type Violation = String;

/// Which change is meant, as far as the command that asks for it and its record both say.
type Change = (Kind, u32, u32, u32);

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

#[derive(Debug)]
struct History<T> {
    /// As it was after each of its records, and which change that was.
    states: Vec<(Change, T)>,
    /// Records whose command was answered.
    answered: Vec<usize>,
    /// From which step on somebody knew of how many records. Both rise.
    known: Vec<(u64, usize)>,
}

#[derive(Debug, Clone)]
struct EventState {
    view: EventView,
    is_deleted: bool,
    reservations: Vec<ReservationView>,
}

impl Oracle {
    pub(super) fn asked(&mut self, ask: &Ask) {
        if let Ask::Command(command) = ask {
            *self.open.entry(change_of_command(command)).or_default() += 1;
        }
    }

    /// A record is on disk, where it stays.
    pub(super) fn is_on_disk(&mut self, entry: &Entry) -> Result<(), Violation> {
        let change = change_of_record(&entry.record);
        self.close(change, entry)?;
        let (lsn, at) = self.heads.get(&entry.slot).copied().unwrap_or_default();
        if entry.lsn != lsn.next() || entry.at < at.max(Timestamp(1)) {
            return Err(format!("{entry:?} follows lsn {lsn} of {at:?}"));
        }
        self.heads.insert(entry.slot, (entry.lsn, entry.at));
        match &entry.record {
            Record::UserCreated(user) => {
                let account = AccountView {
                    id: user.id,
                    username: user.username.clone(),
                    password_hash: user.password_hash.clone(),
                    role: user.role,
                    token_version: user.token_version,
                    removed: false,
                };
                let mut accounts = self.accounts.values().flat_map(History::last);
                if accounts.any(|other| other.id == account.id) {
                    return Err(format!("a user's id was given twice: {account:?}"));
                }
                self.accounts.entry(user.username.clone()).or_default().states.push((change, account));
            }
            Record::PasswordChanged(changed) => {
                let mut account = self.usable_account(&changed.username, &entry.record)?;
                account.password_hash = changed.password_hash.clone();
                account.token_version = changed.token_version;
                self.accounts.entry(changed.username.clone()).or_default().states.push((change, account));
            }
            Record::RoleChanged(changed) => {
                let mut account = self.usable_account(&changed.username, &entry.record)?;
                account.role = changed.role;
                account.token_version = changed.token_version;
                self.accounts.entry(changed.username.clone()).or_default().states.push((change, account));
            }
            Record::UserRemoved(removed) => {
                let mut account = self.usable_account(&removed.username, &entry.record)?;
                account.password_hash = "".into();
                account.removed = true;
                self.accounts.entry(removed.username.clone()).or_default().states.push((change, account));
            }
            Record::EventCreated(_)
            | Record::EventEdited(_)
            | Record::EventDeleted { .. }
            | Record::Reserved { .. }
            | Record::Cancelled { .. } => {
                let history = self.events.entry(EventId(change.1)).or_default();
                let state = EventState::after(history.last(), entry.at, &entry.record)?;
                history.states.push((change, state));
            }
        }
        Ok(())
    }

    fn usable_account(&self, username: &Username, record: &Record) -> Result<AccountView, Violation> {
        let account = self.accounts.get(username).and_then(History::last).filter(|account| !account.removed);
        account.cloned().ok_or_else(|| format!("there is no account for {record:?}"))
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

    fn check_query(
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

    /// Whether shards that have nothing under way know just what is on disk.
    pub(super) fn check_all(
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

impl<T> Default for History<T> {
    fn default() -> History<T> {
        History { states: Vec::new(), answered: Vec::new(), known: Vec::new() }
    }
}

impl<T: Debug> History<T> {
    fn last(&self) -> Option<&T> {
        self.states.last().map(|(_, state)| state)
    }

    fn learn(&mut self, now: u64, count: usize) {
        if self.known.last().is_none_or(|&(_, known)| known < count) {
            self.known.push((now, count));
        }
    }

    /// After how many records `is_right` first holds: of those that whoever asked in step
    /// `asked` could know of, or later ones.
    fn find(&self, asked: u64, is_right: impl Fn(Option<&T>) -> bool) -> Option<usize> {
        (self.known_at(asked)..=self.states.len()).find(|&count| is_right(self.after(count)))
    }

    /// The same for a command: it saw so many records and changed nothing, or its own was the
    /// last of them.
    fn find_answer(
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

    fn complain(&self, asked: u64, ask: &dyn Debug, reply: &Reply) -> Violation {
        let known = self.known_at(asked);
        let states: Vec<_> = self.states.iter().enumerate().skip(known.saturating_sub(1)).collect();
        format!("{ask:?} -> {reply:?}, which fits none of {known} or more records of {states:#?}")
    }

    fn known_at(&self, step: u64) -> usize {
        let known = self.known.iter().rev().find(|known| known.0 <= step);
        known.map_or(0, |&(_, count)| count)
    }

    /// `None` before the first record.
    fn after(&self, count: usize) -> Option<&T> {
        Some(&self.states.get(count.checked_sub(1)?)?.1)
    }
}

impl EventState {
    fn after(before: Option<&EventState>, at: Timestamp, record: &Record) -> Result<EventState, Violation> {
        if let Record::EventCreated(event) = record {
            let view = EventView {
                id: event.id,
                name: event.name.clone(),
                organizer: event.organizer,
                quota: event.quota,
                reserved: 0,
                held: 0,
                remaining: event.quota,
                version: 1,
                created_at: at,
                updated_at: at,
            };
            let created = EventState { view, is_deleted: false, reservations: Vec::new() };
            return before.map_or(Ok(created), |before| Err(format!("{record:?} after {before:?}")));
        }
        let before = before.filter(|before| !before.is_deleted);
        let mut state = before.cloned().ok_or_else(|| format!("there is no event for {record:?}"))?;
        match record {
            Record::UserCreated(_)
            | Record::PasswordChanged(_)
            | Record::RoleChanged(_)
            | Record::UserRemoved(_)
            | Record::EventCreated(_) => unreachable!("{record:?} changes no event"),
            Record::EventEdited(edited) => {
                state.view.name = edited.name.clone();
                state.view.quota = edited.quota;
                state.view.version += 1;
                state.view.updated_at = at;
            }
            Record::EventDeleted { .. } => {
                state.is_deleted = true;
                state.reservations.iter_mut().for_each(|reservation| cancel(reservation, at));
            }
            &Record::Reserved { id, by: _, buyer, quantity } => {
                let (status, created_at) = (ReservationStatus::Confirmed, at);
                let new = ReservationView { id, buyer, quantity, status, created_at, cancelled_at: None };
                state.reservations.push(new);
                if id.number as usize != state.reservations.len() {
                    return Err(format!("{record:?} is number {}", state.reservations.len()));
                }
            }
            Record::Cancelled { id, .. } => {
                let reservation = state.reservations.get_mut(id.number as usize - 1);
                match reservation.filter(|one| one.status == ReservationStatus::Confirmed) {
                    Some(reservation) => cancel(reservation, at),
                    None => return Err(format!("nothing to cancel for {record:?}")),
                }
            }
        }
        let confirmed = |one: &&ReservationView| one.status == ReservationStatus::Confirmed;
        state.view.reserved = state.reservations.iter().filter(confirmed).map(|one| one.quantity).sum();
        let remaining = state.view.quota.checked_sub(state.view.reserved);
        state.view.remaining = remaining.ok_or_else(|| format!("oversold by {record:?}: {state:?}"))?;
        Ok(state)
    }

    /// What the command is answered with whose record led here.
    fn outcome(&self, command: &Command) -> Outcome {
        match command {
            Command::CreateUser(_)
            | Command::ChangePassword(_)
            | Command::ChangeRole(_)
            | Command::RemoveUser(_) => unreachable!("accounts are no events"),
            Command::CreateEvent(_) | Command::EditEvent(_) => Outcome::Event(Box::new(self.view.clone())),
            Command::DeleteEvent { .. } => Outcome::EventDeleted,
            Command::Reserve { .. } => Outcome::Reservation(*self.reservations.last().expect("just made")),
            Command::Cancel { .. } => Outcome::Cancelled,
        }
    }

    fn is_managed_by(&self, actor: Actor) -> bool {
        actor.role == Role::Admin || (actor.role == Role::Organizer && actor.user == self.view.organizer)
    }
}

fn cancel(reservation: &mut ReservationView, at: Timestamp) {
    if reservation.status == ReservationStatus::Confirmed {
        reservation.status = ReservationStatus::Cancelled;
        reservation.cancelled_at = Some(at);
    }
}

/// What the rules say to `ask`, about an event; `None` where it makes a change.
fn expected_of_event(event: Option<&EventState>, ask: &Ask) -> Result<Option<Outcome>, Rejection> {
    let live = || match event {
        None => Err(Rejection::EventNotFound),
        Some(event) if event.is_deleted => Err(Rejection::EventDeleted),
        Some(event) => Ok(event),
    };
    let managed = |actor| live()?.is_managed_by(actor).then(live).ok_or(Rejection::NotYourEvent)?;
    let seen = |id: ReservationId, actor: Actor| {
        let reservation =
            event.and_then(|event| event.reservations.get((id.number as usize).checked_sub(1)?));
        let is_seen = |one: &&ReservationView| match actor.role {
            Role::Customer => one.buyer == Buyer::Account(actor.user),
            Role::Organizer | Role::Admin => event.is_some_and(|event| event.is_managed_by(actor)),
        };
        reservation.filter(is_seen).ok_or(Rejection::ReservationNotFound)
    };
    let view = |event: &EventState| Outcome::Event(Box::new(event.view.clone()));
    Ok(match ask {
        Ask::Command(Command::CreateEvent(_)) => match event {
            None => None,
            Some(_) => return Err(Rejection::EventExists),
        },
        Ask::Command(Command::EditEvent(edit)) => {
            let event = managed(edit.actor)?;
            let (quota, reserved) = (edit.quota.map(|quota| quota.get()), event.view.reserved);
            if quota.is_some_and(|quota| quota < reserved) {
                return Err(Rejection::QuotaBelowCommitted { committed: reserved });
            }
            let same_name = edit.name.as_ref().is_none_or(|name| name.as_str() == &*event.view.name);
            (same_name && quota.is_none_or(|quota| quota == event.view.quota)).then(|| view(event))
        }
        Ask::Command(Command::DeleteEvent { actor, force, .. }) => {
            let reserved = managed(*actor)?.view.reserved;
            if reserved > 0 && !force {
                return Err(Rejection::HasReservations { reserved });
            }
            None
        }
        Ask::Command(Command::Reserve { quantity, .. }) => {
            let remaining = live()?.view.remaining;
            if quantity.get() > remaining {
                return Err(Rejection::SoldOut { remaining });
            }
            None
        }
        Ask::Command(Command::Cancel { reservation, actor }) => {
            let cancelled = seen(*reservation, *actor)?.status == ReservationStatus::Cancelled;
            cancelled.then_some(Outcome::Cancelled)
        }
        Ask::Query(Query::Event { .. }) => Some(view(live()?)),
        Ask::Query(Query::Reservation { reservation, actor }) => {
            Some(Outcome::Reservation(*seen(*reservation, *actor)?))
        }
        Ask::Query(Query::EventReservations { actor, after, limit, .. }) => {
            let reservations = managed(*actor)?.reservations.iter();
            let part =
                reservations.filter(|one| after.is_none_or(|after| one.id.number > after)).take(*limit);
            Some(Outcome::Reservations(part.copied().collect()))
        }
        Ask::Command(
            Command::CreateUser(_)
            | Command::ChangePassword(_)
            | Command::ChangeRole(_)
            | Command::RemoveUser(_),
        )
        | Ask::Query(
            Query::Account { .. }
            | Query::AccountOf { .. }
            | Query::TokenStands { .. }
            | Query::Users { .. }
            | Query::Events { .. }
            | Query::CustomerReservations { .. }
            | Query::Totals,
        ) => unreachable!("{ask:?} is not about one event"),
    })
}

/// The same about an account.
fn expected_of_account(account: Option<&AccountView>, ask: &Ask) -> Result<Option<Outcome>, Rejection> {
    match (ask, account) {
        (Ask::Command(Command::CreateUser(_)), None) => Ok(None),
        (Ask::Command(Command::CreateUser(_)), Some(_)) => Err(Rejection::UsernameTaken),
        (Ask::Command(Command::ChangePassword(change)), account) => {
            match account.filter(|account| stands(account, change.user, change.token_version)) {
                Some(_) => Ok(None),
                None => Err(Rejection::TokenEnded),
            }
        }
        (Ask::Command(Command::ChangeRole(change)), account) => {
            let account = account.filter(|account| account.id == change.user && !account.removed);
            let account = account.ok_or(Rejection::UserNotFound)?;
            Ok((account.role == change.role).then(|| Outcome::AccountChanged(user_view(account))))
        }
        (Ask::Command(Command::RemoveUser(remove)), account) => {
            let account = account.filter(|account| account.id == remove.user);
            let account = account.ok_or(Rejection::UserNotFound)?;
            Ok(account.removed.then(|| Outcome::AccountChanged(user_view(account))))
        }
        (Ask::Query(Query::TokenStands { user, token_version, .. }), account) => Ok(Some(
            Outcome::TokenStands(account.is_some_and(|account| stands(account, *user, *token_version))),
        )),
        (_, account) => Ok(Some(Outcome::Account(account.cloned().map(Box::new)))),
    }
}

fn stands(account: &AccountView, user: UserId, token_version: u64) -> bool {
    account.id == user && account.token_version == token_version && !account.removed
}

fn user_view(account: &AccountView) -> UserView {
    UserView { id: account.id, username: account.username.clone(), role: account.role }
}

fn change_of_command(command: &Command) -> Change {
    match command {
        Command::CreateUser(create) => (Kind::UserCreated, create.id.0, 0, 0),
        Command::ChangePassword(change) => {
            (Kind::PasswordChanged, change.user.0, change.next_token_version as u32, 0)
        }
        Command::ChangeRole(change) => {
            (Kind::RoleChanged, change.user.0, change.next_token_version as u32, change.role as u32)
        }
        Command::RemoveUser(remove) => (Kind::UserRemoved, remove.user.0, remove.by.0, 0),
        Command::CreateEvent(create) => {
            (Kind::EventCreated, create.id.0, create.organizer.0, create.quota.get())
        }
        Command::EditEvent(edit) => (Kind::EventEdited, edit.event.0, edit.actor.user.0, 0),
        Command::DeleteEvent { event, actor, .. } => (Kind::EventDeleted, event.0, actor.user.0, 0),
        Command::Reserve { event, actor, buyer, quantity } => {
            (Kind::Reserved, event.0, people(actor.user, *buyer), quantity.get())
        }
        Command::Cancel { reservation, actor } => {
            (Kind::Cancelled, reservation.event.0, reservation.number, actor.user.0)
        }
    }
}

/// Who acted, and for whom.
fn people(by: UserId, buyer: Buyer) -> u32 {
    let Buyer::Account(customer) = buyer;
    by.0 << 16 | customer.0
}

pub(super) fn kind_of(record: &Record) -> Kind {
    change_of_record(record).0
}

fn change_of_record(record: &Record) -> Change {
    match record {
        Record::UserCreated(user) => (Kind::UserCreated, user.id.0, 0, 0),
        Record::PasswordChanged(changed) => {
            (Kind::PasswordChanged, changed.id.0, changed.token_version as u32, 0)
        }
        Record::RoleChanged(changed) => {
            (Kind::RoleChanged, changed.id.0, changed.token_version as u32, changed.role as u32)
        }
        Record::UserRemoved(removed) => (Kind::UserRemoved, removed.id.0, removed.by.0, 0),
        Record::EventCreated(event) => (Kind::EventCreated, event.id.0, event.organizer.0, event.quota),
        Record::EventEdited(event) => (Kind::EventEdited, event.id.0, event.by.0, 0),
        Record::EventDeleted { event, by, .. } => (Kind::EventDeleted, event.0, by.0, 0),
        Record::Reserved { id, by, buyer, quantity } => {
            (Kind::Reserved, id.event.0, people(*by, *buyer), *quantity)
        }
        Record::Cancelled { id, by, .. } => (Kind::Cancelled, id.event.0, id.number, by.0),
    }
}
