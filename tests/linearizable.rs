//! Checks concurrent histories of three to five clients on a small event, with a kill in between,
//! for linearizability.
//!
//! The checker tries all orders, and none twice that has done the same operations with the same result (Lowe, "Testing
//! for linearizability", 2017). An operation without an answer may take effect at any time or never; its client continues under another number. With an idempotency key, it is sent again until it
//! has an answer.
//!
//! An order of two events is in the histories of both. In each it is two operations, of which the second comes after
//! the first: its part is prepared, and then settled, or given up if the other event refuses. All orders have keys.
//! `BOXOFFICE_HISTORIES` sets the number of histories.

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::{Answer, Wire, request};
use support::keys::is_replayed;
use support::ledger::parts_of;
use support::random::{Random, rounds};
use support::server::Server;
use support::{Stage, TestFolder, create_event, number, text};

/// The number of events that are used at the same time, each with its own history.
const CONCURRENT_HISTORIES: u64 = 8;

/// The operations of a history.
const OPERATIONS: u64 = 16;
const PAUSE_MAX: Duration = Duration::from_millis(2);
/// The maximum time before the kill: about the duration of a history.
const KILL_WITHIN: Duration = Duration::from_millis(8);

/// The sequential specification of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Model {
    quota: u64,
    /// The reservations; the first has number 1.
    sales: Vec<Sale>,
    /// The places of the parts of orders among them.
    parts: BTreeMap<u64, usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Sale {
    number: usize,
    quantity: u64,
    status: Status,
}

/// No hold expires within a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Status {
    Held,
    Confirmed,
    Cancelled,
    /// For an order: counts as held, and is not shown.
    Prepared,
    /// Was prepared for an order that was not placed. Is not shown.
    GivenUp,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Op {
    Reserve {
        quantity: u64,
    },
    Hold {
        quantity: u64,
    },
    Confirm {
        number: usize,
        quantity: u64,
    },
    /// Also a release.
    Cancel {
        number: usize,
    },
    Reduce {
        number: usize,
        quantity: u64,
    },
    Edit {
        quota: u64,
    },
    /// The part of an order that was placed, or was refused by this event.
    Prepare {
        order: u64,
        quantity: u64,
    },
    Settle {
        order: u64,
    },
    /// The part of an order that was not placed, whose number nobody is told.
    PrepareInVain {
        order: u64,
        quantity: u64,
    },
    GiveUp {
        order: u64,
    },
    Read,
    List,
}

