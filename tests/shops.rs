//! Organizers who sell their own events to customers without an account here: for refs, for guests, and set aside.

mod support;

use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};
use support::client::{Answer, Client};
use support::holds::tickets;
use support::keys::{expect_again, send};
use support::server::Server;
use support::{PASSWORD, Stage, all_items, create_event, number, reserve, text};
use tempfile::tempdir;

fn list_of(event: u64) -> String {
    format!("/api/v1/events/{event}/reservations")
}

fn address(reservation: &str) -> String {
    format!("/api/v1/reservations/{reservation}")
}

fn sell(organizer: &Client, event: u64, quantity: u64, customer_ref: &str) -> Answer {
    organizer.post(&list_of(event), &json!({ "quantity": quantity, "customer_ref": customer_ref }))
}

fn sold(organizer: &Client, event: u64, quantity: u64, customer_ref: &str) -> Value {
    sell(organizer, event, quantity, customer_ref).expect(201).json()
}

/// The ids, customers, refs and kinds of a list.
fn buyers(items: &[Value]) -> Vec<(&str, &Value, &Value, &str)> {
    let buyer = |item| (text(item, "id"), &item["customer"], &item["customer_ref"], text(item, "kind"));
    items.iter().map(buyer).collect()
}

#[test]
fn what_is_sold_to_a_ref_is_seen_by_the_organizer_alone() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(20);
    let own = stage.reservation(event, 1);
    let made = sell(&stage.org1, event, 2, "Müller, Tisch 4").expect(201);
    let of_ref = made.json();
    let id = text(&of_ref, "id").to_owned();
    assert_eq!(made.header("location"), Some(&*address(&id)));
    assert_eq!(
        (&of_ref["customer"], &of_ref["customer_ref"], &of_ref["kind"], &of_ref["status"]),
        (&Value::Null, &json!("Müller, Tisch 4"), &json!("sale"), &json!("confirmed"))
    );
    for seller in [&stage.org1, &stage.admin] {
        assert_eq!(seller.get(&address(&id)).expect(200).json(), of_ref);
    }
    for other in [&stage.org2, &stage.cust1, &stage.cust2] {
        other.get(&address(&id)).problem(404, "not-found");
        other.delete(&address(&id)).problem(404, "not-found");
    }
    assert!(all_items(&stage.org1, "/api/v1/reservations", 10).is_empty(), "it is not the organizer's own");
    let guests = json!({ "quantity": 3, "kind": "guest" });
    let guests = stage.org1.post(&list_of(event), &guests).expect(201).json();
    let block = json!({ "quantity": 4, "kind": "block", "ttl_seconds": 600 });
    let block = stage.org1.post(&format!("/api/v1/events/{event}/holds"), &block).expect(201).json();
    assert_eq!((&guests["kind"], &block["kind"]), (&json!("guest"), &json!("block")));
    assert_eq!(tickets(&stage.anyone, event), [6, 4, 10]);
    let again = sold(&stage.org1, event, 1, "Müller, Tisch 4");
    let all = all_items(&stage.org1, &list_of(event), 2);
    let cust1 = number(&stage.cust1.get("/api/v1/users/me").expect(200).json(), "id");
    let (text_of_ref, none) = (json!("Müller, Tisch 4"), Value::Null);
    assert_eq!(
        buyers(&all),
        [
            (&*own, &json!(cust1), &none, "sale"),
            (&*id, &none, &text_of_ref, "sale"),
            (text(&guests, "id"), &none, &none, "guest"),
            (text(&block, "id"), &none, &none, "block"),
            (text(&again, "id"), &none, &text_of_ref, "sale"),
        ]
    );
    // Of one customer, in pages whose links keep the filter.
    let encoded = "M%C3%BCller%2C%20Tisch%204";
    let path = format!("{}?customer_ref={encoded}", list_of(event));
    assert_eq!(all_items(&stage.org1, &path, 1).len(), 2);
    let page = stage.org1.get(&format!("{path}&limit=1&status=confirmed")).expect(200);
    let link = page.header("link").expect("there is a second page");
    assert!(link.contains(&format!("?status=confirmed&customer_ref={encoded}&limit=1&after=")), "{link}");
    assert!(all_items(&stage.org1, &format!("{}?customer_ref=nobody", list_of(event)), 10).is_empty());
}

