//! What is acknowledged is there, whatever ends the server: kills, restarts with other
//! shard counts, SIGTERM, and thousands who want the same hundred tickets.

mod support;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::{Answer, Client, Wire, request};
use support::random::Random;
use support::server::{Ended, Server, boxoffice, run, serve};
use support::{PASSWORD, Stage, all_items, create_event, number, reserve, text};
use tempfile::tempdir;

/// Of the demonstration: two on each of two shards.
const EVENTS: [u64; 4] = [1, 2, 3, 4];

const PING: &str = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn a_kill_loses_nothing_on_either_shard() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let sold: Vec<String> = EVENTS.iter().map(|&event| stage.reservation(event, event)).collect();
    stage.cust1.delete(&format!("/api/v1/reservations/{}", sold[3])).expect(204);
    let before: Vec<Value> = EVENTS.iter().map(|&event| stage.seen(event)).collect();
    let list = stage.cust1.get("/api/v1/reservations").expect(200).json();
    let token = stage.cust1.token.clone().unwrap();
    stage.server.kill();

    let server = Server::start(data.path(), &["--shards", "2"]);
    let cust1 = server.client().with_token(&token);
    assert_eq!(cust1.get("/api/v1/reservations").expect(200).json(), list);
    for (event, before) in EVENTS.iter().zip(&before) {
        assert_eq!(cust1.get(&format!("/api/v1/events/{event}")).expect(200).json(), *before);
    }
    let statuses: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|item| text(item, "status")).collect();
    assert_eq!(statuses, ["confirmed", "confirmed", "confirmed", "cancelled"]);
    assert_eq!(before[2]["reserved"], 3);
    assert_eq!(before[3]["reserved"], 0);
}

/// What one buyer thread did, as it saw it. Knows nothing of what the server keeps.
#[derive(Default)]
struct Ledger {
    /// By id: acknowledged, and not known to be cancelled.
    live: HashMap<String, Sale>,
    /// Cancels without an answer: these are live, or cancelled.
    in_doubt: HashMap<String, Sale>,
    cancelled: HashMap<String, Sale>,
    /// Reservations without an answer: made, or not.
    unknown: Vec<Sale>,
    /// Answers other than these, which there may not be.
    strange: Vec<String>,
    refused: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Sale {
    event: u64,
    customer: u64,
    quantity: u64,
}

impl Ledger {
    fn absorb(&mut self, other: Ledger) {
        self.live.extend(other.live);
        self.in_doubt.extend(other.in_doubt);
        self.cancelled.extend(other.cancelled);
        self.unknown.extend(other.unknown);
        self.strange.extend(other.strange);
        self.refused += other.refused;
    }

