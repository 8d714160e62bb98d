//! The contract: an OpenAPI 3.1 document of every endpoint, made from the endpoints themselves, the types
//! that are read and written, and the table of problems.

mod check;
mod problems;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

pub(crate) use check::check;
pub(crate) use problems::endpoints_with;

use super::api::{Access, ENDPOINTS, Endpoint, Header, KeyUse, RequestHeader, Success, Tag};
use super::http::parse::Method;
use super::problem::Kind;

/// The document, as JSON text.
pub(crate) fn document() -> &'static [u8] {
    static DOCUMENT: LazyLock<Vec<u8>> = LazyLock::new(|| format!("{}\n", build()).into_bytes());
    &DOCUMENT
}

fn build() -> Value {
    let mut document = Document::new();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for endpoint in ENDPOINTS {
        let Endpoint { method, path, .. } = endpoint;
        let described = document.operation(endpoint);
        paths.entry(path).or_default().insert(method.as_str().to_ascii_lowercase(), described);
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

**Tokens.** `POST /api/v1/sessions` gives one; send it as `Authorization: Bearer TOKEN`. The back end of an \
organizer sends an API key in its place (`POST /api/v1/keys`), which can do what its scopes name.

**Bodies** are JSON in UTF-8: `application/json`, `application/*+json`, or no Content-Type at all. Members and \
query parameters that are not known here are refused (422), as are members that are given twice.

**Errors** are `application/problem+json` (RFC 9457). `type` is the address of a page of this server that \
explains the problem, `detail` says what to change. 503 means that nothing was done.

**Later versions** add members to answers and values of `status`: take those that you do not know. They have \
more problems, too: treat one whose `type` you do not know as its status says.

**Every answer** has `X-Request-Id`: the client's own, if it sent one of 1 to 64 characters of \
`A-Z a-z 0-9 - _ . :`, else one that was made here. `Accept` has to let JSON through, if it is sent.

**Every GET** is also a HEAD. Methods that an address does not take are answered with 405 and `Allow`.";

struct Document {
    /// Of what is read and what is written.
    schemas: SchemaGenerator,
    /// Responses with problems.
    responses: BTreeMap<String, Value>,
    /// The kinds in these responses.
    kinds: Vec<Kind>,
}

impl Document {
    fn new() -> Document {
        let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Document { schemas: settings.into_generator(), responses: BTreeMap::new(), kinds: Vec::new() }
    }

    fn operation(&mut self, endpoint: &Endpoint) -> Value {
        let mut described = json!({
            "operationId": endpoint.id,
            "tags": [format!("{:?}", endpoint.tag)],
            "summary": endpoint.summary,
            "description": describe(endpoint),
            "security": security(endpoint.access),
            "parameters": self.parameters(endpoint),
            "responses": self.responses(endpoint),
        });
        if let Some(body) = endpoint.handler.body() {
            let content = json!({ "schema": (body.schema)(&mut self.schemas), "example": (body.example)() });
            let mut media = json!({ "application/json": content });
            if endpoint.method == Method::Patch {
                media["application/merge-patch+json"] = content;
            }
            described["requestBody"] = json!({ "required": body.required, "content": media });
        }
        described
    }

    fn parameters(&mut self, endpoint: &Endpoint) -> Vec<Value> {
        let in_path = endpoint.handler.path_parameter().map(|parameter| {
            json!({
                "name": parameter.name,
                "in": "path",
                "required": true,
                "description": parameter.about,
                "schema": (parameter.schema)(),
            })
        });
        let in_query = endpoint.handler.query_parameters(&mut self.schemas).into_iter().map(|property| {
            json!({
                "name": property.name,
                "in": "query",
                "required": property.required,
                "description": property.about.trim(),
                // A list is one text with commas.
                "explode": false,
                "schema": property.schema,
            })
        });
        let headers = [RequestHeader::REQUEST_ID].iter().chain(endpoint.headers);
        let headers =
            headers.map(|header| json!({ "$ref": format!("#/components/parameters/{}", header.id) }));
        in_path.into_iter().chain(in_query).chain(headers).collect()
    }

    fn responses(&mut self, endpoint: &Endpoint) -> Value {
        let mut responses: BTreeMap<String, Value> = BTreeMap::new();
        for success in endpoint.successes {
            let described = self.success(success);
            match responses.get_mut(&success.status.to_string()) {
                // The same status in another media type.
                Some(first) => {
                    for part in ["content", "headers"] {
                        let more = described[part].as_object().expect("it has a body").clone();
                        first[part].as_object_mut().expect("it has a body").extend(more);
                    }
                }
                None => drop(responses.insert(success.status.to_string(), described)),
            }
        }
        let mut by_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
        for kind in problems::of(endpoint) {
            by_status.entry(kind.status()).or_default().push(kind);
        }
        for (status, kinds) in by_status {
            let name = problems::response_name(&kinds);
            let reference = json!({ "$ref": format!("#/components/responses/{name}") });
            self.responses.entry(name).or_insert_with(|| problems::response(&kinds));
            self.kinds.extend(kinds);
            responses.insert(status.to_string(), reference);
        }
        json!(responses)
    }

    fn success(&mut self, success: &Success) -> Value {
        let mut headers = Map::new();
        for Header { name, about, example } in success.headers {
            let header = json!({ "description": about, "schema": { "type": "string" }, "example": example });
            headers.insert((*name).to_owned(), header);
        }
        headers.insert("X-Request-Id".to_owned(), json!({ "$ref": "#/components/headers/RequestId" }));
        let mut described = json!({ "description": success.about, "headers": headers });
        for (endpoint, parameter, pointer) in success.links {
            let value = format!("$response.body#{pointer}");
            described["links"][endpoint.id] =
                json!({ "operationId": endpoint.id, "parameters": { *parameter: value } });
        }
        if let Some(content) = &success.content {
            let schema = (content.schema)(&mut self.schemas);
            described["content"] =
                json!({ content.media: { "schema": schema, "example": content.example() } });
        }
        described
    }

    fn components(mut self) -> Value {
        let problems = problems::schemas(&self.kinds, &mut self.schemas);
        let mut schemas = self.schemas.take_definitions(true);
        schemas.extend(problems);
        let parameters: Map<String, Value> = RequestHeader::ALL
            .iter()
            .map(|header| (header.id.to_owned(), header_parameter(header)))
            .collect();
        json!({
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The `token` that POST /api/v1/sessions gives; or the `secret` of an API key.",
                },
            },
            "parameters": parameters,
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

fn header_parameter(header: &RequestHeader) -> Value {
    json!({
        "name": header.name,
        "in": "header",
        "description": header.about,
        "schema": { "type": "string" },
    })
}

fn describe(endpoint: &Endpoint) -> String {
    let who = match endpoint.access {
        Access::Anyone | Access::Optional(_) | Access::Demo => return endpoint.about.to_owned(),
        Access::LoggedIn(_) => "anyone who is logged in".to_owned(),
        Access::Only(roles, _) => roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(" or "),
    };
    let key = match endpoint.access.key_use() {
        KeyUse::Never => "not with an API key".to_owned(),
        KeyUse::Any => "with any API key, too".to_owned(),
        KeyUse::With(scope) => format!("with an API key: `{}`", scope.as_str()),
    };
    format!("{}\n\nFor: {who}; {key}.", endpoint.about)
}

fn security(access: Access) -> Value {
    match access {
        Access::Anyone | Access::Demo => json!([]),
        Access::Optional(_) => json!([{}, { "bearer": [] }]),
        Access::LoggedIn(_) | Access::Only(..) => json!([{ "bearer": [] }]),
    }
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
    fn every_endpoint_is_an_operation_and_nothing_else_is() {
        let document: Value = serde_json::from_slice(document()).unwrap();
        let mut ids = Vec::new();
        for (_, methods) in document["paths"].as_object().unwrap() {
            ids.extend(methods.as_object().unwrap().values().map(|one| one["operationId"].as_str().unwrap()));
        }
        let mut wanted: Vec<&str> = ENDPOINTS.iter().map(|endpoint| endpoint.id).collect();
        wanted.sort_unstable();
        ids.sort_unstable();
        assert_eq!(ids, wanted);
        wanted.dedup();
        assert_eq!(ids.len(), wanted.len(), "two endpoints have one id");
        let successes = ENDPOINTS.iter().flat_map(|endpoint| endpoint.successes);
        for (linked, ..) in successes.flat_map(|success| success.links) {
            assert!(
                wanted.contains(&linked.id),
                "{} is linked to, and is no endpoint of the list",
                linked.id
            );
        }

        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 100);
        for target in found {
            assert!(document.pointer(&target).is_some(), "{target} is not there");
        }
    }

    #[test]
    fn unsafe_methods_write() {
        // A login changes nothing, and the demonstration data is made by a GET.
        let others = ["createSession", "populate"];
        for endpoint in ENDPOINTS.iter().filter(|endpoint| !others.contains(&endpoint.id)) {
            assert_eq!(endpoint.writes, !endpoint.method.is_safe(), "{}", endpoint.id);
        }
    }

    /// The contract names 401 and 403 where they can occur.
    #[test]
    fn access_is_documented() {
        let document: Value = serde_json::from_slice(document()).unwrap();
        for endpoint in ENDPOINTS {
            let Endpoint { method, path, access, .. } = endpoint;
            let operation = &document["paths"][path][method.as_str().to_ascii_lowercase()];
            let is_documented = |status: &str| operation["responses"][status].is_object();
            let anonymous = json!({});
            let takes_anonymous = match operation["security"].as_array().expect("a list") {
                empty if empty.is_empty() => true,
                ways => ways.contains(&anonymous),
            };
            let needs_token = matches!(access, Access::LoggedIn(_) | Access::Only(..));
            assert_eq!(takes_anonymous, !needs_token, "{path}");
            assert_eq!(
                is_documented("401"),
                access.reads_tokens() || endpoint.id == "createSession",
                "{path}"
            );
            assert!(!matches!(access, Access::Only(..)) || is_documented("403"), "{path}");
        }
    }
}
