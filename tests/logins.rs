//! Many logins and registrations at once: the shares of addresses in the password queue, right passwords of one
//! account side by side, the ration of registrations, and passwords in different Unicode forms.
//!
//! `cargo test --release --test logins at_noon -- --ignored --nocapture` prints how many logins a second there are, what
//! floods of logins do to others, and what both do to shops that sell with API keys.

mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use argon2::{Argon2, PasswordHasher};
use serde_json::json;
use shards::clock::Now;
use shards::command::{Ask, Command, CreateEvent, CreateUser};
use shards::details::{EventName, NewDetails};
use shards::ids::{EventId, Quota, Role, Timestamp, UserId, Username};
use shards::log::Log;
use shards::record::Record;
use shards::shard::Shard;
use shards::slots::shard_of_slot;
use storage::Progress;
use support::api_keys::make_key;
use support::client::{Answer, Wire, request};
use support::server::{Server, boxoffice, run};
use support::{PASSWORD, TestFolder, create_event};
use tempfile::tempdir;

/// The addresses of clients: all of 127.0.0.0/8 are this machine.
const FLOODER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

fn wire(server: &Server, source: IpAddr) -> Wire {
    Wire::from(source, server.address).expect("the server takes a connection")
}

fn log_in_request(username: &str, password: &str) -> String {
    let body = json!({ "username": username, "password": password }).to_string();
    request("POST", "/api/v1/sessions", None, "", &body)
}

fn register_request(username: &str, password: &str) -> String {
    let body = json!({ "username": username, "password": password }).to_string();
    request("POST", "/api/v1/users", None, "", &body)
}

/// Sets a flag at its end, also at that of a panic, which would otherwise wait for what the flag ends.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends such requests over 100 connections from one address until `work` is done. Returns what it returns, and
/// how many answers had each status.
fn beside_a_flood<T>(
    server: &Server,
    flood: impl Fn(&str) -> String + Sync,
    work: impl FnOnce() -> T,
) -> (T, BTreeMap<u16, usize>) {
    beside_a_flood_from(server, |_| FLOODER, flood, work)
}

/// Like [`beside_a_flood`], and each of the 100 connections has the address of its number.
fn beside_a_flood_from<T>(
    server: &Server,
    source: impl Fn(u8) -> IpAddr,
    flood: impl Fn(&str) -> String + Sync,
    work: impl FnOnce() -> T,
) -> (T, BTreeMap<u16, usize>) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (over, flood) = (&over, &flood);
        let flooders: Vec<_> = (0..10)
            .map(|index| {
                let mut wires: Vec<Wire> =
                    (0..10).map(|number| wire(server, source(10 * index + number))).collect();
                scope.spawn(move || {
                    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
                    for round in 0.. {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        for (number, wire) in wires.iter_mut().enumerate() {
                            wire.send(flood(&format!("flood-{index}-{number}-{round}")))
                                .expect("the server reads");
                        }
                        for wire in &mut wires {
                            *statuses.entry(wire.next().status).or_default() += 1;
                        }
                    }
                    statuses
                })
            })
            .collect();
        let end = SetOnDrop(over);
        let done = work();
        drop(end);
        let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
        for flooder in flooders {
            for (status, count) in flooder.join().expect("it does not panic") {
                *statuses.entry(status).or_default() += count;
            }
        }
        (done, statuses)
    })
}

#[test]
fn a_flood_of_logins_leaves_other_addresses_theirs() {
    const LOGINS: usize = 40;
    let data = tempdir().unwrap();
    let server = Server::start(data.path(), &["--shards", "2", "--storage", "memory"]);
    server.client().sign_up("ada", "customer");
    let mut others = wire(&server, OTHER);
    let (right, flood) = beside_a_flood(
        &server,
        |name| log_in_request(name, PASSWORD),
        || (0..LOGINS).filter(|_| others.ask(log_in_request("ada", PASSWORD)).status == 201).count(),
    );
    println!("{right} of {LOGINS} logins of others; the flood: {flood:?}");
    assert_eq!(right, LOGINS);
    assert!(flood.keys().all(|status| [401, 503].contains(status)), "{flood:?}");
    assert!(flood.contains_key(&401) && flood.contains_key(&503), "{flood:?}");
}

