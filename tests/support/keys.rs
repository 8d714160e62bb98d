//! Requests with idempotency keys, and their answers.

use super::client::{Answer, Client};

pub(crate) fn send(client: &Client, path: &str, key: &str, body: &str) -> Answer {
    client.send("POST", path, &[("Idempotency-Key", key)], body)
}

pub(crate) fn is_replayed(answer: &Answer) -> bool {
    let header = answer.header("idempotent-replayed");
    assert!(header.is_none_or(|value| value == "true"), "{answer:?}");
    header.is_some()
}

/// Checks that an answer is that of another request, in status, body and headers.
#[track_caller]
pub(crate) fn expect_again(first: &Answer, again: Answer) {
    assert!(is_replayed(&again), "{again:?}");
    assert_eq!((again.status, again.text()), (first.status, first.text()));
    for name in ["location", "etag", "content-type"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
}