impl Op {
    /// Whether a request can have an idempotency key.
    fn takes_key(self) -> bool {
        match self {
            Op::Reserve { .. } | Op::Hold { .. } | Op::Confirm { .. } => true,
            Op::Cancel { .. } | Op::Reduce { .. } | Op::Edit { .. } | Op::Read | Op::List => false,
            Op::Prepare { .. } | Op::Settle { .. } | Op::PrepareInVain { .. } | Op::GiveUp { .. } => {
                unreachable!("it is a part of a request")
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Ret {
    Sold {
        number: usize,
    },
    SoldOut {
        remaining: u64,
    },
    Cancelled,
    Confirmed,
    /// The type of the problem.
    NotConfirmed(String),
    Reduced,
    /// A part of a cancelled reservation, or more than a reservation has, cannot be given back.
    NotReduced {
        is_cancelled: bool,
    },
    /// The answer to a read or a successful edit.
    Seen {
        quota: u64,
        reserved: u64,
        held: u64,
    },
    BelowCommitted {
        committed: u64,
    },
    Listed(Vec<Sale>),
    Prepared,
    Settled,
    GivenUp,
    NotFound,
}

impl Model {
    /// Does an operation as if there were no other.
    fn invoke(&mut self, op: &Op) -> Ret {
        let sum = |status| {
            let sales = self.sales.iter().filter(|sale| sale.status == status);
            sales.map(|sale| sale.quantity).sum::<u64>()
        };
        let (reserved, held) = (sum(Status::Confirmed), sum(Status::Held) + sum(Status::Prepared));
        let remaining = self.quota - reserved - held;
        match *op {
            Op::Reserve { quantity }
            | Op::Hold { quantity }
            | Op::Prepare { quantity, .. }
            | Op::PrepareInVain { quantity, .. }
                if quantity > remaining =>
            {
                Ret::SoldOut { remaining }
            }
            Op::Reserve { quantity } => self.sell(quantity, Status::Confirmed),
            Op::Hold { quantity } => self.sell(quantity, Status::Held),
            Op::Confirm { number, quantity } => match self.sales.get_mut(number - 1) {
                Some(sale) => match sale.status {
                    Status::Held if quantity > sale.quantity => Ret::NotConfirmed("invalid".to_owned()),
                    Status::Held => {
                        *sale = Sale { quantity, status: Status::Confirmed, ..*sale };
                        Ret::Confirmed
                    }
                    Status::Confirmed if quantity == sale.quantity => Ret::Confirmed,
                    Status::Confirmed => Ret::NotConfirmed("hold-confirmed".to_owned()),
                    Status::Cancelled => Ret::NotConfirmed("hold-released".to_owned()),
                    Status::Prepared | Status::GivenUp => Ret::NotFound,
                },
                None => Ret::NotFound,
            },
            Op::Cancel { number } => match self.sales.get_mut(number - 1) {
                Some(sale) => {
                    sale.status = Status::Cancelled;
                    Ret::Cancelled
                }
                None => Ret::NotFound,
            },
            Op::Reduce { number, quantity } => match self.sales.get_mut(number - 1) {
                Some(sale) if sale.status == Status::Cancelled || sale.quantity < quantity => {
                    Ret::NotReduced { is_cancelled: sale.status == Status::Cancelled }
                }
                Some(sale) => {
                    sale.quantity = quantity;
                    Ret::Reduced
                }
                None => Ret::NotFound,
            },
            Op::Edit { quota } if quota < reserved + held => {
                Ret::BelowCommitted { committed: reserved + held }
            }
            Op::Edit { quota } => {
                self.quota = quota;
                Ret::Seen { quota, reserved, held }
            }
            Op::Read => Ret::Seen { quota: self.quota, reserved, held },
            Op::List => {
                let is_shown = |sale: &&Sale| !matches!(sale.status, Status::Prepared | Status::GivenUp);
                Ret::Listed(self.sales.iter().filter(is_shown).copied().collect())
            }
            Op::Prepare { order, quantity } => {
                self.parts.insert(order, self.sales.len());
                self.sell(quantity, Status::Prepared)
            }
            Op::PrepareInVain { order, quantity } => {
                self.parts.insert(order, self.sales.len());
                self.sell(quantity, Status::Prepared);
                Ret::Prepared
            }
            Op::Settle { order } => self.end_part(order, Status::Confirmed, Ret::Settled),
            Op::GiveUp { order } => self.end_part(order, Status::GivenUp, Ret::GivenUp),
        }
    }

    fn sell(&mut self, quantity: u64, status: Status) -> Ret {
        let number = self.sales.len() + 1;
        self.sales.push(Sale { number, quantity, status });
        Ret::Sold { number }
    }

    /// Ends a part, which must be prepared.
    fn end_part(&mut self, order: u64, status: Status, ret: Ret) -> Ret {
        match self.parts.get(&order) {
            Some(&part) => {
                self.sales[part].status = status;
                ret
            }
            None => Ret::NotFound,
        }
    }
}

/// A step of a client, identified by its number.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Invoked(usize, Op),
    Returned(usize, Ret),
}

#[derive(Debug)]
struct History {
    event: u64,
    quota: u64,
    /// In the order in which the clients made them.
    steps: Mutex<Vec<Step>>,
    /// The number of clients so far, which is the number of the next one.
    clients: AtomicUsize,
}

impl History {
    fn of(event: u64, quota: u64) -> History {
        History { event, quota, steps: Mutex::default(), clients: AtomicUsize::new(0) }
    }

    fn record(&self, step: Step) {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }

    /// Puts an operation in the place of the only one of a client.
    fn replace(&self, client: usize, op: Op) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let invoked =
            steps.iter_mut().find(|step| matches!(step, Step::Invoked(other, _) if *other == client));
        *invoked.expect("it was invoked") = Step::Invoked(client, op);
    }

    /// Takes back the only operation of a client, which was not invoked after all.
    fn take_back(&self, client: usize) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.retain(|step| !matches!(step, Step::Invoked(other, _) if *other == client));
    }

    /// The steps without operations that got no answer and had no effect on the final list. Such an
    /// operation cannot explain any answer, but the checker would try each of its positions.
    fn steps(&self) -> Vec<Step> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(Step::Returned(_, Ret::Listed(sales))) = steps.last().cloned() else {
            panic!("a history ends with a list")
        };
        let mut answers: HashMap<usize, usize> = HashMap::new();
        let mut known = HashSet::new();
        for step in &steps {
            if let Step::Returned(client, ret) = step {
                *answers.entry(*client).or_default() += 1;
                if let Ret::Sold { number } = ret {
                    known.insert(*number);
                }
            }
        }
        // Which attempts at orders were in vain is known if all numbers that are not shown belong to answered ones.
        let highest = sales.iter().map(|sale| sale.number).max().expect("the last reservation");
        let answered = steps.iter().filter(|step| matches!(step, Step::Returned(_, Ret::Prepared))).count();
        let all_known = highest - sales.len() == answered;
        let without_effect = steps.iter().filter_map(|step| match step {
            Step::Invoked(client, Op::PrepareInVain { order, .. }) => {
                (all_known && !answers.contains_key(client)).then_some(*order)
            }
            _ => None,
        });
        let without_effect: HashSet<u64> = without_effect.collect();
        let find = |number| sales.iter().find(|sale| sale.number == number);
        let has_trace = |op| match op {
            Op::Reserve { quantity } | Op::Hold { quantity } => {
                sales.iter().any(|sale| sale.quantity <= quantity && !known.contains(&sale.number))
            }
            Op::Cancel { number } => find(number).is_some_and(|sale| sale.status == Status::Cancelled),
            Op::Confirm { number, quantity } | Op::Reduce { number, quantity } => {
                find(number).is_some_and(|sale| sale.quantity <= quantity)
            }
            Op::Edit { .. } => true,
            // What an order that was not placed held for a while may explain an answer.
            Op::PrepareInVain { order, .. } | Op::GiveUp { order } => !without_effect.contains(&order),
            Op::Prepare { .. } | Op::Settle { .. } => true,
            Op::Read | Op::List => false,
        };
        steps.retain(|step| match step {
            Step::Invoked(client, op) => match answers.get_mut(client) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    true
                }
                _ => has_trace(*op),
            },
            Step::Returned(..) => true,
        });
        steps
    }

    fn unknown(&self) -> usize {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let invoked = steps.iter().filter(|step| matches!(step, Step::Invoked(..))).count();
        2 * invoked - steps.len()
    }

    fn next_client(&self) -> usize {
        self.clients.fetch_add(1, Ordering::Relaxed)
    }
}

