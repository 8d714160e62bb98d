//! Phase 4: Redis counts the quota, PostgreSQL stores the reservations.
//!
//! Where the data is: `boxoffice:event:ID` in Redis is a hash of `quota`, `reserved` and, once the
//! event is deleted, `deleted`. Lua scripts, which Redis runs one after the other, decide there alone
//! whether a ticket is sold. Accounts, events (their names and owners) and reservations are rows in
//! PostgreSQL. This process holds only the writer's queue, so several processes may share the stores.
//!
//! What is written when:
//! - a reservation: the script in Redis, then the row is queued for the writer. With `--answer
//!   before-batch`, as in the original, it is answered then; with `after-batch`, when the row's
//!   batch is committed. When Redis itself writes to disk depends on its `appendonly` and
//!   `appendfsync`;
//! - a cancellation: the row is committed in PostgreSQL, then the tickets are released in Redis, then
//!   it is answered. It waits for a row that is not written yet;
//! - an account: PostgreSQL. A new event: PostgreSQL, then Redis. An edit: Redis, then PostgreSQL.
//!   A deletion: Redis, which closes the event, then PostgreSQL through the writer's queue, after
//!   the earlier reservations. All of these are answered when both stores are done. (The original did
//!   not send edits, deletions and cancellations to Redis.)
//!
//! There is no transaction over the two stores. A start trusts Redis: only events that are missing
//! there are counted again from PostgreSQL.
//!
//! What can be lost: with `before-batch`, a kill of this process loses the rows in the queue and in
//! the current batch, at most 70,000: their customers got a 201 and have no reservation. Redis has
//! counted them, so their tickets are not sold again. With `after-batch`, this happens only to
//! reservations that were not answered. A kill between the two steps of a cancellation has the same
//! effect; of an edit, it leaves a quota that only Redis has; of a deletion, an event that sells
//! nothing until it is deleted again.
//!
//! What can be oversold: nothing while both run. If Redis loses counts whose rows PostgreSQL has (a
//! crash of Redis without `appendonly`, or up to a second of counts with `appendfsync everysec`), their
//! tickets are sold again. If Redis restarts empty while the server runs, requests fail until the
//! server is restarted.
//!
//! What limits its speed: a round trip to Redis, the one thread of Redis that runs scripts, and the
//! writer when its queue is full. Redis runs all scripts one after the other, so one popular event is
//! no slower than many events.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use deadpool_postgres::Pool;
use redis::aio::ConnectionManager;
use redis::{FromRedisValue, RedisError, Script, ScriptInvocation};

use crate::domain::{
    Account, Actor, Event, EventPatch, NewAccount, NewEvent, Refusal, Reservation, ReservationId, Store, now,
};
use crate::tables;
use crate::writer::{Answer, Change, Writer};

/// The outcomes of scripts. Each script returns an outcome and a number.
const DONE: i64 = 0;
const SHORT: i64 = 1;
const MISSING: i64 = 2;
const DELETED: i64 = 3;

/// Takes tickets. Argument: quantity. With [`SHORT`], the number is the remaining tickets.
const RESERVE: &str = "
    local event = redis.call('HMGET', KEYS[1], 'quota', 'reserved', 'deleted')
    if not event[1] then return {2, 0} end
    if event[3] then return {3, 0} end
    local remaining = event[1] - event[2]
    if tonumber(ARGV[1]) > remaining then return {1, remaining} end
    redis.call('HINCRBY', KEYS[1], 'reserved', ARGV[1])
    return {0, 0}";

/// Releases tickets. Argument: quantity. Does nothing for a deleted event, which has released all.
const GIVE_BACK: &str = "
    local event = redis.call('HMGET', KEYS[1], 'quota', 'deleted')
    if not event[1] then return {2, 0} end
    if not event[2] then redis.call('HINCRBY', KEYS[1], 'reserved', -ARGV[1]) end
    return {0, 0}";

