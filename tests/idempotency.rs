//! Idempotency keys: a request that is sent again takes effect once, and has the answer of the first time.

mod support;

use serde_json::{Value, json};
use support::client::{Answer, request};
use support::keys::{expect_again, is_replayed, send};
use support::server::Server;
use support::{Stage, all_items, metrics_once, number, text};
use tempfile::tempdir;

/// Values of Idempotency-Key that are the key `abc`.
const SAME_KEY: [&str; 2] = ["abc", "\"abc\""];
/// Others that are good.
const OTHER_KEYS: [&str; 5] = ["abC", "\"ab\\\"c\"", "\"ab\\\\c\"", "ab\\c!", "\"a,b;c=1\""];
/// Fields that are not one key.
const BAD_FIELDS: [&[&str]; 11] = [
    &[""],
    &["\"\""],
    &["\"abc"],
    &["abc\""],
    &["a b"],
    &["\"a b\""],
    &["a,b"],
    &["\"a\"; q=1"],
    &["\"a\\b\""],
    &["k\u{e9}y"],
    &["abc", "abc"],
];

/// What becomes of the second of two requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Second {
    /// It has the first's answer.
    Replayed,
    /// It is another request.
    New,
    /// Its key was used for another request.
    Reused,
}

/// The bodies of two requests for the same event, with the same key.
const BODIES: [(&str, &str, Second); 9] = [
    ("{\"quantity\":2}", "{\"quantity\":2}", Second::Replayed),
    ("{\"quantity\":2}", " {\n\"quantity\" :\t2 } ", Second::Replayed),
    ("{\"quantity\":2}", "{\"quantity\":2.0}", Second::Replayed),
    ("{\"quantity\":2e0}", "{\"quantity\":2}", Second::Replayed),
    ("{\"quantity\":20e-1}", "{\"quantity\":0.2e1}", Second::Replayed),
    ("{\"quantity\":2}", "{\"\\u0071uantity\":2}", Second::Replayed),
    ("{\"quantity\":2}", "{\"quantity\":3}", Second::Reused),
    ("{\"quantity\":2}", "{\"quantity\":20}", Second::Reused),
    ("{\"quantity\":10}", "{\"quantity\":1}", Second::Reused),
];

const EVENT_BODIES: [(&str, &str, Second); 4] = [
    ("{\"name\":\"Encore\",\"quota\":5}", "{\"quota\":5e0, \"name\":\"Enc\\u006Fre\"}", Second::Replayed),
    (
        "{\"name\":\"Encore\",\"quota\":5,\"venue\":\"Hall\"}",
        "{\"venue\":\"Hall\",\"quota\":5,\"name\":\"Encore\"}",
        Second::Replayed,
    ),
    ("{\"name\":\"Encore\",\"quota\":5}", "{\"name\":\"Encore\",\"quota\":5,\"venue\":null}", Second::Reused),
    ("{\"name\":\"Encore\",\"quota\":5}", "{\"name\":\"encore\",\"quota\":5}", Second::Reused),
];

#[track_caller]
fn check_second(first: &Answer, second: Answer, expected: Second) {
    match expected {
        Second::Replayed => expect_again(first, second),
        Second::New => {
            let second = second.expect(201);
            assert!(!is_replayed(&second), "{second:?}");
            assert_ne!(second.json()["id"], first.json()["id"]);
        }
        Second::Reused => drop(second.problem(422, "key-reused")),
    }
}

fn buy(event: u64) -> String {
    format!("/api/v1/events/{event}/reservations")
}

#[test]
fn a_key_is_one_string_quoted_or_bare() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(1000);
    let body = "{\"quantity\":1}";
    let mut made = 0;
    for key in SAME_KEY.into_iter().chain(OTHER_KEYS) {
        let answer = send(&stage.cust1, &buy(event), key, body).expect(201);
        made += u64::from(!is_replayed(&answer));
        assert_eq!(number(&stage.seen(event), "reserved"), made, "{key}");
    }
    assert_eq!(made, 1 + OTHER_KEYS.len() as u64);
    let (longest, too_long) = ("k".repeat(255), "k".repeat(256));
    assert!(!is_replayed(&send(&stage.cust1, &buy(event), &longest, body).expect(201)));
    for fields in BAD_FIELDS.into_iter().chain([&[&*too_long][..]]) {
        let headers: Vec<_> = fields.iter().map(|field| ("Idempotency-Key", *field)).collect();
        let problem = stage.cust1.send("POST", &buy(event), &headers, body).problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], "Idempotency-Key:", "{fields:?}: {problem}");
        assert!(text(&problem, "detail").starts_with("Idempotency-Key: must be "), "{problem}");
        stage
            .org1
            .send("POST", "/api/v1/events", &headers, "{\"name\":\"x\",\"quota\":1}")
            .problem(422, "invalid");
    }
    assert_eq!(number(&stage.seen(event), "reserved"), made + 1);
}

