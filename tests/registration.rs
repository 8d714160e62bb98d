//! Who may register, what admins do for others, and log-out.

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::client::{Answer, Client};
use support::server::{Server, boxoffice, run, serve};
use support::{PASSWORD, Stage, number, text};
use tempfile::tempdir;

const ANOTHER: &str = "another good password";

fn me(client: &Client) -> Answer {
    client.get("/api/v1/users/me")
}

fn register(client: &Client, username: &str, role: Option<&str>) -> Answer {
    let mut body = json!({ "username": username, "password": PASSWORD });
    if let Some(role) = role {
        body["role"] = json!(role);
    }
    client.post("/api/v1/users", &body)
}

/// A server with its own rule of who may register.
fn begin(data: &Path, arguments: &[&str]) -> Command {
    let mut command = serve(data);
    command.args(arguments).env_remove("BOXOFFICE_REGISTRATION");
    command
}

fn create_admin(data: &Path) {
    let mut command = boxoffice();
    command.args(["admin", "create", "--username", "root", "--data"]).arg(data);
    command.env("BOXOFFICE_ADMIN_PASSWORD", PASSWORD);
    let ended = run(command, "");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn customers_register_and_an_admin_makes_the_others() {
    let data = tempdir().unwrap();
    let server = Server::spawn(begin(data.path(), &["--shards", "2"]));
    let anyone = server.client();
    assert_eq!(register(&anyone, "ada", None).expect(201).json()["role"], "customer");
    register(&anyone, "bob", Some("customer")).expect(201);
    let refused = register(&anyone, "grace", Some("organizer")).problem(403, "registration-closed");
    assert!(text(&refused, "detail").contains("customers may register"), "{refused}");
    register(&anyone, "grace", Some("admin")).problem(403, "registration-closed");
    register(&anyone.log_in("ada", PASSWORD), "grace", Some("organizer")).problem(403, "registration-closed");
    let log = server.stderr();
    assert!(log.contains("boxoffice admin create --data"), "the first admin: {log}");
    server.kill();

    create_admin(data.path());
    let server = Server::spawn(begin(data.path(), &["--shards", "3", "--registrations-per-hour", "1"]));
    assert!(!server.stderr().contains("admin create"), "{}", server.stderr());
    let anyone = server.client();
    let root = anyone.log_in("root", PASSWORD);
    for (username, role) in [("grace", "organizer"), ("hedy", "admin"), ("ivy", "customer")] {
        let answer = register(&root, username, Some(role)).expect(201);
        let made = answer.json();
        assert_eq!(made["role"], role);
        assert_eq!(answer.header("location"), Some(&*format!("/api/v1/users/{}", number(&made, "id"))));
        assert_eq!(me(&anyone.log_in(username, PASSWORD)).expect(200).json(), made);
        assert_eq!(root.get(answer.header("location").unwrap()).expect(200).json(), made);
    }
    register(&root, "grace", Some("organizer")).problem(409, "username-taken");
    // An account that an admin makes is no registration.
    register(&anyone, "one", None).expect(201);
    register(&anyone, "two", None).problem(429, "too-many-registrations");
    register(&root, "two", None).expect(201);
    register(&anyone.with_token("nonsense"), "three", None).problem(401, "unauthorized");
}

#[test]
fn the_option_opens_or_closes_registration() {
    for (rule, customer, organizer) in [("open", 201, 201), ("customers", 201, 403), ("closed", 403, 403)] {
        let data = tempdir().unwrap();
        let server = Server::spawn(begin(data.path(), &["--shards", "1", "--registration", rule]));
        let anyone = server.client();
        assert_eq!(register(&anyone, "ada", None).status, customer, "{rule}");
        assert_eq!(register(&anyone, "grace", Some("organizer")).status, organizer, "{rule}");
        assert_eq!(register(&anyone, "root", Some("admin")).status, 403, "{rule}");
    }
}

#[test]
fn the_demonstration_keeps_its_users() {
    let data = tempdir().unwrap();
    let stage = Stage::on(Server::spawn(begin(data.path(), &["--demo", "--registration", "closed"])));
    assert_eq!(me(&stage.org1).expect(200).json()["role"], "organizer");
    register(&stage.admin, "grace", Some("organizer")).expect(201);
    assert!(!stage.server.stderr().contains("admin create"), "it has an admin");
}

#[test]
fn logging_out_ends_all_of_ones_tokens() {
    let data = tempdir().unwrap();
    let Stage { server, anyone, admin, cust2, .. } = Stage::open(data.path(), 3);
    let [one, two] = [(); 2].map(|()| anyone.log_in("cust1", PASSWORD));
    let sees_everywhere = |client: &Client, status: u16| {
        for _ in 0..12 {
            let fresh = server.client().with_token(client.token.as_ref().unwrap());
            assert_eq!(me(&fresh).status, status);
        }
    };
    sees_everywhere(&one, 200);
    sees_everywhere(&two, 200);
    one.delete("/api/v1/sessions").expect(204);
    sees_everywhere(&one, 401);
    sees_everywhere(&two, 401);
    one.delete("/api/v1/sessions").problem(401, "unauthorized");
    me(&cust2).expect(200);
    let again = anyone.log_in("cust1", PASSWORD);
    sees_everywhere(&again, 200);
    // An admin does it for another.
    let address = format!("/api/v1/users/{}", number(&me(&again).json(), "id"));
    admin.delete(&format!("{address}/sessions")).expect(204);
    sees_everywhere(&again, 401);
    let last = anyone.log_in("cust1", PASSWORD);
    server.kill();
    let server = Server::start(data.path(), &["--shards", "2"]);
    for (client, status) in [(&one, 401), (&two, 401), (&again, 401), (&last, 200)] {
        assert_eq!(me(&server.client().with_token(client.token.as_ref().unwrap())).status, status);
    }
}

#[test]
fn an_admin_finds_accounts_and_sets_their_passwords() {
    let data = tempdir().unwrap();
    let Stage { server, anyone, admin, cust1, .. } = Stage::open(data.path(), 2);
    let found = |name: &str| {
        let page = admin.get(&format!("/api/v1/users?username={name}")).expect(200).json();
        assert!(page["next"].is_null(), "{page}");
        page["items"].clone()
    };
    let account = me(&cust1).expect(200).json();
    assert_eq!(found("cust1"), json!([account]));
    assert_eq!(found("CUST1"), json!([account]));
    assert_eq!(found("nobody"), json!([]));
    let address = format!("/api/v1/users/{}", number(&account, "id"));
    let after = format!("/api/v1/users?username=cust1&after={}", number(&account, "id"));
    assert_eq!(admin.get(&after).expect(200).json()["items"], json!([]));

    let password = format!("{address}/password");
    for (body, pointer) in [
        (json!({ "new": "password" }), "/new"),
        (json!({ "new": "Cust1" }), "/new"),
        (json!({ "current": PASSWORD, "new": ANOTHER }), "/current"),
    ] {
        let refused: Value = admin.put(&password, &body).problem(422, "invalid");
        assert_eq!(refused["errors"][0]["pointer"], pointer);
    }
    me(&cust1).expect(200);
    admin.put(&password, &json!({ "new": ANOTHER })).expect(204);
    me(&cust1).problem(401, "unauthorized");
    let log_in = |password: &str| {
        anyone.post("/api/v1/sessions", &json!({ "username": "cust1", "password": password }))
    };
    log_in(PASSWORD).problem(401, "wrong-credentials");
    log_in(ANOTHER).expect(201);
    assert!(server.stderr().contains("an admin set a password"));

    admin.delete(&address).expect(204);
    assert_eq!(found("cust1"), json!([]));
    admin.get(&address).problem(404, "not-found");
    admin.put(&password, &json!({ "new": PASSWORD })).problem(404, "not-found");
    admin.delete(&format!("{address}/sessions")).problem(404, "not-found");
}
