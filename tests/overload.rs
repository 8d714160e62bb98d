//! More than the server can do at once: it does what it can, says of the rest that nothing was
//! done, and those who ask for little get it.

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

/// What the clients of one flood heard.
#[derive(Default)]
struct Ledger {
    /// Ids.
    sold: Vec<String>,
    sold_out: usize,
    overloaded: usize,
}

impl Ledger {
    fn enter(&mut self, answer: Answer) {
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

    fn absorb(&mut self, other: Ledger) {
        self.sold.extend(other.sold);
        self.sold_out += other.sold_out;
        self.overloaded += other.overloaded;
    }
}

/// Rounds of `depth` requests at once on each connection, all answered before the next.
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
                ledger.enter(wire.next());
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

/// From here on, what [`peak_memory`] says counts anew. Returns what it has now.
fn restart_peak(server: &Server) -> u64 {
    fs::write(format!("/proc/{}/clear_refs", server.id()), "5").expect("it is our own process");
    peak_memory(server)
}

/// The most memory that the server had, in bytes.
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

/// Seconds that a phase takes, of a release's figures; a CI run is short, and looks at no figure.
fn figures_wanted() -> Option<Duration> {
    let seconds = std::env::var("BOXOFFICE_OVERLOAD_SECONDS").ok()?;
    Some(Duration::from_secs(seconds.parse().expect("BOXOFFICE_OVERLOAD_SECONDS is a number")))
}

/// What is left of the peak, at least, for a server that is asked for five times what it can.
const GOODPUT_MIN: f64 = 0.8;

const PHASE: Duration = Duration::from_millis(700);
const ROUNDS_OF_FIGURES: usize = 5;

/// Sales a second of each phase.
#[derive(Default)]
struct Goodput {
    peak: Vec<f64>,
    overload: Vec<f64>,
}

impl Goodput {
    /// Of the medians, since a machine has its moments.
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

/// Clients that ask for one sale after the other, each when it has heard of the one before.
fn ask_one_by_one(stage: &Stage, events: &[u64], clients: usize, time: Duration) -> Ledger {
    /// A fiftieth of what `Retry-After` asks for: they are rude, and yet not busy with refusals alone.
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
                        ledger.enter(answer);
                        if refused {
                            thread::sleep(PAUSE);
                        }
                    }
                    ledger
                })
            })
            .collect();
        for client in clients {
            ledger.absorb(client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    });
    ledger
}

/// How many requests were refused, and how many of them within 50 ms of being read. The server
/// says so: what a client sees is also the time that its own machine takes, and the kernel's
/// queues on both sides.
fn refusals(stage: &Stage) -> (u64, u64) {
    let page = stage.anyone.get("/metrics").expect(200);
    let sample = |name: &str| {
        let line = page.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<u64>().ok()).unwrap_or_else(|| panic!("no {name}"))
    };
    let soon = sample("boxoffice_refusal_seconds_bucket{le=\"0.05\"}");
    (sample("boxoffice_refusal_seconds_count"), soon)
}

/// A library that makes every sync take longer, for the dynamic linker.
fn slow_syncs(directory: &Path) -> PathBuf {
    let library = directory.join("slow_sync.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/load_test/slow_sync.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-shared", "-fPIC", source, "-o"]).arg(&library);
    assert!(compiler.status().expect("there is a C compiler").success());
    library
}

