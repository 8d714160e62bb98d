//! Reservations, holds, orders and confirmations that clients ask for with an idempotency key. After a restart they send again
//! what was not answered, and each of their requests has taken effect exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::client::{Answer, Client};
use super::keys::is_replayed;
use super::ledger::{Ledger, Operation, Purchase, Sale, Shown, parts_of, ref_of};
use super::{all_items, number, text};

/// The acknowledged requests that are sent again after a restart.
const ACKNOWLEDGED_AGAIN: usize = 10;

pub(crate) struct KeyedSales {
    next: AtomicU64,
    requests: Mutex<BTreeMap<u64, Request>>,
}

#[derive(Clone)]
struct Request {
    customer: u64,
    operation: Operation,
    /// The body of the answer, once it has come.
    answer: Option<String>,
}

/// What became of requests that were sent again.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Retried {
    /// Done before the restart.
    pub(crate) replayed: usize,
    /// Done now.
    pub(crate) new: usize,
}

impl Default for KeyedSales {
    /// Begins at a time, so that crowds that buy one after the other in the same directory share no key.
    fn default() -> KeyedSales {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        let next = AtomicU64::new(time.as_micros() as u64);
        KeyedSales { next, requests: Mutex::default() }
    }
}

impl KeyedSales {
    /// Notes a request before it is sent. Returns its key.
    pub(crate) fn begin(&self, customer: u64, operation: Operation) -> u64 {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        self.requests().insert(key, Request { customer, operation, answer: None });
        key
    }

    /// Notes the answer to a request.
    pub(crate) fn answered(&self, key: u64, answer: &Answer) {
        let mut requests = self.requests();
        match answer.status {
            200 | 201 => {
                requests.get_mut(&key).expect("it was begun").answer = Some(answer.text().to_owned())
            }
            _ => drop(requests.remove(&key)),
        }
    }

    /// Sends again what was not answered, and some of what was. `shown` is the state since the restart; what is done now
    /// is added to its reservations.
    pub(crate) fn retry(
        &self,
        client: &Client,
        customer: u64,
        ledger: &Ledger,
        shown: &mut Shown,
    ) -> Retried {
        let mut retried = Retried::default();
        let (answered, unanswered): (Vec<_>, Vec<_>) =
            self.of_customer(customer).into_iter().partition(|(_, request)| request.answer.is_some());
        for (key, request) in answered.into_iter().rev().take(ACKNOWLEDGED_AGAIN) {
            let again = request.send(client, key);
            assert!([200, 201].contains(&again.status) && is_replayed(&again), "key {key}: {again:?}");
            assert_eq!(Some(again.text()), request.answer.as_deref(), "the first answer to key {key}");
        }
        for (key, request) in unanswered {
            let operation = ledger.begin(request.operation.clone());
            let answer = request.send(client, key);
            self.answered(key, &answer);
            if ![200, 201].contains(&answer.status) {
                assert!([409, 410, 429, 503].contains(&answer.status), "{answer:?}");
                ledger.not_done(operation);
                continue;
            }
            let made = answer.json();
            let id = text(&made, "id").to_owned();
            if let Some(was_done) = request.was_done(&id, shown) {
                assert_eq!(is_replayed(&answer), was_done, "key {key}, {answer:?}");
            }
            if is_replayed(&answer) {
                ledger.not_done(operation);
                retried.replayed += 1;
            } else {
                ledger.done(operation, &id);
                match request.operation {
                    // The next comparison shows its parts.
                    Operation::Order(_) | Operation::ConfirmOrder { .. } => shown.orders.insert(id, made),
                    _ => shown.reservations.insert(id, made),
                };
                retried.new += 1;
            }
        }
        self.compare(client, customer);
        retried
    }

