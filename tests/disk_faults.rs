//! Disk faults: nothing is acknowledged that is not durable, and the server exits with the reason.
//!
//! Needs strace: run by name, `cargo test --test disk_faults -- --ignored`.

mod support;

use std::path::PathBuf;

use serde_json::json;
use support::client::Client;
use support::server::Server;
use support::{Stage, all_items, reserve, text};

const SYNCS: &str = "fsync,fdatasync";
const WRITES: &str = "pwrite64";

const LOG: &str = "shard-00.sqlite";
const JOURNAL: &str = "shard-00.sqlite-wal";
const MARK: &str = "shard-00.mark";

/// A number of sales after which a checkpoint must have happened.
const SALES_MAX: usize = 2000;

/// System calls, the file, and which of the calls on it fail with which error.
type Fault = (&'static str, &'static str, &'static str);

/// Faults after which it is unknown what is on disk.
const FATAL: &[Fault] = &[
    // During a commit.
    (SYNCS, JOURNAL, "EIO:when=1+"),
    (SYNCS, JOURNAL, "EIO:when=2+"),
    (SYNCS, JOURNAL, "EIO:when=5"),
    (SYNCS, JOURNAL, "ENOSPC:when=3"),
    (WRITES, JOURNAL, "EIO:when=1+"),
    (WRITES, JOURNAL, "EIO:when=8"),
    (WRITES, MARK, "EIO:when=3"),
    (SYNCS, JOURNAL, "EIO:when=600"),
    // During a checkpoint.
    (WRITES, LOG, "EIO:when=1"),
    (WRITES, LOG, "EIO:when=4"),
    (SYNCS, LOG, "EIO:when=1"),
    (SYNCS, LOG, "ENOSPC:when=1"),
    (SYNCS, MARK, "EIO:when=1"),
];

#[test]
#[ignore = "needs strace"]
fn a_disk_fault_ends_the_server_and_loses_nothing_acknowledged() {
    for (calls, file, error) in FATAL {
        let context = format!("{calls} of {file}: {error}");
        let data = tempfile::tempdir().expect("a directory");
        let stage = Stage::open(data.path(), 1);
        let event = stage.event(1_000_000);
        let mut acknowledged = vec![stage.reservation(event, 1)];
        let mut strace = stage.server.inject(calls, &[data.path().join(file)], &format!("error={error}"));
        let path = format!("/api/v1/events/{event}/reservations");
        while let Ok(answer) = stage.cust1.try_post(&path, &json!({ "quantity": 1 })) {
            acknowledged.push(text(&answer.expect(201).json(), "id").to_owned());
            assert!(acknowledged.len() < SALES_MAX, "{context}: the server still sells");
        }
        let (status, stderr) = stage.server.end();
        strace.wait().expect("strace ends with what it traces");
        assert_eq!(status.code(), Some(1), "{context}: {stderr}");
        let line = stderr.lines().find(|line| line.contains("the log failed"));
        let line = line.unwrap_or_else(|| panic!("{context}: {stderr}"));
        assert!(line.contains("shard-00."), "{context}: no file is named: {line}");

        let server = Server::start(data.path(), &["--demo", "--shards", "2"]);
        let customer: Client = server.client().log_in("cust1", support::PASSWORD);
        let recorded = all_items(&customer, "/api/v1/reservations", 100);
        for id in &acknowledged {
            let kept = recorded.iter().any(|one| one["id"] == **id);
            assert!(kept, "{context}: {id} was acknowledged and is lost");
        }
        assert!(recorded.len() <= acknowledged.len() + 1, "{context}: more than was requested");
        reserve(&customer, event, 1);
        println!("{context}: {} acknowledged, {} kept", acknowledged.len(), recorded.len());
    }
}

/// Writes that find no room: the disk is full, a quota is used up, the file would be too long.
const NO_ROOM: &[&str] = &[
    "ENOSPC:when=1",
    "ENOSPC:when=2",
    "ENOSPC:when=3..6",
    "ENOSPC:when=9",
    "EDQUOT:when=1",
    "EDQUOT:when=2",
    "EDQUOT:when=3..6",
    "EFBIG:when=4",
];

/// A write that fails because there is no room changes nothing, and the server continues.
#[test]
#[ignore = "needs strace"]
fn a_write_without_room_is_refused_and_the_next_one_works() {
    for when in NO_ROOM {
        let data = tempfile::tempdir().expect("a directory");
        let stage = Stage::open(data.path(), 1);
        let event = stage.event(1_000_000);
        let mut acknowledged = vec![stage.reservation(event, 1)];
        let journal: [PathBuf; 1] = [data.path().join(JOURNAL)];
        let mut strace = stage.server.inject(WRITES, &journal, &format!("error={when}"));
        let path = format!("/api/v1/events/{event}/reservations");
        let mut refused = 0;
        while refused == 0 || acknowledged.len() < 20 {
            let answer = stage.cust1.post(&path, &json!({ "quantity": 1 }));
            if answer.status == 507 {
                refused += 1;
                std::thread::sleep(std::time::Duration::from_millis(20));
            } else {
                acknowledged.push(text(&answer.expect(201).json(), "id").to_owned());
            }
        }
        let listed = |client: &Client| {
            let items = all_items(client, "/api/v1/reservations", 100);
            items.iter().map(|item| text(item, "id").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(listed(&stage.cust1), acknowledged, "{when}");
        stage.server.kill();
        strace.wait().expect("strace ends with what it traces");
        let server = Server::start(data.path(), &["--demo", "--shards", "2"]);
        assert_eq!(listed(&server.client().log_in("cust1", support::PASSWORD)), acknowledged, "{when}");
        println!("{when}: {refused} refused, {} kept", acknowledged.len());
    }
}

/// A checkpoint without room is put off, since everything is in the journal.
#[test]
#[ignore = "needs strace"]
fn a_checkpoint_beyond_a_quota_is_put_off() {
    let data = tempfile::tempdir().expect("a directory");
    let stage = Stage::open(data.path(), 1);
    let event = stage.event(1_000_000);
    let log: [PathBuf; 1] = [data.path().join(LOG)];
    let mut strace = stage.server.inject(WRITES, &log, "error=EDQUOT:when=1..3");
    let mut sold = 0;
    while !stage.server.stderr().contains("too full to write the log's journal back") {
        stage.reservation(event, 1);
        sold += 1;
        assert!(sold < SALES_MAX, "no checkpoint in {sold} sales\n{}", stage.server.stderr());
    }
    assert_eq!(stage.seen(event)["reserved"], sold);
    stage.server.kill();
    strace.wait().expect("strace ends with what it traces");
    let stage = Stage::open(data.path(), 1);
    assert_eq!(stage.seen(event)["reserved"], sold);
}
