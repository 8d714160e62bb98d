//! The server as a process among others: who reads its log, signals, cores, the modes of its files, and users who
//! may not do what is asked.

mod support;

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, signal};
use rustix::process::{Signal, geteuid};
use serde_json::json;
use support::client::Client;
use support::server::{Server, boxoffice, program, run, serve};
use support::{PASSWORD, Stage, number, reserve};

/// A user that owns nothing.
const NOBODY: u32 = 65534;

fn log_lines_lost(client: &Client) -> u64 {
    let metrics = client.get("/metrics").expect(200);
    let value = metrics.text().lines().find_map(|line| line.strip_prefix("boxoffice_log_lines_lost_total "));
    value.expect("the metric is there").parse().expect("a number")
}

fn guess_wrong(client: &Client) {
    let wrong = json!({ "username": "cust2", "password": "a wrong password" });
    client.post("/api/v1/sessions", &wrong).problem(401, "wrong-credentials");
}

/// Sells, logs and drains while nobody takes the log.
fn check_without_a_reader(stage: Stage, event: u64) {
    for round in 1..=3 {
        guess_wrong(&stage.anyone);
        for _ in 0..20 {
            reserve(&stage.cust1, event, 1);
        }
        assert_eq!(number(&stage.seen(event), "reserved"), round * 20);
    }
    assert!(log_lines_lost(&stage.anyone) >= 3, "lines that were lost are counted");
    let (status, _) = stage.server.terminate();
    assert_eq!(status.code(), Some(0), "{status:?}");
}

#[test]
fn sales_go_on_when_nobody_reads_the_log_any_more() {
    let data = tempfile::tempdir().expect("a directory");
    let (reader, writer) = io::pipe().expect("a pipe");
    let mut command = serve(data.path());
    command.args(["--demo", "--shards", "2"]);
    let stage = Stage::on(Server::spawn_with(command, writer.into()));
    let event = stage.event(100);
    drop(reader);
    check_without_a_reader(stage, event);
}

/// A reader that has stopped is worse than none: a write to its full pipe waits.
#[test]
fn sales_go_on_when_the_reader_of_the_log_hangs() {
    let data = tempfile::tempdir().expect("a directory");
    let (reader, mut writer) = io::pipe().expect("a pipe");
    let size = rustix::pipe::fcntl_getpipe_size(&reader).expect("a pipe has a size");
    writer.write_all(&vec![b'x'; size]).expect("it fits");
    let mut command = serve(data.path());
    command.args(["--demo", "--shards", "2"]);
    let stage = Stage::on(Server::spawn_with(command, writer.into()));
    let event = stage.event(100);
    check_without_a_reader(stage, event);
    drop(reader);
}

/// A start that fails says so with its exit code, and creating an admin works, whoever reads what they print.
#[test]
fn commands_end_in_order_when_nobody_reads_what_they_print() {
    let data = tempfile::tempdir().expect("a directory");
    let gone = || {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        Stdio::from(writer)
    };
    let mut create = boxoffice();
    create.args(["admin", "create", "--username", "root-1", "--data"]).arg(data.path());
    create.env("BOXOFFICE_ADMIN_PASSWORD", PASSWORD);
    create.stdin(Stdio::null()).stdout(gone()).stderr(gone());
    // The second time, the name is taken.
    for code in [0, 1] {
        let status = create.status().expect("it starts");
        assert_eq!(status.code(), Some(code), "{status:?}");
    }
}

