//! Orders: a shard coordinates those of its owners, and answers for the parts in its events.
//!
//! An order takes effect with one record in its owner's slot. Before that, each event has prepared its part; after it,
//! each hears of it. Whoever waits for another slot asks or says it again, so a message may be lost. What is not in the
//! state, or under way in this process, has failed (*presumed abort*): `docs/decisions/orders.md`.

mod timers;
mod underway;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{BatchNumber, Release, Shard, refusal};
use crate::clock::Now;
use crate::command::{Command, Doubt, IdempotencyKey, OrderMessage, PartFate};
use crate::ids::{Attempt, OrderId, ReservationId, Slot};
use crate::log::RollbackCause;
use crate::outcome::{Outcome, RefusedItem, Rejection, Reply};
use crate::record::{Answer, Record};
use crate::slots::{slot_of_event, slot_of_user};
use crate::state::{Confirmable, Heard, OrderCommit};
use timers::{Timer, Timers};
use underway::{Aim, Trial, Underway, Verdict, Vote};

/// The time after which something is asked or said again for the first time: a slow disk answers sooner.
const AGAIN: Duration = Duration::from_secs(1);

/// The longest time between two repetitions. After each one the time doubles up to this.
const AGAIN_MAX: Duration = Duration::from_secs(8);

/// The time after which an attempt ends whose events have not all answered.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);

/// The time after which something goes on that was put off for other requests.
const SOON: Duration = Duration::from_millis(1);

/// The most timers that are served at a time. More are served after other requests. In the tests of this crate it is
/// 4, so that the simulation reaches it.
const SERVED_MAX: usize = if cfg!(test) { 4 } else { 256 };

/// What a shard does about orders beside their state.
#[derive(Debug)]
pub(super) struct Orders<A> {
    underway: Underway<A>,
    /// The orders of which parts have not heard.
    owed: BTreeMap<OrderId, Owed<A>>,
    /// The orders of which all parts have heard, for which that is not on record.
    heard_of: BTreeSet<OrderId>,
    timers: Timers,
}

/// An order of which parts have not heard.
#[derive(Debug)]
struct Owed<A> {
    fate: PartFate,
    left: Vec<ReservationId>,
    /// The batch with the record that the parts hear of.
    decided_in: BatchNumber,
    /// Who is answered when all have heard.
    askers: Vec<Waiting<A>>,
}

/// A request that waits until all parts have heard of its order.
#[derive(Debug)]
struct Waiting<A> {
    asker: A,
    answer: OrderAnswer,
    /// The batch that the answer depends on: the order's record is in it or earlier, and so is that of the key.
    after: BatchNumber,
}

/// An answer to a request about an order.
#[derive(Debug, Clone)]
enum OrderAnswer {
    Given(Answer),
    Replayed(Answer),
    Cancelled,
}

/// What becomes of a request about an order.
enum Begun {
    Answered(Outcome),
    /// The parts of the order have to hear of it first.
    Decided(OrderId, OrderAnswer),
    /// The events have to be asked.
    Tried(Aim),
}

impl<A> Default for Orders<A> {
    fn default() -> Orders<A> {
        Orders {
            underway: Underway::default(),
            owed: BTreeMap::new(),
            heard_of: BTreeSet::new(),
            timers: Timers::default(),
        }
    }
}

impl<A> Shard<A> {
    /// Takes in a request about an order.
    pub(super) fn take_in_order(&mut self, now: Now, command: Command, asker: A) {
        let (key, command) = match command {
            Command::Keyed(keyed) => (Some(keyed.key), keyed.command),
            command => (None, command),
        };
        let slot = command.slot();
        match self.begin_order(now, slot, key.as_ref(), command) {
            Ok(Begun::Answered(outcome)) => self.answer(asker, Ok(outcome)),
            Ok(Begun::Decided(order, answer)) => self.answer_when_heard(order, asker, answer),
            Ok(Begun::Tried(aim)) => self.begin_attempt(now, slot, key, aim, asker),
            Err(rejection) => self.answer(asker, Err(rejection)),
        }
    }

