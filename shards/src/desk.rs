//! A shard's desk: takes questions in, and gives each answer out when what it
//! saw is durable. All that an answer may show, and when, is decided here.

use std::collections::VecDeque;

use crate::command::{Ask, Query};
use crate::ids::Timestamp;
use crate::outcome::{Rejection, Reply};
use crate::shard::{Answer, Batch, BatchNumber, Shard};

/// `A` is who asked: where the answer goes.
#[derive(Debug)]
pub struct Desk<A> {
    shard: Shard,
    /// In the order of their batch numbers.
    held: VecDeque<Held<A>>,
}

/// An answer, and the batch that it waits for.
#[derive(Debug)]
struct Held<A> {
    after: BatchNumber,
    asker: A,
    reply: Reply,
    /// To be asked again, should what it saw be taken back.
    query: Option<Query>,
}

impl<A> Desk<A> {
    pub fn new(shard: Shard) -> Desk<A> {
        Desk { shard, held: VecDeque::new() }
    }

    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Decides, and applies what is to be changed. The answer comes from [`Desk::next_answer`].
    /// `now` is the wall clock.
    pub fn take_in(&mut self, now: Timestamp, ask: Ask, asker: A) {
        let (Answer { reply, after }, query) = match ask {
            Ask::Command(command) => (self.shard.command(now, command), None),
            Ask::Query(query) => (self.shard.query(&query), Some(query)),
        };
        self.held.push_back(Held { after, asker, reply, query });
    }

    /// An answer that may go out now.
    pub fn next_answer(&mut self) -> Option<(A, Reply)> {
        let held = self.held.pop_front_if(|held| self.shard.is_committed(held.after))?;
        Some((held.asker, held.reply))
    }

    /// Whether nobody waits for an answer.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// See [`Shard::begin_commit`].
    pub fn begin_commit(&mut self) -> Option<Batch> {
        self.shard.begin_commit()
    }

    /// See [`Shard::finish_commit`].
    pub fn finish_commit(&mut self, batch: Batch) {
        self.shard.finish_commit(batch);
    }

    /// See [`Shard::roll_back`]. Whoever saw what is taken back is answered by what is left:
    /// queries anew, and commands that nothing was done.
    pub fn roll_back(&mut self, batch: Batch) {
        self.shard.roll_back(batch);
        for held in self.held.iter_mut().filter(|held| !self.shard.is_committed(held.after)) {
            let answer = match &held.query {
                Some(query) => self.shard.query(query),
                None => self.shard.refuse(Rejection::LogFull),
            };
            (held.reply, held.after) = (answer.reply, answer.after);
        }
    }

    /// See [`Shard::resume`].
    pub fn resume(&mut self) {
        self.shard.resume();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, CreateEvent, EventName};
    use crate::ids::{Epoch, EventId, Quantity, Quota, UserId};
    use crate::limits::SLOT_COUNT;
    use crate::outcome::Outcome;
    use crate::record::SlotHead;
    use crate::state::ShardState;

    const VIEW: Query = Query::Event { event: EventId(1) };

    /// With a committed event of two tickets.
    fn desk() -> Desk<&'static str> {
        let heads = Box::new([SlotHead::empty(1); SLOT_COUNT]);
        let mut desk = Desk::new(Shard::new(ShardState::default(), heads, Epoch(1)));
        let create = CreateEvent {
            id: EventId(1),
            organizer: UserId(1),
            name: EventName::new("x").unwrap(),
            quota: Quota::new(2).unwrap(),
        };
        ask(&mut desk, Ask::Command(Command::CreateEvent(Box::new(create))), "organizer");
        assert!(desk.next_answer().is_none(), "nothing is on disk yet");
        let batch = desk.begin_commit().unwrap();
        desk.finish_commit(batch);
        assert!(desk.next_answer().is_some_and(|(asker, reply)| asker == "organizer" && reply.is_ok()));
        desk
    }

    fn ask(desk: &mut Desk<&'static str>, ask: Ask, asker: &'static str) {
        desk.take_in(Timestamp(1000), ask, asker);
    }

    fn reserve(tickets: u64) -> Ask {
        let quantity = Quantity::new(tickets).unwrap();
        Ask::Command(Command::Reserve { event: EventId(1), customer: UserId(2), quantity })
    }

    fn answers(desk: &mut Desk<&'static str>) -> Vec<(&'static str, Result<Option<u32>, Rejection>)> {
        let reserved = |outcome| match outcome {
            Outcome::Event(event) => Some(event.reserved),
            _ => None,
        };
        std::iter::from_fn(|| desk.next_answer()).map(|(asker, reply)| (asker, reply.map(reserved))).collect()
    }

    #[test]
    fn a_full_log_takes_back_what_was_being_written_and_what_came_after() {
        let mut desk = desk();
        ask(&mut desk, reserve(1), "first");
        let batch = desk.begin_commit().unwrap();
        ask(&mut desk, reserve(1), "second");
        ask(&mut desk, Ask::Query(VIEW), "reader");
        ask(&mut desk, reserve(1), "too late");
        assert_eq!(answers(&mut desk), []);

        desk.roll_back(batch);
        ask(&mut desk, reserve(1), "while it is full");
        let full = Err(Rejection::LogFull);
        let expected = [
            ("first", full),
            ("second", full),
            ("reader", Ok(Some(0))),
            ("too late", full),
            ("while it is full", full),
        ];
        assert_eq!(answers(&mut desk), expected);
        assert!(desk.begin_commit().is_none(), "nothing is left to write");

        desk.resume();
        ask(&mut desk, reserve(2), "with room again");
        let batch = desk.begin_commit().unwrap();
        assert_eq!(batch.entries[0].lsn, crate::ids::Lsn(2), "lsns go on where the disk is");
        desk.finish_commit(batch);
        ask(&mut desk, Ask::Query(VIEW), "reader");
        assert_eq!(answers(&mut desk), [("with room again", Ok(None)), ("reader", Ok(Some(2)))]);
    }
}
