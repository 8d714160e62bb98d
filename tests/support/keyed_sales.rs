//! Reservations that clients ask for with an idempotency key. After a restart they send again what was not answered,
//! and each of their requests has made exactly one reservation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::client::{Answer, Client};
use super::ledger::{Ledger, Operation, Sale, Shown};
use super::{all_items, number, text};

/// The acknowledged requests that are sent again after a restart.
const ACKNOWLEDGED_AGAIN: usize = 10;

#[derive(Default)]
pub(crate) struct KeyedSales {
    next: AtomicU64,
    requests: Mutex<BTreeMap<u64, Request>>,
}

struct Request {
    sale: Sale,
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

impl KeyedSales {
    /// Notes a request before it is sent. Returns its key.
    pub(crate) fn begin(&self, sale: Sale) -> u64 {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        self.requests().insert(key, Request { sale, answer: None });
        key
    }

    /// Notes the answer to a request.
    pub(crate) fn answered(&self, key: u64, answer: &Answer) {
        let mut requests = self.requests();
        match answer.status {
            201 => requests.get_mut(&key).expect("it was begun").answer = Some(answer.text().to_owned()),
            _ => drop(requests.remove(&key)),
        }
    }

    /// Sends again what was not answered, and some of what was. `shown` is the state since the restart.
    pub(crate) fn retry(&self, client: &Client, customer: u64, ledger: &Ledger, shown: &Shown) -> Retried {
        let mut retried = Retried::default();
        let of_customer = |(&key, request): (&u64, &Request)| {
            (request.sale.customer == customer).then(|| (key, request.sale, request.answer.clone()))
        };
        let requests: Vec<_> = self.requests().iter().filter_map(of_customer).collect();
        let (answered, unanswered): (Vec<_>, Vec<_>) =
            requests.into_iter().partition(|(.., answer)| answer.is_some());
        for (key, sale, answer) in answered.into_iter().rev().take(ACKNOWLEDGED_AGAIN) {
            let again = send(client, key, sale).expect(201);
            assert_eq!(Some(again.text()), answer.as_deref(), "the first answer to key {key}");
            assert!(is_replayed(&again), "{again:?}");
        }
        for (key, sale, _) in unanswered {
            let operation = ledger.begin(Operation::Reserve(sale));
            let answer = send(client, key, sale);
            self.answered(key, &answer);
            if answer.status != 201 {
                assert!([409, 410, 429, 503].contains(&answer.status), "{answer:?}");
                ledger.not_done(operation);
                continue;
            }
            let made = answer.json();
            let id = text(&made, "id");
            let was_there = shown.reservations.contains_key(id);
            assert_eq!(is_replayed(&answer), was_there, "key {key}, {answer:?}");
            if was_there {
                ledger.not_done(operation);
                retried.replayed += 1;
            } else {
                ledger.done(operation, id);
                retried.new += 1;
            }
        }
        self.compare(client, customer);
        retried
    }

    /// Checks that a customer who sends all requests with keys has one reservation for each, and no other.
    fn compare(&self, client: &Client, customer: u64) {
        let mut expected = BTreeSet::new();
        for (key, request) in self.requests().iter().filter(|(_, one)| one.sale.customer == customer) {
            let answer = request.answer.as_deref().expect("all are answered");
            let made: serde_json::Value = serde_json::from_str(answer).expect("it is JSON");
            assert_eq!(number(&made, "quantity"), request.sale.quantity, "key {key}: {made}");
            assert!(expected.insert(text(&made, "id").to_owned()), "two keys have one reservation: {made}");
        }
        let shown = all_items(client, "/api/v1/reservations", 100);
        let shown: BTreeSet<String> = shown.iter().map(|item| text(item, "id").to_owned()).collect();
        let differ: Vec<_> = shown.symmetric_difference(&expected).collect();
        assert!(differ.is_empty(), "no key, or no reservation, for {differ:?}");
    }

    fn requests(&self) -> MutexGuard<'_, BTreeMap<u64, Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn send(client: &Client, key: u64, sale: Sale) -> Answer {
    let path = format!("/api/v1/events/{}/reservations", sale.event);
    let body = json!({ "quantity": sale.quantity }).to_string();
    client.send("POST", &path, &[("Idempotency-Key", &key.to_string())], &body)
}

fn is_replayed(answer: &Answer) -> bool {
    answer.header("idempotent-replayed") == Some("true")
}
