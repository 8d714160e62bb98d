//! The limits on what one account makes: its changes in a time, its events, its reservations.
//!
//! Servers have small limits here. The other tests run with the defaults, which they must not meet.

mod support;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::tempdir;

use support::client::{Answer, Client, Wire, request};
use support::server::Server;
use support::{PASSWORD, all_items, create_event, number, reserve, text};

/// Checks a refusal because of a limit of the account, and returns the seconds of `Retry-After`.
#[track_caller]
fn refused(answer: Answer, limit: &str, option: &str) -> u64 {
    let retry_after =
        answer.header("retry-after").expect("it says when to try again").parse().expect("seconds");
    let problem = answer.problem(429, "account-limit");
    assert_eq!(problem["limit"], limit, "{problem}");
    assert!(text(&problem, "detail").contains(option), "{problem}");
    retry_after
}

fn metric(server: &Server, limit: &str) -> u64 {
    let metrics = server.client().get("/metrics").expect(200);
    let name = format!("boxoffice_account_limits_total{{limit=\"{limit}\"}} ");
    let line = metrics.text().lines().find_map(|line| line.strip_prefix(&name));
    line.expect("there is such a metric").parse().expect("a number")
}

fn new_event() -> Value {
    json!({ "name": "An evening", "quota": 10 })
}

/// Makes changes until one is refused, and returns how many were not. An account has `most` changes, and regains
/// one a second.
#[track_caller]
fn take_all(most: u64, mut change: impl FnMut() -> Answer) -> u64 {
    let start = Instant::now();
    let mut taken = 0;
    let refusal = loop {
        let answer = change();
        if answer.status == 429 {
            break answer;
        }
        assert!(answer.status < 500, "{answer:?}");
        taken += 1;
        assert!(taken <= most + 1 + start.elapsed().as_secs(), "{taken} changes");
    };
    assert!(taken >= most, "only {taken} changes");
    assert_eq!(refused(refusal, "changes", "--max-changes-per-account"), 1);
    taken
}

#[test]
fn changes_are_limited_in_a_time_and_sales_are_not() {
    let folder = tempdir().unwrap();
    let options = ["--shards", "1", "--max-changes-per-account", "5", "--changes-per-second", "1"];
    let server = Server::start(&folder.path().join("data"), &options);
    let organizer = server.client().sign_up("grace", "organizer");
    let customer = server.client().sign_up("ada", "customer");

    // What is refused anyway does not count.
    for _ in 0..20 {
        organizer.post("/api/v1/events", &json!({ "name": "" })).problem(422, "invalid");
        customer.post("/api/v1/events", &new_event()).problem(403, "forbidden");
    }
    let made = take_all(5, || organizer.post("/api/v1/events", &new_event()));
    let events = all_items(&organizer, "/api/v1/events?organizer=me", 100);
    assert_eq!(events.len() as u64, made, "a refused one does nothing");

    // The limit is the account's, whatever its token: also of one that the core has not checked yet.
    let again = server.client().log_in("grace", PASSWORD);
    take_all(0, || again.post("/api/v1/events", &new_event()));
    take_all(0, || again.patch("/api/v1/events/1", &json!({ "quota": 11 })));
    take_all(0, || again.delete("/api/v1/events/1"));
    let password = json!({ "current": "another one", "new": "battery staple" });
    take_all(0, || again.put("/api/v1/users/me/password", &password));
    organizer.get("/api/v1/events?organizer=me").expect(200);

    // Reservations are no changes, and cancelling them is. Several in one segment count one by one.
    let event = number(events.last().expect("some were made"), "id");
    let ids: Vec<String> = (0..10).map(|_| reserve(&customer, event, 1)).collect();
    let start = Instant::now();
    let mut wire = Wire::open(server.address).expect("the server accepts");
    let cancel =
        |id| request("DELETE", &format!("/api/v1/reservations/{id}"), customer.token.as_deref(), "", "");
    wire.send(ids.iter().map(cancel).collect::<String>()).expect("the server reads");
    let statuses: Vec<u16> = ids.iter().map(|_| wire.next().status).collect();
    let cancelled = statuses.iter().filter(|&&status| status == 204).count() as u64;
    assert!((5..=6 + start.elapsed().as_secs()).contains(&cancelled), "{statuses:?}");
    assert_eq!(
        statuses.iter().filter(|&&status| status == 429).count() as u64,
        10 - cancelled,
        "{statuses:?}"
    );
    let mine = customer.get("/api/v1/reservations").expect(200).json();
    let items = mine["items"].as_array().expect("a page").iter();
    assert_eq!(items.filter(|one| one["status"] == "cancelled").count() as u64, cancelled);

    // After as long as the refusal says, one more is taken.
    take_all(0, || organizer.post("/api/v1/events", &new_event()));
    thread::sleep(Duration::from_secs(1));
    organizer.post("/api/v1/events", &new_event()).expect(201);

    assert!(metric(&server, "changes") >= 6);
    assert_eq!((metric(&server, "events"), metric(&server, "reservations")), (0, 0));
    assert!(server.stderr().contains("an account has reached a limit"), "{}", server.stderr());
}

