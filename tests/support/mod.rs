//! Shared support for tests of the real server: its process, clients and accounts.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod api_keys;
pub(crate) mod client;
pub(crate) mod crowd;
pub(crate) mod holds;
pub(crate) mod keyed_sales;
pub(crate) mod keys;
pub(crate) mod ledger;
pub(crate) mod random;
pub(crate) mod server;
pub(crate) mod small_disk;
pub(crate) mod tokens;

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use serde_json::{Value, json};
use tempfile::TempDir;

use client::Client;
use server::Server;

/// The password of all accounts that `GET /api/v1/pop` creates.
pub(crate) const PASSWORD: &str = "boxoffice-demo";

/// A temporary folder that is kept, and whose path is printed, if the test fails.
pub(crate) struct TestFolder(TempDir);

impl TestFolder {
    pub(crate) fn new() -> TestFolder {
        TestFolder(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.disable_cleanup(true);
            eprintln!("kept: {}", self.0.path().display());
        }
    }
}

/// Replaces the contents of `to` with those of `from`.
pub(crate) fn copy_directory(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).expect("it is ours");
    }
    DirBuilder::new().mode(0o700).create(to).expect("it is gone");
    for entry in fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it can be read");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("there is room");
    }
}

/// Checks that a start and a comparison with a ledger find a loss, as controls must. Returns what was found.
pub(crate) fn expect_a_loss(start_and_compare: impl FnOnce()) -> String {
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(start_and_compare));
    let panic = found.expect_err("nothing was lost, so this test proves nothing");
    let message = panic.downcast_ref::<String>().map_or("", String::as_str);
    // The start may also be refused, because the mark file shows that records are missing.
    let expected = ["is lost", "was acknowledged", "the server did not start"];
    assert!(expected.iter().any(|text| message.contains(text)), "{message}");
    message.lines().next().unwrap_or("").to_owned()
}

/// Runs a statement in the `sqlite3` shell and returns its output.
pub(crate) fn sqlite3(file: &Path, sql: &str) -> String {
    let output = Command::new("sqlite3").arg("-readonly").arg(file).arg(sql).output();
    let output = output.expect("sqlite3 is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("sqlite3 prints text")
}

/// The byte of SQLite's shared memory that a writer has locked (<https://sqlite.org/walformat.html#locks>).
const WRITE_LOCK: i64 = 120;

/// The byte that a reader has locked which reads the log's journal up to some frame.
const READ_LOCK: i64 = 124;

/// A lock on a shard's log.
pub(crate) struct LogLock(#[expect(dead_code, reason = "closing it releases the lock")] File);

impl LogLock {
    /// The lock of a writer, as `BEGIN IMMEDIATE` in a `sqlite3` shell takes it.
    pub(crate) fn write(data: &Path, shard: usize) -> LogLock {
        LogLock::take(data, shard, WRITE_LOCK, libc::F_WRLCK)
    }

    /// The lock of a reader, as `BEGIN` and a `SELECT` take it.
    pub(crate) fn read(data: &Path, shard: usize) -> LogLock {
        LogLock::take(data, shard, READ_LOCK, libc::F_RDLCK)
    }

    fn take(data: &Path, shard: usize, byte: i64, kind: i32) -> LogLock {
        let path = data.join(format!("shard-{shard:02}.sqlite-shm"));
        let shared_memory = File::options().read(true).write(true).open(path);
        let shared_memory = shared_memory.expect("a server has opened it, and was not ended in order");
        let lock = libc::flock {
            l_type: kind as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: byte,
            l_len: 1,
            l_pid: 0,
        };
        fcntl(&shared_memory, FcntlArg::F_SETLKW(&lock)).expect("a server has the lock for moments only");
        LogLock(shared_memory)
    }
}

/// A server with the demonstration data, and a client for each of its accounts.
pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) anyone: Client,
    pub(crate) admin: Client,
    pub(crate) org1: Client,
    pub(crate) org2: Client,
    pub(crate) cust1: Client,
    pub(crate) cust2: Client,
}

impl Stage {
    /// Starts a server on `data`, which is empty or was used for a stage before.
    pub(crate) fn open(data: &Path, shards: usize) -> Stage {
        Stage::on(Server::start(data, &["--demo", "--shards", &shards.to_string()]))
    }

