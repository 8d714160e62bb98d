//! Starts without room: on a full disk, without free inodes, beyond a quota or a limit of the length of files. The
//! server serves what was acknowledged, refuses changes, and takes them as soon as there is room, without a restart.
//! Also what a running server does where SQLite's shared memory finds no room.
//!
//! What needs file systems of its own is run by name, as root: `cargo test --test full_starts -- --ignored`.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use support::client::Answer;
use support::server::{Server, boxoffice, program, run, serve};
use support::small_disk::{SmallDisk, check_refused, until_done};
use support::{Stage, TestFolder, all_items, sqlite3};

fn reserve(stage: &Stage, event: u64) -> Answer {
    stage.cust1.post(&format!("/api/v1/events/{event}/reservations"), &json!({ "quantity": 1 }))
}

fn everything(stage: &Stage, event: u64) -> Vec<Value> {
    let mut seen = all_items(&stage.anyone, "/api/v1/events", 100);
    seen.extend(all_items(&stage.admin, &format!("/api/v1/events/{event}/reservations"), 100));
    seen
}

/// Makes a data directory with an event of which three tickets are sold. Returns the event and what is seen of it.
fn sell_three(data: &Path, ends_in_order: bool) -> (u64, Vec<Value>) {
    let stage = Stage::open(data, 2);
    let event = stage.event(1000);
    for _ in 0..3 {
        reserve(&stage, event).expect(201);
    }
    let seen = everything(&stage, event);
    match ends_in_order {
        true => assert_eq!(stage.server.terminate().0.code(), Some(0)),
        false => stage.server.kill(),
    }
    (event, seen)
}

/// Checks a server that was started without room, and that it takes changes when `make_room` has made some. Then
/// that a later start has the same.
fn check_start(server: Server, data: &Path, event: u64, seen: &[Value], make_room: impl FnOnce()) {
    assert!(server.stderr().contains("no room for a start"), "{}", server.stderr());
    let stage = Stage::again(server);
    assert_eq!(everything(&stage, event), seen);
    check_refused(reserve(&stage, event));
    check_refused(stage.org1.post("/api/v1/events", &json!({ "name": "New", "quota": 5 })));
    assert_eq!(everything(&stage, event), seen, "a refusal changed something");
    stage.anyone.get("/readyz").expect(200);
    let metrics = stage.anyone.get("/metrics").expect(200);
    assert!(metrics.text().contains("boxoffice_logs_full 2"), "{metrics:?}");

    make_room();
    let (_, took) = until_done(|| reserve(&stage, event));
    println!("{took:?} from room to a sale");
    // The other shard may take a moment longer.
    until_done(|| stage.org1.post("/api/v1/events", &json!({ "name": "New", "quota": 5 })));
    let sold = everything(&stage, event);
    assert!(sold.len() > seen.len());
    stage.server.kill();
    let stage = Stage::open(data, 2);
    assert_eq!(everything(&stage, event), sold);
    assert_eq!(stage.seen(event)["reserved"], 4);
}

/// A server whose files may not be longer than this.
fn limited(data: &Path, bytes: u64) -> Command {
    let mut command = program("sh");
    command.args(["-c", "ulimit -S -f $0; exec \"$@\"", &(bytes / 512).to_string()]);
    let serve = serve(data);
    command.arg(serve.get_program()).args(serve.get_args()).args(["--demo", "--shards", "2"]);
    command
}

/// Limits the length of the files of a running server, below what they have, or no more.
fn limit(server: u32, bytes: Option<u64>) {
    let pid = Pid::from_raw(server.cast_signed());
    prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum: None }).expect("the hard limit is none");
}

#[test]
fn a_start_beyond_a_limit_of_file_lengths_is_read_only_until_the_limit_is_raised() {
    for ends_in_order in [true, false] {
        let folder = TestFolder::new();
        let data = folder.path("data");
        let (event, seen) = sell_three(&data, ends_in_order);
        let server = Server::spawn(limited(&data, 16 << 10));
        let id = server.id();
        check_start(server, &data, event, &seen, || limit(id, None));
    }
}

