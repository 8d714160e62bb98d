//! Streams, and many requests of one client, over a real socket.

mod harness;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::front::http::body::PIECE_BYTES_MAX;
use crate::front::http::parse::Request;
use crate::front::http::write::Response;
use harness::{LARGE_BYTES, LIVEZ, SOON, STALLED, Say, Server, Wire, get, wait_for};

/// What a test answers itself, see [`super::front::Front`].
pub(super) type Endpoint = Box<dyn Fn(&Request<'_>) -> Option<Response>>;

#[test]
fn pieces_arrive_as_they_are_made() {
    let server = Server::start();
    let (mut wire, teller) = server.told(&get("/told"));
    let head = wire.until("\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("\r\nTransfer-Encoding: chunked\r\n") && !head.contains("Content-Length"),
        "{head}"
    );
    for text in ["one", "sixteen bytes...", "and a third one"] {
        wire.expect_silence();
        teller.say(Say::Piece(text));
        assert_eq!(wire.until("\r\n"), format!("{:x}\r\n", text.len()));
        assert_eq!(wire.until("\r\n"), format!("{text}\r\n"));
    }
    // An empty piece is not the end.
    teller.say(Say::Piece(""));
    wire.expect_silence();
    teller.say(Say::Last("end"));
    assert_eq!(wire.until("0\r\n\r\n"), "3\r\nend\r\n0\r\n\r\n");
    wire.livez();
}

#[test]
fn a_request_behind_a_stream_is_answered_behind_it() {
    let server = Server::start();
    let (mut wire, teller) = server.told(&(get("/told") + &get("/api/v1/events/1") + LIVEZ));
    wire.until("\r\n\r\n");
    teller.say(Say::Piece("one"));
    assert_eq!(wire.until("\r\none\r\n"), "3\r\none\r\n");
    wire.expect_silence();
    assert_eq!(server.begun(), 1, "a request was run before the stream in front of it had ended");
    // Another one comes while the stream goes on.
    wire.stream.write_all(LIVEZ.as_bytes()).expect("the connection is open");
    wire.expect_silence();
    teller.say(Say::Last(""));
    assert_eq!(wire.until("0\r\n\r\n"), "0\r\n\r\n");
    let answer = wire.until("}\n");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    wire.livez_answer();
    wire.livez_answer();
}

#[test]
fn head_has_no_body_and_makes_none() {
    let server = Server::start();
    let (mut wire, _teller) = server.told("HEAD /told HTTP/1.1\r\nHost: x\r\n\r\n");
    let head = wire.until("\r\n\r\n");
    assert!(head.contains("\r\nTransfer-Encoding: chunked\r\n"), "{head}");
    let fate = server.fate("/told");
    wait_for(|| fate.dropped.load(Ordering::SeqCst).then_some(()));
    wire.livez();
    let mut wire = server.send("HEAD /large HTTP/1.1\r\nHost: x\r\n\r\n");
    let head = wire.until("\r\n\r\n");
    assert!(head.contains(&format!("\r\nContent-Length: {LARGE_BYTES}\r\n")), "{head}");
    wire.livez();
}

#[test]
fn a_client_of_http_1_0_reads_to_the_end_of_the_connection() {
    let server = Server::start();
    let request = "GET /told HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let (mut wire, teller) = server.told(&(request.to_owned() + LIVEZ));
    let head = wire.until("\r\n\r\n");
    assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
    assert!(!head.contains("Transfer-Encoding") && !head.contains("Content-Length"), "{head}");
    teller.say(Say::Piece("one"));
    assert_eq!(wire.until("one"), "one");
    teller.say(Say::Last("end"));
    assert_eq!(wire.rest(), "end");
    // Without a body the connection can go on.
    let (mut wire, _teller) = server.told("HEAD /told HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let head = wire.until("\r\n\r\n");
    assert!(head.contains("\r\nConnection: keep-alive\r\n"), "{head}");
    wire.livez();
}

#[test]
fn a_client_that_goes_away_ends_its_stream() {
    type Leave = fn(Wire) -> Option<Wire>;
    let leaves: [(&str, Leave); 3] = [
        ("closes", |_| None),
        ("ends its side", |wire| {
            wire.stream.shutdown(Shutdown::Write).expect("it is open");
            Some(wire)
        }),
        ("closes behind more than the server reads", |mut wire| {
            wire.stream.write_all(LIVEZ.repeat(1000).as_bytes()).expect("the kernel takes it");
            None
        }),
    ];
    let server = Server::start();
    for (name, leave) in leaves {
        let (mut wire, teller) = server.told(&get("/told"));
        wire.until("\r\n\r\n");
        teller.say(Say::Piece("one"));
        wire.until("one\r\n");
        let fate = server.fate("/told");
        assert!(!fate.dropped.load(Ordering::SeqCst), "{name}");
        let start = Instant::now();
        let _left = leave(wire);
        // Nothing is said meanwhile.
        wait_for(|| fate.dropped.load(Ordering::SeqCst).then_some(()));
        assert!(start.elapsed() < Duration::from_secs(1), "{name}: noticed after {:?}", start.elapsed());
    }
}

#[test]
fn a_reader_that_stalls_is_dropped_and_what_is_made_for_it_is_bounded() {
    let server = Server::start();
    let mut wire = server.send(&get("/flood"));
    wire.until("\r\n\r\n");
    let fate = server.fate("/flood");
    let start = Instant::now();
    wait_for(|| fate.dropped.load(Ordering::SeqCst).then_some(()));
    assert!(start.elapsed() >= STALLED, "dropped after {:?}", start.elapsed());
    let made = fate.bytes.load(Ordering::SeqCst);
    let received = wire.rest().len() as u64;
    // What the kernel took is received; one piece may not be.
    assert!(made <= received + 2 * PIECE_BYTES_MAX as u64, "{made} bytes made, {received} received");
    server.send(LIVEZ).livez_answer();
}

#[test]
fn a_stream_that_always_has_more_leaves_others_their_turn() {
    let server = Server::start();
    let mut wire = server.send(&get("/flood"));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut room = vec![0; 1 << 20];
            while !over.load(Ordering::SeqCst) {
                assert!(wire.stream.read(&mut room).expect("the stream goes on") > 0);
            }
        });
        let fate = server.fate("/flood");
        let mut longest = Duration::ZERO;
        while fate.bytes.load(Ordering::SeqCst) < 64 << 20 {
            let start = Instant::now();
            server.send(LIVEZ).livez_answer();
            longest = longest.max(start.elapsed());
        }
        over.store(true, Ordering::SeqCst);
        println!("the longest answer beside a flood took {longest:?}");
        assert!(longest < Duration::from_secs(1), "an answer beside a flood took {longest:?}");
    });
}

