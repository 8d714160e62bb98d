//! The one object through which the API asks shards. Questions and answers have types, and callers
//! see no channels.

mod parts;

use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot;
use shards::api_keys::ApiKeyView;
use shards::command::{
    Actor, Ask, ChangePassword, ChangeRole, Command, CreateEvent, CreateUser, CustomerRef, EditEvent,
    EndApiKey, EndTokens, GiveEventId, IdempotencyKey, Keyed, MakeApiKey, Query, RemoveUser, SlotPositions,
    Transfer,
};
use shards::ids::{ApiKeyNumber, EventId, Lsn, OrderId, ReservationId, Slot, UserId, Username};
use shards::outcome::{
    AccountView, Availability, ChangeSlice, EventView, OrderSlice, OrderView, Outcome, Rejection,
    ReservationSlice, ReservationView, Totals, UserView,
};

pub(crate) use crate::mesh::Call;
use crate::mesh::{Mesh, Overloaded};
use crate::rt;

/// The reason why a question has no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The rules of the domain do not allow it.
    Rejected(Rejection),
    /// Old records could not be read from the log. The server's own log says why.
    Unreadable,
    /// No place for a reply was left, or the owners of slots changed while they were asked. Nothing
    /// was done.
    Overloaded,
}

impl From<Overloaded> for Refused {
    fn from(Overloaded: Overloaded) -> Refused {
        Refused::Overloaded
    }
}

/// Runs `work` to its end, even if the caller is dropped while it waits.
pub(crate) async fn to_the_end<T: 'static>(work: impl Future<Output = T> + 'static) -> T {
    let (sender, receiver) = oneshot::channel();
    rt::spawn(async move {
        // The caller may have gone.
        let _ = sender.send(work.await);
    });
    receiver.await.expect("a task ends, or the process does")
}

/// Waits before shards are asked again.
pub(crate) async fn pause(time: Duration) {
    rt::sleep(time).await;
}

/// How long and how often a part of a long answer is asked for while shards are overloaded: some seconds, for which no
/// client's timeout is too short.
const PAUSE: Duration = Duration::from_millis(50);
const ATTEMPTS: usize = 100;

/// Asks again while shards are overloaded, for an answer of which the client has a part already.
pub(crate) async fn patiently<T>(ask: impl AsyncFn() -> Result<T, Refused>) -> Result<T, Refused> {
    for _ in 1..ATTEMPTS {
        match ask().await {
            Err(Refused::Overloaded) => pause(PAUSE).await,
            answered @ (Ok(_) | Err(Refused::Rejected(_) | Refused::Unreadable)) => return answered,
        }
    }
    ask().await
}

/// A question for one slot.
#[derive(Debug)]
pub struct Question {
    slot: Slot,
    ask: Ask,
}

impl Question {
    /// # Panics
    ///
    /// When `ask` is for every slot.
    pub fn new(ask: Ask) -> Question {
        Question { slot: ask.slot().expect("the question is for one slot"), ask }
    }

    /// Whether it only reads.
    pub fn is_safe(&self) -> bool {
        matches!(self.ask, Ask::Query(_))
    }
}

/// The shards, seen from one core.
#[derive(Clone)]
pub struct Shards {
    mesh: Rc<Mesh>,
}

/// Takes the view out of an outcome. Each question has one variant of outcome.
macro_rules! view {
    ($variant:path, $outcome:expr) => {
        match $outcome {
            $variant(view) => view,
            other => unreachable!("a shard answered with {other:?}"),
        }
    };
}
pub(crate) use view;

impl Shards {
    pub fn new(mesh: Rc<Mesh>) -> Shards {
        Shards { mesh }
    }

    /// The shard that a question is sent to.
    pub fn owner(&self, question: &Question) -> usize {
        self.mesh.owner(question.slot)
    }

    /// Sends a question. Awaiting the call gives the reply.
    ///
    /// # Errors
    ///
    /// [`Overloaded`], and nothing was sent.
    pub fn ask(&self, question: Question) -> Result<Call, Overloaded> {
        let Question { slot, ask } = question;
        self.mesh.call(slot, ask)
    }

    pub async fn create_user(&self, create: CreateUser) -> Result<Box<AccountView>, Refused> {
        let outcome = self.command(Command::CreateUser(Box::new(create))).await?;
        Ok(view!(Outcome::Account, outcome).expect("it was just made"))
    }

    pub async fn account(&self, username: Username) -> Result<Option<Box<AccountView>>, Refused> {
        let outcome = self.query(Query::Account { username }).await?;
        Ok(view!(Outcome::Account, outcome))
    }

