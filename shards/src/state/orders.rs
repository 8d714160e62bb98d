//! Orders, in the slots of their owners: the coordinator's state.
//!
//! The record of an order says what becomes of its parts. Until their owners have heard of it, the order is
//! *unsettled*: its coordinator owes them a message.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::{Decision, OutcomeRef, SlotState};
use crate::clock::Now;
use crate::command::{
    Actor, Buyer, CustomerRef, Doubt, IdempotencyKey, OrderMessage, PartFate, PlaceOrder, Settle,
};
use crate::ids::{Attempt, By, OrderId, ReservationId, Role, Timestamp, UserId};
use crate::limits::SCANNED_MAX;
use crate::outcome::{OrderPart, OrderSlice, OrderStatus, OrderView, Outcome, Rejection, Reply};
use crate::record::{Answer, OrderPlaced, Record};

/// The orders of a slot.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Orders {
    all: BTreeMap<OrderId, Order>,
    unsettled: BTreeMap<OrderId, Unsettled>,
    /// The unsettled orders by the attempts that placed them.
    placed_by: BTreeMap<Attempt, OrderId>,
    /// The held orders, by deadline.
    deadlines: BTreeSet<(Timestamp, OrderId)>,
}

#[derive(Debug, PartialEq, Eq)]
struct Order {
    buyer: Buyer,
    parts: Box<[OrderPart]>,
    created_at: Timestamp,
    standing: Standing,
}

const _: () = assert!(size_of::<(OrderId, Order)>() <= 72);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Confirmed,
    Held { deadline: Timestamp },
    Cancelled { at: Timestamp },
    Expired { deadline: Timestamp },
}

/// What the parts of an order may not have heard yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unsettled {
    /// The attempt that placed the order, if parts may still be prepared for it.
    placed_by: Option<Attempt>,
    /// Who acted last.
    by: By,
}

/// What a change of an order replaces.
#[derive(Debug)]
pub struct OrderBefore {
    standing: Standing,
    unsettled: Option<Unsettled>,
}

/// The decision of a coordinator whose parts have all agreed.
#[derive(Debug)]
pub enum OrderCommit<'a> {
    Place { order: &'a PlaceOrder, attempt: Attempt, parts: Box<[OrderPart]> },
    Confirm { order: OrderId, actor: Actor },
}

/// A held order that may be confirmed, or one that is confirmed already.
#[derive(Debug, PartialEq, Eq)]
pub enum Confirmable {
    Held(Vec<ReservationId>),
    Already,
}

impl Order {
    fn fate(&self) -> PartFate {
        match self.standing {
            Standing::Confirmed => PartFate::Confirmed,
            Standing::Held { .. } => PartFate::Held,
            Standing::Cancelled { .. } => PartFate::Cancelled,
            Standing::Expired { .. } => PartFate::Expired,
        }
    }

    fn view(&self, id: OrderId) -> OrderView {
        let (status, expires_at, cancelled_at) = match self.standing {
            Standing::Confirmed => (OrderStatus::Confirmed, None, None),
            Standing::Held { deadline } => (OrderStatus::Held, Some(deadline), None),
            Standing::Cancelled { at } => (OrderStatus::Cancelled, None, Some(at)),
            Standing::Expired { deadline } => (OrderStatus::Expired, Some(deadline), None),
        };
        let (buyer, parts, created_at) = (self.buyer.clone(), self.parts.clone(), self.created_at);
        OrderView { id, buyer, parts, status, created_at, expires_at, cancelled_at }
    }
}

impl Orders {
    fn set_standing(&mut self, id: OrderId, standing: Standing) {
        let order = self.all.get_mut(&id).expect("a record of an order follows its placing");
        if let Standing::Held { deadline } = order.standing {
            self.deadlines.remove(&(deadline, id));
        }
        if let Standing::Held { deadline } = standing {
            self.deadlines.insert((deadline, id));
        }
        order.standing = standing;
    }

