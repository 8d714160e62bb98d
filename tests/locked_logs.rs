//! Another program has a lock on a log file. A writer's: commits wait beside the core, then changes are refused,
//! and everything else goes on. A reader's: the log's journal grows, and everything goes on.

mod support;

use std::fs;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use support::client::Answer;
use support::server::Server;
use support::{LogLock, Stage, all_items, number, text};

/// More than a journal has which nobody keeps from being written back.
const LARGE: u64 = 16 << 20;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(120);

/// Events of the demonstration on each of two shards.
const EVENTS: [u64; 2] = [1, 2];

fn check_refused(answer: Answer) {
    assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
    answer.problem(503, "log-locked");
}

#[test]
fn a_locked_log_stops_the_changes_of_its_shard_alone() {
    let data = tempfile::tempdir().expect("a directory");
    let stage = Stage::open(data.path(), 2);
    let reserve = |event: u64| {
        let path = format!("/api/v1/events/{event}/reservations");
        stage.cust1.post(&path, &json!({ "quantity": 1 }))
    };
    let kept = EVENTS.map(|event| stage.reservation(event, 1));
    let before = stage.seen(EVENTS[0]);

    let lock = LogLock::write(data.path(), 0);
    thread::scope(|scope| {
        let waits = scope.spawn(|| reserve(EVENTS[0]));
        // A commit may wait, and its core serves others all the same.
        for _ in 0..20 {
            stage.anyone.get("/livez").expect(200);
            reserve(EVENTS[1]).expect(201);
        }
        check_refused(waits.join().expect("no panic"));
    });
    check_refused(reserve(EVENTS[0]));
    let edited = json!({ "name": "Another" });
    check_refused(stage.org1.patch(&format!("/api/v1/events/{}", EVENTS[0]), &edited));
    check_refused(stage.cust1.delete(&format!("/api/v1/reservations/{}", kept[0])));
    assert_eq!(stage.seen(EVENTS[0]), before, "a refusal changed something");
    assert_eq!(all_items(&stage.cust1, "/api/v1/reservations", 100).len(), 22);
    stage.anyone.get("/readyz").expect(200);
    assert!(stage.anyone.get("/metrics").expect(200).text().contains("boxoffice_logs_locked 1"));
    let log = stage.server.stderr();
    let line = log.lines().find(|line| line.contains("another program has locked the log"));
    assert!(line.is_some_and(|line| line.contains("shard-00.sqlite")), "{log}");

    drop(lock);
    let start = Instant::now();
    loop {
        let answer = reserve(EVENTS[0]);
        if answer.status == 201 {
            break;
        }
        check_refused(answer);
        assert!(start.elapsed() < Duration::from_secs(60), "the lock is gone, but changes are still refused");
        thread::sleep(Duration::from_millis(50));
    }
    assert!(stage.anyone.get("/metrics").expect(200).text().contains("boxoffice_logs_locked 0"));
    stage.server.kill();
    let server = Server::start(data.path(), &["--shards", "2"]);
    for (event, reserved) in EVENTS.into_iter().zip([2, 21]) {
        let seen = server.client().get(&format!("/api/v1/events/{event}")).expect(200).json();
        assert_eq!(number(&seen, "reserved"), reserved);
    }
}

/// The first commit of a process, and commits under load.
#[test]
fn locks_that_come_and_go_lose_nothing() {
    const BUYERS: usize = 4;
    const LOCKS: usize = 20;
    let data = tempfile::tempdir().expect("a directory");
    drop(Stage::open(data.path(), 2));
    let server = Server::start(data.path(), &["--demo", "--shards", "2"]);
    let customer = server.client().log_in("cust1", support::PASSWORD);
    let done = AtomicBool::new(false);
    let buy = || {
        let client = customer.clone();
        let mut bought = Vec::new();
        while !done.load(Ordering::Relaxed) {
            let answer = client.post("/api/v1/events/1/reservations", &json!({ "quantity": 1 }));
            if answer.status == 503 {
                check_refused(answer);
                continue;
            }
            bought.push(text(&answer.expect(201).json(), "id").to_owned());
        }
        bought
    };
    let mut bought: Vec<String> = thread::scope(|scope| {
        let first = LogLock::write(data.path(), 0);
        let buyers: Vec<_> = (0..BUYERS).map(|_| scope.spawn(buy)).collect();
        thread::sleep(Duration::from_millis(100));
        drop(first);
        for _ in 0..LOCKS {
            thread::sleep(Duration::from_millis(20));
            let lock = LogLock::write(data.path(), 0);
            thread::sleep(Duration::from_millis(20));
            drop(lock);
        }
        done.store(true, Ordering::Relaxed);
        buyers.into_iter().flat_map(|buyer| buyer.join().expect("no panic")).collect()
    });
    assert!(!bought.is_empty(), "nothing was sold");
    let token = customer.token.expect("logged in");
    server.kill();
    let server = Server::start(data.path(), &["--demo", "--shards", "2"]);
    let items = all_items(&server.client().with_token(&token), "/api/v1/reservations", 100);
    let mut found: Vec<String> = items.iter().map(|item| text(item, "id").to_owned()).collect();
    bought.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, bought);
}

fn wait_for(what: &str, is_there: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < LONG, "there is no {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whoever reads is this process.
#[test]
fn a_reader_is_named_and_its_journal_is_small_again_when_it_has_gone() {
    let data = tempfile::tempdir().expect("a directory");
    let stage = Stage::open(data.path(), 1);
    stage.reservation(EVENTS[0], 1);
    let journal = data.path().join("shard-00.sqlite-wal");
    let journal_bytes = || fs::metadata(&journal).expect("the server has it open").len();
    let metrics = || stage.anyone.get("/metrics").expect(200).text().to_owned();
    let reader = format!("boxoffice_journal_readers{{file=\"shard-00.sqlite-wal\",pid=\"{}\"", process::id());

    let lock = LogLock::read(data.path(), 0);
    let start = Instant::now();
    while journal_bytes() <= LARGE || !metrics().contains(&reader) {
        for _ in 0..100 {
            stage.reservation(EVENTS[0], 1);
        }
        assert!(start.elapsed() < LONG, "{} bytes, {}", journal_bytes(), metrics());
    }
    wait_for("a line", || stage.server.stderr().contains("readers keep the log's journal"));
    let log = stage.server.stderr();
    let line = log.lines().find(|line| line.contains("readers keep the log's journal")).expect("just found");
    let words = ["shard-00.sqlite-wal", &format!("(process {})", process::id()), "journal_bytes="];
    assert!(words.iter().all(|word| line.contains(word)), "{line}");
    let sold = stage.seen(EVENTS[0]);

    drop(lock);
    // Without any request.
    wait_for("an empty journal", || journal_bytes() == 0);
    wait_for("a line", || stage.server.stderr().contains("the log's journal is written back again"));
    stage.reservation(EVENTS[0], 1);
    assert!(!metrics().contains("boxoffice_journal_readers{"), "{}", metrics());
    let log = stage.server.stderr();
    assert_eq!(log.matches("readers keep the log's journal").count(), 1, "{log}");
    stage.server.kill();
    let seen = Stage::open(data.path(), 1).seen(EVENTS[0]);
    assert_eq!(number(&seen, "reserved"), number(&sold, "reserved") + 1);
}
