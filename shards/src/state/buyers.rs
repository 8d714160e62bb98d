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

use super::SlotState;
use super::by_customer::ByCustomer;
use super::events::Event;
use super::holds::NO_DEADLINE;
use super::refs::Holder;
use super::reservations::Standing;
use crate::clock::Now;
use crate::command::{Buyer, SaleKind};
use crate::details::SalesRules;
use crate::ids::{EventId, Quantity, Timestamp};
use crate::outcome::Rejection;

/// The most reservations that are summed up each time. That takes some microseconds. In the tests of this crate it
/// is 1, so that most sums there are remembered.
const SUMMED_UP_MAX: usize = if cfg!(test) { 1 } else { 32 };

/// The remembered sums of an event, by customer.
#[derive(Default)]
pub(super) struct Buyers {
    /// Extended while a command is decided, which changes no state.
    sums: RefCell<BTreeMap<Holder, Sum>>,
}

/// The tickets of a customer's live reservations.
#[derive(Default)]
struct Sum {
    /// All of them, with those of holds.
    tickets: u32,
    /// The tickets of holds, by deadline. A bound of the event ends holds, and visits none of them: those that are
    /// over are dropped when the sum is read. None is 0.
    held: BTreeMap<Timestamp, u32>,
}

/// The tickets of a live reservation, and the deadline if it is held.
pub(super) type Live = (u32, Option<Timestamp>);

impl Sum {
    fn add(&mut self, deadline: Option<Timestamp>, tickets: u32) {
        self.tickets += tickets;
        if let Some(deadline) = deadline {
            *self.held.entry(deadline).or_default() += tickets;
        }
    }

    fn subtract(&mut self, deadline: Option<Timestamp>, tickets: u32) {
        self.tickets = self.tickets.checked_sub(tickets).expect("a buyer gives back tickets of the sum");
        let Some(deadline) = deadline else { return };
        let held = self.held.get_mut(&deadline).expect("only a live hold is given back");
        *held = held.checked_sub(tickets).expect("a buyer gives back tickets of a hold");
        if *held == 0 {
            self.held.remove(&deadline);
        }
    }

    /// The sum without holds that are over at the deadline `over`.
    fn tickets(&mut self, over: Timestamp) -> u32 {
        while let Some(first) = self.held.first_entry().filter(|first| *first.key() <= over) {
            self.tickets -= first.remove();
        }
        self.tickets
    }
}

impl Buyers {
    /// A customer's tickets. `each` has the live tickets of each of the customer's reservations, ended ones with
    /// 0, and is read only if no sum is remembered. Holds up to the deadline `over` are over.
    fn tickets(&self, customer: Holder, over: Timestamp, each: impl Iterator<Item = Live>) -> u32 {
        let mut sums = self.sums.borrow_mut();
        if let Some(sum) = sums.get_mut(&customer) {
            return sum.tickets(over);
        }
        let (mut count, mut sum) = (0, Sum::default());
        for (tickets, deadline) in each {
            count += 1;
            sum.add(deadline, tickets);
        }
        let tickets = sum.tickets(over);
        if count > SUMMED_UP_MAX {
            sums.insert(customer, sum);
        }
        tickets
    }

    /// A buyer has more tickets.
    pub(super) fn add(&mut self, holder: Holder, deadline: Option<Timestamp>, tickets: u32) {
        if let Some(sum) = self.sums.get_mut().get_mut(&holder) {
            sum.add(deadline, tickets);
        }
    }

