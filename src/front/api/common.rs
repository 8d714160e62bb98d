//! What all cores share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_lock::Mutex;

use super::ids::Ids;
use crate::front::cors::Cors;
use crate::front::issuers::Issuers;
use crate::front::key_uses::KeyUses;
use crate::front::places::Places;
use crate::front::proxies::TrustedProxies;
use crate::front::registration::Registration;
use crate::metrics::Metrics;
use crate::old_records::OldRecords;
use crate::passwords::Passwords;

pub struct Common {
    pub ids: Ids,
    pub passwords: Passwords,
    pub metrics: &'static Metrics,
    /// Random, new with every start of the server.
    pub boot_id: String,
    /// Set when the server is about to stop.
    pub draining: AtomicBool,
    /// Serves `/api/v1/pop`.
    pub demo: bool,
    pub registration: Registration,
    /// `None` if no page of another origin may call the API.
    pub cors: Option<Arc<Cors>>,
    pub proxies: Arc<TrustedProxies>,
    /// Whose tokens stand for customers.
    pub issuers: Issuers,
    pub key_uses: KeyUses,
    /// Held while a role is changed or an account removed: no other such change happens meanwhile.
    pub administration: Mutex<()>,
    pub places: Arc<Places>,
    /// `None` when all records are in memory.
    pub old_records: Option<OldRecords>,
}
