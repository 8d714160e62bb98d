//! HTTP over a real socket: pipelining, framing, refusals, timeouts, and every vector of
//! `tests/data/http`.

mod support;
#[path = "support/vectors.rs"]
mod vectors;

use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::json;
use support::client::{Answer, Wire, request};
use support::server::Server;
use support::{Stage, number, text};
use tempfile::tempdir;
use vectors::{Event, Vector};

/// The problems of requests that the parser refuses; no endpoint answers with them.
const PARSER_PROBLEMS: [&str; 7] = [
    "malformed-request",
    "content-too-large",
    "uri-too-long",
    "expectation-failed",
    "headers-too-large",
    "not-implemented",
    "version-not-supported",
];

fn memory(arguments: &[&str]) -> Server {
    let mut all = vec!["--storage", "memory", "--shards", "2"];
    all.extend_from_slice(arguments);
    Server::start(Path::new("."), &all)
}

#[test]
fn vectors_over_a_socket() {
    let vectors = vectors::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/http"));
    assert!(vectors.len() >= 400, "only {} vectors", vectors.len());
    let server = memory(&[]);
    let failures: Vec<String> = vectors
        .iter()
        .filter_map(|vector| run_vector(&server, vector).err().map(|why| format!("{}: {why}", vector.name)))
        .collect();
    assert!(failures.is_empty(), "{} failed: {failures:#?}", failures.len());
}

fn run_vector(server: &Server, vector: &Vector) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut wire = server.wire();
    wire.send(&vector.bytes).map_err(failed)?;
    let mut closes = false;
    for event in &vector.outcome {
        match event {
            Event::Accept(accepted) => {
                let answer = next_final(&mut wire, accepted.method == "HEAD")?;
                check_accepted(&answer, !accepted.keep_alive)?;
                closes = !accepted.keep_alive;
            }
            Event::Refuse(status) => {
                let answer = next_final(&mut wire, false)?;
                let slug = answer.json()["type"].as_str().unwrap_or("").replace("/problems/", "");
                if answer.status != *status || !answer.closes() || !PARSER_PROBLEMS.contains(&&*slug) {
                    return Err(format!("want a refusal with {status}, got {answer:?}"));
                }
                closes = true;
            }
            // The server answers neither before nor after the client closes its side.
            Event::Wait => {
                wire.end_sending().map_err(failed)?;
                closes = true;
            }
        }
    }
    if !closes {
        // A further request is parsed correctly if both sides agree where the last one ended.
        wire.send("GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").map_err(failed)?;
        let answer = next_final(&mut wire, false)?;
        if answer.status != 200 {
            return Err(format!("the next request was misread: {answer:?}"));
        }
    }
    loop {
        match wire.answer().map_err(failed)? {
            Some(answer) if answer.status == 100 => {}
            Some(answer) => return Err(format!("an unexpected response: {answer:?}")),
            None => return Ok(()),
        }
    }
}

/// Reads the next response that is not an interim one.
fn next_final(wire: &mut Wire, is_head: bool) -> Result<Answer, String> {
    loop {
        let answer = if is_head { wire.answer_without_body() } else { wire.answer() };
        match answer.map_err(|error| error.to_string())? {
            Some(answer) if answer.status == 100 => {}
            Some(answer) => return Ok(answer),
            None => return Err("closed without a response".to_owned()),
        }
    }
}

fn check_accepted(answer: &Answer, closes: bool) -> Result<(), String> {
    let text = String::from_utf8_lossy(&answer.body);
    let refused = PARSER_PROBLEMS.iter().any(|slug| text.contains(&format!("/problems/{slug}\"")));
    if refused || answer.status >= 500 || answer.closes() != closes {
        return Err(format!("want it accepted, closing {closes}, got {answer:?}"));
    }
    Ok(())
}

