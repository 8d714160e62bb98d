//! The server as a process: started on a free port, ended by its own handle and no other's.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::client::{Client, Wire};

/// For what takes a fraction of a second on an idle machine: tests may run on a busy one.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a server promises that is told to end.
const SHUTDOWN_MAX: Duration = Duration::from_secs(10);

/// Each locks memory and keeps cores busy.
const SERVERS_MAX: usize = 2;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// Counts a server as running.
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

/// A server that runs, until it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// What it said on standard output when it was ready.
    pub(crate) greeting: String,
    stderr: Arc<Mutex<String>>,
    _turn: Turn,
}

/// The program, with nothing of this process's environment that it would heed.
pub(crate) fn boxoffice() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_boxoffice"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BOXOFFICE_") {
            command.env_remove(name);
        }
    }
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

    /// On the port that an earlier one had.
    pub(crate) fn start_at(data: &Path, address: SocketAddr, arguments: &[&str]) -> Server {
        let mut command = boxoffice();
        command.arg("serve").arg("--data").arg(data).args(["--listen", &address.to_string()]).args(arguments);
        Server::spawn(command)
    }

    /// Returns when it says that it listens.
    ///
    /// # Panics
    ///
    /// With what it wrote to standard error, when it does not.
    pub(crate) fn spawn(mut command: Command) -> Server {
        let turn = Turn::wait();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stderr = Arc::new(Mutex::new(String::new()));
        let errors = child.stderr.take().expect("it is piped");
        let kept = Arc::clone(&stderr);
        thread::spawn(move || {
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
        let mut server = Server {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            greeting: String::new(),
            stderr,
            _turn: turn,
        };
        server.await_greeting(&greetings);
        server
    }

    fn await_greeting(&mut self, greetings: &Receiver<String>) {
        let why = match greetings.recv_timeout(DEADLINE) {
            Ok(line) => {
                let behind = line.split_once("listening on http://").map(|(_, behind)| behind);
                let address = behind.and_then(|behind| behind.split(',').next()?.parse().ok());
                if let Some(address) = address {
                    self.address = address;
                    self.greeting = line;
                    return;
                }
                format!("it said {line:?}")
            }
            Err(RecvTimeoutError::Disconnected) => format!("it ended, {:?}", self.child.wait()),
            Err(RecvTimeoutError::Timeout) => "it said nothing".to_owned(),
        };
        panic!("the server did not start: {why}\n{}", self.stderr());
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    pub(crate) fn wire(&self) -> Wire {
        Wire::open(self.address).expect("the server takes a connection")
    }

    /// What it has written to standard error until now.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let status = wait(&mut self.child);
        let status = status.unwrap_or_else(|| panic!("it does not end\n{}", self.stderr()));
        (status, self.stderr())
    }

    /// Lets strace do something to these system calls on these files, such as `error=EIO:when=2+`.
    /// It ends with the server, or when it is interrupted.
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
        lines.read_line(&mut attached).expect("strace says that it is there");
        assert!(attached.contains("attached"), "{attached}");
        // Else a full pipe would stop it, and the server with it.
        thread::spawn(move || lines.lines().map_while(Result::ok).for_each(drop));
        strace
    }

    /// SIGKILL: the server learns nothing of it.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ended");
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(mut self) -> (ExitStatus, String) {
        self.signal_to_end();
        let status = wait(&mut self.child);
        let status = status.unwrap_or_else(|| panic!("it goes on after SIGTERM\n{}", self.stderr()));
        (status, self.stderr())
    }

    /// SIGTERM, and what `/readyz` says until nobody is there: 200 until the signal has come, and
    /// never again. Returns how often it said that the server is not ready.
    pub(crate) fn drain(self) -> usize {
        let start = Instant::now();
        self.signal_to_end();
        let mut not_ready = 0;
        while let Ok(mut wire) = Wire::open(self.address) {
            let asked = wire.send("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").and_then(|()| wire.answer());
            match asked {
                Ok(Some(answer)) if answer.status == 200 => {
                    assert_eq!(not_ready, 0, "ready again, and about to end");
                }
                Ok(Some(answer)) => {
                    assert!(answer.closes(), "{answer:?}");
                    answer.problem(503, "not-ready");
                    not_ready += 1;
                }
                // It was let in by the kernel only.
                Ok(None) | Err(_) => {}
            }
        }
        let (status, log) = self.end();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(start.elapsed() < SHUTDOWN_MAX, "it took {:?}\n{log}", start.elapsed());
        not_ready
    }

    /// SIGSTOP: it does nothing more, and is still there.
    pub(crate) fn freeze(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).expect("it runs");
    }

    /// SIGTERM, without waiting.
    pub(crate) fn signal_to_end(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("it runs");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("standard error of the server:\n{}", self.stderr());
        }
    }
}

/// Kills a server some time after its start, wherever it is by then. Returns whether it was ready.
pub(crate) fn kill_start(mut command: Command, delay: Duration) -> bool {
    let _turn = Turn::wait();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    thread::sleep(delay);
    child.kill().expect("it is our child");
    let output = child.wait_with_output().expect("it ended");
    assert_eq!(output.status.code(), None, "it ended by itself: {output:?}");
    String::from_utf8_lossy(&output.stdout).contains("listening on")
}

/// How a command ended that was expected to end by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end, with `input` on its standard input.
pub(crate) fn run(mut command: Command, input: &str) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // It may end without reading.
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

/// `None` when it runs beyond the deadline.
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
