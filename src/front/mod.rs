//! The part of each core that accepts connections, reads HTTP, authenticates
//! and routes to shards.

pub mod acceptor;
pub mod api;
pub mod auth;
pub mod connection;
pub mod contract;
pub mod deadlines;
pub mod http;
pub mod problem;
pub mod router;
pub mod verified;
