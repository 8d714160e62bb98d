//! The JSON forms of the domain's types, as JSON Schema 2020-12, made from the
//! bounds that their readers have.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::api_keys::Scope;
use crate::command::{CustomerRef, OrderItem, OrderItems, SaleKind};
use crate::details::{EventName, Venue};
use crate::ids::{
    ApiKeyNumber, EventId, HoldTime, OrderId, Quantity, Quota, ReservationId, ReservationNumber, UserId,
    Username,
};
use crate::limits::{
    CUSTOMER_REF_CHARS_MAX, EVENT_NAME_CHARS_MAX, HOLD_SECONDS_DEFAULT, HOLD_SECONDS_MAX, HOLD_SECONDS_MIN,
    ORDER_ITEMS_MAX, QUOTA_MAX, USERNAME_BYTES_MAX, USERNAME_BYTES_MIN, VENUE_CHARS_MAX,
};
use crate::outcome::{OrderStatus, ReservationStatus};

/// The texts that an id has: the numbers from 1 to 4294967295, without leading zeros.
pub const ID_PATTERN: &str = "([1-9][0-9]{0,8}|[1-3][0-9]{9}|4[01][0-9]{8}|42[0-8][0-9]{7}\
    |429[0-3][0-9]{6}|4294[0-8][0-9]{5}|42949[0-5][0-9]{4}|429496[0-6][0-9]{3}|4294967[01][0-9]{2}\
    |42949672[0-8][0-9]|429496729[0-5])";

/// Some character that is no white space, and no control character: as much of the rules of a line as expressions of
/// ECMAScript say without a table of all characters.
const READABLE_PATTERN: &str =
    r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$";

macro_rules! schemas {
    ($($type:ident { $($form:tt)* })*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ $($form)* })
            }
        }
    )*};
}

schemas! {
    EventId {
        "description": "An event's number. Given out once, never again.",
        "type": "integer",
        "minimum": 1,
        "maximum": u32::MAX,
        "examples": [7],
    }
    UserId {
        "description": "An account's number. Given out once, never again.",
        "type": "integer",
        "minimum": 1,
        "maximum": u32::MAX,
        "examples": [12],
    }
    ApiKeyNumber {
        "description": "Which of its organizer's API keys. Given out once, never again.",
        "type": "integer",
        "minimum": 1,
        "maximum": u32::MAX,
        "examples": [3],
    }
    Scope {
        "description": "A use of an API key.",
        "type": "string",
        "enum": ["events:read", "events:write", "sell"],
        "examples": ["sell"],
    }
    ReservationNumber {
        "description": "Which of its event's reservations.",
        "type": "integer",
        "minimum": 1,
        "maximum": u32::MAX,
        "examples": [42],
    }
    ReservationId {
        "description": "The event's number, and which of its reservations this is.",
        "type": "string",
        "pattern": format!("^{ID_PATTERN}-{ID_PATTERN}$"),
        "examples": ["7-42"],
    }
    OrderId {
        "description": "The number of the account that placed it, and which of its orders this is.",
        "type": "string",
        "pattern": format!("^{ID_PATTERN}-{ID_PATTERN}$"),
        "examples": ["31-5"],
    }
    // No `enum`: a client that is generated from one refuses the values of later versions.
    ReservationStatus {
        "description": "What has become of it: `confirmed`; `held`: not confirmed yet; `cancelled`; `expired`: not confirmed in time. Later versions have more values.",
        "type": "string",
        "x-extensible-enum": ["confirmed", "held", "cancelled", "expired"],
        "examples": ["confirmed"],
    }
    OrderStatus {
        "description": "What has become of it: `confirmed`; `held`: not confirmed yet; `cancelled`; `expired`: not confirmed in time; `partly_cancelled`: some of its tickets were given back. Later versions have more values.",
        "type": "string",
        "x-extensible-enum": ["confirmed", "held", "cancelled", "expired", "partly_cancelled"],
        "examples": ["confirmed"],
    }
    SaleKind {
        "description": "What a reservation is to its event's organizer: `sale`: tickets of a customer; `guest`: tickets of a guest or walk-in; `block`: tickets that are set aside, and nobody's. Later versions have more values.",
        "type": "string",
        "x-extensible-enum": ["sale", "guest", "block"],
        "examples": ["sale"],
    }
    Quantity {
        "description": "Tickets.",
        "type": "integer",
        "minimum": 1,
        "maximum": QUOTA_MAX,
        "examples": [2],
    }
    HoldTime {
        "description": "The time of a hold, in seconds.",
        "type": "integer",
        "minimum": HOLD_SECONDS_MIN,
        "maximum": HOLD_SECONDS_MAX,
        "default": HOLD_SECONDS_DEFAULT,
        "examples": [300],
    }
    Quota {
        "description": "The most tickets that can be reserved at once.",
        "type": "integer",
        "minimum": 0,
        "maximum": QUOTA_MAX,
        "examples": [500],
    }
    Username {
        "description": "A name to log in with. Upper case is folded to lower, so that `Ada` and `ada` are one account.",
        "type": "string",
        "minLength": USERNAME_BYTES_MIN,
        "maxLength": USERNAME_BYTES_MAX,
        "pattern": "^[A-Za-z0-9._-]*$",
        "examples": ["ada"],
    }
    EventName {
        "description": "What an event is called: visible text, without control, reordering or unassigned characters. Joiners, variation selectors and tags may follow a visible character; nothing else that is invisible is allowed.",
        "type": "string",
        "minLength": 1,
        "maxLength": EVENT_NAME_CHARS_MAX,
        "pattern": READABLE_PATTERN,
        "examples": ["Recital"],
    }
    CustomerRef {
        "description": "An organizer's own name for a customer: visible text, as a venue's. Another case is another name.",
        "type": "string",
        "minLength": 1,
        "maxLength": CUSTOMER_REF_CHARS_MAX,
        "pattern": READABLE_PATTERN,
        "examples": ["shop-1042"],
    }
    Venue {
        "description": "Where an event takes place: visible text, without control, reordering or unassigned characters. Joiners, variation selectors and tags may follow a visible character; nothing else that is invisible is allowed.",
        "type": "string",
        "minLength": 1,
        "maxLength": VENUE_CHARS_MAX,
        "pattern": READABLE_PATTERN,
        "examples": ["Main hall, 1 Opera Square"],
    }
}

