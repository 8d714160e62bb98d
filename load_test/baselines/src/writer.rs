//! The background writer of the phases 3 and 4: one task with one connection, which takes all queued
//! changes, at most [`BATCH_MAX`], and writes them in one transaction. Meanwhile the next batch is
//! queued. The writer does not wait for a batch to fill.
//!
//! A batch that fails is retried each second until it is written. Its statements are idempotent,
//! because the outcome of a commit that failed may be unknown. The queue is bounded: when it has
//! [`QUEUE_MAX`] changes, further changes wait.

use std::collections::HashMap;
use std::time::Duration;

use clap::ValueEnum;
use deadpool_postgres::Pool;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::domain::{Account, Event, Refusal, Reservation, ReservationId};

/// The maximum number of changes per transaction; larger ones do not reduce the cost of a row.
const BATCH_MAX: usize = 4096;

/// The maximum number of queued changes. With `--answer before-batch`, a kill loses these and the
/// current batch.
const QUEUE_MAX: usize = 65_536;

/// The time for writing queued changes at the end.
const FLUSH_PATIENCE: Duration = Duration::from_secs(30);

/// When a reservation or a cancellation is answered. Accounts and events always wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Answer {
    /// at once, as in the original: a kill loses answered changes
    BeforeBatch,
    /// when its batch is committed
    AfterBatch,
}

/// A change to write. `reserved` is the event's counter after the change, for the copy of phase 3;
/// `None` if another store counts.
pub(crate) enum Change {
    AccountCreated(Account),
    /// A created or edited event.
    EventSaved(Event),
    EventDeleted {
        event: i64,
        at: Timestamp,
    },
    Reserved {
        reservation: Reservation,
        reserved: Option<i32>,
    },
    Cancelled {
        id: ReservationId,
        at: Timestamp,
        reserved: Option<i32>,
    },
    /// No change; it counts as written when all earlier changes are.
    Barrier,
}

struct Job {
    change: Change,
    written: Option<oneshot::Sender<()>>,
}

pub(crate) struct Writer {
    jobs: mpsc::Sender<Job>,
    answer: Answer,
}

/// A reserved place in the queue for one change.
pub(crate) struct Place<'w>(mpsc::Permit<'w, Job>);

/// A future that completes when a change is written.
pub(crate) struct Written(Option<oneshot::Receiver<()>>);

impl Writer {
    /// Starts the writer; must be called within the runtime.
    pub(crate) fn start(pool: Pool, answer: Answer) -> Writer {
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(write_all(pool, queue));
        Writer { jobs, answer }
    }

    /// Waits while the queue is full, and reserves a place. Called before a change is made, so that
    /// every change can be queued.
    pub(crate) async fn place(&self) -> Result<Place<'_>, Refusal> {
        self.jobs.reserve().await.map(Place).map_err(|_| ended())
    }

    /// Queues a change. Returns what its answer has to wait for according to `--answer`. Changes are
    /// written in the order of these calls.
    pub(crate) fn write(&self, place: Place<'_>, change: Change) -> Written {
        match self.answer {
            Answer::BeforeBatch => {
                place.0.send(Job { change, written: None });
                Written(None)
            }
            Answer::AfterBatch => self.write_surely(place, change),
        }
    }

    /// Queues a change that is answered when it is written, independent of `--answer`.
    pub(crate) fn write_surely(&self, place: Place<'_>, change: Change) -> Written {
        let (sender, receiver) = oneshot::channel();
        place.0.send(Job { change, written: Some(sender) });
        Written(Some(receiver))
    }

    /// Waits until all changes queued before are written.
    pub(crate) async fn barrier(&self) -> Result<(), Refusal> {
        let place = self.place().await?;
        self.write_surely(place, Change::Barrier).wait().await
    }

    /// Waits at the end until all changes are written.
    ///
    /// # Errors
    ///
    /// When it takes too long.
    pub(crate) async fn flush(&self) -> Result<(), String> {
        let waiting = self.jobs.max_capacity() - self.jobs.capacity();
        match timeout(FLUSH_PATIENCE, self.barrier()).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(format!(
                "{waiting} changes and perhaps a batch of up to {BATCH_MAX} are not in PostgreSQL, and are \
                 lost: it took none of them for {} s",
                FLUSH_PATIENCE.as_secs()
            )),
        }
    }
}

impl Written {
    pub(crate) async fn wait(self) -> Result<(), Refusal> {
        match self.0 {
            None => Ok(()),
            Some(receiver) => receiver.await.map_err(|_| ended()),
        }
    }
}

fn ended() -> Refusal {
    Refusal::Failed("the writer has ended".to_owned())
}

async fn write_all(pool: Pool, mut queue: mpsc::Receiver<Job>) {
    let mut jobs = Vec::with_capacity(BATCH_MAX);
    while queue.recv_many(&mut jobs, BATCH_MAX).await > 0 {
        let batch = Batch::of(&jobs);
        while let Err(error) = batch.write(&pool).await {
            eprintln!("failed to write a batch of {} changes, trying again in 1 s: {error}", jobs.len());
            sleep(Duration::from_secs(1)).await;
        }
        for written in jobs.drain(..).filter_map(|job| job.written) {
            // Fails if the client has disconnected.
            let _ = written.send(());
        }
    }
}

/// The changes of a transaction as columns for `unnest`.
#[derive(Default)]
struct Batch<'j> {
    accounts: Vec<&'j Account>,
    /// The events, in their state at the end of the batch.
    saved: HashMap<i64, &'j Event>,
    reserved: Columns,
    cancelled_event: Vec<i64>,
    cancelled_number: Vec<i64>,
    cancelled_at: Vec<Timestamp>,
    /// The counters of events at the end of the batch: reserved, and the last number.
    totals: HashMap<i64, (i32, i64)>,
    deleted: Vec<(i64, Timestamp)>,
}

