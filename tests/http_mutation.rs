//! Properties of the parser that hold for all bytes, tested on mutants of valid requests.
//!
//! `BOXOFFICE_MUTANTS` sets their number (50,000); `BOXOFFICE_TEST_SEED` repeats a run. A failure
//! prints the shortest bytes that still fail, in the notation of `tests/data/http`.

#[path = "support/hyper_oracle.rs"]
#[expect(dead_code, reason = "only single requests are compared")]
mod hyper_oracle;
#[path = "support/mutants.rs"]
mod mutants;
#[path = "support/our_reading.rs"]
#[expect(dead_code, reason = "the kind of a refusal does not matter here")]
mod our_reading;
#[path = "support/random.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod random;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use boxoffice::front::http::parse::{Limits, Parser, Progress, Refusal};
use hyper_oracle::Verdict;
use mutants::{escape, mutant, shortest};
use our_reading::Ours;
use random::Random;

const MUTANTS: u64 = 50_000;

/// The statuses that a refusal may have.
const STATUSES: [u16; 7] = [400, 413, 414, 417, 431, 501, 505];

/// The outcome of a request, without interim responses, which depend on the segments.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Accept {
        method: &'static str,
        path: String,
        query: Option<String>,
        body: Vec<u8>,
        keep_alive: bool,
        end: usize,
    },
    Refuse(Refusal),
    Wait {
        in_body: bool,
    },
}

fn mutants_wanted() -> u64 {
    let given = std::env::var("BOXOFFICE_MUTANTS").ok();
    given.map_or(MUTANTS, |text| text.parse().expect("BOXOFFICE_MUTANTS is a whole number"))
}

/// Checks `property` on the mutants of a seed, on two threads.
fn try_all(count: u64, make: fn(u64) -> Vec<u8>, property: fn(&[u8], u64) -> Result<(), String>) {
    let seed = Random::seeded().next();
    let fails = |bytes: &[u8], number| {
        let outcome = catch_unwind(AssertUnwindSafe(|| property(bytes, number)));
        outcome.unwrap_or_else(|_| Err("a panic".to_owned())).err()
    };
    let part = |first: u64| {
        for number in (first..count).step_by(2).map(|index| seed.wrapping_add(index)) {
            let bytes = make(number);
            if let Some(why) = fails(&bytes, number) {
                // Number 0 makes `property` cut at every byte, at any length.
                let least = shortest(&bytes, |shorter| {
                    [number, 0].iter().any(|&number| fails(shorter, number).is_some())
                });
                panic!("{why}\n  mutant {number}: {}\n  shortest: {}", escape(&bytes), escape(&least));
            }
        }
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| part(1));
        part(0);
        other.join().expect("the other half holds");
    });
    println!("{count} mutants");
}

#[test]
fn the_outcome_does_not_depend_on_segments() {
    try_all(mutants_wanted(), mutant, |bytes, number| {
        let whole = feed(bytes, &[bytes.len()], Limits::default())?;
        let mut random = Random::new(number);
        let mut cuts: Vec<_> = (0..3).map(|_| random.within(0, bytes.len() as u64) as usize).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        same(&whole, &feed(bytes, &cuts, Limits::default())?, &cuts)?;
        // For one in eight only, because it costs a call per byte.
        if number % 8 == 0 {
            let each: Vec<_> = (1..=bytes.len()).collect();
            same(&whole, &feed(bytes, &each, Limits::default())?, &["each"])?;
        }
        Ok(())
    });
}

