//! The live streams of availability, over the real socket.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::{Client, Wire, request};
use support::server::Server;
use support::{Stage, number, reserve};
use tempfile::tempdir;

/// A message of a stream: its name, empty for the usual one; its data; and its id, if it has one.
#[derive(Debug)]
struct Message {
    name: String,
    data: Value,
    id: Option<String>,
}

/// A client that reads a stream.
struct Stream {
    reader: BufReader<TcpStream>,
    head: String,
    retry: Option<u64>,
}

impl Stream {
    /// HTTP/1.0, so that the body has no chunks.
    fn open(address: SocketAddr, path: &str, last_id: Option<&str>) -> Stream {
        let mut socket = TcpStream::connect(address).expect("it listens");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        let resume = last_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\nAccept: text/event-stream\r\n{resume}\r\n");
        socket.write_all(request.as_bytes()).expect("it reads");
        let mut reader = BufReader::new(socket);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).expect("a head") > 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        Stream { reader, head: head.to_lowercase(), retry: None }
    }

    /// The next message; `None` at the end of the stream.
    fn next(&mut self) -> Option<Message> {
        let (mut name, mut data, mut id) = (String::new(), None, None);
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).expect("no gap of a minute") == 0 {
                return None;
            }
            let line = line.strip_suffix('\n').expect("a whole line");
            match line.split_once(": ") {
                Some(("event", value)) => name = value.to_owned(),
                Some(("data", value)) => data = Some(serde_json::from_str(value).expect("JSON")),
                Some(("id", value)) => id = Some(value.to_owned()),
                Some(("retry", value)) => self.retry = Some(value.parse().expect("milliseconds")),
                _ if line.is_empty() => match data {
                    Some(data) => return Some(Message { name, data, id }),
                    None => (name, id) = (String::new(), None),
                },
                _ => assert!(line.starts_with(':'), "{line:?}"),
            }
        }
    }

    /// Reads on until so many tickets of the event remain, and returns the last message and how many came.
    fn until(&mut self, event: u64, remaining: u64) -> (Message, usize) {
        let (mut count, mut position) = (0, 0);
        loop {
            let message = self.next().expect("the stream goes on");
            count += 1;
            if number(&message.data, "event") != event {
                continue;
            }
            assert!(number(&message.data, "position") > position, "{message:?} after {position}");
            position = number(&message.data, "position");
            support::check_sums(&message.data);
            if number(&message.data, "remaining") == remaining {
                return (message, count);
            }
        }
    }
}

fn path(event: u64) -> String {
    format!("/api/v1/events/{event}/availability/stream")
}

fn path_of(events: &[u64]) -> String {
    let ids: Vec<String> = events.iter().map(u64::to_string).collect();
    format!("/api/v1/availability/stream?ids={}", ids.join(","))
}

fn position(stage: &Stage, event: u64) -> u64 {
    number(&stage.anyone.get(&format!("/api/v1/events/{event}/availability")).expect(200).json(), "position")
}

/// How many connections the server has.
fn open_connections(client: &Client) -> u64 {
    let page = client.get("/metrics").expect(200);
    let line = page.text().lines().find_map(|line| line.strip_prefix("boxoffice_connections "));
    line.expect("a gauge").parse().expect("a number")
}

/// All followers see the last state, whichever core they are on.
#[test]
fn followers_of_every_core_see_each_sale_or_a_later_one() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(1000);
    let mut streams: Vec<Stream> =
        (0..8).map(|_| Stream::open(stage.server.address, &path(event), None)).collect();
    for stream in &mut streams {
        for line in ["content-type: text/event-stream\r\n", "cache-control: no-store\r\n"] {
            assert!(stream.head.contains(line), "{}", stream.head);
        }
        assert!(stream.head.contains("x-accel-buffering: no\r\n"), "{}", stream.head);
        let (message, count) = stream.until(event, 1000);
        assert_eq!((message.name.as_str(), count), ("", 1));
        assert_eq!(message.id, Some(number(&message.data, "position").to_string()));
    }
    // Changes are one message where they come faster than messages do.
    for _ in 0..200 {
        reserve(&stage.cust1, event, 1);
    }
    for stream in &mut streams {
        let (message, count) = stream.until(event, 800);
        assert!((1..=200).contains(&count), "{count} messages");
        assert_eq!(number(&message.data, "position"), position(&stage, event));
    }
}

