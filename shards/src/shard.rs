//! A shard: the single-threaded owner of some slots. Joins state and log:
//! batches, watermarks, and who may be answered when.
//!
//! Memory runs ahead of the disk by at most the open batch and the one being
//! written. Two watermarks say how far each has come: `applied` and
//! `committed`, and no answer leaves before `committed` has reached what the
//! answer saw, be it a change, a rejection or a read. A log without room takes
//! memory back to `committed`.

use crate::command::{Command, Query};
use crate::ids::{Epoch, Lsn, Slot, Timestamp};
use crate::limits::SLOT_COUNT;
use crate::outcome::{Rejection, Reply};
use crate::record::{Entry, Record, SlotHead, Stamp};
use crate::state::{Decision, Replaced, ShardState};

pub type SlotHeads = Box<[SlotHead; SLOT_COUNT]>;

/// Batches of one shard since its start, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct BatchNumber(u64);

/// A reply, and the batch that must be durable before anyone may see it.
#[derive(Debug)]
pub struct Answer {
    pub reply: Reply,
    pub after: BatchNumber,
}

/// Records on their way to the log together.
#[derive(Debug)]
pub struct Batch {
    pub number: BatchNumber,
    pub entries: Vec<Entry>,
    befores: Vec<Before>,
}

/// What an entry put an end to, in case that there is no room for it.
#[derive(Debug)]
struct Before {
    head: SlotHead,
    replaced: Replaced,
}

#[derive(Debug)]
pub struct Shard {
    state: ShardState,
    /// Of all slots; only those of this shard's slots are ever used.
    heads: SlotHeads,
    epoch: Epoch,
    /// Records of the batch that is still open.
    open: Vec<Entry>,
    /// For each of `open`.
    befores: Vec<Before>,
    applied: BatchNumber,
    writing: Option<BatchNumber>,
    committed: BatchNumber,
    /// The log had no room: nothing is changed until it has.
    read_only: bool,
}

impl Shard {
    pub fn new(state: ShardState, heads: SlotHeads, epoch: Epoch) -> Shard {
        Shard {
            state,
            heads,
            epoch,
            open: Vec::new(),
            befores: Vec::new(),
            applied: BatchNumber(0),
            writing: None,
            committed: BatchNumber(0),
            read_only: false,
        }
    }

    pub fn state(&self) -> &ShardState {
        &self.state
    }

    /// Decides and applies. `now` is the wall clock; time never goes back within a slot.
    pub fn command(&mut self, now: Timestamp, command: Command) -> Answer {
        if self.read_only {
            return self.refuse(Rejection::LogFull);
        }
        let slot = command.slot();
        let reply = match self.state.decide(command) {
            Ok(Decision::Change(record)) => {
                // Never 0, whatever the clock says: state has that for "not yet".
                let at = now.max(self.heads[slot.index()].at).max(Timestamp(1));
                let replaced = self.state.replaced_by(&record);
                self.state.apply(at, &record);
                let outcome = self.state.outcome(&record);
                self.log(slot, at, record, replaced);
                Ok(outcome)
            }
            Ok(Decision::Unchanged(outcome)) => Ok(outcome),
            Err(rejection) => Err(rejection),
        };
        Answer { reply, after: self.applied }
    }

    pub fn query(&self, query: &Query) -> Answer {
        Answer { reply: self.state.query(query), after: self.applied }
    }

    /// The answer to a command that is not even looked at.
    pub fn refuse(&self, rejection: Rejection) -> Answer {
        Answer { reply: Err(rejection), after: self.applied }
    }

    /// Records of the open batch.
    pub fn open_records(&self) -> usize {
        self.open.len()
    }

    /// Closes the open batch and hands it out to be made durable. `None` when there
    /// is nothing in it, or the one before is still being written.
    pub fn begin_commit(&mut self) -> Option<Batch> {
        if self.open.is_empty() || self.writing.is_some() {
            return None;
        }
        self.writing = Some(self.applied);
        let entries = std::mem::take(&mut self.open);
        Some(Batch { number: self.applied, entries, befores: std::mem::take(&mut self.befores) })
    }

    /// The batch that [`Shard::begin_commit`] handed out is durable.
    pub fn finish_commit(&mut self, batch: Batch) {
        assert_eq!(self.writing.take(), Some(batch.number), "a batch finished that was not begun");
        self.committed = batch.number;
        assert!(self.committed <= self.applied, "committed ran ahead of applied");
        if self.open.is_empty() {
            // The entries' memory serves the next batch.
            self.open = batch.entries;
            self.open.clear();
            self.befores = batch.befores;
            self.befores.clear();
        }
    }

