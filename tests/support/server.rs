//! The server as a child process on a free port.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Barrier, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::client::{Answer, Client, Wire};

/// The timeout of starts and exits, which take a fraction of a second on an idle machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// The time within which a server promises to exit after SIGTERM.
const SHUTDOWN_MAX: Duration = Duration::from_secs(10);

/// The maximum number of servers at a time, since each locks memory and uses CPU.
const SERVERS_MAX: usize = 2;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// A permit to run a server; at most [`SERVERS_MAX`] exist.
struct Turn;

impl Turn {
    fn wait() -> Turn {
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        while *running >= SERVERS_MAX {
            running = ENDED.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
        *running += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_one();
    }
}

/// A running server, which is killed on drop.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// The line that the server printed on standard output when it was ready.
    pub(crate) greeting: String,
    stderr: Arc<Mutex<String>>,
    _turn: Turn,
}

/// The program, as [`program`] says.
pub(crate) fn boxoffice() -> Command {
    program(env!("CARGO_BIN_EXE_boxoffice"))
}

/// A command that is or starts the program, without the `BOXOFFICE_*` variables of this process's environment:
/// those are settings of the tests. Only the executor of the servers can be set for a whole run. Organizers may
/// register, unless the test says otherwise.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BOXOFFICE_") && name != "BOXOFFICE_EXECUTOR" {
            command.env_remove(name);
        }
    }
    command.env("BOXOFFICE_REGISTRATION", "open");
    command
}

/// `boxoffice serve` on `data` and a free port.
pub(crate) fn serve(data: &Path) -> Command {
    let mut command = boxoffice();
    command.arg("serve").arg("--data").arg(data).args(["--listen", "127.0.0.1:0"]);
    command
}

impl Server {
    pub(crate) fn start(data: &Path, arguments: &[&str]) -> Server {
        let mut command = serve(data);
        command.args(arguments);
        Server::spawn(command)
    }

    /// Starts a server on the port of an earlier one.
    pub(crate) fn start_at(data: &Path, address: SocketAddr, arguments: &[&str]) -> Server {
        Server::begin_at(data, address, arguments).ready()
    }

    /// Starts a server on the port of an earlier one, and does not wait until it is ready.
    pub(crate) fn begin_at(data: &Path, address: SocketAddr, arguments: &[&str]) -> Starting {
        let mut command = boxoffice();
        command.arg("serve").arg("--data").arg(data).args(["--listen", &address.to_string()]).args(arguments);
        Server::begin(command, Stdio::piped())
    }

    /// Starts a server and returns when it is ready.
    ///
    /// # Panics
    ///
    /// When the server does not become ready, with its standard error.
    pub(crate) fn spawn(command: Command) -> Server {
        Server::spawn_with(command, Stdio::piped())
    }

    /// Starts a server with this as its standard error, which is kept only if it is a new pipe.
    pub(crate) fn spawn_with(command: Command, errors: Stdio) -> Server {
        Server::begin(command, errors).ready()
    }

