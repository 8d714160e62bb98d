//! Errors as clients see them: RFC 9457 problem details.

mod causes;
mod examples;
mod field_errors;
mod kinds;
mod refused_item;

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};
use shards::api_keys::Scope;
use shards::ids::Role;

use super::http::parse::Method;
use super::http::write::{Headers, Response};
use super::registration::Registration;

pub use field_errors::{FieldErrors, unknown};
pub use kinds::Kind;
use refused_item::RefusedItem;

pub const PROBLEM_JSON: &str = "application/problem+json";

/// Seconds after which a client may ask an overloaded server again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// An error response before it is written.
#[derive(Debug)]
pub struct Problem {
    kind: Kind,
    detail: Cow<'static, str>,
    extensions: Vec<(&'static str, Value)>,
    headers: Headers,
}

/// How far a start has come.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub struct Recovery {
    /// Records that were read.
    pub records_read: u64,
    /// Records of all logs that are open so far.
    pub records: u64,
}

/// A scope of an API key, as clients get it.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct ScopeName(
    // No `enum`: a client that is generated from one refuses the values of later versions.
    #[schemars(extend("x-extensible-enum" = ["events:read", "events:write", "sell"]))] &'static str,
);

impl From<Scope> for ScopeName {
    fn from(scope: Scope) -> ScopeName {
        ScopeName(scope.as_str())
    }
}