    fn begin_order(
        &mut self,
        now: Now,
        slot: Slot,
        key: Option<&IdempotencyKey>,
        command: Command,
    ) -> Result<Begun, Rejection> {
        if let Some(cause) = self.read_only {
            return Err(refusal(cause));
        }
        if let Some(key) = key {
            self.check_room_for_key(slot, key)?;
        }
        let state = self.state.slot(slot).ok_or(Rejection::Elsewhere)?;
        if let Some(key) = key {
            if let Some(answer) = state.first_answer(key)? {
                let order = answer.order().expect("the hash of a key tells its endpoint");
                return Ok(Begun::Decided(order, OrderAnswer::Replayed(answer)));
            }
            state.check_key_count(key)?;
            self.orders.underway.check_key(key)?;
        }
        match command {
            Command::PlaceOrder(order) => {
                self.orders.underway.check_room()?;
                Ok(Begun::Tried(Aim::Place(order)))
            }
            Command::ConfirmOrder { order, actor } => match state.check_confirm(order, actor)? {
                Confirmable::Already => {
                    let commit = OrderCommit::Confirm { order, actor };
                    Ok(Begun::Decided(order, self.commit_order(now, slot, commit, key)?))
                }
                Confirmable::Held(parts) => {
                    if self.orders.owed.contains_key(&order) || self.orders.underway.is_confirming(order) {
                        return Err(Rejection::OrderBusy);
                    }
                    self.orders.underway.check_room()?;
                    Ok(Begun::Tried(Aim::Confirm { order, actor, parts }))
                }
            },
            Command::CancelOrder { order, .. } => {
                let now_of_slot = self.deadlines.time_of_slot(now, slot);
                let decision = self.state.decide(now_of_slot, slot, command);
                let is_new = !decision.records.is_empty();
                let outcome = self.carry_out(now, slot, decision)?;
                if is_new {
                    self.owe(now, order);
                }
                Ok(match self.orders.owed.contains_key(&order) {
                    true => Begun::Decided(order, OrderAnswer::Cancelled),
                    false => Begun::Answered(outcome),
                })
            }
            other => unreachable!("{other:?} is not about an order"),
        }
    }

    fn begin_attempt(&mut self, now: Now, slot: Slot, key: Option<IdempotencyKey>, aim: Aim, asker: A) {
        let epoch = self.owned[slot.index()].expect("it was decided by an owned slot").epoch;
        let attempt = Attempt { epoch, number: self.orders.underway.next_number() };
        let trial = Trial::new(slot, attempt, asker, key, aim, now.elapsed);
        let questions = trial.questions();
        self.orders.underway.begin(trial);
        self.orders.timers.arm(Timer::Attempt(attempt.number), now.elapsed, AGAIN);
        questions.into_iter().for_each(|question| self.send_at_once(question));
    }

    /// Takes in a message of another slot, or of this one.
    pub(super) fn hear(&mut self, now: Now, message: OrderMessage) {
        let slot = message.slot();
        if self.state.slot(slot).is_none() {
            if let Some(refused) = refused(&message, Rejection::Elsewhere) {
                self.send_at_once(refused);
            }
            return;
        }
        match message {
            OrderMessage::Prepare(_)
            | OrderMessage::Abort { .. }
            | OrderMessage::Settle(_)
            | OrderMessage::Lock { .. }
            | OrderMessage::Unlock { .. } => self.hear_of_part(now, slot, &message),
            OrderMessage::Prepared { owner, attempt, part } => {
                self.hear_of_doubt(now, slot, Doubt::Placing { owner, attempt }, part);
            }
            OrderMessage::Locked { order, attempt, part } => {
                self.hear_of_doubt(now, slot, Doubt::Confirming { order, attempt }, part);
            }
            OrderMessage::Ask { doubt, part } => self.hear_of_doubt(now, slot, doubt, part),
            OrderMessage::Refused { owner: _, attempt, event, why } => {
                if let Some(trial) = self.orders.underway.find(slot, attempt) {
                    trial.vote(event, Vote::No(why));
                    self.decide_if_all_voted(now, attempt.number);
                }
            }
            OrderMessage::Gone { order: _, attempt, part } => {
                if let Some(trial) = self.orders.underway.find(slot, attempt) {
                    trial.vote(part.event, Vote::No(Rejection::ReservationCancelled));
                    self.decide_if_all_voted(now, attempt.number);
                }
            }
            OrderMessage::Settled { order, part, fate } => self.hear_settled(now, order, part, fate),
        }
    }

