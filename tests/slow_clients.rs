//! Slow clients: each gets a 408 or is disconnected, and other clients are not delayed.

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

/// All timeouts, in the tests that wait for them.
const TIMEOUT: Duration = Duration::from_millis(600);
const SHORT: [&str; 8] =
    ["--head-timeout", "0.6", "--body-grace", "0.6", "--idle-timeout", "0.6", "--stall-timeout", "0.6"];

/// The time after which a connection that is still open fails a test.
const DISCONNECT_MAX: Duration = Duration::from_secs(30);

fn memory(arguments: &[&str]) -> Server {
    let mut all = vec!["--storage", "memory", "--shards", "2"];
    all.extend_from_slice(arguments);
    Server::start(Path::new("."), &all)
}

/// A slow client, which sends `first` at once and then `piece` repeatedly, until it receives
/// something.
struct SlowClient {
    first: String,
    piece: String,
    pieces_max: usize,
    interval: Duration,
}

impl SlowClient {
    fn silent_after(first: impl Into<String>) -> SlowClient {
        let (piece, interval) = (String::new(), Duration::from_millis(50));
        SlowClient { first: first.into(), piece, pieces_max: 0, interval }
    }

    fn trickling(first: impl Into<String>, piece: impl Into<String>, interval_ms: u64) -> SlowClient {
        let (first, piece) = (first.into(), piece.into());
        SlowClient { first, piece, pieces_max: usize::MAX, interval: Duration::from_millis(interval_ms) }
    }

