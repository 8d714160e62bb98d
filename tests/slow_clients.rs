//! Clients that take their time: each is told so or left, and nobody else waits for them.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use support::client::{Wire, request};
use support::server::Server;
use support::{Stage, create_event, number};
use tempfile::tempdir;

const PING: &str = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";

/// Of the head, the body's grace, idleness and stalls, in the tests that wait for them.
const PATIENCE: Duration = Duration::from_millis(600);
const SHORT: [&str; 8] =
    ["--head-timeout", "0.6", "--body-grace", "0.6", "--idle-timeout", "0.6", "--stall-timeout", "0.6"];

/// A slow client that is still there after this is one that the server has forgotten.
const FORGOTTEN: Duration = Duration::from_secs(30);

fn memory(arguments: &[&str]) -> Server {
    let mut all = vec!["--storage", "memory", "--shards", "2"];
    all.extend_from_slice(arguments);
    Server::start(Path::new("."), &all)
}

/// What a client sends: `first` at once, then `drop` again and again until something comes back.
struct Manner {
    first: String,
    drop: String,
    drops_max: usize,
    pace: Duration,
}

impl Manner {
    fn silent_after(first: impl Into<String>) -> Manner {
        Manner { first: first.into(), drop: String::new(), drops_max: 0, pace: Duration::from_millis(50) }
    }

    fn dripping(first: impl Into<String>, drop: impl Into<String>, pace: u64) -> Manner {
        let (first, drop) = (first.into(), drop.into());
        Manner { first, drop, drops_max: usize::MAX, pace: Duration::from_millis(pace) }
    }

