//! Ten thousand connections that wait, beside some that buy: nobody fails, and
//! what waits costs little memory.

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

/// For everything else that a test process has open.
const DESCRIPTORS_BESIDE: u64 = 256;

/// Of the server for each connection that waits, beyond the kernel's.
const BYTES_EACH_MAX: f64 = 8.0 * 1024.0;

/// As many descriptors as this process may have.
fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let in_force = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    in_force.unwrap_or(u64::MAX)
}

/// `VmRSS` in bytes.
fn resident(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says so");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes * 1024
}

fn bytes_each(before: u64, now: u64) -> f64 {
    now.saturating_sub(before) as f64 / IDLE as f64
}

/// What grows once and is then kept is not the idle connections': pools, and what argon2 used.
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
fn ten_thousand_wait_while_others_buy() {
    let limit = raise_descriptor_limit();
    let needed = (IDLE + BUSY) as u64 + DESCRIPTORS_BESIDE;
    // The server has the same limit, and keeps some of it for itself.
    if limit < needed + 512 {
        eprintln!("SKIPPED: {IDLE} connections need {} open files, and {limit} are allowed", needed + 512);
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
    // The last of them may not have been accepted yet.
    for wire in &mut idle[IDLE - BUSY..] {
        wire.ask(PING).expect(200);
    }
    let silent = bytes_each(before, resident(&server));
    println!("{IDLE} connections after {:.1?}: {silent:.0} bytes each before they speak", start.elapsed());

    buy(&server, &customer, event);
    for wire in &mut idle {
        wire.ask(PING).expect(200);
    }
    let spoken = bytes_each(before, resident(&server));
    println!("{spoken:.0} bytes each between requests, {:.1?} after the start", start.elapsed());

    buy(&server, &customer, event);
    let seen = customer.get(&format!("/api/v1/events/{event}")).expect(200).json();
    assert_eq!(number(&seen, "reserved"), 2 * (BUSY * SALES_EACH) as u64);
    assert!(silent <= BYTES_EACH_MAX, "{silent:.0} bytes for each connection that has not spoken");
    assert!(spoken <= BYTES_EACH_MAX, "{spoken:.0} bytes for each connection that is between requests");
    let (status, log) = server.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
}

/// Connections that hold as much of a request as the limits allow, and do not end it: what such
/// a client costs, times the connections that the server takes, is what it can cost in all.
#[test]
fn the_largest_requests_cost_what_the_limits_say() {
    const HALF_SENT: usize = 300;
    let limits = Limits::default();
    // Kept as it came, and the body once more without its framing; buffers double as they grow.
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
    // Until all has been read.
    let mut now = resident(&server);
    for quiet in 0.. {
        thread::sleep(Duration::from_millis(50));
        let last = std::mem::replace(&mut now, resident(&server));
        if quiet >= 4 && now == last {
            break;
        }
    }
    let each = now.saturating_sub(before) as usize / HALF_SENT;
    println!("{each} bytes for each that holds {} of a request, {bytes_each_max} at most", bytes.len());
    for wire in &mut wires {
        wire.ask(end).problem(400, "malformed-json");
    }
    assert!(each >= bytes.len(), "{each} bytes: they were not all read");
    assert!(each <= bytes_each_max, "{each} bytes for each, more than {bytes_each_max}");
}
