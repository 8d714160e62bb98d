//! Holds: what a request may say, how a hold ends, that it ends on time, that no ticket is lost or sold twice
//! while holds of all kinds end at once, and what a kill leaves of them.
//!
//! `api.rs` has who may do what; `crashes.rs` kills the server while others hold and confirm; `clock.rs` changes
//! the clock.

mod support;

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shards::ids::EventId;
use shards::slots::slot_of_event;
use support::client::{Answer, Client};
use support::holds::{MARGIN, SHORTEST, hold, tickets, wait_for_end};
use support::random::Random;
use support::server::Server;
use support::{LogLock, Stage, all_items, create_event, metrics_once, number, reserve, text};
use tempfile::tempdir;

fn time(of: &Value, member: &str) -> jiff::Timestamp {
    text(of, member).parse().expect("RFC 3339")
}

/// The seconds from one time of an answer to another.
fn seconds_between(of: &Value, first: &str, second: &str) -> f64 {
    time(of, second).duration_since(time(of, first)).as_secs_f64()
}

fn seen(client: &Client, id: &str) -> Value {
    client.get(&format!("/api/v1/reservations/{id}")).expect(200).json()
}

fn confirm(client: &Client, id: &str, body: &str) -> Answer {
    client.send("POST", &format!("/api/v1/holds/{id}/confirm"), &[], body)
}

/// Does something with a hold, by a word of the tables below.
fn act(client: &Client, id: &str, action: &str) -> Answer {
    let (action, body) = action.split_once(' ').unwrap_or((action, ""));
    match action {
        "confirm" => confirm(client, id, body),
        "release" => client.delete(&format!("/api/v1/holds/{id}")),
        "cancel" => client.delete(&format!("/api/v1/reservations/{id}")),
        "reduce" => client.send("PATCH", &format!("/api/v1/reservations/{id}"), &[], body),
        "bulk" => client.post("/api/v1/reservations/cancel", &json!({ "ids": [id] })),
        _ => panic!("{action}"),
    }
}