    /// Starts a server and does not wait until it is ready.
    pub(crate) fn begin(mut command: Command, errors: Stdio) -> Starting {
        let turn = Turn::wait();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().expect("it starts");
        // It holds the other ends of pipes that were given to the child.
        drop(command);
        let stderr = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&stderr);
        let errors = child.stderr.take();
        thread::spawn(move || {
            let Some(errors) = errors else { return };
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        let (sender, greetings) = channel();
        let output = child.stdout.take().expect("it is piped");
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let server = Server {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            greeting: String::new(),
            stderr,
            _turn: turn,
        };
        Starting { server, greetings }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Sends a request over so many connections at once. Returns the answers, which have this status.
    pub(crate) fn ask_at_once(&self, request: &str, connections: usize, status: u16) -> Vec<Answer> {
        let barrier = Barrier::new(connections);
        thread::scope(|scope| {
            let clients: Vec<_> = (0..connections)
                .map(|_| {
                    let (mut wire, barrier) = (self.wire(), &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        wire.ask(request).expect(status)
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().expect("it was answered")).collect()
        })
    }

    pub(crate) fn wire(&self) -> Wire {
        Wire::open(self.address).expect("the server takes a connection")
    }

    /// The server's standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the server has exited.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let status = wait(&mut self.child);
        let status = status.unwrap_or_else(|| panic!("the server does not exit\n{}", self.stderr()));
        (status, self.stderr())
    }

    /// Injects faults into system calls on some files with strace, such as `error=EIO:when=2+`.
    /// strace exits with the server, or when it is interrupted.
    pub(crate) fn inject(&self, calls: &str, files: &[PathBuf], what: &str) -> Child {
        let mut strace = Command::new("strace")
            .args(["-f", "-p", &self.id().to_string(), "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:{what}")])
            .args(files.iter().flat_map(|file| [Path::new("-P"), file]))
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace is installed");
        let mut attached = String::new();
        let mut lines = BufReader::new(strace.stderr.take().expect("it is piped"));
        lines.read_line(&mut attached).expect("strace prints that it is attached");
        assert!(attached.contains("attached"), "{attached}");
        // Reads on, since a full pipe would block strace and with it the server.
        thread::spawn(move || lines.lines().map_while(Result::ok).for_each(drop));
        strace
    }

    /// Makes syncs of SQLite's journals do nothing. Returns strace.
    pub(crate) fn disable_syncs(&self, data: &Path) -> Child {
        let journals = (0..4).map(|shard| data.join(format!("shard-{shard:02}.sqlite-wal")));
        let journals: Vec<PathBuf> = journals.filter(|journal| journal.exists()).collect();
        self.inject("fsync,fdatasync", &journals, "retval=0")
    }

    /// Kills the server with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ended");
    }

    /// Sends SIGTERM and waits; returns the exit status and standard error.
    pub(crate) fn terminate(mut self) -> (ExitStatus, String) {
        self.signal_to_end();
        let status = wait(&mut self.child);
        let status =
            status.unwrap_or_else(|| panic!("the server does not exit after SIGTERM\n{}", self.stderr()));
        (status, self.stderr())
    }

    /// Sends SIGTERM and polls `/readyz` until the server is gone: once it was not ready, it must
    /// not be ready again. Returns the number of responses that said it was not ready.
    pub(crate) fn drain(self) -> usize {
        let start = Instant::now();
        self.signal_to_end();
        let mut not_ready = 0;
        while let Ok(mut wire) = Wire::open(self.address) {
            let response = wire.send("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").and_then(|()| wire.answer());
            match response {
                Ok(Some(answer)) if answer.status == 200 => {
                    assert_eq!(not_ready, 0, "ready again while draining");
                }
                Ok(Some(answer)) => {
                    assert!(answer.closes(), "{answer:?}");
                    answer.problem(503, "not-ready");
                    not_ready += 1;
                }
                // The kernel accepted the connection and the server did not.
                Ok(None) | Err(_) => {}
            }
        }
        let (status, log) = self.end();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(start.elapsed() < SHUTDOWN_MAX, "it took {:?}\n{log}", start.elapsed());
        not_ready
    }

    /// Stops the process with SIGSTOP.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Sends SIGTERM without waiting.
    pub(crate) fn signal_to_end(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }
}

/// A server that is not known to be ready; killed on drop.
pub(crate) struct Starting {
    pub(crate) server: Server,
    greetings: Receiver<String>,
}

impl Starting {
    /// Waits until it is ready.
    pub(crate) fn ready(self) -> Server {
        let Starting { mut server, greetings } = self;
        let why = match greetings.recv_timeout(DEADLINE) {
            Ok(line) => {
                // The line is JSON with `--log-format json`.
                let behind = line.split_once("http://").map(|(_, behind)| behind);
                let address = behind.and_then(|behind| behind.split([',', '"']).next()?.parse().ok());
                if let Some(address) = address {
                    server.address = address;
                    server.greeting = line;
                    return server;
                }
                format!("it printed {line:?}")
            }
            Err(RecvTimeoutError::Disconnected) => format!("it exited, {:?}", server.child.wait()),
            Err(RecvTimeoutError::Timeout) => "it printed nothing".to_owned(),
        };
        panic!("the server did not start: {why}\n{}", server.stderr());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail if the server has already exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("standard error of the server:\n{}", self.stderr());
        }
    }
}

/// Kills a server some time after its start. Returns whether it was ready.
pub(crate) fn kill_start(mut command: Command, delay: Duration) -> bool {
    let _turn = Turn::wait();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    thread::sleep(delay);
    child.kill().expect("it is our child");
    let output = child.wait_with_output().expect("it ended");
    assert_eq!(output.status.code(), None, "it exited before the kill: {output:?}");
    String::from_utf8_lossy(&output.stdout).contains("listening on")
}

/// The result of a command that exits by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` if a signal ended the process.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command until it exits, with `input` on its standard input.
pub(crate) fn run(mut command: Command, input: &str) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // Fails if the command exits without reading.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    let mut output = child.stdout.take().expect("it is piped");
    let mut errors = child.stderr.take().expect("it is piped");
    let output = thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let errors = thread::spawn(move || {
        let mut text = String::new();
        errors.read_to_string(&mut text).map(|_| text)
    });
    let status = wait(&mut child);
    if status.is_none() {
        child.kill().expect("it runs");
    }
    let stdout = output.join().expect("no panic").expect("text");
    let stderr = errors.join().expect("no panic").expect("text");
    let Some(status) = status else { panic!("{command:?} did not end\n{stdout}\n{stderr}") };
    Ended { code: status.code(), stdout, stderr }
}

/// Waits for the exit; returns `None` after the deadline.
fn wait(child: &mut Child) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < DEADLINE {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}