    /// Compares with what the server has now that nothing is under way any more, and
    /// settles what was in doubt by it. Returns how many that were.
    fn settle(&mut self, admin: &Client, quotas: &HashMap<u64, u64>) -> usize {
        assert_eq!(self.strange, Vec::<String>::new());
        let mut kept = HashMap::new();
        for (&event, &quota) in quotas {
            let mut reserved = 0;
            for item in all_items(admin, &format!("/api/v1/events/{event}/reservations"), 100) {
                let quantity = number(&item, "quantity");
                let sale = Sale { event, customer: number(&item, "customer"), quantity };
                let is_live = item["status"] == "confirmed";
                reserved += if is_live { quantity } else { 0 };
                let before = kept.insert(text(&item, "id").to_owned(), (sale, is_live));
                assert!(before.is_none(), "an id was given twice: {item}");
            }
            let seen = admin.get(&format!("/api/v1/events/{event}")).expect(200).json();
            support::check_sums(&seen);
            assert_eq!(number(&seen, "reserved"), reserved, "the list and the sum differ: {seen}");
            assert_eq!(number(&seen, "quota"), quota);

            // Independent of the list: between what must be live and what may be.
            let sum = |sales: &mut dyn Iterator<Item = &Sale>| -> u64 {
                sales.filter(|sale| sale.event == event).map(|sale| sale.quantity).sum()
            };
            let least = sum(&mut self.live.values());
            let most = least + sum(&mut self.in_doubt.values()) + sum(&mut self.unknown.iter());
            assert!((least..=most).contains(&reserved), "event {event}: {reserved}, not {least} to {most}");
            assert!(reserved <= quota, "event {event} is oversold: {reserved} of {quota}");
        }

        for (id, sale) in &self.live {
            assert_eq!(kept.get(id), Some(&(*sale, true)), "acknowledged, but not kept: {id}");
        }
        for (id, sale) in &self.cancelled {
            assert_eq!(kept.get(id), Some(&(*sale, false)), "its cancel was acknowledged: {id}");
        }
        let settled = self.in_doubt.len() + self.unknown.len();
        for (id, sale) in std::mem::take(&mut self.in_doubt) {
            let (same, is_live) = kept[&id];
            assert_eq!(same, sale, "{id}");
            if is_live { &mut self.live } else { &mut self.cancelled }.insert(id, sale);
        }
        // What nobody has heard of has to be one of those that got no answer, each once.
        let mut unknown: HashMap<Sale, usize> = HashMap::new();
        for sale in self.unknown.drain(..) {
            *unknown.entry(sale).or_default() += 1;
        }
        for (id, (sale, is_live)) in kept {
            if !self.live.contains_key(&id) && !self.cancelled.contains_key(&id) {
                let left = unknown.get_mut(&sale).filter(|left| **left > 0);
                *left.unwrap_or_else(|| panic!("nobody asked for {id}: {sale:?}")) -= 1;
                assert!(is_live, "nobody cancelled {id}");
                self.live.insert(id, sale);
            }
        }
        settled
    }
}

/// A customer who buys and cancels at random on one connection, until it breaks or `stop` is set.
struct Buyer<'a> {
    address: SocketAddr,
    token: &'a str,
    customer: u64,
    /// Bought in earlier rounds, and this buyer's to cancel.
    own: Vec<(String, Sale)>,
    random: Random,
    stop: &'a AtomicBool,
    answered: &'a AtomicUsize,
}

impl Buyer<'_> {
    fn run(mut self) -> Ledger {
        let mut ledger = Ledger::default();
        let Ok(mut wire) = Wire::open(self.address) else { return ledger };
        while !self.stop.load(Ordering::Relaxed) {
            let cancels = self.random.within(0, 99) < 45 && !self.own.is_empty();
            let goes_on =
                if cancels { self.cancel(&mut wire, &mut ledger) } else { self.buy(&mut wire, &mut ledger) };
            if !goes_on {
                break;
            }
        }
        ledger
    }

    fn ask(&self, wire: &mut Wire, method: &str, path: &str, body: &str) -> Option<Answer> {
        wire.send(request(method, path, Some(self.token), "", body)).ok()?;
        let answer = wire.answer().ok()??;
        self.answered.fetch_add(1, Ordering::Relaxed);
        Some(answer)
    }

    fn buy(&mut self, wire: &mut Wire, ledger: &mut Ledger) -> bool {
        let event = EVENTS[self.random.within(0, 3) as usize];
        let sale = Sale { event, customer: self.customer, quantity: self.random.within(1, 4) };
        let path = format!("/api/v1/events/{event}/reservations");
        let body = json!({ "quantity": sale.quantity }).to_string();
        let Some(answer) = self.ask(wire, "POST", &path, &body) else {
            ledger.unknown.push(sale);
            return false;
        };
        match answer.status {
            201 => {
                let id = text(&answer.json(), "id").to_owned();
                ledger.live.insert(id.clone(), sale);
                self.own.push((id, sale));
            }
            // Nothing was done.
            409 | 503 => ledger.refused += 1,
            other => ledger.strange.push(format!("buy: {other} {}", answer.text())),
        }
        !answer.closes()
    }

    fn cancel(&mut self, wire: &mut Wire, ledger: &mut Ledger) -> bool {
        let index = self.random.within(0, self.own.len() as u64 - 1) as usize;
        let (id, sale) = self.own.swap_remove(index);
        let answer = self.ask(wire, "DELETE", &format!("/api/v1/reservations/{id}"), "");
        let status = answer.as_ref().map(|answer| answer.status);
        if status == Some(503) {
            ledger.refused += 1;
            self.own.push((id, sale));
        } else {
            ledger.live.remove(&id);
            let list = if status == Some(204) { &mut ledger.cancelled } else { &mut ledger.in_doubt };
            list.insert(id, sale);
            if status.is_some_and(|status| status != 204) {
                ledger.strange.push(format!("cancel: {answer:?}"));
            }
        }
        answer.is_some_and(|answer| !answer.closes())
    }
}

