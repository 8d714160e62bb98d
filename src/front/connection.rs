//! One client's connection: bytes to requests, responses to bytes, in order.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::future::poll_once;

use super::api::{Api, Begun, ConnectionPermit, Prepared, Running};
use super::deadlines::{BODY_BYTES_PER_SECOND, Deadlines, Patience, Tick, Watch};
use super::http::parse::{Limits, Method, Parser, Progress, Refusal, Request, Version};
use super::http::write::{BODY_AT_ONCE_MAX, DateClock, Envelope, RequestId, Response};
use super::problem::{Kind, Problem};
use crate::metrics::CoreMetrics;
use crate::random;
use crate::rt::net::Stream;

/// Requests of one connection that are read but not yet answered.
const PIPELINE_MAX: usize = 128;

/// What one read asks for. A core has one buffer of this size for all its connections, since
/// most of what comes is run before the next connection is looked at.
const READ_BYTES: usize = 8 * 1024;

/// What a read adds to a request that is half there: little, since thousands may send slowly.
const READ_ON_BYTES: usize = 4096;

/// Responses are written once this much of them waits, however many more there are.
const WRITE_BYTES: usize = BODY_AT_ONCE_MAX;

/// How long a refused client is listened to, so that it can read why (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(1);

/// Of one core, so many that it turned away linger at a time; further ones are closed at once.
/// With a place for each of these, turning away would take what the limit is to save.
const TURNED_AWAY_MAX: usize = 64;

/// Of a client's own X-Request-Id.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// One core's front: what all of its connections share.
pub struct Front {
    pub api: Api,
    pub metrics: &'static CoreMetrics,
    pub limits: Limits,
    pub patience: Patience,
    pub deadlines: Rc<Deadlines>,
    dates: DateClock,
    /// Connections between a request's whole head and the last byte of its answer. What has not
    /// even sent a head waits for nothing, and nobody waits for it.
    busy: Cell<usize>,
    /// That linger.
    turned_away: Cell<usize>,
    /// Begins the ids of this core's requests.
    core_id: u32,
    requests: Cell<u64>,
    /// Lent to the connection that reads.
    input: Cell<Vec<u8>>,
    /// Lent to the connection that writes.
    output: Cell<Vec<u8>>,
}

impl Front {
    pub fn new(api: Api, metrics: &'static CoreMetrics, limits: Limits, patience: Patience) -> Front {
        Front {
            api,
            metrics,
            limits,
            patience,
            deadlines: Rc::default(),
            dates: DateClock::default(),
            busy: Cell::new(0),
            turned_away: Cell::new(0),
            core_id: random::u64() as u32,
            requests: Cell::new(0),
            input: Cell::default(),
            output: Cell::default(),
        }
    }

    /// Whether any request is being run or answered, or its body read.
    pub fn is_busy(&self) -> bool {
        self.busy.get() > 0
    }

    pub fn is_draining(&self) -> bool {
        self.api.common.draining.load(Ordering::Relaxed)
    }

