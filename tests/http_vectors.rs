//! Runs the request vectors of `tests/data/http` and generated rows against the parser: in one
//! segment, in two segments split at every byte, and byte by byte. The outcome must be the same each
//! time.

#[path = "support/vectors.rs"]
mod vectors;

use std::path::Path;

use boxoffice::front::http::parse::{Limits, NOT_TEXT, Parser, Progress, Refusal, Request, Version};
use vectors::{Accepted, Event, Vector};

/// The length above which rows are split only near their ends and at every 127th byte between.
const CUT_EVERYWHERE_BYTES: usize = 2048;

#[test]
fn named_vectors() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/http");
    let vectors = vectors::load(&directory);
    assert!(vectors.len() >= 400, "only {} vectors", vectors.len());
    run("named", &vectors);
}

#[test]
fn content_lengths() {
    let mut rows = Vec::new();
    let bad = [
        "+5",
        "-1",
        "-0",
        "0x5",
        "0X5",
        "1_0",
        "5 5",
        "5, 5",
        "5,5",
        "5,",
        ",5",
        "",
        "5;",
        "5a",
        "a5",
        "five",
        "5.0",
        "5e0",
        "\"5\"",
        "'5'",
        "5\t5",
        "0b1",
        "٥",
        "18446744073709551616",
        "99999999999999999999",
        "184467440737095516150",
        "NaN",
        "∞",
        "5%",
        "%35",
    ];
    for value in bad {
        multiply("Content-Length", value, Event::Refuse(400), &mut rows);
    }
    for value in ["65537", "65538", "100000", "4294967296", "18446744073709551615"] {
        multiply("Content-Length", value, Event::Refuse(413), &mut rows);
    }
    run("content lengths", &rows);
}

#[test]
fn transfer_encodings() {
    let mut rows = Vec::new();
    // The Kelvin sign is not a K, but Unicode lower-cases it to k.
    let bad = [
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,chunked",
        "identity",
        "identity, chunked",
        "chunked, identity",
        "xchunked",
        "chunkedx",
        "x chunked",
        "chunked x",
        "chunked;q=1",
        "chunked; a=b",
        "chunked;",
        "chunked,",
        ",chunked",
        "",
        ",",
        "\"chunked\"",
        "'chunked'",
        "chun ked",
        "chunked\tx",
        "deflate",
        "compress",
        "chunk",
        "chünked",
        "chun\u{212a}ed",
        "trailers",
        "chunked\u{b}x",
    ];
    for value in bad {
        multiply("Transfer-Encoding", value, Event::Refuse(400), &mut rows);
    }
    run("transfer encodings", &rows);
}

/// Adds rows for one bad value: each spelling of the name, position among the fields, white space
/// before the value, and method.
fn multiply(name: &str, value: &str, outcome: Event, rows: &mut Vec<Vector>) {
    let names = [name.to_owned(), name.to_lowercase(), name.to_uppercase()];
    for name in names {
        for position in 0..3 {
            for space in [" ", "", "\t "] {
                for method in ["POST", "GET", "DELETE"] {
                    let mut fields = vec!["Host: x".to_owned(), "A: b".to_owned()];
                    fields.insert(position, format!("{name}:{space}{value}"));
                    let head = format!("{method} /r HTTP/1.1\r\n{}\r\n\r\n", fields.join("\r\n"));
                    rows.push(Vector {
                        name: format!("{method} with {:?} at {position}", fields[position]),
                        bytes: (head + "0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n").into_bytes(),
                        outcome: vec![outcome.clone()],
                    });
                }
            }
        }
    }
}

#[test]
fn two_framing_fields() {
    let mut rows = Vec::new();
    let values = [
        "Content-Length: 5",
        "content-length:5",
        "Content-Length: 0",
        "Content-Length: 6",
        "Content-Length: 005",
        "Transfer-Encoding: chunked",
        "transfer-encoding:CHUNKED",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: ",
        "Content-Length: ",
    ];
    for first in values {
        for second in values {
            for between in ["", "A: b\r\n"] {
                for version in ["1.0", "1.1"] {
                    let head =
                        format!("POST /r HTTP/{version}\r\nHost: x\r\n{first}\r\n{between}{second}\r\n\r\n");
                    rows.push(Vector {
                        name: format!("HTTP/{version} {first:?} {between:?} {second:?}"),
                        bytes: (head + "5\r\nhello\r\n0\r\n\r\n").into_bytes(),
                        outcome: vec![Event::Refuse(400)],
                    });
                }
            }
        }
    }
    run("two framing fields", &rows);
}

