//! Accounts: administration, revocation of tokens, and limits on password guesses.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::{Answer, Client, Wire, request};
use support::random::Random;
use support::server::{Server, run, serve};
use support::tokens::{parts, token};
use support::{PASSWORD, Stage, all_items, check_sums, create_event, metrics_once, number, reserve, text};
use tempfile::tempdir;

const ANOTHER: &str = "another good password";

fn me(client: &Client) -> Answer {
    client.get("/api/v1/users/me")
}

fn id(client: &Client) -> u64 {
    number(&me(client).expect(200).json(), "id")
}

fn change_password(client: &Client, current: &str, new: &str) -> Answer {
    client.put("/api/v1/users/me/password", &json!({ "current": current, "new": new }))
}

fn log_in(client: &Client, username: &str, password: &str) -> Answer {
    client.post("/api/v1/sessions", &json!({ "username": username, "password": password }))
}

#[test]
fn admins_manage_accounts() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let admin = &stage.admin;
    let address = |id: u64| format!("/api/v1/users/{id}");
    for number in 0..20 {
        stage.anyone.sign_up(&format!("guest-{number}"), "customer");
    }
    let everyone = all_items(admin, "/api/v1/users", 100);
    assert_eq!(everyone.len(), 26);
    assert!(everyone.is_sorted_by_key(|user| number(user, "id")));
    let members = ["id", "username", "role"];
    assert!(everyone.iter().all(|user| {
        user.as_object().is_some_and(|user| user.keys().all(|name| members.contains(&name.as_str())))
    }));
    for limit in [1, 7, 26] {
        assert_eq!(all_items(admin, "/api/v1/users", limit), everyone, "limit {limit}");
    }
    admin.get("/api/v1/users?after=x").problem(422, "invalid");

    // A changed role ends the account's tokens.
    let guest = stage.anyone.log_in("guest-3", PASSWORD);
    let guest_id = id(&guest);
    let changed = admin.patch(&address(guest_id), &json!({ "role": "organizer" })).expect(200).json();
    assert_eq!(changed, json!({ "id": guest_id, "username": "guest-3", "role": "organizer" }));
    me(&guest).problem(401, "unauthorized");
    let guest = stage.anyone.log_in("guest-3", PASSWORD);
    create_event(&guest, 5);
    admin.patch(&address(guest_id), &json!({ "role": "organizer" })).expect(200);
    me(&guest).expect(200);
    for (body, pointer) in [
        (json!({}), "/role"),
        (json!({ "role": "root" }), "/role"),
        (json!({ "role": null }), "/role"),
        (json!({ "role": "admin", "id": 1 }), "/id"),
        (json!({ "role": "admin", "username": "x" }), "/username"),
    ] {
        let problem = admin.patch(&address(guest_id), &body).problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }

    // Removal: the reservation and the name stay.
    let event = stage.event(10);
    let leaver = stage.anyone.log_in("guest-4", PASSWORD);
    let reservation = reserve(&leaver, event, 2);
    let leaver_id = id(&leaver);
    admin.delete(&address(leaver_id)).expect(204);
    me(&leaver).problem(401, "unauthorized");
    log_in(&stage.anyone, "guest-4", PASSWORD).problem(401, "wrong-credentials");
    let again = json!({ "username": "Guest-4", "password": PASSWORD });
    stage.anyone.post("/api/v1/users", &again).problem(409, "username-taken");
    assert_eq!(number(&stage.seen(event), "reserved"), 2);
    let seen = admin.get(&format!("/api/v1/reservations/{reservation}")).expect(200).json();
    assert_eq!((&seen["status"], number(&seen, "customer")), (&json!("confirmed"), leaver_id));
    let listed = all_items(admin, "/api/v1/users", 10);
    assert!(listed.len() == 25 && listed.iter().all(|user| number(user, "id") != leaver_id));
    admin.delete(&address(leaver_id)).expect(204);
    admin.patch(&address(leaver_id), &json!({ "role": "organizer" })).problem(404, "not-found");
    for unknown in ["999999", "0", "01", "-1", "guest-5", "1-1", "4294967296"] {
        admin.delete(&format!("/api/v1/users/{unknown}")).problem(404, "not-found");
        admin
            .patch(&format!("/api/v1/users/{unknown}"), &json!({ "role": "customer" }))
            .problem(404, "not-found");
    }

    // The last admin stays; one of two may go.
    let admin_id = id(admin);
    admin.patch(&address(admin_id), &json!({ "role": "customer" })).problem(409, "last-admin");
    admin.delete(&address(admin_id)).problem(409, "last-admin");
    admin.patch(&address(admin_id), &json!({ "role": "admin" })).expect(200);
    admin.patch(&address(guest_id), &json!({ "role": "admin" })).expect(200);
    let second = stage.anyone.log_in("guest-3", PASSWORD);
    admin.delete(&address(admin_id)).expect(204);
    me(admin).problem(401, "unauthorized");
    second.delete(&address(guest_id)).problem(409, "last-admin");
    assert_eq!(all_items(&second, "/api/v1/users", 100).len(), 24);
    metrics_once(&stage.anyone, &["boxoffice_accounts 24"]);
}

