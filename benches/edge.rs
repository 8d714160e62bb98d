//! The cost of a request in the front: parsing, routing, authentication, and writing the response.

use std::hint::black_box;

use boxoffice::bench::OneCore;
use boxoffice::front::api::{quantity_asked_for, reservation_created};
use boxoffice::front::auth::bearer;
use boxoffice::front::http::parse::{Limits, Method, Parser, Progress, Request};
use boxoffice::front::http::write::Response;
use boxoffice::front::problem::{Kind, Problem};
use boxoffice::front::router::{Routed, find};
use boxoffice::front::verified::Verified;
use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use shards::log::MemoryLog;

mod support;

use support::{ENVELOPE, now, request, shard_with_events, token_of, tokens, view};

fn edge(criterion: &mut Criterion) {
    let tokens = tokens();
    let request = request(&tokens);
    let authorization = format!("Bearer {}", token_of(&tokens, 4));
    let mut group = criterion.benchmark_group("edge");
    group.throughput(Throughput::Elements(1));
    group.bench_function("parse a reservation", |bencher| parse(bencher, &request));
    group.bench_function("verify a token", |bencher| {
        bencher.iter(|| {
            let token = bearer(black_box(authorization.as_bytes())).expect("a bearer token");
            tokens.verify(str::from_utf8(token).expect("a text"), now()).expect("the token is valid")
        });
    });
    group.bench_function("find a token that was verified, among 10,000", |bencher| {
        let verified = Verified::default();
        let mut authorization = String::new();
        for user in 1..=10_000 {
            let other = token_of(&tokens, user);
            // Kept, since a token issued later would have another time.
            if user == 77 {
                authorization = format!("Bearer {other}");
            }
            let claimed = tokens.verify(&other, now()).expect("the token is valid");
            verified.remember(verified.asking(), other.into(), claimed);
        }
        bencher.iter(|| {
            let token = bearer(black_box(authorization.as_bytes())).expect("a bearer token");
            verified.get(token, now()).expect("the token is cached")
        });
    });
    for (name, method, path) in [
        ("the first route", Method::Post, "/api/v1/events/1/reservations"),
        ("the last route", Method::Get, "/problems/sold-out"),
        ("no route", Method::Get, "/api/v1/event"),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| matches!(find(black_box(method), black_box(path)), Routed::To { .. }));
        });
    }
    group.bench_function("read a body", |bencher| {
        let request = parsed(&request);
        bencher.iter(|| quantity_asked_for(black_box(&request)).is_ok());
    });
    group.finish();
}

fn parsed(request: &str) -> Request<'_> {
    match Box::leak(Box::new(Parser::new(Limits::default()))).parse(request.as_bytes()) {
        Ok(Progress::Complete { request, .. }) => request,
        _ => panic!("the request is valid"),
    }
}

fn answers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("answers");
    group.throughput(Throughput::Elements(1));
    group.bench_function("make a reservation's", |bencher| {
        let view = view();
        bencher.iter(|| reservation_created(black_box(view.clone())));
    });
    group.bench_function("make a problem's", |bencher| {
        bencher.iter(|| Problem::plain(black_box(Kind::NotFound)).into_response());
    });
    let responses = [
        ("write a reservation's", reservation_created(view())),
        ("write a problem's", Problem::plain(Kind::NotFound).into_response()),
    ];
    for (name, response) in &responses {
        group.bench_function(*name, |bencher| write(bencher, response));
    }
    group.finish();
}

fn write(bencher: &mut Bencher<'_>, response: &Response) {
    let mut out = Vec::with_capacity(4096);
    bencher.iter(|| {
        out.clear();
        black_box(response).write(black_box(&ENVELOPE), &mut out);
    });
}

/// Measures requests from request bytes to response bytes on one core, over sockets, without the
/// runtime, and with a log in memory.
fn whole(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("whole");
    for count in [1, 80] {
        let tokens = tokens();
        let request = request(&tokens).leak().as_bytes();
        let mut core = OneCore::new(shard_with_events(4), Box::new(MemoryLog), tokens);
        let mut clients: Vec<_> = (0..count).map(|_| core.connect()).collect();
        core.exchange(&mut clients, request);
        assert!(clients[0].answered().starts_with(b"HTTP/1.1 201 "), "{:?}", clients[0].answered());
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("clients/{count}"), |bencher| {
            bencher.iter(|| core.exchange(black_box(&mut clients), black_box(request)));
        });
    }
    group.finish();
}

