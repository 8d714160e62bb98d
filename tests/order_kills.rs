//! Kills servers at random moments of single orders, and restarts them with other numbers of shards: each order is there
//! with all its parts, or not at all, and a retry with its key places it once.
//!
//! `BOXOFFICE_ORDER_KILLS` sets the number of kills.

mod support;

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::{Client, request};
use support::holds::tickets;
use support::keys::is_replayed;
use support::ledger::parts_of;
use support::random::{Random, rounds};
use support::server::Server;
use support::{Stage, TestFolder, all_items, create_event, text};

const SHARD_COUNTS: [&str; 4] = ["1", "2", "4", "3"];

/// The events of each order, which are in different slots.
const EVENTS: usize = 4;

/// The time within which the server is killed once the order was sent: some take longer, some are done.
const KILL_WITHIN: Duration = Duration::from_millis(20);

/// The most time that parts stay held for an order which is not there; on a busy machine, too.
const IN_DOUBT_MAX: Duration = Duration::from_secs(20);

/// How the orders ended that were under way at a kill.
#[derive(Debug, Default)]
struct Ends {
    answered: u64,
    placed_without_answer: u64,
    not_placed: u64,
    /// Starts after which tickets were held for an order in doubt when they were first read.
    in_doubt: u64,
}

/// Orders tickets of all events, and kills the server meanwhile. Returns the answer, if there was one.
fn order_and_kill(server: Server, bytes: &str, delay: Duration) -> Option<Value> {
    let mut wire = server.wire();
    wire.send(bytes).expect("the server reads");
    thread::sleep(delay);
    server.kill();
    let answer = wire.answer().ok().flatten();
    answer.map(|answer| answer.expect(201).json())
}

const QUOTA: u64 = 1_000_000;

/// Waits until the tickets of all events are those of so many confirmed orders and so many held ones.
fn wait_for_tickets(client: &Client, events: &[u64], confirmed: u64, held: u64, ends: &mut Ends) {
    let until = Instant::now() + IN_DOUBT_MAX;
    let quota = QUOTA - confirmed - held;
    let is_settled = || events.iter().all(|&event| tickets(client, event) == [confirmed, held, quota]);
    if !is_settled() {
        ends.in_doubt += 1;
    }
    while !is_settled() {
        let seen: Vec<_> = events.iter().map(|&event| tickets(client, event)).collect();
        assert!(Instant::now() < until, "not {confirmed} reserved and {held} held: {seen:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_order_that_is_cut_is_whole_or_not_there() {
    let kills = rounds("BOXOFFICE_ORDER_KILLS", 40);
    let folder = TestFolder::new();
    let data = folder.path("data");
    let mut random = Random::seeded();
    let Stage { mut server, cust1, org1, .. } = Stage::open(&data, 2);
    let [token, organizer] = [cust1, org1].map(|client| client.token.expect("logged in"));
    let organizer = server.client().with_token(&organizer);
    let events: Vec<u64> = (0..EVENTS).map(|_| create_event(&organizer, QUOTA)).collect();
    let items: Vec<Value> = events.iter().map(|event| json!({ "event": event, "quantity": 1 })).collect();
    let mut ends = Ends::default();
    let (mut confirmed, mut held) = (0, 0);
    for kill in 0..kills {
        let is_held = random.within(0, 1) == 0;
        let mut body = json!({ "items": items });
        if is_held {
            body["ttl_seconds"] = json!(1800);
        }
        let bytes = request(
            "POST",
            "/api/v1/orders",
            Some(&token),
            &format!("Idempotency-Key: k{kill}\r\n"),
            &body.to_string(),
        );
        let answered = order_and_kill(server, &bytes, random.duration(KILL_WITHIN));
        server = Server::start(&data, &["--shards", random.pick(&SHARD_COUNTS)]);
        let customer = server.client().with_token(&token);
        let orders = all_items(&customer, "/api/v1/orders", 100);
        let is_placed = orders.len() as u64 == confirmed + held + 1;
        assert!(is_placed || orders.len() as u64 == confirmed + held, "{} orders", orders.len());
        match &answered {
            Some(made) => {
                assert_eq!(orders.last(), Some(made), "an order that was acknowledged");
                ends.answered += 1;
            }
            None if is_placed => ends.placed_without_answer += 1,
            None => ends.not_placed += 1,
        }
        let now = u64::from(is_placed);
        let of_status = |is_held| if is_held { (confirmed, held + now) } else { (confirmed + now, held) };
        let (now_confirmed, now_held) = of_status(is_held);
        wait_for_tickets(&customer, &events, now_confirmed, now_held, &mut ends);
        // A retry has the first answer, or places the order now.
        let again = server.wire().ask(&bytes).expect(201);
        assert_eq!(is_replayed(&again), is_placed, "{again:?}");
        let again = again.json();
        if let Some(made) = &answered {
            assert_eq!(again, *made, "the first answer");
        }
        if is_held {
            held += 1
        } else {
            confirmed += 1
        }
        for event in &events {
            assert_eq!(tickets(&customer, *event), [confirmed, held, QUOTA - confirmed - held]);
        }
        let order = customer.get(&format!("/api/v1/orders/{}", text(&again, "id"))).expect(200).json();
        assert_eq!(order, again, "it is as it was answered");
        for part in parts_of(&order) {
            let path = format!("/api/v1/reservations/{}", text(part, "id"));
            let status = customer.get(&path).expect(200).json()["status"].clone();
            assert_eq!(status, if is_held { "held" } else { "confirmed" });
        }
    }
    println!("{kills} kills: {ends:?}, 0 failures");
    assert!(ends.not_placed + ends.placed_without_answer > 0, "all kills came too late");
}