/// Sets the quota. Argument: quota. With [`SHORT`], the number is the reserved tickets.
const SET_QUOTA: &str = "
    local event = redis.call('HMGET', KEYS[1], 'quota', 'reserved', 'deleted')
    if not event[1] then return {2, 0} end
    if event[3] then return {3, 0} end
    if tonumber(ARGV[1]) < tonumber(event[2]) then return {1, tonumber(event[2])} end
    redis.call('HSET', KEYS[1], 'quota', ARGV[1])
    return {0, 0}";

/// Closes an event. Argument: 1 to cancel its reservations. With [`SHORT`], the number is the reserved
/// tickets. Closing it again is no error, since a kill may have prevented the write to PostgreSQL.
const CLOSE: &str = "
    local event = redis.call('HMGET', KEYS[1], 'quota', 'reserved', 'deleted')
    if not event[1] then return {2, 0} end
    if event[3] then return {0, 0} end
    if event[2] ~= '0' and ARGV[1] ~= '1' then return {1, tonumber(event[2])} end
    redis.call('HSET', KEYS[1], 'reserved', 0, 'deleted', 1)
    return {0, 0}";

/// Adds an event, if it is missing. Arguments: quota, reserved.
const OPEN: &str = "
    if redis.call('EXISTS', KEYS[1]) == 0 then
        redis.call('HSET', KEYS[1], 'quota', ARGV[1], 'reserved', ARGV[2])
    end
    return {0, 0}";

/// The number of bits of a reservation's number below its block.
const BLOCK_BITS: u32 = 32;

pub(crate) struct PostgresRedis {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    redis: Redis,
    writer: Writer,
    /// The next reservation number. Redis could issue a number twice after a crash, so each start takes
    /// a block of numbers from a sequence in PostgreSQL.
    next_number: AtomicI64,
}

/// Several connections, each of which pipelines commands.
struct Redis {
    connections: Vec<ConnectionManager>,
    next: AtomicUsize,
    reserve: Script,
    give_back: Script,
    set_quota: Script,
    close: Script,
    open: Script,
}

impl Redis {
    async fn connect(address: &str, connection_count: usize) -> Result<Redis, String> {
        let client = redis::Client::open(address)
            .map_err(|error| format!("--redis {address:?} is no address of a Redis: {error}"))?;
        let mut connections = Vec::new();
        for _ in 0..connection_count {
            let connection = client.get_connection_manager().await.map_err(|error| {
                format!("connect to Redis: {error}. Does it run, and is --redis {address:?} right?")
            })?;
            connections.push(connection);
        }
        Ok(Redis {
            connections,
            next: AtomicUsize::new(0),
            reserve: Script::new(RESERVE),
            give_back: Script::new(GIVE_BACK),
            set_quota: Script::new(SET_QUOTA),
            close: Script::new(CLOSE),
            open: Script::new(OPEN),
        })
    }

    fn connection(&self) -> ConnectionManager {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.connections[turn % self.connections.len()].clone()
    }

    /// Runs a script. The inner error is the number of [`SHORT`].
    async fn run(&self, invocation: &ScriptInvocation<'_>) -> Result<Result<(), i64>, Refusal> {
        let (code, number): (i64, i64) = invocation.invoke_async(&mut self.connection()).await?;
        match code {
            DONE => Ok(Ok(())),
            SHORT => Ok(Err(number)),
            DELETED => Err(Refusal::EventDeleted),
            _ => {
                debug_assert_eq!(code, MISSING);
                Err(Refusal::NotFound)
            }
        }
    }

    async fn query<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, Refusal> {
        Ok(command.query_async(&mut self.connection()).await?)
    }

    /// Fills in the counts of Redis.
    async fn complete(&self, mut event: Event) -> Result<Event, Refusal> {
        let mut command = redis::cmd("HMGET");
        command.arg(key(event.id)).arg("quota").arg("reserved");
        let (Some(quota), Some(reserved)) = self.query(&command).await? else {
            return Err(lost(event.id));
        };
        (event.quota, event.reserved) = (quota, reserved);
        Ok(event)
    }
}

fn key(event: i64) -> String {
    format!("boxoffice:event:{event}")
}

fn lost(event: i64) -> Refusal {
    Refusal::Failed(format!("Redis has lost event {event}: restart the server, which counts it anew"))
}

