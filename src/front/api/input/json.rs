//! A JSON object as its members in order, duplicates included, each name borrowed from the body
//! where possible.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::iter;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use smallvec::SmallVec;

/// The most members of the object that is a body: far more than any body of the API has. Objects inside of it
/// are not counted, and lose their content.
const MEMBERS_MAX: usize = 100;

/// The error of a body with more.
const TOO_MANY_MEMBERS: &str = "has more than 100 members";
const _: () = assert!(MEMBERS_MAX == 100, "the error says so");

/// The error of an object inside of a body. RFC 8259 section 4 does not say which of two members counts.
const MEMBER_TWICE: &str = "has an object in it with a member that is there twice";

/// What [`read`] refuses though it is JSON, as the starts of its errors.
pub(super) const RULES: [&str; 2] = [TOO_MANY_MEMBERS, MEMBER_TWICE];

/// Names and values. Most bodies have one or two.
pub(super) type Members<'b> = SmallVec<[(Cow<'b, str>, Value); 2]>;

/// A JSON text, as far as a body is concerned. A member is read as [`member_value`] says.
pub(super) enum Json<'b> {
    Object(Members<'b>),
    Other,
}

/// Reads a body.
///
/// # Errors
///
/// When it is not JSON, or an object with too many members.
pub(super) fn read(body: &[u8]) -> serde_json::Result<Json<'_>> {
    match plain_members(body) {
        Some(members) => Ok(Json::Object(members)),
        None => serde_json::from_slice(body),
    }
}

/// The members of an object such as `{"quantity": 1}`, whose names have no escape and whose values are digits.
/// The body of a reservation is one, and serde_json takes eight times as many instructions for it. `None` for any
/// other body, even if that is an object of this kind, too.
fn plain_members(body: &[u8]) -> Option<Members<'_>> {
    let mut rest = trimmed(body).strip_prefix(b"{")?;
    let mut members = Members::new();
    loop {
        let name = trimmed(rest).strip_prefix(b"\"")?;
        let length = name.iter().position(|&byte| !byte.is_ascii_lowercase())?;
        let value = trimmed(trimmed(name[length..].strip_prefix(b"\"")?).strip_prefix(b":")?);
        let digits = value.iter().position(|byte| !byte.is_ascii_digit())?;
        // Neither a leading zero nor a number that needs more than 64 bits.
        if !(1..=19).contains(&digits) || value[0] == b'0' || members.len() == MEMBERS_MAX {
            return None;
        }
        let number = value[..digits].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
        let name = str::from_utf8(&name[..length]).expect("lower-case letters of ASCII");
        members.push((Cow::Borrowed(name), Value::from(number)));
        match trimmed(&value[digits..]).split_first()? {
            (b',', next) => rest = next,
            (b'}', behind) => return trimmed(behind).is_empty().then_some(members),
            _ => return None,
        }
    }
}

/// `text` without the white space (RFC 8259 section 2) at its start.
fn trimmed(text: &[u8]) -> &[u8] {
    let space = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    &text[space.count()..]
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
        let mut members = Members::new();
        while let Some((Name(name), text)) = map.next_entry::<_, &RawValue>()? {
            if members.len() == MEMBERS_MAX {
                return Err(A::Error::custom(TOO_MANY_MEMBERS));
            }
            members.push((name, member_value(text.get()).map_err(A::Error::custom)?));
        }
        Ok(Json::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
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

/// What members can be made of, from a valid JSON text. A whole number is a `u64`, in whatever notation it is:
/// `2.0` and `2e0` are the integer 2 to JSON Schema (2020-12, section 6.1.1 of its validation) and to JavaScript.
/// No member takes another number, a list inside of another list or object, or an object inside of an object, so these
/// lose their content.
fn member_value(text: &str) -> Result<Value, &'static str> {
    match text.as_bytes().first() {
        // Its escapes are not checked yet.
        Some(b'"') => serde_json::from_str(text).map_err(|_| "a string has half of a surrogate pair"),
        Some(b'n') => Ok(Value::Null),
        Some(b't' | b'f') => Ok(Value::Bool(text == "true")),
        Some(b'[') => list(text),
        Some(b'{') => object(text),
        _ => Ok(whole_number(text).map_or(NOT_WHOLE.into(), Value::from)),
    }
}

/// The items of a list that are kept: one more than the longest list of the API has, so that a longer one is
/// noticed.
pub(super) const ITEMS_KEPT: usize = 101;

fn list(text: &str) -> Result<Value, &'static str> {
    let Items(items) = serde_json::from_str(text).map_err(|_| "a list cannot be read")?;
    let item = |item: &RawValue| match item.get().as_bytes().first() {
        Some(b'[') => Ok(Value::Array(Vec::new())),
        _ => member_value(item.get()),
    };
    items.into_iter().map(item).collect()
}

