//! 64 clients that reserve, hold, order, confirm, cancel, create, edit and register at random, and record everything in a
//! ledger. They are used with one server after the other on the same data.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Answer, Client, Wire, request};
use super::keyed_sales::{KeyedSales, Retried, parts};
use super::ledger::{
    Counts, Ledger, Operation, Purchase, REFS_FROM, Sale, Shown, customer_of, is_uniform, parts_of, ref_of,
};
use super::random::Random;
use super::server::{Server, boxoffice, run};
use super::{PASSWORD, all_items, check_sums, number, text};

/// Sends one request and reads its answer; returns `None` if there was no answer.
type Work<'a> = Box<dyn FnMut(&mut Wire) -> Option<()> + Send + 'a>;

const BUYERS: usize = 56;
const ORGANIZERS: usize = 6;
const REGISTRARS: usize = 2;
pub(crate) const CLIENTS: usize = BUYERS + ORGANIZERS + REGISTRARS;

/// Those with accounts.
const CUSTOMERS: usize = 4;
/// Those of the organizer's shop, who have none.
const REFS: usize = 2;
const ALL_CUSTOMERS: usize = CUSTOMERS + REFS;
/// Those of the customers, the first ones, who reserve, hold and confirm with idempotency keys.
const CUSTOMERS_WITH_KEYS: usize = 2;

/// The quota of an event that sells out in every round, and is never edited or deleted.
const HOT_QUOTA: u64 = 100;
const EVENTS: usize = 6;

/// The pause between registrations, since hashing a password takes as long as a hundred sales.
const REGISTRATION_PAUSE: Duration = Duration::from_millis(20);

/// The most time that an order may be in doubt after a start; on a busy machine, too.
const IN_DOUBT_MAX: Duration = Duration::from_secs(20);

/// The most events of an order.
const ITEMS: u64 = 4;

pub(crate) struct Crowd {
    pub(crate) ledger: Ledger,
    admin: String,
    organizer: String,
    /// Those with accounts, then the refs.
    customers: Vec<Customer>,
    /// The token of each account, by username.
    accounts: BTreeMap<String, String>,
    hot: u64,
    /// The state at the last comparison.
    shown: Shown,
    keyed: KeyedSales,
}

#[derive(Clone)]
struct Customer {
    /// Of a ref, the organizer's.
    token: String,
    id: u64,
}

impl Crowd {
    /// Creates an admin, which can read everything. Called before the first server is started.
    pub(crate) fn create_admin(data: &Path) {
        let mut command = boxoffice();
        command.args(["admin", "create", "--username", "root", "--data"]).arg(data);
        let ended = run(command, PASSWORD);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }

    /// Creates the accounts and events of the clients. The server's directory must be new except
    /// for [`Crowd::create_admin`].
    pub(crate) fn sign_up(server: &Server, ledger: &Path) -> Crowd {
        let anyone = server.client();
        let ledger = Ledger::create(ledger);
        let mut accounts = BTreeMap::new();
        let mut sign_up = |username: &str, role: &str| {
            let operation = ledger.begin(Operation::Register { username: username.to_owned() });
            let client = anyone.sign_up(username, role);
            let id = number(&client.get("/api/v1/users/me").expect(200).json(), "id");
            ledger.done(operation, &id.to_string());
            let token = client.token.expect("logged in");
            accounts.insert(username.to_owned(), token.clone());
            Customer { token, id }
        };
        let organizer = sign_up("organizer", "organizer").token;
        let customers = (0..CUSTOMERS).map(|index| sign_up(&format!("customer-{index}"), "customer"));
        let refs = (0..REFS).map(|index| Customer { token: organizer.clone(), id: REFS_FROM + index as u64 });
        let customers: Vec<Customer> = customers.chain(refs).collect();
        let mut crowd = Crowd {
            ledger,
            admin: anyone.log_in("root", PASSWORD).token.expect("logged in"),
            organizer,
            customers,
            accounts,
            hot: 0,
            shown: Shown::default(),
            keyed: KeyedSales::default(),
        };
        let mut wire = server.wire();
        let quotas = [HOT_QUOTA].into_iter().chain([1000; EVENTS]);
        let organizer = Organizer { crowd: &crowd, events: Vec::new(), random: Random::new(0) };
        let made: Vec<u64> = quotas
            .map(|quota| organizer.create(&mut wire, quota).expect("an answer").expect("a new event"))
            .collect();
        crowd.hot = made[0];
        crowd.settle(server);
        crowd
    }

