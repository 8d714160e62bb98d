//! Sends mutants of valid requests to the real server over its socket.
//!
//! Each connection must get exactly the responses that the parser's result for its bytes requires,
//! then be closed in time, and the server must keep running. None of the requests has a token, so
//! none has an effect.

#[path = "support/mutants.rs"]
mod mutants;
mod support;

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use boxoffice::front::http::parse::{Limits, Method, Parser, Progress};
use mutants::{escape, mutant, shortest};
use support::client::{Answer, Wire};
use support::random::{self, Random};
use support::server::Server;

const MUTANTS: u64 = 4_000;

/// The maximum time of the search for shorter bytes.
const SHORTENING: Duration = Duration::from_secs(60);

/// The required responses: the method of each request, and the status if the last one is a refusal.
struct Reading {
    methods: Vec<Method>,
    refused: Option<u16>,
    /// The maximum number of interim responses. There may be fewer, because the server sends none if
    /// it already has the body.
    interim_most: usize,
}

#[test]
fn each_request_gets_one_response() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(data.path(), &["--storage", "memory"]);
    let seed = Random::seeded().next();
    let answers: usize = thread::scope(|scope| {
        let part = |first: u64| {
            let numbers = (first..MUTANTS).step_by(2).map(|index| seed.wrapping_add(index));
            numbers.map(|number| try_one(&server, number)).sum::<usize>()
        };
        let other = scope.spawn(move || part(1));
        part(0) + other.join().expect("the other thread succeeds")
    });
    let alive = server.wire().ask("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(alive.status, 200, "the server is alive");
    let (status, stderr) = server.terminate();
    assert!(status.success() && !stderr.contains("panicked"), "{status}\n{stderr}");
    println!("{MUTANTS} mutants, {answers} answers");
}

fn try_one(server: &Server, number: u64) -> usize {
    let bytes = mutant(number);
    let why = match talk(server, &bytes, number) {
        Ok(answers) => return answers,
        Err(why) => why,
    };
    // Each attempt that hangs takes the whole timeout, hence the limit.
    let begin = Instant::now();
    let least =
        shortest(&bytes, |shorter| begin.elapsed() < SHORTENING && talk(server, shorter, number).is_err());
    panic!("{why}\n  mutant {number}: {}\n  shortest: {}", escape(&bytes), escape(&least));
}

/// Sends the bytes in two segments, split at a position derived from `number`, and reads all
/// responses until the server closes the connection.
fn talk(server: &Server, bytes: &[u8], number: u64) -> Result<usize, String> {
    let reading = read(bytes);
    let mut wire = Wire::open(server.address).map_err(|error| error.to_string())?;
    let cut = Random::new(number).within(0, bytes.len() as u64) as usize;
    // Fails if the server refuses before it has received everything.
    let _ = wire.send(&bytes[..cut]).and_then(|()| wire.send(&bytes[cut..]));
    let _ = wire.end_sending();
    let mut interim = 0;
    let mut answers = Vec::new();
    loop {
        let is_head = reading.methods.get(answers.len()) == Some(&Method::Head);
        let answer = if is_head { wire.answer_without_body() } else { wire.answer() };
        match answer {
            Ok(Some(Answer { status: 100, .. })) => interim += 1,
            Ok(Some(answer)) => answers.push(answer),
            Ok(None) => break,
            // The kernel sends a reset if the server closes with unread bytes.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(format!("after {} answers: {error}", answers.len())),
        }
    }
    check(&reading, &answers, interim)?;
    Ok(answers.len())
}

fn check(reading: &Reading, answers: &[Answer], interim: usize) -> Result<(), String> {
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    let wanted = reading.methods.len() + usize::from(reading.refused.is_some());
    if statuses.len() != wanted {
        return Err(format!("want {wanted} responses, got {statuses:?}"));
    }
    if let Some(status) = statuses.iter().find(|status| **status >= 500 && ![501, 505].contains(*status)) {
        return Err(format!("got {status}: {statuses:?}"));
    }
    if reading.refused.is_some_and(|status| statuses.last() != Some(&status)) {
        return Err(format!("want {:?} last, got {statuses:?}", reading.refused));
    }
    if interim > reading.interim_most {
        return Err(format!("{interim} interim responses, want at most {}", reading.interim_most));
    }
    Ok(())
}

fn read(bytes: &[u8]) -> Reading {
    let mut reading = Reading { methods: Vec::new(), refused: None, interim_most: 0 };
    let mut parser = Parser::new(Limits::default());
    let mut rest = bytes;
    loop {
        match parser.parse(rest) {
            Ok(Progress::Incomplete { send_continue, .. }) => {
                reading.interim_most += usize::from(send_continue);
                return reading;
            }
            Ok(Progress::Complete { request, consumed }) => {
                let expects = request.headers("expect").next().is_some();
                reading.interim_most += usize::from(expects);
                reading.methods.push(request.method);
                if !request.keep_alive {
                    return reading;
                }
                rest = &rest[consumed..];
            }
            Err(refusal) => {
                // The refusal may be in a body for which 100-continue was sent.
                reading.interim_most += 1;
                reading.refused = Some(refusal.status);
                return reading;
            }
        }
    }
}
