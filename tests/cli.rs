//! The command line: help, refused arguments, environment variables, log formats.

mod support;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};
use support::client::Client;
use support::server::{Server, boxoffice, run, serve};
use support::text;
use tempfile::tempdir;

/// A password that passes the rules.
const PASSWORD: &str = "a good password";

const PASSWORD_VARIABLE: &str = "BOXOFFICE_ADMIN_PASSWORD";

fn boxoffice_with(arguments: &[&str]) -> Command {
    let mut command = boxoffice();
    command.args(arguments);
    command
}

/// Runs the program and checks its exit code, and that it prints `wanted`: on standard output if
/// the code is 0, else on standard error.
#[track_caller]
fn check(command: Command, input: &str, code: i32, wanted: &str) {
    let shown = format!("{command:?}");
    let ended = run(command, input);
    let printed = if code == 0 { &ended.stdout } else { &ended.stderr };
    assert!(
        ended.code == Some(code) && printed.contains(wanted),
        "{shown}: want {code} {wanted:?}, got {ended:?}"
    );
    if code != 0 {
        assert_eq!(ended.stdout, "", "{shown}: a failed command prints nothing on standard output");
        assert!(!ended.stderr.contains("panicked"), "{shown}: {ended:?}");
    }
}

#[test]
fn versions_completions_and_manual_pages_are_printed() {
    check(boxoffice_with(&["-V"]), "", 0, concat!("boxoffice ", env!("CARGO_PKG_VERSION"), "\n"));
    check(boxoffice_with(&["--version"]), "", 0, "SQLite 3.");
    for shell in ["bash", "zsh", "fish"] {
        check(boxoffice_with(&["completions", shell]), "", 0, "max-connections");
    }
    let folder = tempdir().unwrap();
    let directory = folder.path().to_str().unwrap();
    check(boxoffice_with(&["man", directory]), "", 0, "");
    let page = fs::read_to_string(folder.path().join("boxoffice-serve.1")).unwrap();
    assert!(page.contains(".TH boxoffice-serve 1") && page.contains("BOXOFFICE_MAX_BATCH"), "{page}");
    check(boxoffice_with(&["man", "/nonexistent"]), "", 1, "write manual pages into /nonexistent: No such");
}

