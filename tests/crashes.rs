//! Kills servers at random times under 64 clients, during recovery and during their first start, and
//! shuts them down with SIGTERM under load. After each, the state of the restarted server is compared
//! with a ledger of all requests and answers.
//!
//! `BOXOFFICE_KILLS`, `BOXOFFICE_KILLED_STARTS` and `BOXOFFICE_SHUTDOWNS` set the numbers of rounds.

mod support;

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::crowd::{CLIENTS, Crowd};
use support::keyed_sales::Retried;
use support::ledger::{Ledger, Shown, parts_of};
use support::random::{Random, rounds};
use support::server::{Server, kill_start, serve};
use support::{TestFolder, all_items, copy_directory, create_event, number, reserve, sqlite3, text};

const SHARD_COUNTS: [usize; 4] = [1, 2, 4, 3];

/// The number of rounds on one data directory, since the cost of a comparison grows with each.
const ROUNDS_PER_DIRECTORY: u64 = 25;

/// The maximum time until a server under load is killed.
const LOAD_MAX: Duration = Duration::from_millis(150);

/// A load after which recovery takes noticeable time.
const LONG_LOAD: Duration = Duration::from_secs(2);

fn start(data: &Path, shards: usize) -> Server {
    Server::start(data, &["--shards", &shards.to_string()])
}

/// A data directory, its ledger, and the crowd that uses both.
struct TestRun {
    folder: TestFolder,
    crowd: Crowd,
}

impl TestRun {
    fn begin(shards: usize) -> (TestRun, Server) {
        let folder = TestFolder::new();
        let data = folder.path("data");
        Crowd::create_admin(&data);
        let server = start(&data, shards);
        let crowd = Crowd::sign_up(&server, &folder.path("ledger"));
        (TestRun { folder, crowd }, server)
    }
}

/// Calls `round` repeatedly, each time with the server that the previous round returned.
fn repeat(
    rounds: u64,
    random: &mut Random,
    mut round: impl FnMut(&mut TestRun, Server, &mut Random) -> Server,
) {
    let mut previous = None;
    for number in 0..rounds {
        let (mut run, server) = match previous.take() {
            Some(previous) if !number.is_multiple_of(ROUNDS_PER_DIRECTORY) => previous,
            _ => TestRun::begin(random.pick(&SHARD_COUNTS)),
        };
        let server = round(&mut run, server, random);
        previous = Some((run, server));
    }
}

/// Kills servers under load, `rounds` times. `inspect` gets the files as the kill left them.
fn kill_under_load(rounds: u64, mut inspect: impl FnMut(&Path)) {
    let mut random = Random::seeded();
    let (mut answers, mut unknown, mut starts) = (0, 0, 0);
    let mut retried = Retried::default();
    repeat(rounds, &mut random, |run, server, random| {
        let data = run.folder.path("data");
        let delay = random.duration(LOAD_MAX);
        answers += run.crowd.run(server.address, random, delay, || server.kill());
        inspect(&data);
        let server = start(&data, random.pick(&SHARD_COUNTS));
        unknown += run.crowd.settle(&server).unknown;
        // A second recovery gives the same state.
        server.kill();
        let server = start(&data, random.pick(&SHARD_COUNTS));
        run.crowd.expect_the_same(&server);
        starts += 2;
        let Retried { replayed, new } = run.crowd.retry(&server);
        retried.replayed += replayed;
        retried.new += new;
        server
    });
    println!(
        "{rounds} kills under {CLIENTS} clients, {starts} starts: {answers} answers, {unknown} unknown outcomes, 0 failures"
    );
    println!("requests with keys that were sent again: {retried:?}");
    assert!(retried.replayed + retried.new > 0, "no request with a key was in flight");
    assert!(unknown > rounds as usize, "the kills hit no requests in flight");
    assert!(answers > 10 * rounds as usize, "there was no load");
}

#[test]
fn kills_under_load_lose_nothing() {
    kill_under_load(rounds("BOXOFFICE_KILLS", 15), |_| {});
}

/// Checks the files with SQLite's own integrity check; each start is the server's check.
#[test]
#[ignore = "needs sqlite3"]
fn kills_under_load_leave_whole_files() {
    let copies = TestFolder::new();
    kill_under_load(rounds("BOXOFFICE_KILLS", 10), |data| {
        // On a copy, since opening the files could repair them.
        let copy = copies.path("data");
        copy_directory(data, &copy);
        let mut checked = 0;
        for shard in 0..4 {
            let file = copy.join(format!("shard-{shard:02}.sqlite"));
            if file.exists() {
                assert_eq!(sqlite3(&file, "PRAGMA integrity_check").trim(), "ok", "{}", file.display());
                checked += 1;
            }
        }
        assert!(checked > 0, "no files");
    });
}

