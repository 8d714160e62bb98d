//! The If-Match field: the versions of an event for which a change is meant (RFC 9110 section 13.1.1).

use shards::command::ExpectedVersion;

use crate::front::http::parse::Request;
use crate::front::problem::{FieldErrors, Problem};

/// The name of the field.
pub(in crate::front::api) const IF_MATCH: &str = "If-Match";

/// # Errors
///
/// 422, for a value that is neither `*` nor a list of entity tags.
pub(in crate::front::api) fn expected_version(request: &Request<'_>) -> Result<ExpectedVersion, Problem> {
    let mut values = request.headers(IF_MATCH);
    let Some(first) = values.next() else { return Ok(ExpectedVersion::Any) };
    let mut rest = values.peekable();
    if first == "*" && rest.peek().is_none() {
        return Ok(ExpectedVersion::Any);
    }
    let mut versions = Vec::new();
    let mut tag_count = 0;
    // Several fields are one list (RFC 9110 section 5.3).
    for value in [first].into_iter().chain(rest) {
        let mut list = value.trim_start_matches(BETWEEN_TAGS);
        while !list.is_empty() {
            let (tag, left) = EntityTag::read(list).ok_or_else(malformed)?;
            tag_count += 1;
            versions.extend(tag.version());
            list = left;
        }
    }
    if tag_count == 0 { Err(malformed()) } else { Ok(ExpectedVersion::OneOf(versions.into())) }
}

fn malformed() -> Problem {
    let rule = "must be * or a list of entity tags, each in quotes as it was in ETag: \"3\", \"4\"";
    Problem::invalid(&FieldErrors::of("If-Match:", rule))
}

/// Empty members of a list are allowed (RFC 9110 section 5.6.1.2).
const BETWEEN_TAGS: [char; 3] = [' ', '\t', ','];

/// An entity tag (RFC 9110 section 8.8.3).
struct EntityTag<'a> {
    is_weak: bool,
    opaque: &'a str,
}

impl EntityTag<'_> {
    /// Reads the tag at the start of `list`. Returns what follows it and the next comma.
    fn read(list: &str) -> Option<(EntityTag<'_>, &str)> {
        let weak = list.strip_prefix("W/");
        let quoted = weak.unwrap_or(list).strip_prefix('"')?;
        let (opaque, left) = quoted.split_once('"')?;
        if opaque.contains([' ', '\t']) {
            return None;
        }
        let left = left.trim_start_matches([' ', '\t']);
        let ends = left.is_empty() || left.starts_with(',');
        ends.then(|| (EntityTag { is_weak: weak.is_some(), opaque }, left.trim_start_matches(BETWEEN_TAGS)))
    }

    /// The version with this tag, if one can have it. A weak tag is never equal to the one of an event: the
    /// comparison is the strong one.
    fn version(&self) -> Option<u64> {
        let version: u64 = self.opaque.parse().ok()?;
        (!self.is_weak && version.to_string() == self.opaque).then_some(version)
    }
}
