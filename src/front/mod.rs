//! The part of each core that accepts connections, reads HTTP, authenticates
//! and routes to shards.

pub(crate) mod acceptor;
pub mod api;
mod api_keys;
pub(crate) mod arrivals;
pub mod auth;
pub(crate) mod connection;
pub(crate) mod contract;
pub mod cors;
pub(crate) mod deadlines;
pub mod http;
pub mod issuers;
pub(crate) mod key_uses;
pub(crate) mod live;
pub mod places;
pub mod problem;
pub mod proxies;
pub mod registration;
mod rfc3339;
pub mod router;
pub(crate) mod seconds;
pub(crate) mod standby;
pub mod verified;
