//! Who keeps what when roles change, and when events are handed over or deleted.

mod support;

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use support::client::Client;
use support::server::Server;
use support::{PASSWORD, Stage, all_items, create_event, number, reserve, text};
use tempfile::tempdir;

fn id(client: &Client) -> u64 {
    number(&client.get("/api/v1/users/me").expect(200).json(), "id")
}

/// Changes an account's role, which ends its tokens, and logs in again.
fn change_role(stage: &Stage, username: &str, role: &str) -> Client {
    let user = id(&stage.anyone.log_in(username, PASSWORD));
    stage.admin.patch(&format!("/api/v1/users/{user}"), &json!({ "role": role })).expect(200);
    stage.anyone.log_in(username, PASSWORD)
}

fn reservation(id: &str) -> String {
    format!("/api/v1/reservations/{id}")
}

fn ids(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| text(item, "id")).collect()
}

fn statuses(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| text(item, "status")).collect()
}

fn events_of(organizer: &Client) -> Vec<u64> {
    let events = all_items(organizer, "/api/v1/events?organizer=me", 2);
    events.iter().map(|event| number(event, "id")).collect()
}

#[test]
fn one_keeps_what_one_bought_whatever_the_role() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let buyer = stage.anyone.sign_up("buyer", "customer");
    let events = [stage.event(10), create_event(&stage.org2, 10)];
    let bought: Vec<String> =
        events.iter().flat_map(|&event| [1, 2, 3].map(|tickets| reserve(&buyer, event, tickets))).collect();
    let of_another = stage.reservation(events[0], 1);
    let mut left = bought.clone();
    for role in ["organizer", "admin", "customer"] {
        let buyer = change_role(&stage, "buyer", role);
        let mine = all_items(&buyer, "/api/v1/reservations", 4);
        assert_eq!(ids(&mine), bought, "as {role}");
        for item in &mine {
            assert_eq!(buyer.get(&reservation(text(item, "id"))).expect(200).json(), *item, "as {role}");
        }
        let cancelled = left.pop().expect("more than roles");
        for _ in 0..2 {
            buyer.delete(&reservation(&cancelled)).expect(204);
        }
        let seen = buyer.get(&reservation(&cancelled)).expect(200).json();
        assert_eq!(seen["status"], "cancelled", "as {role}");
        // What others bought is seen as before, and new tickets are for customers alone.
        let foreign = buyer.get(&reservation(&of_another));
        foreign.expect(if role == "admin" { 200 } else { 404 });
        let path = format!("/api/v1/events/{}/reservations", events[0]);
        let again = buyer.post(&path, &json!({ "quantity": 1 }));
        again.expect(if role == "customer" { 201 } else { 403 });
        if role != "customer" {
            let none = buyer.delete(&reservation(&format!("{}-999", events[0])));
            none.problem(404, "not-found");
        }
    }
    // Each event's six tickets, three of the second's reservations cancelled; another's ticket and the new one.
    assert_eq!(events.map(|event| number(&stage.seen(event), "reserved")), [8, 0]);
}

#[test]
fn an_organizer_cancels_what_others_bought_of_own_events() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let [whole, part, left] = [2, 3, 1].map(|tickets| reservation(&stage.reservation(event, tickets)));
    for path in [&whole, &part] {
        stage.org1.get(path).expect(200);
        stage.org2.get(path).problem(404, "not-found");
        stage.org2.delete(path).problem(404, "not-found");
        stage.org2.patch(path, &json!({ "quantity": 1 })).problem(404, "not-found");
    }
    stage.org1.delete(&whole).expect(204);
    assert_eq!(number(&stage.org1.patch(&part, &json!({ "quantity": 1 })).expect(200).json(), "quantity"), 1);
    assert_eq!(stage.cust1.get(&whole).expect(200).json()["status"], "cancelled");
    assert_eq!(number(&stage.seen(event), "reserved"), 2);
    // When the event is deleted, nothing of it changes.
    stage.org1.delete(&format!("/api/v1/events/{event}?force=true")).expect(204);
    stage.org1.delete(&left).expect(204);
    // After a hand-over, it is the new organizer's.
    let handed = stage.event(10);
    let path = reservation(&stage.reservation(handed, 1));
    let organizer = json!({ "organizer": id(&stage.org2) });
    stage.org1.patch(&format!("/api/v1/events/{handed}"), &organizer).expect(200);
    stage.org1.delete(&path).problem(404, "not-found");
    stage.org2.delete(&path).expect(204);
}

