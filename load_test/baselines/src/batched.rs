//! Phase 3: quota and reservations in memory, written to PostgreSQL in batches behind the answers.
//!
//! Where the data lives: the book of phase 1, in this process's memory, decides and answers
//! everything; PostgreSQL has a copy of it, some milliseconds old, which a start reads whole. One
//! process owns the database; a second one on it would not see the first one's sales.
//!
//! What is written when: a change of an event goes into the writer's queue under the event's lock,
//! so in its order. With `--answer before-batch`, as in the original, a reservation or a cancellation
//! is answered then; with `after-batch`, when its batch is committed. Accounts and events are
//! always answered after their batch.
//!
//! What can be lost: with `before-batch`, by a kill, a crash or a power cut, what was answered but
//! not committed: the batch under way and the queue, at most 70,000 changes. The loss is the
//! newest changes, never one from the middle. Their tickets are then for sale again, so an event is
//! *oversold to its customers* even though the database says otherwise; and their numbers are given
//! out again, so a lost reservation's id may then be another customer's. With `after-batch`:
//! nothing that was answered with 2xx. A read, and a refusal such as "sold out", is answered from
//! memory in both, and may show what a kill then undoes. SIGTERM loses nothing while PostgreSQL
//! takes the batches.
//!
//! What can be oversold while it runs: nothing; see phase 1.
//!
//! What bounds its speed: with `before-batch` what bounds phase 1, until the queue is full, and from
//! then on the one writer. With `after-batch` the writer: a batch takes a handful of round trips and
//! a sync, however many reservations are in it. Memory grows with each reservation ever made, and
//! so does the time of a start.

use deadpool_postgres::Pool;

use crate::domain::{
    Account, Actor, Event, EventPatch, NewAccount, NewEvent, Refusal, Reservation, ReservationId, Store,
};
use crate::memory::Book;
use crate::tables;
use crate::writer::{Answer, Change, Writer};

pub(crate) struct Batched {
    book: Book,
    writer: Writer,
}

impl Batched {
    /// Reads what PostgreSQL has.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is not what this phase writes.
    pub(crate) async fn open(pool: Pool, answer: Answer) -> Result<Batched, String> {
        let book = load(&pool).await.map_err(|error| format!("read PostgreSQL: {error}"))?;
        Ok(Batched { book, writer: Writer::start(pool, answer) })
    }
}

async fn load(pool: &Pool) -> Result<Book, String> {
    let client = pool.get().await.map_err(|error| error.to_string())?;
    let query = async |what: &str| client.query(what, &[]).await.map_err(|error| error.to_string());
    let accounts = query("SELECT * FROM account").await?;
    let events = query(&format!("SELECT {} FROM event", tables::EVENT)).await?;
    let reservations =
        query(&format!("SELECT {} FROM reservation r ORDER BY event, number", tables::RESERVATION)).await?;
    Book::load(
        accounts.iter().map(tables::account_of).collect(),
        events.iter().map(tables::event_of).collect(),
        reservations.iter().map(tables::reservation_of).collect(),
    )
}

impl Store for Batched {
    async fn create_account(&self, new: NewAccount) -> Result<Account, Refusal> {
        let place = self.writer.place().await?;
        let mut written = None;
        let account = self.book.create_account(new, |account| {
            written = Some(self.writer.write_surely(place, Change::AccountCreated(account.clone())));
        })?;
        wait(written).await?;
        Ok(account)
    }

    async fn account(&self, username: &str) -> Result<Option<Account>, Refusal> {
        Ok(self.book.account(username))
    }

    async fn create_event(&self, new: NewEvent) -> Result<Event, Refusal> {
        let place = self.writer.place().await?;
        let mut written = None;
        let event = self.book.create_event(new, |event| {
            written = Some(self.writer.write_surely(place, Change::EventSaved(event.clone())));
        })?;
        wait(written).await?;
        Ok(event)
    }

    async fn event(&self, id: i64) -> Result<Event, Refusal> {
        self.book.event(id)
    }

    async fn events(&self, after: i64, limit: usize) -> Result<Vec<Event>, Refusal> {
        Ok(self.book.events(after, limit))
    }

    async fn edit_event(&self, actor: Actor, id: i64, patch: EventPatch) -> Result<Event, Refusal> {
        let place = self.writer.place().await?;
        let mut written = None;
        let event = self.book.edit_event(actor, id, patch, |event| {
            written = Some(self.writer.write_surely(place, Change::EventSaved(event.clone())));
        })?;
        wait(written).await?;
        Ok(event)
    }

    async fn delete_event(&self, actor: Actor, id: i64, force: bool) -> Result<(), Refusal> {
        let place = self.writer.place().await?;
        let mut written = None;
        self.book.delete_event(actor, id, force, |at| {
            written = Some(self.writer.write_surely(place, Change::EventDeleted { event: id, at }));
        })?;
        wait(written).await
    }

    async fn reserve(&self, event: i64, customer: i64, quantity: i32) -> Result<Reservation, Refusal> {
        let place = self.writer.place().await?;
        let mut written = None;
        let reservation = self.book.reserve(event, customer, quantity, |event, reservation| {
            let change =
                Change::Reserved { reservation: reservation.clone(), reserved: Some(event.reserved) };
            written = Some(self.writer.write(place, change));
        })?;
        wait(written).await?;
        Ok(reservation)
    }

    async fn reservation(&self, actor: Actor, id: ReservationId) -> Result<Reservation, Refusal> {
        self.book.reservation(actor, id)
    }

    async fn cancel(&self, actor: Actor, id: ReservationId) -> Result<(), Refusal> {
        let place = self.writer.place().await?;
        let mut written = None;
        self.book.cancel(actor, id, |event, at| {
            let change = Change::Cancelled { id, at, reserved: Some(event.reserved) };
            written = Some(self.writer.write(place, change));
        })?;
        wait(written).await
    }

    async fn flush(&self) -> Result<(), String> {
        self.writer.flush().await
    }
}

/// Nothing was changed where nothing is being written.
async fn wait(written: Option<crate::writer::Written>) -> Result<(), Refusal> {
    match written {
        Some(written) => written.wait().await,
        None => Ok(()),
    }
}
