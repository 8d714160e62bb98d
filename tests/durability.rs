//! Durability: acknowledged changes and the token secret survive a kill; a thousand requests for a
//! hundred tickets do not oversell; a second server cannot use the same directory or port.
//! `crashes.rs` tests kills at random times.

mod support;

use std::collections::HashSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};
use support::client::{Answer, Client, Wire, request};
use support::server::{Ended, Server, boxoffice, run, serve};
use support::{PASSWORD, Stage, all_items, create_event, number, reserve, text};
use tempfile::tempdir;

/// The events of the demonstration: two on each of two shards.
const EVENTS: [u64; 4] = [1, 2, 3, 4];

const PING: &str = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn a_kill_loses_nothing_on_either_shard() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let sold: Vec<String> = EVENTS.iter().map(|&event| stage.reservation(event, event)).collect();
    stage.cust1.delete(&format!("/api/v1/reservations/{}", sold[3])).expect(204);
    let before: Vec<Value> = EVENTS.iter().map(|&event| stage.seen(event)).collect();
    let list = stage.cust1.get("/api/v1/reservations").expect(200).json();
    let token = stage.cust1.token.clone().unwrap();
    stage.server.kill();

    let server = Server::start(data.path(), &["--shards", "2"]);
    let cust1 = server.client().with_token(&token);
    assert_eq!(cust1.get("/api/v1/reservations").expect(200).json(), list);
    for (event, before) in EVENTS.iter().zip(&before) {
        assert_eq!(cust1.get(&format!("/api/v1/events/{event}")).expect(200).json(), *before);
    }
    let statuses: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|item| text(item, "status")).collect();
    assert_eq!(statuses, ["confirmed", "confirmed", "confirmed", "cancelled"]);
    assert_eq!(before[2]["reserved"], 3);
    assert_eq!(before[3]["reserved"], 0);
}

#[test]
fn a_thousand_racing_buyers_get_a_hundred_tickets() {
    const CONNECTIONS: usize = 100;
    const REQUESTS: usize = 10;
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(100);
    let path = format!("/api/v1/events/{event}/reservations");
    let barrier = Barrier::new(CONNECTIONS);
    let answers: Vec<Answer> = thread::scope(|scope| {
        let buy = |index: usize| {
            let client = if index.is_multiple_of(2) { &stage.cust1 } else { &stage.cust2 };
            let mut wire = stage.server.wire();
            let bytes = request("POST", &path, client.token.as_deref(), "", "{\"quantity\":1}");
            barrier.wait();
            // Half of the clients pipeline their requests.
            if index < CONNECTIONS / 2 {
                wire.send(bytes.repeat(REQUESTS)).expect("the server reads");
                (0..REQUESTS).map(|_| wire.next()).collect::<Vec<_>>()
            } else {
                (0..REQUESTS).map(|_| wire.ask(&bytes)).collect()
            }
        };
        let threads: Vec<_> = (0..CONNECTIONS).map(|index| scope.spawn(move || buy(index))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a buyer does not panic")).collect()
    });
    let mut sold = HashSet::new();
    let mut refused = 0;
    for answer in answers {
        if answer.status == 201 {
            let body = answer.json();
            assert!(sold.insert(text(&body, "id").to_owned()), "sold twice: {body}");
        } else {
            assert_eq!(answer.problem(409, "sold-out")["remaining"], 0);
            refused += 1;
        }
    }
    assert_eq!((sold.len(), refused), (100, 900));
    let seen = stage.seen(event);
    assert_eq!((number(&seen, "reserved"), number(&seen, "remaining")), (100, 0));
    stage.server.kill();
    let stage = Stage::open(data.path(), 1);
    let kept = all_items(&stage.org1, &path, 100);
    let kept: HashSet<String> = kept.iter().map(|item| text(item, "id").to_owned()).collect();
    assert_eq!(kept, sold);
}

/// A restarted server can bind the port of the killed one, in any state of its connections.
#[test]
fn a_restart_binds_at_once() {
    let data = tempdir().unwrap();
    let mut server = Server::start(data.path(), &["--shards", "2"]);
    let address = server.address;
    for _ in 0..3 {
        let mut wires: Vec<Wire> = (0..64).map(|_| server.wire()).collect();
        for (index, wire) in wires.iter_mut().enumerate() {
            wire.ask(PING).expect(200);
            // Some have requests in flight, some an incomplete one.
            match index % 3 {
                0 => wire.send(PING.repeat(20)).unwrap(),
                1 => wire.send(&PING[..10]).unwrap(),
                _ => {}
            }
        }
        server.kill();
        server = Server::start_at(data.path(), address, &["--shards", "2"]);
        assert_eq!(server.address, address);
        server.wire().ask(PING).expect(200);
        drop(wires);
    }
}

#[test]
fn a_second_server_is_refused() {
    let (data, other) = (tempdir().unwrap(), tempdir().unwrap());
    let server = Server::start(data.path(), &["--shards", "2"]);
    let message = refusal(data.path(), None);
    assert!(message.contains(data.path().to_str().unwrap()), "{message}");
    assert!(
        message.contains("in use by another boxoffice process") && message.contains("--data"),
        "{message}"
    );

    // Neither a server nor `admin` gets in after a lock file is removed, as earlier versions had one.
    let _ = fs::remove_file(data.path().join("lock"));
    assert!(refusal(data.path(), None).contains("in use by another boxoffice process"));
    let mut admin = boxoffice();
    admin.args(["admin", "create", "--username", "root", "--data"]).arg(data.path());
    let Ended { code, stderr, .. } = run(admin, &format!("{PASSWORD}\n"));
    assert!(code == Some(1) && stderr.contains("stop the server first"), "{stderr}");

    // A port in use is refused, whether by another boxoffice or by any other program.
    let other_program = TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [server.address, other_program.local_addr().unwrap()] {
        let mut command = boxoffice();
        command.args(["serve", "--listen", &address.to_string(), "--data"]).arg(other.path());
        let Ended { code, stderr, .. } = run(command, "");
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains(&format!("{address} is taken")) && stderr.contains("--listen"), "{stderr}");
    }
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0, "the refused server wrote to its directory");
    server.wire().ask(PING).expect(200);
}

