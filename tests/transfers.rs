//! Transfers of reservations, whole and in part: who may, who gets them, and what happens at once with others.

mod support;

use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};
use support::client::{Answer, Client};
use support::holds::{hold, tickets};
use support::keys::{expect_again, is_replayed, send};
use support::server::Server;
use support::{PASSWORD, Stage, all_items, number, reserve, text};
use tempfile::tempdir;

fn address(reservation: &str) -> String {
    format!("/api/v1/reservations/{reservation}")
}

fn transfer(client: &Client, reservation: &str, body: &Value) -> Answer {
    client.post(&format!("{}/transfer", address(reservation)), body)
}

fn to(username: &str) -> Value {
    json!({ "to": { "username": username } })
}

fn part(username: &str, quantity: u64) -> Value {
    json!({ "to": { "username": username }, "quantity": quantity })
}

/// The ids and tickets of one's live reservations.
fn mine(client: &Client) -> Vec<(String, u64)> {
    let items = all_items(client, "/api/v1/reservations", 7).into_iter();
    let live = items.filter(|item| item["status"] == "confirmed");
    live.map(|item| (text(&item, "id").to_owned(), number(&item, "quantity"))).collect()
}

#[test]
fn a_reservation_gets_another_customer_whole_or_in_part() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let id = stage.reservation(event, 5);
    let before = stage.cust1.get(&address(&id)).expect(200).json();
    let cust2 = number(&stage.cust2.get("/api/v1/users/me").expect(200).json(), "id");

    let made = transfer(&stage.cust1, &id, &part("CUST2", 2)).expect(201);
    let new = made.json();
    let new_id = text(&new, "id").to_owned();
    assert_eq!(made.header("location"), Some(&*address(&new_id)));
    assert_eq!((number(&new, "customer"), number(&new, "quantity")), (cust2, 2));
    assert_eq!(stage.cust2.get(&address(&new_id)).expect(200).json(), new);
    stage.cust1.get(&address(&new_id)).problem(404, "not-found");
    let mut left = before.clone();
    left["quantity"] = json!(3);
    assert_eq!(stage.cust1.get(&address(&id)).expect(200).json(), left, "nothing else changes");
    assert_eq!(tickets(&stage.anyone, event), [5, 0, 5]);

    // As many as there are, or no number: the whole, which keeps its id.
    let whole = transfer(&stage.cust1, &id, &part("cust2", 3)).expect(200).json();
    left["customer"] = json!(cust2);
    assert_eq!(whole, left);
    stage.cust1.get(&address(&id)).problem(404, "not-found");
    transfer(&stage.cust1, &id, &to("cust2")).problem(404, "not-found");
    assert_eq!(
        (mine(&stage.cust1), mine(&stage.cust2)),
        (vec![], vec![(id.clone(), 3), (new_id.clone(), 2)])
    );
    transfer(&stage.cust2, &new_id, &to("cust1")).expect(200);
    // To whoever has it already: nothing changes.
    let position = |client: &Client| {
        let path = format!("/api/v1/events/{event}/availability");
        number(&client.get(&path).expect(200).json(), "position")
    };
    let at = position(&stage.anyone);
    transfer(&stage.cust2, &id, &to("cust2")).expect(200);
    transfer(&stage.cust2, &id, &part("cust2", 1)).expect(200);
    assert_eq!(position(&stage.anyone), at);
    let more = transfer(&stage.cust2, &id, &part("cust1", 4)).problem(422, "invalid");
    assert!(text(&more["errors"][0], "detail").contains("at most 3"), "{more}");
    assert_eq!(tickets(&stage.anyone, event), [5, 0, 5]);

    let Stage { server, cust1, cust2, .. } = stage;
    let expected = (vec![(new_id.clone(), 2)], vec![(id.clone(), 3)]);
    assert_eq!((mine(&cust1), mine(&cust2)), expected);
    server.kill();
    let server = Server::start(data.path(), &["--shards", "3"]);
    let (cust1, cust2) = (cust1.at(server.address), cust2.at(server.address));
    assert_eq!((mine(&cust1), mine(&cust2)), expected);
    cust1.delete(&address(&new_id)).expect(204);
    cust1.delete(&address(&id)).problem(404, "not-found");
    transfer(&cust1, &new_id, &to("cust2")).problem(409, "reservation-cancelled");
    assert_eq!(tickets(&cust1, event), [3, 0, 7]);
}