/// Whether an id is an organizer's is told to those who could hand over the event.
#[test]
fn a_hand_over_of_what_is_not_yours_is_refused_alike_to_whomever_it_would_go() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let (event, deleted) = (stage.event(10), stage.event(10));
    stage.org1.delete(&format!("/api/v1/events/{deleted}")).expect(204);
    let removed = stage.anyone.sign_up("gone", "organizer");
    let removed_id = id(&removed);
    stage.admin.delete(&format!("/api/v1/users/{removed_id}")).expect(204);
    for target in [id(&stage.org2), id(&stage.cust1), id(&stage.admin), removed_id, 999_999] {
        let hand_over = |client: &Client, event: u64| {
            client.patch(&format!("/api/v1/events/{event}"), &json!({ "organizer": target, "quota": 0 }))
        };
        hand_over(&stage.org2, event).problem(403, "not-yours");
        for client in [&stage.org1, &stage.org2, &stage.admin] {
            hand_over(client, deleted).problem(410, "event-deleted");
            hand_over(client, 999).problem(404, "not-found");
        }
    }
    assert_eq!(number(&stage.seen(event), "quota"), 10);
}

#[test]
fn an_admin_edits_closes_and_hands_over_what_an_organizer_left() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let Stage { admin, org2, cust2, anyone, .. } = &stage;
    let [event, kept] = [stage.event(10), stage.event(10)];
    let sold = stage.reservation(event, 4);
    let (path, list) = (format!("/api/v1/events/{event}"), format!("/api/v1/events/{event}/reservations"));
    let org1_events = events_of(&stage.org1);
    let org2_events = events_of(org2);
    let totals = || {
        // Sums are published ten times a second.
        thread::sleep(Duration::from_secs(1));
        let page = anyone.get("/metrics").expect(200).text().to_owned();
        let names = ["boxoffice_events ", "boxoffice_tickets_quota ", "boxoffice_tickets_reserved "];
        names.map(|name| page.lines().find(|line| line.starts_with(name)).map(str::to_owned).expect(name))
    };

    // The organizer is one no more; the event sells on.
    let former = change_role(&stage, "org1", "customer");
    assert_eq!(events_of(&former), org1_events);
    former.patch(&path, &json!({ "quota": 4 })).problem(403, "forbidden");
    reserve(cust2, event, 1);
    let renamed = admin.patch(&path, &json!({ "name": "Moved", "quota": 9 })).expect(200);
    assert_eq!(
        (renamed.json()["organizer"].as_u64(), renamed.header("etag")),
        (Some(id(&former)), Some("\"2\""))
    );

    // Closed: no ticket is left, whoever bought in between.
    let refused = admin.patch(&path, &json!({ "quota": 4 })).problem(409, "quota-below-committed");
    admin.patch(&path, &json!({ "quota": refused["committed"] })).expect(200);
    let late = cust2.post(&list, &json!({ "quantity": 1 })).problem(409, "sold-out");
    assert_eq!(late["remaining"], 0);

    // A hand-over that is refused changes nothing.
    let before = stage.seen(event);
    let removed = anyone.sign_up("gone", "organizer");
    let removed_id = id(&removed);
    admin.delete(&format!("/api/v1/users/{removed_id}")).expect(204);
    let targets = [
        json!(id(cust2)),
        json!(id(admin)),
        json!(id(&former)),
        json!(removed_id),
        json!(999_999),
        json!(u32::MAX),
    ];
    let wrong = [json!(0), json!(-1), json!(1.5), json!(1_u64 << 32), json!("5"), json!(null), json!([5])];
    for target in targets.iter().chain(&wrong) {
        let problem = admin.patch(&path, &json!({ "organizer": target })).problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], "/organizer", "{target}: {problem}");
    }
    let both = json!({ "organizer": id(org2), "quota": 1 });
    admin.patch(&path, &both).problem(409, "quota-below-committed");
    for client in [&former, cust2] {
        client.patch(&path, &json!({ "organizer": id(org2) })).problem(403, "forbidden");
    }
    org2.patch(&path, &json!({ "organizer": id(org2) })).problem(403, "not-yours");
    anyone.patch(&path, &json!({ "organizer": id(org2) })).problem(401, "unauthorized");
    admin.patch("/api/v1/events/999999", &json!({ "organizer": id(org2) })).problem(404, "not-found");
    assert_eq!(stage.seen(event), before);

    // The hand-over, once; a repeat changes nothing.
    let totals_before = totals();
    for _ in 0..2 {
        let given = admin.patch(&path, &json!({ "organizer": id(org2) })).expect(200);
        assert_eq!(
            (given.json()["organizer"].as_u64(), given.header("etag")),
            (Some(id(org2)), Some("\"4\""))
        );
        assert_eq!(stage.seen(event), given.json());
    }
    assert_eq!(totals(), totals_before);
    let check_owners = |former: &Client, org2: &Client| {
        let without: Vec<u64> = org1_events.iter().copied().filter(|&one| one != event).collect();
        assert_eq!(events_of(former), without);
        assert_eq!(events_of(org2), [&org2_events[..], &[event]].concat());
        former.patch(&path, &json!({ "name": "Mine" })).problem(403, "not-yours");
        former.delete(&path).problem(403, "not-yours");
        former.get(&list).problem(403, "not-yours");
        former.get(&reservation(&sold)).problem(404, "not-found");
        assert_eq!(all_items(org2, &list, 1).len(), 2);
        org2.get(&reservation(&sold)).expect(200);
        org2.patch(&path, &json!({ "name": "Moved" })).expect(200);
    };
    let back = change_role(&stage, "org1", "organizer");
    check_owners(&back, org2);
    back.patch(&format!("/api/v1/events/{kept}"), &json!({ "name": "Still mine" })).expect(200);

    let seen = stage.seen(event);
    stage.server.kill();
    let server = Server::start(data.path(), &["--shards", "3"]);
    let [org1, org2] = ["org1", "org2"].map(|name| server.client().log_in(name, PASSWORD));
    assert_eq!(server.client().get(&path).expect(200).json(), seen);
    check_owners(&org1, &org2);
    org2.delete(&format!("{path}?force=true")).expect(204);
    assert_eq!(events_of(&org2), org2_events);
}

