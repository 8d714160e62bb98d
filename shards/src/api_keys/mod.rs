//! API keys: what the back end of an organizer logs in with.

mod name;
mod scopes;

use crate::ids::{ApiKeyNumber, Timestamp, UserId, Username};
pub use name::ApiKeyName;
pub use scopes::{Scope, Scopes};

/// A key of an organizer. It is kept in the slot of the organizer's id ([`crate::slots::slot_of_user`]), the account
/// in that of its username.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Not checked again, as the names in [`crate::details::EventDetails`] are not.
    pub name: Box<str>,
    pub scopes: Scopes,
    /// SHA-256 of the secret part of the key.
    pub secret_hash: [u8; 32],
    /// The organizer's username, which gives the account's slot.
    pub username: Username,
    /// The version of the account's API keys when the key was made. A change of it ends the key.
    pub account_version: u64,
    /// The wall time at which the key ends by itself.
    pub ends_at: Option<Timestamp>,
}

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyView {
    pub organizer: UserId,
    pub number: ApiKeyNumber,
    pub key: ApiKey,
    pub created_at: Timestamp,
}
