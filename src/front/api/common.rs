//! What all cores share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_lock::Mutex;

use super::ids::Ids;
use crate::front::proxies::TrustedProxies;
use crate::metrics::Metrics;
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
    pub proxies: TrustedProxies,
    /// Held while a role is changed or an account removed: no other such change happens meanwhile.
    pub administration: Mutex<()>,
    /// Open connections of all cores.
    pub connections: AtomicUsize,
    pub connections_max: usize,
}

/// One of the connections that the server takes, until it is dropped.
pub struct ConnectionPermit(Arc<Common>);

impl ConnectionPermit {
    /// `None` when all are taken.
    pub fn take(common: &Arc<Common>) -> Option<ConnectionPermit> {
        if common.connections.fetch_add(1, Ordering::Relaxed) >= common.connections_max {
            common.connections.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(ConnectionPermit(Arc::clone(common)))
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
