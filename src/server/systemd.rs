//! What systemd hears of a server that it started with `Type=notify` or `notify-reload` (sd_notify(3)). Without
//! `NOTIFY_SOCKET`, nothing is sent.

use std::time::Instant;
use std::{io, thread};

use sd_notify::NotifyState;

use crate::rt::waker::CoreWaker;

/// The server takes requests.
pub(super) fn ready() {
    send(&[NotifyState::Ready]);
}

/// The server reads its configuration again, and is ready when that is done.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "systemd is not told of the reload"),
    }
}

/// The server drains.
pub(super) fn stopping() {
    send(&[NotifyState::Stopping]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, ?states, "systemd is not told");
    }
}

/// Starts a thread that tells systemd's watchdog, if there is one, that all cores run. It wakes each core four times in
/// the watchdog's time, and stops telling when one has not run for half of it.
///
/// # Errors
///
/// When the thread cannot be started.
pub(super) fn keep_watchdog(cores: Vec<CoreWaker>) -> io::Result<()> {
    let Some(limit) = sd_notify::watchdog_enabled() else { return Ok(()) };
    let watch = move || {
        let mut ran: Vec<(u64, Instant)> = vec![(0, Instant::now()); cores.len()];
        loop {
            for (core, ran) in cores.iter().zip(&mut ran) {
                if core.turns() != ran.0 {
                    *ran = (core.turns(), Instant::now());
                }
                core.wake();
            }
            if ran.iter().all(|(_, at)| at.elapsed() < limit / 2) {
                send(&[NotifyState::Watchdog]);
            }
            thread::sleep(limit / 4);
        }
    };
    thread::Builder::new().name("watchdog".to_owned()).spawn(watch).map(drop)
}
