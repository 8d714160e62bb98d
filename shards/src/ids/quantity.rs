//! Counts of tickets.

use std::num::NonZeroU32;

use crate::limits::QUOTA_MAX;

/// Tickets asked for or held by one reservation: 1 to [`QUOTA_MAX`].
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

/// The most tickets that an event may have reserved at once: 0 to [`QUOTA_MAX`].
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_bounded() {
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