#[test]
fn an_organizer_hands_over_an_event_of_their_own() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let Stage { admin, org1, org2, .. } = &stage;
    let event = stage.event(10);
    let sold = stage.reservation(event, 2);
    let path = format!("/api/v1/events/{event}");
    org1.patch(&path, &json!({ "organizer": id(admin) })).problem(422, "invalid");
    // Together with other changes, in one version.
    let given = org1.patch(&path, &json!({ "organizer": id(org2), "quota": 2, "venue": "Hall" })).expect(200);
    let body = given.json();
    assert_eq!(
        (number(&body, "organizer"), number(&body, "quota"), text(&body, "venue")),
        (id(org2), 2, "Hall")
    );
    assert_eq!(given.header("etag"), Some("\"2\""));
    org1.patch(&path, &json!({ "organizer": id(org1) })).problem(403, "not-yours");
    // There and back again.
    org2.patch(&path, &json!({ "organizer": id(org1) })).expect(200);
    assert!(events_of(org1).contains(&event) && !events_of(org2).contains(&event));
    org1.get(&reservation(&sold)).expect(200);
    // A deleted event stays with the one who deleted it.
    org1.delete(&format!("{path}?force=true")).expect(204);
    org1.patch(&path, &json!({ "organizer": id(org2) })).problem(410, "event-deleted");
    admin.patch(&path, &json!({ "organizer": id(org2) })).problem(410, "event-deleted");
}

