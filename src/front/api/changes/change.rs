//! A record of an event as JSON: one arm for each kind.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use shards::command::{Buyer, CustomerRef, SaleKind};
use shards::details::{EventDetails, EventName, Venue};
use shards::ids::{ApiKeyNumber, By, EventId, OrderId, Quantity, Quota, ReservationId, UserId};
use shards::record::{
    Entry, EventCreated, EventEdited, Held, Kind, PartPrepared, PartSettled, PartStep, Record, Transferred,
    TransferredPart,
};

use crate::front::rfc3339::Rfc3339;

/// What was decided about an event, and when. Each kind has the members that say what it did.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Change {
    pub(super) event: EventId,
    /// Rises within an event, and is not consecutive. The same for ever.
    position: u64,
    /// The position of the event's change before this one; 0 for the first. If it is not that of the change that
    /// you had last, one is missing.
    previous: u64,
    /// `event_created`, `event_edited`, `event_deleted`, `reserved`, `cancelled`, `reduced`, `transferred`, `held`,
    /// `confirmed`, `released`, `holds_expired`, `part_prepared`, `part_settled`. Later versions have more kinds.
    #[schemars(extend("x-extensible-enum" = KINDS))]
    kind: &'static str,
    at: Rfc3339,
    /// The account that did it. Not there for `holds_expired`, which time does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "UserId")]
    by: Option<UserId>,
    /// The number of that account's API key with which it was done, if one was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ApiKeyNumber")]
    api_key: Option<ApiKeyNumber>,
    /// The reservation or hold that was made or changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ReservationId")]
    reservation: Option<ReservationId>,
    /// The reservation that the receiver of a transferred part has.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ReservationId")]
    received: Option<ReservationId>,
    /// The account that got the tickets.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "UserId")]
    customer: Option<UserId>,
    /// The organizer's name for the customer who got the tickets.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CustomerRef")]
    customer_ref: Option<String>,
    /// What the tickets are, when somebody gets them: a customer's (`sale`), a guest's, or set aside (`block`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SaleKind")]
    sale: Option<SaleKind>,
    /// Tickets: that were reserved, held or transferred, or that were given back. Not there when a whole reservation
    /// was transferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    quantity: Option<u32>,
    /// Tickets of a confirmed hold that its reservation does not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    given_back: Option<u32>,
    /// The end of the hold, as it was decided. A restart of the server can make it later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Rfc3339")]
    expires_at: Option<Rfc3339>,
    /// The holds that ended up to this time are over, all at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Rfc3339")]
    up_to: Option<Rfc3339>,
    /// The order that a reservation is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OrderId")]
    order: Option<OrderId>,
    /// What becomes of a part of an order: `held`, `confirmed`, `cancelled`, `expired`; `aborted` if the order was not
    /// placed; `locked` while it is being confirmed, `unlocked` if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    step: Option<&'static str>,
    /// The organizer of a new event, or who got the event by the edit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "UserId")]
    organizer: Option<UserId>,
    /// What the event is from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ChangedDetails")]
    details: Option<ChangedDetails>,
}

/// What an event is after it was created or edited.
#[derive(Debug, Serialize, JsonSchema)]
struct ChangedDetails {
    #[schemars(with = "EventName")]
    name: Box<str>,
    #[schemars(with = "Quota")]
    quota: u32,
    #[schemars(with = "Option<Venue>")]
    venue: Option<Box<str>>,
    #[schemars(with = "Option<Quantity>")]
    max_per_reservation: Option<u32>,
    #[schemars(with = "Option<Quantity>")]
    max_per_customer: Option<u32>,
    sales_start: Option<Rfc3339>,
    sales_end: Option<Rfc3339>,
}

const KINDS: [&str; 13] = [
    "event_created",
    "event_edited",
    "event_deleted",
    "reserved",
    "cancelled",
    "reduced",
    "transferred",
    "held",
    "confirmed",
    "released",
    "holds_expired",
    "part_prepared",
    "part_settled",
];