/// Parses the number in `X-Request-Id: p-N`.
fn request_number(answer: &Answer) -> usize {
    let id = answer.header("x-request-id").and_then(|id| id.strip_prefix("p-"));
    id.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no request number: {answer:?}"))
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(60);
    let token = stage.cust1.token.as_deref();
    let path = format!("/api/v1/events/{event}/reservations");
    let rows = [("GET", "/api/v1/events/1", ""), ("GET", "/livez", ""), ("POST", &path, "{\"quantity\":1}")];
    for (method, path, body) in rows {
        let all: String = (0..100)
            .map(|index| request(method, path, token, &format!("X-Request-Id: p-{index}\r\n"), body))
            .collect();
        let mut wire = stage.server.wire();
        wire.send(all).unwrap();
        let mut numbers = Vec::new();
        for index in 0..100 {
            let answer = wire.next();
            assert_eq!(request_number(&answer), index, "{method} {path}");
            let sold = method == "POST";
            assert_eq!(
                answer.status,
                if !sold {
                    200
                } else if index < 60 {
                    201
                } else {
                    409
                },
                "{answer:?}"
            );
            if answer.status == 201 {
                let body = answer.json();
                let (_, number) = text(&body, "id").rsplit_once('-').unwrap();
                numbers.push(number.parse::<u32>().unwrap());
            }
        }
        assert!(numbers.is_sorted_by(|before, after| before < after), "{numbers:?}");
        // There is no further response.
        wire.end_sending().unwrap();
        wire.expect_end();
    }
    assert_eq!(number(&stage.seen(event), "reserved"), 60);
}

/// Pipelined requests take effect in order, even if they are for different shards.
#[test]
fn a_pipeline_over_two_shards_acts_as_if_sequential() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    // With two shards, the events 1 and 2 of the demonstration are on different ones.
    let (first, second) = (1, 2);
    let quota = number(&stage.seen(first), "quota");
    let all_but_one = stage.reservation(first, quota - 1);
    let event = |event| format!("/api/v1/events/{event}");
    let buy = |event| format!("/api/v1/events/{event}/reservations");
    let give_back = format!("/api/v1/reservations/{all_but_one}");
    let one = "{\"quantity\":1}";
    // The request, its status, and the reserved count if the response is an event.
    let mut rows: Vec<(&str, String, &str, u16, Option<u64>)> = Vec::new();
    for round in 1..=10 {
        rows.push(("POST", buy(second), one, 201, None));
        rows.push(("GET", event(second), "", 200, Some(round)));
        rows.push(("GET", event(first), "", 200, Some(quota - 1)));
    }
    rows.extend([
        ("POST", buy(first), one, 201, None),
        ("POST", buy(second), one, 201, None),
        ("POST", buy(first), one, 409, None),
        ("GET", event(first), "", 200, Some(quota)),
        ("GET", event(second), "", 200, Some(11)),
        ("DELETE", give_back.clone(), "", 204, None),
        ("POST", buy(first), one, 201, None),
        ("GET", event(first), "", 200, Some(2)),
        ("DELETE", give_back, "", 204, None),
        ("GET", event(first), "", 200, Some(2)),
    ]);
    let token = stage.cust1.token.as_deref();
    let all: String = rows
        .iter()
        .enumerate()
        .map(|(index, (method, path, body, ..))| {
            request(method, path, token, &format!("X-Request-Id: p-{index}\r\n"), body)
        })
        .collect();
    let mut wire = stage.server.wire();
    wire.send(all).unwrap();
    for (index, (method, path, _, status, reserved)) in rows.iter().enumerate() {
        let answer = wire.next();
        assert_eq!(
            (request_number(&answer), answer.status),
            (index, *status),
            "{index}: {method} {path}, {answer:?}"
        );
        if let Some(reserved) = reserved {
            assert_eq!(number(&answer.json(), "reserved"), *reserved, "{index}: {method} {path}");
        }
    }
}

#[test]
fn a_request_may_arrive_in_any_segments() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(1000);
    let token = stage.cust1.token.as_deref();
    let path = format!("/api/v1/events/{event}/reservations");
    let plain = request("POST", &path, token, "", "{\"quantity\":1}");
    let chunked = |body: &str| {
        request("POST", &path, token, "Transfer-Encoding: chunked\r\n", "") + body + "0\r\nTrailer: x\r\n\r\n"
    };
    let rows = [
        ("whole", plain.clone(), plain.len()),
        ("halves", plain.clone(), plain.len().div_ceil(2)),
        ("bytes", plain.clone(), 1),
        ("one chunk", chunked("e\r\n{\"quantity\":1}\r\n"), 9999),
        ("two chunks", chunked("5;a=b\r\n{\"qua\r\n9\r\nntity\":1}\r\n"), 9999),
        ("two chunks in bytes", chunked("5;a=b\r\n{\"qua\r\n9\r\nntity\":1}\r\n"), 1),
    ];
    let mut wire = stage.server.wire();
    for (sold, (name, bytes, piece)) in rows.into_iter().enumerate() {
        for piece in bytes.as_bytes().chunks(piece) {
            wire.send(piece).unwrap();
            // Otherwise the kernel would combine the segments.
            thread::sleep(Duration::from_micros(50));
        }
        let answer = wire.next();
        assert_eq!(answer.status, 201, "{name}: {answer:?}");
        assert_eq!(number(&stage.seen(event), "reserved"), sold as u64 + 1, "{name}");
    }
}

