//! Commands that take effect once, however often their request comes.

use super::Command;
use crate::ids::{EventId, UserId};

/// The key of a request, with which a client can send it again. Clients choose keys, so one counts only for its user,
/// and only for the same kind of request to the same address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyKey {
    pub user: UserId,
    /// Whether the number of this user's keys is limited.
    pub is_bounded: bool,
    /// A digest of the endpoint, its path, and the key that the client sent.
    pub hash: [u8; 16],
    /// A digest of the request's content: another content with the same key is a mistake of the client.
    pub fingerprint: u64,
}

/// A command with a key. If the key is kept, its first answer is the answer again, and nothing is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed {
    pub key: IdempotencyKey,
    /// Its slot keeps the key.
    pub command: Command,
}

/// Gives an event's id to a key, before the event itself is created in its own slot. A key that has one keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GiveEventId {
    pub key: IdempotencyKey,
    /// A new id, never used before.
    pub id: EventId,
}
