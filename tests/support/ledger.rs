//! The requests of clients and the answers to them, line by line in a file outside the data
//! directory, which can be read after a failure.
//!
//! Uses only the API of the server.

mod orders;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{check_sums, number, text};
use orders::Parts;
pub(crate) use orders::{Purchase, is_uniform, parts_of};

/// A change that a client requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    Reserve(Sale),
    /// Holds that do not expire while the ledger is used.
    Hold(Sale),
    /// Those of a reservation come one after the other, with reductions.
    Confirm {
        reservation: String,
        quantity: u64,
    },
    /// Also the release of a hold.
    Cancel {
        reservation: String,
    },
    /// Those of a reservation come one after the other.
    Reduce {
        reservation: String,
        quantity: u64,
    },
    /// Those of a reservation come one after the other, with reductions.
    Transfer {
        reservation: String,
        to: u64,
    },
    /// The transfer of a part. Those of a reservation come one after the other, with reductions.
    TransferPart {
        reservation: String,
        part: Sale,
    },
    /// Parts of orders are changed with their order only, or with their events.
    Order(Purchase),
    /// Those of an order come one after the other, with cancels.
    ConfirmOrder {
        order: String,
    },
    /// Also the release of a held order.
    CancelOrder {
        order: String,
    },
    /// No two events of a ledger have the same name.
    Create {
        name: String,
        quota: u64,
    },
    /// Edits and deletions of an event come one after the other.
    Edit {
        event: u64,
        quota: u64,
    },
    Delete {
        event: u64,
    },
    Register {
        username: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Sale {
    pub(crate) event: u64,
    /// The account; or a ref, as [`ref_of`] names it.
    pub(crate) customer: u64,
    pub(crate) quantity: u64,
}

/// The refs of customers without an account have numbers from this one on.
pub(crate) const REFS_FROM: u64 = 1 << 40;

/// The ref with such a number.
pub(crate) fn ref_of(customer: u64) -> Option<String> {
    customer.checked_sub(REFS_FROM).map(|number| format!("c-{number}"))
}

/// The customer of a reservation that the server shows.
pub(crate) fn customer_of(seen: &Value) -> u64 {
    match seen["customer_ref"].as_str().and_then(|text| text.strip_prefix("c-")) {
        Some(number) => REFS_FROM + number.parse::<u64>().expect("a ref of the crowd"),
        None => number(seen, "customer"),
    }
}

/// A line of the file. An operation with one line got no answer: it was done once or not at all.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Begun(u64, Operation),
    /// With the id of the created item, if the operation creates one.
    Done(u64, String),
    NotDone(u64),
}

pub(crate) struct Ledger {
    path: PathBuf,
    file: File,
    next: AtomicU64,
}

/// An operation and its outcome, if known.
#[derive(Debug)]
struct Entry {
    requested: Operation,
    outcome: Option<Outcome>,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Done(String),
    NotDone,
}

/// The number of operations in a ledger, by outcome.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) requested: usize,
    pub(crate) acknowledged: usize,
    pub(crate) refused: usize,
    pub(crate) unknown: usize,
}

/// Everything that the API shows of an idle server.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Shown {
    pub(crate) events: BTreeMap<u64, Value>,
    /// Deleted events.
    pub(crate) deleted: BTreeSet<u64>,
    pub(crate) reservations: BTreeMap<String, Value>,
    pub(crate) orders: BTreeMap<String, Value>,
    pub(crate) accounts: BTreeMap<String, Value>,
}

impl Ledger {
    pub(crate) fn create(path: &Path) -> Ledger {
        let file = File::options().append(true).create_new(true).open(path).expect("create the ledger");
        Ledger { path: path.to_owned(), file, next: AtomicU64::new(1) }
    }

