//! What the parser finds: a request, or the beginning of one.

use std::borrow::Cow;
use std::str;

use super::fields::Fields;
use super::terms::{Method, Version};

/// A whole request, borrowed from the connection's buffer and parser.
pub struct Request<'b> {
    pub method: Method,
    /// The path, not decoded; every `%` in it begins a valid escape. It begins with `/`, except for
    /// `OPTIONS *`, where it is `*`, and CONNECT, where it is `host:port`.
    pub path: &'b str,
    /// The part of the target after the first `?`, not decoded.
    pub query: Option<&'b str>,
    pub version: Version,
    /// Borrowed, unless the body was chunked.
    pub body: Cow<'b, [u8]>,
    /// False if the connection must be closed after the response.
    pub keep_alive: bool,
    pub(super) head: &'b [u8],
    pub(super) fields: &'b Fields,
}

impl<'b> Request<'b> {
    /// The value of the first field with that name, without surrounding white space; [`NOT_TEXT`] if it is not
    /// UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'b str> {
        self.headers(name).next()
    }

    /// The value of the first field with that name, as it was sent.
    #[must_use]
    pub fn header_bytes(&self, name: &str) -> Option<&'b [u8]> {
        self.fields.named(self.head, name).next()
    }

    /// The values of all fields with that name, in order; [`NOT_TEXT`] for those that are not UTF-8.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &'b str> {
        self.fields.named(self.head, name).map(|value| str::from_utf8(value).unwrap_or(NOT_TEXT))
    }

    /// The elements of a field that is a list, without surrounding white space. Several fields of the name are
    /// one list (RFC 9110 section 5.3), and empty elements are ignored (section 5.6.1).
    pub fn elements(&self, name: &str) -> impl Iterator<Item = &'b str> {
        let elements = self.headers(name).flat_map(|list| list.split(','));
        elements.map(str::trim_ascii).filter(|element| !element.is_empty())
    }

    /// The names of all fields, in order, as they were sent.
    pub fn header_names(&self) -> impl Iterator<Item = &'b [u8]> {
        self.fields.all(self.head).map(|(name, _)| name)
    }
}

/// Stands for a value that is not UTF-8: RFC 9110 section 5.5 treats such octets as opaque data. No field that
/// this server reads accepts it, while a field that seems to be missing would be taken for its default.
pub const NOT_TEXT: &str = "\u{fffd}";

/// How far the parser has come with a request.
pub enum Progress<'b> {
    /// More bytes are needed.
    Incomplete {
        /// True once per request: the head is complete, has `Expect: 100-continue`, and the body
        /// is incomplete.
        send_continue: bool,
        /// The head is complete and the body is not.
        in_body: bool,
    },
    /// A request, and the number of bytes to drop before the next call.
    Complete { request: Request<'b>, consumed: usize },
}
