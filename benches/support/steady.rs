//! Sales at a steady rate beside something else, and how long each took.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::Wire;
use crate::support::server::Server;

/// Connections that sell, and the interval of each: together 1,000 sales a second.
const SELLERS: u64 = 4;
const INTERVAL: Duration = Duration::from_millis(4);

/// A sale: when it was due, and how long it took from then.
pub(crate) struct Sale {
    pub(crate) due: Instant,
    took: Duration,
}

/// Sends a request at the steady rate, from `begin` on while `goes_on` says so.
pub(crate) fn sell(
    server: &Server,
    request: &str,
    begin: Instant,
    goes_on: impl Fn(Instant) -> bool + Sync,
) -> Vec<Sale> {
    thread::scope(|scope| {
        let sellers = (0..SELLERS).map(|seller| {
            let (wire, goes_on) = (server.wire(), &goes_on);
            let begin = begin + INTERVAL * seller as u32 / SELLERS as u32;
            scope.spawn(move || sell_steadily(wire, request, begin, goes_on))
        });
        let sellers: Vec<_> = sellers.collect();
        sellers.into_iter().flat_map(|seller| seller.join().expect("no panic")).collect()
    })
}

fn sell_steadily(
    mut wire: Wire,
    request: &str,
    begin: Instant,
    goes_on: impl Fn(Instant) -> bool,
) -> Vec<Sale> {
    let mut sales = Vec::new();
    let mut due = begin;
    while goes_on(due) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        wire.ask(request).expect(201);
        sales.push(Sale { due, took: due.elapsed() });
        due += INTERVAL;
    }
    sales
}

pub(crate) fn report_header() {
    println!("{:>8} {:>8} {:>10} {:>10} {:>10}", "", "sales", "p50 ms", "p99 ms", "max ms");
}

pub(crate) fn report<'a>(name: &str, sales: impl Iterator<Item = &'a Sale>) {
    let mut took: Vec<f64> = sales.map(|sale| sale.took.as_secs_f64() * 1e3).collect();
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    println!("{name:>8} {:>8} {:>10.2} {:>10.2} {:>10.2}", took.len(), at(0.5), at(0.99), at(1.0));
}
