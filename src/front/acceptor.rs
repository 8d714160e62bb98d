//! Accepts connections on one core, until the server drains.

use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::future;

use super::api::ConnectionPermit;
use super::connection::{self, Front};
use crate::rt;
use crate::rt::net::Listener;

/// Between tries when the process has no descriptor left: some connection will end.
const RETRY: Duration = Duration::from_millis(20);

/// How often the acceptor looks whether the server drains.
const WATCH: Duration = Duration::from_millis(100);

/// How often, once it does, whether anyone has come.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// Nobody came for so long: the queue of waiting connections is empty.
const QUIET: Duration = Duration::from_millis(60);

/// A server that drains accepts for so long at most: clients who connect again as soon as
/// they are turned away would else keep it from ending.
const DRAIN_ACCEPT_MAX: Duration = Duration::from_millis(500);

/// Accepts until the server drains and nobody waits any more; then the listener is closed.
pub async fn run(front: Rc<Front>, listener: Listener) {
    let mut quiet = Duration::ZERO;
    let mut drains_since = None;
    while quiet < QUIET && drains_since.is_none_or(|since: Instant| since.elapsed() < DRAIN_ACCEPT_MAX) {
        if front.is_draining() {
            drains_since.get_or_insert_with(Instant::now);
        }
        let patience = if drains_since.is_some() { DRAIN_POLL } else { WATCH };
        let accepted = future::or(async { Some(listener.accept().await) }, async {
            rt::sleep(patience).await;
            None
        });
        match accepted.await {
            Some(Ok(stream)) => {
                quiet = Duration::ZERO;
                match ConnectionPermit::take(&front.api.common) {
                    Some(permit) => rt::spawn(connection::serve(Rc::clone(&front), stream, permit)),
                    None => rt::spawn(connection::turn_away(Rc::clone(&front), stream)),
                }
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "a connection could not be accepted");
                rt::sleep(RETRY).await;
            }
            None if drains_since.is_some() => quiet += DRAIN_POLL,
            None => {}
        }
    }
}
