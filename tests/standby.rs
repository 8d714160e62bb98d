//! Health is answered while the server starts, and while a core waits for its disk. Everybody else waits or is told
//! to come again, and nothing is lost.
//!
//! Two tests need strace: `cargo test --test standby -- --ignored --nocapture --test-threads 1`.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::json;
use support::client::{Answer, Client, Wire, request};
use support::server::{Server, boxoffice, program};
use support::{LogLock, PASSWORD, Stage, all_items, metrics_once, number, text};

/// A check of health on a new connection never takes longer, even on a noisy machine. The server is made for 100 ms.
const HEALTH_MAX: Duration = Duration::from_secs(1);

const HEALTH: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// More than the server looks at while it starts.
const MANY: usize = 300;

/// Asks on a new connection.
fn get(address: SocketAddr, path: &str) -> Answer {
    let mut wire = Wire::open(address).expect("the server listens");
    let answer = wire.ask(request("GET", path, None, "", ""));
    assert!(answer.status == 200 || answer.closes(), "{answer:?}");
    answer
}

/// Times a question on a new connection.
fn timed(address: SocketAddr, path: &str) -> (Answer, Duration) {
    let start = Instant::now();
    let answer = get(address, path);
    let took = start.elapsed();
    assert!(took < HEALTH_MAX, "{path} took {took:?}");
    (answer, took)
}

fn buy(event: u64, client: &Client) -> String {
    let path = format!("/api/v1/events/{event}/reservations");
    request("POST", &path, client.token.as_deref(), "", "{\"quantity\":1}")
}

fn metric(page: &str, name: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {page}"))
}

fn descriptors(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.id())).expect("it runs").count()
}

/// Threads that do not run, as if they waited for a disk: stopped by the one that made this.
struct Stopped(Vec<Pid>);

impl Stopped {
    fn cores(server: &Server) -> Stopped {
        let tasks = fs::read_dir(format!("/proc/{}/task", server.id())).expect("it runs");
        let mut stopped = Stopped(Vec::new());
        for task in tasks {
            let task = task.expect("it can be read").path();
            let name = fs::read_to_string(task.join("comm")).expect("the thread runs");
            if name.starts_with("core") {
                let id = task.file_name().and_then(|id| id.to_str()?.parse().ok()).expect("a number");
                ptrace::attach(Pid::from_raw(id)).expect("a process may trace its children");
                stopped.0.push(Pid::from_raw(id));
                let status = waitpid(Pid::from_raw(id), Some(WaitPidFlag::__WALL)).expect("it is traced");
                assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
            }
        }
        assert!(!stopped.0.is_empty(), "no core was found");
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for thread in &self.0 {
            ptrace::detach(*thread, None).expect("it is stopped");
        }
    }
}

/// Where a server listened that was killed, after some sales of an event.
fn killed(data: &std::path::Path) -> (SocketAddr, u64) {
    let stage = Stage::open(data, 2);
    let event = stage.event(1000);
    for _ in 0..20 {
        stage.reservation(event, 1);
    }
    let address = stage.server.address;
    stage.server.kill();
    (address, event)
}

