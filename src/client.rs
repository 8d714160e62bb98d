//! The one object through which the API asks shards: typed questions and typed answers.
//! Channels do not show.

mod parts;

use std::future::Future;
use std::rc::Rc;

use futures_channel::oneshot;
use shards::command::{
    Actor, Ask, Buyer, ChangePassword, ChangeRole, Command, CreateEvent, CreateUser, EditEvent, Query,
    RemoveUser,
};
use shards::ids::{EventId, Quantity, ReservationId, Slot, UserId, Username};
use shards::outcome::{AccountView, EventView, Outcome, Rejection, ReservationView, Totals, UserView};
use shards::slots::{slot_of_event, slot_of_username};

use crate::mesh::{Mesh, Overloaded};
use crate::rt;

/// Why there is no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// By the rules of the domain.
    Rejected(Rejection),
    /// There was no room to ask, or owners of slots changed while they were asked: nothing was
    /// done.
    Overloaded,
}

impl From<Overloaded> for Refused {
    fn from(Overloaded: Overloaded) -> Refused {
        Refused::Overloaded
    }
}

/// Runs `work` to its end, even when nobody waits for it any more.
pub(crate) async fn to_the_end<T: 'static>(work: impl Future<Output = T> + 'static) -> T {
    let (sender, receiver) = oneshot::channel();
    rt::spawn(async move {
        // Whoever asked may have gone.
        let _ = sender.send(work.await);
    });
    receiver.await.expect("a task ends, or the process does")
}

/// The shards, seen from one core.
#[derive(Clone)]
pub struct Shards {
    mesh: Rc<Mesh>,
}

/// Takes the one variant that a question is answered with.
macro_rules! expect {
    ($variant:path, $outcome:expr) => {
        match $outcome {
            $variant(view) => view,
            other => unreachable!("a shard answered with {other:?}"),
        }
    };
}

impl Shards {
    pub fn new(mesh: Rc<Mesh>) -> Shards {
        Shards { mesh }
    }

    /// The shard that owns an event's slot.
    pub fn owner_of_event(&self, event: EventId) -> usize {
        self.mesh.owner(slot_of_event(event))
    }

    pub async fn create_user(&self, create: CreateUser) -> Result<Box<AccountView>, Refused> {
        let outcome = self.command(Command::CreateUser(Box::new(create))).await?;
        Ok(expect!(Outcome::Account, outcome).expect("it was just made"))
    }

    pub async fn account(&self, username: Username) -> Result<Option<Box<AccountView>>, Refused> {
        let slot = slot_of_username(&username);
        let outcome = self.query(slot, Query::Account { username }).await?;
        Ok(expect!(Outcome::Account, outcome))
    }

    /// Over all shards: an id does not say where its account is.
    pub async fn account_of(&self, user: UserId) -> Result<Option<Box<AccountView>>, Refused> {
        let parts = self.query_all(Query::AccountOf { user }).await?;
        Ok(parts.into_iter().find_map(|part| expect!(Outcome::Account, part)))
    }

    /// Whether a token of that account and version is still good.
    pub async fn token_stands(
        &self,
        user: UserId,
        username: Username,
        token_version: u64,
    ) -> Result<bool, Refused> {
        let slot = slot_of_username(&username);
        let outcome = self.query(slot, Query::TokenStands { user, username, token_version }).await?;
        Ok(expect!(Outcome::TokenStands, outcome))
    }

    /// Answered when no core takes the account's earlier tokens any more, as are the next two.
    pub async fn change_password(&self, change: ChangePassword) -> Result<(), Refused> {
        self.command(Command::ChangePassword(Box::new(change))).await?;
        Ok(())
    }

    pub async fn change_role(&self, change: ChangeRole) -> Result<UserView, Refused> {
        let outcome = self.command(Command::ChangeRole(Box::new(change))).await?;
        Ok(expect!(Outcome::AccountChanged, outcome))
    }

    pub async fn remove_user(&self, remove: RemoveUser) -> Result<(), Refused> {
        self.command(Command::RemoveUser(Box::new(remove))).await?;
        Ok(())
    }

    /// By id, over all shards: no snapshot, each shard answers in its own time.
    pub async fn users(&self, after: Option<UserId>, limit: usize) -> Result<Vec<UserView>, Refused> {
        let parts = self.query_all(Query::Users { after, limit }).await?;
        let mut users: Vec<UserView> =
            parts.into_iter().flat_map(|part| expect!(Outcome::Users, part)).collect();
        users.sort_unstable_by_key(|user| user.id);
        users.truncate(limit);
        Ok(users)
    }

