//! Names of events.

/// The name of an event: 1 to [`crate::limits::EVENT_NAME_CHARS_MAX`] characters, no control characters, and
/// not only white space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventName(Box<str>);

impl EventName {
    /// Checks a name; `None` if it breaks these rules.
    pub fn new(text: &str) -> Option<EventName> {
        let length_fits = text.chars().count() <= crate::limits::EVENT_NAME_CHARS_MAX;
        // ECMAScript, and so the patterns of the contract, count a byte order mark as white space.
        let is_blank = |c: char| c.is_whitespace() || c == '\u{feff}';
        let readable = !text.chars().all(is_blank) && !text.chars().any(char::is_control);
        (length_fits && readable).then(|| EventName(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_inner(self) -> Box<str> {
        self.0
    }
}