#[test]
fn the_same_request_again_has_the_same_answer_and_another_is_refused() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    for (index, (first, second, expected)) in BODIES.into_iter().enumerate() {
        let event = stage.event(100);
        let key = format!("key-{index}");
        let answer = send(&stage.cust1, &buy(event), &key, first).expect(201);
        assert!(!is_replayed(&answer));
        check_second(&answer, send(&stage.cust1, &buy(event), &key, second), expected);
        let bought = number(&answer.json(), "quantity");
        assert_eq!(number(&stage.seen(event), "reserved"), bought, "{first} {second}");
        // A key counts for its user, and for one address.
        check_second(&answer, send(&stage.cust2, &buy(event), &key, second), Second::New);
        check_second(&answer, send(&stage.cust1, &buy(stage.event(100)), &key, second), Second::New);
        check_second(&answer, send(&stage.cust1, &buy(event), &format!("{key}x"), second), Second::New);
        // An address has several spellings.
        let spelled =
            format!("/api/v1/%65vents/{event}/reservations").replace("1", "%31").replace("v%31", "v1");
        check_second(&answer, send(&stage.cust1, &spelled, &key, first), Second::Replayed);
    }
    for (index, (first, second, expected)) in EVENT_BODIES.into_iter().enumerate() {
        let key = format!("key-{index}");
        let answer = send(&stage.org1, "/api/v1/events", &key, first).expect(201);
        assert!(!is_replayed(&answer));
        check_second(&answer, send(&stage.org1, "/api/v1/events", &key, second), expected);
        check_second(&answer, send(&stage.org2, "/api/v1/events", &key, second), Second::New);
        check_second(&answer, send(&stage.org1, "/api/v1/events", &key, first), Second::Replayed);
    }
}

#[test]
fn an_answer_stays_as_it_was_first_given() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let (path, body) = (buy(event), "{\"quantity\":4}");
    let first = send(&stage.cust1, &path, "k", body).expect(201);
    let again = || expect_again(&first, send(&stage.cust1, &path, "k", body));
    let own = first.header("location").expect("of what was made").to_owned();
    again();
    stage.cust1.patch(&own, &json!({ "quantity": 1 })).expect(200);
    again();
    stage.cust1.delete(&own).expect(204);
    again();
    stage.reservation(event, 10);
    send(&stage.cust1, &path, "other", body).problem(409, "sold-out");
    again();
    stage.org1.delete(&format!("/api/v1/events/{event}?force=true")).expect(204);
    send(&stage.cust1, &path, "other", body).problem(410, "event-deleted");
    again();

    let body = "{\"name\":\"Encore\",\"quota\":5,\"venue\":\"Hall\"}";
    let first = send(&stage.org1, "/api/v1/events", "k", body).expect(201);
    let again = || expect_again(&first, send(&stage.org1, "/api/v1/events", "k", body));
    let path = first.header("location").expect("of what was made").to_owned();
    let event = number(&first.json(), "id");
    again();
    stage.reservation(event, 2);
    stage.org1.patch(&path, &json!({ "name": "Another", "quota": 9, "venue": null })).expect(200);
    again();
    let org2 = number(&stage.org2.get("/api/v1/users/me").expect(200).json(), "id");
    stage.org1.patch(&path, &json!({ "organizer": org2 })).expect(200);
    again();
    stage.org2.delete(&format!("{path}?force=true")).expect(204);
    again();
    stage.anyone.get(&path).problem(410, "event-deleted");
}