    /// The whole lines among the first `length` bytes, as a ledger of their own.
    pub(crate) fn as_of(&self, length: u64, copy: &Path) -> Ledger {
        let mut lines = fs::read(&self.path).expect("the ledger can be read");
        lines.truncate(length as usize);
        lines.truncate(lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1));
        fs::write(copy, lines).expect("the copy can be written");
        let file = File::options().append(true).open(copy).expect("it was just written");
        Ledger { path: copy.to_owned(), file, next: AtomicU64::new(self.next.load(Ordering::Relaxed)) }
    }

    /// Records an operation, before its request is sent. Returns its number.
    pub(crate) fn begin(&self, requested: Operation) -> u64 {
        let operation = self.next.fetch_add(1, Ordering::Relaxed);
        self.write(&Line::Begun(operation, requested));
        operation
    }

    pub(crate) fn done(&self, operation: u64, id: &str) {
        self.write(&Line::Done(operation, id.to_owned()));
    }

    pub(crate) fn not_done(&self, operation: u64) {
        self.write(&Line::NotDone(operation));
    }

    fn write(&self, line: &Line) {
        let mut bytes = serde_json::to_vec(line).expect("a line is JSON");
        bytes.push(b'\n');
        // In one write, so that the lines of threads do not mix.
        (&self.file).write_all(&bytes).expect("the ledger can be written");
    }

    fn read(&self) -> BTreeMap<u64, Entry> {
        let mut entries = BTreeMap::new();
        for line in fs::read_to_string(&self.path).expect("the ledger can be read").lines() {
            let (operation, outcome) = match serde_json::from_str(line).expect("a line of the ledger") {
                Line::Begun(operation, requested) => {
                    assert!(
                        entries.insert(operation, Entry { requested, outcome: None }).is_none(),
                        "{line}"
                    );
                    continue;
                }
                Line::Done(operation, id) => (operation, Outcome::Done(id)),
                Line::NotDone(operation) => (operation, Outcome::NotDone),
            };
            let entry = entries.get_mut(&operation).expect("begun before it was answered");
            assert!(entry.outcome.replace(outcome).is_none(), "answered twice: {line}");
        }
        entries
    }

    /// Every event whose creation was acknowledged, including deleted ones.
    pub(crate) fn events(&self) -> Vec<u64> {
        let entries = self.read().into_values();
        let made = entries.filter_map(|entry| match (entry.requested, entry.outcome) {
            (Operation::Create { .. }, Some(Outcome::Done(id))) => id.parse().ok(),
            _ => None,
        });
        made.collect()
    }

    /// A reservation of which a part was given back.
    pub(crate) fn reduced(&self) -> Option<String> {
        self.read().into_values().find_map(|entry| match (entry.requested, entry.outcome) {
            (Operation::Reduce { reservation, .. }, Some(Outcome::Done(_))) => Some(reservation),
            _ => None,
        })
    }

    /// A reservation that was transferred, and one that a transfer of a part made.
    pub(crate) fn transferred(&self) -> Option<(String, String)> {
        let (mut whole, mut part) = (None, None);
        for entry in self.read().into_values() {
            match (entry.requested, entry.outcome) {
                (Operation::Transfer { reservation, .. }, Some(Outcome::Done(_))) => {
                    whole = Some(reservation)
                }
                (Operation::TransferPart { .. }, Some(Outcome::Done(id))) => part = Some(id),
                _ => {}
            }
        }
        whole.zip(part)
    }

    /// The usernames whose registration was acknowledged or is unknown.
    pub(crate) fn usernames(&self) -> Vec<String> {
        let entries = self.read().into_values();
        let registered = entries.filter_map(|entry| match (entry.requested, entry.outcome) {
            (Operation::Register { username }, None | Some(Outcome::Done(_))) => Some(username),
            _ => None,
        });
        registered.collect()
    }

    /// The usernames whose registration was acknowledged.
    pub(crate) fn registered(&self) -> BTreeSet<String> {
        let entries = self.read().into_values();
        let registered = entries.filter_map(|entry| match (entry.requested, entry.outcome) {
            (Operation::Register { username }, Some(Outcome::Done(_))) => Some(username),
            _ => None,
        });
        registered.collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in self.read().values() {
            counts.requested += 1;
            match entry.outcome {
                Some(Outcome::Done(_)) => counts.acknowledged += 1,
                Some(Outcome::NotDone) => counts.refused += 1,
                None => counts.unknown += 1,
            }
        }
        counts
    }

    /// Records that all operations without an answer were not done. For servers that were not
    /// killed, which answer everything that they do.
    pub(crate) fn mark_unknown_as_not_done(&self) {
        for (operation, entry) in self.read() {
            if entry.outcome.is_none() {
                self.not_done(operation);
            }
        }
    }

    /// Compares the ledger with the state of a server that has got no requests since its start, and
    /// records the outcome of each operation that got no answer.
    pub(crate) fn settle(&self, shown: &Shown) -> Counts {
        let counts = self.counts();
        let mut entries = self.read();
        self.settle_events(&mut entries, shown);
        let parts = self.settle_orders(&mut entries, shown);
        self.settle_reservations(&mut entries, parts, shown);
        self.settle_accounts(&entries, shown);
        check_totals(shown);
        counts
    }

    fn settle_events(&self, entries: &mut BTreeMap<u64, Entry>, shown: &Shown) {
        let id_of: HashMap<String, u64> =
            shown.events.iter().map(|(&id, event)| (text(event, "name").to_owned(), id)).collect();
        assert_eq!(id_of.len(), shown.events.len(), "an event was created twice");
        let mut quotas: BTreeMap<u64, u64> = BTreeMap::new();
        for (&operation, entry) in entries.iter_mut() {
            match &entry.requested {
                Operation::Create { name, quota } => {
                    if entry.outcome.is_none() {
                        match id_of.get(name) {
                            Some(id) => {
                                self.resolve(operation, &mut entry.outcome, Outcome::Done(id.to_string()))
                            }
                            None => self.resolve(operation, &mut entry.outcome, Outcome::NotDone),
                        }
                    }
                    if let Some(Outcome::Done(id)) = &entry.outcome {
                        let id = id.parse().expect("an event's id is a number");
                        assert!(quotas.insert(id, *quota).is_none(), "the id {id} was given twice");
                        let seen = shown.events.get(&id).map_or(&**name, |event| text(event, "name"));
                        assert_eq!(seen, name, "event {id} is another");
                    }
                }
                Operation::Edit { event, quota } => {
                    if entry.outcome.is_none() {
                        // An edit that changes nothing counts as not done.
                        let seen = shown.events.get(event).map(|event| number(event, "quota"));
                        let done = seen == Some(*quota) && seen != quotas.get(event).copied();
                        let outcome = if done { Outcome::Done(String::new()) } else { Outcome::NotDone };
                        self.resolve(operation, &mut entry.outcome, outcome);
                    }
                    if let Some(Outcome::Done(_)) = entry.outcome {
                        quotas.insert(*event, *quota);
                    }
                }
                Operation::Delete { event } => {
                    let is_deleted = shown.deleted.contains(event);
                    if entry.outcome.is_none() {
                        let outcome =
                            if is_deleted { Outcome::Done(String::new()) } else { Outcome::NotDone };
                        self.resolve(operation, &mut entry.outcome, outcome);
                    }
                    assert!(
                        entry.outcome == Some(Outcome::NotDone) || is_deleted,
                        "event {event} exists, but its deletion was acknowledged"
                    );
                }
                Operation::Reserve(_)
                | Operation::Hold(_)
                | Operation::Confirm { .. }
                | Operation::Cancel { .. }
                | Operation::Reduce { .. }
                | Operation::Transfer { .. }
                | Operation::TransferPart { .. }
                | Operation::Order(_)
                | Operation::ConfirmOrder { .. }
                | Operation::CancelOrder { .. }
                | Operation::Register { .. } => {}
            }
        }
        let may_be_deleted: BTreeSet<u64> = entries.values().filter_map(|entry| entry.deleted()).collect();
        for (event, quota) in &quotas {
            match shown.events.get(event) {
                Some(seen) => assert_eq!(number(seen, "quota"), *quota, "its quota was acknowledged: {seen}"),
                None => assert!(may_be_deleted.contains(event), "event {event} is lost"),
            }
        }
        for (event, seen) in &shown.events {
            assert!(quotas.contains_key(event), "no client created {seen}");
        }
    }

    /// Compares the reservations with those that orders make and those that other requests make.
    fn settle_reservations(&self, entries: &mut BTreeMap<u64, Entry>, parts: Parts, shown: &Shown) {
        let Parts { mut sold, mut held, mut cancelled } = parts;
        // With whether it is a hold.
        let mut unknown: HashMap<(Sale, bool), Vec<u64>> = HashMap::new();
        for (&operation, entry) in entries.iter() {
            let (sale, is_hold) = match &entry.requested {
                Operation::Reserve(sale) => (sale, false),
                Operation::Hold(sale) => (sale, true),
                // Whether it was done, the reservation says from which it takes tickets.
                Operation::TransferPart { part, .. } if entry.outcome.is_some() => (part, false),
                _ => continue,
            };
            match &entry.outcome {
                Some(Outcome::Done(id)) => {
                    assert!(sold.insert(id.clone(), *sale).is_none(), "the id {id} was given twice");
                    held.extend(is_hold.then(|| id.clone()));
                }
                None => unknown.entry((*sale, is_hold)).or_default().push(operation),
                Some(Outcome::NotDone) => {}
            }
        }
        // Transfers of parts that were done, though nobody knows yet which reservations they made.
        let mut parts = Vec::new();
        for id in sold.keys() {
            assert!(shown.reservations.contains_key(id), "{id} was acknowledged and is lost");
        }
        for (&operation, entry) in entries.iter_mut() {
            let (reservation, quantity, confirms) = match &entry.requested {
                Operation::Reduce { reservation, quantity } => (reservation, quantity, false),
                Operation::Confirm { reservation, quantity } => (reservation, quantity, true),
                Operation::Transfer { reservation, to } => {
                    let sale = sold.get_mut(reservation).expect("a client transfers what it has bought");
                    if entry.outcome.is_none() {
                        let done = customer_of(&shown.reservations[reservation]) == *to;
                        let outcome = if done { Outcome::Done(String::new()) } else { Outcome::NotDone };
                        self.resolve(operation, &mut entry.outcome, outcome);
                    }
                    if let Some(Outcome::Done(_)) = entry.outcome {
                        sale.customer = *to;
                    }
                    continue;
                }
                Operation::TransferPart { reservation, part } => {
                    let sale = sold.get_mut(reservation).expect("a client transfers what it has bought");
                    let left = sale.quantity - part.quantity;
                    match &entry.outcome {
                        None if number(&shown.reservations[reservation], "quantity") == left => {
                            parts.push(operation);
                            unknown.entry((*part, false)).or_default().push(operation);
                            sale.quantity = left;
                        }
                        None => self.resolve(operation, &mut entry.outcome, Outcome::NotDone),
                        Some(Outcome::Done(_)) => sale.quantity = left,
                        Some(Outcome::NotDone) => {}
                    }
                    continue;
                }
                _ => continue,
            };
            let sale = sold.get_mut(reservation).expect("a client changes what it has bought");
            if entry.outcome.is_none() {
                let seen = &shown.reservations[reservation];
                let confirmed = confirms && seen["status"] == "confirmed";
                let seen = number(seen, "quantity");
                // One that changes nothing counts as not done.
                let done = confirmed || seen == *quantity && seen != sale.quantity;
                let outcome = if done { Outcome::Done(String::new()) } else { Outcome::NotDone };
                self.resolve(operation, &mut entry.outcome, outcome);
            }
            if let Some(Outcome::Done(_)) = entry.outcome {
                sale.quantity = *quantity;
                if confirms {
                    assert!(held.remove(reservation), "{reservation} was confirmed twice");
                }
            }
        }
        for (id, seen) in &shown.reservations {
            let sale = Sale {
                event: number(seen, "event"),
                customer: customer_of(seen),
                quantity: number(seen, "quantity"),
            };
            match sold.get(id) {
                Some(acknowledged) => assert_eq!(sale, *acknowledged, "{id} is another"),
                // It belongs to one of the reservations that got no answer; each makes at most one.
                None => {
                    // Of one that was cancelled with its event, nobody knows whether it was a hold.
                    let kinds: &[bool] = match text(seen, "status") {
                        "held" => &[true],
                        "confirmed" => &[false],
                        _ => &[false, true],
                    };
                    let mut found = kinds
                        .iter()
                        .filter_map(|is_hold| Some((unknown.get_mut(&(sale, *is_hold))?.pop()?, *is_hold)));
                    let (operation, is_hold) =
                        found.next().unwrap_or_else(|| panic!("no client requested {seen}"));
                    held.extend(is_hold.then(|| id.clone()));
                    self.resolve(
                        operation,
                        &mut entries.get_mut(&operation).expect("the operation was begun").outcome,
                        Outcome::Done(id.clone()),
                    );
                }
            }
        }
        for operation in unknown.into_values().flatten() {
            assert!(!parts.contains(&operation), "a part that was transferred is lost: {operation}");
            self.not_done(operation);
        }

        for (&operation, entry) in entries.iter_mut() {
            let Operation::Cancel { reservation } = &entry.requested else { continue };
            let seen = shown.reservations.get(reservation).map(|seen| text(seen, "status"));
            let seen = seen.unwrap_or_else(|| panic!("{reservation} is lost"));
            if entry.outcome.is_none() {
                let outcome =
                    if seen == "cancelled" { Outcome::Done(String::new()) } else { Outcome::NotDone };
                self.resolve(operation, &mut entry.outcome, outcome);
            }
            if let Some(Outcome::Done(_)) = entry.outcome {
                assert_eq!(seen, "cancelled", "the cancel of {reservation} was acknowledged");
                cancelled.insert(reservation.clone());
            }
        }
        for (id, seen) in &shown.reservations {
            let expected = cancelled.contains(id) || shown.deleted.contains(&number(seen, "event"));
            let status = match expected {
                true => "cancelled",
                false if held.contains(id) => "held",
                false => "confirmed",
            };
            assert_eq!(text(seen, "status"), status, "no client requested this status: {seen}");
        }
    }

    fn settle_accounts(&self, entries: &BTreeMap<u64, Entry>, shown: &Shown) {
        for (&operation, entry) in entries {
            let Operation::Register { username } = &entry.requested else { continue };
            match (&entry.outcome, shown.accounts.get(username)) {
                (Some(Outcome::Done(id)), seen) => {
                    let seen = seen.unwrap_or_else(|| panic!("the account {username} is lost"));
                    assert_eq!(number(seen, "id").to_string(), *id, "{seen}");
                }
                (None, Some(seen)) => self.done(operation, &number(seen, "id").to_string()),
                (None, None) => self.not_done(operation),
                (Some(Outcome::NotDone), seen) => assert!(seen.is_none(), "no client created {seen:?}"),
            }
        }
    }

    fn resolve(&self, operation: u64, known: &mut Option<Outcome>, outcome: Outcome) {
        match &outcome {
            Outcome::Done(id) => self.done(operation, id),
            Outcome::NotDone => self.not_done(operation),
        }
        *known = Some(outcome);
    }
}

impl Entry {
    /// The event that the operation has deleted or may have deleted.
    fn deleted(&self) -> Option<u64> {
        match (&self.requested, &self.outcome) {
            (Operation::Delete { event }, None | Some(Outcome::Done(_))) => Some(*event),
            _ => None,
        }
    }
}

/// Checks that no event is oversold, and that its counts are the sums of its confirmed and its held
/// reservations.
fn check_totals(shown: &Shown) {
    let sums = |status: &str| {
        let mut sums: BTreeMap<u64, u64> = BTreeMap::new();
        for seen in shown.reservations.values().filter(|seen| seen["status"] == status) {
            *sums.entry(number(seen, "event")).or_default() += number(seen, "quantity");
        }
        sums
    };
    let (reserved, held) = (sums("confirmed"), sums("held"));
    for (event, seen) in &shown.events {
        check_sums(seen);
        let [reserved, held] = [&reserved, &held].map(|sums| sums.get(event).copied().unwrap_or(0));
        assert_eq!(number(seen, "reserved"), reserved, "the list and the sum differ: {seen}");
        assert_eq!(number(seen, "held"), held, "the list and the sum differ: {seen}");
        assert!(reserved + held <= number(seen, "quota"), "oversold: {seen}");
    }
}
