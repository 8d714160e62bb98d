//! A line of text that someone wrote for others to read.

use icu_properties::props::{
    BinaryProperty, DefaultIgnorableCodePoint, EnumeratedProperty, GeneralCategory, GeneralCategoryGroup,
    GraphemeClusterBreak, WhiteSpace,
};

/// What is wrong with a line, in words for its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    #[error("must have 1 to {chars_max} characters")]
    Length { chars_max: usize },
    #[error("must not be white space or blank characters alone: write something that one can see")]
    Blank,
    #[error(
        "must not have the character U+{:04X}: it is a control character, is invisible here, or changes the order \
         of the text; leave it out",
        u32::from(*.0)
    )]
    Hidden(char),
    #[error("must not have the character U+{:04X}: it has no meaning that readers share; leave it out", u32::from(*.0))]
    Unassigned(char),
}

/// Symbols that are drawn as nothing, though no property says so: the Braille pattern without dots, and the null
/// notehead (Unicode Standard, code charts).
const BLANK_SYMBOLS: [char; 2] = ['\u{2800}', '\u{1d159}'];

/// Checks that a line is not empty, does not look so, and looks as it is written: no control characters, nothing
/// invisible, and nothing that reorders text, by the properties of Unicode.
///
/// Invisible characters that are a part of a visible one are allowed: joiners, variation selectors and tags, which
/// scripts and emoji need. They extend the grapheme cluster (UAX #29) of the character before them.
pub(crate) fn check_line(text: &str, chars_max: usize) -> Result<(), LineError> {
    if text.is_empty() || text.chars().nth(chars_max).is_some() {
        return Err(LineError::Length { chars_max });
    }
    let (mut is_blank, mut after_visible) = (true, false);
    for c in text.chars() {
        let category = GeneralCategory::for_char(c);
        let cluster = GraphemeClusterBreak::for_char(c);
        // Bidi controls are among these (GCB=Control).
        let is_control = [GraphemeClusterBreak::Control, GraphemeClusterBreak::CR, GraphemeClusterBreak::LF]
            .contains(&cluster);
        if is_control {
            return Err(LineError::Hidden(c));
        }
        if [GeneralCategory::Unassigned, GeneralCategory::PrivateUse].contains(&category) {
            return Err(LineError::Unassigned(c));
        }
        if DefaultIgnorableCodePoint::for_char(c) {
            let extends = [GraphemeClusterBreak::Extend, GraphemeClusterBreak::ZWJ].contains(&cluster);
            if !(extends && after_visible) {
                return Err(LineError::Hidden(c));
            }
        } else {
            after_visible = !WhiteSpace::for_char(c) && !BLANK_SYMBOLS.contains(&c);
            is_blank &= !after_visible || GeneralCategoryGroup::Mark.contains(category);
        }
    }
    if is_blank { Err(LineError::Blank) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn honest_lines_are_taken() {
        for text in [
            "x",
            "Rock & Roll: \"Live\" <b>50 %</b> · 7/8 – 9 €",
            " a line may begin and end with spaces ",
            "Beyonce\u{301}, Zal\u{334}\u{322}go, a\u{308}",
            "Ünïcödé\u{a0}№ 5\u{3000}ß",
            "Москва · Αθήνα · Երևան · თბილისი",
            "مهرجان الموسيقى ١٢٣ كـــبير",
            "می\u{200c}خواهم · نیم\u{200c}فاصله · هـ",
            "סרט בעברית: \"שלום\" שָׁלוֹם",
            "क्\u{200d}ष · क्\u{200c}ष · शुद्ध हिन्दी",
            // Ya-phalaa after ra: a joiner before the virama (Unicode Standard, section 12.2).
            "র\u{200d}\u{9cd}যালি · ত\u{9cd}\u{200d}",
            "ශ්\u{200d}රී ලංකා",
            "തൻ\u{200d} மலையாளம் ไทย ລາວ ខ្មែរ မြန်မာ",
            "東京　コンサート・二〇二六 花火",
            "葛\u{e0100}城",
            "한국어 \u{1112}\u{1161}\u{11ab}",
            "ᠮᠣᠩᠭᠣᠯ\u{180b}",
            "❤\u{fe0f} ☂ ☎\u{fe0e} 1\u{fe0f}\u{20e3}",
            "👩\u{200d}👩\u{200d}👧\u{200d}👦 👩🏽\u{200d}🚒 🏳\u{fe0f}\u{200d}🌈 🇺🇦",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            // Emoji of 2018, 2021 and 2024.
            "\u{1f973}\u{1fae1}\u{1fae9}",
        ] {
            assert_eq!(check_line(text, 200), Ok(()), "{text:?}");
        }
    }

    #[test]
    fn lines_that_hide_something_are_refused() {
        use LineError::{Blank, Hidden, Unassigned};
        let length = LineError::Length { chars_max: 200 };
        let rows: &[(&str, LineError)] = &[
            ("", length),
            (&"é".repeat(201), length),
            ("   ", Blank),
            ("\u{a0}\u{2003}\u{3000}", Blank),
            ("\u{2800}", Blank),
            ("\u{1d159} \u{2800}", Blank),
            ("\u{301}\u{308}", Blank),
            ("a\nb", Hidden('\n')),
            ("a\tb", Hidden('\t')),
            ("a\r", Hidden('\r')),
            ("\u{0}", Hidden('\u{0}')),
            ("a\u{85}", Hidden('\u{85}')),
            ("a\u{2028}b", Hidden('\u{2028}')),
            ("a\u{2029}b", Hidden('\u{2029}')),
            ("\u{200b}", Hidden('\u{200b}')),
            ("a\u{200b}b", Hidden('\u{200b}')),
            ("a\u{ad}b", Hidden('\u{ad}')),
            ("\u{feff}a", Hidden('\u{feff}')),
            ("a\u{2060}", Hidden('\u{2060}')),
            ("a\u{180e}", Hidden('\u{180e}')),
            ("a\u{2063}", Hidden('\u{2063}')),
            ("a\u{fff9}b", Hidden('\u{fff9}')),
            ("a\u{1d173}", Hidden('\u{1d173}')),
            // Every control of the bidi algorithm (UAX #9, section 2).
            ("a\u{61c}", Hidden('\u{61c}')),
            ("a\u{200e}", Hidden('\u{200e}')),
            ("a\u{200f}", Hidden('\u{200f}')),
            ("a\u{202a}", Hidden('\u{202a}')),
            ("a\u{202b}", Hidden('\u{202b}')),
            ("a\u{202c}", Hidden('\u{202c}')),
            ("a\u{202d}", Hidden('\u{202d}')),
            ("tickets \u{202e}eerf", Hidden('\u{202e}')),
            ("a\u{2066}", Hidden('\u{2066}')),
            ("a\u{2067}", Hidden('\u{2067}')),
            ("a\u{2068}", Hidden('\u{2068}')),
            ("a\u{2069}", Hidden('\u{2069}')),
            // Joiners, selectors, tags and fillers that belong to nothing.
            ("\u{200d}", Hidden('\u{200d}')),
            ("a \u{200d}b", Hidden('\u{200d}')),
            ("\u{200c}a", Hidden('\u{200c}')),
            ("\u{fe0f}", Hidden('\u{fe0f}')),
            ("\u{2800}\u{fe0f}", Hidden('\u{fe0f}')),
            (" \u{e0067}", Hidden('\u{e0067}')),
            ("\u{34f}", Hidden('\u{34f}')),
            ("\u{115f}", Hidden('\u{115f}')),
            ("a\u{1160}", Hidden('\u{1160}')),
            ("a\u{3164}", Hidden('\u{3164}')),
            ("\u{ffa0}", Hidden('\u{ffa0}')),
            ("\u{17b4}", Hidden('\u{17b4}')),
            ("a\u{378}", Unassigned('\u{378}')),
            ("a\u{ffff}", Unassigned('\u{ffff}')),
            ("a\u{10ffff}", Unassigned('\u{10ffff}')),
            ("\u{f8ff}", Unassigned('\u{f8ff}')),
        ];
        for (text, error) in rows {
            assert_eq!(check_line(text, 200), Err(*error), "{text:?}");
        }
        assert_eq!(check_line(&"é".repeat(200), 200), Ok(()));
        assert_eq!(
            Hidden('\u{202e}').to_string(),
            "must not have the character U+202E: it is a control character, is invisible here, or changes the order \
             of the text; leave it out"
        );
    }
}