    /// Asks all shards, since the slot of an account follows from its username and not from its id.
    pub async fn account_of(&self, user: UserId) -> Result<Option<Box<AccountView>>, Refused> {
        let parts = self.query_all(Query::AccountOf { user }).await?;
        Ok(parts.into_iter().find_map(|part| view!(Outcome::Account, part)))
    }

    /// Whether a token with this account and token version is still valid.
    pub async fn token_stands(
        &self,
        user: UserId,
        username: Username,
        token_version: u64,
    ) -> Result<bool, Refused> {
        let outcome = self.query(Query::TokenStands { user, username, token_version }).await?;
        Ok(view!(Outcome::Stands, outcome))
    }

    /// Whether API keys with this account and account version are still valid, if they were not ended.
    pub async fn api_keys_stand(
        &self,
        user: UserId,
        username: Username,
        account_version: u64,
    ) -> Result<bool, Refused> {
        let outcome = self.query(Query::ApiKeysStand { user, username, account_version }).await?;
        Ok(view!(Outcome::Stands, outcome))
    }

    /// Returns when no core accepts the account's earlier tokens any more. So do `change_role`, `end_tokens` and
    /// `remove_user`.
    pub async fn change_password(&self, change: ChangePassword) -> Result<(), Refused> {
        self.command(Command::ChangePassword(Box::new(change))).await?;
        Ok(())
    }

    pub async fn change_role(&self, change: ChangeRole) -> Result<UserView, Refused> {
        let outcome = self.command(Command::ChangeRole(Box::new(change))).await?;
        Ok(view!(Outcome::AccountChanged, outcome))
    }

    pub async fn remove_user(&self, remove: RemoveUser) -> Result<(), Refused> {
        self.command(Command::RemoveUser(Box::new(remove))).await?;
        Ok(())
    }

    pub async fn end_tokens(&self, end: EndTokens) -> Result<(), Refused> {
        self.command(Command::EndTokens(Box::new(end))).await?;
        Ok(())
    }

    pub async fn make_api_key(&self, make: MakeApiKey) -> Result<Box<ApiKeyView>, Refused> {
        let outcome = self.command(Command::MakeApiKey(Box::new(make))).await?;
        Ok(view!(Outcome::ApiKey, outcome).expect("it was just made"))
    }

    /// Returns when no core accepts the key any more.
    pub async fn end_api_key(&self, end: EndApiKey) -> Result<(), Refused> {
        self.command(Command::EndApiKey(end)).await?;
        Ok(())
    }

    /// A key that was not ended. Its account may have changed, which ends it, too.
    pub async fn api_key(
        &self,
        organizer: UserId,
        number: ApiKeyNumber,
    ) -> Result<Option<Box<ApiKeyView>>, Refused> {
        let outcome = self.query(Query::ApiKey { organizer, number }).await?;
        Ok(view!(Outcome::ApiKey, outcome))
    }

    /// The keys of an organizer that were not ended, by number.
    pub async fn api_keys(&self, organizer: UserId) -> Result<Vec<ApiKeyView>, Refused> {
        let outcome = self.query(Query::ApiKeys { organizer }).await?;
        Ok(view!(Outcome::ApiKeys, outcome))
    }

    /// Users of all shards, ordered by id. No snapshot: each shard answers at its own time.
    pub async fn users(&self, after: Option<UserId>, limit: usize) -> Result<Vec<UserView>, Refused> {
        let parts = self.query_all(Query::Users { after, limit }).await?;
        let lists = parts.into_iter().map(|part| view!(Outcome::Users, part));
        Ok(first_of(lists, limit, |user| user.id))
    }

    /// The usernames of accounts, by id; those of removed accounts, too. `users` is in ascending order, without
    /// repetitions.
    pub async fn usernames(&self, users: Box<[UserId]>) -> Result<BTreeMap<UserId, Username>, Refused> {
        let parts = self.query_all(Query::Usernames { users }).await?;
        Ok(parts.into_iter().flat_map(|part| view!(Outcome::Usernames, part)).collect())
    }

    /// A part of an event's reservations. `query` is a [`Query::EventReservations`].
    pub async fn reservation_slice(&self, query: Query) -> Result<Box<ReservationSlice>, Refused> {
        Ok(view!(Outcome::ReservationSlice, self.query(query).await?))
    }

    pub async fn create_event(&self, create: CreateEvent) -> Result<Box<EventView>, Refused> {
        let outcome = self.command(Command::CreateEvent(Box::new(create))).await?;
        Ok(view!(Outcome::Event, outcome))
    }

