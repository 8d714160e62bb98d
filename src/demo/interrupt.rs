//! Ctrl-C and its kin, as a flag that every step looks at.
//!
//! The signals do not end the process: the guards over the server and its
//! directory must run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::DemoError;

/// How often those who wait look at the flag: soon enough for a person.
pub(super) const POLL: Duration = Duration::from_millis(50);

pub(super) struct Interrupt {
    came: Arc<AtomicBool>,
}

impl Interrupt {
    pub(super) fn watch() -> Result<Interrupt, DemoError> {
        let came = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            flag::register(signal, Arc::clone(&came)).map_err(DemoError::Signals)?;
        }
        Ok(Interrupt { came })
    }

    pub(super) fn came(&self) -> bool {
        self.came.load(Ordering::Relaxed)
    }

    pub(super) fn check(&self) -> Result<(), DemoError> {
        if self.came() { Err(DemoError::Interrupted) } else { Ok(()) }
    }
}
