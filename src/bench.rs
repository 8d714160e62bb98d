//! The server's own parts without a network, for `benches/`: one core that is polled by hand, and several on
//! the runtime. Unit tests make cores of the same parts. Compiled for these alone, by the feature `bench`.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use async_lock::Mutex;
use shards::command::{Actor, Ask, Buyer, Command};
use shards::driver::Pace;
use shards::ids::{EventId, Quantity, Role, UserId};
use shards::limits::COMMIT_RECORDS_MAX;
use shards::log::{Log, MemoryLog};
use shards::shard::Shard;

use crate::account_limits::AccountLimits;
use crate::assembly::{Assembled, Parts};
use crate::client::Question;
use crate::clock::Origin;
use crate::front::api::{Api, Common, Ids};
use crate::front::auth::Tokens;
use crate::front::connection;
use crate::front::deadlines::Timeouts;
use crate::front::http::parse::Limits;
use crate::front::issuers::Issuers;
use crate::front::key_uses::KeyUses;
use crate::front::places::Places;
use crate::front::proxies::TrustedProxies;
use crate::front::registration::Registration;
use crate::mesh::{Asker, CALLS_IN_FLIGHT_DEFAULT, MeshEnds, mesh_ends};
use crate::metrics::Metrics;
use crate::passwords::{Passwords, REGISTRATIONS_PER_HOUR_DEFAULT};
use crate::rt::channel::channel;
use crate::rt::net::{Sockets, Stream};
use crate::rt::{self, Core, Executor};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// One core whose tasks are polled by [`OneCore::exchange`] instead of the runtime, so that valgrind can run
/// it. Clients are connected by real sockets.
pub struct OneCore {
    front: Rc<connection::Front>,
    sockets: Rc<Sockets>,
    pump: Task,
}

impl OneCore {
    /// A core with one shard. `tokens` sign and verify. The log is written on this thread and never
    /// maintained, so it needs room for all that will be written.
    pub fn new(shard: Shard<Asker>, log: Box<dyn Log>, tokens: Tokens) -> OneCore {
        let ends = mesh_ends(1).expect("descriptors are left").pop().expect("one was made");
        let parts = Parts { pace: Pace::AT_ONCE, ..parts(0, shard, log, ends, common(1), tokens) };
        let Assembled { front, pump, sockets, .. } = parts.assemble().expect("descriptors are left");
        OneCore { front, sockets, pump: Box::pin(pump.run(Rc::default())) }
    }

    pub fn api(&self) -> &Api {
        &self.front.api
    }

    pub fn connect(&self) -> Client {
        let (client, server) = UnixStream::pair().expect("descriptors are left");
        for end in [&client, &server] {
            end.set_nonblocking(true).expect("a socket can be made so");
        }
        let peer = Ipv4Addr::LOCALHOST.into();
        let place = self.front.take_place(peer).expect("there are few others");
        let stream = Stream::new(&self.sockets, server.into(), peer);
        let stream = stream.expect("the kernel watches as many as there are");
        let connection = Box::pin(connection::serve(Rc::clone(&self.front), stream, place));
        Client { connection, socket: client, answered: Vec::new() }
    }

    /// Sends one request of each client, all at once, and runs the core until all are answered.
    pub fn exchange(&mut self, clients: &mut [Client], request: &[u8]) {
        let mut context = Context::from_waker(Waker::noop());
        for client in clients.iter_mut() {
            client.answered.clear();
            client.socket.write_all(request).expect("there is room for a request");
        }
        // One turn suffices unless a client's token is not verified yet.
        while clients.iter().any(|client| client.answered.is_empty()) {
            self.sockets.poll();
            for client in clients.iter_mut() {
                assert!(client.connection.as_mut().poll(&mut context).is_pending(), "the connection ended");
            }
            assert!(self.pump.as_mut().poll(&mut context).is_pending(), "the pump ended");
            for client in clients.iter_mut() {
                assert!(client.connection.as_mut().poll(&mut context).is_pending(), "the connection ended");
                client.read();
            }
        }
    }
}

/// A connection of [`OneCore`].
pub struct Client {
    connection: Task,
    socket: UnixStream,
    answered: Vec<u8>,
}

impl Client {
    /// The response to the latest request.
    pub fn answered(&self) -> &[u8] {
        &self.answered
    }

    /// Reads what there is of a response.
    fn read(&mut self) {
        let mut room = [0; 4096];
        match self.socket.read(&mut room) {
            Ok(count) => self.answered.extend_from_slice(&room[..count]),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
        }
    }
}

/// Cores on the runtime, with logs in memory. The first core sends requests to the shards.
pub struct Cores {
    orders: mpsc::Sender<Order>,
    cores: Vec<Core>,
}

/// Reservations for the first core to make, `together` at a time.
struct Order {
    event: EventId,
    count: u64,
    together: usize,
    took: mpsc::Sender<Duration>,
}