/// An operation of a history, and the steps in which it was invoked and answered, if it was.
struct Operation<'a> {
    op: &'a Op,
    invoked: usize,
    returned: Option<(usize, &'a Ret)>,
}

fn is_linearizable(quota: u64, steps: &[Step]) -> bool {
    let mut operations: Vec<Operation<'_>> = Vec::new();
    let mut latest = HashMap::new();
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Invoked(client, op) => {
                latest.insert(client, operations.len());
                operations.push(Operation { op, invoked: at, returned: None });
            }
            Step::Returned(client, ret) => operations[latest[client]].returned = Some((at, ret)),
        }
    }
    assert!(operations.len() <= 128, "the sets of operations have 128 bits");
    let is_answered = |index: &usize| operations[*index].returned.is_some();
    let answered = (0..operations.len()).filter(is_answered).fold(0_u128, |set, index| set | 1 << index);
    let mut seen = HashSet::new();
    let mut open = vec![(0_u128, Model { quota, ..Model::default() })];
    while let Some((done, model)) = open.pop() {
        if done & answered == answered {
            return true;
        }
        let left = || operations.iter().enumerate().filter(|(index, _)| done & 1 << index == 0);
        // What was invoked after this one was answered comes after it.
        let first_answer = left().filter_map(|(_, one)| one.returned).map(|(at, _)| at).min();
        for (index, operation) in left().filter(|(_, one)| first_answer.is_none_or(|at| one.invoked < at)) {
            let mut next = model.clone();
            let ret = next.invoke(operation.op);
            let next = (done | 1 << index, next);
            if operation.returned.is_none_or(|(_, answer)| *answer == ret) && !seen.contains(&next) {
                seen.insert(next.clone());
                open.push(next);
            }
        }
    }
    false
}

/// The current address of the server and the number of its start, since a port may be reused.
struct Address(Mutex<Option<(u64, SocketAddr)>>);

impl Address {
    /// Waits for a start after `start`; returns `None` if there will be none.
    fn after(&self, start: u64) -> Option<(u64, SocketAddr)> {
        loop {
            let now = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if now.is_none_or(|(current, _)| current > start) {
                return now;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn set(&self, now: Option<(u64, SocketAddr)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

/// The number of starts: the server is killed once in a history.
const LAST_START: u64 = 2;

/// Ends waiting clients after a panic, when no server will be started for them.
struct ReleaseOnPanic<'a>(&'a Address);

impl Drop for ReleaseOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.set(None);
        }
    }
}

struct Tokens {
    customer: String,
    organizer: String,
}

/// An order of two events under way, as the histories of both have it.
struct Attempt<'a> {
    order: u64,
    parts: [Part<'a>; 2],
}

#[derive(Clone, Copy)]
struct Part<'a> {
    history: &'a History,
    quantity: u64,
    /// The client that prepares it, and the one that settles it or gives it up. Neither does anything else.
    prepare: usize,
    settle: usize,
}

