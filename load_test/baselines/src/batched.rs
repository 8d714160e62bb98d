//! Phase 3: quota and reservations in memory, written to PostgreSQL in batches in the background.
//!
//! Where the data is: the state of phase 1, in this process's memory, decides and answers
//! everything. PostgreSQL has a copy that lags by some milliseconds, which a start reads. Only one
//! process may use the database; a second one would not see the sales of the first.
//!
//! What is written when: a change of an event is queued for the writer under the event's lock, so
//! in order. With `--answer before-batch`, as in the original, a reservation or a cancellation is
//! answered then; with `after-batch`, when its batch is committed. Accounts and events are always
//! answered after their batch.
//!
//! What can be lost: with `before-batch`, a kill, a crash or a power cut loses changes that were
//! answered but not committed: the current batch and the queue, at most 70,000 changes, always the
//! newest. Their tickets are then for sale again, so an event is *oversold to its customers* although
//! the database does not show it; and their numbers are reused, so the id of a lost reservation may
//! later belong to another customer. With `after-batch`, nothing that was answered with 2xx is lost.
//! In both, reads and refusals such as "sold out" are answered from memory, and may show changes that
//! a kill then undoes. SIGTERM loses nothing while PostgreSQL accepts the batches.
//!
//! What can be oversold while it runs: nothing, as in phase 1.
//!
//! What limits its speed: with `before-batch`, the limits of phase 1 until the queue is full, then
//! the writer. With `after-batch`, the writer: a batch takes a few round trips and a sync,
//! independent of its size. Memory and the duration of a start grow with each reservation ever made.

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
    /// Reads the state from PostgreSQL.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or was not written by this phase.
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

/// Waits for a change to be written; there is nothing to wait for if nothing was changed.
async fn wait(written: Option<crate::writer::Written>) -> Result<(), Refusal> {
    match written {
        Some(written) => written.wait().await,
        None => Ok(()),
    }
}
