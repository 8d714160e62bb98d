//! Tests every phase over HTTP, from the first account to a restart.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod support;

use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use support::{Client, PostgreSql, Redis, Server, secret};

const CLIENTS: usize = 32;
const QUOTA: u64 = 500;

/// The data that a phase keeps when it is ended by a signal.
enum Kept {
    Nothing,
    All(Signal),
}

/// The data that later steps need from an earlier one.
struct Sold {
    event: String,
    reservation: String,
    organizer: Client,
    customer: Client,
}

fn whole_story(phase: &[&str], kept: &Kept) {
    let (_folder, secret) = secret();
    let mut arguments: Vec<String> = phase.iter().map(ToString::to_string).collect();
    arguments.extend(["--workers", "2", "--token-secret-file", &secret].map(str::to_owned));
    let server = Server::start(&arguments);
    let anyone = Client::new(&server);

    anyone.get("/livez").is(200);
    assert_eq!(anyone.get("/readyz").is(200).body["status"], "ready");
    demonstration_is_made_once(&anyone);
    let mut sold = sold_out_at_the_quota(&anyone);
    sold.reservation = cancelled_tickets_are_sold_again(&sold);
    strangers_are_refused(&anyone, &sold);
    bad_requests_hear_what_to_change(&sold);
    events_are_edited_and_deleted(&sold);

    let before = anyone.get(&sold.event).is(200).body;
    let quantity = sold.customer.get(&sold.reservation).is(200).body["quantity"].as_u64().unwrap();
    // The newest change.
    sold.customer.delete(&sold.reservation).is(204);
    let signal = if let Kept::All(signal) = kept { *signal } else { Signal::TERM };
    let status = server.end(signal);
    assert_eq!(status.code(), (signal == Signal::TERM).then_some(0), "{status}");

    let server = Server::start(&arguments);
    let after = Client::new(&server).get(&sold.event);
    let Kept::All(_) = kept else {
        after.problem(404, "not-found");
        return;
    };
    let after = after.is(200).body;
    assert_eq!(after["reserved"], before["reserved"].as_u64().unwrap() - quantity);
    assert_eq!(after["remaining"], before["remaining"].as_u64().unwrap() + quantity);
    assert_eq!(after["name"], before["name"]);
    // The token was issued by the first process.
    let customer = Client::new(&server).with_token(sold.customer.token());
    assert_eq!(customer.get(&sold.reservation).is(200).body["status"], "cancelled");
    let again = customer.post(&format!("{}/reservations", sold.event), json!({"quantity": 1})).is(201);
    assert_ne!(again.location.unwrap(), sold.reservation);
    Client::new(&server).get("/api/v1/pop?quota=7&events=3&customers=20").is(304);
}

fn demonstration_is_made_once(anyone: &Client) {
    let made = anyone.get("/api/v1/pop?quota=7&events=3&customers=12").is(200).body;
    assert_eq!(made["events"], json!([1, 2, 3]));
    assert_eq!(made["users"].as_array().unwrap().len(), 3 + 12);
    anyone.get("/api/v1/pop?quota=7&events=3&customers=12").is(304);
    let more = anyone.get("/api/v1/pop?quota=7&events=3&customers=20").is(200).body;
    assert_eq!(more["events"], json!([]));
    let event = anyone.get("/api/v1/events/1").is(200).body;
    assert_eq!((&event["quota"], &event["remaining"]), (&json!(7), &json!(7)));
    anyone.get("/api/v1/pop?quota=many").problem(422, "invalid");
    anyone.get("/api/v1/pop?events=0").problem(422, "invalid");
    let customer = anyone.log_in("cust20", "boxoffice-demo");
    customer.post("/api/v1/events/2/reservations", json!({"quantity": 7})).is(201);
    let short = customer.post("/api/v1/events/2/reservations", json!({"quantity": 1}));
    assert_eq!(short.problem(409, "sold-out").body["remaining"], 0);
    let admin = anyone.log_in("admin", "boxoffice-demo");
    admin.delete("/api/v1/events/2").problem(409, "has-reservations");
}

fn account(anyone: &Client, username: &str, role: &str) -> Client {
    let new = json!({"username": username, "password": "correct horse", "role": role});
    let made = anyone.post("/api/v1/users", new.clone()).is(201).body;
    assert_eq!((&made["username"], &made["role"]), (&json!(username), &json!(role)));
    anyone.post("/api/v1/users", new).problem(409, "username-taken");
    anyone
        .post("/api/v1/sessions", json!({"username": username, "password": "wrong horse"}))
        .problem(401, "wrong-credentials");
    anyone.log_in(username, "correct horse")
}

