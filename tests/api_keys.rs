//! API keys of back ends: made, listed, used and ended; and what ends them.

mod support;

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use support::api_keys::{ApiKey, make_key};
use support::client::{Answer, Client, request};
use support::keys::{is_replayed, send};
use support::random::Random;
use support::server::Server;
use support::{PASSWORD, Stage, create_event, number, text};
use tempfile::tempdir;

const ANOTHER: &str = "another good password";

const ALL: [&str; 3] = ["events:read", "events:write", "sell"];

fn me(client: &Client) -> Answer {
    client.get("/api/v1/users/me")
}

fn id(client: &Client) -> u64 {
    number(&me(client).expect(200).json(), "id")
}

fn keys(organizer: &Client) -> Vec<Value> {
    organizer.get("/api/v1/keys").expect(200).json()["items"].as_array().expect("a list").clone()
}

fn ids(organizer: &Client) -> Vec<u64> {
    keys(organizer).iter().map(|key| number(key, "id")).collect()
}

/// Uses a key on several connections, and so on every core.
fn expect_everywhere(server: &Server, secret: &str, status: u16) {
    for _ in 0..12 {
        let answer = server.wire().ask(request("GET", "/api/v1/users/me", Some(secret), "", ""));
        assert_eq!(answer.status, status, "{answer:?}");
        if status == 401 {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
        }
    }
}

fn seconds_from_now(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is right").as_secs();
    let at = jiff::Timestamp::from_second((now + seconds) as i64).expect("before the year 9999");
    at.to_string()
}

#[test]
fn a_key_is_shown_once_used_and_ended() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 3);
    let org1 = &stage.org1;
    assert_eq!(keys(org1), Vec::<Value>::new());
    let body = json!({ "name": "Box office ☂", "scopes": ["sell", "events:read"], "expires_at": null });
    let answer = org1.post("/api/v1/keys", &body).expect(201);
    assert_eq!(answer.header("location"), Some("/api/v1/keys/1"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let mut made = answer.json();
    let secret = text(&made, "secret").to_owned();
    assert!(secret.starts_with(&format!("box_{}_1_", id(org1))), "{secret}");
    let created_at = made["created_at"].clone();
    let shown = json!({ "id": 1, "name": "Box office ☂", "scopes": ["events:read", "sell"], "secret": secret,
        "created_at": created_at, "expires_at": null, "last_used_at": null });
    assert_eq!(made, shown);
    made.as_object_mut().unwrap().remove("secret");
    assert_eq!(keys(org1), std::slice::from_ref(&made), "the secret is not shown again");

    // Who it is, also at the first sight of it.
    expect_everywhere(&stage.server, &secret, 200);
    let key = org1.with_token(&secret);
    assert_eq!(me(&key).json(), me(org1).json());
    let used = keys(org1).remove(0);
    let last_used_at = text(&used, "last_used_at");
    assert!(last_used_at.ends_with(":00.000Z"), "to the minute: {last_used_at}");
    assert_eq!(keys(&stage.org2), Vec::<Value>::new(), "keys are one's own");

    let other = make_key(org1, &ALL);
    stage.org2.delete("/api/v1/keys/1").problem(404, "not-found");
    org1.delete("/api/v1/keys/3").problem(404, "not-found");
    expect_everywhere(&stage.server, &secret, 200);
    for _ in 0..2 {
        org1.delete("/api/v1/keys/1").expect(204);
        expect_everywhere(&stage.server, &secret, 401);
    }
    assert_eq!(ids(org1), [other.id]);
    expect_everywhere(&stage.server, &other.secret, 200);
    assert_eq!(make_key(org1, &ALL).id, 3, "a number is not used twice");

    // After a restart, nothing is known of uses.
    let Stage { server, org1, .. } = stage;
    server.kill();
    let server = Server::start(data.path(), &["--shards", "2"]);
    let org1 = server.client().with_token(org1.token.as_ref().unwrap());
    let listed = keys(&org1);
    assert!(listed.len() == 2 && listed.iter().all(|key| key["last_used_at"].is_null()), "{listed:?}");
    expect_everywhere(&server, &secret, 401);
    expect_everywhere(&server, &other.secret, 200);
    assert!(keys(&org1)[0]["last_used_at"].is_string());
}

#[test]
fn a_scope_is_needed_and_is_not_more_than_the_organizer_may() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let (event, others) = (stage.event(10), create_event(&stage.org2, 10));
    let reader = make_key(&stage.org1, &["events:read"]).client;
    let writer = make_key(&stage.org1, &["events:write"]).client;
    for _ in 0..3 {
        let refused =
            writer.get(&format!("/api/v1/events/{event}/reservations")).problem(403, "missing-scope");
        assert_eq!(refused["scope"], "events:read");
        let made = reader.post("/api/v1/events", &json!({ "name": "A", "quota": 1 }));
        assert_eq!(made.problem(403, "missing-scope")["scope"], "events:write");
        reader.get(&format!("/api/v1/events/{event}/reservations")).expect(200);
        reader.get(&format!("/api/v1/events/{others}/reservations")).problem(403, "not-yours");
        writer.patch(&format!("/api/v1/events/{others}"), &json!({ "quota": 5 })).problem(403, "not-yours");
        // Neither accounts nor keys.
        for client in [&reader, &writer] {
            client.get("/api/v1/users").problem(403, "forbidden");
            client.get("/api/v1/keys").problem(403, "forbidden");
            client
                .post("/api/v1/keys", &json!({ "name": "A", "scopes": ["sell"] }))
                .problem(403, "forbidden");
            client.delete("/api/v1/keys/1").problem(403, "forbidden");
            client.delete("/api/v1/sessions").problem(403, "forbidden");
            let change = json!({ "current": PASSWORD, "new": ANOTHER });
            client.put("/api/v1/users/me/password", &change).problem(403, "forbidden");
        }
    }
    let csv =
        reader.send("GET", &format!("/api/v1/events/{event}/reservations"), &[("accept", "text/csv")], "");
    assert_eq!(csv.expect(200).text().lines().count(), 1, "the header of a list that is streamed");
    let mine = writer.post("/api/v1/events", &json!({ "name": "A", "quota": 1 })).expect(201).json();
    assert_eq!(number(&mine, "organizer"), id(&stage.org1));
}

