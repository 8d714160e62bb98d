//! Orders: tickets of several events, all or none. What a request may say, what becomes of orders and their parts, that a
//! refusal names all that cannot be had, and that races leave nothing held.
//!
//! `api.rs` has who may do what; `crashes.rs` kills the server while others order.

mod support;

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::{Answer, Client};
use support::holds::{MARGIN, SHORTEST, tickets};
use support::keys::{expect_again, send};
use support::server::Server;
use support::{Stage, all_items, create_event, reserve, text};
use tempfile::tempdir;

const ORDERS: &str = "/api/v1/orders";

/// A request for so many tickets of each event.
fn items(items: &[(u64, u64)]) -> Value {
    let items: Vec<Value> =
        items.iter().map(|&(event, quantity)| json!({ "event": event, "quantity": quantity })).collect();
    json!({ "items": items })
}

fn held(of: &[(u64, u64)], seconds: u64) -> Value {
    let mut body = items(of);
    body["ttl_seconds"] = json!(seconds);
    body
}

fn placed(customer: &Client, body: &Value) -> Value {
    customer.post(ORDERS, body).expect(201).json()
}

fn address(order: &Value) -> String {
    format!("{ORDERS}/{}", text(order, "id"))
}

fn seen(client: &Client, order: &Value) -> Value {
    client.get(&address(order)).expect(200).json()
}

fn confirm(client: &Client, order: &Value) -> Answer {
    client.send("POST", &format!("{}/confirm", address(order)), &[], "")
}

/// The ids of an order's reservations.
fn parts(order: &Value) -> Vec<String> {
    let parts = order["reservations"].as_array().expect("a list").iter();
    parts.map(|part| text(part, "id").to_owned()).collect()
}

/// The statuses of an order and of its reservations.
fn statuses(order: &Value) -> Vec<&str> {
    let parts = order["reservations"].as_array().expect("a list").iter();
    [text(order, "status")].into_iter().chain(parts.map(|part| text(part, "status"))).collect()
}

/// The items that cannot be had, with why, in the order of the request.
fn refused(answer: Answer) -> Vec<(u64, String, Value)> {
    let problem = answer.problem(409, "order-refused");
    let items = problem["items"].as_array().expect("a list").iter();
    items
        .map(|item| {
            let kind = text(item, "type").trim_start_matches("/problems/").to_owned();
            (item["event"].as_u64().expect("an event"), kind, item["remaining"].clone())
        })
        .collect()
}