    /// There was no room for the batch that [`Shard::begin_commit`] handed out, and nothing
    /// of it is on disk. Takes everything back that is not committed: the batch, and what
    /// came after it. From now on commands are refused, until [`Shard::resume`].
    pub fn roll_back(&mut self, batch: Batch) {
        assert_eq!(self.writing.take(), Some(batch.number), "a batch failed that was not begun");
        let later = self.open.drain(..).zip(self.befores.drain(..)).rev();
        let earlier = batch.entries.into_iter().zip(batch.befores).rev();
        for (entry, before) in later.chain(earlier) {
            self.state.undo(&entry.record, before.replaced);
            self.heads[entry.slot.index()] = before.head;
        }
        self.applied = self.committed;
        self.read_only = true;
    }

    /// The log has room again.
    pub fn resume(&mut self) {
        self.read_only = false;
    }

    /// Whether the log had no room when it was last asked.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Whether what waits for `after` may go out.
    pub fn is_committed(&self, after: BatchNumber) -> bool {
        after <= self.committed
    }

    fn log(&mut self, slot: Slot, at: Timestamp, record: Record, replaced: Replaced) {
        if self.open.is_empty() {
            self.applied = BatchNumber(self.applied.0 + 1);
        }
        let head = &mut self.heads[slot.index()];
        self.befores.push(Before { head: *head, replaced });
        let lsn = head.lsn.next();
        let stamp = Stamp { slot, epoch: self.epoch, lsn, at, previous: Lsn(0), continues: false };
        let chain = head.chain_next(&stamp, &record.encode());
        *head = SlotHead { lsn, chain, at };
        let Stamp { epoch, previous, continues, .. } = stamp;
        self.open.push(Entry { slot, epoch, lsn, at, previous, continues, record, chain });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{CreateEvent, EventName};
    use crate::ids::{EventId, Quantity, Quota, UserId};
    use crate::outcome::Rejection;
    use crate::slots::slot_of_event;

    fn shard_with_event(quota: u64) -> Shard {
        let heads = Box::new([SlotHead::empty(1); SLOT_COUNT]);
        let mut shard = Shard::new(ShardState::default(), heads, Epoch(1));
        let create = CreateEvent {
            id: EventId(1),
            organizer: UserId(1),
            name: EventName::new("x").unwrap(),
            quota: Quota::new(quota).unwrap(),
        };
        shard.command(Timestamp(1000), Command::CreateEvent(Box::new(create))).reply.unwrap();
        let batch = shard.begin_commit().unwrap();
        shard.finish_commit(batch);
        shard
    }

    fn reserve(shard: &mut Shard, now: u64) -> Answer {
        let quantity = Quantity::new(1).unwrap();
        let command = Command::Reserve { event: EventId(1), customer: UserId(2), quantity };
        shard.command(Timestamp(now), command)
    }

    #[test]
    fn nothing_is_answered_before_what_it_saw_is_durable() {
        let mut shard = shard_with_event(1);
        let read = shard.query(&Query::Event { event: EventId(1) });
        assert!(shard.is_committed(read.after), "nothing is pending");

        let sold = reserve(&mut shard, 1001);
        assert!(sold.reply.is_ok());
        let first = shard.begin_commit().unwrap();
        let sold_out = reserve(&mut shard, 1002);
        let read = shard.query(&Query::Event { event: EventId(1) });
        assert_eq!(sold_out.reply, Err(Rejection::SoldOut { remaining: 0 }));
        for answer in [&sold, &sold_out, &read] {
            assert!(!shard.is_committed(answer.after), "{answer:?}");
        }
        assert!(shard.begin_commit().is_none(), "one batch is written at a time");
        shard.finish_commit(first);
        for answer in [&sold, &sold_out, &read] {
            assert!(shard.is_committed(answer.after), "{answer:?}");
        }
    }

    #[test]
    fn lsns_have_no_gap_and_time_never_goes_back() {
        let mut shard = shard_with_event(10);
        for now in [2000, 500, 3000] {
            reserve(&mut shard, now).reply.unwrap();
        }
        let entries = shard.begin_commit().unwrap().entries;
        let slot = slot_of_event(EventId(1));
        let seen: Vec<_> = entries.iter().map(|entry| (entry.slot, entry.lsn, entry.at)).collect();
        let expected = [(2, 2000), (3, 2000), (4, 3000)].map(|(lsn, at)| (slot, Lsn(lsn), Timestamp(at)));
        assert_eq!(seen, expected);
    }
}
