//! Proxies: whose fields tell the client's address, and what these fields may hold.

mod support;

use std::path::Path;
use std::thread;

use serde_json::{Value, json};
use support::client::{Answer, Wire, request};
use support::server::Server;

/// Sends a login with a wrong password, from a loopback address. `fields` are complete lines.
fn wrong_login(server: &Server, from: &str, username: &str, fields: &str) -> Answer {
    let body = json!({ "username": username, "password": "a wrong password" }).to_string();
    let fields = format!("Content-Type: application/json\r\n{fields}");
    let mut wire = Wire::open_from(server.address, from.parse().expect("an address"));
    wire.ask(request("POST", "/api/v1/sessions", None, &fields, &body))
}

fn memory(arguments: &[&str]) -> Server {
    let mut all = vec!["--storage", "memory", "--shards", "2"];
    all.extend_from_slice(arguments);
    Server::start(Path::new("."), &all)
}

/// Checks that five wrong passwords with `fields` are counted as those of the client at 192.0.2.1, and not as
/// those of the proxy.
#[track_caller]
fn counts_as_the_client(server: &Server, username: &str, fields: &str) {
    for _ in 0..5 {
        let answer = wrong_login(server, "127.0.0.1", username, fields);
        assert_eq!(answer.status, 401, "{fields:?}: {}", answer.text());
    }
    let plain = "X-Forwarded-For: 192.0.2.1\r\n";
    let answer = wrong_login(server, "127.0.0.1", username, plain);
    assert_eq!(answer.status, 429, "{fields:?} is not counted as {plain:?}");
    for other in ["", "X-Forwarded-For: 192.0.2.2\r\n", "X-Forwarded-For: 127.0.0.1\r\n"] {
        let answer = wrong_login(server, "127.0.0.1", username, other);
        assert_eq!(answer.status, 401, "{fields:?} is counted as {other:?}, too");
    }
}

const SAY_THE_CLIENT: [&str; 12] = [
    "X-Forwarded-For: 192.0.2.1:4711\r\n",
    "X-Forwarded-For: [::ffff:192.0.2.1]\r\n",
    "X-Forwarded-For: [::ffff:192.0.2.1]:4711\r\n",
    "X-Forwarded-For: 192.0.2.1,\r\n",
    "X-Forwarded-For: , 192.0.2.1 ,, \r\n",
    // Anybody can have written what stands before the client's address.
    "X-Forwarded-For: 198.51.100.9, garbage\r\nX-Forwarded-For: 192.0.2.1\r\n",
    // Proxies behind the first one add the one before them.
    "X-Forwarded-For: 203.0.113.9, 192.0.2.1, 10.0.0.8:80, 10.1.2.3\r\n",
    "Forwarded: for=192.0.2.1\r\n",
    "Forwarded: by=_gate;For=\"192.0.2.1:4711\";proto=https\r\n",
    "Forwarded: for=_hidden, for=\"192.0.2.1:_port\" , , for=10.0.0.8;by=\"[2001:db8::1]\"\r\n",
    "Forwarded: for=\"[2001:db8::9]\"\r\nForwarded: for=192.0.2.1, for=\"10.0.0.8:80\"\r\n",
    "Forwarded: for=192.0.2.1;host=\"a, for=198.51.100.9\"\r\nX-Forwarded-For: 192.0.2.1\r\n",
];

#[test]
fn what_proxies_write_names_the_client() {
    let server = memory(&["--trusted-proxy", "127.0.0.1", "--trusted-proxy", "10.0.0.0/8,2001:db8:1::/48"]);
    thread::scope(|scope| {
        for (index, fields) in SAY_THE_CLIENT.into_iter().enumerate() {
            let server = &server;
            scope.spawn(move || counts_as_the_client(server, &format!("client-{index}"), fields));
        }
    });
}

