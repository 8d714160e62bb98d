//! HTTP/1.1 as bytes: requests in, responses out. Knows neither routes nor sockets.

pub mod body;
pub mod parse;
pub mod write;
