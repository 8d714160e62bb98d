//! Availability: the tickets of events, with a position that rises with their changes, and ETags.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use support::client::{Answer, Client};
use support::server::Server;
use support::{PASSWORD, Stage, check_sums, create_event, number, reserve};
use tempfile::tempdir;

fn path(event: u64) -> String {
    format!("/api/v1/events/{event}/availability")
}

fn list_path(events: &[u64]) -> String {
    let ids: Vec<String> = events.iter().map(u64::to_string).collect();
    format!("/api/v1/availability?ids={}", ids.join(","))
}

/// Gets the path, unless its content has this tag.
fn get_unless(client: &Client, path: &str, tag: &str) -> Answer {
    client.send("GET", path, &[("If-None-Match", tag)], "")
}

fn tag(answer: &Answer) -> String {
    assert_eq!(answer.header("cache-control"), Some("no-cache"), "{answer:?}");
    answer.header("etag").expect("it has a tag").to_owned()
}

fn seen(client: &Client, event: u64) -> Value {
    let answer = client.get(&path(event)).expect(200);
    let seen = answer.json();
    check_sums(&seen);
    assert_eq!(number(&seen, "event"), event);
    assert_eq!(tag(&answer), format!("\"{}\"", number(&seen, "position")));
    seen
}

#[test]
fn a_tag_stands_until_the_event_changes() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let [event, other] = [stage.event(10), stage.event(10)];
    let mut position = number(&seen(&stage.anyone, event), "position");
    let mut remaining = 10;
    let reservation = format!("/api/v1/reservations/{event}-1");
    let patched = |client: &Client, path: &str, body: Value| {
        client.patch(path, &body).expect(200);
    };
    let event_path = format!("/api/v1/events/{event}");
    // Each change, and the tickets that remain after it.
    let changes: [(&dyn Fn(), u64); 5] = [
        (&|| drop(reserve(&stage.cust1, event, 3)), 7),
        (&|| patched(&stage.cust1, &reservation, json!({ "quantity": 2 })), 8),
        (&|| drop(stage.cust1.delete(&reservation).expect(204)), 10),
        (&|| patched(&stage.org1, &event_path, json!({ "quota": 4 })), 4),
        (&|| patched(&stage.org1, &event_path, json!({ "name": "Another" })), 4),
    ];
    for (index, (change, left)) in changes.into_iter().enumerate() {
        let before = format!("\"{position}\"");
        for known in [before.clone(), format!("W/{before}"), format!("\"1-2\", {before}"), "*".to_owned()] {
            let same = get_unless(&stage.anyone, &path(event), &known).expect(304);
            assert!(same.body.is_empty() && tag(&same) == before, "{known}: {same:?}");
        }
        // What changes nothing, and what changes another event.
        stage
            .cust1
            .post(&format!("{event_path}/reservations"), &json!({ "quantity": 11 }))
            .problem(409, "sold-out");
        stage.org1.patch(&event_path, &json!({})).expect(200);
        reserve(&stage.cust2, other, 1);
        assert_eq!(number(&seen(&stage.anyone, event), "remaining"), remaining, "before change {index}");
        get_unless(&stage.anyone, &path(event), &before).expect(304);

        change();
        remaining = left;
        let after = get_unless(&stage.anyone, &path(event), &before).expect(200).json();
        assert_eq!(number(&after, "remaining"), remaining, "change {index}");
        assert!(number(&after, "position") > position, "change {index}: {after}");
        position = number(&after, "position");
    }
    stage.org1.delete(&event_path).expect(204);
    get_unless(&stage.anyone, &path(event), &format!("\"{position}\"")).problem(410, "event-deleted");
}