    fn set_unsettled(&mut self, id: OrderId, unsettled: Option<Unsettled>) {
        if let Some(Unsettled { placed_by: Some(attempt), .. }) = self.unsettled.remove(&id) {
            self.placed_by.remove(&attempt);
        }
        if let Some(unsettled) = unsettled {
            if let Some(attempt) = unsettled.placed_by {
                self.placed_by.insert(attempt, id);
            }
            self.unsettled.insert(id, unsettled);
        }
    }

    /// Changes an order for all its parts, which have not heard of it yet.
    fn change(&mut self, id: OrderId, by: By, standing: Standing) {
        self.set_standing(id, standing);
        let placed_by = self.unsettled.get(&id).and_then(|before| before.placed_by);
        self.set_unsettled(id, Some(Unsettled { placed_by, by }));
    }

    pub(super) fn first_deadline(&self) -> Option<(Timestamp, OrderId)> {
        self.deadlines.first().copied()
    }

    /// The held orders with their deadlines.
    pub(super) fn held(&self) -> Vec<(OrderId, Timestamp)> {
        self.deadlines.iter().map(|&(deadline, id)| (id, deadline)).collect()
    }

    /// Gives held orders other deadlines.
    pub(super) fn set_deadlines(&mut self, held: impl IntoIterator<Item = (OrderId, Timestamp)>) {
        for (id, deadline) in held {
            self.set_standing(id, Standing::Held { deadline });
        }
    }

    /// The number of an account's next order.
    fn next(&self, user: UserId) -> Result<OrderId, Rejection> {
        let of_user = OrderId { user, number: 0 }..=OrderId { user, number: u32::MAX };
        let last = self.all.range(of_user).next_back().map_or(0, |(id, _)| id.number);
        let number = last.checked_add(1).ok_or(Rejection::NumbersUsedUp)?;
        Ok(OrderId { user, number })
    }
}

impl SlotState {
    /// Decides what all parts of an order have agreed to, and keeps the request's key with it.
    pub(crate) fn decide_order(
        &self,
        now: Now,
        commit: OrderCommit<'_>,
        key: Option<&IdempotencyKey>,
    ) -> Decision {
        let decided = self.with_key(key, || match commit {
            OrderCommit::Place { order, attempt, parts } => self.decide_placing(now, order, attempt, parts),
            OrderCommit::Confirm { order, actor } => {
                if self.check_confirm(order, actor)? == Confirmable::Already {
                    return Ok(Decision::unchanged(OutcomeRef::Order(order)));
                }
                let confirmed = Record::OrderConfirmed { id: order, by: actor.by() };
                Ok(Decision::change(confirmed, OutcomeRef::Order(order)))
            }
        });
        decided.unwrap_or_else(Decision::from)
    }

    fn decide_placing(
        &self,
        now: Now,
        order: &PlaceOrder,
        attempt: Attempt,
        parts: Box<[OrderPart]>,
    ) -> Result<Decision, Rejection> {
        let PlaceOrder { owner, actor, buyer, items: _, time } = order;
        let id = self.orders.next(*owner)?;
        let deadline = time.map(|time| Timestamp(now.steady.0 + time.milliseconds()));
        let placed = OrderPlaced { id, by: actor.by(), buyer: buyer.clone(), parts, attempt, deadline };
        Ok(Decision::change(Record::OrderPlaced(Box::new(placed)), OutcomeRef::Order(id)))
    }

    /// Whether an order can be confirmed, as far as its coordinator knows.
    pub(crate) fn check_confirm(&self, id: OrderId, actor: Actor) -> Result<Confirmable, Rejection> {
        let order = self.order_visible_to(id, actor)?;
        if id.user != actor.user {
            return Err(Rejection::NotYourOrder);
        }
        match order.standing {
            Standing::Held { .. } => {
                Ok(Confirmable::Held(order.parts.iter().map(|part| part.reservation).collect()))
            }
            Standing::Confirmed => Ok(Confirmable::Already),
            Standing::Expired { .. } => Err(Rejection::HoldExpired),
            Standing::Cancelled { .. } => Err(Rejection::HoldReleased),
        }
    }

