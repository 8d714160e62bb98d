//! Three to five clients on one small event, and a kill in between: is there an order of what
//! they did that explains every answer, and keeps what came after an answer behind it?
//!
//! The judge is `stateright`'s. An operation without an answer may take effect at any time, or
//! never; its client goes on as another. `BOXOFFICE_HISTORIES` sets another number of histories.

mod support;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use support::client::{Answer, Wire, request};
use support::random::{Random, rounds};
use support::server::Server;
use support::{Stage, TestFolder, check_sums, create_event, number, text};

/// Events that are worked on at the same time, each with a history of its own.
const AT_ONCE: u64 = 8;

/// The judge's work doubles with every one that is under way beside others.
const OPERATIONS: u64 = 16;
const PAUSE_MAX: Duration = Duration::from_millis(2);
/// About as long as the clients take.
const KILL_WITHIN: Duration = Duration::from_millis(8);

/// What an event has to be like, for clients who come one after the other.
#[derive(Debug, Clone, Default)]
struct Model {
    quota: u64,
    /// The first is number 1.
    sales: Vec<Sale>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Sale {
    quantity: u64,
    is_cancelled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Op {
    Reserve { quantity: u64 },
    Cancel { number: usize },
    Edit { quota: u64 },
    Read,
    List,
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
    /// To an edit, too.
    Seen {
        quota: u64,
        reserved: u64,
    },
    BelowReserved {
        reserved: u64,
    },
    Listed(Vec<Sale>),
    NotFound,
}

impl SequentialSpec for Model {
    type Op = Op;
    type Ret = Ret;

    fn invoke(&mut self, op: &Op) -> Ret {
        let live = self.sales.iter().filter(|sale| !sale.is_cancelled);
        let reserved = live.map(|sale| sale.quantity).sum();
        match *op {
            Op::Reserve { quantity } if quantity > self.quota - reserved => {
                Ret::SoldOut { remaining: self.quota - reserved }
            }
            Op::Reserve { quantity } => {
                self.sales.push(Sale { quantity, is_cancelled: false });
                Ret::Sold { number: self.sales.len() }
            }
            Op::Cancel { number } => match self.sales.get_mut(number - 1) {
                Some(sale) => {
                    sale.is_cancelled = true;
                    Ret::Cancelled
                }
                None => Ret::NotFound,
            },
            Op::Edit { quota } if quota < reserved => Ret::BelowReserved { reserved },
            Op::Edit { quota } => {
                self.quota = quota;
                Ret::Seen { quota, reserved }
            }
            Op::Read => Ret::Seen { quota: self.quota, reserved },
            Op::List => Ret::Listed(self.sales.clone()),
        }
    }
}

/// In the order in which they happened to the clients.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Asked(usize, Op),
    Told(usize, Ret),
}

#[derive(Debug)]
struct History {
    event: u64,
    quota: u64,
    steps: Mutex<Vec<Step>>,
    /// As many as there were; the next one's name.
    clients: AtomicUsize,
}

impl History {
    fn of(event: u64, quota: u64) -> History {
        History { event, quota, steps: Mutex::default(), clients: AtomicUsize::new(0) }
    }

    fn note(&self, step: Step) {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }

    /// Without what got no answer and left no trace in the list at the end: it cannot explain any
    /// answer before, and would make the judge try its every place among all others.
    fn steps(&self) -> Vec<Step> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(Step::Told(_, Ret::Listed(sales))) = steps.last().cloned() else {
            panic!("a history ends with a list")
        };
        let mut answers: HashMap<usize, usize> = HashMap::new();
        let mut known = HashSet::new();
        for step in &steps {
            if let Step::Told(client, ret) = step {
                *answers.entry(*client).or_default() += 1;
                if let Ret::Sold { number } = ret {
                    known.insert(*number);
                }
            }
        }
        let has_trace = |op| match op {
            Op::Reserve { quantity } => {
                let mut numbered = (1..).zip(&sales);
                numbered.any(|(number, sale)| sale.quantity == quantity && !known.contains(&number))
            }
            Op::Cancel { number } => sales.get(number - 1).is_some_and(|sale| sale.is_cancelled),
            Op::Edit { .. } => true,
            Op::Read | Op::List => false,
        };
        steps.retain(|step| match step {
            Step::Asked(client, op) => match answers.get_mut(client) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    true
                }
                _ => has_trace(*op),
            },
            Step::Told(..) => true,
        });
        steps
    }

    fn unknown(&self) -> usize {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = steps.iter().filter(|step| matches!(step, Step::Asked(..))).count();
        2 * asked - steps.len()
    }

    fn next_client(&self) -> usize {
        self.clients.fetch_add(1, Ordering::Relaxed)
    }
}

