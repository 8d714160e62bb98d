//! Messages between clients and shards.

use super::World;
use super::shard::Inbound;
use crate::command::{Ask, Buyer, Command, Doubt, EndApiKey, OrderMessage, PartFate, Query, Settle};
use crate::ids::{OrderId, ReservationId, Slot, Timestamp, Username};
use crate::outcome::{Outcome, Rejection, Reply, ReservationView, Statuses};
use crate::simulation::coverage::name_of;
use crate::simulation::oracle::{Exchange, Known, Violation};
use crate::simulation::plant::Plant;
use crate::simulation::workload::{
    ADMIN, ask_after_keyed_sale, ask_after_order, create_given_event, is_event_created, is_placing,
    key_of_event_id, random_ask, random_ask_with_key,
};
use crate::slots::{shard_of_slot, slot_of_event};

/// A message in flight: the index of a request on its way to a shard, a reply on its way back, or one from the owner of a
/// slot to that of another.
pub(super) enum Message {
    Request(usize),
    Reply { request: usize, reply: Reply, known: Vec<Known> },
    Between(OrderMessage),
}

pub(super) struct SentRequest {
    pub(super) ask: Ask,
    pub(super) shard_index: usize,
    /// The step in which it was sent.
    pub(super) sent: u64,
    /// The wall time at which a shard took it in; 0 before.
    pub(super) wall: Timestamp,
    /// The process that it was sent to.
    pub(super) process: u64,
    /// See [`Exchange::taken_in`].
    pub(super) taken_in: Option<Timestamp>,
    /// The reply, once it has arrived.
    pub(super) reply: Option<Reply>,
}

impl World {
    pub(super) fn ask(&mut self) {
        let ask = match self.rates.hours > 0 && self.random.within(0, 1) == 0 {
            true => random_ask_with_key(&mut self.random, &mut self.ids),
            false => random_ask(&mut self.random, &mut self.ids),
        };
        self.send_request(ask);
    }

    pub(super) fn send_request(&mut self, ask: Ask) {
        let shard_index = match ask.slot() {
            Some(slot) => self.owner(slot),
            // One part of a request to all shards.
            None => self.random.within(0, self.shards.len() as u64 - 1) as usize,
        };
        let request = self.requests.len();
        self.note(|| format!("request {request} to shard {shard_index}: {ask:?}"));
        self.oracle.request_sent(&ask);
        let process = self.process;
        self.requests.push(SentRequest {
            ask,
            shard_index,
            sent: self.now,
            wall: Timestamp(0),
            process,
            taken_in: None,
            reply: None,
        });
        self.wire.push(Message::Request(request));
    }

