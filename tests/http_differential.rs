//! Compares our parser with hyper's server on the same bytes.
//!
//! Owns the list of intended differences. In each of them, one refuses what the other accepts; no
//! other difference is allowed. When both accept a request, they must parse it alike and agree on
//! its end. An entry of the list that no longer explains any difference fails as well.

#[path = "support/hyper_oracle.rs"]
mod hyper_oracle;
#[path = "support/mutants.rs"]
#[expect(dead_code, reason = "failures here are not shrunk")]
mod mutants;
#[path = "support/our_reading.rs"]
mod our_reading;
#[path = "support/random.rs"]
#[allow(dead_code, reason = "the seeds of the mutants are fixed here")]
mod random;
#[path = "support/vectors.rs"]
#[expect(dead_code, reason = "other tests check the outcomes")]
mod vectors;

use std::collections::BTreeMap;
use std::path::Path;

use hyper_oracle::Verdict;
use mutants::escape;
use our_reading::Ours;

/// The number of mutants. Their seeds are fixed, so that the list of rules is always tested on the
/// same bytes; `http_mutation.rs` uses random seeds.
const MUTANTS: u64 = 20_000;

/// An intended difference.
struct Rule {
    name: &'static str,
    reason: &'static str,
    side: Side,
    /// Returns true if the rule applies to this message.
    explains: fn(&Message<'_>) -> bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// We refuse, with one of these statuses, what hyper accepts or waits to complete.
    WeRefuse(&'static [u16]),
    /// hyper refuses what we accept or wait to complete.
    HyperRefuses,
    /// Both accept the request, and we close the connection after it.
    WeClose,
}

const RULES: &[Rule] = &[
    Rule {
        name: "bare LF",
        reason: "RFC 9112 section 2.2 allows an LF without CR as a line end; we do not accept it",
        side: Side::WeRefuse(&[400]),
        explains: |message| message.has_bare_lf,
    },
    Rule {
        name: "many empty lines",
        reason: "RFC 9112 section 2.2 asks to skip at least one before a request line; we skip four",
        side: Side::WeRefuse(&[400]),
        explains: |message| message.empty_lines > 4,
    },
    Rule {
        name: "unknown method",
        reason: "RFC 9110 section 9.1: 501 for a method that is not implemented; hyper leaves the check to \
                 the service",
        side: Side::WeRefuse(&[501]),
        explains: |message| !METHODS.contains(&message.method),
    },
    Rule {
        name: "Host missing",
        reason: "RFC 9112 section 3.2: 400 in HTTP/1.1; hyper leaves the check to the service",
        side: Side::WeRefuse(&[400]),
        explains: |message| message.version != b"HTTP/1.0" && message.count("host") == 0,
    },
    Rule {
        name: "Host twice",
        reason: "RFC 9112 section 3.2: 400; hyper leaves the check to the service",
        side: Side::WeRefuse(&[400]),
        explains: |message| message.count("host") > 1,
    },
    Rule {
        name: "Host not valid",
        reason: "RFC 9112 section 3.2: 400; hyper leaves the check to the service",
        side: Side::WeRefuse(&[400]),
        explains: |message| message.values("host").any(|host| !is_authority(host)),
    },
    Rule {
        name: "Content-Length and Transfer-Encoding",
        reason: "RFC 9112 section 6.1: may be refused as smuggling; hyper ignores the length and closes the connection",
        side: Side::WeRefuse(&[400]),
        explains: |message| message.count("content-length") > 0 && message.count("transfer-encoding") > 0,
    },
    Rule {
        name: "Content-Length twice",
        reason: "RFC 9110 section 8.6: may be refused even if the values are equal; hyper accepts equal ones",
        side: Side::WeRefuse(&[400]),
        explains: |message| message.count("content-length") > 1,
    },
    Rule {
        name: "Transfer-Encoding of more than chunked",
        reason: "RFC 9112 section 6.1: no coding but chunked is implemented; hyper passes others to \
                 the service",
        side: Side::WeRefuse(&[400]),
        explains: |message| {
            let values: Vec<_> = message.values("transfer-encoding").collect();
            values.len() > 1 || values.iter().any(|value| !value.eq_ignore_ascii_case(b"chunked"))
        },
    },
    Rule {
        name: "target not a URI",
        reason: "RFC 9112 section 3.2: 400 for a target that is invalid by RFC 3986; hyper accepts \
                 other delimiters, broken escapes and other octets, and removes a fragment",
        side: Side::WeRefuse(&[400]),
        explains: |message| !is_uri(message.target),
    },
    Rule {
        name: "target of another form",
        reason: "RFC 9112 section 3.2: each form is for certain methods, and this server accepts only http URIs",
        side: Side::WeRefuse(&[400]),
        explains: |message| !has_form_of(message.target, message.method),
    },
    Rule {
        name: "expectation",
        reason: "RFC 9110 section 10.1.1: 417 for any expectation but 100-continue; hyper ignores them",
        side: Side::WeRefuse(&[417]),
        explains: |message| {
            let mut all = message.values("expect").flat_map(elements);
            all.any(|one| !one.eq_ignore_ascii_case(b"100-continue"))
        },
    },
    Rule {
        name: "Connection not a list of tokens",
        reason: "RFC 9110 section 7.6.1: the grammar; hyper ignores invalid elements",
        side: Side::WeRefuse(&[400]),
        explains: |message| {
            let mut all = message.values("connection").flat_map(elements);
            all.any(|one| !one.iter().all(is_tchar))
        },
    },
    Rule {
        name: "Authorization or Content-Type twice",
        reason: "RFC 9110 section 5.3: a field that is not a list must not be repeated; hyper leaves \
                 the check to the service",
        side: Side::WeRefuse(&[400]),
        explains: |message| message.count("authorization") > 1 || message.count("content-type") > 1,
    },
    Rule {
        name: "limit",
        reason: "RFC 9110 sections 15.5.14 and 15.5.15, RFC 6585 section 5: our limits are lower",
        side: Side::WeRefuse(&[413, 414, 431]),
        explains: |message| message.is_above_a_limit(),
    },
    Rule {
        name: "white space in a chunk's size line",
        reason: "RFC 9112 section 7.1.1 allows it for old senders; hyper skips it",
        side: Side::WeRefuse(&[400]),
        explains: |message| message.extensions().any(|extensions| matches!(extensions, [b' ' | b'\t', ..])),
    },
    Rule {
        name: "invalid chunk extension",
        reason: "RFC 9112 section 7.1.1; hyper skips anything up to the line end",
        side: Side::WeRefuse(&[400]),
        explains: |message| {
            message.extensions().any(|extensions| extensions.starts_with(b";") && !are_extensions(extensions))
        },
    },
    Rule {
        name: "chunk size of more than eight digits",
        reason: "RFC 9112 section 7.1: a recipient must guard against large sizes; hyper accepts 64 bits",
        side: Side::WeRefuse(&[400]),
        explains: |message| message.size_lines.iter().any(|line| size_digits(line).len() > 8),
    },
    Rule {
        name: "unfinished trailers",
        reason: "RFC 9112 section 2.2 does not say when a message is refused: hyper refuses trailers when they \
                 are complete; we refuse an invalid line end or control character at once",
        side: Side::WeRefuse(&[400]),
        explains: |message| {
            let whole = [message.bytes, b"\r\n\r\n"].concat();
            !message.trailers.is_empty()
                && hyper_oracle::first(message.bytes) == Verdict::Wait
                && matches!(hyper_oracle::first(&whole), Verdict::Refuse(_))
        },
    },
    Rule {
        name: "escape in a target's host",
        reason: "RFC 3986 section 3.2.2 allows escapes in a registered name; hyper does not",
        side: Side::HyperRefuses,
        explains: |message| {
            let mut parts = message.target.split(|byte| b"/?".contains(byte));
            let host = if message.method == b"CONNECT" { parts.next() } else { parts.nth(2) };
            host.is_some_and(|host| host.contains(&b'%')) && !message.target.starts_with(b"/")
        },
    },
    Rule {
        name: "unfinished line",
        reason: "RFC 9112 section 2.2 does not say when a message is refused: we check a line, and all fields \
                 together, when they are complete; hyper checks each byte. \
                 When they are complete, we refuse as well",
        side: Side::HyperRefuses,
        explains: |message| {
            let end: &[u8] = if message.bytes.ends_with(b"\r") { b"\n\r\n" } else { b"\r\n\r\n" };
            matches!(our_reading::first(&mut our_reading::parser(), message.bytes), Ours::Wait)
                && matches!(
                    our_reading::first(&mut our_reading::parser(), &[message.bytes, end].concat()),
                    Ours::Refuse(_)
                )
        },
    },
    Rule {
        name: "minor version above 1",
        reason: "RFC 9110 section 2.5: must be processed as the highest supported minor version; \
                 hyper refuses it",
        side: Side::HyperRefuses,
        explains: |message| {
            matches!(message.version, [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'])
        },
    },
    Rule {
        name: "closed after CONNECT",
        reason: "RFC 9110 section 9.3.6: the bytes that follow may be tunnel data",
        side: Side::WeClose,
        explains: |message| message.method == b"CONNECT",
    },
];

const METHODS: [&[u8]; 10] =
    [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"QUERY"];

/// A message, parsed leniently for the rules.
struct Message<'b> {
    bytes: &'b [u8],
    empty_lines: usize,
    line: &'b [u8],
    method: &'b [u8],
    target: &'b [u8],
    version: &'b [u8],
    fields: Vec<(&'b [u8], &'b [u8])>,
    head_bytes: usize,
    size_lines: Vec<&'b [u8]>,
    trailers: &'b [u8],
    has_bare_lf: bool,
}

impl<'b> Message<'b> {
    /// Parses bytes that end with the message, if its end is known.
    fn read(bytes: &'b [u8]) -> Self {
        let mut message = Self {
            bytes,
            empty_lines: 0,
            line: b"",
            method: b"",
            target: b"",
            version: b"",
            fields: Vec::new(),
            head_bytes: 0,
            size_lines: Vec::new(),
            trailers: b"",
            has_bare_lf: false,
        };
        let mut rest = bytes;
        let mut has_end = false;
        while let Some((line, behind, is_bare)) = next_line(rest).filter(|_| !has_end) {
            message.has_bare_lf |= is_bare;
            rest = behind;
            match (line, message.line) {
                (b"", b"") => message.empty_lines += 1,
                (b"", _) => has_end = true,
                (_, b"") => message.line = line,
                _ => {
                    let (name, value) = cut(line, b':').unwrap_or((line, b""));
                    message.fields.push((name, value.trim_ascii()));
                }
            }
        }
        if !has_end {
            // An incomplete line counts as a line.
            match message.line {
                b"" => message.line = rest,
                _ => message.fields.push((rest, b"")),
            }
            rest = b"";
        }
        message.head_bytes = bytes.len() - rest.len();
        let (method, behind) = cut(message.line, b' ').unwrap_or((message.line, b""));
        let (target, version) = cut(behind, b' ').unwrap_or((behind, b""));
        (message.method, message.target, message.version) = (method, target, version);
        if message.count("transfer-encoding") > 0 {
            message.read_chunks(rest);
        }
        message
    }

    fn read_chunks(&mut self, mut rest: &'b [u8]) {
        loop {
            let end = rest.windows(2).position(|pair| pair == b"\r\n");
            let line = &rest[..end.unwrap_or(rest.len())];
            self.size_lines.push(line);
            let (Some(end), Ok(size)) = (end, usize::from_str_radix(size_digits(line), 16)) else {
                return;
            };
            rest = &rest[end + 2..];
            if size == 0 {
                self.trailers = rest;
                while let Some((_, behind, is_bare)) = next_line(rest) {
                    self.has_bare_lf |= is_bare;
                    rest = behind;
                }
                return;
            }
            match size.checked_add(2).and_then(|size| rest.get(size..)) {
                Some(behind) => rest = behind,
                None => return,
            }
        }
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        let of_name =
            self.fields.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
        of_name.map(|(_, value)| *value)
    }

    fn count(&self, name: &str) -> usize {
        self.values(name).count()
    }

    /// The part of each size line after the size.
    fn extensions(&self) -> impl Iterator<Item = &'b [u8]> {
        self.size_lines.iter().map(|line| &line[size_digits(line).len()..])
    }

    fn is_above_a_limit(&self) -> bool {
        let length = self.values("content-length").next().and_then(|value| str::from_utf8(value).ok());
        let length = length.and_then(|value| value.parse::<u128>().ok());
        let trailers = self.trailers.iter().filter(|&&byte| byte == b'\n').count();
        self.target.len() > 8 * 1024
            || self.head_bytes > 16 * 1024
            || self.fields.len() > 64
            || length.is_some_and(|length| length > 64 * 1024)
            || trailers > 64
            || self.is_chunked_above_a_limit()
    }

    fn is_chunked_above_a_limit(&self) -> bool {
        let sizes = self.size_lines.iter().map(|line| u64::from_str_radix(size_digits(line), 16));
        let data = sizes.flatten().fold(0, u64::saturating_add);
        let lines: usize = self.size_lines.iter().map(|line| line.len() + 4).sum();
        data > 64 * 1024 || lines + self.trailers.len() > 16 * 1024
    }
}

/// The next line without its end, the bytes after it, and whether it ended with a bare LF.
fn next_line(bytes: &[u8]) -> Option<(&[u8], &[u8], bool)> {
    let (line, behind) = cut(bytes, b'\n')?;
    Some(line.strip_suffix(b"\r").map_or((line, behind, true), |line| (line, behind, false)))
}

fn cut(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let index = bytes.iter().position(|&byte| byte == at)?;
    Some((&bytes[..index], &bytes[index + 1..]))
}

fn size_digits(line: &[u8]) -> &str {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    str::from_utf8(&line[..digits]).expect("digits are text")
}

/// Checks `*( ";" name [ "=" ( token / quoted-string ) ] )`, a byte at a time.
fn are_extensions(extensions: &[u8]) -> bool {
    let mut state = b'e';
    for &byte in extensions {
        // e: end of a value; n, N: name, before and after its first byte; v, V: value; q: within
        // quotes; s: after a backslash.
        state = match (state, byte) {
            (b'e' | b'N' | b'V', b';') => b'n',
            (b'n' | b'N', byte) if is_tchar(&byte) => b'N',
            (b'N', b'=') => b'v',
            (b'v', b'"') => b'q',
            (b'v' | b'V', byte) if is_tchar(&byte) => b'V',
            (b'q', b'"') => b'e',
            (b'q', b'\\') => b's',
            (b'q' | b's', b'\t' | b' '..=b'~' | 0x80..) => b'q',
            _ => return false,
        };
    }
    matches!(state, b'e' | b'N' | b'V')
}

fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

fn is_tchar(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

/// Checks the characters of RFC 3986 section 2, and those that browsers do not escape in a query.
fn is_uri(target: &[u8]) -> bool {
    let (path, query) = cut(target, b'?').unwrap_or((target, b""));
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(byte);
    let in_query = |byte: &u8| plain(byte) || b"?[]{}|\\^`".contains(byte);
    let has_whole_escapes = target
        .split(|&byte| byte == b'%')
        .skip(1)
        .all(|behind| behind.len() >= 2 && behind[..2].iter().all(u8::is_ascii_hexdigit));
    // Brackets are allowed in an authority only.
    let scheme = path.windows(3).position(|three| three == b"://").map_or(0, |at| at + 3);
    let authority =
        path[scheme..].iter().position(|&byte| byte == b'/').map_or(path.len(), |length| scheme + length);
    path[..authority].iter().all(|byte| plain(byte) || b"[]".contains(byte))
        && path[authority..].iter().all(plain)
        && query.iter().all(in_query)
        && has_whole_escapes
}

fn has_form_of(target: &[u8], method: &[u8]) -> bool {
    let lower = target.to_ascii_lowercase();
    let rest = lower.strip_prefix(b"http://").or_else(|| lower.strip_prefix(b"https://"));
    let authority = rest.map(|rest| rest.split(|byte| b"/?#".contains(byte)).next().unwrap_or_default());
    match method {
        // The port is required (RFC 9110 section 9.3.6).
        b"CONNECT" => {
            is_authority(target)
                && target.contains(&b':')
                && !target.ends_with(b":")
                && !target.ends_with(b"]")
        }
        b"OPTIONS" if target == b"*" => true,
        _ => target.starts_with(b"/") || authority.is_some_and(is_authority),
    }
}

/// Checks `uri-host [ ":" port ]` of RFC 9110 section 4.2.1, without user information.
fn is_authority(authority: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(authority) else {
        return false;
    };
    let (host, port) = match text.rfind(':').filter(|&at| !text[at..].contains(']')) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    };
    let port_is_valid =
        port.is_empty() || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok());
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
    let host_is_valid = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(name) && is_uri(host.as_bytes()),
    };
    port_is_valid && host_is_valid
}

