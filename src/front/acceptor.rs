//! Accepts connections on one core, until the server drains.

use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future;

use super::connection::{self, Front};
use crate::logging::rationed;
use crate::rt::net::Listener;
use crate::rt::{self, TimeSlice};

/// The delay after a failed accept, for example when the process has no file descriptor left until
/// some connection ends.
const RETRY: Duration = Duration::from_millis(20);

/// How often the acceptor checks whether the server drains.
const DRAIN_CHECK: Duration = Duration::from_millis(100);

/// How long one wait for a connection takes while the server drains.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// When no connection has arrived for this long, the listener's backlog counts as empty.
const QUIET: Duration = Duration::from_millis(60);

/// The maximum time for which a draining server accepts. Without this bound, clients that reconnect
/// as soon as they are rejected would prevent it from exiting.
const DRAIN_ACCEPT_MAX: Duration = Duration::from_millis(500);

/// Accepts until the server drains and the backlog is empty, then closes the listener.
pub(crate) async fn run(front: Rc<Front>, listener: Listener) {
    let mut quiet = Duration::ZERO;
    let mut drains_since = None;
    let mut slice = TimeSlice::begin();
    while quiet < QUIET && drains_since.is_none_or(|since: Instant| since.elapsed() < DRAIN_ACCEPT_MAX) {
        if front.is_draining() && drains_since.is_none() {
            drains_since = Some(Instant::now());
            front.wake_streams();
            front.api.end_waiting();
        }
        let wait = if drains_since.is_some() { DRAIN_POLL } else { DRAIN_CHECK };
        let accepted = future::or(async { Some(listener.accept().await) }, async {
            rt::sleep(wait).await;
            None
        });
        match accepted.await {
            Some(Ok(stream)) => {
                quiet = Duration::ZERO;
                connection::admit(&front, stream, None);
            }
            Some(Err(error)) => {
                rationed!(warn, %error, "failed to accept a connection");
                rt::sleep(RETRY).await;
            }
            None if drains_since.is_some() => quiet += DRAIN_POLL,
            None => {}
        }
        slice.yield_if_over().await;
    }
}