#[test]
fn several_events_have_one_tag() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let events: Vec<u64> = (0..6).map(|_| stage.event(10)).collect();
    reserve(&stage.cust1, events[2], 4);
    stage.org1.delete(&format!("/api/v1/events/{}", events[4])).expect(204);
    // In any order, with repetitions, an unknown one and a deleted one.
    let asked: Vec<u64> =
        [4_000_000_000].into_iter().chain(events.iter().rev().copied()).chain([events[0]]).collect();
    let list = list_path(&asked);
    let answer = stage.anyone.get(&list).expect(200);
    let items = answer.json()["items"].as_array().expect("a list").clone();
    let shown: Vec<u64> = items.iter().map(|item| number(item, "event")).collect();
    assert_eq!(shown, [events[0], events[1], events[2], events[3], events[5]]);
    for item in &items {
        assert_eq!(*item, seen(&stage.anyone, number(item, "event")));
    }
    let first = tag(&answer);
    assert_eq!(tag(&get_unless(&stage.anyone, &list, &first).expect(304)), first);
    reserve(&stage.cust1, events[5], 1);
    let second = tag(&get_unless(&stage.anyone, &list, &first).expect(200));
    assert_ne!(first, second);
    // Another list has another tag, although its events have not changed.
    assert_ne!(tag(&stage.anyone.get(&list_path(&events[..2])).expect(200)), second);

    let many: Vec<u64> = (1..=101).collect();
    assert_eq!(
        stage.anyone.get(&list_path(&many[..100])).expect(200).json()["items"].as_array().unwrap().len(),
        9
    );
    let long = list_path(&many);
    for wrong in [
        "",
        "?ids=",
        "?ids=1,",
        "?ids=0",
        "?ids=01",
        "?ids=1,,2",
        "?ids=1;2",
        "?ids=-1",
        "?ids=x",
        &long[20..],
    ] {
        let problem = stage.anyone.get(&format!("/api/v1/availability{wrong}")).problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], "?ids", "{wrong}: {problem}");
    }
}

/// The positions are the same after a kill, with another number of shards.
#[test]
fn positions_outlast_a_kill_and_another_number_of_shards() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let events: Vec<u64> = (0..8).map(|_| stage.event(10)).collect();
    for (index, &event) in events.iter().enumerate() {
        for _ in 0..index {
            reserve(&stage.cust1, event, 1);
        }
    }
    let list = list_path(&events);
    let before = stage.anyone.get(&list).expect(200);
    stage.server.kill();
    for shards in ["3", "1"] {
        let server = Server::start(data.path(), &["--shards", shards]);
        let after = server.client().get(&list).expect(200);
        assert_eq!(after.json(), before.json());
        assert_eq!(tag(&after), tag(&before));
        server.kill();
    }
}

/// While others buy, a reader never sees a position again with other numbers, nor one that goes back.
#[test]
fn positions_rise_under_sale() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = create_event(&stage.org1, 200);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3).map(|_| scope.spawn(|| watch(&stage.server, event, &over))).collect();
        let buyers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let buyer = stage.server.client().log_in("cust1", PASSWORD);
                    for _ in 0..50 {
                        reserve(&buyer, event, 1);
                    }
                })
            })
            .collect();
        buyers.into_iter().for_each(|buyer| buyer.join().expect("it bought"));
        over.store(true, Ordering::Relaxed);
        for reader in readers {
            let (position, remaining) = reader.join().expect("it read");
            let last = seen(&stage.anyone, event);
            assert!(position <= number(&last, "position") && remaining >= number(&last, "remaining"));
        }
    });
    assert_eq!(number(&seen(&stage.anyone, event), "remaining"), 0);
}

/// Reads until told to stop. Returns the last position and the tickets that remained then.
fn watch(server: &Server, event: u64, over: &AtomicBool) -> (u64, u64) {
    let client = server.client();
    let mut last = (0, 200);
    while !over.load(Ordering::Relaxed) {
        let now = seen(&client, event);
        let (position, remaining) = (number(&now, "position"), number(&now, "remaining"));
        match position == last.0 {
            true => assert_eq!(remaining, last.1, "at {position}"),
            false => assert!(position > last.0 && remaining < last.1 || last.0 == 0, "{now} after {last:?}"),
        }
        last = (position, remaining);
    }
    last
}

/// A client of the page needs no token, and a wrong one is not looked at.
#[test]
fn anyone_may_look() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 1);
    let event = stage.event(5);
    let stranger = stage.anyone.with_token("nonsense");
    for client in [&stage.anyone, &stranger, &stage.cust1, &stage.admin] {
        assert_eq!(number(&seen(client, event), "remaining"), 5);
        client.get(&list_path(&[event])).expect(200);
    }
}