#[test]
fn expect_100_continue_is_answered() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let path = format!("/api/v1/events/{event}/reservations");
    let mut wire = stage.server.wire();
    for _ in 0..2 {
        let head = "Expect: 100-continue\r\nContent-Length: 14\r\n";
        let interim = wire.ask(request("POST", &path, stage.cust1.token.as_deref(), head, ""));
        assert_eq!(interim.status, 100);
        wire.ask("{\"quantity\":1}").expect(201);
    }
    let too_large = "Expect: 100-continue\r\nContent-Length: 65537\r\n";
    wire.ask(request("POST", &path, None, too_large, "")).problem(413, "content-too-large");
    wire.expect_end();
    assert_eq!(number(&stage.seen(event), "reserved"), 2);
}

#[test]
fn connections_are_closed_when_either_side_says_so() {
    let server = memory(&[]);
    // The request, the Connection field of its response, and whether the connection stays open.
    let rows = [
        ("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", None, true),
        ("GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", Some("close"), false),
        ("GET /livez HTTP/1.0\r\n\r\n", Some("close"), false),
        ("GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", Some("keep-alive"), true),
        ("GET /livez HTTP/1.0\r\nConnection: close\r\n\r\n", Some("close"), false),
    ];
    for (bytes, connection, stays_open) in rows {
        let mut wire = server.wire();
        // The second request is not executed if the connection is closed after the first.
        wire.send(bytes.repeat(2)).unwrap();
        let answer = wire.next().expect(200);
        assert_eq!(answer.header("connection"), connection, "{bytes:?}");
        if stays_open {
            wire.next().expect(200);
        } else {
            wire.expect_end();
        }
    }
}

#[test]
fn requests_after_a_refused_one_are_not_executed() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let path = format!("/api/v1/events/{event}/reservations");
    let buy = request("POST", &path, stage.cust1.token.as_deref(), "", "{\"quantity\":1}");
    let long = |count| "a".repeat(count);
    let rows = [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "malformed-request"),
        ("GET /\r\n\r\n".to_owned(), 400, "malformed-request"),
        ("\u{16}\u{3}\u{1}\u{2}".to_owned(), 400, "malformed-request"),
        (
            "POST /r HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                .to_owned(),
            400,
            "malformed-request",
        ),
        (
            format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n"),
            413,
            "content-too-large",
        ),
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", long(8192)), 414, "uri-too-long"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", long(16384)), 431, "headers-too-large"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(64)), 431, "headers-too-large"),
        ("BREW / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 501, "not-implemented"),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n".to_owned(), 505, "version-not-supported"),
    ];
    for (count, (bytes, status, slug)) in rows.into_iter().enumerate() {
        let shown = &bytes[..bytes.len().min(80)];
        let mut wire = stage.server.wire();
        wire.send(format!("{buy}{bytes}{buy}")).unwrap();
        assert_eq!(wire.next().status, 201, "{shown:?}");
        let answer = wire.next();
        assert!(answer.closes(), "{shown:?}: {answer:?}");
        answer.problem(status, slug);
        wire.expect_end();
        assert_eq!(number(&stage.seen(event), "reserved"), count as u64 + 1, "{shown:?}");
    }
}