#[test]
fn what_clients_do_wrong_is_logged_at_a_bounded_rate() {
    let data = tempfile::tempdir().expect("a directory");
    let mut command = serve(data.path());
    command.args(["--demo", "--shards", "2", "--max-connections", "60", "--log-format", "json"]);
    let stage = Stage::on(Server::spawn(command));
    let user = number(&stage.cust2.get("/api/v1/users/me").expect(200).json(), "id");
    for _ in 0..5 {
        guess_wrong(&stage.anyone);
    }
    for _ in 0..40 {
        let wrong = json!({ "username": "cust2", "password": "a wrong password" });
        stage.anyone.post("/api/v1/sessions", &wrong).problem(429, "too-many-attempts");
    }
    let typed_twice = json!({ "username": "hunter2secret", "password": "hunter2secret" });
    stage.anyone.post("/api/v1/sessions", &typed_twice).problem(401, "wrong-credentials");
    let change = json!({ "current": "a wrong password", "new": "another password" });
    stage.cust1.put("/api/v1/users/me/password", &change).problem(401, "wrong-credentials");
    stage.admin.patch(&format!("/api/v1/users/{user}"), &json!({ "role": "organizer" })).expect(200);
    stage.admin.delete(&format!("/api/v1/users/{user}")).expect(204);
    // Connections in the middle of a request give way to nobody.
    let begin = |_| {
        let mut wire = stage.server.wire();
        let _ = wire.send("GET /livez HTTP/1.1\r\n");
        wire
    };
    let wires: Vec<_> = (0..100).map(begin).collect();
    let start = Instant::now();
    while !stage.server.stderr().contains("a connection was refused") {
        assert!(start.elapsed() < Duration::from_secs(30), "100 connections are more than 60");
        thread::sleep(Duration::from_millis(5));
    }
    let token = stage.cust1.token.clone().expect("logged in");
    drop(wires);
    let (status, log) = stage.server.terminate();
    assert!(status.success(), "{log}");

    let lines = |message: &str| {
        let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let fields = lines.map(|line| line["fields"].clone());
        let wanted = fields.filter(|fields| fields["message"].as_str().expect("text").starts_with(message));
        wanted.collect::<Vec<_>>()
    };
    let failed = lines("a login failed");
    assert_eq!(failed.len(), 6, "{log}");
    assert_eq!((&failed[0]["user"], &failed[0]["address"]), (&json!(user), &json!("127.0.0.1")));
    assert!(failed[5]["user"].is_null(), "no account has the name");
    // Ten in ten seconds, and the test may last longer than that.
    assert!((10..40).contains(&lines("a login was refused unseen").len()), "{log}");
    let changed = lines("a role was changed");
    assert_eq!((&changed[0]["from"], &changed[0]["to"]), (&json!("customer"), &json!("organizer")));
    assert_eq!(changed[0]["address"], "127.0.0.1");
    for message in ["a change of a password was refused", "an account was removed"] {
        assert!(!lines(message).is_empty(), "{message}: {log}");
    }
    for secret in ["hunter2", "wrong password", "another password", &token] {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
}

/// Lets SIGHUP reach the process, also if these tests run under nohup.
#[expect(unsafe_code, reason = "what runs between fork and exec is one system call")]
fn take_hangups(command: &mut Command) {
    let reset = || {
        // SAFETY: no handler is installed.
        unsafe { signal(nix::sys::signal::Signal::SIGHUP, SigHandler::SigDfl) }?;
        Ok(())
    };
    // SAFETY: `reset` neither allocates nor locks.
    unsafe { command.pre_exec(reset) };
}

#[test]
fn a_hangup_drains() {
    let data = tempfile::tempdir().expect("a directory");
    let mut command = serve(data.path());
    take_hangups(&mut command);
    let server = Server::spawn(command);
    // The end of a terminal sends it more than once.
    server.signal(Signal::HUP);
    server.signal(Signal::HUP);
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("draining") && log.contains("stopped"), "{log}");
}

#[test]
fn a_hangup_that_was_ignored_at_the_start_stays_ignored() {
    let data = tempfile::tempdir().expect("a directory");
    let mut command = program("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(boxoffice().get_program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data.path());
    let server = Server::spawn(command);
    server.signal(Signal::HUP);
    server.client().get("/readyz").expect(200);
    let (status, log) = server.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
}

/// Whether the kernel writes or pipes a core of a program that aborts, if its limit allows.
#[test]
fn no_core_is_left() {
    let folder = tempfile::tempdir().expect("a directory");
    let allowed = |command: &str| {
        let mut shell = program("sh");
        shell.args([
            "-c",
            &format!("ulimit -c unlimited && {command}"),
            boxoffice().get_program().to_str().unwrap(),
        ]);
        shell.current_dir(folder.path());
        shell
    };
    let ended = allowed("kill -ABRT $$").status().expect("sh is there");
    assert_eq!(ended.signal(), Some(6));
    if !ended.core_dumped() {
        println!("NOT TESTED: this machine leaves no cores of any program");
        return;
    }
    let mut command = allowed("exec \"$0\" \"$@\"");
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder.path().join("data"));
    let server = Server::spawn(command);
    server.signal(Signal::ABORT);
    let (status, log) = server.end();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false), "{log}");
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o7777
}

#[test]
fn a_directory_is_for_its_owner_alone() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = folder.path().join("data");
    for readable in [0o755, 0o750, 0o711] {
        fs::create_dir(&data).expect("it is new");
        set_mode(&data, readable);
        let server = Server::spawn(serve(&data));
        assert_eq!(mode(&data), 0o700, "it was {readable:o}");
        for entry in fs::read_dir(&data).expect("it is there") {
            let path = entry.expect("it can be read").path();
            assert_eq!(mode(&path) & 0o077, 0, "{path:?}");
        }
        drop(server);
        fs::remove_dir_all(&data).expect("it is ours");
    }
    for writable in [0o777, 0o1777, 0o770, 0o702, 0o720] {
        fs::create_dir(&data).expect("it is new");
        set_mode(&data, writable);
        let mut create = boxoffice();
        create.args(["admin", "create", "--username", "root-1", "--data"]).arg(&data);
        for command in [serve(&data), create] {
            let ended = run(command, "a good password\n");
            assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{ended:?}");
            assert!(ended.stderr.contains("other users can write data directory"), "{ended:?}");
            assert!(ended.stderr.contains("chmod 700"), "{ended:?}");
        }
        assert_eq!(mode(&data), writable, "it is left as it was");
        assert_eq!(fs::read_dir(&data).expect("it is there").count(), 0, "nothing is written");
        fs::remove_dir(&data).expect("it is empty");
    }
}

