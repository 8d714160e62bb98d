//! Reads the fields of a head and derives the framing of the message from them.
//!
//! Owns the framing rules: which fields determine where the body ends, and which heads are
//! ambiguous. Stores the positions of fields, not their bytes.

use std::ops::Range;

use smallvec::SmallVec;

use super::limits::{BODY_TOO_LONG, FIELDS_USUAL};
use super::{Limits, Refusal, Version, line};

/// The positions of the fields in their head.
#[derive(Default)]
pub(super) struct Fields {
    spans: SmallVec<[FieldSpan; FIELDS_USUAL]>,
}

/// The position of a field's name and value in the head. 16 bits are enough, because a head has at
/// most `u16::MAX` bytes, and keep the usual spans within 512 bytes, so that moving a request is cheap.
#[derive(Clone, Copy, Default)]
struct FieldSpan {
    name: u16,
    name_bytes: u16,
    value: u16,
    value_bytes: u16,
}

/// The properties of a message that its fields determine.
pub(super) struct Semantics {
    pub(super) body: BodyFraming,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
}

pub(super) enum BodyFraming {
    Length(usize),
    Chunked,
}

impl Fields {
    pub(super) fn clear(&mut self) {
        self.spans.clear();
    }

    /// Adds the field whose line is at `line` of `head`.
    pub(super) fn add(&mut self, head: &[u8], line: Range<usize>) -> Result<(), Refusal> {
        let (name_bytes, value) = split(&head[line.clone()])?;
        // A head has at most `u16::MAX` bytes, so nothing is truncated.
        let narrow = |length: usize| length as u16;
        self.spans.push(FieldSpan {
            name: narrow(line.start),
            name_bytes: narrow(name_bytes),
            value: narrow(line.start + value.start),
            value_bytes: narrow(value.len()),
        });
        Ok(())
    }

    /// The values of all fields with that name, in order.
    pub(super) fn named<'b>(&self, head: &'b [u8], name: &str) -> impl Iterator<Item = &'b [u8]> {
        // The length alone excludes most names, so few are compared.
        self.spans
            .iter()
            .filter(move |span| {
                usize::from(span.name_bytes) == name.len()
                    && line::is_same_name(slice(head, span.name, span.name_bytes), name.as_bytes())
            })
            .map(|span| slice(head, span.value, span.value_bytes))
    }

    pub(super) fn all<'b>(&self, head: &'b [u8]) -> impl Iterator<Item = (&'b [u8], &'b [u8])> {
        self.spans
            .iter()
            .map(|span| (slice(head, span.name, span.name_bytes), slice(head, span.value, span.value_bytes)))
    }
}

/// Refuses a line that is not a valid field.
pub(super) fn check(line: &[u8]) -> Result<(), Refusal> {
    split(line).map(|_| ())
}

/// Splits a field line (RFC 9112 section 5) into its name, from the start, and its value without the white space
/// around it. `scan` has already checked that the line is not folded and contains no control character but tabs.
fn split(line: &[u8]) -> Result<(usize, Range<usize>), Refusal> {
    let name_bytes = line::token_bytes(line);
    match line[name_bytes..].split_first() {
        Some((b':', value)) if name_bytes > 0 => {
            let value = value.trim_ascii_start();
            let begin = line.len() - value.len();
            Ok((name_bytes, begin..begin + value.trim_ascii_end().len()))
        }
        Some(_) | None => Err(FIELD),
    }
}

fn slice(head: &[u8], begin: u16, length: u16) -> &[u8] {
    &head[usize::from(begin)..][..usize::from(length)]
}

impl Semantics {
    /// Evaluates the fields that determine the framing and whether the connection is kept open.
    pub(super) fn of(
        fields: &Fields,
        head: &[u8],
        version: Version,
        limits: &Limits,
    ) -> Result<Self, Refusal> {
        let mut seen = Seen::default();
        for (name, value) in fields.all(head) {
            seen.read(name, value)?;
        }
        if !seen.host && version == Version::Http11 {
            return Err(HOST);
        }
        Ok(Self {
            body: seen.body(version, limits)?,
            // RFC 9112 section 9.3: `close` takes precedence.
            keep_alive: !seen.close && (seen.keep_alive || version == Version::Http11),
            // RFC 9110 section 10.1.1: HTTP/1.0 has no interim responses.
            expects_continue: seen.expects_continue && version == Version::Http11,
        })
    }
}