impl Attempt<'_> {
    fn begin<'a>(parts: [(&'a History, u64); 2]) -> Attempt<'a> {
        static ORDERS: AtomicU64 = AtomicU64::new(1);
        let order = ORDERS.fetch_add(1, Ordering::Relaxed);
        let parts = parts.map(|(history, quantity)| {
            let [prepare, settle] = [(); 2].map(|()| history.next_client());
            history.record(Step::Invoked(prepare, Op::Prepare { order, quantity }));
            history.record(Step::Invoked(settle, Op::Settle { order }));
            Part { history, quantity, prepare, settle }
        });
        Attempt { order, parts }
    }

    /// Records the answer of an order that was placed.
    fn placed(&self, answer: &Value) {
        for (part, seen) in self.parts.iter().zip(parts_of(answer)) {
            assert_eq!(number(seen, "event"), part.history.event, "in the order of the request: {answer}");
            part.history.record(Step::Returned(part.prepare, sold(part.history.event, text(seen, "id"))));
            part.history.record(Step::Returned(part.settle, Ret::Settled));
        }
    }

    /// Records the answer of an order that was refused. An event that agreed to it gives its part up at some time.
    fn refused(&self, answer: &Value) {
        let items = answer["items"].as_array().expect("it names the items");
        for part in &self.parts {
            match items.iter().find(|item| item["event"] == part.history.event) {
                Some(item) => {
                    part.history.take_back(part.settle);
                    let ret = Ret::SoldOut { remaining: number(item, "remaining") };
                    part.history.record(Step::Returned(part.prepare, ret));
                }
                None => {
                    self.in_vain(part);
                    part.history.record(Step::Returned(part.prepare, Ret::Prepared));
                }
            }
        }
    }

    /// Notes that the order was not placed by this attempt, which may have prepared parts.
    fn failed(&self) {
        self.parts.iter().for_each(|part| self.in_vain(part));
    }

    fn in_vain(&self, part: &Part<'_>) {
        let &Attempt { order, .. } = self;
        part.history.replace(part.prepare, Op::PrepareInVain { order, quantity: part.quantity });
        part.history.replace(part.settle, Op::GiveUp { order });
    }
}

struct Worker<'a> {
    history: &'a History,
    /// Of the event of which it orders, too.
    other: &'a History,
    address: &'a Address,
    tokens: &'a Tokens,
    random: Random,
    operations: u64,
    /// Which of its operations is an order. One client of each event has one, since an order is two operations of each
    /// of its events.
    orders_at: Option<u64>,
    /// The numbers of its reservations that it has not yet cancelled.
    own: Vec<usize>,
}

