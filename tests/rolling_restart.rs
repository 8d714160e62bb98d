//! Restarts a server with SIGTERM five times under load: nothing acknowledged is lost, and
//! everything that was done is acknowledged.

mod support;

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::client::{Wire, request};
use support::server::Server;
use support::{Stage, all_items, number, text};
use tempfile::tempdir;

const RESTARTS: usize = 5;
const CLIENTS: usize = 16;

/// The number of sales before each restart, unless they take longer than [`UPTIME_MAX`].
const SALES_EACH: usize = 200;
const UPTIME_MAX: Duration = Duration::from_secs(1);

const RETRY: Duration = Duration::from_millis(5);

#[derive(Default)]
struct Ledger {
    /// The ids of acknowledged reservations.
    acknowledged: Vec<String>,
    /// Requests whose connection was closed without a response.
    unanswered: usize,
    /// Requests answered with 503.
    refused: usize,
    /// Failed attempts to connect.
    retried: usize,
}

/// Buys ticket after ticket, and connects again whenever the connection is closed.
fn buy(address: SocketAddr, bytes: &str, stop: &AtomicBool, sold: &AtomicUsize) -> Ledger {
    let mut ledger = Ledger::default();
    let mut open = None;
    while !stop.load(Ordering::Relaxed) {
        let Some(mut wire) = open.take().or_else(|| Wire::open(address).ok()) else {
            ledger.retried += 1;
            thread::sleep(RETRY);
            continue;
        };
        if wire.send(bytes).is_err() {
            // The server has closed the connection; it does not execute a partial request.
            ledger.unanswered += 1;
            continue;
        }
        match wire.answer() {
            Ok(Some(answer)) => {
                let closes = answer.closes();
                match answer.status {
                    201 => {
                        ledger.acknowledged.push(text(&answer.json(), "id").to_owned());
                        sold.fetch_add(1, Ordering::Relaxed);
                    }
                    503 => ledger.refused += 1,
                    _ => panic!("{answer:?}"),
                }
                if !closes {
                    open = Some(wire);
                }
            }
            Ok(None) => ledger.unanswered += 1,
            Err(error) if [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()) => {
                ledger.unanswered += 1;
            }
            Err(error) => panic!("neither a response nor a closed connection: {error}"),
        }
    }
    ledger
}

/// Stops the clients on drop, also after a panic, since the thread scope waits for them.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Finds a free port outside the kernel's range for clients. A client that connects to a port within
/// that range while no server listens may get the same port, and is then connected to itself.
fn free_address() -> SocketAddr {
    let first = 10_000 + (std::process::id() % 10_000) as u16;
    let mut addresses = (first..first + 10_000).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    addresses.find(|address| TcpListener::bind(address).is_ok()).expect("a port is free")
}

fn boot_id(server: &Server) -> String {
    text(&server.client().get("/readyz").expect(200).json(), "boot_id").to_owned()
}

#[test]
fn five_restarts_under_load_lose_nothing() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10_000_000);
    let path = format!("/api/v1/events/{event}/reservations");
    let bytes = request("POST", &path, stage.cust1.token.as_deref(), "", "{\"quantity\":1}");
    let organizer = stage.org1.token.clone().unwrap();
    let (status, log) = stage.server.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    let address = free_address();
    let mut server = Server::start_at(data.path(), address, &["--shards", "2"]);
    let mut boot_ids = HashSet::from([boot_id(&server)]);
    let (stop, sold) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut ledger = Ledger::default();
    let server = thread::scope(|scope| {
        let stop_at_end = Stop(&stop);
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| scope.spawn(|| buy(address, &bytes, &stop, &sold))).collect();
        for restart in 1..=RESTARTS {
            let (before, start) = (sold.load(Ordering::Relaxed), Instant::now());
            while sold.load(Ordering::Relaxed) < before + SALES_EACH && start.elapsed() < UPTIME_MAX {
                thread::sleep(Duration::from_millis(1));
            }
            let not_ready = server.drain();
            println!("restart {restart}: {} sold, {not_ready} times not ready", sold.load(Ordering::Relaxed));
            server = Server::start_at(data.path(), address, &["--shards", "2"]);
            assert!(boot_ids.insert(boot_id(&server)), "the boot id is that of an earlier start");
        }
        let before = sold.load(Ordering::Relaxed);
        while sold.load(Ordering::Relaxed) == before && !clients.iter().all(|client| client.is_finished()) {
            thread::sleep(Duration::from_millis(1));
        }
        drop(stop_at_end);
        for client in clients {
            let part = client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            ledger.acknowledged.extend(part.acknowledged);
            ledger.unanswered += part.unanswered;
            ledger.refused += part.refused;
            ledger.retried += part.retried;
        }
        server
    });
    println!(
        "{} acknowledged, {} unanswered, {} refused, {} failed attempts to connect",
        ledger.acknowledged.len(),
        ledger.unanswered,
        ledger.refused,
        ledger.retried
    );
    let sold: HashSet<&str> = ledger.acknowledged.iter().map(String::as_str).collect();
    assert_eq!(sold.len(), ledger.acknowledged.len(), "an id was given twice");
    let organizer = server.client().with_token(&organizer);
    let kept = all_items(&organizer, &path, 100);
    let kept: HashSet<&str> = kept.iter().map(|item| text(item, "id")).collect();
    assert_eq!(sold.difference(&kept).count(), 0, "acknowledged but lost");
    // A server that shuts down answers all requests that it executes.
    assert_eq!(kept.difference(&sold).count(), 0, "done but not acknowledged");
    let seen = organizer.get(&format!("/api/v1/events/{event}")).expect(200).json();
    assert_eq!(number(&seen, "reserved"), sold.len() as u64);
    assert!(sold.len() > 100, "there was no load");
}
