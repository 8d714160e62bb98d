//! What clients asked for and what they were told, line by line in a file outside of the data
//! directory: it outlives the server and the test, and can be read after a failure.
//!
//! Knows nothing of the server but what it shows through its API.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{check_sums, number, text};

/// Something that a client wants changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    Reserve(Sale),
    Cancel {
        reservation: String,
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
    pub(crate) customer: u64,
    pub(crate) quantity: u64,
}

/// A line. An operation without a second line got no answer: it was done once, or not at all.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Asked(u64, Ask),
    /// With the id of what was made, where something was.
    Done(u64, String),
    NotDone(u64),
}

pub(crate) struct Ledger {
    path: PathBuf,
    file: File,
    next: AtomicU64,
}

/// An operation as the ledger has it.
#[derive(Debug)]
struct Entry {
    ask: Ask,
    told: Option<Told>,
}

#[derive(Debug, PartialEq)]
enum Told {
    Done(String),
    NotDone,
}

/// How many operations a ledger has of each kind.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) asked: usize,
    pub(crate) acknowledged: usize,
    pub(crate) refused: usize,
    pub(crate) unknown: usize,
}

/// Everything that the API shows of a server at rest.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Shown {
    pub(crate) events: BTreeMap<u64, Value>,
    /// Events that were asked for, and are no more.
    pub(crate) deleted: BTreeSet<u64>,
    pub(crate) reservations: BTreeMap<String, Value>,
    pub(crate) accounts: BTreeMap<String, Value>,
}

impl Ledger {
    pub(crate) fn create(path: &Path) -> Ledger {
        let file = File::options().append(true).create_new(true).open(path).expect("a place for the ledger");
        Ledger { path: path.to_owned(), file, next: AtomicU64::new(1) }
    }

    /// Returns the operation's number. Goes before the request.
    pub(crate) fn asked(&self, ask: Ask) -> u64 {
        let operation = self.next.fetch_add(1, Ordering::Relaxed);
        self.write(&Line::Asked(operation, ask));
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
        // In one piece, so that threads do not mix theirs.
        (&self.file).write_all(&bytes).expect("the ledger can be written");
    }

    fn read(&self) -> BTreeMap<u64, Entry> {
        let mut entries = BTreeMap::new();
        for line in fs::read_to_string(&self.path).expect("the ledger can be read").lines() {
            let (operation, told) = match serde_json::from_str(line).expect("a line of the ledger") {
                Line::Asked(operation, ask) => {
                    assert!(entries.insert(operation, Entry { ask, told: None }).is_none(), "{line}");
                    continue;
                }
                Line::Done(operation, id) => (operation, Told::Done(id)),
                Line::NotDone(operation) => (operation, Told::NotDone),
            };
            let entry = entries.get_mut(&operation).expect("asked before it was answered");
            assert!(entry.told.replace(told).is_none(), "answered twice: {line}");
        }
        entries
    }

    /// Every event that was ever made, as far as anyone was told.
    pub(crate) fn events(&self) -> Vec<u64> {
        let entries = self.read().into_values();
        let made = entries.filter_map(|entry| match (entry.ask, entry.told) {
            (Ask::Create { .. }, Some(Told::Done(id))) => id.parse().ok(),
            _ => None,
        });
        made.collect()
    }

    /// Usernames that may have an account.
    pub(crate) fn usernames(&self) -> Vec<String> {
        let entries = self.read().into_values();
        let registered = entries.filter_map(|entry| match (entry.ask, entry.told) {
            (Ask::Register { username }, None | Some(Told::Done(_))) => Some(username),
            _ => None,
        });
        registered.collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in self.read().values() {
            counts.asked += 1;
            match entry.told {
                Some(Told::Done(_)) => counts.acknowledged += 1,
                Some(Told::NotDone) => counts.refused += 1,
                None => counts.unknown += 1,
            }
        }
        counts
    }

    /// For where whoever got no answer cannot have been served.
    pub(crate) fn nothing_unknown_was_done(&self) {
        for (operation, entry) in self.read() {
            if entry.told.is_none() {
                self.not_done(operation);
            }
        }
    }

    /// Compares with what a server shows that nobody has asked anything since its start, and
    /// writes down what became of the operations that got no answer: they stay that way.
    pub(crate) fn settle(&self, shown: &Shown) -> Counts {
        let counts = self.counts();
        let mut entries = self.read();
        self.settle_events(&mut entries, shown);
        self.settle_reservations(&mut entries, shown);
        self.settle_accounts(&entries, shown);
        check_totals(shown);
        counts
    }

