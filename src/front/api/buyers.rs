//! For whom a request takes tickets: the customer who sends it, or whom the event's organizer sells to.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;
use shards::command::{Buyer, CustomerRef};
use shards::ids::{Role, Username};

use super::context::RequestContext;
use super::input::Member;
use crate::front::problem::{FieldErrors, Kind, Problem};

/// What is encoded in a query: all but the characters that RFC 3986 does not reserve.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The parameter of a list's address that names a customer.
pub(super) fn parameter(customer_ref: &CustomerRef) -> String {
    format!("customer_ref={}", utf8_percent_encode(customer_ref.as_str(), RESERVED))
}

/// What an organizer takes tickets for without a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(super) enum Unsold {
    // No doc comments: with them, schemars makes a `oneOf` of constants, which some generators of clients cannot read.
    Guest,
    Block,
}

impl Member for Unsold {
    fn from_json(value: &Value) -> Result<Unsold, String> {
        match value.as_str() {
            Some("guest") => Ok(Unsold::Guest),
            Some("block") => Ok(Unsold::Block),
            _ => Err("must be `guest` or `block`".to_owned()),
        }
    }
}

/// Who gets the tickets that the sender of a request asks for. That an organizer's event is the organizer's own, its
/// shard checks.
///
/// # Errors
///
/// 403, when a customer asks for somebody else, or another role without saying for whom; 422 for two buyers.
pub(super) fn buyer(
    context: &RequestContext<'_>,
    customer_ref: Option<CustomerRef>,
    kind: Option<Unsold>,
) -> Result<Buyer, Problem> {
    let actor = context.actor();
    let is_organizer = actor.role == Role::Organizer;
    match (customer_ref, kind) {
        (None, None) if actor.role == Role::Customer => Ok(Buyer::Account(actor.user)),
        (None, None) => Err(Problem::new(
            Kind::Forbidden,
            "Organizers sell tickets of their own events to others: say to whom with `customer_ref`, or send `kind`, \
             `guest` or `block`. For yourself, log in with a customer's account.",
        )),
        (_, _) if !is_organizer => Err(not_for_customers("`customer_ref` or `kind`")),
        (Some(customer_ref), None) => Ok(Buyer::Ref(customer_ref)),
        (None, Some(Unsold::Guest)) => Ok(Buyer::Guest),
        (None, Some(Unsold::Block)) => Ok(Buyer::Block),
        (Some(_), Some(_)) => {
            let rule =
                "must be left out beside `customer_ref`: tickets of a guest or a block have no customer";
            Err(Problem::invalid(&FieldErrors::of("/kind", rule)))
        }
    }
}

fn not_for_customers(what: &str) -> Problem {
    let detail = format!(
        "Only the event's organizer sells to others: send the request without {what}, or as the organizer."
    );
    Problem::new(Kind::Forbidden, detail)
}

/// Who gets tickets by a transfer.
pub(super) enum Receiver {
    Username(Username),
    CustomerRef(CustomerRef),
}

impl Receiver {
    /// # Errors
    ///
    /// 403, when the sender of the request does not sell to refs.
    pub(super) fn check_for(&self, context: &RequestContext<'_>) -> Result<(), Problem> {
        match self {
            Receiver::Username(_) => Ok(()),
            Receiver::CustomerRef(_) if context.actor().role == Role::Organizer => Ok(()),
            Receiver::CustomerRef(_) => Err(not_for_customers("`customer_ref`, with a `username`")),
        }
    }
}

impl Member for Receiver {
    fn from_json(value: &Value) -> Result<Receiver, String> {
        let members = value.as_object().filter(|members| members.len() == 1);
        let named = |name| members.and_then(|members| members.get(name));
        let of = |name: &str, error: String| format!("has a wrong `{name}`, which {error}");
        match (named("username"), named("customer_ref")) {
            (Some(username), _) => {
                Username::from_json(username).map(Receiver::Username).map_err(|error| of("username", error))
            }
            (_, Some(customer_ref)) => CustomerRef::from_json(customer_ref)
                .map(Receiver::CustomerRef)
                .map_err(|error| of("customer_ref", error)),
            (None, None) => {
                Err("must be an object with one member: `username` of a customer, or `customer_ref`"
                    .to_owned())
            }
        }
    }
}

impl JsonSchema for Receiver {
    fn schema_name() -> Cow<'static, str> {
        "Receiver".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [
                {
                    "description": "A customer with an account.",
                    "type": "object",
                    "properties": { "username": generator.subschema_for::<Username>() },
                    "required": ["username"],
                    "additionalProperties": false,
                },
                {
                    "description": "A customer of the event's organizer.",
                    "type": "object",
                    "properties": { "customer_ref": generator.subschema_for::<CustomerRef>() },
                    "required": ["customer_ref"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}