/// When two admins remove or demote each other at the same time, one remains.
#[test]
fn two_admins_cannot_remove_each_other() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let mut refused = 0;
    for round in 0..20 {
        // The names vary, so that the accounts are on both shards.
        let names = [format!("one-{round}"), format!("two-{round}")];
        let (root, root_id) = match round {
            0 => (stage.admin.clone(), id(&stage.admin)),
            _ => {
                let root = stage.anyone.log_in(&format!("root-{round}"), PASSWORD);
                let root_id = id(&root);
                (root, root_id)
            }
        };
        let admins = names.map(|name| {
            let account = id(&stage.anyone.sign_up(&name, "customer"));
            root.patch(&format!("/api/v1/users/{account}"), &json!({ "role": "admin" })).expect(200);
            (stage.anyone.log_in(&name, PASSWORD), account)
        });
        admins[0].0.delete(&format!("/api/v1/users/{root_id}")).expect(204);
        let [one, two] = &admins;
        let statuses = thread::scope(|scope| {
            let ends = [(one, two), (two, one)].map(|((actor, _), (_, target))| {
                scope.spawn(move || match round % 2 {
                    0 => actor.delete(&format!("/api/v1/users/{target}")).status,
                    _ => {
                        let demoted = json!({ "role": "customer" });
                        actor.patch(&format!("/api/v1/users/{target}"), &demoted).status
                    }
                })
            });
            ends.map(|end| end.join().unwrap())
        });
        let done = statuses.iter().filter(|&&status| status == 204 || status == 200).count();
        assert!(done == 1 && statuses.iter().any(|status| [401, 409].contains(status)), "{statuses:?}");
        refused += usize::from(statuses.contains(&409));
        let left = admins.iter().find(|(admin, _)| me(admin).status == 200).expect("one is left");
        let next = id(&stage.anyone.sign_up(&format!("root-{}", round + 1), "customer"));
        left.0.patch(&format!("/api/v1/users/{next}"), &json!({ "role": "admin" })).expect(200);
        let next = stage.anyone.log_in(&format!("root-{}", round + 1), PASSWORD);
        next.delete(&format!("/api/v1/users/{}", left.1)).expect(204);
    }
    println!("in {refused} of 20 rounds the second was refused as the last admin, else its token had ended");
}

