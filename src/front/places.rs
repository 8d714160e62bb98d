//! Places for connections, of all cores together: how many are left, and how many each client has.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::proxies::TrustedProxies;
use crate::client_network::ClientNetwork;

/// A client gets another place while it has fewer than this times the places that are left. So a client that
/// is alone can have all but a sixteenth of them, and the next one nearly all of these. Switches divide their
/// memory among ports in this way (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory
/// packet switches", 1998): while there are many places, nobody is limited, and no client's needs have to be
/// known.
const HELD_FOR_EACH_LEFT: usize = 15;

/// Counters of clients' places. Clients whose counter is the same count as one. Few can have many places
/// each, so that somebody is unlikely to share a counter with one of those; a random key keeps clients from
/// choosing.
const COUNTERS: usize = 1 << 16;

/// A client with more than a sixteenth of all places has many. Connections of others wait for one of its
/// connections to give way on another core.
const MANY: usize = 16;

/// The most connections that wait like that at a time. They use descriptors that connections with a place do
/// not get.
const AWAITED_MAX: usize = 256;

/// The places of a server.
pub struct Places {
    max: usize,
    taken: AtomicUsize,
    /// Places of clients, by a hash of their network. Relaxed: a count may be wrong for the moment in which
    /// another core changes it.
    held: Box<[AtomicU32]>,
    hashes: RandomState,
    proxies: Arc<TrustedProxies>,
    /// Connections that wait for one of another core to give way.
    awaited: AtomicUsize,
}

/// A connection that waits for a place, until it is dropped.
pub(crate) struct Awaited<'p>(&'p Places);

/// A connection's place, until it is dropped.
pub struct Place {
    places: Arc<Places>,
    holder: Option<Holder>,
}

/// The client that has a place: the index of its counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder(usize);

/// Why a connection gets no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    AllTaken,
    /// Some are left, but not for a client that has so many.
    ShareTaken,
}

/// A connection that needs the place of another one.
pub(crate) struct Newcomer<'p> {
    places: &'p Places,
    holder: Option<Holder>,
    /// The client's places, this one included.
    held: usize,
}

impl Places {
    pub(crate) fn new(max: usize, proxies: Arc<TrustedProxies>) -> Places {
        Places {
            max,
            taken: AtomicUsize::new(0),
            held: (0..COUNTERS).map(|_| AtomicU32::new(0)).collect(),
            hashes: RandomState::new(),
            proxies,
            awaited: AtomicUsize::new(0),
        }
    }

    /// Takes a place for a connection from `peer`. If there is none for it, `make_room` may end another
    /// connection, and returns whether it did. A trusted proxy brings many clients, and is not limited.
    pub(crate) fn take(
        self: &Arc<Places>,
        peer: IpAddr,
        make_room: impl FnOnce(&Newcomer<'_>) -> bool,
    ) -> Result<Place, NoPlace> {
        let holder = (!self.proxies.are_at(peer)).then(|| self.holder(peer));
        let left = self.max.saturating_sub(self.taken.fetch_add(1, Ordering::Relaxed));
        let held =
            holder.map_or(0, |Holder(index)| self.held[index].fetch_add(1, Ordering::Relaxed) as usize);
        // Dropped if it is refused.
        let place = Place { places: Arc::clone(self), holder };
        if held < left.saturating_mul(HELD_FOR_EACH_LEFT)
            || make_room(&Newcomer { places: self, holder, held: held + 1 })
        {
            return Ok(place);
        }
        Err(if left == 0 { NoPlace::AllTaken } else { NoPlace::ShareTaken })
    }

    /// Has other cores make room for a connection from `peer`, until the mark is dropped. `None` if it is to
    /// be refused at once: its client has many places, or too many connections wait already.
    pub(crate) fn await_room(&self, peer: IpAddr) -> Option<Awaited<'_>> {
        if !self.proxies.are_at(peer) && self.has_many(self.holder(peer)) {
            return None;
        }
        let mark = Awaited(self);
        (self.awaited.fetch_add(1, Ordering::Relaxed) < AWAITED_MAX).then_some(mark)
    }