fn is_linearizable(quota: u64, steps: &[Step]) -> bool {
    let mut tester = LinearizabilityTester::new(Model { quota, sales: Vec::new() });
    for step in steps {
        let noted = match step.clone() {
            Step::Asked(client, op) => tester.on_invoke(client, op),
            Step::Told(client, ret) => tester.on_return(client, ret),
        };
        noted.unwrap_or_else(|error| panic!("{error}"));
    }
    tester.is_consistent()
}

/// Where the server is now. It counts its lives, since a port may come again.
struct Place(Mutex<Option<(u64, SocketAddr)>>);

impl Place {
    /// Waits for a life after `life`; `None` when none comes any more.
    fn after(&self, life: u64) -> Option<(u64, SocketAddr)> {
        loop {
            let now = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if now.is_none_or(|(current, _)| current > life) {
                return now;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn set(&self, now: Option<(u64, SocketAddr)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

/// The server is killed once in a history.
const LAST_LIFE: u64 = 2;

/// Lets waiting clients go when no server will come for them.
struct ReleaseOnPanic<'a>(&'a Place);

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

struct Worker<'a> {
    history: &'a History,
    place: &'a Place,
    tokens: &'a Tokens,
    random: Random,
    operations: u64,
    /// Sales of its own that it has not yet cancelled.
    own: Vec<usize>,
}

impl Worker<'_> {
    fn work(mut self) {
        let mut client = self.history.next_client();
        let mut life = 0;
        let mut open = None;
        for _ in 0..self.operations {
            let mut wire = match open.take() {
                Some(wire) => wire,
                None => match self.connect(&mut life) {
                    Some(wire) => wire,
                    None => return,
                },
            };
            let op = self.choose();
            self.history.note(Step::Asked(client, op));
            match self.ask(&mut wire, op) {
                Some(answer) => {
                    let ret = read(self.history.event, op, &answer);
                    if let Ret::Sold { number } = ret {
                        self.own.push(number);
                    }
                    self.history.note(Step::Told(client, ret));
                    open = Some(wire);
                }
                // It may yet take effect, as that of a client that is never heard of again.
                None => client = self.history.next_client(),
            }
            thread::sleep(self.random.duration(PAUSE_MAX));
        }
    }

    fn connect(&self, life: &mut u64) -> Option<Wire> {
        loop {
            assert!(*life < LAST_LIFE, "it was not killed, and did not answer");
            let (current, address) = self.place.after(*life)?;
            *life = current;
            if let Ok(wire) = Wire::open(address) {
                return Some(wire);
            }
        }
    }

    fn choose(&mut self) -> Op {
        match self.random.within(0, 9) {
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

    fn ask(&self, wire: &mut Wire, op: Op) -> Option<Answer> {
        let event = self.history.event;
        let of_event = format!("/api/v1/events/{event}");
        let Tokens { customer, organizer } = self.tokens;
        let bytes = match op {
            Op::Reserve { quantity } => {
                let body = json!({ "quantity": quantity }).to_string();
                request("POST", &format!("{of_event}/reservations"), Some(customer), "", &body)
            }
            Op::Cancel { number } => {
                request("DELETE", &format!("/api/v1/reservations/{event}-{number}"), Some(customer), "", "")
            }
            Op::Edit { quota } => {
                request("PATCH", &of_event, Some(organizer), "", &json!({ "quota": quota }).to_string())
            }
            Op::Read => request("GET", &of_event, None, "", ""),
            Op::List => request("GET", &format!("{of_event}/reservations"), Some(organizer), "", ""),
        };
        wire.send(bytes).ok()?;
        wire.answer().ok()?
    }
}

fn read(event: u64, op: Op, answer: &Answer) -> Ret {
    let body = || answer.json();
    match (op, answer.status) {
        (Op::Reserve { .. }, 201) => {
            let id = text(&body(), "id").to_owned();
            let number = id.strip_prefix(&format!("{event}-")).and_then(|number| number.parse().ok());
            Ret::Sold { number: number.unwrap_or_else(|| panic!("{id} is not of event {event}")) }
        }
        (Op::Reserve { .. }, 409) => Ret::SoldOut { remaining: number(&body(), "remaining") },
        (Op::Cancel { .. }, 204) => Ret::Cancelled,
        (Op::Edit { .. } | Op::Read, 200) => {
            check_sums(&body());
            Ret::Seen { quota: number(&body(), "quota"), reserved: number(&body(), "reserved") }
        }
        (Op::List, 200) => {
            let body = body();
            let items = body["items"].as_array().expect("a list has items").iter();
            let sale = |item: &Value| Sale {
                quantity: number(item, "quantity"),
                is_cancelled: text(item, "status") == "cancelled",
            };
            Ret::Listed(items.map(sale).collect())
        }
        (Op::Edit { .. }, 409) => Ret::BelowReserved { reserved: number(&body(), "committed") },
        _ => panic!("{op:?}: {answer:?}"),
    }
}

/// A server, and people who have accounts there.
struct Office {
    folder: TestFolder,
    server: Server,
    tokens: Tokens,
}

impl Office {
    fn open() -> Office {
        let folder = TestFolder::new();
        let Stage { server, cust1, org1, .. } = Stage::open(&folder.path("data"), 2);
        let [customer, organizer] = [cust1, org1].map(|client| client.token.expect("logged in"));
        Office { folder, server, tokens: Tokens { customer, organizer } }
    }

    /// Histories of fresh events, all on one server, which is killed in the middle of them.
    fn record(self, random: &mut Random) -> (Vec<History>, Office) {
        let Office { folder, server, tokens } = self;
        let organizer = server.client().with_token(&tokens.organizer);
        let quotas = (0..AT_ONCE).map(|_| random.within(3, 9));
        let histories: Vec<History> =
            quotas.map(|quota| History::of(create_event(&organizer, quota), quota)).collect();
        let place = Place(Mutex::new(Some((1, server.address))));
        let server = thread::scope(|scope| {
            let _release = ReleaseOnPanic(&place);
            for history in &histories {
                let clients = random.within(3, 5);
                for _ in 0..clients {
                    let (random, operations) = (Random::new(random.next()), OPERATIONS / clients);
                    let worker = Worker {
                        history,
                        place: &place,
                        tokens: &tokens,
                        random,
                        operations,
                        own: Vec::new(),
                    };
                    scope.spawn(move || worker.work());
                }
            }
            thread::sleep(random.duration(KILL_WITHIN));
            server.kill();
            let shards = random.pick(&["1", "2", "4", "3"]);
            let server = Server::start(&folder.path("data"), &["--shards", shards]);
            place.set(Some((LAST_LIFE, server.address)));
            server
        });
        for history in &histories {
            // What there is in the end is part of it.
            let client = history.next_client();
            let organizer = server.client().with_token(&tokens.organizer);
            history.note(Step::Asked(client, Op::List));
            let answer = organizer.get(&format!("/api/v1/events/{}/reservations", history.event));
            history.note(Step::Told(client, read(history.event, Op::List, &answer)));
        }
        (histories, Office { folder, server, tokens })
    }
}

#[test]
fn histories_with_kills_in_them_are_linearizable() {
    let wanted = rounds("BOXOFFICE_HISTORIES", 200);
    let mut random = Random::seeded();
    let mut office = Office::open();
    let (mut checked, mut operations, mut overlaps) = (0, 0, 0);
    let (mut unknown, mut took_effect) = (0, 0);
    let mut longest = Duration::ZERO;
    while checked < wanted {
        let histories;
        (histories, office) = office.record(&mut random);
        for history in histories {
            let steps = history.steps();
            let start = Instant::now();
            assert!(is_linearizable(history.quota, &steps), "no order explains {history:#?}");
            longest = longest.max(start.elapsed());
            let asked = steps.iter().filter(|step| matches!(step, Step::Asked(..))).count();
            operations += asked;
            took_effect += 2 * asked - steps.len();
            unknown += history.unknown();
            let pairs = steps.windows(2);
            overlaps += pairs.filter(|pair| matches!(pair, [Step::Asked(..), Step::Asked(..)])).count();
            checked += 1;
        }
    }
    println!(
        "{checked} histories, {} kills: {operations} operations, {overlaps} of them asked while another \
         was under way, {unknown} unknown outcomes, {took_effect} of them with a trace, longest check {} ms, 0 failures",
        checked / AT_ONCE,
        longest.as_millis()
    );
    assert!(unknown as u64 > checked / AT_ONCE, "the kills met nothing under way");
    assert!(overlaps > operations / 10, "the clients did not meet");
}

/// What the judge is worth: a history as the server might have made it, and the same with a lie in it.
#[test]
fn a_lie_in_a_history_is_found() {
    use Step::{Asked, Told};
    let seen = |reserved| Ret::Seen { quota: 4, reserved };
    let two = Op::Reserve { quantity: 2 };
    let honest = vec![
        Asked(0, two),
        Asked(1, two),
        Asked(2, Op::Read),
        Told(1, Ret::Sold { number: 1 }),
        Told(2, seen(2)),
        Asked(2, two),
        Told(0, Ret::Sold { number: 2 }),
        Told(2, Ret::SoldOut { remaining: 0 }),
        // Killed before it was answered, and done all the same.
        Asked(1, Op::Cancel { number: 1 }),
        Asked(3, Op::Read),
        Told(3, seen(2)),
        Asked(0, Op::Reserve { quantity: 1 }),
        Told(0, Ret::Sold { number: 3 }),
        Asked(3, Op::Read),
        Told(3, seen(3)),
    ];
    assert!(is_linearizable(4, &honest));
    let lies: [(&str, usize, Step); 6] = [
        ("oversold", 7, Told(2, Ret::Sold { number: 3 })),
        ("a number given twice", 6, Told(0, Ret::Sold { number: 1 })),
        ("a stale read", 14, Told(3, seen(2))),
        ("an acknowledged sale is lost", 14, Told(3, seen(1))),
        ("tickets that came back twice", 10, Told(3, seen(0))),
        ("sold out, and it was not", 12, Told(0, Ret::SoldOut { remaining: 0 })),
    ];
    for (what, at, lie) in lies {
        let mut steps = honest.clone();
        assert_ne!(steps[at], lie);
        steps[at] = lie;
        assert!(!is_linearizable(4, &steps), "not found: {what}");
    }
    // What the unknown cancel explains cannot be without it.
    let mut steps = honest.clone();
    steps.remove(8);
    assert!(!is_linearizable(4, &steps), "a read of what nobody did");
}

/// The same with histories of the real server, where the first answer is not what it was.
#[test]
fn a_lie_in_a_recorded_history_is_found() {
    let mut random = Random::seeded();
    let mut found = 0;
    for history in Office::open().record(&mut random).0 {
        let mut steps = history.steps();
        let first = steps.iter_mut().find_map(|step| match step {
            Step::Told(_, ret) => Some(ret),
            Step::Asked(..) => None,
        });
        let first = first.expect("a history ends with an answer");
        *first = match first {
            Ret::Sold { .. } => Ret::SoldOut { remaining: history.quota },
            // Of what, if nothing was sold?
            _ => Ret::Sold { number: 99 },
        };
        assert!(!is_linearizable(history.quota, &steps), "not found: {steps:#?}");
        found += 1;
    }
    assert_eq!(found, AT_ONCE);
}