/// Every change names the key that made it, over a restart, too; one without a key names none.
#[test]
fn the_history_tells_which_key_acted() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 3);
    let org1 = &stage.org1;
    let (first, second) = (make_key(org1, &ALL), make_key(org1, &ALL));
    let body = json!({ "name": "A", "quota": 30 });
    let event = number(&first.client.post("/api/v1/events", &body).expect(201).json(), "id");
    let other =
        number(&send(&second.client, "/api/v1/events", "k-1", &body.to_string()).expect(201).json(), "id");
    let [sales, holds] = ["reservations", "holds"].map(|what| format!("/api/v1/events/{event}/{what}"));
    let sale = json!({ "quantity": 2, "customer_ref": "c-7" });
    let sell = |client: &Client| text(&client.post(&sales, &sale).expect(201).json(), "id").to_owned();
    let hold = |client: &Client| text(&client.post(&holds, &sale).expect(201).json(), "id").to_owned();
    let (sold, by_token) = (sell(&second.client), sell(org1));
    let to = json!({ "to": { "customer_ref": "c-8" }, "quantity": 1 });
    first.client.post(&format!("/api/v1/reservations/{sold}/transfer"), &to).expect(201);
    second.client.patch(&format!("/api/v1/reservations/{by_token}"), &json!({ "quantity": 1 })).expect(200);
    org1.delete(&format!("/api/v1/reservations/{by_token}")).expect(204);
    first.client.delete(&format!("/api/v1/reservations/{sold}")).expect(204);
    let held = hold(&first.client);
    second.client.post(&format!("/api/v1/holds/{held}/confirm"), &json!({})).expect(200);
    let given_up = hold(org1);
    first.client.delete(&format!("/api/v1/holds/{given_up}")).expect(204);
    second.client.patch(&format!("/api/v1/events/{event}"), &json!({ "quota": 40 })).expect(200);
    let items = json!([{ "event": event, "quantity": 1 }, { "event": other, "quantity": 1 }]);
    let order = json!({ "items": items, "customer_ref": "c-9" });
    let order = text(&second.client.post("/api/v1/orders", &order).expect(201).json(), "id").to_owned();
    first.client.delete(&format!("/api/v1/orders/{order}")).expect(204);
    first.client.delete(&format!("/api/v1/events/{event}?force=true")).expect(204);

    let expected = json!([
        ["event_created", 1],
        ["reserved", 2],
        ["reserved", null],
        ["transferred", 1],
        ["reduced", 2],
        ["cancelled", null],
        ["cancelled", 1],
        ["held", 1],
        ["confirmed", 2],
        ["held", null],
        ["released", 1],
        ["event_edited", 2],
        ["part_prepared", 2],
        ["part_settled", 2],
        ["part_settled", 1],
        ["event_deleted", 1],
    ]);
    let org = id(org1);
    let history = |client: &Client, event: u64| -> Value {
        let page = client.get(&format!("/api/v1/events/{event}/changes")).expect(200).json();
        let changes = page["items"].as_array().expect("a list");
        assert!(changes.iter().all(|change| number(change, "by") == org), "{changes:?}");
        changes.iter().map(|change| json!([change["kind"], change["api_key"]])).collect()
    };
    assert_eq!(history(org1, event), expected);
    let of_other =
        json!([["event_created", 2], ["part_prepared", 2], ["part_settled", 2], ["part_settled", 1]]);
    assert_eq!(history(org1, other), of_other);
    let Stage { server, org1, .. } = stage;
    server.kill();
    let server = Server::start(data.path(), &["--shards", "2"]);
    let org1 = server.client().with_token(org1.token.as_ref().unwrap());
    assert_eq!(history(&org1, event), expected);
    assert_eq!(history(&org1, other), of_other);
}