    /// The crowd when its ledger had this length, with a copy of that part of the ledger.
    pub(crate) fn as_of(&self, length: u64, copy: &Path) -> Crowd {
        let ledger = self.ledger.as_of(length, copy);
        let registered = ledger.registered();
        let accounts = self.accounts.iter().filter(|(username, _)| registered.contains(*username));
        let accounts: BTreeMap<String, String> = accounts.map(|(a, b)| (a.clone(), b.clone())).collect();
        let mut customers = self.customers.clone();
        customers.retain(|customer| accounts.values().any(|token| *token == customer.token));
        Crowd {
            ledger,
            admin: self.admin.clone(),
            organizer: self.organizer.clone(),
            customers,
            accounts,
            hot: self.hot,
            shown: Shown::default(),
            keyed: KeyedSales::default(),
        }
    }

    /// Whether all that [`Crowd::sign_up`] makes was there at the last comparison.
    pub(crate) fn has_signed_up(&self) -> bool {
        self.customers.len() == ALL_CUSTOMERS && self.shown.events.len() > EVENTS
    }

    /// Runs all clients and calls `disturb` after `delay`. Returns the number of answers.
    pub(crate) fn run(
        &self,
        address: SocketAddr,
        random: &mut Random,
        delay: Duration,
        disturb: impl FnOnce(),
    ) -> usize {
        self.run_each(1, address, random, || {
            thread::sleep(delay);
            disturb();
        })
    }