impl Worker<'_> {
    fn work(mut self) {
        let mut client = self.history.next_client();
        let mut start = 0;
        let mut open = None;
        for operation in 0..self.operations {
            let mut wire = match open.take() {
                Some(wire) => wire,
                None => match self.connect(&mut start) {
                    Some(wire) => wire,
                    None => return,
                },
            };
            if self.orders_at == Some(operation) {
                open = self.order(wire, &mut start);
                if open.is_none() {
                    return;
                }
                continue;
            }
            let op = self.choose();
            let key = op.takes_key() && self.random.within(0, 1) == 0;
            let key =
                if key { format!("Idempotency-Key: {:x}\r\n", self.random.next()) } else { String::new() };
            self.history.record(Step::Invoked(client, op));
            let mut answer = self.ask(&mut wire, op, &key);
            // With a key, it is the same operation that is sent again, until it has an answer.
            while answer.is_none() && !key.is_empty() {
                let Some(again) = self.connect(&mut start) else { return };
                wire = again;
                answer = self.ask(&mut wire, op, &key);
            }
            match answer {
                Some(answer) => {
                    let ret = read(self.history.event, op, &answer);
                    if let Ret::Sold { number } = ret {
                        self.own.push(number);
                    }
                    self.history.record(Step::Returned(client, ret));
                    open = Some(wire);
                }
                // The operation may still take effect, so it remains pending under the old number.
                None => client = self.history.next_client(),
            }
            thread::sleep(self.random.duration(PAUSE_MAX));
        }
    }

    /// Orders tickets of both events, again after a kill. Returns the connection, or `None` if there will be no other.
    fn order(&mut self, mut wire: Wire, start: &mut u64) -> Option<Wire> {
        let parts = [self.history, self.other].map(|history| (history, self.random.within(1, 3)));
        let items = parts.map(|(history, quantity)| json!({ "event": history.event, "quantity": quantity }));
        let body = json!({ "items": items }).to_string();
        let key = format!("Idempotency-Key: {:x}\r\n", self.random.next());
        let bytes = request("POST", "/api/v1/orders", Some(&self.tokens.customer), &key, &body);
        let mut cut = None;
        loop {
            let attempt = Attempt::begin(parts);
            let answer = wire.send(&bytes).and_then(|()| wire.answer()).ok().flatten();
            let Some(answer) = answer else {
                cut = Some(attempt);
                wire = self.connect(start)?;
                continue;
            };
            match (cut, is_replayed(&answer)) {
                // The attempt before the kill placed it, and this one did nothing.
                (Some(first), true) => {
                    attempt.parts.iter().for_each(|part| {
                        [part.prepare, part.settle].iter().for_each(|&client| part.history.take_back(client));
                    });
                    first.placed(&answer.expect(201).json());
                }
                (cut, _) => {
                    cut.iter().for_each(Attempt::failed);
                    match answer.status {
                        201 => attempt.placed(&answer.json()),
                        _ => attempt.refused(&answer.problem(409, "order-refused")),
                    }
                }
            }
            return Some(wire);
        }
    }

    fn connect(&self, start: &mut u64) -> Option<Wire> {
        loop {
            assert!(*start < LAST_START, "the server was not killed, but did not answer");
            let (current, address) = self.address.after(*start)?;
            *start = current;
            if let Ok(wire) = Wire::open(address) {
                return Some(wire);
            }
        }
    }

    fn choose(&mut self) -> Op {
        match self.random.within(0, 11) {
            10 if !self.own.is_empty() => {
                let number = self.random.pick(&self.own);
                Op::Confirm { number, quantity: self.random.within(1, 3) }
            }
            10..12 => Op::Hold { quantity: self.random.within(1, 3) },
            4 if !self.own.is_empty() => {
                let number = self.random.pick(&self.own);
                Op::Reduce { number, quantity: self.random.within(1, 3) }
            }
            0..5 => Op::Reserve { quantity: self.random.within(1, 3) },
            5..7 if !self.own.is_empty() => {
                let index = self.random.within(0, self.own.len() as u64 - 1) as usize;
                Op::Cancel { number: self.own.swap_remove(index) }
            }
            7 => Op::Edit { quota: self.random.within(3, 9) },
            8 => Op::Read,
            _ => Op::List,
        }
    }

    /// `key` is a line of the request's head, or empty.
    fn ask(&self, wire: &mut Wire, op: Op, key: &str) -> Option<Answer> {
        let event = self.history.event;
        let of_event = format!("/api/v1/events/{event}");
        let Tokens { customer, organizer } = self.tokens;
        let bytes = match op {
            Op::Reserve { quantity } => {
                let body = json!({ "quantity": quantity }).to_string();
                request("POST", &format!("{of_event}/reservations"), Some(customer), key, &body)
            }
            Op::Hold { quantity } => {
                let body = json!({ "quantity": quantity }).to_string();
                request("POST", &format!("{of_event}/holds"), Some(customer), key, &body)
            }
            Op::Confirm { number, quantity } => {
                let path = format!("/api/v1/holds/{event}-{number}/confirm");
                let body = json!({ "quantity": quantity }).to_string();
                request("POST", &path, Some(customer), key, &body)
            }
            Op::Cancel { number } => {
                request("DELETE", &format!("/api/v1/reservations/{event}-{number}"), Some(customer), "", "")
            }
            Op::Reduce { number, quantity } => {
                let path = format!("/api/v1/reservations/{event}-{number}");
                let body = json!({ "quantity": quantity }).to_string();
                request("PATCH", &path, Some(customer), "", &body)
            }
            Op::Edit { quota } => {
                request("PATCH", &of_event, Some(organizer), "", &json!({ "quota": quota }).to_string())
            }
            Op::Prepare { .. } | Op::Settle { .. } | Op::PrepareInVain { .. } | Op::GiveUp { .. } => {
                unreachable!("it is a part of a request")
            }
            Op::Read => request("GET", &of_event, None, "", ""),
            Op::List => request("GET", &format!("{of_event}/reservations"), Some(organizer), "", ""),
        };
        wire.send(bytes).ok()?;
        wire.answer().ok()?
    }
}

