//! Limits of tickets and sales windows of events.

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::client::{Answer, Client};
use support::random::Random;
use support::server::Server;
use support::{Stage, all_items, number, reserve, text};
use tempfile::tempdir;

const MEMBERS: [&str; 4] = ["max_per_reservation", "max_per_customer", "sales_start", "sales_end"];

/// A time as the server shows it, `seconds` from now.
fn in_seconds(seconds: f64) -> String {
    let now = Timestamp::try_from(SystemTime::now()).expect("this century").as_millisecond();
    let at = Timestamp::from_millisecond(now + (seconds * 1000.0) as i64).expect("this century");
    format!("{at:.3}")
}

/// Creates an event of org1 with these members in addition. Returns its id.
fn event_with(stage: &Stage, quota: u64, members: Value) -> u64 {
    number(&create(stage, quota, members).expect(201).json(), "id")
}

fn create(stage: &Stage, quota: u64, members: Value) -> Answer {
    let mut body = members;
    body["name"] = json!("An evening");
    body["quota"] = json!(quota);
    stage.org1.post("/api/v1/events", &body)
}

fn edit(stage: &Stage, event: u64, changes: Value) -> Answer {
    stage.org1.patch(&format!("/api/v1/events/{event}"), &changes)
}

fn buy(customer: &Client, event: u64, quantity: u64) -> Answer {
    customer.post(&format!("/api/v1/events/{event}/reservations"), &json!({ "quantity": quantity }))
}

fn refused(customer: &Client, event: u64, quantity: u64, slug: &str, allowed: u64) {
    let problem = buy(customer, event, quantity).problem(409, slug);
    assert_eq!(number(&problem, "allowed"), allowed, "{problem}");
}

fn cancel(customer: &Client, reservation: &str) {
    customer.delete(&format!("/api/v1/reservations/{reservation}")).expect(204);
}

fn rules(view: &Value) -> [&Value; 4] {
    MEMBERS.map(|member| view.get(member).unwrap_or_else(|| panic!("no {member} in {view}")))
}

/// What a creation or an edit gives, and what is shown: the four members in order.
#[test]
fn limits_and_windows_are_shown_as_they_were_given() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let none = [(); 4].map(|()| Value::Null);
    let at = |time: &str| json!(format!("2033-05-01T{time}Z"));
    let steps = [
        (json!({}), none.clone()),
        (json!({ "max_per_reservation": 1 }), [json!(1), json!(null), json!(null), json!(null)]),
        (json!({ "max_per_customer": 10_000_000 }), [json!(1), json!(10_000_000), json!(null), json!(null)]),
        (
            json!({ "max_per_reservation": 10_000_000, "max_per_customer": 1e0 }),
            [json!(10_000_000), json!(1), json!(null), json!(null)],
        ),
        (
            json!({ "sales_end": "2033-05-01T12:00:00+02:00", "max_per_reservation": null }),
            [json!(null), json!(1), json!(null), at("10:00:00.000")],
        ),
        (
            json!({ "sales_start": "2033-05-01T09:59:59.9989Z" }),
            [json!(null), json!(1), at("09:59:59.998"), at("10:00:00.000")],
        ),
        (
            json!({ "sales_start": "2033-05-01T09:59:59.999Z", "max_per_customer": null }),
            [json!(null), json!(null), at("09:59:59.999"), at("10:00:00.000")],
        ),
        // Both move beyond the old window.
        (
            json!({ "sales_start": "2033-05-01T11:00:00Z", "sales_end": "2033-05-01T12:00:00Z" }),
            [json!(null), json!(null), at("11:00:00.000"), at("12:00:00.000")],
        ),
        (json!({ "sales_end": null }), [json!(null), json!(null), at("11:00:00.000"), json!(null)]),
        (json!({ "sales_start": null }), none.clone()),
    ];
    let event = event_with(&stage, 10, json!({}));
    let mut version = 1;
    let mut before = none.clone();
    for (changes, expected) in &steps {
        let edited = edit(&stage, event, changes.clone()).expect(200);
        assert_eq!(rules(&edited.json()), expected.each_ref(), "{changes}");
        version += u64::from(*expected != before);
        assert_eq!(edited.header("etag"), Some(&*format!("\"{version}\"")), "{changes}");
        assert_eq!(rules(&stage.seen(event)), expected.each_ref(), "{changes}");
        // A new event with all of this at once, null where there is nothing.
        let all: serde_json::Map<_, _> =
            MEMBERS.into_iter().map(str::to_owned).zip(expected.iter().cloned()).collect();
        let made = create(&stage, 10, all.into()).expect(201).json();
        assert_eq!(rules(&made), expected.each_ref());
        before = expected.clone();
    }
    // An edit of something else leaves them alone.
    edit(&stage, event, steps[5].0.clone()).expect(200);
    let edited = edit(&stage, event, json!({ "quota": 11, "venue": "Hall" })).expect(200).json();
    assert_eq!(edited["sales_start"], at("09:59:59.998"));
}

