//! HTTP/1.1 as bytes: reads requests, writes responses. Depends on neither routes nor sockets.

pub mod body;
pub(crate) mod forwarded;
pub mod parse;
pub mod write;
