//! The end of a connection whose client may still send: it can read its last answer first.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::front::Front;
use super::reading::{READ_ON_BYTES, readable};
use crate::front::deadlines::Deadline;
use crate::front::problem::{Kind, Problem};
use crate::rt::net::Stream;

/// How long a refused client is listened to, so that it can read why (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(1);

/// Rejected connections that may linger, per core; further ones are closed at once. If every one
/// could, rejecting would take the resources that the limit of connections protects.
const LINGERING_MAX: usize = 64;

/// Tells a client that the limit of connections is reached, and runs nothing for it. The
/// connection takes no permit of those that were here first.
pub(crate) async fn reject(front: Rc<Front>, stream: Stream) {
    let exchange = front.refusal(Problem::unavailable(Kind::TooManyConnections).into_response());
    let mut output = Vec::new();
    front.put(&exchange, &mut output);
    // One write into an empty socket buffer takes it whole, or the client has gone.
    let _ = stream.write(&output).await;
    if front.lingering.get() < LINGERING_MAX {
        front.lingering.update(|count| count + 1);
        let deadline = front.deadlines.deadline(stream.closer());
        linger(&stream, &deadline).await;
        front.lingering.update(|count| count - 1);
    }
}

/// Half-closes, and lets the client read its last answer: closing while it still
/// sends would reset the connection, and the answer with it (RFC 9112 section 9.6).
pub(super) async fn linger(stream: &Stream, deadline: &Deadline) {
    if stream.end_writing().is_err() {
        return;
    }
    deadline.read_until(deadline.now().after(LINGER));
    let mut discarded = Vec::with_capacity(READ_ON_BYTES);
    // Also for a client that never lets the socket run empty.
    while !deadline.has_expired() && readable(stream, deadline).await {
        discarded.clear();
        match stream.read(&mut discarded) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return,
        }
    }
}
