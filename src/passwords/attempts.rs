//! Limits on how often a password may be guessed, for all cores together.
//!
//! An address may fail five times in 15 minutes at one account. All addresses together may fail a hundred
//! times at an account, and then a hundred times an hour. The second limit slows guesses from many addresses.
//! It does not apply to an address from which someone has logged in to the account before, so that others cannot
//! lock the owner out. Accounts that do not exist are counted in the same way.
//!
//! A guess counts as a failure while it is under way, so that simultaneous guesses do not evade the limits. If that
//! alone reaches a limit, the next guess waits until it is known whether those before it were right. So any number of
//! right passwords at once are no failures. Memory is fixed; in a full set of a table, the entry with the fewest
//! failures is replaced. To have its entry replaced, a guesser would need as many failures under as many names as the
//! table has room for, which takes the password threads longer than the 15 minutes.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{ENTRIES_PER_THREAD, TooManyAttempts};
use crate::bucket::Bucket;
use crate::client_network::ClientNetwork;
use crate::table::{Entry, Table};

/// Failures at an account from one address, within [`WINDOW_SECONDS`].
const FAILURES_MAX: usize = 5;
const WINDOW_SECONDS: u32 = 15 * 60;

/// Seconds after which one failure at an account is forgotten: a hundred an hour.
const FAILURE_COST_SECONDS: u32 = 36;
/// The limit of an account's cost: a hundred failures.
const COST_MAX_SECONDS: u32 = 100 * FAILURE_COST_SECONDS;

/// The counts of all cores.
pub(super) struct Attempts {
    start: Instant,
    /// Random keys, so that clients cannot choose names that share a set.
    hashes: RandomState,
    counts: Mutex<Counts>,
    /// Signals the end of an attempt.
    ended: Condvar,
}

struct Counts {
    /// Failures by account and address.
    failures: Table<Failures>,
    /// Failures by account, from addresses that are not known. In seconds.
    costs: Table<Bucket>,
    /// Addresses from which someone has logged in, by account and address.
    known: Table<Known>,
    /// One for each password thread at most.
    under_way: Vec<Attempt>,
}

/// Who guesses at what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Guesser {
    /// A hash.
    account: u64,
    /// A hash of account and address.
    pair: u64,
}

/// A guess that is under way, and counts as a failure meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attempt {
    guesser: Guesser,
    at: u32,
    from_known: bool,
}