    /// Checks that a customer who sends all requests with keys has one reservation for each that makes one, and no
    /// other.
    fn compare(&self, client: &Client, customer: u64) {
        let mut expected = BTreeSet::new();
        for (key, request) in self.of_customer(customer) {
            let answer = request.answer.as_deref().expect("all are answered");
            let made: Value = serde_json::from_str(answer).expect("it is JSON");
            if let Operation::Order(_) = request.operation {
                for part in parts_of(&made) {
                    let is_new = expected.insert(text(part, "id").to_owned());
                    assert!(is_new, "two keys have one reservation: {made}");
                }
                continue;
            }
            let (status, quantity) = match request.operation {
                Operation::ConfirmOrder { .. } => {
                    assert_eq!(text(&made, "status"), "confirmed", "key {key}: {made}");
                    continue;
                }
                Operation::Reserve(sale) => ("confirmed", sale.quantity),
                Operation::Hold(sale) => ("held", sale.quantity),
                Operation::Confirm { quantity, .. } => ("confirmed", quantity),
                other => panic!("it takes no key: {other:?}"),
            };
            assert_eq!(
                (text(&made, "status"), number(&made, "quantity")),
                (status, quantity),
                "key {key}: {made}"
            );
            if let Operation::Reserve(_) | Operation::Hold(_) = request.operation {
                let id = text(&made, "id").to_owned();
                assert!(expected.insert(id), "two keys have one reservation: {made}");
            }
        }
        let shown = all_items(client, "/api/v1/reservations", 100);
        let shown: BTreeSet<String> = shown.iter().map(|item| text(item, "id").to_owned()).collect();
        let differ: Vec<_> = shown.symmetric_difference(&expected).collect();
        assert!(differ.is_empty(), "no key, or no reservation, for {differ:?}");
    }

    fn of_customer(&self, customer: u64) -> Vec<(u64, Request)> {
        let requests = self.requests();
        let own = requests.iter().filter(|(_, request)| request.customer == customer);
        own.map(|(&key, request)| (key, request.clone())).collect()
    }

    fn requests(&self) -> MutexGuard<'_, BTreeMap<u64, Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path and the body of a request that takes a key.
pub(crate) fn parts(operation: &Operation) -> (String, String) {
    let (path, body) = match operation {
        Operation::Reserve(sale) => (format!("/api/v1/events/{}/reservations", sale.event), body_of(sale)),
        Operation::Hold(sale) => {
            let mut body = body_of(sale);
            // The longest time, so that none expires.
            body["ttl_seconds"] = json!(1800);
            (format!("/api/v1/events/{}/holds", sale.event), body)
        }
        Operation::Order(purchase) => ("/api/v1/orders".to_owned(), body_of_order(purchase)),
        Operation::ConfirmOrder { order } => {
            return (format!("/api/v1/orders/{order}/confirm"), String::new());
        }
        Operation::Confirm { reservation, quantity } => {
            (format!("/api/v1/holds/{reservation}/confirm"), json!({ "quantity": quantity }))
        }
        other => panic!("it takes no key: {other:?}"),
    };
    (path, body.to_string())
}

fn body_of_order(purchase: &Purchase) -> Value {
    let items = purchase.items.iter();
    let items: Vec<Value> =
        items.map(|(event, quantity)| json!({ "event": event, "quantity": quantity })).collect();
    let mut body = json!({ "items": items });
    if purchase.is_held {
        body["ttl_seconds"] = json!(1800);
    }
    if let Some(text) = ref_of(purchase.customer) {
        body["customer_ref"] = json!(text);
    }
    body
}

fn body_of(sale: &Sale) -> Value {
    let mut body = json!({ "quantity": sale.quantity });
    if let Some(text) = ref_of(sale.customer) {
        body["customer_ref"] = json!(text);
    }
    body
}

impl Request {
    fn send(&self, client: &Client, key: u64) -> Answer {
        let (path, body) = parts(&self.operation);
        client.send("POST", &path, &[("Idempotency-Key", &key.to_string())], &body)
    }

    /// Whether the request was done, by the state that was shown after it; `None` if that does not tell.
    fn was_done(&self, id: &str, shown: &Shown) -> Option<bool> {
        let seen = match &self.operation {
            Operation::Order(_) | Operation::ConfirmOrder { .. } => shown.orders.get(id),
            _ => shown.reservations.get(id),
        };
        match &self.operation {
            Operation::Confirm { .. } | Operation::ConfirmOrder { .. } => {
                match text(seen.expect("a hold that was acknowledged"), "status") {
                    "held" => Some(false),
                    "confirmed" => Some(true),
                    // With its event.
                    _ => None,
                }
            }
            _ => Some(seen.is_some()),
        }
    }
}
