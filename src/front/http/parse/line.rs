//! Parses a request line: the method, the target in its four forms, the version.
//!
//! Owns the grammar of targets and authorities. Decodes no escapes and resolves no paths.

use std::net::Ipv6Addr;
use std::ops::Range;
use std::str;

use super::{Limits, Method, Refusal, Version};

/// The length of the longest method, the two spaces, the version and the line end.
pub(super) const BYTES_BESIDE_TARGET: usize = "CONNECT /".len() - 1 + " HTTP/1.1\r\n".len();

/// A parsed request line. Its ranges are indices into the head.
pub(super) struct RequestLine {
    pub(super) method: Method,
    pub(super) version: Version,
    path: Range<usize>,
    query: Option<Range<usize>>,
}

impl Default for RequestLine {
    fn default() -> Self {
        Self { method: Method::Get, version: Version::Http11, path: 0..0, query: None }
    }
}

impl RequestLine {
    /// Parses a complete line, given without its CRLF.
    pub(super) fn read(line: &[u8], limits: &Limits) -> Result<Self, Refusal> {
        // RFC 9112 section 3: single spaces between the parts, none within. The section allows
        // lenient parsing, and warns that it may be a security risk.
        let (method, behind) = line.split_at(token_bytes(line));
        let behind = behind.strip_prefix(b" ").ok_or(LINE)?;
        let space = behind.iter().rposition(|&byte| byte == b' ').ok_or(LINE)?;
        let (target, version) = (&behind[..space], &behind[space + 1..]);
        // Without an early end, so that the compiler vectorizes it.
        let has_space = target.iter().fold(false, |found, &byte| found | (byte == b' '));
        if method.is_empty() || target.is_empty() || has_space {
            return Err(LINE);
        }
        let version = read_version(version)?;
        let method = read_method(method)?;
        if target.len() > limits.target_bytes {
            return Err(TARGET_BYTES);
        }
        let begin = method.as_str().len() + 1;
        let (path, query) = read_target(method, target)?;
        let in_head = |range: Range<usize>| begin + range.start..begin + range.end;
        Ok(Self { method, version, path: in_head(path), query: query.map(in_head) })
    }

    pub(super) fn path<'b>(&self, head: &'b [u8]) -> &'b str {
        // An absolute target may have an empty path, which means "/" (RFC 9110 section 4.2.3).
        if self.path.is_empty() {
            return "/";
        }
        text(&head[self.path.clone()])
    }

    pub(super) fn query<'b>(&self, head: &'b [u8]) -> Option<&'b str> {
        self.query.clone().map(|range| text(&head[range]))
    }
}

/// The refusal of a line that exceeds the limit, given its beginning.
pub(super) fn too_long(line: &[u8]) -> Refusal {
    let method = line.split(|&byte| byte == b' ').next().unwrap_or_default();
    if !is_token(method) {
        return LINE;
    }
    read_method(method).err().unwrap_or(TARGET_BYTES)
}

/// Checks `uri-host [":" port]` with a host that is not empty: RFC 9110 section 4.2.1 requires an
/// http URI with an empty host to be rejected.
pub(super) fn is_authority(authority: &[u8]) -> bool {
    let (host_is_valid, port) = if let Some(rest) = authority.strip_prefix(b"[") {
        let Some(close) = rest.iter().position(|&byte| byte == b']') else {
            return false;
        };
        // RFC 3986 section 3.2.2: an address of an unknown version ("[v1.x]") must be refused, so
        // only IPv6 is accepted.
        let address = str::from_utf8(&rest[..close]).ok();
        let address = address.and_then(|text| text.parse::<Ipv6Addr>().ok());
        (address.is_some(), &rest[close + 1..])
    } else {
        // A colon is not in the class of a name.
        let Some((name, port)) = split_class(authority, NAME) else {
            return false;
        };
        (!name.is_empty(), port)
    };
    host_is_valid && (port.is_empty() || is_port(port))
}

pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && token_bytes(bytes) == bytes.len()
}

/// Whether bytes of a line are this name without regard to case. The name has letters and hyphens only. Compares
/// eight bytes at a time, since each name of a head is compared several times.
pub(super) fn is_same_name(bytes: &[u8], name: &[u8]) -> bool {
    // With this bit set, the two cases of a letter are equal, and no other byte of a line equals a letter or a
    // hyphen.
    const CASE: u64 = 0x2020_2020_2020_2020;
    let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes) | CASE;
    match (bytes.last_chunk::<8>(), name.last_chunk::<8>()) {
        _ if bytes.len() != name.len() => false,
        (Some(last), Some(name_last)) => {
            let (words, _) = bytes.as_chunks::<8>();
            let (name_words, _) = name.as_chunks::<8>();
            word(last) == word(name_last) && words.iter().map(word).eq(name_words.iter().map(word))
        }
        _ => bytes.eq_ignore_ascii_case(name),
    }
}

/// The number of bytes at the start that a token can have.
pub(super) fn token_bytes(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| CLASSES[usize::from(byte)] & TOKEN == 0).unwrap_or(bytes.len())
}