/// A taken name costs a hash, too. Prints how many names a second one address learns to be taken.
#[test]
fn taken_names_are_told_no_faster_than_accounts_are_made() {
    let data = tempdir().unwrap();
    let many = ["--shards", "2", "--storage", "memory", "--registrations-per-hour", "1000000"];
    let server = Server::start(data.path(), &many);
    server.client().sign_up("ada", "customer");
    let start = Instant::now();
    let ((), flood) = beside_a_flood(
        &server,
        |_| register_request("ada", PASSWORD),
        || thread::sleep(Duration::from_millis(500)),
    );
    println!("{:.0} a second: {flood:?}", flood[&409] as f64 / start.elapsed().as_secs_f64());
    assert!(flood.keys().all(|status| [409, 503].contains(status)), "{flood:?}");
    assert!(flood.contains_key(&503), "they use the queue of the passwords");
}

#[test]
fn an_address_has_a_ration_of_registrations() {
    const RATION: usize = 10;
    let data = tempdir().unwrap();
    let ration = RATION.to_string();
    let server = Server::start(
        data.path(),
        &["--shards", "2", "--storage", "memory", "--registrations-per-hour", &ration],
    );
    let mut others = wire(&server, OTHER);
    others.ask(register_request("ada", PASSWORD)).expect(201);
    // Each over a connection of its own, and so on any core.
    let ask =
        |username: &str, password: &str| wire(&server, FLOODER).ask(register_request(username, password));
    for number in 0..RATION {
        match number % 2 {
            0 => drop(ask("Ada", PASSWORD).problem(409, "username-taken")),
            _ => drop(ask(&format!("user-{number}"), PASSWORD).expect(201)),
        }
        // What breaks a rule is no registration.
        ask("ada", "short").problem(422, "invalid");
    }
    for name in ["ada", "no one yet", "nobody"] {
        let answer = ask(&name.replace(' ', "-"), PASSWORD);
        let seconds: usize = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=3600 / RATION).contains(&seconds), "{seconds}");
        let problem = answer.problem(429, "too-many-registrations");
        assert!(problem["detail"].as_str().unwrap().contains("--registrations-per-hour"), "{problem}");
    }
    others.ask(register_request("nobody", PASSWORD)).expect(201);
    wire(&server, FLOODER).ask(log_in_request("ada", PASSWORD)).expect(201);
}

#[test]
fn right_passwords_side_by_side_are_no_guesses() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path(), &["--shards", "2", "--storage", "memory"]);
    server.client().sign_up("shop", "organizer");
    let mut workers: Vec<Wire> = (0..12).map(|_| wire(&server, OTHER)).collect();
    for worker in &mut workers {
        worker.send(log_in_request("shop", PASSWORD)).unwrap();
    }
    let answers: Vec<Answer> = workers.iter_mut().map(Wire::next).collect();
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert!(statuses.iter().all(|&status| status == 201), "{statuses:?}");
}

/// The same password as keyboards compose it, decomposed, and with other spaces.
const FORMS: [&str; 3] = ["caf\u{e9} cr\u{e8}me", "cafe\u{301} cre\u{300}me", "cafe\u{301}\u{a0}cr\u{e8}me"];

#[test]
fn a_password_is_the_same_in_every_unicode_form() {
    let data = tempdir().unwrap();
    let mut command = boxoffice();
    command.args(["admin", "create", "--username", "root", "--data"]).arg(data.path());
    command.env("BOXOFFICE_ADMIN_PASSWORD", FORMS[1]);
    assert_eq!(run(command, "").code, Some(0));
    let mut command = boxoffice();
    command.args(["admin", "create", "--username", "other", "--data"]).arg(data.path());
    command.env("BOXOFFICE_ADMIN_PASSWORD", "a bell \u{7} rings");
    let refused = run(command, "");
    assert!(refused.code == Some(1) && refused.stderr.contains("U+0007"), "{refused:?}");

    let server = Server::start(data.path(), &["--shards", "2"]);
    let client = server.client();
    for (number, password) in FORMS.into_iter().enumerate() {
        let username = format!("user-{number}");
        let account = json!({ "username": username, "password": password });
        client.post("/api/v1/users", &account).expect(201);
        for form in FORMS {
            client.log_in("root", form);
            let user = client.log_in(&username, form);
            let change = json!({ "current": form, "new": password });
            user.put("/api/v1/users/me/password", &change).expect(204);
        }
        let other = json!({ "username": username, "password": "cafe creme" });
        client.post("/api/v1/sessions", &other).problem(401, "wrong-credentials");
    }
    for (password, said) in [
        ("a bell \u{7} rings", "U+0007"),
        ("nothing \u{200b} there", "U+200B"),
        ("not assigned \u{378}", "U+0378: Unicode has not assigned it"),
        ("cafe\u{301}123", "8 to 128 characters"),
    ] {
        let problem = client.post("/api/v1/users", &json!({ "username": "eve", "password": password }));
        let problem = problem.problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], "/password");
        assert!(problem["errors"][0]["detail"].as_str().unwrap().contains(said), "{problem}");
    }
}

