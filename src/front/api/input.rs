//! What clients send: JSON bodies and query parameters, read with an error for
//! each thing that breaks a rule, all at once.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use shards::command::EventName;
use shards::ids::{Quantity, Quota, Username};
use shards::limits::{EVENT_NAME_CHARS_MAX, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX, QUOTA_MAX};
use shards::schema::ID_PATTERN;

use crate::front::http::parse::Request;
use crate::front::problem::{FieldError, Kind, Problem};

/// # Errors
///
/// 406, when the client takes nothing that the endpoint gives (RFC 9110 section 12.5.1).
pub(super) fn check_accept(request: &Request<'_>) -> Result<(), Problem> {
    // Several fields are one list (RFC 9110 section 5.3).
    let fields = request.headers("accept").flat_map(|list| list.split(','));
    let mut ranges = fields.filter(|range| !range.trim().is_empty());
    if ranges.next().is_none() || lists(request, "accept", &["application/json", "application/*", "*/*"]) {
        return Ok(());
    }
    Err(Problem::plain(Kind::NotAcceptable))
}

/// Whether the Accept or Accept-Encoding fields take what is called by one of `names`. The first
/// of these that is there decides, so the most particular comes first (RFC 9110 section 12.5.1).
pub(super) fn lists(request: &Request<'_>, field: &str, names: &[&str]) -> bool {
    let taken = |name: &&str| {
        request.headers(field).flat_map(|list| list.split(',')).find_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let is_it = parts.next().is_some_and(|first| first.eq_ignore_ascii_case(name));
            is_it.then(|| !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000")))
        })
    };
    names.iter().find_map(taken).unwrap_or(false)
}

/// The members of a JSON object, taken out one by one.
pub(in crate::front) struct Body<'b> {
    members: Vec<(Cow<'b, str>, Value)>,
    errors: Vec<FieldError>,
}

impl<'b> Body<'b> {
    /// # Errors
    ///
    /// 415 when it says that it is something else than JSON, 400 when it is not, 422 when it is no object.
    pub(super) fn read(request: &'b Request<'_>) -> Result<Body<'b>, Problem> {
        if let Some(content_type) = request.header("content-type") {
            let media = content_type.split(';').next().unwrap_or("").trim();
            if !is_json(media) {
                return Err(Problem::unsupported_media_type(&media.to_ascii_lowercase()));
            }
        }
        let json: Json<'b> = serde_json::from_slice(&request.body).map_err(|failure| {
            // Such a number is JSON (RFC 8259 section 6), though none that any member takes.
            if failure.to_string().starts_with("number out of range") {
                return Problem::invalid(&[error("", "has a number that is too large")]);
            }
            Problem::malformed_json(&failure)
        })?;
        let Json::Object(members) = json else {
            return Err(Problem::invalid(&[error("", "must be a JSON object")]));
        };
        // RFC 8259 section 4 leaves open which of two would count; here neither does.
        match repeated(&members) {
            Some(name) => Err(Problem::invalid(&[error(&pointer(name), "is there twice")])),
            None => Ok(Body { members, errors: Vec::new() }),
        }
    }

    /// A member that has to be there. `None` when it is not good, and an error is noted.
    pub(super) fn required<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        match self.take(name) {
            Some(value) => self.note(name, parse(&value)),
            None => self.note(name, Err("is missing".to_owned())),
        }
    }

    /// A member that may be left out.
    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(name)?;
        self.note(name, parse(&value))
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let place = self.members.iter().position(|(known, _)| known == name)?;
        Some(self.members.remove(place).1)
    }

    /// # Errors
    ///
    /// 422 with every error noted, and one for each member that nobody asked for.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in &self.members {
            self.errors.push(error(&pointer(name), "is not known here"));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(&self.errors)) }
    }

    fn note<T>(&mut self, name: &str, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|detail| self.errors.push(error(&pointer(name), &detail))).ok()
    }
}