    fn hear_of_part(&mut self, now: Now, slot: Slot, message: &OrderMessage) {
        let now_of_slot = self.deadlines.time_of_slot(now, slot);
        let Heard { record, answer } =
            self.state.hear_of_part(now_of_slot, slot, message).expect("the slot is owned");
        if let Some(record) = record {
            if let Err(why) = self.check_part(&record) {
                // Whoever waits says anything but this again.
                if let Some(refused) = refused(message, why) {
                    self.send(refused);
                }
                return;
            }
            let part = part_of(&record);
            self.log_all(now.wall, slot, [record].into_iter().collect());
            self.watch_doubt(now, slot, part);
        }
        if let Some(answer) = answer {
            self.send(answer);
        }
    }

    fn check_part(&self, record: &Record) -> Result<(), Rejection> {
        match self.read_only {
            Some(cause) => Err(refusal(cause)),
            None => self.check_account(std::slice::from_ref(record)),
        }
    }

    fn watch_doubt(&mut self, now: Now, slot: Slot, part: ReservationId) {
        let state = self.state.slot(slot).expect("the slot is owned");
        match state.doubt(part) {
            Some(_) => self.orders.timers.arm(Timer::Part(part), now.elapsed, AGAIN),
            None => self.orders.timers.disarm(Timer::Part(part)),
        }
    }

    /// A part is in doubt: it has agreed to an attempt, and waits for what becomes of it.
    fn hear_of_doubt(&mut self, now: Now, slot: Slot, doubt: Doubt, part: ReservationId) {
        let (Doubt::Placing { attempt, .. } | Doubt::Confirming { attempt, .. }) = doubt;
        if let Some(trial) = self.orders.underway.find(slot, attempt)
            && trial.vote(part.event, Vote::Yes(part))
        {
            self.decide_if_all_voted(now, attempt.number);
            return;
        }
        // A start without room has not claimed its log yet: an earlier process may still write what is missing here. The
        // part asks again.
        if self.read_only.is_none() {
            let answer = self.state.slot(slot).expect("the slot is owned").resolve(doubt, part);
            self.send(answer);
        }
    }

    fn decide_if_all_voted(&mut self, now: Now, number: u64) {
        let verdict = self.orders.underway.get(number).and_then(Trial::verdict);
        if let Some(verdict) = verdict {
            self.decide_attempt(now, number, verdict);
        }
    }

    fn decide_attempt(&mut self, now: Now, number: u64, verdict: Verdict) {
        let trial = self.end_attempt(number);
        let decided = match (verdict, &trial.aim) {
            (Verdict::Agreed(parts), aim) => {
                let commit = match aim {
                    Aim::Place(order) => OrderCommit::Place { order, attempt: trial.attempt, parts },
                    Aim::Confirm { order, actor, parts: _ } => {
                        OrderCommit::Confirm { order: *order, actor: *actor }
                    }
                };
                self.commit_order(now, trial.slot, commit, trial.key.as_ref())
            }
            (Verdict::Refused(items), Aim::Place(_)) => Err(refusal_of_items(items)),
            (Verdict::Refused(items), Aim::Confirm { order, actor, parts }) => {
                // The parts may have ended with the order.
                let state = self.state.slot(trial.slot).expect("an attempt ends with its slot");
                let order_ended = state.check_confirm(*order, *actor).err();
                let is_gone = |part: &&ReservationId| items.iter().any(|item| item.event == part.event);
                let parts = || parts.iter().filter(is_gone).copied().collect();
                Err(order_ended.unwrap_or_else(|| Rejection::PartsGone { parts: parts() }))
            }
        };
        match decided {
            Ok(OrderAnswer::Given(given)) => {
                let order = given.order().expect("the answer is about an order");
                self.owe(now, order);
                self.answer_when_heard(order, trial.asker, OrderAnswer::Given(given));
            }
            Ok(OrderAnswer::Replayed(_) | OrderAnswer::Cancelled) => {
                unreachable!("its key was not kept while it was in flight")
            }
            Err(rejection) => self.fail(trial, rejection),
        }
    }

