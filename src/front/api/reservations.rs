//! Reservations: create, list, view, cancel.

use schemars::JsonSchema;
use serde::Serialize;
use shards::command::{Command, Query};
use shards::ids::{EventId, Quantity, ReservationId, ReservationNumber, UserId};
use shards::outcome::{Outcome, ReservationStatus, ReservationView};

use super::input::{Cursor, Limit, body, no_query, query};
use super::output::{Page, Rfc3339, json_response};
use super::work::Work;
use super::{Api, Call};
use crate::client::view;
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
        Reservation {
            id: view.id,
            event: view.id.event,
            customer: view.customer,
            quantity: view.quantity,
            status: view.status,
            created_at: Rfc3339(view.created_at),
            cancelled_at: view.cancelled_at.map(Rfc3339),
        }
    }
}

pub(super) fn create(_: &Api, call: &Call<'_>) -> Result<Work, Problem> {
    let event = call.event()?;
    no_query(call.request)?;
    let quantity = quantity_asked_for(call.request)?;
    let command = Command::Reserve { event, customer: call.actor().user, quantity };
    Ok(Work::command(command, |outcome| created(view!(Outcome::Reservation, outcome))))
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

pub(super) fn list(api: &Api, call: &Call<'_>) -> Result<Work, Problem> {
    let ReservationsQuery { limit, after } = ReservationsQuery::read(call.request)?;
    let Limit(limit) = limit.unwrap_or_default();
    let after = after.map(|Cursor(reservation)| reservation);
    let customer = call.actor().user;
    let shards = api.shards.clone();
    Ok(Work::future(async move {
        let views = shards.customer_reservations(customer, after, limit + 1).await?;
        let page: Page<Reservation> = Page::new(views, limit, |view| view.id.to_string());
        Ok(page.respond("/api/v1/reservations", limit))
    }))
}

pub(super) fn list_of_event(_: &Api, call: &Call<'_>) -> Result<Work, Problem> {
    let event = call.event()?;
    let EventReservationsQuery { limit, after } = EventReservationsQuery::read(call.request)?;
    let Limit(limit) = limit.unwrap_or_default();
    let after = after.map(|Cursor(number)| number.0);
    let query = Query::EventReservations { event, actor: call.actor(), after, limit: limit + 1 };
    Ok(Work::query(query, move |outcome| {
        let views = view!(Outcome::Reservations, outcome);
        let page: Page<Reservation> = Page::new(views, limit, |view| view.id.number.to_string());
        page.respond(&format!("/api/v1/events/{event}/reservations"), limit)
    }))
}

pub(super) fn get(_: &Api, call: &Call<'_>) -> Result<Work, Problem> {
    let reservation = call.reservation()?;
    no_query(call.request)?;
    let query = Query::Reservation { reservation, actor: call.actor() };
    Ok(Work::query(query, |outcome| {
        json_response(200, &Reservation::from(view!(Outcome::Reservation, outcome)))
    }))
}

pub(super) fn cancel(_: &Api, call: &Call<'_>) -> Result<Work, Problem> {
    let reservation = call.reservation()?;
    no_query(call.request)?;
    let command = Command::Cancel { reservation, actor: call.actor() };
    Ok(Work::command(command, |_| Response::empty(204)))
}