    pub(super) fn decide_cancel_order(&self, id: OrderId, actor: Actor) -> Result<Decision, Rejection> {
        let order = self.order_visible_to(id, actor)?;
        Ok(match order.standing {
            Standing::Held { .. } | Standing::Confirmed => {
                let cancelled = Record::OrderCancelled { id, by: actor.by() };
                Decision::change(cancelled, OutcomeRef::Cancelled)
            }
            Standing::Cancelled { .. } | Standing::Expired { .. } => {
                Decision::unchanged(OutcomeRef::Cancelled)
            }
        })
    }

    /// The order, if the actor may see it. Otherwise the rejection is the same as if it did not exist.
    fn order_visible_to(&self, id: OrderId, actor: Actor) -> Result<&Order, Rejection> {
        let order = self.orders.all.get(&id).ok_or(Rejection::OrderNotFound)?;
        if id.user != actor.user && actor.role != Role::Admin {
            return Err(Rejection::OrderNotFound);
        }
        Ok(order)
    }

    pub(super) fn query_order(&self, id: OrderId, actor: Actor) -> Reply {
        Ok(Outcome::Order(Box::new(self.order_visible_to(id, actor)?.view(id))))
    }

    pub(super) fn query_orders(
        &self,
        owner: UserId,
        after: Option<u32>,
        customer_ref: Option<&CustomerRef>,
        limit: usize,
    ) -> Outcome {
        let first = OrderId { user: owner, number: after.unwrap_or(0) };
        let last = OrderId { user: owner, number: u32::MAX };
        let mut of_owner = self.orders.all.range((Bound::Excluded(first), Bound::Included(last))).peekable();
        let (mut views, mut next) = (Vec::new(), None);
        for _ in 0..SCANNED_MAX {
            let Some((&id, order)) = of_owner.next_if(|_| views.len() < limit) else { break };
            next = Some(id.number);
            let is_wanted = |text| matches!(&order.buyer, Buyer::Ref(of_order) if of_order == text);
            if customer_ref.is_none_or(is_wanted) {
                views.push(order.view(id));
            }
        }
        let next = next.filter(|_| of_owner.peek().is_some());
        Outcome::Orders(Box::new(OrderSlice { views, next }))
    }

    pub(super) fn order_view(&self, id: OrderId) -> OrderView {
        self.orders.all[&id].view(id)
    }

    /// The order as it was when it was answered for the first time.
    pub(crate) fn order_as_answered(&self, answer: &Answer) -> OrderView {
        let id = answer.order().expect("the answer is about an order");
        let (status, expires_at) = match answer {
            Answer::HeldOrder { deadline, .. } => (OrderStatus::Held, Some(*deadline)),
            _ => (OrderStatus::Confirmed, None),
        };
        OrderView { status, expires_at, cancelled_at: None, ..self.order_view(id) }
    }

    /// What makes the answer to an order as it stands.
    pub(crate) fn answer_of_order(&self, id: OrderId) -> Answer {
        match self.orders.all[&id].standing {
            Standing::Held { deadline } => Answer::HeldOrder { id, deadline },
            Standing::Confirmed | Standing::Cancelled { .. } | Standing::Expired { .. } => {
                Answer::Order { id }
            }
        }
    }

    /// What has to be kept to give the answer to a decision about an order again.
    pub(super) fn answer_about_order(&self, id: OrderId, records: &[Record]) -> Answer {
        match records {
            [Record::OrderPlaced(placed)] => match placed.deadline {
                Some(deadline) => Answer::HeldOrder { id, deadline },
                None => Answer::Order { id },
            },
            [Record::OrderConfirmed { .. }] | [] => Answer::Order { id },
            other => unreachable!("no key is taken for a command that makes {other:?}"),
        }
    }

    /// What answers a part's question about an attempt that is not under way.
    pub(crate) fn resolve(&self, doubt: Doubt, part: ReservationId) -> OrderMessage {
        match doubt {
            Doubt::Placing { owner, attempt } => {
                let order = self.orders.placed_by.get(&attempt).filter(|order| order.user == owner);
                let settle = order.and_then(|&order| self.settle_of(order, part));
                settle.map_or(OrderMessage::Abort { owner, attempt, part }, OrderMessage::Settle)
            }
            Doubt::Confirming { order, attempt } => match self.settle_of(order, part) {
                Some(settle) if settle.fate != PartFate::Held => OrderMessage::Settle(settle),
                _ => OrderMessage::Unlock { order, attempt, part },
            },
        }
    }

