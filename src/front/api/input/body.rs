//! JSON bodies: read member by member; the reader and the schema come from one list of members.

use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

use super::json::{self, Json, Members, repeated};
use super::member::Member;
use crate::front::http::parse::Request;
use crate::front::problem::{FieldErrors, Problem, unknown};

/// Takes the members out of a JSON object, one by one.
pub(in crate::front) struct BodyReader<'b> {
    members: Members<'b>,
    errors: FieldErrors,
}

impl<'b> BodyReader<'b> {
    /// # Errors
    ///
    /// 415 when its Content-Type is not JSON or it is in a coding, 400 when it is not JSON, 422 when it is not
    /// an object, has too many members, or one twice.
    pub(in crate::front::api) fn read(request: &'b Request<'_>) -> Result<BodyReader<'b>, Problem> {
        let content_type = request.header_bytes("content-type");
        if content_type.is_some_and(|content_type| !is_json(media_of(content_type))) {
            let media = media_of(request.header("content-type").unwrap_or_default().as_bytes());
            let media = String::from_utf8_lossy(media).to_ascii_lowercase();
            return Err(Problem::unsupported_media_type(&media));
        }
        check_content_encoding(request)?;
        let json = json::read(&request.body).map_err(|failure| {
            let text = failure.to_string();
            // A body that is a number, and so valid JSON (RFC 8259 section 6).
            if text.starts_with("number out of range") {
                Problem::invalid(&FieldErrors::of("", NOT_AN_OBJECT))
            } else if let Some(rule) = json::RULES.into_iter().find(|rule| text.starts_with(rule)) {
                Problem::invalid(&FieldErrors::of("", rule))
            } else {
                Problem::malformed_json(&failure)
            }
        })?;
        let Json::Object(members) = json else {
            return Err(Problem::invalid(&FieldErrors::of("", NOT_AN_OBJECT)));
        };
        // RFC 8259 section 4 does not say which of two members counts, so both are refused.
        match repeated(&members) {
            Some(name) => Err(Problem::invalid(&FieldErrors::of(pointer(name), "is there twice"))),
            None => Ok(BodyReader { members, errors: FieldErrors::default() }),
        }
    }

    /// A required member. `None` when it is missing or invalid, and an error is noted.
    fn required<T>(&mut self, name: &str, parse: impl FnOnce(&Value) -> Result<T, String>) -> Option<T> {
        match self.take(name) {
            Some(value) => self.note(name, parse(&value)),
            None => self.note(name, Err("is missing".to_owned())),
        }
    }

    /// An optional member. `None` when it is missing, or invalid and an error is noted.
    fn optional<T>(&mut self, name: &str, parse: impl FnOnce(&Value) -> Result<T, String>) -> Option<T> {
        let value = self.take(name)?;
        self.note(name, parse(&value))
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let place = self.members.iter().position(|(known, _)| known == name)?;
        Some(self.members.remove(place).1)
    }

    /// # Errors
    ///
    /// 422 with the errors noted, and one for each member that is none of `known`.
    pub(in crate::front::api) fn finish(mut self, known: &[&str]) -> Result<(), Problem> {
        if self.members.is_empty() && self.errors.is_empty() {
            return Ok(());
        }
        let unknown = unknown(known);
        for (name, _) in &self.members {
            self.errors.add(|| pointer(name), &*unknown);
        }
        Err(Problem::invalid(&self.errors))
    }

    fn note<T>(&mut self, name: &str, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|detail| self.errors.add(|| pointer(name), detail)).ok()
    }
}

const NOT_AN_OBJECT: &str = "must be a JSON object";

/// # Errors
///
/// 415, when the body is in another coding than `identity`, which is none (RFC 9110 section 8.4).
fn check_content_encoding(request: &Request<'_>) -> Result<(), Problem> {
    match request.elements("content-encoding").find(|coding| !coding.eq_ignore_ascii_case("identity")) {
        Some(coding) => Err(Problem::unsupported_content_encoding(coding)),
        None => Ok(()),
    }
}

/// The media type, without its parameters.
fn media_of(content_type: &[u8]) -> &[u8] {
    let end = content_type.iter().position(|&byte| byte == b';').unwrap_or(content_type.len());
    content_type[..end].trim_ascii()
}

