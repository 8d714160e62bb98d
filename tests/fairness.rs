//! One client that always has something to say: other clients are served meanwhile.
//!
//! `BOXOFFICE_FAIRNESS_SECONDS=4 cargo test --release --test fairness -- --nocapture` prints how long
//! others waited. The test itself checks no such figure: it fails if others are not served at all.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::client::{Wire, request};
use support::server::Server;
use support::{PASSWORD, Stage};

/// What one client does, over and over, until it is told to stop.
struct Load {
    name: &'static str,
    bytes: fn() -> Vec<u8>,
    way: Way,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Sends all the time on one connection, and reads what comes.
    Pipelines,
    /// Sends a request that ends the connection, and then sends on for as long as it can.
    SendsOnAfterTheEnd,
    /// Opens connections, and closes each at once.
    Connects,
}

const LOADS: [Load; 6] = [
    Load { name: "small requests", bytes: || get("/livez", "").repeat(256), way: Way::Pipelines },
    Load { name: "heads of 16 KB", bytes: large_head, way: Way::Pipelines },
    Load { name: "large answers", bytes: || get("/openapi.json", "").repeat(256), way: Way::Pipelines },
    Load {
        name: "bytes after the end",
        bytes: || get("/livez", "Connection: close\r\n"),
        way: Way::SendsOnAfterTheEnd,
    },
    Load { name: "connections", bytes: Vec::new, way: Way::Connects },
    Load { name: "bodies of 64 KB, refused", bytes: refused_body, way: Way::Pipelines },
];

fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").into_bytes()
}

fn refused_body() -> Vec<u8> {
    let lists = format!("[{}[]]", "[],".repeat(21_000));
    request("POST", "/api/v1/users", None, "", &format!("{{\"username\":{lists}}}")).repeat(4).into_bytes()
}

fn large_head() -> Vec<u8> {
    get("/livez", &format!("X-Padding: {}\r\n", "x".repeat(8000)).repeat(2)).repeat(16)
}

/// Runs a load until `over`, and adds the bytes that it sent to `sent`. Connections that the server closed
/// are opened again.
fn run(load: &Load, address: SocketAddr, over: &AtomicBool, sent: &AtomicU64) {
    let bytes = (load.bytes)();
    while !over.load(Ordering::SeqCst) {
        let Ok(stream) = TcpStream::connect(address) else { continue };
        if load.way == Way::Connects {
            sent.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a TCP socket");
        stream.set_write_timeout(Some(Duration::from_millis(100))).expect("a TCP socket");
        let ended = AtomicBool::new(false);
        let goes_on = || !over.load(Ordering::SeqCst) && !ended.load(Ordering::SeqCst);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut room = vec![0; 1 << 20];
                while goes_on() {
                    match (&stream).read(&mut room) {
                        Ok(1..) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        // The server closes its side first, and reads on.
                        Ok(0) if load.way == Way::SendsOnAfterTheEnd => break,
                        Ok(0) | Err(_) => ended.store(true, Ordering::SeqCst),
                    }
                }
            });
            let padding = [b'x'; 1 << 16];
            let mut part = &bytes[..];
            while goes_on() {
                match (&stream).write(part) {
                    Ok(count) => {
                        sent.fetch_add(count as u64, Ordering::SeqCst);
                        part = match &part[count..] {
                            [] if load.way == Way::SendsOnAfterTheEnd => &padding,
                            [] => &bytes,
                            rest => rest,
                        };
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => ended.store(true, Ordering::SeqCst),
                }
            }
            let _ = stream.shutdown(Shutdown::Both);
        });
    }
}

/// A client of `shards` shards that sells one ticket of an event of each, over and over.
fn seller(stage: &Stage) -> impl FnMut() -> Duration + use<> {
    let events = [stage.event(1_000_000), stage.event(1_000_000)];
    let token = stage.anyone.log_in("cust1", PASSWORD).token;
    let address = stage.server.address;
    let requests = events.map(|event| {
        let path = format!("/api/v1/events/{event}/reservations");
        request("POST", &path, token.as_deref(), "", "{\"quantity\":1}")
    });
    move || {
        // A connection of its own each time, so that each core is met, and its acceptor as well.
        let start = Instant::now();
        for bytes in &requests {
            let mut wire = Wire::open(address).expect("the server accepts");
            wire.send(bytes).expect("the server reads");
            wire.next().expect(201);
        }
        start.elapsed() / 2
    }
}

/// Ends a load when it is dropped, also when a sale fails.
struct EndLoad<'a>(&'a AtomicBool);

impl Drop for EndLoad<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The time for which each load runs at least, if figures are wanted.
fn figures_wanted() -> Option<Duration> {
    let seconds = std::env::var("BOXOFFICE_FAIRNESS_SECONDS").ok()?;
    Some(Duration::from_secs(seconds.parse().expect("BOXOFFICE_FAIRNESS_SECONDS is a number")))
}

/// Sales beside each load, and the longest time in which they have to come.
const SALES: usize = 20;
const SALES_MAX: Duration = Duration::from_secs(30);

#[test]
fn one_client_that_always_sends_does_not_stop_others() {
    let stage = Stage::on(Server::start(
        Path::new("."),
        &["--storage", "memory", "--shards", "2", "--demo", "--max-connections", "2000"],
    ));
    let mut sell = seller(&stage);
    let shortest = figures_wanted().unwrap_or_default();
    for load in &LOADS {
        let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut waits = thread::scope(|scope| {
            let _end = EndLoad(&over);
            scope.spawn(|| run(load, stage.server.address, &over, &sent));
            while sent.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            let start = Instant::now();
            let mut waits = Vec::new();
            while (waits.len() < SALES || start.elapsed() < shortest) && start.elapsed() < SALES_MAX {
                waits.push(sell());
            }
            waits
        });
        waits.sort();
        let (median, longest) = (waits[waits.len() / 2], waits[waits.len() - 1]);
        println!(
            "{:>26}: {:>6} sales beside {:>10} sent; a sale waited {median:.1?} in the middle, {longest:.1?} at most",
            load.name,
            2 * waits.len(),
            sent.load(Ordering::SeqCst),
        );
        assert!(waits.len() >= SALES, "{}: only {} sales in {SALES_MAX:?}", load.name, 2 * waits.len());
    }
}
