//! Overload: the server keeps its throughput, answers further requests 503 without doing anything,
//! and still serves clients with few requests.

mod support;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::client::{Answer, Client, Wire, request};
use support::server::{Server, serve};
use support::{PASSWORD, Stage, all_items, number, reserve, text};
use tempfile::tempdir;

/// The answers that clients got.
#[derive(Default)]
struct Ledger {
    /// The ids of the reservations.
    sold: Vec<String>,
    sold_out: usize,
    overloaded: usize,
}

impl Ledger {
    fn record(&mut self, answer: Answer) {
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
            }
        }
    }

    fn merge(&mut self, other: Ledger) {
        self.sold.extend(other.sold);
        self.sold_out += other.sold_out;
        self.overloaded += other.overloaded;
    }
}

/// Sends rounds of `depth` pipelined requests on each connection, and reads all responses before the
/// next round.
fn flood(wires: &mut [(Wire, String)], depth: usize, goes_on: impl Fn(usize) -> bool) -> Ledger {
    let mut ledger = Ledger::default();
    for round in 0.. {
        if !goes_on(round) {
            break;
        }
        for (wire, bytes) in &mut *wires {
            wire.send(bytes.repeat(depth)).expect("the server reads");
        }
        for (wire, _) in &mut *wires {
            for _ in 0..depth {
                ledger.record(wire.next());
            }
        }
    }
    ledger
}

fn purchase(client: &Client, event: u64) -> String {
    let path = format!("/api/v1/events/{event}/reservations");
    request("POST", &path, client.token.as_deref(), "", "{\"quantity\":1}")
}

/// Raises the descriptor limit of this process for the connections of a flood.
fn raise_descriptor_limit(needed: u64) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("it may be raised to its own maximum");
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    assert!(allowed >= needed, "{needed} open files are needed, and {allowed} are allowed");
}

/// Resets the peak that [`peak_memory`] reads, and returns the current memory.
fn restart_peak(server: &Server) -> u64 {
    fs::write(format!("/proc/{}/clear_refs", server.id()), "5").expect("it is our own process");
    peak_memory(server)
}

/// The peak memory of the server in bytes.
fn peak_memory(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line with VmHWM");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes * 1024
}

fn median_and_maximum(mut times: Vec<Duration>) -> String {
    times.sort();
    match times.last() {
        Some(most) => format!("median {:.1?}, maximum {most:.1?}", times[times.len() / 2]),
        None => "none".to_owned(),
    }
}

/// Checks that the server has exactly the acknowledged reservations, so a 503 has done nothing.
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
    assert!(
        kept.iter().all(|id| sold.contains(&**id)),
        "the server has reservations that were not acknowledged"
    );
}

/// The duration of a phase if figures are checked, before a release. A CI run is short and checks no
/// figures.
fn figures_wanted() -> Option<Duration> {
    let seconds = std::env::var("BOXOFFICE_OVERLOAD_SECONDS").ok()?;
    Some(Duration::from_secs(seconds.parse().expect("BOXOFFICE_OVERLOAD_SECONDS is a number")))
}

/// The minimum goodput under fivefold overload, as a part of the peak.
const GOODPUT_MIN: f64 = 0.8;

const PHASE: Duration = Duration::from_millis(700);
const ROUNDS_OF_FIGURES: usize = 5;

/// The sales per second of each phase.
#[derive(Default)]
struct Goodput {
    peak: Vec<f64>,
    overload: Vec<f64>,
}

impl Goodput {
    /// The ratio of the medians, since single phases vary.
    fn kept(&self) -> f64 {
        let median = |rates: &[f64]| {
            let mut rates = rates.to_vec();
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        };
        median(&self.overload) / median(&self.peak)
    }

    fn print(&self) {
        println!(
            "sales/s, peak: {:.0?}, overload: {:.0?}: {:.2} kept",
            self.peak,
            self.overload,
            self.kept()
        );
    }
}

/// Runs clients that send one request at a time.
fn run_closed_loop(stage: &Stage, events: &[u64], clients: usize, time: Duration) -> Ledger {
    /// The pause after a 503: a fiftieth of `Retry-After`, so that the load stays high without
    /// clients that only read refusals.
    const PAUSE: Duration = Duration::from_millis(20);
    let mut ledger = Ledger::default();
    let barrier = Barrier::new(clients);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|index| {
                let mut wire = stage.server.wire();
                let bytes = purchase(&stage.cust1, events[index % events.len()]);
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    let start = Instant::now();
                    let mut ledger = Ledger::default();
                    while start.elapsed() < time {
                        let answer = wire.ask(&bytes);
                        let refused = answer.status == 503;
                        ledger.record(answer);
                        if refused {
                            thread::sleep(PAUSE);
                        }
                    }
                    ledger
                })
            })
            .collect();
        for client in clients {
            ledger.merge(client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    });
    ledger
}

