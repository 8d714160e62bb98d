//! Parses HTTP/1.1 and HTTP/1.0 requests from the bytes of a connection.
//!
//! Owns what counts as a request, where it ends, and the limits on it. Refuses every message that two
//! parsers could frame differently, so that bytes after an ambiguous one are never executed as a
//! request (request smuggling). Does no I/O, does not wait, decodes no path, and depends on neither sockets, routes
//! nor responses.
//!
//! The outcome depends on the bytes alone, not on how they were split into segments: each rule is
//! applied in byte order, or when its line is complete.

mod chunked;
mod fields;
mod limits;
mod line;
mod request;
mod scan;
mod terms;

use std::borrow::Cow;
use std::mem;
use std::ops::Range;

use chunked::ChunkedDecoder;
use fields::{BodyFraming, Fields, Semantics};
use line::RequestLine;
use scan::FieldLines;

pub use limits::Limits;
pub use request::{NOT_TEXT, Progress, Request};
pub use terms::{Method, Refusal, Version};

/// The parser of one connection. It keeps the position up to which it has scanned, so that a
/// request sent in one-byte segments is not parsed from its start for each segment.
pub struct Parser {
    limits: Limits,
    stage: Stage,
    /// Where the request line begins, after the empty lines.
    start: usize,
    empty_lines: usize,
    scanned: usize,
    line: RequestLine,
    field_lines: FieldLines,
    fields: Fields,
    head_end: usize,
    keep_alive: bool,
    send_continue: bool,
    /// The refusal, once there is one: every later call returns it.
    refused: Option<Refusal>,
}

/// A body, and the index after the request.
type BodyAndEnd<'b> = (Cow<'b, [u8]>, usize);

enum Stage {
    Line,
    Fields,
    Length(usize),
    Chunked(ChunkedDecoder),
}

impl Parser {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let limits = Limits { head_bytes: limits.head_bytes.min(usize::from(u16::MAX)), ..limits };
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

    /// Parses the request at the start of `unconsumed`.
    ///
    /// While the request is incomplete, the caller passes the same bytes again with those received
    /// since appended. When it is complete, the caller drops `consumed` bytes before the next call.
    ///
    /// # Errors
    ///
    /// The bytes are not a request that this server accepts. Every later call returns the same
    /// refusal.
    pub fn parse<'b>(&'b mut self, unconsumed: &'b [u8]) -> Result<Progress<'b>, Refusal> {
        if let Some(refusal) = self.refused {
            return Err(refusal);
        }
        match self.advance(unconsumed) {
            Ok(Some((body, consumed))) => {
                let head = &unconsumed[self.start..self.head_end];
                self.begin_next();
                Ok(Progress::Complete { request: self.request(head, body), consumed })
            }
            Ok(None) => Ok(self.wait()),
            Err(refusal) => {
                self.refused = Some(refusal);
                Err(refusal)
            }
        }
    }

    /// Returns the body and the index after it once the request is complete.
    fn advance<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<BodyAndEnd<'b>>, Refusal> {
        if matches!(self.stage, Stage::Line) && !self.read_line(bytes)? {
            return Ok(None);
        }
        if matches!(self.stage, Stage::Fields) && !self.read_fields(bytes)? {
            return Ok(None);
        }
        match &mut self.stage {
            Stage::Length(length) => {
                let end = self.head_end + *length;
                Ok(bytes.get(self.head_end..end).map(|body| (Cow::Borrowed(body), end)))
            }
            Stage::Chunked(chunked) => {
                let end = chunked.advance(bytes, &self.limits)?;
                Ok(end.map(|end| (Cow::Owned(chunked.take_decoded()), end)))
            }
            // Unreachable: both stages were completed above.
            Stage::Line | Stage::Fields => Ok(None),
        }
    }

    /// Skips empty lines and reads the request line. Returns true once the line is complete.
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
                self.fields.clear();
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

    /// Reads the fields and determines the framing of the body. Returns true once the head is
    /// complete.
    fn read_fields(&mut self, bytes: &[u8]) -> Result<bool, Refusal> {
        let most = self.start + self.limits.head_bytes;
        let window = scan::window(bytes, most);
        // Positions of fields are those in the head.
        let (start, fields) = (self.start, &mut self.fields);
        let add = |line: Range<usize>| fields.add(&window[start..], line.start - start..line.end - start);
        let Some(end) = self.field_lines.find_end(window, self.limits.fields, add)? else {
            if bytes.len() > most {
                return Err(HEAD_BYTES);
            }
            return Ok(false);
        };
        let head = &bytes[self.start..end];
        let semantics = Semantics::of(&self.fields, head, self.line.version, &self.limits)?;
        // Bytes after a CONNECT may be tunnel data (RFC 9110 section 9.3.6). The tunnel is refused,
        // so they are not parsed as a request.
        self.keep_alive = semantics.keep_alive && self.line.method != Method::Connect;
        self.send_continue = semantics.expects_continue;
        self.head_end = end;
        self.stage = match semantics.body {
            BodyFraming::Length(length) => Stage::Length(length),
            BodyFraming::Chunked => Stage::Chunked(ChunkedDecoder::starting_at(end)),
        };
        Ok(true)
    }

    fn wait<'b>(&mut self) -> Progress<'b> {
        Progress::Incomplete {
            send_continue: mem::take(&mut self.send_continue),
            in_body: matches!(self.stage, Stage::Length(_) | Stage::Chunked(_)),
        }
    }

    fn request<'b>(&'b self, head: &'b [u8], body: Cow<'b, [u8]>) -> Request<'b> {
        Request {
            method: self.line.method,
            path: self.line.path(head),
            query: self.line.query(head),
            version: self.line.version,
            body,
            keep_alive: self.keep_alive,
            head,
            fields: &self.fields,
        }
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
