//! If-Match: an edit or a deletion that is meant for one version of an event (RFC 9110 section 13.1.1).

mod support;

use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};
use support::client::{Answer, Client};
use support::server::Server;
use support::{Stage, number, text};
use tempfile::tempdir;

/// Values of If-Match for an event whose ETag is `"2"`, and the status of an edit: 412 if it is meant for other
/// versions, 422 if the value is malformed.
const VALUES: [(&[&str], u16); 26] = [
    (&[], 200),
    (&["\"2\""], 200),
    (&["*"], 200),
    (&["\"1\", \"2\""], 200),
    (&["\"2\",\"1\""], 200),
    (&[",, \"1\" ,\t\"2\","], 200),
    (&["\"1\"", "\"2\""], 200),
    (&["\"a,b\", W/\"1\", \"2\""], 200),
    (&["\"1\""], 412),
    (&["\"3\""], 412),
    (&["\"1\", \"3\""], 412),
    // A weak tag is equal to none, and an event's tag has one form.
    (&["W/\"2\""], 412),
    (&["\"02\""], 412),
    (&["\"+2\""], 412),
    (&["\"\""], 412),
    (&["\"18446744073709551618\""], 412),
    (&["2"], 422),
    (&["\"2"], 422),
    (&["\"2\"\"3\""], 422),
    (&["\"2\" \"3\""], 422),
    (&["\"2 \""], 422),
    (&["w/\"2\""], 422),
    (&["*, \"2\""], 422),
    (&["\"2\"", "*"], 422),
    (&[""], 422),
    (&[" , "], 422),
];

fn send(client: &Client, method: &str, path: &str, tags: &[&str], body: &str) -> Answer {
    let headers: Vec<_> = tags.iter().map(|tag| ("If-Match", *tag)).collect();
    client.send(method, path, &headers, body)
}

fn check_refusal(answer: Answer, status: u16, tags: &[&str], etag: &str) {
    match status {
        412 => assert_eq!(text(&answer.problem(412, "version-mismatch"), "etag"), etag, "{tags:?}"),
        422 => {
            let problem = answer.problem(422, "invalid");
            assert_eq!(problem["errors"][0]["pointer"], "If-Match:", "{tags:?}: {problem}");
        }
        other => unreachable!("{other} is no refusal"),
    }
}

#[test]
fn a_change_is_made_only_to_the_version_that_it_names() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    for (tags, status) in VALUES {
        let event = stage.event(10);
        let path = format!("/api/v1/events/{event}");
        stage.org1.patch(&path, &json!({ "quota": 11 })).expect(200);
        let edit = json!({ "quota": 12 }).to_string();
        let edited = send(&stage.org1, "PATCH", &path, tags, &edit);
        let quota = |quota: u64| assert_eq!(number(&stage.seen(event), "quota"), quota, "{tags:?}");
        if status == 200 {
            assert_eq!(edited.expect(200).header("etag"), Some("\"3\""), "{tags:?}");
            quota(12);
            // The edit made another version.
            if !tags.is_empty() && *tags != ["*"] {
                check_refusal(send(&stage.org1, "DELETE", &path, tags, ""), 412, tags, "\"3\"");
            }
            send(&stage.org1, "DELETE", &path, &["\"3\""], "").expect(204);
            stage.anyone.get(&path).problem(410, "event-deleted");
        } else {
            check_refusal(edited, status, tags, "\"2\"");
            check_refusal(send(&stage.admin, "DELETE", &path, tags, ""), status, tags, "\"2\"");
            quota(11);
        }
    }
}