/// The number of refused requests, and of those refused within 50 ms of being read, from the
/// server's metrics: times measured by a client include its own CPU and the kernel's queues.
fn refusals(stage: &Stage) -> (u64, u64) {
    let page = stage.anyone.get("/metrics").expect(200);
    let sample = |name: &str| {
        let line = page.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<u64>().ok()).unwrap_or_else(|| panic!("no {name}"))
    };
    let soon = sample("boxoffice_refusal_seconds_bucket{le=\"0.05\"}");
    (sample("boxoffice_refusal_seconds_count"), soon)
}

/// Compiles a library for `LD_PRELOAD` that delays every sync.
fn slow_syncs(directory: &Path) -> PathBuf {
    let library = directory.join("slow_sync.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/load_test/slow_sync.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-shared", "-fPIC", source, "-o"]).arg(&library);
    assert!(compiler.status().expect("there is a C compiler").success());
    library
}

/// At most 64 requests in flight per core, syncs of 5 ms, and five times as many clients.
#[test]
fn far_more_than_fits_with_a_slow_disk() {
    const IN_FLIGHT: usize = 64;
    /// The memory of a connection, which reads 4 KiB and writes less than 1 KiB at a time, with a
    /// margin for the allocator.
    const BYTES_EACH_MAX: u64 = 16 * 1024;
    /// The memory of a reservation and its share of the tables that contain it, which double as they
    /// grow.
    const SALE_BYTES: u64 = 512;
    let figures = figures_wanted();
    let (time, rounds) = figures.map_or((PHASE, 1), |time| (time, ROUNDS_OF_FIGURES));
    // One when figures are checked: otherwise the clients, without a core of their own, are measured.
    let shards = if figures.is_some() { 1 } else { 2 };
    let capacity = shards * IN_FLIGHT;
    let too_many = 5 * capacity;
    raise_descriptor_limit(too_many as u64 + 256);
    let (data, tools) = (tempdir().unwrap(), tempdir().unwrap());
    let mut command = serve(data.path());
    command.args(["--demo", "--shards", &shards.to_string(), "--max-in-flight", &IN_FLIGHT.to_string()]);
    command.env("LD_PRELOAD", slow_syncs(tools.path())).env("SLOW_SYNC_US", "5000");
    let stage = Stage::on(Server::spawn(command));
    let events: Vec<u64> = (0..8).map(|_| stage.event(10_000_000)).collect();

    let before = restart_peak(&stage.server);
    let (mut goodput, mut ledger) = (Goodput::default(), Ledger::default());
    for _ in 0..rounds {
        for (clients, rates) in [(capacity, &mut goodput.peak), (too_many, &mut goodput.overload)] {
            let part = run_closed_loop(&stage, &events, clients, time);
            rates.push(part.sold.len() as f64 / time.as_secs_f64());
            ledger.merge(part);
        }
    }
    let peak = peak_memory(&stage.server);
    goodput.print();
    let (refused, soon) = refusals(&stage);
    println!("{refused} refused, {soon} of them within 50 ms of being read");
    println!("memory: {} MiB before, {} MiB at most", before >> 20, peak >> 20);

    assert!(ledger.overloaded > 0, "the limit was never reached");
    assert_eq!(refused, ledger.overloaded as u64);
    check_kept(&stage.org1, &events, &ledger);
    let bound = before + too_many as u64 * BYTES_EACH_MAX + ledger.sold.len() as u64 * SALE_BYTES;
    assert!(peak <= bound, "{} MiB, more than {} MiB", peak >> 20, bound >> 20);
    if figures.is_some() {
        assert!(goodput.kept() >= GOODPUT_MIN, "{:.2} of the peak", goodput.kept());
        assert_eq!(soon, refused, "all requests must be refused within 50 ms");
    }

    // The server works after the overload, and a restart gives the same state.
    reserve(&stage.cust2, stage.event(1), 1);
    let (status, log) = stage.server.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    let stage = Stage::open(data.path(), 1);
    check_kept(&stage.org1, &events, &ledger);
}