/// A second server gets past the lock, since its directory is another one with hard links to the same files.
/// It starts while the first one sells.
#[test]
fn of_two_servers_on_the_same_files_the_first_ends() {
    const BUYERS: usize = 4;
    const LEFT: u64 = 10;
    for shards in ["2", "3"] {
        let (data, linked) = (tempdir().unwrap(), tempdir().unwrap());
        let stage = Stage::open(data.path(), 2);
        let event = stage.event(10_000_000);
        let first = stage.reservation(event, 1);
        for entry in fs::read_dir(data.path()).unwrap() {
            let entry = entry.unwrap();
            fs::hard_link(entry.path(), linked.path().join(entry.file_name())).unwrap();
        }
        let path = format!("/api/v1/events/{event}/reservations");
        let body = json!({ "quantity": 1 });
        let buy = |client: &Client| {
            let mut bought = Vec::new();
            while let Ok(answer) = client.try_post(&path, &body) {
                match answer.status {
                    201 => bought.push(text(&answer.json(), "id").to_owned()),
                    // The second server has the lock, and reads.
                    503 => drop(answer.problem(503, "log-locked")),
                    _ => {
                        answer.problem(409, "sold-out");
                        break;
                    }
                }
            }
            bought
        };
        let (mut bought, second) = thread::scope(|scope| {
            let buyers: Vec<_> = (0..BUYERS).map(|_| scope.spawn(|| buy(&stage.cust1))).collect();
            let second = Server::start(linked.path(), &["--demo", "--shards", shards]);
            let bought = buyers.into_iter().flat_map(|buyer| buyer.join().unwrap());
            (bought.collect::<Vec<_>>(), second)
        });
        let [customer, organizer] =
            [&stage.cust1, &stage.org1].map(|one| second.client().with_token(one.token.as_ref().unwrap()));
        let (status, log) = stage.server.end();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("another process claimed it in epoch 2"), "{log}");

        let address = format!("/api/v1/events/{event}");
        let quota = number(&customer.get(&address).expect(200).json(), "reserved") + LEFT;
        organizer.patch(&address, &json!({ "quota": quota })).expect(200);
        bought.push(first);
        bought.extend(buy(&customer));
        let items = all_items(&customer, "/api/v1/reservations", 100);
        let kept: HashSet<&str> = items.iter().map(|item| text(item, "id")).collect();
        assert!(bought.iter().all(|id| kept.contains(&**id)), "an acknowledged sale is lost");
        // Beside these, the last commit of the first server, whose answers it did not send.
        assert!(kept.len() as u64 == quota && bought.len() <= kept.len(), "{} sold", kept.len());
        second.kill();
        let third = Server::start(linked.path(), &["--demo", "--shards", "1"]);
        let seen = third.client().get(&address).expect(200).json();
        assert_eq!(number(&seen, "reserved"), quota);
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

/// Runs a server that must refuse to start. Returns its error message.
#[track_caller]
fn refusal(data: &Path, secret: Option<&str>) -> String {
    let mut command = serve(data);
    command.envs(secret.map(|secret| ("BOXOFFICE_TOKEN_SECRET", secret)));
    let Ended { code, stdout, stderr } = run(command, "");
    assert_eq!((code, &*stdout), (Some(1), ""), "{stderr}");
    stderr
}

#[test]
fn tokens_survive_a_restart() {
    let folder = tempdir().unwrap();
    let data = &folder.path().join("data");
    let secret = data.join("token-secret");
    let server = Server::start(data, &["--shards", "1"]);
    let token = server.client().sign_up("ada", "customer").token.unwrap();
    let status = |server: &Server| server.client().with_token(&token).get("/api/v1/users/me").status;
    assert_eq!(status(&server), 200);
    assert_eq!((mode(data), mode(&secret)), (0o700, 0o600));
    server.kill();
    let kept = fs::read(&secret).unwrap();
    let server = Server::start(data, &["--shards", "2"]);
    assert_eq!(status(&server), 200);
    assert_eq!(fs::read(&secret).unwrap(), kept);
    assert!(server.terminate().0.success());

    for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
        let message = refusal(data, None);
        assert!(
            message.contains(&format!("is accessible to other users (mode {mode:o}); run: chmod 600")),
            "{message}"
        );
        assert!(message.contains(secret.to_str().unwrap()), "{message}");
    }
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&secret, "short").unwrap();
    let message = refusal(data, None);
    assert!(message.contains("has 5 bytes") && message.contains(secret.to_str().unwrap()), "{message}");
    // Surrounding white space does not count.
    for text in ["", "\n", &"x".repeat(31), &format!("{}\n\n", "x".repeat(31))] {
        fs::write(&secret, text).unwrap();
        let message = refusal(data, None);
        assert!(message.contains("needs at least 32"), "{text:?}: {message}");
    }
    let message = refusal(data, Some(&"x".repeat(31)));
    assert!(message.contains("BOXOFFICE_TOKEN_SECRET has 31 bytes"), "{message}");
    let message = refusal(data, Some("short"));
    assert!(
        message.contains("BOXOFFICE_TOKEN_SECRET has 5 bytes") && message.contains("at least 32"),
        "{message}"
    );

    // The variable takes precedence, and with another secret all tokens are invalid.
    let mut command = serve(data);
    command.env("BOXOFFICE_TOKEN_SECRET", "x".repeat(32));
    let server = Server::spawn(command);
    assert_eq!(status(&server), 401);
    server.client().log_in("ada", PASSWORD);
    server.kill();
    fs::write(&secret, &kept).unwrap();
    assert_eq!(status(&Server::start(data, &[])), 200);
}

