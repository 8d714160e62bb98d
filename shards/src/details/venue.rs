//! The venue of an event.

use super::event_name::is_readable;
use crate::limits::VENUE_CHARS_MAX;

/// 1 to [`VENUE_CHARS_MAX`] characters, by the rules of an event's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Venue(Box<str>);

impl Venue {
    /// `None` when it breaks the rule above.
    pub fn new(text: &str) -> Option<Venue> {
        is_readable(text, VENUE_CHARS_MAX).then(|| Venue(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_inner(self) -> Box<str> {
        self.0
    }
}
