//! Names of events.

use super::line::{LineError, check_line};
use crate::limits::EVENT_NAME_CHARS_MAX;

/// The name of an event: a line of 1 to [`EVENT_NAME_CHARS_MAX`] characters that readers see as its organizer
/// wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventName(Box<str>);

impl EventName {
    /// # Errors
    ///
    /// Which rule the text breaks.
    pub fn new(text: &str) -> Result<EventName, LineError> {
        check_line(text, EVENT_NAME_CHARS_MAX)?;
        Ok(EventName(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_inner(self) -> Box<str> {
        self.0
    }
}
