//! Clients that follow the changes of events, and the planted bugs of that.

use super::World;
use super::log_work::LogWork;
use crate::command::{Ask, Query};
use crate::ids::{EventId, Lsn, Timestamp};
use crate::outcome::{Outcome, RecentChanges, Reply};
use crate::simulation::plant::Plant;
use crate::simulation::workload::changes;
use crate::state::ShardState;

impl World {
    /// A client that has some changes of an event often asks for those that follow, also of another process.
    pub(super) fn follow_changes(&mut self, request: usize, reply: &Reply) {
        if let Ok(Outcome::Changes(slice)) = reply
            && let Some(recent) = &slice.recent
            && let Ask::Query(Query::Changes { event, .. }) = self.requests[request].ask
            && !self.is_finishing
            && !self.shards.is_empty()
            && self.random.within(0, 3) > 0
        {
            let query = changes(&mut self.random, event, Some(recent.complete_to));
            self.send_request(Ask::Query(query));
        }
    }

    /// Plants bugs of changes in a reply.
    pub(super) fn plant_in_changes(&self, request: usize, reply: &mut Reply) {
        let (Ok(Outcome::Changes(slice)), Ask::Query(Query::Changes { after, .. })) =
            (reply, &self.requests[request].ask)
        else {
            return;
        };
        match (self.plant, &mut slice.recent) {
            (Some(Plant::SkipChange), Some(recent)) if recent.entries.len() > 1 => {
                recent.entries.remove(0);
            }
            (Some(Plant::MixUpChanges), Some(recent)) => {
                recent.entries.iter_mut().for_each(|entry| entry.at = Timestamp(entry.at.0 + 1));
            }
            (Some(Plant::ForgetOldChanges), recent @ None) => {
                *recent = Some(RecentChanges { entries: Vec::new(), complete_to: *after });
            }
            _ => {}
        }
    }
}

/// The changes of an event that are being committed, for [`Plant::ShowChangesEarly`].
pub(super) fn early_changes(
    state: &ShardState,
    log_work: Option<&(LogWork, u64)>,
    query: &Query,
    (event, after): (EventId, Lsn),
) -> Option<Reply> {
    let Some((LogWork::Append(batch), _)) = log_work else { return None };
    let of_event = batch.entries.iter().filter(|entry| entry.record.event() == Some(event));
    let entries: Vec<_> = of_event.filter(|entry| entry.lsn > after).cloned().collect();
    let complete_to = entries.last()?.lsn;
    let mut reply = state.query(query);
    if let Ok(Outcome::Changes(slice)) = &mut reply {
        slice.recent = Some(RecentChanges { entries, complete_to });
    }
    Some(reply)
}
