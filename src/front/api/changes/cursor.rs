//! Cursors: a position of one event, or for the changes of many events a position of each slot.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use shards::command::SlotPositions;
use shards::ids::{Lsn, Slot};
use shards::limits::SLOT_COUNT;

/// A position of an event, or any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position(pub(super) Lsn);

/// Eighteen digits, which an i64 has: more than a slot will ever have records.
const POSITION_PATTERN: &str = "(0|[1-9][0-9]{0,17})";

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Position, ()> {
        let is_usual = text == "0" || !text.starts_with('0');
        let is_short = (1..=18).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| is_usual && is_short);
        number.map(|number| Position(Lsn(number))).ok_or(())
    }
}

impl JsonSchema for Position {
    fn schema_name() -> Cow<'static, str> {
        "Position".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": format!("^{POSITION_PATTERN}$") })
    }
}

/// Up to where the changes of all slots are known, and whose turn it is to be looked at first. As a text, such as
/// `7~3.1041~9.12`: the slot whose turn it is, and of each slot with known changes the number and the position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) turn: Slot,
    pub(super) positions: Box<SlotPositions>,
}

impl Default for Place {
    fn default() -> Place {
        Place { turn: Slot(0), positions: Box::new([Lsn(0); SLOT_COUNT]) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.turn.0)?;
        let known = self.positions.iter().enumerate().filter(|(_, position)| position.0 > 0);
        known.into_iter().try_for_each(|(slot, position)| write!(f, "~{slot}.{position}"))
    }
}

fn slot_of_text(text: &str) -> Option<Slot> {
    let is_usual = text == "0" || !text.starts_with('0') && !text.starts_with('+');
    text.parse().ok().filter(|_| is_usual).map(Slot)
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Place, ()> {
        let mut parts = text.split('~');
        let turn = parts.next().and_then(slot_of_text).ok_or(())?;
        let mut place = Place { turn, ..Place::default() };
        for part in parts {
            let (slot, position) = part.split_once('.').ok_or(())?;
            let (slot, Position(position)) = (slot_of_text(slot).ok_or(())?, position.parse()?);
            place.positions[slot.index()] = position;
        }
        Ok(place)
    }
}

impl JsonSchema for Place {
    fn schema_name() -> Cow<'static, str> {
        "ChangesCursor".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let slot = "(0|[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])";
        let pattern = format!(r"^{slot}(~{slot}\.{POSITION_PATTERN}){{0,256}}$");
        json_schema!({ "type": "string", "pattern": pattern })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_they_are_written() {
        let mut place = Place { turn: Slot(255), ..Place::default() };
        assert_eq!(place.to_string(), "255");
        (place.positions[0], place.positions[9]) = (Lsn(12), Lsn(999_999_999_999_999_999));
        for (place, text) in [(Place::default(), "0"), (place, "255~0.12~9.999999999999999999")] {
            assert_eq!(place.to_string(), text);
            assert_eq!(text.parse(), Ok(place));
        }
        for text in
            ["", "256", "01", "+1", "1~", "1~2", "1~2.", "1~2.03", "1~300.4", "~", "1~2.1234567890123456789"]
        {
            assert!(text.parse::<Place>().is_err(), "{text:?}");
        }
        for text in ["", "-1", "+1", "01", "1234567890123456789", "1 "] {
            assert!(text.parse::<Position>().is_err(), "{text:?}");
        }
    }
}