    pub async fn create_event(&self, create: CreateEvent) -> Result<Box<EventView>, Refused> {
        let outcome = self.command(Command::CreateEvent(Box::new(create))).await?;
        Ok(expect!(Outcome::Event, outcome))
    }

    pub async fn edit_event(&self, edit: EditEvent) -> Result<Box<EventView>, Refused> {
        let outcome = self.command(Command::EditEvent(Box::new(edit))).await?;
        Ok(expect!(Outcome::Event, outcome))
    }

    pub async fn delete_event(&self, event: EventId, actor: Actor, force: bool) -> Result<(), Refused> {
        self.command(Command::DeleteEvent { event, actor, force }).await?;
        Ok(())
    }

    pub async fn event(&self, event: EventId) -> Result<Box<EventView>, Refused> {
        let outcome = self.query(slot_of_event(event), Query::Event { event }).await?;
        Ok(expect!(Outcome::Event, outcome))
    }

    /// By id, over all shards: no snapshot, each shard answers in its own time.
    pub async fn events(
        &self,
        after: Option<EventId>,
        limit: usize,
        organizer: Option<UserId>,
    ) -> Result<Vec<EventView>, Refused> {
        let parts = self.query_all(Query::Events { after, limit, organizer }).await?;
        let mut events: Vec<EventView> =
            parts.into_iter().flat_map(|part| expect!(Outcome::Events, part)).collect();
        events.sort_unstable_by_key(|event| event.id);
        events.truncate(limit);
        Ok(events)
    }

    pub async fn reserve(
        &self,
        event: EventId,
        actor: Actor,
        buyer: Buyer,
        quantity: Quantity,
    ) -> Result<ReservationView, Refused> {
        let outcome = self.command(Command::Reserve { event, actor, buyer, quantity }).await?;
        Ok(expect!(Outcome::Reservation, outcome))
    }

    pub async fn cancel(&self, reservation: ReservationId, actor: Actor) -> Result<(), Refused> {
        self.command(Command::Cancel { reservation, actor }).await?;
        Ok(())
    }

    pub async fn reservation(
        &self,
        reservation: ReservationId,
        actor: Actor,
    ) -> Result<ReservationView, Refused> {
        let slot = slot_of_event(reservation.event);
        let outcome = self.query(slot, Query::Reservation { reservation, actor }).await?;
        Ok(expect!(Outcome::Reservation, outcome))
    }

    pub async fn event_reservations(
        &self,
        event: EventId,
        actor: Actor,
        after: Option<u32>,
        limit: usize,
    ) -> Result<Vec<ReservationView>, Refused> {
        let query = Query::EventReservations { event, actor, after, limit };
        let outcome = self.query(slot_of_event(event), query).await?;
        Ok(expect!(Outcome::Reservations, outcome))
    }

    /// By event, then number, over all shards.
    pub async fn customer_reservations(
        &self,
        customer: UserId,
        after: Option<ReservationId>,
        limit: usize,
    ) -> Result<Vec<ReservationView>, Refused> {
        let parts = self.query_all(Query::CustomerReservations { customer, after, limit }).await?;
        let mut reservations: Vec<ReservationView> =
            parts.into_iter().flat_map(|part| expect!(Outcome::Reservations, part)).collect();
        reservations.sort_unstable_by_key(|reservation| reservation.id);
        reservations.truncate(limit);
        Ok(reservations)
    }

    pub async fn totals(&self) -> Result<Totals, Refused> {
        let mut sum = Totals::default();
        for part in self.query_all(Query::Totals).await? {
            let part = expect!(Outcome::Totals, part);
            sum.events += part.events;
            sum.accounts += part.accounts;
            sum.admins += part.admins;
            sum.quota += part.quota;
            sum.reserved += part.reserved;
        }
        Ok(sum)
    }

    async fn command(&self, command: Command) -> Result<Outcome, Refused> {
        self.mesh.call(command.slot(), Ask::Command(command))?.await.map_err(Refused::Rejected)
    }

    async fn query(&self, slot: Slot, query: Query) -> Result<Outcome, Refused> {
        self.mesh.call(slot, Ask::Query(query))?.await.map_err(Refused::Rejected)
    }

    /// Asks the owners of all slots.
    async fn query_all(&self, query: Query) -> Result<Vec<Outcome>, Refused> {
        parts::ask_all(&self.mesh, &query).await
    }
}