#[test]
fn wrong_limits_and_windows_are_refused_and_change_nothing() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let (early, late) = ("2033-05-01T10:00:00Z", "2033-05-01T10:00:00.001Z");
    let event = event_with(&stage, 10, json!({ "sales_start": early, "sales_end": late }));
    let before = stage.seen(event);
    let mut rows = vec![
        (json!({ "sales_start": late, "sales_end": early }), "/sales_end"),
        (json!({ "sales_start": early, "sales_end": early }), "/sales_end"),
        (json!({ "sales_start": early, "sales_end": "2033-05-01T11:59:00+02:00" }), "/sales_end"),
        (json!({ "sales_start": early, "sales_end": late, "max_per_customer": 0 }), "/max_per_customer"),
    ];
    for member in ["/max_per_reservation", "/max_per_customer"] {
        for value in [json!(0), json!(-1), json!(10_000_001), json!(1.5), json!("1"), json!([1]), json!(true)]
        {
            rows.push((json!({ (&member[1..]): value }), member));
        }
    }
    for member in ["/sales_start", "/sales_end"] {
        for value in [json!(0), json!(""), json!("2033-05-01"), json!("2033-05-01T10:00:00"), json!(true)] {
            rows.push((json!({ (&member[1..]): value }), member));
        }
    }
    for (members, pointer) in &rows {
        for answer in [create(&stage, 10, members.clone()), edit(&stage, event, members.clone())] {
            let problem = answer.problem(422, "invalid");
            assert_eq!(problem["errors"][0]["pointer"], *pointer, "{members}: {problem}");
            assert_eq!(problem["errors"].as_array().map(Vec::len), Some(1), "{members}: {problem}");
        }
    }
    // Only one of them is in the request; the other is the event's.
    for changes in [json!({ "sales_end": early }), json!({ "sales_start": late })] {
        let problem = edit(&stage, event, changes).problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], "/sales_end", "{problem}");
    }
    assert_eq!(stage.seen(event), before);
    // What is refused with the rest of the request is refused before what is sold is looked at.
    stage.org1.patch(&format!("/api/v1/events/{event}"), &json!({ "sales_end": null, "sales_start": null }));
    stage.reservation(event, 5);
    edit(&stage, event, json!({ "quota": 1, "sales_start": late, "sales_end": early }))
        .problem(422, "invalid");
    edit(&stage, event, json!({ "quota": 1, "max_per_customer": 1 })).problem(409, "quota-below-committed");
    assert_eq!(stage.seen(event)["max_per_customer"], Value::Null, "all or nothing");
}