/// Requests at and above each limit, with limits below and above the defaults.
#[test]
fn configured_limits_are_enforced() {
    let small = [("--max-target", 300), ("--max-head", 1024), ("--max-body", 4096)];
    let large = [("--max-target", 20_000), ("--max-head", 40_000), ("--max-body", 200_000)];
    for limits in [small, large] {
        let words: Vec<String> =
            limits.iter().flat_map(|(name, bytes)| [(*name).to_owned(), bytes.to_string()]).collect();
        let server = memory(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let [target, head, body] = limits.map(|(_, bytes)| bytes);
        let with_target =
            |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(bytes - 1));
        let with_head = |bytes: usize| {
            let line = "GET /nothing HTTP/1.1\r\nHost: x\r\nA: ";
            format!("{line}{}\r\n\r\n", "a".repeat(bytes - line.len() - 4))
        };
        let post = "POST /api/v1/users HTTP/1.1\r\nHost: x\r\n";
        let with_body = |bytes: usize| format!("{post}Content-Length: {bytes}\r\n\r\n{}", "a".repeat(bytes));
        let with_chunks = |bytes: usize| {
            let data = "a".repeat(bytes);
            format!("{post}Transfer-Encoding: chunked\r\n\r\n{bytes:x}\r\n{data}\r\n0\r\n\r\n")
        };
        let rows = [
            (with_target(target), 404),
            (with_target(target + 1), 414),
            (with_head(head), 404),
            (with_head(head + 1), 431),
            (with_body(body), 400),
            (with_body(body + 1), 413),
            (with_chunks(body), 400),
            (with_chunks(body + 1), 413),
        ];
        for (bytes, status) in rows {
            let mut wire = server.wire();
            // Sending may fail, since the server may refuse before it has received everything.
            let sent = wire.send(&bytes);
            let answer = wire.next();
            let shown = &bytes[..bytes.len().min(60)];
            assert_eq!(answer.status, status, "{limits:?}: {shown:?}, {sent:?}: {answer:?}");
            assert_eq!(answer.closes(), status > 404, "{limits:?}: {shown:?}: {answer:?}");
        }
    }
}

/// Percent-encoded unreserved characters are the characters themselves (RFC 3986 section 6.2.2.2). Dots are
/// not decoded, nor is what separates segments.
#[test]
fn unreserved_characters_of_a_path_may_be_encoded() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let id = stage.reservation(event, 1);
    let (_, of_event) = id.split_once('-').unwrap();
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let rows = [
        (format!("/api/v1/reservations/{event}%2D{of_event}"), 200),
        (format!("/api/v1/reservations/{event}%2d{of_event}"), 200),
        (format!("/api/v1/reservations/{}", encode(&id)), 200),
        (format!("/%61pi/%761/%72eservations/{id}"), 200),
        (format!("/api/v1/events/{}", encode(&event.to_string())), 200),
        ("/%6Civez".to_owned(), 200),
        (format!("/api/v1/reservations/{event}%252D{of_event}"), 404),
        (format!("/api/v1/reservations/{event}%2F{of_event}"), 404),
        (format!("/api/v1/reservations%2F{id}"), 404),
        (format!("%2Fapi/v1/reservations/{id}"), 400),
        (format!("/api/v1/events/%2E%2E/reservations/{id}"), 404),
        (format!("/api/v1/%2e/reservations/{id}"), 404),
        (format!("/api/v1/reservations/{id}%00"), 404),
        (format!("/api/v1/reservations/%20{id}"), 404),
        ("/openapi%2Ejson".to_owned(), 404),
    ];
    for (path, status) in rows {
        let mut wire = stage.server.wire();
        let answer = wire.ask(request("GET", &path, stage.cust1.token.as_deref(), "", ""));
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    stage.cust1.delete(&format!("/api/v1/reservations/{event}%2D{of_event}")).expect(204);
    assert_eq!(number(&stage.seen(event), "reserved"), 0);
}