#[test]
fn the_events_of_an_account_are_limited_and_deleted_ones_count() {
    let folder = tempdir().unwrap();
    let data = &folder.path().join("data");
    let start = |shards: &str, most: &str| {
        Server::start(data, &["--shards", shards, "--max-events-per-account", most])
    };
    let server = start("2", "3");
    let organizer = server.client().sign_up("grace", "organizer");
    let other = server.client().sign_up("hedy", "organizer");
    let events: Vec<u64> = (0..3).map(|_| create_event(&organizer, 10)).collect();
    let limited = |organizer: &Client| {
        refused(organizer.post("/api/v1/events", &new_event()), "events", "--max-events-per-account")
    };
    assert!(limited(&organizer) > 60, "waiting does not help");
    organizer.delete(&format!("/api/v1/events/{}", events[1])).expect(204);
    for _ in 0..10 {
        limited(&organizer);
    }
    // Another account is not affected, and refused requests take no ids.
    assert_eq!(create_event(&other, 10), events[2] + 1);
    organizer.patch(&format!("/api/v1/events/{}", events[0]), &json!({ "quota": 5 })).expect(200);
    assert_eq!(metric(&server, "events"), 11);
    server.kill();

    // The count follows from the log, whatever the number of shards.
    let server = start("1", "3");
    let organizer = server.client().log_in("grace", PASSWORD);
    limited(&organizer);
    create_event(&server.client().log_in("hedy", PASSWORD), 10);
    server.terminate();
    let server = start("3", "4");
    let organizer = server.client().log_in("grace", PASSWORD);
    create_event(&organizer, 10);
    limited(&organizer);
    server.terminate();
    let server = start("2", "0");
    let organizer = server.client().log_in("grace", PASSWORD);
    create_event(&organizer, 10);
}

fn reservation(customer: &Client, event: u64, quantity: u64) -> Answer {
    customer.post(&format!("/api/v1/events/{event}/reservations"), &json!({ "quantity": quantity }))
}

#[test]
fn the_reservations_of_an_account_are_limited_and_cancelled_ones_count() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    let start = |data: &Path, most: &str| {
        Server::start(data, &["--shards", "1", "--max-reservations-per-account", most])
    };
    let server = start(&data, "3");
    let organizer = server.client().sign_up("grace", "organizer");
    let events = [create_event(&organizer, 10), create_event(&organizer, 10)];
    let customer = server.client().sign_up("ada", "customer");
    let other = server.client().sign_up("bob", "customer");
    let ids = [events[0], events[1], events[0]].map(|event| reserve(&customer, event, 1));
    let limited = |customer: &Client, event| {
        refused(reservation(customer, event, 1), "reservations", "--max-reservations-per-account")
    };
    for event in events {
        assert!(limited(&customer, event) > 60, "waiting does not help");
    }
    reservation(&customer, events[0], 100).problem(409, "sold-out");
    reservation(&customer, 999, 1).problem(404, "not-found");
    customer.delete(&format!("/api/v1/reservations/{}", ids[0])).expect(204);
    limited(&customer, events[0]);
    reserve(&other, events[0], 1);
    assert_eq!(all_items(&customer, "/api/v1/reservations", 100).len(), 3);
    let seen = customer.get(&format!("/api/v1/events/{}", events[0])).expect(200).json();
    assert_eq!(number(&seen, "reserved"), 2, "a refused one takes no ticket");
    assert_eq!(metric(&server, "reservations"), 3);
    server.kill();

    let server = start(&data, "3");
    let customer = server.client().log_in("ada", PASSWORD);
    limited(&customer, events[1]);
    reserve(&server.client().log_in("bob", PASSWORD), events[0], 1);
    server.terminate();
    let server = start(&data, "0");
    reserve(&server.client().log_in("ada", PASSWORD), events[1], 1);
}
