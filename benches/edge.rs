//! What the edge costs for one request: reading it, and finding out who asks.

use std::hint::black_box;

use boxoffice::front::auth::{Tokens, bearer, now};
use boxoffice::front::http::parse::{Limits, Parser, Progress};
use boxoffice::front::verified::Verified;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
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
    group.bench_function("parse a reservation", |bencher| {
        let mut parser = Parser::new(Limits::default());
        bencher.iter(|| match parser.parse(black_box(request.as_bytes())) {
            Ok(Progress::Complete { consumed, .. }) => assert_eq!(consumed, request.len()),
            _ => panic!("the request is a good one"),
        });
    });
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

criterion_group!(benches, edge);
criterion_main!(benches);