#[test]
fn limits_hold_for_each_customer_of_an_event_also_after_a_kill() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let Stage { cust1, cust2, .. } = &stage;
    let event = event_with(&stage, 20, json!({ "max_per_reservation": 3, "max_per_customer": 5 }));
    let other = event_with(&stage, 20, json!({ "max_per_customer": 5 }));
    refused(cust1, event, 4, "reservation-limit", 3);
    // Above both.
    refused(cust1, event, 6, "reservation-limit", 3);
    reserve(cust1, other, 5);
    let first = reserve(cust1, event, 3);
    refused(cust1, event, 3, "customer-limit", 2);
    let second = reserve(cust1, event, 2);
    refused(cust1, event, 1, "customer-limit", 0);
    reserve(cust2, event, 3);

    // What is given back may be bought again, whoever gives it back.
    stage.admin.patch(&format!("/api/v1/reservations/{second}"), &json!({ "quantity": 1 })).expect(200);
    refused(cust1, event, 2, "customer-limit", 1);
    cancel(cust1, &first);
    cancel(cust1, &first);
    refused(cust1, event, 5, "reservation-limit", 3);
    reserve(cust1, event, 3);
    refused(cust1, event, 2, "customer-limit", 1);

    // Changed under sale. A customer with more keeps them.
    edit(&stage, event, json!({ "max_per_customer": 2 })).expect(200);
    refused(cust1, event, 1, "customer-limit", 0);
    assert_eq!(number(&stage.seen(event), "reserved"), 7);
    edit(&stage, event, json!({ "max_per_customer": 6, "max_per_reservation": 1 })).expect(200);
    refused(cust1, event, 2, "reservation-limit", 1);
    reserve(cust1, event, 1);
    edit(&stage, event, json!({ "max_per_customer": null })).expect(200);
    reserve(cust1, event, 1);
    edit(&stage, event, json!({ "max_per_customer": 7, "max_per_reservation": null })).expect(200);
    refused(cust1, event, 2, "customer-limit", 1);
    // A limit is looked at before what is left.
    edit(&stage, event, json!({ "quota": 9 })).expect(200);
    refused(cust1, event, 2, "customer-limit", 1);
    assert_eq!(number(&buy(cust1, event, 1).problem(409, "sold-out"), "remaining"), 0);
    edit(&stage, event, json!({ "quota": 20 })).expect(200);
    let before = stage.seen(event);

    let Stage { server, .. } = stage;
    server.kill();
    let stage = Stage::again(Server::start(data.path(), &["--demo", "--shards", "3"]));
    assert_eq!(stage.seen(event), before);
    refused(&stage.cust1, event, 2, "customer-limit", 1);
    refused(&stage.cust2, event, 5, "customer-limit", 4);
    refused(&stage.cust1, other, 1, "customer-limit", 0);
    reserve(&stage.cust1, event, 1);
    refused(&stage.cust1, event, 1, "customer-limit", 0);
    edit(&stage, event, json!({ "sales_end": "2020-01-01T00:00:00Z" })).expect(200);
    buy(&stage.cust1, event, 1).problem(403, "sales-closed");
    stage.org1.delete(&format!("/api/v1/events/{event}?force=true")).expect(204);
    buy(&stage.cust1, event, 1).problem(410, "event-deleted");
}

/// More reservations of one customer than are summed up each time.
#[test]
fn a_limit_holds_for_a_customer_with_many_reservations() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 1);
    let event = stage.event(1000);
    let own: Vec<String> = (0..100).map(|_| stage.reservation(event, 2)).collect();
    edit(&stage, event, json!({ "max_per_customer": 201 })).expect(200);
    refused(&stage.cust1, event, 2, "customer-limit", 1);
    cancel(&stage.cust1, &own[50]);
    refused(&stage.cust1, event, 4, "customer-limit", 3);
    stage.reservation(event, 3);
    refused(&stage.cust1, event, 1, "customer-limit", 0);
    stage.cust1.patch(&format!("/api/v1/reservations/{}", own[99]), &json!({ "quantity": 1 })).expect(200);
    refused(&stage.cust1, event, 2, "customer-limit", 1);
    let cancelled = own[..50].iter().chain(&own[51..]).map(String::as_str).collect::<Vec<_>>();
    stage.cust1.post("/api/v1/reservations/cancel", &json!({ "ids": cancelled })).expect(200);
    refused(&stage.cust1, event, 199, "customer-limit", 198);
    assert_eq!(number(&stage.seen(event), "reserved"), 3);
}

