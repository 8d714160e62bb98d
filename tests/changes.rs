//! The changes of events: each kind, pages and lines, waiting, and a comparison with the log after kills.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is an assertion, in its helpers too")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::Client;
use support::server::Server;
use support::{PASSWORD, Stage, number, reserve, sqlite3, text};
use tempfile::tempdir;

const NDJSON: &str = "application/x-ndjson";
const ALL: &str = "/api/v1/changes";

fn path(event: u64) -> String {
    format!("/api/v1/events/{event}/changes")
}

/// A page: its changes, and where the next one begins.
fn page(client: &Client, path: &str, after: Option<&str>, query: &str) -> (Vec<Value>, Option<String>) {
    let after = after.map_or(String::new(), |after| format!("&after={after}"));
    let answer = client.get(&format!("{path}?{query}{after}")).expect(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let page = answer.json();
    (page["items"].as_array().unwrap().clone(), page["next"].as_str().map(str::to_owned))
}

/// Follows an event, or all of an organizer's, from a place on, until no more comes. Returns what came, and the place.
fn follow(
    client: &Client,
    path: &str,
    mut after: Option<String>,
    limit: usize,
) -> (Vec<Value>, Option<String>) {
    let mut all = Vec::new();
    loop {
        let (items, next) = page(client, path, after.as_deref(), &format!("limit={limit}"));
        assert!(items.len() <= limit);
        let is_end = next.is_none() || items.is_empty() && next == after;
        all.extend(items);
        if is_end {
            return (all, next.or(after));
        }
        after = next;
    }
}

fn lines(client: &Client, path: &str) -> Vec<Value> {
    let answer = client.send("GET", path, &[("Accept", NDJSON)], "").expect(200);
    assert_eq!(answer.header("content-type"), Some(NDJSON));
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Checks that no change of any event is missing, and none comes twice. `last` has the last position of each event.
fn check_chain(changes: &[Value], last: &mut BTreeMap<u64, u64>) {
    for change in changes {
        let last = last.entry(number(change, "event")).or_default();
        assert_eq!(number(change, "previous"), *last, "{change}");
        assert!(number(change, "position") > *last, "{change}");
        *last = number(change, "position");
    }
}

/// What of a change is the same in each run.
fn told(change: &Value) -> Value {
    let mut told = change.clone();
    for member in ["at", "position", "previous", "event"] {
        assert!(told.as_object_mut().unwrap().remove(member).is_some(), "{change}");
    }
    for member in ["expires_at", "up_to"] {
        if !told[member].is_null() {
            told[member] = json!("a time");
        }
    }
    told
}

fn id_of(client: &Client) -> u64 {
    number(&client.get("/api/v1/users/me").json(), "id")
}

#[test]
fn each_kind_of_change_says_what_was_decided() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let [admin, org, cust1, cust2] = [&stage.admin, &stage.org1, &stage.cust1, &stage.cust2].map(id_of);
    let made = stage
        .org1
        .post(
            "/api/v1/events",
            &json!({ "name": "Gala", "quota": 50, "venue": "Hall", "max_per_customer": 20 }),
        )
        .expect(201)
        .json();
    let event = number(&made, "id");
    let (event_path, changes) = (format!("/api/v1/events/{event}"), path(event));
    let id = |number: u64| format!("{event}-{number}");
    let [reservation, hold] = ["reservations", "holds"].map(|what| format!("/api/v1/{what}/{event}-"));
    let sell =
        |what: &str, body: Value| drop(stage.org1.post(&format!("{event_path}/{what}"), &body).expect(201));

    reserve(&stage.cust1, event, 5);
    sell("reservations", json!({ "quantity": 2, "customer_ref": "c-7" }));
    sell("reservations", json!({ "quantity": 3, "kind": "block" }));
    stage.cust1.patch(&format!("{reservation}1"), &json!({ "quantity": 4 })).expect(200);
    let to_cust2 = json!({ "to": { "username": "cust2" }, "quantity": 1 });
    stage.cust1.post(&format!("{reservation}1/transfer"), &to_cust2).expect(201);
    stage.cust1.post(&format!("{event_path}/holds"), &json!({ "quantity": 4 })).expect(201);
    stage.cust1.post(&format!("{hold}5/confirm"), &json!({ "quantity": 3 })).expect(200);
    stage.cust2.post(&format!("{event_path}/holds"), &json!({ "quantity": 2 })).expect(201);
    stage.cust2.delete(&format!("{hold}6")).expect(204);
    stage.admin.delete(&format!("{reservation}5")).expect(204);
    sell("holds", json!({ "quantity": 2, "kind": "guest", "ttl_seconds": 10 }));
    stage.org1.patch(&event_path, &json!({ "quota": 60, "max_per_customer": null })).expect(200);

    // The end of the hold comes to whoever waits for it.
    let (_, after) = follow(&stage.org1, &changes, None, 100);
    let (ended, _) = page(&stage.org1, &changes, after.as_deref(), "wait=30");
    assert_eq!(ended.len(), 1, "{ended:?}");
    stage.org1.delete(&format!("{event_path}?force=true")).expect(204);

    let details = |quota: u64, most: Value| {
        json!({
            "name": "Gala", "quota": quota, "venue": "Hall", "max_per_reservation": null,
            "max_per_customer": most, "sales_start": null, "sales_end": null,
        })
    };
    let expected = [
        json!({ "kind": "event_created", "by": org, "organizer": org, "details": details(50, json!(20)) }),
        json!({ "kind": "reserved", "by": cust1, "reservation": id(1), "customer": cust1, "sale": "sale", "quantity": 5 }),
        json!({ "kind": "reserved", "by": org, "reservation": id(2), "customer_ref": "c-7", "sale": "sale", "quantity": 2 }),
        json!({ "kind": "reserved", "by": org, "reservation": id(3), "sale": "block", "quantity": 3 }),
        json!({ "kind": "reduced", "by": cust1, "reservation": id(1), "quantity": 1 }),
        json!({ "kind": "transferred", "by": cust1, "reservation": id(1), "received": id(4), "customer": cust2,
            "sale": "sale", "quantity": 1 }),
        json!({ "kind": "held", "by": cust1, "reservation": id(5), "customer": cust1, "sale": "sale", "quantity": 4,
            "expires_at": "a time" }),
        json!({ "kind": "confirmed", "by": cust1, "reservation": id(5), "given_back": 1 }),
        json!({ "kind": "held", "by": cust2, "reservation": id(6), "customer": cust2, "sale": "sale", "quantity": 2,
            "expires_at": "a time" }),
        json!({ "kind": "released", "by": cust2, "reservation": id(6), "quantity": 2 }),
        json!({ "kind": "cancelled", "by": admin, "reservation": id(5), "quantity": 3 }),
        json!({ "kind": "held", "by": org, "reservation": id(7), "sale": "guest", "quantity": 2, "expires_at": "a time" }),
        json!({ "kind": "event_edited", "by": org, "details": details(60, Value::Null) }),
        json!({ "kind": "holds_expired", "up_to": "a time", "quantity": 2 }),
        json!({ "kind": "event_deleted", "by": org, "quantity": 9 }),
    ];
    let (all, _) = follow(&stage.org1, &changes, None, 4);
    assert_eq!(all.iter().map(told).collect::<Vec<_>>(), expected);
    check_chain(&all, &mut BTreeMap::new());

    // The same from the log, for admins, as lines, and with another number of shards.
    stage.server.kill();
    let stage = Stage::again(Server::start(data.path(), &["--demo", "--shards", "3"]));
    for limit in [1, 3, 100] {
        assert_eq!(follow(&stage.admin, &changes, None, limit).0, all, "limit {limit}");
    }
    assert_eq!(lines(&stage.org1, &changes), all);
    let of_event = |all: Vec<Value>| -> Vec<Value> {
        all.into_iter().filter(|change| change["event"] == json!(event)).collect()
    };
    assert_eq!(of_event(follow(&stage.org1, ALL, None, 7).0), all);
    assert_eq!(of_event(lines(&stage.org1, ALL)), all);
    assert!(of_event(follow(&stage.org2, ALL, None, 100).0).is_empty());

    // From any position on; and a deleted event has no more, for which nobody waits.
    for (index, change) in all.iter().enumerate() {
        let after = number(change, "position").to_string();
        assert_eq!(follow(&stage.org1, &changes, Some(after.clone()), 100).0, all[index + 1..]);
        assert_eq!(lines(&stage.org1, &format!("{changes}?after={after}")), all[index + 1..]);
    }
    let start = Instant::now();
    let last = number(&all[all.len() - 1], "position").to_string();
    assert_eq!(page(&stage.org1, &changes, Some(&last), "wait=30"), (vec![], None));
    assert!(start.elapsed() < Duration::from_secs(25), "it waited for a deleted event");
}

#[test]
fn lines_have_no_pages_and_wait_for_nothing() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 1);
    let event = stage.event(5);
    for path in [path(event), ALL.to_owned()] {
        for (query, wrong) in [("limit=3", 1), ("wait=0", 1), ("limit=3&wait=3", 2)] {
            let refused = stage.org1.send("GET", &format!("{path}?{query}"), &[("Accept", NDJSON)], "");
            let problem = refused.problem(422, "invalid");
            assert_eq!(problem["errors"].as_array().unwrap().len(), wrong, "{problem}");
        }
        stage.org1.send("GET", &path, &[("Accept", "text/csv")], "").problem(406, "not-acceptable");
    }
}