/// A difference, with the bytes of the request.
struct Difference<'b> {
    message: &'b [u8],
    kind: Kind,
    ours: String,
    theirs: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    WeRefuse(u16),
    HyperRefuses,
    WeClose,
    /// Both continue with different results, which would allow request smuggling.
    Never,
}

/// Compares the two on the bytes of a connection. Returns the first difference, and the number of
/// requests that both accepted.
fn compare(bytes: &[u8]) -> (Option<Difference<'_>>, usize) {
    let mut begin = 0;
    let mut taken = 0;
    let mut last = b"".as_slice();
    let mut is_kept = true;
    while is_kept && begin < bytes.len() {
        let rest = &bytes[begin..];
        let mut parser = our_reading::parser();
        let ours = our_reading::first(&mut parser, rest);
        let theirs = hyper_oracle::first(rest);
        let end = if let Verdict::Accept(theirs) = &theirs { theirs.consumed } else { rest.len() };
        let found = |kind, ours: String| {
            let theirs = format!("{theirs:?}");
            (Some(Difference { message: &rest[..end], kind, ours, theirs }), taken)
        };
        match (&ours, &theirs) {
            (Ours::Refuse(_), Verdict::Refuse(_)) | (Ours::Wait, Verdict::Wait) => break,
            (Ours::Refuse(refusal), _) => {
                return found(Kind::WeRefuse(refusal.status), format!("{refusal:?}"));
            }
            (Ours::Accept { .. }, Verdict::Refuse(_)) => return found(Kind::HyperRefuses, "accepted".into()),
            (Ours::Wait, Verdict::Refuse(_)) => return found(Kind::HyperRefuses, "waits".into()),
            (Ours::Wait, Verdict::Accept(_)) => return found(Kind::Never, "waits".into()),
            (Ours::Accept { consumed, .. }, Verdict::Wait) => {
                return found(Kind::Never, format!("ends at {consumed}"));
            }
            (Ours::Accept { request, consumed }, Verdict::Accept(theirs)) => {
                if let Some(difference) = our_reading::difference(request, *consumed, theirs) {
                    return found(Kind::Never, difference);
                }
                is_kept = request.keep_alive;
                last = &rest[..end];
                begin += consumed;
                taken += 1;
            }
        }
    }
    (compare_connections(bytes, taken, is_kept, last), taken)
}

