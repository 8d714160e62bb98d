//! One core's listener, and what the standby thread knows of that core.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags};

use crate::front::arrivals::Arrival;
use crate::rt::channel::Sender;
use crate::rt::net::accept;
use crate::rt::waker::CoreWaker;

/// The most connections for which there is no place that are accepted during one stall. They use descriptors that
/// other connections do not get.
const UNPLACED_MAX: usize = 64;

/// After so many looks the core counts as stalled: some 30 ms, which most syncs do not take, nor the other threads on
/// a busy machine.
const DOUBTS_MAX: u32 = 3;

/// How a running core is reached.
pub(crate) struct CoreLink {
    pub(crate) waker: CoreWaker,
    pub(crate) arrivals: Sender<Arrival>,
}

pub(super) struct Door {
    listener: OwnedFd,
    /// The key of its events.
    key: u64,
    /// The thread is told of connections here.
    is_open: bool,
    /// The core has stopped listening.
    is_gone: bool,
    /// `None` while the server starts.
    core: Option<CoreLink>,
    /// The core's turns at the latest look, and whether a connection waited then.
    turns: u64,
    waited: bool,
    /// For how many looks a connection has waited while the core did not run.
    doubts: u32,
    is_stalled: bool,
    /// Connections without a place that were accepted since the core ran.
    unplaced: usize,
}

pub(super) enum Accepted {
    Connection(OwnedFd, IpAddr),
    None,
}

/// What a look at a core has found.
pub(super) enum Look {
    Unchanged,
    Stalled,
    RunsAgain,
}

impl Door {
    pub(super) fn new(listener: OwnedFd, key: u64) -> Door {
        Door {
            listener,
            key,
            is_open: false,
            is_gone: false,
            core: None,
            turns: 0,
            waited: false,
            doubts: 0,
            is_stalled: false,
            unplaced: 0,
        }
    }

    pub(super) fn lead_to(&mut self, core: CoreLink) {
        self.core = Some(core);
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// Whether the core is stalled, or the next look may show that it is.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.is_stalled || self.waited
    }

    /// Whether the thread has to accept here, and does not.
    pub(super) fn is_to_open(&self) -> bool {
        let is_left_alone = self.core.is_none() || self.is_stalled && self.unplaced < UNPLACED_MAX;
        is_left_alone && !self.is_open && !self.is_gone
    }

    /// Has the thread told of connections here. Once the core has stopped listening there are none.
    pub(super) fn open(&mut self, epoll: &OwnedFd) -> io::Result<()> {
        if !self.is_gone {
            epoll::add(epoll, &self.listener, EventData::new_u64(self.key), EventFlags::IN)?;
            self.is_open = true;
        }
        Ok(())
    }

    pub(super) fn close(&mut self, epoll: &OwnedFd) {
        if self.is_open {
            // Fails only for a socket that is not there.
            let _ = epoll::delete(epoll, &self.listener);
            self.is_open = false;
        }
    }

    /// Accepts a connection if one waits and no running core is there to do it. After an error the door is closed until the next
    /// tick.
    pub(super) fn accept(&mut self, epoll: &OwnedFd) -> Accepted {
        if !self.is_open || self.core.is_some() && !self.is_stalled {
            return Accepted::None;
        }
        match accept(&self.listener) {
            Ok(Some((socket, peer))) => return Accepted::Connection(socket, peer),
            Ok(None) => {}
            Err(error) => {
                self.is_gone = error.kind() == ErrorKind::InvalidInput;
                self.close(epoll);
            }
        }
        Accepted::None
    }

    pub(super) fn count_unplaced(&mut self, epoll: &OwnedFd) {
        self.unplaced += 1;
        if self.unplaced >= UNPLACED_MAX {
            self.close(epoll);
        }
    }

    pub(super) fn hand_over(&self, arrival: Arrival) {
        if let Some(core) = &self.core {
            core.arrivals.send(arrival);
        }
    }

    pub(super) fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(&self.listener, PollFlags::IN)
    }

    /// Notes what waits here now, as polled, and whether the core has run since the latest look.
    pub(super) fn look(&mut self, polled: PollFlags) -> Look {
        let Some(core) = &self.core else { return Look::Unchanged };
        let waits = polled.contains(PollFlags::IN);
        self.is_gone |= polled.contains(PollFlags::HUP);
        let turns = core.waker.turns();
        let has_run = turns != self.turns;
        self.doubts = if waits && self.waited && !has_run { self.doubts + 1 } else { 0 };
        (self.turns, self.waited) = (turns, waits);
        if self.is_stalled && has_run {
            (self.is_stalled, self.unplaced) = (false, 0);
            Look::RunsAgain
        } else if !self.is_stalled && self.doubts >= DOUBTS_MAX {
            self.is_stalled = true;
            Look::Stalled
        } else {
            Look::Unchanged
        }
    }
}
