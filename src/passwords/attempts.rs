//! Limits on how often a password may be guessed, for all cores together.
//!
//! An address may fail five times in 15 minutes at one account. All addresses together may fail a hundred
//! times at an account, and then a hundred times an hour. The second limit slows guesses from many addresses.
//! It does not apply to an address from which someone has logged in to the account before, so that others cannot
//! lock the owner out. Accounts that do not exist are counted in the same way.
//!
//! An attempt counts as a failure from its beginning until it succeeds, so that simultaneous attempts do not
//! evade the limits. Memory is fixed; in a full set of a table, the entry with the fewest failures is replaced. To
//! have its entry replaced, a guesser would need as many failures under as many names as the table has room for,
//! which takes the password threads longer than the 15 minutes.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::client_network::ClientNetwork;
use crate::table::{Entry, Table};

/// Failures at an account from one address, within [`WINDOW_SECONDS`].
const FAILURES_MAX: usize = 5;
const WINDOW_SECONDS: u32 = 15 * 60;

/// Seconds after which one failure at an account is forgotten: a hundred an hour.
const FAILURE_COST_SECONDS: u32 = 36;
/// The limit of an account's cost: a hundred failures.
const COST_MAX_SECONDS: u32 = 100 * FAILURE_COST_SECONDS;

/// The capacity of each table, for each password thread. At 13 ms a guess, a thread needs 35 minutes to fill
/// a table with entries of five failures.
const ENTRIES_PER_THREAD: usize = 32 * 1024;

/// There were too many failures, and the password was not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyAttempts {
    pub retry_after_seconds: u32,
}

/// The counts of all cores.
pub(super) struct Attempts {
    start: Instant,
    /// Random keys, so that clients cannot choose names that share a set.
    hashes: RandomState,
    counts: Mutex<Counts>,
}

struct Counts {
    /// Failures by account and address.
    failures: Table<Failures>,
    /// Failures by account, from addresses that are not known.
    costs: Table<Cost>,
    /// Addresses from which someone has logged in, by account and address.
    known: Table<Known>,
}

/// A guess that is in progress, and counts as a failure meanwhile.
#[must_use]
#[derive(Debug)]
pub(super) struct Attempt {
    /// A hash.
    account: u64,
    /// A hash of account and address.
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
    /// When there were too many failures.
    pub(super) fn begin(&self, account: &str, address: IpAddr) -> Result<Attempt, TooManyAttempts> {
        self.begin_at(self.now(), account, address)
    }

    /// Removes an attempt from the counts: the password was right.
    pub(super) fn succeeded(&self, attempt: &Attempt) {
        self.succeeded_at(self.now(), attempt);
    }

    /// Removes an attempt from the counts: the password was not checked.
    pub(super) fn withdrawn(&self, attempt: &Attempt) {
        let mut counts = self.counts();
        if let Some(failures) = counts.failures.get(attempt.pair) {
            failures.take_back(attempt.at);
        }
        counts.take_back_cost(attempt);
    }

    fn begin_at(&self, now: u32, account: &str, address: IpAddr) -> Result<Attempt, TooManyAttempts> {
        let (account, pair) =
            (self.hashes.hash_one(account), self.hashes.hash_one((account, ClientNetwork::from(address))));
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

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seconds of a monotonic clock, from 1.
    fn now(&self) -> u32 {
        self.start.elapsed().as_secs().try_into().unwrap_or(u32::MAX - WINDOW_SECONDS).saturating_add(1)
    }
}

impl Counts {
    fn take_back_cost(&mut self, attempt: &Attempt) {
        if !attempt.from_known
            && let Some(cost) = self.costs.get(attempt.account)
        {
            cost.paid_at = cost.paid_at.saturating_sub(FAILURE_COST_SECONDS);
        }
    }
}

/// The times of the latest failures, in no order; 0 for none.
#[derive(Debug, Clone, Copy, Default)]
struct Failures([u32; FAILURES_MAX]);

impl Failures {
    /// Seconds until another attempt is allowed.
    fn wait(&self, now: u32) -> u32 {
        let oldest = self.0.into_iter().min().expect("the array is not empty");
        if oldest == 0 { 0 } else { (oldest + WINDOW_SECONDS).saturating_sub(now) }
    }

    fn add(&mut self, now: u32) {
        *self.0.iter_mut().min().expect("the array is not empty") = now;
    }

    fn take_back(&mut self, at: u32) {
        if let Some(failure) = self.0.iter_mut().find(|failure| **failure == at) {
            *failure = 0;
        }
    }
}

/// The failures at an account, as a leaky bucket.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    /// When all failures are forgotten.
    paid_at: u32,
}

impl Cost {
    /// Seconds until another attempt is allowed.
    fn wait(&self, now: u32) -> u32 {
        (self.paid_at.saturating_sub(now) + FAILURE_COST_SECONDS).saturating_sub(COST_MAX_SECONDS)
    }

    fn add(&mut self, now: u32) {
        self.paid_at = self.paid_at.max(now) + FAILURE_COST_SECONDS;
    }
}

/// The latest login.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    since: u32,
}

impl Entry for Failures {
    fn worth(&self, now: u32) -> u64 {
        let live = self.0.into_iter().filter(|&at| at > 0 && at + WINDOW_SECONDS > now);
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
        // Refused attempts do not extend the wait.
        for _ in 0..10 {
            assert_eq!(wait(&attempts, 401, "ada", here), 100 + WINDOW_SECONDS - 401);
        }
        assert_eq!(wait(&attempts, 401, "ada", address(2)), 0, "another address");
        assert_eq!(wait(&attempts, 401, "eve", here), 0, "another account");
        assert_eq!(wait(&attempts, 100 + WINDOW_SECONDS - 1, "ada", here), 1);
        assert_eq!(wait(&attempts, 100 + WINDOW_SECONDS, "ada", here), 0, "the first one is forgotten");
        assert_eq!(wait(&attempts, 100 + WINDOW_SECONDS, "ada", here), 1, "the second one is not");
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
        assert_ne!(wait(&attempts, 100, "ada", address(1)), 0, "five are in progress");
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
        assert_eq!(wait(&attempts, 100, "ada", address(1)), FAILURE_COST_SECONDS);
        assert_eq!(wait(&attempts, 100, "eve", address(1)), 0, "another account");
        for _ in 0..FAILURES_MAX {
            assert_eq!(wait(&attempts, 100, "ada", home), 0);
        }
        assert_eq!(wait(&attempts, 100, "ada", home), WINDOW_SECONDS, "but five is five");
        assert_eq!(wait(&attempts, 100 + FAILURE_COST_SECONDS, "ada", address(1)), 0);
        assert_ne!(wait(&attempts, 100 + FAILURE_COST_SECONDS, "ada", address(2)), 0);
        let hour = (1000..2000).filter(|&number| wait(&attempts, 100 + 3600, "ada", address(number)) == 0);
        assert_eq!(hour.count(), 99, "a hundred, less the one since");
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
    }

    /// Four failures each at as many other names as the table has room for: no entry with five is replaced.
    #[test]
    fn a_flood_of_names_replaces_no_entry_with_more_failures() {
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