#[test]
fn a_password_change_needs_the_current_password() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path(), &["--shards", "2"]);
    let anyone = server.client();
    let ada = anyone.sign_up("ada.lovelace", "customer");
    let other = anyone.log_in("ada.lovelace", PASSWORD);
    for (body, pointer) in [
        (json!({}), "/current"),
        (json!({ "current": PASSWORD }), "/new"),
        (json!({ "current": 1, "new": ANOTHER }), "/current"),
        (json!({ "current": PASSWORD, "new": "short" }), "/new"),
        (json!({ "current": PASSWORD, "new": "x".repeat(129) }), "/new"),
        (json!({ "current": PASSWORD, "new": "Password1" }), "/new"),
        (json!({ "current": PASSWORD, "new": "ADA.lovelace" }), "/new"),
        (json!({ "current": PASSWORD, "new": ANOTHER, "username": "x" }), "/username"),
    ] {
        let problem = ada.put("/api/v1/users/me/password", &body).problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    change_password(&ada, "a wrong password", ANOTHER).problem(401, "wrong-credentials");
    change_password(&ada, &"x".repeat(1000), ANOTHER).problem(401, "wrong-credentials");
    anyone.put("/api/v1/users/me/password", &json!({})).problem(401, "unauthorized");
    me(&ada).expect(200);

    change_password(&ada, PASSWORD, ANOTHER).expect(204);
    for ended in [&ada, &other] {
        me(ended).problem(401, "unauthorized");
        // An optional token is checked if the response depends on it.
        ended.get("/api/v1/events?organizer=me").problem(401, "unauthorized");
        ended.get("/api/v1/events").expect(200);
        change_password(ended, ANOTHER, PASSWORD).problem(401, "unauthorized");
    }
    log_in(&anyone, "ada.lovelace", PASSWORD).problem(401, "wrong-credentials");
    me(&anyone.log_in("ada.lovelace", ANOTHER)).expect(200);

    // Of concurrent changes, one succeeds: for the others the current password is no longer right.
    let ada = anyone.log_in("ada.lovelace", ANOTHER);
    let statuses = thread::scope(|scope| {
        let changes: Vec<_> = (0..4)
            .map(|number| {
                let ada = &ada;
                scope.spawn(move || change_password(ada, ANOTHER, &format!("{ANOTHER} {number}")).status)
            })
            .collect();
        changes.into_iter().map(|change| change.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(statuses.iter().filter(|&&status| status == 204).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [204, 401].contains(status)), "{statuses:?}");
    let winner = statuses.iter().position(|&status| status == 204).unwrap();
    anyone.log_in("ada.lovelace", &format!("{ANOTHER} {winner}"));

    // New accounts cannot have common passwords either.
    for password in ["password", "iloveyou", "qwertyuiop", "grace.hopper", "GRACE.hopper"] {
        let body = json!({ "username": "grace.hopper", "password": password });
        let problem = anyone.post("/api/v1/users", &body).problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], "/password");
    }
    let mut command = support::server::boxoffice();
    let other = tempdir().unwrap();
    command.args(["admin", "create", "--username", "root", "--data"]).arg(other.path());
    let refused = run(command, "password1\n");
    assert!(refused.code == Some(1) && refused.stderr.contains("most common"), "{refused:?}");
}

/// Sets a flag on drop, also after a panic, so that the threads that poll the flag end.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

const SECRET: &str = "a secret that the test knows: 32+";

/// A pipelined request that waits until its client reads earlier responses is authenticated when it
/// begins, not when its bytes arrive.
#[test]
fn a_revoked_token_is_refused_for_pipelined_requests() {
    let stage = Stage::on(Server::start(
        std::path::Path::new("."),
        &["--demo", "--storage", "memory", "--shards", "1", "--stall-timeout", "60"],
    ));
    let mut waited = 0;
    // The number of responses that the kernel buffers varies, so several are tried.
    for answers in 1..=4 {
        let event = stage.event(10);
        let customer = stage.anyone.sign_up(&format!("waits-{answers}"), "customer");
        let token = customer.token.as_deref();
        let mut wire =
            Wire::with_small_receive_buffer(stage.server.address).expect("the server takes a connection");
        wire.ask(request("GET", "/api/v1/users/me", token, "", "")).expect(200);
        let large = request("GET", "/docs/swagger-ui-bundle.js", None, "", "").repeat(answers);
        let path = format!("/api/v1/events/{event}/reservations");
        wire.send(large + &request("POST", &path, token, "", "{\"quantity\":1}"))
            .expect("the kernel takes it");
        thread::sleep(Duration::from_millis(300));
        let change = json!({ "current": PASSWORD, "new": "another good one" });
        customer.put("/api/v1/users/me/password", &change).expect(204);
        let sold = number(&stage.seen(event), "reserved");
        for _ in 0..answers {
            wire.next().expect(200);
        }
        wire.next().expect(if sold == 1 { 201 } else { 401 });
        assert_eq!(number(&stage.seen(event), "reserved"), sold, "sold after {answers} with a revoked token");
        waited += 1 - sold;
    }
    assert!(waited > 0, "no request had to wait");
}

