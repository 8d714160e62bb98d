//! A thread beside the cores, which answers when they cannot. It never waits for a disk.
//!
//! While the server starts, no core runs. The thread accepts on all listeners, answers `/livez`, and says to every
//! other request how far the start has come. Each connection is closed after its answer.
//!
//! While the server runs, the thread sleeps until a connection comes, and then looks at the listeners every 20 ms for
//! a while. A core waits for its disk itself, and
//! runs nothing meanwhile; but the kernel gives it new connections all the same. When a connection waits
//! for some looks, and the core has not polled in between, the core is stalled: the thread accepts on its
//! listener until it runs again. It answers requests for health and metrics. All other connections are handed over to
//! the core, with nothing read from them.
//!
//! The thread only peeks at what a client sends, until it answers. So it holds no memory for requests, and can hand a
//! connection over at any time.

mod desk;
mod door;
mod visit;

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use slab::Slab;

use super::api::Common;
use super::arrivals::Arrival;
pub(crate) use desk::Desk;
use desk::PEEK_BYTES;
pub(crate) use door::CoreLink;
use door::{Accepted, Door, Look};
use visit::{Next, Visit};

/// The time between two looks at the listeners, and that until the next look when a core may be stalled. So health is
/// answered within 100 ms. A look takes some microseconds.
const TICK: Duration = Duration::from_millis(20);
const TICK_IN_DOUBT: Duration = Duration::from_millis(10);

/// After so many looks at which no connection waited, the thread sleeps until one comes.
const CALM_MAX: u32 = 50;

/// The most connections while the server starts. Another one takes the place of the oldest, so that clients that
/// send nothing keep nobody out.
const VISITS_AT_START_MAX: usize = 256;

/// The most connections that are accepted on one listener before other events are looked at.
const ACCEPTS_AT_ONCE: usize = 64;

/// Events that one system call returns at most.
const EVENTS_AT_ONCE: usize = 256;

/// Keys of the events of doors, from the door with index 0, and of the eventfd that wakes the thread. Others are keys
/// of visits.
const DOORS: u64 = 1 << 32;
const WAKE: u64 = u64::MAX;

/// The running thread.
pub(crate) struct Standby {
    orders: mpsc::Sender<Order>,
    /// Wakes the thread.
    wake: Arc<OwnedFd>,
}

/// To leave the listeners to the cores.
struct Order {
    common: Arc<Common>,
    cores: Vec<CoreLink>,
    done: mpsc::Sender<()>,
}

impl Standby {
    /// Starts the thread, which answers on these listeners from now on.
    ///
    /// # Errors
    ///
    /// When there are too few descriptors, or no thread is left.
    pub(crate) fn start(listeners: Vec<OwnedFd>, desk: Desk) -> io::Result<Standby> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        // Never read: with an edge trigger, each write is an event.
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN | EventFlags::ET)?;
        let (orders, received) = mpsc::channel();
        let keys = DOORS..;
        let mut doors: Vec<Door> =
            listeners.into_iter().zip(keys).map(|(fd, key)| Door::new(fd, key)).collect();
        for door in &mut doors {
            door.open(&epoll)?;
        }
        let work = Work {
            epoll,
            orders: received,
            doors,
            visits: Slab::new(),
            desk,
            calm: 0,
            peeked: [0; PEEK_BYTES],
        };
        thread::Builder::new().name("standby".to_owned()).spawn(move || work.run())?;
        Ok(Standby { orders, wake })
    }

    /// Leaves the listeners to the cores, one for each listener. When this returns, the thread accepts on none of
    /// them, unless their core stalls.
    pub(crate) fn stand_by(&self, common: Arc<Common>, cores: Vec<CoreLink>) {
        let (done, is_done) = mpsc::channel();
        self.orders.send(Order { common, cores, done }).expect("the thread runs as long as the process");
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes()).expect("a 64-bit counter does not overflow");
        is_done.recv().expect("the thread runs as long as the process");
    }
}

/// What the thread works with.
struct Work {
    epoll: OwnedFd,
    orders: mpsc::Receiver<Order>,
    /// By core.
    doors: Vec<Door>,
    visits: Slab<Visit>,
    desk: Desk,
    /// How many looks in turn found no connection that waits.
    calm: u32,
    /// What was last peeked at.
    peeked: [u8; PEEK_BYTES],
}