    /// Runs each `nth` client until `disturb` returns. Returns the number of answers.
    pub(crate) fn run_each(
        &self,
        nth: usize,
        address: SocketAddr,
        random: &mut Random,
        disturb: impl FnOnce(),
    ) -> usize {
        let (answered, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let mut own: Vec<Vec<Own>> = (0..BUYERS).map(|_| Vec::new()).collect();
        for (index, one) in self.live().enumerate() {
            own[self.buyer_of(one.sale.customer, index)].push(one);
        }
        let mut orders: Vec<Vec<OwnOrder>> = (0..BUYERS).map(|_| Vec::new()).collect();
        for (index, (id, seen)) in self.live_orders().enumerate() {
            let order = OwnOrder { id: id.clone(), is_held: seen["status"] == "held" };
            orders[self.buyer_of(customer_of(seen), index)].push(order);
        }
        let mut events: Vec<u64> = self.shown.events.keys().copied().collect();
        events.retain(|event| *event != self.hot);
        let mut clients: Vec<Work<'_>> = Vec::with_capacity(CLIENTS);
        for (index, (own, orders)) in own.into_iter().zip(orders).enumerate() {
            let (customer, random) =
                (self.customers[index % ALL_CUSTOMERS].clone(), Random::new(random.next()));
            let mut buyer = Buyer { crowd: self, customer, own, orders, events: &events, random };
            clients.push(Box::new(move |wire| buyer.act(wire)));
        }
        for index in 0..ORGANIZERS {
            let events = events.iter().skip(index).step_by(ORGANIZERS).copied().collect();
            let mut organizer = Organizer { crowd: self, events, random: Random::new(random.next()) };
            clients.push(Box::new(move |wire| organizer.act(wire)));
        }
        for _ in 0..REGISTRARS {
            let mut random = Random::new(random.next());
            clients.push(Box::new(move |wire| self.register(&mut random, wire)));
        }
        thread::scope(|scope| {
            for work in clients.into_iter().step_by(nth) {
                scope.spawn(|| run_client(address, &stop, &answered, work));
            }
            disturb();
            stop.store(true, Ordering::Relaxed);
        });
        answered.into_inner()
    }

    /// The place of one of a customer's buyers, each in turn.
    fn buyer_of(&self, customer: u64, turn: usize) -> usize {
        let customer = self.customers.iter().position(|other| other.id == customer);
        customer.expect("a customer of the crowd") + ALL_CUSTOMERS * (turn % (BUYERS / ALL_CUSTOMERS))
    }

    /// All orders that are not over. Those of which parts are cancelled are left as they are.
    fn live_orders(&self) -> impl Iterator<Item = (&String, &Value)> {
        let is_live = |seen: &Value| ["held", "confirmed"].contains(&text(seen, "status"));
        self.shown.orders.iter().filter(move |(_, seen)| is_live(seen))
    }

    /// All reservations that are confirmed or held, without the parts of orders.
    fn live(&self) -> impl Iterator<Item = Own> {
        let parts = self.shown.orders.values().flat_map(parts_of).map(|part| text(part, "id"));
        let parts: BTreeSet<&str> = parts.collect();
        let live = self.shown.reservations.iter().filter(|(_, seen)| seen["status"] != "cancelled");
        let live = live.filter(move |(id, _)| !parts.contains(&***id));
        live.map(|(id, seen)| {
            let sale = Sale {
                event: number(seen, "event"),
                customer: customer_of(seen),
                quantity: number(seen, "quantity"),
            };
            Own { id: id.clone(), sale, is_held: seen["status"] == "held" }
        })
    }

    /// Compares the state of a newly started server with the ledger, and resolves unknown outcomes.
    pub(crate) fn settle(&mut self, server: &Server) -> Counts {
        let anyone = server.client();
        let mut new = self.ledger.usernames();
        new.retain(|username| !self.accounts.contains_key(username));
        for username in new {
            let body = json!({ "username": username, "password": PASSWORD });
            let session = anyone.post("/api/v1/sessions", &body);
            if session.status != 401 {
                let token = text(&session.expect(201).json(), "token").to_owned();
                self.accounts.insert(username, token);
            }
        }
        self.shown = self.read_all(server);
        self.ledger.settle(&self.shown)
    }

    /// Lets customers with keys send again what was not answered before a restart, and checks that each of their
    /// requests has made one reservation. Comes after a comparison.
    pub(crate) fn retry(&mut self, server: &Server) -> Retried {
        let mut sum = Retried::default();
        for customer in &self.customers[..CUSTOMERS_WITH_KEYS] {
            let client = server.client().with_token(&customer.token);
            let Retried { replayed, new } =
                self.keyed.retry(&client, customer.id, &self.ledger, &mut self.shown);
            sum.replayed += replayed;
            sum.new += new;
        }
        sum
    }

    fn has_keys(&self, customer: &Customer) -> bool {
        self.customers[..CUSTOMERS_WITH_KEYS].iter().any(|other| other.id == customer.id)
    }

    /// Checks that a restarted server shows the same state as at the last comparison.
    pub(crate) fn expect_the_same(&self, server: &Server) {
        expect_the_same(&self.shown, &self.read_all(server));
    }

    /// Checks the same after a recovery of files that others were a copy of at the last comparison: parts of orders
    /// that had not heard of a cancel have ended at another time.
    pub(crate) fn expect_the_same_but_for_times(&self, server: &Server) {
        let [before, now] = [self.shown.clone(), self.read_all(server)].map(|mut shown| {
            let parts = shown.reservations.values_mut().filter(|seen| seen["order"].is_string());
            parts.for_each(|part| drop(part.as_object_mut().map(|part| part.remove("cancelled_at"))));
            shown
        });
        expect_the_same(&before, &now);
    }

    /// Reads everything that the API shows.
    pub(crate) fn read_all(&self, server: &Server) -> Shown {
        let client = server.client();
        let admin = client.with_token(&self.admin);
        self.wait_for_orders(&client);
        let mut shown = Shown { orders: self.orders(&client), ..Shown::default() };
        for event in all_items(&admin, "/api/v1/events", 100) {
            let id = number(&event, "id");
            assert_eq!(admin.get(&format!("/api/v1/events/{id}")).expect(200).json(), event);
            shown.events.insert(id, event);
        }
        for event in self.ledger.events() {
            if !shown.events.contains_key(&event) {
                let answer = admin.get(&format!("/api/v1/events/{event}"));
                // The ledger detects events that are lost.
                if answer.status != 404 {
                    answer.problem(410, "event-deleted");
                    shown.deleted.insert(event);
                }
            }
        }
        let events: Vec<u64> = shown.events.keys().chain(&shown.deleted).copied().collect();
        for customer in &self.customers {
            let client = client.with_token(&customer.token);
            let items = match ref_of(customer.id) {
                None => all_items(&client, "/api/v1/reservations", 100),
                Some(text) => {
                    let list = |event| format!("/api/v1/events/{event}/reservations?customer_ref={text}");
                    events.iter().flat_map(|event| all_items(&client, &list(event), 100)).collect()
                }
            };
            for mut item in items {
                item.as_object_mut().and_then(|item| item.remove("customer_name"));
                assert_eq!(customer_of(&item), customer.id, "{item}");
                let before = shown.reservations.insert(text(&item, "id").to_owned(), item);
                assert!(before.is_none(), "an id was given twice: {before:?}");
            }
        }
        for event in shown.events.keys() {
            let all = all_items(&admin, &format!("/api/v1/events/{event}/reservations"), 100);
            for item in &all {
                let mut item = item.clone();
                // Only those who manage the event are told the name.
                let name = item.as_object_mut().and_then(|item| item.remove("customer_name"));
                let id = customer_of(&item);
                let index = self.customers.iter().position(|customer| customer.id == id);
                let named = index.map(|index| match ref_of(id) {
                    None => json!(format!("customer-{index}")),
                    Some(_) => Value::Null,
                });
                assert_eq!(name, named, "{item}");
                assert_eq!(shown.reservations.get(text(&item, "id")), Some(&item), "the lists differ");
            }
            let listed = shown.reservations.values().filter(|seen| seen["event"] == *event);
            assert_eq!(all.len(), listed.count(), "the lists of event {event} differ");
        }
        for (username, token) in &self.accounts {
            let account = client.with_token(token).get("/api/v1/users/me").expect(200).json();
            assert_eq!(text(&account, "username"), username);
            shown.accounts.insert(username.clone(), account);
        }
        shown
    }

    /// Reads all orders. Those of refs are the organizer's.
    fn orders(&self, client: &Client) -> BTreeMap<String, Value> {
        let tokens: BTreeSet<&str> = self.customers.iter().map(|customer| &*customer.token).collect();
        let lists =
            tokens.into_iter().map(|token| all_items(&client.with_token(token), "/api/v1/orders", 100));
        let all = lists.flatten().map(|order| (text(&order, "id").to_owned(), order));
        all.collect()
    }

    /// Waits until no order is in doubt: all parts of each are as it says, and no tickets are held for another one.
    fn wait_for_orders(&self, client: &Client) {
        let until = Instant::now() + IN_DOUBT_MAX;
        let admin = client.with_token(&self.admin);
        let doubt = || {
            let in_doubt = |event: &Value| {
                let list = format!("/api/v1/events/{}/reservations?status=held", number(event, "id"));
                let held = all_items(&admin, &list, 100);
                number(event, "held") != held.iter().map(|item| number(item, "quantity")).sum::<u64>()
            };
            let order = self.orders(client).into_values().find(|order| !is_uniform(order));
            order.or_else(|| all_items(&admin, "/api/v1/events", 100).into_iter().find(in_doubt))
        };
        while let Some(doubt) = doubt() {
            assert!(Instant::now() < until, "still in doubt: {doubt}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn register(&self, random: &mut Random, wire: &mut Wire) -> Option<()> {
        thread::sleep(REGISTRATION_PAUSE);
        let username = format!("u{:x}", random.next());
        let body = json!({ "username": username, "password": PASSWORD });
        let operation = self.ledger.begin(Operation::Register { username });
        let answer = ask(wire, "POST", "/api/v1/users", None, &body)?;
        match answer.status {
            201 => self.ledger.done(operation, &number(&answer.json(), "id").to_string()),
            503 => self.ledger.not_done(operation),
            _ => panic!("register: {answer:?}"),
        }
        Some(())
    }
}

fn expect_the_same(before: &Shown, now: &Shown) {
    // Compared one by one, because a failure that prints both states is unreadable.
    for (id, seen) in &before.reservations {
        assert_eq!(now.reservations.get(id), Some(seen), "shown before the restart");
    }
    for (id, seen) in &before.orders {
        assert_eq!(now.orders.get(id), Some(seen), "shown before the restart");
    }
    for (id, seen) in &before.events {
        assert_eq!(now.events.get(id), Some(seen), "shown before the restart");
    }
    assert!(now == before, "there are more items or other accounts than before the restart");
}

/// Runs one client on one connection until that breaks or the client is stopped.
fn run_client(address: SocketAddr, stop: &AtomicBool, answered: &AtomicUsize, mut work: Work<'_>) {
    let Ok(mut wire) = Wire::open(address) else { return };
    while !stop.load(Ordering::Relaxed) && work(&mut wire).is_some() {
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends a request; returns `None` if there is no answer.
fn ask(wire: &mut Wire, method: &str, path: &str, token: Option<&str>, body: &Value) -> Option<Answer> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    wire.send(request(method, path, token, "", &body)).ok()?;
    wire.answer().ok()?
}

/// A reservation that its buyer may change.
struct Own {
    id: String,
    sale: Sale,
    is_held: bool,
}

/// An order that its buyer may confirm or cancel.
struct OwnOrder {
    id: String,
    is_held: bool,
}

struct Buyer<'a> {
    crowd: &'a Crowd,
    customer: Customer,
    /// The reservations that this buyer may cancel.
    own: Vec<Own>,
    orders: Vec<OwnOrder>,
    events: &'a [u64],
    random: Random,
}

impl Buyer<'_> {
    fn act(&mut self, wire: &mut Wire) -> Option<()> {
        match self.random.within(0, 99) {
            0..30 => self.buy(wire, false),
            30..40 => self.buy(wire, true),
            40..50 => self.order(wire),
            50..60 if !self.own.is_empty() => self.confirm(wire),
            60..70 if !self.own.is_empty() => self.cancel(wire),
            70..75 if !self.own.is_empty() => self.cancel_several(wire),
            75..80 if !self.own.is_empty() => self.reduce(wire),
            80..88 if !self.own.is_empty() && !self.crowd.has_keys(&self.customer) => self.transfer(wire),
            88..92 if !self.orders.is_empty() => self.confirm_order(wire),
            92..95 if !self.orders.is_empty() => self.cancel_order(wire),
            _ => self.read(wire),
        }
    }

    fn event(&mut self) -> u64 {
        match self.random.within(0, 2 * self.events.len() as u64) as usize {
            index if index < self.events.len() => self.events[index],
            _ => self.crowd.hot,
        }
    }

    fn ask(&self, wire: &mut Wire, method: &str, path: &str, body: &Value) -> Option<Answer> {
        ask(wire, method, path, Some(&self.customer.token), body)
    }

    fn buy(&mut self, wire: &mut Wire, is_held: bool) -> Option<()> {
        let sale =
            Sale { event: self.event(), customer: self.customer.id, quantity: self.random.within(1, 4) };
        let requested = if is_held { Operation::Hold(sale) } else { Operation::Reserve(sale) };
        let (operation, answer) = self.ask_once(wire, requested);
        let answer = answer?;
        match answer.status {
            201 => {
                let id = text(&answer.json(), "id").to_owned();
                self.crowd.ledger.done(operation, &id);
                self.own.push(Own { id, sale, is_held });
            }
            409 | 410 | 429 | 503 => self.crowd.ledger.not_done(operation),
            _ => panic!("reserve: {answer:?}"),
        }
        Some(())
    }

    /// Sends a request that takes a key, with one if the customer has keys. Returns its operation in the ledger.
    fn ask_once(&self, wire: &mut Wire, requested: Operation) -> (u64, Option<Answer>) {
        let Crowd { ledger, keyed, .. } = self.crowd;
        let (path, body) = parts(&requested);
        let operation = ledger.begin(requested.clone());
        let key = self.crowd.has_keys(&self.customer).then(|| keyed.begin(self.customer.id, requested));
        let header = key.map_or(String::new(), |key| format!("Idempotency-Key: {key}\r\n"));
        let request = request("POST", &path, Some(&self.customer.token), &header, &body);
        let answer = wire.send(request).and_then(|()| wire.answer()).ok().flatten();
        if let (Some(key), Some(answer)) = (key, &answer) {
            keyed.answered(key, answer);
        }
        (operation, answer)
    }

    /// Confirms a hold, or a part of it.
    fn confirm(&mut self, wire: &mut Wire) -> Option<()> {
        let Some(index) = self.own.iter().rposition(|one| one.is_held) else { return self.read(wire) };
        let (id, sale) = (self.own[index].id.clone(), self.own[index].sale);
        let quantity = if self.random.within(0, 1) == 0 { sale.quantity } else { 1 };
        let (operation, answer) =
            self.ask_once(wire, Operation::Confirm { reservation: id.clone(), quantity });
        let answer = answer?;
        match answer.status {
            200 => {
                self.crowd.ledger.done(operation, "");
                self.own[index].is_held = false;
                self.own[index].sale.quantity = quantity;
            }
            // The event was deleted.
            409 => {
                answer.problem(409, "hold-released");
                self.crowd.ledger.not_done(operation);
                self.own.swap_remove(index);
            }
            503 => self.crowd.ledger.not_done(operation),
            _ => panic!("confirm {id}: {answer:?}"),
        }
        Some(())
    }

    fn cancel(&mut self, wire: &mut Wire) -> Option<()> {
        let index = self.random.within(0, self.own.len() as u64 - 1) as usize;
        let one = self.own.swap_remove(index);
        let (id, list) = (&one.id, if one.is_held { "holds" } else { "reservations" });
        let operation = self.crowd.ledger.begin(Operation::Cancel { reservation: id.clone() });
        let answer = self.ask(wire, "DELETE", &format!("/api/v1/{list}/{id}"), &Value::Null)?;
        match answer.status {
            204 => self.crowd.ledger.done(operation, ""),
            503 => {
                self.crowd.ledger.not_done(operation);
                self.own.push(one);
            }
            _ => panic!("cancel {id}: {answer:?}"),
        }
        Some(())
    }

    fn cancel_several(&mut self, wire: &mut Wire) -> Option<()> {
        let ledger = &self.crowd.ledger;
        let several = self.own.split_off(self.own.len().saturating_sub(20));
        let begin = |one: &Own| ledger.begin(Operation::Cancel { reservation: one.id.clone() });
        let operations: Vec<u64> = several.iter().map(begin).collect();
        let ids: Vec<&str> = several.iter().map(|one| &*one.id).collect();
        let answer = self.ask(wire, "POST", "/api/v1/reservations/cancel", &json!({ "ids": ids }))?;
        if answer.status == 503 {
            operations.into_iter().for_each(|operation| ledger.not_done(operation));
            self.own.extend(several);
            return Some(());
        }
        let body = answer.expect(200).json();
        let results = body["results"].as_array().expect("one for each");
        assert_eq!(results.len(), several.len());
        for ((operation, one), result) in operations.into_iter().zip(several).zip(results) {
            assert_eq!(text(result, "id"), one.id);
            match number(result, "status") {
                204 => ledger.done(operation, ""),
                503 => {
                    ledger.not_done(operation);
                    self.own.push(one);
                }
                other => panic!("cancel {} with others: {other}", one.id),
            }
        }
        Some(())
    }

    /// Orders tickets of some events, or holds them.
    fn order(&mut self, wire: &mut Wire) -> Option<()> {
        let mut items = BTreeMap::new();
        for _ in 0..self.random.within(1, ITEMS) {
            items.insert(self.event(), self.random.within(1, 3));
        }
        let is_held = self.random.within(0, 1) == 0;
        let purchase = Purchase { customer: self.customer.id, items: items.into_iter().collect(), is_held };
        let (operation, answer) = self.ask_once(wire, Operation::Order(purchase.clone()));
        let answer = answer?;
        match answer.status {
            201 => {
                let made = answer.json();
                assert_eq!(Purchase::of(&made, is_held), purchase);
                let id = text(&made, "id").to_owned();
                self.crowd.ledger.done(operation, &id);
                self.orders.push(OwnOrder { id, is_held });
            }
            409 | 429 | 503 => self.crowd.ledger.not_done(operation),
            _ => panic!("order: {answer:?}"),
        }
        Some(())
    }

    fn confirm_order(&mut self, wire: &mut Wire) -> Option<()> {
        let Some(index) = self.orders.iter().rposition(|one| one.is_held) else { return self.read(wire) };
        let order = self.orders[index].id.clone();
        let (operation, answer) = self.ask_once(wire, Operation::ConfirmOrder { order });
        let answer = answer?;
        match answer.status {
            200 => {
                self.crowd.ledger.done(operation, "");
                self.orders[index].is_held = false;
            }
            // One of the events was deleted.
            409 => {
                self.crowd.ledger.not_done(operation);
                self.orders.swap_remove(index);
            }
            503 => self.crowd.ledger.not_done(operation),
            _ => panic!("confirm an order: {answer:?}"),
        }
        Some(())
    }

    fn cancel_order(&mut self, wire: &mut Wire) -> Option<()> {
        let one = self.orders.swap_remove(self.random.within(0, self.orders.len() as u64 - 1) as usize);
        let operation = self.crowd.ledger.begin(Operation::CancelOrder { order: one.id.clone() });
        let answer = self.ask(wire, "DELETE", &format!("/api/v1/orders/{}", one.id), &Value::Null)?;
        match answer.status {
            204 => self.crowd.ledger.done(operation, ""),
            503 => {
                self.crowd.ledger.not_done(operation);
                self.orders.push(one);
            }
            _ => panic!("cancel an order: {answer:?}"),
        }
        Some(())
    }

    fn reduce(&mut self, wire: &mut Wire) -> Option<()> {
        let index = self.random.within(0, self.own.len() as u64 - 1) as usize;
        let (id, sale) = (self.own[index].id.clone(), self.own[index].sale);
        let quantity = self.random.within(1, sale.quantity);
        let operation = self.crowd.ledger.begin(Operation::Reduce { reservation: id.clone(), quantity });
        let path = format!("/api/v1/reservations/{id}");
        let answer = self.ask(wire, "PATCH", &path, &json!({ "quantity": quantity }))?;
        match answer.status {
            200 => {
                self.crowd.ledger.done(operation, "");
                self.own[index].sale.quantity = quantity;
            }
            409 | 503 => self.crowd.ledger.not_done(operation),
            _ => panic!("reduce {id}: {answer:?}"),
        }
        Some(())
    }

    /// Transfers a reservation, or a part of it, to another customer without keys. Only the organizer transfers to refs.
    fn transfer(&mut self, wire: &mut Wire) -> Option<()> {
        let Some(index) = self.own.iter().rposition(|one| !one.is_held) else { return self.read(wire) };
        let (id, sale) = (self.own[index].id.clone(), self.own[index].sale);
        let last = if ref_of(sale.customer).is_some() { ALL_CUSTOMERS } else { CUSTOMERS } as u64 - 1;
        let receiver = self.random.within(CUSTOMERS_WITH_KEYS as u64, last) as usize;
        let to = self.crowd.customers[receiver].id;
        if to == sale.customer {
            return self.read(wire);
        }
        let quantity = self.random.within(1, sale.quantity);
        let is_whole = quantity == sale.quantity;
        let part = Sale { customer: to, quantity, ..sale };
        let operation = self.crowd.ledger.begin(match is_whole {
            true => Operation::Transfer { reservation: id.clone(), to },
            false => Operation::TransferPart { reservation: id.clone(), part },
        });
        let receiver = match ref_of(to) {
            Some(text) => json!({ "customer_ref": text }),
            None => json!({ "username": format!("customer-{receiver}") }),
        };
        let body = json!({ "to": receiver, "quantity": quantity });
        let answer = self.ask(wire, "POST", &format!("/api/v1/reservations/{id}/transfer"), &body)?;
        match (answer.status, is_whole) {
            (200, true) => {
                self.crowd.ledger.done(operation, "");
                // Its new customer's clients have it from the next round on.
                self.own.swap_remove(index);
            }
            (201, false) => {
                self.crowd.ledger.done(operation, text(&answer.json(), "id"));
                self.own[index].sale.quantity -= quantity;
            }
            (409 | 429 | 503, _) => self.crowd.ledger.not_done(operation),
            _ => panic!("transfer {id}: {answer:?}"),
        }
        Some(())
    }

    fn read(&mut self, wire: &mut Wire) -> Option<()> {
        let event = self.event();
        let answer = self.ask(wire, "GET", &format!("/api/v1/events/{event}"), &Value::Null)?;
        if answer.status == 200 {
            check_sums(&answer.json());
        } else {
            assert!([410, 503].contains(&answer.status), "{answer:?}");
        }
        Some(())
    }
}

struct Organizer<'a> {
    crowd: &'a Crowd,
    /// The events that only this organizer edits and deletes.
    events: Vec<u64>,
    random: Random,
}

impl Organizer<'_> {
    fn act(&mut self, wire: &mut Wire) -> Option<()> {
        // Events are created and deleted so that some 20 exist at a time.
        let creates = self.events.len() < 3 && self.random.within(0, 1) == 0;
        if creates || self.events.is_empty() {
            let quota = self.random.within(0, 200);
            let made = self.create(wire, quota)?;
            self.events.extend(made);
            return Some(());
        }
        let index = self.random.within(0, self.events.len() as u64 - 1) as usize;
        if self.random.within(0, 9) == 0 { self.delete(wire, index) } else { self.edit(wire, index) }
    }

