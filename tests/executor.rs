//! The executor that the server chooses: a seccomp filter refuses io_uring, as containers do, or a limit does.

mod support;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use serde_json::json;
use support::server::{Server, boxoffice, program, run, serve};
use support::{Stage, number};

/// `io_uring_setup`, `io_uring_enter` and `io_uring_register`, whose numbers are the same everywhere.
const IO_URING_CALLS: [i64; 3] = [425, 426, 427];

/// Calls `test` on a thread for which, and for whose processes, every call of io_uring fails with `errno`.
fn where_io_uring_fails<T: Send>(errno: i32, test: impl FnOnce() -> T + Send) -> T {
    let rules: BTreeMap<i64, Vec<_>> = IO_URING_CALLS.map(|call| (call, Vec::new())).into();
    let arch = std::env::consts::ARCH.try_into().expect("seccompiler knows this machine");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), arch);
    let filter: BpfProgram = filter.and_then(TryInto::try_into).expect("a filter of three calls");
    thread::scope(|scope| {
        let filtered = scope.spawn(move || {
            apply_filter(&filter).expect("the kernel has seccomp");
            test()
        });
        filtered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A server that chooses by itself, whatever this run of the tests says.
fn choosing(mut command: Command) -> Command {
    command.env_remove("BOXOFFICE_EXECUTOR");
    command
}

/// The lines of a log about the executor.
fn said(log: &str) -> Vec<&str> {
    log.lines()
        .filter_map(|line| line.split_once("INFO "))
        .map(|(_, text)| text)
        .filter(|text| text.starts_with("tasks run on "))
        .collect()
}

#[test]
fn where_io_uring_is_refused_a_server_sells_and_forgets_nothing() {
    where_io_uring_fails(libc::EPERM, || {
        let data = tempfile::tempdir().expect("a directory");
        let start = || {
            let mut command = choosing(serve(data.path()));
            command.args(["--demo", "--shards", "2"]);
            Server::spawn(command)
        };
        let stage = Stage::on(start());
        let forbidden = "tasks run on epoll, without io_uring: io_uring is forbidden here (Operation not \
                         permitted (os error 1))";
        assert_eq!(said(&stage.server.stderr()), [forbidden]);

        // Four customers buy until the server is killed.
        let event = stage.event(1_000_000);
        let path = format!("/api/v1/events/{event}/reservations");
        let acknowledged = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let customer = stage.cust1.at(stage.server.address);
                    while let Ok(answer) = customer.try_post(&path, &json!({ "quantity": 1 })) {
                        answer.expect(201);
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let until = Instant::now() + Duration::from_secs(60);
            while acknowledged.load(Ordering::Relaxed) < 200 {
                assert!(Instant::now() < until, "{acknowledged:?} were sold");
                thread::sleep(Duration::from_millis(5));
            }
            stage.server.signal(rustix::process::Signal::KILL);
        });
        let (status, _) = stage.server.end();
        assert_eq!(status.code(), None, "it was killed");

        let stage = Stage::again(start());
        let sold = number(&stage.seen(event), "reserved");
        let acknowledged = acknowledged.into_inner();
        assert!(
            (acknowledged..=acknowledged + 4).contains(&sold),
            "{sold} sold, {acknowledged} acknowledged"
        );
        stage.reservation(event, 3);
        assert_eq!(number(&stage.seen(event), "reserved"), sold + 3);
        stage.server.drain();
    });
}

/// The command to serve in memory, with these arguments.
fn in_memory(mut command: Command, arguments: &[&str]) -> Command {
    command
        .args(["serve", "--storage", "memory", "--shards", "1", "--listen", "127.0.0.1:0"])
        .args(arguments);
    choosing(command)
}

/// The log of a server that starts, answers, and is told to end.
fn log_of(command: Command) -> String {
    let server = Server::spawn(command);
    server.client().get("/livez").expect(200);
    let (status, log) = server.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    log
}

/// Kernels where io_uring is forbidden, missing, or has no memory: the server runs, and says why without it. If it
/// is told to use it, it says what to change.
#[test]
fn the_cause_of_a_refusal_is_said() {
    let cases = [
        (libc::EPERM, "io_uring is forbidden here (", "sysctl kernel.io_uring_disabled=0"),
        (libc::ENOSYS, "this kernel has no io_uring (", "Linux 5.8 or later"),
        (libc::ENOMEM, "there is no memory for io_uring", "ulimit -l 8192"),
    ];
    for (errno, cause, remedy) in cases {
        where_io_uring_fails(errno, || {
            let log = log_of(in_memory(boxoffice(), &[]));
            let begin = format!("tasks run on epoll, without io_uring: {cause}");
            assert!(matches!(*said(&log), [line] if line.starts_with(&begin)), "{log}");
            expect_refusal(in_memory(boxoffice(), &["--executor", "glommio"]), cause, remedy);
        });
    }
}

/// Kernels before 5.16 have a limit of 64 KiB by default, and so have containers there.
#[test]
fn a_low_limit_of_locked_memory_is_no_hindrance() {
    let limited = |arguments: &[&str]| {
        let mut shell = program("sh");
        shell.args(["-c", "ulimit -l 64; exec \"$0\" \"$@\""]).arg(boxoffice().get_program());
        in_memory(shell, arguments)
    };
    let cause = "the limit of locked memory is 64 KiB, io_uring needs 512 KiB";
    assert_eq!(said(&log_of(limited(&[]))), [format!("tasks run on epoll, without io_uring: {cause}")]);
    expect_refusal(limited(&["--executor", "glommio"]), cause, "LimitMEMLOCK=8M");
}

fn expect_refusal(command: Command, cause: &str, remedy: &str) {
    let ended = run(command, "");
    assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{ended:?}");
    let first = ended.stderr.lines().next().expect("a message");
    assert!(first.starts_with(&format!("boxoffice: {cause}")), "{ended:?}");
    assert!(ended.stderr.contains(remedy) && ended.stderr.contains("leave --executor out"), "{ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
}

#[test]
fn an_executor_can_be_asked_for() {
    let log = log_of(in_memory(boxoffice(), &["--executor", "epoll"]));
    assert_eq!(said(&log), ["tasks run on epoll, without io_uring: it was asked for"]);
}
