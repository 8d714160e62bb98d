//! A log that stores nothing, for measuring the cost of durability and for experiments.

use std::time::Duration;

use super::{AppendError, Appended, Log, LogError, Upkeep};
use crate::record::Entry;

#[derive(Debug, Default)]
pub struct MemoryLog;

impl Log for MemoryLog {
    fn append(&mut self, _batch: &[Entry], _lock_wait: Duration) -> Result<Appended, AppendError> {
        Ok(Appended::default())
    }

    fn probe(&mut self) -> Result<(), AppendError> {
        Ok(())
    }

    fn maintenance_is_due(&self) -> bool {
        false
    }

    fn maintain(&mut self) -> Result<Upkeep, LogError> {
        Ok(Upkeep::default())
    }

    fn close(self: Box<Self>) -> Result<(), LogError> {
        Ok(())
    }
}