    fn settle_events(&self, entries: &mut BTreeMap<u64, Entry>, shown: &Shown) {
        let id_of: HashMap<String, u64> =
            shown.events.iter().map(|(&id, event)| (text(event, "name").to_owned(), id)).collect();
        assert_eq!(id_of.len(), shown.events.len(), "an event was made twice");
        let mut quotas: BTreeMap<u64, u64> = BTreeMap::new();
        for (&operation, entry) in entries.iter_mut() {
            match &entry.ask {
                Ask::Create { name, quota } => {
                    if entry.told.is_none() {
                        match id_of.get(name) {
                            Some(id) => self.tell(operation, &mut entry.told, Told::Done(id.to_string())),
                            None => self.tell(operation, &mut entry.told, Told::NotDone),
                        }
                    }
                    if let Some(Told::Done(id)) = &entry.told {
                        let id = id.parse().expect("an event's id is a number");
                        assert!(quotas.insert(id, *quota).is_none(), "the id {id} was given twice");
                        let seen = shown.events.get(&id).map_or(&**name, |event| text(event, "name"));
                        assert_eq!(seen, name, "event {id} is another");
                    }
                }
                Ask::Edit { event, quota } => {
                    if entry.told.is_none() {
                        // An edit to what it was already is as good as none.
                        let seen = shown.events.get(event).map(|event| number(event, "quota"));
                        let done = seen == Some(*quota) && seen != quotas.get(event).copied();
                        let told = if done { Told::Done(String::new()) } else { Told::NotDone };
                        self.tell(operation, &mut entry.told, told);
                    }
                    if let Some(Told::Done(_)) = entry.told {
                        quotas.insert(*event, *quota);
                    }
                }
                Ask::Delete { event } => {
                    let is_deleted = shown.deleted.contains(event);
                    if entry.told.is_none() {
                        let told = if is_deleted { Told::Done(String::new()) } else { Told::NotDone };
                        self.tell(operation, &mut entry.told, told);
                    }
                    assert!(
                        entry.told == Some(Told::NotDone) || is_deleted,
                        "event {event} is back: its deletion was acknowledged"
                    );
                }
                Ask::Reserve(_) | Ask::Cancel { .. } | Ask::Register { .. } => {}
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
            assert!(quotas.contains_key(event), "nobody made {seen}");
        }
    }

    fn settle_reservations(&self, entries: &mut BTreeMap<u64, Entry>, shown: &Shown) {
        let mut sold: HashMap<String, Sale> = HashMap::new();
        let mut unknown: HashMap<Sale, Vec<u64>> = HashMap::new();
        for (&operation, entry) in entries.iter() {
            match (&entry.ask, &entry.told) {
                (Ask::Reserve(sale), Some(Told::Done(id))) => {
                    assert!(sold.insert(id.clone(), *sale).is_none(), "the id {id} was given twice");
                }
                (Ask::Reserve(sale), None) => unknown.entry(*sale).or_default().push(operation),
                _ => {}
            }
        }
        for id in sold.keys() {
            assert!(shown.reservations.contains_key(id), "{id} was acknowledged, and is lost");
        }
        for (id, seen) in &shown.reservations {
            let sale = Sale {
                event: number(seen, "event"),
                customer: number(seen, "customer"),
                quantity: number(seen, "quantity"),
            };
            match sold.get(id) {
                Some(acknowledged) => assert_eq!(sale, *acknowledged, "{id} is another"),
                // One of those that got no answer, each of which made one at most.
                None => {
                    let operation = unknown.get_mut(&sale).and_then(Vec::pop);
                    let operation = operation.unwrap_or_else(|| panic!("nobody asked for {seen}"));
                    self.tell(
                        operation,
                        &mut entries.get_mut(&operation).expect("it was asked").told,
                        Told::Done(id.clone()),
                    );
                }
            }
        }
        for operation in unknown.into_values().flatten() {
            self.not_done(operation);
        }

        let mut cancelled = BTreeSet::new();
        for (&operation, entry) in entries.iter_mut() {
            let Ask::Cancel { reservation } = &entry.ask else { continue };
            let seen = shown.reservations.get(reservation).map(|seen| text(seen, "status"));
            let seen = seen.unwrap_or_else(|| panic!("{reservation} is lost"));
            if entry.told.is_none() {
                let told = if seen == "cancelled" { Told::Done(String::new()) } else { Told::NotDone };
                self.tell(operation, &mut entry.told, told);
            }
            if let Some(Told::Done(_)) = entry.told {
                assert_eq!(seen, "cancelled", "the cancel of {reservation} was acknowledged");
                cancelled.insert(reservation.clone());
            }
        }
        for (id, seen) in &shown.reservations {
            let expected = cancelled.contains(id) || shown.deleted.contains(&number(seen, "event"));
            let status = if expected { "cancelled" } else { "confirmed" };
            assert_eq!(text(seen, "status"), status, "nobody did that: {seen}");
        }
    }

    fn settle_accounts(&self, entries: &BTreeMap<u64, Entry>, shown: &Shown) {
        for (&operation, entry) in entries {
            let Ask::Register { username } = &entry.ask else { continue };
            match (&entry.told, shown.accounts.get(username)) {
                (Some(Told::Done(id)), seen) => {
                    let seen = seen.unwrap_or_else(|| panic!("the account {username} is lost"));
                    assert_eq!(number(seen, "id").to_string(), *id, "{seen}");
                }
                (None, Some(seen)) => self.done(operation, &number(seen, "id").to_string()),
                (None, None) => self.not_done(operation),
                (Some(Told::NotDone), seen) => assert!(seen.is_none(), "nobody made {seen:?}"),
            }
        }
    }

    fn tell(&self, operation: u64, told: &mut Option<Told>, what: Told) {
        match &what {
            Told::Done(id) => self.done(operation, id),
            Told::NotDone => self.not_done(operation),
        }
        *told = Some(what);
    }
}

impl Entry {
    /// The event that it deletes, or may have deleted.
    fn deleted(&self) -> Option<u64> {
        match (&self.ask, &self.told) {
            (Ask::Delete { event }, None | Some(Told::Done(_))) => Some(*event),
            _ => None,
        }
    }
}

/// No event is oversold, and what is reserved is the sum of its live reservations.
fn check_totals(shown: &Shown) {
    let mut reserved: BTreeMap<u64, u64> = BTreeMap::new();
    for seen in shown.reservations.values().filter(|seen| seen["status"] == "confirmed") {
        *reserved.entry(number(seen, "event")).or_default() += number(seen, "quantity");
    }
    for (event, seen) in &shown.events {
        check_sums(seen);
        let sum = reserved.get(event).copied().unwrap_or(0);
        assert_eq!(number(seen, "reserved"), sum, "the list and the sum differ: {seen}");
        assert!(sum <= number(seen, "quota"), "oversold: {seen}");
    }
}
