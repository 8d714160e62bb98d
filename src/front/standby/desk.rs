//! What the standby thread answers to whom.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use storage::Progress as RecoveryProgress;

use crate::front::api::{Common, answer_without_core};
use crate::front::cors::{Cors, preflight};
use crate::front::http::parse::{Limits, Method, Parser, Progress, Request, Version};
use crate::front::http::write::{DateClock, Envelope, RequestId, Response};
use crate::front::problem::{Kind, Problem, Recovery};
use crate::metrics::{CoreMetrics, Metrics};
use crate::random;

/// The most that is peeked at. A check of health sends a few hundred bytes.
pub(super) const PEEK_BYTES: usize = 4096;

/// What becomes of a connection that has sent some bytes.
pub(super) enum Verdict {
    /// More bytes are needed to tell.
    Wait,
    /// It is for its core.
    HandOver,
    /// These bytes are its answer.
    Answer(Vec<u8>),
}

pub(crate) struct Desk {
    boot_id: String,
    limits: Limits,
    metrics: &'static Metrics,
    progress: Arc<RecoveryProgress>,
    cors: Option<Arc<Cors>>,
    /// `None` while the server starts.
    common: Option<Arc<Common>>,
    dates: DateClock,
    /// The first part of the ids of this thread's requests.
    id: u32,
    requests: u64,
}

impl Desk {
    pub(crate) fn new(
        boot_id: String,
        limits: Limits,
        metrics: &'static Metrics,
        progress: Arc<RecoveryProgress>,
        cors: Option<Arc<Cors>>,
    ) -> Desk {
        let (dates, id) = (DateClock::default(), random::u64() as u32);
        Desk { boot_id, limits, metrics, progress, cors, common: None, dates, id, requests: 0 }
    }

    pub(super) fn stand_by(&mut self, common: Arc<Common>) {
        self.common = Some(common);
    }

    pub(super) fn common(&self) -> Option<&Common> {
        self.common.as_deref()
    }

    pub(super) fn cores_run(&self) -> bool {
        self.common.is_some()
    }

    pub(super) fn metrics(&self) -> &'static CoreMetrics {
        &self.metrics.standby
    }

    pub(super) fn count_stalled(&self, cores: usize) {
        self.metrics.stalled.set(cores as u64);
    }

    /// Looks at all that a connection has sent, of which nothing was read.
    pub(super) fn decide(&mut self, bytes: &[u8]) -> Verdict {
        match Parser::new(self.limits).parse(bytes) {
            // A connection is closed after its answer, so one that has sent another request goes to its core.
            Ok(Progress::Complete { consumed, .. }) if self.cores_run() && consumed < bytes.len() => {
                Verdict::HandOver
            }
            Ok(Progress::Complete { request, consumed: _ }) => {
                match answer_without_core(&request, &self.boot_id, self.common()) {
                    Some(result) => {
                        let response = result.unwrap_or_else(Problem::into_response);
                        Verdict::Answer(self.write(Some(&request), bytes, &response))
                    }
                    None => self.leave_to_core(Some(&request), bytes),
                }
            }
            // Neither is health: a request with a body, and one with so long a head.
            Ok(Progress::Incomplete { in_body: true, .. }) => self.leave_to_core(None, bytes),
            Ok(Progress::Incomplete { .. }) if bytes.len() >= PEEK_BYTES => self.leave_to_core(None, bytes),
            Ok(Progress::Incomplete { .. }) => Verdict::Wait,
            Err(_) if self.cores_run() => Verdict::HandOver,
            Err(refusal) => Verdict::Answer(self.write(None, bytes, &Problem::from(refusal).into_response())),
        }
    }

    /// The answer to a request that did not come in time.
    pub(super) fn late(&mut self) -> Vec<u8> {
        self.write(None, b"", &Problem::plain(Kind::RequestTimeout).into_response())
    }

    fn leave_to_core(&mut self, request: Option<&Request<'_>>, bytes: &[u8]) -> Verdict {
        if self.cores_run() {
            return Verdict::HandOver;
        }
        // A browser asks whether it may before it asks anything that a page could show the refusal of.
        let preflight = request.and_then(|request| preflight(self.cors.as_deref()?, request));
        if let Some(response) = preflight {
            return Verdict::Answer(self.write(request, bytes, &response));
        }
        let recovery = Recovery {
            records_read: self.progress.records_done.load(Ordering::Relaxed),
            records: self.progress.records_total.load(Ordering::Relaxed),
        };
        let problem = Problem::starting(&self.boot_id, recovery);
        Verdict::Answer(self.write(request, bytes, &problem.into_response()))
    }

    /// Counts a connection with one request, which is answered and then closed.
    fn write(&mut self, request: Option<&Request<'_>>, bytes: &[u8], response: &Response) -> Vec<u8> {
        self.requests += 1;
        let metrics = self.metrics();
        metrics.connections_opened.add(1);
        metrics.requests.add(1);
        metrics.answered(response.status);
        let request_id = RequestId::of(request, self.id, self.requests);
        let mut output = Vec::new();
        self.dates.with(|date| {
            let envelope = Envelope {
                request_id: &request_id,
                date,
                close: true,
                version: request.map_or(Version::Http11, |request| request.version),
                omit_body: request.is_some_and(|request| request.method == Method::Head),
                fields: self.cors.as_ref().map(|cors| cors.for_bytes(bytes)),
            };
            response.write(&envelope, &mut output);
        });
        output
    }
}