/// A body, and the seconds of the hold or what is wrong: a JSON pointer, or a kind of problem.
const BODIES: &[(&str, Result<f64, &str>)] = &[
    (r#"{"quantity":2}"#, Ok(600.0)),
    (r#"{"quantity":2,"ttl_seconds":10}"#, Ok(10.0)),
    (r#"{"ttl_seconds":1800,"quantity":2}"#, Ok(1800.0)),
    (r#"{"quantity":2,"ttl_seconds":6.0e1}"#, Ok(60.0)),
    (r#"{"quantity":2,"ttl_seconds":9}"#, Err("/ttl_seconds")),
    (r#"{"quantity":2,"ttl_seconds":1801}"#, Err("/ttl_seconds")),
    (r#"{"quantity":2,"ttl_seconds":0}"#, Err("/ttl_seconds")),
    (r#"{"quantity":2,"ttl_seconds":-10}"#, Err("/ttl_seconds")),
    (r#"{"quantity":2,"ttl_seconds":10.5}"#, Err("/ttl_seconds")),
    (r#"{"quantity":2,"ttl_seconds":4294967306}"#, Err("/ttl_seconds")),
    (r#"{"quantity":2,"ttl_seconds":1e300}"#, Err("/ttl_seconds")),
    (r#"{"quantity":2,"ttl_seconds":"10"}"#, Err("/ttl_seconds")),
    (r#"{"quantity":2,"ttl_seconds":null}"#, Err("/ttl_seconds")),
    (r#"{"quantity":2,"ttl_seconds":[10]}"#, Err("/ttl_seconds")),
    (r#"{"quantity":2,"ttl":10}"#, Err("/ttl")),
    (r#"{"quantity":2,"ttl_seconds":10,"ttl_seconds":10}"#, Err("/ttl_seconds")),
    (r#"{"quantity":0}"#, Err("/quantity")),
    (r#"{"ttl_seconds":10}"#, Err("/quantity")),
    (r#"{}"#, Err("/quantity")),
    (r#"[]"#, Err("")),
    (r#"{"quantity":2"#, Err("malformed-json")),
    ("", Err("malformed-json")),
];

#[test]
fn a_hold_has_the_time_that_was_asked_for() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(1000);
    let path = format!("/api/v1/events/{event}/holds");
    let mut held = 0;
    for (body, expected) in BODIES {
        let answer = stage.cust1.send("POST", &path, &[], body);
        match expected {
            Ok(seconds) => {
                let location = answer.header("location").map(str::to_owned);
                let made = answer.expect(201).json();
                assert_eq!(location, Some(format!("/api/v1/reservations/{}", text(&made, "id"))), "{body}");
                assert_eq!((text(&made, "status"), number(&made, "quantity")), ("held", 2), "{body}");
                assert_eq!(seen(&stage.cust1, text(&made, "id")), made, "{body}");
                let names: Vec<&String> = made.as_object().expect("an object").keys().collect();
                assert!(names.iter().any(|name| *name == "expires_at") && made["cancelled_at"].is_null());
                let off = seconds_between(&made, "created_at", "expires_at") - seconds;
                assert!(off.abs() < 2.0, "{body}: {made}");
                held += 2;
            }
            Err(kind) if kind.starts_with("malformed") => drop(answer.problem(400, kind)),
            Err(pointer) => {
                let problem = answer.problem(422, "invalid");
                assert_eq!(problem["errors"][0]["pointer"], *pointer, "{body}: {problem}");
            }
        }
        assert_eq!(tickets(&stage.anyone, event), [0, held, 1000 - held], "{body}");
    }
    let sold_out = stage.cust2.post(&path, &json!({ "quantity": 1000 })).problem(409, "sold-out");
    assert_eq!(sold_out["remaining"], 1000 - held);
    metrics_once(&stage.anyone, &[&format!("boxoffice_tickets_held {held}"), "boxoffice_tickets_reserved 0"]);
    let lists = ["/api/v1/reservations".to_owned(), format!("/api/v1/events/{event}/reservations")];
    for (client, list) in [&stage.cust1, &stage.org1].into_iter().zip(&lists) {
        let items = all_items(client, list, 3);
        assert_eq!(items.len() as u64, held / 2);
        assert!(items.iter().all(|item| item["status"] == "held" && item["expires_at"].is_string()));
    }
}

/// What is done with a hold of four tickets of an event of ten; then for each the status, the type of the problem or
/// the reservation's status and quantity, and the event's reserved and held tickets.
type Life = &'static [(&'static str, u16, &'static str, u64, [u64; 2])];

const LIVES: &[Life] = &[
    &[
        ("confirm", 200, "confirmed", 4, [4, 0]),
        ("confirm", 200, "confirmed", 4, [4, 0]),
        ("confirm {}", 200, "confirmed", 4, [4, 0]),
        (r#"confirm {"quantity":4}"#, 200, "confirmed", 4, [4, 0]),
        (r#"confirm {"quantity":3}"#, 409, "hold-confirmed", 0, [4, 0]),
        (r#"confirm {"quantity":5}"#, 409, "hold-confirmed", 0, [4, 0]),
        ("release", 409, "hold-confirmed", 0, [4, 0]),
        (r#"reduce {"quantity":3}"#, 200, "confirmed", 3, [3, 0]),
        ("confirm", 200, "confirmed", 3, [3, 0]),
        ("cancel", 204, "cancelled", 3, [0, 0]),
        ("confirm", 409, "hold-released", 0, [0, 0]),
        ("release", 204, "cancelled", 3, [0, 0]),
    ],
    &[
        (r#"confirm {"quantity":5}"#, 422, "invalid", 0, [0, 4]),
        (r#"confirm {"quantity":1}"#, 200, "confirmed", 1, [1, 0]),
        (r#"confirm {"quantity":1}"#, 200, "confirmed", 1, [1, 0]),
        ("confirm", 200, "confirmed", 1, [1, 0]),
        (r#"confirm {"quantity":4}"#, 409, "hold-confirmed", 0, [1, 0]),
        ("bulk", 200, "cancelled", 1, [0, 0]),
    ],
    &[
        ("release", 204, "cancelled", 4, [0, 0]),
        ("release", 204, "cancelled", 4, [0, 0]),
        ("cancel", 204, "cancelled", 4, [0, 0]),
        ("confirm", 409, "hold-released", 0, [0, 0]),
        (r#"confirm {"quantity":2}"#, 409, "hold-released", 0, [0, 0]),
        (r#"reduce {"quantity":1}"#, 409, "reservation-cancelled", 0, [0, 0]),
    ],
    &[("cancel", 204, "cancelled", 4, [0, 0]), ("release", 204, "cancelled", 4, [0, 0])],
    &[("bulk", 200, "cancelled", 4, [0, 0]), ("confirm", 409, "hold-released", 0, [0, 0])],
    &[
        (r#"reduce {"quantity":4}"#, 200, "held", 4, [0, 4]),
        (r#"reduce {"quantity":3}"#, 200, "held", 3, [0, 3]),
        (r#"confirm {"quantity":4}"#, 422, "invalid", 0, [0, 3]),
        (r#"confirm {"tickets":1}"#, 422, "invalid", 0, [0, 3]),
        ("confirm {", 400, "malformed-json", 0, [0, 3]),
        ("confirm", 200, "confirmed", 3, [3, 0]),
    ],
];

#[test]
fn a_hold_is_confirmed_reduced_or_released_once() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    for life in LIVES {
        let event = stage.event(10);
        let id = hold(&stage.cust1, event, &json!({ "quantity": 4 }));
        for &(action, status, then, quantity, [reserved, held]) in *life {
            let answer = act(&stage.cust1, &id, action);
            let case = format!("{life:?} {action}: {answer:?}");
            assert_eq!(answer.status, status, "{case}");
            if status >= 400 {
                answer.problem(status, then);
            } else {
                let now = seen(&stage.cust1, &id);
                assert_eq!((text(&now, "status"), number(&now, "quantity")), (then, quantity), "{case}");
                assert_eq!(now["expires_at"].is_string(), then == "held", "{case}");
                assert!(
                    !["confirm", "reduce"].iter().any(|one| action.starts_with(one)) || answer.json() == now
                );
            }
            assert_eq!(tickets(&stage.anyone, event), [reserved, held, 10 - reserved - held], "{case}");
        }
    }
}

/// What an organizer's changes do to holds, and the reverse.
#[test]
fn quotas_and_deletions_count_holds() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let Stage { org1, cust1, cust2, admin, .. } = &stage;
    let event = stage.event(10);
    let path = format!("/api/v1/events/{event}");
    let sold = reserve(cust1, event, 2);
    let held = hold(cust2, event, &json!({ "quantity": 3 }));
    let released = hold(cust2, event, &json!({ "quantity": 1 }));
    act(cust2, &released, "release").expect(204);
    let problem = org1.patch(&path, &json!({ "quota": 4 })).problem(409, "quota-below-committed");
    assert_eq!(problem["committed"], 5, "{problem}");
    org1.patch(&path, &json!({ "quota": 5 })).expect(200);
    let problem = cust1.post(&format!("{path}/holds"), &json!({ "quantity": 1 })).problem(409, "sold-out");
    assert_eq!(problem["remaining"], 0);
    let problem = org1.delete(&path).problem(409, "has-reservations");
    assert!(
        text(&problem, "detail").starts_with("2 tickets are reserved, and 3 tickets are held."),
        "{problem}"
    );
    act(cust1, &sold, "cancel").expect(204);
    let problem = org1.delete(&path).problem(409, "has-reservations");
    assert!(
        text(&problem, "detail").starts_with("0 tickets are reserved, and 3 tickets are held."),
        "{problem}"
    );

    org1.delete(&format!("{path}?force=true")).expect(204);
    stage.anyone.get(&path).problem(410, "event-deleted");
    for (client, list) in [(org1, format!("{path}/reservations")), (admin, format!("{path}/reservations"))] {
        let items = all_items(client, &list, 10);
        let statuses: Vec<&str> = items.iter().map(|item| text(item, "status")).collect();
        assert_eq!(statuses, ["cancelled"; 3], "{items:?}");
        assert!(items.iter().all(|item| item["cancelled_at"].is_string() && item["expires_at"].is_null()));
    }
    act(cust2, &held, "confirm").problem(409, "hold-released");
    act(cust2, &held, "release").expect(204);
    cust2.post(&format!("{path}/holds"), &json!({ "quantity": 1 })).problem(410, "event-deleted");
    metrics_once(&stage.anyone, &["boxoffice_tickets_held 0", "boxoffice_tickets_reserved 0"]);
}

/// A hold belongs to whoever made it, whatever the role is then.
#[test]
fn holds_stay_their_makers_after_a_change_of_role() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 1);
    let event = stage.event(10);
    let ada = stage.anyone.sign_up("ada", "customer");
    let ids = [0; 2].map(|_| hold(&ada, event, &json!({ "quantity": 1 })));
    let id = number(&ada.get("/api/v1/users/me").expect(200).json(), "id");
    stage.admin.patch(&format!("/api/v1/users/{id}"), &json!({ "role": "organizer" })).expect(200);
    let ada = stage.anyone.log_in("ada", support::PASSWORD);
    ada.post(&format!("/api/v1/events/{event}/holds"), &json!({ "quantity": 1 })).problem(403, "forbidden");
    act(&ada, &ids[0], "confirm").expect(200);
    act(&ada, &ids[1], "release").expect(204);
    assert_eq!(tickets(&stage.anyone, event), [1, 0, 9]);
}

/// Holding is limited by the quota and the number of reservations, and so counts as no change. What ends a hold
/// does.
#[test]
fn holds_are_no_changes_of_their_account() {
    let folder = tempdir().unwrap();
    let limits = ["--max-changes-per-account", "4", "--changes-per-second", "1"];
    let server = Server::start(
        &folder.path().join("data"),
        &[&["--shards", "1", "--max-reservations-per-account", "20"][..], &limits].concat(),
    );
    let event = create_event(&server.client().sign_up("grace", "organizer"), 100);
    let customer = server.client().sign_up("ada", "customer");
    let ids: Vec<String> = (0..20).map(|_| hold(&customer, event, &json!({ "quantity": 1 }))).collect();
    let path = format!("/api/v1/events/{event}/holds");
    let problem = customer.post(&path, &json!({ "quantity": 1 })).problem(429, "account-limit");
    assert_eq!(problem["limit"], "reservations", "{problem}");
    let refused = ids.iter().map(|id| confirm(&customer, id, "")).find(|answer| answer.status != 200);
    let problem = refused.expect("20 changes at once are too many").problem(429, "account-limit");
    assert_eq!(problem["limit"], "changes", "{problem}");
}

/// All that waits for the end of a hold, at the same time on one server.
#[test]
fn holds_end_on_time() {
    let data = tempdir().unwrap();
    let stage = &Stage::open(data.path(), 2);
    // Nothing else is asked of the slot of this event.
    let alone = stage.event(10);
    let slot = |event: u64| slot_of_event(EventId(event as u32));
    let event = || loop {
        let event = stage.event(10);
        if slot(event) != slot(alone) {
            return event;
        }
    };
    thread::scope(|scope| {
        let cases = [
            (a_hold_ends_without_a_request as fn(&Stage, u64), alone),
            (tickets_are_for_sale_again_at_the_deadline, event()),
            (a_late_confirm_is_refused, event()),
            (an_event_is_deleted_after_the_end_of_a_hold, event()),
        ];
        for (case, event) in cases {
            scope.spawn(move || case(stage, event));
        }
    });
}

const SHORT_HOLD: &str = r#"{"quantity":4,"ttl_seconds":10}"#;

fn hold_shortly(client: &Client, event: u64) -> String {
    hold(client, event, &serde_json::from_str(SHORT_HOLD).expect("JSON"))
}

fn a_hold_ends_without_a_request(stage: &Stage, event: u64) {
    let id = hold_shortly(&stage.cust1, event);
    let other = hold(&stage.cust1, event, &json!({ "quantity": 1 }));
    assert_eq!(tickets(&stage.anyone, event), [0, 5, 5]);
    thread::sleep(SHORTEST + MARGIN);
    // Of the first requests after the deadline, any shows it.
    assert_eq!(tickets(&stage.anyone, event), [0, 1, 9]);
    assert_eq!(seen(&stage.cust1, &id)["status"], "expired");
    assert_eq!(seen(&stage.cust1, &other)["status"], "held");
}

fn tickets_are_for_sale_again_at_the_deadline(stage: &Stage, event: u64) {
    reserve(&stage.cust1, event, 6);
    let asked = Instant::now();
    hold_shortly(&stage.cust1, event);
    let answered = Instant::now();
    let path = format!("/api/v1/events/{event}/reservations");
    loop {
        let answer = stage.cust2.post(&path, &json!({ "quantity": 4 }));
        if answer.status == 201 {
            break;
        }
        assert_eq!(answer.problem(409, "sold-out")["remaining"], 0);
        assert!(answered.elapsed() < SHORTEST + MARGIN, "the tickets are not given back");
        thread::sleep(Duration::from_millis(5));
    }
    assert!(asked.elapsed() >= SHORTEST, "the hold ended after {:?}", asked.elapsed());
    assert_eq!(tickets(&stage.anyone, event), [10, 0, 0]);
}

fn a_late_confirm_is_refused(stage: &Stage, event: u64) {
    let (id, confirmed, smaller) = (
        hold_shortly(&stage.cust1, event),
        hold(&stage.cust1, event, &json!({ "quantity": 1, "ttl_seconds": 10 })),
        hold(&stage.cust1, event, &json!({ "quantity": 5, "ttl_seconds": 10 })),
    );
    let made = seen(&stage.cust1, &id);
    act(&stage.cust1, &confirmed, "confirm").expect(200);
    act(&stage.cust1, &smaller, r#"reduce {"quantity":2}"#).expect(200);
    assert_eq!(tickets(&stage.anyone, event), [1, 6, 3]);
    let expired = wait_for_end(&stage.cust1, &id);
    let mut expected = made;
    expected["status"] = json!("expired");
    assert_eq!(expired, expected, "nothing else changes");
    for action in ["confirm", r#"confirm {"quantity":1}"#, "confirm", r#"reduce {"quantity":1}"#] {
        let problem = act(&stage.cust1, &id, action).problem(409, "hold-expired");
        assert!(text(&problem, "detail").contains("tickets again"), "{problem}");
    }
    act(&stage.cust1, &id, r#"confirm {"quantity":0}"#).problem(422, "invalid");
    for action in ["release", "cancel", "release"] {
        act(&stage.cust1, &id, action).expect(204);
        assert_eq!(seen(&stage.cust1, &id), expired);
    }
    act(&stage.cust2, &id, "confirm").problem(404, "not-found");
    act(&stage.org1, &id, "confirm").problem(403, "forbidden");
    act(&stage.admin, &id, "confirm").problem(403, "forbidden");
    wait_for_end(&stage.cust1, &smaller);
    assert_eq!(seen(&stage.cust1, &confirmed)["status"], "confirmed");
    assert_eq!(tickets(&stage.anyone, event), [1, 0, 9]);
}

fn an_event_is_deleted_after_the_end_of_a_hold(stage: &Stage, event: u64) {
    let ended = hold_shortly(&stage.cust1, event);
    let mut expired = wait_for_end(&stage.cust1, &ended);
    // Those who manage the event see who it was.
    expired["customer_name"] = json!("cust1");
    let (sold, held) =
        (reserve(&stage.cust2, event, 1), hold(&stage.cust2, event, &json!({ "quantity": 1 })));
    stage.org1.delete(&format!("/api/v1/events/{event}?force=true")).expect(204);
    for client in [&stage.org1, &stage.admin] {
        let items = all_items(client, &format!("/api/v1/events/{event}/reservations"), 2);
        let statuses: Vec<_> = items.iter().map(|item| (text(item, "id"), text(item, "status"))).collect();
        assert_eq!(statuses, [(&*ended, "expired"), (&sold, "cancelled"), (&held, "cancelled")]);
        assert_eq!(items[0], expired);
    }
    act(&stage.cust1, &ended, "confirm").problem(409, "hold-expired");
    act(&stage.cust2, &held, "confirm").problem(409, "hold-released");
}

/// What cannot be recorded does not happen: while the log takes no records, a hold that is over stays live, and it ends
/// as soon as the log takes them.
#[test]
fn a_hold_outlives_a_log_that_takes_no_records() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 1);
    let event = stage.event(10);
    let asked = Instant::now();
    let id = hold_shortly(&stage.cust1, event);
    let lock = LogLock::write(data.path(), 0);
    thread::sleep((asked + SHORTEST + MARGIN / 2).saturating_duration_since(Instant::now()));
    for _ in 0..2 {
        assert_eq!(tickets(&stage.anyone, event), [0, 4, 6]);
        assert_eq!(seen(&stage.cust1, &id)["status"], "held");
        act(&stage.cust1, &id, "confirm").problem(503, "log-locked");
    }
    drop(lock);
    wait_for_end(&stage.cust1, &id);
    assert_eq!(tickets(&stage.anyone, event), [0, 0, 10]);
    act(&stage.cust1, &id, "confirm").problem(409, "hold-expired");
}

/// What a buyer of the race was told of one hold.
struct Told {
    asked: Instant,
    quantity: u64,
    /// The status that the reservation has to have; `None` if the hold was left to expire.
    status: Option<&'static str>,
}

const BUYERS: usize = 8;
/// Longer than the shortest hold, so that some expire meanwhile.
const RACE: Duration = Duration::from_secs(12);

/// A crowd at a small event: they hold, confirm, release, let expire and buy, while the quota is edited. No ticket is
/// sold twice or lost, and every answer has the right sums (which each client checks).
#[test]
fn a_crowd_that_holds_never_oversells() {
    let data = tempdir().unwrap();
    let stage = &Stage::open(data.path(), 2);
    let event = stage.event(30);
    let (stop, refused) = (&AtomicBool::new(false), &AtomicU64::new(0));
    let mut random = Random::seeded();
    let mut seeds = [0; BUYERS].map(|_| random.next()).into_iter();
    let told: BTreeMap<String, Told> = thread::scope(|scope| {
        let buyers: Vec<_> = [&stage.cust1, &stage.cust2]
            .repeat(BUYERS / 2)
            .into_iter()
            .map(|client| {
                let mut random = Random::new(seeds.next().expect("one for each"));
                scope.spawn(move || buy_in_a_crowd(client, event, &mut random, stop, refused))
            })
            .collect();
        let start = Instant::now();
        while start.elapsed() < RACE {
            let quota = random.within(20, 50);
            let answer = stage.org1.patch(&format!("/api/v1/events/{event}"), &json!({ "quota": quota }));
            if answer.status == 409 {
                let problem = answer.problem(409, "quota-below-committed");
                assert!(number(&problem, "committed") > quota, "{problem}");
            } else {
                assert_eq!(number(&answer.expect(200).json(), "quota"), quota);
            }
            thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
        buyers.into_iter().flat_map(|buyer| buyer.join().expect("no panic")).collect()
    });
    let path = format!("/api/v1/events/{event}/reservations");
    // Those that were left at last end meanwhile.
    let listed = loop {
        let listed = all_items(&stage.org1, &path, 100);
        if listed.iter().all(|item| item["status"] != "held") {
            break listed;
        }
        thread::sleep(Duration::from_millis(100));
    };
    let mut reserved = 0;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    assert_eq!(listed.len(), told.len());
    for item in &listed {
        let Told { quantity, status, .. } = told[text(item, "id")];
        let expected = status.unwrap_or("expired");
        assert_eq!((text(item, "status"), number(item, "quantity")), (expected, quantity), "{item}");
        *counts.entry(expected).or_default() += 1;
        reserved += if expected == "confirmed" { quantity } else { 0 };
    }
    println!("{counts:?}, {} refused", refused.load(Ordering::Relaxed));
    assert!(["confirmed", "cancelled", "expired"].iter().all(|one| counts.contains_key(one)), "{counts:?}");
    assert_eq!(tickets(&stage.anyone, event)[..2], [reserved, 0]);
}

/// Holds and buys until `stop`. Cancels what was bought, so that there is always something to sell. Returns what was
/// told of each hold and reservation.
fn buy_in_a_crowd(
    client: &Client,
    event: u64,
    random: &mut Random,
    stop: &AtomicBool,
    refused: &AtomicU64,
) -> Vec<(String, Told)> {
    let mut told: Vec<(String, Told)> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(random.duration(Duration::from_millis(10)));
        let (asked, mut quantity) = (Instant::now(), random.within(1, 3));
        let body = json!({ "quantity": quantity, "ttl_seconds": 10 });
        let answer = client.post(&format!("/api/v1/events/{event}/holds"), &body);
        if answer.status == 409 {
            assert!(number(&answer.problem(409, "sold-out"), "remaining") < quantity);
            refused.fetch_add(1, Ordering::Relaxed);
            // Somebody else may get what was confirmed before.
            if let Some((id, one)) = told.iter_mut().find(|(_, one)| one.status == Some("confirmed")) {
                act(client, id, "cancel").expect(204);
                one.status = Some("cancelled");
            }
            continue;
        }
        let id = text(&answer.expect(201).json(), "id").to_owned();
        // Each leaves one at a time to expire, or there would be nothing to sell.
        let leaves = told.iter().all(|(_, one)| one.status.is_some());
        let status = match random.within(0, 9) {
            _ if leaves => None,
            0..5 => {
                let left = random.within(1, quantity);
                let made = confirm(client, &id, &json!({ "quantity": left }).to_string()).expect(200).json();
                assert_eq!(number(&made, "quantity"), left);
                quantity = left;
                Some("confirmed")
            }
            _ => {
                act(client, &id, random.pick(&["release", "cancel", "bulk"]));
                Some("cancelled")
            }
        };
        told.push((id, Told { asked, quantity, status }));
        confirm_an_old_one(client, &mut told);
    }
    told
}

/// Confirms a hold whose time is nearly or quite over: it is confirmed, or was over.
fn confirm_an_old_one(client: &Client, told: &mut [(String, Told)]) {
    let is_old =
        |one: &Told| one.status.is_none() && one.asked.elapsed() > SHORTEST - Duration::from_millis(20);
    let Some((id, one)) = told.iter_mut().find(|(_, one)| is_old(one)) else { return };
    let answer = confirm(client, id, "");
    match answer.status {
        200 => one.status = Some("confirmed"),
        _ => {
            answer.problem(409, "hold-expired");
            assert!(one.asked.elapsed() >= SHORTEST, "{id} ended after {:?}", one.asked.elapsed());
            one.status = Some("expired");
        }
    }
}

/// Holds, confirms and a forced deletion at the same moment: what was confirmed before is cancelled, what was not is
/// released.
#[test]
fn a_deletion_ends_holds_once() {
    const ROUNDS: usize = 10;
    let data = tempdir().unwrap();
    let stage = &Stage::open(data.path(), 2);
    for _ in 0..ROUNDS {
        let event = stage.event(10);
        let path = &format!("/api/v1/events/{event}");
        let ids: Vec<String> = (0..4).map(|_| hold(&stage.cust1, event, &json!({ "quantity": 1 }))).collect();
        let barrier = &Barrier::new(6);
        thread::scope(|scope| {
            for id in &ids {
                scope.spawn(move || {
                    barrier.wait();
                    let answer = confirm(&stage.cust1, id, "");
                    if answer.status != 200 {
                        answer.problem(409, "hold-released");
                    }
                });
            }
            scope.spawn(move || {
                barrier.wait();
                let answer = stage.cust2.post(&format!("{path}/holds"), &json!({ "quantity": 1 }));
                assert!([201, 410].contains(&answer.status), "{answer:?}");
            });
            barrier.wait();
            stage.org1.delete(&format!("{path}?force=true")).expect(204);
        });
        let items = all_items(&stage.org1, &format!("{path}/reservations"), 100);
        assert!(items.len() >= 4 && items.iter().all(|item| item["status"] == "cancelled"), "{items:?}");
    }
    metrics_once(&stage.anyone, &["boxoffice_tickets_held 0", "boxoffice_tickets_reserved 0"]);
}

#[test]
fn a_kill_keeps_live_holds_for_a_minute_and_ends_none() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let events: Vec<u64> = (0..4).map(|_| stage.event(10)).collect();
    let hold_in_each = |seconds: u64| -> Vec<String> {
        let body = json!({ "quantity": 2, "ttl_seconds": seconds });
        events.iter().map(|&event| hold(&stage.cust1, event, &body)).collect()
    };
    let [short, long, confirmed, released] = [10, 1800, 10, 10].map(hold_in_each);
    confirmed.iter().for_each(|id| drop(confirm(&stage.cust1, id, r#"{"quantity":1}"#).expect(200)));
    released.iter().for_each(|id| drop(act(&stage.cust1, id, "release").expect(204)));
    let before: Vec<Value> = long.iter().map(|id| seen(&stage.cust1, id)).collect();
    let Stage { server, cust1, .. } = stage;
    server.kill();
    let server = Server::start(data.path(), &["--shards", "3"]);
    let customer = cust1.at(server.address);
    for (&event, short) in events.iter().zip(&short) {
        assert_eq!(tickets(&customer, event), [1, 4, 5]);
        let now = seen(&customer, short);
        // The start was a moment ago.
        let left = time(&now, "expires_at").duration_since(jiff::Timestamp::now()).as_secs_f64();
        assert!(now["status"] == "held" && (50.0..62.0).contains(&left), "{left} s left: {now}");
    }
    for (id, before) in long.iter().zip(&before) {
        assert_eq!(seen(&customer, id), *before, "it has more than a minute left");
    }
    confirmed.iter().for_each(|id| assert_eq!(seen(&customer, id)["status"], "confirmed"));
    released.iter().for_each(|id| assert_eq!(seen(&customer, id)["status"], "cancelled"));
    // They are as good as before.
    short.iter().for_each(|id| drop(confirm(&customer, id, "").expect(200)));
    long.iter().for_each(|id| drop(act(&customer, id, "release").expect(204)));
    server.kill();
    let server = Server::start(data.path(), &["--shards", "1"]);
    let customer = cust1.at(server.address);
    for (&event, short) in events.iter().zip(&short) {
        assert_eq!(tickets(&customer, event), [3, 0, 7]);
        assert_eq!(seen(&customer, short)["status"], "confirmed");
    }
}
