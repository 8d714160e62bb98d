//! A response's body: whole, or a stream that is made piece by piece as its client reads it.

use std::borrow::Cow;
use std::fmt;
use std::task::{Context, Poll};

use super::parse::Version;

/// The largest body that is kept whole and written with its head. A larger one is a stream, so
/// that clients that do not read it cannot each have copies of it made.
pub const WHOLE_BYTES_MAX: usize = 64 * 1024;

/// The most bytes of one piece of a stream.
pub const PIECE_BYTES_MAX: usize = 32 * 1024;

pub enum Body {
    /// Borrowed where it is always the same.
    Whole(Cow<'static, [u8]>),
    Stream(Box<dyn BodyStream>),
}

/// A body that is made piece by piece.
///
/// The connection asks for a piece when the one before it is written, so one piece is in memory
/// at a time. It drops the stream when the client is gone, or has not read for too long.
pub trait BodyStream {
    /// The bytes of the whole body, where they are known from the start. Such a body is one long
    /// answer: the server waits for its end as it does for other answers. A body of unknown
    /// length may last for ever, and the server only gives it time for a last piece.
    fn length(&self) -> Option<u64>;

    /// Appends the next piece to `output`: at most [`PIECE_BYTES_MAX`] bytes, and none while it
    /// is pending.
    fn poll_piece(&mut self, context: &mut Context<'_>, output: &mut Vec<u8>) -> Poll<Piece>;

    /// Called once when the server begins to drain, on a body of unknown length: the next piece
    /// should be the last. The server waits for it for a second at most.
    fn drain(&mut self);
}

/// What came of asking for a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// There may be more.
    More,
    Last,
    /// The body cannot be completed. The client notices: the connection is closed in the middle
    /// of it. (A client of HTTP/1.0 cannot tell that from the end of a body of unknown length.)
    Failed,
}

/// How the client knows where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    /// RFC 9112 section 7.1.
    Chunked,
    /// For HTTP/1.0, which has no chunks: the connection is closed.
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

/// Bytes that are there already, and too many to be copied at once.
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

    /// It ends by itself.
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
            let Body::Stream(mut stream) = body else { panic!("{size} bytes are kept whole") };
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
            assert!(read == bytes, "{size} bytes came differently");
        }
    }
}
