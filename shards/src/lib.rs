//! The domain of boxoffice: events and their quota, reservations, accounts, and the
//! records that make them durable.
//!
//! Knows no network, no async runtime and no file. A [`shard::Shard`] is driven by
//! whoever owns it, one call at a time, from one thread.

pub mod clock;
pub mod command;
pub mod details;
pub mod driver;
pub mod ids;
pub mod limits;
pub mod log;
pub mod outcome;
pub mod record;
pub mod replay;
pub mod schema;
pub mod shard;
#[cfg(test)]
mod simulation;
pub mod slots;
pub mod state;
