//! The errors of the demonstration, with a remedy where there is one.

use std::io;

use super::client::ClientError;

/// Why the demonstration failed. The server has ended and its data is removed in any case.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error("interrupted before the proof was complete; the server is stopped and its data removed")]
    Interrupted,
    #[error("watch for Ctrl-C: {0}")]
    Signals(io::Error),
    #[error("temporary directory: {0}\n  set TMPDIR to a writable directory with 1 GiB of free space")]
    Directory(io::Error),
    #[error("start the server, which is this program: {0}\n  run the program by its full path")]
    Program(io::Error),
    #[error("the server did not start{}", tail(log))]
    NotStarted { log: String },
    #[error("the server ended by itself{}", tail(log))]
    ServerEnded { log: String },
    #[error("stop the server: {0}")]
    Stop(io::Error),
    #[error("start a thread: {0}\n  {BUYERS_NEED}")]
    Thread(io::Error),
    #[error("{action}: {source}\n  {BUYERS_NEED}; if these are available, this is a defect of the server")]
    Http { action: String, source: ClientError },
    #[error(
        "{action}: unexpected answer {status}: {body}\n  this is a defect of the server; please report it"
    )]
    Unexpected { action: String, status: u16, body: String },
    #[error(
        "a request with the key {key} was refused when it was sent again\n  this is a defect of the server; please report it"
    )]
    Refused { key: String },
    #[error(
        "the proof FAILED:\n  {}\n  this is a defect of the server; please report it",
        violations.join("\n  ")
    )]
    Disproved { violations: Vec<String> },
    #[error("write to standard output: {0}")]
    Output(io::Error),
}

const BUYERS_NEED: &str = "the buyers need 80 threads and 80 open connections (ulimit -u, ulimit -n)";

fn tail(log: &str) -> String {
    if log.is_empty() { "; its log is empty".to_owned() } else { format!("; the end of its log:\n{log}") }
}
