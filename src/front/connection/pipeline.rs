//! The requests in progress on one connection. They run at the same time where that does not change
//! their outcomes, and are answered in the order in which they arrived.

use std::collections::VecDeque;

use futures_lite::future::poll_once;

use super::front::Front;
use super::writing::WRITE_BYTES;
use super::{Connection, Gone};
use crate::front::api::{Begun, Newcomer, Prepared, Running};
use crate::front::cors::Fields;
use crate::front::http::body::{Body, BodyStream, Framing};
use crate::front::http::parse::{Method, Request, Version};
use crate::front::http::write::{Envelope, RequestId, Response};
use crate::front::problem::Problem;

/// The most requests of one connection that are read but not yet answered.
const PIPELINE_MAX: usize = 128;

/// The requests that were begun and are not answered yet, oldest first.
#[derive(Default)]
pub(super) struct Pipeline {
    exchanges: VecDeque<Exchange>,
    /// Whether all of them are safe.
    all_safe: bool,
    /// The one shard that all of them ask, if there is one.
    one_shard: Option<usize>,
    /// Whether the newest of them is answered with a stream of unknown length.
    is_streaming: bool,
}

/// A request, and its answer as far as it is known.
pub(super) struct Exchange {
    turn: Turn,
    request_id: RequestId,
    pub(super) close: bool,
    version: Version,
    omit_body: bool,
    /// What lets a page of another origin read the answer.
    cors: Option<Fields>,
}

enum Turn {
    Prepared(Prepared),
    Running(Running),
    Done(Response),
}

impl Pipeline {
    /// Whether a request may begin while those before it run. The outcomes have to be the same as if
    /// each had waited for the one before (RFC 9112 section 9.3.2). They are if all of them ask one
    /// shard, which runs them in order, or if all are safe, since then the order does not matter. A
    /// request that asks all shards waits for those before it. Otherwise a client that reads nothing
    /// could hold many such answers, and their places in the mesh. A request after a stream waits for
    /// the stream's end.
    pub(super) fn takes(&self, safe: bool, shard: Option<usize>) -> bool {
        let concurrent = shard.is_some() && (self.all_safe && safe || self.one_shard == shard);
        let has_room = self.exchanges.len() < PIPELINE_MAX && !self.is_streaming;
        self.exchanges.is_empty() || has_room && concurrent
    }

    /// Keeps no memory for requests, if there are none.
    pub(super) fn keep_no_room(&mut self) {
        self.exchanges.shrink_to_fit();
    }

    fn push(&mut self, safe: bool, shard: Option<usize>, exchange: Exchange) {
        let first = self.exchanges.is_empty();
        self.all_safe = safe && (first || self.all_safe);
        self.one_shard = shard.filter(|_| first || self.one_shard == shard);
        self.is_streaming = exchange.is_open_ended();
        self.exchanges.push_back(exchange);
    }
}

impl Exchange {
    /// Takes the sender out that has to arrive before the request can begin.
    pub(super) fn newcomer(&mut self) -> Option<Box<Newcomer>> {
        match &mut self.turn {
            Turn::Prepared(prepared) => prepared.newcomer(),
            Turn::Running(_) | Turn::Done(_) => None,
        }
    }

    /// Refuses a request that has not begun.
    pub(super) fn refuse(&mut self, problem: Problem) {
        if let Turn::Prepared(prepared) = &mut self.turn {
            prepared.refuse(problem);
        }
    }

    /// The framing of the body; `None` if the answer is not known yet or has no body.
    fn framing(&self) -> Option<Framing> {
        match &self.turn {
            Turn::Done(response) if !self.omit_body => Some(response.body.framing(self.version)),
            Turn::Done(_) | Turn::Prepared(_) | Turn::Running(_) => None,
        }
    }

    /// Whether the answer is known and its body has no known length.
    fn is_open_ended(&self) -> bool {
        match self.framing() {
            Some(Framing::Chunked | Framing::UntilClose) => true,
            Some(Framing::Length(_)) | None => false,
        }
    }