    /// The event's id that a key has.
    pub async fn given_event_id(&self, key: IdempotencyKey) -> Result<Option<EventId>, Refused> {
        let outcome = self.query(Query::GivenEventId { key }).await?;
        Ok(view!(Outcome::GivenEventId, outcome))
    }

    /// Gives an event's id to a key. Returns the one that it has: another one, if it had one already.
    pub async fn give_event_id(&self, give: GiveEventId) -> Result<EventId, Refused> {
        let outcome = self.command(Command::GiveEventId(Box::new(give))).await?;
        Ok(view!(Outcome::GivenEventId, outcome).expect("it was just given"))
    }

    /// Creates an event with an id that a key has, unless that was done before.
    pub async fn create_given_event(&self, create: CreateEvent) -> Result<Outcome, Refused> {
        self.command(Command::CreateGivenEvent(Box::new(create))).await
    }

    pub async fn edit_event(&self, edit: EditEvent) -> Result<Box<EventView>, Refused> {
        let outcome = self.command(Command::EditEvent(Box::new(edit))).await?;
        Ok(view!(Outcome::Event, outcome))
    }

    pub async fn event(&self, event: EventId) -> Result<Box<EventView>, Refused> {
        let outcome = self.query(Query::Event { event }).await?;
        Ok(view!(Outcome::Event, outcome))
    }

    /// The tickets of an event.
    pub async fn availability(&self, event: EventId) -> Result<Availability, Refused> {
        let outcome = self.query(Query::Availability { event }).await?;
        Ok(view!(Outcome::Availability, outcome))
    }

    /// The tickets of an event, once its position is another than `after`, or `wait` is over: see [`Query::Watch`].
    pub async fn watch(&self, event: EventId, after: Lsn, wait: Duration) -> Result<Availability, Refused> {
        let outcome = self.query(Query::Watch { event, after, wait }).await?;
        Ok(view!(Outcome::Availability, outcome))
    }

    /// How far an event's records go, and those of a page if they are in memory: see [`Query::Changes`].
    pub async fn changes(
        &self,
        event: EventId,
        actor: Actor,
        after: Lsn,
        limit: usize,
    ) -> Result<Box<ChangeSlice>, Refused> {
        let outcome = self.query(Query::Changes { event, actor, after, limit }).await?;
        Ok(view!(Outcome::Changes, outcome))
    }

    /// An organizer's events that have records after the position of their slot, each with its last one. Each slot
    /// answers as of one moment.
    pub async fn changed_events(
        &self,
        organizer: UserId,
        after: Box<SlotPositions>,
    ) -> Result<Vec<(EventId, Lsn)>, Refused> {
        let parts = self.query_all(Query::ChangedEvents { organizer, after }).await?;
        Ok(parts.into_iter().flat_map(|part| view!(Outcome::ChangedEvents, part)).collect())
    }

    /// Lets no question wait for news at this core's shard any more: the server drains.
    pub fn close_watches(&self) {
        self.mesh.close_watches();
    }

    /// The tickets of events, ordered by id; unknown and deleted events are left out. No snapshot: each shard
    /// answers at its own time. `events` is in ascending order, without repetitions.
    pub async fn availabilities(&self, events: Box<[EventId]>) -> Result<Vec<Availability>, Refused> {
        let limit = events.len();
        let parts = self.query_all(Query::Availabilities { events }).await?;
        let lists = parts.into_iter().map(|part| view!(Outcome::Availabilities, part));
        Ok(first_of(lists, limit, |one| one.event))
    }

    /// Events of all shards, ordered by id. No snapshot: each shard answers at its own time.
    pub async fn events(
        &self,
        after: Option<EventId>,
        limit: usize,
        organizer: Option<UserId>,
    ) -> Result<Vec<EventView>, Refused> {
        let parts = self.query_all(Query::Events { after, limit, organizer }).await?;
        let lists = parts.into_iter().map(|part| view!(Outcome::Events, part));
        Ok(first_of(lists, limit, |event| event.id))
    }

    /// The number of events that an account has created, deleted ones included. No snapshot, like
    /// [`Shards::events`].
    pub async fn events_created(&self, organizer: UserId) -> Result<u64, Refused> {
        let parts = self.query_all(Query::EventsCreated { organizer }).await?;
        Ok(parts.into_iter().map(|part| view!(Outcome::EventsCreated, part)).sum())
    }

    /// Reservations from all shards, ordered by event and then by number.
    pub async fn customer_reservations(
        &self,
        customer: UserId,
        after: Option<ReservationId>,
        limit: usize,
    ) -> Result<Vec<ReservationView>, Refused> {
        let parts = self.query_all(Query::CustomerReservations { customer, after, limit }).await?;
        let lists = parts.into_iter().map(|part| view!(Outcome::Reservations, part));
        Ok(first_of(lists, limit, |reservation| reservation.id))
    }

