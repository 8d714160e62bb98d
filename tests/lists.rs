//! An event's reservations in each form: pages of JSON, lines of JSON, and CSV, while tickets are sold.

mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use support::client::{Client, request};
use support::holds::hold;
use support::server::Server;
use support::{PASSWORD, Stage, all_items, metrics_once, number, reserve, text};

const NDJSON: &str = "application/x-ndjson";
const CSV: &str = "text/csv";
const HEADER: &str = "id,event,customer,customer_name,customer_ref,kind,quantity,status,created_at,expires_at,cancelled_at,order";

fn path(event: u64) -> String {
    format!("/api/v1/events/{event}/reservations")
}

/// Lines of JSON as values.
fn lines(text: &str) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Reads a whole list.
fn whole(client: &Client, path: &str, form: &str) -> String {
    let answer = client.send("GET", path, &[("Accept", form)], "").expect(200);
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"), "{path}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    answer.text().to_owned()
}

/// The row of CSV of an item of JSON.
fn row(item: &Value) -> String {
    let cell = |name: &str| match &item[name] {
        Value::Null => String::new(),
        Value::String(text) if text.starts_with('-') => format!("'{text}"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    HEADER.split(',').map(cell).collect::<Vec<_>>().join(",")
}

#[test]
fn the_form_is_chosen_by_what_the_client_accepts() {
    let stage = Stage::on(Server::start(Path::new("."), &["--demo", "--storage", "memory", "--shards", "2"]));
    let event = stage.event(10);
    reserve(&stage.cust1, event, 1);
    let path = path(event);
    let csv = "text/csv; charset=utf-8; header=present";
    for (accept, form) in [
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("application/json, text/csv", "application/json"),
        ("text/csv, application/json", "application/json"),
        ("text/csv", csv),
        ("TEXT/CSV;header=absent", csv),
        ("text/*", csv),
        ("text/csv, application/json;q=0.9", csv),
        ("text/csv;q=0.5, application/json;q=0.4", csv),
        ("text/csv;q=0.4, application/json;Q=0.5", "application/json"),
        ("*/*;q=0.1, application/x-ndjson", NDJSON),
        ("application/x-ndjson", NDJSON),
        ("application/json;q=0, */*", NDJSON),
        ("application/*;q=0, */*;q=0.001", csv),
    ] {
        let answer = stage.org1.send("GET", &path, &[("Accept", accept)], "").expect(200);
        assert_eq!(answer.header("content-type"), Some(form), "{accept}");
        assert_eq!(answer.header("vary"), Some("Accept"), "{accept}");
        let name = format!("attachment; filename=\"event-{event}-reservations.csv\"");
        assert_eq!(answer.header("content-disposition"), (form == csv).then_some(&*name), "{accept}");
        let availability = stage.anyone.get(&format!("/api/v1/events/{event}/availability")).json();
        let position = number(&availability, "position").to_string();
        let shown = answer.header("boxoffice-position");
        assert_eq!(shown, (form != "application/json").then_some(&*position), "{accept}");
    }
    for accept in ["text/html", "text/csv;q=0", "text/csv;q=0, text/*;q=0", "application/csv"] {
        stage.org1.send("GET", &path, &[("Accept", accept)], "").problem(406, "not-acceptable");
    }
    for form in [NDJSON, CSV] {
        let ask = |client: &Client, path: &str| client.send("GET", path, &[("Accept", form)], "");
        let limited = ask(&stage.org1, &format!("{path}?limit=5")).problem(422, "invalid");
        assert_eq!(limited["errors"][0]["pointer"], "?limit", "{limited}");
        ask(&stage.org2, &path).problem(403, "not-yours");
        ask(&stage.cust1, &path).problem(403, "forbidden");
        ask(&stage.anyone, &path).problem(401, "unauthorized");
        ask(&stage.admin, "/api/v1/events/4000000000/reservations").problem(404, "not-found");
        let head = stage.admin.send("HEAD", &path, &[("Accept", form)], "").expect(200);
        assert!(head.body.is_empty() && head.header("boxoffice-position").is_some(), "{head:?}");
    }
    for wrong in ["", "sold", "confirmed,", "confirmed,,held", "confirmed held"] {
        let encoded = wrong.replace(' ', "%20");
        let answer = stage.org1.get(&format!("{path}?status={encoded}")).problem(422, "invalid");
        assert_eq!(answer["errors"][0]["pointer"], "?status", "{answer}");
    }
    stage.org1.get(&format!("{path}?status=held&status=held")).problem(422, "invalid");
    // Other lists have one form.
    stage.org1.send("GET", "/api/v1/events", &[("Accept", CSV)], "").problem(406, "not-acceptable");
}

#[test]
fn all_forms_have_the_same_reservations() {
    let stage = Stage::on(Server::start(Path::new("."), &["--demo", "--storage", "memory", "--shards", "2"]));
    let event = stage.event(100);
    let path = path(event);
    assert_eq!(whole(&stage.org1, &path, NDJSON), "", "an empty list");
    assert_eq!(whole(&stage.org1, &path, CSV), format!("{HEADER}\r\n"), "an empty table");

    let dashed = stage.anyone.sign_up("-12", "customer");
    let removed = stage.anyone.sign_up("removed", "customer");
    let removed_id = number(&removed.get("/api/v1/users/me").json(), "id");
    let mut made = Vec::new();
    for (customer, name) in
        [(&stage.cust1, "cust1"), (&dashed, "-12"), (&removed, "removed"), (&stage.cust2, "cust2")]
    {
        for _ in 0..2 {
            made.push((reserve(customer, event, 2), name, "confirmed"));
        }
        made.push((hold(customer, event, &json!({ "quantity": 1, "ttl_seconds": 1800 })), name, "held"));
    }
    for (id, _, status) in made.iter_mut().step_by(4) {
        stage.admin.delete(&format!("/api/v1/reservations/{id}")).expect(204);
        *status = "cancelled";
    }
    stage.admin.delete(&format!("/api/v1/users/{removed_id}")).expect(204);

    for filter in
        ["", "confirmed", "held", "cancelled", "expired", "confirmed,held", "held,cancelled,expired"]
    {
        let statuses: Vec<&str> = filter.split(',').collect();
        let expected: Vec<_> =
            made.iter().filter(|(_, _, status)| filter.is_empty() || statuses.contains(status)).collect();
        let address = if filter.is_empty() { path.clone() } else { format!("{path}?status={filter}") };
        for client in [&stage.org1, &stage.admin] {
            let listed = lines(&whole(client, &address, NDJSON));
            let shown =
                listed.iter().map(|one| (text(one, "id"), text(one, "customer_name"), text(one, "status")));
            assert!(shown.eq(expected.iter().map(|(id, name, status)| (&**id, *name, *status))), "{address}");
            for limit in [1, 2, 5, 100] {
                assert_eq!(all_items(client, &address, limit), listed, "{address} by {limit}");
            }
            let rows: String = listed.iter().map(|item| row(item) + "\r\n").collect();
            assert_eq!(whole(client, &address, CSV), format!("{HEADER}\r\n{rows}"), "{address}");
            // What came is not sent again.
            for (index, one) in listed.iter().enumerate() {
                let number = text(one, "id").split_once('-').expect("an id").1;
                let separator = if filter.is_empty() { '?' } else { '&' };
                let rest = lines(&whole(client, &format!("{address}{separator}after={number}"), NDJSON));
                assert_eq!(rest, listed[index + 1..], "{address} after {number}");
            }
        }
    }
    let single = stage.org1.get(&format!("/api/v1/reservations/{event}-1")).json();
    assert!(single.get("customer_name").is_none(), "only lists for organizers have names: {single}");
}

/// A client that reads a list as slowly as the test wants.
struct Reader {
    stream: TcpStream,
    input: Vec<u8>,
    head: String,
    /// Bytes of the body that are not yet lines.
    body: Vec<u8>,
    is_complete: bool,
}

impl Reader {
    /// Asks for lines of JSON, and reads the head of the answer.
    fn open(server: &Server, client: &Client, path: &str) -> Reader {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        // The kernel buffers little of what is not read.
        socket.set_recv_buffer_size(4096).expect("a size");
        socket.connect(&server.address.into()).expect("the server accepts");
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time");
        let accept = format!("Accept: {NDJSON}\r\n");
        let asked = request("GET", path, client.token.as_deref(), &accept, "");
        stream.write_all(asked.as_bytes()).expect("the server reads");
        let mut reader =
            Reader { stream, input: Vec::new(), head: String::new(), body: Vec::new(), is_complete: false };
        let end = loop {
            if let Some(end) = reader.input.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(reader.read_more(), "the connection ended within a head");
        };
        reader.head = String::from_utf8(reader.input.drain(..end).collect()).expect("a head is text");
        assert!(reader.head.starts_with("HTTP/1.1 200 "), "{}", reader.head);
        reader
    }

    /// Returns false at the end of the connection.
    fn read_more(&mut self) -> bool {
        let mut part = [0; 16 * 1024];
        match self.stream.read(&mut part) {
            Ok(count) => {
                self.input.extend_from_slice(&part[..count]);
                count > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Moves whole chunks into the body.
    fn take_chunks(&mut self) {
        while let Some(end) = self.input.windows(2).position(|window| window == b"\r\n") {
            let size = str::from_utf8(&self.input[..end]).expect("a size");
            let size = usize::from_str_radix(size, 16).expect("a size");
            assert!(size <= 32 * 1024, "a piece of {size} bytes");
            if self.input.len() < end + 2 + size + 2 {
                return;
            }
            self.body.extend_from_slice(&self.input[end + 2..end + 2 + size]);
            self.input.drain(..end + 2 + size + 2);
            self.is_complete |= size == 0;
        }
    }

    /// Reads so many lines, or all that come.
    fn lines(&mut self, most: usize) -> Vec<Value> {
        let mut lines = Vec::new();
        while lines.len() < most {
            if let Some(end) = self.body.iter().position(|&byte| byte == b'\n') {
                lines.push(serde_json::from_slice(&self.body[..end]).expect("a line of JSON"));
                self.body.drain(..=end);
            } else if self.is_complete || !self.read_more() {
                break;
            } else {
                self.take_chunks();
            }
        }
        lines
    }
}

/// Sells tickets one by one, many requests at a time.
fn sell_many(server: &Server, client: &Client, event: u64, count: usize) {
    const PIPELINED: usize = 250;
    let sale = request("POST", &path(event), client.token.as_deref(), "", "{\"quantity\":1}");
    let mut wire = server.wire();
    for _ in 0..count / PIPELINED {
        wire.send(sale.repeat(PIPELINED)).expect("the server reads");
        (0..PIPELINED).for_each(|_| drop(wire.next().expect(201)));
    }
}

/// The memory of the server, in KiB.
fn resident(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// So many that their lines do not fit what the kernel keeps for a reader that does not read: some 4 MB.
const MANY: usize = 40_000;

/// Checks that the lines are the reservations from this one on, in order.
fn check_order(lines: &[Value], event: u64, first: usize) {
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(text(line, "id"), format!("{event}-{}", first + index));
    }
}

#[test]
fn a_long_list_is_streamed() {
    let server = Server::start(
        Path::new("."),
        &["--demo", "--storage", "memory", "--shards", "2", "--stall-timeout", "3"],
    );
    let stage = Stage::on(server);
    let event = stage.event(1_000_000);
    thread::scope(|scope| {
        for client in [&stage.cust1, &stage.cust2] {
            scope.spawn(|| sell_many(&stage.server, client, event, MANY / 2));
        }
    });
    while_tickets_are_sold(&stage, event);
    readers_that_leave_or_do_not_read(&stage, event);
    pages_of_what_is_rare(&stage, event);
    tokens_that_end(&stage, event);
    let event_path = format!("/api/v1/events/{event}");

    // The event gets another organizer.
    let mut reader =
        Reader::open(&stage.server, &stage.org1.log_in("org1", "another password"), &path(event));
    assert_eq!(reader.lines(100).len(), 100);
    let org2 = number(&stage.org2.get("/api/v1/users/me").json(), "id");
    stage.admin.patch(&event_path, &json!({ "organizer": org2 })).expect(200);
    let rest = reader.lines(usize::MAX);
    assert!(!reader.is_complete && rest.len() < MANY, "the former organizer has {} lines", rest.len());

    // The event is deleted: its reservations are listed to the end.
    let mut reader = Reader::open(&stage.server, &stage.org2, &path(event));
    let mut all = reader.lines(100);
    stage.org2.delete(&format!("{event_path}?force=true")).expect(204);
    all.extend(reader.lines(usize::MAX));
    assert!(reader.is_complete && all.len() >= MANY);
    check_order(&all, event, 1);
    assert_eq!(
        (&all[0]["status"], &all[all.len() - 1]["status"]),
        (&json!("confirmed"), &json!("cancelled"))
    );

    // A server that ends breaks a list off, and does not wait for it.
    let mut reader = Reader::open(&stage.server, &stage.org2, &path(event));
    let before = reader.lines(100);
    let start = Instant::now();
    stage.server.signal_to_end();
    let rest = reader.lines(usize::MAX);
    assert!(!reader.is_complete && before.len() + rest.len() < MANY, "{} lines", rest.len());
    check_order(&rest, event, 101);
    let (status, errors) = stage.server.end();
    assert!(status.success(), "{errors}");
    assert!(start.elapsed() < Duration::from_secs(10), "a drain took {:?}", start.elapsed());
}

/// The list has what there was at its beginning, each once, and takes the server no memory.
fn while_tickets_are_sold(stage: &Stage, event: u64) {
    let before = resident(&stage.server);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                reserve(&stage.cust1, event, 1);
                // Ahead of the list and behind it.
                let back = format!("/api/v1/reservations/{event}-{}", (number * 97) % MANY + 1);
                stage.admin.delete(&back).expect(204);
            }
        });
        for _ in 0..2 {
            let mut reader = Reader::open(&stage.server, &stage.org1, &path(event));
            let seen = stage.anyone.get(&format!("/api/v1/events/{event}/availability")).json();
            let position: u64 = {
                let line = reader.head.lines().find_map(|line| line.strip_prefix("Boxoffice-Position: "));
                line.expect("it has a position").parse().expect("a number")
            };
            assert!(position <= number(&seen, "position"), "{position} is later than {seen}");
            let all = reader.lines(usize::MAX);
            assert!(reader.is_complete, "it broke off after {}", all.len());
            assert!(all.len() >= MANY, "{} lines", all.len());
            check_order(&all, event, 1);
            assert!(all.iter().all(|line| ["cust1", "cust2"].contains(&text(line, "customer_name"))));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let after = resident(&stage.server);
    // Each list has 7 MB. The sales beside them take memory, too, but far less.
    assert!(after < before + 6 * 1024, "{before} KiB before the lists, {after} KiB after");
    let cancelled = whole(&stage.org1, &format!("{}?status=cancelled", path(event)), CSV);
    assert!(
        cancelled.lines().count() > 1 && cancelled.lines().skip(1).all(|row| row.contains(",cancelled,"))
    );
}

/// A page ends where the server stopped to look, though nothing was found.
fn pages_of_what_is_rare(stage: &Stage, event: u64) {
    let list = format!("{}?status=expired", path(event));
    let (mut address, mut ends) = (list.clone(), Vec::new());
    loop {
        let answer = stage.org1.get(&address).expect(200);
        let page = answer.json();
        assert_eq!(page["items"], json!([]), "{address}");
        let Some(next) = page["next"].as_str() else { break };
        address = format!("{list}&limit=50&after={next}");
        assert_eq!(answer.header("link"), Some(&*format!("<{address}>; rel=\"next\"")));
        ends.push(next.to_owned());
    }
    assert_eq!(ends, ["16384", "32768"]);
    assert_eq!(whole(&stage.org1, &list, NDJSON), "");
}

fn readers_that_leave_or_do_not_read(stage: &Stage, event: u64) {
    let open = |page: &str| -> u64 {
        let line = page.lines().find_map(|line| line.strip_prefix("boxoffice_connections "));
        line.expect("it is there").parse().expect("a number")
    };
    let before = open(stage.anyone.get("/metrics").expect(200).text());
    let mut left = Reader::open(&stage.server, &stage.org1, &path(event));
    assert_eq!(left.lines(100).len(), 100);
    drop(left);
    metrics_once(&stage.anyone, &[&format!("boxoffice_connections {before}")]);

    let mut slow = Reader::open(&stage.server, &stage.org1, &path(event));
    metrics_once(&stage.anyone, &[&format!("boxoffice_connections {}", before + 1)]);
    metrics_once(&stage.anyone, &[&format!("boxoffice_connections {before}")]);
    let lines = slow.lines(usize::MAX);
    assert!(!slow.is_complete && lines.len() < MANY, "{} lines", lines.len());
}

fn tokens_that_end(stage: &Stage, event: u64) {
    let mut reader = Reader::open(&stage.server, &stage.org1, &path(event));
    let before = reader.lines(100);
    let change = json!({ "current": PASSWORD, "new": "another password" });
    stage.org1.put("/api/v1/users/me/password", &change).expect(204);
    let rest = reader.lines(usize::MAX);
    assert!(!reader.is_complete && rest.len() < MANY, "the ended token has {} lines", rest.len());
    // It goes on where it broke off.
    let again = stage.anyone.log_in("org1", "another password");
    let came = before.len() + rest.len();
    let mut more = Reader::open(&stage.server, &again, &format!("{}?after={came}", path(event)));
    let more_lines = more.lines(usize::MAX);
    assert!(more.is_complete && came + more_lines.len() >= MANY);
    check_order(&more_lines, event, came + 1);
}