/// The values of the fields that affect the framing, from the fields read so far.
#[derive(Default)]
struct Seen {
    host: bool,
    authorization: bool,
    content_type: bool,
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl Seen {
    fn read(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        match name.len() {
            4 if line::is_same_name(name, b"host") => self.read_host(value),
            6 if line::is_same_name(name, b"expect") => self.read_expect(value),
            10 if line::is_same_name(name, b"connection") => self.read_connection(value),
            12 if line::is_same_name(name, b"content-type") => once(&mut self.content_type, CONTENT_TYPE),
            13 if line::is_same_name(name, b"authorization") => once(&mut self.authorization, AUTHORIZATION),
            14 if line::is_same_name(name, b"content-length") => self.read_length(value),
            17 if line::is_same_name(name, b"transfer-encoding") => self.read_coding(value),
            _ => Ok(()),
        }
    }

    /// Refuses a second or invalid Host field with 400 (RFC 9112 section 3.2).
    fn read_host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if std::mem::replace(&mut self.host, true) || !line::is_authority(value) {
            return Err(HOST);
        }
        Ok(())
    }

    fn read_expect(&mut self, value: &[u8]) -> Result<(), Refusal> {
        self.expects_continue = true;
        let known = elements(value).all(|one| one.eq_ignore_ascii_case(b"100-continue"));
        if known { Ok(()) } else { Err(EXPECT) }
    }

    fn read_connection(&mut self, value: &[u8]) -> Result<(), Refusal> {
        // RFC 9110 section 5.6.1: empty list elements are ignored.
        for option in elements(value).filter(|option| !option.is_empty()) {
            if line::is_same_name(option, b"keep-alive") {
                self.keep_alive = true;
            } else if line::is_same_name(option, b"close") {
                self.close = true;
            } else if !line::is_token(option) {
                return Err(CONNECTION);
            }
        }
        Ok(())
    }

    /// Refuses a second Content-Length field. RFC 9112 section 6.3 allows a server to accept equal
    /// values, but no client of this server needs that.
    fn read_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let length = value.iter().try_fold(0_u64, |sum, digit| {
            sum.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0')))
        });
        match length {
            Some(_) if digits && self.content_length.is_none() => {
                self.content_length = length;
                Ok(())
            }
            _ => Err(LENGTH),
        }
    }

    /// Refuses every transfer coding other than a single `chunked` with 400. RFC 9112 section 6.1
    /// suggests 501 for an unknown coding, but section 6.3 requires 400 if chunked is not the last
    /// one. Since no other coding is supported, 400 is correct for all of them.
    fn read_coding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let is_second = std::mem::replace(&mut self.chunked, true);
        if is_second || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(CODING);
        }
        Ok(())
    }

    fn body(&self, version: Version, limits: &Limits) -> Result<BodyFraming, Refusal> {
        match (self.chunked, self.content_length) {
            // RFC 9112 section 6.1: both fields together may be a smuggling attempt, and a
            // transfer coding in HTTP/1.0 must be treated as faulty framing.
            (true, Some(_)) => Err(TWO_FRAMINGS),
            (true, None) if version == Version::Http10 => Err(CODING),
            (true, None) => Ok(BodyFraming::Chunked),
            (false, None) => Ok(BodyFraming::Length(0)),
            (false, Some(length)) => usize::try_from(length)
                .ok()
                .filter(|&length| length <= limits.body_bytes)
                .map(BodyFraming::Length)
                .ok_or(BODY_TOO_LONG),
        }
    }
}

/// Refuses a second field with the name. RFC 9110 section 5.3 allows that only for lists, and a proxy and this
/// server could each use another one.
fn once(is_seen: &mut bool, refusal: Refusal) -> Result<(), Refusal> {
    if std::mem::replace(is_seen, true) { Err(refusal) } else { Ok(()) }
}

/// The elements of a comma-separated list, without surrounding white space.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

const FIELD: Refusal =
    Refusal { status: 400, detail: "send each header field as a name, a colon right behind it, and a value" };

const HOST: Refusal =
    Refusal { status: 400, detail: "send one Host field that holds a host, and a port if need be" };

const EXPECT: Refusal = Refusal { status: 417, detail: "expect nothing but 100-continue" };

const CONNECTION: Refusal = Refusal { status: 400, detail: "send a Connection field that lists tokens" };

const AUTHORIZATION: Refusal = Refusal { status: 400, detail: "send one Authorization field" };

const CONTENT_TYPE: Refusal = Refusal { status: 400, detail: "send one Content-Type field" };

const LENGTH: Refusal =
    Refusal { status: 400, detail: "send one Content-Length field that holds one decimal number" };

const CODING: Refusal = Refusal {
    status: 400,
    detail: "send the body with a Content-Length, or over HTTP/1.1 as chunked and nothing else",
};

const TWO_FRAMINGS: Refusal =
    Refusal { status: 400, detail: "send either Content-Length or Transfer-Encoding" };
