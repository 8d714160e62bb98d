//! Names of events.

use crate::limits::EVENT_NAME_CHARS_MAX;

/// The name of an event: 1 to [`EVENT_NAME_CHARS_MAX`] characters, no control characters, and not only white
/// space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventName(Box<str>);

impl EventName {
    /// Checks a name; `None` if it breaks these rules.
    pub fn new(text: &str) -> Option<EventName> {
        is_readable(text, EVENT_NAME_CHARS_MAX).then(|| EventName(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_inner(self) -> Box<str> {
        self.0
    }
}

/// Whether a text has at most so many characters, none of them a control character, and is not blank.
pub(super) fn is_readable(text: &str, chars_max: usize) -> bool {
    // A byte order mark is white space to ECMAScript, and so to the contract's patterns.
    let is_blank = |c: char| c.is_whitespace() || c == '\u{feff}';
    text.chars().count() <= chars_max && !text.chars().all(is_blank) && !text.chars().any(char::is_control)
}
