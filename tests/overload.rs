//! More than the server can do at once: it does what it can, says of the rest that nothing was
//! done, and those who ask for little get it.

mod support;

use std::collections::HashSet;
use std::fs;
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use support::client::{Answer, Client, Wire, request};
use support::server::Server;
use support::{PASSWORD, Stage, all_items, number, reserve, text};
use tempfile::tempdir;

/// What the clients of one flood heard.
#[derive(Default)]
struct Ledger {
    /// Ids.
    sold: Vec<String>,
    sold_out: usize,
    overloaded: usize,
    /// From sending to a 503: behind it are the answers that are due before.
    until_refused: Vec<Duration>,
}

impl Ledger {
    fn enter(&mut self, answer: Answer, waited: Duration) {
        match answer.status {
            201 => self.sold.push(text(&answer.json(), "id").to_owned()),
            409 => {
                answer.problem(409, "sold-out");
                self.sold_out += 1;
            }
            _ => {
                assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
                answer.problem(503, "overloaded");
                self.overloaded += 1;
                self.until_refused.push(waited);
            }
        }
    }

    fn absorb(&mut self, other: Ledger) {
        self.sold.extend(other.sold);
        self.sold_out += other.sold_out;
        self.overloaded += other.overloaded;
        self.until_refused.extend(other.until_refused);
    }

    fn answered(&self) -> usize {
        self.sold.len() + self.sold_out + self.overloaded
    }
}

/// Rounds of `depth` requests at once on each connection, all answered before the next.
fn flood(wires: &mut [(Wire, String)], depth: usize, goes_on: impl Fn(usize) -> bool) -> Ledger {
    let mut ledger = Ledger::default();
    for round in 0.. {
        if !goes_on(round) {
            break;
        }
        let start = Instant::now();
        for (wire, bytes) in &mut *wires {
            wire.send(bytes.repeat(depth)).expect("the server reads");
        }
        for (wire, _) in &mut *wires {
            for _ in 0..depth {
                let answer = wire.next();
                ledger.enter(answer, start.elapsed());
            }
        }
    }
    ledger
}

fn purchase(client: &Client, event: u64) -> String {
    let path = format!("/api/v1/events/{event}/reservations");
    request("POST", &path, client.token.as_deref(), "", "{\"quantity\":1}")
}

/// In this process, for the flood's connections.
fn raise_descriptor_limit(needed: u64) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("it may be raised to its own maximum");
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    assert!(allowed >= needed, "{needed} open files are needed, and {allowed} are allowed");
}

/// The most memory that the server ever had, in bytes.
fn peak_memory(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes * 1024
}

fn middle_and_most(mut times: Vec<Duration>) -> String {
    times.sort();
    match times.last() {
        Some(most) => format!("{:.1?} in the middle, {most:.1?} at most", times[times.len() / 2]),
        None => "none".to_owned(),
    }
}

/// The server keeps what was acknowledged, and nothing else: a 503 did nothing.
#[track_caller]
fn check_kept(organizer: &Client, events: &[u64], ledger: &Ledger) {
    let sold: HashSet<&str> = ledger.sold.iter().map(String::as_str).collect();
    assert_eq!(sold.len(), ledger.sold.len(), "an id was given twice");
    let mut kept = HashSet::new();
    for event in events {
        let path = format!("/api/v1/events/{event}");
        let ids = all_items(organizer, &format!("{path}/reservations"), 100);
        let seen = organizer.get(&path).expect(200).json();
        assert_eq!(number(&seen, "reserved"), ids.len() as u64);
        kept.extend(ids.iter().map(|item| text(item, "id").to_owned()));
    }
    assert_eq!(kept.len(), sold.len());
    assert!(kept.iter().all(|id| sold.contains(&**id)), "other sales than those acknowledged");
}

/// Makes every sync of the server's files take this much longer, until it is dropped.
struct SlowSyncs(Child);

impl SlowSyncs {
    fn attach(server: &Server, microseconds: u32) -> SlowSyncs {
        SlowSyncs(server.inject_into_syncs(&format!("delay_exit={microseconds}")))
    }
}

impl Drop for SlowSyncs {
    fn drop(&mut self) {
        // On this one it lets go of what it traces, and ends.
        let _ = kill_process(Pid::from_child(&self.0), Signal::INT);
        let _ = self.0.wait();
    }
}

