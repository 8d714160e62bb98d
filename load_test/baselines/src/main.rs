//! The phases of the original system, implemented with tokio and axum for a fair comparison, and two
//! servers with constant responses as ceilings. `README.md` describes them.

mod api;
mod auth;
mod batched;
mod constant;
mod demonstration;
mod domain;
mod input;
mod memory;
mod passwords;
mod postgres;
mod postgres_redis;
mod problem;
mod tables;
mod writer;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::serve::ListenerExt;
use clap::{Args, Parser, Subcommand};
use deadpool_postgres::Pool;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::api::Service;
use crate::auth::{SECRET_BYTES, Tokens};
use crate::domain::Store;
use crate::memory::Book;
use crate::passwords::Passwords;
use crate::postgres::{Postgres, Reserve};
use crate::postgres_redis::PostgresRedis;
use crate::writer::Answer;

/// The allocator of boxoffice.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The time for requests in flight at the end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The phases of the original ticket reservation system, and two ceilings, for comparison
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    phase: Phase,
}

#[derive(Subcommand)]
enum Phase {
    /// Phase 1: in memory, lost at exit
    Memory {
        #[command(flatten)]
        http: Http,
        #[command(flatten)]
        secret: Secret,
    },
    /// Phase 2: PostgreSQL only, one transaction per reservation
    Postgres {
        #[command(flatten)]
        http: Http,
        #[command(flatten)]
        secret: Secret,
        #[command(flatten)]
        database: Database,
        /// How a reservation is written
        #[arg(long, value_enum, default_value = "transaction")]
        reserve: Reserve,
    },
    /// Phase 3: in memory, written to PostgreSQL in batches in the background
    PostgresBatched {
        #[command(flatten)]
        http: Http,
        #[command(flatten)]
        secret: Secret,
        #[command(flatten)]
        database: Database,
        /// When a reservation is answered
        #[arg(long, value_enum, default_value = "before-batch")]
        answer: Answer,
    },
    /// Phase 4: the quota in Redis, reservations written to PostgreSQL in batches
    PostgresRedis {
        #[command(flatten)]
        http: Http,
        #[command(flatten)]
        secret: Secret,
        #[command(flatten)]
        database: Database,
        /// Where Redis is, such as redis://127.0.0.1:6379/
        #[arg(long, env = "BASELINES_REDIS", value_name = "URL")]
        redis: String,
        /// When a reservation is answered
        #[arg(long, value_enum, default_value = "before-batch")]
        answer: Answer,
    },
    /// Ceiling: a constant 201 for every reservation, with actix-web
    ConstantActix {
        #[command(flatten)]
        http: Http,
    },
    /// Ceiling: a constant 201 for every reservation, with ntex
    ConstantNtex {
        #[command(flatten)]
        http: Http,
    },
}

#[derive(Args)]
struct Http {
    /// Address and port to listen on; port 0 chooses a free port
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Number of worker threads [default: the CPUs in the affinity mask]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
}

impl Http {
    fn worker_count(&self) -> usize {
        let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
        self.workers.map_or_else(cpus, usize::from)
    }
}

#[derive(Args)]
struct Secret {
    /// File with the 32-byte secret that signs tokens [default: a random secret for this process]
    #[arg(long, value_name = "FILE")]
    token_secret_file: Option<PathBuf>,
}

#[derive(Args)]
struct Database {
    /// Connection string, such as "host=127.0.0.1 port=5432 user=postgres dbname=tickets"
    #[arg(long, env = "BASELINES_POSTGRES", value_name = "STRING")]
    postgres: String,
    /// Maximum number of connections to PostgreSQL
    #[arg(long, default_value = "8", value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pool: u16,
}