/// All clients buy one or two tickets at a time until the event is sold out.
fn sold_out_at_the_quota(anyone: &Client) -> Sold {
    let organizer = account(anyone, "ada", "organizer");
    let customer = account(anyone, "bob", "customer");
    let made = organizer.post("/api/v1/events", json!({"name": "Recital", "quota": QUOTA})).is(201);
    let event = made.location.unwrap();
    assert_eq!(event, "/api/v1/events/4");
    let address = format!("{event}/reservations");
    let buy = |index: usize| {
        let (mut tickets, mut last) = (0, None);
        for quantity in std::iter::repeat([1, 2]).flatten().skip(index) {
            let answer = customer.post(&address, json!({"quantity": quantity}));
            match answer.status {
                201 => {
                    assert_eq!(answer.body["quantity"], quantity);
                    tickets += quantity;
                    last = answer.location;
                }
                _ => {
                    let refused = answer.problem(409, "sold-out").body;
                    let remaining = refused["remaining"].as_u64().unwrap();
                    assert!(remaining < quantity, "{remaining} tickets of {quantity} were there");
                    if remaining == 0 {
                        break;
                    }
                }
            }
        }
        (tickets, last)
    };
    let bought: Vec<(u64, Option<String>)> = thread::scope(|scope| {
        let buyers: Vec<_> = (0..CLIENTS).map(|index| scope.spawn(move || buy(index))).collect();
        buyers.into_iter().map(|buyer| buyer.join().unwrap()).collect()
    });
    assert_eq!(bought.iter().map(|(tickets, _)| tickets).sum::<u64>(), QUOTA);
    let full = anyone.get(&event).is(200).body;
    assert_eq!((&full["quota"], &full["reserved"]), (&json!(QUOTA), &json!(QUOTA)));
    assert_eq!((&full["held"], &full["remaining"]), (&json!(0), &json!(0)));
    let reservation = bought.into_iter().find_map(|(_, last)| last).expect("somebody bought");
    Sold { event, reservation, organizer, customer }
}

/// Cancels a reservation and sells its tickets again. Returns the new reservation.
fn cancelled_tickets_are_sold_again(sold: &Sold) -> String {
    let Sold { event, reservation, customer, .. } = sold;
    let seen = customer.get(reservation).is(200).body;
    assert_eq!(seen["status"], "confirmed");
    let quantity = seen["quantity"].as_u64().unwrap();
    customer.delete(reservation).is(204);
    customer.delete(reservation).is(204);
    let cancelled = customer.get(reservation).is(200).body;
    assert_eq!(cancelled["status"], "cancelled");
    assert!(cancelled["cancelled_at"].is_string());
    assert_eq!(customer.get(event).is(200).body["remaining"], quantity);
    let address = format!("{event}/reservations");
    let again = customer.post(&address, json!({"quantity": quantity})).is(201);
    // At once, even if its row is not written yet.
    customer.delete(&again.location.unwrap()).is(204);
    let last = customer.post(&address, json!({"quantity": quantity})).is(201);
    assert_eq!(customer.get(event).is(200).body["remaining"], 0);
    customer.post(&address, json!({"quantity": 1})).problem(409, "sold-out");
    last.location.unwrap()
}