#[test]
fn a_change_comes_to_those_who_wait_for_it_and_to_nobody_else() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let [event, other] = [stage.event(10), stage.event(10)];
    let (_, after) = follow(&stage.org1, &path(event), None, 100);
    let (_, after_all) = follow(&stage.org1, ALL, None, 100);
    // Another event's change is none of this one's, and nothing comes of nothing.
    reserve(&stage.cust1, other, 1);
    assert_eq!(page(&stage.org1, &path(event), after.as_deref(), "wait=1"), (vec![], after.clone()));
    let (of_other, after_all) = page(&stage.org1, ALL, after_all.as_deref(), "wait=30");
    assert_eq!(of_other.len(), 1, "{of_other:?}");

    thread::scope(|scope| {
        let waits = |path: String, after: Option<String>| {
            let client = &stage.org1;
            scope.spawn(move || page(client, &path, after.as_deref(), "wait=30").0)
        };
        let waiting = [waits(path(event), after.clone()), waits(ALL.to_owned(), after_all.clone())];
        thread::sleep(Duration::from_millis(300));
        let reservation = reserve(&stage.cust1, event, 2);
        for waited in waiting {
            let came = waited.join().unwrap();
            assert_eq!(came.iter().map(|one| text(one, "reservation")).collect::<Vec<_>>(), [&*reservation]);
        }

        // A server that drains lets nobody wait.
        let (_, after) = follow(&stage.org1, &path(event), after.clone(), 100);
        let (_, after_all) = follow(&stage.org1, ALL, after_all.clone(), 100);
        let waiting = [waits(path(event), after), waits(ALL.to_owned(), after_all)];
        thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        stage.server.signal_to_end();
        for waited in waiting {
            assert_eq!(waited.join().unwrap(), Vec::<Value>::new());
        }
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    });
}

