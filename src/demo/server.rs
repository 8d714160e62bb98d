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

/// The timeout of a start: above the recovery of all that the longest demonstration sells.
const START_MAX: Duration = Duration::from_secs(120);

/// The timeout of a stop. The server promises to exit within ten seconds.
const STOP_MAX: Duration = Duration::from_secs(15);

/// A running server, which is killed on drop.
pub(super) struct Server {
    child: Child,
    pub(super) address: SocketAddr,
    /// The line that the server printed when it was ready.
    pub(super) announcement: String,
    log: PathBuf,
}

impl Server {
    /// Starts a server with its data and its log in the directory. Returns when it is ready.
    pub(super) fn start(
        directory: &Path,
        shards: Option<usize>,
        interrupt: &Interrupt,
    ) -> Result<Server, DemoError> {
        interrupt.check()?;
        let log = directory.join("server.log");
        let log_file = File::options().create(true).append(true).open(&log).map_err(DemoError::Directory)?;
        let mut command = Command::new(env::current_exe().map_err(DemoError::Program)?);
        // The demonstration uses the defaults, even if the environment configures a server.
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BOXOFFICE_")) {
            command.env_remove(name);
        }
        command.args(["--log", "info", "--log-format", "human", "serve", "--demo", "--storage", "sqlite"]);
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(directory.join("data"));
        if let Some(shards) = shards {
            command.arg("--shards").arg(shards.to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file);
        // In its own process group, the server does not get a Ctrl-C from the terminal, so this
        // process can stop it in order.
        command.process_group(0);
        let mut child = command.spawn().map_err(DemoError::Program)?;
        let lines = lines(child.stdout.take().expect("standard output is piped"));
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

    /// Kills the server with SIGKILL, so that it cannot finish anything.
    pub(super) fn kill(mut self) -> Result<(), DemoError> {
        self.child.kill().and_then(|()| self.child.wait()).map_err(DemoError::Stop)?;
        Ok(())
    }

    /// Sends SIGTERM and waits for a successful exit.
    pub(super) fn stop(mut self) -> Result<(), DemoError> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .map_err(|error| DemoError::Stop(error.into()))?;
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().map_err(DemoError::Stop)? {
                return self.check(status);
            }
            thread::sleep(POLL / 5);
        }
        Err(DemoError::Stop(io::Error::other("it did not exit in time after SIGTERM, so it was killed")))
    }

    fn check(&self, status: ExitStatus) -> Result<(), DemoError> {
        if status.success() { Ok(()) } else { Err(self.ended()) }
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The error for an unexpected exit, with the end of the log.
    pub(super) fn ended(&self) -> DemoError {
        DemoError::ServerEnded { log: self.log_tail() }
    }

    /// The last lines of the server's log.
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
        // Both fail only if the process has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Forwards the lines of standard output. Reads to the end, so that the server never blocks on a
/// full pipe.
fn lines(stdout: ChildStdout) -> Result<Receiver<String>, DemoError> {
    let (sender, receiver) = mpsc::channel();
    let read = move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Fails after the announcement, when the receiver is dropped.
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
