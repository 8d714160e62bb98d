//! The server as a child process, which never outlives the demonstration.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use rustix::process::{Pid, Signal, kill_process};

use super::DemoError;
use super::interrupt::{Interrupt, POLL};

/// Recovery of all that the longest demonstration sells takes less.
const START_MAX: Duration = Duration::from_secs(120);

/// What it promises is ten seconds.
const STOP_MAX: Duration = Duration::from_secs(15);

/// A running server. Killed when dropped.
pub(super) struct Server {
    child: Child,
    pub(super) address: SocketAddr,
    /// The line that it printed once it answered.
    pub(super) announcement: String,
    log: PathBuf,
}

impl Server {
    /// Returns once it answers. Keeps its data and its log in the directory.
    pub(super) fn start(
        directory: &Path,
        shards: Option<usize>,
        interrupt: &Interrupt,
    ) -> Result<Server, DemoError> {
        interrupt.check()?;
        let log = directory.join("server.log");
        let log_file = File::options().create(true).append(true).open(&log).map_err(DemoError::Directory)?;
        let mut command = Command::new(env::current_exe().map_err(DemoError::Program)?);
        // The demonstration is of the defaults, whatever a server here is set to.
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BOXOFFICE_")) {
            command.env_remove(name);
        }
        command.args(["--log", "info", "--log-format", "human", "serve", "--demo", "--storage", "sqlite"]);
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(directory.join("data"));
        if let Some(shards) = shards {
            command.arg("--shards").arg(shards.to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file);
        // Its own group: a Ctrl-C at the terminal comes to us alone, and we stop it in order.
        command.process_group(0);
        let mut child = command.spawn().map_err(DemoError::Program)?;
        let lines = lines(child.stdout.take().expect("it was asked for"));
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Server { child, address, announcement: String::new(), log };
        (server.announcement, server.address) = server.await_announcement(&lines?, interrupt)?;
        Ok(server)
    }

    fn await_announcement(
        &self,
        lines: &Receiver<String>,
        interrupt: &Interrupt,
    ) -> Result<(String, SocketAddr), DemoError> {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            interrupt.check()?;
            match lines.recv_timeout(POLL) {
                Ok(line) => {
                    if let Some(address) = announced_address(&line) {
                        return Ok((line, address));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Err(DemoError::NotStarted { log: self.log_tail() })
    }

    /// SIGKILL: it has no chance to finish anything.
    pub(super) fn kill(mut self) -> Result<(), DemoError> {
        self.child.kill().and_then(|()| self.child.wait()).map_err(DemoError::Stop)?;
        Ok(())
    }

    /// SIGTERM, and waits until it has ended in order.
    pub(super) fn stop(mut self) -> Result<(), DemoError> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .map_err(|error| DemoError::Stop(error.into()))?;
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().map_err(DemoError::Stop)? {
                return self.judge(status);
            }
            thread::sleep(POLL / 5);
        }
        Err(DemoError::Stop(io::Error::other("it did not end in time after SIGTERM, so it was killed")))
    }

    fn judge(&self, status: ExitStatus) -> Result<(), DemoError> {
        if status.success() { Ok(()) } else { Err(self.ended()) }
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The error that says so, with why.
    pub(super) fn ended(&self) -> DemoError {
        DemoError::ServerEnded { log: self.log_tail() }
    }

    /// The last lines of its log.
    fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..]
            .iter()
            .map(|line| format!("    {line}"))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads to the end, so that the server never writes into a pipe that nobody empties.
fn lines(stdout: ChildStdout) -> Result<Receiver<String>, DemoError> {
    let (sender, receiver) = mpsc::channel();
    let read = move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Nobody listens any more once it has announced itself.
            let _ = sender.send(line);
        }
    };
    thread::Builder::new().name("server-output".to_owned()).spawn(read).map_err(DemoError::Thread)?;
    Ok(receiver)
}

fn announced_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on http://")?;
    rest.split([',', ' ', '/']).next()?.parse().ok()
}
