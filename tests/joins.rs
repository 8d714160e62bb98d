//! Holds together with what else there is: idempotency keys, limits, sales windows, If-Match, deletions and
//! availability.

mod support;

use std::thread;

use jiff::Timestamp;
use serde_json::{Value, json};
use support::client::{Answer, Client, request};
use support::holds::{MARGIN, SHORTEST, hold, tickets, wait_for_end};
use support::keys::{expect_again, is_replayed, send};
use support::server::Server;
use support::{Stage, metrics_once, number, reserve, text};
use tempfile::tempdir;

fn holds(event: u64) -> String {
    format!("/api/v1/events/{event}/holds")
}

fn confirmation(id: &str) -> String {
    format!("/api/v1/holds/{id}/confirm")
}

#[track_caller]
fn expect_first(answer: Answer, status: u16) -> Answer {
    let answer = answer.expect(status);
    assert!(!is_replayed(&answer), "{answer:?}");
    answer
}

fn id(answer: &Answer) -> String {
    text(&answer.json(), "id").to_owned()
}

fn event_with(stage: &Stage, members: Value) -> u64 {
    let mut body = members;
    body["name"] = json!("An evening");
    body["quota"] = json!(100);
    number(&stage.org1.post("/api/v1/events", &body).expect(201).json(), "id")
}

