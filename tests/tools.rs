//! Tests that need other programs: run by name, `cargo test --test tools -- --ignored`.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use support::{Stage, number, sqlite3};

#[test]
#[ignore = "needs sqlite3"]
fn the_sqlite_shell_reads_the_same_totals_as_the_api() {
    let data = tempfile::tempdir().expect("a directory");
    let stage = Stage::open(data.path(), 2);
    let events: Vec<u64> = (0..6).map(|_| stage.event(1000)).collect();
    for (index, &event) in events.iter().enumerate() {
        let ids: Vec<String> = (0..4).map(|nth| stage.reservation(event, nth + 1)).collect();
        stage.cust1.delete(&format!("/api/v1/reservations/{}", ids[index % 4])).expect(204);
    }
    let by_api: Vec<u64> = events.iter().map(|&event| number(&stage.seen(event), "reserved")).collect();
    let (status, stderr) = stage.server.terminate();
    assert!(status.success(), "{stderr}");

    let sum = "sum(CASE kind WHEN 'reserved' THEN quantity ELSE -quantity END)";
    let by_shell: Vec<u64> = events
        .iter()
        .map(|event| {
            let sql = format!(
                "SELECT coalesce({sum}, 0) FROM history WHERE kind IN ('reserved', 'cancelled') AND event = {event}"
            );
            let parts = ["shard-00.sqlite", "shard-01.sqlite"].map(|file| sqlite3(&data.path().join(file), &sql));
            parts.iter().map(|part| part.trim().parse::<u64>().expect("a number")).sum()
        })
        .collect();
    assert_eq!(by_shell, by_api);

    let columns =
        sqlite3(&data.path().join("shard-00.sqlite"), "SELECT name FROM pragma_table_info('history')");
    let columns: Vec<&str> = columns.lines().collect();
    assert_eq!(columns, ["slot", "lsn", "epoch", "at", "kind", "event", "reservation", "user", "quantity"]);
}

/// A `sqlite3` shell that has done some statements, and has its transaction open.
struct Shell(Child);

impl Shell {
    fn open(file: &Path, statements: &str) -> Shell {
        let mut command = Command::new("sqlite3");
        command.arg("-batch").arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = command.spawn().expect("sqlite3 is installed");
        let input = shell.stdin.as_mut().expect("it is piped");
        writeln!(input, "{statements}; SELECT 'done';").expect("it reads");
        let lines = BufReader::new(shell.stdout.take().expect("it is piped")).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "done"), "{statements} failed");
        Shell(shell)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.0.kill().expect("it is our child");
        self.0.wait().expect("it ended");
    }
}

/// A shell writes while the server sells, and a shell reads while the server is killed and starts.
#[test]
#[ignore = "needs sqlite3"]
fn transactions_of_a_sqlite_shell_are_survived() {
    let data = tempfile::tempdir().expect("a directory");
    let stage = Stage::open(data.path(), 1);
    let event = stage.event(100);
    stage.reservation(event, 1);
    let file = data.path().join("shard-00.sqlite");
    let writer = Shell::open(&file, "BEGIN IMMEDIATE");
    let path = format!("/api/v1/events/{event}/reservations");
    let reserve = || stage.cust1.post(&path, &json!({ "quantity": 1 }));
    reserve().problem(503, "log-locked");
    assert_eq!(stage.seen(event)["reserved"], 1);
    drop(writer);
    let start = Instant::now();
    while reserve().status != 201 {
        assert!(start.elapsed() < Duration::from_secs(60), "the shell has ended, but changes are refused");
        thread::sleep(Duration::from_millis(50));
    }

    let reader = Shell::open(&file, "BEGIN; SELECT count(*) FROM record");
    stage.reservation(event, 1);
    stage.server.kill();
    let stage = Stage::open(data.path(), 1);
    assert_eq!(stage.seen(event)["reserved"], 3);
    stage.reservation(event, 1);
    stage.server.kill();
    drop(reader);
    assert_eq!(Stage::open(data.path(), 1).seen(event)["reserved"], 4);
}

/// The reader's process was stopped, so that it does not end its transaction by itself.
#[test]
#[ignore = "needs sqlite3"]
fn a_stopped_sqlite_shell_is_named_and_sales_go_on() {
    const FAR_TOO_LARGE: u64 = 64 << 20;
    let data = tempfile::tempdir().expect("a directory");
    let stage = Stage::open(data.path(), 1);
    let event = stage.event(1_000_000);
    let reader = Shell::open(&data.path().join("shard-00.sqlite"), "BEGIN; SELECT count(*) FROM record");
    let id = Pid::from_child(&reader.0);
    kill_process(id, Signal::STOP).expect("it is our child");
    let journal_bytes = || {
        let journal = data.path().join("shard-00.sqlite-wal");
        fs::metadata(journal).expect("the server has it open").len()
    };
    while journal_bytes() <= FAR_TOO_LARGE {
        stage.reservation(event, 1);
    }
    let line = format!("readers=\"sqlite3 (process {id})\"");
    let log = stage.server.stderr();
    assert!(log.contains(&line), "{log}");
    let metrics = stage.anyone.get("/metrics").expect(200);
    let metric = format!("{{file=\"shard-00.sqlite-wal\",pid=\"{id}\",process=\"sqlite3\"}} 1");
    assert!(metrics.text().contains(&metric), "{}", metrics.text());
    let sold = number(&stage.seen(event), "reserved");

    drop(reader);
    let start = Instant::now();
    while journal_bytes() > 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "{} bytes", journal_bytes());
        thread::sleep(Duration::from_millis(50));
    }
    stage.reservation(event, 1);
    stage.server.kill();
    assert_eq!(number(&Stage::open(data.path(), 1).seen(event), "reserved"), sold + 1);
}