    /// The stream of the body, if it is one, to be written after the head.
    fn into_stream(self) -> Option<(Box<dyn BodyStream>, Framing)> {
        let framing = self.framing()?;
        match self.turn {
            Turn::Done(Response { body: Body::Stream(stream), .. }) => Some((stream, framing)),
            Turn::Done(_) | Turn::Prepared(_) | Turn::Running(_) => None,
        }
    }
}

impl Connection {
    /// Starts a request: its first question to a shard has been sent when this returns.
    pub(super) async fn begin(&mut self, safe: bool, shard: Option<usize>, mut exchange: Exchange) {
        self.front.metrics.requests.add(1);
        if let Turn::Prepared(prepared) = exchange.turn {
            exchange.turn = match prepared.begin(&self.front.api).await {
                Begun::Running(running) => Turn::Running(running),
                Begun::Done(response) => Turn::Done(response),
            };
        }
        self.pipeline.push(safe, shard, exchange);
    }

    /// Waits for all requests in progress, in order, and puts their answers into the output. Streams are
    /// written to their end.
    pub(super) async fn answer_all(&mut self) -> Result<(), Gone> {
        while let Some(mut exchange) = self.pipeline.exchanges.pop_front() {
            if let Turn::Running(running) = &mut exchange.turn {
                let is_next = self.output.is_empty();
                let response = match if is_next { None } else { poll_once(&mut *running).await } {
                    Some(response) => response,
                    None => {
                        // The answers before it are ready: they are written now.
                        self.flush().await?;
                        running.await
                    }
                };
                exchange.turn = Turn::Done(response);
            }
            if exchange.framing() == Some(Framing::UntilClose) {
                exchange.close = true;
                self.closing = true;
                // The end of the connection marks the end of the body, so later requests are dropped.
                self.pipeline = Pipeline::default();
            }
            if self.output.is_empty() {
                self.output = self.front.output.take();
            }
            self.refused += u64::from(self.front.put(&exchange, &mut self.output) == 503);
            if self.output.len() >= WRITE_BYTES {
                self.flush().await?;
                self.slice.yield_if_over().await;
            }
            if let Some((stream, framing)) = exchange.into_stream() {
                // Boxed, so that not every connection holds memory for this future.
                Box::pin(self.write_stream(stream, framing)).await?;
            }
        }
        Ok(())
    }
}

impl Front {
    pub(super) fn exchange(&self, request: &Request<'_>, prepared: Prepared) -> Exchange {
        self.requests.update(|requests| requests + 1);
        Exchange {
            turn: Turn::Prepared(prepared),
            request_id: self.request_id(Some(request)),
            close: !request.keep_alive || self.is_draining(),
            version: request.version,
            omit_body: request.method == Method::Head,
            cors: self.api.common.cors.as_ref().map(|cors| cors.for_request(request)),
        }
    }

    /// The last answer on a connection, to bytes that are no request.
    pub(super) fn refusal(&self, response: Response, bytes: &[u8]) -> Exchange {
        self.requests.update(|requests| requests + 1);
        Exchange {
            turn: Turn::Done(response),
            request_id: self.request_id(None),
            close: true,
            version: Version::Http11,
            omit_body: false,
            cors: self.api.common.cors.as_ref().map(|cors| cors.for_bytes(bytes)),
        }
    }

    /// Appends the finished answer to `output`, and returns its status.
    pub(super) fn put(&self, exchange: &Exchange, output: &mut Vec<u8>) -> u16 {
        let Turn::Done(response) = &exchange.turn else { unreachable!("it is put when it is done") };
        self.metrics.answered(response.status);
        self.dates.with(|date| {
            let envelope = Envelope {
                request_id: &exchange.request_id,
                date,
                close: exchange.close,
                version: exchange.version,
                omit_body: exchange.omit_body,
                fields: exchange.cors,
            };
            response.write(&envelope, output);
        });
        response.status
    }
}