#[test]
fn a_limit_of_file_lengths_is_like_a_full_disk() {
    let folder = TestFolder::new();
    let data = folder.path("data");
    let stage = Stage::open(&data, 2);
    let event = stage.event(1000);
    for round in 1..=2 {
        reserve(&stage, event).expect(201);
        limit(stage.server.id(), Some(4096));
        let full = everything(&stage, event);
        check_refused(reserve(&stage, event));
        assert_eq!(everything(&stage, event), full);
        limit(stage.server.id(), None);
        until_done(|| reserve(&stage, event));
        assert_eq!(stage.seen(event)["reserved"], 2 * round);
    }
    assert!(stage.server.stderr().contains("File too large"), "{}", stage.server.stderr());
    limit(stage.server.id(), Some(4096));
    check_refused(reserve(&stage, event));
    stage.server.kill();
    let stage = Stage::open(&data, 1);
    assert_eq!(stage.seen(event)["reserved"], 4);
}

/// Where the journal alone reaches the limit, writing it back makes room.
#[test]
fn a_journal_that_may_not_grow_is_written_back() {
    let folder = TestFolder::new();
    let data = folder.path("data");
    let stage = Stage::on(Server::spawn(limited(&data, 128 << 10)));
    let event = stage.event(1000);
    let mut sold = 0;
    while stage.server.stderr().matches("the disk has room again").count() < 2 {
        until_done(|| reserve(&stage, event));
        sold += 1;
        assert!(sold < 500, "the limit does not hold");
    }
    assert_eq!(stage.seen(event)["reserved"], sold);
    stage.server.kill();
    let stage = Stage::open(&data, 1);
    assert_eq!(stage.seen(event)["reserved"], sold);
}

#[test]
#[ignore = "needs root, for a small tmpfs"]
fn a_start_on_a_full_disk_is_read_only_until_there_is_room() {
    for ends_in_order in [true, false] {
        let disk = SmallDisk::tmpfs("size=12m");
        let (event, seen) = sell_three(&disk.data(), ends_in_order);
        disk.fill();
        let server = Server::start(&disk.data(), &["--demo", "--shards", "2"]);
        check_start(server, &disk.data(), event, &seen, || disk.make_room());
    }
}

#[test]
#[ignore = "needs root, for a small tmpfs"]
fn a_start_without_inodes_is_read_only_until_there_are_some() {
    for ends_in_order in [true, false] {
        let disk = SmallDisk::tmpfs("size=32m,nr_inodes=64");
        let (event, seen) = sell_three(&disk.data(), ends_in_order);
        disk.fill_inodes();
        let server = Server::start(&disk.data(), &["--demo", "--shards", "2"]);
        check_start(server, &disk.data(), event, &seen, || disk.free_inodes());
    }
}

#[test]
#[ignore = "needs root, for an ext4 in a file"]
fn a_start_on_a_full_ext4_is_read_only_until_there_is_room() {
    let Some(disk) = SmallDisk::in_a_file(32, &["mkfs.ext4", "-q", "-m", "0"]) else { return };
    let (event, seen) = sell_three(&disk.data(), false);
    disk.fill();
    let server = Server::start(&disk.data(), &["--demo", "--shards", "2"]);
    check_start(server, &disk.data(), event, &seen, || disk.make_room());
}

/// Nothing was acknowledged yet, so there is nothing to serve.
#[test]
#[ignore = "needs root, for a small tmpfs"]
fn a_first_start_without_room_is_refused_and_says_what_is_missing() {
    let disk = SmallDisk::tmpfs("size=2m");
    disk.fill();
    let ended = run(serve(&disk.data()), "");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("is full: make room"), "{ended:?}");
    let disk = SmallDisk::tmpfs("size=2m,nr_inodes=8");
    fs::create_dir(disk.data()).expect("there is room");
    disk.fill_inodes();
    let ended = run(serve(&disk.data()), "");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("has no inodes left"), "{ended:?}");
}

#[test]
#[ignore = "needs root, for a small tmpfs"]
fn an_admin_is_not_made_without_room() {
    let disk = SmallDisk::tmpfs("size=12m");
    sell_three(&disk.data(), true);
    disk.fill();
    let mut create = boxoffice();
    create.args(["admin", "create", "--username", "root2", "--data"]).arg(disk.data());
    let ended = run(create, "a long password\n");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("is full: make room"), "{ended:?}");
}

/// A shell that reads the log of a shard until it is dropped, so that its journal grows.
struct Reader(Child);