/// Starts a server and measures the time until it is ready.
fn timed_start(data: &Path, shards: usize) -> (Duration, Server) {
    let start_time = Instant::now();
    let server = start(data, shards);
    (start_time.elapsed(), server)
}

/// Starts that were killed. The time within which they are killed shrinks with each kill that came after
/// readiness and grows with each that came before, so that kills reach every part of a start, however loaded
/// the machine was when one was measured.
struct KilledStarts {
    /// How long a start took that was not killed.
    most: Duration,
    within: Duration,
    kills: usize,
    /// Kills before the server was ready.
    unready: usize,
}

impl KilledStarts {
    fn new(most: Duration) -> KilledStarts {
        KilledStarts { most, within: most, kills: 0, unready: 0 }
    }

    /// Kills one to three starts on `data`.
    fn kill(&mut self, data: &Path, random: &mut Random) {
        for _ in 0..random.within(1, 3) {
            let mut command = serve(data);
            command.args(["--shards", &random.pick(&SHARD_COUNTS).to_string()]);
            self.kills += 1;
            if kill_start(command, random.duration(self.within)) {
                self.within = self.within * 3 / 4;
            } else {
                self.within = (self.within * 9 / 8).min(self.most * 2);
                self.unready += 1;
            }
        }
    }

    fn report(&self, rounds: u64) {
        let KilledStarts { kills, unready, .. } = self;
        println!("{rounds} rounds, {kills} kills, {unready} of them before it was ready, 0 failures");
        assert!(unready * 2 > *kills, "the kills came too late");
    }
}

#[test]
fn kills_during_recovery_lose_nothing() {
    let rounds = rounds("BOXOFFICE_KILLED_STARTS", 20) / 2;
    let mut random = Random::seeded();
    let (mut run, server) = TestRun::begin(2);
    let (data, left) = (run.folder.path("data"), run.folder.path("as the kill left it"));
    run.crowd.run(server.address, &mut random, LONG_LOAD, || server.kill());
    copy_directory(&data, &left);
    let (most, server) = timed_start(&data, 2);
    println!("{} without a kill, {} ms", server.greeting, most.as_millis());
    run.crowd.settle(&server);
    server.kill();
    let mut killed = KilledStarts::new(most);
    for _ in 0..rounds {
        copy_directory(&left, &data);
        killed.kill(&data, &mut random);
        let server = start(&data, random.pick(&SHARD_COUNTS));
        run.crowd.expect_the_same_but_for_times(&server);
    }
    killed.report(rounds);
}

#[test]
fn kills_during_a_first_start_do_not_prevent_the_next() {
    let rounds = rounds("BOXOFFICE_KILLED_STARTS", 20) / 2;
    let mut random = Random::seeded();
    let first = TestFolder::new();
    let (most, server) = timed_start(&first.path("data"), 2);
    server.kill();
    let mut killed = KilledStarts::new(most);
    for _ in 0..rounds {
        let folder = TestFolder::new();
        let data = folder.path("data");
        killed.kill(&data, &mut random);
        let server = start(&data, random.pick(&SHARD_COUNTS));
        let customer = server.client().sign_up("ada", "customer");
        let event = create_event(&server.client().sign_up("grace", "organizer"), 10);
        let id = reserve(&customer, event, 2);
        server.kill();
        let server = start(&data, random.pick(&SHARD_COUNTS));
        let customer = server.client().with_token(customer.token.as_deref().expect("logged in"));
        let kept = all_items(&customer, "/api/v1/reservations", 100);
        assert_eq!(kept.iter().map(|item| text(item, "id")).collect::<Vec<_>>(), [id]);
    }
    killed.report(rounds);
}

