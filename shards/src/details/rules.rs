//! The rules of an event's sale: limits for its customers, and when it is on sale.

use crate::ids::{Quantity, Timestamp};

/// The rules of a sale, each of which an event may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SalesRules {
    /// The most tickets of a reservation.
    pub max_per_reservation: Option<Quantity>,
    /// The most tickets of a customer, over all live reservations of the event.
    pub max_per_customer: Option<Quantity>,
    /// The first moment of the sale.
    pub sales_start: Option<Timestamp>,
    /// The first moment after the sale.
    pub sales_end: Option<Timestamp>,
}

/// Changes of rules, as in [`super::DetailsPatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RulesPatch {
    pub max_per_reservation: Option<Option<Quantity>>,
    pub max_per_customer: Option<Option<Quantity>>,
    pub sales_start: Option<Option<Timestamp>>,
    pub sales_end: Option<Option<Timestamp>>,
}

impl SalesRules {
    /// The form in which an event keeps them: most events have none.
    pub fn boxed(self) -> Option<Box<SalesRules>> {
        (self != SalesRules::default()).then(|| Box::new(self))
    }

    /// Whether there is a moment at which the event is on sale.
    pub fn have_a_window(&self) -> bool {
        match (self.sales_start, self.sales_end) {
            (Some(start), Some(end)) => start < end,
            (None, _) | (_, None) => true,
        }
    }
}

impl RulesPatch {
    /// The rules after these changes.
    pub fn apply_to(self, before: SalesRules) -> SalesRules {
        let RulesPatch { max_per_reservation, max_per_customer, sales_start, sales_end } = self;
        SalesRules {
            max_per_reservation: max_per_reservation.unwrap_or(before.max_per_reservation),
            max_per_customer: max_per_customer.unwrap_or(before.max_per_customer),
            sales_start: sales_start.unwrap_or(before.sales_start),
            sales_end: sales_end.unwrap_or(before.sales_end),
        }
    }
}
