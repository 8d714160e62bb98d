//! Tests that need other programs: run by name, `cargo test --test tools -- --ignored`.

mod support;

use std::process::Command;

use support::server::{boxoffice, run};
use support::{Stage, number, sqlite3};

#[test]
#[ignore = "needs sqlite3"]
fn the_sqlite_shell_reads_the_same_totals_as_the_api() {
    let data = tempfile::tempdir().expect("a directory");
    let stage = Stage::open(data.path(), 2);
    let events: Vec<u64> = (0..6).map(|_| stage.event(1000)).collect();
    for (index, &event) in events.iter().enumerate() {
        let ids: Vec<String> = (0..4).map(|nth| stage.reservation(event, nth + 1)).collect();
        stage.cust1.delete(&format!("/api/v1/reservations/{}", ids[index % 4])).expect(204);
    }
    let by_api: Vec<u64> = events.iter().map(|&event| number(&stage.seen(event), "reserved")).collect();
    let (status, stderr) = stage.server.terminate();
    assert!(status.success(), "{stderr}");

    let sum = "sum(CASE kind WHEN 'reserved' THEN quantity ELSE -quantity END)";
    let by_shell: Vec<u64> = events
        .iter()
        .map(|event| {
            let sql = format!(
                "SELECT coalesce({sum}, 0) FROM history WHERE kind IN ('reserved', 'cancelled') AND event = {event}"
            );
            let parts = ["shard-00.sqlite", "shard-01.sqlite"].map(|file| sqlite3(&data.path().join(file), &sql));
            parts.iter().map(|part| part.trim().parse::<u64>().expect("a number")).sum()
        })
        .collect();
    assert_eq!(by_shell, by_api);

    let columns =
        sqlite3(&data.path().join("shard-00.sqlite"), "SELECT name FROM pragma_table_info('history')");
    let columns: Vec<&str> = columns.lines().collect();
    assert_eq!(columns, ["slot", "lsn", "epoch", "at", "kind", "event", "reservation", "user", "quantity"]);
}

/// Simulates kernels where io_uring is disabled, unsupported, or out of memory.
#[test]
#[ignore = "needs strace"]
fn a_kernel_without_io_uring_is_reported_with_a_remedy() {
    let cases = [
        ("EPERM", "boxoffice: io_uring is forbidden here (", "sysctl kernel.io_uring_disabled=0"),
        ("ENOSYS", "boxoffice: this kernel is too old for io_uring", "Linux 5.8 or later"),
        ("ENOMEM", "boxoffice: there is no memory for io_uring", "ulimit -l 8192"),
    ];
    for (error, first, remedy) in cases {
        let program = boxoffice();
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=io_uring_setup"]);
        command.args(["-e", &format!("inject=io_uring_setup:error={error}")]).arg(program.get_program());
        command.args(["serve", "--storage", "memory", "--listen", "127.0.0.1:0"]);
        let ended = run(command, "");
        assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{error}: {ended:?}");
        let line = ended.stderr.lines().next().expect("a message");
        assert!(line.starts_with(first) && ended.stderr.contains(remedy), "{error}: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{error}: {ended:?}");
    }
}