/// Converts a number from a script, which is always a number of tickets.
fn tickets(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

impl From<RedisError> for Refusal {
    fn from(error: RedisError) -> Refusal {
        Refusal::Failed(format!("Redis: {error}"))
    }
}

impl PostgresRedis {
    /// Takes a block of numbers, and adds the events that are missing in Redis.
    ///
    /// # Errors
    ///
    /// When one of the stores cannot be reached or read.
    pub(crate) async fn open(
        pool: Pool,
        redis: &str,
        connection_count: usize,
        answer: Answer,
    ) -> Result<PostgresRedis, String> {
        let redis = Redis::connect(redis, connection_count).await?;
        let block = seed(&pool, &redis).await.map_err(|refusal| format!("open the stores: {refusal:?}"))?;
        let next_number = AtomicI64::new(block << BLOCK_BITS);
        let writer = Writer::start(pool.clone(), answer);
        Ok(PostgresRedis { inner: Arc::new(Inner { pool, redis, writer, next_number }) })
    }
}

/// Adds missing events to Redis. Returns the block of numbers.
async fn seed(pool: &Pool, redis: &Redis) -> Result<i64, Refusal> {
    let client = pool.get().await?;
    let events = client.query("SELECT id, quota FROM event WHERE NOT deleted", &[]).await?;
    for event in events {
        let (id, quota): (i64, i32) = (event.get(0), event.get(1));
        if redis.query(redis::cmd("EXISTS").arg(key(id))).await? {
            continue;
        }
        let live = "SELECT coalesce(sum(quantity), 0) FROM reservation
                    WHERE event = $1 AND cancelled_at IS NULL";
        let reserved: i64 = client.query_one(live, &[&id]).await?.get(0);
        let _ = redis.run(redis.open.key(key(id)).arg(quota).arg(reserved)).await?;
    }
    Ok(client.query_one("SELECT nextval('reservation_block')", &[]).await?.get(0))
}

impl Inner {
    async fn reserve(&self, event: i64, customer: i64, quantity: i32) -> Result<Reservation, Refusal> {
        let place = self.writer.place().await?;
        match self.redis.run(self.redis.reserve.key(key(event)).arg(quantity)).await {
            Ok(Ok(())) => {}
            Ok(Err(remaining)) => return Err(Refusal::SoldOut { remaining: tickets(remaining) }),
            Err(Refusal::NotFound) => {
                tables::event(&self.pool.get().await?, event).await?.live()?;
                return Err(lost(event));
            }
            Err(other) => return Err(other),
        }
        let id = ReservationId { event, number: self.next_number.fetch_add(1, Ordering::Relaxed) };
        let reservation = Reservation { id, customer, quantity, created_at: now(), cancelled_at: None };
        let change = Change::Reserved { reservation: reservation.clone(), reserved: None };
        self.writer.write(place, change).wait().await?;
        Ok(reservation)
    }

    /// Reads a reservation; waits for a row that is not written yet.
    async fn reservation(&self, actor: Actor, id: ReservationId) -> Result<Reservation, Refusal> {
        let mut found = tables::reservation(&self.pool.get().await?, id).await?;
        if found.is_none() {
            self.writer.barrier().await?;
            found = tables::reservation(&self.pool.get().await?, id).await?;
        }
        let (reservation, organizer) = found.ok_or(Refusal::NotFound)?;
        reservation.seen_by(actor, organizer)?;
        Ok(reservation)
    }

    async fn cancel(&self, actor: Actor, id: ReservationId) -> Result<(), Refusal> {
        let reservation = self.reservation(actor, id).await?;
        let client = self.pool.get().await?;
        let cancel = client
            .prepare_cached(
                "UPDATE reservation SET cancelled_at = $3
                 WHERE event = $1 AND number = $2 AND cancelled_at IS NULL",
            )
            .await?;
        if client.execute(&cancel, &[&id.event, &id.number, &now()]).await? == 1 {
            let give_back = &self.redis.give_back;
            let _ = self.redis.run(give_back.key(key(id.event)).arg(reservation.quantity)).await?;
        }
        Ok(())
    }

    async fn create_event(&self, new: NewEvent) -> Result<Event, Refusal> {
        let event = tables::create_event(&self.pool, new).await?;
        let _ = self.redis.run(self.redis.open.key(key(event.id)).arg(event.quota).arg(0)).await?;
        Ok(event)
    }

    async fn edit_event(&self, actor: Actor, id: i64, patch: EventPatch) -> Result<Event, Refusal> {
        let client = self.pool.get().await?;
        tables::event(&client, id).await?.managed_by(actor)?;
        if let Some(quota) = patch.quota {
            let set = self.redis.run(self.redis.set_quota.key(key(id)).arg(quota)).await?;
            set.map_err(|committed| Refusal::QuotaBelowCommitted { committed: tickets(committed) })?;
        }
        let update = format!(
            "UPDATE event SET name = coalesce($2, name), quota = coalesce($3, quota),
             version = version + 1, updated_at = $4 WHERE id = $1 AND NOT deleted RETURNING {}",
            tables::EVENT
        );
        let row = client.query_opt(&update, &[&id, &patch.name, &patch.quota, &now()]).await?;
        let event = row.as_ref().map(tables::event_of).ok_or(Refusal::EventDeleted)?;
        self.redis.complete(event).await
    }

    async fn delete_event(&self, actor: Actor, id: i64, force: bool) -> Result<(), Refusal> {
        tables::event(&self.pool.get().await?, id).await?.managed_by(actor)?;
        let place = self.writer.place().await?;
        let closed = self.redis.run(self.redis.close.key(key(id)).arg(i32::from(force))).await?;
        closed.map_err(|reserved| Refusal::HasReservations { reserved: tickets(reserved) })?;
        self.writer.write_surely(place, Change::EventDeleted { event: id, at: now() }).wait().await
    }
}

/// Runs a change to its end even if the client disconnects, so that both stores get it.
async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    let task = tokio::spawn(change);
    task.await.unwrap_or_else(|error| Err(Refusal::Failed(format!("a task ended: {error}"))))
}

