//! Orders: tickets of several events, all or none.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use shards::api_keys::Scope;
use shards::command::{Command, CustomerRef, OrderItems, PlaceOrder, SaleKind};
use shards::ids::{EventId, HoldTime, OrderId, Quantity, ReservationId, Role, UserId};
use shards::outcome::{OrderStatus, OrderView, Outcome, ReservationStatus, ReservationView};

use super::buyers::{Unsold, buyer, parameter};
use super::context::RequestContext;
use super::endpoint::{Access, Endpoint, Header, KeyUse, Link, RequestHeader, Success, Tag, Takes};
use super::input::{Cursor, Limit, NoBody, NoParameter, NoQuery, body, query};
use super::output::{Page, json_response, page_example};
use super::reservations;
use super::work::Work;
use crate::client::{Refused, Shards, view};
use crate::front::http::parse::Method;
use crate::front::http::write::Response;
use crate::front::problem::{Kind, Problem};
use crate::front::rfc3339::Rfc3339;

/// Tickets of several events, of one buyer.
#[derive(Serialize, JsonSchema)]
pub(super) struct Order {
    id: OrderId,
    /// The account that has the tickets; null for a `customer_ref`, and for tickets that are no customer's.
    customer: Option<UserId>,
    /// There when an organizer sold to a customer without an account: the organizer's name for that.
    #[schemars(with = "CustomerRef")]
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_ref: Option<CustomerRef>,
    kind: SaleKind,
    status: OrderStatus,
    /// One of each event, in the order of the request. What was transferred is not among them any more.
    reservations: Vec<OrderedReservation>,
    created_at: Rfc3339,
    /// There when it is held or expired: the end of the hold, of all parts.
    #[schemars(with = "Rfc3339")]
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Rfc3339>,
    /// There when it was cancelled as a whole.
    #[schemars(with = "Rfc3339")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled_at: Option<Rfc3339>,
}

/// A reservation that is a part of an order.
#[derive(Serialize, JsonSchema)]
struct OrderedReservation {
    id: ReservationId,
    event: EventId,
    #[schemars(with = "Quantity")]
    quantity: u32,
    status: ReservationStatus,
}

body! {
    /// Tickets of one to twenty events, all or none. The events' organizer says for whom, and nobody else does.
    struct NewOrder {
        /// How many tickets of which events.
        items: OrderItems,
        /// The time for which they are held, in seconds. If it is left out, they are reserved at once.
        ttl_seconds: Option<HoldTime>,
        /// The organizer's own name for the customer who gets them.
        customer_ref: Option<CustomerRef>,
        /// For tickets without a customer: of guests, or set aside. No limit and no window of the sale holds.
        kind: Option<Unsold>,
    }
    example { "items": [{ "event": 7, "quantity": 2 }, { "event": 9, "quantity": 2 }] }
}

query! {
    /// Which page of an account's orders.
    struct OrdersQuery {
        /// How many orders the page has at most.
        limit: Option<Limit>,
        /// The `next` of the page before; opaque.
        after: Option<Cursor<OrderId>>,
        /// Only those for this customer of the organizer's.
        customer_ref: Option<CustomerRef>,
    }
}

impl Order {
    /// The order with its parts as they are now. Those that are missing are as first given.
    fn new(view: OrderView, now: &BTreeMap<ReservationId, ReservationView>) -> Order {
        let of_order: Vec<ReservationView> =
            view.parts.iter().filter_map(|part| now.get(&part.reservation).cloned()).collect();
        let OrderView { id, buyer, parts, status, created_at, expires_at, cancelled_at } =
            view.with_parts(&of_order);
        let kind = buyer.kind();
        let (customer, customer_ref) = buyer.names();
        let as_first_given = first_status(status);
        let reservations = parts.iter().filter_map(|part| {
            let (quantity, status) = match now.get(&part.reservation) {
                // It was transferred.
                Some(now) if now.order != Some(id) => return None,
                Some(now) => (now.quantity, now.status),
                None => (part.quantity, as_first_given),
            };
            let id = part.reservation;
            Some(OrderedReservation { id, event: id.event, quantity, status })
        });
        Order {
            id,
            customer,
            customer_ref,
            kind,
            status,
            reservations: reservations.collect(),
            created_at: Rfc3339(created_at),
            expires_at: expires_at.map(Rfc3339),
            cancelled_at: cancelled_at.map(Rfc3339),
        }
    }

    /// The order as it was when it was placed or confirmed, whatever became of its parts since.
    fn at_first(view: OrderView) -> Order {
        Order::new(view, &BTreeMap::new())
    }
}