/// Accounts that outlive their servers.
struct Crowd {
    /// Token and id of each customer.
    customers: Vec<(String, u64)>,
    admin: String,
    quotas: HashMap<u64, u64>,
}

const BUYERS: usize = 16;

/// On a machine that is too slow for what was asked of it.
const RUSH_MAX: Duration = Duration::from_secs(2);

impl Crowd {
    fn of(stage: &Stage, quota: u64) -> Crowd {
        let token = |client: &Client| client.token.clone().expect("logged in");
        let customers = [&stage.cust1, &stage.cust2].map(|client| {
            let me = client.get("/api/v1/users/me").expect(200).json();
            (token(client), number(&me, "id"))
        });
        for (event, organizer) in EVENTS.iter().zip([&stage.org1, &stage.org1, &stage.org2, &stage.org2]) {
            organizer.patch(&format!("/api/v1/events/{event}"), &json!({ "quota": quota })).expect(200);
        }
        Crowd {
            customers: customers.to_vec(),
            admin: token(&stage.admin),
            quotas: EVENTS.iter().map(|&event| (event, quota)).collect(),
        }
    }

    /// Lets everybody buy and cancel, and calls `disturb` after some thousand answers; adds
    /// what they did to the ledger.
    fn rush(&self, address: SocketAddr, random: &mut Random, ledger: &mut Ledger, disturb: impl FnOnce()) {
        let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
        let enough = random.within(50, 1500) as usize;
        let mut owned: Vec<Vec<(String, Sale)>> = vec![Vec::new(); BUYERS];
        // In an order that the seed repeats.
        let mut live: Vec<_> = ledger.live.iter().map(|(id, sale)| (id.clone(), *sale)).collect();
        live.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (index, (id, sale)) in live.into_iter().enumerate() {
            let buyers = (0..BUYERS).filter(|buyer| self.customers[buyer % 2].1 == sale.customer);
            let buyers: Vec<usize> = buyers.collect();
            owned[buyers[index % buyers.len()]].push((id, sale));
        }
        let done: Vec<Ledger> = thread::scope(|scope| {
            let threads: Vec<_> = owned
                .into_iter()
                .enumerate()
                .map(|(index, own)| {
                    let (token, customer) = &self.customers[index % 2];
                    let random = Random::new(random.next());
                    let buyer = Buyer {
                        address,
                        token,
                        customer: *customer,
                        own,
                        random,
                        stop: &stop,
                        answered: &answered,
                    };
                    scope.spawn(move || buyer.run())
                })
                .collect();
            let start = Instant::now();
            while answered.load(Ordering::Relaxed) < enough && start.elapsed() < RUSH_MAX {
                thread::sleep(Duration::from_millis(1));
            }
            disturb();
            stop.store(true, Ordering::Relaxed);
            threads.into_iter().map(|thread| thread.join().expect("a buyer does not panic")).collect()
        });
        for part in done {
            // A buyer cancels what was bought in earlier rounds, too.
            for id in part.cancelled.keys().chain(part.in_doubt.keys()) {
                ledger.live.remove(id);
            }
            ledger.absorb(part);
        }
    }
}

#[test]
fn twenty_kills_under_load_lose_nothing() {
    let mut random = Random::seeded();
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let crowd = Crowd::of(&stage, 300);
    let mut server = stage.server;
    let mut ledger = Ledger::default();
    let mut settled = 0;
    for round in 1..=20 {
        let shards = random.within(1, 4);
        let address = server.address;
        crowd.rush(address, &mut random, &mut ledger, || server.kill());
        println!(
            "round {round}: {} live, {} cancelled, {} refused, {} + {} in doubt, then {shards} shards",
            ledger.live.len(),
            ledger.cancelled.len(),
            ledger.refused,
            ledger.unknown.len(),
            ledger.in_doubt.len()
        );
        server = Server::start(data.path(), &["--shards", &shards.to_string()]);
        settled += ledger.settle(&server.client().with_token(&crowd.admin), &crowd.quotas);
    }
    assert!(settled > 0, "no kill met a request under way");
    assert!(ledger.live.len() + ledger.cancelled.len() > 500, "there was no load");
}

