//! Jumps of the wall clock, before a start and while the server runs, by an hour and by ten years,
//! forward and back. Nothing is lost, no time of an event decreases, the server does not panic, and a
//! jump while it runs does not affect the times of sales.
//!
//! `cargo test --test clock -- --ignored`: libfaketime changes the clock of one process only.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use support::client::Client;
use support::server::{Server, serve};
use support::{PASSWORD, TestFolder, all_items, check_sums, create_event, number, reserve, text};

const HOUR: i64 = 3600;
const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR;

/// A clock whose offset is read from a file.
struct Clock {
    file: PathBuf,
    library: String,
}

impl Clock {
    fn without_offset(folder: &TestFolder) -> Clock {
        // The wrapper sets the path of the library, which the dynamic linker may complete.
        let output = Command::new("faketime").args(["-m", "now", "printenv", "LD_PRELOAD"]).output();
        let output = output.expect("faketime is installed");
        let library = String::from_utf8(output.stdout).expect("a path is text").trim().to_owned();
        assert!(library.contains("libfaketime"), "{library:?}");
        let clock = Clock { file: folder.path("clock"), library };
        clock.set(0);
        clock
    }

    fn set(&self, seconds: i64) {
        // Renamed into place, because libfaketime reads the file at every clock call.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n")).expect("the folder is ours");
        fs::rename(new, &self.file).expect("the folder is ours");
    }

    fn start(&self, data: &Path, shards: &str) -> Server {
        let mut command = serve(data);
        command
            .args(["--shards", shards])
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Server::spawn(command)
    }
}

/// The seconds by which a time from the server is ahead of this process's clock.
fn ahead(time: &str) -> i64 {
    let time: jiff::Timestamp = time.parse().expect("RFC 3339");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    time.as_second() - now.as_secs() as i64
}

/// The reservations made on an event.
struct Sales {
    event: u64,
    ids: Vec<String>,
}

impl Sales {
    fn sell(&mut self, customer: &Client) {
        self.ids.push(reserve(customer, self.event, 1));
    }

    /// Checks the server's reservations. Returns the seconds by which the newest one is ahead.
    fn check(&self, customer: &Client) -> i64 {
        let event = customer.get(&format!("/api/v1/events/{}", self.event)).expect(200).json();
        check_sums(&event);
        assert_eq!(number(&event, "reserved"), self.ids.len() as u64);
        let kept = all_items(customer, "/api/v1/reservations", 100);
        let kept: Vec<_> = kept.iter().filter(|item| item["event"] == self.event).collect();
        assert_eq!(kept.iter().map(|item| text(item, "id")).collect::<Vec<_>>(), self.ids);
        let times: Vec<i64> = kept
            .iter()
            .map(|item| {
                assert_eq!(item["status"], "confirmed", "{item}");
                let time: jiff::Timestamp = text(item, "created_at").parse().expect("RFC 3339");
                time.as_millisecond()
            })
            .collect();
        assert!(times.is_sorted(), "times decrease: {times:?}");
        ahead(text(kept.last().expect("sold"), "created_at"))
    }
}

#[test]
#[ignore = "needs faketime"]
fn clock_jumps_while_the_server_runs_change_nothing() {
    let folder = TestFolder::new();
    let data = folder.path("data");
    let clock = Clock::without_offset(&folder);
    let server = clock.start(&data, "2");
    let organizer = server.client().sign_up("grace", "organizer");
    server.client().sign_up("ada", "customer");
    let mut sales = Sales { event: create_event(&organizer, 100), ids: Vec::new() };
    for off in [0, HOUR, 0, -HOUR, 0, TEN_YEARS, 0, -TEN_YEARS, 0] {
        clock.set(off);
        // A new token each time, because tokens expire by the server's wall clock.
        let customer = server.client().log_in("ada", PASSWORD);
        sales.sell(&customer);
        // Each jump is undone before the server takes it for a correction of the clock.
        let newest = sales.check(&customer);
        assert!(newest.abs() < 60, "off by {off}: the newest sale is ahead by {newest} s");
        let metrics = customer.get("/metrics").expect(200);
        let line =
            metrics.text().lines().find_map(|line| line.strip_prefix("boxoffice_clock_difference_seconds "));
        let difference: f64 = line.expect("the metric is there").parse().expect("a number");
        assert!((difference - off.abs() as f64).abs() < 60.0, "off by {off}: {difference}");
    }
    assert!(server.stderr().contains("the wall clock jumped"), "{}", server.stderr());
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
    server.kill();
    let server = Server::start(&data, &["--shards", "1"]);
    let customer = server.client().log_in("ada", PASSWORD);
    sales.check(&customer);
    sales.sell(&customer);
    sales.check(&customer);
}

#[test]
#[ignore = "needs faketime"]
fn a_wrong_clock_at_a_start_changes_nothing() {
    let folder = TestFolder::new();
    let data = folder.path("data");
    let clock = Clock::without_offset(&folder);
    let mut sales = Sales { event: 0, ids: Vec::new() };
    let mut most_ahead = i64::MIN;
    // The first start is ten years behind.
    for (start, off) in
        [-TEN_YEARS, 0, HOUR, 0, -HOUR, 0, TEN_YEARS, 0, -TEN_YEARS, 0].into_iter().enumerate()
    {
        clock.set(off);
        let server = clock.start(&data, ["1", "2", "4", "3"][start % 4]);
        if start == 0 {
            server.client().sign_up("ada", "customer");
            sales.event = create_event(&server.client().sign_up("grace", "organizer"), 100);
        }
        let customer = server.client().log_in("ada", PASSWORD);
        if start > 0 {
            sales.check(&customer);
        }
        sales.sell(&customer);
        most_ahead = most_ahead.max(off);
        let newest = sales.check(&customer);
        assert!((newest - most_ahead).abs() < 600, "off by {off}: the newest sale is ahead by {newest} s");
        assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
        server.kill();
    }
}