#[test]
fn help_names_every_option() {
    let global = ["--log-format", "BOXOFFICE_LOG_FORMAT", "--log <LEVEL>", "BOXOFFICE_LOG=", "--help"];
    let rows: [(&[&str], &[&str]); 5] = [
        (
            &["--help"],
            &[
                "serve",
                "config",
                "demo",
                "admin",
                "repair",
                "completions",
                "man",
                "--version",
                "human",
                "json",
            ],
        ),
        (
            &["repair", "--help"],
            &[
                "--data <DIR>",
                "BOXOFFICE_DATA",
                "--write",
                "--accept-unproven",
                "before-repair-1",
                "Exit codes:",
            ],
        ),
        (
            &["serve", "--help"],
            &[
                "--data <DIR>",
                "BOXOFFICE_DATA",
                "./boxoffice-data",
                "--listen <ADDR>",
                "BOXOFFICE_LISTEN",
                "127.0.0.1:9092",
                "--shards <N>",
                "BOXOFFICE_SHARDS",
                "default: the CPUs",
                "--storage <STORAGE>",
                "BOXOFFICE_STORAGE",
                "--executor <EXECUTOR>",
                "BOXOFFICE_EXECUTOR",
                "sqlite",
                "memory",
                "--demo",
                "BOXOFFICE_DEMO",
                "--max-connections <N>",
                "BOXOFFICE_MAX_CONNECTIONS",
                "--trusted-proxy <NETWORK>",
                "BOXOFFICE_TRUSTED_PROXY",
                "--trust-forwarded-for",
                "BOXOFFICE_TRUST_FORWARDED_FOR",
                "--max-in-flight <N>",
                "BOXOFFICE_MAX_IN_FLIGHT",
                "64 to 65536",
                "--max-batch <N>",
                "BOXOFFICE_MAX_BATCH",
                "1 to 65536",
                "--max-target <BYTES>",
                "BOXOFFICE_MAX_TARGET",
                "256 to 32768",
                "--max-head <BYTES>",
                "BOXOFFICE_MAX_HEAD",
                "1024 to 65535",
                "--max-body <BYTES>",
                "BOXOFFICE_MAX_BODY",
                "4096 to 16777216",
                "--max-changes-per-account <N>",
                "BOXOFFICE_MAX_CHANGES_PER_ACCOUNT",
                "0 to 4294967295; 0: no limit",
                "--changes-per-second <N>",
                "BOXOFFICE_CHANGES_PER_SECOND",
                "1 to 1000000",
                "--max-events-per-account <N>",
                "BOXOFFICE_MAX_EVENTS_PER_ACCOUNT",
                "--max-reservations-per-account <N>",
                "BOXOFFICE_MAX_RESERVATIONS_PER_ACCOUNT",
                "--head-timeout <SECONDS>",
                "BOXOFFICE_HEAD_TIMEOUT",
                "--body-grace <SECONDS>",
                "BOXOFFICE_BODY_GRACE",
                "--idle-timeout <SECONDS>",
                "BOXOFFICE_IDLE_TIMEOUT",
                "--stall-timeout <SECONDS>",
                "BOXOFFICE_STALL_TIMEOUT",
            ],
        ),
        (&["admin", "--help"], &["create", "list", "set-password", "end-tokens"]),
        (&["admin", "create", "--help"], &["--data <DIR>", "--username <USERNAME>", PASSWORD_VARIABLE]),
    ];
    for (arguments, wanted) in rows {
        let help = run(boxoffice_with(arguments), "");
        assert_eq!((help.code, &*help.stderr), (Some(0), ""), "{arguments:?}");
        for word in wanted.iter().chain(&global) {
            assert!(help.stdout.contains(word), "{arguments:?} does not name {word}:\n{}", help.stdout);
        }
    }
    check(boxoffice_with(&["--version"]), "", 0, concat!("boxoffice ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn invalid_arguments_are_refused() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("a-file");
    fs::write(&file, "not a directory").unwrap();
    let file = file.to_str().unwrap();
    let inside = format!("{file}/data");
    let long_name = "a".repeat(65);
    let rows: [(&[&str], i32, &str); 71] = [
        (&[], 2, "Usage: boxoffice"),
        (&["sell"], 2, "unrecognized subcommand 'sell'"),
        (&["serve", "--colour"], 2, "unexpected argument '--colour'"),
        (&["serve", "more"], 2, "unexpected argument 'more'"),
        (&["serve", "--shards", "0"], 2, "from 1 to 64"),
        (&["serve", "--shards", "65"], 2, "from 1 to 64"),
        (&["serve", "--shards", "-1"], 2, "unexpected argument '-1'"),
        (&["serve", "--shards", "x"], 2, "from 1 to 64"),
        (&["serve", "--shards", "1.5"], 2, "from 1 to 64"),
        (&["serve", "--shards", ""], 2, "from 1 to 64"),
        (&["serve", "--shards"], 2, "a value is required"),
        (&["serve", "--listen", "nonsense"], 2, "like 127.0.0.1:9092"),
        (&["serve", "--listen", "127.0.0.1"], 2, "like 127.0.0.1:9092"),
        (&["serve", "--listen", "127.0.0.1:99999"], 2, "like 127.0.0.1:9092"),
        (&["serve", "--listen", ":"], 2, "invalid value"),
        (&["serve", "--listen", ":9092"], 2, "127.0.0.1:9092 for clients on this machine, [::]:9092 for all"),
        (
            &["serve", "--listen", "*:9092"],
            2,
            "127.0.0.1:9092 for clients on this machine, [::]:9092 for all",
        ),
        (&["serve", "--port", "9092"], 2, "--listen 127.0.0.1:9092"),
        (&["serve", "--host=::"], 2, "--listen 127.0.0.1:9092"),
        (&["serve", "-p", "9092"], 2, "--listen 127.0.0.1:9092"),
        (&["serve", "--listen", "192.0.2.1:0", "--storage", "memory"], 1, "no network interface"),
        (&["serve", "--listen", "192.0.2.1:0", "--storage", "memory"], 1, "listen on 192.0.2.1:0"),
        (&["serve", "--storage", "tape"], 2, "[possible values: sqlite, memory]"),
        (&["serve", "--max-connections", "0"], 2, "whole number of at least 1"),
        (&["serve", "--max-connections", "many"], 2, "whole number of at least 1"),
        (&["serve", "--trusted-proxy", ""], 2, "like 192.0.2.1 or 10.0.0.0/8"),
        (&["serve", "--trusted-proxy", "proxy.example"], 2, "like 192.0.2.1 or 10.0.0.0/8"),
        (&["serve", "--trusted-proxy", "10.0.0.1,10.0.0.0/33"], 2, "like 192.0.2.1 or 10.0.0.0/8"),
        (&["serve", "--trusted-proxy", "10.0.0.1/8"], 2, "write 10.0.0.0/8 for the network, or 10.0.0.1 for"),
        (&["serve", "--trusted-proxy", "0.0.0.0/0"], 2, "name the proxies alone"),
        (&["serve", "--trusted-proxy", "10.0.0.1,::/0"], 2, "name the proxies alone"),
        (&["serve", "--trusted-proxy", "::ffff:10.0.0.0/104"], 2, "write the IPv4 network"),
        (&["serve", "--max-in-flight", "63"], 2, "from 64 to 65536"),
        (&["serve", "--max-in-flight", "65537"], 2, "from 64 to 65536"),
        (&["serve", "--max-batch", "0"], 2, "from 1 to 65536"),
        (&["serve", "--max-batch", "65537"], 2, "from 1 to 65536"),
        (&["serve", "--max-target", "255"], 2, "from 256 to 32768"),
        (&["serve", "--max-target", "32769"], 2, "from 256 to 32768"),
        (&["serve", "--max-head", "1023"], 2, "from 1024 to 65535"),
        (&["serve", "--max-head", "65536"], 2, "from 1024 to 65535"),
        (&["serve", "--max-body", "64K"], 2, "from 4096 to 16777216"),
        (&["serve", "--max-body", "16777217"], 2, "from 4096 to 16777216"),
        (&["serve", "--max-changes-per-account", "-1"], 2, "unexpected argument '-1'"),
        (&["serve", "--changes-per-second", "0"], 2, "from 1 to 1000000"),
        (&["serve", "--max-events-per-account", "4294967296"], 2, "from 0 to 4294967295"),
        (&["serve", "--max-reservations-per-account", "many"], 2, "from 0 to 4294967295"),
        (&["serve", "--head-timeout", "0"], 2, "from 0.1 to 86400"),
        (&["serve", "--head-timeout", "NaN"], 2, "from 0.1 to 86400"),
        (&["serve", "--body-grace", "inf"], 2, "from 0.1 to 86400"),
        (&["serve", "--idle-timeout", "86401"], 2, "from 0.1 to 86400"),
        (&["serve", "--stall-timeout", "soon"], 2, "from 0.1 to 86400"),
        (&["serve", "--log-format", "xml"], 2, "[possible values: human, json]"),
        (&["serve", "--log", "a=b=c"], 2, "[possible values: error, warn, info, debug, trace]"),
        (&["serve", "--log", "verbose"], 2, "[possible values: error, warn, info, debug, trace]"),
        (&["serve", "--demo", "--listen", "0.0.0.0:0"], 1, "listens on loopback only, not on 0.0.0.0:0"),
        (&["serve", "--demo", "--listen", "[::]:0"], 1, "listens on loopback only, not on [::]:0"),
        (&["serve", "--listen", "127.0.0.1:0", "--data", file], 1, "/a-file"),
        (
            &["serve", "--listen", "127.0.0.1:0", "--data", file],
            1,
            "a-file is not a directory: choose one with --data",
        ),
        (&["serve", "--listen", "127.0.0.1:0", "--data", &inside], 1, "/a-file/data"),
        (&["admin"], 2, "Usage: boxoffice admin"),
        (&["admin", "create"], 2, "--username <USERNAME>"),
        (&["admin", "create", "--data", file, "--username", "ada"], 1, "a-file is not a directory"),
        (&["admin", "create", "--data", file, "--username", ""], 1, "username must have 3 to 64"),
        (&["admin", "create", "--data", file, "--username", "ad"], 1, "username must have 3 to 64"),
        (&["admin", "create", "--data", file, "--username", &long_name], 1, "username must have 3 to 64"),
        (&["admin", "create", "--data", file, "--username", "a d a"], 1, "username may only have letters"),
        (&["admin", "create", "--data", file, "--username", "ad\u{e9}"], 1, "username may only have letters"),
        (&["admin", "create", "--username"], 2, "a value is required"),
        (&["repair", "--data", file], 1, "a-file is not a directory"),
        (&["repair", "--data", &inside], 1, "a-file is not a directory"),
        (&["repair", "--data", "/no/such/directory"], 1, "open /no/such/directory: No such file"),
    ];
    for (arguments, code, wanted) in rows {
        check(boxoffice_with(arguments), &format!("{PASSWORD}\n"), code, wanted);
    }
}

fn create_admin(data: &Path, username: &str) -> Command {
    let mut command = boxoffice_with(&["admin", "create", "--username", username, "--data"]);
    command.arg(data);
    command
}

/// Logs in and returns the role of the account.
fn role_of(client: &Client, username: &str) -> String {
    let me = client.log_in(username, PASSWORD).get("/api/v1/users/me").expect(200).json();
    text(&me, "role").to_owned()
}

#[test]
fn accounts_are_managed_while_no_server_runs() {
    let folder = tempdir().unwrap();
    let data = &folder.path().join("data");
    let admin = |arguments: &[&str]| {
        let mut command = boxoffice_with(&["admin"]);
        command.args(arguments).arg("--data").arg(data);
        command
    };
    for arguments in [&["list"][..], &["end-tokens", "--username", "ada"]] {
        check(admin(arguments), "", 1, "there is no data directory");
    }
    assert!(!data.exists(), "a question makes no directory");
    check(create_admin(data, "root"), &format!("{PASSWORD}\n"), 0, "admin root created, id 1");
    let server = Server::start(data, &["--shards", "3"]);
    let before = server.client().sign_up("ada", "customer");
    server.client().sign_up("grace", "organizer");
    check(admin(&["list"]), "", 1, "stop the server first");
    assert!(server.terminate().0.success());

    let wanted = "       1  admin      root\n       2  customer   ada\n       3  organizer  grace\n";
    check(admin(&["list"]), "", 0, wanted);
    check(admin(&["list", "--json"]), "", 0, "{\"id\":3,\"role\":\"organizer\",\"username\":\"grace\"}\n");
    check(
        admin(&["set-password", "--username", "nobody"]),
        &format!("{PASSWORD}\n"),
        1,
        "see: boxoffice admin list",
    );
    check(admin(&["set-password", "--username", "ada"]), "short\n", 1, "password");
    check(admin(&["end-tokens", "--username", "ada"]), "", 0, "ada has no tokens");
    let server = Server::start(data, &["--shards", "2"]);
    assert_eq!(before.at(server.address).get("/api/v1/users/me").status, 401);
    let after = server.client().log_in("ada", support::PASSWORD);
    assert!(server.terminate().0.success());

    check(admin(&["set-password", "--username", "ada"]), "another long password\n", 0, "another password");
    let server = Server::start(data, &["--shards", "1"]);
    let client = server.client().with_token(after.token.as_deref().unwrap());
    assert_eq!(client.get("/api/v1/users/me").status, 401);
    let login = |password: &str| {
        server.client().post("/api/v1/sessions", &json!({ "username": "ada", "password": password })).status
    };
    assert_eq!((login(support::PASSWORD), login("another long password")), (401, 201));
}

#[test]
fn admins_are_created_while_no_server_runs() {
    let data = tempdir().unwrap();
    let data = data.path();
    check(create_admin(data, "root-1"), &format!("{PASSWORD}\n"), 0, "admin root-1 created, id 1");
    let mut from_environment = create_admin(data, "Root-2");
    from_environment.env(PASSWORD_VARIABLE, PASSWORD);
    check(from_environment, "", 0, "created, id 2");
    let rows = [
        ("root-1", PASSWORD, "the username is taken"),
        ("ROOT-2", PASSWORD, "the username is taken"),
        ("root-3", "", "8 to 128 characters"),
        ("root-3", "1234567", "8 to 128 characters"),
        ("root-3", &"x".repeat(129), "8 to 128 characters"),
    ];
    for (username, password, wanted) in rows {
        check(create_admin(data, username), &format!("{password}\n"), 1, wanted);
    }

    let server = Server::start(data, &["--shards", "3"]);
    assert_eq!(role_of(&server.client(), "root-1"), "admin");
    assert_eq!(role_of(&server.client(), "root-2"), "admin");
    check(create_admin(data, "root-4"), &format!("{PASSWORD}\n"), 1, "stop the server first");
    check(create_admin(data, "root-4"), &format!("{PASSWORD}\n"), 1, data.to_str().unwrap());
    let customer = server.client().sign_up("ada", "customer").get("/api/v1/users/me").expect(200).json();
    assert_eq!(customer["id"], 3, "the server continues after the ids of the command line");
    assert!(server.terminate().0.success());

    // Now in a directory of three shards that contains records.
    check(create_admin(data, "ada"), &format!("{PASSWORD}\n"), 1, "the username is taken");
    check(create_admin(data, "root-4"), &format!("{PASSWORD}\r\n"), 0, "created, id 4");
    let server = Server::start(data, &["--shards", "1"]);
    assert_eq!(
        role_of(&server.client(), "root-4"),
        "admin",
        "the CR of a CRLF line end is not part of the password"
    );
}

#[test]
fn options_may_come_from_the_environment() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("made/by/the/server");
    let mut command = boxoffice_with(&["serve"]);
    command.env("BOXOFFICE_DATA", &data).env("BOXOFFICE_LISTEN", "127.0.0.1:0").env("BOXOFFICE_SHARDS", "3");
    let server = Server::spawn(command);
    assert!(server.greeting.contains(", 3 shards, data in "), "{}", server.greeting);
    assert!(server.greeting.contains(data.to_str().unwrap()), "{}", server.greeting);
    let version = concat!("boxoffice ", env!("CARGO_PKG_VERSION"), " listening on http://127.0.0.1:");
    assert!(server.greeting.starts_with(version), "{}", server.greeting);
    assert!(data.join("shard-02.sqlite").exists());
    server.client().get("/api/v1/pop").expect(404);
    drop(server);

    let mut command = serve(&folder.path().join("never"));
    command.env("BOXOFFICE_STORAGE", "memory").env("BOXOFFICE_DEMO", "true").env("BOXOFFICE_SHARDS", "9");
    let server = Server::spawn({
        command.args(["--shards", "1"]);
        command
    });
    assert!(
        server.greeting.contains(", 1 shard, in memory"),
        "the argument takes precedence: {}",
        server.greeting
    );
    server.client().get("/api/v1/pop").expect(200);
    assert!(!folder.path().join("never").exists());
    drop(server);

    for value in ["1", "yes", "ON", "True", "0", "no", "off", "false"] {
        let mut command = boxoffice_with(&["serve", "--listen", "192.0.2.1:0"]);
        command.env("BOXOFFICE_DEMO", value).env("BOXOFFICE_TRUST_FORWARDED_FOR", value);
        let is_on = ["1", "yes", "ON", "True"].contains(&value);
        check(command, "", 1, if is_on { "--demo serves accounts" } else { "listen on 192.0.2.1:0" });
    }

    let rows = [
        ("BOXOFFICE_SHARDS", "65", "from 1 to 64"),
        ("BOXOFFICE_LISTEN", "here", "like 127.0.0.1:9092"),
        ("BOXOFFICE_STORAGE", "tape", "possible values"),
        ("BOXOFFICE_MAX_IN_FLIGHT", "0", "from 64 to 65536"),
        ("BOXOFFICE_MAX_TARGET", "0", "from 256 to 32768"),
        ("BOXOFFICE_MAX_HEAD", "", "from 1024 to 65535"),
        ("BOXOFFICE_MAX_BODY", "4095", "from 4096 to 16777216"),
        ("BOXOFFICE_TRUSTED_PROXY", "10.0.0.1, 2001:db8::1, ten", "invalid value ' ten'"),
        ("BOXOFFICE_DEMO", "perhaps", "invalid value 'perhaps'"),
    ];
    for (name, value, wanted) in rows {
        let mut command = boxoffice_with(&["serve"]);
        command.env(name, value);
        check(command, "", 2, wanted);
        let mut command = boxoffice_with(&["serve"]);
        command.env(name, value);
        check(command, "", 2, &format!("for '{name}'"));
    }
}

#[test]
fn misspelled_and_unreadable_variables_are_refused() {
    let rows: [(&str, &[u8], &str); 6] = [
        ("BOXOFFICE_STORGE", b"memory", "correct it to BOXOFFICE_STORAGE"),
        ("BOXOFFICE_LOGFORMAT", b"json", "correct it to BOXOFFICE_LOG_FORMAT"),
        ("BOXOFFICE_TOKEN_SECRETS", b"x", "correct it to BOXOFFICE_TOKEN_SECRET"),
        ("BOXOFFICE_data", b"/tmp", "correct it to BOXOFFICE_DATA"),
        ("BOXOFFICE_SHARDS", b"\xff", "the value of BOXOFFICE_SHARDS is not UTF-8"),
        ("BOXOFFICE_MAX_BODY", b"1\xff", "the value of BOXOFFICE_MAX_BODY is not UTF-8"),
    ];
    for (name, value, wanted) in rows {
        let mut command = boxoffice_with(&["serve", "--listen", "192.0.2.1:0"]);
        command.env(name, OsStr::from_bytes(value));
        check(command, "", 2, wanted);
    }
    let mut command = boxoffice_with(&["admin", "create", "--username", "ada"]);
    command.env(PASSWORD_VARIABLE, OsStr::from_bytes(b"long enough\xff"));
    check(command, "", 1, &format!("the value of {PASSWORD_VARIABLE} is not UTF-8"));

    // What Kubernetes sets beside a service of this name, and others that are no slip of the fingers.
    let data = tempdir().unwrap();
    let mut command = serve(data.path());
    command.env("BOXOFFICE_PORT", "tcp://10.0.0.1:9092").env("BOXOFFICE_BODY_MAX", "1");
    let log = Server::spawn(command).terminate().1;
    for name in ["BOXOFFICE_PORT", "BOXOFFICE_BODY_MAX"] {
        assert!(log.contains(&format!("the variable {name} is not known and has no effect")), "{log}");
    }
    assert!(!log.contains("10.0.0.1"), "a value may be a secret: {log}");
}

/// `NO_COLOR` (<https://no-color.org>) counts where standard error is a terminal.
#[test]
fn a_terminal_gets_colours_unless_it_wants_none() {
    for (value, is_coloured) in [(None, true), (Some(""), true), (Some("1"), false)] {
        let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&control).unwrap();
        unlockpt(&control).unwrap();
        let terminal_name = ptsname(&control, Vec::new()).unwrap();
        let mut options = File::options();
        let terminal = options.write(true).custom_flags(OFlags::NOCTTY.bits().cast_signed());
        let terminal = terminal.open(OsStr::from_bytes(terminal_name.to_bytes())).unwrap();
        let data = tempdir().unwrap();
        let mut command = serve(data.path());
        command.env_remove("NO_COLOR");
        if let Some(value) = value {
            command.env("NO_COLOR", value);
        }
        let server = Server::spawn_with(command, terminal.into());
        let mut line = String::new();
        BufReader::new(File::from(control)).read_line(&mut line).unwrap();
        assert!(line.contains("tasks run on"), "{line:?}");
        assert_eq!(line.contains('\u{1b}'), is_coloured, "NO_COLOR={value:?}: {line:?}");
        drop(server);
    }
}

