//! An event's reservations: a page as JSON, or all of them as lines of JSON or as CSV.

mod csv;
mod stream;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde_json::{Value, json};
use shards::api_keys::Scope;
use shards::command::{Actor, Buyer, CustomerRef, Query};
use shards::ids::{EventId, ReservationNumber, Role, UserId, Username};
use shards::outcome::{ReservationSlice, ReservationView, Statuses};

use super::buyers::parameter;
use super::context::RequestContext;
use super::endpoint::{Access, Endpoint, Header, KeyUse, Success, Tag, Takes};
use super::input::{Cursor, Limit, NoBody, StatusFilter, query};
use super::output::{Page, ToJson, page_example};
use super::reservations::{self, OF_RESERVATIONS, Reservation};
use super::work::Work;
use crate::client::{Refused, Shards};
use crate::front::http::parse::Method;
use crate::front::http::write::{CSV, JSON, NDJSON};
use crate::front::problem::{FieldErrors, Kind, Problem};
use stream::List;

/// A reservation, as those who manage its event see it.
#[derive(JsonSchema)]
struct EventReservation {
    #[schemars(flatten)]
    reservation: Reservation,
    /// The username of `customer`, also if that account was removed; null if there is none.
    customer_name: Option<Username>,
}

impl ToJson for EventReservation {
    fn append_to(&self, text: &mut Vec<u8>) {
        self.reservation.append_members(text);
        text.extend_from_slice(b",\"customer_name\":");
        self.customer_name.append_to(text);
        text.push(b'}');
    }
}

query! {
    /// Which of an event's reservations.
    struct EventReservationsQuery {
        /// How many reservations a page of JSON has at most. The other forms have no pages, and refuse it.
        limit: Option<Limit>,
        /// The `next` of the page before. To go on with a list of another form, the number of the last reservation that
        /// came: what is behind the hyphen of its id.
        after: Option<Cursor<ReservationNumber>>,
        /// Only those with one of these statuses, separated by commas. A page may then have fewer than `limit`, even
        /// none, and there are more as long as `next` is not null.
        status: Option<StatusFilter>,
        /// Only those of this customer of the organizer.
        customer_ref: Option<CustomerRef>,
    }
}

/// Which reservations a list has, and who reads it.
#[derive(Clone)]
struct Wanted {
    event: EventId,
    actor: Actor,
    after: Option<u32>,
    up_to: Option<u32>,
    statuses: Statuses,
    customer_ref: Option<CustomerRef>,
}

/// A part of a list, as of a commit.
struct Slice {
    items: Vec<EventReservation>,
    /// The rest of what is wanted begins after this number.
    next: Option<u32>,
    /// The position of the event.
    position: u64,
    /// The number of the event's last reservation.
    last: u32,
}

impl Wanted {
    /// Asks for the first reservations. The usernames are asked for with one question.
    async fn slice(self, shards: &Shards, limit: usize) -> Result<Slice, Refused> {
        let Wanted { event, actor, after, up_to, statuses, customer_ref } = self;
        let query = Query::EventReservations { event, actor, after, up_to, statuses, customer_ref, limit };
        let ReservationSlice { views, next, position, last } = *shards.reservation_slice(query).await?;
        let customers: BTreeSet<UserId> = views.iter().filter_map(customer_of).collect();
        let names = if customers.is_empty() {
            BTreeMap::new()
        } else {
            shards.usernames(customers.into_iter().collect()).await?
        };
        let named = |view| EventReservation {
            customer_name: customer_of(&view).and_then(|customer| names.get(&customer)).cloned(),
            reservation: Reservation::from(view),
        };
        let items = views.into_iter().map(named).collect();
        Ok(Slice { items, next, position: position.0, last })
    }
}

fn customer_of(view: &ReservationView) -> Option<UserId> {
    match view.buyer {
        Buyer::Account(customer) => Some(customer),
        Buyer::Ref(_) | Buyer::Guest | Buyer::Block => None,
    }
}

const PATH: &str = "/api/v1/events/{event}/reservations";

