//! Counts of what happened in worlds, and what must happen in a full run.

use std::collections::BTreeMap;

use crate::outcome::{Outcome, Rejection, Reply};

pub(super) type Counts = BTreeMap<&'static str, u64>;

/// What must happen at least once in a full run, as must every kind of record: otherwise the simulation
/// does not test it.
pub(super) const EXPECTED: [&str; 74] = [
    "replies: account",
    "replies: account of an id",
    "replies: no account of an id",
    "replies: account changed",
    "replies: token stands",
    "replies: users",
    "replies: event",
    "replies: events",
    "replies: event deleted",
    "replies: reservation",
    "replies: reservations",
    "replies: cancelled",
    "replies: events created",
    "replies: totals",
    "replies of a killed process",
    "rejections: sold out",
    "rejections: numbers used up",
    "rejections: account limit",
    "rejections: sales not open",
    "rejections: sales closed",
    "rejections: reservation limit",
    "rejections: customer limit",
    "rejections: empty window",
    "rejections: version mismatch",
    "rejections: quota below committed",
    "rejections: has reservations",
    "rejections: username taken",
    "rejections: user not found",
    "rejections: token ended",
    "rejections: event not found",
    "rejections: event deleted",
    "rejections: not your event",
    "rejections: not your reservation",
    "rejections: reservation not found",
    "rejections: reservation cancelled",
    "rejections: quantity above",
    "rejections: log full",
    "rejections: log locked",
    "reservations made by another account",
    "reservations of deleted events listed",
    "hand-overs",
    "commits",
    "commits on a worker",
    "gathers of one turn",
    "gathers until a time",
    "stops",
    "full logs",
    "logs with room again",
    "commits that wait for a lock",
    "locked logs",
    "logs unlocked again",
    "failed commits",
    "failed maintenance",
    "hindered maintenance",
    "crashes",
    "power cuts",
    "crashes in a commit: all of it is on disk",
    "crashes in a commit: nothing of it is",
    "crashes in a commit: torn",
    "starts",
    "interrupted starts",
    "starts without room",
    "late claims",
    "files written before a late claim",
    "starts with another shard count",
    "clock jumps",
    "suspensions",
    "damage: lost tail",
    "damage: lost",
    "damage: checksum",
    "damage: time",
    "damage: rewritten",
    "damage: other",
    "commits while the disk is full",
];

pub(super) fn merge(counts: &mut Counts, more: Counts) {
    for (what, count) in more {
        *counts.entry(what).or_default() += count;
    }
}

pub(super) fn name_of(reply: &Reply) -> &'static str {
    match reply {
        Ok(outcome) => name_of_outcome(outcome),
        Err(Rejection::SoldOut { .. }) => "rejections: sold out",
        Err(Rejection::NumbersUsedUp) => "rejections: numbers used up",
        Err(Rejection::AccountLimit { .. }) => "rejections: account limit",
        Err(Rejection::SalesNotOpen { .. }) => "rejections: sales not open",
        Err(Rejection::SalesClosed) => "rejections: sales closed",
        Err(Rejection::ReservationLimit { .. }) => "rejections: reservation limit",
        Err(Rejection::CustomerLimit { .. }) => "rejections: customer limit",
        Err(Rejection::EmptyWindow) => "rejections: empty window",
        Err(Rejection::VersionMismatch { .. }) => "rejections: version mismatch",
        Err(Rejection::QuotaBelowCommitted { .. }) => "rejections: quota below committed",
        Err(Rejection::HasReservations { .. }) => "rejections: has reservations",
        Err(Rejection::UsernameTaken) => "rejections: username taken",
        Err(Rejection::UserNotFound) => "rejections: user not found",
        Err(Rejection::TokenEnded) => "rejections: token ended",
        Err(Rejection::EventExists) => "rejections: event exists",
        Err(Rejection::EventNotFound) => "rejections: event not found",
        Err(Rejection::EventDeleted) => "rejections: event deleted",
        Err(Rejection::NotYourEvent) => "rejections: not your event",
        Err(Rejection::NotYourReservation) => "rejections: not your reservation",
        Err(Rejection::ReservationNotFound) => "rejections: reservation not found",
        Err(Rejection::ReservationCancelled) => "rejections: reservation cancelled",
        Err(Rejection::QuantityAbove { .. }) => "rejections: quantity above",
        Err(Rejection::LogFull) => "rejections: log full",
        Err(Rejection::LogLocked) => "rejections: log locked",
        Err(Rejection::Elsewhere) => "rejections: elsewhere",
    }
}

fn name_of_outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Account(_) => "replies: account",
        Outcome::AccountChanged(_) => "replies: account changed",
        Outcome::TokenStands(_) => "replies: token stands",
        Outcome::Users(_) => "replies: users",
        Outcome::Event(_) => "replies: event",
        Outcome::Events(_) => "replies: events",
        Outcome::EventDeleted => "replies: event deleted",
        Outcome::Reservation(_) => "replies: reservation",
        Outcome::Reservations(_) => "replies: reservations",
        Outcome::Cancelled => "replies: cancelled",
        Outcome::EventsCreated(_) => "replies: events created",
        Outcome::Totals(_) => "replies: totals",
        Outcome::Part(part) => match &part.outcome {
            Outcome::Account(Some(_)) => "replies: account of an id",
            Outcome::Account(None) => "replies: no account of an id",
            outcome => name_of_outcome(outcome),
        },
    }
}
