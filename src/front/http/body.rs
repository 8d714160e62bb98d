//! Response bodies: whole, or a stream whose pieces are produced as the client reads them.

use std::borrow::Cow;
use std::fmt;
use std::task::{Context, Poll};

use super::parse::Version;

/// The largest body that is kept whole and copied into the write buffer with its head. A larger
/// one is streamed, so that a slow reader holds one piece of it and not a whole copy.
pub const WHOLE_BYTES_MAX: usize = 64 * 1024;

/// The maximum size of one piece of a stream.
pub const PIECE_BYTES_MAX: usize = 32 * 1024;

pub enum Body {
    /// Borrowed if the body is a constant.
    Whole(Cow<'static, [u8]>),
    Stream(Box<dyn BodyStream>),
}

/// A body that is produced piece by piece.
///
/// The connection polls for a piece after it has written the one before, so one piece is in memory
/// at a time. It drops the stream when the client disconnects or has not read for too long.
pub trait BodyStream {
    /// The length of the whole body in bytes, if it is known at the start. A draining server waits
    /// for the end of such a body, as for any other response. A body of unknown length may never
    /// end, so a draining server waits for one last piece only.
    fn length(&self) -> Option<u64>;

    /// Appends the next piece to `output`: at most [`PIECE_BYTES_MAX`] bytes, and nothing when it
    /// returns `Pending`.
    fn poll_piece(&mut self, context: &mut Context<'_>, output: &mut Vec<u8>) -> Poll<Piece>;

    /// Whether it follows something that changes, for as long as its client likes. Then the kernel keeps little
    /// that the client has not read, and the connection gives way to others while there is no piece.
    fn is_live(&self) -> bool {
        false
    }

    /// Tells a body of unknown length that the server drains: the next piece should be the last.
    /// Called once. The server waits at most one second for that piece.
    fn drain(&mut self);
}

/// The result of polling for a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// More pieces may follow.
    More,
    Last,
    /// The body cannot be completed. The connection is closed before its end, which the client
    /// detects. (An HTTP/1.0 client cannot distinguish that from the end of a body of unknown
    /// length.)
    Failed,
}

/// How the response marks the end of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    /// RFC 9112 section 7.1.
    Chunked,
    /// HTTP/1.0 has no chunks, so the connection is closed after the body.
    UntilClose,
}

impl Body {
    pub fn framing(&self, version: Version) -> Framing {
        let length = match self {
            Body::Whole(bytes) => Some(bytes.len() as u64),
            Body::Stream(stream) => stream.length(),
        };
        match (length, version) {
            (Some(length), Version::Http10 | Version::Http11) => Framing::Length(length),
            (None, Version::Http11) => Framing::Chunked,
            (None, Version::Http10) => Framing::UntilClose,
        }
    }
}

impl From<Cow<'static, [u8]>> for Body {
    fn from(bytes: Cow<'static, [u8]>) -> Body {
        if bytes.len() <= WHOLE_BYTES_MAX {
            Body::Whole(bytes)
        } else {
            Body::Stream(Box::new(LargeBody { bytes, written: 0 }))
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::Whole(bytes) => write!(f, "{:?}", String::from_utf8_lossy(bytes)),
            Body::Stream(stream) => write!(f, "a stream of {:?} bytes", stream.length()),
        }
    }
}

/// A body whose bytes exist already but are too many to copy at once.
struct LargeBody {
    bytes: Cow<'static, [u8]>,
    written: usize,
}

impl BodyStream for LargeBody {
    fn length(&self) -> Option<u64> {
        Some(self.bytes.len() as u64)
    }

    fn poll_piece(&mut self, _: &mut Context<'_>, output: &mut Vec<u8>) -> Poll<Piece> {
        let rest = &self.bytes[self.written..];
        let piece = &rest[..rest.len().min(PIECE_BYTES_MAX)];
        output.extend_from_slice(piece);
        self.written += piece.len();
        Poll::Ready(if self.written == self.bytes.len() { Piece::Last } else { Piece::More })
    }

    /// Does nothing: the length is known, so the server waits for the end.
    fn drain(&mut self) {}
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_large_body_is_a_stream_of_the_same_bytes() {
        for size in [0, 1, WHOLE_BYTES_MAX] {
            assert!(matches!(Body::from(Cow::Owned(vec![0; size])), Body::Whole(_)), "{size} bytes");
        }
        for size in [WHOLE_BYTES_MAX + 1, 3 * PIECE_BYTES_MAX, 3 * PIECE_BYTES_MAX + 1] {
            let bytes: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
            let body = Body::from(Cow::Owned(bytes.clone()));
            assert_eq!(body.framing(Version::Http10), Framing::Length(size as u64));
            let Body::Stream(mut stream) = body else { panic!("a body of {size} bytes is not a stream") };
            let mut read = Vec::new();
            loop {
                let mut output = Vec::new();
                let mut context = Context::from_waker(Waker::noop());
                let piece = stream.poll_piece(&mut context, &mut output);
                assert!((1..=PIECE_BYTES_MAX).contains(&output.len()), "a piece of {}", output.len());
                read.append(&mut output);
                match piece {
                    Poll::Ready(Piece::More) => {}
                    Poll::Ready(Piece::Last) => break,
                    other => panic!("{other:?}"),
                }
            }
            assert!(read == bytes, "the stream of {size} bytes differs from the body");
        }
    }
}
