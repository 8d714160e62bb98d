//! Orders: the state of each after each of its records, what its parts may do, and the replies that are right for it.
//!
//! A part does only what the records of its order say, and a reply is right only if all parts have done it.

use std::collections::BTreeMap;

use super::change::Change;
use super::event::EventState;
use super::history::History;
use super::rules::check_seller;
use super::{Exchange, Known, Oracle, Violation};
use crate::command::{Actor, Buyer, Command, Doubt, OrderItem, PlaceOrder, Query};
use crate::ids::{EventId, OrderId, ReservationId, Role, Slot, Timestamp, UserId};
use crate::limits::RESERVATIONS_MAX;
use crate::outcome::{OrderPart, OrderStatus, OrderView, Outcome, RefusedItem, Rejection, ReservationStatus};
use crate::record::{Entry, OrderPlaced, PartSettled, PartStep, Record};
use crate::slots::slot_of_user;

/// An order after one of its records.
#[derive(Debug, Clone)]
pub(super) struct OrderState {
    pub(super) view: OrderView,
    /// As it was placed.
    first: OrderView,
    owes_nothing: bool,
}

pub(super) type OrderHistories = BTreeMap<OrderId, History<OrderState>>;

impl Oracle {
    /// The view of an order as the records before say.
    pub(super) fn order_view(orders: &OrderHistories, id: OrderId) -> Option<OrderView> {
        Some(orders.get(&id)?.last()?.view.clone())
    }

    /// The order on disk that an account placed last.
    pub(in crate::simulation) fn last_order_of(&self, owner: UserId) -> Option<OrderId> {
        let ids = self.orders.values().filter_map(History::last).map(|state| state.view.id);
        ids.filter(|id| id.user == owner).max()
    }

    /// The state on disk of a part.
    fn part(&self, part: ReservationId) -> Option<&EventState> {
        let state = self.events.get(&part.event)?.last()?;
        (part.number as usize <= state.reservations.len()).then_some(state)
    }

    /// Applies a record of an order.
    pub(super) fn add_order_record(&mut self, entry: &Entry, change: Change) -> Result<(), Violation> {
        let wrong = |what: &str| Err(format!("{what}: {entry:?}"));
        let id = match &entry.record {
            Record::OrderPlaced(placed) => placed.id,
            Record::OrderConfirmed { id, .. }
            | Record::OrderCancelled { id, .. }
            | Record::OrderExpired { id }
            | Record::OrderSettled { id } => *id,
            other => unreachable!("{other:?} is not about an order"),
        };
        if entry.slot != slot_of_user(id.user) {
            return wrong("an order in another slot than its owner's");
        }
        let before = self.orders.get(&id).and_then(History::last).cloned();
        let state = match (&entry.record, before) {
            (Record::OrderPlaced(placed), None) => self.placed(placed, entry.at)?,
            (_, None) => return wrong("no order"),
            (Record::OrderPlaced(_), Some(_)) => return wrong("an order's id was used twice"),
            (record, Some(before)) => self.changed(id, before, record, entry)?,
        };
        self.orders.entry(id).or_default().states.push((change, state));
        Ok(())
    }

    fn placed(&self, placed: &OrderPlaced, at: Timestamp) -> Result<OrderState, Violation> {
        let &OrderPlaced { id, by: _, ref buyer, ref parts, attempt, deadline } = placed;
        for &OrderPart { reservation, quantity } in parts {
            let doubt = Doubt::Placing { owner: id.user, attempt };
            let is_prepared = self.part(reservation).is_some_and(|state| {
                let one = &state.reservations[reservation.number as usize - 1];
                state.doubts.get(&reservation.number) == Some(&doubt)
                    && (one.quantity, &one.buyer) == (quantity, buyer)
            });
            if !is_prepared {
                return Err(format!("{reservation} is not prepared on disk for {placed:?}"));
            }
        }
        let earlier = self.orders.values().filter_map(History::last);
        let earlier = earlier.filter(|state| state.view.id.user == id.user).count();
        if id.number as usize != earlier + 1 {
            return Err(format!("{placed:?} is number {}", earlier + 1));
        }
        let status = if deadline.is_some() { OrderStatus::Held } else { OrderStatus::Confirmed };
        let view = OrderView {
            id,
            buyer: buyer.clone(),
            parts: parts.clone(),
            status,
            created_at: at,
            expires_at: deadline,
            cancelled_at: None,
        };
        Ok(OrderState { first: view.clone(), view, owes_nothing: false })
    }