/// The number of a reservation of an event.
fn number_of(event: u64, id: &str) -> usize {
    let number = id.strip_prefix(&format!("{event}-")).and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("{id} is not of event {event}"))
}

fn sold(event: u64, id: &str) -> Ret {
    Ret::Sold { number: number_of(event, id) }
}

fn read(event: u64, op: Op, answer: &Answer) -> Ret {
    let body = || answer.json();
    match (op, answer.status) {
        (Op::Reserve { .. } | Op::Hold { .. }, 201) => sold(event, text(&body(), "id")),
        (Op::Reserve { .. } | Op::Hold { .. }, 409) => {
            Ret::SoldOut { remaining: number(&body(), "remaining") }
        }
        (Op::Confirm { quantity, .. }, 200) => {
            assert_eq!((text(&body(), "status"), number(&body(), "quantity")), ("confirmed", quantity));
            Ret::Confirmed
        }
        (Op::Confirm { .. }, 409 | 422) => {
            Ret::NotConfirmed(text(&body(), "type").trim_start_matches("/problems/").to_owned())
        }
        (Op::Cancel { .. }, 204) => Ret::Cancelled,
        (Op::Reduce { number: own, quantity }, 200) => {
            let id = format!("{event}-{own}");
            assert_eq!((text(&body(), "id"), number(&body(), "quantity")), (&*id, quantity));
            Ret::Reduced
        }
        (Op::Reduce { .. }, status @ (409 | 422)) => Ret::NotReduced { is_cancelled: status == 409 },
        (Op::Edit { .. } | Op::Read, 200) => {
            let [quota, reserved, held] = ["quota", "reserved", "held"].map(|name| number(&body(), name));
            Ret::Seen { quota, reserved, held }
        }
        (Op::List, 200) => {
            let body = body();
            let items = body["items"].as_array().expect("a list has items").iter();
            let sale = |item: &Value| Sale {
                number: number_of(event, text(item, "id")),
                quantity: number(item, "quantity"),
                status: match text(item, "status") {
                    "held" => Status::Held,
                    "confirmed" => Status::Confirmed,
                    "cancelled" => Status::Cancelled,
                    other => panic!("{other}: {item}"),
                },
            };
            Ret::Listed(items.map(sale).collect())
        }
        (Op::Edit { .. }, 409) => Ret::BelowCommitted { committed: number(&body(), "committed") },
        _ => panic!("{op:?}: {answer:?}"),
    }
}

/// A server with an account for a customer and one for an organizer.
struct TestServer {
    folder: TestFolder,
    server: Server,
    tokens: Tokens,
}

impl TestServer {
    fn open() -> TestServer {
        let folder = TestFolder::new();
        let Stage { server, cust1, org1, .. } = Stage::open(&folder.path("data"), 2);
        let [customer, organizer] = [cust1, org1].map(|client| client.token.expect("logged in"));
        TestServer { folder, server, tokens: Tokens { customer, organizer } }
    }

    /// Records histories of new events, all on one server, which is killed and restarted meanwhile.
    fn record(self, random: &mut Random) -> (Vec<History>, TestServer) {
        let TestServer { folder, server, tokens } = self;
        let organizer = server.client().with_token(&tokens.organizer);
        let quotas = (0..CONCURRENT_HISTORIES).map(|_| random.within(3, 9));
        let histories: Vec<History> =
            quotas.map(|quota| History::of(create_event(&organizer, quota), quota)).collect();
        let address = Address(Mutex::new(Some((1, server.address))));
        let server = thread::scope(|scope| {
            let _release = ReleaseOnPanic(&address);
            for (index, history) in histories.iter().enumerate() {
                let other = &histories[(index + 1) % histories.len()];
                let clients = random.within(3, 5);
                for client in 0..clients {
                    let operations = OPERATIONS / clients;
                    let orders_at = (client == 0).then(|| random.within(0, operations - 1));
                    let random = Random::new(random.next());
                    let worker = Worker {
                        history,
                        other,
                        address: &address,
                        tokens: &tokens,
                        random,
                        operations,
                        orders_at,
                        own: Vec::new(),
                    };
                    scope.spawn(move || worker.work());
                }
            }
            thread::sleep(random.duration(KILL_WITHIN));
            server.kill();
            let shards = random.pick(&["1", "2", "4", "3"]);
            let server = Server::start(&folder.path("data"), &["--shards", shards]);
            address.set(Some((LAST_START, server.address)));
            server
        });
        for history in &histories {
            // These are part of the history. The last reservation shows how many numbers were used.
            let client = history.next_client();
            let [customer, organizer] =
                [&tokens.customer, &tokens.organizer].map(|token| server.client().with_token(token));
            let event = format!("/api/v1/events/{}", history.event);
            let list = format!("{event}/reservations");
            for op in [Op::Edit { quota: 100 }, Op::Reserve { quantity: 1 }, Op::List] {
                history.record(Step::Invoked(client, op));
                let answer = match op {
                    Op::Edit { quota } => organizer.patch(&event, &json!({ "quota": quota })),
                    Op::Reserve { quantity } => customer.post(&list, &json!({ "quantity": quantity })),
                    _ => organizer.get(&list),
                };
                history.record(Step::Returned(client, read(history.event, op, &answer)));
            }
        }
        (histories, TestServer { folder, server, tokens })
    }
}