#[test]
fn sigterm_under_load_answers_all_that_it_does() {
    let mut random = Random::seeded();
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let crowd = Crowd::of(&stage, 1_000_000);
    let mut server = stage.server;
    let mut ledger = Ledger::default();
    for _ in 0..3 {
        let address = server.address;
        crowd.rush(address, &mut random, &mut ledger, || {
            let (status, log) = server.terminate();
            assert_eq!(status.code(), Some(0), "{log}");
        });
        // Whoever got no answer was not served either: the server has to have nothing of theirs.
        let unanswered = (ledger.unknown.len(), ledger.in_doubt.len());
        ledger.unknown.clear();
        for (id, sale) in std::mem::take(&mut ledger.in_doubt) {
            ledger.live.insert(id, sale);
        }
        server = Server::start(data.path(), &["--shards", "2"]);
        ledger.settle(&server.client().with_token(&crowd.admin), &crowd.quotas);
        println!("{} live, {unanswered:?} came too late", ledger.live.len());
    }
    assert!(ledger.live.len() + ledger.cancelled.len() > 100, "there was no load");
}

#[test]
fn a_thousand_racing_buyers_get_a_hundred_tickets() {
    const CONNECTIONS: usize = 100;
    const REQUESTS: usize = 10;
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(100);
    let path = format!("/api/v1/events/{event}/reservations");
    let barrier = Barrier::new(CONNECTIONS);
    let answers: Vec<Answer> = thread::scope(|scope| {
        let buy = |index: usize| {
            let client = if index.is_multiple_of(2) { &stage.cust1 } else { &stage.cust2 };
            let mut wire = stage.server.wire();
            let bytes = request("POST", &path, client.token.as_deref(), "", "{\"quantity\":1}");
            barrier.wait();
            // Half of them do not wait for one answer before they ask again.
            if index < CONNECTIONS / 2 {
                wire.send(bytes.repeat(REQUESTS)).expect("the server reads");
                (0..REQUESTS).map(|_| wire.next()).collect::<Vec<_>>()
            } else {
                (0..REQUESTS).map(|_| wire.ask(&bytes)).collect()
            }
        };
        let threads: Vec<_> = (0..CONNECTIONS).map(|index| scope.spawn(move || buy(index))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a buyer does not panic")).collect()
    });
    let mut sold = HashSet::new();
    let mut refused = 0;
    for answer in answers {
        if answer.status == 201 {
            let body = answer.json();
            assert!(sold.insert(text(&body, "id").to_owned()), "sold twice: {body}");
        } else {
            assert_eq!(answer.problem(409, "sold-out")["remaining"], 0);
            refused += 1;
        }
    }
    assert_eq!((sold.len(), refused), (100, 900));
    let seen = stage.seen(event);
    assert_eq!((number(&seen, "reserved"), number(&seen, "remaining")), (100, 0));
    stage.server.kill();
    let stage = Stage::open(data.path(), 1);
    let kept = all_items(&stage.org1, &path, 100);
    let kept: HashSet<String> = kept.iter().map(|item| text(item, "id").to_owned()).collect();
    assert_eq!(kept, sold);
}

/// A restart takes the port of the one that was killed, whatever its connections are at.
#[test]
fn a_restart_binds_at_once() {
    let data = tempdir().unwrap();
    let mut server = Server::start(data.path(), &["--shards", "2"]);
    let address = server.address;
    for _ in 0..3 {
        let mut wires: Vec<Wire> = (0..64).map(|_| server.wire()).collect();
        for (index, wire) in wires.iter_mut().enumerate() {
            wire.ask(PING).expect(200);
            // Some with a request under way, some with half of one.
            match index % 3 {
                0 => wire.send(PING.repeat(20)).unwrap(),
                1 => wire.send(&PING[..10]).unwrap(),
                _ => {}
            }
        }
        server.kill();
        server = Server::start_at(data.path(), address, &["--shards", "2"]);
        assert_eq!(server.address, address);
        server.wire().ask(PING).expect(200);
        drop(wires);
    }
}

#[test]
fn a_second_server_is_refused() {
    let (data, other) = (tempdir().unwrap(), tempdir().unwrap());
    let server = Server::start(data.path(), &["--shards", "2"]);
    let said = refusal(data.path(), None);
    assert!(said.contains(data.path().to_str().unwrap()), "{said}");
    assert!(said.contains("in use by another boxoffice process") && said.contains("--data"), "{said}");

    // Whether it is a server like this one that listens there, or anything else.
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [server.address, stranger.local_addr().unwrap()] {
        let mut command = boxoffice();
        command.args(["serve", "--listen", &address.to_string(), "--data"]).arg(other.path());
        let Ended { code, stderr, .. } = run(command, "");
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains(&format!("{address} is taken")) && stderr.contains("--listen"), "{stderr}");
    }
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0, "it touched the directory first");
    server.wire().ask(PING).expect(200);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