/// A record of before these rules: an account whose password was hashed as it came, and an event whose name would
/// be refused today.
#[test]
fn what_was_stored_under_older_rules_goes_on() {
    const NAME: &str = "tickets \u{202e}eerf \u{200b}";
    const PASSWORDS: [&str; 2] = [FORMS[1], "a bell \u{7} rings"];
    let folder = tempdir().unwrap();
    let data = &folder.path().join("data");
    let organizer = UserId(1);
    for (id, password) in (1..).zip(PASSWORDS) {
        let hash = Argon2::default().hash_password(password.as_bytes()).unwrap().to_string();
        let create = CreateUser {
            id: UserId(id),
            username: Username::new(&format!("user-{id}")).unwrap(),
            password_hash: hash.into(),
            role: Role::Organizer,
            token_version: 1,
        };
        write(data, Command::CreateUser(Box::new(create)));
    }
    let details = NewDetails::new(EventName::new("renamed below").unwrap(), Quota::new(10).unwrap());
    let create = CreateEvent { id: EventId(1), organizer, key: None, details };
    write_changed(data, Command::CreateEvent(Box::new(create)), |record| {
        let Record::EventCreated(created) = record else { panic!("{record:?}") };
        created.details.name = NAME.into();
    });

    let server = Server::start(data, &["--shards", "2"]);
    let client = server.client();
    for (id, password) in (1..).zip(PASSWORDS) {
        client.log_in(&format!("user-{id}"), password);
    }
    // What was hashed decomposed is known only as that, until it is changed.
    let first = client.log_in("user-1", FORMS[1]);
    client
        .post("/api/v1/sessions", &json!({ "username": "user-1", "password": FORMS[0] }))
        .problem(401, "wrong-credentials");
    let event = first.get("/api/v1/events/1").expect(200).json();
    assert_eq!(event["name"], NAME);
    first.patch("/api/v1/events/1", &json!({ "quota": 20 })).expect(200);
    first.patch("/api/v1/events/1", &json!({ "name": NAME })).problem(422, "invalid");
    assert_eq!(first.get("/api/v1/events/1").expect(200).json()["name"], NAME);
    let change = json!({ "current": FORMS[1], "new": FORMS[1] });
    first.put("/api/v1/users/me/password", &change).expect(204);
    for form in FORMS {
        client.log_in("user-1", form);
    }
}

fn write(directory: &Path, command: Command) {
    write_changed(directory, command, |_| ());
}

/// Runs a command on a data directory that no server uses, and changes its record before it is written.
fn write_changed(directory: &Path, command: Command, change: impl FnOnce(&mut Record)) {
    const SHARDS: usize = 2;
    let mut recovered = storage::open(directory, SHARDS, &Progress::default()).expect("it is whole");
    let slot = command.slot();
    let (state, mut log) = recovered.shards.swap_remove(shard_of_slot(slot, SHARDS));
    let mut shard: Shard<()> = Shard::new(state, &recovered.heads, recovered.epoch);
    shard.take_in(Now::at(Timestamp(1_000_000_000_000)), Ask::Command(command), ());
    let mut batch = shard.begin_commit().expect("the command is allowed");
    let [entry] = &mut batch.entries[..] else { panic!("{:?}", batch.entries) };
    change(&mut entry.record);
    entry.chain = recovered.heads[slot.index()].chain_next(&entry.stamp(), &entry.record.encode());
    log.append(&batch.entries, Duration::ZERO).expect("there is room");
    Box::new(log).close().expect("the disk works");
}

/// Who floods the server with logins while others log in.
#[derive(Debug, Clone, Copy)]
enum Flood {
    Nobody,
    OneAddress,
    EachItsOwn,
}

/// What one part of [`logins_at_noon`] saw of others than the flood.
#[derive(Default)]
struct Noon {
    logins: Vec<Duration>,
    refused: usize,
    sales: Vec<Duration>,
}

const BUYERS: u8 = 16;
const TILLS: usize = 16;