#[test]
fn histories_with_kills_in_them_are_linearizable() {
    let wanted = rounds("BOXOFFICE_HISTORIES", 200);
    let mut random = Random::seeded();
    let mut server = TestServer::open();
    let (mut checked, mut operations, mut overlaps) = (0, 0, 0);
    let (mut unknown, mut took_effect) = (0, 0);
    let mut longest = Duration::ZERO;
    while checked < wanted {
        let histories;
        (histories, server) = server.record(&mut random);
        for history in histories {
            let steps = history.steps();
            let start = Instant::now();
            assert!(is_linearizable(history.quota, &steps), "no order explains {history:#?}");
            longest = longest.max(start.elapsed());
            let invoked = steps.iter().filter(|step| matches!(step, Step::Invoked(..))).count();
            operations += invoked;
            took_effect += 2 * invoked - steps.len();
            unknown += history.unknown();
            let pairs = steps.windows(2);
            overlaps += pairs.filter(|pair| matches!(pair, [Step::Invoked(..), Step::Invoked(..)])).count();
            checked += 1;
        }
    }
    println!(
        "{checked} histories, {} kills: {operations} operations, {overlaps} of them invoked while another \
         was in flight, {unknown} unknown outcomes, {took_effect} of them with an effect, longest check {} ms, 0 failures",
        checked / CONCURRENT_HISTORIES,
        longest.as_millis()
    );
    assert!(unknown as u64 > checked / CONCURRENT_HISTORIES, "the kills hit no requests in flight");
    assert!(overlaps > operations / 10, "too few operations were concurrent");
}

/// Checks that the checker accepts a correct history and rejects it with a wrong answer.
#[test]
fn a_wrong_answer_in_a_history_is_found() {
    use Step::{Invoked, Returned};
    let seen = |reserved, held| Ret::Seen { quota: 4, reserved, held };
    let two = Op::Reserve { quantity: 2 };
    let correct = vec![
        Invoked(0, two),
        Invoked(1, two),
        Invoked(2, Op::Read),
        Returned(1, Ret::Sold { number: 1 }),
        Returned(2, seen(2, 0)),
        Invoked(2, two),
        Returned(0, Ret::Sold { number: 2 }),
        Returned(2, Ret::SoldOut { remaining: 0 }),
        // Done, but the server was killed before the answer.
        Invoked(1, Op::Cancel { number: 1 }),
        Invoked(3, Op::Read),
        Returned(3, seen(2, 0)),
        Invoked(0, Op::Reserve { quantity: 1 }),
        Returned(0, Ret::Sold { number: 3 }),
        Invoked(3, Op::Read),
        Returned(3, seen(3, 0)),
        Invoked(2, Op::Reduce { number: 2, quantity: 1 }),
        Returned(2, Ret::Reduced),
        Invoked(2, Op::Reduce { number: 2, quantity: 2 }),
        Returned(2, Ret::NotReduced { is_cancelled: false }),
        Invoked(3, Op::Read),
        Returned(3, seen(2, 0)),
        Invoked(0, Op::Hold { quantity: 2 }),
        Returned(0, Ret::Sold { number: 4 }),
        Invoked(3, Op::Read),
        Returned(3, seen(2, 2)),
        Invoked(0, Op::Confirm { number: 4, quantity: 1 }),
        Returned(0, Ret::Confirmed),
        Invoked(3, Op::Read),
        Returned(3, seen(3, 0)),
    ];
    assert!(is_linearizable(4, &correct));
    let wrong: [(&str, usize, Step); 12] = [
        ("oversold", 7, Returned(2, Ret::Sold { number: 3 })),
        ("a number given twice", 6, Returned(0, Ret::Sold { number: 1 })),
        ("a stale read", 14, Returned(3, seen(2, 0))),
        ("an acknowledged sale is lost", 14, Returned(3, seen(1, 0))),
        ("tickets released twice", 10, Returned(3, seen(0, 0))),
        ("a part is not given back", 20, Returned(3, seen(3, 0))),
        ("more tickets than before", 18, Returned(2, Ret::Reduced)),
        ("a hold without tickets", 24, Returned(3, seen(2, 0))),
        ("a confirmation that was not made", 26, Returned(0, Ret::NotConfirmed("invalid".to_owned()))),
        ("a confirmed part is held, too", 28, Returned(3, seen(3, 1))),
        ("a confirmation is lost", 28, Returned(3, seen(2, 2))),
        ("sold out with tickets left", 12, Returned(0, Ret::SoldOut { remaining: 0 })),
    ];
    for (what, at, step) in wrong {
        let mut steps = correct.clone();
        assert_ne!(steps[at], step);
        steps[at] = step;
        assert!(!is_linearizable(4, &steps), "not found: {what}");
    }
    // Without the cancel, nothing explains the later answers.
    let mut steps = correct.clone();
    steps.remove(8);
    assert!(!is_linearizable(4, &steps), "a read of a change that no client made");
}