#[test]
fn a_stream_goes_on_after_the_last_message_without_a_gap() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let address = stage.server.address;
    let (first, _) = Stream::open(address, &path(event), None).until(event, 10);
    reserve(&stage.cust1, event, 1);
    // What has changed meanwhile comes first.
    let mut resumed = Stream::open(address, &path(event), first.id.as_deref());
    let (second, count) = resumed.until(event, 9);
    assert_eq!(count, 1);
    // Nothing has changed: the first message is the next sale.
    let mut resumed = Stream::open(address, &path(event), second.id.as_deref());
    reserve(&stage.cust1, event, 2);
    assert_eq!(resumed.until(event, 7).1, 1);
    // What is no id of this event counts as none.
    for strange in ["x", "", "99999999999", "1:2", "-1"] {
        assert_eq!(Stream::open(address, &path(event), Some(strange)).until(event, 7).1, 1, "{strange}");
    }
}

#[test]
fn several_events_are_one_stream_that_survives_another_number_of_shards() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let events: Vec<u64> = (0..4).map(|_| stage.event(10)).collect();
    let all = path_of(&[&events[..], &[999_999]].concat());
    let mut stream = Stream::open(stage.server.address, &all, None);
    let first: Vec<Message> = (0..4).map(|_| stream.next().expect("a message of each")).collect();
    assert!(first.iter().map(|one| number(&one.data, "event")).eq(events.iter().copied()));
    assert!(first.iter().map(|one| one.id.is_some()).eq([false, false, false, true]));
    reserve(&stage.cust1, events[2], 3);
    let (message, _) = stream.until(events[2], 7);
    let id = message.id.expect("the last of a piece has an id");
    // The server drains, and the stream says when to come back.
    stage.server.signal_to_end();
    assert!(stream.next().is_none(), "nothing new");
    assert!(stream.retry.is_some(), "a drain says when to come back");
    let (status, log) = stage.server.end();
    assert_eq!(status.code(), Some(0), "{log}");

    let stage = Stage::again(Server::start(data.path(), &["--demo", "--shards", "3"]));
    reserve(&stage.cust1, events[0], 1);
    stage.org1.delete(&format!("/api/v1/events/{}", events[1])).expect(204);
    let mut stream = Stream::open(stage.server.address, &all, Some(&id));
    let gone = stream.next().expect("what was deleted meanwhile");
    assert_eq!((gone.name.as_str(), gone.data), ("deleted", json!({ "event": events[1] })));
    assert_eq!(stream.until(events[0], 9).1, 1, "the others have not changed");
    // An event that is deleted while it is followed.
    stage.org1.delete(&format!("/api/v1/events/{}?force=true", events[0])).expect(204);
    let gone = stream.next().expect("a last message");
    assert_eq!((gone.name.as_str(), gone.data), ("deleted", json!({ "event": events[0] })));
    reserve(&stage.cust1, events[3], 1);
    assert_eq!(stream.until(events[3], 9).1, 1);
}

#[test]
fn a_deleted_event_ends_its_stream() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 1);
    let event = stage.event(10);
    let mut stream = Stream::open(stage.server.address, &path(event), None);
    stream.until(event, 10);
    stage.org1.delete(&format!("/api/v1/events/{event}")).expect(204);
    let last = stream.next().expect("a last message");
    assert_eq!((last.name.as_str(), &last.data), ("deleted", &json!({ "event": event })));
    assert!(stream.next().is_none(), "nothing follows");
    stage.anyone.get(&path(event)).problem(410, "event-deleted");
    stage.anyone.get(&path_of(&[event, 999_999])).problem(404, "not-found");
    stage.anyone.get(&path(999_999)).problem(404, "not-found");
    stage.anyone.get("/api/v1/availability/stream").problem(422, "invalid");
    stage.anyone.send("GET", &path(1), &[("Accept", "application/json")], "").problem(406, "not-acceptable");
    let head = stage.anyone.send("HEAD", &path(1), &[], "").expect(200);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
}

