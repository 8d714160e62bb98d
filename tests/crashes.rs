//! Servers killed at random moments under 64 clients, during recovery, and during their first
//! start; and ended by SIGTERM. After each, what they show is compared with a ledger of what
//! every client asked for and was told.
//!
//! `BOXOFFICE_KILLS`, `BOXOFFICE_KILLED_STARTS` and `BOXOFFICE_SHUTDOWNS` set other numbers of rounds.

mod support;

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use support::crowd::{CLIENTS, Crowd};
use support::ledger::Shown;
use support::random::{Random, rounds};
use support::server::{Server, kill_start, serve};
use support::{Evidence, all_items, copy_directory, create_event, number, reserve, sqlite3, text};

const SHARD_COUNTS: [usize; 4] = [1, 2, 4, 3];

/// A directory serves for so long: what is compared grows with every round.
const ROUNDS_A_LIFE: u64 = 25;

/// Within which a crowd's work is ended.
const RUSH_MAX: Duration = Duration::from_millis(150);

/// Leaves as many records as take some time to recover.
const LONG_RUSH: Duration = Duration::from_secs(2);

fn start(data: &Path, shards: usize) -> Server {
    Server::start(data, &["--shards", &shards.to_string()])
}

/// Its data, its ledger, and the crowd that wrote both.
struct Life {
    folder: Evidence,
    crowd: Crowd,
}

impl Life {
    fn begin(shards: usize) -> (Life, Server) {
        let folder = Evidence::folder();
        let data = folder.path("data");
        Crowd::admit(&data);
        let server = start(&data, shards);
        let crowd = Crowd::found(&server, &folder.path("ledger"));
        (Life { folder, crowd }, server)
    }
}

/// Runs `round` again and again, with the server that the one before left behind.
fn in_lives(
    rounds: u64,
    random: &mut Random,
    mut round: impl FnMut(&mut Life, Server, &mut Random) -> Server,
) {
    let mut life = None;
    for number in 0..rounds {
        let (mut current, server) = match life.take() {
            Some(life) if !number.is_multiple_of(ROUNDS_A_LIFE) => life,
            _ => Life::begin(random.pick(&SHARD_COUNTS)),
        };
        let server = round(&mut current, server, random);
        life = Some((current, server));
    }
}

/// Kills under load, `rounds` times. `inspect` sees the files as the kill left them.
fn kill_under_load(rounds: u64, mut inspect: impl FnMut(&Path)) {
    let mut random = Random::seeded();
    let (mut answers, mut unknown, mut starts) = (0, 0, 0);
    in_lives(rounds, &mut random, |life, server, random| {
        let data = life.folder.path("data");
        let delay = random.duration(RUSH_MAX);
        answers += life.crowd.rush(server.address, random, delay, || server.kill());
        inspect(&data);
        let server = start(&data, random.pick(&SHARD_COUNTS));
        unknown += life.crowd.settle(&server).unknown;
        // What is live is what is replayed.
        server.kill();
        let server = start(&data, random.pick(&SHARD_COUNTS));
        life.crowd.expect_the_same(&server);
        starts += 2;
        server
    });
    println!(
        "{rounds} kills under {CLIENTS} clients, {starts} starts: {answers} answers, {unknown} unknown outcomes, 0 failures"
    );
    assert!(unknown > rounds as usize, "the kills met nothing under way");
    assert!(answers > 10 * rounds as usize, "there was no load");
}

#[test]
fn kills_under_load_lose_nothing() {
    kill_under_load(rounds("BOXOFFICE_KILLS", 15), |_| {});
}

/// SQLite's own opinion of the files; that of the server is each of its starts.
#[test]
#[ignore = "needs sqlite3"]
fn kills_under_load_leave_whole_files() {
    let copies = Evidence::folder();
    kill_under_load(rounds("BOXOFFICE_KILLS", 10), |data| {
        // A look at the files themselves could mend them.
        let copy = copies.path("data");
        copy_directory(data, &copy);
        let mut looked = 0;
        for shard in 0..4 {
            let file = copy.join(format!("shard-{shard:02}.sqlite"));
            if file.exists() {
                assert_eq!(sqlite3(&file, "PRAGMA integrity_check").trim(), "ok", "{}", file.display());
                looked += 1;
            }
        }
        assert!(looked > 0, "no files");
    });
}

/// How long a start takes until it is ready, and the server.
fn timed_start(data: &Path, shards: usize) -> (Duration, Server) {
    let start_time = Instant::now();
    let server = start(data, shards);
    (start_time.elapsed(), server)
}

/// Starts that were killed. The time within which they are killed shrinks with each kill that came after
/// readiness, so that most come before it, however loaded the machine was when it was measured.
struct KilledStarts {
    within: Duration,
    kills: usize,
    /// Kills before the server was ready.
    unready: usize,
}