#[test]
fn logs_can_be_json_and_have_a_level() {
    let data = tempdir().unwrap();
    let server = Server::start(data.path(), &["--log-format", "json", "--shards", "2"]);
    let started: Value = serde_json::from_str(&server.greeting).expect("the line of the start is JSON, too");
    assert_eq!(started["message"], "listening");
    assert_eq!(started["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(started["url"], format!("http://{}", server.address));
    assert_eq!(started["data"], data.path().to_str().unwrap());
    assert_eq!(
        (&started["shards"], &started["records"], &started["epoch"]),
        (&json!(2), &json!(0), &json!(1))
    );
    assert!(started["recovery_ms"].is_u64(), "{started}");
    let (status, log) = server.terminate();
    assert!(status.success());
    let ready: Value = serde_json::from_str(log.lines().nth(1).unwrap()).unwrap();
    for name in ["version", "data", "shards", "records", "recovery_ms", "epoch"] {
        assert_eq!(ready["fields"][name], started[name], "{name}: {ready}");
    }
    let messages: Vec<String> = log
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
            line["fields"]["message"].as_str().unwrap().to_owned()
        })
        .collect();
    for wanted in ["ready", "draining", "stopped"] {
        assert!(messages.iter().any(|message| message.starts_with(wanted)), "no {wanted}: {messages:?}");
    }

    let mut command = boxoffice_with(&["serve", "--log-format", "json", "--listen", "192.0.2.1:0"]);
    command.env("BOXOFFICE_DATA", data.path());
    let refused = run(command, "");
    let error = refused.stderr.lines().last().expect("the error comes last");
    let line: Value = serde_json::from_str(error).expect("the error of a start is JSON, too");
    assert!(line["fields"]["message"].as_str().unwrap().contains("listen on 192.0.2.1:0"), "{line}");

    let server = Server::start(data.path(), &["--log", "ERROR"]);
    let (status, log) = server.terminate();
    assert!(status.success());
    assert_eq!(log, "", "levels below the chosen one are not logged");
}
