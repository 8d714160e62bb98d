//! `boxoffice repair`: a server that lost a mark or its manifest is brought up with everything that was acknowledged,
//! or its operator is told what nothing proves.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use support::crowd::Crowd;
use support::random::Random;
use support::server::{Ended, Server, boxoffice, run, serve};
use support::{Stage, TestFolder};

const LOAD: Duration = Duration::from_millis(300);

fn repair(data: &Path, arguments: &[&str]) -> Ended {
    let mut command = boxoffice();
    command.arg("repair").arg("--data").arg(data).args(arguments);
    run(command, "")
}

/// Runs a repair, and checks its exit code and what it prints.
#[track_caller]
fn check(data: &Path, arguments: &[&str], code: i32, wanted: &str) {
    let ended = repair(data, arguments);
    let printed = if code == 1 { &ended.stderr } else { &ended.stdout };
    assert!(ended.code == Some(code) && printed.contains(wanted), "want {code} {wanted:?}, got {ended:?}");
}

/// Checks that a start is refused, and that it names the command.
#[track_caller]
fn check_refused(data: &Path, file: &str) {
    let Ended { code, stderr, .. } = run(serve(data), "");
    assert_eq!(code, Some(1), "{stderr}");
    let command = format!("boxoffice repair --data {}", data.display());
    assert!(stderr.contains(file) && stderr.contains(&command), "{stderr}");
}

fn remove_marks(data: &Path) {
    for name in ["shard-00.mark", "shard-01.mark"] {
        fs::remove_file(data.join(name)).expect("it is there");
    }
}

/// A load on two shards whose server ends by `end`, a loss, and its repair; then everything that was acknowledged is
/// there.
fn lose(end: fn(Server), loss: fn(&Path), file: &str, repair: impl FnOnce(&Path)) {
    let folder = TestFolder::new();
    let data = folder.path("data");
    Crowd::create_admin(&data);
    let server = Server::start(&data, &["--shards", "2"]);
    let mut random = Random::seeded();
    let mut crowd = Crowd::sign_up(&server, &folder.path("ledger"));
    let answers = crowd.run(server.address, &mut random, LOAD, || end(server));
    assert!(answers > 0, "there was no load");
    loss(&data);
    check_refused(&data, file);
    repair(&data);
    let server = Server::start(&data, &["--shards", "3"]);
    crowd.settle(&server);
    check(&data, &[], 1, "is in use by another boxoffice process");
}

#[test]
fn lost_marks_of_a_killed_server_are_made_anew_by_consent() {
    lose(Server::kill, remove_marks, "shard-00.mark", |data| {
        check(data, &[], 4, "NOT PROVED");
        check(data, &["--write"], 4, "Nothing was changed");
        check_refused(data, "shard-00.mark");
        check(data, &["--accept-unproven"], 3, "--write --accept-unproven");
        check_refused(data, "shard-00.mark");
        check(data, &["--write", "--accept-unproven"], 0, "the server can be started");
        check(data, &[], 0, "nothing to repair");
    });
}

#[test]
fn lost_marks_of_a_server_that_ended_in_order_are_made_anew() {
    let end = |server: Server| drop(server.terminate());
    lose(end, remove_marks, "shard-00.mark", |data| {
        check(data, &[], 3, "closed in order");
        check_refused(data, "shard-00.mark");
        check(data, &["--write"], 0, "the server can be started");
    });
}

#[test]
fn a_lost_manifest_of_a_killed_server_is_made_anew() {
    let empty = |data: &Path| fs::write(data.join("manifest.json"), "").expect("it is there");
    lose(Server::kill, empty, "manifest.json", |data| {
        check(data, &[], 3, "a copy of the last start");
        check(data, &["--write"], 0, "manifest.json.before-repair-1");
    });
}

/// The mark says that there were records.
#[test]
fn a_lost_journal_is_not_repaired() {
    let folder = TestFolder::new();
    let data = folder.path("data");
    let stage = Stage::open(&data, 1);
    stage.reservation(1, 2);
    stage.server.kill();
    fs::remove_file(data.join("shard-00.sqlite-wal")).expect("it is there");
    for arguments in [&[][..], &["--write", "--accept-unproven"]] {
        check(&data, arguments, 1, "shard-00.sqlite: ends at row ");
        check(&data, arguments, 1, "restore");
    }
}
