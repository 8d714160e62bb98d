//! How the contract and the documentation pages are served. Their content is checked by
//! `contract/check` and `contract/fuzz`, and by every debug build of the server.

mod support;

use std::collections::BTreeSet;
use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::Value;
use support::client::{Answer, Client};
use support::server::Server;
use support::{PASSWORD, Stage};
use tempfile::tempdir;

const FILES: [&str; 8] = [
    "/openapi.json",
    "/docs",
    "/docs/swagger-ui-bundle.js",
    "/docs/swagger-ui.css",
    "/docs/start.js",
    "/docs/pages.css",
    "/problems",
    "/problems/sold-out",
];

fn unzipped(answer: &Answer) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(&*answer.body).read_to_end(&mut plain).expect("it is gzip");
    plain
}

#[test]
fn files_are_cached_and_compressed() {
    let server = Server::start(tempdir().unwrap().path(), &["--storage", "memory", "--shards", "2"]);
    let client = server.client();
    for path in FILES {
        let plain = client.get(path).expect(200);
        assert!(!plain.body.is_empty() && plain.header("content-encoding").is_none(), "{path}");
        assert_eq!(plain.header("cache-control"), Some("no-cache"), "{path}");
        let tag = plain.header("etag").expect("a tag");
        for known in [tag, &format!("\"other\", {tag}"), "*"] {
            let same = client.send("GET", path, &[("If-None-Match", known)], "").expect(304);
            assert!(same.body.is_empty() && same.header("etag") == Some(tag), "{path}: {same:?}");
        }
        let other = client.send("GET", path, &[("If-None-Match", "W/\"other\"")], "").expect(200);
        assert_eq!(other.body, plain.body, "{path}");

        for (encodings, compresses) in [("gzip, br", true), ("*", true), ("gzip;q=0", false), ("br", false)] {
            let answer = client.send("GET", path, &[("Accept-Encoding", encodings)], "").expect(200);
            assert_eq!(answer.header("vary"), Some("Accept-Encoding"), "{path}");
            if path.contains("swagger-ui") && compresses {
                assert_eq!(answer.header("content-encoding"), Some("gzip"), "{path} {encodings}");
                assert!(answer.body.len() * 3 < plain.body.len(), "{path}: {}", answer.body.len());
                assert_eq!(unzipped(&answer), plain.body, "{path} {encodings}");
            } else {
                assert_eq!(answer.header("content-encoding"), None, "{path} {encodings}");
                assert_eq!(answer.body, plain.body, "{path} {encodings}");
            }
        }
    }
}

#[test]
fn pages_load_only_from_this_server() {
    let server = Server::start(tempdir().unwrap().path(), &["--storage", "memory", "--shards", "1"]);
    let client = server.client();
    for path in FILES.iter().filter(|path| !path.contains('.')) {
        let page = client.get(path).expect(200);
        let policy = page.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{path}");
        let text = page.text();
        assert!(!text.contains("<style") && !text.contains("style="), "{path} has an inline style");
        assert_eq!(text.matches("<script").count(), text.matches("<script src=\"/docs/").count(), "{path}");
        let addresses = text.split("src=\"").skip(1).chain(text.split("href=\"").skip(1));
        let addresses: Vec<&str> = addresses.filter_map(|rest| rest.split('"').next()).collect();
        assert!(!addresses.is_empty(), "{path} has no links");
        for address in addresses.into_iter().filter(|address| *address != "data:,") {
            client.get(address).expect(200);
        }
    }
}

/// What a description or a schema of the contract must not have.
fn faults_of_generators(value: &Value, at: &str, faults: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            let variants = members.get("oneOf").and_then(Value::as_array);
            // The Python client of openapi-generator ignores `const`, and so finds every text to be all of them.
            if variants.is_some_and(|all| all.iter().all(|variant| variant.get("const").is_some())) {
                faults.push(format!("{at} is a oneOf of constants"));
            }
            members.iter().for_each(|(name, value)| {
                faults_of_generators(value, &format!("{at}/{name}"), faults);
            });
        }
        Value::Array(items) => items.iter().for_each(|item| faults_of_generators(item, at, faults)),
        // A link of rustdoc, to what is no part of the contract.
        Value::String(text) if text.contains("[`") => faults.push(format!("{at}: {text}")),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => (),
    }
}

#[test]
fn generators_of_clients_understand_the_contract() {
    let server = Server::start(tempdir().unwrap().path(), &["--storage", "memory", "--shards", "1"]);
    let contract = server.client().get("/openapi.json").expect(200).json();
    let mut faults = Vec::new();
    faults_of_generators(&contract, "", &mut faults);
    assert!(faults.is_empty(), "{faults:#?}");
}

/// As clients that are generated from the contract do: they accept the media types that it has for an operation.
#[test]
fn what_the_contract_says_can_be_accepted() {
    const IDS: [(&str, &str); 5] =
        [("{event}", "1"), ("{key}", "1"), ("{user}", "1"), ("{order}", "1-1"), ("{reservation}", "1-1")];
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 1);
    let contract = stage.anyone.get("/openapi.json").expect(200).json();
    let media_of = |response: &Value| -> Vec<String> {
        let reference = response["$ref"].as_str().map(|reference| &reference[1..]);
        let response = reference.map_or(Some(response), |reference| contract.pointer(reference));
        let content = response.expect("it is there")["content"].as_object();
        content.map(|content| content.keys().cloned().collect()).unwrap_or_default()
    };
    let mut tried = 0;
    for (path, operations) in contract["paths"].as_object().expect("paths") {
        let path = IDS.iter().fold(path.clone(), |path, (name, id)| path.replace(name, id));
        let operations = operations.as_object().expect("operations").iter();
        for (method, operation) in operations.filter(|_| path.starts_with("/api/")) {
            let responses = operation["responses"].as_object().expect("an operation has responses").values();
            let media: BTreeSet<String> = responses.flat_map(media_of).collect();
            let accept = Vec::from_iter(media).join(", ");
            let method = method.to_uppercase();
            // Whoever may do it: others are refused before their Accept is looked at. An operation may end a token.
            let who = ["cust1", "org1", "admin"].map(|name| stage.anyone.log_in(name, PASSWORD));
            let answers =
                |client: &Client, accept: &str| client.send(&method, &path, &[("Accept", accept)], "").status;
            let client = who.iter().find(|client| answers(client, "text/html") == 406);
            let client = client.unwrap_or_else(|| panic!("{method} {path} takes any Accept"));
            assert_ne!(answers(client, &accept), 406, "{method} {path} with Accept: {accept}");
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried} operations");
}

/// Every `type` in the contract is the address of a page.
#[test]
fn each_problem_of_the_contract_has_a_page() {
    let server = Server::start(tempdir().unwrap().path(), &["--storage", "memory", "--shards", "1"]);
    let client = server.client();
    let contract = client.get("/openapi.json").expect(200).json();
    let schemas = contract["components"]["schemas"].as_object().expect("schemas");
    let types = schemas.values().filter_map(|schema| schema["properties"]["type"]["const"].as_str());
    let types: Vec<&str> = types.collect();
    assert!(types.len() > 20, "{types:?}");
    let list = client.get("/problems").expect(200);
    for address in types {
        assert!(list.text().contains(&format!("href=\"{address}\"")), "{address}");
        let page = client.get(address).expect(200);
        assert!(page.text().contains(&format!("\"type\": \"{address}\"")), "{address}: {}", page.text());
    }
}
