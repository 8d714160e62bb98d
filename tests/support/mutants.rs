//! Generates broken requests by mutating valid ones, each from a seed number.
//!
//! Owns the generator and the search for the shortest bytes that still fail. A property-test library
//! would shrink the list of mutations; a failure here must give the shortest bytes, which become a
//! test vector.

use crate::random::Random;

/// The valid requests. None has a token or creates an account, so a server that executes one only
/// reads.
const REQUESTS: [&str; 16] = [
    "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /api/v1/events?limit=2&after=a%20b HTTP/1.1\r\nHost: localhost:8080\r\nAccept: */*\r\n\r\n",
    "HEAD /readyz HTTP/1.1\r\nhost: [::1]:80\r\nUser-Agent: a (b)\r\nConnection: keep-alive\r\n\r\n",
    "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 22\r\n\r\n{\"name\":\"a\",\"quota\":1}",
    "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
     5\r\nhello\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n\
     1;a=b;c=\"d \\\" e\"\r\na\r\nA\r\n0123456789\r\n00;f\r\nA: b\r\nB:\r\n\r\n",
    "PATCH /api/v1/events/1 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    "POST /a HTTP/1.1\r\nExpect: 100-continue\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
     2\r\nok\r\n0\r\n\r\n",
    "GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "POST /b HTTP/1.0\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
    "\r\nDELETE /api/v1/events/1?force=true HTTP/1.1\r\nHost: x\r\nConnection: a, close\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: x\r\nCookie: a=b\r\nCookie: c=d\r\n\r\n",
    "GET http://example.org:80/livez?a=b HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n",
    "PUT /c HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\nGET /livez HTTP/1.1\r\nHost: smuggled\r\n\r\nab",
    "TRACE /d HTTP/1.1\r\nHost: x\r\nX-Request-Id: 1\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n",
];

/// Byte sequences about which HTTP parsers are known to disagree.
const PIECES: [&str; 48] = [
    "\r\n",
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    "\u{b}",
    "\r\n\r\n",
    "\n\n",
    "\r\n ",
    ":",
    ",",
    ";",
    "\"",
    "\\",
    "%",
    "#",
    "?",
    "@",
    "//",
    "+",
    "-",
    "_",
    "0",
    "0x",
    "1",
    "5",
    "a",
    "ffffffff",
    "\u{ff}",
    "chunked",
    "gzip, ",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "content-length:3\r\n",
    "Content-Length : 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding: CHUNKED\r\n",
    "Transfer-Encoding: identity\r\n",
    "Host: y\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Expect: 100-continue\r\n",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "5;a=b\r\nhello\r\n",
    "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    " HTTP/1.0\r\n",
];

/// Returns the mutant for a seed number: one to three requests with one to six changes.
pub(crate) fn mutant(number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    let mut bytes = Vec::new();
    for _ in 0..1 + below(&mut random, 3) {
        bytes.extend_from_slice(REQUESTS[below(&mut random, REQUESTS.len())].as_bytes());
    }
    for _ in 0..1 + below(&mut random, 6) {
        change(&mut bytes, &mut random);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        return bytes.extend_from_slice(REQUESTS[0].as_bytes());
    }
    let at = below(random, bytes.len());
    match below(random, 12) {
        0 => bytes[at] ^= 1 << below(random, 8),
        1 => bytes[at] = random.next() as u8,
        2 => bytes.insert(at, random.next() as u8),
        3 | 4 => insert(bytes, at, PIECES[below(random, PIECES.len())].as_bytes()),
        5 => {
            let end = bytes.len().min(at + 1 + below(random, 8));
            bytes.drain(at..end);
        }
        6 => change_number(bytes, at, random),
        7 => {
            let line = line_at(bytes, at);
            let copy = bytes[line.clone()].to_vec();
            insert(bytes, line.start, &copy);
        }
        8 => swap_lines(bytes, at, random),
        9 => {
            // At the start of a line, where a field or a chunk would begin.
            let begin = line_at(bytes, at).start;
            insert(bytes, begin, PIECES[below(random, PIECES.len())].as_bytes());
        }
        10 => bytes.truncate(at),
        _ => {
            let other = REQUESTS[below(random, REQUESTS.len())].as_bytes();
            let from = below(random, other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

/// Returns a number below `end`, which must not be zero.
fn below(random: &mut Random, end: usize) -> usize {
    (random.next() % end as u64) as usize
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}

/// Replaces the next number after `at`: a length, a chunk size, a version or a port.
fn change_number(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(begin) = bytes[at..].iter().position(u8::is_ascii_hexdigit).map(|skip| at + skip) else {
        return;
    };
    let digits = bytes[begin..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let number = match below(random, 6) {
        0 => format!("{}", below(random, 70)),
        1 => format!("{:x}", below(random, 70)),
        2 => format!("0{}", below(random, 30)),
        3 => format!("{}", below(random, 100_000)),
        4 => format!("{}", random.next()),
        _ => format!("{:x}", random.next()),
    };
    bytes.splice(begin..begin + digits, number.bytes());
}

/// The range of the line that contains `at`, including its end.
fn line_at(bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    let begin = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let end = bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |skip| at + skip + 1);
    begin..end
}

fn swap_lines(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let other = below(random, bytes.len());
    let (first, second) = (line_at(bytes, at.min(other)), line_at(bytes, at.max(other)));
    if first == second {
        return;
    }
    let swapped = [
        &bytes[..first.start],
        &bytes[second.clone()],
        &bytes[first.end..second.start],
        &bytes[first],
        &bytes[second.end..],
    ];
    *bytes = swapped.concat();
}

/// Returns the shortest bytes found that still fail, by removing smaller and smaller pieces.
pub(crate) fn shortest(bytes: &[u8], fails: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut best = bytes.to_vec();
    let mut piece = best.len().div_ceil(2);
    while piece > 0 {
        let before = best.len();
        let mut at = 0;
        while at < best.len() {
            let end = best.len().min(at + piece);
            let shorter = [&best[..at], &best[end..]].concat();
            if fails(&shorter) {
                best = shorter;
            } else {
                at = end;
            }
        }
        if best.len() == before {
            piece /= 2;
        }
    }
    best
}

/// Formats bytes in the notation of the vector files in `tests/data/http`.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        match byte {
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            0 => text.push_str("\\0"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}
