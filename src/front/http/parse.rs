//! Reads HTTP/1.1 and HTTP/1.0 requests out of a connection's bytes.
//!
//! Owns what is a request, where it ends, and every bound of that. httparse
//! splits the field lines; the strict layer around it refuses whatever two
//! readers could frame differently, so nothing that follows a doubtful byte is
//! ever run as a request. Never does I/O, never waits, never decodes a path,
//! and knows nothing of sockets, routes or answers.
//!
//! The outcome depends on the bytes alone, never on how they were cut into
//! segments: each rule is applied in byte order, or once its line is whole.

mod body;
mod fields;
mod limits;
mod line;
mod scan;

use std::borrow::Cow;
use std::str;

use body::Chunked;
use fields::{Body, Fields, Meaning};
use line::RequestLine;
use scan::FieldLines;

pub use limits::Limits;

/// The methods of RFC 9110 section 9.3, PATCH and QUERY. Any other is refused (501).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Trace,
    Connect,
    Query,
}

impl Method {
    /// True when the method only reads (RFC 9110 section 9.2.1).
    #[must_use]
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace | Self::Query)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Connect => "CONNECT",
            Self::Query => "QUERY",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// A whole request, borrowed from the connection's buffer.
pub struct Request<'b> {
    pub method: Method,
    /// Not decoded; every `%` in it begins a valid escape. Begins with `/`,
    /// but is `*` for `OPTIONS *`, and `host:port` for CONNECT.
    pub path: &'b str,
    /// What stands after the first `?`, not decoded.
    pub query: Option<&'b str>,
    pub version: Version,
    /// Borrowed, unless it came in chunks.
    pub body: Cow<'b, [u8]>,
    /// False when the connection is to be closed after the answer.
    pub keep_alive: bool,
    head: &'b [u8],
    fields: Fields,
}

impl<'b> Request<'b> {
    /// The first field of that name, without the white space around it.
    ///
    /// `None` also when its value is not UTF-8: RFC 9110 section 5.5 has such
    /// octets carried as opaque data, and no field of this server takes them.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'b str> {
        let value = self.fields.named(self.head, name).next()?;
        str::from_utf8(value).ok()
    }

    /// The values of all fields of that name, in order, but for such as are
    /// not UTF-8.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &'b str> {
        self.fields.named(self.head, name).filter_map(|value| str::from_utf8(value).ok())
    }
}

#[expect(
    clippy::large_enum_variant,
    reason = "a request lives on the stack, so that the hot path allocates nothing"
)]
pub enum Progress<'b> {
    /// More bytes are needed.
    Incomplete {
        /// True once per request: the head is whole, asks for
        /// `Expect: 100-continue`, and the body is still missing.
        send_continue: bool,
        /// The head is whole, it is the body that is missing.
        in_body: bool,
    },
    /// A request, and how many bytes to drop before the next one.
    Complete { request: Request<'b>, consumed: usize },
}

/// Why the bytes are no request. The connection is closed after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    /// What the client is to change.
    pub detail: &'static str,
}

/// One per connection. Remembers how far it has looked, so that one-byte
/// segments do not cost a parse of everything each.
pub struct Parser {
    limits: Limits,
    stage: Stage,
    /// Where the request line begins, behind the empty lines.
    start: usize,
    empty_lines: usize,
    scanned: usize,
    line: RequestLine,
    field_lines: FieldLines,
    fields: Fields,
    head_end: usize,
    keep_alive: bool,
    send_continue: bool,
    /// After a refusal nothing is a request any more, whatever the caller does.
    refused: Option<Refusal>,
}

enum Stage {
    Line,
    Fields,
    Length(usize),
    Chunked(Chunked),
}

