//! Times in JSON bodies.

use jiff::Timestamp as Calendar;
use serde_json::Value;
use shards::ids::Timestamp;

use super::Member;
use crate::front::rfc3339::Rfc3339;

const RULE: &str =
    "must be a time from 1970 to 9999 as RFC 3339 has it, such as \"2026-03-01T10:00:00+01:00\"";

impl Member for Rfc3339 {
    fn from_json(value: &Value) -> Result<Rfc3339, String> {
        value.as_str().and_then(read).map(Rfc3339).ok_or_else(|| RULE.to_owned())
    }
}

/// Reads a time (RFC 3339 section 5.6). What is finer than a millisecond is cut off. A leap second is taken for the
/// second before it.
fn read(text: &str) -> Option<Timestamp> {
    const TO_SECOND: &str = "0000-00-00T00:00:00";
    let (to_second, rest) = text.split_at_checked(TO_SECOND.len())?;
    let (fraction, offset) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?),
        None => ("0", rest),
    };
    let is_offset = offset.eq_ignore_ascii_case("z")
        || (has_form(offset, "+00:00") || has_form(offset, "-00:00")) && offset[1..3] < *"24";
    if !has_form(to_second, TO_SECOND) || fraction.is_empty() || !is_offset {
        return None;
    }
    // The calendar takes more forms than RFC 3339, all of which have another shape, and not its offset -00:00.
    let offset = if offset == "-00:00" { "Z" } else { offset };
    let second = format!("{to_second}{offset}").parse::<Calendar>().ok()?.as_second();
    let milliseconds = fraction.bytes().chain(*b"00").take(3);
    let milliseconds = milliseconds.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some(Timestamp(u64::try_from(second).ok()? * 1000 + milliseconds))
}

/// Whether a text is equal to `form`, in which 0 stands for any digit, whatever the case of its letters.
fn has_form(text: &str, form: &str) -> bool {
    text.len() == form.len()
        && text.bytes().zip(form.bytes()).all(|(byte, wanted)| match wanted {
            b'0' => byte.is_ascii_digit(),
            wanted => byte.eq_ignore_ascii_case(&wanted),
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_read_as_rfc_3339_says() {
        for (text, shown) in [
            ("2026-03-01T09:00:00Z", "2026-03-01T09:00:00.000Z"),
            ("2026-03-01t09:00:00z", "2026-03-01T09:00:00.000Z"),
            ("2026-03-01T10:00:00+01:00", "2026-03-01T09:00:00.000Z"),
            ("2026-03-01T00:30:00-23:59", "2026-03-02T00:29:00.000Z"),
            ("2026-03-01T09:00:00-00:00", "2026-03-01T09:00:00.000Z"),
            ("2026-03-01T09:00:00.5Z", "2026-03-01T09:00:00.500Z"),
            ("2026-03-01T09:00:00.0078+00:00", "2026-03-01T09:00:00.007Z"),
            ("2026-03-01T09:00:00.99999999999999Z", "2026-03-01T09:00:00.999Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.000Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
            ("9999-12-30T21:59:59Z", "9999-12-30T21:59:59.000Z"),
        ] {
            let time = Rfc3339::from_json(&json!(text));
            assert_eq!(time.map(|time| json!(time)), Ok(json!(shown)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_times() {
        for text in [
            json!(""),
            json!(1_700_000_000),
            json!("2026-03-01"),
            json!("2026-03-01T09:00Z"),
            json!("2026-03-01T09:00:00"),
            json!("2026-03-01 09:00:00Z"),
            json!("2026-03-01T09:00:00+01"),
            json!("2026-03-01T09:00:00+0100"),
            json!("2026-03-01T09:00:00+24:00"),
            json!("2026-03-01T09:00:00+01:60"),
            json!("2026-03-01T09:00:00.Z"),
            json!("2026-03-01T09:00:00,5Z"),
            json!("2026-03-01T09:00:00.5"),
            json!("2026-03-01T09:00:00Z[Europe/Amsterdam]"),
            json!("20260301T090000Z"),
            json!("2026-W09-7T09:00:00Z"),
            json!("+002026-03-01T09:00:00Z"),
            json!("2026-02-29T09:00:00Z"),
            json!("2026-03-01T24:00:00Z"),
            json!("2026-03-01T09:00:61Z"),
            json!("2026-03-01T09:00:00\u{661}Z"),
            json!("2026-03-01T09:00:0\u{661}Z"),
            json!("1969-12-31T23:59:59Z"),
            json!("1970-01-01T00:00:00+00:01"),
            json!("0000-01-01T00:00:00Z"),
            json!("9999-12-31T23:59:59Z"),
            json!(" 2026-03-01T09:00:00Z"),
        ] {
            assert_eq!(Rfc3339::from_json(&text).map(|time| json!(time)), Err(RULE.to_owned()), "{text}");
        }
    }
}
