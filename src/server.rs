//! Starts a server, keeps it, and ends it in order.

use std::cell::Cell;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZero;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use async_lock::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shards::driver::Pace;
use shards::ids::EventId;
use shards::limits::SHARD_COUNT_MAX;
use shards::recovery::RecoveryError;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::assembly::{Assembled, Parts};
use crate::config::{Config, Storage};
use crate::front::acceptor;
use crate::front::api::{Common, HIGHEST_DEMO_EVENT, Ids};
use crate::front::auth::Tokens;
use crate::mesh::{Signal, mesh_ends};
use crate::metrics::Metrics;
use crate::passwords::Passwords;
use crate::random;
use crate::rt::net::{BoundListener, bind_all};
use crate::rt::{self, Core, RuntimeError};
use crate::secret::{self, SecretError};
use crate::storage::{self, Opened, RecoveredSummary};

/// How long requests under way may take to end once the server drains. With
/// what comes before and after, the process is gone within ten seconds.
const DRAIN_MAX: Duration = Duration::from_secs(8);

/// For those who asked when the shards were stopping: they hear that nothing was done.
const LAST_ANSWERS: Duration = Duration::from_millis(100);

/// How long a port that is taken may yet become free. A server that was killed
/// listens for some 10 ms after its end: its rings hold the sockets, and the
/// kernel takes rings apart in its own time.
const PORT_RELEASE_MAX: Duration = Duration::from_secs(2);
const PORT_RETRY: Duration = Duration::from_millis(5);

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(
        "{address} is taken: another process listens there\n  choose another address with --listen, or port 0 for a free one"
    )]
    AddressTaken { address: SocketAddr },
    #[error("listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error(
        "--demo serves accounts with a known password, so it listens on loopback only, not on {address}\n  \
         use --listen 127.0.0.1:9092, or leave --demo out"
    )]
    DemoBeyondLoopback { address: SocketAddr },
    #[error("{source}{}", hint(source))]
    Recovery {
        #[from]
        source: RecoveryError,
    },
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(
        "{shards} shards need a limit of at least {needed} open files, it is {limit}\n  \
         in a shell: ulimit -n 65536; in a systemd unit: LimitNOFILE=65536; or fewer --shards"
    )]
    FewDescriptors { shards: usize, needed: usize, limit: usize },
    #[error("start a thread: {0}")]
    Thread(io::Error),
    #[error("connect the cores: {0}")]
    Mesh(io::Error),
    #[error("core {index} failed: {source}")]
    Core { index: usize, source: io::Error },
}

fn hint(error: &RecoveryError) -> &'static str {
    match error {
        RecoveryError::Locked { .. } => "\n  stop that process, or choose another directory with --data",
        RecoveryError::Io { .. } => "\n  choose a directory that this user can write with --data",
        RecoveryError::Log(error) if !error.is_damage() => {
            "\n  as far as is known the data is not at fault: make room on the disk, close other programs \
             that have the file open, and start again"
        }
        _ => {
            "\n  nothing was changed; restore the file from a backup, or move the whole directory away to start empty"
        }
    }
}

