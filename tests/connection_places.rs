//! Places for connections when they run short: one address leaves some to others, and connections that wait
//! for a request give way.

mod support;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::thread;
use std::time::Duration;

use support::client::Wire;
use support::server::Server;

const PING: &str = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
const HALF: usize = PING.len() / 2;

/// Longer than a sweep of the server, by which it measures how long connections have waited.
const A_WHILE: Duration = Duration::from_millis(300);

fn memory(shards: &str, places: &str, arguments: &[&str]) -> Server {
    let mut all = vec!["--storage", "memory", "--shards", shards, "--max-connections", places];
    all.extend_from_slice(arguments);
    Server::start(Path::new("."), &all)
}

/// 127.0.0.2, 127.0.0.3...
fn client(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, 1 + number).into()
}

/// Connections that send nothing. The later ones were accepted later.
fn silent(server: &Server, from: IpAddr, count: usize) -> Vec<Wire> {
    (0..count).map(|_| Wire::open_from(server.address, from)).collect()
}

/// Connections that have sent half a request, which may take ten seconds.
fn half_sent(server: &Server, from: IpAddr, count: usize) -> Vec<Wire> {
    let mut wires = silent(server, from, count);
    for wire in &mut wires {
        wire.send(&PING[..HALF]).expect("the server reads");
    }
    thread::sleep(A_WHILE);
    wires
}

/// Connections that have sent a request and got its answer.
#[track_caller]
fn served(server: &Server, from: IpAddr, count: usize) -> Vec<Wire> {
    let serve = |number| {
        let mut wire = Wire::open_from(server.address, from);
        assert_eq!(ping(&mut wire), Some(200), "connection {number} from {from}");
        wire
    };
    (0..count).map(serve).collect()
}

/// The status of the answer to a request, or of the refusal before it. `None` if the server has closed
/// the connection.
fn ping(wire: &mut Wire) -> Option<u16> {
    let answer = wire.send(PING).and_then(|()| wire.answer());
    match answer {
        Ok(answer) => answer.map(|answer| answer.status),
        Err(error) => {
            let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(kinds.contains(&error.kind()), "{error}");
            None
        }
    }
}

fn metric(server: &Server, name: &str) -> u64 {
    let text = server.client().get("/metrics").expect(200);
    let line = text.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
}

#[test]
fn connections_that_send_nothing_keep_nobody_out() {
    for shards in ["1", "2"] {
        let server = memory(shards, "64", &[]);
        let held = silent(&server, client(1), 200);
        thread::sleep(A_WHILE);
        let others: Vec<Wire> = (2..10).flat_map(|number| served(&server, client(number), 3)).collect();
        if shards == "1" {
            // Somebody else at the same address is served, too. (Of several cores, only those that have
            // connections of this address which can give way serve it.)
            served(&server, client(1), 3);
        }
        assert!(metric(&server, "boxoffice_connections_closed_total{state=\"silent\"}") >= 20);
        drop((held, others));
    }
}

#[test]
fn one_address_leaves_some_places_to_others() {
    let server = memory("1", "64", &[]);
    let mut held = half_sent(&server, client(1), 60);
    for _ in 0..10 {
        let problem = Wire::open_from(server.address, client(1)).next().problem(503, "too-many-connections");
        assert!(problem["detail"].to_string().contains("your address"), "{problem}");
    }
    held.extend(half_sent(&server, client(2), 2));
    held.extend(half_sent(&server, client(3), 2));
    let mut refused = Wire::open_from(server.address, client(4));
    let problem = refused.next().problem(503, "too-many-connections");
    assert!(!problem["detail"].to_string().contains("your address"), "{problem}");
    // All that were there are served on.
    for wire in &mut held {
        wire.ask(&PING[HALF..]).expect(200);
    }
    drop(held);
    thread::sleep(A_WHILE);
    assert_eq!(metric(&server, "boxoffice_connections_refused_total{cause=\"address_share\"}"), 10);
    assert_eq!(metric(&server, "boxoffice_connections_refused_total{cause=\"all_taken\"}"), 1);
    assert_eq!(metric(&server, "boxoffice_connections_closed_total{state=\"silent\"}"), 0);
}

