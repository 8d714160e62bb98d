//! Holds: tickets that are set aside for a time, in which their customer confirms or releases them.

use serde_json::{Value, json};
use shards::api_keys::Scope;
use shards::command::{Command, CustomerRef};
use shards::ids::{EventId, HoldTime, Quantity, ReservationId, Role};
use shards::outcome::Outcome;

use super::buyers::{Unsold, buyer};
use super::context::RequestContext;
use super::endpoint::{Access, Endpoint, Header, KeyUse, Link, RequestHeader, Success, Tag, Takes};
use super::input::{IfSent, NoBody, NoQuery, body};
use super::output::json_response;
use super::reservations::{self, OF_RESERVATION, Reservation, created};
use super::work::Work;
use crate::client::view;
use crate::front::http::parse::Method;
use crate::front::http::write::Response;
use crate::front::problem::{Kind, Problem};

body! {
    /// How many tickets, all or none, and for how long.
    struct NewHold {
        /// Tickets.
        quantity: Quantity,
        /// The time in which they can be confirmed, in seconds.
        ttl_seconds: Option<HoldTime>,
        /// The organizer's own name for the customer who gets them. For the event's organizer alone.
        customer_ref: Option<CustomerRef>,
        /// For tickets without a customer: of guests, or set aside. For the event's organizer alone.
        kind: Option<Unsold>,
    }
    example { "quantity": 2, "ttl_seconds": 300 }
}

body! {
    /// What of a hold is confirmed.
    struct Confirmation {
        /// Tickets: at most as many as are held. The others are for sale again. All of them if it is left out.
        quantity: Option<Quantity>,
    }
    example { "quantity": 1 }
}

fn example() -> Value {
    let mut hold = reservations::example();
    hold["status"] = json!("held");
    hold["expires_at"] = json!("2026-03-02T12:10:00.017Z");
    hold
}

const OF_HOLD: &[Link] = &[
    (&CONFIRM, "reservation", "/id"),
    (&RELEASE, "reservation", "/id"),
    (&reservations::GET, "reservation", "/id"),
];

pub(super) static CREATE: Endpoint = Endpoint {
    id: "createHold",
    method: Method::Post,
    path: "/api/v1/events/{event}/holds",
    access: Access::Only(&[Role::Customer, Role::Organizer], KeyUse::With(Scope::Sell)),
    handler: &Takes(create),
    writes: true,
    headers: &[RequestHeader::IDEMPOTENCY_KEY],
    tag: Tag::Reservations,
    summary: "Hold tickets for a time",
    about: "All or nothing. A hold is a reservation that is not confirmed yet: it has the same id and is in the same \
            lists. At `expires_at` its tickets are for sale again, unless it was confirmed before. After a restart \
            of the server, every hold has at least a minute left: its `expires_at` can then be later than before.",
    successes: &[Success::json::<Reservation>(201, "The tickets are held for you.", example)
        .with(&[Header::location("/api/v1/reservations/7-42"), Header::REPLAYED])
        .then(OF_HOLD)],
    problems: reservations::OF_A_SALE,
};

fn create(
    context: &RequestContext<'_>,
    event: EventId,
    _: NoQuery,
    NewHold { quantity, ttl_seconds, customer_ref, kind }: NewHold,
) -> Result<Work, Problem> {
    let (actor, buyer) = (context.actor(), buyer(context, customer_ref, kind)?);
    let time = ttl_seconds.unwrap_or_default();
    let command = Command::Hold { event, actor, buyer, quantity, time };
    context.once(command, |outcome| created(view!(Outcome::Reservation, outcome)))
}

pub(super) static CONFIRM: Endpoint = Endpoint {
    id: "confirmHold",
    method: Method::Post,
    path: "/api/v1/holds/{reservation}/confirm",
    access: Access::LoggedIn(KeyUse::With(Scope::Sell)),
    handler: &Takes(confirm),
    writes: true,
    headers: &[RequestHeader::IDEMPOTENCY_KEY],
    tag: Tag::Reservations,
    summary: "Confirm a hold",
    about: "For its customer, whatever the account's role is now; for the event's organizer, if it has no customer with an \
            account. It becomes a reservation. With a lower `quantity`, \
            the other tickets are for sale again in the same commit. A repeat changes nothing and has the same answer.",
    successes: &[Success::json::<Reservation>(200, "The tickets are yours.", reservations::example)
        .with(&[Header::REPLAYED])
        .then(OF_RESERVATION)],
    problems: &[
        Kind::Forbidden,
        Kind::HoldExpired,
        Kind::HoldReleased,
        Kind::HoldConfirmed,
        Kind::PartOfOrder,
    ],
};

fn confirm(
    context: &RequestContext<'_>,
    reservation: ReservationId,
    _: NoQuery,
    IfSent(confirmation): IfSent<Confirmation>,
) -> Result<Work, Problem> {
    let quantity = confirmation.and_then(|Confirmation { quantity }| quantity);
    let command = Command::Confirm { reservation, actor: context.actor(), quantity };
    context
        .once(command, |outcome| json_response(200, &Reservation::from(view!(Outcome::Reservation, outcome))))
}

pub(super) static RELEASE: Endpoint = Endpoint {
    id: "releaseHold",
    method: Method::Delete,
    path: "/api/v1/holds/{reservation}",
    access: Access::LoggedIn(KeyUse::With(Scope::Sell)),
    handler: &Takes(release),
    writes: true,
    headers: &[],
    tag: Tag::Reservations,
    summary: "Release a hold",
    about: "For its customer, whatever the account's role is now, its event's organizer and admins. The tickets are \
            for sale again in the same commit, once; a repeat does nothing, and neither does a release of a hold that is over.",
    successes: &[Success::empty(204, "It is given up, or was over.")],
    problems: &[Kind::HoldConfirmed, Kind::OrderInDoubt],
};

fn release(
    context: &RequestContext<'_>,
    reservation: ReservationId,
    _: NoQuery,
    _: NoBody,
) -> Result<Work, Problem> {
    let command = Command::Release { reservation, actor: context.actor() };
    Ok(Work::command(command, |_| Response::empty(204)))
}
