//! Transfers: a reservation, or a part of it, gets another buyer. As many tickets are reserved as before.

use super::by_customer::ByCustomer;
use super::refs::Holder;
use super::reservations::{Reservation, Standing};
use super::{Decision, OutcomeRef, SlotState, Undo};
use crate::command::{CustomerRef, Transfer};
use crate::ids::{Lsn, OrderId, Quantity, ReservationId, Timestamp, UserId};
use crate::outcome::Rejection;
use crate::record::{Record, Transferred, TransferredPart};

/// Who had the tickets of a transfer, and the order that they were a part of. A ref has its text, which may have been
/// forgotten since.
#[derive(Debug)]
pub struct Giver {
    holder: Holder,
    order: Option<OrderId>,
    text: Option<CustomerRef>,
}

impl SlotState {
    /// Who bought the tickets may give them to a customer, the event's organizer also to a ref. Of the rules of a sale,
    /// only the receiver's limit holds: nothing is sold.
    pub(super) fn decide_transfer(
        &self,
        transfer: Transfer,
        index: &ByCustomer,
    ) -> Result<Decision, Rejection> {
        let Transfer { reservation: id, actor, to, quantity } = transfer;
        let (event, reservation) = self.reservation_visible_to(id, actor)?;
        if !reservation.is_of(actor) && !event.is_sold_by(actor) {
            return Err(Rejection::NotYourReservation);
        }
        if let Some(to) = &to {
            event.check_seller(actor, to)?;
        }
        match event.standing(reservation) {
            Standing::Confirmed => {}
            Standing::Held { .. } => return Err(Rejection::HoldNotConfirmed),
            Standing::Pledged => {
                return Err(Rejection::PartOfOrder { order: event.order_of_pledged(id.number) });
            }
            Standing::Expired { .. } | Standing::Lapsed => return Err(Rejection::HoldExpired),
            Standing::Cancelled { .. } => return Err(Rejection::ReservationCancelled),
            hidden @ (Standing::Prepared | Standing::Aborted) => {
                unreachable!("nobody sees what is {hidden:?}")
            }
        }
        let has = reservation.quantity;
        let tickets = quantity.map_or(has, Quantity::get);
        if tickets > has {
            return Err(Rejection::QuantityAbove { quantity: has });
        }
        // Not before: with what can not be transferred, one could try for free who has an account.
        let to = to.ok_or(Rejection::ReceiverNotFound)?;
        if self.refs.buyer(reservation.holder()) == to {
            return Ok(Decision::unchanged(OutcomeRef::Reservation(id)));
        }
        self.check_receiver(id.event, event, &to, tickets, index)?;
        let part = if tickets < has {
            Some(TransferredPart { number: event.next_number()?, quantity: tickets })
        } else {
            None
        };
        let transferred = Transferred { id, by: actor.by(), to, part };
        let received = OutcomeRef::Reservation(transferred.received());
        Ok(Decision::change(Record::Transferred(Box::new(transferred)), received))
    }

    pub(super) fn apply_transferred(&mut self, at: Timestamp, lsn: Lsn, transferred: &Transferred) -> Lsn {
        let (id, received) = (transferred.id, transferred.received());
        let giver = self.holder(id);
        let receiver = match transferred.part {
            Some(_) => self.take_holder(transferred.by.user, &transferred.to, received),
            None => {
                let receiver = self.refs.take(&transferred.to, received);
                self.refs.give_back(giver, id);
                receiver
            }
        };
        self.change_event(id.event, lsn, |event| {
            let reservation = event.reservation_mut(id);
            assert_eq!(reservation.standing(), Standing::Confirmed, "only what is confirmed is transferred");
            let tickets = match transferred.part {
                Some(TransferredPart { quantity, .. }) => {
                    assert!(quantity < reservation.quantity, "a reservation has at least one ticket");
                    reservation.quantity -= quantity;
                    let part = Reservation::new(at, Standing::Confirmed, receiver, quantity);
                    event.add_reservation(received, part);
                    quantity
                }
                None => {
                    reservation.set_holder(receiver);
                    let quantity = reservation.quantity;
                    // Whoever gave it away cannot cancel it with the order.
                    event.set_order(id.number, None);
                    quantity
                }
            };
            event.take_back(giver, tickets);
            event.sell(receiver, tickets);
        })
    }

    /// Who has the tickets before a transfer.
    pub(super) fn giver_to_undo(&self, id: ReservationId) -> Undo {
        let holder = self.holder(id);
        let text = match holder {
            Holder::Ref(number) => Some(self.refs.text(number).clone()),
            Holder::Account(_) | Holder::Guest | Holder::Block => None,
        };
        let order = self.events[&id.event].order_of(id.number);
        Undo::Giver(Box::new(Giver { holder, order, text }))
    }

    pub(super) fn undo_transferred(&mut self, transferred: &Transferred, previous: Lsn, giver: &Giver) {
        let (id, received) = (transferred.id, transferred.received());
        let &Giver { holder, order, ref text } = giver;
        let receiver = self.holder(received);
        self.change_event(id.event, previous, |event| {
            let tickets = match transferred.part {
                Some(TransferredPart { quantity, .. }) => {
                    event.remove_reservation(received);
                    event.reservation_mut(id).quantity += quantity;
                    quantity
                }
                None => {
                    let reservation = event.reservation_mut(id);
                    reservation.set_holder(holder);
                    let quantity = reservation.quantity;
                    event.set_order(id.number, order);
                    quantity
                }
            };
            event.take_back(receiver, tickets);
            event.sell(holder, tickets);
        });
        match transferred.part {
            Some(_) => self.give_back_holder(transferred.by.user, receiver, received),
            None => {
                if let (Holder::Ref(number), Some(text)) = (holder, text) {
                    self.refs.insert_again(number, text, id);
                }
                self.refs.give_back(receiver, received);
            }
        }
    }

    /// The customer who has a reservation, if a record gives the whole of it to another buyer. Called while the
    /// record is not applied.
    pub(super) fn customer_who_gives(&self, record: &Record) -> Option<(UserId, ReservationId)> {
        let Record::Transferred(transferred) = record else { return None };
        match self.holder(transferred.id) {
            Holder::Account(customer) if transferred.part.is_none() => Some((customer, transferred.id)),
            Holder::Account(_) | Holder::Ref(_) | Holder::Guest | Holder::Block => None,
        }
    }
}
