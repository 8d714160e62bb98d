//! What the edge costs for one request: reading it, and finding out who asks.

use std::hint::black_box;

use boxoffice::front::auth::{Tokens, bearer, now};
use boxoffice::front::http::parse::{Limits, Parser, Progress};
use boxoffice::front::verified::Verified;
use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use shards::ids::{Role, UserId, Username};

fn token_of(tokens: &Tokens, user: u32) -> String {
    let username = Username::new("cust1").expect("a good name");
    tokens.issue(UserId(user), &username, Role::Customer, 7, format!("{user:016x}"))
}

fn edge(criterion: &mut Criterion) {
    let tokens = Tokens::new(&[7; 32], 1);
    let authorization = format!("Bearer {}", token_of(&tokens, 4));
    let request = format!(
        "POST /api/v1/events/1/reservations HTTP/1.1\r\nHost: localhost:9092\r\nConnection: keep-alive\r\n\
         Authorization: {authorization}\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{{\"quantity\":1}}"
    );
    let mut group = criterion.benchmark_group("edge");
    group.throughput(Throughput::Elements(1));
    group.bench_function("parse a reservation", |bencher| parse(bencher, &request));
    group.bench_function("verify a token", |bencher| {
        bencher.iter(|| {
            let token = bearer(black_box(&authorization)).expect("there is one");
            tokens.verify(token).expect("the token is a good one")
        });
    });
    group.bench_function("find a token that was verified, among 10,000", |bencher| {
        let verified = Verified::default();
        for user in 0..10_000 {
            let other = token_of(&tokens, user);
            let claimed = tokens.verify(&other).expect("the token is a good one");
            verified.remember(verified.asking(), other.into(), claimed);
        }
        let authorization = format!("Bearer {}", token_of(&tokens, 77));
        bencher.iter(|| {
            let token = bearer(black_box(&authorization)).expect("there is one");
            verified.get(token, now()).expect("it is known")
        });
    });
    group.finish();
}

/// What each part of the strict layer costs: the same bytes by httparse alone, and by our parser.
fn strictness(criterion: &mut Criterion) {
    let limits = Limits::default();
    let fields = "Accept-Language: en-GB,en;q=0.9\r\n".repeat(limits.fields - 1);
    let rows = [
        ("a short head", "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        ("a browser's head", format!("GET /api/v1/events HTTP/1.1\r\nHost: x\r\n{}\r\n", &fields[..20 * 33])),
        ("all the fields", format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n")),
        // Characters are looked at one by one, escapes once more.
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
                let mut room = [httparse::EMPTY_HEADER; 64];
                let mut request = httparse::Request::new(&mut room);
                let status = request.parse(black_box(bytes.as_bytes()));
                assert_eq!(status, Ok(httparse::Status::Complete(bytes.len())));
            });
        });
        group.bench_function(*name, |bencher| parse(bencher, bytes));
    }
    // httparse knows no bodies.
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
        _ => panic!("the request is a good one"),
    });
}

criterion_group!(benches, edge, strictness);
criterion_main!(benches);
