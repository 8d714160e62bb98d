//! Reads of a connection: the buffer that they use, and their deadline.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::Connection;
use crate::front::deadlines::{BODY_BYTES_PER_SECOND, Deadline, Tick, Timeouts, Wait};
use crate::rt::TimeSlice;
use crate::rt::net::Stream;

/// The size of a read. A core has one buffer of this size for all its connections, since most
/// requests are run before the next connection reads.
const READ_BYTES: usize = 8 * 1024;

/// The size of a read that continues an incomplete request. It is small, since thousands of clients
/// may send slowly.
pub(super) const READ_ON_BYTES: usize = 4096;

/// What a connection waits to read, and since when.
#[derive(Clone, Copy)]
pub(super) enum Reading {
    /// The first byte of the connection.
    First,
    /// The first byte of another request.
    Nothing,
    Head {
        since: Tick,
    },
    Body {
        since: Tick,
        /// The number of bytes of the request that had arrived when its head was complete.
        from: usize,
    },
}

/// The reason why nothing was read.
pub(super) enum Unread {
    /// The client took too long.
    Late,
    Gone,
}

/// Waits until there is something to read; false if the deadline has passed.
pub(super) async fn readable(stream: &Stream, deadline: &Deadline) -> bool {
    poll_fn(|context| match stream.poll_readable(context) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending => deadline.poll_expired(context).map(|()| false),
    })
    .await
}

impl Connection {
    /// Sets the deadline of the next read: that of an idle connection, of a head, or of a body.
    pub(super) fn set_read_deadline(&mut self) {
        let Timeouts { head, body_grace, idle, stalled: _ } = self.front.timeouts;
        let now = self.deadline.now();
        let received = self.input.len();
        self.reading = match (self.reading, self.in_body) {
            (Reading::First, _) if received == 0 => Reading::First,
            _ if received == 0 => Reading::Nothing,
            (Reading::Head { since }, false) => Reading::Head { since },
            (Reading::Body { since, from }, true) => Reading::Body { since, from },
            (_, false) => Reading::Head { since: now },
            (_, true) => Reading::Body { since: now, from: received },
        };
        let (due, wait) = match self.reading {
            Reading::First => (now.after(idle), Wait::FirstRequest),
            Reading::Nothing => (now.after(idle), Wait::NextRequest),
            Reading::Head { since } => (since.after(head), Wait::Rest),
            Reading::Body { since, from } => {
                let earned = (received - from) as u64 / BODY_BYTES_PER_SECOND;
                (since.after(body_grace + Duration::from_secs(earned)), Wait::Rest)
            }
        };
        self.deadline.read_until(due, wait);
    }

    pub(super) async fn read(&mut self) -> Result<(), Unread> {
        while readable(&self.stream, &self.deadline).await {
            if self.deadline.has_given_way() {
                return Err(Unread::Gone);
            }
            if self.input.is_empty() {
                self.input = self.front.input.take();
                self.input.reserve(READ_BYTES);
            } else {
                self.input.reserve(READ_ON_BYTES);
            }
            match self.stream.read(&mut self.input) {
                Ok(1..) => {
                    self.read_at = Instant::now();
                    self.slice = TimeSlice::since(self.read_at);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.keep_input(0),
                Ok(0) | Err(_) => return Err(Unread::Gone),
            }
        }
        Err(Unread::Late)
    }

    /// Drops the bytes before `start`, which were run. A small rest moves to a buffer of its own, so that
    /// the next connection can use the core's buffer.
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
