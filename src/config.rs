//! What a server is started with, checked.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::front::deadlines::Timeouts;
use crate::front::http::parse::Limits;

/// Where acknowledged changes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Storage {
    /// To a log on disk: survives everything.
    Sqlite,
    /// Nowhere: all is gone when the server ends.
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
    /// Of each core.
    pub calls_in_flight_max: usize,
    /// Records of a commit.
    pub batch_max: usize,
    /// `None` for as many as there are descriptors, less a reserve.
    pub connections_max: Option<usize>,
}
