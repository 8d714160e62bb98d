//! A core's cache of verified tokens and API keys, both called tokens here. The next request with a cached token costs a lookup instead
//! of a signature check, JSON parsing and a query to the account's shard.
//!
//! A token matches only as the same bytes, and only until it expires. A change of an account is
//! answered after every core has removed the account's tokens ([`Verified::revoke`]). A token check
//! that is in flight during the revocation may return the account's state before the change.
//! Therefore each check notes the core's revocation count before it queries the shard, and its
//! token is cached only if the count is still the same. So a check that began before the revocation
//! leaves no token in the cache, and a check that began after it was answered with the change
//! applied.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem;
use std::rc::Rc;

use ctutils::CtEq;
use foldhash::fast::RandomState;
use shards::ids::UserId;

use super::auth::{Claimed, Identity, Validity};

/// The maximum number of tokens per core: enough for the users of a few minutes at peak load.
const TOKENS_MAX: usize = 32 * 1024;

/// The maximum total length of a core's tokens. With the rest of the entries, a full cache takes
/// some 30 MiB.
const TOKEN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The length of the key in the cache, the token's last characters. They belong to the signature, or to an API key's
/// secret and checksum, so no client can choose colliding keys.
const TAIL_BYTES: usize = 16;

/// The last characters as a number, which is hashed in fewer instructions than bytes.
type Tail = u128;

fn tail_of(token: &[u8]) -> Option<Tail> {
    token.last_chunk::<TAIL_BYTES>().copied().map(Tail::from_ne_bytes)
}

#[derive(Default)]
pub struct Verified {
    tokens: RefCell<Tokens>,
}

/// Two generations. A token that is used moves to the young generation. When the young generation
/// is full, it replaces the old one, and the tokens that were not used since are dropped.
#[derive(Default)]
struct Tokens {
    young: Generation,
    old: Generation,
    revocations: u64,
}

#[derive(Default)]
struct Generation {
    entries: HashMap<Tail, Entry, RandomState>,
    token_bytes: usize,
}

struct Entry {
    token: Box<str>,
    validity: Validity,
    identity: Rc<Identity>,
}

/// The number of revocations that a core had handled at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationCount(u64);

impl Verified {
    /// The account of a token, if it is cached and valid at this time. `now` is Unix time in seconds.
    pub fn get(&self, token: &[u8], now: u64) -> Option<Rc<Identity>> {
        let tail = tail_of(token)?;
        let mut tokens = self.tokens.borrow_mut();
        if let Some(entry) = tokens.young.entries.get(&tail) {
            return entry.identity_for(token, now);
        }
        let identity = tokens.old.entries.get(&tail)?.identity_for(token, now)?;
        let entry = tokens.old.take(&tail).expect("the entry was found above");
        tokens.put(entry);
        Some(identity)
    }

    /// The revocation count, to be read before a shard is queried about a token.
    pub fn asking(&self) -> RevocationCount {
        RevocationCount(self.tokens.borrow().revocations)
    }

    /// Caches a token that the account's shard has confirmed, unless there was a revocation since
    /// the count was read.
    pub fn remember(&self, before_query: RevocationCount, token: Box<str>, claimed: Claimed) {
        if before_query == self.asking() {
            let Claimed { identity, validity } = claimed;
            self.tokens.borrow_mut().put(Entry { token, validity, identity });
        }
    }

    /// Removes all tokens of an account. Scans all tokens, because revocations are rare.
    pub fn revoke(&self, user: UserId) {
        let mut tokens = self.tokens.borrow_mut();
        tokens.revocations += 1;
        tokens.young.remove_user(user);
        tokens.old.remove_user(user);
    }
}

impl Tokens {
    fn put(&mut self, entry: Entry) {
        let fits = self.young.entries.len() < TOKENS_MAX / 2
            && self.young.token_bytes + entry.token.len() <= TOKEN_BYTES_MAX / 2;
        if !fits {
            self.old = mem::take(&mut self.young);
        }
        if let Some(tail) = tail_of(entry.token.as_bytes()) {
            self.young.take(&tail);
            self.young.token_bytes += entry.token.len();
            self.young.entries.insert(tail, entry);
        }
    }
}

impl Generation {
    fn take(&mut self, tail: &Tail) -> Option<Entry> {
        let entry = self.entries.remove(tail)?;
        self.token_bytes -= entry.token.len();
        Some(entry)
    }

    fn remove_user(&mut self, user: UserId) {
        self.entries.retain(|_, entry| entry.identity.actor.user != user);
        self.token_bytes = self.entries.values().map(|entry| entry.token.len()).sum();
    }
}

