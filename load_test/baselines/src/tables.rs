//! The PostgreSQL tables of the phases 2 to 4, and the statements that several of them use.
//!
//! There is one row per account, event and reservation. Reservations have the primary key (event,
//! number) and no other index. The phases use `event.reserved` and `event.last_number` differently:
//! phase 2 counts in them, phase 3 keeps a copy in them, phase 4 leaves them at 0.

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use tokio_postgres::{NoTls, Row, error::SqlState};

use crate::domain::{Account, Event, NewAccount, NewEvent, Refusal, Reservation, ReservationId, now};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS phase (name text NOT NULL);
    CREATE TABLE IF NOT EXISTS account (
        id bigint PRIMARY KEY,
        username text NOT NULL UNIQUE,
        role text NOT NULL,
        password_hash text NOT NULL
    );
    CREATE TABLE IF NOT EXISTS event (
        id bigint PRIMARY KEY,
        name text NOT NULL,
        organizer bigint NOT NULL REFERENCES account,
        quota integer NOT NULL,
        reserved integer NOT NULL,
        last_number bigint NOT NULL,
        version bigint NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        deleted boolean NOT NULL,
        CHECK (reserved BETWEEN 0 AND quota)
    );
    CREATE TABLE IF NOT EXISTS reservation (
        event bigint NOT NULL REFERENCES event,
        number bigint NOT NULL,
        customer bigint NOT NULL,
        quantity integer NOT NULL CHECK (quantity > 0),
        created_at timestamptz NOT NULL,
        cancelled_at timestamptz,
        PRIMARY KEY (event, number)
    );
    CREATE SEQUENCE IF NOT EXISTS reservation_block;
";

/// The advisory lock for creating the tables, since concurrent `CREATE ... IF NOT EXISTS` can fail.
const MIGRATION_LOCK: i64 = 0x626f_786f_6666;

pub(crate) const EVENT: &str =
    "id, name, organizer, quota, reserved, last_number, version, created_at, updated_at, deleted";

/// The columns of a reservation in a table named `r`.
pub(crate) const RESERVATION: &str =
    "r.event, r.number, r.customer, r.quantity, r.created_at, r.cancelled_at";

/// Connects, and creates the tables if they are missing.
///
/// # Errors
///
/// When the connection fails, or the database belongs to another phase.
pub(crate) async fn open(connection: &str, pool_size: usize, phase: &str) -> Result<Pool, String> {
    let config = connection
        .parse()
        .map_err(|error| format!("--postgres {connection:?} is no connection string: {error}"))?;
    let manager =
        Manager::from_config(config, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    let pool = Pool::builder(manager)
        .max_size(pool_size)
        .build()
        .map_err(|error| format!("make a pool of {pool_size} connections: {error}"))?;
    let mut client = pool.get().await.map_err(|error| {
        format!("connect to PostgreSQL: {error}. Does it run, and is --postgres {connection:?} right?")
    })?;
    let owner = claim(&mut client, phase).await.map_err(|error| format!("make the tables: {error}"))?;
    if owner != phase {
        return Err(format!(
            "this database has the data of {owner}, and {phase} would read it wrongly: name another \
             database in --postgres"
        ));
    }
    Ok(pool)
}

/// Claims the database for a phase. Returns the phase that it belongs to.
async fn claim(client: &mut Object, phase: &str) -> Result<String, tokio_postgres::Error> {
    let transaction = client.build_transaction().start().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK]).await?;
    transaction.batch_execute(TABLES).await?;
    transaction
        .execute("INSERT INTO phase SELECT $1::text WHERE NOT EXISTS (SELECT FROM phase)", &[&phase])
        .await?;
    let owner = transaction.query_one("SELECT name FROM phase", &[]).await?.get(0);
    transaction.commit().await?;
    Ok(owner)
}

/// Returns true if the transaction conflicted with another one and can be tried again.
pub(crate) fn is_conflict(error: &tokio_postgres::Error) -> bool {
    let conflicts = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
    error.code().is_some_and(|code| conflicts.contains(code))
}

impl From<tokio_postgres::Error> for Refusal {
    fn from(error: tokio_postgres::Error) -> Refusal {
        let reason = error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string);
        Refusal::Failed(format!("PostgreSQL: {reason}"))
    }
}

impl From<deadpool_postgres::PoolError> for Refusal {
    fn from(error: deadpool_postgres::PoolError) -> Refusal {
        Refusal::Failed(format!("PostgreSQL: {error}"))
    }
}