/// Every byte value in every kind of position, with the rule for that position.
#[test]
fn every_byte() {
    type Rule = fn(u8) -> bool;
    // RFC 9110 section 5.6.2 and RFC 3986 section 2, implemented independently of the parser.
    let token: Rule = |b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let path: Rule = |b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(&b);
    let query: Rule = |b| b.is_ascii_graphic() && !b"\"#<>%".contains(&b);
    let host: Rule = |b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:%".contains(&b);
    let value: Rule = |b| b == b'\t' || (b >= b' ' && b != 0x7F);
    let ext: Rule = |b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~;=".contains(&b);
    let quoted: Rule = |b| (b == b'\t' || (b >= b' ' && b != 0x7F)) && !b"\"\\".contains(&b);
    let end = "Host: x\r\n\r\n";
    let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let positions: [(&str, String, String, Rule); 15] = [
        ("path", "GET /a".into(), format!("b HTTP/1.1\r\n{end}"), path),
        ("query", "GET /?a".into(), format!("b HTTP/1.1\r\n{end}"), query),
        ("absolute path", "GET http://h/".into(), format!(" HTTP/1.1\r\n{end}"), path),
        ("version", "GET / HTTP/1.".into(), format!("\r\n{end}"), |b| b.is_ascii_digit()),
        ("after version", "GET / HTTP/1.1".into(), format!("\r\n{end}"), |_| false),
        ("field name", format!("GET / HTTP/1.1\r\n{}", "A"), format!("B: c\r\n{end}"), |b| {
            b == b':' || b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
        }),
        ("start of field name", "GET / HTTP/1.1\r\n".into(), format!("B: c\r\n{end}"), token),
        ("before colon", "GET / HTTP/1.1\r\nA".into(), format!(": c\r\n{end}"), |b| {
            b == b':' || b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
        }),
        ("field value", "GET / HTTP/1.1\r\nA: b".into(), format!("c\r\n{end}"), value),
        ("host", "GET / HTTP/1.1\r\nHost: a".into(), "80\r\n\r\n".into(), host),
        ("between CR and LF", "GET / HTTP/1.1\r\nA: b\r".into(), format!("\n{end}"), |_| false),
        ("after chunk size", format!("{chunked}1"), "\r\na\r\n0\r\n\r\n".into(), |_| false),
        ("before chunk size", chunked.into(), "1\r\na\r\n0\r\n\r\n".into(), |b| b == b'0'),
        ("extension", format!("{chunked}1;a"), "b\r\na\r\n0\r\n\r\n".into(), ext),
        ("quoted", format!("{chunked}1;a=\""), "\"\r\na\r\n0\r\n\r\n".into(), quoted),
    ];
    let mut count = 0;
    for (position, before, after, rule) in &positions {
        for byte in 0..=255_u8 {
            let bytes = [before.as_bytes(), &[byte], after.as_bytes()].concat();
            let name = format!("byte {byte:#04x} as {position}");
            let seen = run_everywhere(&name, &bytes);
            let accepted = matches!(seen[..], [Event::Accept(_)]);
            assert_eq!(accepted, rule(byte), "{name}: {seen:?}");
            count += 1;
        }
    }
    println!("every byte: {count} rows");
}

#[test]
fn limits() {
    let mut count = 0;
    let mut check = |name: &str, bytes: String, expected: Option<u16>| {
        let seen = run_everywhere(name, bytes.as_bytes());
        match expected {
            None => assert!(matches!(seen[..], [Event::Accept(_)]), "{name}: {seen:?}"),
            Some(status) => assert_eq!(seen, [Event::Refuse(status)], "{name}"),
        }
        count += 1;
    };
    let over = |length: usize, most: usize, status: u16| (length > most).then_some(status);
    for method in ["GET", "OPTIONS"] {
        for length in 8188..8198 {
            let target = format!("/{}", "a".repeat(length - 1));
            let line = format!("{method} {target} HTTP/1.1\r\n");
            check("target", format!("{line}Host: x\r\n\r\n"), over(length, 8192, 414));
        }
    }
    for length in 16379..16390 {
        let line = "GET / HTTP/1.1\r\nHost: x\r\nA: ";
        let value = "a".repeat(length - line.len() - 4);
        check("head", format!("{line}{value}\r\n\r\n"), over(length, 16384, 431));
    }
    for fields in 60..68 {
        let lines = "A: b\r\n".repeat(fields - 1);
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
        check("fields", head, over(fields, 64, 431));
        let trailers = "A: b\r\n".repeat(fields);
        let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
        check("trailers", format!("{head}{trailers}\r\n"), over(fields, 64, 431));
    }
    for length in 65533..65540 {
        let body = "a".repeat(length);
        let head = "POST / HTTP/1.1\r\nHost: x\r\n";
        let whole = format!("{head}Content-Length: {length}\r\n\r\n{body}");
        check("body", whole, over(length, 65536, 413));
        let chunk = format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n");
        check("one chunk", chunk, over(length, 65536, 413));
        let (first, second) = (length / 2, length - length / 2);
        let chunks = format!(
            "{head}Transfer-Encoding: chunked\r\n\r\n{first:X}\r\n{}\r\n{second:X}\r\n{}\r\n0\r\n\r\n",
            &body[..first],
            &body[first..]
        );
        check("two chunks", chunks, over(length, 65536, 413));
    }
    for empty in 0..8 {
        let head = format!("{}GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n".repeat(empty));
        check("empty lines", head, over(empty, Limits::LEADING_EMPTY_LINES, 400));
    }
    overheads(&mut check);
    println!("limits: {count} rows");
}

