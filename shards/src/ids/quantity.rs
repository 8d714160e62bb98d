//! Counts of tickets, and the time of a hold.

use std::num::NonZeroU32;

use crate::limits::{HOLD_SECONDS_DEFAULT, HOLD_SECONDS_MAX, HOLD_SECONDS_MIN, QUOTA_MAX};

/// The number of tickets of a reservation: 1 to [`QUOTA_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(NonZeroU32);

impl Quantity {
    /// `None` unless 1 to [`QUOTA_MAX`].
    pub fn new(tickets: u64) -> Option<Quantity> {
        let tickets = u32::try_from(tickets).ok().filter(|&n| n <= QUOTA_MAX)?;
        NonZeroU32::new(tickets).map(Quantity)
    }

    pub fn get(self) -> u32 {
        self.0.get()
    }
}

/// The most tickets that an event may have reserved: 0 to [`QUOTA_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quota(u32);

impl Quota {
    /// `None` above [`QUOTA_MAX`].
    pub fn new(tickets: u64) -> Option<Quota> {
        let tickets = u32::try_from(tickets).ok()?;
        (tickets <= QUOTA_MAX).then_some(Quota(tickets))
    }

    pub fn get(self) -> u32 {
        self.0
    }
}

/// The time of a hold: [`HOLD_SECONDS_MIN`] to [`HOLD_SECONDS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HoldTime(u32);

impl HoldTime {
    /// `None` unless [`HOLD_SECONDS_MIN`] to [`HOLD_SECONDS_MAX`].
    pub fn from_seconds(seconds: u64) -> Option<HoldTime> {
        let seconds = u32::try_from(seconds).ok()?;
        (HOLD_SECONDS_MIN..=HOLD_SECONDS_MAX).contains(&seconds).then_some(HoldTime(seconds))
    }

    pub fn milliseconds(self) -> u64 {
        u64::from(self.0) * 1000
    }
}

impl Default for HoldTime {
    fn default() -> HoldTime {
        HoldTime(HOLD_SECONDS_DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_bounded() {
        for (seconds, ok) in
            [(0, false), (9, false), (10, true), (1800, true), (1801, false), (1 << 32, false)]
        {
            assert_eq!(HoldTime::from_seconds(seconds).is_some(), ok, "{seconds}");
        }
        for (tickets, ok) in
            [(0, false), (1, true), (10_000_000, true), (10_000_001, false), (u64::MAX, false)]
        {
            assert_eq!(Quantity::new(tickets).is_some(), ok, "{tickets}");
        }
        for (tickets, ok) in [(0, true), (10_000_000, true), (10_000_001, false), (1 << 32, false)] {
            assert_eq!(Quota::new(tickets).is_some(), ok, "{tickets}");
        }
    }
}
