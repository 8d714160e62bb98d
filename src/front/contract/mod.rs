//! The contract: an OpenAPI 3.1 document of every route, made from the table
//! that routes, the types that are read and written, and the table of problems.
//!
//! Debug builds hold the head of what endpoints answer against it (status, media type, names of
//! headers), so each test of the server is a test of its contract.

mod operations;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use shards::schema::ID_PATTERN;

use operations::{Answer as GoodAnswer, Header, Operation, Tag, operation};

use super::api;
use super::http::parse::Method;
use super::http::write::Response;
use super::problem::{Kind, PROBLEM_JSON, Problem};
use super::router::{Access, Endpoint, ROUTES, Route};

/// What any request can be answered with, before it is looked at: the bytes are
/// no request, or the server has no room for it.
const ALWAYS: [Kind; 11] = [
    Kind::MalformedRequest,
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
];

/// Every kind of problem that a route can answer with, in the order of their table.
fn problems(route: &Route, operation: &Operation) -> Vec<Kind> {
    let can_occur = |kind: Kind| {
        ALWAYS.contains(&kind)
            || operation.problems.contains(&kind)
            || match kind {
                Kind::Unauthorized => route.access != Access::Anyone,
                Kind::Forbidden => matches!(route.access, Access::Only(_)),
                Kind::NotFound => parameter(route.path).is_some(),
                Kind::NotAcceptable | Kind::Invalid => route.speaks_json(),
                Kind::LogFull => !route.method.is_safe() && route.endpoint != Endpoint::CreateSession,
                Kind::MalformedJson | Kind::UnsupportedMediaType => operation.body.is_some(),
                _ => false,
            }
    };
    Kind::ALL.iter().copied().filter(|&kind| can_occur(kind)).collect()
}

/// Operations that can answer with this kind, but for those where each can.
pub fn operations_with(kind: Kind) -> impl Iterator<Item = &'static Route> {
    let routes = ROUTES.iter().filter(move |_| !ALWAYS.contains(&kind));
    routes.filter(move |route| problems(route, &operation(route.endpoint)).contains(&kind))
}

/// The name of the path's parameter.
fn parameter(path: &str) -> Option<&str> {
    Some(path.split_once('{')?.1.split_once('}')?.0)
}

/// The document, as JSON text.
pub fn document() -> &'static [u8] {
    static DOCUMENT: LazyLock<Vec<u8>> = LazyLock::new(|| build().to_string().into_bytes());
    &DOCUMENT
}

fn build() -> Value {
    let mut document = Document::new();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in ROUTES {
        let described = document.operation(route);
        paths.entry(route.path).or_default().insert(route.method.as_str().to_ascii_lowercase(), described);
    }
    let tags: Vec<Value> = Tag::ALL
        .iter()
        .map(|tag| json!({ "name": format!("{tag:?}"), "description": tag.about() }))
        .collect();
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "boxoffice",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Event tickets: none sold twice, no sale lost.",
            "description": ABOUT,
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": "/", "description": "The server that gave this document." }],
        "tags": tags,
        "paths": paths,
        "components": document.components(),
    })
}

const ABOUT: &str = "\
An answer of 2xx is on disk, and so is everything that it shows.

**Tokens.** `POST /api/v1/sessions` gives one; send it as `Authorization: Bearer TOKEN`.

**Bodies** are JSON in UTF-8: `application/json`, `application/*+json`, or no Content-Type at all. Members and \
query parameters that are not known here are refused (422), as are members that are given twice.

**Errors** are `application/problem+json` (RFC 9457). `type` is the address of a page of this server that \
explains the problem, `detail` says what to change. 503 means that nothing was done.

**Every answer** has `X-Request-Id`: the client's own, if it sent one of 1 to 64 characters of \
`A-Z a-z 0-9 - _ . :`, else one that was made here. `Accept` has to let JSON through, if it is sent.

**Every GET** is also a HEAD. Methods that an address does not take are answered with 405 and `Allow`.";

struct Document {
    /// Of what is read and what is written.
    schemas: SchemaGenerator,
    responses: BTreeMap<String, Value>,
}