#[test]
fn a_start_answers_health_and_tells_the_others_how_far_it_is() {
    let data = tempfile::tempdir().expect("a directory");
    let (address, event) = killed(data.path());
    let lock = LogLock::write(data.path(), 1);
    let starting = Server::begin_at(data.path(), address, &["--shards", "2"]);
    let begun = Instant::now();
    // The log of the other shard is open soon.
    while Wire::open(address).is_err() || get(address, "/readyz").json()["recovery"]["records"] == 0 {
        assert!(begun.elapsed() < Duration::from_secs(4), "it does not listen while it waits for the lock");
        thread::sleep(Duration::from_millis(5));
    }
    let live = get(address, "/livez").expect(200).json();
    let boot_id = text(&live, "boot_id").to_owned();
    for path in ["/readyz", "/metrics", "/api/v1/events", "/nothing"] {
        let answer = get(address, path);
        assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
        let problem = answer.problem(503, "starting");
        assert_eq!(problem["boot_id"], *boot_id);
        let (read, records) =
            (number(&problem["recovery"], "records_read"), number(&problem["recovery"], "records"));
        assert!(read <= records && records > 0, "{problem}");
        assert!(text(&problem, "detail").contains(&format!("{read} of {records} records")), "{problem}");
    }
    let mut wire = Wire::open(address).expect("it listens");
    wire.ask(request("POST", &format!("/api/v1/events/{event}/reservations"), None, "", "{\"quantity\":1}"))
        .problem(503, "starting");
    wire.expect_end();
    let mut wire = Wire::open(address).expect("it listens");
    // The client can read the answer, though its body was not read.
    wire.send(request("POST", "/api/v1/sessions", None, "", &"x".repeat(60_000))).expect("it reads on");
    wire.next().problem(503, "starting");
    let mut wire = Wire::open(address).expect("it listens");
    wire.send(request("HEAD", "/livez", None, "", "")).expect("it reads");
    assert_eq!(wire.answer_without_body().expect("an answer").expect("an answer").status, 200);
    wire.expect_end();
    let mut wire = Wire::open(address).expect("it listens");
    wire.ask("BREW / HTTP/1.1\r\n\r\n").problem(501, "not-implemented");

    // Clients that send nothing, or slowly, keep nobody out.
    let silent: Vec<Wire> = (0..MANY).map(|_| Wire::open(address).expect("it listens")).collect();
    let mut slow: Vec<Wire> = (0..MANY).map(|_| Wire::open(address).expect("it listens")).collect();
    for wire in &mut slow {
        // Fails if another one has its place.
        let _ = wire.send("GET /readyz HT");
    }
    timed(address, "/livez").0.expect(200);
    timed(address, "/readyz").0.problem(503, "starting");
    let descriptors = descriptors(&starting.server);
    assert!(descriptors < 350, "{descriptors} descriptors");
    drop(silent);

    let mut early = Wire::open(address).expect("it listens");
    early.send("GET /livez HTTP/1.1\r\nHost: x\r\n").expect("it has a place");
    drop(lock);
    let server = starting.ready();
    assert_eq!(server.address, address);
    // Handed over to its core, with what it had sent.
    early.send("\r\n").expect("it is kept");
    assert_eq!(text(&early.next().expect(200).json(), "boot_id"), boot_id);
    early.ask(request("GET", "/readyz", None, "", "")).expect(200);
    let customer = server.client().log_in("cust1", PASSWORD);
    customer.post(&format!("/api/v1/events/{event}/reservations"), &json!({ "quantity": 1 })).expect(201);
    assert_eq!(
        number(&server.client().get(&format!("/api/v1/events/{event}")).expect(200).json(), "reserved"),
        21
    );
    drop(slow);
}

#[test]
fn a_client_that_sends_half_a_request_is_told_so_while_the_server_starts() {
    let data = tempfile::tempdir().expect("a directory");
    let (address, _) = killed(data.path());
    let _lock = LogLock::write(data.path(), 1);
    let starting = Server::begin_at(data.path(), address, &["--shards", "2"]);
    let mut wire = (0..400).find_map(|_| {
        thread::sleep(Duration::from_millis(5));
        Wire::open(address).ok()
    });
    let wire = wire.as_mut().expect("it listens");
    wire.send("GET /livez HTTP/1.1\r\nHo").expect("it reads");
    wire.next().problem(408, "request-timeout");
    wire.expect_end();
    // The start waits for the lock for five seconds.
    let (status, stderr) = starting.server.end();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("shard-01.sqlite: locking protocol\n"), "{stderr}");
    assert!(stderr.contains("close other programs"), "{stderr}");
}

/// Each of the paths `rounds` times, on new connections; returns the times, sorted.
fn check_health(address: SocketAddr, rounds: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        for path in HEALTH {
            let (answer, took) = timed(address, path);
            answer.expect(200);
            times.push(took);
        }
    }
    times.sort_unstable();
    times
}

fn print_times(what: &str, times: &[Duration]) {
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("{what}: {} answers, p50 {:?}, p99 {:?}, most {:?}", times.len(), at(50), at(99), at(100));
}