#[test]
fn a_precondition_is_looked_at_last_but_before_what_is_sold() {
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10);
    let path = format!("/api/v1/events/{event}");
    stage.reservation(event, 3);
    let (other, own) = (&["\"7\""][..], &["\"1\""][..]);
    let edit = json!({ "quota": 2 }).to_string();
    // RFC 9110 section 13.2.1: a request that fails without the precondition fails in the same way with it.
    send(&stage.anyone, "PATCH", &path, other, &edit).problem(401, "unauthorized");
    send(&stage.cust1, "PATCH", &path, other, &edit).problem(403, "forbidden");
    send(&stage.org2, "PATCH", &path, other, &edit).problem(403, "not-yours");
    send(&stage.org1, "PATCH", &path, other, "{\"quota\":-1}").problem(422, "invalid");
    send(&stage.org1, "PATCH", "/api/v1/events/999999", &["*"], &edit).problem(404, "not-found");
    send(&stage.org1, "PATCH", &path, other, &edit).problem(412, "version-mismatch");
    send(&stage.org1, "PATCH", &path, own, &edit).problem(409, "quota-below-committed");
    send(&stage.org1, "DELETE", &path, other, "").problem(412, "version-mismatch");
    send(&stage.org1, "DELETE", &path, own, "").problem(409, "has-reservations");
    // A hand-over is an edit, and sales make no version.
    let organizer = number(&stage.org2.get("/api/v1/users/me").expect(200).json(), "id");
    let hand_over = json!({ "organizer": organizer }).to_string();
    send(&stage.org1, "PATCH", &path, other, &hand_over).problem(412, "version-mismatch");
    send(&stage.org1, "PATCH", &path, own, &hand_over).expect(200);
    stage.reservation(event, 1);
    send(&stage.org2, "DELETE", &format!("{path}?force=true"), own, "").problem(412, "version-mismatch");
    send(&stage.org2, "DELETE", &format!("{path}?force=true"), &["\"2\""], "").expect(204);
    send(&stage.org2, "PATCH", &path, &["*"], &edit).problem(410, "event-deleted");
}

/// Several editors read the same version, and all of them write: one edit is made, and no sale is lost or counted
/// twice by it.
#[test]
fn of_edits_of_one_version_one_is_made_also_during_a_sale() {
    const EDITORS: usize = 6;
    const ROUNDS: u64 = 12;
    let data = tempdir().unwrap();
    let stage = Stage::open(data.path(), 2);
    let event = stage.event(10_000);
    let path = format!("/api/v1/events/{event}");
    for round in 1..=ROUNDS {
        let barrier = Barrier::new(EDITORS + 1);
        let edit = |editor: usize| {
            barrier.wait();
            let body = json!({ "quota": 10_000 + EDITORS as u64 * round + editor as u64 }).to_string();
            let answer = send(&stage.org1, "PATCH", &path, &[&format!("\"{round}\"")], &body);
            match answer.status {
                200 => Some(answer.json()),
                _ => {
                    let etag = format!("\"{}\"", round + 1);
                    check_refusal(answer, 412, &[], &etag);
                    None
                }
            }
        };
        let edited: Vec<Value> = thread::scope(|scope| {
            let editors: Vec<_> = (0..EDITORS).map(|editor| scope.spawn(move || edit(editor))).collect();
            barrier.wait();
            stage.reservation(event, 1);
            editors.into_iter().filter_map(|editor| editor.join().unwrap()).collect()
        });
        let [edited] = &edited[..] else { panic!("{} edits of version {round}", edited.len()) };
        let seen = stage.seen(event);
        assert_eq!(seen["quota"], edited["quota"], "round {round}");
        assert_eq!(number(&seen, "reserved"), round);
    }

    // The version is that of the log, whatever becomes of the process.
    let Stage { server, org1, .. } = stage;
    server.kill();
    let server = Server::start(data.path(), &["--shards", "3"]);
    let org1 = org1.at(server.address);
    let etag = format!("\"{}\"", ROUNDS + 1);
    assert_eq!(org1.get(&path).expect(200).header("etag"), Some(&*etag));
    let body = json!({ "quota": 50_000 }).to_string();
    check_refusal(send(&org1, "PATCH", &path, &["\"1\""], &body), 412, &[], &etag);
    send(&org1, "PATCH", &path, &[&etag], &body).expect(200);
}