    fn end_attempt(&mut self, number: u64) -> Trial<A> {
        self.orders.timers.disarm(Timer::Attempt(number));
        self.orders.underway.end(number).expect("it is under way")
    }

    /// Ends an attempt that has failed. The events that have agreed are told, the others ask.
    fn fail(&mut self, trial: Trial<A>, rejection: Rejection) {
        trial.ends().into_iter().for_each(|end| self.send_at_once(end));
        self.answer(trial.asker, Err(rejection));
    }

    /// Logs what all parts have agreed to, with the key of the request.
    fn commit_order(
        &mut self,
        now: Now,
        slot: Slot,
        commit: OrderCommit<'_>,
        key: Option<&IdempotencyKey>,
    ) -> Result<OrderAnswer, Rejection> {
        if let Some(cause) = self.read_only {
            return Err(refusal(cause));
        }
        if let Some(key) = key {
            self.check_room_for_key(slot, key)?;
        }
        let now_of_slot = self.deadlines.time_of_slot(now, slot);
        let state = self.state.slot(slot).ok_or(Rejection::Elsewhere)?;
        let decision = state.decide_order(now_of_slot, commit, key);
        match self.carry_out_with_key(now, slot, decision, key.is_some())? {
            Outcome::Order(view) => {
                let state = self.state.slot(slot).expect("it was decided by an owned slot");
                Ok(OrderAnswer::Given(state.answer_of_order(view.id)))
            }
            other => unreachable!("an order was decided: {other:?}"),
        }
    }

    /// Tells the parts of an order what it has decided.
    pub(super) fn owe(&mut self, now: Now, order: OrderId) {
        let state = self.state.slot(slot_of_user(order.user)).expect("it was decided by an owned slot");
        let settles = state.owed_by(order);
        let fate = state.fate_of_order(order).expect("it was just decided");
        self.orders.heard_of.remove(&order);
        let left = settles.iter().map(|settle| settle.part).collect();
        let askers = self.orders.owed.remove(&order).map_or(Vec::new(), |before| before.askers);
        self.orders.owed.insert(order, Owed { fate, left, decided_in: self.applied, askers });
        self.orders.timers.arm(Timer::Order(order), now.elapsed, AGAIN);
        settles.into_iter().for_each(|settle| self.send(OrderMessage::Settle(settle)));
    }

    fn hear_settled(&mut self, now: Now, order: OrderId, part: ReservationId, fate: PartFate) {
        let Some(owed) = self.orders.owed.get_mut(&order).filter(|owed| owed.fate == fate) else { return };
        owed.left.retain(|&left| left != part);
        if !owed.left.is_empty() {
            return;
        }
        let owed = self.orders.owed.remove(&order).expect("it was just found");
        self.orders.timers.disarm(Timer::Order(order));
        self.orders.heard_of.insert(order);
        self.orders.timers.arm_once(Timer::Records, now.elapsed, AGAIN);
        for Waiting { asker, answer, after } in owed.askers {
            let outcome = self.outcome_of(order, answer);
            let answer = Release::Answer(asker, Ok(outcome));
            if after <= self.committed {
                self.release_at_once(answer);
            } else {
                self.release(answer);
            }
        }
    }

    /// Answers once all parts have heard of the order.
    fn answer_when_heard(&mut self, order: OrderId, asker: A, answer: OrderAnswer) {
        match self.orders.owed.get_mut(&order) {
            Some(owed) => owed.askers.push(Waiting { asker, answer, after: self.applied }),
            None => {
                let outcome = self.outcome_of(order, answer);
                self.answer(asker, Ok(outcome));
            }
        }
    }

    fn outcome_of(&self, order: OrderId, answer: OrderAnswer) -> Outcome {
        let state = self.state.slot(slot_of_user(order.user)).expect("it was decided by an owned slot");
        let first = |answer| Outcome::Order(Box::new(state.order_as_answered(answer)));
        match answer {
            OrderAnswer::Given(answer) => first(&answer),
            OrderAnswer::Replayed(answer) => Outcome::Replayed(Box::new(first(&answer))),
            OrderAnswer::Cancelled => Outcome::Cancelled,
        }
    }

