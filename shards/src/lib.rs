//! The domain of boxoffice: events with their quota, reservations, accounts, and the records that make them
//! durable.
//!
//! It uses no network, no async runtime and no file. A [`driver::Driver`] returns the steps of a
//! [`shard::Shard`], and its owner does them, one at a time, from one thread.

pub mod api_keys;
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