/// One that never reads keeps neither others nor a drain waiting, and those that leave leave nothing behind.
#[test]
fn readers_that_never_read_or_leave_disturb_nobody() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 1);
    let event = stage.event(1000);
    let silent: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut socket = TcpStream::connect(stage.server.address).unwrap();
            write!(socket, "GET {} HTTP/1.1\r\nHost: x\r\n\r\n", path(event)).unwrap();
            socket
        })
        .collect();
    for _ in 0..20 {
        Stream::open(stage.server.address, &path(event), None).until(event, 1000);
    }
    let mut stream = Stream::open(stage.server.address, &path(event), None);
    for _ in 0..50 {
        reserve(&stage.cust1, event, 1);
    }
    stream.until(event, 950);
    stage.server.signal_to_end();
    let (status, log) = stage.server.end();
    assert_eq!(status.code(), Some(0), "{log}");
    for mut socket in silent {
        let mut rest = String::new();
        socket.read_to_string(&mut rest).expect("the stream ended in order");
        assert!(rest.contains("retry: ") && rest.ends_with("0\r\n\r\n"), "{rest}");
    }
}

/// A reader that never reads is disconnected after some tens of messages, others go on, and it can resume.
#[test]
fn a_reader_that_never_reads_is_dropped_and_resumes() {
    /// More than any kernel keeps: its buffers on both sides are small.
    const MESSAGES_MAX: u64 = 150;
    let data = tempdir().unwrap();
    let arguments = ["--demo", "--shards", "1", "--stall-timeout", "1", "--idle-timeout", "600"];
    let stage = Stage::on(Server::start(data.path(), &arguments));
    let event = stage.event(10_000);
    let mut reader = Stream::open(stage.server.address, &path(event), None);
    let mut silent = Wire::with_small_receive_buffer(stage.server.address).expect("it listens");
    silent.send(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", path(event))).expect("it reads");
    reader.until(event, 10_000);
    reserve(&stage.cust1, event, 1);
    let mut sold = 1;
    let with_it = open_connections(&stage.anyone);
    while open_connections(&stage.anyone) == with_it {
        assert!(sold < MESSAGES_MAX, "it is still connected after {sold} messages");
        reserve(&stage.cust1, event, 1);
        sold += 1;
        reader.until(event, 10_000 - sold);
    }
    let received = silent.read_to_end();
    assert!(!received.ends_with("0\r\n\r\n"), "it was not told that this was all: {received}");
    let last = received.rsplit_once("\nid: ").and_then(|(_, rest)| rest.split_once("\n\n"));
    let (id, _) = last.expect("it received a whole message");
    assert!(id.parse::<u64>().expect("a position") < position(&stage, event), "it missed some");
    let mut resumed = Stream::open(stage.server.address, &path(event), Some(id));
    assert_eq!(resumed.until(event, 10_000 - sold).1, 1);
    reserve(&stage.cust1, event, 1);
    resumed.until(event, 10_000 - sold - 1);
    reader.until(event, 10_000 - sold - 1);
}

/// While a sync takes three seconds, nobody sees the sale that it is for.
#[test]
#[ignore = "needs strace"]
fn a_follower_sees_no_sale_before_its_sync() {
    const SLOW: Duration = Duration::from_secs(3);
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 1);
    let event = stage.event(10);
    let mut streams: Vec<Stream> =
        (0..3).map(|_| Stream::open(stage.server.address, &path(event), None)).collect();
    streams.iter_mut().for_each(|stream| drop(stream.until(event, 10)));
    let journal = [data.path().join("shard-00.sqlite-wal")];
    let mut strace = stage.server.inject("fsync,fdatasync", &journal, "delay_enter=3000000");
    let mut remaining = 10;
    for _ in 0..3 {
        let start = Instant::now();
        let mut buyer = stage.server.wire();
        let sale = format!("/api/v1/events/{event}/reservations");
        let token = stage.cust1.token.as_deref();
        buyer.send(request("POST", &sale, token, "", "{\"quantity\":1}")).expect("the server reads");
        remaining -= 1;
        for stream in &mut streams {
            let (_, count) = stream.until(event, remaining);
            assert_eq!(count, 1, "the sale, and nothing before it");
            assert!(start.elapsed() >= SLOW, "seen after {:?}", start.elapsed());
        }
        buyer.next().expect(201);
    }
    stage.server.kill();
    strace.wait().expect("strace ends with what it traces");
}
