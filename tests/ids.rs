//! Ids of events and accounts: requests that are refused before they reach a shard take none, and when the
//! last one is in use, everything goes on but creating. Times of records after the year 9999 are no problem, either.

mod support;

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use shards::clock::Now;
use shards::command::{Ask, Command, CreateEvent, CreateUser};
use shards::details::{EventName, NewDetails};
use shards::ids::{EventId, Quota, Role, Timestamp, UserId, Username};
use shards::log::Log;
use shards::shard::Shard;
use shards::slots::shard_of_slot;
use storage::Progress;
use support::client::{Client, request};
use support::server::{Server, boxoffice, run};
use support::{PASSWORD, all_items, create_event, number, reserve, text};
use tempfile::tempdir;

#[test]
fn refused_requests_take_no_ids() {
    let server = Server::start(Path::new("."), &["--storage", "memory", "--shards", "2"]);
    let organizer = server.client().sign_up("grace", "organizer");
    let customer = server.client().sign_up("ada", "customer");
    let before = create_event(&organizer, 1);
    let change = json!({ "current": PASSWORD, "new": "another good one" });
    organizer.put("/api/v1/users/me/password", &change).expect(204);
    let event = json!({ "name": "An evening", "quota": 1 });
    for _ in 0..50 {
        // This token has a good signature, and ended with the password.
        organizer.post("/api/v1/events", &event).problem(401, "unauthorized");
        customer.post("/api/v1/events", &event).problem(403, "forbidden");
    }
    let organizer = server.client().log_in("grace", "another good one");
    organizer.post("/api/v1/events", &json!({ "name": "", "quota": 1 })).problem(422, "invalid");
    assert_eq!(create_event(&organizer, 1), before + 1);

    let account = json!({ "username": "ada", "password": PASSWORD });
    let user = |client: &Client| number(&client.get("/api/v1/users/me").expect(200).json(), "id");
    for _ in 0..3 {
        server.client().post("/api/v1/users", &account).problem(409, "username-taken");
    }
    let next = server.client().sign_up("eve", "customer");
    assert_eq!(user(&next), user(&customer) + 1);
}

#[test]
fn events_that_are_created_in_one_write_are_answered_in_order() {
    let server = Server::start(Path::new("."), &["--storage", "memory", "--shards", "2"]);
    let organizer = server.client().sign_up("grace", "organizer");
    let mut wire = server.wire();
    let create = |name: &str| {
        let body = json!({ "name": name, "quota": 1 }).to_string();
        request("POST", "/api/v1/events", organizer.token.as_deref(), "", &body)
    };
    let names = ["One", "Two", "Three"];
    wire.send(names.map(create).concat()).expect("the server reads");
    let made = names.map(|_| wire.next().expect(201).json());
    assert_eq!(made.each_ref().map(|event| text(event, "name")), names);
    let first = number(&made[0], "id");
    assert_eq!(made.map(|event| number(&event, "id")), [first, first + 1, first + 2]);
}

/// The latest time that a shard's clock gives, in the year 144683.
const LATEST: Timestamp = Timestamp(1 << 52);

/// Runs a command at the time [`LATEST`] on a data directory that no server uses.
fn write(directory: &Path, shard_count: usize, command: Command) {
    let mut recovered = storage::open(directory, shard_count, &Progress::default()).expect("it is whole");
    let slot = command.slot();
    let (state, mut log) = recovered.shards.swap_remove(shard_of_slot(slot, shard_count));
    let mut shard: Shard<()> = Shard::new(state, &recovered.heads, recovered.epoch);
    shard.take_in(Now::at(LATEST), Ask::Command(command), ());
    let batch = shard.begin_commit().expect("the command is allowed");
    log.append(&batch.entries, Duration::ZERO).expect("there is room");
    Box::new(log).close().expect("the disk works");
}

fn event(id: u32, organizer: u64) -> Command {
    let name = EventName::new("The last one").expect("a good name");
    let details = NewDetails::new(name, Quota::new(10).expect("in bounds"));
    let organizer = UserId(u32::try_from(organizer).expect("an id"));
    Command::CreateEvent(Box::new(CreateEvent { id: EventId(id), organizer, key: None, details }))
}

fn user(id: u32) -> Command {
    Command::CreateUser(Box::new(CreateUser {
        id: UserId(id),
        username: Username::new("the-last-one").expect("a good name"),
        password_hash: "".into(),
        role: Role::Customer,
        token_version: 1,
    }))
}

#[test]
fn without_ids_everything_but_creating_goes_on() {
    const LAST: u32 = u32::MAX;
    const SHARDS: usize = 2;
    let folder = tempdir().unwrap();
    let data = &folder.path().join("data");
    let start = || Server::start(data, &["--shards", &SHARDS.to_string()]);
    let server = start();
    let organizer = server.client().sign_up("grace", "organizer");
    server.client().sign_up("ada", "customer");
    let id = number(&organizer.get("/api/v1/users/me").expect(200).json(), "id");
    let first = create_event(&organizer, 10);
    server.terminate();
    write(data, SHARDS, event(LAST - 1, id));
    write(data, SHARDS, user(LAST - 1));

    let server = start();
    let organizer = server.client().log_in("grace", PASSWORD);
    assert_eq!(create_event(&organizer, 10), u64::from(LAST), "the last id is an id like any other");
    server.client().sign_up("bob", "customer");
    let old = organizer.get(&format!("/api/v1/events/{}", LAST - 1)).expect(200).json();
    assert_eq!(text(&old, "created_at"), "9999-12-30T22:00:00.999Z", "{old}");
    server.kill();

    // Every start after it serves, too.
    for _ in 0..2 {
        let server = start();
        let (organizer, customer) =
            (server.client().log_in("grace", PASSWORD), server.client().log_in("bob", PASSWORD));
        for _ in 0..3 {
            let event = json!({ "name": "One too many", "quota": 1 });
            let problem = organizer.post("/api/v1/events", &event).problem(507, "ids-used-up");
            assert!(problem["detail"].as_str().unwrap().contains("event id, 4294967295,"), "{problem}");
            let account = json!({ "username": "eve", "password": PASSWORD });
            let problem = server.client().post("/api/v1/users", &account).problem(507, "ids-used-up");
            assert!(problem["detail"].as_str().unwrap().contains("account id, 4294967295,"), "{problem}");
        }
        for event in [first, u64::from(LAST - 1), u64::from(LAST)] {
            let reservation = reserve(&customer, event, 1);
            customer.delete(&format!("/api/v1/reservations/{reservation}")).expect(204);
            reserve(&customer, event, 1);
            organizer.patch(&format!("/api/v1/events/{event}"), &json!({ "name": "New" })).expect(200);
        }
        let events = all_items(&organizer, "/api/v1/events?organizer=me", 1);
        assert_eq!(events.len(), 3);
        let after_all = format!("/api/v1/events?organizer=me&after={LAST}");
        assert_eq!(organizer.get(&after_all).expect(200).json()["items"], json!([]));
        assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
        server.terminate();
    }

    let mut admin = boxoffice();
    admin.args(["admin", "create", "--username", "root", "--data"]).arg(data);
    admin.env("BOXOFFICE_ADMIN_PASSWORD", "a good password");
    let ended = run(admin, "");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("the last account id, 4294967295, was given out"), "{ended:?}");
}
