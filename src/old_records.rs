//! Reads records that are no longer in memory from the log, on a thread of its own.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use shards::ids::{EventId, Lsn, UserId};
use shards::log::{LogError, ReadRecords, RecordPage};
use shards::slots::slot_of_event;

use crate::rt::workers::{Priority, QueueFull, Workers};

/// The most pages that wait to be read.
const QUEUE_MAX: usize = 256;

/// Clones share the thread.
#[derive(Clone)]
pub struct OldRecords {
    reader: Arc<Mutex<Box<dyn ReadRecords>>>,
    /// One thread of low priority: whoever reads old records can wait for a sale. Accounts take turns.
    workers: Workers<UserId>,
}

impl OldRecords {
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub(crate) fn start(reader: impl ReadRecords + 'static) -> io::Result<OldRecords> {
        let workers = Workers::start(["old-records".to_owned()], QUEUE_MAX, Priority::Low)?;
        Ok(OldRecords { reader: Arc::new(Mutex::new(Box::new(reader))), workers })
    }

    /// Records of an event after a position, as [`ReadRecords::read_after`] returns them, for an account.
    ///
    /// # Errors
    ///
    /// [`QueueFull`], if too many pages wait; inside, those of the reader.
    pub(crate) async fn read_after(
        &self,
        account: UserId,
        event: EventId,
        after: Lsn,
        limit: usize,
    ) -> Result<Result<RecordPage, LogError>, QueueFull> {
        let reader = Arc::clone(&self.reader);
        let read = move || {
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.read_after(slot_of_event(event), Some(event), after, limit)
        };
        self.workers.run(account, read).await
    }
}