    fn ask(&self, wire: &mut Wire, method: &str, path: &str, body: &Value) -> Option<Answer> {
        ask(wire, method, path, Some(&self.crowd.organizer), body)
    }

    /// Creates an event. Returns its id, or `None` inside if nothing was done.
    fn create(&self, wire: &mut Wire, quota: u64) -> Option<Option<u64>> {
        let ledger = &self.crowd.ledger;
        // Names are unique, so that the ledger can identify events by them.
        static NAMES: AtomicUsize = AtomicUsize::new(0);
        let name = format!("Event {}", NAMES.fetch_add(1, Ordering::Relaxed));
        let body = json!({ "name": name, "quota": quota });
        let operation = ledger.begin(Operation::Create { name, quota });
        let answer = self.ask(wire, "POST", "/api/v1/events", &body)?;
        match answer.status {
            201 => {
                let made = answer.json();
                check_sums(&made);
                let id = number(&made, "id");
                ledger.done(operation, &id.to_string());
                Some(Some(id))
            }
            503 => {
                ledger.not_done(operation);
                Some(None)
            }
            _ => panic!("create: {answer:?}"),
        }
    }

    fn edit(&mut self, wire: &mut Wire, index: usize) -> Option<()> {
        let ledger = &self.crowd.ledger;
        let (event, quota) = (self.events[index], self.random.within(0, 1000));
        let operation = ledger.begin(Operation::Edit { event, quota });
        let answer =
            self.ask(wire, "PATCH", &format!("/api/v1/events/{event}"), &json!({ "quota": quota }))?;
        match answer.status {
            200 => {
                check_sums(&answer.json());
                ledger.done(operation, "");
            }
            409 | 503 => ledger.not_done(operation),
            _ => panic!("edit {event}: {answer:?}"),
        }
        Some(())
    }

    fn delete(&mut self, wire: &mut Wire, index: usize) -> Option<()> {
        let ledger = &self.crowd.ledger;
        let event = self.events[index];
        let operation = ledger.begin(Operation::Delete { event });
        let force = if self.random.within(0, 1) == 0 { "?force=true" } else { "" };
        let answer = self.ask(wire, "DELETE", &format!("/api/v1/events/{event}{force}"), &Value::Null)?;
        match answer.status {
            204 => {
                self.events.swap_remove(index);
                ledger.done(operation, "");
            }
            409 | 503 => ledger.not_done(operation),
            _ => panic!("delete {event}: {answer:?}"),
        }
        Some(())
    }
}
