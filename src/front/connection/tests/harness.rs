//! A whole front on a core of its own, with endpoints that no server has, and clients over real
//! sockets.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use shards::ids::Epoch;
use shards::limits::SLOT_COUNT;
use shards::log::MemoryLog;
use shards::record::SlotHead;
use shards::shard::Shard;
use shards::slots::SlotSet;
use shards::state::ShardState;

use crate::assembly::{Assembled, Parts};
use crate::bench;
use crate::front::acceptor;
use crate::front::api::Common;
use crate::front::auth::Tokens;
use crate::front::deadlines::Timeouts;
use crate::front::http::body::{Body, BodyStream, PIECE_BYTES_MAX, Piece};
use crate::front::http::parse::Request;
use crate::front::http::write::{PLAIN, Response};
use crate::mesh::mesh_ends;
use crate::rt::net::bind_all;
use crate::rt::{self, Core, Executor};

/// Longer than anything here takes that does not fail.
pub(super) const SOON: Duration = Duration::from_secs(5);

/// How long a silence has to last to be one.
const SILENCE: Duration = Duration::from_millis(150);

pub(super) const STALLED: Duration = Duration::from_millis(1500);

pub(super) const LIVEZ: &str = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";

/// What the test makes a stream say.
pub(super) enum Say {
    Piece(&'static str),
    Last(&'static str),
    Fail,
}

/// What became of a stream.
#[derive(Default)]
pub(super) struct Fate {
    pub(super) drained: AtomicBool,
    pub(super) dropped: AtomicBool,
    pub(super) bytes: AtomicU64,
}

/// A stream that says what it is told, and goodbye at a drain.
struct Told {
    says: Said,
    fate: Arc<Fate>,
}

/// What a stream is told, and by whom it is woken for that.
struct Said {
    says: Receiver<Say>,
    waker: Arc<Mutex<Option<Waker>>>,
}

/// Makes a stream say something.
pub(super) struct Teller {
    says: Sender<Say>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Teller {
    pub(super) fn say(&self, say: Say) {
        self.says.send(say).expect("the stream is there");
        if let Some(waker) = self.waker.lock().expect("no panic").take() {
            waker.wake();
        }
    }
}

impl BodyStream for Told {
    fn length(&self) -> Option<u64> {
        None
    }

    fn poll_piece(&mut self, context: &mut Context<'_>, output: &mut Vec<u8>) -> Poll<Piece> {
        if self.fate.drained.load(Ordering::SeqCst) {
            output.extend_from_slice(b"goodbye");
            return Poll::Ready(Piece::Last);
        }
        *self.says.waker.lock().expect("no panic") = Some(context.waker().clone());
        match self.says.says.try_recv() {
            Ok(Say::Piece(text)) => {
                output.extend_from_slice(text.as_bytes());
                Poll::Ready(Piece::More)
            }
            Ok(Say::Last(text)) => {
                output.extend_from_slice(text.as_bytes());
                Poll::Ready(Piece::Last)
            }
            Ok(Say::Fail) => Poll::Ready(Piece::Failed),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Poll::Pending,
        }
    }

    fn drain(&mut self) {
        self.fate.drained.store(true, Ordering::SeqCst);
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.fate.dropped.store(true, Ordering::SeqCst);
    }
}

/// A stream that always has a piece, and hears of no drain.
struct Flood(Arc<Fate>);

impl BodyStream for Flood {
    fn length(&self) -> Option<u64> {
        None
    }

    fn poll_piece(&mut self, _: &mut Context<'_>, output: &mut Vec<u8>) -> Poll<Piece> {
        output.resize(output.len() + PIECE_BYTES_MAX, b'x');
        self.0.bytes.fetch_add(PIECE_BYTES_MAX as u64, Ordering::SeqCst);
        Poll::Ready(Piece::More)
    }

    fn drain(&mut self) {
        self.0.drained.store(true, Ordering::SeqCst);
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.dropped.store(true, Ordering::SeqCst);
    }
}

/// Holds the core in a request to `/gate`.
#[derive(Default)]
pub(super) struct Gate {
    pub(super) entered: AtomicBool,
    pub(super) open: AtomicBool,
}

/// A front on a core of its own. `/told` and `/flood` are streams, `/large` has a known length, `/gate` takes
/// until the test opens the gate, and `/spin` takes 2 ms of the core.
pub(super) struct Server {
    address: SocketAddr,
    common: Arc<Common>,
    /// What the next `/told` is made of.
    told: Arc<Mutex<Vec<Said>>>,
    /// Of the latest stream of each path.
    fates: Arc<Mutex<HashMap<String, Arc<Fate>>>>,
    pub(super) gate: Arc<Gate>,
    /// The paths of all requests, in the order in which they were begun.
    paths: Arc<Mutex<Vec<String>>>,
    core: Option<Core>,
}

/// More than the kernel takes at once, by far.
pub(super) const LARGE_BYTES: usize = 48 << 20;

impl Server {
    pub(super) fn start() -> Server {
        let (address, mut listeners) =
            bind_all("127.0.0.1:0".parse().expect("an address"), 1).expect("a port is free");
        let listener = listeners.pop().expect("one was bound");
        let common = bench::common(1);
        let (told, fates) = <(Arc<Mutex<Vec<Said>>>, Arc<Mutex<HashMap<String, Arc<Fate>>>>)>::default();
        let ends = mesh_ends(1).expect("descriptors are left").pop().expect("one core");
        let heads = Box::new([SlotHead::empty(1); SLOT_COUNT]);
        let shard = Shard::new(ShardState::owning(SlotSet::all()), &heads, Epoch(1));
        let parts =
            bench::parts(0, shard, Box::new(MemoryLog), ends, Arc::clone(&common), Tokens::new(&[7; 32], 1));
        let parts = Parts { timeouts: Timeouts { stalled: STALLED, ..Timeouts::default() }, ..parts };
        let (gate, paths) = <(Arc<Gate>, Arc<Mutex<Vec<String>>>)>::default();
        let special = endpoint(Arc::clone(&told), Arc::clone(&fates), Arc::clone(&gate));
        let endpoint = {
            let paths = Arc::clone(&paths);
            move |request: &Request<'_>| {
                paths.lock().expect("no panic").push(request.path.to_owned());
                special(request)
            }
        };
        let (listens, ready) = mpsc::channel();
        let core = Executor::of_environment().start_core("test", move || async move {
            let Assembled { mut front, pump, sockets, reactor, .. } = parts.assemble().expect("a core");
            Rc::get_mut(&mut front).expect("nothing else has it yet").test_endpoint =
                Some(Box::new(endpoint));
            let listener = listener.open(&sockets).expect("the port is ours");
            listens.send(()).expect("the test waits for it");
            rt::spawn(pump.run(Rc::new(Cell::new(false))));
            rt::spawn(Rc::clone(&front.deadlines).sweep(|| ()));
            reactor.start();
            acceptor::run(Rc::clone(&front), listener).await;
            front.finish(Duration::from_secs(8)).await;
        });
        let core = Some(core.expect("a thread can be had"));
        ready.recv().expect("the core listens");
        Server { address, common, told, fates, gate, paths, core }
    }

    /// A connection that has sent `bytes`.
    pub(super) fn send(&self, bytes: &str) -> Wire {
        let mut stream = TcpStream::connect(self.address).expect("the server accepts");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.write_all(bytes.as_bytes()).expect("the server reads");
        Wire { stream, received: Vec::new() }
    }

    /// A connection that has asked for a stream, and what makes that stream say something.
    pub(super) fn told(&self, bytes: &str) -> (Wire, Teller) {
        let (says, said) = mpsc::channel();
        let waker = Arc::default();
        self.told.lock().expect("no panic").push(Said { says: said, waker: Arc::clone(&waker) });
        (self.send(bytes), Teller { says, waker })
    }

    /// The paths of all requests so far, in the order in which they were begun.
    pub(super) fn paths(&self) -> Vec<String> {
        self.paths.lock().expect("no panic").clone()
    }

    /// Requests that were begun.
    pub(super) fn begun(&self) -> u64 {
        self.common.metrics.cores[0].requests.get()
    }

    /// Of the latest stream of that path, once there is one.
    pub(super) fn fate(&self, path: &str) -> Arc<Fate> {
        wait_for(|| self.fates.lock().expect("no panic").get(path).cloned())
    }

    /// Begins to drain; returns how long it took the core to end.
    pub(super) fn drain(&mut self) -> Duration {
        let start = Instant::now();
        self.common.draining.store(true, Ordering::Relaxed);
        self.core.take().expect("it runs").join().expect("the core ends without a panic");
        start.elapsed()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.gate.open.store(true, Ordering::SeqCst);
        self.common.draining.store(true, Ordering::Relaxed);
    }
}

fn endpoint(
    told: Arc<Mutex<Vec<Said>>>,
    fates: Arc<Mutex<HashMap<String, Arc<Fate>>>>,
    gate: Arc<Gate>,
) -> impl Fn(&Request<'_>) -> Option<Response> {
    move |request| {
        let fate = Arc::new(Fate::default());
        let body: Body = match request.path {
            "/told" => {
                let says = told.lock().expect("no panic").pop().expect("the test made one");
                Body::Stream(Box::new(Told { says, fate: Arc::clone(&fate) }))
            }
            "/flood" => Body::Stream(Box::new(Flood(Arc::clone(&fate)))),
            "/large" => return Some(Response::new(200, PLAIN, vec![b'x'; LARGE_BYTES])),
            "/gate" => {
                gate.entered.store(true, Ordering::SeqCst);
                while !gate.open.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                return Some(Response::new(200, PLAIN, "".as_bytes()));
            }
            "/spin" => {
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(2) {
                    std::hint::spin_loop();
                }
                return Some(Response::new(200, PLAIN, "".as_bytes()));
            }
            _ => return None,
        };
        fates.lock().expect("no panic").insert(request.path.to_owned(), fate);
        Some(Response { body, ..Response::new(200, PLAIN, "".as_bytes()) })
    }
}

#[track_caller]
pub(super) fn wait_for<T>(look: impl Fn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < SOON, "it does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The client's end of a connection.
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    pub(super) received: Vec<u8>,
}

impl Wire {
    /// Reads until what came ends with `end`; returns all of it.
    #[track_caller]
    pub(super) fn until(&mut self, end: &str) -> String {
        self.stream.set_read_timeout(Some(SOON)).expect("a TCP socket");
        while !self.received.ends_with(end.as_bytes()) {
            let mut byte = [0];
            match self.stream.read(&mut byte) {
                Ok(1..) => self.received.extend_from_slice(&byte),
                ended => panic!("{ended:?} instead of {end:?} behind {:?}", self.text()),
            }
        }
        self.take()
    }

    /// Nothing more comes for a while.
    #[track_caller]
    pub(super) fn expect_silence(&mut self) {
        self.stream.set_read_timeout(Some(SILENCE)).expect("a TCP socket");
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => panic!("{other:?} {byte:?} instead of silence"),
        }
    }

    /// Reads to the end of the connection; returns all that came.
    pub(super) fn rest(&mut self) -> String {
        self.stream.set_read_timeout(Some(SOON)).expect("a TCP socket");
        match self.stream.read_to_end(&mut self.received) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error} behind {:?}", self.text()),
        }
        self.take()
    }

    /// Sends another request, whose whole answer this returns.
    #[track_caller]
    pub(super) fn livez(&mut self) -> String {
        self.stream.write_all(LIVEZ.as_bytes()).expect("the connection is open");
        self.livez_answer()
    }

    #[track_caller]
    pub(super) fn livez_answer(&mut self) -> String {
        let answer = self.until("}\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        answer
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }

    fn take(&mut self) -> String {
        let text = self.text();
        self.received.clear();
        text
    }
}

pub(super) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}
