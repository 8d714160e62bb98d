//! What needs another program: run by name, `cargo test --test tools -- --ignored`.

mod support;

use std::path::Path;
use std::process::Command;

use support::{Stage, number};

/// What a plain `sqlite3` shell says.
fn sqlite3(file: &Path, sql: &str) -> String {
    let output = Command::new("sqlite3").arg("-readonly").arg(file).arg(sql).output();
    let output = output.expect("sqlite3 is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("sqlite3 prints text")
}

#[test]
#[ignore = "needs sqlite3"]
fn a_plain_shell_reads_the_same_totals_as_the_api() {
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
