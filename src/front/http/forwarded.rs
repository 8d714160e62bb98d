//! The fields in which proxies say where a request comes from: X-Forwarded-For, and Forwarded (RFC 7239).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The elements of an X-Forwarded-For line that are not empty. No document defines the field; proxies append
/// one element each.
pub(crate) fn x_forwarded_for(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').map(str::trim).filter(|element| !element.is_empty())
}

/// The `for` of each element of a Forwarded line, without quotes; `None` for an element that has none. The
/// whole line is read strictly (RFC 7239 section 4): what is quoted for one reader must not be an element for
/// another. Only unquoted values may also have `:`, `[` and `]`, since proxies write addresses with ports
/// like that.
///
/// Returns `None` if the line is malformed.
pub(crate) fn forwarded(line: &str) -> Option<Vec<Option<String>>> {
    let mut elements = Vec::new();
    let (mut node, mut is_empty) = (None, true);
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches(WHITE_SPACE);
        let (name, after) = split_while(rest, is_token);
        if !name.is_empty() {
            let (value, after) = value(after.strip_prefix('=')?)?;
            if name.eq_ignore_ascii_case("for") && node.replace(value).is_some() {
                return None;
            }
            is_empty = false;
            rest = after.trim_start_matches(WHITE_SPACE);
        }
        if !rest.starts_with(';') {
            if !is_empty {
                elements.push(node.take());
            }
            is_empty = true;
            if rest.is_empty() {
                return Some(elements);
            }
        }
        rest = rest.strip_prefix([';', ','])?;
    }
}

/// The address in an element of X-Forwarded-For, or in a `for` of Forwarded (RFC 7239 section 6), with or
/// without a port. An IPv6 address has brackets if there is a port. Quotes are allowed, since some proxies
/// write the element like that in both fields.
pub(crate) fn address(node: &str) -> Option<IpAddr> {
    let node = node.strip_prefix('"').and_then(|node| node.strip_suffix('"')).unwrap_or(node);
    let (host, port): (IpAddr, &str) = if let Some(rest) = node.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        (host.parse::<Ipv6Addr>().ok()?.into(), port)
    } else if let Ok(host) = node.parse() {
        (host, "")
    } else {
        let (host, port) = node.split_at(node.find(':')?);
        (host.parse::<Ipv4Addr>().ok()?.into(), port)
    };
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then(|| host.to_canonical())
}

const WHITE_SPACE: [char; 2] = [' ', '\t'];

/// A token or a quoted string, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = split_while(text, |byte| is_token(byte) || b":[]".contains(&byte));
        return (!value.is_empty()).then(|| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            other => value.push(other),
        }
    }
}

/// A number, or the name that hides one.
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(hidden) => !hidden.is_empty() && hidden.bytes().all(is_token),
        None => text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok(),
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn split_while(text: &str, belongs: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !belongs(byte)).unwrap_or(text.len());
    text.split_at(end)
}
