//! How often a password may be guessed, for all cores together.
//!
//! Five failures of an account from one address in 15 minutes are all that the address gets. Over
//! all addresses an account bears a hundred failures, and then a hundred an hour. That slows a
//! crowd of guessers; an address from which the account was logged in to before is not slowed by
//! it, so that its owner is not locked out by others. Accounts that do not exist are counted
//! like those that do.
//!
//! An attempt counts as a failure from its beginning, so that many at once are no way around the
//! limits, and until it succeeds. Memory is fixed. Where it is full, what has fewer failures goes
//! first: to be forgotten, a guesser would have to fail as often under as many names as there is
//! room for, and the password threads would need longer for it than the 15 minutes.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Failures of an account from one address...
const FAILURES_MAX: usize = 5;
/// ... in so many seconds.
const WINDOW: u32 = 15 * 60;

/// What a failure costs an account, in seconds that it takes to be forgotten.
const FAILURE_COST: u32 = 36;
/// What it can owe: a hundred failures.
const COST_MAX: u32 = 100 * FAILURE_COST;

/// Room, for each password thread. At 13 ms a guess it takes one 35 minutes to fill it with
/// entries of five failures.
const ENTRIES_PER_THREAD: usize = 32 * 1024;

/// Too many failures already; the password was not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyAttempts {
    pub retry_after_seconds: u32,
}

/// Counts, in the one place for all cores.
pub(super) struct Attempts {
    start: Instant,
    /// Nobody can foresee which names share a place.
    hashes: RandomState,
    counts: Mutex<Counts>,
}

struct Counts {
    /// Of an account from an address.
    failures: Table<Failures>,
    /// Of an account from addresses that it does not know.
    costs: Table<Cost>,
    /// Addresses from which an account was logged in to.
    known: Table<Known>,
}

/// A guess under way, which counts as a failure.
#[must_use]
#[derive(Debug)]
pub(super) struct Attempt {
    account: u64,
    pair: u64,
    at: u32,
    from_known: bool,
}

impl Attempts {
    pub(super) fn new(password_threads: usize) -> Attempts {
        let entries = ENTRIES_PER_THREAD * password_threads;
        Attempts {
            start: Instant::now(),
            hashes: RandomState::new(),
            counts: Mutex::new(Counts {
                failures: Table::new(entries),
                costs: Table::new(entries),
                known: Table::new(entries),
            }),
        }
    }

    /// Counts a guess at the password of `account`, which need not exist.
    ///
    /// # Errors
    ///
    /// When there were too many.
    pub(super) fn begin(&self, account: &str, address: IpAddr) -> Result<Attempt, TooManyAttempts> {
        self.begin_at(self.now(), account, address)
    }

    /// The password was right.
    pub(super) fn succeeded(&self, attempt: &Attempt) {
        self.succeeded_at(self.now(), attempt);
    }

    /// The password was not looked at.
    pub(super) fn withdrawn(&self, attempt: &Attempt) {
        let mut counts = self.counts();
        if let Some(failures) = counts.failures.get(attempt.pair) {
            failures.take_back(attempt.at);
        }
        counts.take_back_cost(attempt);
    }

    fn begin_at(&self, now: u32, account: &str, address: IpAddr) -> Result<Attempt, TooManyAttempts> {
        let (account, pair) =
            (self.hashes.hash_one(account), self.hashes.hash_one((account, network(address))));
        let mut counts = self.counts();
        let from_known = counts.known.get(pair).is_some();
        let failed = counts.failures.get(pair).map_or(0, |failures| failures.wait(now));
        let owed = counts.costs.get(account).filter(|_| !from_known).map_or(0, |cost| cost.wait(now));
        if let retry_after_seconds @ 1.. = failed.max(owed) {
            return Err(TooManyAttempts { retry_after_seconds });
        }
        counts.failures.entry(pair, now).add(now);
        if !from_known {
            counts.costs.entry(account, now).add(now);
        }
        Ok(Attempt { account, pair, at: now, from_known })
    }