/// Without a disk, the CPU is the limit. A connection reads its next requests only after it has
/// answered the last ones, so the excess waits in the clients and none is refused.
#[test]
fn far_more_than_fits_with_a_busy_cpu() {
    const IN_FLIGHT: usize = 2048;
    /// One read returns some sixteen requests, so all connections together stay below the limit.
    const CONNECTIONS: usize = 64;
    const CAPACITY: usize = 16;
    const TOO_MANY: usize = 5 * IN_FLIGHT / CONNECTIONS;
    const THREADS: usize = 4;
    /// Twice what a connection reads and writes at a time, and its requests in flight.
    const BYTES_EACH_MAX: u64 = 64 * 1024;
    const SALE_BYTES: u64 = 512;
    let arguments = ["--demo", "--storage", "memory", "--shards", "1", "--max-in-flight", "2048"];
    let stage = Stage::on(Server::start(Path::new("."), &arguments));
    let events: Vec<u64> = (0..8).map(|_| stage.event(10_000_000)).collect();
    let figures = figures_wanted();
    let (time, rounds) = figures.map_or((PHASE, 1), |time| (time, ROUNDS_OF_FIGURES));
    let one = |index: usize| (stage.server.wire(), purchase(&stage.cust1, events[index % events.len()]));
    let mut wires: Vec<_> = (0..CONNECTIONS).map(one).collect();

    let before = restart_peak(&stage.server);
    let (mut goodput, mut ledger) = (Goodput::default(), Ledger::default());
    for _ in 0..rounds {
        for (depth, rates) in [(CAPACITY, &mut goodput.peak), (TOO_MANY, &mut goodput.overload)] {
            let start = Instant::now();
            let mut sold = 0;
            thread::scope(|scope| {
                let clients: Vec<_> = wires
                    .chunks_mut(CONNECTIONS / THREADS)
                    .map(|wires| scope.spawn(move || flood(wires, depth, |_| start.elapsed() < time)))
                    .collect();
                for client in clients {
                    let part = client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                    sold += part.sold.len();
                    ledger.merge(part);
                }
            });
            rates.push(sold as f64 / start.elapsed().as_secs_f64());
        }
    }
    let peak = peak_memory(&stage.server);
    goodput.print();
    println!("memory: {} MiB before, {} MiB at most", before >> 20, peak >> 20);
    assert_eq!(ledger.overloaded, 0, "a request was refused instead of left unread");
    check_kept(&stage.org1, &events, &ledger);
    let bound = before + CONNECTIONS as u64 * BYTES_EACH_MAX + ledger.sold.len() as u64 * SALE_BYTES;
    assert!(peak <= bound, "{} MiB, more than {} MiB", peak >> 20, bound >> 20);
    if figures.is_some() {
        assert!(goodput.kept() >= GOODPUT_MIN, "{:.2} of the peak", goodput.kept());
    }
}

#[test]
fn a_flood_on_one_event_does_not_block_another() {
    const CONNECTIONS: usize = 64;
    /// With all connections just below the limit of requests in flight of one core, so that no
    /// request is refused.
    const DEPTH: usize = 60;
    const SALES: usize = 200;
    const LOGINS: usize = 10;
    let data = tempdir().unwrap();
    // One shard, so that both events are on it.
    let stage = Stage::open(data.path(), 1);
    let [hot, other] = [20_000, 1000].map(|quota| stage.event(quota));
    let bytes = purchase(&stage.cust1, hot);
    let stop = AtomicBool::new(false);
    let started = AtomicUsize::new(0);
    let ledger = Mutex::new(Ledger::default());
    let (mut sales, mut logins) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let goes_on = |round| {
                    started.fetch_add(usize::from(round == 1), Ordering::Relaxed);
                    !stop.load(Ordering::Relaxed)
                };
                let part = flood(&mut [(stage.server.wire(), bytes.clone())], DEPTH, goes_on);
                ledger.lock().unwrap_or_else(PoisonError::into_inner).merge(part);
            });
        }
        let _stop_at_end = Stop(&stop);
        let start = Instant::now();
        while started.load(Ordering::Relaxed) < CONNECTIONS {
            assert!(start.elapsed() < Duration::from_secs(60), "the flood does not start");
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
    println!("during it: sales {}, logins {}", median_and_maximum(sales), median_and_maximum(logins));
    assert_eq!(number(&stage.seen(other), "reserved"), SALES as u64);
    check_kept(&stage.org1, &[hot], &ledger);
}

/// Clients that do not read request the largest responses.
#[test]
fn large_files_are_not_copied_for_each_client_that_does_not_read() {
    const CONNECTIONS: usize = 40;
    const BYTES_EACH_MAX: u64 = 512 * 1024;
    let stage = Stage::on(Server::start(Path::new("."), &["--demo", "--storage", "memory", "--shards", "1"]));
    let path = "/docs/swagger-ui-bundle.js";
    let whole = stage.anyone.get(path).expect(200).body.len();
    // The kernel buffers one or two responses per connection.
    let bytes = request("GET", path, None, "", "").repeat(8);
    let before = restart_peak(&stage.server);
    let mut wires: Vec<Wire> = (0..CONNECTIONS)
        .map(|_| {
            Wire::with_small_receive_buffer(stage.server.address).expect("the server takes a connection")
        })
        .collect();
    for wire in &mut wires {
        wire.send(&bytes).expect("the kernel takes it");
    }
    thread::sleep(Duration::from_secs(1));
    let peak = peak_memory(&stage.server);
    println!("{whole} bytes each; {} MiB before, {} MiB at most", before >> 20, peak >> 20);
    assert!(peak <= before + CONNECTIONS as u64 * BYTES_EACH_MAX, "{} MiB", peak >> 20);
    let mut found = 0;
    for _ in 0..8 {
        found += wires[0].next().expect(200).body.len();
    }
    assert_eq!(found, 8 * whole);
}

/// Stops a flood on drop, also after a panic, since the thread scope waits for it.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
