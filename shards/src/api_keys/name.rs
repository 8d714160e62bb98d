//! Names of API keys.

use crate::details::{LineError, check_line};
use crate::limits::API_KEY_NAME_CHARS_MAX;

/// The name of an API key: a line of 1 to [`API_KEY_NAME_CHARS_MAX`] characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyName(Box<str>);

impl ApiKeyName {
    /// # Errors
    ///
    /// Which rule the text breaks.
    pub fn new(text: &str) -> Result<ApiKeyName, LineError> {
        check_line(text, API_KEY_NAME_CHARS_MAX)?;
        Ok(ApiKeyName(text.into()))
    }

    pub fn into_inner(self) -> Box<str> {
        self.0
    }
}
