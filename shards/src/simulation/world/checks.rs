//! Comparisons of idle shards with the oracle, with the disk, and with the replies that clients have.

use std::collections::BTreeSet;
use std::time::Duration;

use super::network::SentRequest;
use super::shard::{DriverState, SimulatedShard};
use super::{Progress, World};
use crate::command::{Ask, Buyer, Command, Query};
use crate::ids::ReservationId;
use crate::limits::KEY_GENERATION;
use crate::outcome::{Outcome, Reply, ReservationStatus, Totals};
use crate::simulation::disk::Replayed;
use crate::simulation::oracle::Violation;
use crate::simulation::workload::ADMIN;
use crate::slots::slot_of_event;
use crate::state::ShardState;

/// The most rounds that it takes to answer all requests once no new ones come, and to stop.
const ROUNDS_TO_REST: usize = 2000;
/// The time that passes in one of these rounds.
const ROUND: Duration = Duration::from_millis(10);

impl World {
    /// Compares idle shards with the oracle.
    pub(super) fn check_shards(&self) -> Result<(), Violation> {
        let mut sum = Totals::default();
        for index in 0..self.shards.len() {
            let Ok(Outcome::Part(part)) = self.query(index, &Query::Totals) else {
                return Err("totals were refused".to_owned());
            };
            let Outcome::Totals(part) = part.outcome else {
                return Err(format!("these are no totals: {:?}", part.outcome));
            };
            sum += part;
        }
        self.oracle.check_all(|slot, query| self.query(self.owner(slot), query), sum)
    }

    fn query(&self, index: usize, query: &Query) -> Reply {
        self.shards[index].driver.shard().state().query(query)
    }

    pub(super) fn replay(&mut self, shard_count: usize) -> Result<Replayed, Violation> {
        self.disk.replay(shard_count, None).map_err(|refusal| refusal.to_string())
    }

    /// Compares idle shards, all or one, with what recovery makes of the disk.
    pub(super) fn compare_with_disk(&mut self, only: Option<usize>) -> Result<(), Violation> {
        let replayed = self.replay(self.shards.len())?;
        for (index, (shard, state)) in self.shards.iter().zip(&replayed.states).enumerate() {
            if only.is_none_or(|only| only == index) {
                shard.driver.shard().state().check_sums();
                compare(index, shard.driver.shard().state(), state)?;
            }
        }
        Ok(())
    }

    /// Sends no more requests, and checks that all those of this process are answered, that no shard
    /// stays read-only and no journal large, and that the drivers stop. In half of the worlds they stop early,
    /// with work left, and disks full, logs locked or read.
    pub(super) fn finish_requests(&mut self) -> Result<(), Violation> {
        self.note(|| "no more requests are sent".to_owned());
        self.is_finishing = true;
        self.rates.fails = 0;
        self.unfenced.clear();
        let stops_early = self.random.within(0, 1) == 0;
        if !stops_early {
            self.run_until(|shard, _| shard.is_idle())?;
            for shard in &mut self.shards {
                (shard.is_full, shard.is_locked, shard.is_read) = (false, false, false);
            }
            self.run_until(|shard, elapsed| {
                shard.is_idle()
                    && shard.driver.shard().read_only().is_none()
                    && !shard.journal_is_large
                    && shard.driver.shard().holds_end_at().is_none_or(|end| end > elapsed)
            })?;
            self.check_wakes()?;
        }
        self.finish_orders()?;
        self.run_until(|shard, _| {
            if shard.inbox.is_empty() {
                shard.stop();
            }
            shard.driver_state == DriverState::Stopped
        })?;
        let mut requests = self.requests.iter().enumerate();
        if let Some((request, _)) =
            requests.find(|(_, one)| one.process == self.process && one.reply.is_none())
        {
            return Err(format!("request {request} is never answered"));
        }
        self.check_shards()?;
        self.compare_with_disk(None)
    }

    /// Lets orders that are under way end: their requests wait for several shards.
    fn finish_orders(&mut self) -> Result<(), Violation> {
        let is_open = |one: &SentRequest| {
            let is_about_order = matches!(&one.ask, Ask::Command(command) if command.is_about_order());
            is_about_order && one.process == self.process && one.reply.is_none()
        };
        let are_underway = |one: &SimulatedShard| one.driver.shard().has_orders_underway();
        if !self.requests.iter().any(is_open) && !self.shards.iter().any(are_underway) {
            return Ok(());
        }
        for shard in &mut self.shards {
            (shard.is_full, shard.is_locked) = (false, false);
        }
        self.run_until(|shard, _| shard.is_idle() && !shard.driver.shard().has_orders_underway())?;
        self.oracle.check_orders_at_rest()
    }