#[test]
fn silent_connections_give_way_before_idle_ones_and_the_oldest_first() {
    let server = memory("1", "8", &[]);
    let mut idle = served(&server, client(1), 2);
    thread::sleep(A_WHILE);
    idle.extend(served(&server, client(1), 2));
    let mut quiet = silent(&server, client(1), 2);
    thread::sleep(A_WHILE);
    quiet.extend(silent(&server, client(1), 2));
    thread::sleep(A_WHILE);

    let mut others = served(&server, client(2), 2);
    quiet[0].expect_end();
    quiet[1].expect_end();
    others.extend(served(&server, client(2), 1));
    // Which of the two that are left was accepted first is not known: it is the same moment to the server.
    let left: Vec<Option<u16>> = quiet[2..].iter_mut().map(ping).collect();
    assert_eq!(left.iter().flatten().count(), 1, "{left:?}");

    // Now all have spoken: 5 of the first client, and 3 of the second. The first one gives way until it has
    // no more than the second.
    thread::sleep(A_WHILE);
    others.extend(served(&server, client(2), 1));
    let left: Vec<Option<u16>> = idle[..2].iter_mut().map(ping).collect();
    assert_eq!(left.iter().flatten().count(), 1, "one of those that wait longest was to be closed: {left:?}");
    let mut refused = Wire::open_from(server.address, client(2));
    refused.next().problem(503, "too-many-connections");
    for wire in idle[2..].iter_mut().chain(&mut others) {
        assert_eq!(ping(wire), Some(200));
    }
}

/// Connections that follow an event, and have read the first message.
fn following(server: &Server, from: IpAddr, event: u64, count: usize) -> Vec<Wire> {
    let request = format!("GET /api/v1/events/{event}/availability/stream HTTP/1.1\r\nHost: x\r\n\r\n");
    let follow = |number| {
        let mut wire = Wire::open_from(server.address, from);
        wire.send(&request).expect("the server reads");
        wire.read_until("id: ").unwrap_or_else(|error| panic!("stream {number} from {from}: {error}"));
        // What comes during a stream does not keep its place.
        wire.send(PING).expect("the server has room for it");
        wire
    };
    (0..count).map(follow).collect()
}

#[test]
fn a_thousand_live_streams_of_one_address_keep_nobody_out() {
    let server = memory("1", "1064", &[]);
    let organizer = server.client().sign_up("grace", "organizer");
    let event = support::create_event(&organizer, 100);
    // Some more would be refused: 15 of 16 places.
    let held = following(&server, client(1), event, 990);
    thread::sleep(A_WHILE);
    // More than the places that are left, and none that waits for a request and would give way before a stream.
    let mut others: Vec<Wire> = (2..12).flat_map(|number| silent(&server, client(number), 10)).collect();
    for wire in &mut others {
        wire.send(&PING[..HALF]).expect("the server reads");
    }
    thread::sleep(A_WHILE);
    for wire in &mut others {
        wire.ask(&PING[HALF..]).expect(200);
    }
    let closed = metric(&server, "boxoffice_connections_closed_total{state=\"live\"}");
    assert!((1..=100).contains(&closed), "{closed} streams gave way");
    drop(held);
}

#[test]
fn a_trusted_proxy_may_take_all_places_and_keeps_them() {
    for option in [&["--trusted-proxy", "127.0.0.2/31"][..], &["--trust-forwarded-for"]] {
        let server = memory("1", "64", option);
        let mut held = served(&server, client(1), 32);
        held.extend(silent(&server, client(1), 32));
        thread::sleep(A_WHILE);
        for number in [1, 4] {
            let mut refused = Wire::open_from(server.address, client(number));
            refused.next().problem(503, "too-many-connections");
        }
        for wire in &mut held {
            assert_eq!(ping(wire), Some(200));
        }
    }
}
