//! What the edge costs for one request: reading it, and verifying its token.

use std::hint::black_box;

use boxoffice::front::auth::Tokens;
use boxoffice::front::http::parse::{Limits, Parser, Progress};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shards::ids::{Role, UserId, Username};

fn authorization(tokens: &Tokens) -> String {
    let username = Username::new("cust1").expect("a good name");
    let token = tokens.issue(UserId(4), &username, Role::Customer, 7, "0123456789abcdef".to_owned());
    format!("Bearer {token}")
}

fn edge(criterion: &mut Criterion) {
    let tokens = Tokens::new(&[7; 32], 1);
    let authorization = authorization(&tokens);
    let request = format!(
        "POST /api/v1/events/1/reservations HTTP/1.1\r\nHost: localhost:9092\r\nConnection: keep-alive\r\n\
         Authorization: {authorization}\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{{\"quantity\":1}}"
    );
    let mut group = criterion.benchmark_group("edge");
    group.throughput(Throughput::Elements(1));
    group.bench_function("parse a reservation", |bencher| {
        let mut parser = Parser::new(Limits::default());
        bencher.iter(|| match parser.parse(black_box(request.as_bytes())) {
            Ok(Progress::Complete { consumed, .. }) => assert_eq!(consumed, request.len()),
            _ => panic!("the request is a good one"),
        });
    });
    group.bench_function("verify a token", |bencher| {
        bencher.iter(|| tokens.verify(black_box(&authorization)).expect("the token is a good one"));
    });
    group.finish();
}

criterion_group!(benches, edge);
criterion_main!(benches);