    /// Checks that each core will wake to forget the keys that it keeps, though no more requests come.
    fn check_wakes(&self) -> Result<(), Violation> {
        for (index, simulated) in self.shards.iter().enumerate() {
            let shard = simulated.driver.shard();
            let latest = self.elapsed + KEY_GENERATION;
            if shard.state().key_count() > 0 && shard.expires_at().is_none_or(|at| at > latest) {
                return Err(format!("shard {index} keeps keys and wakes at {:?}", shard.expires_at()));
            }
        }
        Ok(())
    }

    /// Delivers every message and runs the cores, until `done` holds for all shards.
    fn run_until(&mut self, done: impl Fn(&mut SimulatedShard, Duration) -> bool) -> Result<(), Violation> {
        for _ in 0..ROUNDS_TO_REST {
            self.elapsed += ROUND;
            while !self.wire.is_empty() {
                // What follows an answer is sent after it, and before the next answer comes.
                self.now += 1;
                self.deliver(0);
            }
            for index in 0..self.shards.len() {
                if self.turn(index)? != Progress::Continues {
                    return Err("a process ended without a fault".to_owned());
                }
            }
            let mut all_done = true;
            self.shards.iter_mut().for_each(|shard| all_done &= done(shard, self.elapsed));
            if self.wire.is_empty() && all_done {
                return Ok(());
            }
        }
        Err("a request is never answered, a shard stays read-only, a journal stays large, holds do not end, or a \
             driver does not stop"
            .to_owned())
    }

    /// Compares every acknowledged command with the shards, without the oracle.
    pub(super) fn check_acknowledged(&self) -> Result<(), Violation> {
        let reduction = |command: &Command| match command {
            Command::Reduce { reservation, .. } | Command::Confirm { reservation, quantity: Some(_), .. } => {
                Some(*reservation)
            }
            Command::Transfer(transfer) => Some(transfer.reservation),
            _ => None,
        };
        let commands = || {
            self.requests.iter().filter_map(|request| match &request.ask {
                Ask::Command(Command::Keyed(keyed)) => Some(&keyed.command),
                Ask::Command(command) => Some(command),
                Ask::Query(_) => None,
            })
        };
        let reductions: BTreeSet<ReservationId> = commands().filter_map(reduction).collect();
        let is_transferred = |id: ReservationId, buyer: &Buyer| {
            commands().any(|command| match command {
                Command::Transfer(transfer) => {
                    transfer.reservation == id && transfer.to.as_ref() == Some(buyer)
                }
                _ => false,
            })
        };
        for request in &self.requests {
            let (Ask::Command(command), Some(Ok(outcome))) = (&request.ask, &request.reply) else {
                continue;
            };
            let query = match (command, outcome) {
                (Command::Cancel { reservation, .. } | Command::Release { reservation, .. }, _) => {
                    (*reservation, None)
                }
                (Command::Keyed(_), Outcome::Replayed(first)) => match &**first {
                    Outcome::Reservation(view) => (view.id, Some(view)),
                    _ => continue,
                },
                (
                    Command::Reserve { .. }
                    | Command::Hold { .. }
                    | Command::Confirm { .. }
                    | Command::Reduce { .. }
                    | Command::Transfer(_)
                    | Command::Keyed(_),
                    Outcome::Reservation(view),
                ) => (view.id, Some(view)),
                _ => continue,
            };
            let (reservation, view) = query;
            let query = Query::Reservation { reservation, actor: ADMIN };
            let shard = self.owner(slot_of_event(reservation.event));
            let reply = self.query(shard, &query);
            let is_right = match (&reply, view) {
                (Ok(Outcome::Reservation(now)), Some(view)) => {
                    let may_be_less = reductions.contains(&reservation);
                    // What is confirmed may be cancelled, and nothing else.
                    let may_have_become = match view.status {
                        ReservationStatus::Held => true,
                        _ => {
                            matches!(now.status, ReservationStatus::Confirmed | ReservationStatus::Cancelled)
                        }
                    };
                    may_have_become
                        && (now.buyer == view.buyer || is_transferred(now.id, &now.buyer))
                        && (now.quantity == view.quantity || may_be_less && now.quantity < view.quantity)
                }
                (Ok(Outcome::Reservation(now)), None) => {
                    matches!(now.status, ReservationStatus::Cancelled | ReservationStatus::Expired)
                }
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
