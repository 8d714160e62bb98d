//! One client's connection: reads requests from bytes, and writes their responses in order.

mod front;
mod linger;
mod pipeline;
mod reading;
mod room;
mod streaming;
#[cfg(test)]
mod tests;
mod writing;

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

pub(crate) use front::Front;
pub(crate) use room::admit;

use super::deadlines::Deadline;
use super::http::parse::{Parser, Progress, Refusal};
use super::places::Place;
use super::problem::{Kind, Problem};
use crate::rt::net::Stream;
use crate::rt::{TimeSlice, yield_now};
use front::BusyMark;
use linger::{linger, reject};
use pipeline::{Exchange, Pipeline};
use reading::{Reading, Unread};

/// Serves a connection until either side ends it.
pub(crate) async fn serve(front: Rc<Front>, stream: Stream, place: Place) {
    let metrics = front.metrics;
    metrics.connections_opened.add(1);
    let mut connection = Connection {
        deadline: front.deadlines.deadline(stream.closer(), place.holder()),
        parser: Parser::new(front.limits),
        reading: Reading::First,
        in_body: false,
        read_at: Instant::now(),
        slice: TimeSlice::begin(),
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
    // After an error there is no one left to answer.
    let _ = connection.run().await;
    metrics.connections_closed.add(1);
}

/// The connection is over without a further answer: the client disconnected or was too slow, or a stream
/// failed.
struct Gone;

struct Connection {
    front: Rc<Front>,
    /// Has to be dropped before `stream`, so it is declared first.
    deadline: Deadline,
    stream: Stream,
    peer: IpAddr,
    reading: Reading,
    /// Whether the head of the incomplete request in `input` is complete.
    in_body: bool,
    /// The time of the latest read.
    read_at: Instant,
    /// Begins with each read.
    slice: TimeSlice,
    /// The number of answers in `output` with status 503.
    refused: u64,
    parser: Parser,
    /// Bytes that were read and not yet run as requests.
    input: Vec<u8>,
    /// Bytes to be written.
    output: Vec<u8>,
    pipeline: Pipeline,
    /// Whether the connection closes, so that no further request is run.
    closing: bool,
    /// Held while the body of a request is incomplete.
    busy: Option<BusyMark>,
}

/// The next thing in the input.
enum Next {
    Request { exchange: Exchange, safe: bool, shard: Option<usize>, consumed: usize },
    Incomplete { send_continue: bool },
    Refused(Refusal),
}

impl Connection {
    async fn run(&mut self) -> Result<(), Gone> {
        while !self.closing {
            self.set_read_deadline();
            match self.read().await {
                Ok(()) => {}
                Err(Unread::Late) if !self.input.is_empty() => {
                    self.closing = true;
                    self.refuse(Problem::plain(Kind::RequestTimeout), 0).await?;
                    self.flush().await?;
                    break;
                }
                Err(Unread::Late | Unread::Gone) => return Err(Gone),
            }
            self.deadline.clear();
            let busy = self.busy.take().unwrap_or_else(|| BusyMark::new(&self.front));
            self.serve_input().await?;
            self.busy = Some(busy).filter(|_| !self.input.is_empty() && (self.in_body || self.closing));
            if self.stream.is_readable() {
                // Other connections run before this one reads on.
                yield_now().await;
            }
        }
        linger(&self.stream, &self.deadline).await;
        Ok(())
    }

    /// Runs every complete request in the input, and writes the answers.
    async fn serve_input(&mut self) -> Result<(), Gone> {
        let mut start = 0;
        let mut owes_continue = false;
        while !self.closing {
            if start > 0 {
                if start == self.input.len() {
                    break;
                }
                self.slice.yield_if_over().await;
            }
            match self.next(start) {
                Next::Request { mut exchange, safe, shard, consumed } => {
                    if let Some(newcomer) = exchange.newcomer() {
                        self.answer_all().await?;
                        if self.closing {
                            continue;
                        }
                        // Boxed, so that not every connection holds memory for this future.
                        match Box::pin(newcomer.arrive()).await {
                            // The request is parsed and authenticated again, with a token that is known now.
                            Ok(()) => continue,
                            Err(problem) => exchange.refuse(problem),
                        }
                    }
                    if !self.pipeline.takes(safe, shard) {
                        let seen = (self.deadline.now(), self.front.api.verified.asking());
                        self.answer_all().await?;
                        if self.closing || seen != (self.deadline.now(), self.front.api.verified.asking()) {
                            // Time has passed, or tokens were revoked, so the request's token may have
                            // ended: the request is parsed and authenticated again. If the connection
                            // closes, it is not run at all.
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
                    if !self.closing {
                        self.closing = true;
                        self.refuse(Problem::from(refusal), start).await?;
                    }
                }
            }
        }
        if start > 0 {
            self.reading = Reading::Nothing;
        }
        self.keep_input(start);
        self.answer_all().await?;
        if owes_continue && !self.closing {
            self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.flush().await
    }

    /// Parses the next request. A function of its own: in [`Connection::serve_input`], the future of each
    /// waiting connection would hold memory for a parsed request.
    fn next(&mut self, start: usize) -> Next {
        match self.parser.parse(&self.input[start..]) {
            Ok(Progress::Complete { request, consumed }) => {
                self.in_body = false;
                let prepared = self.front.prepare(&request, self.peer);
                let (safe, shard) = match prepared.question() {
                    Some(question) => (question.is_safe(), Some(self.front.api.shards.owner(question))),
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

    /// Gives the last answer on a connection whose bytes from `start` on cannot be parsed, or do not arrive in time.
    async fn refuse(&mut self, problem: Problem, start: usize) -> Result<(), Gone> {
        let exchange = self.front.refusal(problem.into_response(), &self.input[start..]);
        self.begin(false, None, exchange).await;
        self.answer_all().await
    }
}