#[test]
fn a_stream_that_fails_ends_the_connection_before_the_last_chunk() {
    let server = Server::start();
    let (mut wire, teller) = server.told(&(get("/told") + LIVEZ));
    wire.until("\r\n\r\n");
    teller.say(Say::Piece("one"));
    teller.say(Say::Fail);
    assert_eq!(wire.rest(), "3\r\none\r\n");
}

#[test]
fn a_drain_ends_streams() {
    let mut server = Server::start();
    let (mut wire, teller) = server.told(&get("/told"));
    wire.until("\r\n\r\n");
    let (mut pipelining, _teller) = server.told(&(get("/told") + LIVEZ));
    pipelining.until("\r\n\r\n");
    teller.say(Say::Piece("one"));
    wire.until("one\r\n");
    // It is read to its end, so that what it sent behind its request makes the server wait for nothing.
    let pipelining = std::thread::spawn(move || pipelining.rest());
    let took = server.drain();
    assert_eq!(wire.rest(), "7\r\ngoodbye\r\n0\r\n\r\n");
    // What follows the stream is not run any more.
    assert_eq!(pipelining.join().expect("no panic"), "7\r\ngoodbye\r\n0\r\n\r\n");
    // The acceptor notices a drain after 100 ms, and accepts for 60 ms more.
    assert!(took < Duration::from_millis(900), "a stream that ended held the drain for {took:?}");
}

#[test]
fn a_drain_does_not_wait_for_streams_that_go_on() {
    let mut server = Server::start();
    let mut deaf = server.send(&get("/flood"));
    deaf.until("\r\n\r\n");
    let mut heard = server.send(&get("/flood"));
    let reader = std::thread::spawn(move || {
        heard.stream.set_read_timeout(Some(SOON)).expect("a TCP socket");
        // However it ends.
        let _ = heard.stream.read_to_end(&mut heard.received);
        heard.text()
    });
    let fate = server.fate("/flood");
    let took = server.drain();
    assert!(took < Duration::from_secs(6), "streams held the drain for {took:?}");
    assert!(fate.drained.load(Ordering::SeqCst), "a stream was not told");
    let heard = reader.join().expect("no panic");
    assert!(!heard.ends_with("0\r\n\r\n"), "a stream that was cut off looks complete");
}

#[test]
fn a_drain_waits_for_a_body_of_known_length() {
    let mut server = Server::start();
    let mut wire = server.send(&get("/large"));
    let head = wire.until("\r\n\r\n");
    assert!(head.contains(&format!("\r\nContent-Length: {LARGE_BYTES}\r\n")), "{head}");
    assert!(!head.contains("Transfer-Encoding"), "{head}");
    let reader = std::thread::spawn(move || {
        let mut read = 0;
        let mut room = vec![0; 64 << 10];
        while read < LARGE_BYTES {
            let count = wire.stream.read(&mut room).expect("the connection is open");
            assert!(count > 0, "the body is cut off behind {read} bytes");
            read += count;
            std::thread::sleep(Duration::from_millis(3));
        }
        read
    });
    let took = server.drain();
    assert_eq!(reader.join().expect("no panic"), LARGE_BYTES);
    // Longer than it would have waited for a body of unknown length.
    assert!(took > Duration::from_millis(1300), "the drain took {took:?}: the reader was too fast");
}

/// Other clients connect and send while one client's requests keep the core busy.
#[track_caller]
fn others_have_turns_between(requests: &str) {
    let server = Server::start();
    let _busy = server.send(&(get("/gate") + requests));
    wait_for(|| server.gate.entered.load(Ordering::SeqCst).then_some(()));
    let mut other = server.send(LIVEZ);
    server.gate.open.store(true, Ordering::SeqCst);
    other.livez_answer();
    let last = wait_for(|| server.paths().iter().position(|path| path == "/last"));
    let other = server.paths().iter().position(|path| path == "/livez");
    assert!(other.is_some_and(|other| other < last), "{:?}", server.paths());
}

#[test]
fn other_clients_have_turns_between_the_requests_of_one_read() {
    others_have_turns_between(&(get("/spin").repeat(50) + &get("/last")));
}

#[test]
fn other_clients_have_turns_between_the_reads_of_one_connection() {
    let large = format!("GET /none HTTP/1.1\r\nHost: x\r\nX-Padding: {}\r\n\r\n", "x".repeat(5000));
    others_have_turns_between(&(large.repeat(20) + &get("/last")));
}