#[test]
fn a_refusal_is_not_kept() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(2);
    let other = stage.reservation(event, 2);
    let two = "{\"quantity\":2}";
    send(&stage.cust2, &buy(event), "k", two).problem(409, "sold-out");
    send(&stage.cust2, &buy(event), "k", "{\"quantity\":0}").problem(422, "invalid");
    send(&stage.cust2, &buy(event), "k", "{\"quantity\":1}").problem(409, "sold-out");
    send(&stage.cust2, &buy(999_999), "k", two).problem(404, "not-found");
    send(&stage.org1, &buy(event), "k", two).problem(403, "forbidden");
    send(&stage.anyone, &buy(event), "k", two).problem(401, "unauthorized");
    stage.cust1.delete(&format!("/api/v1/reservations/{other}")).expect(204);
    let first = send(&stage.cust2, &buy(event), "k", two).expect(201);
    assert!(!is_replayed(&first));
    expect_again(&first, send(&stage.cust2, &buy(event), "k", two));
    send(&stage.org1, "/api/v1/events", "k", "{\"name\":\"\",\"quota\":1}").problem(422, "invalid");
    assert!(!is_replayed(
        &send(&stage.org1, "/api/v1/events", "k", "{\"name\":\"x\",\"quota\":1}").expect(201)
    ));
    // Where no key works, none is ignored.
    let problem = send(&stage.anyone, "/api/v1/sessions", "k", "{}").problem(422, "unsupported-header");
    let works = "POST /api/v1/events/{event}/reservations, POST /api/v1/events";
    assert!(text(&problem, "detail").contains(works), "{problem}");
}

/// Many connections send the same request at once: one of them takes effect, and all have its answer.
#[test]
fn of_requests_at_the_same_time_one_takes_effect() {
    const CLIENTS: usize = 24;
    const ROUNDS: usize = 10;
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(1000);
    let token = stage.cust1.token.as_deref().unwrap();
    let organizer = stage.org1.token.as_deref().unwrap();
    for round in 0..ROUNDS {
        for (path, token, body) in [
            (buy(event), token, "{\"quantity\":3}"),
            ("/api/v1/events".to_owned(), organizer, "{\"name\":\"At once\",\"quota\":1}"),
        ] {
            let key = format!("Idempotency-Key: \"round-{round}\"\r\n");
            let ask = request("POST", &path, Some(token), &key, body);
            let answers = stage.server.ask_at_once(&ask, CLIENTS, 201);
            assert!(answers.iter().all(|answer| answer.text() == answers[0].text()), "{answers:?}");
            assert_eq!(answers.iter().filter(|answer| !is_replayed(answer)).count(), 1, "{answers:?}");
        }
        assert_eq!(number(&stage.seen(event), "reserved"), 3 * (round as u64 + 1));
    }
    let of_org1 = all_items(&stage.org1, "/api/v1/events?organizer=me", 100);
    assert_eq!(of_org1.iter().filter(|event| event["name"] == "At once").count(), ROUNDS);
}

#[test]
fn a_client_that_has_gone_does_not_matter() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(1000);
    let (token, organizer) = (stage.cust1.token.as_deref(), stage.org1.token.as_deref());
    for round in 1..=30 {
        let key = format!("Idempotency-Key: {round}\r\n");
        for (path, token, body) in [
            (buy(event), token, "{\"quantity\":1}"),
            ("/api/v1/events".to_owned(), organizer, "{\"name\":\"Gone\",\"quota\":1}"),
        ] {
            let ask = request("POST", &path, token, &key, body);
            let mut gone = stage.server.wire();
            gone.send(&ask).unwrap();
            drop(gone);
            stage.server.wire().ask(&ask).expect(201);
        }
        assert_eq!(number(&stage.seen(event), "reserved"), round);
    }
    let of_org1 = all_items(&stage.org1, "/api/v1/events?organizer=me", 100);
    assert_eq!(of_org1.iter().filter(|event| event["name"] == "Gone").count(), 30);
}

/// A kill, and another number of shards: the key is on disk with its effect.
#[test]
fn a_key_is_kept_across_a_kill() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(100);
    let two = "{\"quantity\":2}";
    let new_event = "{\"name\":\"Encore\",\"quota\":5}";
    let first = send(&stage.cust1, &buy(event), "k", two).expect(201);
    let first_event = send(&stage.org1, "/api/v1/events", "k", new_event).expect(201);
    stage.cust1.patch(first.header("location").unwrap(), &json!({ "quantity": 1 })).expect(200);
    let Stage { server, cust1, org1, .. } = stage;
    server.kill();
    for shards in ["3", "1", "4"] {
        let server = Server::start(data.path(), &["--shards", shards]);
        let (cust1, org1) = (cust1.at(server.address), org1.at(server.address));
        expect_again(&first, send(&cust1, &buy(event), "k", two));
        expect_again(&first_event, send(&org1, "/api/v1/events", "k", new_event));
        send(&cust1, &buy(event), "k", "{\"quantity\":1}").problem(422, "key-reused");
        send(&org1, "/api/v1/events", "k", "{\"name\":\"Encore\",\"quota\":6}").problem(422, "key-reused");
        server.kill();
    }
}

