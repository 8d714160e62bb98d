//! The records on disk, applied in order to the oracle's own state.

use super::change::change_of_record;
use super::event::EventState;
use super::history::History;
use super::{Oracle, Violation};
use crate::command::Buyer;
use crate::ids::{EventId, Slot, Username};
use crate::outcome::AccountView;
use crate::record::{Entry, Record};

impl Oracle {
    /// Applies a record that is on disk, and stays there. `owns` says which slots the shard has that wrote it.
    pub(in crate::simulation) fn add_record(
        &mut self,
        entry: &Entry,
        owns: impl Fn(Slot) -> bool,
    ) -> Result<(), Violation> {
        self.times.entry(entry.slot).or_default().add(entry)?;
        self.keys.add(entry, &owns)?;
        let is_settled_before = matches!(&entry.record, Record::KeyKept(kept) if !kept.gives_event_id());
        if is_settled_before || matches!(entry.record, Record::TimeSetBack | Record::KeysAged { .. }) {
            return Ok(());
        }
        let change = change_of_record(&entry.record);
        self.settle(change, entry)?;
        if let &Record::Reserved { buyer: Buyer::Account(account), .. } = &entry.record
            && self.reservation_count(account, owns) >= self.reservations_max as usize
        {
            return Err(format!("above the limit of {}: {entry:?}", self.reservations_max));
        }
        match &entry.record {
            Record::UserCreated(user) => {
                let account = AccountView {
                    id: user.id,
                    username: user.username.clone(),
                    password_hash: user.password_hash.clone(),
                    role: user.role,
                    token_version: user.token_version,
                    removed: false,
                };
                let mut accounts = self.accounts.values().flat_map(History::last);
                if accounts.any(|other| other.id == account.id) {
                    return Err(format!("a user's id was used twice: {account:?}"));
                }
                self.accounts.entry(user.username.clone()).or_default().states.push((change, account));
            }
            Record::PasswordChanged(changed) => {
                let mut account = self.usable_account(&changed.username, &entry.record)?;
                account.password_hash = changed.password_hash.clone();
                account.token_version = changed.token_version;
                self.accounts.entry(changed.username.clone()).or_default().states.push((change, account));
            }
            Record::RoleChanged(changed) => {
                let mut account = self.usable_account(&changed.username, &entry.record)?;
                account.role = changed.role;
                account.token_version = changed.token_version;
                self.accounts.entry(changed.username.clone()).or_default().states.push((change, account));
            }
            Record::UserRemoved(removed) => {
                let mut account = self.usable_account(&removed.username, &entry.record)?;
                account.password_hash = "".into();
                account.removed = true;
                self.accounts.entry(removed.username.clone()).or_default().states.push((change, account));
            }
            Record::EventCreated(_)
            | Record::EventEdited(_)
            | Record::EventDeleted { .. }
            | Record::Reserved { .. }
            | Record::Cancelled { .. }
            | Record::Reduced { .. } => {
                let history = self.events.entry(EventId(change.1)).or_default();
                let state = EventState::after(history.last(), entry.at, &entry.record)?;
                history.states.push((change, state));
            }
            Record::KeyKept(_) => {}
            Record::TimeSetBack | Record::KeysAged { .. } => unreachable!("no client asks for it"),
        }
        Ok(())
    }

    fn usable_account(&self, username: &Username, record: &Record) -> Result<AccountView, Violation> {
        let account = self.accounts.get(username).and_then(History::last).filter(|account| !account.removed);
        account.cloned().ok_or_else(|| format!("no account for {record:?}"))
    }
}