    /// Whether requests wait for events, or parts have not heard of their orders or wait to hear.
    #[cfg(test)]
    pub(crate) fn has_orders_underway(&self) -> bool {
        let slots = self.owned();
        let in_doubt = slots
            .iter()
            .filter_map(|slot| self.state.slot(slot))
            .any(|state| state.doubts().next().is_some());
        in_doubt || !self.orders.underway.is_empty() || !self.orders.owed.is_empty()
    }

    /// The elapsed time at which something is to be said again.
    pub(super) fn orders_due_at(&self) -> Option<Duration> {
        self.orders.timers.due_at()
    }

    /// Says again what waits for an answer.
    pub(super) fn repeat_of_orders(&mut self, now: Now) {
        for _ in 0..SERVED_MAX {
            let Some((timer, waited)) = self.orders.timers.take_due(now.elapsed) else { break };
            let is_needed = match timer {
                Timer::Attempt(number) => self.repeat_attempt(now, number),
                Timer::Order(order) => self.repeat_order(order),
                Timer::Part(part) => self.repeat_doubt(part),
                Timer::Records => self.record_heard_of(now),
            };
            if is_needed {
                let wait = match timer {
                    Timer::Order(_) | Timer::Part(_) => (waited * 2).clamp(AGAIN, AGAIN_MAX),
                    // More of them have heard than are recorded at a time.
                    Timer::Records if self.read_only.is_none() => SOON,
                    Timer::Attempt(_) | Timer::Records => AGAIN,
                };
                self.orders.timers.arm(timer, now.elapsed, wait);
            }
        }
    }

    fn repeat_attempt(&mut self, now: Now, number: u64) -> bool {
        let trial = self.orders.underway.get(number).expect("its timer ends with it");
        if now.elapsed >= trial.begun + ATTEMPT_MAX {
            let trial = self.end_attempt(number);
            self.fail(trial, Rejection::Overloaded);
            return false;
        }
        let questions = trial.questions();
        questions.into_iter().for_each(|question| self.send_at_once(question));
        true
    }

    fn repeat_order(&mut self, order: OrderId) -> bool {
        let Some(owed) = self.orders.owed.get(&order) else { return false };
        let state = self.state.slot(slot_of_user(order.user)).expect("the slot is owned");
        let settles = state.owed_by(order).into_iter().filter(|settle| owed.left.contains(&settle.part));
        let settles: Vec<_> = settles.collect();
        settles.into_iter().for_each(|settle| self.send(OrderMessage::Settle(settle)));
        true
    }

    fn repeat_doubt(&mut self, part: ReservationId) -> bool {
        let Some(doubt) = self.state.slot(slot_of_event(part.event)).and_then(|state| state.doubt(part))
        else {
            return false;
        };
        self.send(OrderMessage::Ask { doubt, part });
        true
    }

    /// Puts on record which orders owe nothing any more. A start that does not know repeats what they say.
    fn record_heard_of(&mut self, now: Now) -> bool {
        if self.read_only.is_some() {
            return true;
        }
        for _ in 0..SERVED_MAX {
            let Some(id) = self.orders.heard_of.pop_first() else { break };
            self.log_all(
                now.wall,
                slot_of_user(id.user),
                [Record::OrderSettled { id }].into_iter().collect(),
            );
        }
        !self.orders.heard_of.is_empty()
    }

    /// Says again what the state of a slot waits for or owes, where nothing says it already: the slot was taken over, or
    /// records were undone.
    pub(super) fn take_up_orders(&mut self, slot: Slot) {
        let Orders { owed, heard_of, timers, .. } = &mut self.orders;
        let state = self.state.slot(slot).expect("the slot is owned");
        state.doubts().for_each(|part| timers.arm_now(Timer::Part(part)));
        for (order, fate) in state.unsettled_orders() {
            if heard_of.contains(&order) || owed.contains_key(&order) {
                continue;
            }
            let left = state.owed_by(order).into_iter().map(|settle| settle.part).collect();
            owed.insert(order, Owed { fate, left, decided_in: self.committed, askers: Vec::new() });
            timers.arm_now(Timer::Order(order));
        }
    }