#[test]
fn what_names_no_client_is_refused() {
    let server = memory(&["--trusted-proxy", "127.0.0.1,10.0.0.0/8"]);
    let x_forwarded_for = "X-Forwarded-For";
    let rows = [
        ("X-Forwarded-For: \r\n", x_forwarded_for, "no address"),
        ("X-Forwarded-For: , ,\r\n", x_forwarded_for, "no address"),
        ("X-Forwarded-For: 192.0.2.1, unknown\r\n", x_forwarded_for, "\"unknown\""),
        ("X-Forwarded-For: 192.0.2.1, garbage, 10.0.0.8\r\n", x_forwarded_for, "\"garbage\""),
        ("X-Forwarded-For: 192.0.2.256\r\n", x_forwarded_for, "\"192.0.2.256\""),
        ("X-Forwarded-For: 192.0.2.1:99999\r\n", x_forwarded_for, "\"192.0.2.1:99999\""),
        ("X-Forwarded-For: [2001:db8::1\r\n", x_forwarded_for, "\"[2001:db8::1\""),
        ("X-Forwarded-For: 192.0.2.1 192.0.2.2\r\n", x_forwarded_for, "\"192.0.2.1 192.0.2.2\""),
        ("Forwarded: for=192.0.2.1, for=_hidden\r\n", "Forwarded", "\"_hidden\""),
        ("Forwarded: for=unknown\r\n", "Forwarded", "\"unknown\""),
        ("Forwarded: for=192.0.2.1, proto=https\r\n", "Forwarded", "without \"for\""),
        ("Forwarded: 192.0.2.1\r\n", "Forwarded", "RFC 7239"),
        ("Forwarded: for=\"192.0.2.1\r\n", "Forwarded", "RFC 7239"),
        // A quote that a client leaves open does not swallow what the proxy adds.
        ("Forwarded: for=\"x, for=\"[2001:db8::1]\"\r\n", "Forwarded", "RFC 7239"),
        ("Forwarded: for=192.0.2.1;for=192.0.2.2\r\n", "Forwarded", "RFC 7239"),
        ("Forwarded: for=192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\n", "Forwarded", "192.0.2.2"),
        ("Forwarded: for=192.0.2.1\r\nX-Forwarded-For: x\r\n", x_forwarded_for, "\"x\""),
    ];
    for (fields, name, why) in rows {
        let problem = wrong_login(&server, "127.0.0.1", "ada", fields).problem(400, "unclear-client-address");
        let detail = problem["detail"].as_str().expect("a text");
        assert!(detail.contains(name) && detail.contains(why), "{fields:?}: {detail}");
    }
    // None of these was counted, and what others than proxies write is not read.
    for (fields, _, _) in &rows[..4] {
        assert_eq!(wrong_login(&server, "127.0.0.2", "ada", fields).status, 401);
    }
    assert_eq!(wrong_login(&server, "127.0.0.1", "ada", "").status, 401);
}

#[test]
fn only_a_trusted_proxy_is_believed() {
    let named = memory(&["--trusted-proxy", "127.0.0.1"]);
    let anyone = memory(&["--trust-forwarded-for"]);
    for (server, from, believed) in
        [(&named, "127.0.0.1", true), (&named, "127.0.0.2", false), (&anyone, "127.0.0.2", true)]
    {
        let username = format!("user-{from}");
        let statuses: Vec<u16> = (1..=6)
            .map(|host| {
                let fields = format!("X-Forwarded-For: 203.0.113.9, 192.0.2.{host}\r\n");
                wrong_login(server, from, &username, &fields).status
            })
            .collect();
        assert_eq!(statuses[..5], [401; 5], "{from}");
        assert_eq!(statuses[5], if believed { 401 } else { 429 }, "{from}");
    }
}

#[test]
fn the_contract_has_the_refusal() {
    let server = memory(&[]);
    let contract: Value = server.client().get("/openapi.json").expect(200).json();
    for (path, method) in [("/api/v1/sessions", "post"), ("/api/v1/users/me/password", "put")] {
        let responses = contract["paths"][path][method]["responses"]["400"].to_string();
        assert!(responses.contains("UnclearClientAddress"), "{path}: {responses}");
    }
    server.client().get("/problems/unclear-client-address").expect(200);
}