#[test]
fn an_event_that_is_handed_over_is_followed_by_its_new_organizer() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    reserve(&stage.cust1, event, 1);
    let (_, place) = follow(&stage.org2, ALL, None, 100);
    let org2 = id_of(&stage.org2);
    stage.org1.patch(&format!("/api/v1/events/{event}"), &json!({ "organizer": org2 })).expect(200);
    let (seen, _) = follow(&stage.org2, ALL, place, 100);
    let last = seen.last().expect("the hand-over");
    assert_eq!((text(last, "kind"), number(last, "organizer")), ("event_edited", org2));
    stage.org1.get(&path(event)).problem(403, "not-yours");
    let (all, _) = follow(&stage.org2, &path(event), None, 100);
    assert_eq!(all.len(), 3);
    assert!(follow(&stage.org1, ALL, None, 100).0.iter().all(|change| number(change, "event") != event));
}

#[test]
fn without_a_disk_all_changes_are_in_memory() {
    let data = tempdir().unwrap();
    let stage = Stage::on(Server::start(data.path(), &["--demo", "--shards", "2", "--storage", "memory"]));
    let event = stage.event(1000);
    for _ in 0..300 {
        reserve(&stage.cust1, event, 1);
    }
    let (all, _) = follow(&stage.org1, &path(event), None, 100);
    assert_eq!(all.len(), 301);
    check_chain(&all, &mut BTreeMap::new());
}

