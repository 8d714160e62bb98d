//! Limits on what one account makes, so that none fills the memory or the log of all.
//!
//! Changes go through a bucket for each account and core. Events and reservations are counted by the shards,
//! which keep them; the front and the shard that refuse a request report it here.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use shards::ids::UserId;

use crate::bucket::Bucket;
use crate::logging::rationed;
use crate::metrics::CoreMetrics;
use crate::table::Table;

/// The limits of each account; 0 is no limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccountLimits {
    /// The most changes at once, for each core. A change is a request that may write, other than reserving and
    /// holding.
    pub changes: u32,
    /// The changes that an account regains in a second, for each core.
    pub changes_per_second: u32,
    /// The most events that an account creates, deleted ones included.
    pub events: u32,
    /// The most reservations and holds of an account in each shard, cancelled and expired ones included.
    pub reservations: u32,
}

impl Default for AccountLimits {
    fn default() -> AccountLimits {
        AccountLimits {
            // A shop that cancels a sold-out arena and an open-air festival one by one, or makes the events of a
            // season. Some 400 MB of log, with the longest texts.
            changes: 200_000,
            // A shop whose staff edits all day; 17 GB of log a day, with the longest texts.
            changes_per_second: 100,
            // The showings of 50 cinemas with 10 screens in a year. Some 1.5 GB of memory, with the longest texts.
            events: 1_000_000,
            // Twice the most tickets of an event. Some 1.2 GB of memory.
            reservations: 20_000_000,
        }
    }
}

/// The highest rate of changes. At a higher one, whole nanoseconds for each change would be too coarse.
pub(crate) const CHANGES_PER_SECOND_MAX: usize = 1_000_000;

/// The name of a limit, in problems, metrics and log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum AccountLimit {
    Changes,
    Events,
    Reservations,
    ApiKeys,
}

impl AccountLimit {
    pub const ALL: [AccountLimit; 4] =
        [AccountLimit::Changes, AccountLimit::Events, AccountLimit::Reservations, AccountLimit::ApiKeys];

    pub fn as_str(self) -> &'static str {
        match self {
            AccountLimit::Changes => "changes",
            AccountLimit::Events => "events",
            AccountLimit::Reservations => "reservations",
            AccountLimit::ApiKeys => "api_keys",
        }
    }
}

/// A limit that a request would have exceeded; nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitReached {
    Changes {
        most: u32,
        per_second: u32,
        retry_after_seconds: u64,
    },
    Events {
        most: u32,
    },
    Reservations {
        most: u32,
    },
    /// [`shards::limits::API_KEYS_MAX`], which no option changes.
    ApiKeys,
}

impl LimitReached {
    pub fn limit(&self) -> AccountLimit {
        match self {
            LimitReached::Changes { .. } => AccountLimit::Changes,
            LimitReached::Events { .. } => AccountLimit::Events,
            LimitReached::Reservations { .. } => AccountLimit::Reservations,
            LimitReached::ApiKeys => AccountLimit::ApiKeys,
        }
    }
}

/// The limits that one core's front checks.
pub struct FrontLimits {
    limits: AccountLimits,
    changes: Option<RefCell<Changes>>,
    start: Instant,
    refusals: Refusals,
}

impl FrontLimits {
    pub(crate) fn new(limits: AccountLimits, refusals: Refusals) -> FrontLimits {
        let AccountLimits { changes, changes_per_second, .. } = limits;
        let changes = (changes > 0).then(|| RefCell::new(Changes::new(changes, changes_per_second)));
        FrontLimits { limits, changes, start: Instant::now(), refusals }
    }

    /// Counts changes of an account: all of them, or none.
    ///
    /// # Errors
    ///
    /// [`LimitReached::Changes`]; none is counted.
    pub fn take_changes(&self, account: UserId, count: u32) -> Result<(), LimitReached> {
        let Some(changes) = &self.changes else { return Ok(()) };
        let now = self.start.elapsed();
        changes.borrow_mut().take(now, account, count).map_err(|wait| {
            self.refused(
                account,
                LimitReached::Changes {
                    most: self.limits.changes,
                    per_second: self.limits.changes_per_second,
                    retry_after_seconds: wait.as_nanos().div_ceil(1_000_000_000) as u64,
                },
            )
        })
    }

    /// Whether the number of an account's events is limited, and so has to be known.
    pub fn limits_events(&self) -> bool {
        self.limits.events > 0
    }

    /// Checks that an account that has created `created` events may create one more.
    ///
    /// # Errors
    ///
    /// [`LimitReached::Events`].
    pub fn check_events(&self, account: UserId, created: u64) -> Result<(), LimitReached> {
        let most = self.limits.events;
        if most > 0 && created >= u64::from(most) {
            return Err(self.refused(account, LimitReached::Events { most }));
        }
        Ok(())
    }

    fn refused(&self, account: UserId, reached: LimitReached) -> LimitReached {
        self.refusals.note(account, reached.limit());
        reached
    }
}

/// The refusals of one core: counts all, and logs some.
#[derive(Clone, Copy)]
pub(crate) struct Refusals {
    metrics: &'static CoreMetrics,
}

impl Refusals {
    pub(crate) fn new(metrics: &'static CoreMetrics) -> Refusals {
        Refusals { metrics }
    }

