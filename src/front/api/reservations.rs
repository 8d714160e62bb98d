//! Reservations: create, list, view, cancel.

use serde::Serialize;
use shards::ids::{EventId, ReservationId, UserId};
use shards::outcome::{ReservationStatus, ReservationView};

use super::input::{Body, PageRequest, Query, quantity};
use super::{Answer, Api, Call, Page, Rfc3339, json_response};
use crate::front::http::write::Response;

#[derive(Serialize)]
struct Reservation {
    id: ReservationId,
    event: EventId,
    customer: UserId,
    quantity: u32,
    status: &'static str,
    created_at: Rfc3339,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled_at: Option<Rfc3339>,
}

impl From<ReservationView> for Reservation {
    fn from(view: ReservationView) -> Reservation {
        Reservation {
            id: view.id,
            event: view.id.event,
            customer: view.customer,
            quantity: view.quantity,
            status: match view.status {
                ReservationStatus::Confirmed => "confirmed",
                ReservationStatus::Cancelled => "cancelled",
            },
            created_at: Rfc3339(view.created_at),
            cancelled_at: view.cancelled_at.map(Rfc3339),
        }
    }
}

pub(super) fn create(api: &Api, call: &Call<'_>) -> Answer {
    let event = call.event()?;
    Query::read(call.request).finish()?;
    let mut body = Body::read(call.request)?;
    let quantity = body.required("quantity", quantity);
    body.finish()?;
    let quantity = quantity.expect("an error would have been noted");
    let customer = call.actor().user;
    let shards = api.shards.clone();
    Ok(Box::pin(async move {
        let view = shards.reserve(event, customer, quantity).await?;
        let location = format!("/api/v1/reservations/{}", view.id);
        Ok(json_response(201, &Reservation::from(view)).with("Location", location))
    }))
}

pub(super) fn list(api: &Api, call: &Call<'_>) -> Answer {
    let mut query = Query::read(call.request);
    let PageRequest { limit, after } = query.take_page();
    query.finish()?;
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
    let mut query = Query::read(call.request);
    let PageRequest { limit, after } = query.take_page();
    query.finish()?;
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
    Query::read(call.request).finish()?;
    let actor = call.actor();
    let shards = api.shards.clone();
    Ok(Box::pin(async move {
        let view = shards.reservation(reservation, actor).await?;
        Ok(json_response(200, &Reservation::from(view)))
    }))
}

pub(super) fn cancel(api: &Api, call: &Call<'_>) -> Answer {
    let reservation = call.reservation()?;
    Query::read(call.request).finish()?;
    let actor = call.actor();
    let shards = api.shards.clone();
    Ok(Box::pin(async move {
        shards.cancel(reservation, actor).await?;
        Ok(Response::empty(204))
    }))
}