#[test]
fn refs_are_exported_with_their_characters() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 1);
    let event = stage.event(20);
    let longest = "🎟".repeat(128);
    let refs = ["=1+1", "a,\"b\"", "é", &longest];
    refs.iter().for_each(|text| drop(sold(&stage.org1, event, 1, text)));
    let export = |form: &str, query: &str| {
        let path = format!("{}{query}", list_of(event));
        stage.org1.send("GET", &path, &[("Accept", form)], "").expect(200).text().to_owned()
    };
    let lines = export("application/x-ndjson", "");
    let items: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = items.iter().map(|item| text(item, "customer_ref")).collect();
    assert_eq!(names, refs);
    let table = export("text/csv", "");
    let cells = ["'=1+1", "\"a,\"\"b\"\"\"", "é", &longest];
    for (row, cell) in table.lines().skip(1).zip(cells) {
        assert!(row.contains(&format!(",,,{cell},sale,1,confirmed,")), "{row}");
    }
    assert_eq!(export("text/csv", "?customer_ref=%C3%A9").lines().count(), 2, "a header and a row");
    for wrong in ["", " ", "a\nb", "a\u{202e}b", &"x".repeat(129)] {
        let problem = sell(&stage.org1, event, 1, wrong).problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], "/customer_ref", "{wrong:?}");
    }
    for wrong in [json!(7), json!(["a"]), json!({ "a": 1 }), json!(null)] {
        let body = json!({ "quantity": 1, "customer_ref": wrong });
        stage.org1.post(&list_of(event), &body).problem(422, "invalid");
    }
}

/// Who says for whom tickets are: organizers have to, and others must not. Refusals say what to change.
#[test]
fn refusals_say_who_sells() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 1);
    let event = stage.event(5);
    let detail = |client: &Client, body: Value, kind: &str| {
        text(&client.post(&list_of(event), &body).problem(403, kind), "detail").to_owned()
    };
    let without = detail(&stage.org1, json!({ "quantity": 1 }), "forbidden");
    assert!(without.contains("`customer_ref`") && without.contains("`guest` or `block`"), "{without}");
    let of_customer = detail(&stage.cust1, json!({ "quantity": 1, "customer_ref": "a" }), "forbidden");
    assert!(of_customer.contains("without `customer_ref` or `kind`"), "{of_customer}");
    detail(&stage.admin, json!({ "quantity": 1, "customer_ref": "a" }), "forbidden");
    detail(&stage.org2, json!({ "quantity": 1, "customer_ref": "a" }), "not-yours");
    let both = json!({ "quantity": 1, "customer_ref": "a", "kind": "guest" });
    let both = stage.org1.post(&list_of(event), &both).problem(422, "invalid");
    assert_eq!(both["errors"][0]["pointer"], "/kind", "{both}");
    assert_eq!(tickets(&stage.anyone, event), [0, 0, 5]);
}

