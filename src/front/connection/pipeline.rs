//! Requests under way on one connection: run at once where that changes nothing, answered in the
//! order in which they came.

use std::collections::VecDeque;

use futures_lite::future::poll_once;

use super::front::Front;
use super::writing::WRITE_BYTES;
use super::{Connection, Gone};
use crate::front::api::{Begun, Prepared, Running};
use crate::front::http::body::{Body, BodyStream, Framing};
use crate::front::http::parse::{Method, Request, Version};
use crate::front::http::write::{Envelope, RequestId, Response};

/// Requests of one connection that are read but not yet answered.
const PIPELINE_MAX: usize = 128;

/// The requests that were begun and are not answered yet, oldest first.
#[derive(Default)]
pub(super) struct Pipeline {
    exchanges: VecDeque<Exchange>,
    /// All of them are safe.
    all_safe: bool,
    /// The shard that all of them ask.
    one_shard: Option<usize>,
    /// The newest of them is answered with a stream that may last for ever.
    is_streaming: bool,
}

/// A request and what is known of its answer.
pub(super) struct Exchange {
    turn: Turn,
    request_id: RequestId,
    pub(super) close: bool,
    version: Version,
    omit_body: bool,
}

enum Turn {
    Prepared(Prepared),
    Running(Running),
    Done(Response),
}

impl Pipeline {
    /// Whether a request may be begun while those before it run, so that the outcome is as
    /// if each had waited for the one before (RFC 9112 section 9.3.2): requests to
    /// one shard are run by it in order, and the order of safe ones does not matter. A request
    /// that asks all shards waits for those before it: a client that reads nothing may not hold
    /// many such answers, and the places in the mesh that they take. What follows a stream waits
    /// for its end.
    pub(super) fn takes(&self, safe: bool, shard: Option<usize>) -> bool {
        let concurrent = shard.is_some() && (self.all_safe && safe || self.one_shard == shard);
        let has_room = self.exchanges.len() < PIPELINE_MAX && !self.is_streaming;
        self.exchanges.is_empty() || has_room && concurrent
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
    /// How the body will be framed, once it is known and if there will be one.
    fn framing(&self) -> Option<Framing> {
        match &self.turn {
            Turn::Done(response) if !self.omit_body => Some(response.body.framing(self.version)),
            Turn::Done(_) | Turn::Prepared(_) | Turn::Running(_) => None,
        }
    }

    /// Whether it is known to be answered with a body of unknown length.
    fn is_open_ended(&self) -> bool {
        match self.framing() {
            Some(Framing::Chunked | Framing::UntilClose) => true,
            Some(Framing::Length(_)) | None => false,
        }
    }

    /// The stream that is to follow its head.
    fn into_stream(self) -> Option<(Box<dyn BodyStream>, Framing)> {
        let framing = self.framing()?;
        match self.turn {
            Turn::Done(Response { body: Body::Stream(stream), .. }) => Some((stream, framing)),
            Turn::Done(_) | Turn::Prepared(_) | Turn::Running(_) => None,
        }
    }
}

impl Connection {
    /// Starts a request: what it asks of a shard is on its way when this returns.
    pub(super) async fn begin(&mut self, safe: bool, shard: Option<usize>, mut exchange: Exchange) {
        self.front.metrics.requests.add(1);
        if let Turn::Prepared(prepared) = exchange.turn {
            exchange.turn = match prepared.begin(&self.front.api.shards).await {
                Begun::Running(running) => Turn::Running(running),
                Begun::Done(response) => Turn::Done(response),
            };
        }
        self.pipeline.push(safe, shard, exchange);
    }

    /// Waits for everything under way, in order, and puts it into the output; streams are written.
    pub(super) async fn answer_all(&mut self) -> Result<(), Gone> {
        while let Some(mut exchange) = self.pipeline.exchanges.pop_front() {
            if let Turn::Running(running) = &mut exchange.turn {
                let response = match poll_once(&mut *running).await {
                    Some(response) => response,
                    None => {
                        // Answers that are ready do not wait for one that is not.
                        self.flush().await?;
                        running.await
                    }
                };
                exchange.turn = Turn::Done(response);
            }
            if exchange.framing() == Some(Framing::UntilClose) {
                exchange.close = true;
                self.closing = true;
                // The end of the body is the end of the connection, so nothing follows it.
                self.pipeline = Pipeline::default();
            }
            if self.output.is_empty() {
                self.output = self.front.output.take();
            }
            self.refused += u64::from(self.front.put(&exchange, &mut self.output) == 503);
            if self.output.len() >= WRITE_BYTES {
                self.flush().await?;
            }
            if let Some((stream, framing)) = exchange.into_stream() {
                // Boxed, since every connection would have room for it.
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
        }
    }

    /// The last answer on a connection whose bytes cannot be trusted any more.
    pub(super) fn refusal(&self, response: Response) -> Exchange {
        self.requests.update(|requests| requests + 1);
        Exchange {
            turn: Turn::Done(response),
            request_id: self.request_id(None),
            close: true,
            version: Version::Http11,
            omit_body: false,
        }
    }

    /// Returns the status.
    pub(super) fn put(&self, exchange: &Exchange, output: &mut Vec<u8>) -> u16 {
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
                version: exchange.version,
                omit_body: exchange.omit_body,
            };
            response.write(&envelope, output);
        });
        response.status
    }
}