#[test]
fn an_event_is_on_sale_within_its_window() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let before =
        event_with(&stage, 10, json!({ "sales_start": "2133-01-01T00:00:00Z", "max_per_reservation": 1 }));
    // The window is looked at before the limits.
    let problem = buy(&stage.cust1, before, 2).problem(403, "sales-not-open");
    assert_eq!(text(&problem, "opens_at"), "2133-01-01T00:00:00.000Z");
    assert!(text(&problem, "detail").contains("2133-01-01T00:00:00.000Z"), "{problem}");
    let after =
        event_with(&stage, 10, json!({ "sales_end": "2001-01-01T00:00:00Z", "max_per_reservation": 1 }));
    buy(&stage.cust1, after, 2).problem(403, "sales-closed");

    // Each edit counts at once.
    edit(&stage, after, json!({ "sales_end": null })).expect(200);
    let own = reserve(&stage.cust1, after, 1);
    edit(&stage, after, json!({ "sales_start": "2133-01-01T00:00:00Z" })).expect(200);
    buy(&stage.cust1, after, 1).problem(403, "sales-not-open");
    edit(&stage, after, json!({ "sales_start": null, "sales_end": "2133-01-01T00:00:00Z" })).expect(200);
    let second = reserve(&stage.cust1, after, 1);
    edit(&stage, after, json!({ "sales_end": "2001-01-01T00:00:00Z" })).expect(200);
    buy(&stage.cust1, after, 1).problem(403, "sales-closed");
    // Giving back is always possible.
    cancel(&stage.cust1, &own);
    cancel(&stage.cust1, &second);
    assert_eq!(number(&stage.seen(after), "reserved"), 0);
}