impl KilledStarts {
    /// `within` is how long a start takes that is not killed.
    fn new(within: Duration) -> KilledStarts {
        KilledStarts { within, kills: 0, unready: 0 }
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
    let (mut life, server) = Life::begin(2);
    let (data, left) = (life.folder.path("data"), life.folder.path("as the kill left it"));
    life.crowd.rush(server.address, &mut random, LONG_RUSH, || server.kill());
    copy_directory(&data, &left);
    let (most, server) = timed_start(&data, 2);
    println!("{} without a kill, {} ms", server.greeting, most.as_millis());
    life.crowd.settle(&server);
    server.kill();
    let mut killed = KilledStarts::new(most);
    for _ in 0..rounds {
        copy_directory(&left, &data);
        killed.kill(&data, &mut random);
        let server = start(&data, random.pick(&SHARD_COUNTS));
        life.crowd.expect_the_same(&server);
    }
    killed.report(rounds);
}

#[test]
fn kills_during_a_first_start_leave_nothing_in_the_way() {
    let rounds = rounds("BOXOFFICE_KILLED_STARTS", 20) / 2;
    let mut random = Random::seeded();
    let first = Evidence::folder();
    let (most, server) = timed_start(&first.path("data"), 2);
    server.kill();
    let mut killed = KilledStarts::new(most);
    for _ in 0..rounds {
        let folder = Evidence::folder();
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
fn shutdowns_under_load_answer_all_that_they_do() {
    let rounds = rounds("BOXOFFICE_SHUTDOWNS", 10);
    let mut random = Random::seeded();
    let (mut answers, mut not_ready, mut unknown) = (0, 0, 0);
    in_lives(rounds, &mut random, |life, server, random| {
        let data = life.folder.path("data");
        let delay = random.duration(RUSH_MAX);
        answers += life.crowd.rush(server.address, random, delay, || not_ready += server.drain());
        let counts = life.crowd.ledger.counts();
        unknown += counts.unknown;
        // Whoever got no answer was not served either.
        life.crowd.ledger.nothing_unknown_was_done();
        let server = start(&data, random.pick(&SHARD_COUNTS));
        life.crowd.settle(&server);
        server
    });
    println!(
        "{rounds} shutdowns under {CLIENTS} clients: {answers} answers, {not_ready} times not ready, \
         {unknown} came too late, 0 failures"
    );
    assert!(answers > 10 * rounds as usize, "there was no load");
}

/// SIGTERM waits for requests under way; who is in a hurry sends another.
#[test]
fn a_second_sigterm_ends_at_once() {
    let folder = Evidence::folder();
    let server = start(&folder.path("data"), 2);
    let mut slow = server.wire();
    // A body that never comes: something is under way for as long as the server has patience.
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

/// What it is, what has to be said about it, and how it is told.
type Lie<'a> = (&'a str, &'a str, &'a dyn Fn(&mut Shown));

/// What the rounds above rest on.
#[test]
fn a_ledger_finds_whatever_is_not_as_it_was_told() {
    let mut random = Random::seeded();
    let (mut life, server) = Life::begin(1);
    life.crowd.rush(server.address, &mut random, Duration::from_millis(500), || server.kill());
    let server = start(&life.folder.path("data"), 2);
    life.crowd.settle(&server);
    let ledger = &life.crowd.ledger;
    let shown = life.crowd.look(&server);
    ledger.settle(&shown);
    let find = |status: &str| {
        let mut all = shown.reservations.iter();
        let found = all
            .find(|(_, seen)| seen["status"] == status && shown.events.contains_key(&number(seen, "event")));
        found.expect("the crowd did both").0.clone()
    };
    let (confirmed, cancelled) = (find("confirmed"), find("cancelled"));
    let event = number(&shown.reservations[&confirmed], "event");
    let deleted = *shown.deleted.first().expect("the crowd deletes");
    let lies: [Lie<'_>; 10] = [
        ("a sale is gone", "was acknowledged, and is lost", &|shown| {
            shown.reservations.remove(&confirmed);
        }),
        ("a sale has another quantity", "is another", &|shown| {
            shown.reservations.get_mut(&confirmed).expect("there")["quantity"] = json!(5);
        }),
        ("a sale that nobody made", "nobody asked for", &|shown| {
            let more = shown.reservations[&confirmed].clone();
            shown.reservations.insert(format!("{event}-999999"), more);
        }),
        ("a cancel is undone", "was acknowledged", &|shown| {
            shown.reservations.get_mut(&cancelled).expect("there")["status"] = json!("confirmed");
        }),
        ("a cancel that nobody made", "nobody did that", &|shown| {
            shown.reservations.get_mut(&confirmed).expect("there")["status"] = json!("cancelled");
        }),
        ("tickets came back twice", "the list and the sum differ", &|shown| {
            let seen = shown.events.get_mut(&event).expect("there");
            seen["reserved"] = json!(number(seen, "reserved") - 1);
            seen["remaining"] = json!(number(seen, "remaining") + 1);
        }),
        ("an event is gone", "is lost", &|shown| {
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
        ("an account is gone", "is lost", &|shown| {
            shown.accounts.pop_last();
        }),
    ];
    for (what, said, lie) in lies {
        let mut shown = shown.clone();
        lie(&mut shown);
        let caught = std::panic::catch_unwind(AssertUnwindSafe(|| ledger.settle(&shown)));
        let panic = caught.err().unwrap_or_else(|| panic!("not found: {what}"));
        let message = panic.downcast_ref::<String>().map_or("", String::as_str);
        assert!(message.contains(said), "{what}: {message}");
    }
}