/// Checks the same with an order: its part counts as held before it is shown, and what was given up does not.
#[test]
fn a_wrong_answer_about_an_order_is_found() {
    use Step::{Invoked, Returned};
    let seen = |reserved, held| Ret::Seen { quota: 4, reserved, held };
    let sale = |number, quantity| Sale { number, quantity, status: Status::Confirmed };
    let listed = |sales: &[Sale]| Ret::Listed(sales.to_vec());
    let correct = vec![
        Invoked(0, Op::Prepare { order: 1, quantity: 2 }),
        Invoked(1, Op::Settle { order: 1 }),
        Invoked(2, Op::Read),
        Returned(2, seen(0, 2)),
        Invoked(2, Op::List),
        Returned(2, listed(&[])),
        Invoked(2, Op::List),
        Returned(2, listed(&[sale(1, 2)])),
        Returned(0, Ret::Sold { number: 1 }),
        Returned(1, Ret::Settled),
        // The other event refuses this one.
        Invoked(3, Op::PrepareInVain { order: 2, quantity: 1 }),
        Invoked(4, Op::GiveUp { order: 2 }),
        Returned(3, Ret::Prepared),
        Invoked(2, Op::Read),
        Returned(2, seen(2, 1)),
        Invoked(2, Op::Reserve { quantity: 2 }),
        Returned(2, Ret::Sold { number: 3 }),
        Invoked(2, Op::List),
        Returned(2, listed(&[sale(1, 2), sale(3, 2)])),
    ];
    assert!(is_linearizable(4, &correct));
    let wrong = [
        ("a part that is shown, and then not", 3, Returned(2, seen(2, 0))),
        ("a part that nobody prepared", 3, Returned(2, seen(0, 1))),
        ("a part that is lost", 14, Returned(2, seen(0, 1))),
        ("a part of an answered order is held", 14, Returned(2, seen(0, 3))),
        ("tickets given up twice", 14, Returned(2, seen(1, 0))),
        ("a number used again", 16, Returned(2, Ret::Sold { number: 2 })),
        ("a part is shown that was given up", 18, Returned(2, listed(&[sale(1, 2), sale(2, 1), sale(3, 2)]))),
    ];
    for (what, at, step) in wrong {
        let mut steps = correct.clone();
        assert_ne!(steps[at], step);
        steps[at] = step;
        assert!(!is_linearizable(4, &steps), "not found: {what}");
    }
}

/// Checks the same with recorded histories in which the first answer is replaced.
#[test]
fn a_wrong_answer_in_a_recorded_history_is_found() {
    let mut random = Random::seeded();
    let mut found = 0;
    for history in TestServer::open().record(&mut random).0 {
        let mut steps = history.steps();
        let first = steps.iter_mut().find_map(|step| match step {
            Step::Returned(_, ret) => Some(ret),
            Step::Invoked(..) => None,
        });
        let first = first.expect("a history ends with an answer");
        *first = match first {
            Ret::Sold { .. } => Ret::SoldOut { remaining: history.quota },
            // No sale has this number.
            _ => Ret::Sold { number: 99 },
        };
        assert!(!is_linearizable(history.quota, &steps), "not found: {steps:#?}");
        found += 1;
    }
    assert_eq!(found, CONCURRENT_HISTORIES);
}