impl Work {
    fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS_AT_ONCE);
        let mut next_tick = Instant::now() + TICK;
        loop {
            let is_asleep = self.may_sleep();
            wait(&self.epoll, &mut events, (!is_asleep).then_some(next_tick));
            if is_asleep {
                // At once.
                next_tick = Instant::now();
                self.wake_up();
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    WAKE => {
                        while let Ok(order) = self.orders.try_recv() {
                            self.begin_to_stand_by(order);
                        }
                    }
                    door @ DOORS.. => self.accept((door - DOORS) as usize),
                    visit => self.advance(visit as usize),
                }
            }
            let now = Instant::now();
            if now >= next_tick {
                self.tick(now);
                let is_in_doubt = self.doors.iter().any(Door::is_in_doubt);
                next_tick = now + if is_in_doubt { TICK_IN_DOUBT } else { TICK };
            }
        }
    }

    /// Whether there is nothing to do until a connection comes. Has the thread told of it.
    fn may_sleep(&mut self) -> bool {
        if !self.visits.is_empty() {
            return false;
        }
        if !self.desk.cores_run() {
            // After an error a door is opened again by a tick.
            return self.doors.iter().all(Door::is_open);
        }
        self.calm >= CALM_MAX
            && self.doors.iter_mut().all(|door| door.is_open() || door.open(&self.epoll).is_ok())
    }

    /// Leaves the listeners to the cores again, and looks at them for a while: a server that gets connection after
    /// connection wakes this thread once in that time.
    fn wake_up(&mut self) {
        self.calm = 0;
        if self.desk.cores_run() {
            self.doors.iter_mut().for_each(|door| door.close(&self.epoll));
        }
    }

    fn begin_to_stand_by(&mut self, order: Order) {
        let Order { common, cores, done } = order;
        self.desk.stand_by(common);
        for (door, core) in self.doors.iter_mut().zip(cores) {
            door.close(&self.epoll);
            door.lead_to(core);
        }
        for door in 0..self.doors.len() {
            self.hand_over_all(door);
        }
        // Fails if nobody waits for it.
        let _ = done.send(());
    }

    fn accept(&mut self, index: usize) {
        for _ in 0..ACCEPTS_AT_ONCE {
            match self.doors[index].accept(&self.epoll) {
                Accepted::Connection(socket, peer) => self.admit(index, socket, peer),
                Accepted::None => return,
            }
        }
    }

    fn admit(&mut self, door: usize, socket: OwnedFd, peer: IpAddr) {
        let place = match self.desk.common() {
            Some(common) => {
                let place = common.places.take(peer, |_| false).ok();
                if place.is_none() {
                    self.doors[door].count_unplaced(&self.epoll);
                }
                place
            }
            None => {
                if self.visits.len() >= VISITS_AT_START_MAX
                    && let Some((oldest, _)) = self.visits.iter().min_by_key(|(_, visit)| visit.since())
                {
                    self.end(oldest);
                }
                None
            }
        };
        let key = self.visits.vacant_key();
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        // If the kernel cannot watch it, the connection is closed.
        if epoll::add(&self.epoll, &socket, EventData::new_u64(key as u64), flags).is_ok() {
            self.visits.insert(Visit::new(socket, peer, place, door));
            // Most clients have sent their request by now.
            self.advance(key);
        }
    }

    fn advance(&mut self, key: usize) {
        // An earlier event may have ended it.
        let Some(visit) = self.visits.get_mut(key) else { return };
        match visit.advance(&mut self.desk, &mut self.peeked) {
            Next::Stay => {}
            Next::End => self.end(key),
            Next::HandOver => self.hand_over(key),
        }
    }

    fn end(&mut self, key: usize) {
        // Closing the socket removes it from the epoll instance.
        let visit = self.visits.remove(key);
        if visit.is_answered() {
            self.desk.metrics().connections_closed.add(1);
        }
    }

    fn hand_over(&mut self, key: usize) {
        let Visit { socket, peer, place, door, .. } = self.visits.remove(key);
        // The socket lives on, so closing does not remove it. Fails only for a socket that is not there.
        let _ = epoll::delete(&self.epoll, &socket);
        self.doors[door].hand_over(Arrival { socket, peer, place });
    }

    /// Hands over the connections of a core of which it is not known yet what they ask for.
    fn hand_over_all(&mut self, door: usize) {
        let undecided = self.visits.iter().filter(|(_, visit)| visit.door == door && !visit.is_answered());
        let undecided: Vec<usize> = undecided.map(|(key, _)| key).collect();
        undecided.into_iter().for_each(|key| self.hand_over(key));
    }

    fn tick(&mut self, now: Instant) {
        let late: Vec<usize> = self
            .visits
            .iter()
            .filter(|(_, visit)| visit.is_late(now, &self.desk))
            .map(|(key, _)| key)
            .collect();
        for key in late {
            match self.visits[key].give_up(&mut self.desk) {
                Next::Stay => self.advance(key),
                Next::End | Next::HandOver => self.end(key),
            }
        }
        if self.desk.cores_run() {
            self.look();
        }
        // Also those that were closed because of an error, or because all places were taken.
        for door in self.doors.iter_mut().filter(|door| door.is_to_open()) {
            // Fails when the kernel has no memory: the next tick tries again.
            let _ = door.open(&self.epoll);
        }
    }

    /// Looks which cores leave a connection waiting.
    fn look(&mut self) {
        let mut waiting: Vec<PollFd<'_>> = self.doors.iter().map(Door::poll_fd).collect();
        let polled = poll(&mut waiting, Some(&Timespec::default()));
        if polled.is_err() {
            return;
        }
        let polled: Vec<PollFlags> = waiting.iter().map(PollFd::revents).collect();
        for (index, polled) in polled.into_iter().enumerate() {
            match self.doors[index].look(polled) {
                Look::Unchanged => {}
                Look::Stalled => self.desk.count_stalled(self.stalled()),
                Look::RunsAgain => {
                    self.doors[index].close(&self.epoll);
                    self.hand_over_all(index);
                    self.desk.count_stalled(self.stalled());
                }
            }
        }
        self.calm = if self.doors.iter().any(Door::is_in_doubt) { 0 } else { self.calm + 1 };
    }

    fn stalled(&self) -> usize {
        self.doors.iter().filter(|door| door.is_stalled()).count()
    }
}

/// Waits for events, but not beyond `until`.
fn wait(epoll: &OwnedFd, events: &mut Vec<Event>, until: Option<Instant>) {
    let time = until.map(|until| until.saturating_duration_since(Instant::now()));
    let time = time.map(|time| Timespec::try_from(time).expect("it is a matter of milliseconds"));
    match epoll::wait(epoll, spare_capacity(events), time.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => panic!("wait for the epoll instance: {error}"),
    }
}