/// Buyers of 16 addresses log in one time after another, and two shops sell over 16 connections with their keys, or
/// not, beside each flood. Prints medians, and the least and the most, over rounds.
#[test]
#[ignore = "prints figures, which mean something in a release build on an idle machine"]
fn logins_at_noon() {
    let rounds = std::env::var("BOXOFFICE_NOON_ROUNDS").map_or(5, |rounds| rounds.parse().unwrap());
    let data = TestFolder::new();
    let server = Server::start(&data.path("data"), &[]);
    for buyer in 0..BUYERS {
        server.client().sign_up(&format!("buyer-{buyer}"), "customer");
    }
    let tills: Vec<String> = ["one", "two"]
        .map(|shop| {
            let organizer = server.client().sign_up(shop, "organizer");
            let event = create_event(&organizer, 10_000_000);
            let body = json!({ "quantity": 1, "customer_ref": "c-1" }).to_string();
            let key = make_key(&organizer, &["sell"]).secret;
            request("POST", &format!("/api/v1/events/{event}/reservations"), Some(&key), "", &body)
        })
        .into();
    let parts = [false, true]
        .into_iter()
        .flat_map(|sells| [Flood::Nobody, Flood::OneAddress, Flood::EachItsOwn].map(|flood| (sells, flood)));
    let parts: Vec<_> = parts.collect();
    let mut seen: Vec<Vec<Noon>> = parts.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (part, seen) in parts.iter().zip(&mut seen) {
            seen.push(at_noon(&server, part.1, if part.0 { &tills } else { &[] }));
        }
    }
    for ((sells, flood), rounds) in parts.iter().zip(&seen) {
        println!("flood: {flood:?}; shops: {sells}");
        let print = |name: &str, figure: &dyn Fn(&Noon) -> f64| {
            let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
            figures.sort_unstable_by(f64::total_cmp);
            let (least, most) = (figures[0], figures[figures.len() - 1]);
            println!("    {name}: {:.1} [{least:.1}-{most:.1}]", figures[figures.len() / 2]);
        };
        print("logins of buyers a second", &|noon| per_second(noon.logins.len()));
        print("refused with 503 a second", &|noon| per_second(noon.refused));
        print("a login, p50 in ms", &|noon| quantile(&noon.logins, 0.5));
        print("a login, p99 in ms", &|noon| quantile(&noon.logins, 0.99));
        if *sells {
            print("sales a second", &|noon| per_second(noon.sales.len()));
            print("a sale, p50 in ms", &|noon| quantile(&noon.sales, 0.5));
            print("a sale, p99 in ms", &|noon| quantile(&noon.sales, 0.99));
        }
    }
}

/// How long each part of [`logins_at_noon`] is looked at.
const NOON: Duration = Duration::from_secs(3);

fn per_second(count: usize) -> f64 {
    count as f64 / NOON.as_secs_f64()
}

/// In milliseconds, of sorted times; not a number if there is none.
fn quantile(times: &[Duration], part: f64) -> f64 {
    let at = (times.len().saturating_sub(1) as f64 * part) as usize;
    times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

/// `tills` are the requests with which shops sell a ticket.
fn at_noon(server: &Server, flood: Flood, tills: &[String]) -> Noon {
    let over = &AtomicBool::new(false);
    let work = || {
        thread::scope(|scope| {
            let ask_until = move |mut wire: Wire, request: String, status: u16| {
                scope.spawn(move || {
                    let (mut times, mut refused) = (Vec::new(), 0);
                    loop {
                        let before = Instant::now();
                        let answer = wire.ask(&request);
                        // What was waited for at the end does not count for the time before it.
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        if answer.status == status {
                            times.push(before.elapsed());
                        } else {
                            answer.expect(503);
                            refused += 1;
                            // A page that tries again; a second, as Retry-After says, would be most of this part.
                            thread::sleep(Duration::from_millis(100));
                        }
                    }
                    (times, refused)
                })
            };
            let buyers: Vec<_> = (0..BUYERS)
                .map(|buyer| {
                    let home = Ipv4Addr::new(127, 0, 2, buyer + 1).into();
                    ask_until(wire(server, home), log_in_request(&format!("buyer-{buyer}"), PASSWORD), 201)
                })
                .collect();
            let tills: Vec<_> = tills
                .iter()
                .cycle()
                .take(TILLS * tills.len().min(1))
                .map(|sale| ask_until(wire(server, OTHER), sale.clone(), 201))
                .collect();
            let end = SetOnDrop(over);
            thread::sleep(NOON);
            drop(end);
            let mut noon = Noon::default();
            for buyer in buyers {
                let (times, refused) = buyer.join().expect("it does not panic");
                noon.logins.extend(times);
                noon.refused += refused;
            }
            for till in tills {
                noon.sales.extend(till.join().expect("it does not panic").0);
            }
            noon.logins.sort_unstable();
            noon.sales.sort_unstable();
            noon
        })
    };
    let guess = |name: &str| log_in_request(name, PASSWORD);
    match flood {
        Flood::Nobody => work(),
        Flood::OneAddress => beside_a_flood(server, guess, work).0,
        Flood::EachItsOwn => {
            let source = |number| Ipv4Addr::new(127, 0, 1, number + 1).into();
            beside_a_flood_from(server, source, guess, work).0
        }
    }
}
