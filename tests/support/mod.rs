//! Shared support for tests of the real server: its process, clients and accounts.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod client;
pub(crate) mod crowd;
pub(crate) mod ledger;
pub(crate) mod random;
pub(crate) mod server;
pub(crate) mod small_disk;
pub(crate) mod tokens;

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

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

/// Runs a statement in the `sqlite3` shell and returns its output.
pub(crate) fn sqlite3(file: &Path, sql: &str) -> String {
    let output = Command::new("sqlite3").arg("-readonly").arg(file).arg(sql).output();
    let output = output.expect("sqlite3 is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("sqlite3 prints text")
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
