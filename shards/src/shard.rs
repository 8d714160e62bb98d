//! A shard: the single-threaded owner of some slots. Joins state and log: batches, watermarks, and what
//! may leave when.
//!
//! Memory runs ahead of the disk by at most the open batch and the one being written. Two watermarks say
//! how far each has come: `applied` and `committed`. Nothing leaves the shard (an answer to a change, a
//! rejection, a read, a message) before `committed` has reached what it saw. A log without room takes
//! memory back to `committed`.

use std::collections::VecDeque;

use crate::clock::Now;
use crate::command::{Ask, Command, Query};
use crate::ids::{Epoch, Slot, Timestamp};
use crate::limits::SLOT_COUNT;
use crate::outcome::{Rejection, Reply};
use crate::record::{Entry, Record, SlotHead, Stamp};
use crate::slots::SlotSet;
use crate::state::{Decision, ShardState, SlotState, Undo};

/// Where the records of each slot end.
pub type SlotHeads = Box<[SlotHead; SLOT_COUNT]>;

/// Batches of one shard since its start, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct BatchNumber(u64);

/// Records on their way to the log together.
#[derive(Debug)]
pub struct Batch {
    pub number: BatchNumber,
    pub entries: Vec<Entry>,
    /// For each entry.
    undos: Vec<UndoEntry>,
}

/// What takes an entry back.
#[derive(Debug)]
struct UndoEntry {
    /// Its slot's head before it.
    head: SlotHead,
    undo: Undo,
}

/// How a slot is owned.
#[derive(Debug, Clone, Copy)]
struct Ownership {
    epoch: Epoch,
    head: SlotHead,
}

/// `A` is the asker: where an answer goes.
#[derive(Debug)]
pub struct Shard<A> {
    state: ShardState,
    /// By slot; of those that are owned.
    owned: Box<[Option<Ownership>; SLOT_COUNT]>,
    /// Records of the batch that is still open.
    open: Vec<Entry>,
    /// For each of `open`.
    undos: Vec<UndoEntry>,
    applied: BatchNumber,
    writing: Option<BatchNumber>,
    committed: BatchNumber,
    /// What waits for a commit, in the order of batch numbers.
    held: VecDeque<Held<A>>,
    /// The log had no room: nothing is changed until it has.
    read_only: bool,
}

#[derive(Debug)]
struct Held<A> {
    after: BatchNumber,
    release: Release<A>,
    /// To be asked again if what it saw is taken back.
    query: Option<(Now, Query)>,
}

/// What leaves a shard once what it saw is durable.
#[derive(Debug)]
pub enum Release<A> {
    Answer(A, Reply),
    /// A command for the owner of another slot.
    Message(Slot, Command),
}

impl<A> Shard<A> {
    /// The owner of the slots of `state`, all under one epoch; `heads` says where their records end.
    pub fn new(state: ShardState, heads: &SlotHeads, epoch: Epoch) -> Shard<A> {
        let mut owned = Box::new([None; SLOT_COUNT]);
        for slot in state.owned().iter() {
            owned[slot.index()] = Some(Ownership { epoch, head: heads[slot.index()] });
        }
        Shard {
            state,
            owned,
            open: Vec::new(),
            undos: Vec::new(),
            applied: BatchNumber(0),
            writing: None,
            committed: BatchNumber(0),
            held: VecDeque::new(),
            read_only: false,
        }
    }

    /// Takes over a slot: its state, where its records end, and the epoch of the ownership.
    pub fn adopt(&mut self, slot: Slot, state: SlotState, head: SlotHead, epoch: Epoch) {
        self.state.adopt(slot, state);
        self.owned[slot.index()] = Some(Ownership { epoch, head });
    }

    /// Gives up a slot, for another owner to adopt; `None` if it is not owned.
    ///
    /// # Panics
    ///
    /// If the slot has records in the open batch, or any batch is being written.
    pub fn release_slot(&mut self, slot: Slot) -> Option<(SlotState, SlotHead)> {
        let Ownership { head, .. } = self.owned[slot.index()]?;
        let is_committed = self.writing.is_none() && self.open.iter().all(|entry| entry.slot != slot);
        assert!(is_committed, "slot {slot} has records that are not committed");
        self.owned[slot.index()] = None;
        Some((self.state.release(slot)?, head))
    }

    pub fn owned(&self) -> SlotSet {
        self.state.owned()
    }

    pub fn state(&self) -> &ShardState {
        &self.state
    }

    /// Decides, and applies what is decided. The answer comes from [`Shard::next_release`].
    pub fn take_in(&mut self, now: Now, ask: Ask, asker: A) {
        let (reply, query) = match ask {
            Ask::Command(command) => (self.command(now, command), None),
            Ask::Query(query) => (self.state.query(now, &query), Some((now, query))),
        };
        let release = Release::Answer(asker, reply);
        self.held.push_back(Held { after: self.applied, release, query });
    }