/// A body in a coding is refused (RFC 9110 section 15.5.16), whether it is in that coding or not.
#[test]
fn coded_bodies_are_refused() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let plain = b"{\"quantity\":1}".to_vec();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&plain).unwrap();
    let coded = encoder.finish().unwrap();
    let rows = [
        ("Content-Encoding: gzip\r\n", &coded, 415),
        ("Content-Encoding: gzip\r\n", &plain, 415),
        ("Content-Encoding: br\r\n", &plain, 415),
        ("Content-Encoding: identity, gzip\r\n", &plain, 415),
        ("Content-Encoding: identity\r\ncontent-encoding: deflate\r\n", &plain, 415),
        ("Content-Encoding: \u{e9}\r\n", &plain, 415),
        ("Content-Encoding: identity\r\n", &plain, 201),
        ("Content-Encoding: , IDENTITY\r\n", &plain, 201),
        ("Content-Encoding:\r\n", &plain, 201),
        // Bytes of which nothing says that they are coded.
        ("", &coded, 400),
    ];
    for (fields, body, status) in rows {
        let fields = format!("{fields}Content-Length: {}\r\n", body.len());
        let path = format!("/api/v1/events/{event}/reservations");
        let mut bytes = request("POST", &path, stage.cust1.token.as_deref(), &fields, "").into_bytes();
        bytes.extend_from_slice(body);
        let answer = stage.server.wire().ask(bytes);
        assert_eq!(answer.status, status, "{fields}: {answer:?}");
        if status == 415 {
            assert_eq!(answer.header("accept-encoding"), Some("identity"));
            answer.problem(415, "unsupported-content-encoding");
        }
    }
    assert_eq!(number(&stage.seen(event), "reserved"), 3);
}

/// A value that is not UTF-8 is a value that nothing accepts, and not a field that was left out.
#[test]
fn values_that_are_not_text_are_not_ignored() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let token = format!("Authorization: Bearer {}\r\n", stage.cust1.token.as_deref().unwrap());
    let buy = format!("POST /api/v1/events/{event}/reservations");
    let rows: [(&str, &str, &[u8], u16); 4] = [
        (&buy, &token, b"Content-Type: application/json\xff\r\n", 415),
        (&buy, &token, b"Content-Encoding: \xff\r\n", 415),
        (&buy, &token, b"Accept: \xff\r\n", 406),
        ("GET /api/v1/events?organizer=me", "", b"Authorization: Bearer \xff\r\n", 401),
    ];
    for (target, token, field, status) in rows {
        let head = format!("{target} HTTP/1.1\r\nHost: x\r\n{token}Content-Length: 14\r\n");
        let bytes = [head.as_bytes(), field, b"\r\n{\"quantity\":1}"].concat();
        let answer = stage.server.wire().ask(bytes);
        assert_eq!(answer.status, status, "{target}: {answer:?}");
    }
    assert_eq!(number(&stage.seen(event), "reserved"), 0);
}

#[test]
fn the_maximum_number_of_fields_is_an_option() {
    for (arguments, fields) in [
        (&[][..], 64),
        (&["--max-fields", "16"], 16),
        (&["--max-fields", "1000", "--max-head", "65535"], 1000),
    ] {
        let server = memory(arguments);
        let lines = |count: usize| "A: b\r\n".repeat(count);
        let rows = [
            (format!("GET /nothing HTTP/1.1\r\nHost: x\r\n{}\r\n", lines(fields - 1)), 404),
            (format!("GET /nothing HTTP/1.1\r\nHost: x\r\n{}\r\n", lines(fields)), 431),
            // Fields beyond the usual number are read, too.
            (format!("GET /livez HTTP/1.1\r\nHost: x\r\n{}If-Match: *\r\n\r\n", lines(fields - 2)), 422),
            (chunked(&lines(fields)), 400),
            (chunked(&lines(fields + 1)), 431),
        ];
        for (bytes, status) in rows {
            let answer = server.wire().ask(&bytes);
            assert_eq!(answer.status, status, "{fields}: {:.60}: {answer:?}", bytes);
        }
    }

    fn chunked(trailers: &str) -> String {
        let head = "POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}1\r\n{{\r\n0\r\n{trailers}\r\n")
    }
}

