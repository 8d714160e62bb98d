//! Orders in a ledger: each is there with all its parts, or not at all.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Entry, Ledger, Operation, Outcome, Sale, Shown, customer_of};
use crate::support::{number, text};

/// What a client orders. Held orders do not expire while the ledger is used.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Purchase {
    /// The buyer, as in [`Sale`].
    pub(crate) customer: u64,
    /// Events and quantities.
    pub(crate) items: Vec<(u64, u64)>,
    pub(crate) is_held: bool,
}

impl Purchase {
    /// The purchase that an order came from. Whether it was held is not in the order for ever.
    pub(crate) fn of(order: &Value, is_held: bool) -> Purchase {
        let items = parts_of(order).iter().map(|part| (number(part, "event"), number(part, "quantity")));
        Purchase { customer: customer_of(order), items: items.collect(), is_held }
    }
}

/// The reservations in an order, as its answer shows them.
pub(crate) fn parts_of(order: &Value) -> &[Value] {
    order["reservations"].as_array().expect("an order has reservations")
}

/// Whether all parts of an order that are not cancelled have one status, which is the order's.
pub(crate) fn is_uniform(order: &Value) -> bool {
    let live =
        parts_of(order).iter().map(|part| text(part, "status")).filter(|status| *status != "cancelled");
    let live: BTreeSet<&str> = live.collect();
    match text(order, "status") {
        "partly_cancelled" => live.len() == 1,
        "cancelled" => live.is_empty(),
        status => live == BTreeSet::from([status]),
    }
}

/// The reservations that the ledger expects because of orders.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) sold: HashMap<String, Sale>,
    pub(super) held: HashSet<String>,
    pub(super) cancelled: BTreeSet<String>,
}

impl Ledger {
    /// Compares the orders. Returns the reservations that they make; whether the server has these is checked together
    /// with all others.
    pub(super) fn settle_orders(&self, entries: &mut BTreeMap<u64, Entry>, shown: &Shown) -> Parts {
        let mut orders = self.match_orders(entries, shown);
        let mut cancelled = BTreeSet::new();
        for (&operation, entry) in entries.iter_mut() {
            let (order, status) = match &entry.requested {
                Operation::ConfirmOrder { order } => (order, "confirmed"),
                Operation::CancelOrder { order } => (order, "cancelled"),
                _ => continue,
            };
            let purchase = orders.get_mut(order).expect("a client changes what it has ordered");
            if entry.outcome.is_none() {
                let done = live_status(&shown.orders[order], shown) == Some(status);
                let outcome = if done { Outcome::Done(String::new()) } else { Outcome::NotDone };
                self.resolve(operation, &mut entry.outcome, outcome);
            }
            if let Some(Outcome::Done(_)) = entry.outcome {
                match status {
                    "confirmed" => purchase.is_held = false,
                    _ => drop(cancelled.insert(order.clone())),
                }
            }
        }
        let mut parts = Parts::default();
        for (order, purchase) in orders {
            let seen = &shown.orders[&order];
            assert!(is_uniform(seen), "the parts of an order differ: {seen}");
            for (part, (event, quantity)) in parts_of(seen).iter().zip(purchase.items) {
                let id = text(part, "id").to_owned();
                parts.held.extend(purchase.is_held.then(|| id.clone()));
                parts.cancelled.extend(cancelled.contains(&order).then(|| id.clone()));
                let sale = Sale { event, customer: purchase.customer, quantity };
                assert!(parts.sold.insert(id, sale).is_none(), "two orders have one part: {seen}");
            }
        }
        parts
    }

    /// Finds out what each order came from. One that was not acknowledged belongs to a request without an answer; each
    /// of these makes at most one.
    fn match_orders(&self, entries: &mut BTreeMap<u64, Entry>, shown: &Shown) -> BTreeMap<String, Purchase> {
        let mut orders: BTreeMap<String, Purchase> = BTreeMap::new();
        let mut unknown: HashMap<Purchase, Vec<u64>> = HashMap::new();
        for (&operation, entry) in entries.iter() {
            let Operation::Order(purchase) = &entry.requested else { continue };
            match &entry.outcome {
                Some(Outcome::Done(id)) => {
                    assert!(shown.orders.contains_key(id), "the order {id} was acknowledged and is lost");
                    let before = orders.insert(id.clone(), purchase.clone());
                    assert!(before.is_none(), "the order's id {id} was given twice");
                }
                None => unknown.entry(purchase.clone()).or_default().push(operation),
                Some(Outcome::NotDone) => {}
            }
        }
        for (id, seen) in &shown.orders {
            if let Some(acknowledged) = orders.get(id) {
                let purchase = Purchase::of(seen, acknowledged.is_held);
                assert_eq!(purchase, *acknowledged, "the order {id} is another");
                continue;
            }
            // Of one that was cancelled with its events, nobody knows whether it was held.
            let kinds: &[bool] = match live_status(seen, shown) {
                Some("held") => &[true],
                Some("confirmed") => &[false],
                _ => &[false, true],
            };
            let mut found = kinds.iter().filter_map(|&is_held| {
                let purchase = Purchase::of(seen, is_held);
                Some((unknown.get_mut(&purchase)?.pop()?, purchase))
            });
            let (operation, purchase) = found.next().unwrap_or_else(|| panic!("no client ordered {seen}"));
            let entry = entries.get_mut(&operation).expect("the operation was begun");
            self.resolve(operation, &mut entry.outcome, Outcome::Done(id.clone()));
            orders.insert(id.clone(), purchase);
        }
        unknown.into_values().flatten().for_each(|operation| self.not_done(operation));
        orders
    }
}

/// The status of the parts whose events are not deleted; `None` if all are.
fn live_status<'a>(order: &'a Value, shown: &Shown) -> Option<&'a str> {
    let mut live = parts_of(order).iter().filter(|part| !shown.deleted.contains(&number(part, "event")));
    live.next().map(|part| text(part, "status"))
}
