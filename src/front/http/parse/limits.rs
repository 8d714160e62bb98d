//! The bounds of the HTTP edge, with why each is what it is.
//!
//! Owns the numbers alone; whoever reads the bytes keeps to them.

use std::ops::RangeInclusive;

use super::fields;

/// Every bound of the HTTP edge.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The request target: 8 KiB is above the 8000 octets that RFC 9112
    /// section 3 asks to be supported, and far above any route of this server.
    pub target_bytes: usize,
    /// The whole head, from the request line to the empty line: a target of
    /// the most bytes, a token of 4 KiB, and as much again for the rest. Never
    /// more than `u16::MAX`, because offsets in a head are kept in 16 bits.
    pub head_bytes: usize,
    /// Field lines of a head or of a trailer section: browsers send about 20.
    /// Never more than 64, because their places are kept in a fixed array.
    pub fields: usize,
    /// The decoded body: the largest command of this server is below 4 KiB.
    pub body_bytes: usize,
}

impl Limits {
    /// What a chunked body may spend on framing: sizes, extensions, line ends
    /// and trailers. Lets a full body come in chunks of 32 bytes, and stops a
    /// client that makes the server read ten bytes for each one it keeps.
    pub const CHUNK_OVERHEAD_BYTES: usize = 16 * 1024;

    /// Empty lines before a request line that are skipped. RFC 9112 section
    /// 2.2 asks for at least one; old clients add one after each body.
    pub const LEADING_EMPTY_LINES: usize = 4;

    /// What an operator may set: above every route with its parameters, and half of the longest head.
    pub const TARGET_BYTES_RANGE: RangeInclusive<usize> = 256..=32 * 1024;

    /// Above a head with a token, and what fits the places of its fields.
    pub const HEAD_BYTES_RANGE: RangeInclusive<usize> = 1024..=u16::MAX as usize;

    /// Above the largest command of this server, and what one connection may hold of a machine's
    /// memory at most, some four times over.
    pub const BODY_BYTES_RANGE: RangeInclusive<usize> = 4096..=16 * 1024 * 1024;

    /// The most bytes that one request can hold in the connection's buffer
    /// before it is either complete or refused.
    #[must_use]
    pub fn request_bytes(&self) -> usize {
        2 * Self::LEADING_EMPTY_LINES + self.head_bytes + self.body_bytes + Self::CHUNK_OVERHEAD_BYTES
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            target_bytes: 8 * 1024,
            head_bytes: 16 * 1024,
            fields: fields::FIELDS_MAX,
            body_bytes: 64 * 1024,
        }
    }
}