/// Runs a server that has to refuse to start. Returns what it says.
#[track_caller]
fn refusal(data: &Path, secret: Option<&str>) -> String {
    let mut command = serve(data);
    command.envs(secret.map(|secret| ("BOXOFFICE_TOKEN_SECRET", secret)));
    let Ended { code, stdout, stderr } = run(command, "");
    assert_eq!((code, &*stdout), (Some(1), ""), "{stderr}");
    stderr
}

#[test]
fn tokens_outlive_the_server() {
    let folder = tempdir().unwrap();
    let data = &folder.path().join("data");
    let secret = data.join("token-secret");
    let server = Server::start(data, &["--shards", "1"]);
    let token = server.client().sign_up("ada", "customer").token.unwrap();
    let status = |server: &Server| server.client().with_token(&token).get("/api/v1/users/me").status;
    assert_eq!(status(&server), 200);
    assert_eq!((mode(data), mode(&secret)), (0o700, 0o600));
    server.kill();
    let kept = fs::read(&secret).unwrap();
    let server = Server::start(data, &["--shards", "2"]);
    assert_eq!(status(&server), 200);
    assert_eq!(fs::read(&secret).unwrap(), kept);
    assert!(server.terminate().0.success());

    for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
        let said = refusal(data, None);
        assert!(said.contains(&format!("can be read by others (mode {mode:o}); run: chmod 600")), "{said}");
        assert!(said.contains(secret.to_str().unwrap()), "{said}");
    }
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&secret, "short").unwrap();
    let said = refusal(data, None);
    assert!(said.contains("has 5 bytes") && said.contains(secret.to_str().unwrap()), "{said}");
    // White space around it does not count.
    for text in ["", "\n", &"x".repeat(31), &format!("{}\n\n", "x".repeat(31))] {
        fs::write(&secret, text).unwrap();
        let said = refusal(data, None);
        assert!(said.contains("needs at least 32"), "{text:?}: {said}");
    }
    let said = refusal(data, Some(&"x".repeat(31)));
    assert!(said.contains("BOXOFFICE_TOKEN_SECRET has 31 bytes"), "{said}");
    let said = refusal(data, Some("short"));
    assert!(said.contains("BOXOFFICE_TOKEN_SECRET has 5 bytes") && said.contains("at least 32"), "{said}");

    // The variable has precedence, and another secret ends every token.
    let mut command = serve(data);
    command.env("BOXOFFICE_TOKEN_SECRET", "x".repeat(32));
    let server = Server::spawn(command);
    assert_eq!(status(&server), 401);
    server.client().log_in("ada", PASSWORD);
    server.kill();
    fs::write(&secret, &kept).unwrap();
    assert_eq!(status(&Server::start(data, &[])), 200);
}

#[test]
fn memory_forgets() {
    let folder = tempdir().unwrap();
    let data = &folder.path().join("data");
    let arguments = ["--storage", "memory", "--shards", "2"];
    let server = Server::start(data, &arguments);
    let organizer = server.client().sign_up("grace", "organizer");
    let customer = server.client().sign_up("ada", "customer");
    let event = create_event(&organizer, 5);
    reserve(&customer, event, 2);
    let seen = customer.get(&format!("/api/v1/events/{event}")).expect(200).json();
    assert_eq!(number(&seen, "reserved"), 2);
    assert!(server.terminate().0.success());
    assert!(!data.exists());

    let server = Server::start(data, &arguments);
    let customer = server.client().with_token(&customer.token.unwrap());
    customer.get("/api/v1/users/me").problem(401, "unauthorized");
    customer.get(&format!("/api/v1/events/{event}")).expect(404);
    server.client().sign_up("ada", "customer");
}

/// With more cores than CPUs the runtime once slept on tasks that could run, and a start hung.
#[test]
fn a_server_starts_with_many_more_shards_than_cpus() {
    for _ in 0..8 {
        let server = Server::start(Path::new("."), &["--storage", "memory", "--shards", "16"]);
        server.wire().ask(PING).expect(200);
        let (status, log) = server.terminate();
        assert!(status.success(), "{log}");
    }
}
