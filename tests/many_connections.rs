//! Ten thousand idle connections and some busy ones: no request fails, and an idle connection costs
//! little memory.

mod support;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use boxoffice::front::http::parse::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::client::{Client, Wire, request};
use support::server::Server;
use support::{create_event, number};

const PING: &str = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";

const IDLE: usize = 10_000;
const BUSY: usize = 64;
const SALES_EACH: usize = 20;

/// Descriptors for everything else that the test process opens.
const OTHER_DESCRIPTORS: u64 = 256;

/// The maximum memory of the server per idle connection, not counting the kernel's.
const BYTES_EACH_MAX: f64 = 8.0 * 1024.0;

/// Raises the descriptor limit of this process to its maximum and returns it.
fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let in_force = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    in_force.unwrap_or(u64::MAX)
}

/// The resident memory (`VmRSS`) in bytes.
fn resident(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line with VmRSS");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes * 1024
}

fn bytes_each(before: u64, now: u64) -> f64 {
    now.saturating_sub(before) as f64 / IDLE as f64
}

/// Lets pools grow to their final size, so that they do not count as memory of the connections.
fn warm_up(server: &Server) {
    for _ in 0..10 {
        let mut wires: Vec<Wire> = (0..BUSY).map(|_| server.wire()).collect();
        for wire in &mut wires {
            wire.ask(PING).expect(200);
        }
    }
}

fn buy(server: &Server, customer: &Client, event: u64) {
    let path = format!("/api/v1/events/{event}/reservations");
    let bytes = request("POST", &path, customer.token.as_deref(), "", "{\"quantity\":1}");
    thread::scope(|scope| {
        for _ in 0..BUSY {
            scope.spawn(|| {
                let mut wire = server.wire();
                for _ in 0..SALES_EACH {
                    wire.ask(&bytes).expect(201);
                }
            });
        }
    });
}

#[test]
fn ten_thousand_connections_are_idle_while_others_buy() {
    let limit = raise_descriptor_limit();
    let needed = (IDLE + BUSY) as u64 + OTHER_DESCRIPTORS;
    // The server has the same limit, and reserves some descriptors. One address gets 15 of 16 places.
    let needed = needed + needed / 15 + 512;
    if limit < needed {
        eprintln!("SKIPPED: {IDLE} connections need {needed} open files, and {limit} are allowed");
        return;
    }
    let arguments = ["--storage", "memory", "--shards", "2", "--idle-timeout", "600"];
    let server = Server::start(Path::new("."), &arguments);
    let organizer = server.client().sign_up("grace", "organizer");
    let customer = server.client().sign_up("ada", "customer");
    let event = create_event(&organizer, 1_000_000);
    warm_up(&server);

    let before = resident(&server);
    let start = Instant::now();
    let mut idle: Vec<Wire> = (0..IDLE).map(|_| server.wire()).collect();
    // Ensures that the last connections have been accepted.
    for wire in &mut idle[IDLE - BUSY..] {
        wire.ask(PING).expect(200);
    }
    let unused = bytes_each(before, resident(&server));
    println!("{IDLE} connections after {:.1?}: {unused:.0} bytes each before a request", start.elapsed());

    buy(&server, &customer, event);
    for wire in &mut idle {
        wire.ask(PING).expect(200);
    }
    let used = bytes_each(before, resident(&server));
    println!("{used:.0} bytes each between requests, {:.1?} after the start", start.elapsed());

    buy(&server, &customer, event);
    let seen = customer.get(&format!("/api/v1/events/{event}")).expect(200).json();
    assert_eq!(number(&seen, "reserved"), 2 * (BUSY * SALES_EACH) as u64);
    assert!(unused <= BYTES_EACH_MAX, "{unused:.0} bytes for each connection before a request");
    assert!(used <= BYTES_EACH_MAX, "{used:.0} bytes for each connection between requests");
    let (status, log) = server.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
}

/// Measures connections with the largest incomplete request that the limits allow. Times the maximum
/// number of connections, this is the memory that clients can use.
#[test]
fn the_largest_requests_cost_what_the_limits_say() {
    const HALF_SENT: usize = 300;
    let limits = Limits::default();
    // The request as received, and the decoded body; buffers double as they grow.
    let bytes_each_max = 2 * (limits.request_bytes() + limits.body_bytes);
    let arguments = ["--storage", "memory", "--shards", "2", "--body-grace", "600"];
    let server = Server::start(Path::new("."), &arguments);
    warm_up(&server);
    let line = "POST /api/v1/users HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nA: ";
    let head = format!("{line}{}\r\n\r\n", "a".repeat(limits.head_bytes - line.len() - 4));
    let end = "\r\n0\r\n\r\n";
    let framing = "10000;b=\r\n".len() + end.len();
    let extension = "b".repeat(Limits::CHUNK_OVERHEAD_BYTES - framing);
    let bytes = format!("{head}10000;b={extension}\r\n{}", "c".repeat(limits.body_bytes));

    let before = resident(&server);
    let mut wires: Vec<Wire> = (0..HALF_SENT).map(|_| server.wire()).collect();
    for wire in &mut wires {
        wire.send(&bytes).expect("the server reads");
    }
    // Wait until the server has read everything: its memory grows only when a buffer doubles.
    let (mut now, mut quiet) = (resident(&server), 0);
    while quiet < 10 {
        thread::sleep(Duration::from_millis(50));
        let last = std::mem::replace(&mut now, resident(&server));
        quiet = if now == last { quiet + 1 } else { 0 };
    }
    let each = now.saturating_sub(before) as usize / HALF_SENT;
    println!("{each} bytes for each request of {} bytes, {bytes_each_max} at most", bytes.len());
    for wire in &mut wires {
        wire.ask(end).problem(400, "malformed-json");
    }
    assert!(each >= bytes.len(), "{each} bytes: the requests were not read completely");
    assert!(each <= bytes_each_max, "{each} bytes for each, more than {bytes_each_max}");
}
