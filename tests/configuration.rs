//! The configuration file, `boxoffice config`, what SIGHUP reloads, and secrets that are given in files.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use support::PASSWORD;
use support::server::{Server, boxoffice, run, serve};
use tempfile::tempdir;

/// What `boxoffice config` prints with a file of this text.
fn effective(file: &Path, text: &str, prepare: impl FnOnce(&mut Command)) -> String {
    fs::write(file, text).expect("written");
    let mut command = boxoffice();
    command.args(["config", "--config"]).arg(file);
    prepare(&mut command);
    let ended = run(command, "");
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    ended.stdout
}

/// The value of a key, and where it is from.
fn line<'a>(printed: &'a str, key: &str) -> (&'a str, &'a str) {
    let found = printed.lines().find(|line| line.trim_start_matches('#').split(" =").next() == Some(key));
    let (setting, source) = found.and_then(|line| line.split_once(" # ")).expect("each key has a line");
    (setting.split_once('=').expect("a key").1.trim(), source)
}

#[test]
fn options_go_before_variables_and_these_before_the_file() {
    let folder = tempdir().unwrap();
    let file = &folder.path().join("boxoffice.toml");
    let path = file.to_str().unwrap();
    let text = "max-batch = 100\nhead-timeout = 2.5\ntrusted-proxy = [\"10.0.0.0/8\", \"::1\"]\ndemo = true\nlog = \"debug\"\n";
    let printed = effective(file, text, |_| {});
    for (key, value, source) in [
        ("max-batch", "100", path),
        ("head-timeout", "2.5", path),
        ("trusted-proxy", "[\"10.0.0.0/8\", \"::1\"]", path),
        ("demo", "true", path),
        ("log", "\"debug\"", path),
        ("max-body", "65536", "default"),
        ("trust-forwarded-for", "false", "default"),
        ("shards", "", "default: the CPUs"),
    ] {
        assert_eq!(line(&printed, key), (value, source), "{key}\n{printed}");
    }
    // Each of them goes before the file, also where it takes lists, or a switch is off.
    let printed = effective(file, text, |command| {
        command.env("BOXOFFICE_MAX_BATCH", "7").env("BOXOFFICE_TRUSTED_PROXY", "192.0.2.1");
        command.env("BOXOFFICE_DEMO", "no").args(["--head-timeout=3", "--log", "warn"]);
    });
    for (key, value, source) in [
        ("max-batch", "7", "BOXOFFICE_MAX_BATCH"),
        ("trusted-proxy", "[\"192.0.2.1\"]", "BOXOFFICE_TRUSTED_PROXY"),
        ("demo", "false", "BOXOFFICE_DEMO"),
        ("head-timeout", "3", "--head-timeout"),
        ("log", "\"warn\"", "--log"),
    ] {
        assert_eq!(line(&printed, key), (value, source), "{key}\n{printed}");
    }
    // What it prints is a file that says the same.
    let again = effective(&folder.path().join("again.toml"), &printed, |_| {});
    for shown in printed.lines().filter(|line| line.contains(" = ")) {
        let (setting, _) = shown.split_once(" # ").unwrap();
        assert!(again.contains(setting.trim_end()), "{setting}\n{again}");
    }
}

#[test]
fn a_wrong_file_is_refused() {
    let folder = tempdir().unwrap();
    let file = &folder.path().join("boxoffice.toml");
    let shown = file.display();
    let rows = [
        (
            "max-bath = 1",
            format!("{shown}: `max-bath` is no option of the server; the nearest is `max-batch`"),
        ),
        ("config = \"a\"", "`config` is no option of the server".to_owned()),
        (
            "max-batch = 0",
            format!("invalid value '0' for 'max-batch in {shown}': must be a whole number from 1"),
        ),
        ("max-batch = [1]", "`max-batch` must be one text or number".to_owned()),
        ("shards = { a = 1 }", "`shards` must be one text or number".to_owned()),
        ("listen = 1979-05-27", "`listen` must be one text or number".to_owned()),
        ("demo = 1", "`demo` must be true or false".to_owned()),
        ("log = \"loud\"", format!("invalid value 'loud' for 'log in {shown}'")),
        ("max-batch = 1\nmax-batch = 2", "line 2, column 1".to_owned()),
        ("listen = ", "line 1, column 10".to_owned()),
    ];
    let refused = |wanted: &str| {
        for command in ["config", "serve"] {
            let mut started = boxoffice();
            started.args([command, "--config"]).arg(file);
            let ended = run(started, "");
            assert!(ended.code == Some(2) && ended.stderr.contains(wanted), "want {wanted}: {ended:?}");
        }
    };
    refused(&format!("{shown}: No such file"));
    for (text, wanted) in rows {
        fs::write(file, text).unwrap();
        refused(&wanted);
    }
}

#[test]
fn an_admin_is_created_where_the_file_says() {
    let folder = tempdir().unwrap();
    let (file, data) = (folder.path().join("boxoffice.toml"), folder.path().join("data"));
    fs::write(&file, format!("data = {:?}\nmax-batch = 5\n", data.to_str().unwrap())).unwrap();
    let mut command = boxoffice();
    command.args(["admin", "create", "--username", "ada"]).env("BOXOFFICE_CONFIG", &file);
    let ended = run(command, PASSWORD);
    assert_eq!((ended.code, &*ended.stdout), (Some(0), "admin ada created, id 1\n"), "{ended:?}");
    assert!(data.join("manifest.json").exists() || fs::read_dir(&data).unwrap().count() > 0);
}