/// # Panics
///
/// When a column differs from [`TABLES`] or the role is unknown, because the tables were changed.
pub(crate) fn account_of(row: &Row) -> Account {
    let role: String = row.get("role");
    Account {
        id: row.get("id"),
        username: row.get("username"),
        role: role.parse().expect("only roles are written"),
        password_hash: row.get("password_hash"),
    }
}

pub(crate) fn event_of(row: &Row) -> Event {
    Event {
        id: row.get("id"),
        name: row.get("name"),
        organizer: row.get("organizer"),
        quota: row.get("quota"),
        reserved: row.get("reserved"),
        last_number: row.get("last_number"),
        version: row.get("version"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
        deleted: row.get("deleted"),
    }
}

pub(crate) fn reservation_of(row: &Row) -> Reservation {
    Reservation {
        id: ReservationId { event: row.get("event"), number: row.get("number") },
        customer: row.get("customer"),
        quantity: row.get("quantity"),
        created_at: row.get("created_at"),
        cancelled_at: row.get("cancelled_at"),
    }
}

pub(crate) async fn create_account(pool: &Pool, new: NewAccount) -> Result<Account, Refusal> {
    let client = pool.get().await?;
    let insert = client
        .prepare_cached(
            "INSERT INTO account SELECT coalesce(max(id), 0) + 1, $1::text, $2::text, $3::text FROM account
             ON CONFLICT DO NOTHING RETURNING *",
        )
        .await?;
    loop {
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&new.username, &new.role.as_str(), &new.password_hash];
        if let Some(row) = client.query_opt(&insert, &values).await? {
            return Ok(account_of(&row));
        }
        if find_account(&client, &new.username).await?.is_some() {
            return Err(Refusal::UsernameTaken);
        }
        // A concurrent call took the id, so the next one is tried.
    }
}

pub(crate) async fn account(pool: &Pool, username: &str) -> Result<Option<Account>, Refusal> {
    find_account(&pool.get().await?, username).await
}

async fn find_account(client: &Object, username: &str) -> Result<Option<Account>, Refusal> {
    let select = client.prepare_cached("SELECT * FROM account WHERE username = $1").await?;
    Ok(client.query_opt(&select, &[&username]).await?.as_ref().map(account_of))
}

pub(crate) async fn create_event(pool: &Pool, new: NewEvent) -> Result<Event, Refusal> {
    let client = pool.get().await?;
    let insert = client
        .prepare_cached(&format!(
            "INSERT INTO event SELECT coalesce($1, max(id) + 1, 1), $2::text, $3::bigint, $4::integer, 0, 0, 1,
                 $5::timestamptz, $5::timestamptz, false
             FROM event ON CONFLICT DO NOTHING RETURNING {EVENT}"
        ))
        .await?;
    loop {
        let row =
            client.query_opt(&insert, &[&new.id, &new.name, &new.organizer, &new.quota, &now()]).await?;
        match row {
            Some(row) => return Ok(event_of(&row)),
            None if new.id.is_some() => return Err(Refusal::EventExists),
            // A concurrent call took the id, so the next one is tried.
            None => {}
        }
    }
}

/// Reads an event, including a deleted one.
pub(crate) async fn event(client: &Object, id: i64) -> Result<Event, Refusal> {
    let select = client.prepare_cached(&format!("SELECT {EVENT} FROM event WHERE id = $1")).await?;
    let row = client.query_opt(&select, &[&id]).await?.ok_or(Refusal::NotFound)?;
    Ok(event_of(&row))
}

/// Lists events without deleted ones.
pub(crate) async fn events(pool: &Pool, after: i64, limit: usize) -> Result<Vec<Event>, Refusal> {
    let client = pool.get().await?;
    let select = client
        .prepare_cached(&format!(
            "SELECT {EVENT} FROM event WHERE id > $1 AND NOT deleted ORDER BY id LIMIT $2"
        ))
        .await?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(client.query(&select, &[&after, &limit]).await?.iter().map(event_of).collect())
}

/// Reads a reservation and the organizer of its event.
pub(crate) async fn reservation(
    client: &Object,
    id: ReservationId,
) -> Result<Option<(Reservation, i64)>, Refusal> {
    let select = client
        .prepare_cached(&format!(
            "SELECT {RESERVATION}, e.organizer FROM reservation r JOIN event e ON e.id = r.event
             WHERE r.event = $1 AND r.number = $2"
        ))
        .await?;
    let row = client.query_opt(&select, &[&id.event, &id.number]).await?;
    Ok(row.map(|row| (reservation_of(&row), row.get("organizer"))))
}
