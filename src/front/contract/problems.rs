//! Which problems each endpoint can answer with, and what the contract says of them.

use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::front::api::{Access, ENDPOINTS, Endpoint, KeyUse};
use crate::front::problem::{Kind, PROBLEM_JSON};

/// Problems that any request can be answered with, before it reaches an endpoint: its bytes are no request,
/// the server has no room for it or does not serve, or its header asks for what no endpoint does.
const ALWAYS: [Kind; 13] = [
    Kind::MalformedRequest,
    Kind::UnsupportedHeader,
    Kind::RequestTimeout,
    Kind::ContentTooLarge,
    Kind::UriTooLong,
    Kind::ExpectationFailed,
    Kind::HeadersTooLarge,
    Kind::NotImplemented,
    Kind::VersionNotSupported,
    Kind::Overloaded,
    Kind::TooManyConnections,
    Kind::NotReady,
    Kind::Starting,
];

/// Every kind of problem that an endpoint can answer with, in the order of their table.
pub(super) fn of(endpoint: &Endpoint) -> impl Iterator<Item = Kind> {
    Kind::ALL.iter().copied().filter(|&kind| {
        ALWAYS.contains(&kind) || endpoint.problems.contains(&kind) || follows(kind, endpoint)
    })
}

/// Whether a kind of problem follows from the members of an endpoint.
fn follows(kind: Kind, endpoint: &Endpoint) -> bool {
    let Endpoint { access, handler, writes, .. } = endpoint;
    match kind {
        Kind::Unauthorized => access.reads_tokens(),
        Kind::Forbidden => {
            matches!(access, Access::Only(..)) || access.reads_tokens() && access.key_use() == KeyUse::Never
        }
        Kind::MissingScope => matches!(access.key_use(), KeyUse::With(_)),
        Kind::NotFound => handler.path_parameter().is_some() || *access == Access::Demo,
        Kind::NotAcceptable => endpoint.speaks_json(),
        Kind::Invalid => handler.checks_query() || handler.body().is_some(),
        Kind::LogFull | Kind::LogLocked => *writes,
        Kind::KeyReused | Kind::TooManyKeys | Kind::NoRoomForKeys => endpoint.takes_keys(),
        Kind::AccountLimit => endpoint.counts_as_change(),
        Kind::MalformedJson | Kind::UnsupportedMediaType | Kind::UnsupportedContentEncoding => {
            handler.body().is_some()
        }
        _ => false,
    }
}

/// Endpoints that can answer with a kind of problem; none for a kind that any request can be answered with.
pub(crate) fn endpoints_with(kind: Kind) -> impl Iterator<Item = &'static Endpoint> {
    let endpoints = ENDPOINTS.iter().copied().filter(move |_| !ALWAYS.contains(&kind));
    endpoints.filter(move |endpoint| of(endpoint).any(|one| one == kind))
}

/// The name that a response with one of these kinds has among the contract's components.
pub(super) fn response_name(kinds: &[Kind]) -> String {
    kinds.iter().map(|kind| format!("{kind:?}")).collect::<Vec<_>>().join("Or")
}

/// A response with one of these kinds, which share their status.
pub(super) fn response(kinds: &[Kind]) -> Value {
    let mut headers = Map::new();
    headers.insert("X-Request-Id".to_owned(), json!({ "$ref": "#/components/headers/RequestId" }));
    for kind in kinds {
        for (name, value) in kind.example().headers() {
            let about = header(name);
            let header = json!({ "description": about, "schema": { "type": "string" }, "example": value });
            headers.insert(name.to_owned(), header);
        }
    }
    let schemas: Vec<Value> =
        kinds.iter().map(|kind| json!({ "$ref": format!("#/components/schemas/{kind:?}Problem") })).collect();
    let schema = if let [only] = &schemas[..] { only.clone() } else { json!({ "oneOf": schemas }) };
    let examples: Map<String, Value> = kinds
        .iter()
        .map(|kind| {
            let example = json!({ "summary": kind.title(), "value": kind.example().body() });
            (kind.slug().to_owned(), example)
        })
        .collect();
    let titles: Vec<&str> = kinds.iter().map(|kind| kind.title()).collect();
    json!({
        "description": format!("{}.", titles.join("; or: ")),
        "headers": headers,
        "content": { PROBLEM_JSON: { "schema": schema, "examples": examples } },
    })
}

fn header(name: &str) -> &'static str {
    match name {
        "Accept-Encoding" => "The codings that bodies may have: none.",
        "Allow" => "The methods that the address takes.",
        "Retry-After" => "Seconds after which to try again.",
        "WWW-Authenticate" => {
            "A bearer token is needed; with `error=\"invalid_token\"`, another than the one that was sent."
        }
        other => unreachable!("the header {other} of a problem is not described"),
    }
}

/// The schemas of the kinds that `used` has, by their names among the contract's components.
pub(super) fn schemas(used: &[Kind], generator: &mut SchemaGenerator) -> Vec<(String, Value)> {
    let kinds = Kind::ALL.iter().filter(|kind| used.contains(kind));
    kinds.map(|&kind| (format!("{kind:?}Problem"), schema(kind, generator))).collect()
}

fn schema(kind: Kind, generator: &mut SchemaGenerator) -> Value {
    let mut required = vec!["type", "title", "status", "detail"];
    let mut properties = json!({
        "type": { "const": format!("/problems/{}", kind.slug()) },
        "title": { "const": kind.title() },
        "status": { "const": kind.status() },
        "detail": { "type": "string", "description": "What is wrong with this request, and what to change." },
    });
    for member in kind.members() {
        let mut schema: Schema = (member.schema)(generator);
        schema.insert("description".to_owned(), member.about.into());
        properties[member.name] = schema.into();
        if member.required {
            required.push(member.name);
        }
    }
    json!({ "description": kind.explanation(), "type": "object", "required": required, "properties": properties })
}