#[test]
fn a_hold_for_a_ref_is_confirmed_and_released_by_the_organizer() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let hold = || {
        let body = json!({ "quantity": 3, "customer_ref": "c-1" });
        let path = format!("/api/v1/events/{event}/holds");
        text(&stage.org1.post(&path, &body).expect(201).json(), "id").to_owned()
    };
    let confirm = |client: &Client, id: &str| {
        client.post(&format!("/api/v1/holds/{id}/confirm"), &json!({ "quantity": 2 }))
    };
    let id = hold();
    confirm(&stage.admin, &id).problem(403, "forbidden");
    confirm(&stage.cust1, &id).problem(404, "not-found");
    let confirmed = confirm(&stage.org1, &id).expect(200).json();
    assert_eq!((number(&confirmed, "quantity"), text(&confirmed, "customer_ref")), (2, "c-1"));
    let id = hold();
    stage.org1.delete(&format!("/api/v1/holds/{id}")).expect(204);
    // A customer's own hold is the customer's to confirm, and the organizer's to release.
    let own = support::holds::hold(&stage.cust1, event, &json!({ "quantity": 1 }));
    stage.org1.post(&format!("/api/v1/holds/{own}/confirm"), &json!({})).problem(403, "forbidden");
    stage.org1.delete(&format!("/api/v1/holds/{own}")).expect(204);
    assert_eq!(tickets(&stage.anyone, event), [2, 0, 8]);
}

/// Clients of one shop who buy for few refs at once: no ref has more than the limit, and each has all of it.
#[test]
fn the_limit_of_a_customer_counts_by_ref_also_at_once_and_after_a_kill() {
    const REFS: usize = 3;
    const LIMIT: u64 = 4;
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let body = json!({ "name": "Few each", "quota": 100, "max_per_customer": LIMIT });
    let event = number(&stage.org1.post("/api/v1/events", &body).expect(201).json(), "id");
    reserve(&stage.cust1, event, LIMIT);
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for client in 0..8 {
            let (stage, barrier) = (&stage, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for turn in 0..9 {
                    let answer = sell(&stage.org1, event, 1, &format!("c-{}", (client + turn) % REFS));
                    if answer.status != 201 {
                        assert_eq!(answer.problem(409, "customer-limit")["allowed"], 0);
                    }
                }
            });
        }
    });
    let check = |anyone: &Client, organizer: &Client| {
        assert_eq!(tickets(anyone, event)[0], LIMIT * (1 + REFS as u64));
        for index in 0..REFS {
            let path = format!("{}?customer_ref=c-{index}&status=confirmed", list_of(event));
            let items = all_items(organizer, &path, 100);
            assert_eq!(items.iter().map(|item| number(item, "quantity")).sum::<u64>(), LIMIT, "c-{index}");
            sell(organizer, event, 1, &format!("c-{index}")).problem(409, "customer-limit");
        }
        sell(organizer, event, 5, "another").problem(409, "customer-limit");
    };
    check(&stage.anyone, &stage.org1);
    // Raised and lowered under sale.
    let limit = |most: u64| {
        let patch = json!({ "max_per_customer": most });
        stage.org1.patch(&format!("/api/v1/events/{event}"), &patch).expect(200);
    };
    limit(LIMIT + 1);
    let more = sold(&stage.org1, event, 1, "c-0");
    limit(1);
    sell(&stage.org1, event, 1, "c-0").problem(409, "customer-limit");
    stage.org1.delete(&address(text(&more, "id"))).expect(204);
    limit(LIMIT);
    // Neither guests nor what is set aside count, or have a limit.
    let guests = json!({ "quantity": 9, "kind": "guest" });
    let guests = stage.org1.post(&list_of(event), &guests).expect(201).json();
    stage.org1.delete(&address(text(&guests, "id"))).expect(204);
    stage.server.kill();
    let server = Server::start(data.path(), &["--shards", "3"]);
    check(&server.client(), &stage.org1.at(server.address));
}

#[test]
fn tickets_are_set_aside_before_the_sale_and_after_it() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 1);
    let rules =
        [json!({ "sales_start": "2100-01-01T00:00:00Z" }), json!({ "sales_end": "2001-01-01T00:00:00Z" })];
    for rules in rules {
        let event = stage.event(10);
        stage.org1.patch(&format!("/api/v1/events/{event}"), &rules).expect(200);
        sell(&stage.org1, event, 1, "c-1").expect(403);
        for kind in ["guest", "block"] {
            stage.org1.post(&list_of(event), &json!({ "quantity": 5, "kind": kind })).expect(201);
        }
        let more = json!({ "quantity": 1, "kind": "block" });
        assert_eq!(stage.org1.post(&list_of(event), &more).problem(409, "sold-out")["remaining"], 0);
    }
}

