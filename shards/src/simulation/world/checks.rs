//! Shards that have nothing under way, against the oracle, the disk, and what clients were told.

use super::shard::SimulatedShard;
use super::{Then, World};
use crate::clock::Now;
use crate::command::{Ask, Command, Query};
use crate::outcome::{Outcome, Reply, ReservationStatus, Totals};
use crate::simulation::disk::Replayed;
use crate::simulation::oracle::Violation;
use crate::simulation::workload::ADMIN;
use crate::slots::slot_of_event;
use crate::state::ShardState;

/// Rounds in which everything has to come to rest when nothing else happens.
const ROUNDS_TO_REST: usize = 2000;

impl World {
    /// Shards that have nothing under way, against the oracle.
    pub(super) fn check_shards(&self) -> Result<(), Violation> {
        let mut sum = Totals::default();
        for index in 0..self.shards.len() {
            let Ok(Outcome::Totals(part)) = self.query(index, &Query::Totals) else {
                return Err("totals are totals".to_owned());
            };
            sum.events += part.events;
            sum.accounts += part.accounts;
            sum.admins += part.admins;
            sum.quota += part.quota;
            sum.reserved += part.reserved;
        }
        self.oracle.check_all(|slot, query| self.query(self.owner(slot), query), sum)
    }

    fn query(&self, index: usize, query: &Query) -> Reply {
        self.shards[index].driver.shard().state().query(Now::at(self.wall), query)
    }

    pub(super) fn replay(&mut self, shard_count: usize) -> Result<Replayed, Violation> {
        self.disk.replay(shard_count, None).map_err(|refusal| refusal.to_string())
    }

    /// Shards that have nothing under way, against what recovery makes of the disk; all, or one.
    pub(super) fn compare_with_disk(&mut self, only: Option<usize>) -> Result<(), Violation> {
        let replayed = self.replay(self.shards.len())?;
        for (index, (shard, state)) in self.shards.iter().zip(&replayed.states).enumerate() {
            if only.is_none_or(|only| only == index) {
                compare(index, shard.driver.shard().state(), state)?;
            }
        }
        Ok(())
    }

    /// Nothing happens any more but what is under way: all of it has to be answered.
    pub(super) fn come_to_rest(&mut self) -> Result<(), Violation> {
        self.note(|| "nothing more is asked".to_owned());
        self.nature.fails = 0;
        self.shards.iter_mut().for_each(|shard| shard.is_full = false);
        for _ in 0..ROUNDS_TO_REST {
            self.now += 1;
            while !self.wire.is_empty() {
                self.deliver(0);
            }
            for index in 0..self.shards.len() {
                if self.turn(index)? != Then::Goes {
                    return Err("a process ended without a reason".to_owned());
                }
            }
            let at_rest = |shard: &SimulatedShard| {
                shard.driver.shard().is_at_rest() && shard.inbox.is_empty() && shard.log_work.is_none()
            };
            if self.wire.is_empty() && self.shards.iter().all(at_rest) {
                break;
            }
        }
        let life = self.disk.last_epoch().0;
        let mut questions = self.questions.iter().enumerate();
        if let Some((question, _)) = questions.find(|(_, one)| one.life == life && one.answer.is_none()) {
            return Err(format!("question {question} is never answered"));
        }
        self.check_shards()?;
        self.compare_with_disk(None)
    }

    /// What any client was told, against the shards, without the oracle's help.
    pub(super) fn check_acknowledged(&self) -> Result<(), Violation> {
        for question in &self.questions {
            let (Ask::Command(command), Some(Ok(outcome))) = (&question.ask, &question.answer) else {
                continue;
            };
            let query = match (command, outcome) {
                (Command::Cancel { reservation, .. }, _) => (*reservation, None),
                (Command::Reserve { .. }, Outcome::Reservation(view)) => (view.id, Some(view)),
                _ => continue,
            };
            let (reservation, view) = query;
            let query = Query::Reservation { reservation, actor: ADMIN };
            let shard = self.owner(slot_of_event(reservation.event));
            let reply = self.query(shard, &query);
            let is_right = match (&reply, view) {
                (Ok(Outcome::Reservation(now)), Some(view)) => {
                    (now.buyer, now.quantity) == (view.buyer, view.quantity)
                }
                (Ok(Outcome::Reservation(now)), None) => now.status == ReservationStatus::Cancelled,
                _ => false,
            };
            if !is_right {
                return Err(format!("{command:?} was acknowledged with {outcome:?}, and now is {reply:?}"));
            }
        }
        Ok(())
    }
}

pub(super) fn compare(index: usize, live: &ShardState, replayed: &ShardState) -> Result<(), Violation> {
    if live == replayed {
        return Ok(());
    }
    Err(format!("shard {index} live: {live:#?}\nreplayed: {replayed:#?}"))
}
