//! What can keep the demonstration from its end, and what to do about it.

use std::io;

use super::client::ClientError;

/// Why the demonstration did not come to its good end. Server and data are gone all the same.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("interrupted before the proof was complete; the server is stopped and its data removed")]
    Interrupted,
    #[error("watch for Ctrl-C: {0}")]
    Signals(io::Error),
    #[error(
        "temporary directory: {0}\n  set TMPDIR to a directory that this user can write, with 1 GiB free"
    )]
    Directory(io::Error),
    #[error("start the server, which is this same program: {0}\n  run the program by its full path")]
    Program(io::Error),
    #[error("the server did not start{}", tail(log))]
    NotStarted { log: String },
    #[error("the server ended by itself{}", tail(log))]
    ServerEnded { log: String },
    #[error("stop the server: {0}")]
    Stop(io::Error),
    #[error("start a thread: {0}\n  {BUYERS_NEED}")]
    Thread(io::Error),
    #[error("{doing}: {source}\n  {BUYERS_NEED}; if that is there, this is a defect of the server")]
    Http { doing: String, source: ClientError },
    #[error(
        "{doing}: unexpected answer {status}: {body}\n  this is a defect of the server; please report it"
    )]
    Unexpected { doing: String, status: u16, body: String },
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
    if log.is_empty() { "; it said nothing".to_owned() } else { format!("; the last that it said:\n{log}") }
}
