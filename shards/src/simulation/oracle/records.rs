//! The records on disk, applied in order to the oracle's own state.

use std::collections::BTreeSet;

use super::change::{Change, change_of_record};
use super::event::{EventState, extended};
use super::history::History;
use super::{Oracle, Violation};
use crate::command::Buyer;
use crate::ids::{EventId, ReservationId, Slot, Timestamp, Username};
use crate::outcome::AccountView;
use crate::record::{Entry, Record};
use crate::slots::slot_of_event;

impl Oracle {
    /// Applies a record that is on disk, and stays there. `owns` says which slots the shard has that wrote it.
    pub(in crate::simulation) fn add_record(
        &mut self,
        entry: &Entry,
        owns: impl Fn(Slot) -> bool,
    ) -> Result<(), Violation> {
        if let Some(event) = entry.record.event() {
            self.records.entry(event).or_default().push(entry.clone());
        }
        let has_live_holds = self.slots_with_holds().contains(&entry.slot);
        self.times.entry(entry.slot).or_default().add(entry, has_live_holds)?;
        let view_of = |id: ReservationId| {
            let state = self.events.get(&id.event)?.last()?;
            state.reservations.get(id.number as usize - 1).cloned()
        };
        let order_of = |id| Oracle::order_view(&self.orders, id);
        self.keys.add(entry, view_of, order_of, &owns)?;
        let is_settled_before = matches!(&entry.record, Record::KeyKept(kept) if !kept.gives_event_id());
        if is_settled_before || matches!(entry.record, Record::TimeSetBack | Record::KeysAged { .. }) {
            return Ok(());
        }
        if matches!(entry.record, Record::ApiKeyEnded { .. }) && entry.continues {
            return self.add_api_key_record(entry);
        }
        let change = change_of_record(&entry.record);
        match entry.record {
            // No client asks for these.
            Record::TimeSetBack => return Ok(()),
            Record::HoldsExtended { from } => {
                self.extend_holds(entry.slot, from, change);
                return Ok(());
            }
            // These follow from what clients asked for before.
            Record::HoldsExpired { .. }
            | Record::PartPrepared(_)
            | Record::OrderExpired { .. }
            | Record::OrderSettled { .. } => {}
            Record::PartSettled(ref part) => self.check_part_settled(part)?,
            _ => self.settle(change, entry)?,
        }
        if let Some(gain) = entry.record.gain()
            && (gain.is_new || matches!(gain.buyer, Buyer::Account(_)))
            && self.count_of_limit(gain.by.user, gain.buyer, owns).1 >= self.reservations_max as usize
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
                    key_version: user.token_version,
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
                account.key_version = changed.token_version;
                self.accounts.entry(changed.username.clone()).or_default().states.push((change, account));
            }
            Record::RoleChanged(changed) => {
                let mut account = self.usable_account(&changed.username, &entry.record)?;
                account.role = changed.role;
                account.token_version = changed.token_version;
                account.key_version = changed.token_version;
                self.accounts.entry(changed.username.clone()).or_default().states.push((change, account));
            }
            Record::UserRemoved(removed) => {
                let mut account = self.usable_account(&removed.username, &entry.record)?;
                account.password_hash = "".into();
                account.removed = true;
                self.accounts.entry(removed.username.clone()).or_default().states.push((change, account));
            }
            Record::TokensEnded(ended) => {
                let mut account = self.usable_account(&ended.username, &entry.record)?;
                account.token_version = ended.token_version;
                self.accounts.entry(ended.username.clone()).or_default().states.push((change, account));
            }
            Record::ApiKeyMade(_) | Record::ApiKeyEnded { .. } => self.add_api_key_record(entry)?,
            Record::EventCreated(_)
            | Record::EventEdited(_)
            | Record::EventDeleted { .. }
            | Record::Reserved { .. }
            | Record::Held(_)
            | Record::Confirmed { .. }
            | Record::Released { .. }
            | Record::HoldsExpired { .. }
            | Record::PartPrepared(_)
            | Record::PartSettled(_)
            | Record::Cancelled { .. }
            | Record::Reduced { .. }
            | Record::Transferred(_) => {
                let history = self.events.entry(EventId(change.1)).or_default();
                let state = EventState::after(history.last(), entry)?;
                history.states.push((change, state));
            }
            Record::OrderPlaced(_)
            | Record::OrderConfirmed { .. }
            | Record::OrderCancelled { .. }
            | Record::OrderExpired { .. }
            | Record::OrderSettled { .. } => self.add_order_record(entry, change)?,
            Record::KeyKept(_) => {}
            Record::TimeSetBack | Record::KeysAged { .. } | Record::HoldsExtended { .. } => {
                unreachable!("handled above")
            }
        }
        Ok(())
    }

    /// The slots with holds that have deadlines.
    pub(super) fn slots_with_holds(&self) -> BTreeSet<Slot> {
        let has_holds = |history: &History<EventState>| history.last().is_some_and(EventState::has_deadlines);
        let live = self.events.iter().filter(|(_, history)| has_holds(history));
        live.map(|(&event, _)| slot_of_event(event)).chain(self.slots_of_held_orders()).collect()
    }

    fn extend_holds(&mut self, slot: Slot, from: Timestamp, change: Change) {
        for (_, history) in self.events.iter_mut().filter(|&(&event, _)| slot_of_event(event) == slot) {
            if let Some(state) = history.last().and_then(|state| state.extended(from)) {
                history.states.push((change, state));
            }
        }
        self.extend_orders(slot, change, |end| extended(end, from));
    }

    fn usable_account(&self, username: &Username, record: &Record) -> Result<AccountView, Violation> {
        let account = self.accounts.get(username).and_then(History::last).filter(|account| !account.removed);
        account.cloned().ok_or_else(|| format!("no account for {record:?}"))
    }
}