/// 50,000 requests at once, of which the server takes in 4096 a core. A connection's share of
/// them is what one read brings, some eight: only many connections come to the bound.
#[test]
#[ignore = "needs strace"]
fn far_more_than_fits_with_a_slow_disk() {
    const CONNECTIONS: usize = 2000;
    const THREADS: usize = 50;
    const DEPTH: usize = 25;
    const ROUNDS: usize = 4;
    /// A connection reads 4 KiB, and some more while a request is half there, and has that much
    /// of requests under way, each with an answer of less than 1 KiB: 8 KiB to read, 16 KiB under
    /// way, 8 KiB to write, and as much again for what allocators round up.
    const BYTES_EACH_MAX: u64 = 64 * 1024;
    /// Kept for good: the sale, and a share of the tables that it is in, which double as they grow.
    const SALE_BYTES: u64 = 512;
    raise_descriptor_limit(CONNECTIONS as u64 + 256);
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    // So few of the last that it is sold out: that is an answer, too.
    let events: Vec<u64> = [1_000_000, 1_000_000, 1_000_000, 500].map(|quota| stage.event(quota)).into();
    let before = peak_memory(&stage.server);
    let syncs = SlowSyncs::attach(&stage.server, 5000);
    let barrier = Barrier::new(THREADS);
    let start = Instant::now();
    let mut ledger = Ledger::default();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..THREADS)
            .map(|_| {
                let one = |index: usize| {
                    (stage.server.wire(), purchase(&stage.cust1, events[index % events.len()]))
                };
                let mut wires: Vec<_> = (0..CONNECTIONS / THREADS).map(one).collect();
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    flood(&mut wires, DEPTH, |round| round < ROUNDS)
                })
            })
            .collect();
        for client in clients {
            ledger.absorb(client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    });
    let took = start.elapsed();
    let peak = peak_memory(&stage.server);
    drop(syncs);

    let asked = CONNECTIONS * DEPTH * ROUNDS;
    println!(
        "{asked} requests in {took:.1?}: {} sold ({:.0}/s), {} sold out, {} refused, {}",
        ledger.sold.len(),
        ledger.sold.len() as f64 / took.as_secs_f64(),
        ledger.sold_out,
        ledger.overloaded,
        if ledger.overloaded > 0 { "the bound was reached" } else { "the bound was never reached" }
    );
    println!("from sending to 503: {}", middle_and_most(std::mem::take(&mut ledger.until_refused)));
    println!("memory: {} MiB before, {} MiB at most", before >> 20, peak >> 20);
    assert_eq!(ledger.answered(), asked);
    check_kept(&stage.org1, &events, &ledger);
    let bound = before + CONNECTIONS as u64 * BYTES_EACH_MAX + ledger.sold.len() as u64 * SALE_BYTES;
    assert!(peak <= bound, "{} MiB, more than {} MiB", peak >> 20, bound >> 20);

    // It has got over it, and a restart finds the same.
    reserve(&stage.cust2, stage.event(1), 1);
    let (status, log) = stage.server.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    let stage = Stage::open(data.path(), 1);
    check_kept(&stage.org1, &events, &ledger);
}

#[test]
fn a_flood_on_one_event_leaves_room_for_another() {
    const CONNECTIONS: usize = 64;
    /// In all just below what one core takes in, however much one read brings: no 503 is due.
    const DEPTH: usize = 60;
    const SALES: usize = 200;
    const LOGINS: usize = 10;
    let data = tempdir().unwrap();
    // One shard: both events are its own.
    let stage = Stage::open(data.path(), 1);
    let [hot, other] = [20_000, 1000].map(|quota| stage.event(quota));
    let bytes = purchase(&stage.cust1, hot);
    let stop = AtomicBool::new(false);
    let under_way = AtomicUsize::new(0);
    let ledger = Mutex::new(Ledger::default());
    let (mut sales, mut logins) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let goes_on = |round| {
                    under_way.fetch_add(usize::from(round == 1), Ordering::Relaxed);
                    !stop.load(Ordering::Relaxed)
                };
                let part = flood(&mut [(stage.server.wire(), bytes.clone())], DEPTH, goes_on);
                ledger.lock().unwrap_or_else(PoisonError::into_inner).absorb(part);
            });
        }
        let _stop_at_end = Stop(&stop);
        let start = Instant::now();
        while under_way.load(Ordering::Relaxed) < CONNECTIONS {
            assert!(start.elapsed() < Duration::from_secs(60), "the flood does not rise");
            thread::sleep(Duration::from_millis(1));
        }
        let mut wire = stage.server.wire();
        let own = purchase(&stage.cust2, other);
        for _ in 0..SALES {
            let start = Instant::now();
            wire.ask(&own).expect(201);
            sales.push(start.elapsed());
        }
        for _ in 0..LOGINS {
            let start = Instant::now();
            stage.anyone.log_in("cust2", PASSWORD);
            logins.push(start.elapsed());
        }
    });
    let ledger = ledger.into_inner().unwrap();
    println!(
        "flood: {} sold, {} sold out, {} refused",
        ledger.sold.len(),
        ledger.sold_out,
        ledger.overloaded
    );
    println!("beside it: sales {}, logins {}", middle_and_most(sales), middle_and_most(logins));
    assert_eq!(number(&stage.seen(other), "reserved"), SALES as u64);
    check_kept(&stage.org1, &[hot], &ledger);
}

/// Ends a flood however the test ends: a thread's scope waits for it.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