    fn changed(
        &self,
        id: OrderId,
        mut state: OrderState,
        record: &Record,
        entry: &Entry,
    ) -> Result<OrderState, Violation> {
        let status = state.view.status;
        match record {
            Record::OrderConfirmed { .. } if status == OrderStatus::Held => {
                for part in &state.view.parts {
                    let lock = self.part(part.reservation);
                    let lock = lock.and_then(|state| state.doubts.get(&part.reservation.number));
                    if !matches!(lock, Some(Doubt::Confirming { order, .. }) if *order == id) {
                        return Err(format!("{:?} is not locked on disk for {record:?}", part.reservation));
                    }
                }
                (state.view.status, state.view.expires_at) = (OrderStatus::Confirmed, None);
            }
            Record::OrderCancelled { .. } if matches!(status, OrderStatus::Held | OrderStatus::Confirmed) => {
                (state.view.status, state.view.expires_at) = (OrderStatus::Cancelled, None);
                state.view.cancelled_at = Some(entry.at);
            }
            Record::OrderExpired { .. } if status == OrderStatus::Held => {
                state.view.status = OrderStatus::Expired;
            }
            Record::OrderSettled { .. } if !state.owes_nothing => {
                for part in &state.view.parts {
                    if !self.has_heard(part.reservation, status) {
                        return Err(format!("{:?} has not heard, for {record:?}", part.reservation));
                    }
                }
                state.owes_nothing = true;
                return Ok(state);
            }
            _ => return Err(format!("{record:?} after {state:?}")),
        }
        state.owes_nothing = false;
        Ok(state)
    }

    /// Whether a part is on disk as an order with this status says.
    fn has_heard(&self, part: ReservationId, status: OrderStatus) -> bool {
        self.part(part).is_some_and(|state| {
            let one = &state.reservations[part.number as usize - 1];
            let now = one.status;
            // What was transferred is no part any more.
            if one.order.is_none() {
                return true;
            }
            let is_live = matches!(now, ReservationStatus::Held | ReservationStatus::Confirmed);
            let has_heard = match status {
                OrderStatus::Held => true,
                OrderStatus::Confirmed => now != ReservationStatus::Held,
                OrderStatus::Cancelled | OrderStatus::Expired | OrderStatus::PartlyCancelled => !is_live,
            };
            has_heard && !state.hidden.contains(&part.number)
        })
    }

    /// Checks that a part does what the records of its order say.
    pub(super) fn check_part_settled(&self, part: &PartSettled) -> Result<(), Violation> {
        let &PartSettled { id, by: _, order, step, given_back: _ } = part;
        let order_state = order.and_then(|order| self.orders.get(&order)).and_then(History::last);
        let lists = |state: &OrderState| state.view.parts.iter().any(|one| one.reservation == id);
        let is_right = match (step, order_state) {
            (PartStep::Aborted, _) => {
                order.is_none() && !self.orders.values().filter_map(History::last).any(lists)
            }
            (_, None) => false,
            (PartStep::Held | PartStep::Locked(_), Some(state)) => lists(state),
            (PartStep::Unlocked, Some(state)) => lists(state) && state.view.status != OrderStatus::Confirmed,
            (PartStep::Confirmed, Some(state)) => {
                let was_confirmed =
                    |(_, state): &(_, OrderState)| state.view.status == OrderStatus::Confirmed;
                lists(state) && order.is_some_and(|id| self.orders[&id].states.iter().any(was_confirmed))
            }
            (PartStep::Cancelled, Some(state)) => lists(state) && state.view.status == OrderStatus::Cancelled,
            (PartStep::Expired, Some(state)) => lists(state) && state.view.status == OrderStatus::Expired,
        };
        if is_right { Ok(()) } else { Err(format!("{part:?} is not what its order says: {order_state:?}")) }
    }

    /// The slots of held orders.
    pub(super) fn slots_of_held_orders(&self) -> impl Iterator<Item = Slot> {
        let states = self.orders.values().filter_map(History::last);
        let held = states.filter(|state| state.view.status == OrderStatus::Held);
        held.map(|state| slot_of_user(state.view.id.user))
    }

    /// Gives the held orders of a slot more time.
    pub(super) fn extend_orders(
        &mut self,
        slot: Slot,
        change: Change,
        extended: impl Fn(Timestamp) -> Timestamp,
    ) {
        for (_, history) in self.orders.iter_mut().filter(|(id, _)| slot_of_user(id.user) == slot) {
            let Some(last) = history.last().filter(|last| last.view.status == OrderStatus::Held) else {
                continue;
            };
            let mut state = last.clone();
            state.view.expires_at = state.view.expires_at.map(&extended);
            history.states.push((change, state));
        }
    }