impl Problem {
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem { kind, detail: detail.into(), extensions: Vec::new(), headers: Headers::new() }
    }

    /// A problem whose detail is the explanation of its kind.
    pub fn plain(kind: Kind) -> Problem {
        Problem::new(kind, kind.explanation())
    }

    /// The response to a request without a token (RFC 6750 section 3: no error code).
    pub fn no_token() -> Problem {
        Problem::plain(Kind::Unauthorized).header("WWW-Authenticate", "Bearer".to_owned())
    }

    /// The response to any bad token. It is the same for all causes, so that it does not reveal them.
    pub fn bad_token() -> Problem {
        let challenge = "Bearer error=\"invalid_token\"".to_owned();
        Problem::plain(Kind::Unauthorized).header("WWW-Authenticate", challenge)
    }

    pub fn wrong_credentials(detail: &'static str) -> Problem {
        Problem::new(Kind::WrongCredentials, detail).header("WWW-Authenticate", "Bearer".to_owned())
    }

    pub fn method_not_allowed(method: Method, allow: String) -> Problem {
        let detail = format!("{} is not for this address; use one of {allow}.", method.as_str());
        Problem::new(Kind::MethodNotAllowed, detail).header("Allow", allow)
    }

    pub fn forbidden(role: Role, allowed: &[Role]) -> Problem {
        let allowed: Vec<&str> = allowed.iter().map(|role| role.as_str()).collect();
        let detail = format!("Your role is {}; this is for {}.", role.as_str(), allowed.join(" or "));
        Problem::new(Kind::Forbidden, detail)
    }

    /// Nobody may register with this role.
    pub fn registration_closed(registration: Registration, role: Role) -> Problem {
        let who = match registration {
            Registration::Open => "customers and organizers",
            Registration::Customers => "customers",
            Registration::Closed => "nobody",
        };
        let role = role.as_str();
        let detail = format!(
            "Here {who} may register. An admin makes accounts of the role {role}: ask one, and log in then."
        );
        Problem::new(Kind::RegistrationClosed, detail)
    }

    pub fn missing_scope(scope: Scope) -> Problem {
        let detail = format!("The API key does not have the scope {:?}; use one that has.", scope.as_str());
        Problem::new(Kind::MissingScope, detail).extend("scope", json!(ScopeName::from(scope)))
    }

    pub fn not_with_a_key() -> Problem {
        let detail =
            "This is not done with an API key: log in with POST /api/v1/sessions, and send the token.";
        Problem::new(Kind::Forbidden, detail)
    }

    /// The account has no password, and is always a customer's.
    pub fn of_another_issuer() -> Problem {
        Problem::new(
            Kind::Forbidden,
            "This account is another issuer's: it has no password, and is a customer.",
        )
    }

    pub fn unsupported_media_type(media: &str) -> Problem {
        let media: String = media.chars().take(100).collect();
        let detail = format!("The body is said to be {media:?}; send application/json.");
        Problem::new(Kind::UnsupportedMediaType, detail)
    }

    /// The header tells it from an unsupported media type (RFC 9110 section 12.5.3).
    pub fn unsupported_content_encoding(coding: &str) -> Problem {
        let coding: String = coding.chars().take(100).collect();
        let detail = format!("The body is said to be in the coding {coding:?}; send it without one.");
        Problem::new(Kind::UnsupportedContentEncoding, detail)
            .header("Accept-Encoding", "identity".to_owned())
    }

    /// `readers` are the endpoints that do what the header asks for.
    pub fn unsupported_header(name: &str, readers: &[String]) -> Problem {
        let detail = match readers {
            [] => format!("No request like this does what {name} asks for; leave it out."),
            [all_but_last @ .., last] => {
                let separator = if all_but_last.is_empty() { "" } else { " and " };
                let others = all_but_last.join(", ");
                format!("{name} works only with {others}{separator}{last}; leave it out here.")
            }
        };
        Problem::new(Kind::UnsupportedHeader, detail)
    }

    pub fn unclear_client_address(detail: String) -> Problem {
        Problem::new(Kind::UnclearClientAddress, detail)
    }

    pub fn malformed_json(failure: &serde_json::Error) -> Problem {
        Problem::new(Kind::MalformedJson, format!("The body is not JSON: {failure}."))
    }

    pub fn not_ready(boot_id: &str) -> Problem {
        Problem::unavailable(Kind::NotReady).extend("boot_id", json!(boot_id))
    }

    /// The server does not serve yet.
    pub fn starting(boot_id: &str, recovery: Recovery) -> Problem {
        let done = match recovery {
            Recovery { records: 0, .. } => "it opens its log".to_owned(),
            Recovery { records_read, records } => format!("it has read {records_read} of {records} records"),
        };
        let detail = format!(
            "The server is starting: {done}. Nothing was done; try again after 'Retry-After' seconds."
        );
        let problem = Problem { detail: detail.into(), ..Problem::unavailable(Kind::Starting) };
        problem.extend("boot_id", json!(boot_id)).extend("recovery", json!(recovery))
    }

    pub fn invalid(errors: &FieldErrors) -> Problem {
        let problem = Problem::new(Kind::Invalid, errors.summary()).extend("errors", json!(errors));
        match errors.more() {
            0 => problem,
            more => problem.extend("more", json!(more)),
        }
    }

    /// A problem of a kind after which the client may retry soon.
    pub fn unavailable(kind: Kind) -> Problem {
        Problem::plain(kind).header("Retry-After", RETRY_AFTER_SECONDS.to_string())
    }

    /// No id is left for another `what`.
    pub fn ids_used_up(what: &str) -> Problem {
        let detail = format!(
            "The last {what} id, {}, was given out. Nothing was done. More {what}s need a server with a new \
             data directory: tell whoever runs this one.",
            u32::MAX
        );
        Problem::new(Kind::IdsUsedUp, detail)
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.headers.iter().map(|(name, value)| (*name, value.as_str()))
    }

    fn header(mut self, name: &'static str, value: String) -> Problem {
        self.headers.push((name, value));
        self
    }

    fn extend(mut self, name: &'static str, value: Value) -> Problem {
        debug_assert!(
            self.kind.members().iter().any(|member| member.name == name),
            "{:?}: {name}",
            self.kind
        );
        self.extensions.push((name, value));
        self
    }

    /// The body, as JSON.
    pub fn body(&self) -> Value {
        let mut members = Map::new();
        members.insert("type".to_owned(), json!(format!("/problems/{}", self.kind.slug())));
        members.insert("title".to_owned(), json!(self.kind.title()));
        members.insert("status".to_owned(), json!(self.kind.status()));
        members.insert("detail".to_owned(), json!(self.detail));
        for (name, value) in &self.extensions {
            members.insert((*name).to_owned(), value.clone());
        }
        Value::Object(members)
    }

    pub fn into_response(self) -> Response {
        let body = format!("{}\n", self.body()).into_bytes();
        let response = Response::new(self.kind.status(), PROBLEM_JSON, body);
        Response { headers: self.headers, ..response }
    }
}
