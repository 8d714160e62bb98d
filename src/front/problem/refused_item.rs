//! An item of a refused order, as clients see it.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::Value;
use shards::ids::EventId;
use shards::outcome;

use super::Problem;

/// The event, and the members of the problem that a reservation of its tickets alone would have.
#[derive(Serialize)]
pub(super) struct RefusedItem {
    event: EventId,
    #[serde(flatten)]
    problem: Value,
}

impl From<outcome::RefusedItem> for RefusedItem {
    fn from(item: outcome::RefusedItem) -> RefusedItem {
        let outcome::RefusedItem { event, why } = item;
        RefusedItem { event, problem: Problem::from(why).body() }
    }
}

impl JsonSchema for RefusedItem {
    fn schema_name() -> Cow<'static, str> {
        "RefusedItem".into()
    }

    /// Open, since each kind of problem has members of its own.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An item of an order that cannot be had, and why.",
            "type": "object",
            "properties": {
                "event": generator.subschema_for::<EventId>(),
                "type": { "type": "string", "description": "The kind of problem.", "examples": ["/problems/sold-out"] },
                "title": { "type": "string" },
                "status": { "type": "integer", "minimum": 400, "maximum": 599 },
                "detail": { "type": "string", "description": "What is wrong with this item, and what to change." },
                "remaining": { "type": "integer", "minimum": 0, "description": "There when it is sold out: the tickets that are left." },
            },
            "required": ["event", "type", "title", "status", "detail"],
        })
    }
}
