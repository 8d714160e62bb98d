//! Path parameters: read once, beside what the contract says of them.

use serde_json::{Value, json};
use shards::ids::{ApiKeyNumber, EventId, OrderId, ReservationId, UserId};
use shards::schema::ID_PATTERN;

/// What the contract says of a path parameter.
pub(in crate::front) struct PathParameter {
    /// As it stands in the braces.
    pub(in crate::front) name: &'static str,
    pub(in crate::front) about: &'static str,
    pub(in crate::front) schema: fn() -> Value,
}

/// What a handler takes of a request's path.
pub(in crate::front) trait FromPath: Sized {
    const PARAMETER: Option<PathParameter>;

    /// `None` when the text names nothing that could exist (404).
    fn read(text: &str) -> Option<Self>;
}

/// A path without a parameter.
pub(in crate::front::api) struct NoParameter;

impl FromPath for NoParameter {
    const PARAMETER: Option<PathParameter> = None;

    fn read(_: &str) -> Option<NoParameter> {
        Some(NoParameter)
    }
}

fn id_schema() -> Value {
    json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX })
}

impl FromPath for EventId {
    const PARAMETER: Option<PathParameter> =
        Some(PathParameter { name: "event", about: "The event's id.", schema: id_schema });

    fn read(text: &str) -> Option<EventId> {
        text.parse().ok()
    }
}

impl FromPath for UserId {
    const PARAMETER: Option<PathParameter> =
        Some(PathParameter { name: "user", about: "The account's id.", schema: id_schema });

    fn read(text: &str) -> Option<UserId> {
        text.parse().ok()
    }
}

impl FromPath for ApiKeyNumber {
    const PARAMETER: Option<PathParameter> =
        Some(PathParameter { name: "key", about: "The key's id, among the organizer's.", schema: id_schema });

    fn read(text: &str) -> Option<ApiKeyNumber> {
        text.parse().ok()
    }
}

impl FromPath for ReservationId {
    const PARAMETER: Option<PathParameter> = Some(PathParameter {
        name: "reservation",
        about: "The reservation's id: the event's, and its number there.",
        schema: || json!({ "type": "string", "pattern": format!("^{ID_PATTERN}-{ID_PATTERN}$") }),
    });

    fn read(text: &str) -> Option<ReservationId> {
        text.parse().ok()
    }
}

impl FromPath for OrderId {
    const PARAMETER: Option<PathParameter> = Some(PathParameter {
        name: "order",
        about: "The order's id: the account's, and its number there.",
        schema: || json!({ "type": "string", "pattern": format!("^{ID_PATTERN}-{ID_PATTERN}$") }),
    });

    fn read(text: &str) -> Option<OrderId> {
        text.parse().ok()
    }
}
