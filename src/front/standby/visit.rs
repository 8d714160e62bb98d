//! One connection of the standby thread.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::desk::{Desk, PEEK_BYTES, Verdict};
use crate::front::places::Place;

/// The time for a request while the server starts.
const REQUEST_MAX: Duration = Duration::from_secs(2);

/// The time for a client to take its answer and to close (RFC 9112 section 9.6).
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// The most reads of what a client still sends after its answer, for each event.
const DISCARDS_AT_ONCE: usize = 16;

pub(super) struct Visit {
    pub(super) socket: OwnedFd,
    pub(super) peer: IpAddr,
    pub(super) place: Option<Place>,
    /// The index of the core that the kernel chose.
    pub(super) door: usize,
    state: State,
    /// When it was accepted or answered.
    since: Instant,
}

enum State {
    /// Nothing was read from it.
    Undecided { has_sent: bool },
    /// These bytes are still to be sent.
    Answering(Vec<u8>),
    /// The client may still be sending. Closing now would reset the connection, and it could lose the answer.
    Lingering,
}

/// What is to be done with a connection.
pub(super) enum Next {
    Stay,
    End,
    HandOver,
}

impl Visit {
    pub(super) fn new(socket: OwnedFd, peer: IpAddr, place: Option<Place>, door: usize) -> Visit {
        let state = State::Undecided { has_sent: false };
        Visit { socket, peer, place, door, state, since: Instant::now() }
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Whether an answer was made, so that it cannot be handed over any more.
    pub(super) fn is_answered(&self) -> bool {
        match self.state {
            State::Undecided { .. } => false,
            State::Answering(_) | State::Lingering => true,
        }
    }

    pub(super) fn is_late(&self, now: Instant, desk: &Desk) -> bool {
        let most = match self.state {
            // It is handed over when its core runs again, and then has the core's deadlines.
            State::Undecided { .. } if desk.cores_run() => return false,
            State::Undecided { .. } => REQUEST_MAX,
            State::Answering(_) | State::Lingering => ANSWER_MAX,
        };
        now.saturating_duration_since(self.since) > most
    }

    /// What to do with one that is late.
    pub(super) fn give_up(&mut self, desk: &mut Desk) -> Next {
        match self.state {
            State::Undecided { has_sent: true } => {
                self.answer(desk.late());
                Next::Stay
            }
            State::Undecided { has_sent: false } | State::Answering(_) | State::Lingering => Next::End,
        }
    }

    fn answer(&mut self, bytes: Vec<u8>) {
        self.state = State::Answering(bytes);
        self.since = Instant::now();
    }

    /// Goes on as far as it can without waiting.
    pub(super) fn advance(&mut self, desk: &mut Desk, peeked: &mut [u8; PEEK_BYTES]) -> Next {
        loop {
            match &mut self.state {
                State::Undecided { has_sent } => {
                    let count = match receive(&self.socket, peeked, RecvFlags::PEEK) {
                        Ok(Some(0)) | Err(_) => return Next::End,
                        Ok(Some(count)) => count,
                        Ok(None) => return Next::Stay,
                    };
                    *has_sent = true;
                    match desk.decide(&peeked[..count]) {
                        Verdict::Wait => return Next::Stay,
                        Verdict::HandOver => return Next::HandOver,
                        Verdict::Answer(bytes) => self.answer(bytes),
                    }
                }
                State::Answering(bytes) => {
                    match send(&self.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                        Ok(count) => drop(bytes.drain(..count)),
                        Err(Errno::AGAIN) => return Next::Stay,
                        Err(Errno::INTR) => {}
                        Err(_) => return Next::End,
                    }
                    if bytes.is_empty() {
                        self.state = State::Lingering;
                        if shutdown(&self.socket, Shutdown::Write).is_err() {
                            return Next::End;
                        }
                    }
                }
                State::Lingering => {
                    for _ in 0..DISCARDS_AT_ONCE {
                        match receive(&self.socket, peeked, RecvFlags::empty()) {
                            Ok(Some(0)) | Err(_) => return Next::End,
                            Ok(Some(_)) => {}
                            Ok(None) => return Next::Stay,
                        }
                    }
                    return Next::Stay;
                }
            }
        }
    }
}

/// The number of bytes received, 0 at the end; `None` if there is nothing yet.
fn receive(socket: &OwnedFd, buffer: &mut [u8], flags: RecvFlags) -> Result<Option<usize>, Errno> {
    match recv(socket, buffer, flags | RecvFlags::DONTWAIT) {
        Ok((count, _)) => Ok(Some(count)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error),
    }
}
