//! Reads the fields of a head and what they say about the message.
//!
//! Owns the framing: which fields decide where the body ends, and which heads
//! leave a doubt about it. Never keeps a field's bytes, only their places.

use httparse::{EMPTY_HEADER, Header, Status};

use super::{Limits, Refusal, Version, line};

/// The most field lines for which there is room.
pub(super) const FIELDS_MAX: usize = 64;

/// Where the fields of a head stand in it.
#[derive(Clone, Copy)]
pub(super) struct Fields {
    places: [Place; FIELDS_MAX],
    count: usize,
}

/// Sixteen bits do because a head is at most `u16::MAX` bytes long, and keep
/// all places within 512 bytes, so that a request can be moved.
#[derive(Clone, Copy, Default)]
struct Place {
    name: u16,
    name_bytes: u16,
    value: u16,
    value_bytes: u16,
}

/// What the fields say about the message.
pub(super) struct Meaning {
    pub(super) body: Body,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
}

pub(super) enum Body {
    Length(usize),
    Chunked,
}

impl Default for Fields {
    fn default() -> Self {
        Self { places: [Place::default(); FIELDS_MAX], count: 0 }
    }
}

impl Fields {
    /// Reads the field lines that begin at `begin` and end with `head`.
    pub(super) fn read(&mut self, head: &[u8], begin: usize) -> Result<(), Refusal> {
        let mut room = [EMPTY_HEADER; FIELDS_MAX];
        self.note(head, split(&head[begin..], &mut room)?);
        Ok(())
    }

    /// The values of all fields of that name, in order.
    pub(super) fn named<'b>(&self, head: &'b [u8], name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.all(head)
            .filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    fn all<'b>(&self, head: &'b [u8]) -> impl Iterator<Item = (&'b [u8], &'b [u8])> {
        self.places[..self.count].iter().map(|place| {
            (slice(head, place.name, place.name_bytes), slice(head, place.value, place.value_bytes))
        })
    }

    fn note(&mut self, head: &[u8], fields: &[Header<'_>]) {
        let from = head.as_ptr() as usize;
        // The lengths of a head fit, so nothing is cut off here.
        let narrow = |length: usize| length as u16;
        for (place, field) in self.places.iter_mut().zip(fields) {
            *place = Place {
                name: narrow(field.name.as_ptr() as usize - from),
                name_bytes: narrow(field.name.len()),
                value: narrow(field.value.as_ptr() as usize - from),
                value_bytes: narrow(field.value.len()),
            };
        }
        self.count = fields.len();
    }
}

/// Refuses a block of field lines, with the empty line that ends it, in which
/// there is a line that is no field.
pub(super) fn check(block: &[u8]) -> Result<(), Refusal> {
    split(block, &mut [EMPTY_HEADER; FIELDS_MAX]).map(drop)
}

/// Splits field lines. That lines end with CRLF, are not folded and hold no
/// control character has been found before: httparse takes a lone LF.
fn split<'h, 'b>(block: &'b [u8], room: &'h mut [Header<'b>]) -> Result<&'h [Header<'b>], Refusal> {
    match httparse::parse_headers(block, room) {
        Ok(Status::Complete((length, fields))) if length == block.len() => Ok(fields),
        _ => Err(FIELD),
    }
}

fn slice(head: &[u8], begin: u16, length: u16) -> &[u8] {
    &head[usize::from(begin)..][..usize::from(length)]
}

impl Meaning {
    /// Judges the fields by which a message is framed and a connection kept.
    pub(super) fn of(
        fields: &Fields,
        head: &[u8],
        version: Version,
        limits: &Limits,
    ) -> Result<Self, Refusal> {
        let mut seen = Seen::default();
        for (name, value) in fields.all(head) {
            seen.take(name, value)?;
        }
        if !seen.host && version == Version::Http11 {
            return Err(HOST);
        }
        Ok(Self {
            body: seen.body(version, limits)?,
            // RFC 9112 section 9.3: `close` wins over all else.
            keep_alive: !seen.close && (seen.keep_alive || version == Version::Http11),
            // RFC 9110 section 10.1.1: HTTP/1.0 knows no interim answer.
            expects_continue: seen.expects_continue && version == Version::Http11,
        })
    }
}

/// The fields that matter here, as far as they have been looked at.
#[derive(Default)]
struct Seen {
    host: bool,
    authorization: bool,
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl Seen {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        // The length tells most fields apart without a look at the name.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.take_host(value),
            6 if name.eq_ignore_ascii_case(b"expect") => self.take_expect(value),
            10 if name.eq_ignore_ascii_case(b"connection") => self.take_connection(value),
            13 if name.eq_ignore_ascii_case(b"authorization") => self.take_authorization(),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.take_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.take_coding(value),
            _ => Ok(()),
        }
    }

    /// RFC 9112 section 3.2: none, two, or one that is not valid is a 400.
    fn take_host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if std::mem::replace(&mut self.host, true) || !line::is_authority(value) {
            return Err(HOST);
        }
        Ok(())
    }

    fn take_expect(&mut self, value: &[u8]) -> Result<(), Refusal> {
        self.expects_continue = true;
        let known = elements(value).all(|one| one.eq_ignore_ascii_case(b"100-continue"));
        if known { Ok(()) } else { Err(EXPECT) }
    }

    fn take_connection(&mut self, value: &[u8]) -> Result<(), Refusal> {
        // RFC 9110 section 5.6.1: empty elements of a list are passed over.
        for option in elements(value).filter(|option| !option.is_empty()) {
            if !line::is_token(option) {
                return Err(CONNECTION);
            }
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
        Ok(())
    }

    /// Two credentials are two readings of who asks.
    fn take_authorization(&mut self) -> Result<(), Refusal> {
        if std::mem::replace(&mut self.authorization, true) {
            return Err(AUTHORIZATION);
        }
        Ok(())
    }

    /// RFC 9112 section 6.3 allows to take equal values for one. Two fields
    /// are refused all the same: no client of this server needs them.
    fn take_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
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

    /// RFC 9112 section 6.1 suggests 501 for a coding that is not known, but
    /// section 6.3 demands 400 where chunked is not the last one, and that no
    /// other coding is taken makes one answer do for all.
    fn take_coding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let is_second = std::mem::replace(&mut self.chunked, true);
        if is_second || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(CODING);
        }
        Ok(())
    }

    fn body(&self, version: Version, limits: &Limits) -> Result<Body, Refusal> {
        match (self.chunked, self.content_length) {
            // RFC 9112 section 6.1: both together smell of smuggling, and a
            // coding under HTTP/1.0 makes the framing faulty.
            (true, Some(_)) => Err(TWO_FRAMINGS),
            (true, None) if version == Version::Http10 => Err(CODING),
            (true, None) => Ok(Body::Chunked),
            (false, None) => Ok(Body::Length(0)),
            (false, Some(length)) => usize::try_from(length)
                .ok()
                .filter(|&length| length <= limits.body_bytes)
                .map(Body::Length)
                .ok_or(super::body::TOO_LONG),
        }
    }
}

/// The elements of a list, without the white space around them.
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

const LENGTH: Refusal =
    Refusal { status: 400, detail: "send one Content-Length field that holds one decimal number" };

const CODING: Refusal = Refusal {
    status: 400,
    detail: "send the body with a Content-Length, or over HTTP/1.1 as chunked and nothing else",
};

const TWO_FRAMINGS: Refusal =
    Refusal { status: 400, detail: "send either Content-Length or Transfer-Encoding" };
