//! Query parameters: read one by one; the reader and the contract come from one list of parameters.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use shards::command::CustomerRef;
use shards::ids::{EventId, Quota, Username};
use shards::limits::{PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX, QUOTA_MAX};
use shards::outcome::{ReservationStatus, Statuses};
use shards::schema::ID_PATTERN;

use super::property::Property;
use crate::front::http::parse::Request;
use crate::front::problem::{FieldErrors, Problem, unknown};

/// Takes the parameters out of a query, one by one.
pub(in crate::front::api) struct QueryReader<'a> {
    parameters: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Names of the parameters that were asked for.
    known: Vec<&'static str>,
    errors: FieldErrors,
}

impl<'a> QueryReader<'a> {
    pub(in crate::front::api) fn read(request: &Request<'a>) -> QueryReader<'a> {
        let mut query =
            QueryReader { parameters: Vec::new(), known: Vec::new(), errors: FieldErrors::default() };
        let pairs = request.query.into_iter().flat_map(|query| query.split('&'));
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (decode(name), decode(value)) {
                (Some(name), Some(value)) => query.parameters.push((name, value)),
                _ => query.errors.add(|| format!("?{name}"), "must be UTF-8, percent-encoded"),
            }
        }
        query
    }

    /// A required parameter. `None` when it is missing or invalid, and an error is noted.
    fn required<T: Parameter>(&mut self, name: &'static str) -> Option<T> {
        match self.take(name) {
            Some(text) => self.note(name, T::from_text(&text)),
            None => self.note(name, Err("is missing".to_owned())),
        }
    }

    /// An optional parameter. `None` when it is missing, or invalid and an error is noted.
    fn optional<T: Parameter>(&mut self, name: &'static str) -> Option<T> {
        let text = self.take(name)?;
        self.note(name, T::from_text(&text))
    }

    fn take(&mut self, name: &'static str) -> Option<Cow<'a, str>> {
        self.known.push(name);
        let place = self.parameters.iter().position(|(known, _)| known == name)?;
        Some(self.parameters.remove(place).1)
    }

    fn note<T>(&mut self, name: &str, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|detail| self.errors.add(|| format!("?{name}"), detail)).ok()
    }

    /// # Errors
    ///
    /// 422 with the errors noted, and one for each unknown parameter.
    pub(in crate::front::api) fn finish(mut self) -> Result<(), Problem> {
        if self.parameters.is_empty() && self.errors.is_empty() {
            return Ok(());
        }
        let unknown = unknown(&self.known);
        for (name, _) in &self.parameters {
            let twice = self.known.contains(&&**name);
            let detail = if twice { "is given twice" } else { &*unknown };
            self.errors.add(|| format!("?{name}"), detail);
        }
        Err(Problem::invalid(&self.errors))
    }
}

fn decode(text: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().ok()
}

/// A type of a query parameter: how it is read, beside its schema.
pub(in crate::front) trait Parameter: JsonSchema + Sized {
    /// # Errors
    ///
    /// What the text has to be, in words for its author.
    fn from_text(text: &str) -> Result<Self, String>;
}

/// A number without a sign or leading zeros.
fn digits<T: FromStr>(text: &str) -> Option<T> {
    let usual = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| usual)
}

impl Parameter for bool {
    fn from_text(text: &str) -> Result<bool, String> {
        text.parse().map_err(|_| "must be true or false".to_owned())
    }
}

impl Parameter for Username {
    fn from_text(text: &str) -> Result<Username, String> {
        Username::new(text).map_err(|error| error.to_string())
    }
}

impl Parameter for Quota {
    fn from_text(text: &str) -> Result<Quota, String> {
        let quota = digits(text).and_then(Quota::new);
        quota.ok_or_else(|| format!("must be a whole number from 0 to {QUOTA_MAX}"))
    }
}

impl Parameter for CustomerRef {
    fn from_text(text: &str) -> Result<CustomerRef, String> {
        CustomerRef::new(text).map_err(|error| error.to_string())
    }
}

/// The most events whose tickets one request asks for: a page that shows more asks twice.
const EVENTS_MAX: usize = 100;

/// Ids of events, separated by commas. In ascending order, without repetitions.
#[derive(JsonSchema)]
#[schemars(transparent)]
pub(in crate::front) struct EventIds(
    #[schemars(length(min = 1, max = EVENTS_MAX))] pub(in crate::front::api) Vec<EventId>,
);

impl Parameter for EventIds {
    fn from_text(text: &str) -> Result<EventIds, String> {
        let id = |text| digits(text).filter(|&id| id > 0).map(EventId);
        let few = text.split(',').count() <= EVENTS_MAX;
        let ids: Option<BTreeSet<EventId>> = if few { text.split(',').map(id).collect() } else { None };
        let ids = ids.ok_or_else(|| format!("must be 1 to {EVENTS_MAX} ids of events, such as 7,8,12"))?;
        Ok(EventIds(ids.into_iter().collect()))
    }
}

/// What may have become of the reservations that are wanted: statuses, separated by commas.
pub(in crate::front) struct StatusFilter(pub(in crate::front::api) Statuses);

impl Parameter for StatusFilter {
    fn from_text(text: &str) -> Result<StatusFilter, String> {
        let named = |name| ReservationStatus::ALL.into_iter().find(|status| status.as_str() == name);
        let statuses: Option<Statuses> = text.split(',').map(named).collect();
        statuses.map(StatusFilter).ok_or_else(|| {
            let names = ReservationStatus::ALL.map(ReservationStatus::as_str).join(", ");
            format!("must be one or several of {names}, separated by commas")
        })
    }
}