/// Compares the requests accepted one by one with those that hyper executes on one connection.
fn compare_connections<'b>(
    bytes: &[u8],
    taken: usize,
    is_kept: bool,
    last: &'b [u8],
) -> Option<Difference<'b>> {
    let (run, hung_up) = hyper_oracle::connection(bytes);
    let found = |kind| {
        let ours = format!("{taken} accepted, then {}", if is_kept { "kept" } else { "closed" });
        let theirs = format!("{} accepted, then {}", run.len(), if hung_up { "closed" } else { "kept" });
        Some(Difference { message: last, kind, ours, theirs })
    };
    match (is_kept, hung_up) {
        _ if run.len() < taken => found(Kind::Never),
        (true, true) => found(Kind::Never),
        (true, false) if run.len() > taken => found(Kind::Never),
        (false, false) => found(Kind::WeClose),
        _ => None,
    }
}

/// The results of all connections.
#[derive(Default)]
struct Tally {
    connections: usize,
    requests: usize,
    alike: usize,
    /// How often each rule was the only explanation.
    uses: BTreeMap<&'static str, usize>,
    failures: Vec<String>,
}

impl Tally {
    fn compare(&mut self, name: &str, bytes: &[u8]) {
        let (difference, taken) = compare(bytes);
        self.connections += 1;
        self.requests += taken;
        let Some(difference) = difference else {
            self.alike += 1;
            return;
        };
        match explanations(&difference)[..] {
            [] => self.failures.push(format!(
                "{:?} {name}\n  bytes   {}\n  message {}\n  ours    {}\n  hyper   {}",
                difference.kind,
                shown(bytes),
                shown(difference.message),
                difference.ours,
                difference.theirs,
            )),
            [rule] => *self.uses.entry(rule).or_default() += 1,
            _ => {}
        }
    }
}