    /// What an order says about one of its parts.
    fn settle_of(&self, id: OrderId, part: ReservationId) -> Option<Settle> {
        let order = self.orders.all.get(&id)?;
        order.parts.iter().find(|one| one.reservation == part)?;
        let unsettled = self.orders.unsettled.get(&id);
        let placed_by = unsettled.and_then(|unsettled| unsettled.placed_by);
        let by = unsettled.map_or(id.user.into(), |unsettled| unsettled.by);
        Some(Settle { order: id, placed_by, part, fate: order.fate(), by })
    }

    /// The messages that an order owes to its parts, in their order.
    pub(crate) fn owed_by(&self, id: OrderId) -> Vec<Settle> {
        let parts = self.orders.all.get(&id).into_iter().flat_map(|order| &order.parts);
        parts.filter_map(|part| self.settle_of(id, part.reservation)).collect()
    }

    /// The orders that owe messages, with what they say.
    pub(crate) fn unsettled_orders(&self) -> impl Iterator<Item = (OrderId, PartFate)> {
        self.orders.unsettled.keys().map(|&id| (id, self.orders.all[&id].fate()))
    }

    pub(crate) fn fate_of_order(&self, id: OrderId) -> Option<PartFate> {
        self.orders.all.get(&id).map(Order::fate)
    }

    /// The record that ends the held order whose time is over, if it was over first.
    pub(super) fn order_expiry_due(&self, now: Now) -> Option<Record> {
        let (deadline, id) = self.orders.first_deadline()?;
        (deadline <= now.steady).then_some(Record::OrderExpired { id })
    }

    pub(super) fn apply_order_placed(&mut self, at: Timestamp, placed: &OrderPlaced) {
        let &OrderPlaced { id, by, ref buyer, ref parts, attempt, deadline } = placed;
        let order = Order {
            buyer: buyer.clone(),
            parts: parts.clone(),
            created_at: at,
            standing: Standing::Confirmed,
        };
        let before = self.orders.all.insert(id, order);
        assert!(before.is_none(), "an order's number was used twice: {id}");
        if let Some(deadline) = deadline {
            self.orders.set_standing(id, Standing::Held { deadline });
        }
        self.orders.set_unsettled(id, Some(Unsettled { placed_by: Some(attempt), by }));
    }

    pub(super) fn undo_order_placed(&mut self, id: OrderId) {
        self.orders.set_unsettled(id, None);
        self.orders.set_standing(id, Standing::Confirmed);
        self.orders.all.remove(&id);
    }

    pub(super) fn apply_order_confirmed(&mut self, id: OrderId, by: By) {
        self.orders.change(id, by, Standing::Confirmed);
    }

    pub(super) fn apply_order_cancelled(&mut self, at: Timestamp, id: OrderId, by: By) {
        self.orders.change(id, by, Standing::Cancelled { at });
    }

    pub(super) fn apply_order_expired(&mut self, id: OrderId) {
        let Standing::Held { deadline } = self.orders.all[&id].standing else {
            unreachable!("{id} is not held")
        };
        self.orders.change(id, id.user.into(), Standing::Expired { deadline });
    }

    pub(super) fn apply_order_settled(&mut self, id: OrderId) {
        self.orders.set_unsettled(id, None);
    }

    /// What a change of an order replaces.
    pub(super) fn order_to_undo(&self, id: OrderId) -> OrderBefore {
        let standing = self.orders.all[&id].standing;
        OrderBefore { standing, unsettled: self.orders.unsettled.get(&id).copied() }
    }

    pub(super) fn undo_order_change(&mut self, id: OrderId, before: &OrderBefore) {
        self.orders.set_standing(id, before.standing);
        self.orders.set_unsettled(id, before.unsettled);
    }
}
