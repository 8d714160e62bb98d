//! Starts a server, runs it, and ends it in order.

mod core_main;
mod error;
mod mapped_files;
mod process;
mod signals;
mod systemd;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use async_lock::Mutex;
use serde_json::json;
use shards::driver::Pace;
use shards::ids::EventId;
use storage::{FilesInUse, Progress, Records};

use crate::assembly::Parts;
use crate::clock::Origin;
use crate::config::{Config, Storage};
use crate::front::api::{Common, HIGHEST_DEMO_EVENT, Ids};
use crate::front::auth::Tokens;
use crate::front::cors::Cors;
use crate::front::issuers::Issuers;
use crate::front::key_uses::KeyUses;
use crate::front::places::Places;
use crate::front::standby::{CoreLink, Desk, Standby};
use crate::logging::LogFormat;
use crate::mesh::mesh_ends;
use crate::metrics::Metrics;
use crate::old_records::OldRecords;
use crate::opening::{self, Opened, RecoveredSummary, ShardWithLog};
use crate::passwords::Passwords;
use crate::random;
use crate::rt::channel::channel;
use crate::rt::net::{ListeningSocket, bind_all};
use crate::rt::{Core, Executor};
use crate::secret::{self, SecretError};
use crate::version::VERSION;

use core_main::{CoreMain, Report};
pub(crate) use error::{ServeError, recovery_hint};
pub(crate) use process::{default_shard_count, keep_secrets};
pub(crate) use signals::{Reload, ignores_hangups, survive_long_files};

/// How long the server tries to bind a port that is taken. A server that was killed still listens for some 10 ms:
/// its rings hold the sockets, and the kernel releases rings asynchronously.
const PORT_RELEASE_MAX: Duration = Duration::from_secs(2);
const PORT_RETRY: Duration = Duration::from_millis(5);

/// Serves until SIGTERM or SIGINT, then drains. SIGHUP reloads the configuration if there is a file of it, else it
/// drains, too.
///
/// # Errors
///
/// When the server could not start, or one of its cores failed.
pub(crate) fn run(config: &Config, reload: Option<Reload>) -> Result<(), ServeError> {
    let executor = Executor::choose(config.executor)?;
    if config.demo && !config.listen.ip().is_loopback() {
        return Err(ServeError::DemoBeyondLoopback { address: config.listen });
    }
    process::abort_on_panic(config.log_format);
    keep_secrets();
    let descriptor_limit = process::raise_descriptor_limit(config.shard_count)?;
    let (address, listeners) = listen(config)?;
    survive_long_files();
    mapped_files::report_faults(config.log_format, &config.data).map_err(ServeError::Signals)?;
    let metrics: &'static Metrics = Box::leak(Box::new(Metrics::new(config.shard_count)));
    let boot_id = format!("{:016x}", random::u64());
    let progress = Arc::new(Progress::default());
    let cors = Cors::of(&config.cors_origins).map(Arc::new);
    let desk = Desk::new(boot_id.clone(), config.limits, metrics, Arc::clone(&progress), cors.clone());
    let standby = start_standby(&listeners, desk).map_err(ServeError::Thread)?;
    let opened = opening::open(config.storage, &config.data, config.shard_count, &progress)?;
    let common = Arc::new(common(config, &opened, descriptor_limit, metrics, boot_id, cors)?);
    let tokens = Tokens::new(&token_secret(config, opened.files.as_ref())?, opened.cluster);
    if let Some(files) = opened.files {
        process::watch_files(files).map_err(ServeError::Thread)?;
    }
    signals::handle(Arc::clone(&common), reload).map_err(ServeError::Thread)?;
    let admins: u64 = opened.shards.iter().map(|(shard, _)| shard.state().totals().admins).sum();
    let (cores, links) = start_cores(config, executor, listeners, opened.shards, &common, &tokens)?;
    let wakers = links.iter().map(|link| link.waker.clone()).collect();
    standby.stand_by(Arc::clone(&common), links);
    systemd::keep_watchdog(wakers).map_err(ServeError::Thread)?;
    announce(config, address, opened.recovered.as_ref());
    systemd::ready();
    if admins == 0 && !config.demo {
        say_how_to_make_an_admin(config);
    }
    for (index, core) in cores.into_iter().enumerate() {
        core.join().map_err(|source| ServeError::Core { index, source })?;
    }
    tracing::info!("stopped");
    Ok(())
}

