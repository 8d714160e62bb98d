//! The validated configuration of a server.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::account_limits::AccountLimits;
use crate::front::cors::Origin;
use crate::front::deadlines::Timeouts;
use crate::front::http::parse::Limits;
use crate::front::issuers::IssuerOption;
use crate::front::proxies::TrustedProxies;
use crate::front::registration::Registration;
use crate::logging::LogFormat;
use crate::rt::ExecutorChoice;

/// Where acknowledged changes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Storage {
    /// In a log on disk: they survive crashes and power cuts
    Sqlite,
    /// In memory: they are lost when the server exits
    Memory,
}

/// The keys of a noon with ten million tickets. They take 0.7 GB of memory.
pub(crate) const IDEMPOTENCY_KEYS_MAX_DEFAULT: u32 = 10_000_000;

#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub log_format: LogFormat,
    pub data: PathBuf,
    pub listen: SocketAddr,
    pub shard_count: usize,
    pub storage: Storage,
    pub executor: ExecutorChoice,
    pub demo: bool,
    pub proxies: TrustedProxies,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub account_limits: AccountLimits,
    pub registration: Registration,
    /// Origins whose pages may call the API from a browser.
    pub cors_origins: Vec<Origin>,
    /// Whose tokens stand for customers, too.
    pub issuers: Vec<IssuerOption>,
    /// Maximum number of registrations per hour from one address.
    pub registrations_per_hour: u32,
    /// Maximum number of requests in flight per core.
    pub calls_in_flight_max: usize,
    /// Maximum number of records per commit.
    pub batch_max: usize,
    /// Maximum number of idempotency keys that are kept; 0 for no limit.
    pub idempotency_keys_max: u64,
    /// Maximum number of open connections; `None` for the limit on open files minus a reserve.
    pub connections_max: Option<usize>,
}