impl Reader {
    fn of(log: &Path) -> Reader {
        let mut shell = Command::new("sqlite3");
        shell.arg("-readonly").arg(log).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().expect("sqlite3 is installed");
        use std::io::{BufRead, BufReader, Write};
        let input = shell.stdin.as_mut().expect("it is piped");
        input.write_all(b"BEGIN; SELECT count(*) FROM record;\n").expect("it reads");
        let mut line = String::new();
        BufReader::new(shell.stdout.as_mut().expect("it is piped")).read_line(&mut line).expect("it answers");
        Reader(shell)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A reader beside the server lets the journal grow, and with it SQLite's shared memory.
#[test]
#[ignore = "needs root and sqlite3, for a small tmpfs"]
fn a_journal_beside_a_reader_that_finds_no_room_refuses_changes() {
    let disk = SmallDisk::tmpfs("size=64m");
    let stage = Stage::open(&disk.data(), 1);
    let event = stage.event(100_000);
    let log = disk.data().join("shard-00.sqlite");
    let reader = Reader::of(&log);
    // At this length of the journal, 4062 frames, its index needs another 32 KiB, and 64 KiB are allocated for it.
    let journal = disk.data().join("shard-00.sqlite-wal");
    while fs::metadata(&journal).expect("it is there").len() < 4060 * 4120 {
        reserve(&stage, event).expect(201);
    }
    disk.fill();
    disk.give_back(6 << 12);
    let mut more = 0;
    while reserve(&stage, event).status == 201 {
        more += 1;
    }
    let full = stage.seen(event);
    check_refused(reserve(&stage, event));
    assert_eq!(stage.seen(event), full);
    let said = stage.server.stderr();
    assert!(more < 6 && said.contains("extend") && said.contains("-shm"), "{more} more sales\n{said}");
    drop(reader);
    disk.make_room();
    until_done(|| reserve(&stage, event));
    let sold = full["reserved"].as_u64().expect("a number") + 1;
    assert_eq!(stage.seen(event)["reserved"], sold);
    assert_eq!(sqlite3(&log, "PRAGMA integrity_check"), "ok\n");
    stage.server.kill();
    let stage = Stage::open(&disk.data(), 1);
    assert_eq!(stage.seen(event)["reserved"], sold);
}

/// Fills the disk of a running server until memory that is mapped to a file can no longer be written, and checks how
/// the server ends. A start without room serves what was acknowledged.
fn check_fault(disk: &SmallDisk, before: impl FnOnce()) {
    let stage = Stage::open(&disk.data(), 1);
    let event = stage.event(1000);
    for _ in 0..3 {
        reserve(&stage, event).expect(201);
    }
    before();
    disk.fill();
    let token = stage.cust1.token.clone().expect("logged in");
    let path = format!("/api/v1/events/{event}/reservations");
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: 14\r\n\r\n{{\"quantity\":1}}"
    );
    let mut wire = stage.server.wire();
    wire.send(&request).expect("the server reads");
    let answer = wire.answer();
    assert!(!matches!(&answer, Ok(Some(answer)) if answer.status == 201), "{answer:?}");
    if matches!(answer, Ok(Some(_))) {
        println!("SKIPPED: this kernel finds room for the shared memory of a full disk, or says so");
        return;
    }
    let (status, log) = stage.server.end();
    assert_eq!(status.code(), None, "{status:?}\n{log}");
    let lines: Vec<_> = log.lines().filter(|line| line.contains("SIGBUS")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("is full") && lines[0].contains("Make room"), "{log}");

    let server = Server::start(&disk.data(), &["--demo", "--shards", "1"]);
    let stage = Stage::again(server);
    assert_eq!(stage.seen(event)["reserved"], 3);
    check_refused(reserve(&stage, event));
    disk.make_room();
    until_done(|| reserve(&stage, event));
    assert_eq!(stage.seen(event)["reserved"], 4);
}

#[test]
#[ignore = "needs root and mkfs.btrfs, for a btrfs in a file"]
fn a_full_btrfs_ends_the_server_with_a_line_and_a_start_serves_reads() {
    let Some(disk) = SmallDisk::in_a_file(128, &["mkfs.btrfs", "-q"]) else { return };
    check_fault(&disk, || {});
}

#[test]
#[ignore = "needs root and mkfs.xfs, for an XFS in a file"]
fn a_full_xfs_with_a_copy_of_the_directory_ends_the_server_with_a_line() {
    let Some(disk) = SmallDisk::in_a_file(320, &["mkfs.xfs", "-q", "-m", "reflink=1"]) else { return };
    check_fault(&disk, || {
        let mut copy = Command::new("cp");
        let copied =
            copy.args(["-r", "--reflink=always"]).arg(disk.data()).arg(disk.path.join("copy")).status();
        assert!(copied.is_ok_and(|status| status.success()));
    });
}