/// `application/json`, or a kind of it (RFC 6839 section 3.1).
fn is_json(media: &str) -> bool {
    let is = |part: Option<&str>, name: &str| part.is_some_and(|part| part.eq_ignore_ascii_case(name));
    let suffix = media.len().checked_sub("+json".len()).and_then(|at| media.get(at..));
    media.eq_ignore_ascii_case("application/json")
        || is(media.get(.."application/".len()), "application/") && is(suffix, "+json")
}

/// An object with its members as they stand there, each name in the body's own bytes where it can be.
enum Json<'b> {
    Object(Vec<(Cow<'b, str>, Value)>),
    Other,
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

/// The first name that an earlier member has already.
fn repeated<'m>(members: &'m [(Cow<'_, str>, Value)]) -> Option<&'m str> {
    if members.len() < 2 {
        return None;
    }
    let mut names = BTreeSet::new();
    members.iter().map(|(name, _)| &**name).find(|name| !names.insert(*name))
}

/// RFC 6901 section 3.
fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn error(pointer: &str, detail: &str) -> FieldError {
    FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() }
}

/// What a member of a JSON body can be: how it is read, beside its schema.
pub(in crate::front) trait Member: JsonSchema + Sized {
    /// # Errors
    ///
    /// What it has to be, for its author.
    fn from_json(value: &Value) -> Result<Self, String>;
}

impl Member for String {
    fn from_json(value: &Value) -> Result<String, String> {
        value.as_str().map(str::to_owned).ok_or_else(|| "must be a string".to_owned())
    }
}

/// `2.0` and `2e0` are the number 2 (JSON Schema 2020-12, section 6.1.1 of its validation; so it is in
/// JavaScript), however they are written.
fn whole_number(value: &Value) -> Option<u64> {
    let from_fraction = |number: f64| {
        // Every whole number up to here has a form of its own as a fraction.
        let is_whole = number.fract() == 0.0 && (0.0..=9_007_199_254_740_991.0).contains(&number);
        is_whole.then_some(number as u64)
    };
    value.as_u64().or_else(|| value.as_f64().and_then(from_fraction))
}

impl Member for Quantity {
    fn from_json(value: &Value) -> Result<Quantity, String> {
        let tickets = whole_number(value).and_then(Quantity::new);
        tickets.ok_or_else(|| format!("must be a whole number from 1 to {QUOTA_MAX}"))
    }
}

impl Member for Quota {
    fn from_json(value: &Value) -> Result<Quota, String> {
        let tickets = whole_number(value).and_then(Quota::new);
        tickets.ok_or_else(|| format!("must be a whole number from 0 to {QUOTA_MAX}"))
    }
}

impl Member for EventName {
    fn from_json(value: &Value) -> Result<EventName, String> {
        let name = value.as_str().and_then(EventName::new);
        name.ok_or_else(|| {
            format!("must be a string of 1 to {EVENT_NAME_CHARS_MAX} characters, without control characters")
        })
    }
}

impl Member for Username {
    fn from_json(value: &Value) -> Result<Username, String> {
        Username::new(&String::from_json(value)?).map_err(|error| error.to_string())
    }
}

/// A place for a member in a body: one that has to be there, or an `Option`.
pub(in crate::front) trait Place: Sized {
    const REQUIRED: bool;
    type Member: Member;

    /// `None` when it is not good, and an error is noted.
    fn take(body: &mut Body<'_>, name: &str) -> Option<Self>;
}

impl<T: Member> Place for T {
    const REQUIRED: bool = true;
    type Member = T;

    fn take(body: &mut Body<'_>, name: &str) -> Option<T> {
        body.required(name, T::from_json)
    }
}

impl<T: Member> Place for Option<T> {
    const REQUIRED: bool = false;
    type Member = T;

    fn take(body: &mut Body<'_>, name: &str) -> Option<Option<T>> {
        Some(body.optional(name, T::from_json))
    }
}

/// Defines the body of a request: its reader and its schema are made from the same members.
macro_rules! body {
    ($(#[doc = $doc:literal])* struct $name:ident {
        $($(#[doc = $about:literal])* $member:ident: $type:ty,)*
    }) => {
        $(#[doc = $doc])*
        pub(in crate::front) struct $name {
            $($(#[doc = $about])* $member: $type,)*
        }

        impl $name {
            fn read(request: &$crate::front::http::parse::Request<'_>) -> Result<$name, Problem> {
                let mut body = $crate::front::api::input::Body::read(request)?;
                $(let $member = $crate::front::api::input::Place::take(&mut body, stringify!($member));)*
                body.finish()?;
                match ($($member,)*) {
                    ($(Some($member),)*) => Ok($name { $($member),* }),
                    _ => unreachable!("an error would have been noted"),
                }
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                use $crate::front::api::input::{Place, Property};
                Property::object(concat!($($doc),*), [$(Property {
                    name: stringify!($member),
                    about: concat!($($about),*),
                    required: <$type as Place>::REQUIRED,
                    schema: generator.subschema_for::<<$type as Place>::Member>(),
                }),*])
            }
        }
    };
}
pub(super) use body;

/// A member, or a query parameter, as the contract has it.
pub(in crate::front) struct Property {
    pub(in crate::front) name: &'static str,
    pub(in crate::front) about: &'static str,
    pub(in crate::front) required: bool,
    pub(in crate::front) schema: Schema,
}

impl Property {
    /// The schema of an object that has these and no other.
    pub(super) fn object<const N: usize>(about: &str, properties: [Property; N]) -> Schema {
        let required: Vec<&str> = properties.iter().filter(|one| one.required).map(|one| one.name).collect();
        let mut schema = json_schema!({
            "description": about.trim(),
            "type": "object",
            "additionalProperties": false,
            "properties": properties.into_iter().map(Property::described).collect::<Map<_, _>>(),
        });
        if !required.is_empty() {
            schema.insert("required".to_owned(), required.into());
        }
        schema
    }

    fn described(mut self) -> (String, Value) {
        self.schema.insert("description".to_owned(), self.about.trim().into());
        (self.name.to_owned(), self.schema.into())
    }
}

/// Query parameters, taken out one by one.
pub(super) struct Query<'a> {
    parameters: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// That were asked for.
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl<'a> Query<'a> {
    pub(super) fn read(request: &Request<'a>) -> Query<'a> {
        let mut query = Query { parameters: Vec::new(), known: Vec::new(), errors: Vec::new() };
        let pairs = request.query.unwrap_or("").split('&').filter(|pair| !pair.is_empty());
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (decode(name), decode(value)) {
                (Some(name), Some(value)) => query.parameters.push((name, value)),
                _ => query.errors.push(error(&format!("?{name}"), "must be UTF-8, percent-encoded")),
            }
        }
        query
    }

    /// A parameter; `None` when it was not given, or is not good.
    pub(super) fn take<T: Parameter>(&mut self, name: &'static str) -> Option<T> {
        self.known.push(name);
        let place = self.parameters.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.parameters.remove(place);
        let parsed = T::from_text(&value);
        parsed.map_err(|detail| self.errors.push(error(&format!("?{name}"), &detail))).ok()
    }

    /// # Errors
    ///
    /// 422 with every error noted, and one for each parameter that nobody asked for.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in &self.parameters {
            let twice = self.known.contains(&&**name);
            let detail = if twice { "is given twice" } else { "is not known here" };
            self.errors.push(error(&format!("?{name}"), detail));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(&self.errors)) }
    }
}

fn decode(text: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().ok()
}

/// What a query parameter can be: how it is read, beside its schema.
pub(in crate::front) trait Parameter: JsonSchema + Sized {
    /// # Errors
    ///
    /// What it has to be, for its author.
    fn from_text(text: &str) -> Result<Self, String>;
}

/// A number in its one usual form, without a sign or zeros before it.
fn digits<T: FromStr>(text: &str) -> Option<T> {
    let usual = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| usual)
}

impl Parameter for bool {
    fn from_text(text: &str) -> Result<bool, String> {
        text.parse().map_err(|_| "must be true or false".to_owned())
    }
}

impl Parameter for Quota {
    fn from_text(text: &str) -> Result<Quota, String> {
        let quota = digits(text).and_then(Quota::new);
        quota.ok_or_else(|| format!("must be a whole number from 0 to {QUOTA_MAX}"))
    }
}

/// How many items a page of a list has at most.
#[derive(Clone, Copy, JsonSchema)]
#[schemars(transparent)]
pub(in crate::front) struct Limit(
    #[schemars(range(min = 1, max = PAGE_LIMIT_MAX), extend("default" = PAGE_LIMIT_DEFAULT))] pub(super) usize,
);

impl Default for Limit {
    fn default() -> Limit {
        Limit(PAGE_LIMIT_DEFAULT)
    }
}

impl Parameter for Limit {
    fn from_text(text: &str) -> Result<Limit, String> {
        let limit = digits(text).filter(|limit| (1..=PAGE_LIMIT_MAX).contains(limit));
        limit.map(Limit).ok_or_else(|| format!("must be a whole number from 1 to {PAGE_LIMIT_MAX}"))
    }
}

/// Where a page of a list begins: the `next` of the one before.
#[derive(Clone, Copy)]
pub(in crate::front) struct Cursor<C>(pub(super) C);

impl<C: FromStr + JsonSchema> Parameter for Cursor<C> {
    fn from_text(text: &str) -> Result<Cursor<C>, String> {
        text.parse().map(Cursor).map_err(|_| "must be the `next` of an earlier page".to_owned())
    }
}

impl<C: JsonSchema> JsonSchema for Cursor<C> {
    fn schema_name() -> Cow<'static, str> {
        C::schema_name()
    }

    fn inline_schema() -> bool {
        true
    }

    /// The text of what it holds.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let form = C::json_schema(generator);
        let pattern = form.get("pattern").cloned().unwrap_or_else(|| format!("^{ID_PATTERN}$").into());
        json_schema!({ "type": "string", "pattern": pattern })
    }
}

/// Defines the parameters of a query: their reader and their schemas are made from the same list.
macro_rules! query {
    ($(#[doc = $doc:literal])* struct $name:ident {
        $($(#[doc = $about:literal])* $parameter:ident: Option<$type:ty>,)*
    }) => {
        $(#[doc = $doc])*
        pub(in crate::front) struct $name {
            $($(#[doc = $about])* $parameter: Option<$type>,)*
        }

        impl $name {
            fn read(request: &$crate::front::http::parse::Request<'_>) -> Result<$name, Problem> {
                let mut query = $crate::front::api::input::Query::read(request);
                $(let $parameter = query.take::<$type>(stringify!($parameter));)*
                query.finish()?;
                Ok($name { $($parameter),* })
            }
        }

        impl $crate::front::api::input::Parameters for $name {
            fn list(generator: &mut schemars::SchemaGenerator) -> Vec<$crate::front::api::input::Property> {
                vec![$($crate::front::api::input::Property {
                    name: stringify!($parameter),
                    about: concat!($($about),*),
                    required: false,
                    schema: generator.subschema_for::<$type>(),
                }),*]
            }
        }
    };
}
pub(super) use query;

/// The parameters that a query can have.
pub(in crate::front) trait Parameters {
    fn list(generator: &mut SchemaGenerator) -> Vec<Property>;
}

/// No parameters at all.
pub(in crate::front) fn no_query(request: &Request<'_>) -> Result<(), Problem> {
    Query::read(request).finish()
}