#[derive(Default)]
struct Columns {
    event: Vec<i64>,
    number: Vec<i64>,
    customer: Vec<i64>,
    quantity: Vec<i32>,
    created_at: Vec<Timestamp>,
}

impl<'j> Batch<'j> {
    fn of(jobs: &'j [Job]) -> Batch<'j> {
        let mut batch = Batch::default();
        for job in jobs {
            batch.add(&job.change);
        }
        batch
    }

    fn add(&mut self, change: &'j Change) {
        match change {
            Change::AccountCreated(account) => self.accounts.push(account),
            Change::EventSaved(event) => {
                self.saved.insert(event.id, event);
                self.count(event.id, Some(event.reserved), event.last_number);
            }
            Change::EventDeleted { event, at } => self.deleted.push((*event, *at)),
            Change::Reserved { reservation, reserved } => {
                let ReservationId { event, number } = reservation.id;
                self.reserved.event.push(event);
                self.reserved.number.push(number);
                self.reserved.customer.push(reservation.customer);
                self.reserved.quantity.push(reservation.quantity);
                self.reserved.created_at.push(reservation.created_at);
                self.count(event, *reserved, number);
            }
            Change::Cancelled { id, at, reserved } => {
                self.cancelled_event.push(id.event);
                self.cancelled_number.push(id.number);
                self.cancelled_at.push(*at);
                self.count(id.event, *reserved, 0);
            }
            Change::Barrier => {}
        }
    }

    fn count(&mut self, event: i64, reserved: Option<i32>, number: i64) {
        if let Some(reserved) = reserved {
            let totals = self.totals.entry(event).or_default();
            *totals = (reserved, totals.1.max(number));
        }
    }

    /// Writes the batch in one transaction. Within a batch, an event precedes its reservations, these
    /// precede their cancellations, and all precede the event's deletion, so the kinds of changes can be
    /// written one after the other.
    async fn write(&self, pool: &Pool) -> Result<(), String> {
        let mut client = pool.get().await.map_err(|error| error.to_string())?;
        let result = async {
            let transaction = client.transaction().await?;
            for account in &self.accounts {
                let Account { id, username, role, password_hash } = account;
                transaction
                    .execute(
                        "INSERT INTO account VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                        &[id, username, &role.as_str(), password_hash],
                    )
                    .await?;
            }
            for event in self.saved.values() {
                let Event { id, name, organizer, quota, reserved, last_number, .. } = event;
                let Event { version, created_at, updated_at, .. } = event;
                transaction
                    .execute(
                        "INSERT INTO event VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, false)
                         ON CONFLICT (id) DO UPDATE SET (name, quota, reserved, version, updated_at)
                         = (excluded.name, excluded.quota, excluded.reserved, excluded.version,
                            excluded.updated_at)",
                        &[id, name, organizer, quota, reserved, last_number, version, created_at, updated_at],
                    )
                    .await?;
            }
            self.write_reservations(&transaction).await?;
            for (event, at) in &self.deleted {
                transaction
                    .execute(
                        "UPDATE event SET deleted = true, reserved = 0, updated_at = $2 WHERE id = $1",
                        &[event, at],
                    )
                    .await?;
                transaction
                    .execute(
                        "UPDATE reservation SET cancelled_at = $2 WHERE event = $1 AND cancelled_at IS NULL",
                        &[event, at],
                    )
                    .await?;
            }
            transaction.commit().await
        };
        result.await.map_err(|error| {
            error.as_db_error().map_or_else(|| error.to_string(), |reason| reason.to_string())
        })
    }

    async fn write_reservations(
        &self,
        transaction: &deadpool_postgres::Transaction<'_>,
    ) -> Result<(), tokio_postgres::Error> {
        let Columns { event, number, customer, quantity, created_at } = &self.reserved;
        if !event.is_empty() {
            // In phase 4, a reservation can be queued after the deletion of its event.
            let insert = transaction
                .prepare_cached(
                    "INSERT INTO reservation
                     SELECT r.*, CASE WHEN event.deleted THEN event.updated_at END
                     FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::integer[],
                                 $5::timestamptz[]) AS r (event, number, customer, quantity, created_at)
                     JOIN event ON event.id = r.event ON CONFLICT DO NOTHING",
                )
                .await?;
            transaction.execute(&insert, &[event, number, customer, quantity, created_at]).await?;
        }
        if !self.cancelled_event.is_empty() {
            let cancel = transaction
                .prepare_cached(
                    "UPDATE reservation SET cancelled_at = c.at
                     FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[]) AS c (event, number, at)
                     WHERE reservation.event = c.event AND reservation.number = c.number",
                )
                .await?;
            transaction
                .execute(&cancel, &[&self.cancelled_event, &self.cancelled_number, &self.cancelled_at])
                .await?;
        }
        if !self.totals.is_empty() {
            let events: Vec<i64> = self.totals.keys().copied().collect();
            let (reserved, numbers): (Vec<i32>, Vec<i64>) = self.totals.values().copied().unzip();
            let count = transaction
                .prepare_cached(
                    "UPDATE event SET reserved = t.reserved, last_number = greatest(last_number, t.number)
                     FROM unnest($1::bigint[], $2::integer[], $3::bigint[]) AS t (event, reserved, number)
                     WHERE event.id = t.event",
                )
                .await?;
            transaction.execute(&count, &[&events, &reserved, &numbers]).await?;
        }
        Ok(())
    }
}
