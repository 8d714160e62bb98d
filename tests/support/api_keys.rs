//! API keys of organizers.

use serde_json::json;

use super::client::Client;
use super::{number, text};

/// A key, and a client that uses it.
pub(crate) struct ApiKey {
    pub(crate) id: u64,
    pub(crate) secret: String,
    pub(crate) client: Client,
}

/// Makes a key of an organizer.
pub(crate) fn make_key(organizer: &Client, scopes: &[&str]) -> ApiKey {
    let made =
        organizer.post("/api/v1/keys", &json!({ "name": "Shop", "scopes": scopes })).expect(201).json();
    let secret = text(&made, "secret").to_owned();
    ApiKey { id: number(&made, "id"), client: organizer.with_token(&secret), secret }
}
