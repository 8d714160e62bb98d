//! The types that a member of a JSON body can have.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;
use shards::command::{CustomerRef, OrderItem, OrderItems};
use shards::details::{EventName, Venue};
use shards::ids::{EventId, HoldTime, Quantity, Quota, ReservationId, UserId, Username};
use shards::limits::{HOLD_SECONDS_MAX, HOLD_SECONDS_MIN, ORDER_ITEMS_MAX, QUOTA_MAX};

use super::json::ITEMS_KEPT;

/// A type of a member: how it is read, beside its schema.
pub(in crate::front) trait Member: JsonSchema + Sized {
    /// `value` is as a body's reader gives it: a whole number in any notation is a `u64`.
    ///
    /// # Errors
    ///
    /// What the value has to be, in words for its author.
    fn from_json(value: &Value) -> Result<Self, String>;
}

impl Member for String {
    fn from_json(value: &Value) -> Result<String, String> {
        value.as_str().map(str::to_owned).ok_or_else(|| "must be a string".to_owned())
    }
}

impl Member for UserId {
    fn from_json(value: &Value) -> Result<UserId, String> {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|&id| id > 0);
        id.map(UserId).ok_or_else(|| format!("must be a whole number from 1 to {}", u32::MAX))
    }
}

impl Member for Quantity {
    fn from_json(value: &Value) -> Result<Quantity, String> {
        let tickets = value.as_u64().and_then(Quantity::new);
        tickets.ok_or_else(|| format!("must be a whole number from 1 to {QUOTA_MAX}"))
    }
}

impl Member for HoldTime {
    fn from_json(value: &Value) -> Result<HoldTime, String> {
        let time = value.as_u64().and_then(HoldTime::from_seconds);
        time.ok_or_else(|| {
            format!("must be a whole number of seconds from {HOLD_SECONDS_MIN} to {HOLD_SECONDS_MAX}")
        })
    }
}

impl Member for Quota {
    fn from_json(value: &Value) -> Result<Quota, String> {
        let tickets = value.as_u64().and_then(Quota::new);
        tickets.ok_or_else(|| format!("must be a whole number from 0 to {QUOTA_MAX}"))
    }
}

impl Member for EventName {
    fn from_json(value: &Value) -> Result<EventName, String> {
        EventName::new(&String::from_json(value)?).map_err(|error| error.to_string())
    }
}

impl Member for Venue {
    fn from_json(value: &Value) -> Result<Venue, String> {
        Venue::new(&String::from_json(value)?).map_err(|error| error.to_string())
    }
}

/// The most reservations that one request cancels. They are awaited by one client, who waits for some commits.
const CANCELLATIONS_MAX: usize = 100;
const _: () = assert!(CANCELLATIONS_MAX < ITEMS_KEPT);

/// Reservations to cancel.
#[derive(JsonSchema)]
#[schemars(transparent, inline)]
pub(in crate::front::api) struct ReservationIds(
    #[schemars(length(min = 1, max = CANCELLATIONS_MAX))] pub(in crate::front::api) Vec<ReservationId>,
);

impl Member for ReservationIds {
    fn from_json(value: &Value) -> Result<ReservationIds, String> {
        let items = value.as_array().filter(|items| (1..=CANCELLATIONS_MAX).contains(&items.len()));
        let items =
            items.ok_or_else(|| format!("must be a list of 1 to {CANCELLATIONS_MAX} reservation ids"))?;
        let id = |(index, item): (usize, &Value)| {
            let id = item.as_str().and_then(|text| text.parse().ok());
            id.ok_or_else(|| {
                format!(
                    "must have only reservation ids, such as \"7-42\"; item {} of the list is none",
                    index + 1
                )
            })
        };
        items.iter().enumerate().map(id).collect::<Result<_, _>>().map(ReservationIds)
    }
}

impl Member for EventId {
    fn from_json(value: &Value) -> Result<EventId, String> {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|&id| id > 0);
        id.map(EventId).ok_or_else(|| format!("must be a whole number from 1 to {}", u32::MAX))
    }
}

impl Member for OrderItem {
    fn from_json(value: &Value) -> Result<OrderItem, String> {
        const MEMBERS: [&str; 2] = ["event", "quantity"];
        let members = value.as_object().ok_or("is no object with `event` and `quantity`")?;
        if let Some(name) = members.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
            return Err(format!("has the member `{name}`; it may have `event` and `quantity`"));
        }
        let member = |name| members.get(name).ok_or_else(|| format!("has no `{name}`"));
        let of = |name, error| format!("has a wrong `{name}`, which {error}");
        let event = EventId::from_json(member("event")?).map_err(|error| of("event", error))?;
        let quantity = Quantity::from_json(member("quantity")?).map_err(|error| of("quantity", error))?;
        Ok(OrderItem { event, quantity })
    }
}

const _: () = assert!(ORDER_ITEMS_MAX < ITEMS_KEPT);

impl Member for OrderItems {
    fn from_json(value: &Value) -> Result<OrderItems, String> {
        let items = value.as_array().ok_or("must be a list of items, each with `event` and `quantity`")?;
        let item = |(index, item): (usize, &Value)| {
            OrderItem::from_json(item).map_err(|error| format!("item {} of the list {error}", index + 1))
        };
        let items = items.iter().take(ORDER_ITEMS_MAX + 1).enumerate().map(item).collect::<Result<_, _>>()?;
        OrderItems::new(items).map_err(|error| error.to_string())
    }
}

/// A member that may be null: without a value, or no longer with one.
pub(in crate::front::api) struct Nullable<T>(pub(in crate::front::api) Option<T>);

impl<T: Member> Member for Nullable<T> {
    fn from_json(value: &Value) -> Result<Nullable<T>, String> {
        if value.is_null() {
            return Ok(Nullable(None));
        }
        let given = T::from_json(value).map_err(|detail| format!("{detail}, or null"))?;
        Ok(Nullable(Some(given)))
    }
}

impl<T: JsonSchema> JsonSchema for Nullable<T> {
    fn schema_name() -> Cow<'static, str> {
        Option::<T>::schema_name()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

impl Member for CustomerRef {
    fn from_json(value: &Value) -> Result<CustomerRef, String> {
        CustomerRef::new(&String::from_json(value)?).map_err(|error| error.to_string())
    }
}

impl Member for Username {
    fn from_json(value: &Value) -> Result<Username, String> {
        Username::new(&String::from_json(value)?).map_err(|error| error.to_string())
    }
}