    /// Returns everything that the server sends until it closes the connection.
    fn run(&self, address: SocketAddr) -> String {
        let start = Instant::now();
        let mut stream = TcpStream::connect(address).expect("the server takes a connection");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(self.interval)).expect("a TCP socket");
        stream.write_all(self.first.as_bytes()).expect("the server reads");
        let mut received = Vec::new();
        let mut pieces = 0;
        let mut part = [0; 4096];
        while start.elapsed() < DISCONNECT_MAX {
            match stream.read(&mut part) {
                Ok(0) => break,
                Ok(count) => received.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if received.is_empty() && pieces < self.pieces_max {
                        pieces += 1;
                        // If this fails, a response sent before can still be read.
                        let _ = stream.write_all(self.piece.as_bytes());
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(start.elapsed() < DISCONNECT_MAX, "the server does not disconnect the client");
        String::from_utf8(received).expect("answers are text")
    }
}

/// Sends requests from other clients while a slow client runs. Returns their number.
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

/// The statuses of the received responses, in order.
fn statuses(received: &str) -> Vec<&str> {
    received.match_indices("HTTP/1.1 ").map(|(at, _)| &received[at + 9..at + 12]).collect()
}

#[test]
fn slow_clients_time_out_and_others_are_served() {
    let server = memory(&SHORT);
    let post =
        |length: usize| format!("POST /api/v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    let chunked = "POST /api/v1/users HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let expecting =
        "POST /api/v1/users HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    let half = "GET /livez HTTP/1.1\r\nHost: x\r\nX-A: ";
    let padding = " ".repeat(1024);
    // 12 KiB in some two seconds: longer than the grace period, and far above the minimum rate.
    let account = json!({ "username": "ada", "password": support::PASSWORD }).to_string();
    let steady = post(12 * 1024 + account.len()) + &account;
    let rows: Vec<(&str, SlowClient, &[&str])> = vec![
        ("an incomplete head", SlowClient::silent_after(half), &["408"]),
        ("one byte", SlowClient::silent_after("G"), &["408"]),
        ("a head, bytes every 2 ms", SlowClient::trickling(half, "a", 2), &["408"]),
        ("a head, bytes every 50 ms", SlowClient::trickling(half, "a", 50), &["408"]),
        ("a head, bytes every 400 ms", SlowClient::trickling(half, "a", 400), &["408"]),
        ("a head, line by line", SlowClient::trickling(half, "a\r\nX-B: ", 50), &["408"]),
        ("a head after a request", SlowClient::silent_after(format!("{PING}{half}")), &["200", "408"]),
        ("no body", SlowClient::silent_after(post(9)), &["408"]),
        ("no body after 100-continue", SlowClient::silent_after(expecting), &["100", "408"]),
        ("a body below the rate", SlowClient::trickling(post(60_000), " ".repeat(16), 50), &["408"]),
        ("chunks below the rate", SlowClient::trickling(chunked, "1\r\n \r\n", 50), &["408"]),
        (
            "a body above the rate",
            SlowClient { pieces_max: 12, ..SlowClient::trickling(steady, padding, 150) },
            &["201"],
        ),
        ("no request", SlowClient::silent_after(""), &[]),
        ("no second request", SlowClient::silent_after(PING), &["200"]),
        ("no fourth request", SlowClient::silent_after(PING.repeat(3)), &["200", "200", "200"]),
    ];
    thread::scope(|scope| {
        for (name, client, expected) in rows {
            let server = &server;
            scope.spawn(move || {
                let start = Instant::now();
                let (received, served) = while_others_are_served(server, || client.run(server.address));
                let took = start.elapsed();
                assert_eq!(statuses(&received), expected, "{name}: {received}");
                assert!(took >= TIMEOUT, "{name}: disconnected after {took:?} already");
                if let Some(at) = received.find("HTTP/1.1 408") {
                    let response = &received[at..];
                    assert!(response.contains("\r\nConnection: close\r\n"), "{name}: {response}");
                    assert!(response.contains("\"/problems/request-timeout\""), "{name}: {response}");
                }
                println!("{name}: {expected:?} after {took:.1?}, {served} others served meanwhile");
            });
        }
    });
}

/// Sends requests without reading until the server closes the connection.
fn flood(address: SocketAddr, bytes: &str) -> ErrorKind {
    let mut stream = TcpStream::connect(address).expect("the server takes a connection");
    stream.set_write_timeout(Some(DISCONNECT_MAX)).expect("a TCP socket");
    let start = Instant::now();
    while start.elapsed() < DISCONNECT_MAX {
        if let Err(error) = stream.write_all(bytes.as_bytes()) {
            return error.kind();
        }
    }
    ErrorKind::TimedOut
}

#[test]
fn clients_that_never_read_are_closed_and_others_are_served() {
    let server = memory(&SHORT);
    let rows = [("a constant page", "/problems/sold-out"), ("a query to every shard", "/metrics")];
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

/// Requests of clients that do not read are completed, so that they do not use up the limit of
/// requests in flight.
#[test]
fn clients_that_never_read_do_not_use_up_requests_in_flight() {
    const NOT_READING: usize = 120;
    // The test ends before these connections time out.
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
    let mut not_reading: Vec<TcpStream> = (0..NOT_READING).map(open).collect();
    let bytes = list.repeat(100);
    // A few at a time, so that they get large responses and no 503 until their buffers are full.
    for group in not_reading.chunks_mut(8) {
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
    println!("{refused} of 20 sales refused with {NOT_READING} clients that do not read");
    drop(not_reading);
    assert_eq!(refused, 0, "of 20 sales with {NOT_READING} clients that do not read");
}

#[test]
fn a_connection_beyond_the_limit_is_rejected_until_another_is_closed() {
    const CONNECTIONS_MAX: usize = 8;
    let server = memory(&["--max-connections", "8"]);
    let mut held: Vec<Wire> = (0..CONNECTIONS_MAX).map(|_| server.wire()).collect();
    for wire in &mut held {
        wire.ask(PING).expect(200);
    }
    for round in 0..20 {
        // The 503 is sent before the client sends a request.
        let mut refused = server.wire();
        let answer = refused.next();
        assert_eq!(answer.header("retry-after"), Some("1"), "round {round}");
        assert!(answer.closes(), "round {round}");
        answer.problem(503, "too-many-connections");
        refused.expect_end();

        held[round % CONNECTIONS_MAX].ask(PING).expect(200);
        held.swap_remove(round % CONNECTIONS_MAX);
        held.push(connect_when_free(&server));
    }
    for wire in &mut held {
        wire.ask(PING).expect(200);
    }
    // A request on a rejected connection is not executed.
    let mut eager = TcpStream::connect(server.address).unwrap();
    let account = json!({ "username": "eager", "password": support::PASSWORD }).to_string();
    let _ = eager.write_all(request("POST", "/api/v1/users", None, "", &account).as_bytes());
    let mut received = Vec::new();
    let _ = eager.read_to_end(&mut received);
    let received = String::from_utf8(received).unwrap();
    assert!(received.is_empty() || statuses(&received) == ["503"], "{received}");
    println!("a client that sent a request at once received {:?}", statuses(&received));
    held[0].ask(request("POST", "/api/v1/users", None, "", &account)).expect(201);
}

/// Connects until the server accepts, which may be some time after another connection is closed.
#[track_caller]
fn connect_when_free(server: &Server) -> Wire {
    for _ in 0..1000 {
        let mut wire = server.wire();
        let response = wire.send(PING).and_then(|()| wire.answer());
        if response.is_ok_and(|answer| answer.is_some_and(|answer| answer.status == 200)) {
            return wire;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("no connection is accepted after one was closed");
}

/// Half of the time for which the server lingers after its last response; after the whole time it
/// may close the connection.
const LINGERS: Duration = Duration::from_millis(500);

/// Sends after the last response, which was just read. If the server had closed the connection, it
/// would answer the first send with a reset, and the next would fail. Returns the number of sends
/// that were in time to detect that.
#[track_caller]
fn check_half_closed(name: &str, wire: &mut Wire, bytes: &str) -> usize {
    let start = Instant::now();
    let mut in_time = 0;
    wire.expect_end();
    for _ in 0..5 {
        let sent = wire.send(bytes);
        if start.elapsed() < LINGERS {
            sent.unwrap_or_else(|error| panic!("{name}: closed while the client sends: {error}"));
            in_time += 1;
        }
        thread::sleep(Duration::from_millis(10));
    }
    in_time
}

#[test]
fn the_last_response_can_be_read_before_the_connection_is_closed() {
    let server = memory(&["--max-connections", "2", "--head-timeout", "0.3", "--body-grace", "0.3"]);
    let half = "POST /api/v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n";
    for (name, bytes) in [("half a head", half.to_owned()), ("half a body", format!("{half}\r\n{{"))] {
        let mut wire = server.wire();
        wire.ask(bytes).problem(408, "request-timeout");
        assert!(check_half_closed(name, &mut wire, "X") > 0, "{name}: this machine is too slow");
    }
    let mut held = [connect_when_free(&server), connect_when_free(&server)];
    let mut wire = server.wire();
    // The client sends before it can read the 503.
    let _ = wire.send(PING);
    wire.next().problem(503, "too-many-connections");
    assert!(check_half_closed("rejected", &mut wire, PING) > 0, "this machine is too slow");
    // Lingering ends.
    let start = Instant::now();
    while wire.send(PING.repeat(20)).is_ok() {
        assert!(start.elapsed() < DISCONNECT_MAX, "the server does not close a rejected connection");
        thread::sleep(Duration::from_millis(1));
    }
    for wire in &mut held {
        wire.ask(PING).expect(200);
    }
}

/// Rejected connections that linger cost memory and descriptors, so their number is bounded.
#[test]
fn few_rejected_connections_linger() {
    const REJECTED: usize = 300;
    /// `LINGERING_MAX` for one core.
    const LINGERING_MAX: usize = 64;
    let arguments = ["--storage", "memory", "--shards", "1", "--max-connections", "1"];
    let server = Server::start(Path::new("."), &arguments);
    let mut held = server.wire();
    held.ask(PING).expect(200);
    let start = Instant::now();
    let mut rejected: Vec<Wire> = (0..REJECTED).map(|_| server.wire()).collect();
    for wire in &mut rejected {
        wire.next().problem(503, "too-many-connections");
        wire.expect_end();
        let _ = wire.send("X");
    }
    // Time for the resets of closed connections to arrive.
    thread::sleep(Duration::from_millis(50));
    let lingering = rejected.iter_mut().filter_map(|wire| wire.send("X").ok()).count();
    println!("{lingering} of {REJECTED} linger after {:.1?}", start.elapsed());
    assert!(lingering <= LINGERING_MAX, "{lingering} linger");
    assert!(lingering > 0 || start.elapsed() > LINGERS, "none lingers");
    held.ask(PING).expect(200);
}

#[test]
fn after_a_refusal_the_connection_is_half_closed_and_nothing_more_is_executed() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let path = format!("/api/v1/events/{event}/reservations");
    let buy = request("POST", &path, stage.cust1.token.as_deref(), "", "{\"quantity\":1}");
    let mut in_time = 0;
    for bad in [
        "\r\nGET / HTTP/1.1\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    ] {
        let mut wire = stage.server.wire();
        let answer = wire.ask(bad);
        assert!(answer.closes() && [400, 505].contains(&answer.status), "{bad:?}: {answer:?}");
        in_time += check_half_closed(bad, &mut wire, &buy);
    }
    assert_eq!(number(&stage.seen(event), "reserved"), 0, "a request after a refused one was executed");
    println!("{in_time} sends after a refusal succeeded");

    // Lingering ends even if the client keeps sending.
    let mut wire = stage.server.wire();
    wire.ask("nonsense\r\n\r\n").problem(400, "malformed-request");
    let start = Instant::now();
    while wire.send(buy.repeat(20)).is_ok() {
        assert!(
            start.elapsed() < DISCONNECT_MAX,
            "the server does not close the connection of a refused client"
        );
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(number(&stage.seen(event), "reserved"), 0, "a request after a refused one was executed");
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
    // A response to a later request shows that the incomplete ones have been read.
    server.wire().ask(PING).expect(200);
    let start = Instant::now();
    let (status, log) = server.terminate();
    let took = start.elapsed();
    assert_eq!(status.code(), Some(0), "{log}");
    // The server would wait twice as long for requests in flight.
    assert!(took < Duration::from_secs(4), "it took {took:?}");
    println!("ended after {took:.1?}");
    for mut wire in idle.into_iter().chain(slow) {
        assert!(!matches!(wire.answer(), Ok(Some(_))), "an unexpected response");
    }
}

#[test]
fn sigterm_waits_for_the_rest_of_a_body() {
    let server = memory(&[]);
    let account = json!({ "username": "ada", "password": support::PASSWORD }).to_string();
    let bytes = request("POST", "/api/v1/users", None, "", &account);
    let (first, second) = bytes.split_at(bytes.len() - 5);
    let mut wire = server.wire();
    wire.send(first).unwrap();
    // A response to a later request shows that the first part has been read.
    server.wire().ask(PING).expect(200);
    server.signal_to_end();
    // Longer than the server accepts connections, and shorter than it waits for requests in flight.
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
    // The three modes of slowhttptest.
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
            let response = Wire::open(server.address).and_then(|mut wire| {
                wire.send(PING)?;
                wire.answer()
            });
            slowest = slowest.max(start.elapsed());
            match response {
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
        assert!(served >= 100, "{name}: the attack was too short");
        assert!(
            f64::from(served) >= 0.99 * f64::from(served + failed),
            "{name}: {failed} of {served} failed"
        );
    }
    let (status, log) = server.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
}
