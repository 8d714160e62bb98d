//! Reservations that are cancelled in part, or several at once. `api.rs` cancels whole ones.

mod support;

use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};
use support::client::Client;
use support::server::Server;
use support::{Stage, check_sums, create_event, number, reserve, text};
use tempfile::tempdir;

fn address(reservation: &str) -> String {
    format!("/api/v1/reservations/{reservation}")
}

fn reduce(client: &Client, reservation: &str, quantity: u64) -> Value {
    client.patch(&address(reservation), &json!({ "quantity": quantity })).expect(200).json()
}

/// Cancels reservations with one request. Returns the status of each.
fn cancel_all(client: &Client, ids: &[&str]) -> Vec<u64> {
    let body = client.post("/api/v1/reservations/cancel", &json!({ "ids": ids })).expect(200).json();
    let results = body["results"].as_array().expect("a list");
    let order: Vec<&str> = results.iter().map(|result| text(result, "id")).collect();
    assert_eq!(order, ids);
    results.iter().map(|result| number(result, "status")).collect()
}

#[test]
fn a_part_of_a_reservation_is_for_sale_again_also_after_a_kill() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let sums = |client: &Client| {
        let seen = client.get(&format!("/api/v1/events/{event}")).expect(200).json();
        check_sums(&seen);
        (number(&seen, "reserved"), number(&seen, "remaining"))
    };
    let reservation = stage.reservation(event, 8);
    let before = stage.cust1.get(&address(&reservation)).expect(200).json();
    let reduced = reduce(&stage.cust1, &reservation, 5);
    let mut expected = before;
    expected["quantity"] = json!(5);
    assert_eq!(reduced, expected, "nothing else changes");
    assert_eq!(sums(&stage.anyone), (5, 5));
    // A repeat changes nothing.
    assert_eq!(reduce(&stage.cust1, &reservation, 5), expected);
    let other = reserve(&stage.cust2, event, 5);
    assert_eq!(sums(&stage.anyone), (10, 0));
    let refused =
        stage.cust1.patch(&address(&reservation), &json!({ "quantity": 6 })).problem(422, "invalid");
    assert_eq!(refused["errors"][0]["pointer"], "/quantity", "{refused}");
    assert!(text(&refused["errors"][0], "detail").contains("at most 5"), "{refused}");
    assert_eq!(number(&reduce(&stage.admin, &other, 1), "quantity"), 1);
    assert_eq!(sums(&stage.anyone), (6, 4));

    let Stage { server, cust1, .. } = stage;
    server.kill();
    let server = Server::start(data.path(), &["--shards", "3"]);
    let cust1 = cust1.at(server.address);
    assert_eq!(cust1.get(&address(&reservation)).expect(200).json(), expected);
    assert_eq!(sums(&cust1), (6, 4));
    cust1.delete(&address(&reservation)).expect(204);
    assert_eq!(sums(&cust1), (1, 9), "the tickets that were left are given back once");
    cust1.patch(&address(&reservation), &json!({ "quantity": 1 })).problem(409, "reservation-cancelled");
    assert_eq!(sums(&cust1), (1, 9));
}

/// Requests that give back parts of one reservation, at once with buyers who want them: each ticket is given back
/// once, and sold once.
#[test]
fn parts_that_are_given_back_at_once_are_sold_once() {
    const ROUNDS: u64 = 10;
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    for round in 0..ROUNDS {
        let event = stage.event(8);
        let reservation = stage.reservation(event, 8);
        let barrier = Barrier::new(8);
        let statuses: Vec<(u64, u16)> = thread::scope(|scope| {
            let (stage, reservation, barrier) = (&stage, &*reservation, &barrier);
            let reducers = [1, 3, 5, 7].map(|left| {
                scope.spawn(move || {
                    barrier.wait();
                    let body = json!({ "quantity": left });
                    (left, stage.cust1.patch(&address(reservation), &body).status)
                })
            });
            let buyers = [1, 2, 3, 4].map(|quantity| {
                scope.spawn(move || {
                    barrier.wait();
                    let path = format!("/api/v1/events/{event}/reservations");
                    let status = stage.cust2.post(&path, &json!({ "quantity": quantity })).status;
                    (if status == 201 { quantity } else { 0 }, status)
                })
            });
            let reduced = reducers.map(|reducer| reducer.join().unwrap());
            assert!(reduced.iter().all(|(_, status)| [200, 422].contains(status)), "{reduced:?}");
            assert_eq!(reduced[0].1, 200, "1 is never more than there are");
            buyers.map(|buyer| buyer.join().unwrap()).to_vec()
        });
        let sold: u64 = statuses.iter().map(|(quantity, _)| quantity).sum();
        let seen = stage.seen(event);
        assert_eq!(number(&seen, "reserved"), 1 + sold, "round {round}: {statuses:?}");
        assert_eq!(number(&stage.cust1.get(&address(&reservation)).expect(200).json(), "quantity"), 1);
    }
}

