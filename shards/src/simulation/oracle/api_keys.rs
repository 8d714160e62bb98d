//! API keys: those of each organizer after each of its records, and the rules for them.

use super::change::{change_of_command, change_of_record};
use super::{Exchange, Known, Oracle, Violation};
use crate::api_keys::ApiKeyView;
use crate::command::{Ask, Command, Query};
use crate::ids::{ApiKeyNumber, UserId};
use crate::limits::API_KEYS_MAX;
use crate::outcome::{Outcome, Rejection};
use crate::record::{Entry, Record};

/// The keys of an organizer.
#[derive(Debug, Clone, Default)]
pub(super) struct KeysOfOrganizer {
    kept: Vec<ApiKeyView>,
    /// Keys of which the records say that they are forgotten together with the next key's making.
    over: Vec<ApiKeyNumber>,
    last: u32,
}

impl Oracle {
    /// The organizer of a request about API keys.
    pub(super) fn organizer_of(ask: &Ask) -> Option<UserId> {
        match ask {
            Ask::Command(Command::MakeApiKey(make)) => Some(make.organizer),
            Ask::Command(Command::EndApiKey(end)) => Some(end.organizer),
            Ask::Query(Query::ApiKey { organizer, .. } | Query::ApiKeys { organizer }) => Some(*organizer),
            Ask::Command(_) | Ask::Query(_) => None,
        }
    }

    /// Checks a reply to a request about API keys. Also returns whether it is that of a record which this command made.
    pub(super) fn check_api_keys(
        &mut self,
        organizer: UserId,
        exchange: Exchange<'_>,
    ) -> Result<(Known, bool), Violation> {
        let is_outstanding = match exchange.ask {
            Ask::Command(command) => self.is_outstanding(change_of_command(command)),
            Ask::Query(_) => false,
        };
        let history = self.api_keys.entry(organizer).or_default();
        let expected = |state: Option<&_>| expected(state, exchange.ask);
        let (count, made_a_record) = match exchange.ask {
            Ask::Command(command) => {
                let outcome = |state: &KeysOfOrganizer| match command {
                    Command::MakeApiKey(_) => Outcome::ApiKey(state.kept.last().cloned().map(Box::new)),
                    _ => Outcome::ApiKeyEnded(organizer),
                };
                let change = change_of_command(command);
                history.find_answer(change, exchange, expected, outcome, |_| true, is_outstanding)?
            }
            Ask::Query(_) => {
                let is_right =
                    |state: Option<&_>| expected(state).transpose().as_ref() == Some(exchange.reply);
                (history.find(exchange, is_right)?, false)
            }
        };
        Ok((Known::ApiKeys(organizer, count), made_a_record))
    }

    /// Applies a record of API keys.
    pub(super) fn add_api_key_record(&mut self, entry: &Entry) -> Result<(), Violation> {
        let wrong = || Err(format!("wrong for the keys before: {entry:?}"));
        let (organizer, number) = match &entry.record {
            Record::ApiKeyMade(made) => (made.organizer, made.number),
            Record::ApiKeyEnded { organizer, number } => (*organizer, *number),
            other => unreachable!("{other:?} is about no API key"),
        };
        let history = self.api_keys.entry(organizer).or_default();
        let mut keys = history.last().cloned().unwrap_or_default();
        keys.over.append(&mut self.api_keys_over);
        match &entry.record {
            Record::ApiKeyMade(made) => {
                if number.0 != keys.last + 1 {
                    return wrong();
                }
                let over = std::mem::take(&mut keys.over);
                keys.kept.retain(|one| !over.contains(&one.number));
                let (key, created_at) = (made.key.clone(), entry.at);
                keys.kept.push(ApiKeyView { organizer, number, key, created_at });
                keys.last = number.0;
            }
            _ if !keys.kept.iter().any(|one| one.number == number) => return wrong(),
            _ if entry.continues => {
                self.api_keys_over = keys.over;
                self.api_keys_over.push(number);
                return Ok(());
            }
            _ => keys.kept.retain(|one| one.number != number),
        }
        history.states.push((change_of_record(&entry.record), keys));
        Ok(())
    }
}

/// What the rules say to a request about the keys of an organizer; `None` if a command makes a record.
fn expected(keys: Option<&KeysOfOrganizer>, ask: &Ask) -> Result<Option<Outcome>, Rejection> {
    let none = KeysOfOrganizer::default();
    let keys = keys.unwrap_or(&none);
    let find = |number: ApiKeyNumber| keys.kept.iter().find(|one| one.number == number);
    Ok(match ask {
        Ask::Command(Command::MakeApiKey(make)) => {
            let stay = keys.kept.iter().filter(|one| !make.over.contains(&one.number));
            if stay.count() >= API_KEYS_MAX {
                return Err(Rejection::TooManyApiKeys);
            }
            None
        }
        Ask::Command(Command::EndApiKey(end)) if end.number.0 > keys.last => {
            return Err(Rejection::ApiKeyNotFound);
        }
        Ask::Command(Command::EndApiKey(end)) => match find(end.number) {
            Some(_) => None,
            None => Some(Outcome::ApiKeyEnded(end.organizer)),
        },
        Ask::Query(Query::ApiKey { number, .. }) => {
            Some(Outcome::ApiKey(find(*number).cloned().map(Box::new)))
        }
        Ask::Query(Query::ApiKeys { .. }) => Some(Outcome::ApiKeys(keys.kept.clone())),
        other => unreachable!("{other:?} is about no API key"),
    })
}