/// Starts the thread that answers before the cores run.
fn start_standby(listeners: &[ListeningSocket], desk: Desk) -> io::Result<Standby> {
    let listeners = listeners.iter().map(ListeningSocket::share).collect::<io::Result<_>>()?;
    Standby::start(listeners, desk)
}

/// Starts a core for each shard. Returns when all of them run, with what the standby thread needs to reach them.
fn start_cores(
    config: &Config,
    executor: Executor,
    listeners: Vec<ListeningSocket>,
    shards: Vec<ShardWithLog>,
    common: &Arc<Common>,
    tokens: &Tokens,
) -> Result<(Vec<Core>, Vec<CoreLink>), ServeError> {
    let fronts_open = Arc::new(AtomicUsize::new(config.shard_count));
    let ends = mesh_ends(config.shard_count).map_err(ServeError::Mesh)?;
    let mut cores = Vec::with_capacity(config.shard_count);
    let mut links = Vec::with_capacity(config.shard_count);
    let mut reports = Vec::with_capacity(config.shard_count);
    let origin = Origin::now();
    for (index, (((shard, log), ends), listener)) in shards.into_iter().zip(ends).zip(listeners).enumerate() {
        let (report, received) = mpsc::channel();
        reports.push(received);
        let (sender, arrivals) = channel(ends.waker.clone());
        links.push(CoreLink { waker: ends.waker.clone(), arrivals: sender });
        let parts = Parts {
            index,
            shard,
            log,
            ends,
            arrivals,
            common: Arc::clone(common),
            tokens: tokens.clone(),
            limits: config.limits,
            account_limits: config.account_limits,
            timeouts: config.timeouts,
            calls_in_flight_max: config.calls_in_flight_max,
            batch_max: config.batch_max,
            idempotency_keys_max: config.idempotency_keys_max,
            pace: Pace::USUAL,
            origin,
        };
        let main = CoreMain { parts, listener, fronts_open: Arc::clone(&fronts_open), report };
        let core = executor.start_core("core", move || main.run());
        cores.push(core.map_err(ServeError::Thread)?);
    }
    for (index, reports) in reports.iter().enumerate() {
        match reports.recv() {
            Ok(Report::Runs) => {}
            Ok(Report::NotAssembled(source)) => return Err(ServeError::Core { index, source }),
            Err(mpsc::RecvError) => {
                // The core ended before it reported anything: joining it returns the cause.
                let ended = cores.swap_remove(index).join().err();
                let source = ended.unwrap_or_else(|| io::Error::other("it ended by itself"));
                return Err(ServeError::Core { index, source });
            }
        }
    }
    Ok((cores, links))
}

/// The secret from the environment, else that of the data directory, else one for this start alone. `files` saves
/// that of the directory with its other files.
fn token_secret(config: &Config, files: Option<&FilesInUse>) -> Result<Vec<u8>, SecretError> {
    match (secret::given()?, files) {
        (Some(secret), _) => Ok(secret),
        (None, Some(files)) => match secret::from_directory(&config.data) {
            Err(error) if error.is_no_room() => {
                tracing::warn!(%error, "tokens of this start are not valid after it");
                Ok(secret::ephemeral())
            }
            secret => {
                let secret = secret?;
                files.keep(secret::FILE_NAME, secret.clone());
                Ok(secret)
            }
        },
        (None, None) => Ok(secret::ephemeral()),
    }
}