impl Database {
    async fn open(&self, phase: &str) -> Result<Pool, String> {
        tables::open(&self.postgres, self.pool.into(), phase).await
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().phase) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("baselines: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(phase: Phase) -> Result<(), String> {
    match phase {
        Phase::Memory { http, secret } => {
            runtime(&http)?.block_on(serve(&http, &secret, async || Ok(Book::default())))
        }
        Phase::Postgres { http, secret, database, reserve } => {
            let open = async || Ok(Postgres::new(database.open("postgres").await?, reserve));
            runtime(&http)?.block_on(serve(&http, &secret, open))
        }
        Phase::PostgresBatched { http, secret, database, answer } => {
            let open =
                async || batched::Batched::open(database.open("postgres-batched").await?, answer).await;
            runtime(&http)?.block_on(serve(&http, &secret, open))
        }
        Phase::PostgresRedis { http, secret, database, redis, answer } => {
            let open = async || {
                let pool = database.open("postgres-redis").await?;
                PostgresRedis::open(pool, &redis, http.worker_count(), answer).await
            };
            runtime(&http)?.block_on(serve(&http, &secret, open))
        }
        Phase::ConstantActix { http } => {
            constant::actix(http.listen, http.worker_count()).map_err(|error| cannot_listen(&http, &error))
        }
        Phase::ConstantNtex { http } => {
            constant::ntex(http.listen, http.worker_count()).map_err(|error| cannot_listen(&http, &error))
        }
    }
}

fn cannot_listen(http: &Http, error: &std::io::Error) -> String {
    format!("listen on {}: {error}. Name another address in --listen", http.listen)
}

/// Creates the runtime: with one worker, everything runs on one thread.
fn runtime(http: &Http) -> Result<Runtime, String> {
    let mut builder = match http.worker_count() {
        1 => Builder::new_current_thread(),
        several => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(several);
            builder
        }
    };
    builder.enable_all().build().map_err(|error| format!("start the runtime: {error}"))
}

/// Serves until SIGTERM or SIGINT, then finishes requests in flight and writes queued changes.
async fn serve<S: Store>(
    http: &Http,
    secret: &Secret,
    open: impl AsyncFnOnce() -> Result<S, String>,
) -> Result<(), String> {
    let service = Arc::new(Service {
        tokens: Tokens::new(&token_secret(secret.token_secret_file.as_deref())?),
        store: open().await?,
        passwords: Passwords::new(http.worker_count()),
        boot_id: random_id(),
        draining: AtomicBool::new(false),
    });
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let listener = TcpListener::bind(http.listen).await.map_err(|error| cannot_listen(http, &error))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let listener = listener.tap_io(|socket| {
        // If this fails, the connection is closed already, which the next read detects.
        let _ = socket.set_nodelay(true);
    });

    let stop = Arc::new(Notify::new());
    let stopped = Arc::clone(&stop);
    let router = api::router(Arc::clone(&service));
    let server = axum::serve(listener, router)
        .with_graceful_shutdown(async move { stopped.notified().await })
        .into_future();
    let server = tokio::spawn(server);
    constant::announce(address).map_err(|error| format!("print the address: {error}"))?;

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    service.draining.store(true, Ordering::Relaxed);
    stop.notify_one();
    if timeout(PATIENCE, server).await.is_err() {
        eprintln!("some connections did not end within {} s", PATIENCE.as_secs());
    }
    service.store.flush().await
}

fn token_secret(file: Option<&Path>) -> Result<[u8; SECRET_BYTES], String> {
    let Some(file) = file else {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(|error| format!("get random bytes: {error}"))?;
        return Ok(secret);
    };
    let bytes = std::fs::read(file).map_err(|error| format!("read {}: {error}", file.display()))?;
    <[u8; SECRET_BYTES]>::try_from(&*bytes)
        .map_err(|_| format!("{} has {} bytes; it has to have {SECRET_BYTES}", file.display(), bytes.len()))
}

/// Returns 16 random hexadecimal digits.
///
/// # Panics
///
/// When the kernel has no random bytes.
fn random_id() -> String {
    let number = getrandom::u64().expect("the kernel gives random bytes");
    format!("{number:016x}")
}
