//! Whether the list of an event's million reservations delays sales, and what memory it takes: the list is read as lines
//! of JSON and as CSV, as fast as it comes, while tickets of another event of the same shard are sold at a steady rate.
//! Prints how long the lists and these sales took, and how the server's memory grew. Once with the disk, and once
//! without it, since a disk that others use can delay any commit.
//!
//! `cargo bench --bench lists`. It takes some minutes; `-- memory` or `-- sqlite` makes one part alone.

#[path = "support/steady.rs"]
mod steady;
#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use steady::{report, report_header};
use support::client::{Client, request};
use support::create_event;
use support::server::Server;
use tempfile::tempdir_in;

const RESERVATIONS: usize = 1_000_000;
/// Customers who buy, each with a connection for a time, and the requests that each sends at once.
const CUSTOMERS: usize = 200;
const BUYERS: usize = 8;
const PIPELINED: usize = 250;

/// How long sales are measured without a list.
const ALONE: Duration = Duration::from_secs(5);

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |storage: &&&str| wanted.is_empty() || wanted.iter().any(|one| one == **storage);
    ["sqlite", "memory"].iter().filter(is_wanted).for_each(|storage| measure(storage));
}

fn measure(storage: &str) {
    // Not in /tmp, which may be in memory.
    let folder = tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let server = Server::start(&folder.path().join("data"), &["--shards", "1", "--storage", storage]);
    let organizer = server.client().sign_up("grace", "organizer");
    let [listed, sold] = [0; 2].map(|_| create_event(&organizer, 10_000_000));
    let start = Instant::now();
    let customers = sell_all(&server, listed);
    println!("{storage}: {RESERVATIONS} reservations made within {:.1} s", start.elapsed().as_secs_f64());
    let path = format!("/api/v1/events/{sold}/reservations");
    let sale = request("POST", &path, customers[0].token.as_deref(), "", "{\"quantity\":1}");

    report_header();
    let (begin, before) = (Instant::now(), resident(&server));
    let sales = steady::sell(&server, &sale, begin, |due| due < begin + ALONE);
    report("alone", sales.iter());
    println!("memory: {before} KiB before, {} KiB after", resident(&server));
    for (name, accept) in [("ndjson", "application/x-ndjson"), ("csv", "text/csv")] {
        let is_over = AtomicBool::new(false);
        let before = resident(&server);
        let (sales, (bytes, took, end), most) = thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut most = 0;
                while !is_over.load(Ordering::Relaxed) {
                    most = most.max(resident(&server));
                    thread::sleep(Duration::from_millis(20));
                }
                most
            });
            let list = scope.spawn(|| {
                let read = read_list(&server, &organizer, listed, accept);
                is_over.store(true, Ordering::Relaxed);
                read
            });
            let goes_on = |_| !is_over.load(Ordering::Relaxed);
            let sales = steady::sell(&server, &sale, Instant::now(), goes_on);
            (sales, list.join().expect("no panic"), watch.join().expect("no panic"))
        });
        report(name, sales.iter().filter(|sale| sale.due < end));
        println!(
            "{name}: {} MB in {:.1} s; memory: {before} KiB before, at most {most} KiB",
            bytes / 1_000_000,
            took.as_secs_f64()
        );
    }
}

/// Sells the tickets, and returns the customers.
fn sell_all(server: &Server, event: u64) -> Vec<Client> {
    let path = format!("/api/v1/events/{event}/reservations");
    let sell_some = |buyer: usize| {
        let customers = (buyer..CUSTOMERS).step_by(BUYERS);
        let customers: Vec<Client> = customers
            .map(|index| server.client().sign_up(&format!("customer-{index}"), "customer"))
            .collect();
        for _ in 0..RESERVATIONS / CUSTOMERS / PIPELINED {
            for customer in &customers {
                let sale = request("POST", &path, customer.token.as_deref(), "", "{\"quantity\":1}");
                let mut wire = server.wire();
                wire.send(sale.repeat(PIPELINED)).expect("the server reads");
                (0..PIPELINED).for_each(|_| drop(wire.next().expect(201)));
            }
        }
        customers
    };
    thread::scope(|scope| {
        let buyers: Vec<_> = (0..BUYERS).map(|buyer| scope.spawn(move || sell_some(buyer))).collect();
        buyers.into_iter().flat_map(|buyer| buyer.join().expect("no panic")).collect()
    })
}

/// Reads the list to its end. Returns its size, with the chunks' own bytes, how long it took, and when it ended.
fn read_list(server: &Server, organizer: &Client, event: u64, accept: &str) -> (usize, Duration, Instant) {
    let start = Instant::now();
    let mut stream = TcpStream::connect(server.address).expect("the server accepts");
    let path = format!("/api/v1/events/{event}/reservations");
    let asked = request("GET", &path, organizer.token.as_deref(), &format!("Accept: {accept}\r\n"), "");
    stream.write_all(asked.as_bytes()).expect("the server reads");
    let (mut part, mut bytes, mut tail) = (vec![0; 64 * 1024], 0, Vec::new());
    while !tail.ends_with(b"\r\n0\r\n\r\n") {
        let count = stream.read(&mut part).expect("the server writes");
        assert!(count > 0, "the list broke off");
        bytes += count;
        tail.extend_from_slice(&part[..count]);
        tail.drain(..tail.len().saturating_sub(7));
    }
    let end = Instant::now();
    (bytes, end - start, end)
}

/// The memory of the server, in KiB.
fn resident(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
