//! Reservations: create, list, view. Holds are reservations that are not confirmed yet.

use schemars::JsonSchema;
use serde_json::{Value, json};
use shards::api_keys::Scope;
use shards::command::{Command, CustomerRef, Query, SaleKind};
use shards::ids::{EventId, OrderId, Quantity, ReservationId, Role, UserId};
use shards::outcome::{Outcome, ReservationStatus, ReservationView};

use super::buyers::{Unsold, buyer};
use super::cancellations;
use super::context::RequestContext;
use super::endpoint::{Access, Endpoint, Header, KeyUse, Link, RequestHeader, Success, Tag, Takes};
use super::events;
use super::input::{Cursor, Limit, NoBody, NoParameter, NoQuery, body, query};
use super::output::{Page, ToJson, append_all, json_response, page_example};
use super::transfers;
use super::work::Work;
use crate::client::view;
use crate::front::http::parse::Method;
use crate::front::http::write::Response;
use crate::front::problem::{Kind, Problem};
use crate::front::rfc3339::Rfc3339;

/// Tickets of one event, sold to one customer or held for one.
#[derive(JsonSchema)]
pub(super) struct Reservation {
    pub(super) id: ReservationId,
    pub(super) event: EventId,
    /// The account that has the tickets; null for a `customer_ref`, and for tickets that are no customer's.
    pub(super) customer: Option<UserId>,
    /// There when the event's organizer sold to a customer without an account: the organizer's name for that.
    #[schemars(with = "CustomerRef", skip_serializing_if = "Option::is_none")]
    pub(super) customer_ref: Option<CustomerRef>,
    pub(super) kind: SaleKind,
    #[schemars(with = "Quantity")]
    pub(super) quantity: u32,
    pub(super) status: ReservationStatus,
    pub(super) created_at: Rfc3339,
    /// There when it is held or expired: the end of the hold.
    #[schemars(with = "Rfc3339", skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<Rfc3339>,
    /// There when it is a part of an order.
    #[schemars(with = "OrderId", skip_serializing_if = "Option::is_none")]
    pub(super) order: Option<OrderId>,
    /// There when it is cancelled.
    #[schemars(with = "Rfc3339", skip_serializing_if = "Option::is_none")]
    pub(super) cancelled_at: Option<Rfc3339>,
}