/// The status of a part of which nothing else is known.
fn first_status(order: OrderStatus) -> ReservationStatus {
    match order {
        OrderStatus::Confirmed | OrderStatus::PartlyCancelled => ReservationStatus::Confirmed,
        OrderStatus::Held => ReservationStatus::Held,
        OrderStatus::Cancelled => ReservationStatus::Cancelled,
        OrderStatus::Expired => ReservationStatus::Expired,
    }
}

/// Orders with their parts as they are now. No snapshot: each event's shard answers in its own time.
async fn with_parts(shards: &Shards, orders: Vec<OrderView>) -> Result<Vec<Order>, Refused> {
    let parts = orders.iter().flat_map(|order| order.parts.iter().map(|part| part.reservation));
    let mut parts: Vec<ReservationId> = parts.collect();
    parts.sort_unstable();
    let now = shards.parts(parts.into()).await?.into_iter().map(|part| (part.id, part)).collect();
    Ok(orders.into_iter().map(|order| Order::new(order, &now)).collect())
}

fn example() -> Value {
    json!({
        "id": "31-5",
        "customer": 31,
        "kind": "sale",
        "status": "confirmed",
        "reservations": [
            { "id": "7-42", "event": 7, "quantity": 2, "status": "confirmed" },
            { "id": "9-11", "event": 9, "quantity": 2, "status": "confirmed" },
        ],
        "created_at": "2026-03-02T12:00:00.017Z",
    })
}

const OF_NEW_ORDER: &[Link] =
    &[(&GET, "order", "/id"), (&CONFIRM, "order", "/id"), (&CANCEL, "order", "/id"), OF_PART];
const OF_ORDER: &[Link] = &[(&CANCEL, "order", "/id"), OF_PART];
const OF_PART: Link = (&reservations::GET, "reservation", "/reservations/0/id");

pub(super) static CREATE: Endpoint = Endpoint {
    id: "createOrder",
    method: Method::Post,
    path: "/api/v1/orders",
    access: Access::Only(&[Role::Customer, Role::Organizer], KeyUse::With(Scope::Sell)),
    handler: &Takes(create),
    writes: true,
    headers: &[RequestHeader::IDEMPOTENCY_KEY],
    tag: Tag::Orders,
    summary: "Reserve or hold tickets of several events",
    about: "All or nothing, of 1 to 20 different events: a refusal names every item that cannot be had, and nothing \
            was done. With `ttl_seconds` all are held, and one request confirms or releases all. Each part is also a \
            reservation of its event. It counts as so many changes as it has items. An organizer orders for others, \
            with `customer_ref` or `kind`, tickets of the organizer's own events.",
    successes: &[Success::json::<Order>(201, "All tickets are yours, or held for you.", example)
        .with(&[Header::location("/api/v1/orders/31-5"), Header::REPLAYED])
        .then(OF_NEW_ORDER)],
    problems: &[Kind::OrderRefused, Kind::KeyInFlight, Kind::IdsUsedUp],
};

fn create(
    context: &RequestContext<'_>,
    _: NoParameter,
    _: NoQuery,
    NewOrder { items, ttl_seconds, customer_ref, kind }: NewOrder,
) -> Result<Work, Problem> {
    let (actor, buyer) = (context.actor(), buyer(context, customer_ref, kind)?);
    context.counts_as(items.as_slice().len());
    let place = PlaceOrder { owner: actor.user, actor, buyer, items, time: ttl_seconds };
    context.once(Command::PlaceOrder(Box::new(place)), |outcome| {
        let order = Order::at_first(*view!(Outcome::Order, outcome));
        json_response(201, &order).with("Location", format!("/api/v1/orders/{}", order.id))
    })
}

pub(super) static LIST: Endpoint = Endpoint {
    id: "listOrders",
    method: Method::Get,
    path: "/api/v1/orders",
    access: Access::LoggedIn(KeyUse::With(Scope::EventsRead)),
    handler: &Takes(list),
    writes: false,
    headers: &[],
    tag: Tag::Orders,
    summary: "List one's own orders",
    about: "In the order in which they were placed: what the account ordered, whatever its role is now. The orders of a \
            page are a snapshot; the reservations in them are not: each shard answers in its own time. A page can have \
            fewer orders than `limit`, even none, though there are more: follow `next`.",
    successes: &[Success::json::<Page<Order>>(200, "A page.", || page_example(&example(), "31-5"))
        .with(&[Header::LINK])
        .then(&[(&GET, "order", "/items/0/id"), (&CANCEL, "order", "/items/0/id")])],
    problems: &[],
};

