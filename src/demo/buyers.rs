//! The buyers: threads that reserve ticket after ticket, each over a connection
//! of its own, and remember every reservation that they were promised.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use shards::ids::{EventId, ReservationId};

use super::DemoError;
use super::api::{Api, Reserved};
use super::interrupt::{Interrupt, POLL};
use super::report::{self, Progress};
use super::server::Server;

/// What all buyers together were told.
#[derive(Debug, Default, Clone)]
pub(super) struct Sale {
    /// Answered with 201. Sorted.
    pub acknowledged: Vec<ReservationId>,
    /// Of the acknowledged ones. Sorted.
    pub latencies_us: Vec<u32>,
    /// Requests without an answer: nobody can know yet what became of them.
    pub unanswered: u64,
    pub sold_out: u64,
    pub overloaded: u64,
    pub took: Duration,
}

impl Sale {
    fn add(&mut self, other: Sale) {
        self.acknowledged.extend(other.acknowledged);
        self.latencies_us.extend(other.latencies_us);
        self.unanswered += other.unanswered;
        self.sold_out += other.sold_out;
        self.overloaded += other.overloaded;
    }
}

/// Who buys.
pub(super) struct Crowd<'a> {
    pub buyer_count: usize,
    /// The customers', dealt out to the buyers in turn.
    pub tokens: &'a [String],
    pub interrupt: &'a Interrupt,
}

/// What the buyers and those who watch them tell each other.
#[derive(Default)]
struct Market {
    sold: AtomicU64,
    /// The buyers shall stop after the answer that they wait for.
    closed: AtomicBool,
    /// Set just before the server is: a connection that breaks later is no fault.
    killed: AtomicBool,
    failed: AtomicBool,
}

impl Crowd<'_> {
    /// Kills the server while the buyers buy. Returns when that was, too.
    pub(super) fn buy_until_killed(
        &self,
        mut server: Server,
        events: &[EventId],
        after: Duration,
    ) -> Result<(Sale, Instant), DemoError> {
        let market = Market::default();
        thread::scope(|scope| {
            let start = Instant::now();
            let buyers = self.enter(scope, server.address, events, &market)?;
            let progress = Progress::new(after.as_millis() as u64);
            while start.elapsed() < after && !self.is_over(&market) {
                thread::sleep(POLL.min(after.saturating_sub(start.elapsed())));
                progress.show(
                    start.elapsed().as_millis() as u64,
                    report::sold(market.sold.load(Ordering::Relaxed)),
                );
            }
            drop(progress);
            let took = start.elapsed();
            if market.failed.load(Ordering::SeqCst) {
                // Not killed before all have ended: what comes of that would hide the cause.
                market.closed.store(true, Ordering::Relaxed);
                let sale = join(buyers, took);
                let ended = server.has_ended();
                return if ended { Err(server.ended()) } else { sale.map(|sale| (sale, Instant::now())) };
            }
            market.killed.store(true, Ordering::SeqCst);
            let killed_at = Instant::now();
            server.kill()?;
            let sale = join(buyers, took)?;
            self.interrupt.check()?;
            Ok((sale, killed_at))
        })
    }

    /// Each buyer goes on until told that there are no more tickets.
    pub(super) fn buy_until_sold_out(&self, address: SocketAddr, event: EventId) -> Result<Sale, DemoError> {
        let market = Market::default();
        thread::scope(|scope| {
            let start = Instant::now();
            let buyers = self.enter(scope, address, &[event], &market)?;
            while buyers.iter().any(|buyer| !buyer.is_finished()) {
                if self.is_over(&market) {
                    market.closed.store(true, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(1));
            }
            let sale = join(buyers, start.elapsed())?;
            self.interrupt.check()?;
            Ok(sale)
        })
    }

    fn enter<'scope, 'env>(
        &'env self,
        scope: &'scope thread::Scope<'scope, 'env>,
        address: SocketAddr,
        events: &[EventId],
        market: &'env Market,
    ) -> Result<Vec<ScopedJoinHandle<'scope, Result<Sale, DemoError>>>, DemoError> {
        (0..self.buyer_count)
            .map(|index| {
                let token = &self.tokens[index % self.tokens.len()];
                let (head, tail) = events.split_at(index % events.len());
                let events = [tail, head].concat();
                let buy = move || {
                    let sale = buy(address, token, events, market);
                    market.failed.fetch_or(sale.is_err(), Ordering::SeqCst);
                    sale
                };
                let name = format!("buyer-{index}");
                thread::Builder::new().name(name).spawn_scoped(scope, buy).map_err(DemoError::Thread)
            })
            .collect::<Result<Vec<_>, _>>()
            .inspect_err(|_| market.closed.store(true, Ordering::Relaxed))
    }

    fn is_over(&self, market: &Market) -> bool {
        self.interrupt.came() || market.failed.load(Ordering::Relaxed)
    }
}

/// One buyer's part.
fn buy(
    address: SocketAddr,
    token: &str,
    mut events: Vec<EventId>,
    market: &Market,
) -> Result<Sale, DemoError> {
    let mut sale = Sale::default();
    let mut api = match Api::connect(address) {
        Err(_) if market.killed.load(Ordering::SeqCst) => return Ok(sale),
        connected => connected?,
    };
    let mut turn = 0;
    while !events.is_empty() && !market.closed.load(Ordering::Relaxed) {
        turn = (turn + 1) % events.len();
        let asked = Instant::now();
        match api.reserve(token, events[turn]) {
            Ok(Reserved::Acknowledged(reservation)) => {
                sale.latencies_us.push(asked.elapsed().as_micros() as u32);
                sale.acknowledged.push(reservation);
                market.sold.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Reserved::SoldOut) => {
                sale.sold_out += 1;
                events.swap_remove(turn);
            }
            Ok(Reserved::Overloaded) => sale.overloaded += 1,
            Err(DemoError::Http { .. }) if market.killed.load(Ordering::SeqCst) => {
                sale.unanswered += 1;
                return Ok(sale);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(sale)
}

fn join(
    buyers: Vec<ScopedJoinHandle<'_, Result<Sale, DemoError>>>,
    took: Duration,
) -> Result<Sale, DemoError> {
    let mut sale = Sale { took, ..Sale::default() };
    for buyer in buyers {
        sale.add(buyer.join().expect("a buyer does not panic")?);
    }
    sale.acknowledged.sort_unstable();
    sale.latencies_us.sort_unstable();
    Ok(sale)
}
