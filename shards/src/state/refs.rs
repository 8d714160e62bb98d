//! The customers' refs of a slot: each text is kept once, and reservations have its number.
//!
//! A ref is known as long as a reservation has it, cancelled ones included. So there are no more texts than
//! reservations. A ref that the last reservation lost, by a transfer, is forgotten, and its number is free.

use std::collections::{BTreeMap, BTreeSet};

use super::by_customer::ByCustomer;
use super::chunks::Chunks;
use crate::command::{Buyer, CustomerRef};
use crate::ids::{EventId, ReservationId, UserId};

/// A buyer as a reservation has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    Account(UserId),
    Ref(RefNumber),
    Guest,
    Block,
}

/// The number of a ref within its slot. Another slot has other numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RefNumber(pub(super) u32);

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refs {
    numbers: BTreeMap<CustomerRef, RefNumber>,
    /// By number; `None` for those in `free`. The last one is in use.
    texts: Chunks<Option<CustomerRef>>,
    /// The least of these is used next, so that the numbers follow from those in use alone, and an undo is exact.
    free: BTreeSet<u32>,
    /// The reservations of each ref.
    reservations: ByCustomer,
}

impl Refs {
    pub(super) fn find(&self, text: &CustomerRef) -> Option<RefNumber> {
        self.numbers.get(text).copied()
    }

    pub(super) fn text(&self, RefNumber(number): RefNumber) -> &CustomerRef {
        self.texts[number as usize].as_ref().expect("a reservation has this ref")
    }

    /// The numbers of a ref's reservations at an event, in any order.
    pub(super) fn at_event(&self, RefNumber(number): RefNumber, event: EventId) -> impl Iterator<Item = u32> {
        self.reservations.at_event(number, event)
    }

    /// The numbers of a ref's reservations at an event, in order, after one of them.
    pub(super) fn at_event_after(
        &self,
        RefNumber(number): RefNumber,
        event: EventId,
        after: u32,
    ) -> impl Iterator<Item = u32> {
        let ids = self.reservations.after(number, Some(ReservationId { event, number: after }));
        ids.take_while(move |id| id.event == event).map(|id| id.number)
    }

    /// Notes that a reservation has a ref.
    pub(super) fn insert(&mut self, text: &CustomerRef, id: ReservationId) -> RefNumber {
        let number = match self.find(text) {
            Some(number) => number,
            None => {
                let next = u32::try_from(self.texts.len()).expect("no more refs than reservations");
                let number = RefNumber(self.free.first().copied().unwrap_or(next));
                self.restore(number, text);
                number
            }
        };
        self.reservations.insert(number.0, id);
        number
    }

    /// Notes that a reservation has a ref no longer. The inverse of [`Refs::insert`].
    pub(super) fn remove(&mut self, RefNumber(number): RefNumber, id: ReservationId) {
        self.reservations.remove(number, id);
        if self.reservations.has_as_many(number, 1) {
            return;
        }
        let text = self.texts[number as usize].take().expect("a reservation had this ref");
        self.numbers.remove(&text);
        self.free.insert(number);
        while let Some(last) = self.texts.len().checked_sub(1).filter(|&last| self.texts[last].is_none()) {
            self.texts.pop();
            self.free.remove(&(last as u32));
        }
    }

    /// Undoes [`Refs::remove`], with the text that it may have forgotten.
    pub(super) fn insert_again(&mut self, number: RefNumber, text: &CustomerRef, id: ReservationId) {
        if self.find(text).is_none() {
            self.restore(number, text);
        }
        self.reservations.insert(number.0, id);
    }

    fn restore(&mut self, RefNumber(number): RefNumber, text: &CustomerRef) {
        while self.texts.len() <= number as usize {
            self.free.insert(self.texts.len() as u32);
            self.texts.push(None);
        }
        self.free.remove(&number);
        self.texts[number as usize] = Some(text.clone());
        self.numbers.insert(text.clone(), RefNumber(number));
    }

    /// The buyer that a reservation has.
    pub(super) fn buyer(&self, holder: Holder) -> Buyer {
        match holder {
            Holder::Account(customer) => Buyer::Account(customer),
            Holder::Ref(number) => Buyer::Ref(self.text(number).clone()),
            Holder::Guest => Buyer::Guest,
            Holder::Block => Buyer::Block,
        }
    }

    /// The holder of a new or transferred reservation.
    pub(super) fn take(&mut self, buyer: &Buyer, id: ReservationId) -> Holder {
        match buyer {
            Buyer::Account(customer) => Holder::Account(*customer),
            Buyer::Ref(text) => Holder::Ref(self.insert(text, id)),
            Buyer::Guest => Holder::Guest,
            Buyer::Block => Holder::Block,
        }
    }

    /// The inverse of [`Refs::take`].
    pub(super) fn give_back(&mut self, holder: Holder, id: ReservationId) {
        if let Holder::Ref(number) = holder {
            self.remove(number, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> ReservationId {
        ReservationId { event: EventId(1), number }
    }

    #[test]
    fn a_text_is_kept_once_and_forgotten_with_its_last_reservation() {
        let mut refs = Refs::default();
        let [ada, bob, eve] = ["ada", "bob", "Ada"].map(|text| CustomerRef::new(text).unwrap());
        assert_eq!(refs.insert(&ada, id(1)), RefNumber(0));
        assert_eq!(refs.insert(&bob, id(2)), RefNumber(1));
        assert_eq!(refs.insert(&ada, id(3)), RefNumber(0));
        assert_eq!(refs.insert(&eve, id(4)), RefNumber(2), "another text");
        assert_eq!(refs.at_event_after(RefNumber(0), EventId(1), 1).collect::<Vec<_>>(), [3]);
        let before = format!("{refs:?}");
        refs.remove(RefNumber(1), id(2));
        assert_eq!((refs.find(&bob), refs.find(&ada)), (None, Some(RefNumber(0))));
        let between = format!("{refs:?}");
        refs.remove(RefNumber(2), id(4));
        assert_eq!((refs.texts.len(), refs.free.len()), (1, 0), "free numbers at the end are dropped");
        refs.insert_again(RefNumber(2), &eve, id(4));
        assert_eq!(format!("{refs:?}"), between);
        assert_eq!(refs.insert(&bob, id(5)), RefNumber(1), "a free number is used again");
        refs.remove(RefNumber(1), id(5));
        assert_eq!(format!("{refs:?}"), between);
        refs.insert_again(RefNumber(1), &bob, id(2));
        assert_eq!(format!("{refs:?}"), before);
        for (number, reservation) in [(0, 1), (1, 2), (0, 3), (2, 4)] {
            refs.remove(RefNumber(number), id(reservation));
        }
        assert_eq!(refs, Refs::default());
    }
}