fn list(
    context: &RequestContext<'_>,
    _: NoParameter,
    OrdersQuery { limit, after, customer_ref }: OrdersQuery,
    _: NoBody,
) -> Result<Work, Problem> {
    let Limit(limit) = limit.unwrap_or_default();
    let after = after.map(|Cursor(order)| order.number);
    let owner = context.actor().user;
    let shards = context.api.shards.clone();
    Ok(Work::future(async move {
        let mut address = "/api/v1/orders".to_owned();
        if let Some(customer_ref) = &customer_ref {
            address.push('?');
            address.push_str(&parameter(customer_ref));
        }
        let slice = shards.orders(owner, after, customer_ref, limit).await?;
        let next = slice.next.map(|number| OrderId { user: owner, number }.to_string());
        let page = Page::up_to(with_parts(&shards, slice.views).await?, next);
        Ok(page.respond(&address, limit))
    }))
}

pub(super) static GET: Endpoint = Endpoint {
    id: "getOrder",
    method: Method::Get,
    path: "/api/v1/orders/{order}",
    access: Access::LoggedIn(KeyUse::With(Scope::EventsRead)),
    handler: &Takes(get),
    writes: false,
    headers: &[],
    tag: Tag::Orders,
    summary: "View an order",
    about: "For the account that placed it, and for admins; to others it does not exist. Tickets of it that were given \
            back alone are in it as cancelled. No snapshot: each event's shard answers in its own time.",
    successes: &[Success::json::<Order>(200, "The order.", example).then(OF_ORDER)],
    problems: &[],
};

fn get(context: &RequestContext<'_>, order: OrderId, _: NoQuery, _: NoBody) -> Result<Work, Problem> {
    let (actor, shards) = (context.actor(), context.api.shards.clone());
    Ok(Work::future(async move {
        let order = shards.order(order, actor).await?;
        let order = with_parts(&shards, vec![order]).await?.pop().expect("as many as there were");
        Ok(json_response(200, &order))
    }))
}

pub(super) static CONFIRM: Endpoint = Endpoint {
    id: "confirmOrder",
    method: Method::Post,
    path: "/api/v1/orders/{order}/confirm",
    access: Access::LoggedIn(KeyUse::With(Scope::Sell)),
    handler: &Takes(confirm),
    writes: true,
    headers: &[RequestHeader::IDEMPOTENCY_KEY],
    tag: Tag::Orders,
    summary: "Confirm a held order",
    about: "For the account that placed it, whatever its role is now. All its holds become reservations, or none: if one \
            was released alone or its event is deleted, the answer is 409 and names it. A repeat changes nothing and has \
            the same answer.",
    successes: &[Success::json::<Order>(
        200,
        "All tickets are yours, as they are when that is first so.",
        example,
    )
    .with(&[Header::REPLAYED])
    .then(OF_ORDER)],
    problems: &[
        Kind::Forbidden,
        Kind::HoldExpired,
        Kind::HoldReleased,
        Kind::OrderPartsGone,
        Kind::OrderBusy,
        Kind::KeyInFlight,
    ],
};

fn confirm(context: &RequestContext<'_>, order: OrderId, _: NoQuery, _: NoBody) -> Result<Work, Problem> {
    let command = Command::ConfirmOrder { order, actor: context.actor() };
    context.once(command, |outcome| json_response(200, &Order::at_first(*view!(Outcome::Order, outcome))))
}

pub(super) static CANCEL: Endpoint = Endpoint {
    id: "cancelOrder",
    method: Method::Delete,
    path: "/api/v1/orders/{order}",
    access: Access::LoggedIn(KeyUse::With(Scope::Sell)),
    handler: &Takes(cancel),
    writes: true,
    headers: &[],
    tag: Tag::Orders,
    summary: "Cancel or release an order",
    about: "For the account that placed it, whatever its role is now, and for admins. All its tickets that are reserved or \
            held are for sale again, once; a repeat does nothing, and neither does a release of an order that is over.",
    successes: &[Success::empty(204, "None of its tickets is reserved or held any more.")],
    problems: &[Kind::Forbidden],
};

fn cancel(context: &RequestContext<'_>, order: OrderId, _: NoQuery, _: NoBody) -> Result<Work, Problem> {
    let command = Command::CancelOrder { order, actor: context.actor() };
    Ok(Work::command(command, |_| Response::empty(204)))
}
