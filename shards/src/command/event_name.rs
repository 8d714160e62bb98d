//! The name of an event.

/// 1 to [`crate::limits::EVENT_NAME_CHARS_MAX`] characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventName(Box<str>);

impl EventName {
    /// `None` when it breaks the rule above, or is nothing but white space.
    pub fn new(text: &str) -> Option<EventName> {
        let length_fits = text.chars().count() <= crate::limits::EVENT_NAME_CHARS_MAX;
        // A byte order mark is white space to ECMAScript, and so to the contract's patterns.
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