body! {
    /// How many tickets: all of them, or none. The event's organizer says for whom, and nobody else does.
    struct NewReservation {
        /// Tickets.
        quantity: Quantity,
        /// The organizer's own name for the customer who gets them.
        customer_ref: Option<CustomerRef>,
        /// For tickets without a customer: of guests, or set aside. No limit and no window of the sale holds.
        kind: Option<Unsold>,
    }
    example { "quantity": 2 }
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

impl From<ReservationView> for Reservation {
    fn from(view: ReservationView) -> Reservation {
        let ReservationView { id, buyer, quantity, status, created_at, expires_at, cancelled_at, order } =
            view;
        let kind = buyer.kind();
        let (customer, customer_ref) = buyer.names();
        Reservation {
            id,
            event: id.event,
            customer,
            customer_ref,
            kind,
            quantity,
            status,
            created_at: Rfc3339(created_at),
            expires_at: expires_at.map(Rfc3339),
            order,
            cancelled_at: cancelled_at.map(Rfc3339),
        }
    }
}

/// Without serde_json, which looks for characters to escape in each name and each value: that took half of the
/// instructions of a sale's answer.
impl ToJson for Reservation {
    fn append_to(&self, text: &mut Vec<u8>) {
        self.append_members(text);
        text.push(b'}');
    }
}

impl Reservation {
    /// Appends the object, but not its end.
    pub(super) fn append_members(&self, text: &mut Vec<u8>) {
        let &Reservation {
            id,
            event,
            customer,
            ref customer_ref,
            kind,
            quantity,
            status,
            created_at,
            expires_at,
            order,
            cancelled_at,
        } = self;
        let [mut event_text, mut customer_text, mut quantity_text] = [itoa::Buffer::new(); 3];
        append_all(
            text,
            [
                b"{\"id\":\"",
                id.to_text().as_bytes(),
                b"\",\"event\":",
                event_text.format(event.0).as_bytes(),
                b",\"customer\":",
                customer.map_or("null", |customer| customer_text.format(customer.0)).as_bytes(),
            ],
        );
        if let Some(customer_ref) = customer_ref {
            text.extend_from_slice(b",\"customer_ref\":");
            customer_ref.as_str().append_to(text);
        }
        append_all(
            text,
            [
                b",\"kind\":\"",
                kind.as_str().as_bytes(),
                b"\",\"quantity\":",
                quantity_text.format(quantity).as_bytes(),
                b",\"status\":\"",
                status.as_str().as_bytes(),
                b"\",\"created_at\":\"",
                &created_at.text(),
            ],
        );
        if let Some(expires_at) = expires_at {
            append_all(text, [b"\",\"expires_at\":\"", &expires_at.text()]);
        }
        if let Some(order) = order {
            append_all(text, [b"\",\"order\":\"", order.to_string().as_bytes()]);
        }
        if let Some(cancelled_at) = cancelled_at {
            append_all(text, [b"\",\"cancelled_at\":\"", &cancelled_at.text()]);
        }
        text.push(b'"');
    }
}

pub(super) fn example() -> Value {
    json!({
        "id": "7-42",
        "event": 7,
        "customer": 31,
        "kind": "sale",
        "quantity": 2,
        "status": "confirmed",
        "created_at": "2026-03-02T12:00:00.017Z",
    })
}

/// Why tickets are neither reserved nor held.
pub(super) const OF_A_SALE: &[Kind] = &[
    Kind::NotYours,
    Kind::SalesNotOpen,
    Kind::SalesClosed,
    Kind::ReservationLimit,
    Kind::CustomerLimit,
    Kind::SoldOut,
    Kind::EventDeleted,
    Kind::AccountLimit,
    Kind::IdsUsedUp,
];

pub(super) const OF_RESERVATION: &[Link] = &[
    (&GET, "reservation", "/id"),
    (&cancellations::CANCEL, "reservation", "/id"),
    (&cancellations::REDUCE, "reservation", "/id"),
    (&transfers::TRANSFER, "reservation", "/id"),
    (&events::GET, "event", "/event"),
];
pub(super) const OF_RESERVATIONS: &[Link] =
    &[(&GET, "reservation", "/items/0/id"), (&cancellations::CANCEL, "reservation", "/items/0/id")];

pub(super) static CREATE: Endpoint = Endpoint {
    id: "createReservation",
    method: Method::Post,
    path: "/api/v1/events/{event}/reservations",
    access: Access::Only(&[Role::Customer, Role::Organizer], KeyUse::With(Scope::Sell)),
    handler: &Takes(create),
    writes: true,
    headers: &[RequestHeader::IDEMPOTENCY_KEY],
    tag: Tag::Reservations,
    summary: "Reserve tickets",
    about: "All or nothing. A 201 is on disk; a 503 has done nothing. When no answer comes, the reservation may \
            be there: send the request again with the same `Idempotency-Key`, or look at \
            `GET /api/v1/reservations`. The event's organizer reserves for others, with `customer_ref` or `kind`.",
    successes: &[Success::json::<Reservation>(201, "The tickets are yours.", example)
        .with(&[Header::location("/api/v1/reservations/7-42"), Header::REPLAYED])
        .then(OF_RESERVATION)],
    problems: OF_A_SALE,
};

fn create(
    context: &RequestContext<'_>,
    event: EventId,
    _: NoQuery,
    NewReservation { quantity, customer_ref, kind }: NewReservation,
) -> Result<Work, Problem> {
    let (actor, buyer) = (context.actor(), buyer(context, customer_ref, kind)?);
    let command = Command::Reserve { event, actor, buyer, quantity };
    context.once(command, |outcome| created(view!(Outcome::Reservation, outcome)))
}

/// The capacity for the path of a reservation, whatever its id is.
const LOCATION_BYTES: usize = 48;

/// The response to a reservation or hold that was made.
pub(super) fn created(view: ReservationView) -> Response {
    let mut location = String::with_capacity(LOCATION_BYTES);
    location.push_str("/api/v1/reservations/");
    location.push_str(&view.id.to_text());
    json_response(201, &Reservation::from(view)).with("Location", location)
}

/// Steps of a reservation, for the benches.
#[cfg(feature = "bench")]
pub(super) mod steps {
    use super::*;
    use crate::front::api::input::FromBody;
    use crate::front::http::parse::Request;

    /// Reads the body of a request to reserve.
    ///
    /// # Errors
    ///
    /// Those of every body; 422 for a number of tickets that nobody can have.
    pub fn quantity_asked_for(request: &Request<'_>) -> Result<Quantity, Problem> {
        NewReservation::read(request).map(|NewReservation { quantity, .. }| quantity)
    }

    /// The response to a reservation that was made.
    pub fn reservation_created(view: ReservationView) -> Response {
        created(view)
    }
}

pub(super) static LIST: Endpoint = Endpoint {
    id: "listReservations",
    method: Method::Get,
    path: "/api/v1/reservations",
    access: Access::LoggedIn(KeyUse::With(Scope::EventsRead)),
    handler: &Takes(list),
    writes: false,
    headers: &[],
    tag: Tag::Reservations,
    summary: "List one's own reservations",
    about: "By event, then number: what the account bought, whatever its role is now. No snapshot: each shard answers in its own time.",
    successes: &[Success::json::<Page<Reservation>>(200, "A page.", || page_example(&example(), "7-42"))
        .with(&[Header::LINK])
        .then(OF_RESERVATIONS)],
    problems: &[],
};

fn list(
    context: &RequestContext<'_>,
    _: NoParameter,
    ReservationsQuery { limit, after }: ReservationsQuery,
    _: NoBody,
) -> Result<Work, Problem> {
    let Limit(limit) = limit.unwrap_or_default();
    let after = after.map(|Cursor(reservation)| reservation);
    let customer = context.actor().user;
    let shards = context.api.shards.clone();
    Ok(Work::future(async move {
        let views = shards.customer_reservations(customer, after, limit + 1).await?;
        let page: Page<Reservation> = Page::new(views, limit, |view| view.id.to_string());
        Ok(page.respond("/api/v1/reservations", limit))
    }))
}

pub(super) static GET: Endpoint = Endpoint {
    id: "getReservation",
    method: Method::Get,
    path: "/api/v1/reservations/{reservation}",
    access: Access::LoggedIn(KeyUse::With(Scope::EventsRead)),
    handler: &Takes(get),
    writes: false,
    headers: &[],
    tag: Tag::Reservations,
    summary: "View a reservation",
    about: "For its customer, its event's organizer, and admins; to others it does not exist.",
    successes: &[Success::json::<Reservation>(200, "The reservation.", example)],
    problems: &[],
};

fn get(
    context: &RequestContext<'_>,
    reservation: ReservationId,
    _: NoQuery,
    _: NoBody,
) -> Result<Work, Problem> {
    let query = Query::Reservation { reservation, actor: context.actor() };
    Ok(Work::query(query, |outcome| {
        json_response(200, &Reservation::from(view!(Outcome::Reservation, outcome)))
    }))
}

#[cfg(test)]
mod tests {
    use shards::command::Buyer;
    use shards::ids::Timestamp;

    use super::*;

    #[test]
    fn reservations_are_json() {
        let id = ReservationId { event: EventId(u32::MAX), number: u32::MAX };
        let buyer = Buyer::Account(UserId(31));
        let at = Timestamp(1_772_452_800_017);
        let confirmed = ReservationStatus::Confirmed;
        let view = ReservationView {
            id,
            buyer,
            quantity: 2,
            status: confirmed,
            created_at: at,
            expires_at: None,
            cancelled_at: None,
            order: None,
        };
        let held = ReservationView {
            status: ReservationStatus::Held,
            expires_at: Some(Timestamp(1_772_453_400_017)),
            ..view.clone()
        };
        let ordered =
            ReservationView { order: Some(OrderId { user: UserId(31), number: 5 }), ..view.clone() };
        let cancelled = ReservationStatus::Cancelled;
        let cancelled =
            ReservationView { status: cancelled, cancelled_at: Some(Timestamp(0)), ..view.clone() };
        let of_ref = Buyer::Ref(CustomerRef::new("a \"b\" \\ é").unwrap());
        let of_ref = ReservationView { buyer: of_ref, ..view.clone() };
        let block = ReservationView { buyer: Buyer::Block, ..view.clone() };
        let mut expected = json!({
            "id": "4294967295-4294967295",
            "event": u32::MAX,
            "customer": 31,
            "kind": "sale",
            "quantity": 2,
            "status": ReservationStatus::Confirmed,
            "created_at": "2026-03-02T12:00:00.017Z",
        });
        for view in [view, held, ordered, cancelled, of_ref, block] {
            expected["kind"] = json!(view.buyer.kind());
            if let Buyer::Account(_) = view.buyer {
                expected["customer"] = json!(31);
            } else {
                expected["customer"] = Value::Null;
            }
            expected.as_object_mut().unwrap().remove("customer_ref");
            if let Buyer::Ref(text) = &view.buyer {
                expected["customer_ref"] = json!(text.as_str());
            }
            expected["status"] = json!(view.status);
            for name in ["expires_at", "order", "cancelled_at"] {
                expected.as_object_mut().unwrap().remove(name);
            }
            if view.expires_at.is_some() {
                expected["expires_at"] = json!("2026-03-02T12:10:00.017Z");
            }
            if view.order.is_some() {
                expected["order"] = json!("31-5");
            }
            if view.cancelled_at.is_some() {
                expected["cancelled_at"] = json!("1970-01-01T00:00:00.000Z");
            }
            let mut text = Vec::new();
            Reservation::from(view.clone()).append_to(&mut text);
            assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), expected);
            for (limit, next) in [(2, Value::Null), (1, json!("x\""))] {
                let page: Page<Reservation> =
                    Page::new(vec![view.clone(), view.clone()], limit, |_| "x\"".to_owned());
                let mut text = Vec::new();
                page.append_to(&mut text);
                let expected = json!({ "items": vec![expected.clone(); limit], "next": next });
                assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), expected);
            }
        }
    }
}