/// Measures the costliest requests that are refused, which anyone may send, beside a cheap one that is not.
fn refused(criterion: &mut Criterion) {
    let post = |body: String| {
        let head = "POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let numbered = |count| (0..count).map(|number| format!("\"{number}\":1")).collect::<Vec<_>>().join(",");
    let rows = [
        ("livez", 200, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        (
            "a query of unknown names",
            422,
            format!("GET /api/v1/events?{} HTTP/1.1\r\nHost: x\r\n\r\n", "a&".repeat(4000)),
        ),
        ("a body of unknown members", 422, post(format!("{{{}}}", numbered(7000)))),
        ("a body with a large object", 422, post(format!("{{\"username\":{{{}}}}}", numbered(7000)))),
        ("a body with many arrays", 422, post(format!("{{\"username\":[{}0]}}", "[0],".repeat(16_000)))),
    ];
    let mut group = criterion.benchmark_group("refused");
    for (name, status, bytes) in rows {
        let mut core = OneCore::new(shard_with_events(4), Box::new(MemoryLog), tokens());
        let mut clients = [core.connect()];
        core.exchange(&mut clients, bytes.as_bytes());
        let line = format!("HTTP/1.1 {status} ");
        assert!(clients[0].answered().starts_with(line.as_bytes()), "{name}: {:?}", clients[0].answered());
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| core.exchange(black_box(&mut clients), black_box(bytes.as_bytes())));
        });
    }
    group.finish();
}

/// Compares httparse alone with our parser on the same bytes, to show the cost of the strict layer.
fn strictness(criterion: &mut Criterion) {
    let limits = Limits::default();
    let fields = "Accept-Language: en-GB,en;q=0.9\r\n".repeat(limits.fields - 1);
    let rows = [
        ("a short head", "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        ("a browser's head", format!("GET /api/v1/events HTTP/1.1\r\nHost: x\r\n{}\r\n", &fields[..20 * 33])),
        ("all the fields", format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n")),
        // Each character of a target is checked, and each escape once more.
        (
            "the longest target",
            format!("GET /?{} HTTP/1.1\r\nHost: x\r\n\r\n", "%41".repeat(limits.target_bytes / 3 - 1)),
        ),
        (
            "the longest head",
            format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(limits.head_bytes - 34)),
        ),
    ];
    let mut group = criterion.benchmark_group("strictness");
    for (name, bytes) in &rows {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("{name}, httparse alone"), |bencher| {
            bencher.iter(|| {
                let mut headers = [httparse::EMPTY_HEADER; 64];
                let mut request = httparse::Request::new(&mut headers);
                let status = request.parse(black_box(bytes.as_bytes()));
                assert_eq!(status, Ok(httparse::Status::Complete(bytes.len())));
            });
        });
        group.bench_function(*name, |bencher| parse(bencher, bytes));
    }
    // httparse does not parse bodies.
    let chunk = format!("20\r\n{}\r\n", "a".repeat(32));
    let head = "POST / HTTP/1.1\r\nHost: x\r\n";
    let body = limits.body_bytes;
    let bodies = [
        ("the largest body", format!("{head}Content-Length: {body}\r\n\r\n{}", "a".repeat(body))),
        (
            "the largest body in chunks of 32",
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(body / 32)),
        ),
    ];
    for (name, bytes) in &bodies {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(*name, |bencher| parse(bencher, bytes));
    }
    group.finish();
}

fn parse(bencher: &mut Bencher<'_>, bytes: &str) {
    let mut parser = Parser::new(Limits::default());
    bencher.iter(|| match parser.parse(black_box(bytes.as_bytes())) {
        Ok(Progress::Complete { consumed, .. }) => assert_eq!(consumed, bytes.len()),
        _ => panic!("the request is valid"),
    });
}

criterion_group!(benches, edge, answers, whole, refused, strictness);
criterion_main!(benches);
