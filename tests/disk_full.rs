//! A full disk: refused changes have no effect, reads continue, and changes succeed again as soon as
//! there is space, without a restart. `full_starts` tests starts without room.
//!
//! Needs its own file system: run by name, as root, `cargo test --test disk_full -- --ignored`.

mod support;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::Client;
use support::small_disk::{SmallDisk, check_refused, until_done};
use support::{PASSWORD, Stage, all_items, number, text};

const RESERVATIONS: &str = "/api/v1/reservations";

fn everything(client: &Client, admin: &Client, events: &[u64]) -> Vec<Value> {
    let mut seen = all_items(client, "/api/v1/events", 100);
    for event in events {
        seen.extend(all_items(admin, &format!("/api/v1/events/{event}/reservations"), 100));
    }
    seen
}

#[test]
#[ignore = "needs root, for a small tmpfs"]
fn a_full_disk_is_survived() {
    let disk = SmallDisk::tmpfs("size=12m");
    let stage = Stage::open(&disk.data(), 2);
    let events = [stage.event(1_000_000), stage.event(1_000_000)];
    let reserve = |event: u64| {
        let path = format!("/api/v1/events/{event}/reservations");
        stage.cust1.post(&path, &json!({ "quantity": 1 }))
    };
    let kept = events.map(|event| stage.reservation(event, 1));

    for round in 0..3 {
        disk.fill();
        for event in events {
            while reserve(event).status == 201 {}
        }
        let full = everything(&stage.anyone, &stage.admin, &events);
        for event in events {
            check_refused(reserve(event));
            let edited = json!({ "name": "Another" });
            check_refused(stage.org1.patch(&format!("/api/v1/events/{event}"), &edited));
            check_refused(stage.org1.delete(&format!("/api/v1/events/{event}?force=true")));
        }
        for id in &kept {
            check_refused(stage.cust1.delete(&format!("{RESERVATIONS}/{id}")));
        }
        // The logs of both shards are full.
        check_refused(stage.org1.post("/api/v1/events", &json!({ "name": "New", "quota": 5 })));
        let user = json!({ "username": format!("new-{round}"), "password": PASSWORD });
        check_refused(stage.anyone.post("/api/v1/users", &user));
        assert_eq!(everything(&stage.anyone, &stage.admin, &events), full, "a refusal changed something");
        stage.anyone.get("/readyz").expect(200);
        assert!(stage.anyone.get("/metrics").expect(200).text().contains("boxoffice_logs_full 2"));

        disk.make_room();
        for event in events {
            let (_, took) = until_done(|| reserve(event));
            println!("round {round}, event {event}: {took:?} from room to a sale");
        }
        let (made, _) = until_done(|| stage.anyone.post("/api/v1/users", &user));
        assert_eq!(made.json()["username"], user["username"]);
    }

    // Kill the server while the disk is full, with part of a commit in the journal.
    disk.fill();
    while reserve(events[0]).status == 201 {}
    let last = everything(&stage.anyone, &stage.admin, &events);
    let (admin, anyone) = (stage.admin.token.clone().expect("logged in"), stage.anyone.token.clone());
    assert!(anyone.is_none());
    stage.server.kill();
    disk.make_room();
    let server = support::server::Server::start(&disk.data(), &["--demo", "--shards", "3"]);
    let admin = server.client().with_token(&admin);
    assert_eq!(everything(&server.client(), &admin, &events), last);
}

/// A shard with a full log checks for space even without requests.
#[test]
#[ignore = "needs root, for a small tmpfs"]
fn space_is_detected_without_a_request() {
    let disk = SmallDisk::tmpfs("size=12m");
    let stage = Stage::open(&disk.data(), 1);
    let path = format!("/api/v1/events/{}/reservations", stage.event(1_000_000));
    let reserve = || stage.cust1.post(&path, &json!({ "quantity": 1 }));
    disk.fill();
    let refused = loop {
        let answer = reserve();
        if answer.status != 201 {
            break answer;
        }
    };
    check_refused(refused);
    disk.make_room();
    let start = Instant::now();
    while !stage.server.stderr().contains("the disk has room again") {
        assert!(start.elapsed() < Duration::from_secs(60), "the server does not check for space");
        thread::sleep(Duration::from_millis(50));
    }
    reserve().expect(201);
}

/// The answers to a client that buys while the disk becomes full and empty.
#[derive(Default)]
struct Bought {
    live: HashMap<String, u64>,
    refused: usize,
}

#[test]
#[ignore = "needs root, for a small tmpfs"]
fn refused_changes_are_not_done_and_acknowledged_ones_are_kept() {
    let disk = SmallDisk::tmpfs("size=12m");
    let stage = Stage::open(&disk.data(), 2);
    let events: Vec<u64> = (0..4).map(|_| stage.event(10_000_000)).collect();
    let stop = AtomicBool::new(false);
    let bought: Mutex<Bought> = Mutex::default();
    thread::scope(|scope| {
        for index in 0..16 {
            let (stage, events, stop, bought) = (&stage, &events, &stop, &bought);
            scope.spawn(move || {
                let mut own = Bought::default();
                let token = stage.cust2.token.clone().expect("logged in");
                let client = stage.server.client().with_token(&token);
                let mut turn = index;
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    let event = events[turn % events.len()];
                    let path = format!("/api/v1/events/{event}/reservations");
                    let answer = client.post(&path, &json!({ "quantity": 1 + turn % 3 }));
                    if answer.status == 507 {
                        own.refused += 1;
                        continue;
                    }
                    let made = answer.expect(201).json();
                    let id = text(&made, "id").to_owned();
                    if turn.is_multiple_of(5) && client.delete(&format!("{RESERVATIONS}/{id}")).status == 204
                    {
                        continue;
                    }
                    own.live.insert(id, number(&made, "quantity"));
                }
                let mut all = bought.lock().expect("no panic");
                all.live.extend(own.live);
                all.refused += own.refused;
            });
        }
        for _ in 0..4 {
            thread::sleep(Duration::from_millis(300));
            disk.fill();
            thread::sleep(Duration::from_millis(300));
            disk.make_room();
            thread::sleep(Duration::from_millis(1200));
        }
        stop.store(true, Ordering::Relaxed);
    });

    let Bought { live, refused } = bought.into_inner().expect("no panic");
    println!("{} kept, {refused} refused", live.len());
    assert!(refused > 0, "the disk was never full");
    check(&stage.admin, &events, &live);
    let token = stage.admin.token.clone().expect("logged in");
    stage.server.kill();
    let server = support::server::Server::start(&disk.data(), &["--demo", "--shards", "1"]);
    check(&server.client().with_token(&token), &events, &live);
}

/// Checks that the server has exactly the acknowledged reservations.
fn check(admin: &Client, events: &[u64], live: &HashMap<String, u64>) {
    let mut found = HashMap::new();
    for event in events {
        for item in all_items(admin, &format!("/api/v1/events/{event}/reservations"), 100) {
            if item["status"] == "confirmed" {
                found.insert(text(&item, "id").to_owned(), number(&item, "quantity"));
            }
        }
        let seen = admin.get(&format!("/api/v1/events/{event}")).expect(200).json();
        support::check_sums(&seen);
        let prefix = format!("{event}-");
        let sum: u64 =
            live.iter().filter(|(id, _)| id.starts_with(&prefix)).map(|(_, quantity)| quantity).sum();
        assert_eq!(number(&seen, "reserved"), sum);
    }
    assert_eq!(found.len(), live.len());
    assert!(found == *live, "the lists differ");
}
