//! The venue of an event.

use super::line::{LineError, check_line};
use crate::limits::VENUE_CHARS_MAX;

/// 1 to [`VENUE_CHARS_MAX`] characters, by the rules of an event's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Venue(Box<str>);

impl Venue {
    /// # Errors
    ///
    /// Which rule the text breaks.
    pub fn new(text: &str) -> Result<Venue, LineError> {
        check_line(text, VENUE_CHARS_MAX)?;
        Ok(Venue(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_inner(self) -> Box<str> {
        self.0
    }
}
