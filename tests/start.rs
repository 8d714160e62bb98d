//! Starts under constrained resources: each succeeds or exits with a clear message.
//!
//! One test needs strace: `cargo test --test start -- --ignored`.

mod support;

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;

use support::server::{Server, boxoffice, run, serve};
use support::{Stage, number};

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
        ended.stderr.contains("8 shards need a limit of at least 240 open files, it is 100"),
        "{ended:?}"
    );
}

#[test]
fn too_little_locked_memory_is_reported_with_a_remedy() {
    let mut command = limited("ulimit -l 100");
    command.args(["serve", "--storage", "memory", "--listen", "127.0.0.1:0"]);
    let ended = run(command, "");
    assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{ended:?}");
    let first = ended.stderr.lines().next().expect("a message");
    assert_eq!(first, "boxoffice: the limit of locked memory is 100 KiB, io_uring needs 512 KiB");
    assert!(ended.stderr.contains("ulimit -l 8192") && ended.stderr.contains("LimitMEMLOCK=8M"), "{ended:?}");
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
        let first = ended.stderr.lines().next().expect("a message");
        assert!(first.starts_with("boxoffice: start a thread: Resource"), "{failing}: {ended:?}");
    }
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
