//! Reservations: create, list, view, cancel.

use schemars::JsonSchema;
use serde::Serialize;
use shards::command::Buyer;
use shards::ids::{EventId, Quantity, ReservationId, ReservationNumber, UserId};
use shards::outcome::{ReservationStatus, ReservationView};

use super::input::{Cursor, Limit, body, no_query, query};
use super::{Answer, Api, Call, Page, Rfc3339, json_response};
use crate::front::http::parse::Request;
use crate::front::http::write::Response;
use crate::front::problem::Problem;

/// Tickets of one event, sold to one customer.
#[derive(Serialize, JsonSchema)]
pub(in crate::front) struct Reservation {
    id: ReservationId,
    event: EventId,
    /// The account that reserved.
    customer: UserId,
    #[schemars(with = "Quantity")]
    quantity: u32,
    status: ReservationStatus,
    created_at: Rfc3339,
    /// There when it is cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Rfc3339")]
    cancelled_at: Option<Rfc3339>,
}

body! {
    /// How many tickets: all of them, or none.
    struct NewReservation {
        /// Tickets.
        quantity: Quantity,
    }
}

query! {
    /// Which page of a customer's reservations.
    struct ReservationsQuery {
        /// How many reservations the page has at most.
        limit: Option<Limit>,
        /// The `next` of the page before; opaque.
        after: Option<Cursor<ReservationId>>,
    }
}

query! {
    /// Which page of an event's reservations.
    struct EventReservationsQuery {
        /// How many reservations the page has at most.
        limit: Option<Limit>,
        /// The `next` of the page before; opaque.
        after: Option<Cursor<ReservationNumber>>,
    }
}

impl From<ReservationView> for Reservation {
    fn from(view: ReservationView) -> Reservation {
        let Buyer::Account(customer) = view.buyer;
        Reservation {
            id: view.id,
            event: view.id.event,
            customer,
            quantity: view.quantity,
            status: view.status,
            created_at: Rfc3339(view.created_at),
            cancelled_at: view.cancelled_at.map(Rfc3339),
        }
    }
}

pub(super) fn create(api: &Api, call: &Call<'_>) -> Answer {
    let event = call.event()?;
    no_query(call.request)?;
    let quantity = quantity_asked_for(call.request)?;
    let actor = call.actor();
    let buyer = Buyer::Account(actor.user);
    let shards = api.shards.clone();
    Ok(Box::pin(async move {
        let view = shards.reserve(event, actor, buyer, quantity).await?;
        Ok(created(view))
    }))
}

/// The body of a request to reserve.
///
/// # Errors
///
/// Those of every body; 422 for another number of tickets than one can have.
pub fn quantity_asked_for(request: &Request<'_>) -> Result<Quantity, Problem> {
    let NewReservation { quantity } = NewReservation::read(request)?;
    Ok(quantity)
}

/// The answer to who reserved.
pub fn created(view: ReservationView) -> Response {
    let location = ["/api/v1/reservations/", &view.id.to_text()].concat();
    json_response(201, &Reservation::from(view)).with("Location", location)
}

pub(super) fn list(api: &Api, call: &Call<'_>) -> Answer {
    let ReservationsQuery { limit, after } = ReservationsQuery::read(call.request)?;
    let Limit(limit) = limit.unwrap_or_default();
    let after = after.map(|Cursor(reservation)| reservation);
    let customer = call.actor().user;
    let shards = api.shards.clone();
    Ok(Box::pin(async move {
        let views = shards.customer_reservations(customer, after, limit + 1).await?;
        let page: Page<Reservation> = Page::new(views, limit, |view| view.id.to_string());
        Ok(page.respond("/api/v1/reservations", limit))
    }))
}

pub(super) fn list_of_event(api: &Api, call: &Call<'_>) -> Answer {
    let event = call.event()?;
    let EventReservationsQuery { limit, after } = EventReservationsQuery::read(call.request)?;
    let Limit(limit) = limit.unwrap_or_default();
    let after = after.map(|Cursor(number)| number.0);
    let actor = call.actor();
    let shards = api.shards.clone();
    Ok(Box::pin(async move {
        let views = shards.event_reservations(event, actor, after, limit + 1).await?;
        let page: Page<Reservation> = Page::new(views, limit, |view| view.id.number.to_string());
        Ok(page.respond(&format!("/api/v1/events/{event}/reservations"), limit))
    }))
}

pub(super) fn get(api: &Api, call: &Call<'_>) -> Answer {
    let reservation = call.reservation()?;
    no_query(call.request)?;
    let actor = call.actor();
    let shards = api.shards.clone();
    Ok(Box::pin(async move {
        let view = shards.reservation(reservation, actor).await?;
        Ok(json_response(200, &Reservation::from(view)))
    }))
}

pub(super) fn cancel(api: &Api, call: &Call<'_>) -> Answer {
    let reservation = call.reservation()?;
    no_query(call.request)?;
    let actor = call.actor();
    let shards = api.shards.clone();
    Ok(Box::pin(async move {
        shards.cancel(reservation, actor).await?;
        Ok(Response::empty(204))
    }))
}