#[test]
fn shutdowns_under_load_answer_everything_that_was_done() {
    let rounds = rounds("BOXOFFICE_SHUTDOWNS", 10);
    let mut random = Random::seeded();
    let (mut answers, mut not_ready, mut unknown) = (0, 0, 0);
    repeat(rounds, &mut random, |run, server, random| {
        let data = run.folder.path("data");
        let delay = random.duration(LOAD_MAX);
        answers += run.crowd.run(server.address, random, delay, || not_ready += server.drain());
        let counts = run.crowd.ledger.counts();
        unknown += counts.unknown;
        // A request without an answer must not have been carried out.
        run.crowd.ledger.mark_unknown_as_not_done();
        let server = start(&data, random.pick(&SHARD_COUNTS));
        run.crowd.settle(&server);
        server
    });
    println!(
        "{rounds} shutdowns under {CLIENTS} clients: {answers} answers, {not_ready} times not ready, \
         {unknown} requests too late, 0 failures"
    );
    assert!(answers > 10 * rounds as usize, "there was no load");
}

/// After SIGTERM the server waits for requests in flight; a second SIGTERM ends it at once.
#[test]
fn a_second_sigterm_ends_at_once() {
    let folder = TestFolder::new();
    let server = start(&folder.path("data"), 2);
    let mut slow = server.wire();
    // The body never arrives, so a request is in flight until its timeout.
    slow.send("POST /api/v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        .expect("the server listens");
    server.wire().ask("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").expect(200);
    server.signal_to_end();
    while !server.stderr().contains("draining") {
        thread::sleep(Duration::from_millis(1));
    }
    let second = Instant::now();
    let (status, log) = server.terminate();
    assert_eq!(status.code(), Some(128 + 15), "{log}");
    assert!(log.contains("stopping at once"), "{log}");
    println!("ended {} ms after the second", second.elapsed().as_millis());
}

/// A description, the expected message, and the change to a correct state.
type Corruption<'a> = (&'a str, &'a str, &'a dyn Fn(&mut Shown));

/// What the crowd has done, to be corrupted: ids of reservations, events and orders of two or more parts.
struct Samples {
    confirmed: String,
    held: String,
    cancelled: String,
    reduced: String,
    /// The event of the confirmed reservation.
    event: u64,
    deleted: u64,
    transferred: String,
    /// What a transfer of a part made.
    part: String,
    /// Confirmed, held and cancelled.
    orders: [String; 3],
}

impl Samples {
    /// `None` if the crowd has not done everything yet.
    fn find(ledger: &Ledger, shown: &Shown) -> Option<Samples> {
        let is_live = |seen: &Value| shown.events.contains_key(&number(seen, "event"));
        let find = |status: &str| {
            let mut all = shown.reservations.iter();
            all.find(|(_, seen)| seen["status"] == status && is_live(seen)).map(|(id, _)| id.clone())
        };
        let find_order = |status: &str| {
            let mut all = shown.orders.iter().filter(|(_, seen)| parts_of(seen).len() > 1);
            all.rfind(|(_, seen)| seen["status"] == status).map(|(id, _)| id.clone())
        };
        let confirmed = find("confirmed")?;
        let (transferred, part) = ledger.transferred()?;
        Some(Samples {
            event: number(&shown.reservations[&confirmed], "event"),
            confirmed,
            held: find("held")?,
            cancelled: find("cancelled")?,
            reduced: ledger.reduced()?,
            deleted: *shown.deleted.first()?,
            transferred,
            part,
            orders: [find_order("confirmed")?, find_order("held")?, find_order("cancelled")?],
        })
    }
}

