//! `boxoffice`: an event ticket reservation server. No ticket is sold twice and
//! no sale is lost. ARCHITECTURE.md has the map.

mod account_limits;
mod admin;
mod assembly;
#[cfg(any(test, feature = "bench"))]
pub mod bench;
mod bucket;
pub mod cli;
mod client;
mod client_network;
mod clock;
mod config;
mod demo;
pub mod front;
mod given_secret;
mod logging;
mod mesh;
mod metrics;
mod old_records;
mod opening;
mod passwords;
mod pump;
mod random;
mod repair;
mod revocation;
mod rt;
mod secret;
mod server;
mod table;
mod upkeep;
mod version;
