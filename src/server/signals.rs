//! Signals that end the server, and those that do not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::{fs, io, thread};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use super::systemd;
use crate::front::api::Common;

/// Reads the configuration again.
pub(crate) type Reload = Box<dyn FnMut() + Send>;

/// Starts a thread that begins a drain on SIGTERM or SIGINT, and ends the process on a second one. On SIGHUP it
/// reloads the configuration; without `reload`, it begins a drain.
///
/// # Errors
///
/// When the signals cannot be handled, or the thread cannot be started.
pub(super) fn handle(common: Arc<Common>, mut reload: Option<Reload>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    if reload.is_some() || !ignores_hangups() {
        signals.add_signal(SIGHUP)?;
    }
    let watch = move || {
        for signal in signals.forever() {
            if signal == SIGHUP
                && let Some(reload) = &mut reload
            {
                systemd::reloading();
                reload();
                systemd::ready();
                continue;
            }
            let is_draining = common.draining.swap(true, Ordering::Relaxed);
            // The end of a terminal sends several SIGHUPs: its shell one, the kernel another.
            if is_draining && signal != SIGHUP {
                tracing::warn!("stopping at once");
                std::process::exit(128 + signal);
            }
            if !is_draining {
                systemd::stopping();
                tracing::info!("draining: finishing the requests in flight; signal again to stop at once");
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watch)?;
    Ok(())
}

/// Makes a write that would exceed the limit of a file's length (`ulimit -f`) fail, instead of ending the process
/// by SIGXFSZ.
pub(crate) fn survive_long_files() {
    // Nobody reads the flag.
    if let Err(error) = signal_hook::flag::register(SIGXFSZ, Arc::default()) {
        tracing::warn!(%error, "SIGXFSZ could not be handled");
    }
}

/// Whether the process was started with SIGHUP ignored, as nohup(1) does, and should leave it so.
pub(crate) fn ignores_hangups() -> bool {
    // proc_pid_status(5): a hexadecimal mask, whose lowest bit is signal 1.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (SIGHUP - 1) & 1 == 1
}
