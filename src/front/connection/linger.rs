//! Closes a connection whose client may still be sending, so that the client can read its last answer.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::front::Front;
use super::reading::{READ_ON_BYTES, readable};
use crate::front::deadlines::{Deadline, Wait};
use crate::front::places::NoPlace;
use crate::front::problem::Problem;
use crate::rt::TimeSlice;
use crate::rt::net::Stream;

/// How long the server reads on after its last answer, so that the client can read that answer (RFC 9112
/// section 9.6).
const LINGER: Duration = Duration::from_secs(1);

/// Rejected connections that may linger, per core; further ones are closed at once. If all lingered,
/// they would take the resources that the limit of connections protects.
const LINGERING_MAX: usize = 64;

/// Tells a client that there is no place for its connection, without reading a request. The connection does
/// not count towards the limit.
pub(super) async fn reject(front: Rc<Front>, stream: Stream, cause: NoPlace) {
    let exchange = front.refusal(Problem::from(cause).into_response(), b"");
    let mut output = Vec::new();
    front.put(&exchange, &mut output);
    // The socket's buffer is empty, so one write takes the whole answer, or the client has disconnected.
    let _ = stream.write(&output).await;
    if front.lingering.get() < LINGERING_MAX {
        front.lingering.update(|count| count + 1);
        let deadline = front.deadlines.deadline(stream.closer(), None);
        linger(&stream, &deadline).await;
        front.lingering.update(|count| count - 1);
    }
}

/// Half-closes the connection, and discards what the client still sends. Closing it at once would reset
/// it, and the client could lose the answer (RFC 9112 section 9.6).
pub(super) async fn linger(stream: &Stream, deadline: &Deadline) {
    if stream.end_writing().is_err() {
        return;
    }
    deadline.read_until(deadline.now().after(LINGER), Wait::Rest);
    let mut discarded = Vec::with_capacity(READ_ON_BYTES);
    let mut slice = TimeSlice::begin();
    // The deadline also ends this for a client that never stops sending.
    while !deadline.has_expired() && readable(stream, deadline).await {
        discarded.clear();
        match stream.read(&mut discarded) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return,
        }
        slice.yield_if_over().await;
    }
}
