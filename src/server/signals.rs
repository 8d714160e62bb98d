//! Signals that end the server.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::front::api::Common;

/// Starts a thread that begins a drain on SIGTERM or SIGINT, and ends the process on the second one.
///
/// # Errors
///
/// When the signals cannot be handled, or the thread cannot be started.
pub(super) fn drain_on_signal(common: Arc<Common>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let watch = move || {
        for signal in signals.forever() {
            if common.draining.swap(true, Ordering::Relaxed) {
                tracing::warn!("stopping at once");
                std::process::exit(128 + signal);
            }
            tracing::info!("draining: finishing the requests in flight; signal again to stop at once");
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watch)?;
    Ok(())
}