/// Many clients use tokens of an account on all cores while a change revokes them. After the change
/// is answered, no request with an earlier token may be accepted.
///
/// Three of four requests have a new token, so that token checks are in flight during the change;
/// their results must not be cached.
#[test]
fn no_token_outlives_the_answer_that_ended_it() {
    const CLIENTS: usize = 8;
    /// The number of tokens per client that are tried again afterwards. The newest are those that
    /// may have been in flight.
    const NEWEST: usize = 40;
    let rounds: usize = std::env::var("BOXOFFICE_REVOCATIONS").map_or(40, |rounds| rounds.parse().unwrap());
    let data = tempdir().unwrap();
    let mut command = serve(data.path());
    command.args(["--demo", "--shards", "4"]).env("BOXOFFICE_TOKEN_SECRET", SECRET);
    let server = Server::spawn(command);
    let anyone = server.client();
    anyone.get("/api/v1/pop").expect(200);
    let admin = anyone.log_in("admin", PASSWORD);
    let mut random = Random::seeded();
    let (mut taken, mut refused) = (0, 0);
    for round in 0..rounds {
        let username = format!("user-{}", round / 5);
        let user = match round % 5 {
            0 => anyone.sign_up(&username, "customer"),
            1 => anyone.log_in(&username, PASSWORD),
            _ => anyone.log_in(&username, ANOTHER),
        };
        let address = format!("/api/v1/users/{}", id(&user));
        let (header, claims, _) = parts(user.token.as_ref().unwrap());
        let fresh = |client: usize, number: usize| {
            let mut claims = claims.clone();
            claims["jti"] = json!(format!("{client}-{number}"));
            token(SECRET.as_bytes(), &header, &claims.to_string())
        };
        let ended = AtomicBool::new(false);
        let progress = AtomicUsize::new(0);
        let wait = random.within(20, 400) as usize;
        let counts = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    let (fresh, ended, progress, server) = (&fresh, &ended, &progress, &server);
                    scope.spawn(move || {
                        let mut wire = server.wire();
                        let mut ask = |token: &str| {
                            wire.ask(request("GET", "/api/v1/users/me", Some(token), "", "")).status
                        };
                        let (mut taken, mut refused) = (0, 0);
                        let mut tokens: Vec<String> = Vec::new();
                        // The flag is read before each request is sent.
                        while !ended.load(Ordering::SeqCst) {
                            if taken % 4 != 3 {
                                tokens.push(fresh(client, tokens.len()));
                            }
                            match ask(tokens.last().unwrap()) {
                                200 => taken += 1,
                                401 => refused += 1,
                                other => panic!("{other}"),
                            }
                            progress.fetch_add(1, Ordering::Relaxed);
                        }
                        for token in tokens.iter().rev().take(NEWEST) {
                            assert_eq!(ask(token), 401, "round {round}: a revoked token was accepted");
                        }
                        assert_eq!(
                            ask(&fresh(client, tokens.len())),
                            401,
                            "round {round}: a new token of the old version was accepted"
                        );
                        (taken, refused)
                    })
                })
                .collect();
            let raise = SetOnDrop(&ended);
            while progress.load(Ordering::Relaxed) < wait && !clients.iter().any(|one| one.is_finished()) {
                thread::yield_now();
            }
            match round % 5 {
                0 => admin.patch(&address, &json!({ "role": "organizer" })).expect(200),
                1 => change_password(&user, PASSWORD, ANOTHER).expect(204),
                2 => admin.patch(&address, &json!({ "role": "admin" })).expect(200),
                3 => user.patch(&address, &json!({ "role": "customer" })).expect(200),
                _ => admin.delete(&address).expect(204),
            };
            drop(raise);
            clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
        });
        taken += counts.iter().map(|(taken, _)| taken).sum::<usize>();
        refused += counts.iter().map(|(_, refused)| refused).sum::<usize>();
    }
    println!("{rounds} rounds: {taken} requests accepted before, {refused} refused at the change");
    assert!(taken > rounds * 20, "the tokens were hardly used: {taken}");
}

