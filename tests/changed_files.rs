//! Someone removes, moves, replaces or truncates the files of a running server: it acknowledges nothing that
//! would be lost, ends, and says where the data is.

mod support;

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use support::client::Client;
use support::server::{Ended, Server, run, serve};
use support::{Stage, TestFolder, copy_directory, number};

/// Events of the demonstration on each of two shards.
const EVENTS: [u64; 2] = [1, 2];

/// Longer than a server takes to look at its files.
const SOON: Duration = Duration::from_secs(30);

/// Where everything is that was acknowledged.
#[derive(Clone, Copy, PartialEq)]
enum Data {
    /// In a copy that the server's last words name.
    Copied,
    Moved,
    /// It is gone, and the next start says so.
    Gone,
}

/// What is done to a data directory, a word of the server's last line, and where the data is afterwards.
type Case = (&'static str, fn(&Path), &'static str, Data);

const CASES: [Case; 9] = [
    (
        "a journal is removed",
        |data| fs::remove_file(data.join("shard-00.sqlite-wal")).expect("it is there"),
        "shard-00.sqlite-wal: it was removed",
        Data::Copied,
    ),
    (
        "the directory is removed",
        |data| fs::remove_dir_all(data).expect("it is there"),
        "it was removed",
        Data::Copied,
    ),
    (
        "an older copy is put in the place of a log",
        |data| {
            let older = data.with_file_name("older");
            fs::copy(data.join("shard-00.sqlite"), &older).expect("there is room");
            fs::rename(older, data.join("shard-00.sqlite")).expect("it is one file system");
        },
        "shard-00.sqlite: it was removed, or replaced",
        Data::Copied,
    ),
    (
        "a mark is removed",
        |data| fs::remove_file(data.join("shard-00.mark")).expect("it is there"),
        "shard-00.mark: it was removed",
        Data::Copied,
    ),
    (
        "shared memory is removed",
        |data| fs::remove_file(data.join("shard-00.sqlite-shm")).expect("it is there"),
        "shard-00.sqlite-shm: it was removed",
        Data::Copied,
    ),
    (
        "the directory is moved",
        |data| fs::rename(data, moved(data)).expect("it is one file system"),
        "The files are in ",
        Data::Moved,
    ),
    (
        "a journal is cut",
        |data| cut(&data.join("shard-00.sqlite-wal"), 0),
        "shard-00.sqlite-wal: it was truncated",
        Data::Gone,
    ),
    (
        "a journal is cut in its middle",
        |data| cut(&data.join("shard-00.sqlite-wal"), 5000),
        "shard-00.sqlite-wal: it was truncated",
        Data::Gone,
    ),
    (
        "a log is cut",
        |data| cut(&data.join("shard-00.sqlite"), 4096),
        "shard-00.sqlite: it was truncated",
        Data::Gone,
    ),
];

fn moved(data: &Path) -> PathBuf {
    data.with_file_name("moved")
}

fn cut(file: &Path, bytes: u64) {
    let file = File::options().write(true).open(file).expect("it is there");
    file.set_len(bytes).expect("it can be cut");
}

/// Sells one ticket of an event. Returns the status, unless the server has ended.
fn sell(customer: &Client, event: u64) -> Option<u16> {
    let path = format!("/api/v1/events/{event}/reservations");
    customer.try_post(&path, &json!({ "quantity": 1 })).ok().map(|answer| answer.status)
}

/// Sells `count` tickets of each event.
fn sell_some(customer: &Client, count: u64) {
    for event in EVENTS {
        for _ in 0..count {
            assert_eq!(sell(customer, event), Some(201));
        }
    }
}

/// The reserved tickets of each event, as a server on `data` shows them to a customer of another server.
fn reserved(data: &Path, customer: &Client) -> [u64; 2] {
    let server = Server::start(data, &["--shards", "2"]);
    customer.at(server.address).get("/api/v1/users/me").expect(200);
    EVENTS.map(|event| {
        let seen = server.client().get(&format!("/api/v1/events/{event}")).expect(200).json();
        number(&seen, "reserved")
    })
}

/// The path after `words` in the last line of a server.
fn path_after(log: &str, words: &str) -> PathBuf {
    let (_, path) = log.split_once(words).unwrap_or_else(|| panic!("no {words:?} in {log}"));
    PathBuf::from(path.split([':', ' ']).next().expect("split gives one part"))
}