/// Waits until nothing of an event is held any more. Returns its tickets.
fn wait_until_none_is_held(client: &Client, event: u64) -> [u64; 3] {
    let until = Instant::now() + MARGIN;
    loop {
        let [reserved, held, remaining] = tickets(client, event);
        if held == 0 {
            return [reserved, held, remaining];
        }
        assert!(Instant::now() < until, "{held} tickets of {event} are still held");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_order_is_a_reservation_of_each_event() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let [a, b, c] = [5, 6, 7].map(|quota| stage.event(quota));
    let made = stage.cust1.post(ORDERS, &items(&[(b, 2), (a, 1), (c, 3)])).expect(201);
    let order = made.json();
    assert_eq!(made.header("location"), Some(&*address(&order)));
    assert_eq!(statuses(&order), ["confirmed"; 4]);
    let events: Vec<u64> = order["reservations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["event"].as_u64().unwrap())
        .collect();
    assert_eq!(events, [b, a, c], "in the order of the request");
    assert_eq!([a, b, c].map(|event| tickets(&stage.anyone, event)), [[1, 0, 4], [2, 0, 4], [3, 0, 4]]);
    // Seen by its customer and by admins.
    for client in [&stage.cust1, &stage.admin] {
        assert_eq!(seen(client, &order), order);
    }
    for other in [&stage.cust2, &stage.org1] {
        other.get(&address(&order)).problem(404, "not-found");
        other.delete(&address(&order)).problem(404, "not-found");
        confirm(other, &order).problem(404, "not-found");
    }
    // Each part is a reservation that says so, in every list.
    let own = all_items(&stage.cust1, "/api/v1/reservations", 2);
    let mut listed: Vec<&str> = own.iter().map(|part| text(part, "id")).collect();
    let mut expected = parts(&order);
    listed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    assert!(own.iter().all(|part| part["order"] == order["id"]), "{own:?}");
    let of_event = all_items(&stage.org1, &format!("/api/v1/events/{a}/reservations"), 10);
    assert_eq!((of_event.len(), &of_event[0]["order"]), (1, &order["id"]));
    // Single reservations are in no order.
    let single = reserve(&stage.cust1, a, 1);
    let single = stage.cust1.get(&format!("/api/v1/reservations/{single}")).expect(200).json();
    assert_eq!(single.get("order"), None);
    // Lists of orders have pages.
    let second = placed(&stage.cust1, &items(&[(a, 1)]));
    let third = placed(&stage.cust1, &items(&[(b, 1), (c, 1)]));
    placed(&stage.cust2, &items(&[(b, 1)]));
    for limit in [1, 2, 10] {
        let listed = all_items(&stage.cust1, ORDERS, limit);
        assert_eq!(listed, [order.clone(), second.clone(), third.clone()], "in pages of {limit}");
    }
    assert!(all_items(&stage.org1, ORDERS, 10).is_empty());
}

#[test]
fn a_cancelled_order_gives_all_its_tickets_back_once() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let [a, b] = [5, 6].map(|quota| stage.event(quota));
    for by in [&stage.cust1, &stage.admin] {
        let order = placed(&stage.cust1, &items(&[(a, 2), (b, 3)]));
        for _ in 0..2 {
            by.delete(&address(&order)).expect(204);
            let now = seen(&stage.cust1, &order);
            assert_eq!(statuses(&now), ["cancelled"; 3]);
            assert!(now["cancelled_at"].is_string(), "{now}");
            assert_eq!([a, b].map(|event| tickets(&stage.anyone, event)), [[0, 0, 5], [0, 0, 6]]);
        }
        confirm(&stage.cust1, &order).problem(409, "hold-released");
    }
    // A part can be cancelled alone, in part or whole.
    let order = placed(&stage.cust1, &items(&[(a, 2), (b, 3)]));
    let [of_a, of_b] = &parts(&order)[..] else { panic!("{order}") };
    stage.cust1.patch(&format!("/api/v1/reservations/{of_b}"), &json!({ "quantity": 1 })).expect(200);
    assert_eq!(statuses(&seen(&stage.cust1, &order)), ["partly_cancelled", "confirmed", "confirmed"]);
    stage.cust1.delete(&format!("/api/v1/reservations/{of_a}")).expect(204);
    let now = seen(&stage.cust1, &order);
    assert_eq!(statuses(&now), ["partly_cancelled", "cancelled", "confirmed"]);
    assert_eq!(now["reservations"][1]["quantity"], 1);
    assert_eq!([a, b].map(|event| tickets(&stage.anyone, event)), [[0, 0, 5], [1, 0, 5]]);
    stage.cust1.delete(&format!("/api/v1/reservations/{of_b}")).expect(204);
    assert_eq!(statuses(&seen(&stage.cust1, &order)), ["cancelled"; 3]);
    stage.cust1.delete(&address(&order)).expect(204);
    assert_eq!([a, b].map(|event| tickets(&stage.anyone, event)), [[0, 0, 5], [0, 0, 6]]);
}

#[test]
fn a_refusal_names_every_item_that_cannot_be_had_and_does_nothing() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let [good, few, deleted] = [10, 3, 5].map(|quota| stage.event(quota));
    stage.org1.delete(&format!("/api/v1/events/{deleted}")).expect(204);
    let with = |member: &str, value: Value| {
        let event = stage.event(10);
        stage.org1.patch(&format!("/api/v1/events/{event}"), &json!({ member: value })).expect(200);
        event
    };
    let early = with("sales_start", json!("2100-01-01T00:00:00Z"));
    let closed = with("sales_end", json!("2020-01-01T00:00:00Z"));
    let small = with("max_per_reservation", json!(2));
    let limited = with("max_per_customer", json!(2));
    reserve(&stage.cust1, limited, 1);
    let unknown = 999_999;
    let order =
        [(unknown, 1), (good, 1), (few, 4), (deleted, 1), (early, 1), (closed, 1), (small, 3), (limited, 2)];
    let none = Value::Null;
    for body in [items(&order), held(&order, 60)] {
        assert_eq!(
            refused(stage.cust1.post(ORDERS, &body)),
            [
                (unknown, "not-found".to_owned(), none.clone()),
                (few, "sold-out".to_owned(), json!(3)),
                (deleted, "event-deleted".to_owned(), none.clone()),
                (early, "sales-not-open".to_owned(), none.clone()),
                (closed, "sales-closed".to_owned(), none.clone()),
                (small, "reservation-limit".to_owned(), none.clone()),
                (limited, "customer-limit".to_owned(), none.clone()),
            ]
        );
        for event in [good, few, early, closed, small] {
            assert_eq!(wait_until_none_is_held(&stage.anyone, event)[0], 0, "event {event}");
        }
        assert_eq!(wait_until_none_is_held(&stage.anyone, limited)[0], 1);
    }
    assert!(all_items(&stage.cust1, ORDERS, 10).is_empty());
    // What was set aside for a refused order is in no list, and counts in no limit.
    assert_eq!(all_items(&stage.cust1, "/api/v1/reservations", 10).len(), 1);
    assert!(all_items(&stage.org1, &format!("/api/v1/events/{good}/reservations"), 10).is_empty());
    placed(&stage.cust1, &items(&[(good, 10), (few, 3), (limited, 1)]));
    // Those of an order count, as those of a reservation do.
    stage
        .cust1
        .post(&format!("/api/v1/events/{limited}/reservations"), &json!({ "quantity": 1 }))
        .problem(409, "customer-limit");
}

