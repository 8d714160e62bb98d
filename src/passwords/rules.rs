//! Which passwords an account may have, and in which form they are hashed.

use std::borrow::Cow;
use std::cmp::Ordering;

use icu_properties::props::{
    BinaryProperty, DefaultIgnorableCodePoint, EnumeratedProperty, GeneralCategory, GeneralCategoryGroup,
};
use precis_core::{DerivedPropertyValue, Error, FreeformClass, StringClass};
use shards::ids::Username;
use unicode_normalization::UnicodeNormalization;

/// Lengths in characters, as NIST SP 800-63B counts and JSON Schema does: its least for a password that stands
/// alone, and a bound for what is hashed.
pub(crate) const PASSWORD_CHARS_MIN: usize = 8;
pub(crate) const PASSWORD_CHARS_MAX: usize = 128;

/// The most characters of a text that can be an account's password in another form: decomposed, a character has
/// four at most.
const FORM_CHARS_MAX: usize = 4 * PASSWORD_CHARS_MAX;

/// Common passwords, one a line, in lower case and sorted by bytes. `common.txt.license` names the source.
const COMMON: &str = include_str!("common.txt");

/// A password that an account may have, in the form that is hashed.
#[derive(Clone)]
pub struct NewPassword(String);

impl NewPassword {
    /// Checks a password, and puts it in the form of the profile OpaqueString (RFC 8265 section 4.2): the same
    /// whether a keyboard composes its characters or not.
    ///
    /// # Errors
    ///
    /// What is wrong with the password, in words for the user.
    pub(crate) fn new(text: &str) -> Result<NewPassword, String> {
        let wrong_length = || format!("must have {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters");
        // Before anything that takes longer for a longer text.
        if text.chars().count() > PASSWORD_CHARS_MAX {
            return Err(wrong_length());
        }
        let password = normalized(text);
        if !(PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX).contains(&password.chars().count()) {
            return Err(wrong_length());
        }
        Freeform.allows(&password).map_err(refusal)?;
        if is_common(&password.to_ascii_lowercase()) {
            return Err(
                "is one of the most common passwords, which are guessed first: choose another".to_owned()
            );
        }
        Ok(NewPassword(password))
    }

    /// # Errors
    ///
    /// When it is the username, in words for the user.
    pub(crate) fn check_beside(&self, username: &Username) -> Result<(), String> {
        if self.0.eq_ignore_ascii_case(username.as_str()) {
            return Err("must not be the username".to_owned());
        }
        Ok(())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The forms in which a text may have been hashed: normalized, and as it is, if that is another one. Passwords were
/// hashed as they came before there was [`NewPassword`]. A text that is too long to be a password is not compared:
/// no account's password is empty, and to find that out takes as long as for any other.
pub(super) fn forms(text: &str) -> Vec<Cow<'_, str>> {
    if text.chars().nth(FORM_CHARS_MAX).is_some() {
        return vec!["".into()];
    }
    let normalized = normalized(text);
    if normalized == text { vec![text.into()] } else { vec![normalized.into(), text.into()] }
}

/// The mapping of spaces and the normalization of OpaqueString (RFC 8265 section 4.2.2).
fn normalized(text: &str) -> String {
    let is_space = |c| GeneralCategory::for_char(c) == GeneralCategory::SpaceSeparator;
    text.chars().map(|c| if is_space(c) { ' ' } else { c }).nfc().collect()
}

/// The class of characters that OpaqueString allows (RFC 8264 section 4.3). `precis-core` knows the characters of
/// Unicode 6.3; what a later character is follows from its properties, as section 8 says.
struct Freeform;

impl StringClass for Freeform {
    fn get_value_from_char(&self, c: char) -> DerivedPropertyValue {
        match FreeformClass::default().get_value_from_char(c) {
            DerivedPropertyValue::Unassigned => of_later_character(c),
            known => known,
        }
    }