    pub(super) fn deliver(&mut self, index: usize) {
        match self.wire.swap_remove(index) {
            Message::Request(request) => {
                let mut shard_index = self.requests[request].shard_index;
                if self.plant == Some(Plant::AskAnotherShard) && self.requests[request].ask.slot().is_none() {
                    shard_index = (shard_index + 1) % self.shards.len();
                }
                self.note(|| format!("request {request} arrives"));
                self.shards[shard_index].inbox.push_back(Inbound::Request(request));
                self.shards[shard_index].signal = true;
                if self.plant == Some(Plant::DeliverTwice) && self.has_chance(100) {
                    self.shards[shard_index].inbox.push_back(Inbound::Request(request));
                }
            }
            Message::Between(message) => self.deliver_between(message),
            Message::Reply { request, reply, known } => {
                self.note(|| format!("the reply to {request} arrives"));
                self.count(name_of(&reply));
                if self.requests[request].process != self.process {
                    self.count("replies of a killed process");
                }
                self.oracle.reply_arrived(self.now, known);
                if let Ok(Outcome::GivenEventId(Some(id))) = reply
                    && self.requests[request].process == self.process
                    && !self.is_finishing
                    && is_event_created(id)
                    && self.random.within(0, 4) > 0
                {
                    let key = key_of_event_id(&self.requests[request].ask);
                    for _ in 0..self.random.within(1, 2) {
                        self.send_request(Ask::Command(create_given_event(&key, id)));
                    }
                }
                if let Ok(Outcome::Order(order)) = &reply
                    && self.requests[request].process == self.process
                    // Most orders are answered at the end, since each takes several rounds of messages.
                    && (!self.is_finishing || is_placing(&self.requests[request].ask))
                {
                    let again = self.requests[request].ask.clone();
                    let next = ask_after_order(&mut self.random, order, again);
                    next.into_iter().for_each(|ask| self.send_request(ask));
                }
                if let (Ok(Outcome::Reservation(sold)), Ask::Command(Command::Keyed(_))) =
                    (&reply, &self.requests[request].ask)
                    && self.requests[request].process == self.process
                    && !self.is_finishing
                    && self.random.within(0, 1) == 0
                {
                    let again = self.requests[request].ask.clone();
                    let next = ask_after_keyed_sale(&mut self.random, sold, again);
                    next.into_iter().for_each(|ask| self.send_request(ask));
                }
                if let (Ok(_), Ask::Command(Command::RemoveUser(remove))) =
                    (&reply, &self.requests[request].ask)
                    && !self.is_finishing
                    && !self.shards.is_empty()
                {
                    let users = [remove.user].into();
                    self.send_request(Ask::Query(Query::Usernames { users }));
                }
                if let (Ok(Outcome::ApiKeyEnded(_)), Ask::Command(Command::EndApiKey(end))) =
                    (&reply, &self.requests[request].ask)
                    && !self.is_finishing
                    && !self.shards.is_empty()
                {
                    let EndApiKey { organizer, number } = *end;
                    self.send_request(Ask::Query(Query::ApiKey { organizer, number }));
                }
                self.ask_for_news(&reply);
                self.follow_changes(request, &reply);
                self.requests[request].reply = Some(reply);
            }
        }
    }

    /// Sends a message to the owner of a slot.
    pub(super) fn send_message(&mut self, slot: Slot, command: Command) {
        let Command::OrderMessage(message) = command else { unreachable!("{command:?} to slot {slot}") };
        self.note(|| format!("a message to slot {slot}: {message:?}"));
        if let Some(message) = self.with_planted(*message) {
            self.wire.push(Message::Between(message));
        }
    }

    /// Plants bugs of orders in a message; `None` if it is not sent.
    fn with_planted(&mut self, message: OrderMessage) -> Option<OrderMessage> {
        Some(match (self.plant, message) {
            (Some(Plant::CommitWithoutParts), OrderMessage::Refused { owner, attempt, event, .. }) => {
                let part = ReservationId { event, number: 1 };
                OrderMessage::Prepared { owner, attempt, part }
            }
            (Some(Plant::OrderForGuests), OrderMessage::Prepare(mut prepare))
                if matches!(prepare.buyer, Buyer::Ref(_)) =>
            {
                prepare.buyer = Buyer::Guest;
                OrderMessage::Prepare(prepare)
            }
            (Some(Plant::OrderForAnyOrganizer), OrderMessage::Prepare(mut prepare)) => {
                let organizer = self.oracle.organizer(prepare.item.event);
                prepare.actor.user = organizer.unwrap_or(prepare.actor.user);
                OrderMessage::Prepare(prepare)
            }
            (Some(Plant::ForgetAborts), OrderMessage::Abort { .. }) => return None,
            (
                Some(Plant::DecideAlone),
                OrderMessage::Ask { doubt: Doubt::Placing { owner, attempt }, part },
            ) => OrderMessage::Abort { owner, attempt, part },
            (Some(Plant::SellAborted), OrderMessage::Abort { owner, attempt, part }) => {
                let order = OrderId { user: owner, number: 1 };
                let (placed_by, fate) = (Some(attempt), PartFate::Confirmed);
                OrderMessage::Settle(Settle { order, placed_by, part, fate, by: owner.into() })
            }
            (Some(Plant::CommitAnyPart), OrderMessage::Abort { owner, attempt, part }) => {
                let placed = self.oracle.last_order_of(owner);
                let order = placed.unwrap_or(OrderId { user: owner, number: 1 });
                let (placed_by, fate) = (Some(attempt), PartFate::Held);
                OrderMessage::Settle(Settle { order, placed_by, part, fate, by: owner.into() })
            }
            (Some(Plant::SettleEarly), OrderMessage::Settle(Settle { order, part, fate, .. })) => {
                OrderMessage::Settled { order, part, fate }
            }
            (Some(Plant::IgnoreLocks), OrderMessage::Lock { order, attempt, part, .. }) => {
                OrderMessage::Locked { order, attempt, part }
            }
            (_, message) => message,
        })
    }