/// Makes a socket for each core that listens.
fn listen(config: &Config) -> Result<(SocketAddr, Vec<ListeningSocket>), ServeError> {
    let address = config.listen;
    let deadline = Instant::now() + PORT_RELEASE_MAX;
    loop {
        match bind_all(address, config.shard_count) {
            Ok(bound) => return Ok(bound),
            Err(source) if source.kind() != io::ErrorKind::AddrInUse => {
                return Err(ServeError::Listen { address, source });
            }
            Err(_) if Instant::now() < deadline => thread::sleep(PORT_RETRY),
            Err(_) => return Err(ServeError::AddressTaken { address }),
        }
    }
}

/// What all cores share.
fn common(
    config: &Config,
    opened: &Opened,
    descriptor_limit: usize,
    metrics: &'static Metrics,
    boot_id: String,
    cors: Option<Arc<Cors>>,
) -> Result<Common, ServeError> {
    let reserved = if config.demo { HIGHEST_DEMO_EVENT } else { EventId(0) };
    let password_threads = (process::cpu_count() / 2).max(1);
    let connections_max = config
        .connections_max
        .unwrap_or_else(|| process::default_connections_max(descriptor_limit, config.shard_count));
    let proxies = Arc::new(config.proxies.clone());
    let reader = opened.records.as_ref().map(Records::reader);
    let old_records = reader.map(OldRecords::start).transpose().map_err(ServeError::Thread)?;
    Ok(Common {
        ids: Ids::after(opened.highest_event.max(reserved), opened.highest_user),
        passwords: Passwords::start(password_threads, config.registrations_per_hour)
            .map_err(ServeError::Thread)?,
        metrics,
        boot_id,
        draining: AtomicBool::new(false),
        demo: config.demo,
        registration: config.registration,
        cors,
        issuers: Issuers::start(&config.issuers)?,
        key_uses: KeyUses::default(),
        places: Arc::new(Places::new(connections_max, Arc::clone(&proxies))),
        proxies,
        administration: Mutex::default(),
        old_records,
    })
}

/// Without an admin, nobody makes organizers, unless they may register.
fn say_how_to_make_an_admin(config: &Config) {
    match config.storage {
        Storage::Sqlite => tracing::info!(
            "no account is an admin's: to make the first one, stop the server and run: \
             boxoffice admin create --data {} --username NAME",
            config.data.display()
        ),
        Storage::Memory => tracing::info!(
            "no account is an admin's, and none can be made with --storage memory: organizers register with \
             --registration open"
        ),
    }
}

/// Logs that the server accepts connections, and prints the line by which scripts know it, in the format of the log.
fn announce(config: &Config, address: SocketAddr, recovered: Option<&RecoveredSummary>) {
    let version = VERSION;
    let shards = config.shard_count;
    let data = recovered.map(|_| config.data.display().to_string());
    let records = recovered.map(|recovered| recovered.record_count);
    let recovery_ms = recovered.map(|recovered| recovered.took.as_millis() as u64);
    let epoch = recovered.map(|recovered| recovered.epoch.0);
    let line = match config.log_format {
        LogFormat::Human => {
            let shards = if shards == 1 { "1 shard".to_owned() } else { format!("{shards} shards") };
            let data = match recovered {
                Some(RecoveredSummary { record_count, epoch, took }) => format!(
                    "data in {}, recovered {record_count} records in {} ms, epoch {}",
                    config.data.display(),
                    took.as_millis(),
                    epoch.0
                ),
                None => "in memory: lost when the server ends".to_owned(),
            };
            format!("boxoffice {version} listening on http://{address}, {shards}, {data}")
        }
        LogFormat::Json => json!({
            "message": "listening",
            "version": version,
            "url": format!("http://{address}"),
            "shards": shards,
            "data": data,
            "records": records,
            "recovery_ms": recovery_ms,
            "epoch": epoch,
        })
        .to_string(),
    };
    tracing::info!(version, %address, shards, data, records, recovery_ms, epoch, "ready");
    // Fails when standard output is closed, which is no reason to end.
    let _ = writeln!(io::stdout(), "{line}");
}