    /// How many connections wait for one to give way.
    pub(crate) fn awaited(&self) -> usize {
        self.awaited.load(Ordering::Relaxed)
    }

    pub(crate) fn has_many(&self, holder: Holder) -> bool {
        self.held[holder.0].load(Ordering::Relaxed) as usize > (self.max / MANY).max(1)
    }

    fn holder(&self, peer: IpAddr) -> Holder {
        Holder(self.hashes.hash_one(ClientNetwork::from(peer)) as usize % COUNTERS)
    }
}

impl Place {
    /// `None` for a trusted proxy.
    pub(crate) fn holder(&self) -> Option<Holder> {
        self.holder
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.fetch_sub(1, Ordering::Relaxed);
        if let Some(Holder(index)) = self.holder {
            self.places.held[index].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.awaited.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Newcomer<'_> {
    /// Whether it may have the place of a connection that waits for a request. No client loses one to a
    /// client that has more of them. A client's own connections give way only if they never sent anything.
    pub(crate) fn may_replace(&self, other: Holder, is_silent: bool) -> bool {
        let held = self.places.held[other.0].load(Ordering::Relaxed) as usize;
        held >= self.held && (is_silent || self.holder != Some(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(max: usize) -> Arc<Places> {
        let networks = vec![TrustedProxies::network("10.0.0.0/8").unwrap()];
        Arc::new(Places::new(max, Arc::new(TrustedProxies { networks, every_peer: false })))
    }

    /// Takes places until one is refused.
    fn fill(places: &Arc<Places>, address: impl Fn(usize) -> String) -> (Vec<Place>, NoPlace) {
        let mut taken = Vec::new();
        loop {
            match places.take(address(taken.len()).parse().unwrap(), |_| false) {
                Ok(place) => taken.push(place),
                Err(refused) => return (taken, refused),
            }
        }
    }

    #[test]
    fn a_client_leaves_a_sixteenth_to_others() {
        for (max, alone) in [(1, 1), (8, 8), (15, 15), (16, 15), (64, 60), (1000, 938), (19_488, 18_270)] {
            let places = places(max);
            let (first, refused) = fill(&places, |_| "192.0.2.1".to_owned());
            assert_eq!(first.len(), alone, "of {max}");
            let cause = if alone == max { NoPlace::AllTaken } else { NoPlace::ShareTaken };
            assert_eq!(refused, cause, "of {max}");
            let (rest, _) = fill(&places, |number| format!("192.0.{}.2", number % 250));
            assert_eq!(rest.len(), max - alone, "of {max}");
            drop((first, rest));
            assert_eq!(places.taken.load(Ordering::Relaxed), 0);
            assert!(places.held.iter().all(|held| held.load(Ordering::Relaxed) == 0));
        }
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_a_proxy_is_none() {
        let places = places(160);
        let (network, _) = fill(&places, |number| format!("2001:db8::{number:x}"));
        assert_eq!(network.len(), 150);
        let (proxy, refused) = fill(&places, |_| "10.1.2.3".to_owned());
        assert_eq!((proxy.len(), refused), (10, NoPlace::AllTaken));
    }

    #[test]
    fn who_has_more_gives_way() {
        let places = places(10);
        let [one, other]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let taken: Vec<Place> =
            [one; 6].into_iter().chain([other; 4]).flat_map(|peer| places.take(peer, |_| false)).collect();
        assert_eq!(taken.len(), 10);
        let may = |peer: IpAddr, of: IpAddr, is_silent: bool| {
            let mut may = None;
            let _ = places.take(peer, |newcomer| {
                may = Some(newcomer.may_replace(places.holder(of), is_silent));
                false
            });
            may.expect("all are taken")
        };
        assert!(may(other, one, true) && may(other, one, false));
        assert!(!may(one, other, true) && !may(one, other, false));
        assert!(may(one, one, true) && !may(one, one, false));
        let proxy = "10.0.0.1".parse().unwrap();
        assert!(may(proxy, one, true) && may(proxy, one, false));
    }
}