fn explanations(difference: &Difference<'_>) -> Vec<&'static str> {
    let message = Message::read(difference.message);
    let of_side = RULES.iter().filter(|rule| match (difference.kind, rule.side) {
        (Kind::WeRefuse(status), Side::WeRefuse(statuses)) => statuses.contains(&status),
        (Kind::HyperRefuses, Side::HyperRefuses) | (Kind::WeClose, Side::WeClose) => true,
        _ => false,
    });
    of_side.filter(|rule| (rule.explains)(&message)).map(|rule| rule.name).collect()
}

fn shown(bytes: &[u8]) -> String {
    let mut text = escape(&bytes[..bytes.len().min(1000)]);
    if bytes.len() > 1000 {
        text.push_str("...");
    }
    text
}

#[test]
fn differences_are_on_the_list() {
    let mut tally = Tally::default();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/http");
    for vector in vectors::load(&directory) {
        tally.compare(&vector.name, &vector.bytes);
    }
    println!("{} named connections", tally.connections);
    for bytes in ODD {
        tally.compare("odd", bytes.as_bytes());
    }
    framings(&mut tally);
    every_byte(&mut tally);
    println!("{} with the generated ones", tally.connections);
    for number in 0..MUTANTS {
        tally.compare(&format!("mutant {number}"), &mutants::mutant(number));
    }
    println!(
        "{} connections with the mutants: {} alike, {} requests accepted by both",
        tally.connections, tally.alike, tally.requests
    );
    println!("differences that only one rule explains: {:#?}", tally.uses);
    let count = tally.failures.len();
    tally.failures.truncate(10);
    assert!(count == 0, "{count} differences are not on the list:\n{}", tally.failures.join("\n"));
    for rule in RULES {
        assert!(tally.uses.contains_key(rule.name), "no difference needs {:?} ({})", rule.name, rule.reason);
    }
}

/// Connections that mutants have found and that no other case covers.
const ODD: [&str; 3] = [
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\u{1}\r\n",
    "GET http://a%20b/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT a%20b:1 HTTP/1.1\r\nHost: x\r\n\r\n",
];

/// All pairs of framing fields, in each version and with each body.
fn framings(tally: &mut Tally) {
    let fields = [
        "",
        "Content-Length: 5\r\n",
        "content-length:05\r\n",
        "Content-Length: 0\r\n",
        "Content-Length: 25\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 18446744073709551615\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length:\r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding:\tCHUNKED \r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked;a=b\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer_Encoding: chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
    ];
    let bodies =
        ["5\r\nhello\r\n0\r\n\r\n", "hello", "0\r\n\r\n", "5;a=\"\r\n\"\r\nhello\r\n0\r\nA: b\r\n\r\n"];
    for method in ["POST", "GET", "HEAD"] {
        for version in ["1.0", "1.1", "1.2"] {
            for first in fields {
                for second in fields {
                    for body in bodies {
                        let head =
                            format!("{method} /r HTTP/{version}\r\nHost: x\r\nConnection: keep-alive\r\n");
                        let next = "GET /next HTTP/1.1\r\nHost: x\r\n\r\n";
                        let bytes = format!("{head}{first}{second}\r\n{body}{next}");
                        tally.compare("framing", bytes.as_bytes());
                    }
                }
            }
        }
    }
}

/// Inserts every byte value at each position of some requests, and replaces each byte with it.
fn every_byte(tally: &mut Tally) {
    let requests = [
        "GET /a?b HTTP/1.1\r\nHost: x:1\r\nA: b\r\n\r\n",
        "POST http://x/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na",
        "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"b\"\r\nc\r\n0\r\nA: b\r\n\r\n",
        "CONNECT x:1 HTTP/1.1\r\nHost: x\r\nConnection: a, b\r\nExpect: 100-continue\r\n\r\n",
    ];
    for request in requests {
        let bytes = [request.as_bytes(), b"GET / HTTP/1.0\r\n\r\n"].concat();
        for position in 0..=request.len() {
            for byte in 0..=255 {
                let mut mutant = bytes.clone();
                mutant.insert(position, byte);
                tally.compare("byte inserted", &mutant);
                mutant.remove(position + 1);
                tally.compare("byte replaced", &mutant);
            }
        }
    }
}