    /// Uses a server that was started with `--demo`.
    pub(crate) fn on(server: Server) -> Stage {
        let anyone = server.client();
        let made = anyone.get("/api/v1/pop");
        assert!([200, 304].contains(&made.status), "{made:?}");
        Stage::again(server)
    }

    /// Uses a server whose directory was used for a stage before. Changes nothing.
    pub(crate) fn again(server: Server) -> Stage {
        let anyone = server.client();
        let [admin, org1, org2, cust1, cust2] =
            ["admin", "org1", "org2", "cust1", "cust2"].map(|name| anyone.log_in(name, PASSWORD));
        Stage { server, anyone, admin, org1, org2, cust1, cust2 }
    }

    /// Creates an event of org1 and returns its id.
    pub(crate) fn event(&self, quota: u64) -> u64 {
        create_event(&self.org1, quota)
    }

    /// Makes a reservation of cust1 and returns its id.
    pub(crate) fn reservation(&self, event: u64, quantity: u64) -> String {
        reserve(&self.cust1, event, quantity)
    }

    /// Reads an event without a token and checks its sums.
    pub(crate) fn seen(&self, event: u64) -> Value {
        let seen = self.anyone.get(&format!("/api/v1/events/{event}")).expect(200).json();
        check_sums(&seen);
        seen
    }
}

pub(crate) fn create_event(organizer: &Client, quota: u64) -> u64 {
    let body = json!({ "name": "An evening", "quota": quota });
    let made = organizer.post("/api/v1/events", &body).expect(201).json();
    check_sums(&made);
    number(&made, "id")
}

pub(crate) fn reserve(customer: &Client, event: u64, quantity: u64) -> String {
    let path = format!("/api/v1/events/{event}/reservations");
    let made = customer.post(&path, &json!({ "quantity": quantity })).expect(201).json();
    text(&made, "id").to_owned()
}

/// Reads `/metrics` until the page has these lines: sums over events and accounts are a moment old. Returns the
/// page, and how often it was read.
pub(crate) fn metrics_once(client: &Client, lines: &[&str]) -> (String, u64) {
    let until = Instant::now() + Duration::from_secs(30);
    for reads in 1.. {
        let page = client.get("/metrics").expect(200).text().to_owned();
        if lines.iter().all(|line| page.lines().any(|other| other == *line)) {
            return (page, reads);
        }
        assert!(Instant::now() < until, "no {lines:?} in {page}");
        thread::sleep(Duration::from_millis(20));
    }
    unreachable!("it returns or panics")
}

/// Checks that `quota = reserved + held + remaining`.
pub(crate) fn check_sums(event: &Value) {
    let sum = number(event, "reserved") + number(event, "held") + number(event, "remaining");
    assert_eq!(number(event, "quota"), sum, "{event}");
}

pub(crate) fn number(body: &Value, member: &str) -> u64 {
    body[member].as_u64().unwrap_or_else(|| panic!("no number {member} in {body}"))
}

pub(crate) fn text<'a>(body: &'a Value, member: &str) -> &'a str {
    body[member].as_str().unwrap_or_else(|| panic!("no text {member} in {body}"))
}

/// Reads all items of a list, following `next` from page to page.
pub(crate) fn all_items(client: &Client, path: &str, limit: usize) -> Vec<Value> {
    let separator = if path.contains('?') { '&' } else { '?' };
    let mut address = format!("{path}{separator}limit={limit}");
    let mut items = Vec::new();
    loop {
        let answer = client.get(&address).expect(200);
        let page = answer.json();
        let on_page = page["items"].as_array().expect("a page has items");
        assert!(on_page.len() <= limit, "{address}: {} items", on_page.len());
        items.extend_from_slice(on_page);
        let link = answer.header("link");
        match page["next"].as_str() {
            Some(next) => {
                assert_eq!(on_page.len(), limit, "{address}: a page before the last is full");
                address = format!("{path}{separator}limit={limit}&after={next}");
                assert_eq!(link, Some(&*format!("<{address}>; rel=\"next\"")));
            }
            None => {
                assert!(page["next"].is_null() && link.is_none(), "{address}: {page}, {link:?}");
                return items;
            }
        }
    }
}
