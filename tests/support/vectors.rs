//! Loads the request vectors of `tests/data/http`; its `README.txt` describes the format.
//! Independent of the parser, so that tests over sockets can send the same bytes.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// The bytes that a client sends on one connection, and the expected outcome.
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) outcome: Vec<Event>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Accept(Accepted),
    /// Refused with this status; nothing after it is executed.
    Refuse(u16),
    /// The bytes end within a request.
    Wait,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) keep_alive: bool,
    pub(crate) is_http_1_0: bool,
    /// Field names with the expected first value, or `None` if the field must be absent.
    pub(crate) fields: Vec<(String, Option<String>)>,
    /// An interim response is required if the body does not arrive with the head.
    pub(crate) expects_continue: bool,
}

/// All vectors of a directory's `.txt` files, in the order of the file names.
pub(crate) fn load(directory: &Path) -> Vec<Vector> {
    let entries = fs::read_dir(directory).expect("the vectors' directory is readable");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry is readable").path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "txt"))
        .filter(|path| path.file_stem().is_some_and(|stem| stem != "README"))
        .collect();
    paths.sort();
    let mut vectors = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("a vector file is readable");
        let file = path.file_stem().unwrap_or_default().to_string_lossy();
        read_file(&file, &text, &mut vectors);
    }
    vectors
}

fn read_file(file: &str, text: &str, vectors: &mut Vec<Vector>) {
    let mut variables = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let place = format!("{file}:{}", number + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some((name, value)) = line.strip_prefix("let ").and_then(|rest| rest.split_once('=')) {
            let value = substitute(value.trim(), &variables, &place);
            variables.insert(name.trim().to_owned(), value);
            continue;
        }
        let columns: Vec<_> = line.split(" :: ").map(str::trim).collect();
        let [name, bytes, outcome] = columns[..] else {
            panic!("{place}: want `name :: bytes :: outcome`");
        };
        vectors.push(Vector {
            name: format!("{place} {name}"),
            bytes: unescape(&substitute(bytes, &variables, &place), &place),
            outcome: read_outcome(&substitute(outcome, &variables, &place), &place),
        });
    }
}

fn substitute(text: &str, variables: &HashMap<String, String>, place: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${") {
        let (name, after) = behind.split_once('}').unwrap_or_else(|| panic!("{place}: `${{` without `}}`"));
        let value = variables.get(name).unwrap_or_else(|| panic!("{place}: no variable {name}"));
        result.push_str(before);
        result.push_str(value);
        rest = after;
    }
    result + rest
}

/// Decodes the notation: `\r \n \t \0 \s \\ \xHH`, and `\*9{text}` for nine times the text.
pub(crate) fn unescape(text: &str, place: &str) -> Vec<u8> {
    let mut result = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('\\') {
        result.extend_from_slice(before.as_bytes());
        let mut chars = behind.chars();
        let kind = chars.next();
        rest = chars.as_str();
        match kind {
            Some('r') => result.push(b'\r'),
            Some('n') => result.push(b'\n'),
            Some('t') => result.push(b'\t'),
            Some('0') => result.push(0),
            Some('s') => result.push(b' '),
            Some('\\') => result.push(b'\\'),
            Some('x') => {
                let byte = rest.get(..2).map(|hex| u8::from_str_radix(hex, 16));
                let Some(Ok(byte)) = byte else {
                    panic!("{place}: want two hexadecimal digits at {rest:?}");
                };
                result.push(byte);
                rest = &rest[2..];
            }
            Some('*') => {
                let (count, behind) = rest.split_once('{').unwrap_or_default();
                let (part, after) = behind.split_once('}').unwrap_or_default();
                let count = count
                    .parse()
                    .unwrap_or_else(|_| panic!("{place}: want a count and a text in braces at {rest:?}"));
                result.extend(unescape(part, place).repeat(count));
                rest = after;
            }
            _ => panic!("{place}: unknown escape at {rest:?}"),
        }
    }
    result.extend_from_slice(rest.as_bytes());
    result
}

fn read_outcome(text: &str, place: &str) -> Vec<Event> {
    let mut events = Vec::new();
    for event in text.split(" + ") {
        let (count, event) = match event.split_once(" * ") {
            Some((count, event)) => (count.trim().parse().expect("a count"), event),
            None => (1, event),
        };
        let words: Vec<_> = event.split_whitespace().collect();
        let event = match words[..] {
            ["wait"] => Event::Wait,
            ["refuse", status] => Event::Refuse(status.parse().expect("a status")),
            ["accept", method, target, ref notes @ ..] => {
                Event::Accept(read_accepted(method, target, notes, place))
            }
            _ => panic!("{place}: unknown outcome {event:?}"),
        };
        events.extend(std::iter::repeat_n(event, count));
    }
    events
}

fn read_accepted(method: &str, target: &str, notes: &[&str], place: &str) -> Accepted {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    let mut accepted = Accepted {
        method: method.to_owned(),
        path: String::from_utf8(unescape(path, place)).expect("a path is text"),
        query,
        body: Vec::new(),
        keep_alive: true,
        is_http_1_0: false,
        fields: Vec::new(),
        expects_continue: false,
    };
    for note in notes {
        match note.split_once('=') {
            None if *note == "close" => accepted.keep_alive = false,
            None if *note == "1.0" => accepted.is_http_1_0 = true,
            None if *note == "continue" => accepted.expects_continue = true,
            None if note.starts_with('!') => {
                accepted.fields.push((note[1..].to_owned(), None));
            }
            Some(("body", body)) => accepted.body = unescape(body, place),
            Some((name, value)) if name.starts_with('@') => {
                let value = String::from_utf8(unescape(value, place)).expect("a value is text");
                accepted.fields.push((name[1..].to_owned(), Some(value)));
            }
            _ => panic!("{place}: unknown note {note:?}"),
        }
    }
    accepted
}
