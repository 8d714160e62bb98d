//! The index of reservations by customer: by the ids of accounts, or by the numbers of refs.
//!
//! One ordered set of all reservations would be simpler, but took half the time of a recovery. The set grows
//! with each reservation ever made, and an insertion misses the CPU's caches at each level of the tree. Here
//! the time of a search depends only on the number of customers, and most lists are short.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;

use super::chunks::Chunks;
use crate::ids::{EventId, ReservationId};

#[derive(Default)]
pub(super) struct ByCustomer {
    /// Blocks by customer id / [`BLOCK_IDS`]. No block is empty.
    blocks: BTreeMap<u32, Block>,
    /// The lists of customers with two or more reservations.
    lists: Chunks<List>,
    /// Indexes of `lists` that are not in use.
    free_lists: Vec<u32>,
    /// The number of all reservations.
    len: usize,
}

/// The number of customer ids in a block. Ids are given in sequence, so most ids are in use; but many of the
/// customers may have their reservations in other shards.
const BLOCK_IDS: u32 = 256;

/// The customers with reservations, among [`BLOCK_IDS`] consecutive ids.
#[derive(Default)]
struct Block {
    /// One bit for each id: whether the customer has reservations.
    has_reservations: [u64; (BLOCK_IDS / u64::BITS) as usize],
    /// These customers, in order of their ids.
    customers: Vec<Customer>,
}

enum Customer {
    /// A customer with a single reservation: most have one.
    One(ReservationId),
    /// A customer with more, by the index in [`ByCustomer::lists`].
    Several(u32),
}

const _: () = assert!(size_of::<Customer>() <= 12);

/// A customer's reservations.
enum List {
    /// At most [`FEW_MAX`], in order of insertion. An insertion only appends; a read sorts.
    Few(Vec<ReservationId>),
    #[expect(clippy::box_collection, reason = "a set in place would make every list a third larger")]
    Many(Box<BTreeSet<ReservationId>>),
}

const _: () = assert!(size_of::<List>() <= 24);

/// The most ids of a list that is sorted on read. Sorting them takes some microseconds.
const FEW_MAX: usize = 256;

impl ByCustomer {
    pub(super) fn insert(&mut self, customer: u32, id: ReservationId) {
        let ByCustomer { blocks, lists, free_lists, len } = self;
        *len += 1;
        let block = blocks.entry(customer / BLOCK_IDS).or_default();
        match block.find(customer) {
            Ok(index) => match block.customers[index] {
                Customer::One(other) => {
                    let list = List::Few(vec![other, id]);
                    let list_index = match free_lists.pop() {
                        Some(list_index) => {
                            lists[list_index as usize] = list;
                            list_index
                        }
                        None => {
                            lists.push(list);
                            u32::try_from(lists.len() - 1).expect("no more customers than their ids")
                        }
                    };
                    block.customers[index] = Customer::Several(list_index);
                }
                Customer::Several(list) => lists[list as usize].insert(id),
            },
            Err(index) => {
                make_room(&mut block.customers);
                block.customers.insert(index, Customer::One(id));
                block.flip(customer);
            }
        }
    }

    /// Removes a reservation that is in the index.
    pub(super) fn remove(&mut self, customer: u32, id: ReservationId) {
        self.len -= 1;
        let number = customer / BLOCK_IDS;
        let block = self.blocks.get_mut(&number).expect("the reservation is in the index");
        let index = block.find(customer).expect("the reservation is in the index");
        match block.customers[index] {
            Customer::One(_) => {
                block.customers.remove(index);
                block.flip(customer);
                if block.customers.is_empty() {
                    self.blocks.remove(&number);
                }
            }
            Customer::Several(list) => {
                if let Some(one) = self.lists[list as usize].remove(id) {
                    block.customers[index] = Customer::One(one);
                    self.lists[list as usize] = List::Few(Vec::new());
                    self.free_lists.push(list);
                }
            }
        }
    }

    /// Whether a customer has `count` reservations or more. Takes no search while all customers together have
    /// fewer.
    pub(super) fn has_as_many(&self, customer: u32, count: usize) -> bool {
        self.len >= count && self.count(customer) >= count
    }

    fn count(&self, customer: u32) -> usize {
        match self.customer(customer) {
            None => 0,
            Some(Customer::One(_)) => 1,
            Some(&Customer::Several(list)) => match &self.lists[list as usize] {
                List::Few(ids) => ids.len(),
                List::Many(ids) => ids.len(),
            },
        }
    }

