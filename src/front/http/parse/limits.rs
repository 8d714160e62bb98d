//! The limits of the HTTP parser, and the reason for each. The parser enforces them.

use std::ops::RangeInclusive;

use super::terms::Refusal;

/// The number of field lines for which a request needs no memory of its own.
pub(super) const FIELDS_USUAL: usize = 64;

/// Refuses a body above [`Limits::body_bytes`], whether its length is declared or is that of its chunks.
pub(super) const BODY_TOO_LONG: Refusal = Refusal { status: 413, detail: "send a shorter body" };

/// The limits on a request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The maximum size of the request target. The default of 8 KiB is above the 8000 octets that
    /// RFC 9112 section 3 recommends to support, and far above any route of this server.
    pub target_bytes: usize,
    /// The maximum size of the whole head, from the request line to the empty line. The default has
    /// room for the longest target, a token of 4 KiB, and 4 KiB of other fields. At most
    /// `u16::MAX`, because offsets into a head have 16 bits.
    pub head_bytes: usize,
    /// The maximum number of field lines of a head or a trailer section; browsers send about 20, and
    /// each proxy adds a few.
    pub fields: usize,
    /// The maximum size of the decoded body. The largest command of this server is below 4 KiB.
    pub body_bytes: usize,
}

impl Limits {
    /// The maximum framing overhead of a chunked body: sizes, extensions, line ends and trailers.
    /// Allows a body of the default maximum size in chunks of 32 bytes, and stops a client that
    /// sends ten bytes of framing for each byte of data.
    pub const CHUNK_OVERHEAD_BYTES: usize = 16 * 1024;

    /// The number of empty lines before a request line that are skipped. RFC 9112 section 2.2 asks
    /// for at least one, because old clients send one after each body.
    pub const LEADING_EMPTY_LINES: usize = 4;

    /// The range of `--max-target`. The minimum is above every route with its parameters; the
    /// maximum is half of the longest head.
    pub const TARGET_BYTES_RANGE: RangeInclusive<usize> = 256..=32 * 1024;

    /// The range of `--max-head`. The minimum is above a head with a token; the maximum is what
    /// 16-bit offsets can address.
    pub const HEAD_BYTES_RANGE: RangeInclusive<usize> = 1024..=u16::MAX as usize;

    /// The range of `--max-fields`. The minimum is above what a client sends without a browser; the
    /// maximum keeps the search for a field below a millisecond.
    pub const FIELDS_RANGE: RangeInclusive<usize> = 16..=1024;

    /// The range of `--max-body`. The minimum is above the largest command of this server; the
    /// maximum bounds the memory of one connection, which holds some four times as much at worst.
    pub const BODY_BYTES_RANGE: RangeInclusive<usize> = 4096..=16 * 1024 * 1024;

    /// The maximum number of bytes of one request in the connection's buffer before it is either
    /// complete or refused.
    #[must_use]
    pub fn request_bytes(&self) -> usize {
        2 * Self::LEADING_EMPTY_LINES + self.head_bytes + self.body_bytes + Self::CHUNK_OVERHEAD_BYTES
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { target_bytes: 8 * 1024, head_bytes: 16 * 1024, fields: FIELDS_USUAL, body_bytes: 64 * 1024 }
    }
}