/// The server's clock opens and closes a sale: no reservation has a time outside of the window.
#[test]
fn a_sale_opens_and_closes_by_the_clock() {
    const BUYERS: usize = 4;
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let (start, end) = (in_seconds(1.0), in_seconds(2.0));
    let event = event_with(&stage, 1_000_000, json!({ "sales_start": start, "sales_end": end }));
    let until = Instant::now() + Duration::from_secs(30);
    let buyer = || {
        let (mut early, mut sold) = (0, 0);
        loop {
            assert!(Instant::now() < until, "the sale does not end");
            let answer = buy(&stage.cust1, event, 1);
            match answer.status {
                201 => {
                    let at = answer.json();
                    let at = text(&at, "created_at");
                    assert!((&*start..&*end).contains(&at), "sold at {at}, on sale from {start} to {end}");
                    sold += 1;
                }
                _ if sold == 0 && answer.json()["type"] == "/problems/sales-not-open" => early += 1,
                _ => {
                    answer.problem(403, "sales-closed");
                    return (early, sold);
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
    };
    let counts: Vec<(u64, u64)> = thread::scope(|scope| {
        let buyers: Vec<_> = (0..BUYERS).map(|_| scope.spawn(buyer)).collect();
        buyers.into_iter().map(|buyer| buyer.join().unwrap()).collect()
    });
    let sold: u64 = counts.iter().map(|(_, sold)| sold).sum();
    assert_eq!(number(&stage.seen(event), "reserved"), sold);
    println!("refused before the start and sold, by buyer: {counts:?}");
}

/// The live tickets of cust1 at an event.
fn live_tickets(customer: &Client, event: u64) -> u64 {
    let own = all_items(customer, "/api/v1/reservations", 100);
    let live = own.iter().filter(|one| one["event"] == event && one["status"] == "confirmed");
    live.map(|one| number(one, "quantity")).sum()
}

/// Many connections of one customer, some of which give back, against a limit that changes.
#[test]
fn a_race_of_one_customer_stays_within_the_limit() {
    const BUYERS: usize = 12;
    const LIMITS: [u64; 4] = [20, 3, 11, 50];
    const EACH_LASTS: Duration = Duration::from_millis(150);
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = event_with(&stage, 100_000, json!({ "max_per_customer": LIMITS[3] }));
    let ends = AtomicBool::new(false);
    let buyer = |index: usize| {
        let mut random = Random::new(index as u64);
        let mut own = Vec::new();
        while !ends.load(Ordering::Relaxed) {
            let answer = buy(&stage.cust1, event, random.within(1, 4));
            match answer.status {
                201 => own.push(text(&answer.json(), "id").to_owned()),
                _ => {
                    let allowed = number(&answer.problem(409, "customer-limit"), "allowed");
                    assert!(allowed < 4, "{allowed} were allowed");
                    if let Some(reservation) = own.pop() {
                        cancel(&stage.cust1, &reservation);
                    }
                }
            }
        }
    };
    thread::scope(|scope| {
        let buyers: Vec<_> = (0..BUYERS).map(|index| scope.spawn(move || buyer(index))).collect();
        for limit in LIMITS.into_iter().cycle().take(2 * LIMITS.len()) {
            let until = Instant::now() + EACH_LASTS;
            let edited = edit(&stage, event, json!({ "max_per_customer": limit })).expect(200).json();
            // From the edit on, the customer has no more than the limit or than then.
            let most = number(&edited, "reserved").max(limit);
            while Instant::now() < until {
                let reserved = number(&stage.seen(event), "reserved");
                assert!(reserved <= most, "{reserved} of {most}");
            }
        }
        ends.store(true, Ordering::Relaxed);
        buyers.into_iter().for_each(|buyer| buyer.join().unwrap());
    });
    let reserved = number(&stage.seen(event), "reserved");
    assert_eq!(live_tickets(&stage.cust1, event), reserved);
    if reserved < 50 {
        refused(&stage.cust1, event, 51, "customer-limit", 50 - reserved);
        reserve(&stage.cust1, event, 50 - reserved);
    }
    refused(&stage.cust1, event, 1, "customer-limit", 0);
}

/// Kills a server while a customer buys over several connections. Afterwards the limit counts what was sold.
#[test]
fn a_limit_counts_what_was_sold_before_a_kill() {
    const ROUNDS: u64 = 5;
    const LIMIT: u64 = 40;
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    let mut random = Random::seeded();
    let mut stage = Stage::open(&data, 2);
    for round in 1..=ROUNDS {
        let limit = json!({ "max_per_customer": LIMIT, "sales_end": "2133-01-01T00:00:00Z" });
        let event = event_with(&stage, 1000, limit);
        let (acknowledged, unknown) =
            kill_while_buying(&stage, event, random.duration(Duration::from_millis(60)));
        stage = restart(stage, &data, 1 + round as usize % 3);
        let reserved = number(&stage.seen(event), "reserved");
        assert_eq!(live_tickets(&stage.cust1, event), reserved);
        assert!((acknowledged..=acknowledged + unknown).contains(&reserved), "{reserved}, {acknowledged}");
        assert!(reserved <= LIMIT, "{reserved} tickets");
        assert_eq!(stage.seen(event)["sales_end"], "2133-01-01T00:00:00.000Z");
        refused(&stage.cust1, event, LIMIT + 1, "customer-limit", LIMIT - reserved);
        if reserved < LIMIT {
            reserve(&stage.cust1, event, LIMIT - reserved);
        }
        refused(&stage.cust1, event, 1, "customer-limit", 0);
        println!("round {round}: {reserved} tickets, {acknowledged} of them acknowledged");
    }
}

/// Returns the tickets that were acknowledged, and those of requests without an answer.
fn kill_while_buying(stage: &Stage, event: u64, delay: Duration) -> (u64, u64) {
    const BUYERS: u64 = 8;
    let path = format!("/api/v1/events/{event}/reservations");
    let buyer = |index: u64| {
        let (mut acknowledged, quantity) = (0, 1 + index % 3);
        loop {
            match stage.cust1.try_post(&path, &json!({ "quantity": quantity })) {
                Ok(answer) if answer.status == 201 => acknowledged += quantity,
                Ok(answer) => {
                    answer.problem(409, "customer-limit");
                }
                Err(_) => return (acknowledged, quantity),
            }
        }
    };
    thread::scope(|scope| {
        let buyers: Vec<_> = (0..BUYERS).map(|index| scope.spawn(move || buyer(index))).collect();
        thread::sleep(delay);
        stage.server.signal(Signal::KILL);
        let sums = buyers.into_iter().map(|buyer| buyer.join().expect("it does not panic"));
        sums.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    })
}

fn restart(stage: Stage, data: &Path, shards: usize) -> Stage {
    stage.server.kill();
    Stage::again(Server::start(data, &["--demo", "--shards", &shards.to_string()]))
}