impl Cores {
    /// A core for each shard.
    pub fn start(shards: Vec<Shard<Asker>>) -> io::Result<Cores> {
        let count = shards.len();
        let common = common(count);
        let tokens = Tokens::new(&[7; 32], 1);
        let (orders, received) = mpsc::channel();
        let mut received = Some(received);
        let over = Arc::new(AtomicBool::new(false));
        let left = Arc::new(AtomicUsize::new(count));
        let cores = shards.into_iter().zip(mesh_ends(count)?).enumerate().map(|(index, (shard, ends))| {
            let parts = parts(index, shard, Box::new(MemoryLog), ends, Arc::clone(&common), tokens.clone());
            let received = received.take();
            let (over, left) = (Arc::clone(&over), Arc::clone(&left));
            Executor::of_environment().start_core("bench", move || async move {
                let assembled = parts.assemble().expect("descriptors are left");
                let Assembled { front, pump, inbox, reactor, .. } = assembled;
                reactor.start();
                let stop = Rc::new(Cell::new(false));
                rt::spawn(pump.run(Rc::clone(&stop)));
                if let Some(orders) = received {
                    // Blocks the core, whose other tasks are idle between orders.
                    while let Ok(order) = orders.recv() {
                        let took = reserve(&front.api, &order).await;
                        order.took.send(took).expect("the caller waits for it");
                    }
                    over.store(true, Ordering::Release);
                }
                while !over.load(Ordering::Acquire) {
                    rt::sleep(Duration::from_millis(1)).await;
                }
                stop.set(true);
                inbox.signal.raise();
                left.fetch_sub(1, Ordering::AcqRel);
                while left.load(Ordering::Acquire) > 0 {
                    rt::sleep(Duration::from_millis(1)).await;
                }
            })
        });
        let cores = cores.collect::<io::Result<_>>()?;
        Ok(Cores { orders, cores })
    }

    /// Makes `count` reservations on the first core, `together` at a time. Returns how long that took.
    pub fn reserve(&self, event: EventId, count: u64, together: usize) -> Duration {
        let (took, answer) = mpsc::channel();
        let order = Order { event, count, together, took };
        self.orders.send(order).expect("the core receives orders");
        answer.recv().expect("the core reports each order")
    }

    /// # Errors
    ///
    /// When a core could not start, or a task on it panicked.
    pub fn stop(self) -> io::Result<()> {
        drop(self.orders);
        self.cores.into_iter().try_for_each(Core::join)
    }
}

async fn reserve(api: &Api, order: &Order) -> Duration {
    let one = Quantity::new(1).expect("one ticket");
    let start = Instant::now();
    let mut left = order.count;
    while left > 0 {
        let together = left.min(order.together as u64);
        let mut calls = Vec::with_capacity(order.together);
        for _ in 0..together {
            let actor = Actor::new(UserId(1), Role::Customer);
            let buyer = Buyer::Account(actor.user);
            let command = Command::Reserve { event: order.event, actor, buyer, quantity: one };
            let question = Question::new(Ask::Command(command));
            calls.push(api.shards.ask(question).expect("there is room"));
        }
        for call in calls {
            call.await.expect("tickets are left");
        }
        left -= together;
    }
    start.elapsed()
}

/// A core's parts with the default limits.
pub(crate) fn parts(
    index: usize,
    shard: Shard<Asker>,
    log: Box<dyn Log>,
    ends: MeshEnds,
    common: Arc<Common>,
    tokens: Tokens,
) -> Parts {
    // Nobody hands over anything.
    let (_, arrivals) = channel(ends.waker.clone());
    Parts {
        index,
        shard,
        log,
        ends,
        arrivals,
        common,
        tokens,
        limits: Limits::default(),
        account_limits: AccountLimits::default(),
        timeouts: Timeouts::default(),
        calls_in_flight_max: CALLS_IN_FLIGHT_DEFAULT,
        batch_max: COMMIT_RECORDS_MAX,
        idempotency_keys_max: 0,
        pace: Pace::USUAL,
        origin: Origin::now(),
    }
}

/// What all cores share, with few password threads and connections.
pub(crate) fn common(core_count: usize) -> Arc<Common> {
    let proxies = Arc::<TrustedProxies>::default();
    Arc::new(Common {
        registration: Registration::Open,
        cors: None,
        issuers: Issuers::default(),
        key_uses: KeyUses::default(),
        ids: Ids::after(EventId(1000), UserId(1000)),
        passwords: Passwords::start(1, REGISTRATIONS_PER_HOUR_DEFAULT).expect("a thread can be had"),
        metrics: Box::leak(Box::new(Metrics::new(core_count))),
        boot_id: "bench".to_owned(),
        draining: AtomicBool::new(false),
        demo: false,
        places: Arc::new(Places::new(1000, Arc::clone(&proxies))),
        proxies,
        old_records: None,
        administration: Mutex::default(),
    })
}