    /// Checks a reply to a command about an order. Also returns whether it is that of a record which this command made.
    pub(super) fn check_order_command(
        &mut self,
        command: &Command,
        change: Change,
        exchange: Exchange<'_>,
    ) -> Result<(Vec<Known>, bool), Violation> {
        let wrong = || Err(format!("{exchange:?}"));
        match (command, exchange.reply) {
            (_, Err(Rejection::Overloaded | Rejection::KeyInFlight)) => Ok((Vec::new(), false)),
            (Command::PlaceOrder(_), Ok(Outcome::Order(view))) => {
                if !view.parts.iter().all(|part| self.has_heard(part.reservation, OrderStatus::Held)) {
                    return Err(format!("parts have not heard: {exchange:?}"));
                }
                let history = self.orders.entry(view.id).or_default();
                match history.states.first() {
                    Some((made, state))
                        if *made == change && state.first == **view && !history.answered.contains(&0) =>
                    {
                        history.answered.push(0);
                        Ok((vec![Known::Order(view.id, 1)], true))
                    }
                    _ => Err(format!("{exchange:?}: {history:#?}")),
                }
            }
            (Command::PlaceOrder(order), Err(Rejection::OrderRefused { items })) => {
                let is_right = !items.is_empty()
                    && items.iter().all(|refused| self.is_refused_rightly(order, refused, exchange));
                if is_right { Ok((Vec::new(), false)) } else { wrong() }
            }
            (Command::PlaceOrder(order), Err(Rejection::AccountLimit { account, most })) => {
                // How many the buyer had when a part was refused is not known here: some may be given away since.
                let (counted, _) = self.count_of_limit(order.owner, &order.buyer, |_| true);
                let is_right = counted == *account && *most == self.reservations_max;
                if is_right { Ok((Vec::new(), false)) } else { wrong() }
            }
            (Command::ConfirmOrder { order, .. }, Err(Rejection::OrderBusy)) => {
                let exists = self.orders.get(order).and_then(History::last).is_some();
                if exists { Ok((Vec::new(), false)) } else { wrong() }
            }
            (Command::ConfirmOrder { .. }, Err(Rejection::PartsGone { parts })) => {
                let are_gone = parts.iter().all(|part| self.has_heard(*part, OrderStatus::Cancelled));
                if are_gone && !parts.is_empty() { Ok((Vec::new(), false)) } else { wrong() }
            }
            (Command::ConfirmOrder { order, .. } | Command::CancelOrder { order, .. }, _) => {
                let expected = |state: Option<&OrderState>| expected_of_order(state, command);
                let outcome = |state: &OrderState| match command {
                    Command::CancelOrder { .. } => Outcome::Cancelled,
                    _ => as_confirmed(&state.first),
                };
                let is_outstanding = self.is_outstanding(change);
                let history = self.orders.entry(*order).or_default();
                let (count, made) =
                    history.find_answer(change, exchange, expected, outcome, |_| true, is_outstanding)?;
                let now = self.orders[order].last();
                if let (Ok(_), Some(now)) = (exchange.reply, now) {
                    let status = match command {
                        Command::CancelOrder { .. } => OrderStatus::Cancelled,
                        _ => OrderStatus::Confirmed,
                    };
                    if !now.view.parts.iter().all(|part| self.has_heard(part.reservation, status)) {
                        return Err(format!("parts have not heard: {exchange:?}"));
                    }
                }
                Ok((vec![Known::Order(*order, count)], made))
            }
            _ => wrong(),
        }
    }

    /// Whether an item cannot be had for this reason, in some state that it may have been asked in.
    fn is_refused_rightly(&self, order: &PlaceOrder, refused: &RefusedItem, exchange: Exchange<'_>) -> bool {
        let items = order.items.as_slice().iter();
        let Some(item) = items.clone().find(|item| item.event == refused.event) else { return false };
        let Some(history) = self.events.get(&item.event) else {
            return refused.why == Rejection::EventNotFound;
        };
        let mut counts = history.known_at(exchange.sent)..=history.states.len();
        counts.any(|count| is_refusal(history.after(count), order, item, &refused.why))
    }