/// When both accept a request, our parser and hyper agree on it. `http_differential.rs` covers
/// requests that one of them refuses.
#[test]
fn hyper_parses_accepted_requests_alike() {
    try_all(mutants_wanted(), mutant, |bytes, _| {
        let mut rest = bytes;
        while !rest.is_empty() {
            match (our_reading::first(&mut our_reading::parser(), rest), hyper_oracle::first(rest)) {
                (Ours::Accept { request, consumed }, Verdict::Accept(theirs)) => {
                    if let Some(difference) = our_reading::difference(&request, consumed, &theirs) {
                        return Err(difference);
                    }
                    if !request.keep_alive {
                        break;
                    }
                    rest = &rest[consumed..];
                }
                (Ours::Accept { .. }, Verdict::Wait) => return Err("hyper waits for more".to_owned()),
                (Ours::Wait, Verdict::Accept(theirs)) => return Err(format!("hyper has {theirs:?}")),
                _ => break,
            }
        }
        Ok(())
    });
}

/// The parser never needs more than `Limits::request_bytes`, tested with limits so small that
/// mutants reach them.
#[test]
fn the_parser_decides_within_request_bytes() {
    try_all(mutants_wanted() / 20, endless_mutant, |bytes, number| {
        let limits = Limits { target_bytes: 64, head_bytes: 300, fields: 16, body_bytes: 200 };
        let mut random = Random::new(number);
        let cuts = (0..4).map(|_| random.within(0, bytes.len() as u64) as usize);
        let mut cuts: Vec<_> = cuts.chain([limits.request_bytes(), bytes.len()]).collect();
        cuts.retain(|&cut| cut <= bytes.len());
        cuts.sort_unstable();
        same(&feed(bytes, &[bytes.len()], limits)?, &feed(bytes, &cuts, limits)?, &cuts)
    });
}

/// A mutant in which some bytes are repeated many times.
fn endless_mutant(number: u64) -> Vec<u8> {
    let bytes = mutant(number);
    let mut random = Random::new(!number);
    let begin = random.within(0, bytes.len() as u64) as usize;
    let length = random.within(0, (bytes.len() - begin).min(40) as u64) as usize;
    let part = &bytes[begin..begin + length];
    let times = random.within(1, 18_000) as usize / length.max(1);
    [&bytes[..begin], &part.repeat(times), &bytes[begin..]].concat()
}

/// Calls the parser as a connection that has received `lengths` bytes in turn. Returns the outcome,
/// or which guarantee of the parser was violated.
fn feed(bytes: &[u8], lengths: &[usize], limits: Limits) -> Result<Vec<Event>, String> {
    let mut parser = Parser::new(limits);
    let mut events = Vec::new();
    let (mut begin, mut is_due) = (0, false);
    let mut in_body_last = false;
    for &length in lengths {
        loop {
            let given = &bytes[begin..length];
            match parser.parse(given) {
                Ok(Progress::Incomplete { send_continue, in_body }) => {
                    if given.len() >= limits.request_bytes() {
                        return Err(format!("waits for more than {} bytes", given.len()));
                    }
                    if send_continue && (is_due || !in_body) {
                        return Err("sends 100-continue twice, or before the head is complete".to_owned());
                    }
                    is_due |= send_continue;
                    in_body_last = in_body;
                    break;
                }
                Ok(Progress::Complete { request, consumed }) => {
                    if consumed == 0 || consumed > given.len() {
                        return Err(format!("consumes {consumed} of {} bytes", given.len()));
                    }
                    begin += consumed;
                    is_due = false;
                    let keep_alive = request.keep_alive;
                    events.push(Event::Accept {
                        method: request.method.as_str(),
                        path: request.path.to_owned(),
                        query: request.query.map(str::to_owned),
                        body: request.body.into_owned(),
                        keep_alive,
                        end: begin,
                    });
                    if !keep_alive {
                        return Ok(events);
                    }
                }
                Err(refusal) => {
                    check_refusal(&mut parser, refusal, given)?;
                    events.push(Event::Refuse(refusal));
                    return Ok(events);
                }
            }
        }
    }
    if begin < bytes.len() {
        events.push(Event::Wait { in_body: in_body_last });
    }
    Ok(events)
}