/// Whether someone may guess.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    May {
        from_known: bool,
    },
    /// Not before a guess that is under way has ended, which may have been right.
    NotYet,
    MayNot(TooManyAttempts),
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
                under_way: Vec::new(),
            }),
            ended: Condvar::new(),
        }
    }

    /// Who guesses at the password of `account`, which need not exist.
    pub(super) fn guesser(&self, account: &str, network: ClientNetwork) -> Guesser {
        let hashes = &self.hashes;
        Guesser { account: hashes.hash_one(account), pair: hashes.hash_one((account, network)) }
    }

    /// Counts nothing yet.
    ///
    /// # Errors
    ///
    /// When there were too many failures.
    pub(super) fn check(&self, guesser: Guesser) -> Result<(), TooManyAttempts> {
        match self.counts().judge(self.now(), guesser) {
            Verdict::May { .. } | Verdict::NotYet => Ok(()),
            Verdict::MayNot(refused) => Err(refused),
        }
    }

    /// Counts a guess. Blocks a password thread until no guess is under way on which the outcome depends: at an
    /// account with too many failures but one, for as long as one hash takes.
    ///
    /// # Errors
    ///
    /// When there were too many failures.
    pub(super) fn begin(&self, guesser: Guesser) -> Result<Attempt, TooManyAttempts> {
        let mut counts = self.counts();
        loop {
            let now = self.now();
            match counts.judge(now, guesser) {
                Verdict::May { from_known } => return Ok(counts.begin(now, guesser, from_known)),
                Verdict::NotYet => counts = self.ended.wait(counts).unwrap_or_else(PoisonError::into_inner),
                Verdict::MayNot(refused) => return Err(refused),
            }
        }
    }

    /// Counts a failure, or forgets those of the guesser if the password was right.
    pub(super) fn end(&self, attempt: Attempt, right: bool) {
        self.counts().end(self.now(), attempt, right);
        self.ended.notify_all();
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
    fn judge(&mut self, now: u32, guesser: Guesser) -> Verdict {
        let from_known = self.known.get(guesser.pair).is_some();
        let failed = self.failures.get(guesser.pair).map_or(0, |failures| failures.wait(now));
        let owed = self.costs.get(guesser.account).filter(|_| !from_known).map_or(0, |cost| {
            cost.wait(now.into(), FAILURE_COST_SECONDS.into(), COST_MAX_SECONDS.into()) as u32
        });
        let may_fall = |of: &dyn Fn(&Attempt) -> bool| self.under_way.iter().any(of);
        let failed_may_fall = failed > 0 && may_fall(&|other| other.guesser == guesser);
        let owed_may_fall =
            owed > 0 && may_fall(&|other| other.guesser.account == guesser.account && !other.from_known);
        match failed.max(owed) {
            0 => Verdict::May { from_known },
            _ if (failed == 0 || failed_may_fall) && (owed == 0 || owed_may_fall) => Verdict::NotYet,
            retry_after_seconds => Verdict::MayNot(TooManyAttempts { retry_after_seconds }),
        }
    }

    fn begin(&mut self, now: u32, guesser: Guesser, from_known: bool) -> Attempt {
        self.failures.entry(guesser.pair, now.into()).add(now);
        if !from_known {
            self.costs.entry(guesser.account, now.into()).add(now.into(), FAILURE_COST_SECONDS.into());
        }
        let attempt = Attempt { guesser, at: now, from_known };
        self.under_way.push(attempt);
        attempt
    }

    fn end(&mut self, now: u32, attempt: Attempt, right: bool) {
        let place = self.under_way.iter().position(|other| *other == attempt);
        self.under_way.swap_remove(place.expect("an attempt ends once"));
        if !right {
            return;
        }
        let Attempt { guesser, from_known, .. } = attempt;
        if let Some(failures) = self.failures.get(guesser.pair) {
            *failures = Failures::default();
            for other in self.under_way.iter().filter(|other| other.guesser == guesser) {
                failures.add(other.at);
            }
        }
        if let Some(cost) = self.costs.get(guesser.account).filter(|_| !from_known) {
            cost.take_back(FAILURE_COST_SECONDS.into());
        }
        self.known.entry(guesser.pair, now.into()).since = now;
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
}

/// The latest login.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    since: u32,
}

impl Entry for Failures {
    fn worth(&self, now: u64) -> u64 {
        let live = self.0.into_iter().filter(|&at| at > 0 && u64::from(at + WINDOW_SECONDS) > now);
        let (count, newest) = live.fold((0, 0), |(count, newest), at| (count + 1, at.max(newest)));
        count << 32 | u64::from(newest)
    }
}