    fn succeeded_at(&self, now: u32, attempt: &Attempt) {
        let mut counts = self.counts();
        if let Some(failures) = counts.failures.get(attempt.pair) {
            *failures = Failures::default();
        }
        counts.take_back_cost(attempt);
        counts.known.entry(attempt.pair, now).since = now;
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seconds, from 1, of a clock that nobody sets.
    fn now(&self) -> u32 {
        self.start.elapsed().as_secs().try_into().unwrap_or(u32::MAX - WINDOW).saturating_add(1)
    }
}

impl Counts {
    fn take_back_cost(&mut self, attempt: &Attempt) {
        if !attempt.from_known
            && let Some(cost) = self.costs.get(attempt.account)
        {
            cost.paid_at = cost.paid_at.saturating_sub(FAILURE_COST);
        }
    }
}

/// Whoever has an IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        short @ IpAddr::V4(_) => short,
    }
}

/// When, with 0 for never; the last ones, in no order.
#[derive(Debug, Clone, Copy, Default)]
struct Failures([u32; FAILURES_MAX]);

impl Failures {
    /// Seconds until one more may be.
    fn wait(&self, now: u32) -> u32 {
        let oldest = self.0.into_iter().min().expect("there is room for some");
        if oldest == 0 { 0 } else { (oldest + WINDOW).saturating_sub(now) }
    }

    fn add(&mut self, now: u32) {
        *self.0.iter_mut().min().expect("there is room for some") = now;
    }

    fn take_back(&mut self, at: u32) {
        if let Some(failure) = self.0.iter_mut().find(|failure| **failure == at) {
            *failure = 0;
        }
    }
}

/// What an account owes for failures.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    paid_at: u32,
}

impl Cost {
    /// Seconds until one more may be.
    fn wait(&self, now: u32) -> u32 {
        (self.paid_at.saturating_sub(now) + FAILURE_COST).saturating_sub(COST_MAX)
    }

    fn add(&mut self, now: u32) {
        self.paid_at = self.paid_at.max(now) + FAILURE_COST;
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    since: u32,
}

trait Entry: Copy + Default {
    /// What has the least makes room.
    fn worth(&self, now: u32) -> u64;
}

impl Entry for Failures {
    fn worth(&self, now: u32) -> u64 {
        let live = self.0.into_iter().filter(|&at| at > 0 && at + WINDOW > now);
        let (count, newest) = live.fold((0, 0), |(count, newest), at| (count + 1, at.max(newest)));
        count << 32 | u64::from(newest)
    }
}

impl Entry for Cost {
    fn worth(&self, now: u32) -> u64 {
        self.paid_at.saturating_sub(now).into()
    }
}

impl Entry for Known {
    fn worth(&self, _now: u32) -> u64 {
        self.since.into()
    }
}

/// Places that share the hashes which lead to them.
const PLACES: usize = 8;

/// Entries by their hash, in a room that never grows.
struct Table<E> {
    sets: Vec<[(u64, E); PLACES]>,
}

impl<E: Entry> Table<E> {
    fn new(entries: usize) -> Table<E> {
        let sets = (entries / PLACES).next_power_of_two();
        Table { sets: vec![[(0, E::default()); PLACES]; sets] }
    }

    fn set(&mut self, hash: u64) -> &mut [(u64, E); PLACES] {
        let index = hash as usize & (self.sets.len() - 1);
        &mut self.sets[index]
    }

    fn get(&mut self, hash: u64) -> Option<&mut E> {
        let found = self.set(hash).iter_mut().find(|(known, _)| *known == hash);
        found.map(|(_, entry)| entry)
    }