/// Waits until the server's log has a line with these words.
#[track_caller]
fn await_log(server: &Server, words: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !server.stderr().lines().any(|line| words.iter().all(|word| line.contains(word))) {
        assert!(Instant::now() < deadline, "{words:?}\n{}", server.stderr());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_hangup_reloads_the_log_level_and_says_what_needs_a_restart() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("boxoffice.toml");
    fs::write(&file, "log = \"info\"\n").unwrap();
    let mut command = serve(&folder.path().join("data"));
    command.args(["--shards", "1", "--config"]).arg(&file);
    let server = Server::spawn(command);

    fs::write(&file, "log = \"warn\"\nmax-batch = 5\nshards = 3\n").unwrap();
    server.signal(Signal::HUP);
    await_log(&server, &["WARN", "some of it needs a restart", "max-batch, shards", "warn"]);
    fs::write(&file, "log = \"info\"\nmax-batch = 0\n").unwrap();
    server.signal(Signal::HUP);
    await_log(&server, &["ERROR", "stays as it was", "invalid value '0' for 'max-batch in"]);
    fs::write(&file, "log = \"info\"\n").unwrap();
    server.signal(Signal::HUP);
    await_log(&server, &["INFO", "read the configuration again", "info"]);
    assert_eq!(server.client().get("/readyz").status, 200);
    // At this level it says nothing, also of its end.
    fs::write(&file, "log = \"error\"\n").unwrap();
    server.signal(Signal::HUP);
    let deadline = Instant::now() + Duration::from_secs(30);
    let failed = || {
        server
            .client()
            .with_token("x")
            .post("/api/v1/sessions", &json!({ "username": "ada", "password": "wrong password" }))
    };
    let lines = || server.stderr().matches("a login failed").count();
    loop {
        let before = lines();
        assert_eq!(failed().status, 401);
        thread::sleep(Duration::from_millis(50));
        if lines() == before {
            break;
        }
        assert!(Instant::now() < deadline, "{}", server.stderr());
    }
    assert!(server.terminate().0.success());
}

#[test]
fn secrets_are_given_in_files() {
    let folder = tempdir().unwrap();
    let data = &folder.path().join("data");
    let secret = &folder.path().join("token-secret");
    fs::write(secret, format!("{}\n", "x".repeat(32))).unwrap();
    let with = |variable: &str, value: &Path| {
        let mut command = serve(data);
        command.env(variable, value);
        command
    };
    let server = Server::spawn(with("BOXOFFICE_TOKEN_SECRET_FILE", secret));
    let token = server.client().sign_up("ada", "customer").token.unwrap();
    let status = |server: &Server| server.client().with_token(&token).get("/api/v1/users/me").status;
    assert_eq!(status(&server), 200);
    server.kill();
    // The same secret as a credential of systemd, and in the variable itself.
    let server = Server::spawn(with("CREDENTIALS_DIRECTORY", folder.path()));
    assert_eq!(status(&server), 200);
    server.kill();
    let server = Server::spawn(with("BOXOFFICE_TOKEN_SECRET", Path::new(&"x".repeat(32))));
    assert_eq!(status(&server), 200);
    server.kill();
    // Without it, the server has a secret of its own.
    let server = Server::spawn(serve(data));
    assert_eq!(status(&server), 401);
    server.kill();

    let mut twice = with("BOXOFFICE_TOKEN_SECRET_FILE", secret);
    twice.env("BOXOFFICE_TOKEN_SECRET", "x".repeat(32));
    let missing = with("BOXOFFICE_TOKEN_SECRET_FILE", &folder.path().join("nothing"));
    fs::write(secret, "short").unwrap();
    let short = with("BOXOFFICE_TOKEN_SECRET_FILE", secret);
    for (command, wanted) in [
        (twice, "set BOXOFFICE_TOKEN_SECRET or BOXOFFICE_TOKEN_SECRET_FILE, not both".to_owned()),
        (missing, "nothing, which BOXOFFICE_TOKEN_SECRET_FILE names: No such file".to_owned()),
        (short, format!("{} has 5 bytes", secret.display())),
    ] {
        let ended = run(command, "");
        assert!(ended.code == Some(1) && ended.stderr.contains(&wanted), "want {wanted}: {ended:?}");
    }

    // `config` names the place, and not the secret.
    let mut command = boxoffice();
    command.arg("config").env("BOXOFFICE_TOKEN_SECRET_FILE", secret);
    let printed = run(command, "").stdout;
    assert!(printed.contains(&format!("# the token secret is in {}", secret.display())), "{printed}");
    assert!(!printed.contains("short"), "{printed}");

    // The password of an admin.
    let password = folder.path().join("admin-password");
    fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    for (username, variable, value) in [
        ("grace", "BOXOFFICE_ADMIN_PASSWORD_FILE", &*password),
        ("alan", "CREDENTIALS_DIRECTORY", folder.path()),
    ] {
        let mut command = boxoffice();
        command.args(["admin", "create", "--username", username, "--data"]).arg(data).env(variable, value);
        assert_eq!(run(command, "").code, Some(0));
    }
    fs::remove_file(secret).unwrap();
    let server = Server::spawn(serve(data));
    for username in ["grace", "alan"] {
        server.client().log_in(username, PASSWORD);
    }
}
