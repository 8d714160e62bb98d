//! Ids for new events and accounts.

use std::sync::atomic::{AtomicU32, Ordering};

use shards::ids::{EventId, UserId};

use crate::front::problem::Problem;

/// Gives out ids, each once, up to `u32::MAX`. Take an id when the command that uses it is sent, and not
/// before: no later command of this start gets an id that was taken and then not used.
pub struct Ids {
    event: AtomicU32,
    user: AtomicU32,
}

impl Ids {
    /// Goes on after the highest ids in use.
    pub fn after(event: EventId, user: UserId) -> Ids {
        Ids { event: AtomicU32::new(event.0), user: AtomicU32::new(user.0) }
    }

    /// # Errors
    ///
    /// `ids-used-up` (507).
    pub fn next_event(&self) -> Result<EventId, Problem> {
        next(&self.event).map(EventId).ok_or_else(|| Problem::ids_used_up("event"))
    }

    /// # Errors
    ///
    /// `ids-used-up` (507).
    pub fn next_user(&self) -> Result<UserId, Problem> {
        next(&self.user).map(UserId).ok_or_else(|| Problem::ids_used_up("account"))
    }
}

/// `None` when the last id is given out. The counter then stays there.
fn next(counter: &AtomicU32) -> Option<u32> {
    let next = |before: u32| before.checked_add(1);
    let before = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
    next(before)
}
