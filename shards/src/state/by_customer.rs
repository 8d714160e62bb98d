//! Which reservations a customer has: an index over every reservation ever made.
//!
//! One ordered set of all of them would be simpler, and took half the time of a recovery: its
//! depth grows with history, and each insertion is a walk through memory that no cache holds.
//! Here the way to a customer's own list depends on how many customers there are, and most
//! lists are short.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;

use super::chunks::Chunks;
use crate::ids::{EventId, ReservationId, UserId};

pub(super) struct ByCustomer {
    /// By a customer's id over [`PAGE_IDS`]. None of them is empty.
    pages: BTreeMap<u32, Page>,
    /// Of customers with two reservations or more.
    lists: Chunks<List>,
    /// Places of `lists` that no customer has.
    free_lists: Vec<u32>,
}

/// Ids are given out one after the other, so that customers are near each other; but of those
/// near each other, most may have their reservations at other shards.
const PAGE_IDS: u32 = 256;

/// Those customers of [`PAGE_IDS`] that have reservations.
#[derive(Default)]
struct Page {
    /// Who is here, one bit for each.
    is_here: [u64; (PAGE_IDS / u64::BITS) as usize],
    /// In the order of the bits.
    customers: Vec<Customer>,
}

enum Customer {
    /// With a single reservation: most.
    One(ReservationId),
    /// With more, by index of [`ByCustomer::lists`].
    Several(u32),
}

const _: () = assert!(size_of::<Customer>() <= 12);

/// A customer's reservations.
enum List {
    /// At most [`FEW_MAX`], as they came: whoever reads them sorts them. To take one in touches
    /// no more than the end.
    Few(Vec<ReservationId>),
    #[expect(clippy::box_collection, reason = "a set in place would make every list a third larger")]
    Many(Box<BTreeSet<ReservationId>>),
}

const _: () = assert!(size_of::<List>() <= 24);

/// What is sorted for one page of a list, in some microseconds.
const FEW_MAX: usize = 256;

impl ByCustomer {
    pub(super) fn insert(&mut self, customer: UserId, id: ReservationId) {
        let ByCustomer { pages, lists, free_lists } = self;
        let page = pages.entry(customer.0 / PAGE_IDS).or_default();
        match page.find(customer) {
            Ok(index) => match page.customers[index] {
                Customer::One(other) => {
                    let list = List::Few(vec![other, id]);
                    let place = match free_lists.pop() {
                        Some(place) => {
                            lists[place as usize] = list;
                            place
                        }
                        None => {
                            lists.push(list);
                            u32::try_from(lists.len() - 1).expect("no more customers than their ids")
                        }
                    };
                    page.customers[index] = Customer::Several(place);
                }
                Customer::Several(list) => lists[list as usize].insert(id),
            },
            Err(index) => {
                make_room(&mut page.customers);
                page.customers.insert(index, Customer::One(id));
                page.flip(customer);
            }
        }
    }

    /// The inverse of [`ByCustomer::insert`], for any one that is there.
    pub(super) fn remove(&mut self, customer: UserId, id: ReservationId) {
        let number = customer.0 / PAGE_IDS;
        let page = self.pages.get_mut(&number).expect("what is removed is there");
        let index = page.find(customer).expect("what is removed is there");
        match page.customers[index] {
            Customer::One(_) => {
                page.customers.remove(index);
                page.flip(customer);
                if page.customers.is_empty() {
                    self.pages.remove(&number);
                }
            }
            Customer::Several(list) => {
                if let Some(one) = self.lists[list as usize].remove(id) {
                    page.customers[index] = Customer::One(one);
                    self.lists[list as usize] = List::Few(Vec::new());
                    self.free_lists.push(list);
                }
            }
        }
    }

    /// Those behind `after`, which may be any id, or all of them.
    pub(super) fn after(
        &self,
        customer: UserId,
        after: Option<ReservationId>,
    ) -> impl Iterator<Item = ReservationId> {
        let after = after.unwrap_or(ReservationId { event: EventId(0), number: 0 });
        let (mut few, mut many) = (Vec::new(), None);
        match self.customer(customer) {
            None => {}
            Some(Customer::One(id)) => few.push(*id),
            Some(&Customer::Several(list)) => match &self.lists[list as usize] {
                List::Few(ids) => few.extend(ids),
                List::Many(ids) => many = Some(ids.range((Bound::Excluded(after), Bound::Unbounded))),
            },
        }
        few.retain(|&id| id > after);
        few.sort_unstable();
        few.into_iter().chain(many.into_iter().flatten().copied())
    }

    /// In the order of customers and ids.
    fn contents(&self) -> impl Iterator<Item = (UserId, ReservationId)> {
        let customers = self.pages.iter().flat_map(|(number, page)| {
            let ids = (0..PAGE_IDS).map(move |place| UserId(number * PAGE_IDS + place));
            ids.filter(|&customer| page.find(customer).is_ok())
        });
        customers.flat_map(|customer| self.after(customer, None).map(move |id| (customer, id)))
    }

    fn customer(&self, customer: UserId) -> Option<&Customer> {
        let page = self.pages.get(&(customer.0 / PAGE_IDS))?;
        Some(&page.customers[page.find(customer).ok()?])
    }
}

impl Default for ByCustomer {
    fn default() -> ByCustomer {
        ByCustomer { pages: BTreeMap::new(), lists: Chunks::new(), free_lists: Vec::new() }
    }
}

