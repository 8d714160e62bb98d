//! Names and roles of accounts.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::{ISSUER_BYTES_MAX, SUBJECT_BYTES_MAX, USERNAME_BYTES_MAX, USERNAME_BYTES_MIN};

/// A name to log in with: 3 to 64 of `a-z 0-9 . _ -`, in lower case. An account of another issuer has a name outside
/// of these, `{issuer}:{subject}`, with which nobody logs in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Username(Box<str>);

/// What is wrong with a username, in words for the client.
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

    /// The name of an account that another issuer's tokens stand for. The subject is kept by its exact bytes.
    ///
    /// # Errors
    ///
    /// When the issuer's name or the subject is too short or too long, or has a character that it may not have.
    pub fn of_issuer(issuer: &str, subject: &str) -> Result<Username, UsernameError> {
        let is_length = (1..=ISSUER_BYTES_MAX).contains(&issuer.len())
            && (1..=SUBJECT_BYTES_MAX).contains(&subject.len());
        if !is_length {
            return Err(UsernameError::Length);
        }
        let in_issuer =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        if !issuer.bytes().all(in_issuer) || subject.chars().any(char::is_control) {
            return Err(UsernameError::Character);
        }
        Ok(Username(format!("{issuer}:{subject}").into_boxed_str()))
    }

    /// A name of either form, from a record.
    ///
    /// # Errors
    ///
    /// When it is of neither form.
    pub(crate) fn recorded(text: &str) -> Result<Username, UsernameError> {
        match text.split_once(':') {
            Some((issuer, subject)) => Username::of_issuer(issuer, subject),
            None => Username::new(text),
        }
    }

    pub fn is_of_issuer(&self) -> bool {
        self.0.contains(':')
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

    #[test]
    fn names_of_issuers_are_exact_and_apart() {
        let of = Username::of_issuer;
        for (issuer, subject) in
            [("shop", "Ada"), ("shop", "a:b:c"), ("a", "é"), ("s.h-o_p", "auth0|5f"), ("x", " ")]
        {
            let name = of(issuer, subject).unwrap();
            assert_eq!(name.as_str(), format!("{issuer}:{subject}"));
            assert!(name.is_of_issuer() && Username::new(name.as_str()).is_err());
            assert_eq!(Username::recorded(name.as_str()).unwrap(), name);
        }
        assert_ne!(of("shop", "Ada").unwrap(), of("shop", "ada").unwrap());
        // Composed and decomposed.
        assert_ne!(of("shop", "\u{e9}").unwrap(), of("shop", "e\u{301}").unwrap());
        assert!(of("shop", &"a".repeat(255)).is_ok() && of(&"a".repeat(32), "a").is_ok());
        for (issuer, subject) in [("", "a"), ("shop", ""), ("a", &*"a".repeat(256)), (&*"a".repeat(33), "a")]
        {
            assert_eq!(of(issuer, subject), Err(UsernameError::Length), "{issuer} {subject}");
        }
        for (issuer, subject) in
            [("Shop", "a"), ("a:b", "c"), ("a b", "c"), ("shop", "a\n"), ("shop", "\u{0}")]
        {
            assert_eq!(of(issuer, subject), Err(UsernameError::Character), "{issuer} {subject}");
        }
        assert_eq!(Username::recorded("ada").unwrap(), Username::new("ada").unwrap());
        assert!(!Username::new("ada").unwrap().is_of_issuer());
        for text in [":a", "shop:", "Shop:a"] {
            assert!(Username::recorded(text).is_err(), "{text}");
        }
    }
}
