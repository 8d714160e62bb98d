//! When each API key was last used, to the minute, in memory, for all cores.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use shards::ids::{ApiKeyNumber, UserId};

/// The most keys whose use is remembered: those of some hundred shops with as many as they may have.
const KEYS_MAX: usize = 65_536;

/// A lock is taken when a core sees a key for the first time, and to show or forget its use; not by requests with a
/// key that the core knows.
#[derive(Default)]
pub struct KeyUses(Mutex<HashMap<(UserId, ApiKeyNumber), LastUse>>);

/// The minute since 1970 in which a key was last used; 0 for none.
#[derive(Debug, Clone, Default)]
pub struct LastUse(Arc<AtomicU64>);

impl LastUse {
    /// `now` is Unix time in seconds.
    pub(super) fn note(&self, now: u64) {
        let minute = now / 60;
        // Mostly the same one, so that cores do not take the memory from each other.
        if self.0.load(Ordering::Relaxed) != minute {
            self.0.store(minute, Ordering::Relaxed);
        }
    }

    /// In seconds since 1970.
    fn seconds(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed) * 60).filter(|&seconds| seconds > 0)
    }
}

impl KeyUses {
    /// Where uses of a key are noted. If there are too many keys, those are forgotten that no core knows; if all are
    /// known, the uses of this one are not shown.
    pub(super) fn of(&self, organizer: UserId, number: ApiKeyNumber) -> LastUse {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (organizer, number);
        if uses.len() >= KEYS_MAX && !uses.contains_key(&key) {
            uses.retain(|_, last_use| Arc::strong_count(&last_use.0) > 1);
            if uses.len() >= KEYS_MAX {
                return LastUse::default();
            }
        }
        uses.entry(key).or_default().clone()
    }

    /// The time of a key's last use, in seconds since 1970; `None` if it is not known.
    pub(super) fn last(&self, organizer: UserId, number: ApiKeyNumber) -> Option<u64> {
        let uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        uses.get(&(organizer, number))?.seconds()
    }

    /// The key has ended.
    pub(super) fn forget(&self, organizer: UserId, number: ApiKeyNumber) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(organizer, number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_shown_to_the_minute_until_the_key_ends() {
        let uses = KeyUses::default();
        let (organizer, number) = (UserId(7), ApiKeyNumber(1));
        assert_eq!(uses.last(organizer, number), None);
        let (one_core, another) = (uses.of(organizer, number), uses.of(organizer, number));
        assert_eq!(uses.last(organizer, number), None, "it was not used yet");
        one_core.note(1_800_000_059);
        assert_eq!(uses.last(organizer, number), Some(1_800_000_000));
        another.note(1_800_000_060);
        assert_eq!(uses.last(organizer, number), Some(1_800_000_060));
        uses.forget(organizer, number);
        assert_eq!(uses.last(organizer, number), None);
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let uses = KeyUses::default();
        let known: Vec<LastUse> = (1..=10).map(|user| uses.of(UserId(user), ApiKeyNumber(1))).collect();
        known.iter().for_each(|last_use| last_use.note(60));
        for user in 11..=2 * KEYS_MAX as u32 {
            uses.of(UserId(user), ApiKeyNumber(1)).note(60);
        }
        assert!(uses.0.lock().unwrap().len() <= KEYS_MAX);
        assert!((1..=10).all(|user| uses.last(UserId(user), ApiKeyNumber(1)).is_some()));
    }
}
