//! Ids for new events and accounts.

use std::sync::atomic::{AtomicU32, Ordering};

use shards::ids::{EventId, UserId};

/// Gives out ids, each once. An id that is then not used is never seen.
pub struct Ids {
    event: AtomicU32,
    user: AtomicU32,
}

impl Ids {
    /// Goes on after the highest ids in use.
    pub fn after(event: EventId, user: UserId) -> Ids {
        Ids { event: AtomicU32::new(event.0), user: AtomicU32::new(user.0) }
    }

    pub fn next_event(&self) -> EventId {
        EventId(next(&self.event))
    }

    pub fn next_user(&self) -> UserId {
        UserId(next(&self.user))
    }
}

fn next(counter: &AtomicU32) -> u32 {
    let before = counter.fetch_add(1, Ordering::Relaxed);
    before.checked_add(1).expect("fewer than 2^32 events and accounts")
}
