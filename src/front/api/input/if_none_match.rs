//! The If-None-Match field: what the client has already (RFC 9110 section 13.1.2).

use crate::front::api::endpoint::RequestHeader;
use crate::front::http::parse::Request;

/// The entity tags that the client knows.
pub(in crate::front::api) struct KnownTags(Box<[Box<str>]>);

impl KnownTags {
    pub(in crate::front::api) fn read(request: &Request<'_>) -> KnownTags {
        KnownTags(request.elements(RequestHeader::IF_NONE_MATCH.name).map(Box::from).collect())
    }

    /// Whether the client has the version with this tag. The comparison is the weak one.
    pub(in crate::front::api) fn has(&self, tag: &str) -> bool {
        self.0.iter().any(|known| &**known == "*" || opaque(known) == opaque(tag))
    }
}

fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}