    /// The client's own id, if it is a sensible one, so that logs on both sides can be joined.
    fn request_id(&self, request: Option<&Request<'_>>) -> RequestId {
        let own = request.and_then(|request| request.header("x-request-id")).filter(|id| {
            (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
        });
        match own {
            Some(own) => RequestId::Given(own.into()),
            None => RequestId::Made { core: self.core_id, number: self.requests.get() },
        }
    }
}

/// Tells a client that all connections are taken, and nothing more: it gets no place that those
/// who were here first could need. Of a crowd, the first are listened to so that they can read it.
pub async fn turn_away(front: Rc<Front>, stream: Stream) {
    let exchange = front.refusal(Problem::unavailable(Kind::TooManyConnections).into_response());
    let mut output = Vec::new();
    front.put(&exchange, &mut output);
    // One write into an empty socket buffer takes it whole, or the client has gone.
    let _ = stream.write(&output).await;
    if front.turned_away.get() < TURNED_AWAY_MAX {
        front.turned_away.update(|count| count + 1);
        let watch = front.deadlines.watch(stream.closer());
        linger(&stream, &watch).await;
        front.turned_away.update(|count| count - 1);
    }
}

/// Half-closes, and lets the client read its last answer: closing while it still
/// sends would reset the connection, and the answer with it (RFC 9112 section 9.6).
async fn linger(stream: &Stream, watch: &Watch) {
    if stream.end_writing().is_err() {
        return;
    }
    watch.read_until(watch.now().after(LINGER));
    let mut unheard = Vec::with_capacity(READ_ON_BYTES);
    // Also of a client that never lets the socket run empty.
    while !watch.has_expired() && readable(stream, watch).await {
        unheard.clear();
        match stream.read(&mut unheard) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// Waits until there is something to read; false when the time for that is over.
async fn readable(stream: &Stream, watch: &Watch) -> bool {
    poll_fn(|context| match stream.poll_readable(context) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending => watch.poll_expired(context).map(|()| false),
    })
    .await
}

/// Serves a connection until either side ends it.
pub async fn serve(front: Rc<Front>, stream: Stream, _permit: ConnectionPermit) {
    let metrics = front.metrics;
    metrics.connections_opened.add(1);
    let mut connection = Connection {
        watch: front.deadlines.watch(stream.closer()),
        parser: Parser::new(front.limits),
        reading: Reading::Nothing,
        in_body: false,
        read_at: Instant::now(),
        refused: 0,
        front,
        peer: stream.peer(),
        stream,
        input: Vec::new(),
        output: Vec::new(),
        pipeline: Pipeline::default(),
        closing: false,
        busy: None,
    };
    // The client has gone, or was told to go: either way it is over.
    let _ = connection.run().await;
    metrics.connections_closed.add(1);
}

/// The client is not there any more.
struct Gone;

/// Why nothing was read.
enum Unread {
    /// The client took too long.
    Late,
    Gone,
}

struct Connection {
    front: Rc<Front>,
    /// Dropped before the stream is, as it has to be.
    watch: Watch,
    stream: Stream,
    peer: IpAddr,
    reading: Reading,
    /// The head of the request that is half there is whole.
    in_body: bool,
    /// When the latest bytes came.
    read_at: Instant,
    /// Answers of 503 in the output.
    refused: u64,
    parser: Parser,
    /// Read, and not yet run.
    input: Vec<u8>,
    /// To be written.
    output: Vec<u8>,
    pipeline: Pipeline,
    /// Nothing more will be read: the last answer says so.
    closing: bool,
    /// Held while the body of a request is only half there.
    busy: Option<BusyMark>,
}

/// What a client is at, and since when.
#[derive(Clone, Copy)]
enum Reading {
    Nothing,
    Head {
        since: Tick,
    },
    Body {
        since: Tick,
        /// Bytes of the request that were there when its head was whole.
        from: usize,
    },
}

/// What the bytes hold next.
enum Next {
    Request { exchange: Exchange, safe: bool, shard: Option<usize>, consumed: usize },
    Incomplete { send_continue: bool },
    Refused(Refusal),
}

/// Requests under way, first come first answered.
#[derive(Default)]
struct Pipeline {
    exchanges: VecDeque<Exchange>,
    /// What those under way have in common.
    all_safe: bool,
    one_shard: Option<usize>,
}

struct Exchange {
    turn: Turn,
    request_id: RequestId,
    close: bool,
    announce_keep_alive: bool,
    omit_body: bool,
}

enum Turn {
    Prepared(Prepared),
    Running(Running),
    Done(Response),
}

impl Pipeline {
    /// Whether a request may run beside those under way, so that the outcome is as
    /// if each had waited for the one before (RFC 9112 section 9.3.2): requests to
    /// one shard are run by it in order, and safe ones do not care. What asks all
    /// shards waits its turn: a client that reads nothing may not hold many such
    /// answers, and the places in the mesh that they take.
    fn takes(&self, safe: bool, shard: Option<usize>) -> bool {
        let beside = shard.is_some() && (self.all_safe && safe || self.one_shard == shard);
        self.exchanges.is_empty() || self.exchanges.len() < PIPELINE_MAX && beside
    }

    fn push(&mut self, safe: bool, shard: Option<usize>, exchange: Exchange) {
        let first = self.exchanges.is_empty();
        self.all_safe = safe && (first || self.all_safe);
        self.one_shard = shard.filter(|_| first || self.one_shard == shard);
        self.exchanges.push_back(exchange);
    }
}

impl Connection {
    async fn run(&mut self) -> Result<(), Gone> {
        while !self.closing {
            self.set_read_deadline();
            match self.read().await {
                Ok(()) => {}
                Err(Unread::Late) if !self.input.is_empty() => {
                    self.closing = true;
                    self.refuse(Problem::plain(Kind::RequestTimeout)).await?;
                    self.flush().await?;
                    break;
                }
                Err(Unread::Late | Unread::Gone) => return Err(Gone),
            }
            self.watch.without_end();
            let busy = BusyMark::new(&self.front);
            self.serve_input().await?;
            self.busy = Some(busy).filter(|_| !self.input.is_empty() && (self.in_body || self.closing));
        }
        linger(&self.stream, &self.watch).await;
        Ok(())
    }

    /// By what the client is at: nothing, a head, or a body.
    fn set_read_deadline(&mut self) {
        let Patience { head, body_grace, idle, .. } = self.front.patience;
        let now = self.watch.now();
        let received = self.input.len();
        self.reading = match (self.reading, self.in_body) {
            _ if received == 0 => Reading::Nothing,
            (Reading::Head { since }, false) => Reading::Head { since },
            (Reading::Body { since, from }, true) => Reading::Body { since, from },
            (_, false) => Reading::Head { since: now },
            (_, true) => Reading::Body { since: now, from: received },
        };
        self.watch.read_until(match self.reading {
            Reading::Nothing => now.after(idle),
            Reading::Head { since } => since.after(head),
            Reading::Body { since, from } => {
                let earned = (received - from) as u64 / BODY_BYTES_PER_SECOND;
                since.after(body_grace + Duration::from_secs(earned))
            }
        });
    }

    async fn read(&mut self) -> Result<(), Unread> {
        while readable(&self.stream, &self.watch).await {
            if self.input.is_empty() {
                self.input = self.front.input.take();
                self.input.reserve(READ_BYTES);
            } else {
                self.input.reserve(READ_ON_BYTES);
            }
            match self.stream.read(&mut self.input) {
                Ok(1..) => {
                    self.read_at = Instant::now();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.keep_input(0),
                Ok(0) | Err(_) => return Err(Unread::Gone),
            }
        }
        Err(Unread::Late)
    }

    /// Runs every whole request that was read, and writes what came of them.
    async fn serve_input(&mut self) -> Result<(), Gone> {
        let mut start = 0;
        let mut owes_continue = false;
        while !self.closing {
            match self.next(start) {
                Next::Request { exchange, safe, shard, consumed } => {
                    if !self.pipeline.takes(safe, shard) {
                        let seen = (self.watch.now(), self.front.api.verified.asking());
                        self.answer_all().await?;
                        if seen != (self.watch.now(), self.front.api.verified.asking()) {
                            // It is read again, now that it is its turn: its token may have ended.
                            continue;
                        }
                    }
                    start += consumed;
                    self.closing = exchange.close;
                    self.begin(safe, shard, exchange).await;
                }
                Next::Incomplete { send_continue } => {
                    owes_continue = send_continue;
                    break;
                }
                Next::Refused(refusal) => {
                    self.answer_all().await?;
                    self.closing = true;
                    self.refuse(Problem::from(refusal)).await?;
                }
            }
        }
        if start > 0 {
            self.reading = Reading::Nothing;
        }
        self.keep_input(start);
        self.answer_all().await?;
        if owes_continue {
            self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.flush().await
    }

    /// Apart from [`Connection::serve_input`], where each connection that waits would have room
    /// for a parsed request.
    fn next(&mut self, start: usize) -> Next {
        match self.parser.parse(&self.input[start..]) {
            Ok(Progress::Complete { request, consumed }) => {
                let api = &self.front.api;
                let prepared = api.prepare(&request, self.peer);
                let (safe, shard) = match prepared.question() {
                    Some(question) => (question.is_safe(), Some(api.shards.owner(question))),
                    None => (false, None),
                };
                Next::Request { exchange: self.front.exchange(&request, prepared), safe, shard, consumed }
            }
            Ok(Progress::Incomplete { send_continue, in_body }) => {
                self.in_body = in_body;
                Next::Incomplete { send_continue }
            }
            Err(refusal) => Next::Refused(refusal),
        }
    }

    /// Forgets what was run. The rest is kept in a buffer of its own, unless it is large, so that
    /// the core's goes on to the next connection.
    fn keep_input(&mut self, start: usize) {
        let rest = self.input.len() - start;
        if self.input.capacity() < READ_BYTES && rest > 0 || rest > READ_ON_BYTES {
            self.input.drain(..start);
            return;
        }
        let rest = self.input[start..].to_vec();
        let mut buffer = std::mem::replace(&mut self.input, rest);
        // What a large body needed goes.
        if (READ_BYTES..=2 * READ_BYTES).contains(&buffer.capacity()) {
            buffer.clear();
            self.front.input.set(buffer);
        }
    }

    /// The last answer on a connection whose bytes cannot be trusted any more, or do not come.
    async fn refuse(&mut self, problem: Problem) -> Result<(), Gone> {
        let exchange = self.front.refusal(problem.into_response());
        self.begin(false, None, exchange).await;
        self.answer_all().await
    }

    /// Starts a request: what it asks of a shard is on its way when this returns.
    async fn begin(&mut self, safe: bool, shard: Option<usize>, mut exchange: Exchange) {
        self.front.metrics.requests.add(1);
        if let Turn::Prepared(prepared) = exchange.turn {
            exchange.turn = match prepared.begin(&self.front.api.shards).await {
                Begun::Running(running) => Turn::Running(running),
                Begun::Done(response) => Turn::Done(response),
            };
        }
        self.pipeline.push(safe, shard, exchange);
    }

    /// Waits for everything under way, in order, and puts it into the output.
    async fn answer_all(&mut self) -> Result<(), Gone> {
        while let Some(mut exchange) = self.pipeline.exchanges.pop_front() {
            if let Turn::Running(running) = &mut exchange.turn {
                let response = match poll_once(&mut *running).await {
                    Some(response) => response,
                    None => {
                        // Nobody who has an answer waits for one who has none.
                        self.flush().await?;
                        running.await
                    }
                };
                exchange.turn = Turn::Done(response);
            }
            if self.output.is_empty() {
                self.output = self.front.output.take();
            }
            self.refused += u64::from(self.front.put(&exchange, &mut self.output) == 503);
            if self.output.len() >= WRITE_BYTES {
                self.flush().await?;
            }
            if let Some(body) = exchange.into_large_body() {
                self.write_large(body).await?;
            }
        }
        Ok(())
    }

    /// Only one piece of it is copied at a time.
    async fn write_large(&mut self, body: Cow<'static, [u8]>) -> Result<(), Gone> {
        for piece in body.chunks(WRITE_BYTES) {
            self.output.extend_from_slice(piece);
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        if self.output.is_empty() {
            return Ok(());
        }
        let mut written = 0;
        while written < self.output.len() {
            self.watch.write_until(self.watch.now().after(self.front.patience.stalled));
            match self.stream.write(&self.output[written..]).await {
                Ok(count) if count > 0 => written += count,
                Ok(_) | Err(_) => return Err(Gone),
            }
        }
        self.watch.without_end();
        if self.refused > 0 {
            self.front.metrics.refusal_time.observe(self.read_at.elapsed(), self.refused);
            self.refused = 0;
        }
        let mut buffer = std::mem::take(&mut self.output);
        // What a burst needed goes.
        if buffer.capacity() <= WRITE_BYTES {
            buffer.clear();
            self.front.output.set(buffer);
        }
        Ok(())
    }
}

impl Front {
    fn exchange(&self, request: &Request<'_>, prepared: Prepared) -> Exchange {
        self.requests.update(|requests| requests + 1);
        Exchange {
            turn: Turn::Prepared(prepared),
            request_id: self.request_id(Some(request)),
            close: !request.keep_alive || self.is_draining(),
            announce_keep_alive: request.version == Version::Http10,
            omit_body: request.method == Method::Head,
        }
    }

    /// The last answer on a connection whose bytes cannot be trusted any more.
    fn refusal(&self, response: Response) -> Exchange {
        self.requests.update(|requests| requests + 1);
        Exchange {
            turn: Turn::Done(response),
            request_id: self.request_id(None),
            close: true,
            announce_keep_alive: false,
            omit_body: false,
        }
    }

    /// Returns the status.
    fn put(&self, exchange: &Exchange, output: &mut Vec<u8>) -> u16 {
        let Turn::Done(response) = &exchange.turn else { unreachable!("it is put when it is done") };
        self.metrics.responses[usize::from(response.status / 100)].add(1);
        if response.status == 503 {
            self.metrics.overloaded.add(1);
        }
        self.dates.with(|date| {
            let envelope = Envelope {
                request_id: &exchange.request_id,
                date,
                close: exchange.close,
                announce_keep_alive: exchange.announce_keep_alive,
                omit_body: exchange.omit_body,
            };
            response.write(&envelope, output);
        });
        response.status
    }
}

impl Exchange {
    /// The body that its head was written without.
    fn into_large_body(self) -> Option<Cow<'static, [u8]>> {
        match self.turn {
            Turn::Done(response) if !self.omit_body => {
                Some(response.body).filter(|body| body.len() > BODY_AT_ONCE_MAX)
            }
            Turn::Done(_) | Turn::Prepared(_) | Turn::Running(_) => None,
        }
    }
}

/// Counts a connection as busy for as long as it lives.
struct BusyMark(Rc<Front>);

impl BusyMark {
    fn new(front: &Rc<Front>) -> BusyMark {
        front.busy.update(|busy| busy + 1);
        BusyMark(Rc::clone(front))
    }
}

impl Drop for BusyMark {
    fn drop(&mut self) {
        self.0.busy.update(|busy| busy - 1);
    }
}
