//! Reports what the upkeep of a shard's log finds: in metrics each time, in the log when it changes.

use std::sync::PoisonError;
use std::time::Duration;

use shards::log::{Hindrance, Reader, Upkeep};

use crate::metrics::CoreMetrics;

/// The time after which a journal that is still too large is logged again, as long as it is.
const SAY_AGAIN: Duration = Duration::from_mins(1);

pub(crate) struct UpkeepReport {
    metrics: &'static CoreMetrics,
    /// When a hindrance was last logged, unless it is over.
    said_at: Option<Duration>,
}

impl UpkeepReport {
    pub(crate) fn new(metrics: &'static CoreMetrics) -> UpkeepReport {
        UpkeepReport { metrics, said_at: None }
    }

    /// `elapsed` is the time since the process started.
    pub(crate) fn note(&mut self, upkeep: Upkeep, elapsed: Duration) {
        let Upkeep { journal, journal_bytes, hindrance } = &upkeep;
        match (hindrance, self.said_at) {
            (None, None) => {}
            (None, Some(_)) => {
                tracing::info!(journal, journal_bytes, "the log's journal is written back again");
                self.said_at = None;
            }
            (Some(_), Some(said)) if elapsed < said + SAY_AGAIN => {}
            (Some(hindrance), _) => {
                match hindrance {
                    Hindrance::Readers(readers) => tracing::warn!(
                        journal,
                        journal_bytes,
                        readers = names(readers),
                        "readers keep the log's journal from being written back: it grows until they end their \
                         transactions or are stopped, and everything goes on"
                    ),
                    Hindrance::NoRoom => tracing::warn!(
                        journal,
                        journal_bytes,
                        "the disk is too full to write the log's journal back: it goes on growing"
                    ),
                }
                self.said_at = Some(elapsed);
            }
        }
        *self.metrics.upkeep.lock().unwrap_or_else(PoisonError::into_inner) = upkeep;
    }
}

/// Readers, for a line of the log.
fn names(readers: &[Reader]) -> String {
    let name = |reader: &Reader| match reader {
        Reader { pid: Some(pid), name: Some(name) } => format!("{name} (process {pid})"),
        Reader { pid: Some(pid), name: None } => format!("process {pid}"),
        Reader { pid: None, name: _ } => "a process outside of this container".to_owned(),
    };
    if readers.is_empty() {
        return "this server, or one that has just ended".to_owned();
    }
    readers.iter().map(name).collect::<Vec<_>>().join(", ")
}
