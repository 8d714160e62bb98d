//! Ten thousand followers of one event: the memory of the server for each, the time from a sale's answer to the last
//! follower that hears of it, and whether the messages delay sales of another event of the same shard.
//!
//! `cargo bench --bench live`. It takes less than a minute, and the server and it need some 11,500 open files each. The
//! server is on the first core, and the clients on the second; it needs `taskset`.

#[path = "support/steady.rs"]
mod steady;
#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use steady::{report, report_header};
use support::client::request;
use support::server::Server;
use support::{create_event, reserve};

const FOLLOWERS: usize = 10_000;
/// Changes that come long after one another, and as many that each come when all know of the one before.
const CHANGES: usize = 30;
const APART: Duration = Duration::from_millis(250);
const QUOTA: u64 = 10_000_000;
const ALONE: Duration = Duration::from_secs(5);
/// Sales of so long at the start of each part do not count.
const WARM_UP: Duration = Duration::from_millis(500);
/// A follower that hears nothing for this long ends the bench.
const DEADLINE: Duration = Duration::from_secs(30);

fn main() {
    let limit = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).expect("it may be raised");
    let server = Server::start(Path::new("."), &["--shards", "1", "--storage", "memory"]);
    pin(server.id(), 0);
    pin(std::process::id(), 1);
    let organizer = server.client().sign_up("grace", "organizer");
    let customer = server.client().sign_up("ada", "customer");
    let [followed, sold] = [0; 2].map(|_| create_event(&organizer, QUOTA));
    let path = format!("/api/v1/events/{sold}/reservations");
    let sale = request("POST", &path, customer.token.as_deref(), "", "{\"quantity\":1}");
    report_header();
    let begin = Instant::now();
    let sales = steady::sell(&server, &sale, begin, |due| due < begin + ALONE);
    report("alone", sales.iter().filter(|sale| sale.due >= begin + WARM_UP));

    let before = resident(&server);
    let mut followers: Vec<TcpStream> = (0..FOLLOWERS).map(|_| follow(&server, followed)).collect();
    await_all(&mut followers, QUOTA);
    let each = resident(&server).saturating_sub(before) as f64 / FOLLOWERS as f64;
    println!("{FOLLOWERS} followers: {each:.2} KiB each in the server");

    let mut remaining = QUOTA;
    for (name, pause) in [("apart", APART), ("at once", Duration::ZERO)] {
        let (begin, is_over) = (Instant::now(), AtomicBool::new(false));
        let (sales, mut times) = thread::scope(|scope| {
            let sales =
                scope.spawn(|| steady::sell(&server, &sale, begin, |_| !is_over.load(Ordering::Relaxed)));
            let times: Vec<f64> = (0..CHANGES)
                .map(|_| {
                    thread::sleep(pause);
                    reserve(&customer, followed, 1);
                    let start = Instant::now();
                    remaining -= 1;
                    await_all(&mut followers, remaining);
                    start.elapsed().as_secs_f64() * 1e3
                })
                .collect();
            is_over.store(true, Ordering::Relaxed);
            (sales.join().expect("no panic"), times)
        });
        report(name, sales.iter().filter(|sale| sale.due >= begin + WARM_UP));
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!(
            "{name}: from a sale's answer to the last follower: p50 {:.0} ms, most {:.0} ms",
            at(0.5),
            at(1.0)
        );
    }
}

/// Keeps all threads of a process on one core, so that clients and server do not take each other's time.
fn pin(process: u32, core: usize) {
    let status = Command::new("taskset")
        .args(["-a", "-c", "-p"])
        .arg(core.to_string())
        .arg(process.to_string())
        .output();
    assert!(status.expect("needs taskset").status.success(), "core {core} is not there");
}

fn follow(server: &Server, event: u64) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).expect("the server accepts");
    let path = format!("/api/v1/events/{event}/availability/stream");
    stream.write_all(request("GET", &path, None, "", "").as_bytes()).expect("the server reads");
    stream.set_read_timeout(Some(DEADLINE)).expect("a TCP socket");
    stream
}

/// Reads on until all know that so many tickets remain.
fn await_all(followers: &mut [TcpStream], remaining: u64) {
    let wanted = format!("\"remaining\":{remaining},");
    for stream in followers {
        let (mut seen, mut part) = (Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&seen).contains(&wanted) {
            match stream.read(&mut part) {
                Ok(0) => panic!("a stream ended: {}", String::from_utf8_lossy(&seen)),
                Ok(count) => seen.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("a follower hears nothing: {error}"),
            }
        }
    }
}

/// The memory of the server, in KiB.
fn resident(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
