//! What other programs see of us. They are not there everywhere, so these are
//! run by name: `cargo test --test tools -- --ignored`.

mod support;

use std::process::Command;

use support::{Server, events};

/// A plain `sqlite3` shell on the files of a stopped server.
fn sqlite3(file: &std::path::Path, sql: &str) -> String {
    let output = Command::new("sqlite3").arg("-readonly").arg(file).arg(sql).output();
    let output = output.expect("sqlite3 is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("sqlite3 prints text")
}
