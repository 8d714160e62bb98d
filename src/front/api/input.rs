//! What clients send: JSON bodies and query parameters, read with an error for
//! each thing that breaks a rule, all at once.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use shards::command::EventName;
use shards::ids::{Quantity, Quota};
use shards::limits::{EVENT_NAME_CHARS_MAX, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX, QUOTA_MAX};

use crate::front::http::parse::Request;
use crate::front::problem::{FieldError, Kind, Problem};
use crate::front::router::Endpoint;

/// # Errors
///
/// 406, when the client takes nothing that the endpoint gives (RFC 9110 section 12.5.1).
pub(super) fn check_accept(request: &Request<'_>, endpoint: Endpoint) -> Result<(), Problem> {
    if matches!(endpoint, Endpoint::Metrics | Endpoint::ProblemPage | Endpoint::Live | Endpoint::Ready) {
        return Ok(());
    }
    // Several fields are one list (RFC 9110 section 5.3).
    let fields = request.headers("accept").flat_map(|list| list.split(','));
    let mut ranges = fields.filter(|range| !range.trim().is_empty()).peekable();
    let takes_json = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or("").to_ascii_lowercase();
        let refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        !refused && matches!(&*media, "*/*" | "application/*" | "application/json")
    };
    if ranges.peek().is_none() || ranges.any(takes_json) {
        return Ok(());
    }
    Err(Problem::plain(Kind::NotAcceptable))
}

/// The members of a JSON object, taken out one by one.
pub(super) struct Body {
    members: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Body {
    /// # Errors
    ///
    /// 415 when it says that it is something else than JSON, 400 when it is not, 422 when it is no object.
    pub(super) fn read(request: &Request<'_>) -> Result<Body, Problem> {
        if let Some(content_type) = request.header("content-type") {
            let media = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
            let is_json =
                media == "application/json" || media.starts_with("application/") && media.ends_with("+json");
            if !is_json {
                let detail = format!("The body is said to be {media:?}; send application/json.");
                return Err(Problem::new(Kind::UnsupportedMediaType, detail));
            }
        }
        let value: Value = serde_json::from_slice(&request.body).map_err(|failure| {
            // Such a number is JSON (RFC 8259 section 6), though none that any member takes.
            if failure.to_string().starts_with("number out of range") {
                return Problem::invalid(&[error("", "has a number that is too large")]);
            }
            Problem::new(Kind::MalformedJson, format!("The body is not JSON: {failure}."))
        })?;
        match value {
            // RFC 8259 section 4 leaves open which of two would count; here neither does.
            Value::Object(members) if count_members(&request.body) != members.len() => {
                Err(Problem::invalid(&[error("", "has a member twice")]))
            }
            Value::Object(members) => Ok(Body { members, errors: Vec::new() }),
            _ => Err(Problem::invalid(&[error("", "must be a JSON object")])),
        }
    }

    /// A member that has to be there. `None` when it is not good, and an error is noted.
    pub(super) fn required<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        match self.members.remove(name) {
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
        let value = self.members.remove(name)?;
        self.note(name, parse(&value))
    }

    /// # Errors
    ///
    /// 422 with every error noted, and one for each member that nobody asked for.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        for name in self.members.keys() {
            self.errors.push(error(&pointer(name), "is not known here"));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(&self.errors)) }
    }

    fn note<T>(&mut self, name: &str, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|detail| self.errors.push(error(&pointer(name), &detail))).ok()
    }
}

/// The members of a JSON object, each as often as it is there; 0 for any other text.
fn count_members(object: &[u8]) -> usize {
    struct Count(usize);

    impl<'de> Deserialize<'de> for Count {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Count, D::Error> {
            deserializer.deserialize_map(Count(0))
        }
    }

    impl<'de> Visitor<'de> for Count {
        type Value = Count;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Count, A::Error> {
            while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                self.0 += 1;
            }
            Ok(self)
        }
    }

    serde_json::from_slice::<Count>(object).map_or(0, |count| count.0)
}

/// RFC 6901 section 3.
fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn error(pointer: &str, detail: &str) -> FieldError {
    FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() }
}

pub(super) fn text(value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| "must be a string".to_owned())
}

pub(super) fn quantity(value: &Value) -> Result<Quantity, String> {
    let tickets = value.as_u64().and_then(Quantity::new);
    tickets.ok_or_else(|| format!("must be a whole number from 1 to {QUOTA_MAX}"))
}

pub(super) fn quota(value: &Value) -> Result<Quota, String> {
    let tickets = value.as_u64().and_then(Quota::new);
    tickets.ok_or_else(|| format!("must be a whole number from 0 to {QUOTA_MAX}"))
}

pub(super) fn event_name(value: &Value) -> Result<EventName, String> {
    let name = value.as_str().and_then(EventName::new);
    name.ok_or_else(|| {
        format!("must be a string of 1 to {EVENT_NAME_CHARS_MAX} characters, without control characters")
    })
}

/// Query parameters, taken out one by one.
pub(super) struct Query<'a> {
    parameters: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    errors: Vec<FieldError>,
}

impl<'a> Query<'a> {
    pub(super) fn read(request: &Request<'a>) -> Query<'a> {
        let mut query = Query { parameters: Vec::new(), errors: Vec::new() };
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

    /// A parameter as `parse` reads it; `None` when it was not given, or is not good.
    pub(super) fn take<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let place = self.parameters.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.parameters.remove(place);
        let parsed = parse(&value);
        parsed.map_err(|detail| self.errors.push(error(&format!("?{name}"), &detail))).ok()
    }

    /// The parameters of a list: `limit`, and `after` as a cursor that this server gave.
    pub(super) fn take_page<C: FromStr>(&mut self) -> PageRequest<C> {
        let limit = self.take("limit", |text| {
            let limit = text.parse().ok().filter(|limit| (1..=PAGE_LIMIT_MAX).contains(limit));
            limit.ok_or_else(|| format!("must be a whole number from 1 to {PAGE_LIMIT_MAX}"))
        });
        let after = self.take("after", |text| {
            text.parse().map_err(|_| "must be the `next` of an earlier page".to_owned())
        });
        PageRequest { limit: limit.unwrap_or(PAGE_LIMIT_DEFAULT), after }
    }

    /// # Errors
    ///
    /// 422 with every error noted, and one for each parameter that nobody asked for.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in &self.parameters {
            self.errors.push(error(&format!("?{name}"), "is not known here, or given twice"));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(&self.errors)) }
    }
}

/// Which page of a list.
pub(super) struct PageRequest<C> {
    pub(super) limit: usize,
    pub(super) after: Option<C>,
}

fn decode(text: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().ok()
}

pub(super) fn truth(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "must be true or false".to_owned())
}
