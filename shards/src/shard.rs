//! A shard: the single-threaded owner of some slots. It connects state and log: it makes batches, keeps the
//! watermarks, and decides when an answer or message may leave.
//!
//! Memory is ahead of the disk by at most the open batch and the one being written. The watermarks are the
//! batch numbers `applied` and `committed`. Nothing leaves the shard (the answer to a change, a rejection, a
//! read, a message) before `committed` has reached the batch that it depends on. When the log is full or
//! locked, memory is rolled back to `committed`.

mod holds;
mod keys;
mod orders;
mod recent;
mod watches;

use std::collections::VecDeque;
use std::time::Duration;

use smallvec::SmallVec;

use crate::clock::{AHEAD_MAX_MS, Now};
use crate::command::{Ask, Buyer, Command, Query};
use crate::ids::{Epoch, Slot, Timestamp};
use crate::limits::SLOT_COUNT;
use crate::log::RollbackCause;
use crate::outcome::{Outcome, Rejection, Reply};
use crate::record::{Entry, Record, SlotHead, Stamp};
use crate::slots::SlotSet;
use crate::state::{Decision, ShardState, SlotState, Undo};
use holds::Deadlines;
use keys::{ForgottenKeys, KeyAges};
use orders::Orders;
pub use recent::RECENT_BYTES_MAX;
use recent::Recent;
use watches::Watches;

/// The head of each slot: its last record.
pub type SlotHeads = Box<[SlotHead; SLOT_COUNT]>;

/// The number of a shard's batch, from 1 at the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct BatchNumber(u64);

/// Records that are appended to the log together.
#[derive(Debug)]
pub struct Batch {
    pub number: BatchNumber,
    pub entries: Vec<Entry>,
    /// How to undo each entry.
    undos: Vec<UndoEntry>,
}

/// The data to undo an entry.
#[derive(Debug)]
struct UndoEntry {
    /// The slot's head before the entry.
    head: SlotHead,
    undo: Undo,
}

/// The ownership of a slot: the epoch since which it is owned, and its last record.
#[derive(Debug, Clone, Copy)]
struct Ownership {
    epoch: Epoch,
    head: SlotHead,
}

/// `A` is the asker: where an answer goes.
#[derive(Debug)]
pub struct Shard<A> {
    state: ShardState,
    /// The ownership of each slot; `None` where another shard owns it.
    owned: Box<[Option<Ownership>; SLOT_COUNT]>,
    /// The records of the open batch.
    open: Vec<Entry>,
    /// How to undo each of `open`.
    undos: Vec<UndoEntry>,
    applied: BatchNumber,
    writing: Option<BatchNumber>,
    committed: BatchNumber,
    /// Answers and messages that wait for a commit, in order of batch numbers.
    pending: VecDeque<Pending<A>>,
    /// Why commands are refused: the log takes no records at present.
    read_only: Option<RollbackCause>,
    deadlines: Deadlines,
    /// The most reservations of an account in this shard, cancelled ones included.
    reservations_max: u32,
    /// The most idempotency keys in this shard.
    keys_max: u64,
    key_ages: KeyAges,
    /// The elapsed time before which no slot needs a new generation of keys; `None` while no key is kept.
    keys_due_at: Option<Duration>,
    forgotten_keys: ForgottenKeys,
    orders: Orders<A>,
    watches: Watches<A>,
    recent: Recent,
}

#[derive(Debug)]
struct Pending<A> {
    after: BatchNumber,
    release: Release<A>,
    /// The query, to answer it again after a rollback.
    query: Option<Query>,
}

/// An answer or message that leaves a shard once the records that it depends on are durable.
#[derive(Debug)]
pub enum Release<A> {
    Answer(A, Reply),
    /// A command for the owner of another slot.
    Message(Slot, Command),
}

impl<A> Shard<A> {
    /// Makes the shard that owns the slots of `state`, all since the same epoch. `heads` are their heads.
    pub fn new(state: ShardState, heads: &SlotHeads, epoch: Epoch) -> Shard<A> {
        let mut owned = Box::new([None; SLOT_COUNT]);
        let slots = state.owned();
        for slot in slots.iter() {
            owned[slot.index()] = Some(Ownership { epoch, head: heads[slot.index()] });
        }
        let mut shard = Shard {
            state,
            owned,
            open: Vec::new(),
            undos: Vec::new(),
            applied: BatchNumber(0),
            writing: None,
            committed: BatchNumber(0),
            pending: VecDeque::new(),
            read_only: None,
            deadlines: Deadlines::new(),
            reservations_max: u32::MAX,
            keys_max: u64::MAX,
            key_ages: KeyAges::default(),
            keys_due_at: None,
            forgotten_keys: ForgottenKeys::default(),
            orders: Orders::default(),
            watches: Watches::new(),
            recent: Recent::new(RECENT_BYTES_MAX),
        };
        slots.iter().for_each(|slot| {
            shard.take_over_holds(slot);
            shard.take_over_keys(slot);
            shard.take_up_orders(slot);
        });
        shard
    }

