//! The limit on registrations from one address. Each costs a hash and tells whether a name is taken.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::{ENTRIES_PER_THREAD, TooManyRegistrations};
use crate::bucket::Bucket;
use crate::client_network::ClientNetwork;
use crate::table::Table;

const HOUR_US: u64 = 60 * 60 * 1_000_000;

/// The registrations of all cores, by address. An address may have an hour's at once.
pub(super) struct Registrations {
    per_hour: u32,
    start: Instant,
    /// Random keys, so that clients cannot choose addresses that share a set.
    hashes: RandomState,
    /// In microseconds.
    buckets: Mutex<Table<Bucket>>,
}

impl Registrations {
    pub(super) fn new(per_hour: u32, password_threads: usize) -> Registrations {
        Registrations {
            per_hour,
            start: Instant::now(),
            hashes: RandomState::new(),
            buckets: Mutex::new(Table::new(ENTRIES_PER_THREAD * password_threads)),
        }
    }

    /// Counts a registration from a network.
    ///
    /// # Errors
    ///
    /// When there were too many.
    pub(super) fn take(&self, network: ClientNetwork) -> Result<(), TooManyRegistrations> {
        self.take_at(self.start.elapsed().as_micros() as u64, network)
    }

    fn take_at(&self, now: u64, network: ClientNetwork) -> Result<(), TooManyRegistrations> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(self.hashes.hash_one(network), now);
        match bucket.wait(now, self.amount(), HOUR_US) {
            0 => {
                bucket.add(now, self.amount());
                Ok(())
            }
            wait => Err(TooManyRegistrations { retry_after_seconds: wait.div_ceil(1_000_000) as u32 }),
        }
    }

    /// Takes a registration out of the counts: nothing was done.
    pub(super) fn give_back(&self, network: ClientNetwork) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get(self.hashes.hash_one(network)) {
            bucket.take_back(self.amount());
        }
    }

    fn amount(&self) -> u64 {
        HOUR_US / u64::from(self.per_hour)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn an_hours_registrations_at_once_and_then_evenly() {
        let here = ClientNetwork::from(IpAddr::from([192, 0, 2, 1]));
        for per_hour in [1, 8, 1000, 1_000_000] {
            let registrations = Registrations::new(per_hour, 1);
            let taken = |now, many| (0..many).filter(|_| registrations.take_at(now, here).is_ok()).count();
            assert_eq!(taken(0, per_hour + 1), per_hour as usize);
            registrations.give_back(here);
            assert_eq!(taken(0, 2), 1, "what was not done does not count");
            let refused = registrations.take_at(0, here).unwrap_err();
            let amount = HOUR_US / u64::from(per_hour);
            assert_eq!(u64::from(refused.retry_after_seconds), amount.div_ceil(1_000_000));
            assert_eq!((taken(amount - 1, 1), taken(amount, 2)), (0, 1), "{per_hour}");
            assert!(registrations.take_at(0, IpAddr::from([192, 0, 2, 2]).into()).is_ok(), "another address");
        }
    }
}
