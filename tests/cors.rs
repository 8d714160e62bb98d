//! Pages of other origins: preflights, the headers of answers, and of errors before there is a route.

mod support;

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use boxoffice::front::router::ROUTES;
use serde_json::json;
use support::client::{Answer, Client, Wire, request};
use support::server::{Server, serve};
use support::{LogLock, Stage};
use tempfile::tempdir;

const SHOP: &str = "https://shop.example";
const OTHER: &str = "http://localhost:8080";

fn open(data: &std::path::Path, arguments: &[&str]) -> Stage {
    Stage::on(Server::start(data, &[&["--demo", "--shards", "2"], arguments].concat()))
}

fn preflight(client: &Client, path: &str, origin: &str, method: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", method),
        ("access-control-request-headers", "authorization,content-type,idempotency-key"),
    ];
    client.send("OPTIONS", path, &headers, "")
}

/// Whether caches have to look at the origin.
fn varies(answer: &Answer) -> bool {
    answer.headers.iter().any(|(name, value)| name == "vary" && value == "Origin")
}

/// Checks that a page of an origin may read the answer.
#[track_caller]
fn expect_readable(answer: &Answer, origin: &str) {
    assert_eq!(answer.header("access-control-allow-origin"), Some(origin), "{answer:?}");
    assert_eq!(varies(answer), origin != "*", "{answer:?}");
    let exposed = answer.header("access-control-expose-headers").expect("it may be read");
    assert_eq!(exposed, "Location, ETag, Link, Retry-After, X-Request-Id, Idempotent-Replayed");
    assert_eq!(answer.header("access-control-allow-credentials"), None);
}

#[track_caller]
fn expect_unreadable(answer: &Answer, is_varied: bool) {
    let cors = answer.headers.iter().filter(|(name, _)| name.starts_with("access-control-"));
    assert_eq!(cors.count(), 0, "{answer:?}");
    assert_eq!(varies(answer), is_varied, "{answer:?}");
}

#[test]
fn preflights_are_answered_from_the_routes() {
    let data = tempdir().unwrap();
    let stage = open(data.path(), &["--cors-origin", SHOP, "--cors-origin", OTHER]);
    let client = &stage.anyone;
    let paths: BTreeSet<&str> = ROUTES.iter().map(|route| route.path).collect();
    for path in paths {
        let path_of_one: String = path.replace(['{', '}'], "");
        let methods: BTreeSet<&str> =
            ROUTES.iter().filter(|route| route.path == path).map(|route| route.method.as_str()).collect();
        for origin in [SHOP, OTHER] {
            let answer = preflight(client, &path_of_one, origin, "PUT").expect(204);
            expect_readable(&answer, origin);
            let allowed = answer.header("access-control-allow-methods").unwrap();
            let mut allowed: BTreeSet<&str> = allowed.split(", ").collect();
            allowed.remove("HEAD");
            assert!(methods.is_subset(&allowed), "{path}: {allowed:?}");
            assert_eq!(answer.header("access-control-max-age"), Some("7200"));
            let headers = answer.header("access-control-allow-headers").unwrap().to_ascii_lowercase();
            let once: BTreeSet<&str> = headers.split(", ").collect();
            assert_eq!(once.len(), headers.split(", ").count(), "each once: {headers}");
            for header in [
                "authorization",
                "content-type",
                "idempotency-key",
                "if-match",
                "if-none-match",
                "last-event-id",
                "x-request-id",
            ] {
                assert!(once.contains(header), "{header} is not in {headers}");
            }
        }
    }
    // From another origin, or to nothing, it is a request like others; so it is without a method.
    let refused = preflight(client, "/api/v1/events", "https://evil.example", "GET");
    assert_eq!(refused.header("allow"), Some("POST, GET, HEAD"));
    expect_unreadable(&refused, true);
    refused.problem(405, "method-not-allowed");
    preflight(client, "/api/v1/events", "null", "GET").problem(405, "method-not-allowed");
    let nowhere = preflight(client, "/api/v1/nowhere", SHOP, "GET");
    expect_readable(&nowhere, SHOP);
    nowhere.problem(404, "not-found");
    client.send("OPTIONS", "/api/v1/events", &[("origin", SHOP)], "").problem(405, "method-not-allowed");
    let whole = format!("OPTIONS * HTTP/1.1\r\nHost: x\r\nOrigin: {SHOP}\r\n\r\n");
    expect_readable(&stage.server.wire().ask(whole).expect(200), SHOP);
}

