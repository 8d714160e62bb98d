//! The validated configuration of a server.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::front::deadlines::Timeouts;
use crate::front::http::parse::Limits;

/// Where acknowledged changes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Storage {
    /// In a log on disk: they survive crashes and power cuts
    Sqlite,
    /// In memory: they are lost when the server exits
    Memory,
}

#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub data: PathBuf,
    pub listen: SocketAddr,
    pub shard_count: usize,
    pub storage: Storage,
    pub demo: bool,
    pub trust_forwarded_for: bool,
    pub timeouts: Timeouts,
    pub limits: Limits,
    /// Maximum number of registrations per hour from one address.
    pub registrations_per_hour: u32,
    /// Maximum number of requests in flight per core.
    pub calls_in_flight_max: usize,
    /// Maximum number of records per commit.
    pub batch_max: usize,
    /// Maximum number of open connections; `None` for the limit on open files minus a reserve.
    pub connections_max: Option<usize>,
}
