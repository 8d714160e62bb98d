//! Jumps of the wall clock, before a start and while the server runs, by an hour, ten years and a hundred,
//! forward and back. Nothing is lost, and the server does not panic. A jump while it runs does not affect
//! the times of sales, tokens, or when a hold ends. After a start with a wrong clock, the next sale has the right time again.
//!
//! `cargo test --test clock -- --ignored`: libfaketime changes the clock of one process only.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use shards::ids::EventId;
use shards::slots::slot_of_event;
use support::client::Client;
use support::holds::hold;
use support::server::{Server, serve};
use support::{PASSWORD, TestFolder, all_items, check_sums, create_event, number, reserve, sqlite3, text};

const HOUR: i64 = 3600;
const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR;
const CENTURY: i64 = 10 * TEN_YEARS;

/// The library that changes the clock of a process. The `faketime` command, which would name it, is not run: it makes
/// a semaphore and shared memory named by its process id, and can fail where many processes come and go.
fn library() -> PathBuf {
    let folders = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    let architectures =
        fs::read_dir("/usr/lib").expect("a Linux system has it").flatten().map(|entry| entry.path());
    let mut candidates =
        folders.into_iter().chain(architectures).map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    candidates.find(|path| path.exists()).expect("libfaketime is installed")
}

/// A clock whose offset is read from a file.
struct Clock {
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    fn without_offset(folder: &TestFolder) -> Clock {
        let library = library();
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

    /// Checks the server's reservations. Returns by how many seconds each is ahead.
    fn check(&self, customer: &Client) -> Vec<i64> {
        let event = customer.get(&format!("/api/v1/events/{}", self.event)).expect(200).json();
        check_sums(&event);
        assert_eq!(number(&event, "reserved"), self.ids.len() as u64);
        let kept = all_items(customer, "/api/v1/reservations", 100);
        let kept: Vec<_> = kept.iter().filter(|item| item["event"] == self.event).collect();
        assert_eq!(kept.iter().map(|item| text(item, "id")).collect::<Vec<_>>(), self.ids);
        let times = kept.iter().map(|item| {
            assert_eq!(item["status"], "confirmed", "{item}");
            ahead(text(item, "created_at"))
        });
        times.collect()
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
    let customer = server.client().log_in("ada", PASSWORD);
    for off in [0, HOUR, 0, -HOUR, 0, TEN_YEARS, 0, -TEN_YEARS, 0] {
        clock.set(off);
        sales.sell(&customer);
        // Each jump is undone before the server takes it for a correction of the clock.
        let times = sales.check(&customer);
        assert!(times.iter().all(|ahead| ahead.abs() < 60), "off by {off}: sales are ahead by {times:?} s");
        // A token of any moment is good in any other.
        server.client().log_in("ada", PASSWORD).get("/api/v1/users/me").expect(200);
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
#[ignore = "needs faketime and sqlite3"]
fn a_wrong_clock_at_a_start_is_over_with_the_next_start() {
    let folder = TestFolder::new();
    let data = folder.path("data");
    let clock = Clock::without_offset(&folder);
    let mut sales = Sales { event: 0, ids: Vec::new() };
    let mut offsets = Vec::new();
    let mut tokens: Vec<(i64, String)> = Vec::new();
    // The first start is ten years behind.
    for (start, off) in
        [-TEN_YEARS, 0, HOUR, 0, -HOUR, 0, TEN_YEARS, 0, CENTURY, 0, -TEN_YEARS, 0].into_iter().enumerate()
    {
        clock.set(off);
        let server = clock.start(&data, ["1", "2", "4", "3"][start % 4]);
        if start == 0 {
            server.client().sign_up("ada", "customer");
            sales.event = create_event(&server.client().sign_up("grace", "organizer"), 100);
        }
        let customer = server.client().log_in("ada", PASSWORD);
        // A token is good if this clock says that it was issued within the last 12 hours.
        tokens.push((off, customer.token.clone().expect("logged in")));
        for (issued, token) in &tokens {
            let is_good = (0..12 * HOUR).contains(&(off - issued));
            let status = server.client().with_token(token).get("/api/v1/users/me").status;
            assert_eq!(status == 200, is_good, "off by {off}, a token of {issued}: {status}");
        }
        for _ in 0..2 {
            sales.sell(&customer);
            offsets.push(off);
        }
        // What was sold with a wrong clock keeps its time, and everything else has the right one.
        let times = sales.check(&customer);
        let is_right = times.iter().zip(&offsets).all(|(ahead, off)| (ahead - off).abs() < 600);
        assert!(is_right, "off by {off}: sales are ahead by {times:?} s, and should be by {offsets:?} s");
        assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
        server.kill();
    }
    // The last sale of each start with a later clock than the next.
    let history = history(&data, sales.event);
    let set_back = history.iter().filter(|(kind, _)| kind == "time_set_back").count();
    assert_eq!(set_back, offsets.windows(2).filter(|pair| pair[1] < pair[0]).count(), "{history:?}");
    let sold = history.iter().filter(|(kind, _)| kind == "reserved");
    assert!(sold.zip(&offsets).all(|((_, ahead), off)| (ahead - off).abs() < 600), "{history:?}");
}

/// The records in the slot of an event, as the view `history` of any file shows them: the kind, and by how many
/// seconds the time is ahead.
fn history(data: &Path, event: u64) -> Vec<(String, i64)> {
    let mut rows = Vec::new();
    for file in fs::read_dir(data).expect("the folder is ours") {
        let path = file.expect("the folder is ours").path();
        if path.extension().is_some_and(|extension| extension == "sqlite") {
            let slot = slot_of_event(EventId(u32::try_from(event).expect("an id")));
            let lines = sqlite3(&path, &format!("SELECT lsn, kind, at FROM history WHERE slot = {slot}"));
            rows.extend(lines.lines().map(|line| {
                let [lsn, kind, at] = line.split('|').collect::<Vec<_>>()[..] else { panic!("{line}") };
                (lsn.parse::<u64>().expect("a number"), kind.to_owned(), ahead(at))
            }));
        }
    }
    rows.sort();
    rows.into_iter().map(|(_, kind, ahead)| (kind, ahead)).collect()
}

/// A server with an event and a customer, for holds.
struct House {
    server: Server,
    event: u64,
    customer: Client,
}

impl House {
    fn open(clock: &Clock, data: &Path) -> House {
        let server = clock.start(data, "2");
        let event = create_event(&server.client().sign_up("grace", "organizer"), 100);
        let customer = server.client().sign_up("ada", "customer");
        House { server, event, customer }
    }

    /// Kills the server and starts one with this clock.
    fn reopen(self, clock: &Clock, data: &Path, off: i64) -> House {
        self.server.kill();
        clock.set(off);
        let server = clock.start(data, "3");
        let customer = server.client().log_in("ada", PASSWORD);
        House { server, customer, ..self }
    }

    fn hold(&self, seconds: i64) -> String {
        hold(&self.customer, self.event, &json!({ "quantity": 1, "ttl_seconds": seconds }))
    }

    /// The status of a hold, and by how many seconds its end is ahead of the right clock.
    fn seen(&self, id: &str) -> (String, i64) {
        let seen = self.customer.get(&format!("/api/v1/reservations/{id}")).expect(200).json();
        (text(&seen, "status").to_owned(), ahead(text(&seen, "expires_at")))
    }

    /// Checks that a hold is live, and how many seconds it has left by a clock that is off by `off`.
    #[track_caller]
    fn expect_left(&self, id: &str, off: i64, left: std::ops::RangeInclusive<i64>) {
        let (status, ahead) = self.seen(id);
        assert!(
            status == "held" && left.contains(&(ahead - off)),
            "{id} is {status}, {} s left",
            ahead - off
        );
    }

    /// Waits until a hold is over, which it is within this time.
    #[track_caller]
    fn wait_for_end(&self, id: &str, within: Duration) {
        let until = Instant::now() + within;
        while self.seen(id).0 == "held" {
            assert!(Instant::now() < until, "{id} is still held");
            thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(self.seen(id).0, "expired");
    }
}

const A_BIT_MORE_THAN_10: Duration = Duration::from_secs(15);

#[test]
#[ignore = "needs faketime"]
fn a_clock_that_is_set_ends_no_hold_and_keeps_none() {
    thread::scope(|scope| {
        for off in [HOUR, -HOUR] {
            scope.spawn(move || {
                let folder = TestFolder::new();
                let clock = Clock::without_offset(&folder);
                let house = House::open(&clock, &folder.path("data"));
                let [long, before] = [600, 10].map(|seconds| house.hold(seconds));
                clock.set(off);
                let asked = Instant::now();
                let after = house.hold(10);
                // The clock is not believed yet, so the times are those of the right one.
                house.expect_left(&long, 0, 590..=600);
                house.expect_left(&before, 0, 0..=10);
                house.expect_left(&after, 0, 0..=10);
                house.wait_for_end(&before, A_BIT_MORE_THAN_10);
                house.wait_for_end(&after, A_BIT_MORE_THAN_10);
                assert!(asked.elapsed() >= Duration::from_secs(10), "it ended after {:?}", asked.elapsed());
                house.expect_left(&long, 0, 580..=600);
                assert!(!house.server.stderr().contains("panicked"), "{}", house.server.stderr());
            });
        }
    });
}

/// A hold has at least a minute after each start, and never more than the longest time of a hold; its end is shown by
/// the clock of this start. Also when holds of an earlier process ended at times that are still to come.
#[test]
#[ignore = "needs faketime"]
fn a_start_with_another_clock_ends_no_hold() {
    thread::scope(|scope| {
        for offsets in [[0, -HOUR, 0], [0, HOUR, -TEN_YEARS]] {
            scope.spawn(move || {
                let folder = TestFolder::new();
                let data = folder.path("data");
                let clock = Clock::without_offset(&folder);
                let mut house = House::open(&clock, &data);
                let first = house.hold(10);
                house.wait_for_end(&first, A_BIT_MORE_THAN_10);
                let [long, short] = [600, 10].map(|seconds| house.hold(seconds));
                for off in offsets {
                    house = house.reopen(&clock, &data, off);
                    house.expect_left(&long, off, 50..=1800);
                    house.expect_left(&short, off, 50..=1800);
                    let new = house.hold(300);
                    house.expect_left(&new, off, 295..=300);
                    assert_eq!(house.seen(&first).0, "expired");
                }
                let last = house.hold(10);
                house.wait_for_end(&last, A_BIT_MORE_THAN_10);
                house.expect_left(&long, offsets[2], 30..=1800);
                house.expect_left(&short, offsets[2], 30..=1800);
                assert!(!house.server.stderr().contains("panicked"), "{}", house.server.stderr());
            });
        }
    });
}

/// Once a correction of the clock is believed, the ends of holds are shown by it.
#[test]
#[ignore = "needs faketime"]
fn the_end_of_a_hold_is_shown_by_the_corrected_clock() {
    let folder = TestFolder::new();
    let clock = Clock::without_offset(&folder);
    clock.set(-HOUR);
    let house = House::open(&clock, &folder.path("data"));
    let before = house.hold(1800);
    house.expect_left(&before, -HOUR, 1795..=1800);
    clock.set(0);
    let set = Instant::now();
    while house.seen(&before).1 < 0 {
        assert!(set.elapsed() < Duration::from_secs(90), "the clock is not believed");
        thread::sleep(Duration::from_millis(500));
    }
    let passed = set.elapsed().as_secs() as i64;
    assert!(passed >= 55, "it was believed after {passed} s");
    house.expect_left(&before, 0, (1790 - passed)..=(1801 - passed));
    let after = house.hold(600);
    house.expect_left(&after, 0, 595..=600);
    let list = all_items(&house.customer, "/api/v1/reservations", 100);
    let ends: Vec<_> = list.iter().map(|item| ahead(text(item, "expires_at"))).collect();
    assert!(ends[0] <= 1801 - passed && (595..=600).contains(&ends[1]), "{list:?}");
}