impl JsonSchema for StatusFilter {
    fn schema_name() -> Cow<'static, str> {
        "StatusFilter".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names = ReservationStatus::ALL.map(ReservationStatus::as_str);
        json_schema!({ "type": "array", "minItems": 1, "items": { "type": "string", "enum": names } })
    }
}

/// How many items a page of a list has at most.
#[derive(Clone, Copy, JsonSchema)]
#[schemars(transparent)]
pub(in crate::front) struct Limit(
    #[schemars(range(min = 1, max = PAGE_LIMIT_MAX), extend("default" = PAGE_LIMIT_DEFAULT))]
    pub(in crate::front::api) usize,
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

/// Where a page of a list begins: the `next` of the page before.
#[derive(Clone, Copy)]
pub(in crate::front) struct Cursor<C>(pub(in crate::front::api) C);

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

    /// The schema of its text.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let form = C::json_schema(generator);
        let pattern = form.get("pattern").cloned().unwrap_or_else(|| format!("^{ID_PATTERN}$").into());
        json_schema!({ "type": "string", "pattern": pattern })
    }
}

/// A field of a query's struct: a required parameter, or an `Option`.
pub(in crate::front::api) trait QueryField: Sized {
    const REQUIRED: bool;
    type Parameter: Parameter;

    /// `None` when it is invalid or missing, and an error is noted.
    fn take(query: &mut QueryReader<'_>, name: &'static str) -> Option<Self>;
}

impl<T: Parameter> QueryField for T {
    const REQUIRED: bool = true;
    type Parameter = T;

    fn take(query: &mut QueryReader<'_>, name: &'static str) -> Option<T> {
        query.required(name)
    }
}

impl<T: Parameter> QueryField for Option<T> {
    const REQUIRED: bool = false;
    type Parameter = T;

    fn take(query: &mut QueryReader<'_>, name: &'static str) -> Option<Option<T>> {
        Some(query.optional(name))
    }
}

/// What a handler takes of a request's query.
pub(in crate::front) trait FromQuery: Sized {
    /// Whether unknown and invalid parameters are refused (422).
    const CHECKED: bool = true;

    /// Whether the query is read before the path, which decides what a request with both wrong is told.
    const BEFORE_PATH: bool = false;

    fn read(request: &Request<'_>) -> Result<Self, Problem>;

    fn parameters(generator: &mut SchemaGenerator) -> Vec<Property>;
}

/// A query without parameters.
pub(in crate::front::api) struct NoQuery;

impl FromQuery for NoQuery {
    fn read(request: &Request<'_>) -> Result<NoQuery, Problem> {
        QueryReader::read(request).finish().map(|()| NoQuery)
    }

    fn parameters(_: &mut SchemaGenerator) -> Vec<Property> {
        Vec::new()
    }
}

/// A query without parameters, at the endpoints that have always read it before the path.
pub(in crate::front::api) struct NoQueryFirst;

impl FromQuery for NoQueryFirst {
    const BEFORE_PATH: bool = true;

    fn read(request: &Request<'_>) -> Result<NoQueryFirst, Problem> {
        NoQuery::read(request).map(|NoQuery| NoQueryFirst)
    }

    fn parameters(_: &mut SchemaGenerator) -> Vec<Property> {
        Vec::new()
    }
}

/// A query that is not looked at.
pub(in crate::front::api) struct AnyQuery;

impl FromQuery for AnyQuery {
    const CHECKED: bool = false;

    fn read(_: &Request<'_>) -> Result<AnyQuery, Problem> {
        Ok(AnyQuery)
    }

    fn parameters(_: &mut SchemaGenerator) -> Vec<Property> {
        Vec::new()
    }
}

/// Defines a query: its reader and the contract's parameters are made from the same list.
macro_rules! query {
    ($(#[doc = $doc:literal])* struct $name:ident {
        $($(#[doc = $about:literal])* $parameter:ident: $type:ty,)*
    }) => {
        $(#[doc = $doc])*
        struct $name {
            $($(#[doc = $about])* $parameter: $type,)*
        }

        impl $crate::front::api::input::FromQuery for $name {
            fn read(
                request: &$crate::front::http::parse::Request<'_>,
            ) -> Result<$name, $crate::front::problem::Problem> {
                let mut query = $crate::front::api::input::QueryReader::read(request);
                $(let $parameter = $crate::front::api::input::QueryField::take(&mut query, stringify!($parameter));)*
                query.finish()?;
                match ($($parameter,)*) {
                    ($(Some($parameter),)*) => Ok($name { $($parameter),* }),
                    _ => unreachable!("an error would have been noted"),
                }
            }

            fn parameters(
                generator: &mut schemars::SchemaGenerator,
            ) -> Vec<$crate::front::api::input::Property> {
                use $crate::front::api::input::QueryField;
                vec![$($crate::front::api::input::Property {
                    name: stringify!($parameter),
                    about: concat!($($about),*),
                    required: <$type as QueryField>::REQUIRED,
                    schema: generator.subschema_for::<<$type as QueryField>::Parameter>(),
                }),*]
            }
        }
    };
}
pub(in crate::front::api) use query;