    /// The inverse of [`Buyers::add`].
    pub(super) fn subtract(&mut self, holder: Holder, deadline: Option<Timestamp>, tickets: u32) {
        if let Some(sum) = self.sums.get_mut().get_mut(&holder) {
            sum.subtract(deadline, tickets);
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
    fn check_rules(
        &self,
        rules: &SalesRules,
        wall: Timestamp,
        quantity: Quantity,
        has: impl FnOnce() -> u32,
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
        check_customer_limit(max_per_customer, quantity.get(), has)
    }

    /// The tickets of a customer. `numbers` are the customer's reservations.
    fn tickets_of(&self, customer: Holder, numbers: impl Iterator<Item = u32>) -> u32 {
        let buyers = self.buyers.as_ref().expect("the event has the limit");
        buyers.tickets(customer, self.holds_over(), numbers.map(|number| self.live_tickets(number)))
    }

    /// Forgets all sums, because deadlines of holds were moved, or holds that were over are live again.
    pub(super) fn forget_buyers(&mut self) {
        if let Some(buyers) = &mut self.buyers {
            buyers.sums.get_mut().clear();
        }
    }

    /// The tickets of a reservation of a live event that were not given back.
    fn live_tickets(&self, number: u32) -> Live {
        let reservation = &self.reservations[number as usize - 1];
        match self.standing(reservation) {
            Standing::Confirmed => (reservation.quantity, None),
            Standing::Held { deadline } => (reservation.quantity, Some(deadline)),
            Standing::Prepared | Standing::Pledged => (reservation.quantity, Some(NO_DEADLINE)),
            Standing::Expired { .. } | Standing::Cancelled { .. } | Standing::Aborted | Standing::Lapsed => {
                (0, None)
            }
        }
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

/// Checks that a customer who has `has` tickets may have so many more.
fn check_customer_limit(
    max_per_customer: Option<Quantity>,
    tickets: u32,
    has: impl FnOnce() -> u32,
) -> Result<(), Rejection> {
    let Some(most) = max_per_customer else { return Ok(()) };
    let allowed = most.get().saturating_sub(has());
    if tickets > allowed { Err(Rejection::CustomerLimit { allowed }) } else { Ok(()) }
}

impl SlotState {
    /// Checks that the rules of an event allow a sale at this time. No rule is for guests, and none for tickets that
    /// are set aside: an organizer gives what there is, and before others can buy.
    #[inline(always)]
    pub(super) fn check_sale(
        &self,
        now: Now,
        id: EventId,
        event: &Event,
        buyer: &Buyer,
        quantity: Quantity,
        index: &ByCustomer,
    ) -> Result<(), Rejection> {
        match &event.edition.details().rules {
            Some(rules) if buyer.kind() == SaleKind::Sale => {
                event
                    .check_rules(rules, now.wall, quantity, || self.tickets_of_buyer(id, event, buyer, index))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Checks that a customer may have so many more tickets of an event by a transfer.
    pub(super) fn check_receiver(
        &self,
        id: EventId,
        event: &Event,
        buyer: &Buyer,
        tickets: u32,
        index: &ByCustomer,
    ) -> Result<(), Rejection> {
        let most = event.edition.details().rules().max_per_customer;
        check_customer_limit(most, tickets, || self.tickets_of_buyer(id, event, buyer, index))
    }

    /// The tickets of a buyer at an event that limits them.
    fn tickets_of_buyer(&self, id: EventId, event: &Event, buyer: &Buyer, index: &ByCustomer) -> u32 {
        match buyer {
            Buyer::Account(customer) => {
                event.tickets_of(Holder::Account(*customer), index.at_event(customer.0, id))
            }
            Buyer::Ref(text) => match self.refs.find(text) {
                Some(number) => event.tickets_of(Holder::Ref(number), self.refs.at_event(number, id)),
                None => 0,
            },
            Buyer::Guest | Buyer::Block => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ShardState;
    use super::*;
    use crate::ids::UserId;
    use crate::slots::slot_of_event;

    impl ShardState {
        /// Plants a wrong sum: that a customer has no ticket of an event.
        pub(crate) fn forget_tickets(&self, event: EventId, buyer: &Buyer) {
            let Some(state) = self.slot(slot_of_event(event)) else { return };
            if let Some(buyers) = state.events.get(&event).and_then(|event| event.buyers.as_ref())
                && let Some(holder) = state.holder_of(buyer)
            {
                buyers.sums.borrow_mut().insert(holder, Sum::default());
            }
        }

        /// Plants a wrong sum: without the tickets that a customer holds.
        pub(crate) fn forget_held_tickets(&self, id: EventId, buyer: &Buyer) {
            let Some(state) = self.slot(slot_of_event(id)) else { return };
            if let Some(event) = state.events.get(&id)
                && let Some(buyers) = &event.buyers
                && let Some(holder) = state.holder_of(buyer)
            {
                let confirmed = event.confirmed_tickets(holder);
                buyers.sums.borrow_mut().insert(holder, Sum { tickets: confirmed, held: BTreeMap::new() });
            }
        }
    }

    impl ShardState {
        /// Checks that each remembered sum is the one that the reservations have.
        pub(crate) fn check_sums(&self) {
            for event in
                self.owned().iter().filter_map(|slot| self.slot(slot)).flat_map(|of| of.events.values())
            {
                let Some(buyers) = &event.buyers else { continue };
                for (&customer, sum) in buyers.sums.borrow_mut().iter_mut() {
                    let numbers = 1..=event.reservation_count();
                    let of_customer = numbers
                        .filter(|&number| event.reservations[number as usize - 1].holder() == customer);
                    let live: u32 = of_customer.map(|number| event.live_tickets(number).0).sum();
                    assert_eq!(sum.tickets(event.holds_over()), live, "tickets of {customer:?} in {event:?}");
                }
            }
        }
    }

    impl Event {
        fn confirmed_tickets(&self, holder: Holder) -> u32 {
            let numbers = 1..=self.reservation_count();
            let own = numbers.filter(|&number| self.reservations[number as usize - 1].holder() == holder);
            let live = own.map(|number| self.live_tickets(number));
            live.filter(|(_, deadline)| deadline.is_none()).map(|(tickets, _)| tickets).sum()
        }
    }

    impl SlotState {
        /// The holder that a buyer is; `None` for a ref without reservations.
        fn holder_of(&self, buyer: &Buyer) -> Option<Holder> {
            Some(match buyer {
                Buyer::Account(customer) => Holder::Account(*customer),
                Buyer::Ref(text) => Holder::Ref(self.refs.find(text)?),
                Buyer::Guest => Holder::Guest,
                Buyer::Block => Holder::Block,
            })
        }
    }

    const NEVER: Timestamp = Timestamp(0);

    fn sold(tickets: &[u32]) -> impl Iterator<Item = Live> {
        tickets.iter().map(|&tickets| (tickets, None))
    }

    /// Fails if the reservations are summed up again.
    fn unread() -> impl Iterator<Item = Live> {
        std::iter::from_fn(|| panic!("the sum is remembered"))
    }

    #[test]
    fn sums_of_many_reservations_are_remembered_and_follow_changes() {
        let [ada, bob] = [1, 2].map(|id| Holder::Account(UserId(id)));
        let mut buyers = Buyers::default();
        buyers.add(ada, None, 9);
        assert_eq!(buyers.tickets(ada, NEVER, sold(&[2, 0])), 2, "nothing was remembered before");
        assert_eq!(buyers.tickets(bob, NEVER, sold(&[7])), 7);
        buyers.add(ada, None, 3);
        buyers.subtract(ada, None, 4);
        assert_eq!(buyers.tickets(ada, NEVER, unread()), 1);
        assert_eq!(buyers.tickets(bob, NEVER, sold(&[1])), 1, "few reservations are summed up each time");
    }

    /// Otherwise a customer who holds and gives up for hours would make each further reservation dearer.
    #[test]
    fn holds_that_are_given_up_leave_nothing_in_a_remembered_sum() {
        let mut sum = Sum::default();
        sum.add(Some(Timestamp(1)), 1);
        for later in (2..100).map(Timestamp) {
            sum.add(Some(later), 3);
            sum.subtract(Some(later), 3);
        }
        assert_eq!((sum.tickets(NEVER), sum.held.len()), (1, 1));
    }

    #[test]
    fn holds_leave_a_remembered_sum_when_they_end() {
        let (ada, [early, late]) = (Holder::Account(UserId(1)), [Timestamp(100), Timestamp(200)]);
        let mut buyers = Buyers::default();
        let each = [(1, None), (2, Some(early)), (4, Some(late)), (8, Some(late))];
        assert_eq!(buyers.tickets(ada, NEVER, each.into_iter()), 15);
        buyers.add(ada, Some(early), 16);
        assert_eq!(buyers.tickets(ada, Timestamp(99), unread()), 31);
        // One is confirmed, without a part of it.
        buyers.subtract(ada, Some(late), 8);
        buyers.add(ada, None, 7);
        assert_eq!(buyers.tickets(ada, Timestamp(100), unread()), 12);
        buyers.subtract(ada, Some(late), 4);
        assert_eq!(buyers.tickets(ada, Timestamp(100), unread()), 8);
        assert_eq!(buyers.tickets(ada, Timestamp(200), unread()), 8);
    }
}