    /// Delivers a message to the owner of its slot; or loses it, or delivers it and again later.
    fn deliver_between(&mut self, message: OrderMessage) {
        if !self.is_finishing && self.has_chance(self.rates.loses) {
            self.count("messages lost");
            self.note(|| format!("lost: {message:?}"));
            return;
        }
        if !self.is_finishing && self.has_chance(self.rates.repeats) {
            self.count("messages repeated");
            self.wire.push(Message::Between(message.clone()));
        }
        let owner = self.owner(message.slot());
        self.shards[owner].inbox.push_back(Inbound::Message(message));
        self.shards[owner].signal = true;
    }

    /// Sends a reply: from now on, a client may know it.
    pub(super) fn send(&mut self, request: usize, mut reply: Reply) -> Result<(), Violation> {
        if self.plant == Some(Plant::ListByFirstOrganizer)
            && let Ask::Query(Query::Events { organizer: Some(organizer), .. }) = self.requests[request].ask
            && let Ok(Outcome::Part(part)) = &mut reply
            && let Outcome::Events(list) = &mut part.outcome
        {
            list.retain(|event| self.oracle.first_organizer(event.id) == Some(organizer));
        }
        self.plant_in_reply(request, &mut reply);
        self.plant_in_list(request, &mut reply);
        self.plant_in_changes(request, &mut reply);
        self.note(|| format!("reply to {request}: {reply:?}"));
        let SentRequest { ref ask, sent, wall, shard_index, taken_in, .. } = self.requests[request];
        let shard_count = self.shards.len();
        let owns = |slot| shard_of_slot(slot, shard_count) == shard_index;
        let known = self.oracle.check(Exchange { sent, taken_in, ask, wall, reply: &reply }, owns)?;
        if let Ok(Outcome::ReservationSlice(slice)) = &reply
            && !slice.views.is_empty()
            && known.iter().any(|known| self.oracle.is_deleted(known))
        {
            self.count("reservations of deleted events listed");
        }
        self.wire.push(Message::Reply { request, reply, known });
        Ok(())
    }

    /// Plants bugs of keys in a reply.
    fn plant_in_reply(&mut self, request: usize, reply: &mut Reply) {
        if self.plant == Some(Plant::EndedApiKeyWorks)
            && *reply == Ok(Outcome::ApiKey(None))
            && let Some(before) = self.api_key_before(request)
        {
            *reply = Ok(before);
        }
        if self.plant == Some(Plant::ReplayThePresent)
            && let Ok(Outcome::Replayed(first)) = reply
            && let Outcome::Reservation(view) = &mut **first
        {
            let query = Query::Reservation { reservation: view.id, actor: ADMIN };
            let shard = &self.shards[self.requests[request].shard_index];
            let now = shard.driver.shard().state().query(&query);
            if let Ok(Outcome::Reservation(now)) = now {
                *view = now;
            }
        }
        if self.plant == Some(Plant::IgnoreFingerprints)
            && *reply == Err(Rejection::KeyReused)
            && let Some(first) = self.first_reply(request)
        {
            *reply = Ok(Outcome::Replayed(Box::new(first)));
        }
        if self.plant == Some(Plant::KeepRejections)
            && let Ask::Command(Command::Keyed(keyed)) = &self.requests[request].ask
        {
            let name = (keyed.key.user, keyed.key.hash);
            match (self.kept_rejections.get(&name), &*reply) {
                (Some(rejection), _) => *reply = Err(rejection.clone()),
                (None, Err(rejection @ Rejection::SoldOut { .. })) => {
                    self.kept_rejections.insert(name, rejection.clone());
                }
                _ => {}
            }
        }
    }