/// Checks that a refusal has a documented status, and that every later call returns it.
fn check_refusal(parser: &mut Parser, refusal: Refusal, given: &[u8]) -> Result<(), String> {
    if !STATUSES.contains(&refusal.status) || refusal.detail.is_empty() {
        return Err(format!("an undocumented refusal: {refusal:?}"));
    }
    for more in [given, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        if parser.parse(more).err() != Some(refusal) {
            return Err(format!("continues after {refusal:?}"));
        }
    }
    Ok(())
}

fn same(whole: &[Event], cut: &[Event], cuts: &[impl std::fmt::Debug]) -> Result<(), String> {
    if whole == cut { Ok(()) } else { Err(format!("cut at {cuts:?}: {cut:?}, whole: {whole:?}")) }
}

/// The longest request, with every part at its limit, has exactly `Limits::request_bytes`.
#[test]
fn request_bytes_is_exact() {
    let limits = Limits::default();
    let line = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nA: ";
    let value = "a".repeat(limits.head_bytes - line.len() - 4);
    let body = "b".repeat(limits.body_bytes);
    let framing = "10000\r\n\r\n0\r\nA: \r\n\r\n".len();
    for over in [0, 1] {
        let trailer = "c".repeat(Limits::CHUNK_OVERHEAD_BYTES + over - framing);
        let head = format!("{}{line}{value}\r\n\r\n", "\r\n".repeat(Limits::LEADING_EMPTY_LINES));
        let bytes = format!("{head}10000\r\n{body}\r\n0\r\nA: {trailer}\r\n\r\n");
        assert_eq!(bytes.len(), limits.request_bytes() + over);
        let each: Vec<_> = (bytes.len() - 100..=bytes.len()).collect();
        let events = feed(bytes.as_bytes(), &each, limits).expect("no guarantee is violated");
        match events[..] {
            [Event::Accept { end, .. }] if over == 0 => assert_eq!(end, bytes.len()),
            [Event::Refuse(refusal)] if over == 1 => assert_eq!(refusal.status, 431),
            _ => panic!("{over} bytes over the limit"),
        }
    }
}

/// When the framing overhead of chunks is used up, the parser refuses at once instead of waiting for
/// bytes that it could not accept.
#[test]
fn the_overhead_limit_is_enforced_at_once() {
    let limits = Limits::default();
    let line = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nA: ";
    let empty_lines = "\r\n".repeat(Limits::LEADING_EMPTY_LINES);
    let head = format!("{empty_lines}{line}{}\r\n\r\n", "a".repeat(limits.head_bytes - line.len() - 4));
    let body = "b".repeat(limits.body_bytes);
    let size = "10000;c=";
    // The overhead left for the end of the chunk and what follows, the bytes sent, and the status.
    let rows = [
        (0, "", 413),
        (0, "\r", 413),
        (0, "\r\n0\r\n\r\n", 413),
        (1, "\r", 413),
        (1, "\r\n", 413),
        (2, "\r\n", 413),
        (2, "\r\n0", 413),
        (4, "\r\n0\r", 413),
        (4, "\r\n0\r\n", 413),
        (5, "\r\n0\r\n", 431),
        (6, "\r\n0\r\n\r", 431),
        (6, "\r\n0\r\nA", 431),
    ];
    for (left, end, status) in rows {
        let extension = "d".repeat(Limits::CHUNK_OVERHEAD_BYTES - size.len() - 2 - left);
        let bytes = format!("{head}{size}{extension}\r\n{body}{end}");
        let each: Vec<_> = (bytes.len() - 20..=bytes.len()).collect();
        for lengths in [&each[..], &each[20..]] {
            let events = feed(bytes.as_bytes(), lengths, limits);
            match events.as_deref() {
                Ok([Event::Refuse(refusal)]) => assert_eq!(refusal.status, status, "{left} {end:?}"),
                Ok(_) => panic!("{left} {end:?}: not refused"),
                Err(why) => panic!("{left} {end:?}: {why}"),
            }
        }
    }
}
