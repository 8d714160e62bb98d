//! Decodes a chunked body (RFC 9112 section 7.1).
//!
//! Owns the framing of chunks and the limit on its overhead. Returns a body only when it is
//! complete, and never merges a trailer into the fields of the request.

use super::limits::BODY_TOO_LONG;
use super::scan::{self, FieldLines};
use super::{Limits, Refusal, fields, line};

/// Eight digits exceed every configurable body limit and cannot overflow a `usize`.
const SIZE_DIGITS_MAX: usize = 8;

/// The decoder of one body. Positions are indices into the connection's bytes.
pub(super) struct ChunkedDecoder {
    stage: Stage,
    /// Where the part begins that is read next.
    at: usize,
    scanned: usize,
    /// The unused part of `Limits::CHUNK_OVERHEAD_BYTES`.
    overhead_left: usize,
    decoded: Vec<u8>,
}

enum Stage {
    Size,
    Data { left: usize },
    DataEnd,
    Trailers(FieldLines),
}

impl ChunkedDecoder {
    pub(super) fn starting_at(begin: usize) -> Self {
        Self {
            stage: Stage::Size,
            at: begin,
            scanned: begin,
            overhead_left: Limits::CHUNK_OVERHEAD_BYTES,
            decoded: Vec::new(),
        }
    }

    /// Decodes the bytes received so far. Returns the index after the message once it is complete.
    pub(super) fn advance(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Refusal> {
        loop {
            let is_complete = match self.stage {
                Stage::Size => self.read_size(bytes, limits)?,
                Stage::Data { left } => self.read_data(bytes, left),
                Stage::DataEnd => self.read_data_end(bytes)?,
                Stage::Trailers(_) => return self.read_trailers(bytes, limits),
            };
            if !is_complete {
                return Ok(None);
            }
        }
    }

    pub(super) fn take_decoded(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.decoded)
    }

    fn read_size(&mut self, bytes: &[u8], limits: &Limits) -> Result<bool, Refusal> {
        let most = self.at + self.overhead_left;
        let window = scan::window(bytes, most);
        let Some(end) = scan::find_line(window, &mut self.scanned)? else {
            if bytes.len() >= most {
                return Err(OVERHEAD);
            }
            return Ok(false);
        };
        let size = read_size_line(&bytes[self.at..end])?;
        self.consume_overhead(end + 2);
        if size > limits.body_bytes - self.decoded.len() {
            return Err(BODY_TOO_LONG);
        }
        self.stage = if size == 0 {
            Stage::Trailers(FieldLines::starting_at(self.at))
        } else {
            Stage::Data { left: size }
        };
        Ok(true)
    }

    fn read_data(&mut self, bytes: &[u8], left: usize) -> bool {
        let data = &bytes[self.at..];
        let data = &data[..data.len().min(left)];
        self.decoded.extend_from_slice(data);
        self.at += data.len();
        self.scanned = self.at;
        let left = left - data.len();
        self.stage = if left == 0 { Stage::DataEnd } else { Stage::Data { left } };
        left == 0
    }

    fn read_data_end(&mut self, bytes: &[u8]) -> Result<bool, Refusal> {
        match &bytes[self.at..] {
            _ if self.overhead_left < 2 => Err(OVERHEAD),
            [] | [b'\r'] => Ok(false),
            [b'\r', b'\n', ..] => {
                self.consume_overhead(self.at + 2);
                self.stage = Stage::Size;
                Ok(true)
            }
            _ => Err(CHUNK_END),
        }
    }

    fn read_trailers(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Refusal> {
        let Stage::Trailers(lines) = &mut self.stage else {
            return Ok(None);
        };
        let most = self.at + self.overhead_left;
        // RFC 9110 section 6.5.1: a trailer may be merged into the fields only if its definition allows it. No
        // field that this server reads does.
        let checked = |line| fields::check(&bytes[line]);
        match lines.find_end(scan::window(bytes, most), limits.fields, checked)? {
            Some(end) => Ok(Some(end)),
            None if bytes.len() >= most => Err(TRAILERS),
            None => Ok(None),
        }
    }

    /// Moves past framing bytes that end at `at` and counts them as overhead.
    fn consume_overhead(&mut self, at: usize) {
        self.overhead_left -= at - self.at;
        self.at = at;
        self.scanned = at;
    }
}

/// Reads `chunk-size [ chunk-ext ]`. White space after the size is refused: the grammar allows it
/// for old senders only, and parsers disagree about it.
fn read_size_line(line: &[u8]) -> Result<usize, Refusal> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let (digits, extensions) = line.split_at(digits.count());
    if digits.is_empty() || digits.len() > SIZE_DIGITS_MAX {
        return Err(SIZE);
    }
    if !are_extensions(extensions) {
        return Err(EXTENSION);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as usize;
    Ok(digits.iter().fold(0, |size, &byte| (size << 4) | digit(byte)))
}

/// Checks `*( ";" name [ "=" value ] )`. RFC 9112 section 7.1.1 requires unknown extensions to be
/// ignored; their syntax is checked so that nothing can be smuggled in them.
fn are_extensions(mut rest: &[u8]) -> bool {
    while let Some(extension) = rest.strip_prefix(b";") {
        let name = line::token_bytes(extension);
        rest = &extension[name..];
        if name == 0 {
            return false;
        }
        if let Some(value) = rest.strip_prefix(b"=") {
            let length = match value {
                [b'"', ..] => quoted_bytes(value),
                _ => Some(line::token_bytes(value)).filter(|&length| length > 0),
            };
            let Some(length) = length else {
                return false;
            };
            rest = &value[length..];
        }
    }
    rest.is_empty()
}

/// The length of the quoted string that `bytes` begins with, if it is closed. `scan` has already
/// refused control characters.
fn quoted_bytes(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

const SIZE: Refusal =
    Refusal { status: 400, detail: "begin each chunk with its size: one to eight hexadecimal digits" };

const EXTENSION: Refusal = Refusal {
    status: 400,
    detail: "put nothing behind a chunk's size, or extensions of the form ;name=value",
};

const CHUNK_END: Refusal =
    Refusal { status: 400, detail: "end each chunk's data with CR LF, and let its size be that of the data" };

/// RFC 9112 section 7.1.1 asks for a 4xx status if extensions are unreasonably long.
const OVERHEAD: Refusal =
    Refusal { status: 413, detail: "send the body in fewer chunks, with fewer extensions" };

const TRAILERS: Refusal = Refusal { status: 431, detail: "send fewer or shorter trailers" };
