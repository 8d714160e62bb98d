//! Starts under constrained resources: each succeeds or exits with a clear message.
//!
//! Some tests need strace: `cargo test --test start -- --ignored`.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use support::server::{Server, boxoffice, run, serve};
use support::{Stage, TestFolder, copy_directory, number};

/// The program with limits set by a shell, such as `ulimit -n 30`.
fn limited(limits: &str) -> Command {
    let program = boxoffice();
    let mut shell = support::server::program("sh");
    shell.arg("-c").arg(format!("{limits}; exec \"$0\" \"$@\"")).arg(program.get_program());
    shell
}

#[test]
fn one_of_two_concurrent_starts_gets_the_port() {
    for _ in 0..4 {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("it is bound").to_string();
        drop(free);
        let starts: Vec<_> = (0..2)
            .map(|_| {
                let mut command = boxoffice();
                command.args(["serve", "--storage", "memory", "--shards", "2", "--listen", &address]);
                command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
                command.spawn().expect("it starts")
            })
            .collect();
        // The other one gives up after two seconds.
        thread::sleep(std::time::Duration::from_secs(4));
        let mut served = 0;
        for mut start in starts {
            if start.try_wait().expect("it is our child").is_none() {
                served += 1;
                start.kill().expect("it runs");
            }
            let output = start.wait_with_output().expect("it ended");
            let refused = String::from_utf8_lossy(&output.stderr).contains("is taken");
            assert!(refused != output.status.code().is_none(), "{output:?}");
        }
        assert_eq!(served, 1);
    }
}

#[test]
fn too_few_descriptors_are_reported() {
    let mut command = limited("ulimit -n 100");
    command.args(["serve", "--storage", "memory", "--shards", "8", "--listen", "127.0.0.1:0"]);
    let ended = run(command, "");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("8 shards need a limit of at least 320 open files, it is 100"),
        "{ended:?}"
    );
}

/// The main thread starts at least 5 others, and the one that recovers some of its own.
#[test]
#[ignore = "needs strace"]
fn too_few_threads_are_reported() {
    for failing in 1..=5 {
        let data = tempfile::tempdir().expect("a directory");
        drop(Server::spawn(serve(data.path())));
        let mut command = support::server::program("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=clone,clone3"]);
        command.args(["-e", &format!("inject=clone,clone3:error=EAGAIN:when={failing}")]);
        command.arg(boxoffice().get_program()).args(["serve", "--shards", "2", "--listen", "127.0.0.1:0"]);
        command.arg("--data").arg(data.path());
        let ended = run(command, "");
        assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{failing}: {ended:?}");
        let message = ended.stderr.lines().find(|line| line.starts_with("boxoffice: "));
        let is_right = |message: &str| message.starts_with("boxoffice: start a thread: Resource");
        assert!(message.is_some_and(is_right), "{failing}: {ended:?}");
    }
}

/// System calls, the file, how they fail, and what the operator is told.
type Unread = (&'static str, &'static str, &'static str, &'static str);

const UNREAD: [Unread; 12] = [
    ("pread64", "shard-01.sqlite", "EIO:when=3", "Input/output error"),
    ("pread64", "shard-00.sqlite", "EIO:when=2", "Input/output error"),
    ("pread64", "shard-00.sqlite", "EIO:when=1", "Input/output error"),
    ("pread64", "shard-00.sqlite-wal", "EIO:when=1", "Input/output error"),
    ("pread64", "shard-01.sqlite-wal", "EIO:when=3", "Input/output error"),
    ("pread64", "shard-00.sqlite", "ENOMEM:when=2", "Cannot allocate memory"),
    ("read", "shard-01.mark", "EIO:when=1", "Input/output error"),
    ("read", "manifest.json", "EIO:when=1", "Input/output error"),
    ("openat", "shard-00.sqlite", "EMFILE:when=1+", "Too many open files"),
    ("openat", "shard-00.sqlite-wal", "ENFILE:when=1+", "Too many open files in system"),
    ("openat", "shard-01.mark", "ENOMEM:when=1", "Cannot allocate memory"),
    ("openat", "manifest.json", "EMFILE:when=1", "Too many open files"),
];