/// Whether two tokens are the same, in a time that does not depend on where they differ. Collects the differences
/// of many bytes at a time, and looks at them once.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let difference = one.iter().zip(other).fold(0, |difference, (one, other)| difference | (one ^ other));
    one.len() == other.len() && difference.ct_eq(&0).to_bool()
}

impl Entry {
    fn identity_for(&self, token: &[u8], now: u64) -> Option<Rc<Identity>> {
        let is_good = is_same(self.token.as_bytes(), token) && self.validity.contains(now);
        is_good.then(|| Rc::clone(&self.identity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::auth::Credential;
    use shards::command::Actor;
    use shards::ids::{Role, Username};

    fn token(number: usize) -> Box<str> {
        format!("head.{number:08}.signature-{number:08}").into()
    }

    fn claimed(user: u32, last: u64) -> Claimed {
        let actor = Actor::new(UserId(user), Role::Customer);
        let username = Username::new("ada").unwrap();
        Claimed {
            identity: Rc::new(Identity { actor, username, credential: Credential::Token { version: 7 } }),
            validity: Validity { first: 0, last },
        }
    }

    fn remember(verified: &Verified, number: usize, user: u32) {
        verified.remember(verified.asking(), token(number), claimed(user, 100));
    }

    #[test]
    fn only_the_same_bytes_match_and_only_until_they_expire() {
        let verified = Verified::default();
        remember(&verified, 1, 5);
        let cached = token(1);
        assert_eq!(verified.get(cached.as_bytes(), 100).unwrap().actor.user, UserId(5));
        assert!(verified.get(cached.as_bytes(), 101).is_none(), "expired");
        // Includes tokens that differ only before the tail.
        for at in 0..cached.len() {
            let mut bytes = cached.as_bytes().to_vec();
            bytes[at] ^= 1;
            assert!(verified.get(&bytes, 0).is_none(), "byte {at}");
        }
        assert!(verified.get(format!("x{cached}").as_bytes(), 0).is_none());
        assert!(verified.get(&cached.as_bytes()[1..], 0).is_none());
        let early = Claimed { validity: Validity { first: 50, last: 100 }, ..claimed(5, 100) };
        verified.remember(verified.asking(), token(2), early);
        let second = token(2);
        assert!(
            verified.get(second.as_bytes(), 49).is_none() && verified.get(second.as_bytes(), 50).is_some()
        );
        for short in ["", "x", &cached[cached.len() - TAIL_BYTES..]] {
            assert!(verified.get(short.as_bytes(), 0).is_none(), "{short}");
        }
    }

    #[test]
    fn a_revocation_ends_cached_tokens_and_checks_in_flight() {
        let verified = Verified::default();
        remember(&verified, 1, 5);
        remember(&verified, 2, 6);
        let before_revocation = verified.asking();
        verified.revoke(UserId(5));
        assert!(verified.get(token(1).as_bytes(), 0).is_none());
        assert!(verified.get(token(2).as_bytes(), 0).is_some(), "a token of another account");
        verified.remember(before_revocation, token(1), claimed(5, 100));
        assert!(verified.get(token(1).as_bytes(), 0).is_none(), "the check began before the revocation");
        remember(&verified, 3, 5);
        assert!(verified.get(token(3).as_bytes(), 0).is_some(), "the check began after the revocation");
    }

    #[test]
    fn unused_tokens_are_evicted() {
        let verified = Verified::default();
        for number in 0..3 * TOKENS_MAX {
            remember(&verified, number, 5);
            assert!(
                verified.get(token(0).as_bytes(), 0).is_some(),
                "a used token is gone after {number} others"
            );
            let tokens = verified.tokens.borrow();
            assert!(tokens.young.entries.len() + tokens.old.entries.len() <= TOKENS_MAX);
        }
        assert!(verified.get(token(1).as_bytes(), 0).is_none());
        assert!(verified.get(token(3 * TOKENS_MAX - 1).as_bytes(), 0).is_some());
        verified.revoke(UserId(5));
        let tokens = verified.tokens.borrow();
        assert_eq!((tokens.young.token_bytes, tokens.old.token_bytes), (0, 0));
    }

    #[test]
    fn the_total_length_of_tokens_is_bounded() {
        let verified = Verified::default();
        for number in 0..3 * TOKEN_BYTES_MAX / 4096 {
            let token = format!("{}{}", "x".repeat(4096), token(number)).into();
            verified.remember(verified.asking(), token, claimed(5, 100));
            let tokens = verified.tokens.borrow();
            assert!(tokens.young.token_bytes + tokens.old.token_bytes <= TOKEN_BYTES_MAX);
        }
    }
}
