//! The domain of boxoffice: events and their quota, reservations, accounts, the
//! log that makes them durable, and the recovery that brings them back.
//!
//! Knows no network and no async runtime. A [`shard::Shard`] is driven by
//! whoever owns it, one call at a time, from one thread.

pub mod clock;
pub mod command;
pub mod driver;
pub mod ids;
pub mod limits;
pub mod log;
pub mod outcome;
pub mod record;
pub mod recovery;
pub mod schema;
pub mod shard;
#[cfg(test)]
mod simulation;
pub mod slots;
pub mod state;