/// None of these says anything about the data.
#[test]
#[ignore = "needs strace"]
fn a_file_that_could_not_be_read_is_not_called_damaged() {
    let folder = TestFolder::new();
    let [template, data] = ["template", "data"].map(|name| folder.path(name));
    let stage = Stage::open(&template, 2);
    let event = stage.event(100);
    stage.reservation(event, 3);
    stage.server.kill();
    for (calls, file, error, told) in UNREAD {
        let context = format!("{calls} of {file}: {error}");
        copy_directory(&template, &data);
        let before = whole_files(&data);
        let mut command = support::server::program("strace");
        command
            .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")])
            .arg("-P")
            .arg(data.join(file));
        command.args(["-e", &format!("inject={calls}:error={error}")]).arg(boxoffice().get_program());
        command.args(["serve", "--shards", "2", "--listen", "127.0.0.1:0"]).arg("--data").arg(&data);
        let ended = run(command, "");
        assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{context}: {ended:?}");
        let message = &ended.stderr;
        assert!(
            message.contains(file.trim_end_matches("-wal")) && message.contains(told),
            "{context}: {message}"
        );
        assert!(
            message.contains("nothing is known to be damaged") && message.contains("start again"),
            "{message}"
        );
        assert!(!message.contains("malformed") && !message.contains("backup"), "{context}: {message}");
        assert!(whole_files(&data) == before, "{context}: a file was changed");
    }
    let server = Server::start(&data, &["--shards", "2"]);
    let seen = server.client().get(&format!("/api/v1/events/{event}")).expect(200).json();
    assert_eq!(number(&seen, "reserved"), 3);
}

/// Every file with its content, but those that SQLite makes anew.
fn whole_files(data: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(data).expect("it is there").map(|entry| entry.expect("it can be read").path());
    let paths = paths.filter(|path| path.extension().is_some_and(|extension| extension != "sqlite-shm"));
    paths.map(|path| (path.clone(), fs::read(path).expect("it can be read"))).collect()
}

#[test]
fn a_low_descriptor_limit_leaves_some_connections() {
    let data = tempfile::tempdir().expect("a directory");
    let mut command = limited("ulimit -n 300");
    command.args(["serve", "--shards", "2", "--listen", "127.0.0.1:0", "--data"]).arg(data.path());
    let server = Server::spawn(command);
    server.client().get("/livez").expect(200);
}

/// The GET that creates the demonstration data is not safe: requests pipelined after it wait for it.
#[test]
fn requests_pipelined_after_pop_wait_for_it() {
    let data = tempfile::tempdir().expect("a directory");
    let mut command = serve(data.path());
    command.args(["--demo", "--shards", "2"]);
    let server = Server::spawn(command);
    let mut wire = server.wire();
    wire.send(b"GET /api/v1/pop HTTP/1.1\r\nHost: x\r\n\r\nGET /api/v1/events/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        .expect("the server listens");
    wire.next().expect(200);
    assert_eq!(number(&wire.next().expect(200).json(), "quota"), 10_000);
}

#[test]
fn the_buffer_of_a_large_request_is_freed() {
    let data = tempfile::tempdir().expect("a directory");
    let stage = Stage::open(data.path(), 1);
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", stage.server.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line with VmRSS");
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        kib.expect("a number of KiB")
    };
    let body = "x".repeat(60_000);
    let request =
        format!("POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut wires = Vec::new();
    let before = resident();
    for _ in 0..400 {
        let mut wire = stage.server.wire();
        wire.send(request.as_bytes()).expect("the server listens");
        wire.next().expect(400);
        wires.push(wire);
    }
    let each = (resident().saturating_sub(before)) / 400;
    assert!(each < 24, "{each} KiB for each idle connection that has posted 60 KB once");
}