    /// Notes that a request of an account was refused.
    pub(crate) fn note(&self, account: UserId, limit: AccountLimit) {
        self.metrics.account_limits[limit as usize].add(1);
        rationed!(warn, account = account.0, limit = limit.as_str(), "an account has reached a limit");
    }

    /// Notes that a request was refused because its account has too many idempotency keys.
    pub(crate) fn note_keys_of(&self, account: UserId) {
        self.metrics.keys_refused_account.add(1);
        rationed!(warn, account = account.0, "an account has too many idempotency keys");
    }

    /// Notes that a request was refused because too many idempotency keys are kept.
    pub(crate) fn note_keys(&self) {
        self.metrics.keys_refused_all.add(1);
        rationed!(warn, "no more idempotency keys are kept: as many are as --max-idempotency-keys allows");
    }
}

/// The accounts whose changes a core remembers: 256 KiB. In a full set of the table, a new account replaces the
/// one that has regained the most. To be forgotten, an account needs eight others that owe more.
const ACCOUNTS: usize = 16 * 1024;

/// A bucket for each account, in whole nanoseconds.
struct Changes {
    accounts: Table<Bucket>,
    /// The time in which one change is regained.
    cost: u64,
    /// The longest debt: that of the most changes at once.
    debt_max: u64,
}

impl Changes {
    fn new(most: u32, per_second: u32) -> Changes {
        let cost = 1_000_000_000 / u64::from(per_second.max(1));
        Changes { accounts: Table::new(ACCOUNTS), cost, debt_max: cost * u64::from(most) }
    }

    /// Counts changes at `now`, or returns how long the account has to wait for so many. More than an account
    /// may make at once count as that many, since it could never make them otherwise.
    fn take(&mut self, now: Duration, account: UserId, count: u32) -> Result<(), Duration> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX / 2);
        // Ids are given in sequence, so they fill all sets alike. None is 0, which marks unused entries.
        let debt = self.accounts.entry(account.0.into(), 0);
        let cost = self.debt_max.min(self.cost * u64::from(count));
        match debt.wait(now, cost, self.debt_max) {
            0 => {
                debt.add(now, cost);
                Ok(())
            }
            wait => Err(Duration::from_nanos(wait)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: UserId = UserId(7);

    fn taken(changes: &mut Changes, now_ms: u64, account: UserId, tries: u32) -> u32 {
        let now = Duration::from_millis(now_ms);
        (0..tries).filter(|_| changes.take(now, account, 1).is_ok()).count() as u32
    }

    #[test]
    fn an_account_has_its_changes_at_once_and_regains_them() {
        let mut changes = Changes::new(50, 10);
        assert_eq!(taken(&mut changes, 1000, ADA, 60), 50);
        assert_eq!(changes.take(Duration::from_millis(1000), ADA, 1), Err(Duration::from_millis(100)));
        assert_eq!(changes.take(Duration::from_millis(1099), ADA, 1), Err(Duration::from_millis(1)));
        assert_eq!(taken(&mut changes, 1100, ADA, 9), 1, "refusals cost nothing");
        assert_eq!(taken(&mut changes, 2050, ADA, 60), 9);
        assert_eq!(taken(&mut changes, 2050, UserId(8), 60), 50, "another account");
        assert_eq!(taken(&mut changes, 100_000, ADA, 60), 50, "no more than at first");
    }

    #[test]
    fn several_changes_count_together_or_not_at_all() {
        let mut changes = Changes::new(50, 10);
        let now = Duration::from_millis(1000);
        assert_eq!(changes.take(now, ADA, 30), Ok(()));
        assert_eq!(changes.take(now, ADA, 30), Err(Duration::from_millis(1000)));
        assert_eq!(changes.take(now, ADA, 20), Ok(()));
        assert_eq!(changes.take(now, ADA, 100), Err(Duration::from_millis(5000)), "as many as there can be");
        assert_eq!(changes.take(Duration::from_millis(6000), ADA, 100), Ok(()));
        assert_eq!(taken(&mut changes, 6000, ADA, 1), 0);
    }

    /// An account that owes all it can regains exactly the rate in a second, also after a year.
    #[test]
    fn the_rate_does_not_drift() {
        for (most, per_second) in [(1, 1), (1000, 1000), (u32::MAX, 1), (1_000_000, 1_000_000)] {
            let mut changes = Changes::new(most, per_second);
            let tries = most.min(100_000);
            assert_eq!(taken(&mut changes, 0, ADA, tries), tries);
            for second in [0, 1000, 31_536_000] {
                // All that it may owe at that time.
                *changes.accounts.entry(ADA.0.into(), 0) = Bucket::default();
                let now = second * 1_000_000_000;
                changes.accounts.entry(ADA.0.into(), 0).add(now, changes.debt_max);
                let tries = per_second.min(1000) + 1;
                let regained = taken(&mut changes, (second + 1) * 1000, ADA, tries);
                assert_eq!(regained, tries.min(per_second), "{per_second}/s");
            }
        }
    }

    #[test]
    fn the_deepest_debts_are_not_forgotten() {
        let mut changes = Changes::new(10, 1);
        assert_eq!(taken(&mut changes, 0, ADA, 20), 10);
        for account in 8..3 * ACCOUNTS as u32 {
            assert_eq!(taken(&mut changes, 0, UserId(account), 9), 9);
        }
        assert_eq!(taken(&mut changes, 0, ADA, 20), 0);
    }
}
