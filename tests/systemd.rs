//! What the server tells systemd (sd_notify(3)), over a socket of the test's.
//!
//! `cargo test --test systemd -- --ignored` also runs the test that needs strace.

mod support;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::server::{Server, serve};
use support::{create_event, reserve};
use tempfile::tempdir;

const PATIENCE: Duration = Duration::from_secs(30);

/// Starts a server that systemd would watch, and the socket that hears of it.
fn start(folder: &Path, watchdog: Duration, arguments: &[&str]) -> (Server, UnixDatagram) {
    let path = folder.join("notify");
    let socket = UnixDatagram::bind(&path).expect("a new name");
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut command = serve(&folder.join("data"));
    command.args(["--shards", "1"]).args(arguments).env("NOTIFY_SOCKET", &path);
    command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
    (Server::spawn(command), socket)
}

fn next(socket: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let length = socket.recv(&mut message).expect("the server tells something");
    String::from_utf8_lossy(&message[..length]).into_owned()
}

/// The next message that is not the watchdog's.
fn next_state(socket: &UnixDatagram) -> String {
    loop {
        let message = next(socket);
        if message != "WATCHDOG=1\n" {
            return message;
        }
    }
}

#[test]
fn systemd_hears_when_the_server_is_ready_reloads_and_stops() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("boxoffice.toml");
    fs::write(&file, "").unwrap();
    let (server, socket) =
        start(folder.path(), Duration::from_secs(1), &["--config", file.to_str().unwrap()]);
    assert_eq!(next_state(&socket), "READY=1\n");
    for _ in 0..3 {
        assert_eq!(next(&socket), "WATCHDOG=1\n");
    }
    server.signal(Signal::HUP);
    let message = next_state(&socket);
    let time = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("it says when");
    assert!(time.trim_end().parse::<u64>().is_ok(), "{message}");
    assert_eq!(next_state(&socket), "READY=1\n");
    server.signal_to_end();
    assert_eq!(next_state(&socket), "STOPPING=1\n");
    assert!(server.end().0.success());
}

/// A core whose disk hangs is stalled, and the watchdog hears nothing more until it goes on.
#[test]
#[ignore = "needs strace"]
fn the_watchdog_hears_nothing_while_a_core_is_stalled() {
    const LIMIT: Duration = Duration::from_secs(2);
    const STALL: Duration = Duration::from_secs(8);
    let folder = tempdir().unwrap();
    let (server, socket) = start(folder.path(), LIMIT, &[]);
    let organizer = server.client().sign_up("grace", "organizer");
    let customer = server.client().sign_up("ada", "customer");
    let event = create_event(&organizer, 10);
    let journal = folder.path().join("data/shard-00.sqlite-wal");
    let delay = format!("delay_enter={}", STALL.as_micros());
    let mut strace = server.inject("fdatasync", &[journal], &delay);
    let silence = thread::scope(|scope| {
        let sale = scope.spawn(|| reserve(&customer, event, 1));
        let (mut longest, mut heard) = (Duration::ZERO, Instant::now());
        while !sale.is_finished() {
            next(&socket);
            longest = longest.max(heard.elapsed());
            heard = Instant::now();
        }
        sale.join().expect("it was sold");
        longest
    });
    assert!(silence > LIMIT, "the watchdog heard something after {silence:?}");
    strace.kill().expect("it runs");
    strace.wait().expect("it ended");
}