impl Store for PostgresRedis {
    async fn create_account(&self, new: NewAccount) -> Result<Account, Refusal> {
        tables::create_account(&self.inner.pool, new).await
    }

    async fn account(&self, username: &str) -> Result<Option<Account>, Refusal> {
        tables::account(&self.inner.pool, username).await
    }

    async fn create_event(&self, new: NewEvent) -> Result<Event, Refusal> {
        let inner = Arc::clone(&self.inner);
        to_the_end(async move { inner.create_event(new).await }).await
    }

    async fn event(&self, id: i64) -> Result<Event, Refusal> {
        let event = tables::event(&self.inner.pool.get().await?, id).await?;
        event.live()?;
        self.inner.redis.complete(event).await
    }

    async fn events(&self, after: i64, limit: usize) -> Result<Vec<Event>, Refusal> {
        let mut events = tables::events(&self.inner.pool, after, limit).await?;
        for event in &mut events {
            *event = self.inner.redis.complete(event.clone()).await?;
        }
        Ok(events)
    }

    async fn edit_event(&self, actor: Actor, id: i64, patch: EventPatch) -> Result<Event, Refusal> {
        let inner = Arc::clone(&self.inner);
        to_the_end(async move { inner.edit_event(actor, id, patch).await }).await
    }

    async fn delete_event(&self, actor: Actor, id: i64, force: bool) -> Result<(), Refusal> {
        let inner = Arc::clone(&self.inner);
        to_the_end(async move { inner.delete_event(actor, id, force).await }).await
    }

    async fn reserve(&self, event: i64, customer: i64, quantity: i32) -> Result<Reservation, Refusal> {
        let inner = Arc::clone(&self.inner);
        to_the_end(async move { inner.reserve(event, customer, quantity).await }).await
    }

    async fn reservation(&self, actor: Actor, id: ReservationId) -> Result<Reservation, Refusal> {
        self.inner.reservation(actor, id).await
    }

    async fn cancel(&self, actor: Actor, id: ReservationId) -> Result<(), Refusal> {
        let inner = Arc::clone(&self.inner);
        to_the_end(async move { inner.cancel(actor, id).await }).await
    }

    async fn flush(&self) -> Result<(), String> {
        self.inner.writer.flush().await
    }
}