/// 64 requests in flight a core, a sync of 5 ms, and five times as many clients as fit.
#[test]
fn far_more_than_fits_with_a_slow_disk() {
    const IN_FLIGHT: usize = 64;
    /// A connection reads 4 KiB and answers with less than 1 KiB; and as much again for what
    /// allocators round up.
    const BYTES_EACH_MAX: u64 = 16 * 1024;
    /// Kept for good: the sale, and a share of the tables that it is in, which double as they grow.
    const SALE_BYTES: u64 = 512;
    let figures = figures_wanted();
    let (time, rounds) = figures.map_or((PHASE, 1), |time| (time, ROUNDS_OF_FIGURES));
    // Of figures one, since clients need a core of their own, or it is them that are measured.
    let shards = if figures.is_some() { 1 } else { 2 };
    let fit = shards * IN_FLIGHT;
    let too_many = 5 * fit;
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
        for (clients, rates) in [(fit, &mut goodput.peak), (too_many, &mut goodput.overload)] {
            let part = ask_one_by_one(&stage, &events, clients, time);
            rates.push(part.sold.len() as f64 / time.as_secs_f64());
            ledger.absorb(part);
        }
    }
    let peak = peak_memory(&stage.server);
    goodput.print();
    let (refused, soon) = refusals(&stage);
    println!("{refused} refused, {soon} of them within 50 ms of being read");
    println!("memory: {} MiB before, {} MiB at most", before >> 20, peak >> 20);

    assert!(ledger.overloaded > 0, "the bound was never reached");
    assert_eq!(refused, ledger.overloaded as u64);
    check_kept(&stage.org1, &events, &ledger);
    let bound = before + too_many as u64 * BYTES_EACH_MAX + ledger.sold.len() as u64 * SALE_BYTES;
    assert!(peak <= bound, "{} MiB, more than {} MiB", peak >> 20, bound >> 20);
    if figures.is_some() {
        assert!(goodput.kept() >= GOODPUT_MIN, "{:.2} of the peak", goodput.kept());
        assert_eq!(soon, refused, "refused within 50 ms, and in all");
    }

    // It has got over it, and a restart finds the same.
    reserve(&stage.cust2, stage.event(1), 1);
    let (status, log) = stage.server.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    let stage = Stage::open(data.path(), 1);
    check_kept(&stage.org1, &events, &ledger);
}

/// Without a disk the CPU is the bound: a connection's next requests are not read before the
/// last ones are answered, so that five times what fits waits with the clients, and none is refused.
#[test]
fn far_more_than_fits_with_a_busy_cpu() {
    const IN_FLIGHT: usize = 2048;
    /// One read brings some sixteen requests of each: all together stay below the bound.
    const CONNECTIONS: usize = 64;
    const FIT: usize = 16;
    const TOO_MANY: usize = 5 * IN_FLIGHT / CONNECTIONS;
    const THREADS: usize = 4;
    /// Twice what is read and written for a connection at a time, and what is under way for it.
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
        for (depth, rates) in [(FIT, &mut goodput.peak), (TOO_MANY, &mut goodput.overload)] {
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
                    ledger.absorb(part);
                }
            });
            rates.push(sold as f64 / start.elapsed().as_secs_f64());
        }
    }
    let peak = peak_memory(&stage.server);
    goodput.print();
    println!("memory: {} MiB before, {} MiB at most", before >> 20, peak >> 20);
    assert_eq!(ledger.overloaded, 0, "of what was not even read, nothing can be refused");
    check_kept(&stage.org1, &events, &ledger);
    let bound = before + CONNECTIONS as u64 * BYTES_EACH_MAX + ledger.sold.len() as u64 * SALE_BYTES;
    assert!(peak <= bound, "{} MiB, more than {} MiB", peak >> 20, bound >> 20);
    if figures.is_some() {
        assert!(goodput.kept() >= GOODPUT_MIN, "{:.2} of the peak", goodput.kept());
    }
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

/// The largest answers there are, asked for by clients who read nothing.
#[test]
fn large_files_are_not_copied_for_each_client_who_does_not_read() {
    const CONNECTIONS: usize = 40;
    const BYTES_EACH_MAX: u64 = 512 * 1024;
    let stage = Stage::on(Server::start(Path::new("."), &["--demo", "--storage", "memory", "--shards", "1"]));
    let path = "/docs/swagger-ui-bundle.js";
    let whole = stage.anyone.get(path).expect(200).body.len();
    // The kernel takes one or two of them for each.
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

/// Ends a flood however the test ends: a thread's scope waits for it.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