    /// Sets the most reservations that an account may have in this shard, cancelled ones included: all that
    /// take memory here. More are refused with [`Rejection::AccountLimit`]. This is a setting of the server and
    /// no part of the state: a refusal writes nothing, and another shard count or setting changes no record.
    pub fn with_reservations_max(self, reservations_max: u32) -> Shard<A> {
        Shard { reservations_max, ..self }
    }

    /// Sets the most idempotency keys that this shard keeps. A request with another one is refused with
    /// [`Rejection::NoRoomForKeys`]. A setting, as that of reservations is.
    pub fn with_keys_max(self, keys_max: u64) -> Shard<A> {
        Shard { keys_max, ..self }
    }

    /// Sets the bytes of the latest records that this shard keeps for those who follow events. More of them takes the
    /// place of a log that cannot be read.
    pub fn with_recent_bytes_max(self, bytes_max: usize) -> Shard<A> {
        Shard { recent: Recent::new(bytes_max), ..self }
    }

    /// Refuses commands from the start, since the log takes no records yet, for this cause.
    pub fn refusing(self, cause: RollbackCause) -> Shard<A> {
        Shard { read_only: Some(cause), ..self }
    }

    /// Takes over a slot with its state and its head. Its next records carry `epoch`.
    pub fn adopt(&mut self, slot: Slot, state: SlotState, head: SlotHead, epoch: Epoch) {
        self.state.adopt(slot, state);
        self.owned[slot.index()] = Some(Ownership { epoch, head });
        self.take_over_holds(slot);
        self.take_over_keys(slot);
        self.take_up_orders(slot);
    }

    /// Gives up a slot, for another owner to adopt; `None` if it is not owned.
    ///
    /// # Panics
    ///
    /// If anything waits for a commit. After a rollback, a waiting query would be answered again, without the
    /// slot.
    pub fn release_slot(&mut self, slot: Slot) -> Option<(SlotState, SlotHead)> {
        let Ownership { head, .. } = self.owned[slot.index()]?;
        assert!(self.is_committed(), "slot {slot} is given up while answers wait for a commit");
        self.give_up_orders(slot);
        self.owned[slot.index()] = None;
        self.give_up_holds(slot);
        self.give_up_watches(slot);
        self.recent.give_up(slot);
        Some((self.state.release(slot)?, head))
    }

    pub fn owned(&self) -> SlotSet {
        self.state.owned()
    }

    /// The elapsed time at which [`Shard::expire`] has something to do: holds end, keys age, something about an order is
    /// said again, or questions have waited long enough for news. While the log takes no records, only the last two.
    pub fn expires_at(&self) -> Option<Duration> {
        let keys_due_at = self.keys_due_at.filter(|_| self.read_only.is_none());
        let waiting = [self.holds_end_at(), keys_due_at, self.orders_due_at(), self.watches.end_at()];
        waiting.into_iter().flatten().min()
    }

    /// Ends holds that have reached their deadlines, ages idempotency keys, says again what other slots have not
    /// answered, and answers questions that have waited long enough for news.
    pub fn expire(&mut self, now: Now) {
        self.end_holds(now);
        self.age_keys_if_due(now);
        self.repeat_of_orders(now);
        self.end_watches(now);
    }

    pub fn state(&self) -> &ShardState {
        &self.state
    }

    /// Decides a request and applies its records. [`Shard::next_release`] returns the answer later.
    pub fn take_in(&mut self, now: Now, ask: Ask, asker: A) {
        if self.deadlines.are_due(now) {
            self.end_holds_for(now, ask.slot());
        }
        let (reply, query) = match ask {
            Ask::Command(Command::OrderMessage(message)) => return self.hear(now, *message),
            Ask::Command(command) if command.is_about_order() => {
                return self.take_in_order(now, command, asker);
            }
            Ask::Command(command) => (self.command(now, command), None),
            Ask::Query(query) => {
                let reply = answer(&self.state, &self.recent, &query);
                if let Query::Watch { event, after, wait } = query
                    && self.watches.must_wait(&reply, after)
                {
                    return self.watches.add(now, event, wait, asker);
                }
                (reply, Some(query))
            }
        };
        let release = Release::Answer(asker, reply);
        self.pending.push_back(Pending { after: self.applied, release, query });
    }

    fn command(&mut self, now: Now, command: Command) -> Reply {
        if let Some(cause) = self.read_only {
            return Err(refusal(cause));
        }
        let slot = command.slot();
        let has_key = match command.key() {
            Some(key) => {
                self.check_room_for_key(slot, key)?;
                true
            }
            None => false,
        };
        let decision = self.state.decide(self.deadlines.time_of_slot(now, slot), slot, command);
        self.check_account(&decision.records)?;
        self.carry_out_with_key(now, slot, decision, has_key)
    }