/// A body, and the pointer to what is wrong with it.
const INVALID: &[(&str, &str)] = &[
    (r#"{}"#, "/items"),
    (r#"{"items":null}"#, "/items"),
    (r#"{"items":{}}"#, "/items"),
    (r#"{"items":[]}"#, "/items"),
    (r#"{"items":[7]}"#, "/items"),
    (r#"{"items":[[]]}"#, "/items"),
    (r#"{"items":[{}]}"#, "/items"),
    (r#"{"items":[{"event":1}]}"#, "/items"),
    (r#"{"items":[{"quantity":1}]}"#, "/items"),
    (r#"{"items":[{"event":0,"quantity":1}]}"#, "/items"),
    (r#"{"items":[{"event":"1","quantity":1}]}"#, "/items"),
    (r#"{"items":[{"event":1,"quantity":0}]}"#, "/items"),
    (r#"{"items":[{"event":1,"quantity":1.5}]}"#, "/items"),
    (r#"{"items":[{"event":1,"quantity":{}}]}"#, "/items"),
    (r#"{"items":[{"event":1,"quantity":1,"seat":"A1"}]}"#, "/items"),
    (r#"{"items":[{"event":1,"quantity":1},{"event":1,"quantity":1}]}"#, "/items"),
    (r#"{"items":[{"event":1,"quantity":1}],"ttl_seconds":9}"#, "/ttl_seconds"),
    (r#"{"items":[{"event":1,"quantity":1}],"ttl_seconds":1801}"#, "/ttl_seconds"),
    (r#"{"items":[{"event":1,"quantity":1}],"customer":3}"#, "/customer"),
];

#[test]
fn a_request_has_one_to_twenty_items_of_different_events() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    for &(body, pointer) in INVALID {
        let problem = stage.cust1.send("POST", ORDERS, &[], body).problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
    }
    // One member twice, which one of the two is meant nobody knows.
    let twice = r#"{"items":[{"event":1,"event":2,"quantity":1}]}"#;
    stage.cust1.send("POST", ORDERS, &[], twice).problem(422, "invalid");
    let events: Vec<(u64, u64)> = (0..21).map(|_| (stage.event(2), 1)).collect();
    let problem = stage.cust1.post(ORDERS, &items(&events)).problem(422, "invalid");
    assert_eq!(problem["errors"][0]["detail"], "an order has 1 to 20 items", "{problem}");
    let order = placed(&stage.cust1, &items(&events[..20]));
    assert_eq!(statuses(&order), ["confirmed"; 21]);
    // Each in any notation.
    let [(first, _), ..] = events[..] else { unreachable!("there are 21") };
    let body = format!(r#"{{"items":[{{"quantity":1.0,"event":{first}.0e0}}]}}"#);
    stage.cust1.send("POST", ORDERS, &[], &body).expect(201);
    for path in ["0-1", "1-0", "1", "1-1-1", "x", "4294967296-1", "1-999"] {
        stage.cust1.get(&format!("{ORDERS}/{path}")).problem(404, "not-found");
    }
}

#[test]
fn a_held_order_is_confirmed_or_given_up_as_a_whole() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let [a, b] = [5, 6].map(|quota| stage.event(quota));
    let both = [(a, 2), (b, 3)];
    let order = placed(&stage.cust1, &held(&both, 600));
    assert_eq!(statuses(&order), ["held"; 3]);
    assert_eq!([a, b].map(|event| tickets(&stage.anyone, event)), [[0, 2, 3], [0, 3, 3]]);
    assert_eq!(seen(&stage.cust1, &order), order);
    let [of_a, _] = &parts(&order)[..] else { panic!("{order}") };
    // A part is not confirmed or changed alone.
    let alone = stage.cust1.send("POST", &format!("/api/v1/holds/{of_a}/confirm"), &[], "");
    assert_eq!(alone.problem(409, "part-of-order")["order"], order["id"]);
    let fewer = stage.cust1.patch(&format!("/api/v1/reservations/{of_a}"), &json!({ "quantity": 1 }));
    assert_eq!(fewer.problem(409, "part-of-order")["order"], order["id"]);
    // Only who placed it confirms it.
    confirm(&stage.admin, &order).problem(403, "forbidden");
    confirm(&stage.cust2, &order).problem(404, "not-found");
    let first = confirm(&stage.cust1, &order).expect(200).json();
    assert_eq!(statuses(&first), ["confirmed"; 3]);
    assert_eq!(first.get("expires_at"), None);
    assert_eq!(confirm(&stage.cust1, &order).expect(200).json(), first);
    assert_eq!([a, b].map(|event| tickets(&stage.anyone, event)), [[2, 0, 3], [3, 0, 3]]);
    stage.cust1.delete(&format!("/api/v1/holds/{of_a}")).problem(409, "hold-confirmed");
    stage.cust1.delete(&address(&order)).expect(204);
    // Released as a whole.
    let order = placed(&stage.cust1, &held(&both, 600));
    for _ in 0..2 {
        stage.cust1.delete(&address(&order)).expect(204);
        assert_eq!(statuses(&seen(&stage.cust1, &order)), ["cancelled"; 3]);
        assert_eq!([a, b].map(|event| tickets(&stage.anyone, event)), [[0, 0, 5], [0, 0, 6]]);
    }
    confirm(&stage.cust1, &order).problem(409, "hold-released");
}

#[test]
fn an_order_that_lost_a_part_is_not_confirmed() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let [a, b, c] = [5, 6, 7].map(|quota| stage.event(quota));
    let order = placed(&stage.cust1, &held(&[(a, 1), (b, 1), (c, 1)], 600));
    let ids = parts(&order);
    stage.cust1.delete(&format!("/api/v1/holds/{}", ids[0])).expect(204);
    let gone = confirm(&stage.cust1, &order).problem(409, "order-parts-gone");
    assert_eq!(gone["parts"], json!([ids[0]]));
    assert_eq!(statuses(&seen(&stage.cust1, &order)), ["partly_cancelled", "cancelled", "held", "held"]);
    // Also by the end of an event.
    let deleted = stage.org1.delete(&format!("/api/v1/events/{b}"));
    deleted.problem(409, "has-reservations");
    stage.org1.delete(&format!("/api/v1/events/{b}?force=true")).expect(204);
    let gone = confirm(&stage.cust1, &order).problem(409, "order-parts-gone");
    assert_eq!(gone["parts"], json!([ids[0], ids[1]]));
    // What is left stays held, and is given back.
    assert_eq!(tickets(&stage.anyone, c), [0, 1, 6]);
    stage.cust1.delete(&address(&order)).expect(204);
    assert_eq!([a, c].map(|event| tickets(&stage.anyone, event)), [[0, 0, 5], [0, 0, 7]]);
    assert_eq!(statuses(&seen(&stage.cust1, &order)), ["cancelled"; 4]);
}

#[test]
fn the_time_of_a_held_order_ends_for_all_its_parts() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let [a, b] = [5, 6].map(|quota| stage.event(quota));
    let order = placed(&stage.cust1, &held(&[(a, 2), (b, 3)], SHORTEST.as_secs()));
    let until = Instant::now() + SHORTEST + MARGIN;
    let over = loop {
        let now = seen(&stage.cust1, &order);
        if now["status"] != "held" {
            break now;
        }
        assert!(Instant::now() < until, "{now}");
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(over["status"], "expired");
    assert_eq!([a, b].map(|event| wait_until_none_is_held(&stage.anyone, event)), [[0, 0, 5], [0, 0, 6]]);
    assert_eq!(statuses(&seen(&stage.cust1, &order)), ["expired"; 3]);
    confirm(&stage.cust1, &order).problem(409, "hold-expired");
    stage.cust1.delete(&address(&order)).expect(204);
    assert_eq!(statuses(&seen(&stage.cust1, &order)), ["expired"; 3]);
}

#[test]
fn a_key_places_one_order_and_confirms_it_once() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let [a, b] = [5, 6].map(|quota| stage.event(quota));
    let body = held(&[(a, 2), (b, 3)], 600).to_string();
    let first = send(&stage.cust1, ORDERS, "k1", &body).expect(201);
    let order = first.json();
    let mut other = held(&[(a, 2), (b, 2)], 600).to_string();
    send(&stage.cust1, ORDERS, "k1", &other).problem(422, "key-reused");
    other = held(&[(b, 3), (a, 2)], 600).to_string();
    send(&stage.cust1, ORDERS, "k1", &other).problem(422, "key-reused");
    let confirmation = format!("{}/confirm", address(&order));
    let confirmed = send(&stage.cust1, &confirmation, "k2", "").expect(200);
    let bought = send(&stage.cust1, ORDERS, "k3", &items(&[(a, 1), (b, 1)]).to_string()).expect(201);
    let check = |cust1: &Client| {
        expect_again(&first, send(cust1, ORDERS, "k1", &body));
        expect_again(&confirmed, send(cust1, &confirmation, "k2", ""));
        expect_again(&bought, send(cust1, ORDERS, "k3", &items(&[(a, 1), (b, 1)]).to_string()));
    };
    check(&stage.cust1);
    stage.cust1.delete(&address(&order)).expect(204);
    stage.cust1.delete(&address(&bought.json())).expect(204);
    check(&stage.cust1);
    // A refusal is not kept: the tickets are there when it is sent again.
    let all = items(&[(a, 6), (b, 1)]).to_string();
    send(&stage.cust1, ORDERS, "k4", &all).problem(409, "order-refused");
    stage.org1.patch(&format!("/api/v1/events/{a}"), &json!({ "quota": 6 })).expect(200);
    send(&stage.cust1, ORDERS, "k4", &all).expect(201);
    // Also after a kill, and with another number of shards.
    stage.server.kill();
    let stage = Stage::again(Server::start(data.path(), &["--shards", "1"]));
    check(&stage.cust1);
    assert_eq!([a, b].map(|event| tickets(&stage.anyone, event)), [[6, 0, 0], [1, 0, 5]]);
}

#[test]
fn an_organizer_orders_own_events_for_others() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let [a, b] = [5, 6].map(|quota| stage.event(quota));
    let others = create_event(&stage.org2, 5);
    let body = items(&[(a, 2), (b, 1)]);
    stage.org1.post(ORDERS, &body).problem(403, "forbidden");
    let mut for_ref = body.clone();
    for_ref["customer_ref"] = json!("c-7");
    stage.cust1.post(ORDERS, &for_ref).problem(403, "forbidden");
    stage.admin.post(ORDERS, &for_ref).problem(403, "forbidden");
    let order = placed(&stage.org1, &for_ref);
    assert_eq!((&order["customer"], &order["customer_ref"]), (&Value::Null, &json!("c-7")));
    assert_eq!(all_items(&stage.org1, ORDERS, 10), std::slice::from_ref(&order));
    let of_ref = all_items(&stage.org1, &format!("/api/v1/events/{a}/reservations?customer_ref=c-7"), 10);
    assert_eq!((of_ref.len(), &of_ref[0]["order"]), (1, &order["id"]));
    let mut guests = held(&[(a, 1), (b, 1)], 60);
    guests["kind"] = json!("guest");
    let guests = placed(&stage.org1, &guests);
    confirm(&stage.org1, &guests).expect(200);
    assert_eq!([a, b].map(|event| tickets(&stage.anyone, event)), [[3, 0, 2], [2, 0, 4]]);
    // Not those of another organizer.
    let mut mixed = items(&[(a, 1), (others, 1)]);
    mixed["customer_ref"] = json!("c-7");
    assert_eq!(refused(stage.org1.post(ORDERS, &mixed)), [(others, "not-yours".to_owned(), Value::Null)]);
    assert_eq!(wait_until_none_is_held(&stage.anyone, a), [3, 0, 2]);
    for order in [&order, &guests] {
        stage.org1.delete(&address(order)).expect(204);
    }
    assert_eq!([a, b].map(|event| tickets(&stage.anyone, event)), [[0, 0, 5], [0, 0, 6]]);
}

/// Whoever has it now keeps it when the order is cancelled.
#[test]
fn what_was_transferred_leaves_its_order() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let [a, b] = [5, 6].map(|quota| stage.event(quota));
    let order = placed(&stage.cust1, &items(&[(a, 2), (b, 3)]));
    let ids = parts(&order);
    let transfer =
        |id: &str, body: Value| stage.cust1.post(&format!("/api/v1/reservations/{id}/transfer"), &body);
    let to = stage.cust2.get("/api/v1/users/me").expect(200).json();
    let to = json!({ "username": to["username"] });
    let given = transfer(&ids[0], json!({ "to": to })).expect(200).json();
    assert_eq!(given.get("order"), None);
    transfer(&ids[1], json!({ "to": to, "quantity": 1 })).expect(201);
    let now = seen(&stage.cust1, &order);
    assert_eq!(statuses(&now), ["partly_cancelled", "confirmed"]);
    assert_eq!(
        (text(&now["reservations"][0], "id"), &now["reservations"][0]["quantity"]),
        (&*ids[1], &json!(2))
    );
    stage.cust1.delete(&address(&order)).expect(204);
    assert_eq!([a, b].map(|event| tickets(&stage.anyone, event)), [[2, 0, 3], [1, 0, 5]]);
    assert_eq!(statuses(&seen(&stage.cust1, &order)), ["cancelled", "cancelled"]);
    // A part of a held order is not transferred.
    let order = placed(&stage.cust1, &held(&[(a, 1), (b, 1)], 60));
    transfer(&parts(&order)[0], json!({ "to": to })).problem(409, "part-of-order");
}

/// As for a single reservation: it is the new organizer's alone.
#[test]
fn what_was_handed_over_leaves_an_order_for_others() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let [kept, given] = [6, 6].map(|quota| stage.event(quota));
    let for_others = |mut body: Value| {
        body["customer_ref"] = json!("c-7");
        placed(&stage.org1, &body)
    };
    let both = [(kept, 2), (given, 2)];
    let (reserved, held) = (for_others(items(&both)), for_others(held(&both, 600)));
    let own = placed(&stage.cust1, &items(&both));
    let next = stage.org2.get("/api/v1/users/me").expect(200).json()["id"].clone();
    stage.org1.patch(&format!("/api/v1/events/{given}"), &json!({ "organizer": next })).expect(200);
    // What is held waits for its order.
    confirm(&stage.org1, &held).expect(200);
    for order in [&reserved, &held] {
        let [first, second] = &parts(order)[..] else { panic!("{order}") };
        let now = seen(&stage.org1, order);
        assert_eq!(parts(&now), [first.as_str()]);
        assert_eq!(text(&now, "status"), "partly_cancelled");
        stage.org1.delete(&address(order)).expect(204);
        let part = stage.org2.get(&format!("/api/v1/reservations/{second}")).expect(200).json();
        assert_eq!((text(&part, "status"), &part["order"]), ("confirmed", &Value::Null));
    }
    assert_eq!([kept, given].map(|event| tickets(&stage.anyone, event)), [[2, 0, 4], [6, 0, 0]]);
    // Customers keep what they ordered.
    assert_eq!(seen(&stage.cust1, &own), own);
    stage.cust1.delete(&address(&own)).expect(204);
    assert_eq!(tickets(&stage.anyone, given), [4, 0, 2]);
}

/// Two orders for the last tickets, in opposite order: one is placed or both are refused, nothing stays held, and the
/// last ticket is sold in the end.
#[test]
fn a_race_for_the_last_tickets_leaves_nothing_held() {
    const ROUNDS: usize = 40;
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let mut won = [0; 3];
    for round in 0..ROUNDS {
        let [a, b] = [1, 1].map(|quota| stage.event(quota));
        let start = Barrier::new(2);
        let body = |of: &[(u64, u64)]| if round % 2 == 0 { items(of) } else { held(of, 600) };
        let answers = thread::scope(|scope| {
            let first = scope.spawn(|| {
                start.wait();
                stage.cust1.post(ORDERS, &body(&[(a, 1), (b, 1)]))
            });
            let second = scope.spawn(|| {
                start.wait();
                stage.cust2.post(ORDERS, &body(&[(b, 1), (a, 1)]))
            });
            [first, second].map(|one| one.join().expect("it asks"))
        });
        let mut orders = Vec::new();
        for (answer, customer) in answers.into_iter().zip([&stage.cust1, &stage.cust2]) {
            if answer.status == 201 {
                orders.push((answer.json(), customer));
            } else {
                refused(answer);
            }
        }
        won[orders.len()] += 1;
        let [(order, customer)] = &orders[..] else {
            assert!(orders.is_empty(), "both have the last ticket");
            assert_eq!([a, b].map(|event| wait_until_none_is_held(&stage.anyone, event)), [[0, 0, 1]; 2]);
            placed(&stage.cust1, &items(&[(a, 1), (b, 1)]));
            continue;
        };
        if order["status"] == "held" {
            confirm(customer, order).expect(200);
        }
        assert_eq!([a, b].map(|event| wait_until_none_is_held(&stage.anyone, event)), [[1, 0, 0]; 2]);
    }
    println!("of {ROUNDS} rounds, both were refused in {}, one won in {}", won[0], won[1]);
}

/// Confirming, cancelling, releasing a part alone and deleting an event, all at once: whatever wins, all tickets are
/// counted, and nothing stays in doubt.
#[test]
fn a_race_about_one_order_ends_in_one_state() {
    const ROUNDS: usize = 30;
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    for round in 0..ROUNDS {
        let [a, b] = [5, 6].map(|quota| stage.event(quota));
        let order = placed(&stage.cust1, &held(&[(a, 2), (b, 3)], 600));
        let part = &parts(&order)[0];
        let start = Barrier::new(3);
        let (confirmed, cancelled, other) = thread::scope(|scope| {
            let confirmed = scope.spawn(|| {
                start.wait();
                confirm(&stage.cust1, &order)
            });
            let cancelled = scope.spawn(|| {
                start.wait();
                stage.cust1.delete(&address(&order))
            });
            start.wait();
            let other = match round % 3 {
                0 => stage.cust1.delete(&format!("/api/v1/holds/{part}")),
                1 => stage.org1.delete(&format!("/api/v1/events/{a}?force=true")),
                _ => confirm(&stage.cust1, &order),
            };
            (confirmed.join().expect("it asks"), cancelled.join().expect("it asks"), other)
        });
        cancelled.expect(204);
        match confirmed.status {
            200 => {}
            409 => {
                let kind = confirmed.json()["type"].as_str().expect("a type").to_owned();
                let kinds = ["hold-released", "order-parts-gone", "order-busy"];
                assert!(kinds.iter().any(|one| kind.ends_with(one)), "{kind}");
            }
            other => panic!("{other}"),
        }
        assert!([200, 204, 409].contains(&other.status), "{}", other.status);
        assert_eq!(statuses(&seen(&stage.cust1, &order)), ["cancelled"; 3]);
        let deleted = stage.anyone.get(&format!("/api/v1/events/{a}")).status == 410;
        if !deleted {
            assert_eq!(tickets(&stage.anyone, a), [0, 0, 5]);
        }
        assert_eq!(tickets(&stage.anyone, b), [0, 0, 6]);
    }
}