    /// Plants bugs of lists in a reply.
    fn plant_in_list(&self, request: usize, reply: &mut Reply) {
        let state = self.shards[self.requests[request].shard_index].driver.shard().state();
        match (self.plant, reply) {
            (Some(Plant::SkipReservation), Ok(Outcome::ReservationSlice(slice))) => {
                slice.next = slice.next.map(|next| next + 1).filter(|&next| next < slice.last);
            }
            (Some(Plant::IgnoreStatuses), Ok(Outcome::ReservationSlice(slice))) => {
                let Ask::Query(mut all) = self.requests[request].ask.clone() else { return };
                let Query::EventReservations { statuses, .. } = &mut all else { return };
                *statuses = Statuses::ALL;
                if let Ok(Outcome::ReservationSlice(whole)) = state.query(&all) {
                    *slice = whole;
                }
            }
            (Some(Plant::IgnoreRef), Ok(Outcome::ReservationSlice(slice))) => {
                let Ask::Query(mut all) = self.requests[request].ask.clone() else { return };
                let Query::EventReservations { customer_ref, .. } = &mut all else { return };
                *customer_ref = None;
                if let Ok(Outcome::ReservationSlice(whole)) = state.query(&all) {
                    *slice = whole;
                }
            }
            (Some(Plant::IgnoreRefOfOrders), Ok(Outcome::Orders(slice))) => {
                let Ask::Query(mut all) = self.requests[request].ask.clone() else { return };
                let Query::Orders { customer_ref, .. } = &mut all else { return };
                *customer_ref = None;
                if let Ok(Outcome::Orders(whole)) = state.query(&all) {
                    *slice = whole;
                }
            }
            (Some(Plant::ListGivenAway), Ok(Outcome::Part(part))) => {
                let Ask::Query(Query::CustomerReservations { customer, after, limit }) =
                    self.requests[request].ask
                else {
                    return;
                };
                let Outcome::Reservations(list) = &mut part.outcome else { return };
                let given = self.oracle.given_away(customer).into_iter();
                let is_wanted = |one: &ReservationView| {
                    part.slots.contains(slot_of_event(one.id.event)) && Some(one.id) > after
                };
                list.extend(given.filter(is_wanted));
                list.sort_by_key(|one| one.id);
                list.dedup_by_key(|one| one.id);
                list.truncate(limit);
            }
            (Some(Plant::ForgetRemovedNames), Ok(Outcome::Part(part))) => {
                let Outcome::Usernames(list) = &mut part.outcome else { return };
                let is_removed = |username: &Username| {
                    let account = Query::Account { username: username.clone() };
                    let reply = state.query(&account);
                    matches!(reply, Ok(Outcome::Account(Some(account))) if account.removed)
                };
                list.retain(|(_, username)| !is_removed(username));
            }
            _ => {}
        }
    }

    /// What a client got when it asked for the same API key before.
    fn api_key_before(&self, request: usize) -> Option<Outcome> {
        let ask = &self.requests[request].ask;
        let mut same = self.requests.iter().filter(|other| other.ask == *ask);
        same.find_map(|other| match &other.reply {
            Some(Ok(before @ Outcome::ApiKey(Some(_)))) => Some(before.clone()),
            _ => None,
        })
    }

    /// The first outcome of a request with the same key, if a client has it.
    fn first_reply(&self, request: usize) -> Option<Outcome> {
        let key_of = |request: &SentRequest| match &request.ask {
            Ask::Command(Command::Keyed(keyed)) => Some((keyed.key.user, keyed.key.hash)),
            Ask::Command(_) | Ask::Query(_) => None,
        };
        let key = key_of(&self.requests[request])?;
        let mut same = self.requests.iter().filter(|other| key_of(other) == Some(key));
        same.find_map(|other| match &other.reply {
            Some(Ok(first @ Outcome::Reservation(_))) => Some(first.clone()),
            _ => None,
        })
    }
}