fn without_name(mut item: Value) -> Value {
    let name = item.as_object_mut().and_then(|item| item.remove("customer_name"));
    assert!(name.is_some_and(|name| name.is_string()), "{item}");
    item
}

#[test]
fn the_reservations_of_a_deleted_event_are_shown_as_cancelled() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let Stage { admin, org1, org2, cust1, cust2, anyone, .. } = &stage;
    let event = stage.event(10);
    let path = format!("/api/v1/events/{event}");
    let list = format!("{path}/reservations");
    let mine = [1, 2, 3].map(|tickets| reserve(cust1, event, tickets));
    let other = reserve(cust2, event, 4);
    cust1.delete(&reservation(&mine[1])).expect(204);
    let early = cust1.get(&reservation(&mine[1])).expect(200).json();
    let before = all_items(org1, &list, 2);
    assert_eq!(statuses(&before), ["confirmed", "cancelled", "confirmed", "confirmed"]);
    org1.delete(&format!("{path}?force=true")).expect(204);

    let shown = all_items(org1, &list, 3);
    assert_eq!(statuses(&shown), ["cancelled"; 4]);
    // As others see them: only those who manage the event are told the names.
    let nameless: Vec<Value> = shown.iter().cloned().map(without_name).collect();
    assert_eq!(nameless[1], early, "its own cancellation is older");
    for (before, after) in before.iter().zip(&shown) {
        for member in ["id", "event", "customer", "quantity", "created_at"] {
            assert_eq!(before[member], after[member]);
        }
        assert!(text(after, "cancelled_at") >= text(after, "created_at"), "{after}");
    }
    let check = |admin: &Client, org1: &Client, org2: &Client, cust1: &Client, cust2: &Client| {
        assert_eq!(all_items(admin, &list, 100), shown);
        assert_eq!(all_items(org1, &list, 1), shown);
        org2.get(&list).problem(403, "not-yours");
        cust1.get(&list).problem(403, "forbidden");
        let of_mine: Vec<Value> = nameless[..3].to_vec();
        assert_eq!(all_items(cust1, "/api/v1/reservations", 2), of_mine);
        for (client, item) in of_mine.iter().map(|item| (cust1, item)).chain([(cust2, &nameless[3])]) {
            assert_eq!(client.get(&reservation(text(item, "id"))).expect(200).json(), *item);
            client.delete(&reservation(text(item, "id"))).expect(204);
            assert_eq!(org1.get(&reservation(text(item, "id"))).expect(200).json(), *item);
        }
        cust2.get(&reservation(&mine[0])).problem(404, "not-found");
        cust1.get(&reservation(&other)).problem(404, "not-found");
        org1.get(&path).problem(410, "event-deleted");
    };
    check(admin, org1, org2, cust1, cust2);
    anyone.get(&list).problem(401, "unauthorized");
    org1.get("/api/v1/events/999999/reservations").problem(404, "not-found");
    // Those of an event that sold nothing are an empty list.
    let unsold = stage.event(10);
    org1.delete(&format!("/api/v1/events/{unsold}")).expect(204);
    assert_eq!(all_items(org1, &format!("/api/v1/events/{unsold}/reservations"), 5), [Value::Null; 0]);

    stage.server.kill();
    let server = Server::start(data.path(), &["--shards", "3"]);
    let [admin, org1, org2, cust1, cust2] =
        ["admin", "org1", "org2", "cust1", "cust2"].map(|name| server.client().log_in(name, PASSWORD));
    check(&admin, &org1, &org2, &cust1, &cust2);
}