/// A request that was sent with a token is the same when it is sent again with a key.
#[test]
fn idempotency_keys_are_the_organizers() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let body = r#"{"name":"Once","quota":3}"#;
    let first = send(&stage.org1, "/api/v1/events", "k-1", body).expect(201);
    for _ in 0..2 {
        let again = send(&make_key(&stage.org1, &["events:write"]).client, "/api/v1/events", "k-1", body);
        assert!(is_replayed(&again));
        assert_eq!(again.text(), first.text());
    }
    let others = send(&make_key(&stage.org2, &["events:write"]).client, "/api/v1/events", "k-1", body);
    assert!(!is_replayed(&others.expect(201)));
}

#[test]
fn nonsense_is_no_key() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let key = make_key(&stage.org1, &ALL);
    let swapped =
        key.secret.replacen(&format!("box_{}_", id(&stage.org1)), &format!("box_{}_", id(&stage.org2)), 1);
    let (whole, short) = (format!("{}0", key.secret), &key.secret[..key.secret.len() - 1]);
    let upper = key.secret.to_uppercase();
    for token in [&*swapped, &whole, short, &upper, "box_", "box_1_1_", "box_2_1_é"] {
        expect_everywhere(&stage.server, token, 401);
    }
    // Of the right form: another server's key of the same organizer and number.
    let elsewhere = tempdir().unwrap();
    let other = Stage::open(elsewhere.path(), 1);
    let theirs = make_key(&other.org1, &ALL);
    assert_eq!(theirs.secret[..8], key.secret[..8], "the same organizer and number");
    expect_everywhere(&stage.server, &theirs.secret, 401);
    expect_everywhere(&stage.server, &key.secret, 200);
}

#[test]
fn a_key_ends_at_its_time() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let body = json!({ "name": "For a while", "scopes": ["sell"], "expires_at": seconds_from_now(5) });
    let begun = Instant::now();
    let made = stage.org1.post("/api/v1/keys", &body).expect(201).json();
    let secret = text(&made, "secret");
    // It ends with the second before its end, which is a whole one.
    let is_before = || begun.elapsed() < Duration::from_secs(3);
    loop {
        let status = me(&stage.org1.with_token(secret)).status;
        assert!(status == 401 && !is_before() || status == 200, "{status} after {:?}", begun.elapsed());
        if status == 401 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not end");
        thread::sleep(Duration::from_millis(50));
    }
    expect_everywhere(&stage.server, secret, 401);
    assert_eq!(ids(&stage.org1), [1], "it is listed until it is ended");
    for expires_at in [json!("2020-01-01T00:00:00Z"), json!("tomorrow"), json!(1)] {
        let body = json!({ "name": "A", "scopes": ["sell"], "expires_at": expires_at });
        let refused = stage.org1.post("/api/v1/keys", &body).problem(422, "invalid");
        assert_eq!(refused["errors"][0]["pointer"], "/expires_at");
    }
}