/// Checks that the ledger, on which the tests above rely, detects each kind of wrong state.
#[test]
fn the_ledger_detects_wrong_states() {
    let mut random = Random::seeded();
    let (mut run, mut server) = TestRun::begin(1);
    // Until the crowd has done everything that is corrupted below.
    let mut rounds = 0..30;
    let (shown, samples) = loop {
        rounds.next().expect("the crowd does everything");
        run.crowd.run(server.address, &mut random, Duration::from_secs(1), || server.kill());
        server = start(&run.folder.path("data"), 2);
        run.crowd.settle(&server);
        let shown = run.crowd.read_all(&server);
        if let Some(samples) = Samples::find(&run.crowd.ledger, &shown) {
            break (shown, samples);
        }
    };
    let ledger = &run.crowd.ledger;
    ledger.settle(&shown);
    let Samples { confirmed, held, cancelled, reduced, event, deleted, transferred, part, orders } = samples;
    let [order, held_order, cancelled_order] = orders;
    let set_status = |shown: &mut Shown, order: &str, status: &str| {
        let seen = shown.orders.get_mut(order).expect("there");
        seen["status"] = json!(status);
        for part in seen["reservations"].as_array_mut().expect("a list") {
            part["status"] = json!(status);
        }
    };
    let corruptions: [Corruption<'_>; 21] = [
        ("a sale is missing", "was acknowledged and is lost", &|shown| {
            shown.reservations.remove(&confirmed);
        }),
        ("a sale has another quantity", "is another", &|shown| {
            shown.reservations.get_mut(&confirmed).expect("there")["quantity"] = json!(5);
        }),
        ("a part that was given back is there again", "is another", &|shown| {
            let seen = shown.reservations.get_mut(&reduced).expect("there");
            seen["quantity"] = json!(number(seen, "quantity") + 1);
        }),
        ("a transfer is undone", "is another", &|shown| {
            let seen = shown.reservations.get_mut(&transferred).expect("there");
            seen.as_object_mut().expect("an object").remove("customer_ref");
            seen["customer"] = json!(999_999);
        }),
        ("a part that was transferred is missing", "was acknowledged and is lost", &|shown| {
            shown.reservations.remove(&part);
        }),
        ("a sale that no client requested", "no client requested", &|shown| {
            let more = shown.reservations[&confirmed].clone();
            shown.reservations.insert(format!("{event}-999999"), more);
        }),
        ("a cancel is undone", "was acknowledged", &|shown| {
            shown.reservations.get_mut(&cancelled).expect("there")["status"] = json!("confirmed");
        }),
        ("a cancel that no client requested", "no client requested this status", &|shown| {
            shown.reservations.get_mut(&confirmed).expect("there")["status"] = json!("cancelled");
        }),
        ("a hold is confirmed that nobody confirmed", "no client requested this status", &|shown| {
            shown.reservations.get_mut(&held).expect("there")["status"] = json!("confirmed");
        }),
        ("a hold has ended", "no client requested this status", &|shown| {
            shown.reservations.get_mut(&held).expect("there")["status"] = json!("expired");
        }),
        ("tickets were released twice", "the list and the sum differ", &|shown| {
            let seen = shown.events.get_mut(&event).expect("there");
            seen["reserved"] = json!(number(seen, "reserved") - 1);
            seen["remaining"] = json!(number(seen, "remaining") + 1);
        }),
        ("an event is missing", "is lost", &|shown| {
            shown.events.remove(&event);
        }),
        ("a quota was not edited", "its quota was acknowledged", &|shown| {
            let seen = shown.events.get_mut(&event).expect("there");
            seen["quota"] = json!(number(seen, "quota") + 1);
            seen["remaining"] = json!(number(seen, "remaining") + 1);
        }),
        ("a deletion is undone", "its deletion was acknowledged", &|shown| {
            shown.deleted.remove(&deleted);
        }),
        ("an order is missing", "was acknowledged and is lost", &|shown| {
            shown.orders.remove(&order);
        }),
        ("a part of an order is missing", "was acknowledged and is lost", &|shown| {
            shown.reservations.remove(text(&parts_of(&shown.orders[&order])[1], "id"));
        }),
        ("a part of an order was not confirmed", "the parts of an order differ", &|shown| {
            shown.orders.get_mut(&order).expect("there")["reservations"][1]["status"] = json!("held");
        }),
        ("an order was made twice", "no client ordered", &|shown| {
            let more = shown.orders[&order].clone();
            shown.orders.insert("999999-1".to_owned(), more);
        }),
        ("a held order is confirmed that nobody confirmed", "no client requested this status", &|shown| {
            set_status(shown, &held_order, "confirmed");
            for part in parts_of(&shown.orders[&held_order]) {
                shown.reservations.get_mut(text(part, "id")).expect("there")["status"] = json!("confirmed");
            }
        }),
        ("the cancel of an order is undone", "no client requested this status", &|shown| {
            set_status(shown, &cancelled_order, "confirmed");
            for part in parts_of(&shown.orders[&cancelled_order]) {
                shown.reservations.get_mut(text(part, "id")).expect("there")["status"] = json!("confirmed");
            }
        }),
        ("an account is missing", "is lost", &|shown| {
            shown.accounts.pop_last();
        }),
    ];
    for (name, wanted, corrupt) in corruptions {
        let mut shown = shown.clone();
        corrupt(&mut shown);
        let caught = std::panic::catch_unwind(AssertUnwindSafe(|| ledger.settle(&shown)));
        let panic = caught.err().unwrap_or_else(|| panic!("not detected: {name}"));
        let message = panic.downcast_ref::<String>().map_or("", String::as_str);
        assert!(message.contains(wanted), "{name}: {message}");
    }
}
