//! The ids of orders, and of attempts to place or confirm one.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::{Epoch, NotAnId, UserId, parse_canonical_u32};

/// The id of an order, written `{user}-{number}`. It contains the account that owns the order, and so gives the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId {
    pub user: UserId,
    /// The number among the orders of this account, from 1, without gaps.
    pub number: u32,
}

/// One attempt to place or to confirm an order, among those of its coordinator's slot. Later ones are greater. None is
/// repeated: numbers rise within a process, and each takeover of the slot has a new epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt {
    pub epoch: Epoch,
    pub number: u64,
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.user, self.number)
    }
}

impl FromStr for OrderId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (user, number) = text.split_once('-').ok_or(NotAnId)?;
        Ok(OrderId { user: user.parse()?, number: parse_canonical_u32(number)? })
    }
}

impl Serialize for OrderId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_one_text() {
        let id = OrderId { user: UserId(7), number: 12 };
        assert_eq!(("7-12".parse(), id.to_string().as_str()), (Ok(id), "7-12"));
        for text in ["", "7", "7-", "-1", "0-1", "7-0", "7-01", "7-1-1", "4294967296-1"] {
            assert_eq!(text.parse::<OrderId>(), Err(NotAnId), "{text:?}");
        }
    }
}