#[test]
fn a_change_of_the_account_ends_its_keys_and_a_log_out_does_not() {
    let data = tempdir().unwrap();
    let Stage { mut server, admin, anyone, .. } = Stage::open(data.path(), 2);
    let names = ["ada", "bob", "cat", "dan", "eve"];
    let organizers = names.map(|name| anyone.sign_up(name, "organizer"));
    let made: Vec<ApiKey> = organizers.iter().map(|organizer| make_key(organizer, &ALL)).collect();
    made.iter().for_each(|key| expect_everywhere(&server, &key.secret, 200));
    let address = |client: &Client| format!("/api/v1/users/{}", id(client));
    let [ada, bob, cat, dan, eve] = &organizers;
    let (bob_at, cat_at, dan_at) = (address(bob), address(cat), address(dan));
    ada.put("/api/v1/users/me/password", &json!({ "current": PASSWORD, "new": ANOTHER })).expect(204);
    admin.put(&format!("{bob_at}/password"), &json!({ "new": ANOTHER })).expect(204);
    admin.patch(&cat_at, &json!({ "role": "customer" })).expect(200);
    admin.patch(&cat_at, &json!({ "role": "organizer" })).expect(200);
    admin.delete(&dan_at).expect(204);
    eve.delete("/api/v1/sessions").expect(204);
    me(eve).problem(401, "unauthorized");
    for shards in ["3", "1"] {
        for (key, status) in made.iter().zip([401, 401, 401, 401, 200]) {
            expect_everywhere(&server, &key.secret, status);
        }
        server.kill();
        server = Server::start(data.path(), &["--shards", shards]);
    }
    // They are neither listed nor counted any more.
    let anyone = server.client();
    for (name, password) in [("ada", ANOTHER), ("bob", ANOTHER), ("cat", PASSWORD)] {
        let organizer = anyone.log_in(name, password);
        assert_eq!(ids(&organizer), Vec::<u64>::new());
        assert_eq!(make_key(&organizer, &ALL).id, 2);
        organizer.delete("/api/v1/keys/1").expect(204);
    }
    assert_eq!(ids(&anyone.log_in("eve", PASSWORD)), [1]);
}

#[test]
fn an_organizer_has_a_hundred_keys_at_most() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let org1 = &stage.org1;
    let made: Vec<ApiKey> = (0..100).map(|_| make_key(org1, &["sell"])).collect();
    let body = json!({ "name": "One more", "scopes": ["sell"] });
    let refused = org1.post("/api/v1/keys", &body);
    assert_eq!(refused.header("retry-after"), Some("3600"));
    assert_eq!(refused.problem(429, "account-limit")["limit"], "api_keys");
    make_key(&stage.org2, &["sell"]);
    org1.delete(&format!("/api/v1/keys/{}", made[50].id)).expect(204);
    assert_eq!(make_key(org1, &["sell"]).id, 101);
    org1.post("/api/v1/keys", &body).problem(429, "account-limit");
    // Those that ended with the password make room.
    org1.put("/api/v1/users/me/password", &json!({ "current": PASSWORD, "new": ANOTHER })).expect(204);
    let org1 = stage.anyone.log_in("org1", ANOTHER);
    assert_eq!(make_key(&org1, &["sell"]).id, 102);
    assert_eq!(ids(&org1), [102]);
    expect_everywhere(&stage.server, &made[0].secret, 401);
}