impl JsonSchema for OrderItem {
    fn schema_name() -> Cow<'static, str> {
        "OrderItem".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Tickets of one event.",
            "type": "object",
            "properties": {
                "event": generator.subschema_for::<EventId>(),
                "quantity": generator.subschema_for::<Quantity>(),
            },
            "required": ["event", "quantity"],
            "additionalProperties": false,
        })
    }
}

impl JsonSchema for OrderItems {
    fn schema_name() -> Cow<'static, str> {
        "OrderItems".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Tickets of different events.",
            "type": "array",
            "items": generator.subschema_for::<OrderItem>(),
            "minItems": 1,
            "maxItems": ORDER_ITEMS_MAX,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form<T: JsonSchema>() -> Schema {
        T::json_schema(&mut SchemaGenerator::default())
    }

    /// The readers, asked about each bound that a schema names, and what is next to it.
    #[test]
    fn bounds_are_those_of_the_readers() {
        let bound = |schema: Schema, name: &str| schema.get(name).and_then(|bound| bound.as_u64()).unwrap();
        for (least, most, takes) in [
            (
                bound(form::<Quota>(), "minimum"),
                bound(form::<Quota>(), "maximum"),
                (|n| Quota::new(n).is_some()) as fn(u64) -> bool,
            ),
            (bound(form::<Quantity>(), "minimum"), bound(form::<Quantity>(), "maximum"), |n| {
                Quantity::new(n).is_some()
            }),
            (bound(form::<EventId>(), "minimum"), bound(form::<EventId>(), "maximum"), |n| {
                n.to_string().parse::<EventId>().is_ok()
            }),
            (bound(form::<UserId>(), "minimum"), bound(form::<UserId>(), "maximum"), |n| {
                n.to_string().parse::<UserId>().is_ok()
            }),
            (bound(form::<Username>(), "minLength"), bound(form::<Username>(), "maxLength"), |n| {
                Username::new(&"a".repeat(n as usize)).is_ok()
            }),
            (bound(form::<EventName>(), "minLength"), bound(form::<EventName>(), "maxLength"), |n| {
                EventName::new(&"é".repeat(n as usize)).is_ok()
            }),
            (bound(form::<CustomerRef>(), "minLength"), bound(form::<CustomerRef>(), "maxLength"), |n| {
                CustomerRef::new(&"é".repeat(n as usize)).is_ok()
            }),
            (bound(form::<Venue>(), "minLength"), bound(form::<Venue>(), "maxLength"), |n| {
                Venue::new(&"é".repeat(n as usize)).is_ok()
            }),
        ] {
            assert!(takes(least) && takes(most) && !takes(most + 1), "{least} to {most}");
            assert!(least == 0 || !takes(least - 1), "below {least}");
        }
    }
}
