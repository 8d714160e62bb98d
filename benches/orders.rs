//! What an order of 1, 2, 4 and 20 events costs beside a single reservation: how long each takes alone and among 80
//! connections, how many a second there are, and the commits and the CPU of each. At last the most orders a second of
//! one owner, whose slot coordinates all of them. The client runs beside the server.
//!
//! `cargo bench --bench orders`. It takes two minutes.

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::{Client, Wire, request};
use support::create_event;
use support::server::Server;
use tempfile::tempdir_in;

/// Two shards, so that the events of most orders have several owners; and no limits of accounts.
const ARGUMENTS: [&str; 6] =
    ["--shards", "2", "--max-changes-per-account", "0", "--max-reservations-per-account", "0"];

const CONNECTIONS: usize = 80;
const EVENTS: usize = 80;
/// Each has a slot of its own, as a rule.
const CUSTOMERS: usize = 80;

const ITEMS: [usize; 4] = [1, 2, 4, 20];

/// How long each row is measured, once alone and once among all connections.
const ALONE: Duration = Duration::from_secs(2);
const TOGETHER: Duration = Duration::from_secs(3);

/// What is measured.
#[derive(Clone, Copy)]
enum Sale {
    Reservation,
    Order { items: usize },
}

impl Sale {
    fn name(self) -> String {
        match self {
            Sale::Reservation => "reservation".to_owned(),
            Sale::Order { items } => format!("order of {items}"),
        }
    }

    fn tickets(self) -> usize {
        match self {
            Sale::Reservation => 1,
            Sale::Order { items } => items,
        }
    }

    /// The request of one connection. The events of a connection are others than those of the next one.
    fn request(self, events: &[u64], connection: usize, token: &str) -> String {
        let event = |place: usize| events[(connection * self.tickets() + place) % events.len()];
        let (path, body) = match self {
            Sale::Reservation => {
                (format!("/api/v1/events/{}/reservations", event(0)), json!({ "quantity": 1 }))
            }
            Sale::Order { items } => {
                let item = |place| json!({ "event": event(place), "quantity": 1 });
                let items: Vec<Value> = (0..items).map(item).collect();
                ("/api/v1/orders".to_owned(), json!({ "items": items }))
            }
        };
        request("POST", &path, Some(token), "", &body.to_string())
    }
}

fn main() {
    // Not in /tmp, which may be in memory.
    let folder = tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    // No account limit, which the customers would reach at once.
    let server = Server::start(&folder.path().join("data"), &ARGUMENTS);
    let anyone = server.client();
    let organizer = anyone.sign_up("grace", "organizer");
    let events: Vec<u64> = (0..EVENTS).map(|_| create_event(&organizer, 10_000_000)).collect();
    let sign_up = |index| anyone.sign_up(&format!("customer-{index}"), "customer").token.expect("logged in");
    let tokens: Vec<String> = (0..CUSTOMERS).map(sign_up).collect();

    println!(
        "{:>22} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9}",
        "", "1: p50", "p99 ms", "80: p50", "p99 ms", "a second", "commits", "records", "us/ticket"
    );
    let orders = ITEMS.map(|items| Sale::Order { items });
    for sale in [Sale::Reservation].into_iter().chain(orders) {
        measure(&server, &sale.name(), sale, &events, &tokens);
    }
    for sale in orders {
        measure(&server, &format!("{}, one owner", sale.name()), sale, &events, &tokens[..1]);
    }
}

/// Prints a row. Commits and records are of one sale made alone, and CPU is of one ticket among all connections.
fn measure(server: &Server, name: &str, sale: Sale, events: &[u64], tokens: &[String]) {
    let client = server.client();
    let requests = (0..CONNECTIONS).map(|at| sale.request(events, at, &tokens[at % tokens.len()]));
    let requests: Vec<String> = requests.collect();
    let counts = || ["boxoffice_commits_total", "boxoffice_records_total"].map(|name| counter(&client, name));
    wait_for_records(&client);
    let before = counts();
    let alone = sell(server.wire(), &requests[0], ALONE);
    wait_for_records(&client);
    let after = counts();
    let [commits, records] = [0, 1].map(|at| (after[at] - before[at]) / alone.len() as f64);

    let (start, cpu) = (Instant::now(), cpu_of(server));
    let together = sell_together(server, &requests);
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_of(server) - cpu);
    let sold = together.len();
    let [(p50, p99), (p50_together, p99_together)] = [alone, together].map(percentiles);
    println!(
        "{name:>22} {p50:>8.2} {p99:>8.2} {p50_together:>8.2} {p99_together:>8.2} {:>8.0} {commits:>9.2} \
         {records:>9.2} {:>9.1}",
        sold as f64 / seconds,
        cpu.as_secs_f64() * 1e6 / (sold * sale.tickets()) as f64
    );
}

/// Sends a request again and again. Returns how long each took.
fn sell(mut wire: Wire, request: &str, time: Duration) -> Vec<Duration> {
    let begin = Instant::now();
    let mut took = Vec::new();
    while begin.elapsed() < time {
        let sent = Instant::now();
        wire.ask(request).expect(201);
        took.push(sent.elapsed());
    }
    took
}

fn sell_together(server: &Server, requests: &[String]) -> Vec<Duration> {
    thread::scope(|scope| {
        let sellers = requests.iter().map(|request| {
            let wire = server.wire();
            scope.spawn(move || sell(wire, request, TOGETHER))
        });
        let sellers: Vec<_> = sellers.collect();
        sellers.into_iter().flat_map(|seller| seller.join().expect("no panic")).collect()
    })
}

/// The median and the 99th percentile, in ms.
fn percentiles(mut took: Vec<Duration>) -> (f64, f64) {
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    (at(0.5), at(0.99))
}

/// A counter in `/metrics`, summed over its labels.
fn counter(client: &Client, name: &str) -> f64 {
    let page = client.get("/metrics").expect(200).text().to_owned();
    let lines = page.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Waits for what orders put on record later.
fn wait_for_records(client: &Client) {
    let records = || counter(client, "boxoffice_records_total");
    let mut before = records();
    loop {
        thread::sleep(Duration::from_secs(2));
        let now = records();
        if now == before {
            return;
        }
        before = now;
    }
}

/// The CPU time that the server has used.
fn cpu_of(server: &Server) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.id())).expect("it runs");
    // After the name, which ends with the last bracket, the 12th and 13th are ticks in user and in kernel mode.
    let fields = stat.rsplit(')').next().expect("a name").split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    // All Linux systems have 100 ticks a second here.
    Duration::from_millis(ticks * 10)
}