#[test]
fn secrets_are_in_no_file_log_or_page() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let key = make_key(&stage.org1, &ALL);
    expect_everywhere(&stage.server, &key.secret, 200);
    let bad = format!("{}x", key.secret);
    let refused = stage.anyone.with_token(&bad).get("/api/v1/users/me");
    let secret = &key.secret[key.secret.rfind('_').unwrap() + 1..];
    assert!(secret.len() == 28 && !refused.text().contains(secret));
    let pages = [stage.anyone.get("/metrics").text().to_owned(), stage.server.stderr()];
    assert!(pages.iter().all(|page| !page.is_empty() && !page.contains(secret)));
    let (status, log) = stage.server.terminate();
    assert!(status.success() && log.contains("an API key was made") && !log.contains(secret), "{log}");
    for entry in fs::read_dir(data.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        let random = &secret.as_bytes()[..22];
        assert!(!bytes.windows(random.len()).any(|window| window == random), "a file has the secret");
    }
}

/// While clients use keys on all cores, some of them for the first time there, the keys end.
#[test]
fn no_key_outlives_the_answer_that_ended_it() {
    const CLIENTS: usize = 6;
    let rounds: usize = std::env::var("BOXOFFICE_REVOCATIONS").map_or(12, |rounds| rounds.parse().unwrap());
    let data = tempdir().unwrap();
    let Stage { server, admin, anyone, .. } = Stage::open(data.path(), 4);
    let user = id(&anyone.sign_up("ada", "organizer"));
    let (mut organizer, mut password) = (anyone.log_in("ada", PASSWORD), PASSWORD);
    let mut random = Random::seeded();
    let mut taken = 0;
    for round in 0..rounds {
        let made: Vec<ApiKey> = (0..8).map(|_| make_key(&organizer, &["sell"])).collect();
        let ends_all = round % 2 == 0;
        let (ended, progress) = (AtomicBool::new(false), AtomicUsize::new(0));
        let wait = random.within(1, 200) as usize;
        let seeds: Vec<u64> = (0..CLIENTS).map(|_| random.within(0, u64::from(u32::MAX))).collect();
        thread::scope(|scope| {
            let clients: Vec<_> = seeds
                .iter()
                .map(|&seed| {
                    let (made, ended, progress, server) = (&made, &ended, &progress, &server);
                    scope.spawn(move || {
                        let mut wire = server.wire();
                        let mut ask = |key: &ApiKey| {
                            wire.ask(request("GET", "/api/v1/users/me", Some(&key.secret), "", "")).status
                        };
                        // The flag is read before each request is sent.
                        for turn in 0.. {
                            if ended.load(Ordering::SeqCst) {
                                break;
                            }
                            let status = ask(&made[(seed as usize + turn * turn) % made.len()]);
                            assert!(status == 200 || status == 401, "{status}");
                            progress.fetch_add(usize::from(status == 200), Ordering::Relaxed);
                        }
                        for (index, key) in made.iter().enumerate() {
                            let expected = if ends_all || index == 0 { 401 } else { 200 };
                            assert_eq!(ask(key), expected, "round {round}, key {index}");
                        }
                    })
                })
                .collect();
            while progress.load(Ordering::Relaxed) < wait && !clients.iter().any(|one| one.is_finished()) {
                thread::yield_now();
            }
            if ends_all {
                let new = if password == PASSWORD { ANOTHER } else { PASSWORD };
                match round % 4 {
                    0 => {
                        let change = json!({ "current": password, "new": new });
                        organizer.put("/api/v1/users/me/password", &change).expect(204);
                    }
                    _ => {
                        let address = format!("/api/v1/users/{user}/password");
                        admin.put(&address, &json!({ "new": new })).expect(204);
                    }
                }
                password = new;
            } else {
                organizer.delete(&format!("/api/v1/keys/{}", made[0].id)).expect(204);
            }
            ended.store(true, Ordering::SeqCst);
        });
        taken += progress.load(Ordering::Relaxed);
        if ends_all {
            organizer = anyone.log_in("ada", password);
        } else {
            for key in &made[1..] {
                organizer.delete(&format!("/api/v1/keys/{}", key.id)).expect(204);
            }
        }
    }
    assert!(taken > rounds, "the keys were hardly used: {taken}");
}