#[test]
fn stalled_cores_hold_up_no_check_of_health() {
    let data = tempfile::tempdir().expect("a directory");
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(1000);
    stage.reservation(event, 1);
    let address = stage.server.address;
    let mut kept_alive = stage.server.wire();
    kept_alive.ask(request("GET", "/livez", None, "", "")).expect(200);
    let (before, _) = metrics_once(&stage.anyone, &["boxoffice_events 5", "boxoffice_tickets_reserved 1"]);

    let stopped = Stopped::cores(&stage.server);
    let times = check_health(address, 100);
    print_times("with both cores stopped", &times);
    let during = get(address, "/metrics");
    let during = during.expect(200).text().to_owned();
    assert_eq!(metric(&during, "boxoffice_cores_stalled"), 2);
    assert_eq!(metric(&during, "boxoffice_events"), 5);
    assert_eq!(metric(&during, "boxoffice_tickets_reserved"), 1);
    let rise = |name: &str| metric(&during, name) - metric(&before, name);
    assert_eq!(rise("boxoffice_connections_accepted_total"), 300);
    // With the one for the first page, which was counted after it was rendered.
    assert_eq!(rise("boxoffice_http_requests_total"), 301);
    let mut wire = stage.server.wire();
    wire.send(request("HEAD", "/%6Civez", None, "X-Request-Id: mine\r\n", "")).expect("it reads");
    let head = wire.answer_without_body().expect("an answer").expect("an answer");
    assert_eq!((head.status, head.header("x-request-id"), head.closes()), (200, Some("mine"), true));
    // All others wait for their core, also if they have not said yet what they want.
    let mut buyers: Vec<Wire> = (0..20).map(|_| stage.server.wire()).collect();
    for (index, wire) in buyers.iter_mut().enumerate() {
        let bytes = buy(event, &stage.cust1);
        match index % 4 {
            0 => wire.send(bytes).expect("it is kept"),
            1 => wire.send(&bytes[..20]).expect("it is kept"),
            2 => wire.send("GET /li").expect("it is kept"),
            _ => {}
        }
    }
    kept_alive.send(request("GET", "/livez", None, "", "")).expect("it is kept");
    check_health(address, 10);

    drop(stopped);
    kept_alive.next().expect(200);
    for (index, wire) in buyers.iter_mut().enumerate() {
        let bytes = buy(event, &stage.cust1);
        let answer = match index % 4 {
            0 => wire.next(),
            1 => wire.ask(&bytes[20..]),
            2 => wire.ask("vez HTTP/1.1\r\nHost: x\r\n\r\n"),
            _ => wire.ask(bytes),
        };
        if index % 4 == 2 {
            // Its core or the standby thread: whichever saw it first.
            answer.expect(200);
        } else {
            assert!(!answer.closes(), "{answer:?}");
            answer.expect(201);
        }
    }
    assert_eq!(number(&stage.seen(event), "reserved"), 16);
    let mut first = Vec::new();
    for round in 0..20 {
        let stopped = Stopped::cores(&stage.server);
        let (answer, took) = timed(address, HEALTH[round % 3]);
        answer.expect(200);
        first.push(took);
        drop(stopped);
        thread::sleep(Duration::from_millis(20));
    }
    first.sort_unstable();
    print_times("the first of each stall", &first);
    // The standby thread looks again, and the core notices that clients are gone.
    let until = Instant::now() + Duration::from_secs(10);
    drop(buyers);
    loop {
        let after = get(address, "/metrics").text().to_owned();
        let open = metric(&after, "boxoffice_connections");
        // With the one that asks.
        let before = metric(&before, "boxoffice_connections") + 1;
        if metric(&after, "boxoffice_cores_stalled") == 0 && open == before {
            break;
        }
        assert!(Instant::now() < until, "{after}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Beyond --max-connections, a stalled core's listener is left alone, and its clients wait as for any busy core.
#[test]
fn a_stall_does_not_lift_the_limit_of_connections() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(data.path(), &["--shards", "1", "--max-connections", "8"]);
    let stopped = Stopped::cores(&server);
    let mut wires: Vec<Wire> = (0..200).map(|_| server.wire()).collect();
    for wire in &mut wires {
        wire.send(request("GET", "/api/v1/events", None, "Connection: close\r\n", "")).expect("it is kept");
    }
    thread::sleep(Duration::from_millis(200));
    let descriptors = descriptors(&server);
    assert!(descriptors < 150, "{descriptors} descriptors");
    drop(stopped);
    let mut served = 0;
    for wire in &mut wires {
        let answer = wire.next();
        match answer.status {
            200 => served += 1,
            _ => drop(answer.problem(503, "too-many-connections")),
        }
    }
    assert!(served >= 8, "{served} served");
    drop(wires);
    thread::sleep(Duration::from_millis(100));
    get(server.address, "/readyz").expect(200);
}

#[test]
fn a_drain_begins_while_a_core_is_stalled() {
    let data = tempfile::tempdir().expect("a directory");
    let stage = Stage::open(data.path(), 1);
    let event = stage.event(1000);
    let stopped = Stopped::cores(&stage.server);
    let mut buyer = stage.server.wire();
    buyer.send(buy(event, &stage.cust1)).expect("it is kept");
    timed(stage.server.address, "/readyz").0.expect(200);
    stage.server.signal_to_end();
    let start = Instant::now();
    loop {
        let (answer, _) = timed(stage.server.address, "/readyz");
        if answer.status == 503 {
            answer.problem(503, "not-ready");
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "it is still ready");
    }
    timed(stage.server.address, "/livez").0.expect(200);
    drop(stopped);
    let sold = buyer.next();
    assert!(sold.status == 201 && sold.closes(), "{sold:?}");
    let (status, stderr) = stage.server.end();
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

/// While a sync takes three seconds.
#[test]
#[ignore = "needs strace"]
fn a_slow_sync_holds_up_no_check_of_health() {
    const SLOW: Duration = Duration::from_secs(3);
    let data = tempfile::tempdir().expect("a directory");
    let stage = Stage::open(data.path(), 1);
    let event = stage.event(1000);
    let address = stage.server.address;
    let journal = [data.path().join("shard-00.sqlite-wal")];
    let mut strace = stage.server.inject("fsync,fdatasync", &journal, "delay_enter=3000000");
    let mut acknowledged = Vec::new();
    let mut times = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        let mut first = stage.server.wire();
        first.send(buy(event, &stage.cust1)).expect("the server reads");
        thread::sleep(Duration::from_millis(50));
        let mut second = stage.server.wire();
        second.send(buy(event, &stage.cust1)).expect("it is kept");
        while start.elapsed() < SLOW - Duration::from_millis(500) {
            times.extend(check_health(address, 1));
            thread::sleep(Duration::from_millis(3));
        }
        for wire in [&mut first, &mut second] {
            acknowledged.push(text(&wire.next().expect(201).json(), "id").to_owned());
        }
        assert!(
            start.elapsed() >= 2 * SLOW,
            "the second sale waits for the first, and then for its own sync"
        );
    }
    times.sort_unstable();
    print_times("while syncs take 3 s", &times);
    stage.server.kill();
    strace.wait().expect("strace ends with what it traces");
    let server = Server::start(data.path(), &["--shards", "2"]);
    let customer = server.client().log_in("cust1", PASSWORD);
    let kept = all_items(&customer, "/api/v1/reservations", 100);
    assert!(acknowledged.iter().all(|id| kept.iter().any(|one| one["id"] == **id)), "a sale was lost");
}

#[test]
#[ignore = "needs strace"]
fn a_slow_recovery_shows_its_progress() {
    const SALES: usize = 5000;
    let data = tempfile::tempdir().expect("a directory");
    let stage = Stage::open(data.path(), 1);
    let (event, address) = (stage.event(SALES as u64), stage.server.address);
    let mut wire = stage.server.wire();
    let bytes = buy(event, &stage.cust1);
    for _ in 0..SALES / 100 {
        wire.send(bytes.repeat(100)).expect("the server reads");
        (0..100).for_each(|_| drop(wire.next().expect(201)));
    }
    stage.server.kill();

    // With -D the server is the child, and strace ends with it.
    let mut command = program("strace");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "inject=pread64:delay_enter=10000"]);
    for file in ["shard-00.sqlite", "shard-00.sqlite-wal"] {
        command.arg("-P").arg(data.path().join(file));
    }
    command.arg(boxoffice().get_program()).args(["serve", "--listen", &address.to_string(), "--data"]);
    command.arg(data.path());
    let starting = Server::begin(command, Stdio::piped());
    let until = Instant::now() + Duration::from_secs(60);
    let mut seen = BTreeSet::new();
    while Wire::open(address).is_err() {
        assert!(Instant::now() < until, "it does not listen");
        thread::sleep(Duration::from_millis(5));
    }
    loop {
        let (answer, _) = timed(address, "/readyz");
        if answer.status == 200 {
            break;
        }
        let problem = answer.problem(503, "starting");
        if number(&problem["recovery"], "records") > 0 {
            assert!(number(&problem["recovery"], "records") > SALES as u64, "{problem}");
            seen.insert(number(&problem["recovery"], "records_read"));
        }
        assert!(Instant::now() < until, "it does not become ready");
        thread::sleep(Duration::from_millis(20));
    }
    println!("records read while it started: {seen:?}");
    assert!(seen.len() > 2, "{seen:?}");
    let server = starting.ready();
    assert_eq!(
        number(&server.client().get(&format!("/api/v1/events/{event}")).expect(200).json(), "reserved"),
        5000
    );
}