#[test]
fn a_key_gives_the_first_answer_of_a_sale_to_a_ref_again() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let (path, body) = (list_of(event), r#"{"quantity":2,"customer_ref":"c-1"}"#);
    let first = send(&stage.org1, &path, "k", body);
    let id = text(&first.expect(201).json(), "id").to_owned();
    let first = send(&stage.org1, &path, "k", body);
    send(&stage.org1, &path, "k", r#"{"quantity":2,"customer_ref":"c-2"}"#).problem(422, "key-reused");
    let to = json!({ "to": { "username": "cust2" } });
    stage.org1.post(&format!("{}/transfer", address(&id)), &to).expect(200);
    stage.server.kill();
    let server = Server::start(data.path(), &["--shards", "3"]);
    let org1 = stage.org1.at(server.address);
    expect_again(&first, send(&org1, &path, "k", body));
    assert_eq!(first.json()["customer_ref"], "c-1");
    assert_eq!(org1.get(&address(&id)).expect(200).json()["customer_ref"], Value::Null, "it is cust2's now");
    assert_eq!(tickets(&server.client(), event), [2, 0, 8]);
}

/// Refs are names within an event: whoever has the event has them.
#[test]
fn a_hand_over_gives_the_refs_to_the_new_organizer() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let id = text(&sold(&stage.org1, event, 2, "c-1"), "id").to_owned();
    let org2 = number(&stage.org2.get("/api/v1/users/me").expect(200).json(), "id");
    stage.org1.patch(&format!("/api/v1/events/{event}"), &json!({ "organizer": org2 })).expect(200);
    stage.org1.get(&address(&id)).problem(404, "not-found");
    sell(&stage.org1, event, 1, "c-1").problem(403, "not-yours");
    assert_eq!(stage.org2.get(&address(&id)).expect(200).json()["customer_ref"], "c-1");
    sold(&stage.org2, event, 1, "c-1");
    assert_eq!(all_items(&stage.org2, &format!("{}?customer_ref=c-1", list_of(event)), 10).len(), 2);
    stage.org2.delete(&address(&id)).expect(204);
    // A former organizer sells nothing, and the reservations stay.
    stage.admin.patch(&format!("/api/v1/users/{org2}"), &json!({ "role": "customer" })).expect(200);
    let former = stage.anyone.log_in("org2", PASSWORD);
    sell(&former, event, 1, "c-1").problem(403, "forbidden");
    assert_eq!(tickets(&stage.anyone, event), [1, 0, 9]);
}

/// What an organizer makes for others takes memory as what a customer makes, and has the same limit.
#[test]
fn an_organizer_makes_so_many_reservations_for_others() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    let options = ["--shards", "1", "--max-reservations-per-account", "3"];
    let server = Server::start(&data, &options);
    let organizer = server.client().sign_up("grace", "organizer");
    let event = create_event(&organizer, 100);
    for customer_ref in ["a", "b"] {
        let made = sold(&organizer, event, 1, customer_ref);
        organizer.delete(&address(text(&made, "id"))).expect(204);
    }
    organizer.post(&list_of(event), &json!({ "quantity": 1, "kind": "block" })).expect(201);
    let refused = sell(&organizer, event, 1, "c").problem(429, "account-limit");
    assert_eq!(refused["limit"], "reservations", "{refused}");
    server.kill();
    let server = Server::start(&data, &options);
    let organizer = organizer.at(server.address);
    sell(&organizer, event, 1, "c").problem(429, "account-limit");
    // Customers have their own.
    reserve(&server.client().sign_up("ada", "customer"), event, 1);
}