    pub async fn order(&self, order: OrderId, actor: Actor) -> Result<OrderView, Refused> {
        let outcome = self.query(Query::Order { order, actor }).await?;
        Ok(*view!(Outcome::Order, outcome))
    }

    /// The orders of an account by number, after `after`; those for a ref, if there is one.
    pub async fn orders(
        &self,
        owner: UserId,
        after: Option<u32>,
        customer_ref: Option<CustomerRef>,
        limit: usize,
    ) -> Result<Box<OrderSlice>, Refused> {
        let outcome = self.query(Query::Orders { owner, after, customer_ref, limit }).await?;
        Ok(view!(Outcome::Orders, outcome))
    }

    /// Parts of orders, by id. No snapshot: each shard answers at its own time. `parts` is in ascending order, without
    /// repetitions.
    pub async fn parts(&self, parts: Box<[ReservationId]>) -> Result<Vec<ReservationView>, Refused> {
        let limit = parts.len();
        let lists = self.query_all(Query::Parts { parts }).await?;
        let lists = lists.into_iter().map(|part| view!(Outcome::Reservations, part));
        Ok(first_of(lists, limit, |reservation| reservation.id))
    }

    /// Sends a cancellation.
    ///
    /// # Errors
    ///
    /// [`Overloaded`], and nothing was sent.
    pub fn cancel(&self, reservation: ReservationId, actor: Actor) -> Result<Call, Overloaded> {
        self.ask(Question::new(Ask::Command(Command::Cancel { reservation, actor })))
    }

    /// Transfers a reservation, or a part of it; once, if there is a key.
    pub async fn transfer(
        &self,
        transfer: Transfer,
        key: Option<IdempotencyKey>,
    ) -> Result<Outcome, Refused> {
        let command = Command::Transfer(Box::new(transfer));
        self.command(match key {
            Some(key) => Command::Keyed(Box::new(Keyed { key, command })),
            None => command,
        })
        .await
    }

    pub async fn totals(&self) -> Result<Totals, Refused> {
        let mut sum = Totals::default();
        for part in self.query_all(Query::Totals).await? {
            sum += view!(Outcome::Totals, part);
        }
        Ok(sum)
    }

    /// The part of the totals that this core's own shard has.
    pub async fn totals_of_core(&self) -> Result<Totals, Refused> {
        let outcome = self.mesh.call_own(Query::Totals)?.await.map_err(Refused::Rejected)?;
        Ok(view!(Outcome::Totals, view!(Outcome::Part, outcome).outcome))
    }

    async fn command(&self, command: Command) -> Result<Outcome, Refused> {
        self.ask(Question::new(Ask::Command(command)))?.await.map_err(Refused::Rejected)
    }

    async fn query(&self, query: Query) -> Result<Outcome, Refused> {
        self.ask(Question::new(Ask::Query(query)))?.await.map_err(Refused::Rejected)
    }

    /// Asks the owners of all slots.
    async fn query_all(&self, query: Query) -> Result<Vec<Outcome>, Refused> {
        parts::ask_all(&self.mesh, &query).await
    }
}

/// The first `limit` items of all lists, ordered by `key`.
fn first_of<T, K: Ord>(lists: impl Iterator<Item = Vec<T>>, limit: usize, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut items: Vec<T> = lists.flatten().collect();
    items.sort_unstable_by_key(key);
    items.truncate(limit);
    items
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::rt::net::Sockets;
    use crate::rt::reactor::Reactor;
    use crate::rt::waker::CoreWaker;

    #[test]
    fn a_part_is_asked_for_again_while_shards_are_overloaded() {
        let core = rt::Executor::of_environment().start_core("test", || async {
            let waker = CoreWaker::new().expect("descriptors are left");
            let sockets = Sockets::new(&waker).expect("descriptors are left");
            Reactor::new(sockets, waker, || false).start();
            for refusals in [0, 2] {
                for last in [Ok(7), Err(Refused::Rejected(Rejection::NotYourEvent))] {
                    let asked = Cell::new(0);
                    let answer = patiently(async || {
                        asked.update(|asked| asked + 1);
                        if asked.get() <= refusals { Err(Refused::Overloaded) } else { last.clone() }
                    });
                    assert_eq!(answer.await, last);
                    assert_eq!(asked.get(), refusals + 1, "times that it was asked");
                }
            }
        });
        core.expect("a thread").join().expect("the core ends without a panic");
    }
}
