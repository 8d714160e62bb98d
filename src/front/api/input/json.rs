//! A JSON object as its members in order, duplicates included, each name borrowed from the body
//! where possible.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The most members of the object that is a body: far more than any body of the API has. Objects inside of it
/// are not counted.
const MEMBERS_MAX: usize = 100;

/// The error of a body with more.
pub(super) const TOO_MANY_MEMBERS: &str = "has more than 100 members";
const _: () = assert!(MEMBERS_MAX == 100, "the error says so");

/// A JSON text, as far as a body is concerned.
pub(super) enum Json<'b> {
    Object(Vec<(Cow<'b, str>, Value)>),
    Other,
}

/// The first name that an earlier member has already.
pub(super) fn repeated<'m>(members: &'m [(Cow<'_, str>, Value)]) -> Option<&'m str> {
    if members.len() < 2 {
        return None;
    }
    let mut names = BTreeSet::new();
    members.iter().map(|(name, _)| &**name).find(|name| !names.insert(*name))
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json<'de>, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some((Name(name), value)) = map.next_entry()? {
            if members.len() == MEMBERS_MAX {
                return Err(A::Error::custom(TOO_MANY_MEMBERS));
            }
            members.push((name, value));
        }
        Ok(Json::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        while items.next_element::<Value>()?.is_some() {}
        Ok(Json::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }
}

/// A member's name.
#[derive(serde::Deserialize)]
struct Name<'b>(#[serde(borrow)] Cow<'b, str>);