/// What the log has of an event, as the view `history` shows it.
fn logged(data: &Path, event: u64) -> Vec<String> {
    let files = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let mut rows: Vec<(u64, String)> = Vec::new();
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "sqlite")) {
        let sql = format!(
            "SELECT lsn, at, kind, reservation, user, quantity FROM history \
             WHERE event = {event} AND reservation IS NOT NULL"
        );
        for row in sqlite3(&file, &sql).lines() {
            rows.push((row.split('|').next().unwrap().parse().unwrap(), row.to_owned()));
        }
    }
    rows.sort_unstable();
    rows.into_iter().map(|(_, row)| row).collect()
}

fn as_logged(change: &Value) -> String {
    let [position, by, quantity] = ["position", "by", "quantity"].map(|member| number(change, member));
    let [at, kind, reservation] = ["at", "kind", "reservation"].map(|member| text(change, member));
    format!("{position}|{at}|{kind}|{reservation}|{by}|{quantity}")
}

/// Reads on while the server runs. What it has after the server was killed is in the log.
struct Follower {
    path: String,
    after: Option<String>,
    changes: Vec<Value>,
}

impl Follower {
    fn run(&mut self, client: &Client, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            let after = self.after.as_ref().map_or(String::new(), |after| format!("&after={after}"));
            let Ok(answer) = client.try_get(&format!("{}?limit=37&wait=1{after}", self.path)) else { return };
            let page = answer.expect(200).json();
            self.changes.extend(page["items"].as_array().unwrap().iter().cloned());
            self.after = page["next"].as_str().map(str::to_owned);
        }
    }
}

#[test]
fn what_is_shown_is_what_is_in_the_log_after_kills() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let events: Vec<u64> = (0..3).map(|_| stage.event(1_000_000)).collect();
    let of_event = |&event: &u64| Follower { path: path(event), after: None, changes: Vec::new() };
    let mut followers: Vec<Follower> = events.iter().map(of_event).collect();
    followers.push(Follower { path: ALL.to_owned(), after: None, changes: Vec::new() });
    let mut server = stage.server;
    for shards in ["3", "1", "2"] {
        let is_over = AtomicBool::new(false);
        let (org1, cust1, cust2) = {
            let log_in = |name| server.client().log_in(name, PASSWORD);
            (log_in("org1"), log_in("cust1"), log_in("cust2"))
        };
        thread::scope(|scope| {
            for customer in [&cust1, &cust2] {
                let (is_over, events) = (&is_over, &events);
                scope.spawn(move || {
                    for turn in 0.. {
                        let event = events[turn % events.len()];
                        let path = format!("/api/v1/events/{event}/reservations");
                        let made = customer.try_post(&path, &json!({ "quantity": 1 + turn % 3 }));
                        if made.is_err() || is_over.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                });
            }
            for follower in &mut followers {
                let (org1, is_over) = (&org1, &is_over);
                scope.spawn(move || follower.run(org1, is_over));
            }
            thread::sleep(Duration::from_millis(1500));
            server.kill();
            is_over.store(true, Ordering::Relaxed);
        });
        for follower in &followers {
            check_chain(&follower.changes, &mut BTreeMap::new());
        }
        for (event, follower) in events.iter().zip(&followers) {
            let shown: Vec<String> = follower.changes.iter().skip(1).map(as_logged).collect();
            let logged = logged(data.path(), *event);
            assert!(shown.len() > 10, "{} changes of {event}", shown.len());
            assert_eq!(shown, logged[..shown.len().min(logged.len())], "event {event}");
        }
        server = Server::start(data.path(), &["--demo", "--shards", shards]);
    }
    // All of it, from the log.
    let org1 = server.client().log_in("org1", PASSWORD);
    let (all, _) = follow(&org1, ALL, None, 100);
    assert_eq!(lines(&org1, ALL).len(), all.len());
    for (&event, follower) in events.iter().zip(&followers) {
        let (whole, _) = follow(&org1, &path(event), None, 100);
        let shown: Vec<String> = whole.iter().skip(1).map(as_logged).collect();
        assert_eq!(shown, logged(data.path(), event));
        assert_eq!(follower.changes, whole[..follower.changes.len()]);
        let among_all: Vec<&Value> = all.iter().filter(|change| change["event"] == json!(event)).collect();
        assert_eq!(among_all, whole.iter().collect::<Vec<_>>());
    }
    let (rest, _) = follow(&org1, ALL, followers[3].after.clone(), 100);
    let mut last = BTreeMap::new();
    check_chain(&followers[3].changes, &mut last);
    check_chain(&rest, &mut last);
    assert_eq!(followers[3].changes.len() + rest.len(), all.len());
}