    /// A customer's reservations in order: those after `after`, or all. `after` need not be in the index.
    pub(super) fn after(
        &self,
        customer: u32,
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

    /// The numbers of a customer's reservations at an event, in any order. Takes the time of these; or of all
    /// that the customer has, if these are at most [`FEW_MAX`].
    pub(super) fn at_event(&self, customer: u32, event: EventId) -> impl Iterator<Item = u32> {
        let (few, many) = match self.customer(customer) {
            None => (&[][..], None),
            Some(Customer::One(id)) => (std::slice::from_ref(id), None),
            Some(&Customer::Several(list)) => match &self.lists[list as usize] {
                List::Few(ids) => (&ids[..], None),
                List::Many(ids) => (&[][..], Some(ids)),
            },
        };
        let [first, last] = [0, u32::MAX].map(|number| ReservationId { event, number });
        let many = many.into_iter().flat_map(move |ids| ids.range(first..=last));
        few.iter().filter(move |id| id.event == event).chain(many).map(|id| id.number)
    }

    /// All reservations, in order of customers and ids.
    fn contents(&self) -> impl Iterator<Item = (u32, ReservationId)> {
        let customers = self.blocks.iter().flat_map(|(number, block)| {
            let ids = (0..BLOCK_IDS).map(move |offset| number * BLOCK_IDS + offset);
            ids.filter(|&customer| block.find(customer).is_ok())
        });
        customers.flat_map(|customer| self.after(customer, None).map(move |id| (customer, id)))
    }

    fn customer(&self, customer: u32) -> Option<&Customer> {
        let block = self.blocks.get(&(customer / BLOCK_IDS))?;
        Some(&block.customers[block.find(customer).ok()?])
    }
}

/// Compares contents. The internal form depends on the order of insertions, which differs between recoveries,
/// since they read files in parallel.
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

impl Block {
    /// The index of a customer, or the index at which to insert it.
    fn find(&self, customer: u32) -> Result<usize, usize> {
        let (word, bit) = Block::word_and_bit(customer);
        let before: u32 = self.has_reservations[..word].iter().map(|word| word.count_ones()).sum();
        let index = before + (self.has_reservations[word] & (bit - 1)).count_ones();
        if self.has_reservations[word] & bit == 0 { Err(index as usize) } else { Ok(index as usize) }
    }

    fn flip(&mut self, customer: u32) {
        let (word, bit) = Block::word_and_bit(customer);
        self.has_reservations[word] ^= bit;
    }

    fn word_and_bit(customer: u32) -> (usize, u64) {
        let offset = customer % BLOCK_IDS;
        ((offset / u64::BITS) as usize, 1 << (offset % u64::BITS))
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

    /// Removes an id. Returns the last one left, if only one is.
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

/// Reserves memory for one more item. Doubling would leave a third of the memory unused on average.
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
        index.after(customer, after).collect()
    }

    /// Compares the index with one ordered set, through all insertions and their removals.
    #[test]
    fn is_an_ordered_set_of_customers_and_ids() {
        // Adjacent ids, boundaries of words and blocks, and both ends; from one reservation to many.
        let customers =
            [(0, 1), (1, 2), (63, 3), (64, 700), (255, 2000), (256, 1), (511, 40), (u32::MAX, 600)];
        let mut order = Vec::new();
        for (customer, count) in customers {
            // Spread over events, so that ids are inserted before, after and between others.
            order.extend((1..=count).map(|number| (customer, id(1 + number * 7919 % 31, number))));
        }
        order.sort_by_key(|(customer, id)| (id.number, customer.wrapping_mul(0x9e37_79b9)));

        let mut index = ByCustomer::default();
        let mut expected = BTreeSet::new();
        let mut snapshots = Vec::new();
        let check = |index: &ByCustomer, expected: &BTreeSet<(u32, ReservationId)>| {
            assert_eq!(index.len, expected.len());
            for (customer, _) in customers {
                let here = expected.iter().filter(|(other, _)| *other == customer).map(|&(_, id)| id);
                let here: Vec<_> = here.collect();
                assert_eq!(ids(index, customer, None), here, "customer {customer}");
                assert!(index.has_as_many(customer, here.len()), "customer {customer}");
                assert!(!index.has_as_many(customer, here.len() + 1), "customer {customer}");
                for event in [1, 7, 31, 32] {
                    let mut numbers: Vec<_> = index.at_event(customer, EventId(event)).collect();
                    numbers.sort_unstable();
                    let at_event = here.iter().filter(|id| id.event == EventId(event));
                    let expected: Vec<_> = at_event.map(|id| id.number).collect();
                    assert_eq!(numbers, expected, "customer {customer} at event {event}");
                }
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
                snapshots.push((step, format!("{index:?}")));
            }
            index.insert(customer, id);
            expected.insert((customer, id));
        }
        check(&index, &expected);
        assert_eq!(ids(&index, 2, None), [], "an adjacent id without reservations");
        assert_eq!(ids(&index, 1000, None), [], "an id without a block");
        for (step, &(customer, id)) in order.iter().enumerate().rev() {
            index.remove(customer, id);
            expected.remove(&(customer, id));
            if let Some((_, before)) = snapshots.pop_if(|(before, _)| *before == step) {
                assert_eq!(format!("{index:?}"), before, "after undoing step {step}");
                check(&index, &expected);
            }
        }
        assert_eq!(index, ByCustomer::default());

        // Removals in another order than the insertions, and insertions that reuse lists.
        for round in 0..2 {
            order.iter().for_each(|&(customer, id)| index.insert(customer, id));
            expected.extend(order.iter().copied());
            order.sort_by_key(|(customer, id)| (id.number ^ customer).wrapping_mul(0x9e37_79b9 + round));
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