#[test]
fn memory_storage_is_lost_at_exit() {
    let folder = tempdir().unwrap();
    let data = &folder.path().join("data");
    let arguments = ["--storage", "memory", "--shards", "2"];
    let server = Server::start(data, &arguments);
    let organizer = server.client().sign_up("grace", "organizer");
    let customer = server.client().sign_up("ada", "customer");
    let event = create_event(&organizer, 5);
    reserve(&customer, event, 2);
    let seen = customer.get(&format!("/api/v1/events/{event}")).expect(200).json();
    assert_eq!(number(&seen, "reserved"), 2);
    assert!(server.terminate().0.success());
    assert!(!data.exists());

    let server = Server::start(data, &arguments);
    let customer = server.client().with_token(&customer.token.unwrap());
    customer.get("/api/v1/users/me").problem(401, "unauthorized");
    customer.get(&format!("/api/v1/events/{event}")).expect(404);
    server.client().sign_up("ada", "customer");
}

/// A regression test: with more cores than CPUs, the runtime slept while tasks were ready, and a
/// start hung.
#[test]
fn a_server_starts_with_many_more_shards_than_cpus() {
    for _ in 0..8 {
        let server = Server::start(Path::new("."), &["--storage", "memory", "--shards", "16"]);
        server.wire().ask(PING).expect(200);
        let (status, log) = server.terminate();
        assert!(status.success(), "{log}");
    }
}

/// Restoring a backup, or starting empty, would lose what the newer version wrote.
#[test]
fn a_directory_of_a_newer_version_is_refused_without_the_advice_to_restore() {
    let data = tempdir().unwrap();
    Server::start(data.path(), &["--shards", "1"]).kill();
    let manifest = data.path().join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    for (format, said, not_said) in [
        ("4", "written by a newer boxoffice: start that one; restore or move nothing", "backup"),
        ("2", "move the whole directory away to start empty", "backup"),
    ] {
        fs::write(&manifest, text.replace("\"format\": 3", &format!("\"format\": {format}"))).unwrap();
        let stderr = refusal(data.path(), None);
        assert!(stderr.contains(said) && !stderr.contains(not_said), "{stderr}");
    }
    fs::write(&manifest, text).unwrap();
    Server::start(data.path(), &["--shards", "1"]).kill();
}