#[test]
fn revocations_survive_a_kill() {
    let folder = tempdir().unwrap();
    let data = folder.path();
    let stage = Stage::open(data, 2);
    let people = ["ada", "bob", "cat", "dan"].map(|name| stage.anyone.sign_up(name, "customer"));
    let [ada, bob, cat, dan] = &people;
    people.iter().for_each(|client| drop(me(client).expect(200)));
    let address = |client: &Client| format!("/api/v1/users/{}", id(client));
    let (bob_address, cat_address) = (address(bob), address(cat));
    change_password(ada, PASSWORD, ANOTHER).expect(204);
    stage.admin.patch(&bob_address, &json!({ "role": "organizer" })).expect(200);
    stage.admin.delete(&cat_address).expect(204);
    let Stage { server, admin, .. } = stage;
    server.kill();
    for shards in ["2", "3", "1"] {
        let server = Server::start(data, &["--shards", shards]);
        let with = |client: &Client| server.client().with_token(client.token.as_ref().unwrap());
        for ended in [ada, bob, cat] {
            me(&with(ended)).problem(401, "unauthorized");
        }
        me(&with(dan)).expect(200);
        let anyone = server.client();
        log_in(&anyone, "ada", PASSWORD).problem(401, "wrong-credentials");
        me(&anyone.log_in("ada", ANOTHER)).expect(200);
        assert_eq!(text(&me(&anyone.log_in("bob", PASSWORD)).json(), "role"), "organizer");
        log_in(&anyone, "cat", PASSWORD).problem(401, "wrong-credentials");
        with(&admin).delete(&cat_address).expect(204);
        let users = all_items(&with(&admin), "/api/v1/users", 2);
        assert_eq!(users.len(), 9, "{users:?}");
        server.kill();
    }
}

fn log_in_from(client: &Client, from: &str, username: &str, password: &str) -> Answer {
    let body = json!({ "username": username, "password": password }).to_string();
    client.send("POST", "/api/v1/sessions", &[("x-forwarded-for", from)], &body)
}

#[track_caller]
fn seconds_refused(answer: Answer) -> u64 {
    let seconds = answer.header("retry-after").and_then(|value| value.parse().ok()).expect("a Retry-After");
    answer.problem(429, "too-many-attempts");
    seconds
}

