//! Clients that wait for news of events, and the planted bugs of that.

use std::collections::BTreeMap;
use std::time::Duration;

use super::World;
use super::shard::DriverState;
use crate::command::{Ask, Query};
use crate::ids::{EventId, Lsn};
use crate::outcome::{Outcome, Rejection, Reply};
use crate::simulation::oracle::Violation;
use crate::simulation::plant::Plant;
use crate::simulation::workload::watch;

/// The questions that were taken in and are not answered, with the time when each is over.
#[derive(Default)]
pub(super) struct Watches {
    waiting: BTreeMap<usize, Duration>,
    /// What was to be committed, for [`Plant::ShowUndoneNews`].
    news: BTreeMap<usize, Reply>,
}

impl Watches {
    pub(super) fn clear(&mut self) {
        *self = Watches::default();
    }
}

impl World {
    /// A client that has the tickets of an event often waits for news of it, also of another process.
    pub(super) fn ask_for_news(&mut self, reply: &Reply) {
        if let Ok(Outcome::Availability(known)) = reply
            && !self.is_finishing
            && !self.shards.is_empty()
            && self.random.within(0, 3) > 0
        {
            let query = watch(&mut self.random, known.event, known.position);
            self.send_request(Ask::Query(query));
        }
    }

    pub(super) fn watch_taken_in(&mut self, request: usize, ask: &mut Ask, index: usize, elapsed: Duration) {
        let Ask::Query(Query::Watch { event, after, wait }) = ask else { return };
        self.watches.waiting.insert(request, elapsed + *wait);
        if let Ok(Outcome::Availability(now)) = self.tickets(index, *event)
            && self.plant == Some(Plant::MissNews)
        {
            *after = now.position;
        }
        if self.plant == Some(Plant::EndWatchesEarly) {
            *wait /= 2;
        }
    }

    /// A question for news is answered early only with news, unless the shard stops or has undone something.
    pub(super) fn watch_answered(
        &mut self,
        index: usize,
        request: usize,
        reply: &mut Reply,
    ) -> Result<(), Violation> {
        let Some(until) = self.watches.waiting.remove(&request) else { return Ok(()) };
        if let Some(undone) = self.watches.news.remove(&request) {
            *reply = undone;
        }
        let (_, after) = self.watched(request);
        match reply {
            Ok(Outcome::Availability(now)) if now.position == after => {
                let is_forced = self.shards[index].driver_state != DriverState::Runs
                    || self.requests[request].taken_in.is_none();
                if self.elapsed < until && !is_forced {
                    return Err(format!("request {request} is told too early that there are no news"));
                }
                self.count("watches without news");
            }
            _ => self.count("news for those who wait"),
        }
        Ok(())
    }

    /// Checks that nobody waits for news that are there.
    pub(super) fn check_watches(&mut self, index: usize) -> Result<(), Violation> {
        if !self.shards[index].driver.shard().is_at_rest() {
            return Ok(());
        }
        let waiting = self.waiting_at(index);
        if !waiting.is_empty() {
            self.count("watches that wait for news");
        }
        let has_news = |request: &usize| {
            let (event, after) = self.watched(*request);
            match self.tickets(index, event) {
                Ok(Outcome::Availability(now)) => now.position > after,
                reply => reply == Err(Rejection::EventDeleted),
            }
        };
        match waiting.iter().find(|request| has_news(request)) {
            Some(request) => Err(format!("request {request} waits for news that are there")),
            None => Ok(()),
        }
    }

    /// Plants bugs when a batch is given to the log.
    pub(super) fn plant_news(&mut self, index: usize) -> Result<(), Violation> {
        if !matches!(self.plant, Some(Plant::WakeBeforeCommit | Plant::ShowUndoneNews)) {
            return Ok(());
        }
        for request in self.waiting_at(index) {
            let (event, after) = self.watched(request);
            let reply = self.tickets(index, event);
            if !matches!(&reply, Ok(Outcome::Availability(now)) if now.position != after) {
                continue;
            }
            if self.plant == Some(Plant::WakeBeforeCommit) {
                self.send(request, reply)?;
            } else {
                self.watches.news.entry(request).or_insert(reply);
            }
        }
        Ok(())
    }

    fn waiting_at(&self, index: usize) -> Vec<usize> {
        let all = self.watches.waiting.keys().copied();
        all.filter(|&request| self.requests[request].shard_index == index).collect()
    }

    fn watched(&self, request: usize) -> (EventId, Lsn) {
        match self.requests[request].ask {
            Ask::Query(Query::Watch { event, after, .. }) => (event, after),
            ref ask => unreachable!("{ask:?} waits for nothing"),
        }
    }

    fn tickets(&self, index: usize, event: EventId) -> Reply {
        self.shards[index].driver.shard().state().query(&Query::Availability { event })
    }
}
