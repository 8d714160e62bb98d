//! Transfers: a reservation, or a part of it, gets another buyer.

use shards::api_keys::Scope;
use shards::command::{Buyer, Transfer};
use shards::ids::{Quantity, ReservationId, Role, UserId, Username};
use shards::outcome::Outcome;

use super::buyers::Receiver;
use super::context::{RequestContext, replayed_or_new};
use super::endpoint::{Access, Endpoint, Header, KeyUse, RequestHeader, Success, Tag, Takes};
use super::input::{NoQuery, body};
use super::output::json_response;
use super::reservations::{Reservation, created, example};
use super::work::Work;
use crate::client::{Refused, Shards, view};
use crate::front::http::parse::Method;
use crate::front::http::write::Response;
use crate::front::problem::{Kind, Problem};

body! {
    /// Who gets how many tickets of a reservation.
    struct NewTransfer {
        /// A customer's `username`; or a `customer_ref`, for the event's organizer.
        to: Receiver,
        /// Tickets: at most as many as the reservation has. All of them if it is left out.
        quantity: Option<Quantity>,
    }
    example { "to": { "username": "bob" }, "quantity": 1 }
}

pub(super) static TRANSFER: Endpoint = Endpoint {
    id: "transferReservation",
    method: Method::Post,
    path: "/api/v1/reservations/{reservation}/transfer",
    access: Access::Only(&[Role::Customer, Role::Organizer], KeyUse::With(Scope::Sell)),
    handler: &Takes(transfer),
    writes: true,
    headers: &[RequestHeader::IDEMPOTENCY_KEY],
    tag: Tag::Reservations,
    summary: "Give a reservation to another buyer",
    about: "For its customer and its event's organizer. A whole reservation keeps its id; a part becomes a new reservation. \
            In one commit, and as many tickets are reserved as before. Of the rules of the sale, only \
            `max_per_customer` holds, for who gets the tickets. A hold is confirmed first. To whoever has it \
            already: nothing changes.",
    successes: &[
        Success::json::<Reservation>(200, "The reservation has another buyer.", example)
            .with(&[Header::REPLAYED]),
        Success::json::<Reservation>(201, "A part has another buyer: the new reservation.", example)
            .with(&[Header::location("/api/v1/reservations/7-43"), Header::REPLAYED]),
    ],
    problems: &[
        Kind::NotYours,
        Kind::ReceiverNotFound,
        Kind::HoldNotConfirmed,
        Kind::PartOfOrder,
        Kind::HoldExpired,
        Kind::ReservationCancelled,
        Kind::CustomerLimit,
        Kind::IdsUsedUp,
    ],
};

fn transfer(
    context: &RequestContext<'_>,
    reservation: ReservationId,
    _: NoQuery,
    NewTransfer { to, quantity }: NewTransfer,
) -> Result<Work, Problem> {
    to.check_for(context)?;
    let (actor, key) = (context.actor(), context.key()?);
    let shards = context.api.shards.clone();
    Ok(Work::future(async move {
        // The event's slot refuses a receiver whom there is not. It is asked all the same: whoever may not see the
        // reservation does not learn here who has an account, and a key may have an answer.
        let to = match to {
            Receiver::Username(username) => customer(&shards, username).await?.map(Buyer::Account),
            Receiver::CustomerRef(text) => Some(Buyer::Ref(text)),
        };
        let outcome = shards.transfer(Transfer { reservation, actor, to, quantity }, key).await?;
        Ok(replayed_or_new(outcome, |outcome| respond(reservation, outcome)))
    }))
}

/// The account of a customer; `None` if no customer has this name. If the account is removed or gets another role
/// after this, it has tickets as one that bought before.
async fn customer(shards: &Shards, username: Username) -> Result<Option<UserId>, Refused> {
    let account = shards.account(username).await?;
    let account = account.filter(|account| account.role == Role::Customer && !account.removed);
    Ok(account.map(|account| account.id))
}

fn respond(asked: ReservationId, outcome: Outcome) -> Response {
    let received = view!(Outcome::Reservation, outcome);
    if received.id == asked { json_response(200, &Reservation::from(received)) } else { created(received) }
}