/// Checks `":" *DIGIT`, at most 65535. The number may be missing (RFC 3986 section 3.2.3).
fn is_port(bytes: &[u8]) -> bool {
    let Some(digits) = bytes.strip_prefix(b":") else {
        return false;
    };
    let append = |number: u16, digit: &u8| {
        let digit = digit.checked_sub(b'0').filter(|&digit| digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    };
    digits.iter().try_fold(0, append).is_some()
}

fn read_method(method: &[u8]) -> Result<Method, Refusal> {
    match method {
        b"GET" => Ok(Method::Get),
        b"HEAD" => Ok(Method::Head),
        b"POST" => Ok(Method::Post),
        b"PUT" => Ok(Method::Put),
        b"PATCH" => Ok(Method::Patch),
        b"DELETE" => Ok(Method::Delete),
        b"OPTIONS" => Ok(Method::Options),
        b"TRACE" => Ok(Method::Trace),
        b"CONNECT" => Ok(Method::Connect),
        b"QUERY" => Ok(Method::Query),
        _ => Err(METHOD),
    }
}

fn read_version(version: &[u8]) -> Result<Version, Refusal> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        // RFC 9110 section 2.5: a request with a higher minor version is processed as the highest
        // supported one; 505 is for an unsupported major version.
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => Ok(Version::Http11),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(VERSION),
        _ => Err(LINE),
    }
}

type PathAndQuery = (Range<usize>, Option<Range<usize>>);

/// Parses one of the four forms of RFC 9112 section 3.2.
fn read_target(method: Method, target: &[u8]) -> Result<PathAndQuery, Refusal> {
    // CONNECT is parsed so that the router answers 404: the method is known, but no route has an
    // authority as its path.
    if method == Method::Connect {
        let has_port = target.last().is_some_and(u8::is_ascii_digit) && target.contains(&b':');
        return if has_port && is_authority(target) { Ok((0..target.len(), None)) } else { Err(TARGET) };
    }
    match target {
        [b'/', ..] => read_path(target, 0),
        b"*" if method == Method::Options => Ok((0..1, None)),
        _ => read_absolute(target),
    }
}

/// Parses the absolute form, which a server must accept (RFC 9112 section 3.2.2). The `Host` field
/// is still required, but the target takes precedence over it.
fn read_absolute(target: &[u8]) -> Result<PathAndQuery, Refusal> {
    let scheme = [b"http://".as_slice(), b"https://"]
        .into_iter()
        .find(|scheme| {
            let begin = target.get(..scheme.len());
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
        })
        .ok_or(TARGET)?;
    let rest = &target[scheme.len()..];
    let length = rest.iter().position(|byte| b"/?#".contains(byte));
    let (authority, _) = rest.split_at(length.unwrap_or(rest.len()));
    // Also refuses user information (RFC 9110 section 4.2.4).
    if !is_authority(authority) {
        return Err(TARGET);
    }
    read_path(target, scheme.len() + authority.len())
}

/// Parses the path and query from index `begin` to the end of the target.
fn read_path(target: &[u8], begin: usize) -> Result<PathAndQuery, Refusal> {
    // A question mark is not in the class of a path.
    let (path, behind) = split_class(&target[begin..], PATH).ok_or(TARGET)?;
    let end = begin + path.len();
    match behind {
        [] => Ok((begin..end, None)),
        [b'?', query @ ..] if is_made_of(query, QUERY) => Ok((begin..end, Some(end + 1..target.len()))),
        _ => Err(TARGET),
    }
}

/// Splits bytes before the first one that is not in the class. `None` if a `%` before it begins no valid escape.
fn split_class(bytes: &[u8], class: u8) -> Option<(&[u8], &[u8])> {
    let mut classes_seen = 0;
    let is_outside = |&byte: &u8| {
        let classes = CLASSES[usize::from(byte)];
        classes_seen |= classes;
        classes & class == 0
    };
    let end = bytes.iter().position(is_outside).unwrap_or(bytes.len());
    let (inside, behind) = bytes.split_at(end);
    (classes_seen & PERCENT == 0 || has_whole_escapes(inside)).then_some((inside, behind))
}

/// Returns true if each byte is in the class and each `%` begins a valid escape.
fn is_made_of(bytes: &[u8], class: u8) -> bool {
    split_class(bytes, class).is_some_and(|(_, behind)| behind.is_empty())
}

fn has_whole_escapes(bytes: &[u8]) -> bool {
    bytes.split(|&byte| byte == b'%').skip(1).all(
        |behind| matches!(behind, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()),
    )
}

/// A part of a target that was parsed.
fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("the classes of a target are ASCII")
}

/// `tchar` of RFC 9110 section 5.6.2.
const TOKEN: u8 = 1;
/// `reg-name` of RFC 3986 section 3.2.2.
const NAME: u8 = 2;
/// `pchar` of RFC 3986 section 3.3, and the slash.
const PATH: u8 = 4;
/// `query` of RFC 3986 section 3.4, and the characters that browsers do not escape in a query (the
/// query percent-encode set of the URL standard).
const QUERY: u8 = 8;
/// The percent sign, which begins an escape.
const PERCENT: u8 = 16;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        classes[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => TOKEN | NAME | PATH | QUERY,
            b'%' => TOKEN | NAME | PATH | QUERY | PERCENT,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'*' | b'+' => {
                TOKEN | NAME | PATH | QUERY
            }
            b'(' | b')' | b',' | b';' | b'=' => NAME | PATH | QUERY,
            b':' | b'@' | b'/' => PATH | QUERY,
            b'^' | b'`' | b'|' => TOKEN | QUERY,
            b'?' | b'[' | b']' | b'{' | b'}' | b'\\' => QUERY,
            b'#' => TOKEN,
            _ => 0,
        };
        byte += 1;
    }
    classes
}

const LINE: Refusal = Refusal {
    status: 400,
    detail: "send a request line of a method, a target and a version, with one space between",
};

const METHOD: Refusal = Refusal { status: 501, detail: "use a method of RFC 9110, or PATCH" };

const VERSION: Refusal = Refusal { status: 505, detail: "use HTTP/1.1" };

const TARGET: Refusal = Refusal {
    status: 400,
    detail: "send a valid target: escape every character that a URI may not hold, \
             and leave the fragment out",
};

const TARGET_BYTES: Refusal = Refusal { status: 414, detail: "send a shorter target" };