impl Document {
    fn new() -> Document {
        let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Document { schemas: settings.into_generator(), responses: BTreeMap::new() }
    }

    fn operation(&mut self, route: &Route) -> Value {
        let operation = operation(route.endpoint);
        let mut described = json!({
            "operationId": operation_id(route.endpoint),
            "tags": [format!("{:?}", operation.tag)],
            "summary": operation.summary,
            "description": describe(route, &operation),
            "security": security(route, &operation),
            "parameters": self.parameters(route, &operation),
            "responses": self.answers(route, &operation),
        });
        if let Some((form, example)) = &operation.body {
            let content = json!({ "schema": form(&mut self.schemas), "example": example });
            let mut media = json!({ "application/json": content });
            if route.method == Method::Patch {
                media["application/merge-patch+json"] = content;
            }
            described["requestBody"] = json!({ "required": true, "content": media });
        }
        described
    }

    fn parameters(&mut self, route: &Route, operation: &Operation) -> Vec<Value> {
        let mut parameters = Vec::new();
        if let Some(name) = parameter(route.path) {
            let (about, schema) = path_parameter(route.endpoint, name);
            parameters.push(
                json!({ "name": name, "in": "path", "required": true, "description": about, "schema": schema }),
            );
        }
        for property in operation.query.map(|list| list(&mut self.schemas)).unwrap_or_default() {
            parameters.push(json!({
                "name": property.name,
                "in": "query",
                "required": property.required,
                "description": property.about.trim(),
                "schema": property.schema,
            }));
        }
        parameters.push(json!({ "$ref": "#/components/parameters/RequestId" }));
        if operation.revalidates {
            parameters.push(json!({ "$ref": "#/components/parameters/IfNoneMatch" }));
        }
        parameters
    }

    fn answers(&mut self, route: &Route, operation: &Operation) -> Value {
        let mut answers: BTreeMap<String, Value> = BTreeMap::new();
        for answer in &operation.answers {
            let described = self.good_answer(answer);
            match answers.get_mut(&answer.status.to_string()) {
                // The same status in another media type.
                Some(first) => {
                    let content = described["content"].as_object().expect("it has a body").clone();
                    first["content"].as_object_mut().expect("it has a body").extend(content);
                }
                None => drop(answers.insert(answer.status.to_string(), described)),
            }
        }
        let mut by_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
        for kind in problems(route, operation) {
            by_status.entry(kind.status()).or_default().push(kind);
        }
        for (status, kinds) in by_status {
            let reference = self.problem_answer(&kinds);
            answers.insert(status.to_string(), reference);
        }
        json!(answers)
    }

    fn good_answer(&mut self, answer: &GoodAnswer) -> Value {
        let mut headers = Map::new();
        for Header { name, about, example } in answer.headers {
            let header = json!({ "description": about, "schema": { "type": "string" }, "example": example });
            headers.insert((*name).to_owned(), header);
        }
        headers.insert("X-Request-Id".to_owned(), json!({ "$ref": "#/components/headers/RequestId" }));
        let mut described = json!({ "description": answer.about, "headers": headers });
        for (endpoint, parameter, pointer) in answer.links {
            let id = operation_id(*endpoint);
            let value = format!("$response.body#{pointer}");
            described["links"][&id] = json!({ "operationId": id, "parameters": { *parameter: value } });
        }
        if let Some((media, form, example)) = &answer.content {
            let mut content = Map::new();
            content.insert(
                (*media).to_owned(),
                json!({ "schema": form(&mut self.schemas), "example": example }),
            );
            described["content"] = Value::Object(content);
        }
        described
    }