impl Entry for Known {
    fn worth(&self, _now: u64) -> u64 {
        self.since.into()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn address(number: u32) -> ClientNetwork {
        IpAddr::from(number.to_be_bytes()).into()
    }

    fn begin(
        attempts: &Attempts,
        now: u32,
        account: &str,
        address: ClientNetwork,
    ) -> Result<Attempt, Verdict> {
        let guesser = attempts.guesser(account, address);
        let mut counts = attempts.counts();
        match counts.judge(now, guesser) {
            Verdict::May { from_known } => Ok(counts.begin(now, guesser, from_known)),
            refused => Err(refused),
        }
    }

    fn end(attempts: &Attempts, now: u32, attempt: Attempt, right: bool) {
        attempts.counts().end(now, attempt, right);
    }

    /// Guesses wrong, and returns how long one has to wait if one may not.
    fn wait(attempts: &Attempts, now: u32, account: &str, address: ClientNetwork) -> u32 {
        match begin(attempts, now, account, address) {
            Ok(attempt) => {
                end(attempts, now, attempt, false);
                0
            }
            Err(Verdict::MayNot(refused)) => refused.retry_after_seconds,
            Err(other) => panic!("{other:?}, and nothing is under way"),
        }
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
        let here = address(1);
        for _ in 0..1000 {
            let attempt = begin(&attempts, 100, "ada", here).unwrap();
            end(&attempts, 100, attempt, true);
        }
        for _ in 0..4 {
            assert_eq!(wait(&attempts, 100, "ada", here), 0);
        }
        let attempt = begin(&attempts, 100, "ada", here).unwrap();
        assert_eq!(begin(&attempts, 100, "ada", here), Err(Verdict::NotYet), "the fifth may be right");
        assert_eq!(attempts.check(attempts.guesser("ada", here)), Ok(()));
        end(&attempts, 100, attempt, true);
        assert_eq!(wait(&attempts, 100, "ada", here), 0);
    }

    /// However guesses overlap, and whoever logs in meanwhile.
    #[test]
    fn guesses_under_way_are_within_the_limits() {
        let attempts = Attempts::new(1);
        let here = address(1);
        let mut under_way: Vec<Attempt> =
            (0..FAILURES_MAX).map(|_| begin(&attempts, 100, "ada", here).unwrap()).collect();
        assert_eq!(begin(&attempts, 100, "ada", here), Err(Verdict::NotYet));
        assert!(begin(&attempts, 100, "eve", here).is_ok(), "another account");
        // One of them is right: the other four still count.
        end(&attempts, 100, under_way.pop().unwrap(), true);
        under_way.push(begin(&attempts, 100, "ada", here).unwrap());
        assert_eq!(begin(&attempts, 100, "ada", here), Err(Verdict::NotYet));
        for attempt in under_way {
            assert!(begin(&attempts, 100, "ada", here).is_err());
            end(&attempts, 100, attempt, false);
        }
        assert_eq!(wait(&attempts, 100, "ada", here), WINDOW_SECONDS);

        // From many addresses.
        let mut crowd: Vec<Attempt> =
            (1000..1100).map(|number| begin(&attempts, 100, "bob", address(number)).unwrap()).collect();
        assert_eq!(begin(&attempts, 100, "bob", address(1)), Err(Verdict::NotYet));
        end(&attempts, 100, crowd.pop().unwrap(), true);
        crowd.push(begin(&attempts, 100, "bob", address(1)).unwrap());
        for attempt in crowd {
            assert!(begin(&attempts, 100, "bob", address(2)).is_err());
            end(&attempts, 100, attempt, false);
        }
        assert_eq!(wait(&attempts, 100, "bob", address(2)), FAILURE_COST_SECONDS);
    }

    #[test]
    fn a_guess_waits_for_the_one_before_it() {
        let attempts = Attempts::new(2);
        let guesser = attempts.guesser("ada", address(1));
        for right in [true, false] {
            for _ in 0..FAILURES_MAX - 1 {
                let attempt = attempts.begin(guesser).unwrap();
                attempts.end(attempt, false);
            }
            let before = attempts.begin(guesser).unwrap();
            std::thread::scope(|scope| {
                let next = scope.spawn(|| attempts.begin(guesser).map(|next| attempts.end(next, true)));
                assert!(!next.is_finished());
                attempts.end(before, right);
                assert_eq!(next.join().unwrap().is_ok(), right);
            });
        }
    }

    #[test]
    fn a_crowd_is_slowed_and_a_known_address_is_not() {
        let attempts = Attempts::new(1);
        let home = address(7);
        let attempt = begin(&attempts, 1, "ada", home).unwrap();
        end(&attempts, 1, attempt, true);
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
