//! Termination signals (Ctrl-C, SIGTERM, SIGHUP), as a flag that every step checks.
//!
//! The signals do not end the process, so that the destructors stop the server and remove its
//! directory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::DemoError;
use crate::server::ignores_hangups;

/// The interval at which waiting code checks the flag.
pub(super) const POLL: Duration = Duration::from_millis(50);

pub(super) struct Interrupt {
    flag: Arc<AtomicBool>,
}

impl Interrupt {
    pub(super) fn watch() -> Result<Interrupt, DemoError> {
        let flag = Arc::new(AtomicBool::new(false));
        let hangups = (!ignores_hangups()).then_some(SIGHUP);
        for signal in [SIGINT, SIGTERM].into_iter().chain(hangups) {
            flag::register(signal, Arc::clone(&flag)).map_err(DemoError::Signals)?;
        }
        Ok(Interrupt { flag })
    }

    pub(super) fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    pub(super) fn check(&self) -> Result<(), DemoError> {
        if self.is_set() { Err(DemoError::Interrupted) } else { Ok(()) }
    }
}