    /// A reference to the answer that has one of these kinds, which share their status.
    fn problem_answer(&mut self, kinds: &[Kind]) -> Value {
        let name = kinds.iter().map(|kind| format!("{kind:?}")).collect::<Vec<_>>().join("Or");
        let reference = json!({ "$ref": format!("#/components/responses/{name}") });
        if self.responses.contains_key(&name) {
            return reference;
        }
        let mut headers = Map::new();
        headers.insert("X-Request-Id".to_owned(), json!({ "$ref": "#/components/headers/RequestId" }));
        for kind in kinds {
            for (name, value) in kind.example().headers() {
                let about = problem_header(name);
                let header =
                    json!({ "description": about, "schema": { "type": "string" }, "example": value });
                headers.insert(name.to_owned(), header);
            }
        }
        let schemas: Vec<Value> = kinds
            .iter()
            .map(|kind| json!({ "$ref": format!("#/components/schemas/{kind:?}Problem") }))
            .collect();
        let schema = if let [only] = &schemas[..] { only.clone() } else { json!({ "oneOf": schemas }) };
        let examples: Map<String, Value> = kinds
            .iter()
            .map(|kind| {
                let example = json!({ "summary": kind.title(), "value": kind.example().body() });
                (kind.slug().to_owned(), example)
            })
            .collect();
        let titles: Vec<&str> = kinds.iter().map(|kind| kind.title()).collect();
        let mut described =
            json!({ "description": format!("{}.", titles.join("; or: ")), "headers": headers });
        described["content"] = json!({ PROBLEM_JSON: { "schema": schema, "examples": examples } });
        self.responses.insert(name, described);
        reference
    }

    fn components(mut self) -> Value {
        let problems: Vec<(String, Value)> = Kind::ALL
            .iter()
            .filter(|kind| {
                self.responses.keys().any(|name| name.split("Or").any(|one| one == format!("{kind:?}")))
            })
            .map(|&kind| (format!("{kind:?}Problem"), problem_schema(kind, &mut self.schemas)))
            .collect();
        let mut schemas = self.schemas.take_definitions(true);
        schemas.extend(problems);
        json!({
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The `token` that POST /api/v1/sessions gives.",
                },
            },
            "parameters": {
                "RequestId": {
                    "name": "X-Request-Id",
                    "in": "header",
                    "description": "Comes back with the answer, if it has 1 to 64 characters of `A-Z a-z 0-9 - _ . :`.",
                    "schema": { "type": "string" },
                },
                "IfNoneMatch": {
                    "name": "If-None-Match",
                    "in": "header",
                    "description": "The ETag of the file that the client has: if it is still good, the answer is 304.",
                    "schema": { "type": "string" },
                },
            },
            "headers": {
                "RequestId": {
                    "description": "Tells this request from all others, in logs on both sides.",
                    "required": true,
                    "schema": { "type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$" },
                },
            },
            "responses": self.responses,
            "schemas": schemas,
        })
    }
}

/// `CreateEvent` as `createEvent`.
fn operation_id(endpoint: Endpoint) -> String {
    let name = format!("{endpoint:?}");
    name[..1].to_ascii_lowercase() + &name[1..]
}

fn describe(route: &Route, operation: &Operation) -> String {
    let who = match route.access {
        Access::Anyone => return operation.about.to_owned(),
        Access::LoggedIn => "anyone who is logged in".to_owned(),
        Access::Only(roles) => roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(" or "),
    };
    format!("{}\n\nFor: {who}.", operation.about)
}

fn security(route: &Route, operation: &Operation) -> Value {
    match (route.access, operation.token_helps) {
        (Access::Anyone, false) => json!([]),
        (Access::Anyone, true) => json!([{}, { "bearer": [] }]),
        (Access::LoggedIn | Access::Only(_), _) => json!([{ "bearer": [] }]),
    }
}

fn path_parameter(endpoint: Endpoint, name: &str) -> (&'static str, Value) {
    match (name, endpoint) {
        ("event", _) => ("The event's id.", json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX })),
        ("user", _) => ("The account's id.", json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX })),
        ("reservation", _) => (
            "The reservation's id: the event's, and its number there.",
            json!({ "type": "string", "pattern": format!("^{ID_PATTERN}-{ID_PATTERN}$") }),
        ),
        ("name", Endpoint::ProblemPage) => (
            "The last part of a problem's `type`.",
            json!({ "type": "string", "enum": Kind::ALL.iter().map(|kind| kind.slug()).collect::<Vec<_>>() }),
        ),
        ("file", Endpoint::DocsFile) => {
            ("The file's name.", json!({ "type": "string", "enum": api::docs_file_names() }))
        }
        (other, _) => unreachable!("the parameter {other} of a path is not described"),
    }
}

