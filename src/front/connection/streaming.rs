//! Bodies that are written piece by piece.
//!
//! A stream ends after its last piece, when it fails, when the client disconnects, or when the
//! client does not read for too long. When the server drains, it tells the stream, which then has a
//! short time for a last piece. While a stream waits for its next piece, its connection holds no buffer.

use std::future::poll_fn;
use std::mem;
use std::task::{Context, Poll};

use futures_lite::future::{poll_once, yield_now};

use super::front::StreamMark;
use super::{Connection, Gone};
use crate::front::http::body::{BodyStream, Framing, PIECE_BYTES_MAX, Piece};

/// The bytes of a live stream that the kernel keeps until the client has received them, as `SO_SNDBUF` counts: the
/// kernel doubles it, takes 4,608 at least, and counts some of its own. It holds some tens of messages: with more, a
/// client that never reads would be noticed late.
const LIVE_UNREAD_BYTES: usize = 4096;

/// A body that is being written.
struct Writing {
    stream: Box<dyn BodyStream>,
    framing: Framing,
    /// Bytes written.
    length: u64,
    /// Present for a body of unknown length. With a body of known length, the connection stays busy.
    mark: Option<StreamMark>,
}

impl Connection {
    /// Writes a body, whose head is in the output, to its end.
    pub(super) async fn write_stream(
        &mut self,
        stream: Box<dyn BodyStream>,
        framing: Framing,
    ) -> Result<(), Gone> {
        let mark = match framing {
            Framing::Length(_) => None,
            Framing::Chunked | Framing::UntilClose => Some(StreamMark::new(&self.front)),
        };
        let is_live = stream.is_live();
        let kept = is_live.then(|| self.stream.keep_unread(LIVE_UNREAD_BYTES)).flatten();
        let mut writing = Writing { stream, framing, length: 0, mark };
        loop {
            let piece = match poll_once(self.next_piece(&mut writing)).await {
                Some(piece) => piece?,
                None => {
                    self.flush().await?;
                    if is_live {
                        self.deadline.wait_for_news();
                        self.pipeline.keep_no_room();
                    }
                    self.next_piece(&mut writing).await?
                }
            };
            self.flush().await?;
            match piece {
                // Other connections run, even if the stream always has a piece and the client always
                // reads.
                Piece::More => yield_now().await,
                Piece::Last => break,
                Piece::Failed => return Err(Gone),
            }
        }
        if let Some(bytes) = kept {
            self.stream.keep_unread(bytes);
        }
        if writing.mark.is_some() && self.front.is_draining() {
            self.closing = true;
        }
        Ok(())
    }

    /// Waits for the next piece, and puts it into the output.
    async fn next_piece(&mut self, writing: &mut Writing) -> Result<Piece, Gone> {
        poll_fn(|context| self.poll_piece(writing, context)).await
    }

    fn poll_piece(&mut self, writing: &mut Writing, context: &mut Context<'_>) -> Poll<Result<Piece, Gone>> {
        let mut output = mem::take(&mut self.output);
        if output.is_empty() {
            output = self.front.output.take();
        }
        let polled = writing.poll_into(&mut output, context);
        if output.is_empty() {
            self.front.output.set(output);
        } else {
            self.output = output;
        }
        match polled {
            Poll::Ready(piece) => Poll::Ready(Ok(piece)),
            Poll::Pending => self.stream.poll_ended(context).map(|()| Err(Gone)),
        }
    }
}

impl Writing {
    fn poll_into(&mut self, output: &mut Vec<u8>, context: &mut Context<'_>) -> Poll<Piece> {
        if self.mark.as_mut().is_some_and(|mark| mark.poll_drain(context).is_ready()) {
            self.stream.drain();
        }
        let start = output.len();
        let polled = self.stream.poll_piece(context, output);
        let length = output.len() - start;
        assert!(length <= PIECE_BYTES_MAX, "a piece of {length} bytes");
        self.length += length as u64;
        let Poll::Ready(piece) = polled else {
            assert_eq!(length, 0, "a piece that is pending has no bytes");
            return Poll::Pending;
        };
        match self.framing {
            Framing::Length(announced) => {
                let is_whole = piece == Piece::Last;
                let fits = if is_whole { self.length == announced } else { self.length <= announced };
                assert!(fits, "a body of {announced} bytes has {}", self.length);
            }
            Framing::Chunked => {
                if length > 0 {
                    output.splice(start..start, format!("{length:x}\r\n").into_bytes());
                    output.extend_from_slice(b"\r\n");
                }
                if piece == Piece::Last {
                    output.extend_from_slice(b"0\r\n\r\n");
                }
            }
            Framing::UntilClose => {}
        }
        Poll::Ready(piece)
    }
}
