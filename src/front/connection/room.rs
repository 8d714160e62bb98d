//! Room for new connections when places run short: which connection gives way.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use super::{Front, reject, serve};
use crate::front::deadlines::Wait;
use crate::front::places::{Holder, NoPlace, Place};
use crate::logging::rationed;
use crate::rt;
use crate::rt::net::Stream;

/// How long a new connection waits for one of another core to give way: two of their sweeps, and some time
/// for a busy core.
const WAIT_MAX: Duration = Duration::from_millis(300);
const WAIT_STEP: Duration = Duration::from_millis(25);

/// Serves a new connection if it has a place or there is one for it, or rejects it.
pub(crate) fn admit(front: &Rc<Front>, stream: Stream, place: Option<Place>) {
    match place.map_or_else(|| front.take_place(stream.peer()), Ok) {
        Ok(place) => rt::spawn(serve(Rc::clone(front), stream, place)),
        Err(cause) => rt::spawn(admit_later(Rc::clone(front), stream, cause)),
    }
}

async fn admit_later(front: Rc<Front>, stream: Stream, mut cause: NoPlace) {
    let peer = stream.peer();
    let common = &front.api.common;
    let has_other_cores = common.metrics.cores.len() > 1;
    if let Some(_mark) = has_other_cores.then(|| common.places.await_room(peer)).flatten() {
        for _ in 0..WAIT_MAX.as_millis() / WAIT_STEP.as_millis() {
            rt::sleep(WAIT_STEP).await;
            match front.take_place(peer) {
                // A task of its own, so that this one does not need memory for it.
                Ok(place) => return rt::spawn(serve(Rc::clone(&front), stream, place)),
                Err(again) => cause = again,
            }
        }
    }
    match cause {
        NoPlace::AllTaken => {
            rationed!(warn, address = %peer, "a connection was refused: --max-connections are open");
            front.metrics.refused_all_taken.add(1);
        }
        NoPlace::ShareTaken => {
            rationed!(warn, address = %peer, "a connection was refused: few are left, and its address has many");
            front.metrics.refused_share.add(1);
        }
    }
    reject(front, stream, cause).await;
}

impl Front {
    /// Takes a place for a connection from `peer`, if need be that of a connection of this core.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub(crate) fn take_place(&self, peer: IpAddr) -> Result<Place, NoPlace> {
        self.api.common.places.take(peer, |newcomer| {
            self.close_waiting(|holder, wait| newcomer.may_replace(holder, wait == Wait::FirstRequest))
        })
    }

    /// Makes room for connections that other cores have accepted. The kernel spreads connections evenly, but
    /// a core that is awake accepts its own first.
    pub(crate) fn make_room_for_other_cores(&self) {
        let places = &self.api.common.places;
        for _ in 0..places.awaited() {
            if !self.close_waiting(|holder, _| places.has_many(holder)) {
                return;
            }
        }
    }

    fn close_waiting(&self, may_give_way: impl Fn(Holder, Wait) -> bool) -> bool {
        match self.deadlines.close_waiting(may_give_way) {
            Some(Wait::FirstRequest) => self.metrics.closed_silent.add(1),
            Some(Wait::News) => self.metrics.closed_live.add(1),
            Some(_) => self.metrics.closed_idle.add(1),
            None => return false,
        }
        true
    }
}