#[test]
fn five_wrong_passwords_are_enough() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path(), &["--shards", "2"]);
    let client = server.client();
    let ada = client.sign_up("ada", "customer");
    let token = client.sign_up("bob", "customer");
    // Existing, missing and impossible usernames, in lower and upper case.
    let mut answers = Vec::new();
    for name in ["ada", "nobody", "not a name"] {
        let names =
            [name.to_owned(), name.to_uppercase(), name.to_owned(), name.to_uppercase(), name.to_owned()];
        let names = if name == "not a name" { [name; 5].map(str::to_owned) } else { names };
        for name in &names {
            let answer = log_in(&client, name, "a wrong password");
            answers.push(answer.json());
            answer.problem(401, "wrong-credentials");
        }
        // Refused on every core, even with the right password, which is not checked.
        for _ in 0..10 {
            let seconds = seconds_refused(log_in(&server.client(), name, PASSWORD));
            assert!((880..=900).contains(&seconds), "{seconds}");
            // X-Forwarded-For is ignored unless a trusted proxy sends it.
            seconds_refused(log_in_from(&server.client(), "192.0.2.7", name, PASSWORD));
        }
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    // Tokens and other accounts are not affected.
    me(&ada).expect(200);
    seconds_refused(change_password(&ada, PASSWORD, ANOTHER));
    for _ in 0..20 {
        client.log_in("bob", PASSWORD);
    }
    for _ in 0..5 {
        change_password(&token, "a wrong password", ANOTHER).problem(401, "wrong-credentials");
    }
    seconds_refused(change_password(&token, PASSWORD, ANOTHER));
    seconds_refused(log_in(&client, "bob", PASSWORD));

    // Concurrent guesses are limited as well.
    client.sign_up("eve", "customer");
    let statuses: Vec<u16> = thread::scope(|scope| {
        let guesses: Vec<_> = (0..24)
            .map(|_| scope.spawn(|| log_in(&server.client(), "eve", "a wrong password").status))
            .collect();
        guesses.into_iter().map(|guess| guess.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|&&status| status == 401).count(), 5, "{statuses:?}");
    assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
}

#[test]
fn guesses_from_many_addresses_do_not_lock_the_owner_out() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path(), &["--shards", "2", "--trust-forwarded-for"]);
    let client = server.client();
    client.post("/api/v1/users", &json!({ "username": "ada", "password": PASSWORD })).expect(201);
    // The client's own entry comes before the entry that the proxy adds.
    let home = "198.51.100.9, 203.0.113.5";
    log_in_from(&client, home, "ada", PASSWORD).expect(201);
    for name in ["ada", "nobody"] {
        let mut checked = 0;
        let statuses: BTreeMap<u16, usize> = (0..130).fold(BTreeMap::new(), |mut counts, host| {
            let from = format!("203.0.113.5, 192.0.{}.{}", host / 50, host % 50);
            let answer = log_in_from(&client, &from, name, "a wrong password");
            checked += usize::from(answer.status == 401);
            if answer.status == 429 {
                let seconds = seconds_refused(answer);
                assert!((1..=36).contains(&seconds), "{seconds}");
                *counts.entry(429).or_default() += 1;
            } else {
                *counts.entry(answer.status).or_default() += 1;
            }
            counts
        });
        // The limit of 100 is refilled over time.
        assert!((100..=110).contains(&checked), "{name}: {statuses:?}");
        assert_eq!(statuses.len(), 2, "{name}: {statuses:?}");
    }
    log_in_from(&client, home, "ada", PASSWORD).expect(201);
    log_in_from(&client, "203.0.113.5", "ada", PASSWORD).expect(201);
    // The proxy, which sends no field when it logs in itself, has not logged in before.
    seconds_refused(log_in(&client, "ada", PASSWORD));
}

#[test]
fn reservations_go_on_beside_a_flood_of_logins() {
    const FLOODERS: usize = 16;
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let seconds = std::env::var("BOXOFFICE_FLOOD_SECONDS").map_or(2, |seconds| seconds.parse().unwrap());
    let event = stage.event(1_000_000);
    let sell = |time: Duration| {
        let mut times = Vec::new();
        let start = Instant::now();
        while start.elapsed() < time {
            let before = Instant::now();
            reserve(&stage.cust1, event, 1);
            times.push(before.elapsed());
        }
        times.sort_unstable();
        times
    };
    let quiet = sell(Duration::from_secs(seconds));
    let over = AtomicBool::new(false);
    let (busy, logins) = thread::scope(|scope| {
        let flood: Vec<_> = (0..FLOODERS)
            .map(|index| {
                let (over, stage) = (&over, &stage);
                scope.spawn(move || {
                    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
                    // Together they exceed the queue.
                    let mut wires: Vec<Wire> = (0..6).map(|_| stage.server.wire()).collect();
                    for round in 0.. {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        for (number, wire) in wires.iter_mut().enumerate() {
                            let name = format!("flood-{index}-{number}-{round}");
                            let body = json!({ "username": name, "password": PASSWORD }).to_string();
                            wire.send(request("POST", "/api/v1/sessions", None, "", &body)).unwrap();
                        }
                        for wire in &mut wires {
                            *statuses.entry(wire.next().status).or_default() += 1;
                        }
                    }
                    statuses
                })
            })
            .collect();
        let raise = SetOnDrop(&over);
        let busy = sell(Duration::from_secs(seconds));
        drop(raise);
        let mut logins: BTreeMap<u16, usize> = BTreeMap::new();
        for statuses in flood.into_iter().map(|one| one.join().unwrap()) {
            statuses.into_iter().for_each(|(status, count)| *logins.entry(status).or_default() += count);
        }
        (busy, logins)
    });
    let sold = (quiet.len() + busy.len()) as u64;
    let seen = stage.seen(event);
    check_sums(&seen);
    assert_eq!(number(&seen, "reserved"), sold, "the sales that were answered 201");
    assert_eq!(all_items(&stage.cust1, "/api/v1/reservations", 100).len() as u64, sold);
    assert!(logins.keys().all(|status| [401, 429, 503].contains(status)), "{logins:?}");
    assert!(logins.contains_key(&401) && logins.contains_key(&503), "{logins:?}");
    let of = |times: &[Duration], part: f64| times[((times.len() - 1) as f64 * part) as usize];
    for (name, times) in [("quiet", &quiet), ("flood", &busy)] {
        println!("{name}: {} sold, p50 {:?}, p99 {:?}", times.len(), of(times, 0.5), of(times, 0.99));
    }
    println!("logins during the flood, by status: {logins:?}");
}

