//! What a connection reads: into which buffer, and until when.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::Connection;
use crate::front::deadlines::{BODY_BYTES_PER_SECOND, Deadline, Tick, Timeouts};
use crate::rt::net::Stream;

/// What one read asks for. A core has one buffer of this size for all its connections, since
/// most of what comes is run before the next connection has its turn.
const READ_BYTES: usize = 8 * 1024;

/// What a read adds to a request that is half there: little, since thousands may send slowly.
pub(super) const READ_ON_BYTES: usize = 4096;

/// What a connection waits to read, and since when.
#[derive(Clone, Copy)]
pub(super) enum Reading {
    Nothing,
    Head {
        since: Tick,
    },
    Body {
        since: Tick,
        /// Bytes of the request that were there when its head was whole.
        from: usize,
    },
}

/// Why nothing was read.
pub(super) enum Unread {
    /// The client took too long.
    Late,
    Gone,
}

/// Waits until there is something to read; false when the time for that is over.
pub(super) async fn readable(stream: &Stream, deadline: &Deadline) -> bool {
    poll_fn(|context| match stream.poll_readable(context) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending => deadline.poll_expired(context).map(|()| false),
    })
    .await
}

impl Connection {
    /// By what the client sends: nothing, a head, or a body.
    pub(super) fn set_read_deadline(&mut self) {
        let Timeouts { head, body_grace, idle, stalled: _ } = self.front.timeouts;
        let now = self.deadline.now();
        let received = self.input.len();
        self.reading = match (self.reading, self.in_body) {
            _ if received == 0 => Reading::Nothing,
            (Reading::Head { since }, false) => Reading::Head { since },
            (Reading::Body { since, from }, true) => Reading::Body { since, from },
            (_, false) => Reading::Head { since: now },
            (_, true) => Reading::Body { since: now, from: received },
        };
        self.deadline.read_until(match self.reading {
            Reading::Nothing => now.after(idle),
            Reading::Head { since } => since.after(head),
            Reading::Body { since, from } => {
                let earned = (received - from) as u64 / BODY_BYTES_PER_SECOND;
                since.after(body_grace + Duration::from_secs(earned))
            }
        });
    }

    pub(super) async fn read(&mut self) -> Result<(), Unread> {
        while readable(&self.stream, &self.deadline).await {
            if self.input.is_empty() {
                self.input = self.front.input.take();
                self.input.reserve(READ_BYTES);
            } else {
                self.input.reserve(READ_ON_BYTES);
            }
            match self.stream.read(&mut self.input) {
                Ok(1..) => {
                    self.read_at = Instant::now();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.keep_input(0),
                Ok(0) | Err(_) => return Err(Unread::Gone),
            }
        }
        Err(Unread::Late)
    }

    /// Drops the bytes before `start`, which were run. The rest is kept in a buffer of its own,
    /// unless it is large, so that the core's buffer goes on to the next connection.
    pub(super) fn keep_input(&mut self, start: usize) {
        let rest = self.input.len() - start;
        if self.input.capacity() < READ_BYTES && rest > 0 || rest > READ_ON_BYTES {
            self.input.drain(..start);
            return;
        }
        let rest = self.input[start..].to_vec();
        let mut buffer = std::mem::replace(&mut self.input, rest);
        // A buffer that grew for a large body is freed.
        if (READ_BYTES..=2 * READ_BYTES).contains(&buffer.capacity()) {
            buffer.clear();
            self.front.input.set(buffer);
        }
    }
}
