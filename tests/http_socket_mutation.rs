//! Mutants of good requests against the real server, over its socket.
//!
//! Each connection has to give exactly the answers that the parser's reading
//! of its bytes calls for, then end, in time, and leave the server alive.
//! None of the requests has a token, so none has an effect.

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

/// What the search for shorter bytes may take.
const SHORTENING: Duration = Duration::from_secs(60);

/// What the bytes call for: the method of each request, and whether a
/// refusal or a closing answer is the last.
struct Reading {
    methods: Vec<Method>,
    refused: Option<u16>,
    /// Interim answers that may come, but need not: the server may already
    /// have the body when it looks.
    interim_most: usize,
}

#[test]
fn each_request_has_one_answer() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(data.path(), &["--storage", "memory"]);
    let seed = Random::seeded().next();
    let answers: usize = thread::scope(|scope| {
        let part = |first: u64| {
            let numbers = (first..MUTANTS).step_by(2).map(|index| seed.wrapping_add(index));
            numbers.map(|number| try_one(&server, number)).sum::<usize>()
        };
        let other = scope.spawn(move || part(1));
        part(0) + other.join().expect("the other half holds")
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
    // A hang takes a deadline each time.
    let begin = Instant::now();
    let least =
        shortest(&bytes, |shorter| begin.elapsed() < SHORTENING && talk(server, shorter, number).is_err());
    panic!("{why}\n  mutant {number}: {}\n  shortest: {}", escape(&bytes), escape(&least));
}

/// Sends the bytes, cut in two at a place that `number` gives, and reads all
/// that comes until the server ends the connection.
fn talk(server: &Server, bytes: &[u8], number: u64) -> Result<usize, String> {
    let reading = read(bytes);
    let mut wire = Wire::open(server.address).map_err(|error| error.to_string())?;
    let cut = Random::new(number).within(0, bytes.len() as u64) as usize;
    // The server may have refused before it has all: the rest cannot be sent then.
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
            // What had not been read when it closed makes the end a reset.
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
        return Err(format!("{wanted} answers are due, and it gave {statuses:?}"));
    }
    if let Some(status) = statuses.iter().find(|status| **status >= 500 && ![501, 505].contains(*status)) {
        return Err(format!("it answers {status}: {statuses:?}"));
    }
    if reading.refused.is_some_and(|status| statuses.last() != Some(&status)) {
        return Err(format!("{:?} is due last, and it gave {statuses:?}", reading.refused));
    }
    if interim > reading.interim_most {
        return Err(format!("{interim} interim answers, of at most {}", reading.interim_most));
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
                // Or in the middle of a body that was asked for.
                reading.interim_most += 1;
                reading.refused = Some(refusal.status);
                return reading;
            }
        }
    }
}
