//! The buyers: threads that buy one ticket after the other, each over its own connection, and record
//! every acknowledged reservation. Most reserve; some hold a ticket and confirm it; some buy two at a time, and send
//! each request with an idempotency key, to send it again after the restart.

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
    /// The reservations that a buyer has an answer for, sorted.
    pub acknowledged: Vec<ReservationId>,
    /// The latencies of the acknowledged reservations, sorted.
    pub latencies_us: Vec<u32>,
    /// The number of requests without an answer; they may or may not have been carried out.
    pub unanswered: u64,
    pub sold_out: u64,
    pub overloaded: u64,
    pub took: Duration,
    /// The number of acknowledged reservations in this time.
    pub sold: u64,
    /// The holds answered with 201 whose confirmation was not answered.
    pub holds: Vec<Hold>,
    /// The requests to hold without an answer.
    pub unanswered_holds: u64,
    /// The requests with a key, answered or not.
    pub keyed: Vec<KeyedRequest>,
}

/// A hold that its buyer could not confirm before the kill.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub reservation: ReservationId,
    /// The index of the buyer's token.
    pub token: usize,
}

/// A request to reserve two tickets with an idempotency key.
#[derive(Debug, Clone)]
pub(super) struct KeyedRequest {
    pub key: String,
    pub event: EventId,
    /// The index of the buyer's token.
    pub token: usize,
    /// The reservation that it was answered with, if it was.
    pub answer: Option<ReservationId>,
}

/// How a buyer buys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Reserve,
    HoldAndConfirm,
    /// With a key each, and a pause between requests: a server keeps a limited number of keys for a customer.
    ReserveWithKeys {
        pause: Duration,
    },
}

/// The most requests of a buyer with keys. Four such buyers share a customer, and spread over four events; for
/// each event, a customer may have 1,000 keys.
const KEYS_MAX: u32 = 900;

/// Of so many buyers, one holds and confirms, and one has keys.
const BUYERS_PER_WAY: usize = 8;

impl Way {
    /// The way of a buyer, for a sale of this length.
    fn of_buyer(index: usize, length: Duration) -> Way {
        match index % BUYERS_PER_WAY {
            0 => Way::HoldAndConfirm,
            1 => Way::ReserveWithKeys { pause: length / KEYS_MAX },
            _ => Way::Reserve,
        }
    }
}

impl Sale {
    fn add(&mut self, other: Sale) {
        self.acknowledged.extend(other.acknowledged);
        self.latencies_us.extend(other.latencies_us);
        self.unanswered += other.unanswered;
        self.sold_out += other.sold_out;
        self.overloaded += other.overloaded;
        self.holds.extend(other.holds);
        self.unanswered_holds += other.unanswered_holds;
        self.keyed.extend(other.keyed);
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
            let way = |index| Way::of_buyer(index, after);
            let buyers = self.spawn(scope, server.address, events, &shared, way)?;
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
            let buyers = self.spawn(scope, address, &[event], &shared, |_| Way::Reserve)?;
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
        way: impl Fn(usize) -> Way,
    ) -> Result<Vec<ScopedJoinHandle<'scope, Result<Sale, DemoError>>>, DemoError> {
        (0..self.count)
            .map(|index| {
                let token = index % self.tokens.len();
                let way = way(index);
                let (head, tail) = events.split_at(index % events.len());
                let events = [tail, head].concat();
                let buy = move || {
                    let buyer =
                        Buyer { index, token, bearer: &self.tokens[token], shared, sale: Sale::default() };
                    let sale = buyer.buy(address, events, way);
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

/// One buyer.
struct Buyer<'a> {
    index: usize,
    /// The index of the token.
    token: usize,
    bearer: &'a str,
    shared: &'a Shared,
    sale: Sale,
}

impl Buyer<'_> {
    /// Buys until the server is killed, all events are sold out, or the buyers are told to stop.
    fn buy(mut self, address: SocketAddr, mut events: Vec<EventId>, way: Way) -> Result<Sale, DemoError> {
        let mut api = match Api::connect(address) {
            Err(_) if self.is_killed() => return Ok(self.sale),
            connected => connected?,
        };
        let mut turn = 0;
        while !events.is_empty() && !self.shared.stopping.load(Ordering::Relaxed) {
            turn = (turn + 1) % events.len();
            let event = events[turn];
            let bought = match way {
                Way::Reserve => self.reserve(&mut api, event),
                Way::HoldAndConfirm => self.hold_and_confirm(&mut api, event),
                Way::ReserveWithKeys { pause } => {
                    thread::sleep(pause);
                    self.reserve_with_key(&mut api, event)
                }
            };
            match bought {
                Ok(Reserved::Acknowledged(reservation)) => {
                    self.sale.acknowledged.push(reservation);
                    self.shared.sold.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Reserved::SoldOut) => {
                    self.sale.sold_out += 1;
                    events.swap_remove(turn);
                }
                Ok(Reserved::Overloaded) => self.sale.overloaded += 1,
                Err(DemoError::Http { .. }) if self.is_killed() => return Ok(self.sale),
                Err(error) => return Err(error),
            }
        }
        Ok(self.sale)
    }

    fn reserve(&mut self, api: &mut Api, event: EventId) -> Result<Reserved, DemoError> {
        let sent_at = Instant::now();
        let reserved = api.reserve(self.bearer, event).inspect_err(|_| self.sale.unanswered += 1)?;
        if let Reserved::Acknowledged(_) = reserved {
            self.sale.latencies_us.push(sent_at.elapsed().as_micros() as u32);
        }
        Ok(reserved)
    }

    fn hold_and_confirm(&mut self, api: &mut Api, event: EventId) -> Result<Reserved, DemoError> {
        let held = api.hold(self.bearer, event).inspect_err(|_| self.sale.unanswered_holds += 1)?;
        if let Reserved::Acknowledged(reservation) = held {
            self.sale.holds.push(Hold { reservation, token: self.token });
            api.confirm(self.bearer, reservation)?;
            self.sale.holds.pop();
        }
        Ok(held)
    }

    fn reserve_with_key(&mut self, api: &mut Api, event: EventId) -> Result<Reserved, DemoError> {
        let key = format!("buyer-{}-ticket-{}", self.index, self.sale.keyed.len());
        self.sale.keyed.push(KeyedRequest { key: key.clone(), event, token: self.token, answer: None });
        let reserved = api.reserve_with_key(self.bearer, event, &key)?;
        match reserved {
            Reserved::Acknowledged(reservation) => {
                let last = self.sale.keyed.last_mut().expect("it was just pushed");
                last.answer = Some(reservation);
            }
            // Nothing was done, so there is nothing to send again.
            Reserved::SoldOut | Reserved::Overloaded => drop(self.sale.keyed.pop()),
        }
        Ok(reserved)
    }

    fn is_killed(&self) -> bool {
        self.shared.killed.load(Ordering::SeqCst)
    }
}

fn join(
    buyers: Vec<ScopedJoinHandle<'_, Result<Sale, DemoError>>>,
    took: Duration,
) -> Result<Sale, DemoError> {
    let mut sale = Sale { took, ..Sale::default() };
    for buyer in buyers {
        sale.add(buyer.join().expect("a buyer does not panic")?);
    }
    sale.sold = sale.acknowledged.len() as u64;
    sale.acknowledged.sort_unstable();
    sale.latencies_us.sort_unstable();
    Ok(sale)
}
