//! API keys, in the slot of their organizer's id.

use std::collections::BTreeMap;

use super::{Decision, OutcomeRef, SlotState};
use crate::api_keys::{ApiKey, ApiKeyView};
use crate::command::{EndApiKey, MakeApiKey};
use crate::ids::{ApiKeyNumber, Timestamp, UserId};
use crate::limits::API_KEYS_MAX;
use crate::outcome::Rejection;
use crate::record::{ApiKeyMade, Record};

/// The keys of one organizer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ApiKeys {
    /// The keys that were not ended.
    kept: BTreeMap<ApiKeyNumber, KeptApiKey>,
    /// The number of the last key that was made; 0 for none. A number is not used twice.
    last: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptApiKey {
    key: ApiKey,
    created_at: Timestamp,
}

impl SlotState {
    pub(super) fn decide_make_api_key(&self, make: MakeApiKey) -> Result<Decision, Rejection> {
        let MakeApiKey { organizer, key, over } = make;
        let none = ApiKeys::default();
        let keys = self.api_keys.get(&organizer).unwrap_or(&none);
        let over: Vec<ApiKeyNumber> =
            over.iter().copied().filter(|number| keys.kept.contains_key(number)).collect();
        if keys.kept.len() - over.len() >= API_KEYS_MAX {
            return Err(Rejection::TooManyApiKeys);
        }
        let number = ApiKeyNumber(keys.last.checked_add(1).ok_or(Rejection::NumbersUsedUp)?);
        let mut decision = Decision::unchanged(OutcomeRef::ApiKey(organizer, number));
        decision.records.extend(over.into_iter().map(|number| Record::ApiKeyEnded { organizer, number }));
        decision.records.push(Record::ApiKeyMade(Box::new(ApiKeyMade { organizer, number, key })));
        Ok(decision)
    }

    pub(super) fn apply_api_key_made(&mut self, at: Timestamp, made: &ApiKeyMade) {
        let ApiKeyMade { organizer, number, key } = made;
        let keys = self.api_keys.entry(*organizer).or_default();
        assert_eq!(number.0, keys.last + 1, "the number of an API key of {organizer}");
        keys.last = number.0;
        keys.kept.insert(*number, KeptApiKey { key: key.clone(), created_at: at });
    }

    pub(super) fn undo_api_key_made(&mut self, made: &ApiKeyMade) {
        let keys = self.api_keys.get_mut(&made.organizer).expect("the record made a key");
        keys.kept.remove(&made.number).expect("the record made this key");
        keys.last -= 1;
        if keys.last == 0 {
            self.api_keys.remove(&made.organizer);
        }
    }

    pub(super) fn decide_end_api_key(&self, end: EndApiKey) -> Result<Decision, Rejection> {
        let EndApiKey { organizer, number } = end;
        let keys = self.api_keys.get(&organizer).filter(|keys| number.0 <= keys.last);
        let keys = keys.ok_or(Rejection::ApiKeyNotFound)?;
        // A repetition gets the same answer as the first time, which other cores may not have seen yet.
        let outcome = OutcomeRef::ApiKeyEnded(organizer);
        if !keys.kept.contains_key(&number) {
            return Ok(Decision::unchanged(outcome));
        }
        Ok(Decision::change(Record::ApiKeyEnded { organizer, number }, outcome))
    }

    pub(super) fn apply_api_key_ended(&mut self, organizer: UserId, number: ApiKeyNumber) {
        let keys = self.api_keys.get_mut(&organizer).expect("the end of a key follows its making");
        keys.kept.remove(&number).expect("a key ends once");
    }

    pub(super) fn api_key_to_undo(&self, organizer: UserId, number: ApiKeyNumber) -> KeptApiKey {
        self.api_keys[&organizer].kept[&number].clone()
    }

    pub(super) fn undo_api_key_ended(&mut self, organizer: UserId, number: ApiKeyNumber, before: KeptApiKey) {
        let keys = self.api_keys.get_mut(&organizer).expect("the organizer had the key");
        keys.kept.insert(number, before);
    }

    /// A key that was not ended. Its account may have changed, which ends it, too.
    pub(super) fn api_key(&self, organizer: UserId, number: ApiKeyNumber) -> Option<Box<ApiKeyView>> {
        let kept = self.api_keys.get(&organizer)?.kept.get(&number)?;
        Some(Box::new(view(organizer, number, kept)))
    }

    /// The keys of an organizer that were not ended, by number: [`API_KEYS_MAX`] at most.
    pub(super) fn api_keys_of(&self, organizer: UserId) -> Vec<ApiKeyView> {
        let kept = self.api_keys.get(&organizer).into_iter().flat_map(|keys| &keys.kept);
        kept.map(|(&number, kept)| view(organizer, number, kept)).collect()
    }
}

fn view(organizer: UserId, number: ApiKeyNumber, kept: &KeptApiKey) -> ApiKeyView {
    let KeptApiKey { key, created_at } = kept;
    ApiKeyView { organizer, number, key: key.clone(), created_at: *created_at }
}