/// Serves until SIGTERM or SIGINT, then drains.
///
/// # Errors
///
/// When the server could not start, or one of its cores failed.
pub(crate) fn run(config: &Config) -> Result<(), ServeError> {
    rt::check()?;
    if config.demo && !config.listen.ip().is_loopback() {
        return Err(ServeError::DemoBeyondLoopback { address: config.listen });
    }
    abort_on_panic();
    keep_files_private();
    let descriptors = raise_descriptor_limit();
    let needed = DESCRIPTORS_AT_LEAST + DESCRIPTORS_PER_CORE * config.shard_count;
    if descriptors < needed {
        return Err(ServeError::FewDescriptors { shards: config.shard_count, needed, limit: descriptors });
    }
    let (address, listeners) = listen(config)?;
    let opened = storage::open(config.storage, &config.data, config.shard_count)?;
    let common = Arc::new(common(config, &opened, descriptors)?);
    let secret = match (secret::from_environment()?, config.storage) {
        (Some(secret), _) => secret,
        (None, Storage::Sqlite) => secret::from_directory(&config.data)?,
        (None, Storage::Memory) => secret::ephemeral(),
    };
    let tokens = Tokens::new(&secret, opened.cluster);

    drain_on_signal(Arc::clone(&common))?;
    let mut reports = Vec::with_capacity(config.shard_count);
    let fronts_open = Arc::new(AtomicUsize::new(config.shard_count));
    let ends = mesh_ends(config.shard_count).map_err(ServeError::Mesh)?;
    let parts = opened.shards.into_iter().zip(ends).zip(listeners);
    let mut cores = Vec::with_capacity(config.shard_count);
    for (index, (((shard, log), ends), listener)) in parts.enumerate() {
        let (report, received) = mpsc::channel();
        reports.push(received);
        let parts = Parts {
            index,
            shard,
            log,
            ends,
            common: Arc::clone(&common),
            tokens: tokens.clone(),
            limits: config.limits,
            timeouts: config.timeouts,
            calls_in_flight_max: config.calls_in_flight_max,
            batch_max: config.batch_max,
            pace: Pace::USUAL,
        };
        let part = CorePart { parts, listener, fronts_open: Arc::clone(&fronts_open), report };
        let core = Core::spawn("core", move || part.run());
        cores.push(core.map_err(ServeError::Thread)?);
    }
    for (index, reports) in reports.iter().enumerate() {
        match reports.recv() {
            Ok(Report::Listens) => {}
            Ok(Report::NotAssembled(source)) => return Err(ServeError::Core { index, source }),
            Ok(Report::DoesNotListen(source)) => return Err(ServeError::Listen { address, source }),
            Err(mpsc::RecvError) => {
                // It ended before it could say anything: joining it tells why.
                let core = cores.swap_remove(index);
                let ended = core.join().err();
                let source = ended.unwrap_or_else(|| io::Error::other("it ended by itself"));
                return Err(ServeError::Core { index, source });
            }
        }
    }
    announce(config, address, opened.recovered.as_ref());
    join(cores)
}

fn join(cores: Vec<Core>) -> Result<(), ServeError> {
    for (index, core) in cores.into_iter().enumerate() {
        core.join().map_err(|source| ServeError::Core { index, source })?;
    }
    tracing::info!("stopped");
    Ok(())
}