/// Changes the files of a server that has sold tickets, and sells on until it ends: tickets of both events, or of the
/// one whose files are as they were.
fn check((name, change, reason, kept): Case, template: &Path, sells_both: bool) {
    let folder = TestFolder::new();
    let data = folder.path("data");
    copy_directory(template, &data);
    let server = Server::start(&data, &["--demo", "--shards", "2"]);
    let customer = server.client().log_in("cust1", support::PASSWORD);
    sell_some(&customer, 5);
    change(&data);
    let mut sold = [5, 5];
    let start = Instant::now();
    let events = if sells_both { 0..2 } else { 1..2 };
    'ends: loop {
        for event in events.clone() {
            match sell(&customer, EVENTS[event]) {
                Some(201) => sold[event] += 1,
                Some(status) => panic!("{name}: {status}"),
                None => break 'ends,
            }
        }
        assert!(start.elapsed() < SOON, "{name}: the server goes on");
    }
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(1), "{name}: {log}");
    assert!(log.contains(reason), "{name}: {log}");
    match kept {
        Data::Copied => {
            let copy = path_after(&log, "Everything that was acknowledged is in ");
            assert_eq!(copy, folder.path("data.saved-1"), "{name}: {log}");
            let secret = fs::metadata(copy.join("token-secret")).expect("it is copied");
            assert_eq!(secret.permissions().mode() & 0o777, 0o600, "{name}");
            check_sold(name, &copy, sold, &customer);
        }
        Data::Moved => {
            assert_eq!(path_after(&log, "The files are in "), moved(&data), "{name}: {log}");
            check_sold(name, &moved(&data), sold, &customer);
        }
        Data::Gone => {
            let Ended { code, stderr, .. } = run(serve(&data), "");
            assert_eq!(code, Some(1), "{name}: a server starts without {sold:?}");
            assert!(stderr.contains("shard-00.sqlite"), "{name}: {stderr}");
        }
    }
}

/// A sale that was not acknowledged may be there. The customer's token is still good.
fn check_sold(name: &str, data: &Path, sold: [u64; 2], customer: &Client) {
    for (event, (found, sold)) in reserved(data, customer).into_iter().zip(sold).enumerate() {
        assert!((sold..=sold + 1).contains(&found), "{name}: event {event} has {found} and sold {sold}");
    }
}

fn check_all(sells_both: bool) {
    let folder = TestFolder::new();
    let template = folder.path("template");
    let (status, log) = Stage::open(&template, 2).server.terminate();
    assert!(status.success(), "{log}");
    for case in CASES {
        check(case, &template, sells_both);
    }
}

#[test]
fn a_commit_to_changed_files_is_not_acknowledged() {
    check_all(true);
}

#[test]
fn changed_files_are_noticed_without_a_commit() {
    check_all(false);
}

/// To another file system, files are copied and removed.
#[test]
fn a_server_on_moved_files_has_the_sales_to_itself() {
    let folder = TestFolder::new();
    let [data, elsewhere] = ["data", "elsewhere"].map(|name| folder.path(name));
    let stage = Stage::open(&data, 2);
    sell_some(&stage.cust1, 5);
    copy_directory(&data, &elsewhere);
    fs::remove_dir_all(&data).expect("it is ours");
    let second = Server::start(&elsewhere, &["--shards", "2"]);
    let customer = stage.cust1.at(second.address);
    for event in EVENTS {
        assert_eq!(sell(&stage.cust1, event), None, "both servers sell event {event}");
        assert_eq!(sell(&customer, event), Some(201));
    }
    assert_eq!(stage.server.end().0.code(), Some(1));
    assert!(folder.path("data.saved-1/manifest.json").exists());
}

/// Its next commit would find it. Until then it would answer reads from what it knew.
#[test]
fn an_idle_server_whose_files_were_claimed_ends() {
    let folder = TestFolder::new();
    let [data, linked] = ["data", "linked"].map(|name| folder.path(name));
    let server = Server::start(&data, &["--shards", "2"]);
    DirBuilder::new().mode(0o700).create(&linked).expect("it is new");
    for entry in fs::read_dir(&data).expect("it is there") {
        let entry = entry.expect("it can be read");
        fs::hard_link(entry.path(), linked.join(entry.file_name())).expect("it is one file system");
    }
    let second = Server::start(&linked, &["--shards", "2"]);
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("another process claimed it in epoch 2, and this one, of epoch 1"), "{log}");
    assert!(log.contains(".sqlite"), "{log}");
    second.client().get("/readyz").expect(200);
}
