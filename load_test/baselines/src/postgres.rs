//! Phase 2: PostgreSQL alone, a transaction for each reservation.
//!
//! Where the data lives: rows of PostgreSQL, and nowhere else; this process keeps nothing, and
//! several of them may share a database. The quota is counted in the event's row.
//!
//! What is written when: `BEGIN`, a conditional `UPDATE` of the event's row, an `INSERT` of the
//! reservation, `COMMIT`; 201 is answered when the commit is. A transaction that PostgreSQL aborts for
//! another one's sake (serialization failure, deadlock) is tried again, at most [`TRIES_MAX`] times;
//! then the answer is 503, and nothing was done. With `--reserve statement` the same is one
//! statement and one round trip.
//!
//! What can be lost: nothing that was answered, as long as the operator leaves `fsync` and
//! `synchronous_commit` on. What can be oversold: nothing; the condition is evaluated under the
//! row's lock, and a `CHECK` stands behind it.
//!
//! What limits its speed: the row's lock. It is held from the `UPDATE` until the commit is on disk,
//! which takes two round trips and a sync. Reservations of one event are serialized, and PostgreSQL's
//! group commit can only combine those of different events. Every reservation leaves a dead version
//! of the event's row, which vacuum has to remove. Requests beyond the connections of the pool wait
//! for one; with more connections than events, most wait for locks.

use std::future::Future;
use std::time::Duration;

use clap::ValueEnum;
use deadpool_postgres::{Object, Pool};
use jiff::Timestamp;
use tokio::time::sleep;

use crate::domain::{
    Account, Actor, Event, EventPatch, NewAccount, NewEvent, Refusal, Reservation, ReservationId, Store, now,
};
use crate::tables;

/// The maximum number of attempts at a transaction with conflicts; the waits add up to a third of a
/// second.
const TRIES_MAX: u32 = 10;

/// How a reservation is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reserve {
    /// BEGIN, UPDATE, INSERT, COMMIT, as the original did
    Transaction,
    /// both in one statement and one round trip
    Statement,
}

const TAKE: &str = "UPDATE event SET reserved = reserved + $2, last_number = last_number + 1
    WHERE id = $1 AND NOT deleted AND reserved + $2 <= quota RETURNING last_number";
const RECORD: &str = "INSERT INTO reservation VALUES ($1, $2, $3, $4, $5)";
const TAKE_AND_RECORD: &str = "
    WITH taken AS (
        UPDATE event SET reserved = reserved + $2, last_number = last_number + 1
        WHERE id = $1 AND NOT deleted AND reserved + $2 <= quota RETURNING last_number
    )
    INSERT INTO reservation SELECT $1, last_number, $3::bigint, $2, $4::timestamptz FROM taken RETURNING number";

pub(crate) struct Postgres {
    pool: Pool,
    reserve: Reserve,
}

impl Postgres {
    pub(crate) fn new(pool: Pool, reserve: Reserve) -> Postgres {
        Postgres { pool, reserve }
    }

    /// Takes tickets. Returns the reservation's number, or `None` if too few tickets are left.
    async fn take(
        &self,
        client: &mut Object,
        event: i64,
        customer: i64,
        quantity: i32,
        now: Timestamp,
    ) -> Result<Option<i64>, tokio_postgres::Error> {
        if self.reserve == Reserve::Statement {
            let take = client.prepare_cached(TAKE_AND_RECORD).await?;
            let row = client.query_opt(&take, &[&event, &quantity, &customer, &now]).await?;
            return Ok(row.map(|row| row.get(0)));
        }
        let take = client.prepare_cached(TAKE).await?;
        let record = client.prepare_cached(RECORD).await?;
        let transaction = client.transaction().await?;
        let Some(row) = transaction.query_opt(&take, &[&event, &quantity]).await? else {
            transaction.rollback().await?;
            return Ok(None);
        };
        let number: i64 = row.get(0);
        transaction.execute(&record, &[&event, &number, &customer, &quantity, &now]).await?;
        transaction.commit().await?;
        Ok(Some(number))
    }

    /// Reserves tickets. Returns the reservation's number.
    async fn try_reserve(
        &self,
        event: i64,
        customer: i64,
        quantity: i32,
        now: Timestamp,
    ) -> Result<i64, Attempt> {
        let mut client = self.pool.get().await.map_err(|error| Attempt::Ended(error.into()))?;
        if let Some(number) = self.take(&mut client, event, customer, quantity, now).await? {
            return Ok(number);
        }
        // Finds the reason. If there are enough tickets now, some were cancelled meanwhile.
        tables::event(&client, event).await?.offers(quantity)?;
        Err(Attempt::Conflict)
    }