/// By what is in it: its form depends on the order in which that came, and files are read side
/// by side.
impl PartialEq for ByCustomer {
    fn eq(&self, other: &ByCustomer) -> bool {
        self.contents().eq(other.contents())
    }
}

impl Eq for ByCustomer {}

impl fmt::Debug for ByCustomer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.contents()).finish()
    }
}

impl Page {
    /// Where the customer is, or would have to be.
    fn find(&self, customer: UserId) -> Result<usize, usize> {
        let (word, bit) = Page::place(customer);
        let before: u32 = self.is_here[..word].iter().map(|word| word.count_ones()).sum();
        let index = before + (self.is_here[word] & (bit - 1)).count_ones();
        if self.is_here[word] & bit == 0 { Err(index as usize) } else { Ok(index as usize) }
    }

    fn flip(&mut self, customer: UserId) {
        let (word, bit) = Page::place(customer);
        self.is_here[word] ^= bit;
    }

    fn place(customer: UserId) -> (usize, u64) {
        let place = customer.0 % PAGE_IDS;
        ((place / u64::BITS) as usize, 1 << (place % u64::BITS))
    }
}

impl List {
    fn insert(&mut self, id: ReservationId) {
        match self {
            List::Few(ids) if ids.len() < FEW_MAX => {
                make_room(ids);
                ids.push(id);
            }
            List::Few(ids) => {
                let mut ids: BTreeSet<_> = ids.drain(..).collect();
                ids.insert(id);
                *self = List::Many(Box::new(ids));
            }
            List::Many(ids) => {
                ids.insert(id);
            }
        }
    }

    /// When there is but one left: that.
    fn remove(&mut self, id: ReservationId) -> Option<ReservationId> {
        match self {
            List::Few(ids) => {
                ids.retain(|&other| other != id);
                if let [one] = ids[..] {
                    return Some(one);
                }
            }
            List::Many(ids) => {
                ids.remove(&id);
                if ids.len() == FEW_MAX {
                    *self = List::Few(ids.iter().copied().collect());
                }
            }
        }
        None
    }
}

/// For one more. Doubling would leave a third of the memory unused on average.
fn make_room<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(1 + list.len() / 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(event: u32, number: u32) -> ReservationId {
        ReservationId { event: EventId(event), number }
    }

    fn ids(index: &ByCustomer, customer: u32, after: Option<ReservationId>) -> Vec<ReservationId> {
        index.after(UserId(customer), after).collect()
    }

    /// Against one ordered set of everything, forwards and back again.
    #[test]
    fn is_an_ordered_set_of_customers_and_ids() {
        // Neighbours, edges of words and of pages, and both ends; as few as one id, and many.
        let customers =
            [(0, 1), (1, 2), (63, 3), (64, 700), (255, 2000), (256, 1), (511, 40), (u32::MAX, 600)];
        let mut order = Vec::new();
        for (customer, count) in customers {
            // Scattered over events, so that ids come before, behind and between those that are there.
            order.extend((1..=count).map(|number| (UserId(customer), id(1 + number * 7919 % 31, number))));
        }
        order.sort_by_key(|(customer, id)| (id.number, customer.0.wrapping_mul(0x9e37_79b9)));

        let mut index = ByCustomer::default();
        let mut expected = BTreeSet::new();
        let mut way_back = Vec::new();
        let check = |index: &ByCustomer, expected: &BTreeSet<(UserId, ReservationId)>| {
            for (customer, _) in customers {
                let here = expected.iter().filter(|(other, _)| other.0 == customer).map(|&(_, id)| id);
                let here: Vec<_> = here.collect();
                assert_eq!(ids(index, customer, None), here, "customer {customer}");
                for after in [id(0, 1), id(7, 1), id(16, 250), id(31, u32::MAX)] {
                    let behind: Vec<_> = here.iter().copied().filter(|&id| id > after).collect();
                    assert_eq!(
                        ids(index, customer, Some(after)),
                        behind,
                        "customer {customer} after {after}"
                    );
                }
            }
        };
        for (step, &(customer, id)) in order.iter().enumerate() {
            if step % 100 == 0 {
                check(&index, &expected);
                way_back.push((step, format!("{index:?}")));
            }
            index.insert(customer, id);
            expected.insert((customer, id));
        }
        check(&index, &expected);
        assert_eq!(ids(&index, 2, None), [], "a neighbour without a list");
        assert_eq!(ids(&index, 1000, None), [], "a page that is not there");
        for (step, &(customer, id)) in order.iter().enumerate().rev() {
            index.remove(customer, id);
            expected.remove(&(customer, id));
            if let Some((_, before)) = way_back.pop_if(|(before, _)| *before == step) {
                assert_eq!(format!("{index:?}"), before, "back at step {step}");
                check(&index, &expected);
            }
        }
        assert_eq!(index, ByCustomer::default());

        // In another order than it came, and again into the places that were left.
        for round in 0..2 {
            order.iter().for_each(|&(customer, id)| index.insert(customer, id));
            expected.extend(order.iter().copied());
            order.sort_by_key(|(customer, id)| (id.number ^ customer.0).wrapping_mul(0x9e37_79b9 + round));
            for (step, &(customer, id)) in order.iter().enumerate() {
                if step % 500 == 0 {
                    check(&index, &expected);
                }
                index.remove(customer, id);
                expected.remove(&(customer, id));
            }
        }
        assert_eq!(index, ByCustomer::default());
    }
}
