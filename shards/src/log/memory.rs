//! A log that forgets: for measuring what durability costs, and for trying out.

use super::{AppendError, Appended, Log, LogError, Upkeep};
use crate::record::Entry;

#[derive(Debug, Default)]
pub struct MemoryLog;

impl Log for MemoryLog {
    fn append(&mut self, _batch: &[Entry]) -> Result<Appended, AppendError> {
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
