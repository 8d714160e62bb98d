//! The reference for our parser: parses the bytes of a connection with hyper's server.
//!
//! Owns the driver: hyper over bytes in memory, polled by hand, without a runtime, socket or clock.
//! Returns the exact end of each request. Independent of our parser, except that both split field
//! lines with httparse.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{self, Future};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Version};

/// The maximum number of polls, far above what a test needs, so that an endless loop fails.
const POLLS_MAX: usize = 100_000;

/// hyper's result for the first request of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept(Accepted),
    /// With hyper's error message.
    Refuse(String),
    /// The bytes end within the request.
    Wait,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) method: String,
    /// The path, or the authority for CONNECT.
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) is_http_1_0: bool,
    /// Names in lower case; repeated fields have an entry each.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    /// The decoded body.
    pub(crate) body: Vec<u8>,
    /// The length of the request; the next one begins after it.
    pub(crate) consumed: usize,
}

/// Parses the first request, on its own connection.
///
/// The service never answers, so that hyper stops after the request and returns the unused bytes.
pub(crate) fn first(bytes: &[u8]) -> Verdict {
    let run = Run::of(bytes, false);
    let unused = run.unused;
    let seen = run.seen.into_iter().next();
    match (seen, run.refused) {
        (Some(Seen { head, body, whole: true, .. }), _) => {
            Verdict::Accept(Accepted { body, consumed: bytes.len() - unused, ..head })
        }
        (_, Some(refused)) => Verdict::Refuse(refused),
        (_, None) => Verdict::Wait,
    }
}

/// The requests that hyper executes on one connection, in order and without `consumed`, and whether
/// hyper closed the connection after the last.
pub(crate) fn connection(bytes: &[u8]) -> (Vec<Accepted>, bool) {
    let run = Run::of(bytes, true);
    let seen = run.seen.into_iter().filter(|seen| seen.whole);
    let accepted = seen.map(|seen| Accepted { body: seen.body, ..seen.head });
    (accepted.collect(), run.hung_up)
}

/// The part of a request that the service has received from hyper.
struct Seen {
    head: Accepted,
    body: Vec<u8>,
    whole: bool,
    /// hyper's error message if the body is invalid.
    broken: Option<String>,
}

struct Run {
    seen: Vec<Seen>,
    refused: Option<String>,
    unused: usize,
    hung_up: bool,
}

impl Run {
    fn of(bytes: &[u8], answers: bool) -> Self {
        let log = Rc::new(RefCell::new(Vec::new()));
        let service = service_fn(|request| Box::pin(serve(request, Rc::clone(&log), answers)));
        let input = Input { bytes: bytes.to_vec(), at: 0 };
        let mut server = http1::Builder::new();
        server.header_read_timeout(None).auto_date_header(false);
        let mut connection = server.serve_connection(input, service);
        let outcome = drive(&mut connection);
        let parts = connection.into_parts();
        let unused = parts.read_buf.len() + bytes.len() - parts.io.at;
        let (refused, hung_up) = match outcome {
            Some(Ok(())) => (None, true),
            Some(Err(error)) => (Some(error.to_string()), false),
            None => (None, false),
        };
        let seen: Vec<Seen> = log.take();
        // hyper reports an invalid body to the service only, while the service is pending.
        let broken = seen.iter().find_map(|seen| seen.broken.clone());
        Self { seen, refused: broken.or(refused), unused, hung_up }
    }
}

/// Polls until the connection completes or is no longer woken.
fn drive(connection: &mut (impl Future<Output = hyper::Result<()>> + Unpin)) -> Option<hyper::Result<()>> {
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    for _ in 0..POLLS_MAX {
        if !woken.0.swap(false, Ordering::Relaxed) {
            return None;
        }
        if let Poll::Ready(outcome) = Pin::new(&mut *connection).poll(&mut context) {
            return Some(outcome);
        }
    }
    panic!("hyper does not complete");
}

async fn serve(
    request: Request<Incoming>,
    log: Rc<RefCell<Vec<Seen>>>,
    answers: bool,
) -> Result<Response<String>, Infallible> {
    let (head, mut body) = request.into_parts();
    let is_connect = head.method == Method::CONNECT;
    let target = &head.uri;
    let path = if is_connect { target.authority().map_or("", |it| it.as_str()) } else { target.path() };
    let fields = head.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    let index = log.borrow().len();
    log.borrow_mut().push(Seen {
        head: Accepted {
            method: head.method.to_string(),
            path: path.to_owned(),
            query: target.query().map(str::to_owned),
            is_http_1_0: head.version == Version::HTTP_10,
            fields: fields.collect(),
            body: Vec::new(),
            consumed: 0,
        },
        body: Vec::new(),
        whole: false,
        broken: None,
    });
    while let Some(frame) = future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let broken = store(&mut log.borrow_mut()[index], frame).is_err();
        if broken {
            future::pending::<()>().await;
        }
    }
    log.borrow_mut()[index].whole = true;
    if !answers {
        future::pending::<()>().await;
    }
    let mut response = Response::new(String::new());
    // A 2xx response to CONNECT would turn the connection into a tunnel.
    if is_connect {
        *response.status_mut() = hyper::StatusCode::METHOD_NOT_ALLOWED;
    }
    Ok(response)
}

/// Stores a part of a body, or the error.
fn store(seen: &mut Seen, frame: hyper::Result<Frame<Bytes>>) -> Result<(), ()> {
    match frame {
        Ok(frame) => {
            if let Some(data) = frame.data_ref() {
                seen.body.extend_from_slice(data);
            }
            Ok(())
        }
        Err(error) => {
            seen.broken = Some(error.to_string());
            Err(())
        }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client that has sent all of its bytes, keeps the connection open, and reads nothing.
struct Input {
    bytes: Vec<u8>,
    at: usize,
}

impl Read for Input {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let count = into.remaining().min(self.bytes.len() - self.at);
        // Ready with no bytes would mean that the client has closed its side.
        if count == 0 {
            return Poll::Pending;
        }
        into.put_slice(&self.bytes[self.at..][..count]);
        self.at += count;
        Poll::Ready(Ok(()))
    }
}

impl Write for Input {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