    /// Forgets what a slot that is given up owes and waits for.
    pub(super) fn give_up_orders(&mut self, slot: Slot) {
        for number in self.orders.underway.numbers_of(slot) {
            let trial = self.end_attempt(number);
            self.answer(trial.asker, Err(Rejection::Elsewhere));
        }
        let of_slot = |order: &OrderId| slot_of_user(order.user) == slot;
        self.orders.heard_of.retain(|order| !of_slot(order));
        let owed: Vec<OrderId> = self.orders.owed.keys().copied().filter(of_slot).collect();
        for order in owed {
            self.orders.timers.disarm(Timer::Order(order));
            let owed = self.orders.owed.remove(&order).expect("it was just found");
            owed.askers.into_iter().for_each(|one| self.answer(one.asker, Err(Rejection::Elsewhere)));
        }
        let doubts: Vec<_> = self.state.slot(slot).into_iter().flat_map(|state| state.doubts()).collect();
        doubts.into_iter().for_each(|part| self.orders.timers.disarm(Timer::Part(part)));
    }

    /// Notes that the records which are not committed were undone: orders of these batches were not decided, and what
    /// was settled in them is owed again.
    pub(super) fn note_undone_orders(&mut self, cause: RollbackCause) {
        let committed = self.committed;
        let mut left = Vec::new();
        for (order, owed) in std::mem::take(&mut self.orders.owed) {
            let is_undone = |one: &Waiting<A>| one.after > committed;
            let (undone, askers): (Vec<_>, Vec<_>) = owed.askers.into_iter().partition(is_undone);
            undone.into_iter().for_each(|one| self.answer(one.asker, Err(refusal(cause))));
            if owed.decided_in <= committed {
                self.orders.owed.insert(order, Owed { askers, ..owed });
            } else {
                self.orders.timers.disarm(Timer::Order(order));
                left.extend(askers.into_iter().map(|one| (order, one)));
            }
        }
        for slot in self.owned().iter() {
            self.take_up_orders(slot);
        }
        // What these wait for was decided before.
        for (order, one) in left {
            let owed = self.orders.owed.get_mut(&order).expect("parts have not heard of it yet");
            owed.askers.push(one);
        }
    }

    fn answer(&mut self, asker: A, reply: Reply) {
        self.release(Release::Answer(asker, reply));
    }

    fn send(&mut self, message: OrderMessage) {
        self.release(release_of(message));
    }

    /// Sends a message that depends on nothing.
    fn send_at_once(&mut self, message: OrderMessage) {
        self.release_at_once(release_of(message));
    }
}

fn release_of<A>(message: OrderMessage) -> Release<A> {
    Release::Message(message.slot(), Command::OrderMessage(Box::new(message)))
}

/// The part that a record is about.
fn part_of(record: &Record) -> ReservationId {
    match record {
        Record::PartPrepared(part) => part.id,
        Record::PartSettled(part) => part.id,
        other => unreachable!("{other:?} is not about a part"),
    }
}

/// The answer to a message that asks for tickets, if they cannot be had.
fn refused(message: &OrderMessage, why: Rejection) -> Option<OrderMessage> {
    match message {
        OrderMessage::Prepare(prepare) => Some(OrderMessage::Refused {
            owner: prepare.owner,
            attempt: prepare.attempt,
            event: prepare.item.event,
            why,
        }),
        _ => None,
    }
}

/// The message in place of one whose record was undone.
pub(super) fn undone(message: &OrderMessage, why: Rejection) -> Option<OrderMessage> {
    match *message {
        OrderMessage::Prepared { owner, attempt, part } => {
            Some(OrderMessage::Refused { owner, attempt, event: part.event, why })
        }
        _ => None,
    }
}

/// The rejection of an order of which these items cannot be had. What refuses a request whatever it asks for refuses
/// the order in the same words.
fn refusal_of_items(items: Vec<RefusedItem>) -> Rejection {
    let is_general = |item: &&RefusedItem| {
        matches!(
            item.why,
            Rejection::LogFull
                | Rejection::LogLocked
                | Rejection::Elsewhere
                | Rejection::Overloaded
                | Rejection::AccountLimit { .. }
        )
    };
    match items.iter().find(is_general) {
        Some(item) => item.why.clone(),
        None => Rejection::OrderRefused { items: items.into() },
    }
}

#[cfg(test)]
mod tests;