    /// Carries a decision out. If its request has a key, the key may be the first of another generation.
    #[inline]
    fn carry_out_with_key(&mut self, now: Now, slot: Slot, mut decision: Decision, has_key: bool) -> Reply {
        let keeps_key = has_key && !decision.records.is_empty();
        if keeps_key {
            self.begin_generation_if_due(now, slot, &mut decision);
        }
        let reply = self.carry_out(now, slot, decision);
        if keeps_key {
            self.note_kept_key(now, slot);
        }
        reply
    }

    /// Checks that the buyer of a decided reservation may have one more; if that is no account, that the account
    /// that acts may make one more for others.
    fn check_account(&self, records: &[Record]) -> Result<(), Rejection> {
        let most = self.reservations_max;
        for gain in records.iter().filter_map(Record::gain) {
            let (account, is_reached) = match *gain.buyer {
                Buyer::Account(account) => (account, self.state.has_reservations(account, most)),
                Buyer::Ref(_) | Buyer::Guest | Buyer::Block => {
                    (gain.by, gain.is_new && self.state.has_made_for_others(gain.by, most))
                }
            };
            if is_reached {
                return Err(Rejection::AccountLimit { account, most });
            }
        }
        Ok(())
    }

    /// Applies and logs a decision's records, queues its messages, and returns its reply.
    fn carry_out(&mut self, now: Now, slot: Slot, decision: Decision) -> Reply {
        let Decision { records, reply, messages } = decision;
        if !records.is_empty() {
            self.log_all(now.wall, slot, records);
        }
        for (slot, command) in messages {
            self.release(Release::Message(slot, command));
        }
        let outcome = reply?;
        Ok(self.state.slot(slot).expect("it was decided by an owned slot").outcome(&outcome))
    }

    /// Applies and logs the records of a decision. They get the wall time; or the slot's time, if it is a
    /// little ahead. If it is further ahead, the clock was wrong, and the slot's time is set back.
    ///
    /// Inlined: a reservation would pay for the call, since others end holds and age keys with it.
    #[inline(always)]
    fn log_all(&mut self, wall: Timestamp, slot: Slot, records: SmallVec<[Record; 1]>) {
        // Never 0, which state uses for "not cancelled".
        let wall = wall.max(Timestamp(1));
        let slot_time = self.owned[slot.index()].expect("decided for an owned slot").head.at;
        let is_wrong = slot_time.0 > wall.0 + AHEAD_MAX_MS;
        let at = if is_wrong { wall } else { wall.max(slot_time) };
        if is_wrong {
            self.log(slot, at, Record::TimeSetBack, true);
        }
        let mut left = records.len();
        for record in records {
            left -= 1;
            self.log(slot, at, record, left > 0);
        }
    }

    fn log(&mut self, slot: Slot, at: Timestamp, record: Record, continues: bool) {
        if self.open.is_empty() {
            self.applied = BatchNumber(self.applied.0 + 1);
        }
        let Ownership { epoch, head } = self.owned[slot.index()].as_mut().expect("decided for an owned slot");
        let lsn = head.lsn.next();
        let undo = self.state.slot(slot).expect("decided for an owned slot").undo_of(&record);
        self.undos.push(UndoEntry { head: *head, undo });
        let previous = self.state.apply(slot, at, lsn, &record);
        // By far the most frequent record moves no deadline.
        if !matches!(record, Record::Reserved { .. }) {
            self.deadlines.applied(slot, self.state.slot(slot).expect("decided for an owned slot"));
        }
        let stamp = Stamp { slot, epoch: *epoch, lsn, at, previous, continues };
        let chain = head.chain_next(&stamp, &record.encode());
        *head = SlotHead { lsn, chain, at };
        self.open.push(Entry { slot, epoch: *epoch, lsn, at, previous, continues, record, chain });
    }

    /// Lets an answer or message leave once all records so far are durable.
    fn release(&mut self, release: Release<A>) {
        self.pending.push_back(Pending { after: self.applied, release, query: None });
    }

    /// Lets an answer or message leave that depends on no record that is not durable.
    fn release_at_once(&mut self, release: Release<A>) {
        self.pending.push_front(Pending { after: self.committed, release, query: None });
    }

    /// Returns an answer or message that may leave now.
    pub fn next_release(&mut self) -> Option<Release<A>> {
        let committed = self.committed;
        Some(self.pending.pop_front_if(|pending| pending.after <= committed)?.release)
    }

    /// Whether nothing waits for a commit, and no answer for its release.
    pub fn is_at_rest(&self) -> bool {
        self.pending.is_empty() && self.is_committed()
    }