    /// Checks the answer to a query about orders, or `None` for another query.
    pub(super) fn check_order_query(
        &self,
        query: &Query,
        exchange: Exchange<'_>,
    ) -> Option<Result<Vec<Known>, Violation>> {
        match query {
            Query::Order { order, actor } => {
                let none = History::default();
                let history = self.orders.get(order).unwrap_or(&none);
                let is_right = |state: Option<&OrderState>| {
                    let expected = visible(state, *order, *actor);
                    let expected = expected.map(|state| Outcome::Order(Box::new(state.view.clone())));
                    expected == *exchange.reply
                };
                Some(history.find(exchange, is_right).map(|count| vec![Known::Order(*order, count)]))
            }
            Query::Orders { owner, after, customer_ref, limit } => {
                let Ok(Outcome::Orders(slice)) = exchange.reply else {
                    return Some(Err(format!("{exchange:?}")));
                };
                let (list, end) = (&slice.views, slice.next);
                let in_range = |id: &OrderId| {
                    id.user == *owner
                        && id.number > after.unwrap_or(0)
                        && end.is_none_or(|end| id.number <= end)
                };
                let is_right = |id: &OrderId, state: Option<&OrderState>| {
                    let of_ref = |buyer: &Buyer| {
                        customer_ref.as_ref().is_none_or(|text| *buyer == Buyer::Ref(text.clone()))
                    };
                    let wanted = state.map(|state| &state.view).filter(|view| of_ref(&view.buyer));
                    list.iter().find(|view| view.id == *id) == wanted
                };
                let is_sorted = list.is_sorted_by_key(|view| view.id) && list.len() <= *limit;
                if !is_sorted || !list.iter().all(|view| in_range(&view.id)) {
                    return Some(Err(format!("{exchange:?}")));
                }
                let listed = list.iter().map(|view| view.id);
                Some(super::queries::check_each(
                    &self.orders,
                    exchange,
                    listed,
                    in_range,
                    is_right,
                    Known::Order,
                ))
            }
            _ => None,
        }
    }

    /// Checks that nothing is left over once nothing is on the way any more: no part waits, and each is as its order
    /// says.
    pub(in crate::simulation) fn check_orders_at_rest(&self) -> Result<(), Violation> {
        for (event, history) in &self.events {
            if let Some(state) = history.last().filter(|state| !state.doubts.is_empty()) {
                return Err(format!("parts of event {event} wait for ever: {:?}", state.doubts));
            }
        }
        for state in self.orders.values().filter_map(History::last) {
            for part in &state.view.parts {
                if !self.has_heard(part.reservation, state.view.status) {
                    return Err(format!("{:?} is not as its order says: {state:?}", part.reservation));
                }
            }
        }
        Ok(())
    }
}

fn visible(state: Option<&OrderState>, id: OrderId, actor: Actor) -> Result<&OrderState, Rejection> {
    let may_see = id.user == actor.user || actor.role == Role::Admin;
    state.filter(|_| may_see).ok_or(Rejection::OrderNotFound)
}

fn as_confirmed(first: &OrderView) -> Outcome {
    let status = OrderStatus::Confirmed;
    Outcome::Order(Box::new(OrderView { status, expires_at: None, cancelled_at: None, ..first.clone() }))
}

/// What the rules say to a request about an order in this state.
fn expected_of_order(state: Option<&OrderState>, command: &Command) -> Result<Option<Outcome>, Rejection> {
    match command {
        Command::ConfirmOrder { order, actor } => {
            let state = visible(state, *order, *actor)?;
            if order.user != actor.user {
                return Err(Rejection::NotYourOrder);
            }
            match state.view.status {
                OrderStatus::Held => Ok(None),
                OrderStatus::Confirmed => Ok(Some(as_confirmed(&state.first))),
                OrderStatus::Expired => Err(Rejection::HoldExpired),
                OrderStatus::Cancelled | OrderStatus::PartlyCancelled => Err(Rejection::HoldReleased),
            }
        }
        Command::CancelOrder { order, actor } => {
            let live = matches!(
                visible(state, *order, *actor)?.view.status,
                OrderStatus::Held | OrderStatus::Confirmed
            );
            Ok((!live).then_some(Outcome::Cancelled))
        }
        other => unreachable!("{other:?} is not about an order that is there"),
    }
}

/// Whether an event in this state refuses an item for this reason.
fn is_refusal(state: Option<&EventState>, order: &PlaceOrder, item: &OrderItem, why: &Rejection) -> bool {
    let Some(state) = state else { return *why == Rejection::EventNotFound };
    let remaining = state.view.remaining;
    match why {
        Rejection::EventDeleted => state.is_deleted,
        Rejection::NotYourEvent => check_seller(state, order.actor, &order.buyer).is_err(),
        // At which time it was asked is not known here.
        Rejection::SalesNotOpen { opens_at } => state.view.details.rules().sales_start == Some(*opens_at),
        Rejection::SalesClosed => state.view.details.rules().sales_end.is_some(),
        Rejection::ReservationLimit { .. } | Rejection::CustomerLimit { .. } => {
            state.check_limits(&order.buyer, item.quantity.get()).as_ref() == Err(why)
        }
        Rejection::SoldOut { remaining: left } => *left == remaining && item.quantity.get() > remaining,
        Rejection::NumbersUsedUp => state.reservations.len() >= RESERVATIONS_MAX as usize,
        _ => false,
    }
}

/// The digest of an order's items, which its request and its record have in common.
pub(super) fn digest_of_items(items: impl Iterator<Item = (EventId, u32)>) -> u32 {
    items.fold(7, |digest, (event, quantity)| {
        digest.wrapping_mul(31).wrapping_add(event.0).wrapping_mul(31).wrapping_add(quantity)
    })
}