impl Change {
    /// `None` for a record that is of no event.
    pub(super) fn of(entry: Entry) -> Option<Change> {
        let Entry { slot: _, epoch: _, lsn, at, previous, continues: _, record, chain: _ } = entry;
        let change = Change {
            event: record.event()?,
            position: lsn.0,
            previous: previous.0,
            kind: "",
            at: Rfc3339(at),
            by: None,
            api_key: None,
            reservation: None,
            received: None,
            customer: None,
            customer_ref: None,
            sale: None,
            quantity: None,
            given_back: None,
            expires_at: None,
            up_to: None,
            order: None,
            step: None,
            organizer: None,
            details: None,
        };
        Some(match record {
            Record::EventCreated(created) => {
                let EventCreated { id: _, organizer, key, details } = *created;
                let change = Change { organizer: Some(organizer), details: Some(details.into()), ..change };
                change.by(Kind::EventCreated, By::new(organizer, key))
            }
            Record::EventEdited(edited) => {
                let EventEdited { id: _, by, details, organizer } = *edited;
                Change { organizer, details: Some(details.into()), ..change }.by(Kind::EventEdited, by)
            }
            Record::EventDeleted { event: _, by, tickets } => {
                Change { quantity: Some(tickets), ..change }.by(Kind::EventDeleted, by)
            }
            Record::Reserved { id, by, buyer, quantity } => {
                change.of_tickets(id, Some(quantity)).to(buyer).by(Kind::Reserved, by)
            }
            Record::Cancelled { id, by, quantity } => {
                change.of_tickets(id, Some(quantity)).by(Kind::Cancelled, by)
            }
            Record::Reduced { id, by, quantity } => {
                change.of_tickets(id, Some(quantity)).by(Kind::Reduced, by)
            }
            Record::Transferred(transferred) => {
                let Transferred { id, by, to, part } = *transferred;
                let received =
                    part.map(|TransferredPart { number, quantity: _ }| ReservationId { number, ..id });
                let quantity = part.map(|part| part.quantity);
                Change { received, ..change }.of_tickets(id, quantity).to(to).by(Kind::Transferred, by)
            }
            Record::Held(held) => {
                let Held { id, by, buyer, quantity, deadline } = *held;
                let change = Change { expires_at: Some(Rfc3339(deadline)), ..change };
                change.of_tickets(id, Some(quantity)).to(buyer).by(Kind::Held, by)
            }
            Record::Confirmed { id, by, given_back } => {
                Change { given_back: Some(given_back), ..change }.of_tickets(id, None).by(Kind::Confirmed, by)
            }
            Record::Released { id, by, quantity } => {
                change.of_tickets(id, Some(quantity)).by(Kind::Released, by)
            }
            Record::HoldsExpired { event: _, up_to, tickets } => Change {
                kind: Kind::HoldsExpired.name(),
                up_to: Some(Rfc3339(up_to)),
                quantity: Some(tickets),
                ..change
            },
            Record::PartPrepared(part) => {
                let PartPrepared { id, by, buyer, quantity, owner: _, attempt: _ } = *part;
                change.of_tickets(id, Some(quantity)).to(buyer).by(Kind::PartPrepared, by)
            }
            Record::PartSettled(part) => {
                let PartSettled { id, by, order, step, given_back } = *part;
                let (step, quantity) = (step_name(step), (given_back > 0).then_some(given_back));
                let change = Change { order, step: Some(step), ..change };
                change.of_tickets(id, quantity).by(Kind::PartSettled, by)
            }
            // Of no event. Time moves the ends of a slot's holds at a start: what becomes of a hold is told by the
            // change that ends it.
            Record::HoldsExtended { .. }
            | Record::UserCreated(_)
            | Record::PasswordChanged(_)
            | Record::RoleChanged(_)
            | Record::UserRemoved(_)
            | Record::TokensEnded(_)
            | Record::ApiKeyMade(_)
            | Record::ApiKeyEnded { .. }
            | Record::OrderPlaced(_)
            | Record::OrderConfirmed { .. }
            | Record::OrderCancelled { .. }
            | Record::OrderExpired { .. }
            | Record::OrderSettled { .. }
            | Record::TimeSetBack
            | Record::KeyKept(_)
            | Record::KeysAged { .. } => return None,
        })
    }

    fn by(self, kind: Kind, by: By) -> Change {
        Change { kind: kind.name(), by: Some(by.user), api_key: by.key(), ..self }
    }

    fn of_tickets(self, reservation: ReservationId, quantity: Option<u32>) -> Change {
        Change { reservation: Some(reservation), quantity, ..self }
    }

    fn to(self, buyer: Buyer) -> Change {
        let sale = Some(buyer.kind());
        match buyer {
            Buyer::Account(customer) => Change { sale, customer: Some(customer), ..self },
            Buyer::Ref(text) => Change { sale, customer_ref: Some(text.as_str().to_owned()), ..self },
            Buyer::Guest | Buyer::Block => Change { sale, ..self },
        }
    }
}

fn step_name(step: PartStep) -> &'static str {
    match step {
        PartStep::Aborted => "aborted",
        PartStep::Held => "held",
        PartStep::Locked(_) => "locked",
        PartStep::Unlocked => "unlocked",
        PartStep::Confirmed => "confirmed",
        PartStep::Cancelled => "cancelled",
        PartStep::Expired => "expired",
    }
}

impl From<EventDetails> for ChangedDetails {
    fn from(details: EventDetails) -> ChangedDetails {
        let rules = details.rules();
        let EventDetails { name, quota, venue, rules: _ } = details;
        ChangedDetails {
            name,
            quota,
            venue,
            max_per_reservation: rules.max_per_reservation.map(Quantity::get),
            max_per_customer: rules.max_per_customer.map(Quantity::get),
            sales_start: rules.sales_start.map(Rfc3339),
            sales_end: rules.sales_end.map(Rfc3339),
        }
    }
}

pub(super) fn example() -> Value {
    json!({
        "event": 7,
        "position": 1041,
        "previous": 1039,
        "kind": "reserved",
        "at": "2026-03-02T12:00:00.017Z",
        "by": 31,
        "reservation": "7-42",
        "customer": 31,
        "sale": "sale",
        "quantity": 2,
    })
}
