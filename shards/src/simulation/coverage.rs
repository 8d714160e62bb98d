//! What was seen in worlds, by name, and what has to be.

use std::collections::BTreeMap;

use crate::outcome::{Outcome, Rejection, Reply};

pub(super) type Seen = BTreeMap<&'static str, u64>;

/// What has to be seen in so many seeds, beside every kind of record; else the simulation does
/// not try it.
pub(super) const TO_BE_SEEN: [&str; 43] = [
    "answers: account",
    "answers: account changed",
    "answers: token stands",
    "answers: event",
    "answers: events",
    "answers: event deleted",
    "answers: reservation",
    "answers: reservations",
    "answers: cancelled",
    "answers: totals",
    "answers of a killed process",
    "rejections: sold out",
    "rejections: quota below committed",
    "rejections: has reservations",
    "rejections: username taken",
    "rejections: user not found",
    "rejections: token ended",
    "rejections: event not found",
    "rejections: event deleted",
    "rejections: not your event",
    "rejections: reservation not found",
    "rejections: log full",
    "commits",
    "commits that take their time",
    "full logs",
    "logs with room again",
    "failed commits",
    "failed upkeep",
    "crashes",
    "power cuts",
    "crashes in a commit: all of it is on disk",
    "crashes in a commit: nothing of it is",
    "crashes in a commit: torn",
    "starts",
    "starts cut off",
    "starts with another shard count",
    "clock jumps",
    "damage: lost tail",
    "damage: lost",
    "damage: checksum",
    "damage: rewritten",
    "damage: other",
    "commits while the disk is full",
];

pub(super) fn merge(seen: &mut Seen, more: Seen) {
    for (what, count) in more {
        *seen.entry(what).or_default() += count;
    }
}

pub(super) fn name_of(reply: &Reply) -> &'static str {
    match reply {
        Ok(Outcome::Account(_)) => "answers: account",
        Ok(Outcome::AccountChanged(_)) => "answers: account changed",
        Ok(Outcome::TokenStands(_)) => "answers: token stands",
        Ok(Outcome::Users(_)) => "answers: users",
        Ok(Outcome::Event(_)) => "answers: event",
        Ok(Outcome::Events(_)) => "answers: events",
        Ok(Outcome::EventDeleted) => "answers: event deleted",
        Ok(Outcome::Reservation(_)) => "answers: reservation",
        Ok(Outcome::Reservations(_)) => "answers: reservations",
        Ok(Outcome::Cancelled) => "answers: cancelled",
        Ok(Outcome::Totals(_)) => "answers: totals",
        Err(Rejection::SoldOut { .. }) => "rejections: sold out",
        Err(Rejection::QuotaBelowCommitted { .. }) => "rejections: quota below committed",
        Err(Rejection::HasReservations { .. }) => "rejections: has reservations",
        Err(Rejection::UsernameTaken) => "rejections: username taken",
        Err(Rejection::UserNotFound) => "rejections: user not found",
        Err(Rejection::TokenEnded) => "rejections: token ended",
        Err(Rejection::EventExists) => "rejections: event exists",
        Err(Rejection::EventNotFound) => "rejections: event not found",
        Err(Rejection::EventDeleted) => "rejections: event deleted",
        Err(Rejection::NotYourEvent) => "rejections: not your event",
        Err(Rejection::ReservationNotFound) => "rejections: reservation not found",
        Err(Rejection::LogFull) => "rejections: log full",
        Err(Rejection::Elsewhere) => "rejections: elsewhere",
    }
}