    /// The entry of that hash, in the place of what has the least worth if it is new.
    fn entry(&mut self, hash: u64, now: u32) -> &mut E {
        let set = self.set(hash);
        let place = set.iter().position(|(known, _)| *known == hash).unwrap_or_else(|| {
            let least = (0..PLACES).min_by_key(|&place| set[place].1.worth(now));
            let least = least.expect("there are places");
            set[least] = (hash, E::default());
            least
        });
        &mut set[place].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    fn wait(attempts: &Attempts, now: u32, account: &str, address: IpAddr) -> u32 {
        attempts.begin_at(now, account, address).err().map_or(0, |refused| refused.retry_after_seconds)
    }

    #[test]
    fn five_failures_from_one_address_are_enough() {
        let attempts = Attempts::new(1);
        let here = address(1);
        for now in [100, 101, 200, 300, 400] {
            assert_eq!(wait(&attempts, now, "ada", here), 0, "at {now}");
        }
        // Asking again does not make it longer.
        for _ in 0..10 {
            assert_eq!(wait(&attempts, 401, "ada", here), 100 + WINDOW - 401);
        }
        assert_eq!(wait(&attempts, 401, "ada", address(2)), 0, "another address");
        assert_eq!(wait(&attempts, 401, "eve", here), 0, "another account");
        assert_eq!(wait(&attempts, 100 + WINDOW - 1, "ada", here), 1);
        assert_eq!(wait(&attempts, 100 + WINDOW, "ada", here), 0, "the first one is forgotten");
        assert_eq!(wait(&attempts, 100 + WINDOW, "ada", here), 1, "the second one is not");
    }

    #[test]
    fn successes_do_not_count() {
        let attempts = Attempts::new(1);
        for _ in 0..1000 {
            let attempt = attempts.begin_at(100, "ada", address(1)).unwrap();
            attempts.succeeded_at(100, &attempt);
        }
        for _ in 0..1000 {
            let attempt = attempts.begin_at(100, "eve", address(1)).unwrap();
            attempts.withdrawn(&attempt);
        }
        for _ in 0..4 {
            assert_eq!(wait(&attempts, 100, "ada", address(1)), 0);
        }
        let attempt = attempts.begin_at(100, "ada", address(1)).unwrap();
        assert_ne!(wait(&attempts, 100, "ada", address(1)), 0, "five are under way");
        attempts.succeeded_at(100, &attempt);
        assert_eq!(wait(&attempts, 100, "ada", address(1)), 0);
    }

    #[test]
    fn a_crowd_is_slowed_and_a_known_address_is_not() {
        let attempts = Attempts::new(1);
        let home = address(7);
        let attempt = attempts.begin_at(1, "ada", home).unwrap();
        attempts.succeeded_at(1, &attempt);
        let taken = (1000..2000).filter(|&number| wait(&attempts, 100, "ada", address(number)) == 0);
        assert_eq!(taken.count(), 100);
        assert_eq!(wait(&attempts, 100, "ada", address(1)), FAILURE_COST);
        assert_eq!(wait(&attempts, 100, "eve", address(1)), 0, "another account");
        for _ in 0..FAILURES_MAX {
            assert_eq!(wait(&attempts, 100, "ada", home), 0);
        }
        assert_eq!(wait(&attempts, 100, "ada", home), WINDOW, "but five is five");
        assert_eq!(wait(&attempts, 100 + FAILURE_COST, "ada", address(1)), 0);
        assert_ne!(wait(&attempts, 100 + FAILURE_COST, "ada", address(2)), 0);
        let hour = (1000..2000).filter(|&number| wait(&attempts, 100 + 3600, "ada", address(number)) == 0);
        assert_eq!(hour.count(), 99, "all but the one since");
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let attempts = Attempts::new(1);
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        for host in 1..=FAILURES_MAX {
            assert_eq!(wait(&attempts, 100, "ada", at(&format!("2001:db8::{host}"))), 0);
        }
        assert_ne!(wait(&attempts, 100, "ada", at("2001:db8::ffff:1")), 0);
        assert_eq!(wait(&attempts, 100, "ada", at("2001:db8:0:1::1")), 0);
        assert_eq!(network(at("::ffff:10.0.0.1")), at("10.0.0.1"));
    }

    /// As many other names as there is room for, each tried four times: nothing with five goes.
    #[test]
    fn a_flood_of_names_does_not_make_it_forget() {
        let attempts = Attempts::new(1);
        let victims: Vec<String> = (0..200).map(|number| format!("victim-{number}")).collect();
        for victim in &victims {
            for _ in 0..FAILURES_MAX {
                assert_eq!(wait(&attempts, 100, victim, address(1)), 0);
            }
        }
        for number in 0..ENTRIES_PER_THREAD as u32 {
            for _ in 0..FAILURES_MAX - 1 {
                wait(&attempts, 101, &format!("name-{number}"), address(2));
            }
        }
        for victim in &victims {
            assert_ne!(wait(&attempts, 102, victim, address(1)), 0, "{victim} was forgotten");
        }
    }
}