#[test]
fn only_customers_and_refs_receive() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let id = stage.reservation(event, 2);
    let removed = stage.anyone.sign_up("removed", "customer");
    let removed = number(&removed.get("/api/v1/users/me").expect(200).json(), "id");
    stage.admin.delete(&format!("/api/v1/users/{removed}")).expect(204);
    for name in ["nobody-here", "removed", "org1", "admin"] {
        for sender in [&stage.cust1, &stage.org1] {
            transfer(sender, &id, &to(name)).problem(404, "receiver-not-found");
        }
        // Who may not see the reservation does not learn who has an account.
        for name in [name, "cust2"] {
            transfer(&stage.cust2, &id, &to(name)).problem(404, "not-found");
        }
    }
    let of_ref = json!({ "to": { "customer_ref": "c-1" } });
    transfer(&stage.cust1, &id, &of_ref).problem(403, "forbidden");
    transfer(&stage.admin, &id, &of_ref).problem(403, "forbidden");
    let held = hold(&stage.cust1, event, &json!({ "quantity": 1 }));
    transfer(&stage.cust1, &held, &to("cust2")).problem(409, "hold-not-confirmed");
    for body in [
        json!({ "to": { "username": "cust2", "customer_ref": "c-1" } }),
        json!({ "to": { "username": ["cust2"] } }),
        json!({ "to": { "username": { "a": 1 } } }),
        json!({ "to": {} }),
        json!({ "to": null }),
        json!({ "to": [] }),
        json!({ "to": { "username": "cust2" }, "quantity": 0 }),
    ] {
        transfer(&stage.cust1, &id, &body).problem(422, "invalid");
    }
    let twice = r#"{"to":{"username":"cust2","username":"cust1"}}"#;
    let path = format!("{}/transfer", address(&id));
    assert!([400, 422].contains(&stage.cust1.send("POST", &path, &[], twice).status));
    assert_eq!(mine(&stage.cust1), [(id, 2)]);
    assert_eq!(tickets(&stage.anyone, event), [2, 1, 7]);
}

#[test]
fn organizers_transfer_what_is_in_their_events() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(20);
    let list =
        |query: &str| all_items(&stage.org1, &format!("/api/v1/events/{event}/reservations{query}"), 10);
    let block = json!({ "quantity": 10, "kind": "block" });
    let path = format!("/api/v1/events/{event}/reservations");
    let block = text(&stage.org1.post(&path, &block).expect(201).json(), "id").to_owned();
    let given = json!({ "to": { "customer_ref": "c-1" }, "quantity": 3 });
    let given = transfer(&stage.org1, &block, &given).expect(201).json();
    assert_eq!((&given["customer_ref"], &given["kind"]), (&json!("c-1"), &json!("sale")));
    transfer(&stage.org1, &block, &part("cust1", 2)).expect(201);
    transfer(&stage.org2, &block, &to("cust1")).problem(404, "not-found");
    transfer(&stage.org1, text(&given, "id"), &json!({ "to": { "customer_ref": "c-2" } })).expect(200);
    assert_eq!((list("?customer_ref=c-1").len(), list("?customer_ref=c-2").len()), (0, 1));
    // An account of the buyer's own, and back.
    transfer(&stage.org1, text(&given, "id"), &to("cust2")).expect(200);
    assert_eq!(mine(&stage.cust2), [(text(&given, "id").to_owned(), 3)]);
    transfer(&stage.org1, text(&given, "id"), &json!({ "to": { "customer_ref": "c-1" } })).expect(200);
    assert_eq!((mine(&stage.cust2), list("?customer_ref=c-1").len()), (vec![], 1));
    assert_eq!(tickets(&stage.anyone, event), [10, 0, 10]);

    // What one bought stays one's own to give, whatever the role becomes.
    let id = reserve(&stage.cust2, event, 1);
    let user = number(&stage.cust2.get("/api/v1/users/me").expect(200).json(), "id");
    stage.admin.patch(&format!("/api/v1/users/{user}"), &json!({ "role": "organizer" })).expect(200);
    let former = stage.anyone.log_in("cust2", PASSWORD);
    transfer(&former, &id, &json!({ "to": { "customer_ref": "c-1" } })).problem(403, "not-yours");
    transfer(&former, &id, &to("cust1")).expect(200);
}

#[test]
fn a_receiver_has_the_limit_of_a_customer() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(20);
    let id = stage.reservation(event, 5);
    reserve(&stage.cust2, event, 1);
    let rules =
        json!({ "max_per_customer": 3, "max_per_reservation": 1, "sales_end": "2001-01-01T00:00:00Z" });
    stage.org1.patch(&format!("/api/v1/events/{event}"), &rules).expect(200);
    assert_eq!(transfer(&stage.cust1, &id, &to("cust2")).problem(409, "customer-limit")["allowed"], 2);
    transfer(&stage.cust1, &id, &part("cust2", 2)).expect(201);
    assert_eq!(transfer(&stage.cust1, &id, &part("cust2", 1)).problem(409, "customer-limit")["allowed"], 0);
    let of_ref = |quantity: u64| json!({ "to": { "customer_ref": "c-1" }, "quantity": quantity });
    transfer(&stage.org1, &id, &of_ref(3)).expect(200);
    assert_eq!(tickets(&stage.anyone, event), [6, 0, 14]);
}

