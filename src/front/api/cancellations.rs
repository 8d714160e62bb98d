//! Cancelling reservations: one, a part of one, or several.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use shards::api_keys::Scope;
use shards::command::Command;
use shards::ids::{Quantity, ReservationId};
use shards::outcome::Outcome;

use super::context::RequestContext;
use super::endpoint::{Access, Endpoint, KeyUse, Success, Tag, Takes};
use super::input::{NoBody, NoParameter, NoQuery, ReservationIds, body};
use super::output::json_response;
use super::reservations::{Reservation, example};
use super::work::Work;
use crate::client::{Refused, view};
use crate::front::http::parse::Method;
use crate::front::http::write::Response;
use crate::front::problem::{Kind, Problem};

/// The reservations of one request that are cancelled at once: each takes a place of `--max-in-flight`, of which
/// there are at least 64.
const AT_ONCE: usize = 16;

body! {
    /// A merge patch (RFC 7396).
    struct ReservationPatch {
        /// The tickets that are left: at most as many as there are. For none, DELETE the reservation.
        quantity: Quantity,
    }
    example { "quantity": 1 }
}

body! {
    /// Reservations that are cancelled, each for itself.
    struct Cancellations {
        /// Their ids.
        ids: ReservationIds,
    }
    example { "ids": ["7-42", "9-1"] }
}

/// What became of each reservation, in the order of the request.
#[derive(Serialize, JsonSchema)]
struct CancellationResults {
    results: Vec<CancellationResult>,
}

#[derive(Serialize, JsonSchema)]
struct CancellationResult {
    id: ReservationId,
    /// The status that a DELETE of this reservation alone would have: 204 when it is cancelled. After 503 or 507,
    /// nothing was done for it.
    #[schemars(range(min = 200, max = 599))]
    status: u16,
}

pub(super) static CANCEL: Endpoint = Endpoint {
    id: "cancelReservation",
    method: Method::Delete,
    path: "/api/v1/reservations/{reservation}",
    access: Access::LoggedIn(KeyUse::With(Scope::Sell)),
    handler: &Takes(cancel),
    writes: true,
    headers: &[],
    tag: Tag::Reservations,
    summary: "Cancel a reservation",
    about: "For its customer, whatever the account's role is now, its event's organizer and admins. The tickets are for sale again \
            in the same commit, once; a repeat does nothing. A hold is released.",
    successes: &[Success::empty(204, "It is cancelled.")],
    problems: &[Kind::OrderInDoubt],
};

fn cancel(
    context: &RequestContext<'_>,
    reservation: ReservationId,
    _: NoQuery,
    _: NoBody,
) -> Result<Work, Problem> {
    let command = Command::Cancel { reservation, actor: context.actor() };
    Ok(Work::command(command, |_| Response::empty(204)))
}

pub(super) static REDUCE: Endpoint = Endpoint {
    id: "reduceReservation",
    method: Method::Patch,
    path: "/api/v1/reservations/{reservation}",
    access: Access::LoggedIn(KeyUse::With(Scope::Sell)),
    handler: &Takes(reduce),
    writes: true,
    headers: &[],
    tag: Tag::Reservations,
    summary: "Cancel a part of a reservation",
    about: "For those who may cancel it. `quantity` is how many tickets are left; the others are for sale again in \
            the same commit. With as many as there are, nothing changes.",
    successes: &[Success::json::<Reservation>(200, "The reservation as it is now.", example)],
    problems: &[Kind::ReservationCancelled, Kind::HoldExpired, Kind::PartOfOrder],
};

fn reduce(
    context: &RequestContext<'_>,
    reservation: ReservationId,
    _: NoQuery,
    ReservationPatch { quantity }: ReservationPatch,
) -> Result<Work, Problem> {
    let command = Command::Reduce { reservation, actor: context.actor(), quantity };
    Ok(Work::command(command, |outcome| {
        json_response(200, &Reservation::from(view!(Outcome::Reservation, outcome)))
    }))
}

pub(super) static CANCEL_SEVERAL: Endpoint = Endpoint {
    id: "cancelReservations",
    method: Method::Post,
    path: "/api/v1/reservations/cancel",
    access: Access::LoggedIn(KeyUse::With(Scope::Sell)),
    handler: &Takes(cancel_several),
    writes: true,
    headers: &[],
    tag: Tag::Reservations,
    summary: "Cancel several reservations",
    about: "Each for itself, as by a DELETE of each; they count as so many changes. Some can be cancelled and others \
            not: `status` says so for each. One with 503 or 507 can be sent again.",
    successes: &[Success::json::<CancellationResults>(200, "What became of each.", results_example)],
    problems: &[],
};

fn results_example() -> Value {
    json!({ "results": [{ "id": "7-42", "status": 204 }, { "id": "9-1", "status": 404 }] })
}

fn cancel_several(
    context: &RequestContext<'_>,
    _: NoParameter,
    _: NoQuery,
    Cancellations { ids: ReservationIds(ids) }: Cancellations,
) -> Result<Work, Problem> {
    let actor = context.actor();
    let shards = context.api.shards.clone();
    context.counts_as(ids.len());
    Ok(Work::future(async move {
        let mut results = Vec::with_capacity(ids.len());
        for ids in ids.chunks(AT_ONCE) {
            // Sent before the first is awaited, so that they share commits.
            let calls: Vec<_> = ids.iter().map(|&id| (id, shards.cancel(id, actor))).collect();
            for (id, call) in calls {
                let refused = match call {
                    Ok(call) => call.await.err().map(Refused::Rejected),
                    Err(overloaded) => Some(overloaded.into()),
                };
                let status = refused.map_or(204, |refused| Problem::from(refused).kind().status());
                results.push(CancellationResult { id, status });
            }
        }
        Ok(json_response(200, &CancellationResults { results }))
    }))
}
