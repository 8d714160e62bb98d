//! The rules of an event's sale, and how many tickets a customer has of an event with such a limit.
//!
//! Nothing is counted ahead. A customer's tickets are summed up when a reservation needs the sum; the sum of a
//! customer with more than some reservations is then remembered, and follows each later record. So a limit is
//! set on an event with millions of reservations in no time, and costs no memory for customers with few.
//! Remembered sums are derived from the slot's state, and are no part of it: a state is equal to one without
//! them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use super::by_customer::ByCustomer;
use super::events::Event;
use crate::command::Buyer;
use crate::details::SalesRules;
use crate::ids::{EventId, Quantity, Timestamp, UserId};
use crate::outcome::Rejection;

/// The most reservations that are summed up each time. That takes some microseconds. In the tests of this crate it
/// is 1, so that most sums there are remembered.
const SUMMED_UP_MAX: usize = if cfg!(test) { 1 } else { 32 };

/// The remembered sums of an event: the tickets of live reservations, by customer.
#[derive(Default)]
pub(super) struct Buyers {
    /// Extended while a command is decided, which changes no state.
    sums: RefCell<BTreeMap<UserId, u32>>,
}

impl Buyers {
    /// A customer's tickets. `each` has the live tickets of each of the customer's reservations, cancelled ones
    /// with 0, and is read only if no sum is remembered.
    fn tickets(&self, customer: UserId, each: impl Iterator<Item = u32>) -> u32 {
        let mut sums = self.sums.borrow_mut();
        if let Some(&sum) = sums.get(&customer) {
            return sum;
        }
        let (mut count, mut sum) = (0, 0);
        for tickets in each {
            count += 1;
            sum += tickets;
        }
        if count > SUMMED_UP_MAX {
            sums.insert(customer, sum);
        }
        sum
    }

    /// A buyer has more tickets.
    pub(super) fn add(&mut self, Buyer::Account(customer): Buyer, tickets: u32) {
        if let Some(sum) = self.sums.get_mut().get_mut(&customer) {
            *sum += tickets;
        }
    }

    /// The inverse of [`Buyers::add`].
    pub(super) fn subtract(&mut self, Buyer::Account(customer): Buyer, tickets: u32) {
        if let Some(sum) = self.sums.get_mut().get_mut(&customer) {
            *sum = sum.checked_sub(tickets).expect("a buyer gives back tickets of the sum");
        }
    }
}

/// What is remembered makes no difference.
impl PartialEq for Buyers {
    fn eq(&self, _: &Buyers) -> bool {
        true
    }
}

impl Eq for Buyers {}

impl fmt::Debug for Buyers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Buyers")
    }
}

impl Event {
    /// Checks that the rules of the sale allow a reservation at this time. Not inlined: most events have no rules.
    #[inline(never)]
    pub(super) fn check_rules(
        &self,
        id: EventId,
        rules: &SalesRules,
        wall: Timestamp,
        buyer: Buyer,
        quantity: Quantity,
        index: &ByCustomer,
    ) -> Result<(), Rejection> {
        let &SalesRules { max_per_reservation, max_per_customer, sales_start, sales_end } = rules;
        if let Some(opens_at) = sales_start.filter(|&start| wall < start) {
            return Err(Rejection::SalesNotOpen { opens_at });
        }
        if sales_end.is_some_and(|end| wall >= end) {
            return Err(Rejection::SalesClosed);
        }
        if let Some(most) = max_per_reservation.filter(|&most| quantity > most) {
            return Err(Rejection::ReservationLimit { allowed: most.get() });
        }
        if let Some(most) = max_per_customer {
            let allowed = most.get().saturating_sub(self.tickets_of(id, buyer, index));
            if quantity.get() > allowed {
                return Err(Rejection::CustomerLimit { allowed });
            }
        }
        Ok(())
    }

    fn tickets_of(&self, id: EventId, Buyer::Account(customer): Buyer, index: &ByCustomer) -> u32 {
        let buyers = self.buyers.as_ref().expect("the event has the limit");
        let numbers = index.at_event(customer, id);
        buyers.tickets(customer, numbers.map(|number| self.live_tickets(number)))
    }

    /// Keeps sums exactly while a limit needs them. Called after each change of the limit.
    pub(super) fn fit_buyers(&mut self) {
        let limited = self.edition.details().rules().max_per_customer.is_some() && !self.is_deleted();
        if !limited {
            self.buyers = None;
        } else if self.buyers.is_none() {
            self.buyers = Some(Box::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ShardState;
    use super::*;
    use crate::slots::slot_of_event;

    impl ShardState {
        /// Plants a wrong sum: that a customer has no ticket of an event.
        pub(crate) fn forget_tickets(&self, event: EventId, Buyer::Account(customer): Buyer) {
            let event = self.slot(slot_of_event(event)).and_then(|state| state.events.get(&event));
            if let Some(buyers) = event.and_then(|event| event.buyers.as_ref()) {
                buyers.sums.borrow_mut().insert(customer, 0);
            }
        }
    }

    #[test]
    fn sums_of_many_reservations_are_remembered_and_follow_changes() {
        let (ada, bob) = (UserId(1), UserId(2));
        let mut buyers = Buyers::default();
        buyers.add(Buyer::Account(ada), 9);
        assert_eq!(buyers.tickets(ada, [2, 0].into_iter()), 2, "nothing was remembered before");
        assert_eq!(buyers.tickets(bob, [7].into_iter()), 7);
        buyers.add(Buyer::Account(ada), 3);
        buyers.subtract(Buyer::Account(ada), 4);
        let unread = std::iter::from_fn(|| -> Option<u32> { panic!("the sum is remembered") });
        assert_eq!(buyers.tickets(ada, unread), 1);
        assert_eq!(buyers.tickets(bob, [1].into_iter()), 1, "few reservations are summed up each time");
    }
}
