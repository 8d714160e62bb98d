//! The whole way of a reservation, for several at a time.

use std::hint::black_box;

use boxoffice::bench::{Client, OneCore};
use shards::log::{Log, MemoryLog};
use storage::Synchronous;
use tempfile::TempDir;

use crate::support;

/// So many that what grows now and then is spread over them, and so few that SQLite's journal need
/// not be written back in between. `run` has the same number.
pub(crate) const RESERVATIONS: usize = 400;

pub(crate) const EVENTS: u32 = 4;

/// A core with some clients, whose token it has verified already.
pub(crate) struct Way {
    pub(crate) core: OneCore,
    clients: Vec<Client>,
    pub(crate) request: &'static [u8],
    _directory: Option<TempDir>,
}

fn way(clients: usize, log: Box<dyn Log>, directory: Option<TempDir>) -> Way {
    let tokens = support::tokens();
    let request = support::request(&tokens).leak().as_bytes();
    let core = OneCore::new(support::shard_with_events(EVENTS), log, tokens);
    let clients = (0..clients).map(|_| core.connect()).collect();
    let mut way = Way { core, clients, request, _directory: directory };
    // The first is verified and asked about, the next finds all in place.
    for _ in 0..2 {
        way.core.exchange(&mut way.clients, request);
        for client in &way.clients {
            assert!(client.answered().starts_with(b"HTTP/1.1 201 "), "{:?}", client.answered());
        }
    }
    way
}

pub(crate) fn in_memory(clients: usize) -> Way {
    way(clients, Box::new(MemoryLog), None)
}

pub(crate) fn in_sqlite(clients: usize) -> Way {
    let (log, directory) = support::sqlite_log(Synchronous::Full);
    way(clients, Box::new(log), Some(directory))
}

impl Way {
    /// [`RESERVATIONS`] of them, as many at a time as there are clients.
    pub(crate) fn go(&mut self) {
        for _ in 0..RESERVATIONS / self.clients.len() {
            self.core.exchange(black_box(&mut self.clients), black_box(self.request));
        }
    }
}
