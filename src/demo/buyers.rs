//! The buyers: threads that reserve one ticket after the other, each over its own connection, and
//! record every acknowledged reservation.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use shards::ids::{EventId, ReservationId};

use super::DemoError;
use super::api::{Api, Reserved};
use super::interrupt::{Interrupt, POLL};
use super::progress::{self, Progress};
use super::server::Server;

/// The answers that the buyers got.
#[derive(Debug, Default, Clone)]
pub(super) struct Sale {
    /// The reservations answered with 201, sorted.
    pub acknowledged: Vec<ReservationId>,
    /// The latencies of the acknowledged reservations, sorted.
    pub latencies_us: Vec<u32>,
    /// The number of requests without an answer; they may or may not have been carried out.
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

/// The parameters of the buyers.
pub(super) struct Buyers<'a> {
    pub count: usize,
    /// The tokens of the customers, assigned to the buyers in turn.
    pub tokens: &'a [String],
    pub interrupt: &'a Interrupt,
}

/// The state that the buyers share with the thread that controls them.
#[derive(Default)]
struct Shared {
    sold: AtomicU64,
    /// Tells the buyers to stop after the answer that they wait for.
    stopping: AtomicBool,
    /// Set just before the server is killed: from then on, a broken connection is expected.
    killed: AtomicBool,
    /// Set when a buyer has failed.
    failed: AtomicBool,
}

impl Buyers<'_> {
    /// Kills the server during the sale. Returns the sale and the time of the kill.
    pub(super) fn buy_until_killed(
        &self,
        mut server: Server,
        events: &[EventId],
        after: Duration,
    ) -> Result<(Sale, Instant), DemoError> {
        let shared = Shared::default();
        thread::scope(|scope| {
            let start = Instant::now();
            let buyers = self.spawn(scope, server.address, events, &shared)?;
            let progress = Progress::new(after.as_millis() as u64);
            while start.elapsed() < after && !self.must_stop(&shared) {
                thread::sleep(POLL.min(after.saturating_sub(start.elapsed())));
                progress.show(
                    start.elapsed().as_millis() as u64,
                    progress::sold(shared.sold.load(Ordering::Relaxed)),
                );
            }
            drop(progress);
            let took = start.elapsed();
            if shared.failed.load(Ordering::SeqCst) {
                // The buyers end before the server does: errors caused by its end would hide the
                // cause.
                shared.stopping.store(true, Ordering::Relaxed);
                let sale = join(buyers, took);
                let ended = server.has_ended();
                return if ended { Err(server.ended()) } else { sale.map(|sale| (sale, Instant::now())) };
            }
            shared.killed.store(true, Ordering::SeqCst);
            let killed_at = Instant::now();
            server.kill()?;
            let sale = join(buyers, took)?;
            self.interrupt.check()?;
            Ok((sale, killed_at))
        })
    }

    /// Lets each buyer reserve until the server answers that the event is sold out.
    pub(super) fn buy_until_sold_out(&self, address: SocketAddr, event: EventId) -> Result<Sale, DemoError> {
        let shared = Shared::default();
        thread::scope(|scope| {
            let start = Instant::now();
            let buyers = self.spawn(scope, address, &[event], &shared)?;
            while buyers.iter().any(|buyer| !buyer.is_finished()) {
                if self.must_stop(&shared) {
                    shared.stopping.store(true, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(1));
            }
            let sale = join(buyers, start.elapsed())?;
            self.interrupt.check()?;
            Ok(sale)
        })
    }

    fn spawn<'scope, 'env>(
        &'env self,
        scope: &'scope thread::Scope<'scope, 'env>,
        address: SocketAddr,
        events: &[EventId],
        shared: &'env Shared,
    ) -> Result<Vec<ScopedJoinHandle<'scope, Result<Sale, DemoError>>>, DemoError> {
        (0..self.count)
            .map(|index| {
                let token = &self.tokens[index % self.tokens.len()];
                let (head, tail) = events.split_at(index % events.len());
                let events = [tail, head].concat();
                let buy = move || {
                    let sale = buy(address, token, events, shared);
                    shared.failed.fetch_or(sale.is_err(), Ordering::SeqCst);
                    sale
                };
                let name = format!("buyer-{index}");
                thread::Builder::new().name(name).spawn_scoped(scope, buy).map_err(DemoError::Thread)
            })
            .collect::<Result<Vec<_>, _>>()
            .inspect_err(|_| shared.stopping.store(true, Ordering::Relaxed))
    }

    fn must_stop(&self, shared: &Shared) -> bool {
        self.interrupt.is_set() || shared.failed.load(Ordering::Relaxed)
    }
}

/// Runs one buyer.
fn buy(
    address: SocketAddr,
    token: &str,
    mut events: Vec<EventId>,
    shared: &Shared,
) -> Result<Sale, DemoError> {
    let mut sale = Sale::default();
    let mut api = match Api::connect(address) {
        Err(_) if shared.killed.load(Ordering::SeqCst) => return Ok(sale),
        connected => connected?,
    };
    let mut turn = 0;
    while !events.is_empty() && !shared.stopping.load(Ordering::Relaxed) {
        turn = (turn + 1) % events.len();
        let sent_at = Instant::now();
        match api.reserve(token, events[turn]) {
            Ok(Reserved::Acknowledged(reservation)) => {
                sale.latencies_us.push(sent_at.elapsed().as_micros() as u32);
                sale.acknowledged.push(reservation);
                shared.sold.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Reserved::SoldOut) => {
                sale.sold_out += 1;
                events.swap_remove(turn);
            }
            Ok(Reserved::Overloaded) => sale.overloaded += 1,
            Err(DemoError::Http { .. }) if shared.killed.load(Ordering::SeqCst) => {
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