/// Logins that find the queue of the password threads full are answered 503 and are not counted as
/// failed.
#[test]
fn logins_beyond_the_queue_are_not_counted() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path(), &["--shards", "2", "--storage", "memory"]);
    server.client().sign_up("ada", "customer");
    // Registrations use the same queue and are not limited per account.
    let statuses: Vec<u16> = thread::scope(|scope| {
        let many: Vec<_> = (0..160)
            .map(|number| {
                let client = server.client();
                scope.spawn(move || {
                    let body = json!({ "username": format!("user-{number}"), "password": PASSWORD });
                    client.post("/api/v1/users", &body).status
                })
            })
            .collect();
        let mut refused = 0;
        while many.iter().any(|one| !one.is_finished()) {
            let answer = log_in(&server.client(), "ada", PASSWORD);
            match answer.status {
                201 => {}
                503 => {
                    assert!(answer.header("retry-after").is_some());
                    refused += 1;
                }
                other => panic!("{other}: a refused login was counted as a guess"),
            }
        }
        println!("{refused} logins refused");
        many.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| [201, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&503), "the queue is bounded");
    server.client().log_in("ada", PASSWORD);
}

/// The value of a field in `/proc/.../status`.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    line.unwrap_or_else(|| panic!("no {name} in {status}"))
}

#[test]
fn password_threads_are_not_pinned_and_have_a_lower_priority() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path(), &["--shards", "2", "--storage", "memory"]);
    server.client().sign_up("ada", "customer");
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let allowed = field(&own, "Cpus_allowed_list");
    let cpus = thread::available_parallelism().unwrap().get();
    // The 19th field: the 17th after the name in parentheses.
    let niceness = |stat: &str| -> i32 {
        let field = stat.rsplit_once(") ").unwrap().1.split(' ').nth(16);
        field.unwrap().parse().unwrap()
    };
    let ours = niceness(&fs::read_to_string("/proc/self/stat").unwrap());
    let mut found = 0;
    for task in fs::read_dir(format!("/proc/{}/task", server.id())).unwrap() {
        let task = task.unwrap().path();
        let status = fs::read_to_string(task.join("status")).unwrap();
        let nice = niceness(&fs::read_to_string(task.join("stat")).unwrap());
        let name = field(&status, "Name");
        if name.starts_with("password-") {
            found += 1;
            assert_eq!((nice, field(&status, "Cpus_allowed_list")), ((ours + 10).min(19), allowed), "{name}");
        } else {
            assert_eq!(nice, ours, "{name}");
        }
    }
    assert_eq!(found, (cpus / 2).max(1));
}