/// RFC 9110 section 9.3.7.
#[test]
fn options_of_the_whole_server() {
    let server = memory(&[]);
    let mut wire = server.wire();
    let answer = wire.ask("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").expect(200);
    assert_eq!(answer.header("content-length"), Some("0"));
    assert_eq!(answer.header("content-type"), None);
    assert_eq!(answer.header("allow"), Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    wire.ask("OPTIONS /livez HTTP/1.1\r\nHost: x\r\n\r\n").expect(405);
    wire.ask("OPTIONS /nothing HTTP/1.1\r\nHost: x\r\n\r\n").problem(404, "not-found");
}

/// A client that sends one of these relies on it, so it is not ignored.
#[test]
fn headers_whose_promise_is_not_kept_are_refused() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let path = format!("/api/v1/events/{event}");
    let buy = format!("{path}/reservations");
    let body = json!({ "quantity": 1 }).to_string();
    let edit = json!({ "quota": 20 }).to_string();
    let own = format!("/api/v1/reservations/{}", stage.reservation(event, 1));
    let refused: [(_, _, _, &[_], _); 7] = [
        (&stage.cust1, "DELETE", &own, &[("idempotency-key", "\"a\"")], ""),
        (&stage.cust1, "DELETE", &own, &[("Idempotency-Key", "")], ""),
        (&stage.cust1, "POST", &buy, &[("x-a", "b"), ("IF-MATCH", "*")], &*body),
        (&stage.org1, "PATCH", &path, &[("idempotency-key", "a")], &edit),
        (&stage.org1, "PATCH", &path, &[("if-none-match", "*")], &edit),
        (&stage.cust1, "DELETE", &own, &[("if-match", "\"0\"")], ""),
        (&stage.anyone, "GET", &path, &[("if-match", "\"0\"")], ""),
    ];
    for (client, method, path, headers, body) in refused {
        let problem = client.send(method, path, headers, body).problem(422, "unsupported-header");
        let name = headers.last().unwrap().0.to_ascii_lowercase();
        let detail = text(&problem, "detail");
        assert!(detail.to_ascii_lowercase().contains(&name), "{name}: {problem}");
        let where_it_works = "PATCH /api/v1/events/{event} and DELETE /api/v1/events/{event}";
        assert_eq!(detail.contains(where_it_works), name == "if-match", "{problem}");
    }
    let seen = stage.anyone.send("GET", &path, &[("if-none-match", "\"1\"")], "").expect(200).json();
    assert_eq!((number(&seen, "quota"), number(&seen, "reserved")), (10, 1));
}

#[test]
fn slow_clients_time_out() {
    let server = memory(&["--head-timeout", "0.3", "--body-grace", "0.3", "--idle-timeout", "0.3"]);
    let rows = [
        ("nothing", "", None),
        ("half a head", "GET /livez HT", Some(408)),
        ("half a body", "POST /api/v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{", Some(408)),
    ];
    for (name, bytes, status) in rows {
        let mut wire = server.wire();
        wire.send(bytes).unwrap();
        let answer = wire.answer().unwrap();
        assert_eq!(answer.as_ref().map(|answer| answer.status), status, "{name}");
        if let Some(answer) = answer {
            assert!(answer.closes(), "{name}");
            answer.problem(408, "request-timeout");
            wire.expect_end();
        }
    }
}

#[test]
fn connections_beyond_the_limit_are_rejected() {
    let server = memory(&["--max-connections", "2"]);
    let ping = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut held = [server.wire(), server.wire()];
    for wire in &mut held {
        wire.ask(ping).expect(200);
    }
    let mut third = server.wire();
    let answer = third.next();
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(answer.closes());
    answer.problem(503, "too-many-connections");
    // After a connection is closed, the server accepts another one, though not at once.
    let [mut first, second] = held;
    drop((second, third));
    let regained = (0..500).any(|_| {
        thread::sleep(Duration::from_millis(10));
        let mut wire = server.wire();
        let response = wire.send(ping).and_then(|()| wire.answer());
        response.is_ok_and(|answer| answer.is_some_and(|answer| answer.status == 200))
    });
    assert!(regained, "no connection is accepted after one was closed");
    first.ask(ping).expect(200);
}

/// Other clients do not wait for a client that sends and never reads.
#[test]
fn a_client_that_does_not_read_does_not_hold_up_others() {
    let server = memory(&["--stall-timeout", "0.3"]);
    let mut wire = server.wire();
    let flood = request("GET", "/problems/sold-out", None, "", "").repeat(1000);
    // Sending fails once the server has closed the connection; until then some 8 MB of responses
    // fill the buffers on both sides.
    let is_closed = (0..200).any(|_| wire.send(&flood).is_err());
    assert!(is_closed, "the server read everything from a client that reads nothing");
    let body = json!({ "username": "ada", "password": support::PASSWORD });
    server.client().post("/api/v1/users", &body).expect(201);
}