    async fn try_cancel(&self, id: ReservationId, actor: Actor) -> Result<(), Attempt> {
        let mut client = self.pool.get().await.map_err(|error| Attempt::Ended(error.into()))?;
        let (reservation, organizer) =
            tables::reservation(&client, id).await?.ok_or(Attempt::Ended(Refusal::NotFound))?;
        reservation.seen_by(actor, organizer)?;
        let cancel = client
            .prepare_cached(
                "UPDATE reservation SET cancelled_at = $3
                 WHERE event = $1 AND number = $2 AND cancelled_at IS NULL",
            )
            .await?;
        let give_back =
            client.prepare_cached("UPDATE event SET reserved = reserved - $2 WHERE id = $1").await?;
        let lock = client.prepare_cached("SELECT FROM event WHERE id = $1 FOR UPDATE").await?;
        let transaction = client.transaction().await?;
        // The event's row first, as everywhere: one order of locks avoids deadlocks.
        transaction.execute(&lock, &[&id.event]).await?;
        if transaction.execute(&cancel, &[&id.event, &id.number, &now()]).await? == 1 {
            transaction.execute(&give_back, &[&id.event, &reservation.quantity]).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Locks the event's row, calls `change` to decide, and writes the result.
    async fn try_change(
        &self,
        id: i64,
        change: &(impl Fn(&mut Event) -> Result<(), Refusal> + Sync),
    ) -> Result<Event, Attempt> {
        let mut client = self.pool.get().await.map_err(|error| Attempt::Ended(error.into()))?;
        let transaction = client.transaction().await?;
        let select = format!("SELECT {} FROM event WHERE id = $1 FOR UPDATE", tables::EVENT);
        let row = transaction.query_opt(&select, &[&id]).await?;
        let mut event = row.as_ref().map(tables::event_of).ok_or(Attempt::Ended(Refusal::NotFound))?;
        change(&mut event)?;
        let Event { name, quota, reserved, version, updated_at, deleted, .. } = &event;
        transaction
            .execute(
                "UPDATE event SET name = $2, quota = $3, reserved = $4, version = $5, updated_at = $6,
                 deleted = $7 WHERE id = $1",
                &[&id, name, quota, reserved, version, updated_at, deleted],
            )
            .await?;
        if event.deleted {
            transaction
                .execute(
                    "UPDATE reservation SET cancelled_at = $2 WHERE event = $1 AND cancelled_at IS NULL",
                    &[&id, updated_at],
                )
                .await?;
        }
        transaction.commit().await?;
        Ok(event)
    }
}

/// Why an attempt at a transaction failed.
enum Attempt {
    /// It conflicted with another one and can be tried again.
    Conflict,
    Ended(Refusal),
}

impl From<tokio_postgres::Error> for Attempt {
    fn from(error: tokio_postgres::Error) -> Attempt {
        if tables::is_conflict(&error) { Attempt::Conflict } else { Attempt::Ended(error.into()) }
    }
}

impl From<Refusal> for Attempt {
    fn from(refusal: Refusal) -> Attempt {
        Attempt::Ended(refusal)
    }
}

async fn retrying<T, F: Future<Output = Result<T, Attempt>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T, Refusal> {
    for tried in 0..TRIES_MAX {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(Attempt::Ended(refusal)) => return Err(refusal),
            Err(Attempt::Conflict) => sleep(Duration::from_millis(1 << tried.min(6))).await,
        }
    }
    Err(Refusal::Overloaded)
}

impl Store for Postgres {
    async fn create_account(&self, new: NewAccount) -> Result<Account, Refusal> {
        tables::create_account(&self.pool, new).await
    }

    async fn account(&self, username: &str) -> Result<Option<Account>, Refusal> {
        tables::account(&self.pool, username).await
    }

    async fn create_event(&self, new: NewEvent) -> Result<Event, Refusal> {
        tables::create_event(&self.pool, new).await
    }

    async fn event(&self, id: i64) -> Result<Event, Refusal> {
        let event = tables::event(&self.pool.get().await?, id).await?;
        event.live()?;
        Ok(event)
    }

    async fn events(&self, after: i64, limit: usize) -> Result<Vec<Event>, Refusal> {
        tables::events(&self.pool, after, limit).await
    }

    async fn edit_event(&self, actor: Actor, id: i64, patch: EventPatch) -> Result<Event, Refusal> {
        let now = now();
        let change = |event: &mut Event| {
            event.managed_by(actor)?;
            event.edit(patch.clone(), now)
        };
        retrying(|| self.try_change(id, &change)).await
    }

    async fn delete_event(&self, actor: Actor, id: i64, force: bool) -> Result<(), Refusal> {
        let now = now();
        let change = |event: &mut Event| {
            event.managed_by(actor)?;
            if event.reserved > 0 && !force {
                return Err(Refusal::HasReservations { reserved: event.reserved });
            }
            (event.deleted, event.reserved, event.updated_at) = (true, 0, now);
            Ok(())
        };
        retrying(|| self.try_change(id, &change)).await.map(drop)
    }

    async fn reserve(&self, event: i64, customer: i64, quantity: i32) -> Result<Reservation, Refusal> {
        let created_at = now();
        let number = retrying(|| self.try_reserve(event, customer, quantity, created_at)).await?;
        let id = ReservationId { event, number };
        Ok(Reservation { id, customer, quantity, created_at, cancelled_at: None })
    }

    async fn reservation(&self, actor: Actor, id: ReservationId) -> Result<Reservation, Refusal> {
        let found = tables::reservation(&self.pool.get().await?, id).await?;
        let (reservation, organizer) = found.ok_or(Refusal::NotFound)?;
        reservation.seen_by(actor, organizer)?;
        Ok(reservation)
    }

    async fn cancel(&self, actor: Actor, id: ReservationId) -> Result<(), Refusal> {
        retrying(|| self.try_cancel(id, actor)).await
    }

    /// Does nothing: everything answered is committed.
    async fn flush(&self) -> Result<(), String> {
        Ok(())
    }
}