/// Checks the framing overhead of chunked bodies around its limit.
fn overheads(check: &mut impl FnMut(&str, String, Option<u16>)) {
    let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let most = Limits::CHUNK_OVERHEAD_BYTES;
    for over in -3..4_isize {
        let bytes = most.checked_add_signed(over).expect("a length");
        // The last chunk "0;a=...", its line end, and the empty line.
        let value = "b".repeat(bytes - "0;a=\r\n\r\n".len());
        // If the size line fits but the empty line does not, the trailers are too long.
        let status = (over > 0).then_some(if over > 2 { 413 } else { 431 });
        check("extension", format!("{head}0;a={value}\r\n\r\n"), status);
        let value = "b".repeat(bytes - "0\r\nA: \r\n\r\n".len());
        let status = (over > 0).then_some(431);
        check("trailer", format!("{head}0\r\nA: {value}\r\n\r\n"), status);
    }
    for (chunks, status) in [(3275, None), (3276, Some(431)), (3277, Some(413)), (9999, Some(413))] {
        let body = "1\r\na\r\n".repeat(chunks);
        check("tiny chunks", format!("{head}{body}0\r\n\r\n"), status);
    }
}

#[test]
fn a_refusal_is_final() {
    let mut parser = Parser::new(Limits::default());
    let first = parser.parse(b"BREW / HTTP/1.1\r\n").err();
    assert_eq!(first.map(|refusal| refusal.status), Some(501));
    assert_eq!(parser.parse(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").err(), first);
}

#[test]
fn requests_are_refused_before_the_head_is_complete() {
    let status = |bytes: &[u8]| Parser::new(Limits::default()).parse(bytes).err().map(|it| it.status);
    assert_eq!(status(&[b"GET /".as_slice(), &[b'a'; 8300]].concat()), Some(414));
    assert_eq!(status(&[b'A'; 8300]), Some(501));
    assert_eq!(status(&[0x80; 8300]), Some(400));
    let fields = [b"GET / HTTP/1.1\r\nA: ".as_slice(), &[b'a'; 16384]].concat();
    assert_eq!(status(&fields), Some(431));
    assert_eq!(status(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n"), Some(413));
    assert_eq!(status(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\n\r\n"), None);
    assert_eq!(status(b"\x16\x03\x01"), Some(400));
    assert_eq!(status(b"GET / HTTP/1.1\n"), Some(400));
}

#[test]
fn all_fields_of_a_name_are_returned() {
    let bytes = b"GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\na:\t2 \r\nB: 3\r\nA: \xFF\r\nA:\r\n\r\n";
    let mut parser = Parser::new(Limits::default());
    let Ok(Progress::Complete { request, consumed }) = parser.parse(bytes) else {
        panic!("the request is complete");
    };
    assert_eq!(consumed, bytes.len());
    assert_eq!(request.headers("a").collect::<Vec<_>>(), ["1", "2", NOT_TEXT, ""]);
    assert_eq!(request.header("A"), Some("1"));
    assert_eq!(request.header("C"), None);
}

/// An incomplete body is not parsed from its start for each byte received.
#[test]
fn one_byte_segments_are_cheap() {
    let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let bytes = format!("{head}{}0\r\n\r\n", "10\r\naaaaaaaaaaaaaaaa\r\n".repeat(2000));
    let begin = std::time::Instant::now();
    let lengths: Vec<_> = (1..=bytes.len()).collect();
    let (events, _) = feed(bytes.as_bytes(), &lengths);
    assert!(matches!(events[..], [Event::Accept(_)]));
    assert!(begin.elapsed().as_secs() < 2, "{:?}", begin.elapsed());
}

fn run(what: &str, vectors: &[Vector]) {
    let mut failures = Vec::new();
    for vector in vectors {
        let result = std::panic::catch_unwind(|| run_vector(vector));
        if result.is_err() {
            failures.push(&vector.name);
        }
    }
    println!("{what}: {} rows", vectors.len());
    assert!(failures.is_empty(), "{} failed: {failures:#?}", failures.len());
}

fn run_vector(vector: &Vector) {
    let seen = run_everywhere(&vector.name, &vector.bytes);
    assert_eq!(seen.len(), vector.outcome.len(), "{}: {seen:?}", vector.name);
    for (seen, wanted) in seen.iter().zip(&vector.outcome) {
        match (seen, wanted) {
            (Event::Accept(seen), Event::Accept(wanted)) => {
                // Only the fields that the vector names are compared.
                for (name, value) in &wanted.fields {
                    let is = seen.fields.iter().find(|(other, _)| other == name);
                    let is = is.and_then(|(_, value)| value.clone());
                    assert_eq!(is, *value, "{}: field {name}", vector.name);
                }
                let fields = wanted.fields.clone();
                let seen = Accepted { fields, ..seen.clone() };
                assert_eq!(seen, *wanted, "{}", vector.name);
            }
            _ => assert_eq!(seen, wanted, "{}", vector.name),
        }
    }
}

/// Parses the bytes in one segment, in two segments split everywhere, and byte by byte. Returns the
/// outcome, which must be the same each time.
fn run_everywhere(name: &str, bytes: &[u8]) -> Vec<Event> {
    let length = bytes.len();
    let each: Vec<_> = (1..=length).collect();
    let (expected, continues) = feed(bytes, &each);
    let due = expected.iter().filter(|event| matches!(event, Event::Accept(it) if it.expects_continue));
    let due = due.count();
    assert!(continues == due || expected.ends_with(&[Event::Wait]), "{name}: {continues} continues");
    let (whole, continues) = feed(bytes, &[length]);
    assert_eq!(same(&whole), same(&expected), "{name}: whole and byte by byte");
    assert!(continues == 0 || whole.ends_with(&[Event::Wait]), "{name}: {continues} continues");
    for cut in 1..length {
        let between = 300..length.saturating_sub(300);
        if length > CUT_EVERYWHERE_BYTES && between.contains(&cut) && cut % 127 != 0 {
            continue;
        }
        let (seen, continues) = feed(bytes, &[cut, length]);
        assert_eq!(same(&seen), same(&expected), "{name}: cut at {cut}");
        assert!(continues <= due + 1, "{name}: {continues} continues, cut at {cut}");
    }
    expected
}

/// An outcome without the interim responses, which depend on the segments.
fn same(events: &[Event]) -> Vec<Event> {
    let mut events = events.to_vec();
    for event in &mut events {
        if let Event::Accept(accepted) = event {
            accepted.expects_continue = false;
        }
    }
    events
}

/// Calls the parser as a connection that has received `lengths` bytes in turn. Returns the outcome
/// and the number of interim responses.
fn feed(bytes: &[u8], lengths: &[usize]) -> (Vec<Event>, usize) {
    let mut parser = Parser::new(Limits::default());
    let mut events = Vec::new();
    let (mut begin, mut continues, mut due) = (0, 0, false);
    for &length in lengths {
        loop {
            match parser.parse(&bytes[begin..length]) {
                Ok(Progress::Incomplete { send_continue, .. }) => {
                    assert!(!(send_continue && due), "100-continue was sent twice");
                    due |= send_continue;
                    continues += usize::from(send_continue);
                    break;
                }
                Ok(Progress::Complete { request, consumed }) => {
                    let keep_alive = request.keep_alive;
                    events.push(Event::Accept(accepted(&request, due)));
                    begin += consumed;
                    due = false;
                    if !keep_alive {
                        return (events, continues);
                    }
                }
                Err(Refusal { status, detail }) => {
                    assert!(!detail.is_empty());
                    events.push(Event::Refuse(status));
                    return (events, continues);
                }
            }
        }
    }
    if begin < bytes.len() {
        events.push(Event::Wait);
    }
    (events, continues)
}

fn accepted(request: &Request<'_>, expects_continue: bool) -> Accepted {
    // The names that vectors mention.
    let names = ["a", "b", "host", "content-length", "content-type", "authorization", "cookie", "x-trailer"];
    Accepted {
        method: request.method.as_str().to_owned(),
        path: request.path.to_owned(),
        query: request.query.map(str::to_owned),
        body: request.body.to_vec(),
        keep_alive: request.keep_alive,
        is_http_1_0: request.version == Version::Http10,
        fields: names.map(|name| (name.to_owned(), request.header(name).map(str::to_owned))).to_vec(),
        expects_continue,
    }
}