fn strangers_are_refused(anyone: &Client, sold: &Sold) {
    let Sold { event, reservation, organizer, customer } = sold;
    let address = format!("{event}/reservations");
    let one = || json!({"quantity": 1});
    anyone.post(&address, one()).problem(401, "unauthorized");
    let forged = {
        let (head, _) = customer.token().rsplit_once('.').unwrap();
        let (_, signature) = organizer.token().rsplit_once('.').unwrap();
        format!("{head}.{signature}")
    };
    anyone.with_token(&forged).post(&address, one()).problem(401, "unauthorized");
    anyone.with_token("a.b.c").post(&address, one()).problem(401, "unauthorized");
    organizer.post(&address, one()).problem(403, "forbidden");
    customer.post("/api/v1/events", json!({"name": "Mine", "quota": 1})).problem(403, "forbidden");
    let other = anyone.log_in("cust1", "boxoffice-demo");
    other.get(reservation).problem(404, "not-found");
    other.delete(reservation).problem(404, "not-found");
    organizer.get(reservation).is(200);
    organizer.delete(reservation).problem(403, "forbidden");
    let stranger = anyone.log_in("org1", "boxoffice-demo");
    stranger.send("PATCH", event, r#"{"quota": 1}"#).problem(403, "not-yours");
    stranger.delete(event).problem(403, "not-yours");
    anyone.get("/api/v1/events/999").problem(404, "not-found");
    anyone.get("/api/v1/nothing").problem(404, "not-found");
    anyone.delete("/livez").problem(405, "method-not-allowed");
    customer.post("/api/v1/events/999/reservations", one()).problem(404, "not-found");
    customer.get("/api/v1/reservations/4-999999").problem(404, "not-found");
}

fn bad_requests_hear_what_to_change(sold: &Sold) {
    let Sold { event, customer, .. } = sold;
    let address = format!("{event}/reservations");
    let rule = "must be a whole number from 1 to 10000000";
    let rows = [
        (r#"{"quantity": 0}"#, 422, "/quantity", rule),
        (r#"{"quantity": -1}"#, 422, "/quantity", rule),
        (r#"{"quantity": 1.5}"#, 422, "/quantity", rule),
        (r#"{"quantity": "1"}"#, 422, "/quantity", rule),
        (r#"{"quantity": 10000001}"#, 422, "/quantity", rule),
        (r#"{"quantity": 1e300}"#, 422, "/quantity", rule),
        (r#"{}"#, 422, "", "missing field `quantity`"),
        (r#"{"quantity": 1, "quantitty": 2}"#, 422, "/quantitty", "unknown field `quantitty`"),
    ];
    for (body, status, pointer, detail) in rows {
        let problem = customer.send("POST", &address, body).problem(status, "invalid").body;
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
        let said = problem["errors"][0]["detail"].as_str().unwrap();
        assert!(said.starts_with(detail), "{body}: {said}");
    }
    let broken = customer.send("POST", &address, r#"{"quantity":"#);
    broken.problem(400, "malformed-json");
    customer.post(&format!("{address}?x=1"), json!({"quantity": 1})).problem(422, "invalid");
    customer.post(&address, json!({"quantity": "x".repeat(70_000)})).problem(413, "content-too-large");
}

fn events_are_edited_and_deleted(sold: &Sold) {
    let Sold { event, organizer, customer, .. } = sold;
    let below = organizer.send("PATCH", event, r#"{"quota": 10}"#);
    assert_eq!(below.problem(409, "quota-below-committed").body["committed"], QUOTA);
    let patch = json!({"name": "Gala", "quota": QUOTA + 5});
    let edited = organizer.send("PATCH", event, &patch.to_string()).is(200).body;
    assert_eq!((&edited["name"], &edited["quota"]), (&json!("Gala"), &json!(QUOTA + 5)));
    assert_eq!(edited["remaining"], 5);
    let address = format!("{event}/reservations");
    let more = customer.post(&address, json!({"quantity": 6}));
    assert_eq!(more.problem(409, "sold-out").body["remaining"], 5);

    let made = organizer.post("/api/v1/events", json!({"name": "Short", "quota": 3.0})).is(201);
    let short = made.location.unwrap();
    let taken = customer.post(&format!("{short}/reservations"), json!({"quantity": 2})).is(201);
    organizer.delete(&short).problem(409, "has-reservations");
    organizer.delete(&format!("{short}?force=true")).is(204);
    organizer.get(&short).problem(410, "event-deleted");
    customer.post(&format!("{short}/reservations"), json!({"quantity": 1})).problem(410, "event-deleted");
    assert_eq!(customer.get(&taken.location.unwrap()).is(200).body["status"], "cancelled");
    let page = customer.get("/api/v1/events?limit=2&after=1").is(200).body;
    let ids: Vec<&Value> = page["items"].as_array().unwrap().iter().map(|event| &event["id"]).collect();
    assert_eq!((ids, &page["next"]), (vec![&json!(2), &json!(3)], &json!("3")));
    let rest = customer.get("/api/v1/events?after=3").is(200).body;
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));
}

#[test]
fn memory() {
    whole_story(&["memory"], &Kept::Nothing);
}

#[test]
#[ignore = "needs postgresql"]
fn postgres() {
    let postgresql = PostgreSql::start();
    for reserve in ["transaction", "statement"] {
        let database = postgresql.database(reserve);
        let phase = ["postgres", "--postgres", &database, "--reserve", reserve];
        whole_story(&phase, &Kept::All(Signal::KILL));
    }
    let database = postgresql.database("small_pool");
    whole_story(&["postgres", "--postgres", &database, "--pool", "1"], &Kept::All(Signal::TERM));
}

#[test]
#[ignore = "needs postgresql"]
fn postgres_batched() {
    let postgresql = PostgreSql::start();
    for (answer, signal) in [("before-batch", Signal::TERM), ("after-batch", Signal::KILL)] {
        let database = postgresql.database(answer);
        let phase = ["postgres-batched", "--postgres", &database, "--answer", answer];
        whole_story(&phase, &Kept::All(signal));
    }
}

#[test]
#[ignore = "needs postgresql and redis"]
fn postgres_redis() {
    let postgresql = PostgreSql::start();
    for (answer, signal) in [("before-batch", Signal::TERM), ("after-batch", Signal::KILL)] {
        let redis = Redis::start();
        let (database, redis) = (postgresql.database(answer), redis.address());
        let phase = ["postgres-redis", "--postgres", &database, "--redis", &redis, "--answer", answer];
        whole_story(&phase, &Kept::All(signal));
    }
}

#[test]
fn ceilings_give_what_boxoffice_gives() {
    for phase in ["constant-actix", "constant-ntex"] {
        let arguments = [phase, "--workers", "1"].map(str::to_owned);
        let server = Server::start(&arguments);
        let client = Client::new(&server);
        client.get("/livez").is(200);
        client.get("/readyz").is(200);
        let answer = client.post("/api/v1/events/3/reservations", json!({"quantity": 1})).is(201);
        assert_eq!(answer.location.as_deref(), Some("/api/v1/reservations/1-1"));
        assert_eq!(answer.body["id"], "1-1");
        client.get("/nothing");
        assert_eq!(server.end(Signal::TERM).code(), Some(0), "{phase}");
    }
}