    /// Whether all records are committed, so that nothing waits for them.
    fn is_committed(&self) -> bool {
        self.open.is_empty() && self.writing.is_none()
    }

    /// The number of records in the open batch.
    pub fn open_records(&self) -> usize {
        self.open.len()
    }

    /// Closes the open batch and returns it, to be made durable. `None` if it is empty, or the one before is
    /// still being written.
    pub fn begin_commit(&mut self) -> Option<Batch> {
        if self.open.is_empty() || self.writing.is_some() {
            return None;
        }
        self.answer_watches_of_batch();
        self.writing = Some(self.applied);
        let entries = std::mem::take(&mut self.open);
        Some(Batch { number: self.applied, entries, undos: std::mem::take(&mut self.undos) })
    }

    /// Takes back the batch that [`Shard::begin_commit`] returned, once it is durable.
    pub fn finish_commit(&mut self, mut batch: Batch) {
        assert_eq!(self.writing.take(), Some(batch.number), "this batch was not being written");
        self.committed = batch.number;
        self.forgotten_keys
            .free_some(batch.undos.iter_mut().map(|entry| &mut entry.undo), batch.entries.len());
        assert!(self.committed <= self.applied, "committed is ahead of applied");
        for entry in batch.entries.drain(..) {
            self.recent.add(entry);
        }
        if self.open.is_empty() {
            // The next batch reuses the memory.
            self.open = batch.entries;
            self.undos = batch.undos;
            self.undos.clear();
        }
    }

    /// Takes back the batch that [`Shard::begin_commit`] returned, if the log stored nothing of it. Undoes all
    /// records that are not committed: those of the batch and of the open batch. Answers that wait for these
    /// records are replaced: a query is answered again, and a command is refused with the rejection of
    /// `cause`. Until [`Shard::resume`], further commands are refused in the same way.
    pub fn roll_back(&mut self, batch: Batch, cause: RollbackCause) {
        assert_eq!(self.writing.take(), Some(batch.number), "this batch was not being written");
        let later = self.open.drain(..).zip(self.undos.drain(..)).rev();
        let earlier = batch.entries.into_iter().zip(batch.undos).rev();
        for (entry, UndoEntry { head, undo }) in later.chain(earlier) {
            self.state.undo(entry.slot, entry.previous, &entry.record, undo);
            self.key_ages.forget(entry.slot, entry.lsn);
            let ownership = self.owned[entry.slot.index()].as_mut();
            ownership.expect("a slot with uncommitted records is owned").head = head;
            let state = self.state.slot(entry.slot).expect("a slot with uncommitted records is owned");
            self.deadlines.undone(entry.slot, state, &entry.record);
        }
        self.note_undone_keys();
        self.applied = self.committed;
        self.read_only = Some(cause);
        self.answer_again(refusal(cause));
        self.note_undone_orders(cause);
    }

    fn answer_again(&mut self, rejection: Rejection) {
        let (state, recent, committed) = (&self.state, &self.recent, self.committed);
        self.pending.retain_mut(|pending| {
            if pending.after <= committed {
                return true;
            }
            pending.after = committed;
            match (&mut pending.release, &pending.query) {
                (Release::Answer(_, reply), Some(query)) => *reply = answer(state, recent, query),
                (Release::Answer(_, reply), None) => *reply = Err(rejection.clone()),
                // The records that led to it are undone.
                (Release::Message(_, Command::OrderMessage(message)), _) => {
                    let Some(instead) = orders::undone(message, rejection.clone()) else { return false };
                    **message = instead;
                }
                (Release::Message(..), _) => return false,
            }
            true
        });
    }

    /// Refuses commands for another cause than before: the log is still read-only.
    pub fn refuse_because(&mut self, cause: RollbackCause) {
        assert!(self.read_only.is_some(), "the shard takes commands");
        self.read_only = Some(cause);
    }

    /// Takes commands again, since the log does.
    pub fn resume(&mut self) {
        self.read_only = None;
    }

    /// Why commands are refused; `None` while they are taken.
    pub fn read_only(&self) -> Option<RollbackCause> {
        self.read_only
    }
}

/// Answers a query. The state knows no records; the latest ones of an event are added here.
fn answer(state: &ShardState, recent: &Recent, query: &Query) -> Reply {
    let mut reply = state.query(query);
    if let (&Query::Changes { event, actor: _, after, limit }, Ok(Outcome::Changes(slice))) =
        (query, &mut reply)
    {
        slice.recent = recent.after(event, after, slice.position, limit);
    }
    reply
}

fn refusal(cause: RollbackCause) -> Rejection {
    match cause {
        RollbackCause::NoRoom => Rejection::LogFull,
        RollbackCause::Locked => Rejection::LogLocked,
    }
}

#[cfg(test)]
mod tests;
