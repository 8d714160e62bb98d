//! Times as texts.

use std::cell::Cell;
use std::fmt;

use jiff::Timestamp as Calendar;
use jiff::fmt::temporal::DateTimePrinter;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use shards::ids::Timestamp;

/// A time as RFC 3339 with milliseconds. One after the year 9999, which RFC 3339 cannot write, is shown as the last
/// of that year.
#[derive(Debug, Clone, Copy, JsonSchema)]
#[schemars(transparent, inline)]
pub(in crate::front) struct Rfc3339(
    #[schemars(with = "String", extend("format" = "date-time"))] pub(in crate::front) Timestamp,
);

/// The length of a time's text.
const TEXT_BYTES: usize = "9999-12-30T22:00:00.999Z".len();

thread_local! {
    /// The latest second that was written, and its text. Times of sales come in order, so that the calendar is
    /// consulted once a second. That takes more instructions than the rest of a sale's answer.
    static SECOND: Cell<(i64, [u8; TEXT_BYTES])> = const { Cell::new((i64::MIN, [0; TEXT_BYTES])) };
}

impl Rfc3339 {
    pub(in crate::front) fn text(self) -> [u8; TEXT_BYTES] {
        const MILLISECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
        let at = i64::try_from(self.0.0).unwrap_or(i64::MAX).min(Calendar::MAX.as_millisecond());
        let second = at / 1000;
        let (latest, mut text) = SECOND.get();
        if second != latest {
            let calendar = Calendar::from_second(second).expect("not after the last one");
            let printed = MILLISECONDS.timestamp_to_string(&calendar);
            text = printed.as_bytes().try_into().expect("each has this form");
            SECOND.set((second, text));
        }
        let milliseconds = (at % 1000) as u16;
        for (digit, power) in text[TEXT_BYTES - "000Z".len()..].iter_mut().zip([100, 10, 1]) {
            *digit = b'0' + (milliseconds / power % 10) as u8;
        }
        text
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(str::from_utf8(&self.text()).expect("digits and signs"))
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.text()).expect("digits and signs"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_time_has_a_text() {
        const LAST: &str = "9999-12-30T22:00:00.999Z";
        for (milliseconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_700_000_000_045, "2023-11-14T22:13:20.045Z"),
            (1_700_000_000_999, "2023-11-14T22:13:20.999Z"),
            (1_700_000_001_000, "2023-11-14T22:13:21.000Z"),
            (1_700_000_000_300, "2023-11-14T22:13:20.300Z"),
            (253_402_207_200_999, LAST),
            (253_402_207_201_000, LAST),
            (1 << 52, LAST),
            (1 << 63, LAST),
            (u64::MAX, LAST),
        ] {
            assert_eq!(json!(Rfc3339(Timestamp(milliseconds))), json!(text), "{milliseconds}");
        }
    }
}
