//! The tokens that a core has verified and whose account stood by them, so that the next
//! request with one costs a look-up: no signature, no JSON, no question to a shard.
//!
//! A token is found again only as the same bytes, and never past its end. Who changes an
//! account is answered when every core has forgotten the account's tokens
//! ([`Verified::revoke`]). A question that was on its way to the account's shard meanwhile may
//! bring an answer from before the change. So each question notes how many revocations this
//! core had seen when it was asked, and its token is only remembered if there was none since:
//! asked before the revocation came, it is forgotten or not remembered; asked after it came,
//! the shard knew of the change.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem;
use std::rc::Rc;

use shards::ids::UserId;

use super::auth::{Claimed, Identity};

/// Tokens of one core: those of all who come within the minutes of a noon rush.
const TOKENS_MAX: usize = 32 * 1024;

/// And their bytes, which with the rest of an entry makes some 30 MiB.
const TOKEN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A token's last characters, which belong to its signature: nobody can choose them.
const TAIL_BYTES: usize = 16;

type Tail = [u8; TAIL_BYTES];

#[derive(Default)]
pub struct Verified {
    tokens: RefCell<Tokens>,
}

/// What is used moves to the young ones; when there are too many of these, they become the old
/// ones, and those who were old by then and not used are forgotten.
#[derive(Default)]
struct Tokens {
    young: Generation,
    old: Generation,
    revocations: u64,
}

#[derive(Default)]
struct Generation {
    entries: HashMap<Tail, Entry>,
    token_bytes: usize,
}

struct Entry {
    token: Box<str>,
    good_until: u64,
    identity: Rc<Identity>,
}

/// When a shard was asked about a token, as seen from this core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    revocations: u64,
}

impl Verified {
    /// Who a token speaks for, if it is remembered. `now` is in seconds since 1970.
    pub fn get(&self, token: &str, now: u64) -> Option<Rc<Identity>> {
        let tail = token.as_bytes().last_chunk()?;
        let mut tokens = self.tokens.borrow_mut();
        if let Some(entry) = tokens.young.entries.get(tail) {
            return entry.identity_for(token, now);
        }
        let identity = tokens.old.entries.get(tail)?.identity_for(token, now)?;
        let entry = tokens.old.take(tail).expect("it was just found");
        tokens.put(entry);
        Some(identity)
    }

    /// Notes the moment; called before a shard is asked whether a token stands.
    pub fn asking(&self) -> Asked {
        Asked { revocations: self.tokens.borrow().revocations }
    }

    /// Keeps a token that its account stood by when the shard was asked.
    pub fn remember(&self, asked: Asked, token: Box<str>, claimed: Claimed) {
        if asked == self.asking() {
            let Claimed { identity, good_until, .. } = claimed;
            self.tokens.borrow_mut().put(Entry { token, good_until, identity });
        }
    }

    /// Forgets all tokens of an account. Looks at every token: this is rare.
    pub fn revoke(&self, user: UserId) {
        let mut tokens = self.tokens.borrow_mut();
        tokens.revocations += 1;
        tokens.young.forget(user);
        tokens.old.forget(user);
    }
}

impl Tokens {
    fn put(&mut self, entry: Entry) {
        let fits = self.young.entries.len() < TOKENS_MAX / 2
            && self.young.token_bytes + entry.token.len() <= TOKEN_BYTES_MAX / 2;
        if !fits {
            self.old = mem::take(&mut self.young);
        }
        if let Some(tail) = entry.token.as_bytes().last_chunk().copied() {
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

    fn forget(&mut self, user: UserId) {
        self.entries.retain(|_, entry| entry.identity.actor.user != user);
        self.token_bytes = self.entries.values().map(|entry| entry.token.len()).sum();
    }
}

impl Entry {
    fn identity_for(&self, token: &str, now: u64) -> Option<Rc<Identity>> {
        (same_bytes(&self.token, token) && now <= self.good_until).then(|| Rc::clone(&self.identity))
    }
}

/// Looks at every byte, so that the time does not tell how many of them were right.
fn same_bytes(known: &str, token: &str) -> bool {
    let differences = known.bytes().zip(token.bytes()).fold(0, |found, (one, other)| found | (one ^ other));
    known.len() == token.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use shards::command::Actor;
    use shards::ids::{Role, Username};

    fn token(number: usize) -> Box<str> {
        format!("head.{number:08}.signature-{number:08}").into()
    }

    fn claimed(user: u32, good_until: u64) -> Claimed {
        let actor = Actor { user: UserId(user), role: Role::Customer };
        let username = Username::new("ada").unwrap();
        Claimed { identity: Rc::new(Identity { actor, username }), token_version: 7, good_until }
    }

    fn remember(verified: &Verified, number: usize, user: u32) {
        verified.remember(verified.asking(), token(number), claimed(user, 100));
    }

    #[test]
    fn only_the_same_bytes_are_found_and_not_past_their_end() {
        let verified = Verified::default();
        remember(&verified, 1, 5);
        let known = token(1);
        assert_eq!(verified.get(&known, 100).unwrap().actor.user, UserId(5));
        assert!(verified.get(&known, 101).is_none(), "past its end");
        // The same tail, and another token in front of it.
        for at in 0..known.len() {
            let mut bytes = known.as_bytes().to_vec();
            bytes[at] ^= 1;
            assert!(verified.get(str::from_utf8(&bytes).unwrap(), 0).is_none(), "byte {at}");
        }
        assert!(verified.get(&format!("x{known}"), 0).is_none());
        assert!(verified.get(&known[1..], 0).is_none());
        for short in ["", "x", &known[known.len() - TAIL_BYTES..]] {
            assert!(verified.get(short, 0).is_none(), "{short}");
        }
    }

    #[test]
    fn a_revocation_ends_what_is_known_and_what_was_asked_before() {
        let verified = Verified::default();
        remember(&verified, 1, 5);
        remember(&verified, 2, 6);
        let asked_before = verified.asking();
        verified.revoke(UserId(5));
        assert!(verified.get(&token(1), 0).is_none());
        assert!(verified.get(&token(2), 0).is_some(), "another account's");
        verified.remember(asked_before, token(1), claimed(5, 100));
        assert!(verified.get(&token(1), 0).is_none(), "its answer may be from before");
        remember(&verified, 3, 5);
        assert!(verified.get(&token(3), 0).is_some(), "the shard was asked afterwards");
    }

    #[test]
    fn what_is_not_used_makes_room() {
        let verified = Verified::default();
        for number in 0..3 * TOKENS_MAX {
            remember(&verified, number, 5);
            assert!(verified.get(&token(0), 0).is_some(), "it is used, at {number}");
            let tokens = verified.tokens.borrow();
            assert!(tokens.young.entries.len() + tokens.old.entries.len() <= TOKENS_MAX);
        }
        assert!(verified.get(&token(1), 0).is_none());
        assert!(verified.get(&token(3 * TOKENS_MAX - 1), 0).is_some());
        verified.revoke(UserId(5));
        let tokens = verified.tokens.borrow();
        assert_eq!((tokens.young.token_bytes, tokens.old.token_bytes), (0, 0));
    }

    #[test]
    fn large_tokens_make_room_by_their_bytes() {
        let verified = Verified::default();
        for number in 0..3 * TOKEN_BYTES_MAX / 4096 {
            let token = format!("{}{}", "x".repeat(4096), token(number)).into();
            verified.remember(verified.asking(), token, claimed(5, 100));
            let tokens = verified.tokens.borrow();
            assert!(tokens.young.token_bytes + tokens.old.token_bytes <= TOKEN_BYTES_MAX);
        }
    }
}