/// An object that is a member, or an item of a list. The names of all its members are compared, as those of the body are.
fn object(text: &str) -> Result<Value, &'static str> {
    let Entries(entries) = serde_json::from_str(text).map_err(|_| "an object cannot be read")?;
    let mut members = Map::new();
    for (Name(name), value) in entries {
        let value = match value.get().as_bytes().first() {
            Some(b'[') => Value::Array(Vec::new()),
            Some(b'{') => Value::Object(Map::new()),
            _ => member_value(value.get())?,
        };
        if members.insert(name.into_owned(), value).is_some() {
            return Err(MEMBER_TWICE);
        }
    }
    Ok(Value::Object(members))
}

/// The members of an object, in order.
struct Entries<'b>(Vec<(Name<'b>, &'b RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries<'de>, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

/// The first [`ITEMS_KEPT`] items of a list.
struct Items<'b>(Vec<&'b RawValue>);

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Items<'de>, D::Error> {
        deserializer.deserialize_seq(ItemsVisitor)
    }
}

struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Items<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Items<'de>, A::Error> {
        let mut items = Vec::new();
        while items.len() < ITEMS_KEPT
            && let Some(item) = list.next_element()?
        {
            items.push(item);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Items(items))
    }
}

/// Stands for every number that is not a whole one of 64 bits.
const NOT_WHOLE: f64 = 0.5;

/// The value of a JSON number (RFC 8259 section 6) if it is a whole one of 64 bits. Reads the digits themselves:
/// a floating-point number would round `0.9999999999999999999999` to 1.
fn whole_number(text: &str) -> Option<u64> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (sign, mantissa) = mantissa.split_at(usize::from(mantissa.starts_with('-')));
    let (before, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || before.bytes().chain(behind.bytes()).map(|digit| u64::from(digit - b'0'));
    if digits().all(|digit| digit == 0) {
        return Some(0);
    }
    // The number of digits before the point once the exponent has moved it. An exponent of more than 64 bits
    // moves it beyond the digits of any body.
    let point = i64::try_from(before.len()).ok()?.checked_add(exponent.parse().ok()?)?;
    let point = usize::try_from(point).ok().filter(|_| sign.is_empty())?;
    if digits().skip(point).any(|digit| digit > 0) {
        return None;
    }
    // Ends soon, since one of the digits is not zero.
    let mut places = digits().chain(iter::repeat(0)).take(point);
    places.try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every body of some characters around a plain member, and one of the greatest numbers.
    #[test]
    fn plain_members_are_those_that_serde_json_reads() {
        const PARTS: [&str; 16] = [
            "",
            "{",
            "}",
            "\"",
            ":",
            ",",
            " ",
            "\t",
            "\x0C",
            "0",
            "1",
            "9999999999999999999",
            "a",
            "A",
            "\\n",
            "é",
        ];
        let mut plain = 0;
        let mut check = |body: &str| {
            let Some(members) = plain_members(body.as_bytes()) else { return };
            plain += 1;
            match serde_json::from_str(body) {
                Ok(Json::Object(expected)) => assert_eq!(members, expected, "{body:?}"),
                Ok(Json::Other) => panic!("{body:?} is no object"),
                Err(error) => panic!("{body:?}: {error}"),
            }
        };
        for a in PARTS {
            for b in PARTS {
                for c in PARTS {
                    for d in PARTS {
                        check(&format!("{a}{b}\"quantity\"{c}:{d}1}}"));
                        check(&format!("{{{a}\"q\":{b}2{c}}}{d}"));
                        check(&format!("{{\"a\":1{a}{b}{c}:{d}}}"));
                        check(&format!("{{\"{a}{b}{c}\":{d}}}"));
                    }
                }
            }
        }
        let count = |count| format!("{{{}\"z\":1}}", "\"a\":1,".repeat(count - 1));
        check(&count(MEMBERS_MAX));
        assert!(plain > 100, "{plain} bodies are plain");
        assert!(plain_members(count(MEMBERS_MAX + 1).as_bytes()).is_none());
    }
}