/// Checks the log at trace level, responses, standard output and the command line.
#[test]
fn no_secret_is_logged_or_sent() {
    let folder = tempdir().unwrap();
    let data = &folder.path().join("data");
    let mut command = support::server::boxoffice();
    command.args(["--log", "trace", "admin", "create", "--username", "root", "--data"]).arg(data);
    let made = run(command, &format!("{PASSWORD}\n"));
    assert_eq!(made.code, Some(0), "{made:?}");
    let server = Server::start(data, &["--shards", "2", "--log", "trace", "--log-format", "json"]);
    let client = server.client();
    let wrong = "a wrong password";
    let ada = client.sign_up("ada", "customer");
    let root = client.log_in("root", PASSWORD);
    let mut answers: Vec<Answer> = vec![
        log_in(&client, "ada", wrong),
        log_in(&client, "nobody", wrong),
        client.post("/api/v1/users", &json!({ "username": "ada", "password": ANOTHER })),
        client.post("/api/v1/users", &json!({ "username": "x", "password": ANOTHER, "more": wrong })),
        change_password(&ada, wrong, ANOTHER),
        change_password(&ada, PASSWORD, ANOTHER),
        root.patch("/api/v1/users/2", &json!({ "role": "organizer" })),
        root.get("/api/v1/users"),
        root.delete("/api/v1/users/2"),
        me(&ada),
        me(&root),
        client.get("/metrics"),
        client.get("/readyz"),
        client.get(&format!("/{}", root.token.as_ref().unwrap())),
        client.post("/api/v1/sessions", &Value::String(wrong.to_owned())),
    ];
    answers.push(client.send("POST", "/api/v1/sessions", &[], &format!("{{\"password\":\"{ANOTHER}\"")));
    let secret = fs::read_to_string(data.join("token-secret")).unwrap();
    let tokens = [ada.token.unwrap(), root.token.unwrap()];
    let arguments = fs::read_to_string(format!("/proc/{}/cmdline", server.id())).unwrap();
    let mut texts: Vec<String> = vec![arguments, server.greeting.clone(), made.stdout, made.stderr];
    texts.extend(answers.iter().map(|answer| format!("{answer:?} {}", answer.text())));
    let (_, stderr) = server.terminate();
    assert!(stderr.contains("\"level\""), "nothing was logged");
    texts.push(stderr);
    let signatures = tokens.each_ref().map(|token| token.rsplit_once('.').unwrap().1);
    let secrets = [PASSWORD, ANOTHER, wrong, "$argon2", &secret, signatures[0], signatures[1]];
    for secret in secrets {
        for text in &texts {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    println!(
        "{} texts, {} bytes, without any of {} secrets",
        texts.len(),
        texts.concat().len(),
        secrets.len()
    );
}

/// Compares the time of a failed login with an account and without one. Run it on an idle machine:
/// `cargo test --release --test accounts -- --ignored --nocapture the_time`
#[test]
#[ignore = "needs an idle machine"]
fn the_time_tells_nothing_of_who_has_an_account() {
    const NAMES: usize = 150;
    let data = tempdir().unwrap();
    let server = Server::start(data.path(), &["--shards", "2", "--storage", "memory"]);
    let client = server.client();
    for number in 0..NAMES {
        let body = json!({ "username": format!("known-{number:03}"), "password": PASSWORD });
        client.post("/api/v1/users", &body).expect(201);
    }
    let mut times = [Vec::new(), Vec::new()];
    // Four guesses per name, alternating between the two kinds, so that both have the same noise.
    for round in 0..4 * NAMES {
        for (kind, name) in ["known", "other"].into_iter().enumerate() {
            let name = format!("{name}-{:03}", round % NAMES);
            let start = Instant::now();
            log_in(&client, &name, "a wrong password").problem(401, "wrong-credentials");
            times[kind].push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    let [known, unknown] = times;
    // Welch's t-test: above 4.5, the usual threshold of side-channel tests, the times differ.
    let mean = |times: &[f64]| times.iter().sum::<f64>() / times.len() as f64;
    let trimmed = |times: Vec<f64>| {
        let mut times = times;
        times.sort_unstable_by(f64::total_cmp);
        times.truncate(times.len() * 9 / 10);
        times
    };
    let (known, unknown) = (trimmed(known), trimmed(unknown));
    let variance = |times: &[f64]| {
        let middle = mean(times);
        times.iter().map(|time| (time - middle).powi(2)).sum::<f64>() / (times.len() - 1) as f64
    };
    let spread = variance(&known) / known.len() as f64 + variance(&unknown) / unknown.len() as f64;
    let t = (mean(&known) - mean(&unknown)) / spread.sqrt();
    println!(
        "{} of each, the slowest tenth left out: {:.0} us with an account, {:.0} us without, t = {t:.2}",
        known.len(),
        mean(&known),
        mean(&unknown)
    );
    assert!(t.abs() < 4.5, "the times differ: t = {t:.2}");
}