    /// Everything that the server sends until it ends the connection.
    fn run(&self, address: SocketAddr) -> String {
        let start = Instant::now();
        let mut stream = TcpStream::connect(address).expect("the server takes a connection");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(self.pace)).expect("a TCP socket");
        stream.write_all(self.first.as_bytes()).expect("the server reads");
        let mut received = Vec::new();
        let mut drops = 0;
        let mut part = [0; 4096];
        while start.elapsed() < FORGOTTEN {
            match stream.read(&mut part) {
                Ok(0) => break,
                Ok(count) => received.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if received.is_empty() && drops < self.drops_max {
                        drops += 1;
                        // When it fails, what was answered before can still be read.
                        let _ = stream.write_all(self.drop.as_bytes());
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(start.elapsed() < FORGOTTEN, "the server keeps a client that it should have left");
        String::from_utf8(received).expect("answers are text")
    }
}

/// Serves others for as long as a client is slow. Returns how many there were.
fn while_others_are_served<T: Send>(server: &Server, slow: impl FnOnce() -> T + Send) -> (T, usize) {
    thread::scope(|scope| {
        let slow = scope.spawn(slow);
        let mut served = 0;
        while served == 0 || !slow.is_finished() {
            server.wire().ask(PING).expect(200);
            served += 1;
            thread::sleep(Duration::from_millis(5));
        }
        (slow.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), served)
    })
}

/// What the client must hear, in order, before the connection ends.
fn statuses(received: &str) -> Vec<&str> {
    received.match_indices("HTTP/1.1 ").map(|(at, _)| &received[at + 9..at + 12]).collect()
}

#[test]
fn each_slow_client_is_told_or_left_and_others_are_served() {
    let server = memory(&SHORT);
    let post =
        |length: usize| format!("POST /api/v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    let chunked = "POST /api/v1/users HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let expecting =
        "POST /api/v1/users HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    let half = "GET /livez HTTP/1.1\r\nHost: x\r\nX-A: ";
    let padding = " ".repeat(1024);
    // 12 KiB in some two seconds: longer than the grace, and far above the pace.
    let account = json!({ "username": "ada", "password": support::PASSWORD }).to_string();
    let steady = post(12 * 1024 + account.len()) + &account;
    let rows: Vec<(&str, Manner, &[&str])> = vec![
        ("a head that never ends", Manner::silent_after(half), &["408"]),
        ("one byte", Manner::silent_after("G"), &["408"]),
        ("a head, dribbled fast", Manner::dripping(half, "a", 2), &["408"]),
        ("a head, dribbled", Manner::dripping(half, "a", 50), &["408"]),
        ("a head, dribbled slowly", Manner::dripping(half, "a", 400), &["408"]),
        ("a head by whole lines", Manner::dripping(half, "a\r\nX-B: ", 50), &["408"]),
        ("a head behind a request", Manner::silent_after(format!("{PING}{half}")), &["200", "408"]),
        ("a body that does not come", Manner::silent_after(post(9)), &["408"]),
        ("a body that was promised", Manner::silent_after(expecting), &["100", "408"]),
        ("a body below the pace", Manner::dripping(post(60_000), " ".repeat(16), 50), &["408"]),
        ("chunks below the pace", Manner::dripping(chunked, "1\r\n \r\n", 50), &["408"]),
        (
            "a body above the pace",
            Manner { drops_max: 12, ..Manner::dripping(steady, padding, 150) },
            &["201"],
        ),
        ("nothing at all", Manner::silent_after(""), &[]),
        ("nothing between requests", Manner::silent_after(PING), &["200"]),
        ("nothing after several", Manner::silent_after(PING.repeat(3)), &["200", "200", "200"]),
    ];
    thread::scope(|scope| {
        for (name, manner, expected) in rows {
            let server = &server;
            scope.spawn(move || {
                let start = Instant::now();
                let (received, served) = while_others_are_served(server, || manner.run(server.address));
                let took = start.elapsed();
                assert_eq!(statuses(&received), expected, "{name}: {received}");
                assert!(took >= PATIENCE, "{name}: left after {took:?} already");
                if let Some(at) = received.find("HTTP/1.1 408") {
                    let told = &received[at..];
                    assert!(told.contains("\r\nConnection: close\r\n"), "{name}: {told}");
                    assert!(told.contains("\"/problems/request-timeout\""), "{name}: {told}");
                }
                println!("{name}: {expected:?} after {took:.1?}, {served} others served meanwhile");
            });
        }
    });
}

/// Sends until the server gives up on a client that reads nothing of what it asked for.
fn flood(address: SocketAddr, bytes: &str) -> ErrorKind {
    let mut stream = TcpStream::connect(address).expect("the server takes a connection");
    stream.set_write_timeout(Some(FORGOTTEN)).expect("a TCP socket");
    let start = Instant::now();
    while start.elapsed() < FORGOTTEN {
        if let Err(error) = stream.write_all(bytes.as_bytes()) {
            return error.kind();
        }
    }
    ErrorKind::TimedOut
}

#[test]
fn clients_that_never_read_are_closed_and_others_are_served() {
    let server = memory(&SHORT);
    let rows = [("one page", "/problems/sold-out"), ("what every shard is asked for", "/metrics")];
    for (name, path) in rows {
        let bytes = request("GET", path, None, "", "").repeat(500);
        let (ends, served) = while_others_are_served(&server, || {
            thread::scope(|scope| {
                let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| flood(server.address, &bytes))).collect();
                clients.into_iter().map(|client| client.join().expect("no panic")).collect::<Vec<_>>()
            })
        });
        for end in ends {
            assert!(matches!(end, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{name}: {end}");
        }
        println!("{name}: closed, {served} others served meanwhile");
    }
}

/// What deaf clients asked for is answered, though they do not hear it: its places among the
/// calls under way are for others.
#[test]
fn clients_that_never_read_hold_nothing_that_others_need() {
    const DEAF: usize = 120;
    // All of this test is over before they are given up.
    let server = memory(&["--stall-timeout", "60"]);
    let organizer = server.client().sign_up("grace", "organizer");
    let customer = server.client().sign_up("ada", "customer");
    let events: Vec<u64> = (0..100).map(|_| create_event(&organizer, 1000)).collect();
    let list = request("GET", "/api/v1/events?limit=100", None, "", "");
    let open = |_| {
        let stream = TcpStream::connect(server.address).expect("the server takes a connection");
        stream.set_nonblocking(true).expect("a TCP socket");
        stream
    };
    let mut deaf: Vec<TcpStream> = (0..DEAF).map(open).collect();
    let bytes = list.repeat(100);
    // A few at a time, so that they get large answers, and no refusals, until the server
    // can write no more to them.
    for group in deaf.chunks_mut(8) {
        let mut sent = [0; 8];
        let mut quiet = 0;
        while quiet < 4 {
            let mut taken = 0;
            for (stream, sent) in group.iter_mut().zip(&mut sent) {
                while let Ok(count) = stream.write(&bytes.as_bytes()[*sent % list.len()..]) {
                    *sent += count;
                    taken += count;
                }
            }
            quiet = if taken == 0 { quiet + 1 } else { 0 };
            thread::sleep(Duration::from_millis(50));
        }
    }
    let mut refused = 0;
    for _ in 0..10 {
        for event in &events[..2] {
            let path = format!("/api/v1/events/{event}/reservations");
            let bytes = request("POST", &path, customer.token.as_deref(), "", "{\"quantity\":1}");
            refused += usize::from(server.wire().ask(bytes).status != 201);
        }
    }
    println!("{refused} of 20 sales refused beside {DEAF} clients that do not read");
    drop(deaf);
    assert_eq!(refused, 0, "of 20 sales beside {DEAF} clients that do not read");
}

#[test]
fn one_connection_too_many_is_turned_away_until_a_place_is_free() {
    const PLACES: usize = 8;
    let server = memory(&["--max-connections", "8"]);
    let mut held: Vec<Wire> = (0..PLACES).map(|_| server.wire()).collect();
    for wire in &mut held {
        wire.ask(PING).expect(200);
    }
    for round in 0..20 {
        // Told without being asked, and not asked to wait for its turn.
        let mut refused = server.wire();
        let answer = refused.next();
        assert_eq!(answer.header("retry-after"), Some("1"), "round {round}");
        assert!(answer.closes(), "round {round}");
        answer.problem(503, "too-many-connections");
        refused.expect_end();

        held[round % PLACES].ask(PING).expect(200);
        held.swap_remove(round % PLACES);
        held.push(regain(&server));
    }
    for wire in &mut held {
        wire.ask(PING).expect(200);
    }
    // One that speaks first is not run, whatever it hears.
    let mut eager = TcpStream::connect(server.address).unwrap();
    let account = json!({ "username": "eager", "password": support::PASSWORD }).to_string();
    let _ = eager.write_all(request("POST", "/api/v1/users", None, "", &account).as_bytes());
    let mut heard = Vec::new();
    let _ = eager.read_to_end(&mut heard);
    let heard = String::from_utf8(heard).unwrap();
    assert!(heard.is_empty() || statuses(&heard) == ["503"], "{heard}");
    println!("one that spoke first heard {:?}", statuses(&heard));
    held[0].ask(request("POST", "/api/v1/users", None, "", &account)).expect(201);
}

/// Connects until it is let in: a place is given back in the server's own time.
#[track_caller]
fn regain(server: &Server) -> Wire {
    for _ in 0..1000 {
        let mut wire = server.wire();
        let asked = wire.send(PING).and_then(|()| wire.answer());
        if asked.is_ok_and(|answer| answer.is_some_and(|answer| answer.status == 200)) {
            return wire;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("a place was lost");
}

/// Half of what the server listens on for after its last answer: later it may be gone, by right.
const LISTENS: Duration = Duration::from_millis(500);

/// Sends behind the last answer, which was just read. A server that had closed would answer the
/// first with a reset, and the next would fail. Returns how many were in time to show it.
#[track_caller]
fn check_half_closed(name: &str, wire: &mut Wire, bytes: &str) -> usize {
    let start = Instant::now();
    let mut looked = 0;
    wire.expect_end();
    for _ in 0..5 {
        let sent = wire.send(bytes);
        if start.elapsed() < LISTENS {
            sent.unwrap_or_else(|error| panic!("{name}: closed while the client sends: {error}"));
            looked += 1;
        }
        thread::sleep(Duration::from_millis(10));
    }
    looked
}

#[test]
fn who_is_told_to_go_can_read_it() {
    let server = memory(&["--max-connections", "2", "--head-timeout", "0.3", "--body-grace", "0.3"]);
    let half = "POST /api/v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n";
    for (name, bytes) in [("half a head", half.to_owned()), ("half a body", format!("{half}\r\n{{"))] {
        let mut wire = server.wire();
        wire.ask(bytes).problem(408, "request-timeout");
        assert!(check_half_closed(name, &mut wire, "X") > 0, "{name}: this machine is too slow");
    }
    let mut held = [regain(&server), regain(&server)];
    let mut wire = server.wire();
    // A client in a hurry has sent before it can know.
    let _ = wire.send(PING);
    wire.next().problem(503, "too-many-connections");
    assert!(check_half_closed("turned away", &mut wire, PING) > 0, "this machine is too slow");
    // It is not listened to for ever.
    let start = Instant::now();
    while wire.send(PING.repeat(20)).is_ok() {
        assert!(start.elapsed() < FORGOTTEN, "the server listens to one that it turned away for ever");
        thread::sleep(Duration::from_millis(1));
    }
    for wire in &mut held {
        wire.ask(PING).expect(200);
    }
}

/// Listening to them costs memory and descriptors, so it has a bound too.
#[test]
fn of_a_crowd_that_is_turned_away_few_are_listened_to() {
    const CROWD: usize = 300;
    /// `LINGERING_MAX` of the one core.
    const LISTENED_TO: usize = 64;
    let arguments = ["--storage", "memory", "--shards", "1", "--max-connections", "1"];
    let server = Server::start(Path::new("."), &arguments);
    let mut held = server.wire();
    held.ask(PING).expect(200);
    let start = Instant::now();
    let mut crowd: Vec<Wire> = (0..CROWD).map(|_| server.wire()).collect();
    for wire in &mut crowd {
        wire.next().problem(503, "too-many-connections");
        wire.expect_end();
        let _ = wire.send("X");
    }
    // By then each reset has come.
    thread::sleep(Duration::from_millis(50));
    let heard = crowd.iter_mut().filter_map(|wire| wire.send("X").ok()).count();
    println!("{heard} of {CROWD} are listened to after {:.1?}", start.elapsed());
    assert!(heard <= LISTENED_TO, "{heard} are listened to");
    assert!(heard > 0 || start.elapsed() > LISTENS, "none is listened to");
    held.ask(PING).expect(200);
}

#[test]
fn after_a_refusal_the_connection_is_half_closed_and_nothing_more_is_run() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let path = format!("/api/v1/events/{event}/reservations");
    let buy = request("POST", &path, stage.cust1.token.as_deref(), "", "{\"quantity\":1}");
    let mut looked = 0;
    for bad in [
        "\r\nGET / HTTP/1.1\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    ] {
        let mut wire = stage.server.wire();
        let answer = wire.ask(bad);
        assert!(answer.closes() && [400, 505].contains(&answer.status), "{bad:?}: {answer:?}");
        looked += check_half_closed(bad, &mut wire, &buy);
    }
    assert_eq!(number(&stage.seen(event), "reserved"), 0, "a request behind a refused one was run");
    println!("{looked} sends after a refusal were taken in");

    // One that goes on and on is not listened to for ever.
    let mut wire = stage.server.wire();
    wire.ask("nonsense\r\n\r\n").problem(400, "malformed-request");
    let start = Instant::now();
    while wire.send(buy.repeat(20)).is_ok() {
        assert!(start.elapsed() < FORGOTTEN, "the server listens to a refused client for ever");
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(number(&stage.seen(event), "reserved"), 0, "a request behind a refused one was run");
}

#[test]
fn sigterm_does_not_wait_for_clients_that_are_idle_or_slow() {
    let server = memory(&[]);
    let mut idle: Vec<Wire> = (0..50).map(|_| server.wire()).collect();
    for (index, wire) in idle.iter_mut().enumerate() {
        if index % 2 == 0 {
            wire.ask(PING).expect(200);
        }
    }
    let mut slow: Vec<Wire> = (0..10).map(|_| server.wire()).collect();
    for wire in &mut slow {
        wire.send(&PING[..PING.len() - 3]).unwrap();
    }
    // Until the halves have been read: what is asked after them is answered.
    server.wire().ask(PING).expect(200);
    let start = Instant::now();
    let (status, log) = server.terminate();
    let took = start.elapsed();
    assert_eq!(status.code(), Some(0), "{log}");
    // What is under way would be waited for twice as long.
    assert!(took < Duration::from_secs(4), "it took {took:?}");
    println!("ended after {took:.1?}");
    for mut wire in idle.into_iter().chain(slow) {
        assert!(!matches!(wire.answer(), Ok(Some(_))), "an answer that nobody asked for");
    }
}

#[test]
fn sigterm_waits_for_a_body_that_is_half_there() {
    let server = memory(&[]);
    let account = json!({ "username": "ada", "password": support::PASSWORD }).to_string();
    let bytes = request("POST", "/api/v1/users", None, "", &account);
    let (first, second) = bytes.split_at(bytes.len() - 5);
    let mut wire = server.wire();
    wire.send(first).unwrap();
    // Until the first part has been read: what is asked after it is answered.
    server.wire().ask(PING).expect(200);
    server.signal_to_end();
    // Beyond what the server accepts for, and within what it waits for.
    thread::sleep(Duration::from_secs(1));
    let answer = wire.ask(second).expect(201);
    assert!(answer.closes());
    wire.expect_end();
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
#[ignore = "needs slowhttptest"]
fn slowhttptest_disturbs_nobody() {
    let arguments =
        ["--head-timeout", "1", "--body-grace", "1", "--idle-timeout", "2", "--stall-timeout", "1"];
    let server = memory(&arguments);
    // Slow heads, slow bodies, slow reading.
    let rows: [(&str, &[&str], &str); 3] = [
        ("heads", &["-H", "-i", "1", "-x", "24"], "/livez"),
        ("bodies", &["-B", "-i", "1", "-s", "8192", "-x", "10"], "/api/v1/users"),
        ("reading", &["-X", "-w", "1", "-y", "8", "-n", "1", "-z", "5", "-k", "10"], "/problems/sold-out"),
    ];
    for (name, mode, path) in rows {
        let mut attack = Command::new("slowhttptest")
            .args(mode)
            .args(["-c", "200", "-r", "100", "-l", "5", "-p", "3", "-u"])
            .arg(format!("http://{}{path}", server.address))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("slowhttptest is installed");
        let (mut served, mut failed) = (0_u32, 0_u32);
        let mut slowest = Duration::ZERO;
        let status = loop {
            let start = Instant::now();
            let asked = Wire::open(server.address).and_then(|mut wire| {
                wire.send(PING)?;
                wire.answer()
            });
            slowest = slowest.max(start.elapsed());
            match asked {
                Ok(Some(answer)) if answer.status == 200 => served += 1,
                _ => failed += 1,
            }
            if let Some(status) = attack.try_wait().expect("it is our child") {
                break status;
            }
            thread::sleep(Duration::from_millis(2));
        };
        println!(
            "{name}: {served} served, {failed} not, the slowest after {slowest:?}; slowhttptest: {status}"
        );
        assert!(served >= 100, "{name}: there was no attack to speak of");
        assert!(
            f64::from(served) >= 0.99 * f64::from(served + failed),
            "{name}: {failed} of {served} failed"
        );
    }
    let (status, log) = server.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
}