/// `application/json`, or a type with the suffix `+json` (RFC 6839 section 3.1).
fn is_json(media: &[u8]) -> bool {
    let is = |part: Option<&[u8]>, name: &[u8]| part.is_some_and(|part| part.eq_ignore_ascii_case(name));
    let suffix = media.len().checked_sub("+json".len()).and_then(|at| media.get(at..));
    media.eq_ignore_ascii_case(b"application/json")
        || is(media.get(.."application/".len()), b"application/") && is(suffix, b"+json")
}

/// The JSON pointer to a member (RFC 6901 section 3).
fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// A field of a body's struct: a required member, or an `Option`.
pub(in crate::front) trait Field: Sized {
    const REQUIRED: bool;
    type Member: Member;

    /// `None` when it is invalid, and an error is noted.
    fn take(body: &mut BodyReader<'_>, name: &str) -> Option<Self>;
}

impl<T: Member> Field for T {
    const REQUIRED: bool = true;
    type Member = T;

    fn take(body: &mut BodyReader<'_>, name: &str) -> Option<T> {
        body.required(name, T::from_json)
    }
}

impl<T: Member> Field for Option<T> {
    const REQUIRED: bool = false;
    type Member = T;

    fn take(body: &mut BodyReader<'_>, name: &str) -> Option<Option<T>> {
        Some(body.optional(name, T::from_json))
    }
}

/// What a handler takes of a request's body.
pub(in crate::front) trait FromBody: Sized {
    /// `None` when the body is not looked at.
    const DESCRIPTION: Option<BodyDescription>;

    fn read(request: &Request<'_>) -> Result<Self, Problem>;
}

/// What the contract says of a body.
pub(in crate::front) struct BodyDescription {
    pub(in crate::front) schema: fn(&mut SchemaGenerator) -> Schema,
    pub(in crate::front) example: fn() -> Value,
    /// Whether it has to be sent.
    pub(in crate::front) required: bool,
}

/// No body: what is sent all the same is not looked at.
pub(in crate::front::api) struct NoBody;

impl FromBody for NoBody {
    const DESCRIPTION: Option<BodyDescription> = None;

    fn read(_: &Request<'_>) -> Result<NoBody, Problem> {
        Ok(NoBody)
    }
}

/// A body that may be left out.
pub(in crate::front::api) struct IfSent<B>(pub(in crate::front::api) Option<B>);

impl<B: FromBody> FromBody for IfSent<B> {
    const DESCRIPTION: Option<BodyDescription> = match B::DESCRIPTION {
        Some(description) => Some(BodyDescription { required: false, ..description }),
        None => None,
    };

    fn read(request: &Request<'_>) -> Result<IfSent<B>, Problem> {
        let sent = !request.body.is_empty();
        sent.then(|| B::read(request)).transpose().map(IfSent)
    }
}

/// Defines a body with an example: its reader and its schema are made from the same members.
macro_rules! body {
    ($(#[doc = $doc:literal])* struct $name:ident {
        $($(#[doc = $about:literal])* $member:ident: $type:ty,)*
    }
    example $example:tt) => {
        $(#[doc = $doc])*
        struct $name {
            $($(#[doc = $about])* $member: $type,)*
        }

        impl $crate::front::api::input::FromBody for $name {
            const DESCRIPTION: Option<$crate::front::api::input::BodyDescription> =
                Some($crate::front::api::input::BodyDescription {
                    schema: schemars::SchemaGenerator::subschema_for::<$name>,
                    example: || serde_json::json!($example),
                    required: true,
                });

            fn read(
                request: &$crate::front::http::parse::Request<'_>,
            ) -> Result<$name, $crate::front::problem::Problem> {
                let mut body = $crate::front::api::input::BodyReader::read(request)?;
                $(let $member = $crate::front::api::input::Field::take(&mut body, stringify!($member));)*
                body.finish(&[$(stringify!($member)),*])?;
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
                use $crate::front::api::input::{Field, Property};
                Property::object(concat!($($doc),*), [$(Property {
                    name: stringify!($member),
                    about: concat!($($about),*),
                    required: <$type as Field>::REQUIRED,
                    schema: generator.subschema_for::<<$type as Field>::Member>(),
                }),*])
            }
        }
    };
}
pub(in crate::front::api) use body;
