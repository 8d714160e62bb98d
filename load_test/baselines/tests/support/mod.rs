//! Private instances of PostgreSQL and Redis, and the program itself, each killed on drop.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The timeout of starts and exits: long, since the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Creates a folder in the build directory, which is on a disk.
fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

/// Finds a free port.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("a bound socket has an address").port()
}

fn end(child: &mut Child, signal: Signal) -> ExitStatus {
    let pid =
        Pid::from_raw(child.id().try_into().expect("a process id fits")).expect("a process id is not 0");
    let _ = kill_process(pid, signal);
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().expect("a child process") {
            return status;
        }
        sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    panic!("{pid:?} did not end by {signal:?}");
}

fn wait_for(what: &str, is_there: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < PATIENCE, "{what} did not start");
        sleep(Duration::from_millis(20));
    }
}

pub(crate) struct PostgreSql {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl PostgreSql {
    /// Starts PostgreSQL with its defaults: `fsync` and `synchronous_commit` are on.
    pub(crate) fn start() -> PostgreSql {
        let folder = folder();
        let port = free_port();
        let data = folder.path().join("data");
        if geteuid().is_root() {
            // PostgreSQL refuses to run as root.
            let status = Command::new("chown").arg("postgres:").arg(folder.path()).status();
            assert!(status.expect("chown").success(), "PostgreSQL's package creates the user postgres");
        }
        let init = as_postgres("initdb")
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--pgdata"])
            .arg(&data)
            .output()
            .expect("initdb");
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        let log = File::create(folder.path().join("postgres.log")).expect("a log");
        let process = as_postgres("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c"])
            .arg(format!("unix_socket_directories={}", data.display()))
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("postgres");
        let is_ready = || {
            let mut command = Command::new(program("pg_isready"));
            command.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
            command.status().is_ok_and(|status| status.success())
        };
        wait_for("PostgreSQL", is_ready);
        PostgreSql { process, port, folder }
    }

    /// Creates a database and returns its connection string.
    pub(crate) fn database(&self, name: &str) -> String {
        let create = Command::new(program("createdb"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", name])
            .status();
        assert!(create.expect("createdb").success());
        format!("host=127.0.0.1 port={} user=postgres dbname={name}", self.port)
    }
}

impl Drop for PostgreSql {
    fn drop(&mut self) {
        end(&mut self.process, Signal::INT);
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("postgres.log")).unwrap_or_default();
            eprintln!("{log}");
        }
    }
}

/// A command that does not run as root, and that is interrupted when this thread ends.
fn as_postgres(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig=INT"]);
    if geteuid().is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg(program(name)).current_dir("/");
    command
}

/// Finds a program of PostgreSQL, most of which Debian does not put into PATH.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists()).collect();
    found.sort();
    found.pop().unwrap_or_else(|| PathBuf::from(name))
}

pub(crate) struct Redis {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Redis {
    /// Starts Redis with every change on disk before it is answered.
    pub(crate) fn start() -> Redis {
        let folder = folder();
        let port = free_port();
        let process = Command::new("setpriv")
            .args(["--pdeathsig=KILL", "redis-server", "--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server");
        wait_for("Redis", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Redis { process, port, _folder: folder }
    }

    pub(crate) fn address(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        end(&mut self.process, Signal::KILL);
    }
}

/// The program, with a token secret that survives restarts.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(arguments: &[String]) -> Server {
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig=KILL", env!("CARGO_BIN_EXE_baselines")])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut line = String::new();
        let out = process.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("printed {line:?}"));
        let address = address.to_owned();
        Server { process, address }
    }

    pub(crate) fn end(mut self, signal: Signal) -> ExitStatus {
        end(&mut self.process, signal)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.process, Signal::KILL);
    }
}

/// Creates a file with a secret of 32 bytes.
pub(crate) fn secret() -> (TempDir, String) {
    let folder = folder();
    let path: &Path = &folder.path().join("secret");
    fs::write(path, b"0123456789abcdef0123456789abcdef").expect("room");
    assert_eq!(fs::metadata(path).expect("it is there").size(), 32);
    let path = path.to_str().expect("it is text").to_owned();
    (folder, path)
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) body: Value,
}

impl Answer {
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Checks that the response is this problem.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, slug: &str) -> Answer {
        assert_eq!(self.body["type"], format!("/problems/{slug}"), "{self:?}");
        assert_eq!(self.body["status"], status, "{self:?}");
        self.is(status)
    }
}

/// A client for one account, with a keep-alive connection.
#[derive(Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    address: String,
    token: Option<String>,
}

impl Client {
    pub(crate) fn new(server: &Server) -> Client {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent = config.timeout_global(Some(PATIENCE)).build().into();
        Client { agent, address: server.address.clone(), token: None }
    }

    pub(crate) fn with_token(&self, token: &str) -> Client {
        Client { token: Some(token.to_owned()), ..self.clone() }
    }

    pub(crate) fn log_in(&self, username: &str, password: &str) -> Client {
        let credentials = serde_json::json!({"username": username, "password": password});
        let answer = self.send("POST", "/api/v1/sessions", &credentials.to_string()).is(201);
        self.with_token(answer.body["token"].as_str().expect("a token"))
    }

    pub(crate) fn token(&self) -> &str {
        self.token.as_deref().expect("somebody logged in")
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "")
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "")
    }

    pub(crate) fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, &body.to_string())
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.address))
            .header("Content-Type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut answer = match body {
            "" => self.agent.run(request.body(()).expect("a request")),
            body => self.agent.run(request.body(body.to_owned()).expect("a request")),
        }
        .expect("an answer");
        let location = answer.headers().get("Location").map(|value| value.to_str().expect("text").to_owned());
        let text = answer.body_mut().read_to_string().expect("a body");
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") };
        Answer { status: answer.status().as_u16(), location, body }
    }
}