/// What another user has put where a file is written before it is renamed.
#[test]
fn stale_files_become_no_secret_and_no_log() {
    let folder = tempfile::tempdir().expect("a directory");
    let (data, elsewhere) = (folder.path().join("data"), folder.path().join("elsewhere"));
    let names = ["token-secret.new", "manifest.json.new", "shard-00.mark"];
    for is_link in [false, true] {
        fs::create_dir(&data).expect("it is new");
        set_mode(&data, 0o700);
        fs::write(&elsewhere, "known").expect("it is ours");
        for name in names {
            if is_link {
                symlink(&elsewhere, data.join(name)).expect("it is ours");
            } else {
                fs::write(data.join(name), "known").expect("it is ours");
                set_mode(&data.join(name), 0o666);
            }
        }
        let held = names.map(|name| fs::File::open(data.join(name)).expect("it can be read"));
        let server = Server::spawn(serve(&data));
        for name in ["token-secret", "manifest.json", "shard-00.mark"] {
            let path = data.join(name);
            assert_eq!(mode(&path), 0o600, "{name}");
            assert!(fs::symlink_metadata(&path).expect("it is there").is_file(), "{name}");
            // A reader that had the stale file open would see what is written to it.
            let inode = fs::metadata(&path).expect("it is there").ino();
            assert!(held.iter().all(|held| held.metadata().expect("it is open").ino() != inode), "{name}");
        }
        assert_eq!(fs::read_to_string(&elsewhere).expect("it is there"), "known");
        for name in ["token-secret.new", "manifest.json.new"] {
            assert!(!data.join(name).exists(), "{name} is left");
        }
        drop(server);
        fs::remove_dir_all(&data).expect("it is ours");
    }
}

/// The program as a user without privileges: the one who runs the test, unless that is root.
fn unprivileged(folder: &Path) -> Command {
    let installed = boxoffice();
    if !geteuid().is_root() {
        return installed;
    }
    // Where any user can reach it.
    let copy = folder.join("boxoffice");
    if !copy.exists() {
        fs::copy(installed.get_program(), &copy).expect("there is room");
        set_mode(folder, 0o755);
        set_mode(&copy, 0o755);
    }
    let mut command = program(copy);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    command
}

#[test]
fn users_without_permission_are_told_what_to_do() {
    let folder = tempfile::tempdir().expect("a directory");
    // Owned by root, on every system: one that is there, and one that would be made.
    for (data, owned, remedy) in [
        ("/root", "/root is owned by root", "chown -R"),
        ("/no-such/data", "/ is owned by root", "install -d -m 700"),
    ] {
        let mut command = unprivileged(folder.path());
        command.args(["serve", "--listen", "127.0.0.1:0", "--data", data]);
        let ended = run(command, "");
        assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{ended:?}");
        for wanted in [owned, "run this as root", remedy, "--data"] {
            assert!(ended.stderr.contains(wanted), "{wanted}: {ended:?}");
        }
    }

    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if first.is_ok_and(|first| first.trim().parse().is_ok_and(|first: u32| first <= 80)) {
        println!("NOT TESTED: every user may listen on port 80 here");
        return;
    }
    let mut command = unprivileged(folder.path());
    command.args(["serve", "--storage", "memory", "--listen", "127.0.0.1:80"]);
    let ended = run(command, "");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for wanted in ["listen on 127.0.0.1:80", "--listen", "CAP_NET_BIND_SERVICE"] {
        assert!(ended.stderr.contains(wanted), "{wanted}: {ended:?}");
    }
}

/// As after `sudo boxoffice admin create` on the directory of a service.
#[test]
fn files_of_another_user_are_named() {
    if !geteuid().is_root() {
        println!("NOT TESTED: only root can give files to another user");
        return;
    }
    let folder = tempfile::tempdir().expect("a directory");
    for file in ["shard-00.sqlite", "shard-00.mark", "manifest.json"] {
        let data = folder.path().join(file).join("data");
        drop(Server::spawn(serve(&data)));
        set_mode(&folder.path().join(file), 0o755);
        for entry in fs::read_dir(&data).expect("it is there") {
            let entry = entry.expect("it can be read");
            if entry.file_name() != file {
                std::os::unix::fs::chown(entry.path(), Some(NOBODY), None).expect("we are root");
            }
        }
        std::os::unix::fs::chown(&data, Some(NOBODY), None).expect("we are root");
        let mut command = unprivileged(folder.path());
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
        let ended = run(command, "");
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let owned = format!("{file} is owned by root");
        assert!(ended.stderr.contains(&owned) && ended.stderr.contains("chown"), "{file}: {ended:?}");
    }
}