#[test]
fn a_customer_has_a_bounded_number_of_keys_in_an_event() {
    const MOST: usize = 1000;
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10_000);
    let token = stage.cust1.token.as_deref();
    let one = "{\"quantity\":1}";
    let mut wire = stage.server.wire();
    for key in 0..MOST {
        let key = format!("Idempotency-Key: {key}\r\n");
        wire.ask(request("POST", &buy(event), token, &key, one)).expect(201);
    }
    let refused = send(&stage.cust1, &buy(event), "more", one);
    assert_eq!(refused.header("retry-after"), Some("3600"));
    refused.problem(429, "too-many-keys");
    assert!(is_replayed(&send(&stage.cust1, &buy(event), "0", one).expect(201)));
    stage.reservation(event, 1);
    send(&stage.cust2, &buy(event), "more", one).expect(201);
    assert_eq!(number(&stage.seen(event), "reserved"), MOST as u64 + 2);
    let lines = [
        "boxoffice_idempotency_keys 1001",
        "boxoffice_idempotency_keys_refused_total{limit=\"account\"} 1",
        "boxoffice_idempotency_keys_refused_total{limit=\"all\"} 0",
    ];
    metrics_once(&stage.anyone, &lines);
}

#[test]
fn all_keys_are_bounded_and_none_is_forgotten_for_another() {
    let data = tempdir().unwrap();
    let options = ["--demo", "--shards", "1", "--max-idempotency-keys", "3"];
    let stage = Stage::on(Server::start(data.path(), &options));
    let event = stage.event(100);
    let (one, new_event) = ("{\"quantity\":1}", "{\"name\":\"x\",\"quota\":1}");
    let first = send(&stage.cust1, &buy(event), "a", one).expect(201);
    send(&stage.org1, "/api/v1/events", "b", new_event).expect(201);
    send(&stage.cust2, &buy(event), "c", one).expect(201);
    for refused in
        [send(&stage.cust1, &buy(event), "d", one), send(&stage.org1, "/api/v1/events", "d", new_event)]
    {
        assert_eq!(refused.header("retry-after"), Some("1"));
        refused.problem(503, "no-room-for-keys");
    }
    expect_again(&first, send(&stage.cust1, &buy(event), "a", one));
    send(&stage.cust1, &buy(event), "a", "{\"quantity\":2}").problem(422, "key-reused");
    stage.reservation(event, 1);
    let lines = ["boxoffice_idempotency_keys 3", "boxoffice_idempotency_keys_refused_total{limit=\"all\"} 2"];
    metrics_once(&stage.anyone, &lines);

    // The setting is no part of what is kept.
    let Stage { server, cust1, .. } = stage;
    server.kill();
    let server = Server::start(data.path(), &["--shards", "1", "--max-idempotency-keys", "0"]);
    let cust1 = cust1.at(server.address);
    expect_again(&first, send(&cust1, &buy(event), "a", one));
    assert!(!is_replayed(&send(&cust1, &buy(event), "d", one).expect(201)));
}

/// A limit that the first request passed does not refuse its repetition.
#[test]
fn an_event_that_was_created_is_answered_also_at_the_limit_of_events() {
    let data = tempdir().unwrap();
    let options = ["--demo", "--shards", "2", "--max-events-per-account", "3"];
    let stage = Stage::on(Server::start(data.path(), &options));
    let body = "{\"name\":\"The last\",\"quota\":1}";
    let first = send(&stage.org1, "/api/v1/events", "k", body).expect(201);
    let problem = send(&stage.org1, "/api/v1/events", "other", body).problem(429, "account-limit");
    assert_eq!(problem["limit"], "events");
    expect_again(&first, send(&stage.org1, "/api/v1/events", "k", body));
    let seen: Vec<Value> = all_items(&stage.org1, "/api/v1/events?organizer=me", 10);
    assert_eq!(seen.len(), 3);
}