    fn command(&mut self, now: Now, command: Command) -> Reply {
        if self.read_only {
            return Err(Rejection::LogFull);
        }
        let slot = command.slot();
        let decision = self.state.decide(now, slot, command);
        self.carry_out(now, slot, decision)
    }

    /// Applies and logs a decision's records, holds its messages, and returns its reply.
    fn carry_out(&mut self, now: Now, slot: Slot, decision: Decision) -> Reply {
        let Decision { records, reply, messages } = decision;
        let mut left = records.len();
        for record in records {
            left -= 1;
            self.log(slot, now.wall, record, left > 0);
        }
        for (slot, command) in messages {
            let release = Release::Message(slot, command);
            self.held.push_back(Held { after: self.applied, release, query: None });
        }
        let shown = reply?;
        Ok(self.state.slot(slot).expect("its records were just applied").outcome(&shown))
    }

    fn log(&mut self, slot: Slot, now: Timestamp, record: Record, continues: bool) {
        if self.open.is_empty() {
            self.applied = BatchNumber(self.applied.0 + 1);
        }
        let Ownership { epoch, head } = self.owned[slot.index()].as_mut().expect("decided for an owned slot");
        // Never 0, whatever the clock says: state has that for "not yet". Time never goes back in a slot.
        let (lsn, at) = (head.lsn.next(), now.max(head.at).max(Timestamp(1)));
        let undo = self.state.slot(slot).expect("decided for an owned slot").undo_of(&record);
        self.undos.push(UndoEntry { head: *head, undo });
        let previous = self.state.apply(slot, at, lsn, &record);
        let stamp = Stamp { slot, epoch: *epoch, lsn, at, previous, continues };
        let chain = head.chain_next(&stamp, &record.encode());
        *head = SlotHead { lsn, chain, at };
        self.open.push(Entry { slot, epoch: *epoch, lsn, at, previous, continues, record, chain });
    }

    /// Something that may leave now.
    pub fn next_release(&mut self) -> Option<Release<A>> {
        let committed = self.committed;
        Some(self.held.pop_front_if(|held| held.after <= committed)?.release)
    }

    /// Whether nothing waits for a commit.
    pub fn is_at_rest(&self) -> bool {
        self.held.is_empty() && self.open.is_empty() && self.writing.is_none()
    }

    /// Records of the open batch.
    pub fn open_records(&self) -> usize {
        self.open.len()
    }

    /// Closes the open batch and hands it out to be made durable. `None` when it is empty, or the one
    /// before is still being written.
    pub fn begin_commit(&mut self) -> Option<Batch> {
        if self.open.is_empty() || self.writing.is_some() {
            return None;
        }
        self.writing = Some(self.applied);
        let entries = std::mem::take(&mut self.open);
        Some(Batch { number: self.applied, entries, undos: std::mem::take(&mut self.undos) })
    }

    /// The batch that [`Shard::begin_commit`] handed out is durable.
    pub fn finish_commit(&mut self, batch: Batch) {
        assert_eq!(self.writing.take(), Some(batch.number), "a batch finished that was not begun");
        self.committed = batch.number;
        assert!(self.committed <= self.applied, "committed ran ahead of applied");
        if self.open.is_empty() {
            // The next batch uses their memory.
            self.open = batch.entries;
            self.open.clear();
            self.undos = batch.undos;
            self.undos.clear();
        }
    }

    /// There was no room for the batch that [`Shard::begin_commit`] handed out, and nothing of it is on
    /// disk. Takes everything back that is not committed: the batch, and what came after it. Queries that
    /// saw any of it are answered anew, and commands that nothing was done. From now on commands are
    /// refused, until [`Shard::resume`].
    pub fn roll_back(&mut self, batch: Batch) {
        assert_eq!(self.writing.take(), Some(batch.number), "a batch failed that was not begun");
        let later = self.open.drain(..).zip(self.undos.drain(..)).rev();
        let earlier = batch.entries.into_iter().zip(batch.undos).rev();
        for (entry, UndoEntry { head, undo }) in later.chain(earlier) {
            self.state.undo(entry.slot, entry.previous, &entry.record, undo);
            let ownership = self.owned[entry.slot.index()].as_mut();
            ownership.expect("a slot with uncommitted records is owned").head = head;
        }
        self.applied = self.committed;
        self.read_only = true;
        self.answer_anew();
    }

    fn answer_anew(&mut self) {
        let (state, committed) = (&self.state, self.committed);
        self.held.retain_mut(|held| {
            if held.after <= committed {
                return true;
            }
            held.after = committed;
            match (&mut held.release, &held.query) {
                (Release::Answer(_, reply), Some((now, query))) => *reply = state.query(*now, query),
                (Release::Answer(_, reply), None) => *reply = Err(Rejection::LogFull),
                // It followed from what is taken back.
                (Release::Message(..), _) => return false,
            }
            true
        });
    }

    /// The log has room again.
    pub fn resume(&mut self) {
        self.read_only = false;
    }

    /// Whether the log had no room when it was last asked.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }
}

#[cfg(test)]
mod tests;
