//! Whether the end of many holds delays sales: 100,000 holds of one event, made with pipelined requests, end within
//! some seconds, while tickets of another event of the same shard are sold at a steady rate. Prints how long these
//! sales took from the moment at which each was due, before, during and after. Once with the disk, and once without
//! it, since a disk that others use can delay any commit.
//!
//! `cargo bench --bench expiry`. It takes a minute.

#[path = "support/steady.rs"]
mod steady;
#[path = "../tests/support/mod.rs"]
mod support;

use std::thread;
use std::time::{Duration, Instant};

use steady::{report, report_header};
use support::client::{Wire, request};
use support::random::Random;
use support::server::Server;
use support::{create_event, metrics_once, number};
use tempfile::tempdir_in;

const HOLDS: u64 = 100_000;
/// Connections that hold, and the requests that each sends at a time.
const HOLDERS: u64 = 8;
const PIPELINED: u64 = 250;
const TTL: std::ops::RangeInclusive<u64> = 10..=12;

/// How long sales are measured before the first hold ends and after the last one.
const AROUND: Duration = Duration::from_secs(5);

fn main() {
    ["sqlite", "memory"].iter().for_each(|storage| measure(storage));
}

fn measure(storage: &str) {
    // Not in /tmp, which may be in memory.
    let folder = tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let server = Server::start(&folder.path().join("data"), &["--shards", "1", "--storage", storage]);
    let organizer = server.client().sign_up("grace", "organizer");
    let [held, sold] = [0; 2].map(|_| create_event(&organizer, 10_000_000));
    let token = server.client().sign_up("ada", "customer").token.expect("logged in");
    let sell =
        request("POST", &format!("/api/v1/events/{sold}/reservations"), Some(&token), "", "{\"quantity\":1}");

    let (first, last) = hold_all(&server, held, &token);
    let (begin, end) = (Instant::now().max(first - AROUND), last + AROUND);
    assert!(begin < first, "this machine takes too long to make the holds");
    let sales = steady::sell(&server, &sell, begin, |due| due < end);

    metrics_once(&server.client(), &["boxoffice_tickets_held 0"]);
    let event = server.client().get(&format!("/api/v1/events/{held}")).expect(200).json();
    assert_eq!((number(&event, "held"), number(&event, "remaining")), (0, 10_000_000));
    println!("{storage}: {HOLDS} holds ended within {:.1} s", (last - first).as_secs_f64());
    report_header();
    report("before", sales.iter().filter(|sale| sale.due < first));
    report("during", sales.iter().filter(|sale| (first..last).contains(&sale.due)));
    report("after", sales.iter().filter(|sale| sale.due >= last));
}

/// Makes the holds. Returns when the first and the last of them end, at the latest.
fn hold_all(server: &Server, event: u64, token: &str) -> (Instant, Instant) {
    let ends: Vec<(Instant, Instant)> = thread::scope(|scope| {
        let holders = (0..HOLDERS).map(|seed| {
            let wire = server.wire();
            scope.spawn(move || hold_some(wire, event, token, Random::new(seed)))
        });
        let holders: Vec<_> = holders.collect();
        holders.into_iter().map(|holder| holder.join().expect("no panic")).collect()
    });
    let first = ends.iter().map(|(first, _)| *first).min().expect("there are holders");
    (first, ends.iter().map(|(_, last)| *last).max().expect("there are holders"))
}

fn hold_some(mut wire: Wire, event: u64, token: &str, mut random: Random) -> (Instant, Instant) {
    let path = format!("/api/v1/events/{event}/holds");
    let mut ends: Option<(Instant, Instant)> = None;
    for _ in 0..HOLDS / HOLDERS / PIPELINED {
        let times: Vec<u64> = (0..PIPELINED).map(|_| random.within(*TTL.start(), *TTL.end())).collect();
        let hold = |ttl: &u64| {
            let body = format!("{{\"quantity\":1,\"ttl_seconds\":{ttl}}}");
            request("POST", &path, Some(token), "", &body)
        };
        wire.send(times.iter().map(hold).collect::<String>()).expect("the server reads");
        for ttl in times {
            wire.next().expect(201);
            let end = Instant::now() + Duration::from_secs(ttl);
            let (first, last) = ends.unwrap_or((end, end));
            ends = Some((first.min(end), last.max(end)));
        }
    }
    ends.expect("there are holds")
}