#[test]
fn several_reservations_are_cancelled_each_for_itself() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let events: Vec<u64> = (0..5).map(|_| stage.event(10)).collect();
    let own: Vec<String> = events.iter().map(|&event| stage.reservation(event, 2)).collect();
    let foreign = reserve(&stage.cust2, events[0], 3);
    let ids: Vec<&str> = own.iter().map(String::as_str).chain([&*foreign, "999999-1", &own[0]]).collect();
    // Of the customer: also one that is there twice, which is a repeat.
    assert_eq!(cancel_all(&stage.cust1, &ids), [204, 204, 204, 204, 204, 404, 404, 204]);
    for (event, reserved) in events.iter().zip([3, 0, 0, 0, 0]) {
        assert_eq!(number(&stage.seen(*event), "reserved"), reserved);
    }
    // So does the event's organizer, and an admin.
    let other = reserve(&stage.cust2, events[0], 3);
    assert_eq!(cancel_all(&stage.org2, &[&foreign]), [404]);
    assert_eq!(cancel_all(&stage.org1, &[&foreign, &own[0]]), [204, 204]);
    assert_eq!(cancel_all(&stage.admin, &[&other, &own[0]]), [204, 204]);
    assert_eq!(number(&stage.seen(events[0]), "reserved"), 0);

    let many = |count: usize| {
        let ids: Vec<String> = (1..=count).map(|number| format!("{}-{number}", events[0])).collect();
        stage.cust1.post("/api/v1/reservations/cancel", &json!({ "ids": ids }))
    };
    many(100).expect(200);
    for refused in [many(101), many(0)] {
        let problem = refused.problem(422, "invalid");
        assert_eq!(problem["errors"][0]["detail"], "must be a list of 1 to 100 reservation ids", "{problem}");
    }
    for ids in [json!(["1-1", "01-1"]), json!(["1-1", 2]), json!(["1-1", ["1-1"]]), json!(["1-1", null])] {
        let problem = stage.cust1.post("/api/v1/reservations/cancel", &json!({ "ids": ids }));
        let problem = problem.problem(422, "invalid");
        assert!(text(&problem["errors"][0], "detail").ends_with("item 2 of the list is none"), "{problem}");
    }
    let problem = stage.cust1.post("/api/v1/reservations/cancel", &json!({ "ids": "1-1" }));
    problem.problem(422, "invalid");
}

/// A request that cancels several counts as so many changes of its account, all or none.
#[test]
fn several_cancellations_are_several_changes() {
    let folder = tempdir().unwrap();
    let options = ["--shards", "1", "--max-changes-per-account", "60", "--changes-per-second", "1"];
    let server = Server::start(&folder.path().join("data"), &options);
    let event = create_event(&server.client().sign_up("grace", "organizer"), 100);
    let customer = server.client().sign_up("ada", "customer");
    let own: Vec<String> = (0..90).map(|_| reserve(&customer, event, 1)).collect();
    let ids = |range: std::ops::Range<usize>| json!({ "ids": own[range] });
    customer.post("/api/v1/reservations/cancel", &ids(0..50)).expect(200);
    let problem = customer.post("/api/v1/reservations/cancel", &ids(40..90)).problem(429, "account-limit");
    assert_eq!(problem["limit"], "changes", "{problem}");
    let seen = server.client().get(&format!("/api/v1/events/{event}")).expect(200).json();
    assert_eq!(number(&seen, "reserved"), 40, "a refused request cancels nothing");

    // More than an account may make at once count as that many.
    let other = server.client().sign_up("joan", "customer");
    let ids: Vec<String> = (1..=100).map(|number| format!("{event}-{number}")).collect();
    other.post("/api/v1/reservations/cancel", &json!({ "ids": ids })).expect(200);
    other.delete(&address(&ids[0])).problem(429, "account-limit");
}

/// A server with the fewest places for requests cancels all of a list.
#[test]
fn several_cancellations_need_few_places() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &["--shards", "1", "--max-in-flight", "64"]);
    let event = create_event(&server.client().sign_up("grace", "organizer"), 100);
    let customer = server.client().sign_up("ada", "customer");
    let own: Vec<String> = (0..100).map(|_| reserve(&customer, event, 1)).collect();
    let ids: Vec<&str> = own.iter().map(String::as_str).collect();
    assert_eq!(cancel_all(&customer, &ids), [204; 100]);
}
