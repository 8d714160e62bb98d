//! Reservations from request bytes to response bytes, for one or more clients.

use std::hint::black_box;

use boxoffice::bench::{Client, OneCore};
use shards::log::{Log, MemoryLog};
use storage::Synchronous;
use tempfile::TempDir;

use crate::support;

/// The number of reservations per measurement: enough to amortize buffers that grow now and then, and
/// few enough that no checkpoint of SQLite's journal falls into it. `run` has the same number.
pub(crate) const RESERVATIONS: usize = 400;

pub(crate) const EVENTS: u32 = 4;

/// A core with some clients, whose token is already cached.
pub(crate) struct RoundTrips {
    pub(crate) core: OneCore,
    clients: Vec<Client>,
    pub(crate) request: &'static [u8],
    _directory: Option<TempDir>,
}

fn new(clients: usize, log: Box<dyn Log>, directory: Option<TempDir>) -> RoundTrips {
    let tokens = support::tokens();
    let request = support::request(&tokens).leak().as_bytes();
    let core = OneCore::new(support::shard_with_events(EVENTS), log, tokens);
    let clients = (0..clients).map(|_| core.connect()).collect();
    let mut round_trips = RoundTrips { core, clients, request, _directory: directory };
    // The first exchange verifies and caches the token.
    for _ in 0..2 {
        round_trips.core.exchange(&mut round_trips.clients, request);
        for client in &round_trips.clients {
            assert!(client.answered().starts_with(b"HTTP/1.1 201 "), "{:?}", client.answered());
        }
    }
    round_trips
}

pub(crate) fn in_memory(clients: usize) -> RoundTrips {
    new(clients, Box::new(MemoryLog), None)
}

pub(crate) fn in_sqlite(clients: usize) -> RoundTrips {
    let (log, directory) = support::sqlite_log(Synchronous::Full);
    new(clients, Box::new(log), Some(directory))
}

impl RoundTrips {
    /// Makes [`RESERVATIONS`] reservations, one per client at a time.
    pub(crate) fn run(&mut self) {
        for _ in 0..RESERVATIONS / self.clients.len() {
            self.core.exchange(black_box(&mut self.clients), black_box(self.request));
        }
    }
}