fn problem_header(name: &str) -> &'static str {
    match name {
        "Allow" => "The methods that the address takes.",
        "Retry-After" => "Seconds after which to try again.",
        "WWW-Authenticate" => "A bearer token is needed.",
        other => unreachable!("the header {other} of a problem is not described"),
    }
}

fn problem_schema(kind: Kind, schemas: &mut SchemaGenerator) -> Value {
    let mut required = vec!["type", "title", "status", "detail"];
    let mut properties = json!({
        "type": { "const": format!("/problems/{}", kind.slug()) },
        "title": { "const": kind.title() },
        "status": { "const": kind.status() },
        "detail": { "type": "string", "description": "What is wrong with this request, and what to change." },
    });
    if let Some(member) = kind.member() {
        let mut schema: Schema = (member.schema)(schemas);
        schema.insert("description".to_owned(), member.about.into());
        properties[member.name] = schema.into();
        required.push(member.name);
    }
    json!({ "description": kind.explanation(), "type": "object", "required": required, "properties": properties })
}

/// Panics in debug builds when the contract does not have such an answer.
pub(super) fn check(route: &Route, result: &Result<Response, Problem>) {
    if cfg!(debug_assertions) {
        match result {
            Ok(response) => check_response(route, response),
            Err(problem) => check_problem(route, problem),
        }
    }
}

fn check_problem(route: &Route, problem: &Problem) {
    let kind = problem.kind();
    let documented = problems(route, &operation(route.endpoint)).contains(&kind);
    assert!(documented, "{:?} answered {kind:?}, which its contract does not have", route.endpoint);
    let names = |problem: &Problem| problem.headers().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(problem), names(&kind.example()), "headers of {kind:?}");
}

fn check_response(route: &Route, response: &Response) {
    let operation = operation(route.endpoint);
    let fits = operation.answers.iter().any(|answer| {
        answer.status == response.status
            && answer.content.as_ref().map(|(media, ..)| *media) == response.content_type
            && response
                .headers
                .iter()
                .all(|(name, _)| answer.headers.iter().any(|header| header.name == *name))
    });
    assert!(
        fits,
        "{:?} answered {} {:?}, which its contract does not have",
        route.endpoint, response.status, response.headers
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `$ref` of a value, with its `#` left out.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    match member.as_str().filter(|_| name == "$ref") {
                        Some(target) => found.push(target.trim_start_matches('#').to_owned()),
                        None => references(member, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_route_is_an_operation_and_nothing_else_is() {
        let document: Value = serde_json::from_slice(document()).unwrap();
        let mut ids = Vec::new();
        for (_, methods) in document["paths"].as_object().unwrap() {
            ids.extend(methods.as_object().unwrap().values().map(|one| one["operationId"].as_str().unwrap()));
        }
        let mut wanted: Vec<String> = ROUTES.iter().map(|route| operation_id(route.endpoint)).collect();
        wanted.sort_unstable();
        ids.sort_unstable();
        assert_eq!(ids, wanted);
        wanted.dedup();
        assert_eq!(ids.len(), wanted.len(), "two routes to one endpoint");

        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 100);
        for target in found {
            assert!(document.pointer(&target).is_some(), "{target} is not there");
        }
    }

    /// Who may not ask is told so by the contract, and nobody else.
    #[test]
    fn access_is_documented() {
        let document: Value = serde_json::from_slice(document()).unwrap();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method.as_str().to_ascii_lowercase()];
            let needs_token = route.access != Access::Anyone;
            assert_eq!(
                operation["security"],
                if needs_token { json!([{ "bearer": [] }]) } else { operation["security"].clone() }
            );
            assert!(!needs_token || operation["responses"]["401"].is_object(), "{}", route.path);
            let by_role = matches!(route.access, Access::Only(_));
            assert!(!by_role || operation["responses"]["403"].is_object(), "{}", route.path);
        }
    }
}