#[test]
fn answers_and_errors_say_which_page_may_read_them() {
    let data = tempdir().unwrap();
    let stage = open(data.path(), &["--cors-origin", &format!("{SHOP},{OTHER}")]);
    let event = stage.event(5);
    let from = |client: &Client, origin: &str, method: &str, path: &str, body: &str| {
        client.send(method, path, &[("origin", origin)], body)
    };
    let buy = format!("/api/v1/events/{event}/reservations");
    for (client, method, path, body, status) in [
        (&stage.anyone, "GET", "/api/v1/events", "", 200),
        (&stage.cust1, "POST", &*buy, r#"{"quantity":1}"#, 201),
        (&stage.cust1, "POST", &buy, r#"{"quantity":99}"#, 409),
        (&stage.cust1, "POST", &buy, "{", 400),
        (&stage.anyone, "POST", &buy, r#"{"quantity":1}"#, 401),
        (&stage.org2, "GET", &buy, "", 403),
        (&stage.org1, "GET", &buy, "", 200),
        (&stage.anyone, "GET", "/nowhere", "", 404),
        (&stage.anyone, "PUT", "/api/v1/events", "", 405),
    ] {
        expect_readable(&from(client, SHOP, method, path, body).expect(status), SHOP);
        let body = if status == 201 { r#"{"quantity":100}"# } else { body };
        let of_another = from(client, "https://evil.example", method, path, body);
        expect_unreadable(&of_another, true);
    }
    // None of these is a request with a route.
    let huge =
        format!("POST {buy} HTTP/1.1\r\nHost: x\r\nOrigin: {OTHER}\r\nContent-Length: 99999999\r\n\r\n");
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\nOrigin: {OTHER}\r\n\r\n", "a".repeat(9000));
    let fields = "X-A: b\r\n".repeat(100);
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\nOrigin: {OTHER}\r\n{fields}\r\n");
    let wrong = format!("GET / HTTP/1.1\r\nHost: x\r\nOrigin: {OTHER}\r\nContent-Length: x\r\n\r\n");
    for (bytes, status) in [(&huge, 413), (&long, 414), (&many, 431), (&wrong, 400)] {
        let answer = stage.server.wire().ask(bytes);
        assert_eq!(answer.status, status, "{answer:?}");
        // The line is refused before the fields have come.
        if status != 414 {
            expect_readable(&answer, OTHER);
        }
    }
    let evil = huge.replace(OTHER, "https://evil.example");
    expect_unreadable(&stage.server.wire().ask(evil), true);
    // On one connection, each answer is for its own request.
    let mut wire: Wire = stage.server.wire();
    let headers = format!("Origin: {OTHER}\r\n");
    let first = request("GET", "/api/v1/events", None, &headers, "");
    wire.send(format!("{first}{}", request("GET", "/api/v1/events", None, "", ""))).unwrap();
    expect_readable(&wire.next(), OTHER);
    expect_unreadable(&wire.next(), true);
}

#[test]
fn a_refusal_for_want_of_room_is_readable() {
    let data = tempdir().unwrap();
    let server =
        Server::start(data.path(), &["--shards", "1", "--max-connections", "1", "--cors-origin", SHOP]);
    let _taken = {
        let mut wire = server.wire();
        wire.ask(request("GET", "/api/v1/events", None, "", ""));
        wire.send("GET /api/v1/events HTTP/1.1\r\n").unwrap();
        wire
    };
    let refused = server.wire().ask(request("GET", "/api/v1/events", None, "", ""));
    expect_readable(&refused, SHOP);
    refused.problem(503, "too-many-connections");
}

#[test]
fn every_origin_may_if_the_option_says_so_and_none_without_it() {
    let data = tempdir().unwrap();
    let mut command = serve(data.path());
    command.args(["--demo", "--shards", "2"]).env("BOXOFFICE_CORS_ORIGIN", "*");
    let stage = Stage::on(Server::spawn(command));
    let event = stage.event(5);
    for origin in ["https://any.example", "null"] {
        let answer = stage.cust1.send(
            "POST",
            &format!("/api/v1/events/{event}/reservations"),
            &[("origin", origin)],
            &json!({ "quantity": 1 }).to_string(),
        );
        expect_readable(&answer.expect(201), "*");
        expect_readable(&preflight(&stage.anyone, "/api/v1/events", origin, "POST").expect(204), "*");
    }
    expect_readable(&stage.anyone.get("/api/v1/events").expect(200), "*");
    stage.server.kill();

    let stage = open(data.path(), &[]);
    expect_unreadable(
        &stage.anyone.send("GET", "/api/v1/events", &[("origin", SHOP)], "").expect(200),
        false,
    );
    let refused = preflight(&stage.anyone, "/api/v1/events", SHOP, "GET");
    expect_unreadable(&refused, false);
    refused.problem(405, "method-not-allowed");
}

#[test]
fn a_page_sees_that_the_server_starts() {
    let data = tempdir().unwrap();
    let address = {
        let stage = open(data.path(), &[]);
        let address = stage.server.address;
        stage.server.kill();
        address
    };
    let lock = LogLock::write(data.path(), 1);
    let starting = Server::begin_at(data.path(), address, &["--shards", "2", "--cors-origin", SHOP]);
    let wire = || {
        (0..400).find_map(|_| {
            thread::sleep(Duration::from_millis(5));
            Wire::open(address).ok()
        })
    };
    let headers = format!("Origin: {SHOP}\r\n");
    let ask = |method: &str, headers: &str| {
        wire().expect("it listens").ask(request(method, "/api/v1/events", None, headers, ""))
    };
    let allowed = ask("OPTIONS", &format!("{headers}Access-Control-Request-Method: GET\r\n")).expect(204);
    expect_readable(&allowed, SHOP);
    assert_eq!(allowed.header("access-control-allow-methods"), Some("POST, GET, HEAD"));
    let refused = ask("GET", &headers);
    expect_readable(&refused, SHOP);
    refused.problem(503, "starting");
    expect_unreadable(&ask("GET", "Origin: https://evil.example\r\n"), true);
    drop(lock);
    drop(starting.ready());
}