#[test]
fn a_key_transfers_once() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let id = stage.reservation(event, 5);
    let path = format!("{}/transfer", address(&id));
    let (a_part, rest) = (r#"{"to":{"username":"cust2"},"quantity":2}"#, r#"{"to":{"username":"cust2"}}"#);
    let first = send(&stage.cust1, &path, "part", a_part);
    first.expect(201);
    let first = send(&stage.cust1, &path, "part", a_part);
    assert!(is_replayed(&first));
    send(&stage.cust1, &path, "part", rest).problem(422, "key-reused");
    let other_name = r#"{"to":{"username":"cust3"},"quantity":2}"#;
    send(&stage.cust1, &path, "part", other_name).problem(422, "key-reused");
    let whole = send(&stage.cust1, &path, "whole", rest);
    whole.expect(200);
    let whole = send(&stage.cust1, &path, "whole", rest);
    // Whatever becomes of the reservation and of the receiver.
    let cust2 = number(&stage.cust2.get("/api/v1/users/me").expect(200).json(), "id");
    stage.cust2.delete(&address(&id)).expect(204);
    stage.admin.delete(&format!("/api/v1/users/{cust2}")).expect(204);
    stage.server.kill();
    let server = Server::start(data.path(), &["--shards", "3"]);
    let cust1 = stage.cust1.at(server.address);
    expect_again(&first, send(&cust1, &path, "part", a_part));
    expect_again(&whole, send(&cust1, &path, "whole", rest));
    send(&cust1, &path, "new", rest).problem(404, "not-found");
    assert_eq!(tickets(&cust1, event), [2, 0, 8]);
}

/// A transfer, at once with a cancellation by each of its two customers, another transfer and a reduction. Whatever
/// comes first, the tickets are one customer's, or for sale again, and the lists say so.
#[test]
fn transfers_at_once_with_others_neither_lose_nor_double_tickets() {
    const ROUNDS: usize = 12;
    const TICKETS: u64 = 6;
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let cust3 = stage.anyone.log_in("cust3", PASSWORD);
    let customers = [&stage.cust1, &stage.cust2, &cust3];
    let mut expected = 0;
    let mut outcomes = std::collections::BTreeSet::new();
    for round in 0..ROUNDS {
        let event = stage.event(TICKETS);
        let id = stage.reservation(event, TICKETS);
        type Act<'a> = Box<dyn Fn() -> Answer + Send + Sync + 'a>;
        let (stage, id) = (&stage, &*id);
        let acts: Vec<Act<'_>> = vec![
            Box::new(|| transfer(&stage.cust1, id, &to("cust2"))),
            Box::new(|| transfer(&stage.cust1, id, &part("cust3", 2))),
            Box::new(|| transfer(&stage.org1, id, &to("cust3"))),
            Box::new(|| match round % 3 {
                0 => stage.cust1.delete(&address(id)),
                1 => stage.cust2.delete(&address(id)),
                _ => stage.cust1.patch(&address(id), &json!({ "quantity": 3 })),
            }),
        ];
        let barrier = Barrier::new(acts.len());
        let statuses: Vec<u16> = thread::scope(|scope| {
            let run = |act: &'_ Act<'_>| {
                barrier.wait();
                act().status
            };
            let running: Vec<_> = acts.iter().map(|act| scope.spawn(move || run(act))).collect();
            running.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(statuses.iter().all(|status| [200, 201, 204, 404, 409].contains(status)), "{statuses:?}");
        let of_event = |client: &Client| -> u64 {
            let own = mine(client).into_iter().filter(|(id, _)| id.starts_with(&format!("{event}-")));
            own.map(|(_, quantity)| quantity).sum()
        };
        let held: u64 = customers.iter().map(|client| of_event(client)).sum();
        let [reserved, _, remaining] = tickets(&stage.anyone, event);
        assert_eq!((held, reserved + remaining), (reserved, TICKETS), "round {round}: {statuses:?}");
        expected += reserved;
        outcomes.insert(statuses);
    }
    println!("{outcomes:?}");
    stage.server.kill();
    let server = Server::start(data.path(), &["--shards", "1"]);
    let all = customers.map(|client| mine(&client.at(server.address)));
    let sum: u64 = all.iter().flatten().map(|(_, quantity)| quantity).sum();
    assert_eq!(sum, expected, "after a restart");
}