impl Parser {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let limits = Limits {
            head_bytes: limits.head_bytes.min(usize::from(u16::MAX)),
            fields: limits.fields.min(fields::FIELDS_MAX),
            ..limits
        };
        Self {
            limits,
            stage: Stage::Line,
            start: 0,
            empty_lines: 0,
            scanned: 0,
            line: RequestLine::default(),
            field_lines: FieldLines::default(),
            fields: Fields::default(),
            head_end: 0,
            keep_alive: false,
            send_continue: false,
            refused: None,
        }
    }

    /// Looks for a whole request at the start of `unconsumed`.
    ///
    /// Until it is complete, each call gets the same bytes and what came in
    /// behind them; then the caller drops `consumed` bytes and calls again.
    ///
    /// # Errors
    ///
    /// The bytes are not a request that this server takes. Every further call
    /// gives the same refusal.
    pub fn parse<'b>(&mut self, unconsumed: &'b [u8]) -> Result<Progress<'b>, Refusal> {
        if let Some(refusal) = self.refused {
            return Err(refusal);
        }
        let progress = self.advance(unconsumed);
        if let Err(refusal) = &progress {
            self.refused = Some(*refusal);
        }
        progress
    }

    fn advance<'b>(&mut self, bytes: &'b [u8]) -> Result<Progress<'b>, Refusal> {
        if matches!(self.stage, Stage::Line) && !self.read_line(bytes)? {
            return Ok(self.wait());
        }
        if matches!(self.stage, Stage::Fields) && !self.read_fields(bytes)? {
            return Ok(self.wait());
        }
        let (body, consumed) = match &mut self.stage {
            Stage::Length(length) => {
                let end = self.head_end + *length;
                match bytes.get(self.head_end..end) {
                    Some(body) => (Cow::Borrowed(body), end),
                    None => return Ok(self.wait()),
                }
            }
            Stage::Chunked(chunked) => match chunked.advance(bytes, &self.limits)? {
                Some(end) => (Cow::Owned(chunked.take_decoded()), end),
                None => return Ok(self.wait()),
            },
            // Both were passed above.
            Stage::Line | Stage::Fields => return Ok(self.wait()),
        };
        let request = self.request(bytes, body)?;
        self.begin_next();
        Ok(Progress::Complete { request, consumed })
    }

    /// Skips empty lines and reads the request line; true when it is whole.
    fn read_line(&mut self, bytes: &[u8]) -> Result<bool, Refusal> {
        loop {
            let most = (self.limits.target_bytes + line::BYTES_BESIDE_TARGET).min(self.limits.head_bytes);
            let window = scan::window(bytes, self.start + most);
            let Some(end) = scan::find_line(window, &mut self.scanned)? else {
                if bytes.len() > self.start + most {
                    return Err(line::too_long(&window[self.start..]));
                }
                return Ok(false);
            };
            if end > self.start {
                self.line = RequestLine::read(&window[self.start..end], &self.limits)?;
                self.field_lines = FieldLines::starting_at(end + 2);
                self.stage = Stage::Fields;
                return Ok(true);
            }
            if self.empty_lines == Limits::LEADING_EMPTY_LINES {
                return Err(EMPTY_LINES);
            }
            self.empty_lines += 1;
            self.start = end + 2;
        }
    }

    /// Reads the fields and decides where the body ends; true when the head
    /// is whole.
    fn read_fields(&mut self, bytes: &[u8]) -> Result<bool, Refusal> {
        let most = self.start + self.limits.head_bytes;
        let window = scan::window(bytes, most);
        let Some(end) = self.field_lines.find_end(window, self.limits.fields)? else {
            if bytes.len() > most {
                return Err(HEAD_BYTES);
            }
            return Ok(false);
        };
        let head = &bytes[self.start..end];
        let begin = self.field_lines.begin() - self.start;
        self.fields.read(head, begin)?;
        let meaning = Meaning::of(&self.fields, head, self.line.version, &self.limits)?;
        // What follows a CONNECT may be meant for the tunnel that it does not
        // get (RFC 9110 section 9.3.6), so it is never read as a request.
        self.keep_alive = meaning.keep_alive && self.line.method != Method::Connect;
        self.send_continue = meaning.expects_continue;
        self.head_end = end;
        self.stage = match meaning.body {
            Body::Length(length) => Stage::Length(length),
            Body::Chunked => Stage::Chunked(Chunked::starting_at(end)),
        };
        Ok(true)
    }

    fn wait<'b>(&mut self) -> Progress<'b> {
        Progress::Incomplete {
            send_continue: std::mem::take(&mut self.send_continue),
            in_body: matches!(self.stage, Stage::Length(_) | Stage::Chunked(_)),
        }
    }

    fn request<'b>(&self, bytes: &'b [u8], body: Cow<'b, [u8]>) -> Result<Request<'b>, Refusal> {
        let head = &bytes[self.start..self.head_end];
        Ok(Request {
            method: self.line.method,
            path: self.line.path(head)?,
            query: self.line.query(head)?,
            version: self.line.version,
            body,
            keep_alive: self.keep_alive,
            head,
            fields: self.fields,
        })
    }

    fn begin_next(&mut self) {
        self.stage = Stage::Line;
        self.start = 0;
        self.empty_lines = 0;
        self.scanned = 0;
        self.send_continue = false;
    }
}

const EMPTY_LINES: Refusal =
    Refusal { status: 400, detail: "send the request line without empty lines before it" };

const HEAD_BYTES: Refusal = Refusal { status: 431, detail: "send fewer or shorter header fields" };
