//! Responses as bytes.

use std::borrow::Cow;
use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use super::body::{Body, Framing};
use super::parse::Version;

pub const JSON: &str = "application/json";
pub const HTML: &str = "text/html; charset=utf-8";
pub const CSS: &str = "text/css; charset=utf-8";
pub const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
pub const PLAIN: &str = "text/plain; charset=utf-8";
/// Prometheus' text format.
pub const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// An answer, before it is bytes.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// `None` for an answer without a body.
    pub content_type: Option<&'static str>,
    /// Beside those that every answer has.
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

impl Response {
    pub fn empty(status: u16) -> Response {
        Response { status, content_type: None, headers: Vec::new(), body: Body::Whole(Cow::Borrowed(b"")) }
    }

    pub fn new(status: u16, content_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Response {
        Response {
            status,
            content_type: Some(content_type),
            headers: Vec::new(),
            body: Body::from(body.into()),
        }
    }

    pub fn with(mut self, name: &'static str, value: String) -> Response {
        self.headers.push((name, value));
        self
    }
}

/// What a request is called in logs.
#[derive(Debug)]
pub enum RequestId {
    /// By its client.
    Given(Box<str>),
    /// By this server: the core's start, and a number within it.
    Made { core: u32, number: u64 },
}

impl RequestId {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            RequestId::Given(id) => out.extend_from_slice(id.as_bytes()),
            RequestId::Made { core, number } => {
                hexadecimal(u64::from(*core), 8, out);
                out.push(b'-');
                hexadecimal(*number, 1, out);
            }
        }
    }
}

/// At least so many digits. A third of the time that formatting takes.
fn hexadecimal(number: u64, digits_min: u32, out: &mut Vec<u8>) {
    let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(digits_min);
    for place in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(number >> (4 * place) & 15) as usize]);
    }
}

/// What a response's bytes depend on beside the response itself.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    pub request_id: &'a RequestId,
    pub date: &'a str,
    /// The connection ends after this response.
    pub close: bool,
    /// Of the request. HTTP/1.0 clients are told of a connection that stays open.
    pub version: Version,
    /// For HEAD: all headers, no body.
    pub omit_body: bool,
}

/// Room for the head of most answers.
const HEAD_BYTES: usize = 320;

impl Response {
    /// Writes the head, and the body if it is whole. Writing a stream is the connection's task.
    pub fn write(&self, envelope: &Envelope<'_>, out: &mut Vec<u8>) {
        let mut number = itoa::Buffer::new();
        let body: &[u8] = match &self.body {
            Body::Whole(bytes) if !envelope.omit_body => bytes,
            Body::Whole(_) | Body::Stream(_) => &[],
        };
        out.reserve(HEAD_BYTES + body.len());
        let put = |out: &mut Vec<u8>, part: &str| out.extend_from_slice(part.as_bytes());
        put(out, "HTTP/1.1 ");
        put(out, number.format(self.status));
        put(out, " ");
        put(out, reason(self.status));
        put(out, "\r\nDate: ");
        put(out, envelope.date);
        put(out, "\r\nX-Request-Id: ");
        envelope.request_id.write(out);
        if let Some(content_type) = self.content_type {
            put(out, "\r\nContent-Type: ");
            put(out, content_type);
        }
        for (name, value) in &self.headers {
            put(out, "\r\n");
            put(out, name);
            put(out, ": ");
            put(out, value);
        }
        // RFC 9110 section 8.6: never with 204; a 304 has none because its body is not known.
        if self.status != 204 && self.status != 304 {
            match self.body.framing(envelope.version) {
                Framing::Length(length) => {
                    put(out, "\r\nContent-Length: ");
                    put(out, number.format(length));
                }
                Framing::Chunked => put(out, "\r\nTransfer-Encoding: chunked"),
                Framing::UntilClose => {}
            }
        }
        if envelope.close {
            put(out, "\r\nConnection: close");
        } else if envelope.version == Version::Http10 {
            put(out, "\r\nConnection: keep-alive");
        }
        put(out, "\r\n\r\n");
        out.extend_from_slice(body);
    }
}

/// RFC 9110 section 15, for every status that this server gives.
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}

/// The Date header's value, made once a second.
#[derive(Debug)]
pub struct DateClock {
    now: RefCell<(Instant, String)>,
}

impl Default for DateClock {
    fn default() -> DateClock {
        DateClock { now: RefCell::new((Instant::now(), http_date())) }
    }
}

impl DateClock {
    /// Calls `read` with the date of now.
    pub fn with<T>(&self, read: impl FnOnce(&str) -> T) -> T {
        let mut now = self.now.borrow_mut();
        if now.0.elapsed() >= Duration::from_secs(1) {
            *now = (Instant::now(), http_date());
        }
        read(&now.1)
    }
}

fn http_date() -> String {
    let now = Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH);
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
    text.expect("a date of the years 0 to 9999 has an HTTP form")
}

#[cfg(test)]
mod tests {
    use super::super::body::WHOLE_BYTES_MAX;
    use super::*;

    fn written(response: &Response, change: impl FnOnce(&mut Envelope<'_>)) -> String {
        let request_id = RequestId::Given("r1".into());
        let mut envelope = Envelope {
            request_id: &request_id,
            date: "Sun, 06 Nov 1994 08:49:37 GMT",
            close: false,
            version: Version::Http11,
            omit_body: false,
        };
        change(&mut envelope);
        let mut out = Vec::new();
        response.write(&envelope, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn requests_are_numbered() {
        for (core, number, text) in [
            (0, 0, "00000000-0"),
            (0xab12, 0x10, "0000ab12-10"),
            (u32::MAX, u64::MAX, "ffffffff-ffffffffffffffff"),
        ] {
            let mut out = Vec::new();
            RequestId::Made { core, number }.write(&mut out);
            assert_eq!(str::from_utf8(&out), Ok(text));
        }
    }

    #[test]
    fn no_room_is_made_for_a_body_that_is_not_written() {
        let request_id = RequestId::Made { core: 0, number: 0 };
        for (size, omit_body) in [(WHOLE_BYTES_MAX, true), (WHOLE_BYTES_MAX + 1, false)] {
            let response = Response::new(200, JSON, vec![b' '; size]);
            let date = "Sun, 06 Nov 1994 08:49:37 GMT";
            let envelope =
                Envelope { request_id: &request_id, date, close: false, version: Version::Http11, omit_body };
            let mut out = Vec::new();
            response.write(&envelope, &mut out);
            assert!(out.ends_with(b"\r\n\r\n"), "the head alone");
            assert!(out.capacity() <= 2 * HEAD_BYTES, "{} bytes for a head", out.capacity());
        }
    }

    #[test]
    fn responses_are_framed() {
        let response = Response::new(201, JSON, b"{}".to_vec()).with("Location", "/x".to_owned());
        let head = "HTTP/1.1 201 Created\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-Request-Id: r1\r\n\
                    Content-Type: application/json\r\nLocation: /x\r\nContent-Length: 2\r\n";
        assert_eq!(written(&response, |_| ()), format!("{head}\r\n{{}}"));
        assert_eq!(written(&response, |envelope| envelope.omit_body = true), format!("{head}\r\n"));
        let closing = written(&response, |envelope| envelope.close = true);
        assert_eq!(closing, format!("{head}Connection: close\r\n\r\n{{}}"));
        assert!(!written(&Response::empty(204), |_| ()).contains("Content-Length"));
    }
}
