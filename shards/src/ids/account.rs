//! Names and roles of accounts.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::{USERNAME_BYTES_MAX, USERNAME_BYTES_MIN};

/// A name to log in with: 3 to 64 of `a-z 0-9 . _ -`, case folded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Username(Box<str>);

/// What is wrong with a username, in words for its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UsernameError {
    #[error("must have {USERNAME_BYTES_MIN} to {USERNAME_BYTES_MAX} characters")]
    Length,
    #[error("may only have letters a to z, digits, '.', '_' and '-'")]
    Character,
}

impl Username {
    /// Folds upper case to lower, so that `Ada` and `ada` are one account.
    pub fn new(text: &str) -> Result<Username, UsernameError> {
        if !(USERNAME_BYTES_MIN..=USERNAME_BYTES_MAX).contains(&text.chars().count()) {
            return Err(UsernameError::Length);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !text.bytes().all(allowed) {
            return Err(UsernameError::Character);
        }
        Ok(Username(text.to_ascii_lowercase().into_boxed_str()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Customer,
    Organizer,
    Admin,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Customer => "customer",
            Role::Organizer => "organizer",
            Role::Admin => "admin",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames_are_folded_and_checked() {
        assert_eq!(Username::new("Ada.L_9-x").unwrap().as_str(), "ada.l_9-x");
        for (text, error) in [
            ("ab", UsernameError::Length),
            ("éé", UsernameError::Length),
            ("a b", UsernameError::Character),
            ("ada\u{0}", UsernameError::Character),
            ("adé", UsernameError::Character),
        ] {
            assert_eq!(Username::new(text), Err(error), "{text:?}");
        }
        assert!(Username::new(&"a".repeat(64)).is_ok());
        assert_eq!(Username::new(&"a".repeat(65)), Err(UsernameError::Length));
    }
}