/// The answers of a hold and its confirmation stay what they were, whatever becomes of both.
#[test]
fn keyed_holds_and_confirmations_keep_their_first_answers() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let Stage { cust1, cust2, org1, .. } = &stage;
    let event = stage.event(20);
    let (path, four) = (holds(event), r#"{"quantity":4}"#);
    let held = expect_first(send(cust1, &path, "k", four), 201);
    let hold_again = || expect_again(&held, send(cust1, &path, "k", four));
    hold_again();
    send(cust1, &path, "k", r#"{"quantity":4,"ttl_seconds":60}"#).problem(422, "key-reused");
    // The same key, of another customer and at another route.
    let other = expect_first(send(cust2, &path, "k", four), 201);
    assert_eq!(tickets(&stage.anyone, event), [0, 8, 12]);
    expect_first(send(cust1, &format!("/api/v1/events/{event}/reservations"), "k", four), 201);
    cust2.delete(&format!("/api/v1/holds/{}", id(&other))).expect(204);
    expect_again(&other, send(cust2, &path, "k", four));
    assert_eq!(tickets(&stage.anyone, event), [4, 4, 12]);

    // The key of the hold is another one for its confirmation, of a part.
    let confirm = confirmation(&id(&held));
    let part = r#"{"quantity":3}"#;
    send(cust1, &confirm, "k", r#"{"quantity":5}"#).problem(422, "invalid");
    let confirmed = expect_first(send(cust1, &confirm, "k", part), 200);
    assert_eq!(number(&confirmed.json(), "quantity"), 3);
    assert_eq!(tickets(&stage.anyone, event), [7, 0, 13]);
    let again = || {
        hold_again();
        expect_again(&confirmed, send(cust1, &confirm, "k", part));
        send(cust1, &confirm, "k", "{}").problem(422, "key-reused");
        send(cust1, &confirm, "k", "").problem(422, "key-reused");
    };
    again();
    let own = format!("/api/v1/reservations/{}", id(&held));
    cust1.patch(&own, &json!({ "quantity": 1 })).expect(200);
    again();
    cust1.delete(&own).expect(204);
    again();
    send(cust1, &confirm, "new", part).problem(409, "hold-released");
    org1.delete(&format!("/api/v1/events/{event}?force=true")).expect(204);
    again();
    send(cust1, &path, "new", four).problem(410, "event-deleted");

    let Stage { server, cust1, .. } = stage;
    server.kill();
    let server = Server::start(data.path(), &["--shards", "3"]);
    let cust1 = cust1.at(server.address);
    expect_again(&held, send(&cust1, &path, "k", four));
    expect_again(&confirmed, send(&cust1, &confirm, "k", part));
}

/// A confirmation without a body is one without members.
#[test]
fn an_absent_body_is_an_empty_one() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 1);
    let event = stage.event(20);
    for [first, second] in [["", "{}"], ["{}", ""], ["", ""], [" { } ", "{}"]] {
        let held = hold(&stage.cust1, event, &json!({ "quantity": 1 }));
        let path = confirmation(&held);
        let answer = expect_first(send(&stage.cust1, &path, "k", first), 200);
        expect_again(&answer, send(&stage.cust1, &path, "k", second));
        send(&stage.cust1, &path, "k", r#"{"quantity":1}"#).problem(422, "key-reused");
        // Without a key, and with another one, a repeat has the same body.
        for again in [stage.cust1.send("POST", &path, &[], first), send(&stage.cust1, &path, "l", second)] {
            assert_eq!(expect_first(again, 200).text(), answer.text());
        }
    }
    assert_eq!(tickets(&stage.anyone, event), [4, 0, 16]);
}

#[test]
fn where_a_key_works_is_said_where_it_does_not() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 1);
    let event = stage.event(20);
    let held = hold(&stage.cust1, event, &json!({ "quantity": 1 }));
    let expected = "Idempotency-Key works only with POST /api/v1/events/{event}/reservations, POST /api/v1/events, POST \
                    /api/v1/reservations/{reservation}/transfer, POST /api/v1/events/{event}/holds, POST \
                    /api/v1/holds/{reservation}/confirm, POST /api/v1/orders and POST /api/v1/orders/{order}/confirm; leave it \
                    out here.";
    for (method, path, body) in [
        ("DELETE", format!("/api/v1/holds/{held}"), ""),
        ("DELETE", format!("/api/v1/reservations/{held}"), ""),
        ("PATCH", format!("/api/v1/reservations/{held}"), r#"{"quantity":1}"#),
        ("POST", "/api/v1/reservations/cancel".to_owned(), r#"{"ids":["1-1"]}"#),
        ("PATCH", format!("/api/v1/events/{event}"), "{}"),
    ] {
        let answer = stage.cust1.send(method, &path, &[("Idempotency-Key", "k")], body);
        let problem = answer.problem(422, "unsupported-header");
        let detail = text(&problem, "detail");
        assert_eq!(detail, expected, "{method} {path}");
        let reading = stage.cust1.send("GET", "/api/v1/reservations", &[("Idempotency-Key", "k")], "");
        reading.expect(200);
    }
    for path in [holds(event), confirmation(&held)] {
        let answer = stage.cust1.send("POST", &path, &[("If-Match", "\"1\"")], r#"{"quantity":1}"#);
        answer.problem(422, "unsupported-header");
    }
    assert_eq!(tickets(&stage.anyone, event), [0, 1, 19]);
}

/// Many connections send the same hold, and then the same confirmation, at once; then the server is killed, and one of
/// them tries again.
#[test]
fn of_holds_and_confirmations_at_the_same_time_one_takes_effect() {
    const CLIENTS: usize = 24;
    const ROUNDS: u64 = 8;
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(1000);
    let token = stage.cust1.token.as_deref();
    let at_once = |path: &str, key: &str, body: &str, status: u16| -> Answer {
        let ask = request("POST", path, token, &format!("Idempotency-Key: {key}\r\n"), body);
        let answers = stage.server.ask_at_once(&ask, CLIENTS, status);
        assert!(answers.iter().all(|answer| answer.text() == answers[0].text()), "{answers:?}");
        let (mut first, again): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| !is_replayed(answer));
        assert_eq!((first.len(), again.len()), (1, CLIENTS - 1));
        first.remove(0)
    };
    let mut made = Vec::new();
    for round in 0..ROUNDS {
        let key = format!("round-{round}");
        let held = at_once(&holds(event), &key, r#"{"quantity":5}"#, 201);
        assert_eq!(tickets(&stage.anyone, event), [2 * round, 5, 995 - 2 * round]);
        let confirmed = at_once(&confirmation(&id(&held)), &key, r#"{"quantity":2}"#, 200);
        made.push((key, held, confirmed));
    }
    let reserved = 2 * ROUNDS;
    let last = expect_first(send(&stage.cust1, &holds(event), "last", r#"{"quantity":7}"#), 201);
    metrics_once(
        &stage.anyone,
        &[
            &format!("boxoffice_idempotency_keys {}", 2 * ROUNDS + 1),
            "boxoffice_tickets_held 7",
            &format!("boxoffice_tickets_reserved {reserved}"),
        ],
    );
    let Stage { server, cust1, .. } = stage;
    server.kill();
    let server = Server::start(data.path(), &["--shards", "1"]);
    let cust1 = cust1.at(server.address);
    for (key, held, confirmed) in &made {
        expect_again(held, send(&cust1, &holds(event), key, r#"{"quantity":5}"#));
        expect_again(confirmed, send(&cust1, &confirmation(&id(held)), key, r#"{"quantity":2}"#));
    }
    expect_again(&last, send(&cust1, &holds(event), "last", r#"{"quantity":7}"#));
    let seen = cust1.get(&format!("/api/v1/events/{event}")).expect(200).json();
    assert_eq!([number(&seen, "reserved"), number(&seen, "held")], [reserved, 7]);
}

/// What a customer may have counts holds that are not over, and sales windows refuse holds; confirmations are let
/// through.
#[test]
fn limits_and_windows_hold_for_holds() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let Stage { cust1, cust2, org1, .. } = &stage;
    let event = event_with(&stage, json!({ "max_per_reservation": 4, "max_per_customer": 6 }));
    let ask = |client: &Client, quantity: u64| client.post(&holds(event), &json!({ "quantity": quantity }));
    let refused = |answer: Answer, slug: &str, allowed: u64| {
        let problem = answer.problem(409, slug);
        assert_eq!(problem["allowed"], allowed, "{problem}");
    };
    let buy = |client: &Client, quantity: u64| {
        client.post(&format!("/api/v1/events/{event}/reservations"), &json!({ "quantity": quantity }))
    };
    refused(ask(cust1, 5), "reservation-limit", 4);
    let held = id(&ask(cust1, 4).expect(201));
    refused(ask(cust1, 3), "customer-limit", 2);
    refused(buy(cust1, 3), "customer-limit", 2);
    // Another customer is not concerned.
    ask(cust2, 4).expect(201);
    // Keys change nothing of this, and what they did is not counted twice.
    let keyed = expect_first(send(cust1, &holds(event), "k", r#"{"quantity":2}"#), 201);
    expect_again(&keyed, send(cust1, &holds(event), "k", r#"{"quantity":2}"#));
    refused(send(cust1, &holds(event), "l", r#"{"quantity":1}"#), "customer-limit", 0);
    // A confirmation is not checked again, and gives back what it leaves.
    let path = format!("/api/v1/events/{event}");
    org1.patch(&path, &json!({ "max_per_reservation": 1, "max_per_customer": 3 })).expect(200);
    refused(ask(cust1, 1), "customer-limit", 0);
    cust1.post(&confirmation(&held), &json!({ "quantity": 3 })).expect(200);
    refused(ask(cust1, 1), "customer-limit", 0);
    cust1.delete(&format!("/api/v1/holds/{}", id(&keyed))).expect(204);
    refused(ask(cust1, 1), "customer-limit", 0);
    org1.patch(&path, &json!({ "max_per_customer": 4 })).expect(200);
    ask(cust1, 1).expect(201);
    refused(ask(cust1, 1), "customer-limit", 0);

    // A hold is confirmed after the end of sales, but not made.
    let late = hold(cust2, event_with(&stage, json!({})), &json!({ "quantity": 2 }));
    let (event, _) = late.split_once('-').expect("the event's id comes first");
    let path = format!("/api/v1/events/{event}");
    let past = Timestamp::now().to_string();
    org1.patch(&path, &json!({ "sales_end": past })).expect(200);
    cust2.post(&format!("{path}/holds"), &json!({ "quantity": 1 })).problem(403, "sales-closed");
    send(cust2, &format!("{path}/holds"), "k", r#"{"quantity":1}"#).problem(403, "sales-closed");
    cust2.patch(&format!("/api/v1/reservations/{late}"), &json!({ "quantity": 1 })).expect(200);
    cust2.post(&confirmation(&late), &json!({})).expect(200);
    let later = "2099-01-01T00:00:00Z";
    org1.patch(&path, &json!({ "sales_start": later, "sales_end": null })).expect(200);
    let problem =
        cust2.post(&format!("{path}/holds"), &json!({ "quantity": 1 })).problem(403, "sales-not-open");
    assert_eq!(problem["opens_at"], "2099-01-01T00:00:00.000Z");
}

/// If-Match is about what is edited: holds do not change it, and it does not spare a deletion the question of holds.
#[test]
fn holds_do_not_change_an_events_version() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let path = format!("/api/v1/events/{event}");
    let tag = || stage.anyone.get(&path).expect(200).header("etag").expect("it has one").to_owned();
    let first = tag();
    let held = hold(&stage.cust1, event, &json!({ "quantity": 3 }));
    let bulk = hold(&stage.cust1, event, &json!({ "quantity": 2 }));
    let if_match = |method: &str, path: &str, tag: &str, body: &str| {
        stage.org1.send(method, path, &[("If-Match", tag)], body)
    };
    assert_eq!(tag(), first);
    if_match("PATCH", &path, &first, r#"{"quota":4}"#).problem(409, "quota-below-committed");
    if_match("PATCH", &path, &first, r#"{"quota":9}"#).expect(200);
    if_match("PATCH", &path, &first, r#"{"quota":4}"#).problem(412, "version-mismatch");
    let body = json!({ "ids": [bulk, held, format!("{event}-77")] });
    let results = stage.cust1.post("/api/v1/reservations/cancel", &body).expect(200).json();
    let statuses: Vec<u64> =
        results["results"].as_array().unwrap().iter().map(|one| number(one, "status")).collect();
    assert_eq!(statuses, [204, 204, 404]);
    assert_eq!(tickets(&stage.anyone, event), [0, 0, 9]);
    let held = hold(&stage.cust1, event, &json!({ "quantity": 3 }));
    let forced = format!("{path}?force=true");
    if_match("DELETE", &forced, &first, "").problem(412, "version-mismatch");
    if_match("DELETE", &path, &tag(), "").problem(409, "has-reservations");
    assert_eq!(tickets(&stage.anyone, event), [0, 3, 6]);
    if_match("DELETE", &forced, &tag(), "").expect(204);
    stage.cust1.post(&confirmation(&held), &json!({})).problem(409, "hold-released");
    stage.cust1.delete(&format!("/api/v1/holds/{held}")).expect(204);
    metrics_once(&stage.anyone, &["boxoffice_tickets_held 0", "boxoffice_tickets_reserved 0"]);
}

/// All that waits for the end of a hold, at the same time on one server.
#[test]
fn the_end_of_a_hold_is_the_end_for_all() {
    let data = tempdir().unwrap();
    let stage = &Stage::open(data.path(), 2);
    let short = &json!({ "quantity": 4, "ttl_seconds": 10 });
    thread::scope(|scope| {
        scope.spawn(|| an_ended_hold_changes_availability(stage, short));
        scope.spawn(|| an_ended_hold_does_not_count_for_a_limit(stage, short));
        scope.spawn(|| an_ended_hold_has_its_first_answer(stage, short));
    });
}

/// Nobody asks until the hold is over: the tag changes by itself, once.
fn an_ended_hold_changes_availability(stage: &Stage, short: &Value) {
    let events = [stage.event(10), stage.event(10)];
    let lists = [
        format!("/api/v1/events/{}/availability", events[0]),
        format!("/api/v1/availability?ids={},{}", events[0], events[1]),
    ];
    hold(&stage.cust1, events[0], short);
    let get = |path: &str, tag: &str| stage.anyone.send("GET", path, &[("If-None-Match", tag)], "");
    let tags = lists.each_ref().map(|path| {
        let answer = stage.anyone.get(path).expect(200);
        let tag = answer.header("etag").expect("it has one").to_owned();
        get(path, &tag).expect(304);
        tag
    });
    thread::sleep(SHORTEST + MARGIN / 2);
    for (path, tag) in lists.iter().zip(&tags) {
        let answer = get(path, tag).expect(200);
        let tag = answer.header("etag").expect("it has one").to_owned();
        let body = answer.json();
        let seen = if body["items"].is_null() { &body } else { &body["items"][0] };
        assert_eq!([number(seen, "held"), number(seen, "remaining")], [0, 10], "{body}");
        get(path, &tag).expect(304);
    }
}

fn an_ended_hold_does_not_count_for_a_limit(stage: &Stage, short: &Value) {
    let event = event_with(stage, json!({ "max_per_customer": 5 }));
    let ended = hold(&stage.cust1, event, short);
    let path = holds(event);
    assert_eq!(stage.cust1.post(&path, short).problem(409, "customer-limit")["allowed"], 1);
    wait_for_end(&stage.cust1, &ended);
    hold(&stage.cust1, event, short);
    assert_eq!(stage.cust1.post(&path, short).problem(409, "customer-limit")["allowed"], 1);
    reserve(&stage.cust1, event, 1);
}

fn an_ended_hold_has_its_first_answer(stage: &Stage, short: &Value) {
    let event = stage.event(10);
    let (path, body) = (holds(event), short.to_string());
    let first = expect_first(send(&stage.cust2, &path, "k", &body), 201);
    let ended = id(&first);
    wait_for_end(&stage.cust2, &ended);
    expect_again(&first, send(&stage.cust2, &path, "k", &body));
    assert_eq!(tickets(&stage.anyone, event), [0, 0, 10]);
    send(&stage.cust2, &confirmation(&ended), "k", "").problem(409, "hold-expired");
    send(&stage.cust2, &confirmation(&ended), "k", "{}").problem(409, "hold-expired");
}

/// A position is that of an event's last record: neither keys, nor a start that gives holds more time, nor another
/// number of shards changes it.
#[test]
fn positions_of_events_with_holds_and_keys_outlast_a_kill() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let path = format!("/api/v1/events/{event}/availability");
    let position = |client: &Client| number(&client.get(&path).expect(200).json(), "position");
    let held = send(&stage.cust1, &holds(event), "k", r#"{"quantity":2,"ttl_seconds":10}"#).expect(201);
    let before = position(&stage.anyone);
    send(&stage.cust1, &holds(event), "k", r#"{"quantity":2,"ttl_seconds":10}"#).expect(201);
    assert_eq!(position(&stage.anyone), before);
    let confirmed = hold(&stage.cust1, event, &json!({ "quantity": 1 }));
    stage.cust1.post(&confirmation(&confirmed), &json!({})).expect(200);
    let before = position(&stage.anyone);
    // A key is kept, though the event does not change.
    send(&stage.cust1, &confirmation(&confirmed), "k", "{}").expect(200);
    assert_eq!(position(&stage.anyone), before);
    let Stage { mut server, .. } = stage;
    for shards in ["1", "3"] {
        server.kill();
        server = Server::start(data.path(), &["--shards", shards]);
        assert_eq!(position(&server.client()), before, "{shards} shards");
    }
    // The hold has at least a minute from the start, and its first answer is what it was.
    let cust1 = stage.cust1.at(server.address);
    let again = send(&cust1, &holds(event), "k", r#"{"quantity":2,"ttl_seconds":10}"#);
    expect_again(&held, again);
    let now = cust1.get(&format!("/api/v1/reservations/{}", id(&held))).expect(200).json();
    let end = |view: &Value| text(view, "expires_at").parse::<Timestamp>().expect("RFC 3339");
    assert!(end(&now) > end(&held.json()), "{now}");
}
