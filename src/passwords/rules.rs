//! Which passwords an account may have.

use std::cmp::Ordering;

use shards::ids::Username;

use super::{PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN, has_good_length};

/// Common passwords, one a line, in lower case and sorted by bytes. `common.txt.license` names the source.
const COMMON: &str = include_str!("common.txt");

/// Checks a new password.
///
/// # Errors
///
/// What is wrong with the password, in words for the user.
pub(crate) fn check(password: &str, username: Option<&Username>) -> Result<(), String> {
    if !has_good_length(password) {
        return Err(format!("must have {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters"));
    }
    if username.is_some_and(|username| password.eq_ignore_ascii_case(username.as_str())) {
        return Err("must not be the username".to_owned());
    }
    if is_common(&password.to_ascii_lowercase()) {
        return Err("is one of the most common passwords, which are guessed first: choose another".to_owned());
    }
    Ok(())
}

/// Searches the text itself by bisection, so that no index is held in memory.
fn is_common(password: &str) -> bool {
    // Both are always at the beginning of a line, or at the end of the text.
    let (mut low, mut high) = (0, COMMON.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let start = COMMON[..middle].rfind('\n').map_or(0, |before| before + 1);
        let end = start + COMMON[start..].find('\n').expect("every line has an end");
        match COMMON[start..end].cmp(password) {
            Ordering::Less => low = end + 1,
            Ordering::Equal => return true,
            Ordering::Greater => high = start,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_common_password_is_found() {
        let lines: Vec<&str> = COMMON.lines().collect();
        assert!(COMMON.is_ascii() && COMMON.ends_with('\n'));
        assert!(lines.len() > 10_000 && lines.is_sorted());
        for line in lines {
            assert!(line.len() >= PASSWORD_CHARS_MIN && line.to_ascii_lowercase() == line, "{line}");
            assert!(is_common(line), "{line}");
            assert!(!is_common(&format!("{line}\u{7f}")), "{line} and more");
        }
    }

    #[test]
    fn passwords_have_rules() {
        let ada = Username::new("ada.lovelace").unwrap();
        let rows = [
            ("correct horse battery", None),
            ("boxoffice-demo", None),
            ("ada.lovelace1", None),
            ("seven b", Some("8 to 128 characters")),
            ("", Some("8 to 128 characters")),
            ("ada.lovelace", Some("the username")),
            ("Ada.Lovelace", Some("the username")),
            ("password", Some("most common")),
            ("PassWord", Some("most common")),
            ("1234567890", Some("most common")),
            ("0\u{0}0000000", None),
            ("\u{10ffff}\u{10ffff}", Some("8 to 128 characters")),
        ];
        for (password, wrong) in rows {
            match (check(password, Some(&ada)), wrong) {
                (Ok(()), None) => {}
                (Err(said), Some(wrong)) if said.contains(wrong) => {}
                (found, _) => panic!("{password:?}: {found:?}"),
            }
        }
        assert!(check(&"x".repeat(129), None).is_err());
    }
}