fn listen(config: &Config) -> Result<(SocketAddr, Vec<BoundListener>), ServeError> {
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

fn common(config: &Config, opened: &Opened, descriptors: usize) -> Result<Common, ServeError> {
    let reserved = if config.demo { HIGHEST_DEMO_EVENT } else { EventId(0) };
    let password_threads = (cpu_count() / 2).max(1);
    Ok(Common {
        ids: Ids::after(opened.highest_event.max(reserved), opened.highest_user),
        passwords: Passwords::start(password_threads).map_err(ServeError::Thread)?,
        metrics: Box::leak(Box::new(Metrics::new(config.shard_count))),
        boot_id: format!("{:016x}", random::u64()),
        draining: AtomicBool::new(false),
        demo: config.demo,
        trust_forwarded_for: config.trust_forwarded_for,
        administration: Mutex::default(),
        connections: AtomicUsize::new(0),
        connections_max: config
            .connections_max
            .unwrap_or(descriptors - DESCRIPTOR_RESERVE.min(descriptors / 2)),
    })
}

/// The one line that says that the server answers now.
fn announce(config: &Config, address: SocketAddr, recovered: Option<&RecoveredSummary>) {
    let shards = match config.shard_count {
        1 => "1 shard".to_owned(),
        several => format!("{several} shards"),
    };
    let data = match recovered {
        Some(recovered) => format!(
            "data in {}, recovered {} records in {} ms, epoch {}",
            config.data.display(),
            recovered.record_count,
            recovered.took.as_millis(),
            recovered.epoch.0
        ),
        None => "in memory: all is gone at the end".to_owned(),
    };
    let version = env!("CARGO_PKG_VERSION");
    // Whoever closed standard output does not want to know.
    let _ = writeln!(io::stdout(), "boxoffice {version} listening on http://{address}, {shards}, {data}");
    tracing::info!(%address, shards = config.shard_count, "ready");
}

/// What moves to a core's own thread.
struct CorePart {
    parts: Parts,
    listener: BoundListener,
    fronts_open: Arc<AtomicUsize>,
    report: mpsc::Sender<Report>,
}

/// What came of a core's start.
enum Report {
    Listens,
    NotAssembled(io::Error),
    DoesNotListen(io::Error),
}

impl CorePart {
    async fn run(self) {
        let opened = self.parts.assemble().map_err(Report::NotAssembled).and_then(|core| {
            let listener = self.listener.listen(&core.sockets).map_err(Report::DoesNotListen)?;
            Ok((core, listener))
        });
        let (Assembled { front, pump, inbox, reactor, .. }, listener) = match opened {
            Ok(opened) => opened,
            Err(failed) => {
                let _ = self.report.send(failed);
                return;
            }
        };
        let stop = Rc::new(Cell::new(false));
        let stopped = Rc::new(Signal::default());
        rt::spawn({
            let (stop, stopped) = (Rc::clone(&stop), Rc::clone(&stopped));
            async move {
                pump.run(stop).await;
                stopped.raise();
            }
        });
        rt::spawn(Rc::clone(&front.deadlines).sweep());
        reactor.start();
        let _ = self.report.send(Report::Listens);
        acceptor::run(Rc::clone(&front), listener).await;

        front.finish(DRAIN_MAX).await;
        // A shard goes on until no front asks it any more.
        front.api.closed.set(true);
        self.fronts_open.fetch_sub(1, Ordering::AcqRel);
        while self.fronts_open.load(Ordering::Acquire) > 0 {
            rt::sleep(Duration::from_millis(5)).await;
        }
        stop.set(true);
        inbox.signal.raise();
        stopped.wait().await;
        let deadline = Instant::now() + LAST_ANSWERS;
        while front.is_busy() && Instant::now() < deadline {
            rt::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// As many CPUs as this process may use at a time, by its affinity and its control group.
fn cpu_count() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// The shards that a server has when it is not told.
pub(crate) fn default_shard_count() -> usize {
    cpu_count().min(SHARD_COUNT_MAX)
}

/// The log has the hashes of passwords; a directory made by others may be open to all.
pub(crate) fn keep_files_private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// A panic is a bug, and what a shard knows after one is not to be trusted: the
/// process ends at once, and a restart recovers what is certain.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// A core's rings, events, listener and log, some sixteen; with room, since the runtime's
/// answer to too few is a panic.
const DESCRIPTORS_PER_CORE: usize = 22;
/// For the process itself and its first clients.
const DESCRIPTORS_AT_LEAST: usize = 64;

/// Kept for logs, the runtime, and clients who are turned away.
const DESCRIPTOR_RESERVE: usize = 512;

/// As many descriptors as the system lets us have, without being asked for it.
fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files could not be raised");
            limit.current
        }
    };
    current.map_or(usize::MAX, |current| usize::try_from(current).unwrap_or(usize::MAX))
}

fn drain_on_signal(common: Arc<Common>) -> Result<(), ServeError> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(ServeError::Thread)?;
    let watch = move || {
        for signal in signals.forever() {
            if common.draining.swap(true, Ordering::Relaxed) {
                tracing::warn!("stopping at once");
                std::process::exit(128 + signal);
            }
            tracing::info!("draining: answering what is under way; once more to stop at once");
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(ServeError::Thread)?;
    Ok(())
}