const POSITION: Header = Header {
    name: "Boxoffice-Position",
    about: "The `position` of the event when the list began. Reservations that are made later are not in it.",
    example: "1041",
};
const DISPOSITION: Header = Header {
    name: "Content-Disposition",
    about: "The name of a file for the list.",
    example: "attachment; filename=\"event-7-reservations.csv\"",
};
const NDJSON_HEADERS: &[Header] = &[Header::VARY_ACCEPT, Header::NO_STORE, POSITION];
const CSV_HEADERS: &[Header] = &[Header::VARY_ACCEPT, Header::NO_STORE, POSITION, DISPOSITION];

fn example() -> Value {
    let mut example = reservations::example();
    example["customer_name"] = json!("ada");
    example
}

pub(super) static LIST: Endpoint = Endpoint {
    id: "listEventReservations",
    method: Method::Get,
    path: PATH,
    access: Access::Only(&[Role::Organizer, Role::Admin], KeyUse::With(Scope::EventsRead)),
    handler: &Takes(list),
    writes: false,
    headers: &[],
    tag: Tag::Reservations,
    summary: "List an event's reservations",
    about: "By number, for its organizer and for admins. Those of a deleted event are all cancelled, except holds that had expired before. \
            With `Accept: application/x-ndjson` (an object a line) or `text/csv`, the whole list, which is sent while it is \
            read: those that there are when it begins, each as it is when it is sent. It is complete if the body ends \
            as HTTP says (the last chunk); otherwise go on with `after`.",
    successes: &[
        Success::json::<Page<EventReservation>>(200, "A page, or the whole list.", || {
            page_example(&example(), "42")
        })
        .with(&[Header::VARY_ACCEPT, Header::LINK])
        .then(OF_RESERVATIONS),
        Success::text("The whole list, an object a line.", NDJSON, stream::NDJSON_EXAMPLE)
            .with(NDJSON_HEADERS),
        Success::text("The whole list, as a table.", CSV, csv::EXAMPLE).with(CSV_HEADERS),
    ],
    problems: &[Kind::NotYours],
};

fn list(
    context: &RequestContext<'_>,
    event: EventId,
    EventReservationsQuery { limit, after, status, customer_ref }: EventReservationsQuery,
    _: NoBody,
) -> Result<Work, Problem> {
    let wanted = Wanted {
        event,
        actor: context.actor(),
        after: after.map(|Cursor(number)| number.0),
        up_to: None,
        statuses: status.map_or(Statuses::ALL, |StatusFilter(statuses)| statuses),
        customer_ref,
    };
    let shards = context.api.shards.clone();
    let form = context.form()?;
    if form == JSON {
        let Limit(limit) = limit.unwrap_or_default();
        return Ok(Work::future(async move {
            let address = address(&wanted);
            let Slice { items, next, .. } = wanted.slice(&shards, limit).await?;
            let page = Page::up_to(items, next.map(|number| number.to_string()));
            Ok(page.respond(&address, limit).with("Vary", "Accept".to_owned()))
        }));
    }
    if limit.is_some() {
        let rule = format!("is for pages of JSON, and {form} has none: leave it out, or ask for {JSON}");
        return Err(Problem::invalid(&FieldErrors::of("?limit", rule)));
    }
    let list = List::new(wanted, form, context.lasting_token()?, shards);
    Ok(Work::future(list.begin()))
}

/// The address of the list's next page, without the page.
fn address(wanted: &Wanted) -> String {
    let address = PATH.replace("{event}", &wanted.event.to_string());
    let mut filters = Vec::new();
    if wanted.statuses != Statuses::ALL {
        let names: Vec<&str> = wanted.statuses.iter().map(|status| status.as_str()).collect();
        filters.push(format!("status={}", names.join(",")));
    }
    if let Some(customer_ref) = &wanted.customer_ref {
        filters.push(parameter(customer_ref));
    }
    if filters.is_empty() { address } else { format!("{address}?{}", filters.join("&")) }
}