    fn get_value_from_codepoint(&self, code: u32) -> DerivedPropertyValue {
        char::from_u32(code).map_or(DerivedPropertyValue::Disallowed, |c| self.get_value_from_char(c))
    }
}

fn of_later_character(c: char) -> DerivedPropertyValue {
    let category = GeneralCategory::for_char(c);
    let groups = [
        GeneralCategoryGroup::Letter,
        GeneralCategoryGroup::Mark,
        GeneralCategoryGroup::Number,
        GeneralCategoryGroup::Punctuation,
        GeneralCategoryGroup::Symbol,
        GeneralCategoryGroup::SpaceSeparator,
    ];
    if category == GeneralCategory::Unassigned {
        DerivedPropertyValue::Unassigned
    } else if DefaultIgnorableCodePoint::for_char(c) || !groups.iter().any(|group| group.contains(category)) {
        DerivedPropertyValue::Disallowed
    } else {
        DerivedPropertyValue::SpecClassPval
    }
}

fn refusal(error: Error) -> String {
    let Error::BadCodepoint(bad) = error else {
        return "has a character that is allowed between certain others only (RFC 5892, appendix A): leave out \
                invisible joiners, middle dots and digits of other scripts"
            .to_owned();
    };
    let why = match bad.property {
        DerivedPropertyValue::Unassigned => "Unicode has not assigned it",
        DerivedPropertyValue::ContextJ | DerivedPropertyValue::ContextO => {
            "it is allowed between certain others only (RFC 5892, appendix A)"
        }
        DerivedPropertyValue::PValid
        | DerivedPropertyValue::SpecClassPval
        | DerivedPropertyValue::SpecClassDis
        | DerivedPropertyValue::Disallowed => {
            "it is a control or an invisible character, or not the same on all keyboards (RFC 8264)"
        }
    };
    format!("must not have the character U+{:04X}: {why}", bad.cp)
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
            // Seven characters once they are composed.
            ("cafe\u{301}123", Some("8 to 128 characters")),
            ("0\u{0}0000000", Some("U+0000: it is a control")),
            ("tabs are\tthere", Some("U+0009: it is a control")),
            ("\u{10ffff}234567\u{10ffff}", Some("U+10FFFF: it is a control or an invisible")),
            ("\u{e000} is private", Some("U+E000")),
            ("not assigned \u{378}", Some("U+0378: Unicode has not")),
            ("not assigned \u{e0080}", Some("U+E0080: Unicode has not")),
            ("nothing \u{200b} there", Some("U+200B")),
            ("the other \u{202e} way", Some("U+202E")),
            ("\u{200d} at the beginning", Some("RFC 5892")),
            ("ends so \u{200d}", Some("U+200D: it is allowed between certain")),
            ("\u{1f3f4}\u{fe0f} a selector", Some("U+FE0F")),
            // Words in other scripts, and emoji of 2010, 2018 and 2024.
            ("كلمة السر", None),
            ("סיסמה ארוכה", None),
            ("می\u{200c}خواهم بروم", None),
            ("क्\u{200d}ष पासवर्ड", None),
            ("비밀번호는 길다", None),
            ("秘密のパスワード・です", None),
            ("\u{1f600} \u{1f973} \u{1fae9} party", None),
        ];
        for (text, wrong) in rows {
            let found = NewPassword::new(text).and_then(|password| password.check_beside(&ada));
            match (found, wrong) {
                (Ok(()), None) => {}
                (Err(said), Some(wrong)) if said.contains(wrong) => {}
                (found, _) => panic!("{text:?}: {found:?}"),
            }
        }
        assert!(NewPassword::new(&"x ".repeat(64)).is_ok());
        assert!(NewPassword::new(&"x".repeat(129)).is_err());
    }

    #[test]
    fn one_password_has_one_form() {
        for (one, other) in [
            ("caf\u{e9} au lait", "cafe\u{301} au lait"),
            ("\u{212b}ngstr\u{f6}m 1814", "A\u{30a}ngstro\u{308}m 1814"),
            ("한국어 비밀번호", "\u{1112}\u{1161}\u{11ab}국어 비밀번호"),
            ("\u{1e69} twice dotted", "s\u{307}\u{323} twice dotted"),
            ("no break here", "no\u{a0}break\u{3000}here"),
        ] {
            let [one, other] = [one, other].map(|text| (text, NewPassword::new(text).unwrap().0));
            assert_eq!(one.1, other.1);
            for (text, form) in [&one, &other] {
                assert_eq!(forms(text)[0], *form, "{text:?}");
                assert_eq!(*forms(text).last().unwrap(), *text, "as it was hashed once");
            }
        }
        assert_eq!(forms("correct horse"), ["correct horse"], "one hash for nearly all");
        assert_eq!(forms(&"x".repeat(64 * 1024)), [""]);
        let longest = "\u{1f82}".repeat(PASSWORD_CHARS_MAX);
        let decomposed: String = longest.nfd().collect();
        assert_eq!(forms(&decomposed)[0], NewPassword::new(&longest).unwrap().0);
    }
}
