//! Phase 1: everything in this process's memory.
//!
//! Where the data is: in a hash map of accounts by name, and a hash map of events under a read-write
//! lock. Each event has its own mutex over its counters and a vector of its reservations, indexed by
//! their numbers.
//!
//! What can be lost: everything, at every exit. Nothing is written to disk.
//!
//! What can be oversold: nothing while it runs, since check and count are under one mutex.
//!
//! What limits its speed: HTTP, JSON and the token's HMAC. The mutex of a popular event is held for
//! some tens of nanoseconds per reservation, so it is the limit only with many cores, and only for
//! that event. Memory grows with each reservation ever made.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use jiff::Timestamp;

use crate::domain::{
    Account, Actor, Event, EventPatch, NewAccount, NewEvent, Refusal, Reservation, ReservationId, Store, now,
};

/// All accounts, events and reservations; phase 3 uses it too. A `journal` function is called with
/// each change while the lock is held, so that it gets the changes of an event in order.
#[derive(Default)]
pub(crate) struct Book {
    accounts: RwLock<HashMap<String, Account>>,
    events: RwLock<HashMap<i64, Arc<Mutex<Sales>>>>,
}

struct Sales {
    event: Event,
    /// The reservations from number 1 on, without gaps.
    reservations: Vec<Reservation>,
}

impl Book {
    /// Restores recorded data; reservations must be in the order of their numbers.
    ///
    /// # Errors
    ///
    /// When the reservations of an event are not numbered from 1 without gaps.
    pub(crate) fn load(
        accounts: Vec<Account>,
        events: Vec<Event>,
        reservations: Vec<Reservation>,
    ) -> Result<Book, String> {
        let named = |account: Account| (account.username.clone(), account);
        let mut sales: HashMap<i64, Sales> =
            events.into_iter().map(|event| (event.id, Sales { event, reservations: Vec::new() })).collect();
        for reservation in reservations {
            let id = reservation.id;
            let Some(sales) = sales.get_mut(&id.event) else {
                return Err(format!("reservation {id} is of an event that is not there"));
            };
            if id.number != sales.reservations.len() as i64 + 1 {
                return Err(format!("reservation {id} does not follow the one before it"));
            }
            sales.reservations.push(reservation);
        }
        let events = sales.into_iter().map(|(id, sales)| (id, Arc::new(Mutex::new(sales)))).collect();
        Ok(Book {
            accounts: RwLock::new(accounts.into_iter().map(named).collect()),
            events: RwLock::new(events),
        })
    }

    pub(crate) fn create_account(
        &self,
        new: NewAccount,
        journal: impl FnOnce(&Account),
    ) -> Result<Account, Refusal> {
        let mut accounts = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        let id = accounts.len() as i64 + 1;
        match accounts.entry(new.username) {
            Entry::Occupied(_) => Err(Refusal::UsernameTaken),
            Entry::Vacant(vacant) => {
                let account = Account {
                    id,
                    username: vacant.key().clone(),
                    role: new.role,
                    password_hash: new.password_hash,
                };
                journal(&account);
                Ok(vacant.insert(account).clone())
            }
        }
    }

    pub(crate) fn account(&self, username: &str) -> Option<Account> {
        self.accounts.read().unwrap_or_else(PoisonError::into_inner).get(username).cloned()
    }

    pub(crate) fn create_event(&self, new: NewEvent, journal: impl FnOnce(&Event)) -> Result<Event, Refusal> {
        let mut events = self.events.write().unwrap_or_else(PoisonError::into_inner);
        let id = new.id.unwrap_or_else(|| events.keys().max().map_or(1, |last| last + 1));
        match events.entry(id) {
            Entry::Occupied(_) => Err(Refusal::EventExists),
            Entry::Vacant(vacant) => {
                let event = Event::new(id, new, now());
                journal(&event);
                let sales = Sales { event: event.clone(), reservations: Vec::new() };
                vacant.insert(Arc::new(Mutex::new(sales)));
                Ok(event)
            }
        }
    }

    fn sales(&self, id: i64) -> Result<Arc<Mutex<Sales>>, Refusal> {
        let events = self.events.read().unwrap_or_else(PoisonError::into_inner);
        events.get(&id).cloned().ok_or(Refusal::NotFound)
    }

    pub(crate) fn event(&self, id: i64) -> Result<Event, Refusal> {
        let sales = self.sales(id)?;
        let sales = locked(&sales);
        sales.event.live()?;
        Ok(sales.event.clone())
    }

    pub(crate) fn events(&self, after: i64, limit: usize) -> Vec<Event> {
        let events = self.events.read().unwrap_or_else(PoisonError::into_inner);
        let mut ids: Vec<i64> = events.keys().copied().filter(|&id| id > after).collect();
        ids.sort_unstable();
        let live = |id: i64| Some(locked(&events[&id]).event.clone()).filter(|event| !event.deleted);
        ids.into_iter().filter_map(live).take(limit).collect()
    }

    pub(crate) fn edit_event(
        &self,
        actor: Actor,
        id: i64,
        patch: EventPatch,
        journal: impl FnOnce(&Event),
    ) -> Result<Event, Refusal> {
        let sales = self.sales(id)?;
        let mut sales = locked(&sales);
        sales.event.managed_by(actor)?;
        sales.event.edit(patch, now())?;
        journal(&sales.event);
        Ok(sales.event.clone())
    }

    pub(crate) fn delete_event(
        &self,
        actor: Actor,
        id: i64,
        force: bool,
        journal: impl FnOnce(Timestamp),
    ) -> Result<(), Refusal> {
        let sales = self.sales(id)?;
        let mut sales = locked(&sales);
        sales.event.managed_by(actor)?;
        let reserved = sales.event.reserved;
        if reserved > 0 && !force {
            return Err(Refusal::HasReservations { reserved });
        }
        let now = now();
        sales.event.deleted = true;
        sales.event.reserved = 0;
        sales.event.updated_at = now;
        for reservation in &mut sales.reservations {
            reservation.cancelled_at.get_or_insert(now);
        }
        journal(now);
        Ok(())
    }

    /// Makes a reservation. The journal gets the event after the change, and the reservation.
    pub(crate) fn reserve(
        &self,
        event: i64,
        customer: i64,
        quantity: i32,
        journal: impl FnOnce(&Event, &Reservation),
    ) -> Result<Reservation, Refusal> {
        let sales = self.sales(event)?;
        let mut sales = locked(&sales);
        sales.event.offers(quantity)?;
        sales.event.reserved += quantity;
        sales.event.last_number += 1;
        let id = ReservationId { event, number: sales.event.last_number };
        let reservation = Reservation { id, customer, quantity, created_at: now(), cancelled_at: None };
        journal(&sales.event, &reservation);
        sales.reservations.push(reservation.clone());
        Ok(reservation)
    }

    pub(crate) fn reservation(&self, actor: Actor, id: ReservationId) -> Result<Reservation, Refusal> {
        let sales = self.sales(id.event)?;
        let sales = locked(&sales);
        let found = sales.reservations.get(index(id)).ok_or(Refusal::NotFound)?;
        found.seen_by(actor, sales.event.organizer)?;
        Ok(found.clone())
    }

    /// Cancels a reservation. The journal gets the event after the change, and the time.
    pub(crate) fn cancel(
        &self,
        actor: Actor,
        id: ReservationId,
        journal: impl FnOnce(&Event, Timestamp),
    ) -> Result<(), Refusal> {
        let sales = self.sales(id.event)?;
        let mut sales = locked(&sales);
        let Sales { event, reservations } = &mut *sales;
        let found = reservations.get_mut(index(id)).ok_or(Refusal::NotFound)?;
        found.seen_by(actor, event.organizer)?;
        if found.cancelled_at.is_none() {
            let now = now();
            found.cancelled_at = Some(now);
            event.reserved -= found.quantity;
            journal(event, now);
        }
        Ok(())
    }
}

/// Locks the sales of an event, also after a panic of another thread: nothing between two changes of
/// the counters can panic, so they are consistent.
fn locked(sales: &Mutex<Sales>) -> MutexGuard<'_, Sales> {
    sales.lock().unwrap_or_else(PoisonError::into_inner)
}

fn index(id: ReservationId) -> usize {
    usize::try_from(id.number - 1).unwrap_or(usize::MAX)
}

/// Phase 1 uses the state without a journal.
impl Store for Book {
    async fn create_account(&self, new: NewAccount) -> Result<Account, Refusal> {
        self.create_account(new, |_| {})
    }

    async fn account(&self, username: &str) -> Result<Option<Account>, Refusal> {
        Ok(self.account(username))
    }

    async fn create_event(&self, new: NewEvent) -> Result<Event, Refusal> {
        self.create_event(new, |_| {})
    }

    async fn event(&self, id: i64) -> Result<Event, Refusal> {
        self.event(id)
    }

    async fn events(&self, after: i64, limit: usize) -> Result<Vec<Event>, Refusal> {
        Ok(self.events(after, limit))
    }

    async fn edit_event(&self, actor: Actor, id: i64, patch: EventPatch) -> Result<Event, Refusal> {
        self.edit_event(actor, id, patch, |_| {})
    }

    async fn delete_event(&self, actor: Actor, id: i64, force: bool) -> Result<(), Refusal> {
        self.delete_event(actor, id, force, |_| {})
    }

    async fn reserve(&self, event: i64, customer: i64, quantity: i32) -> Result<Reservation, Refusal> {
        self.reserve(event, customer, quantity, |_, _| {})
    }

    async fn reservation(&self, actor: Actor, id: ReservationId) -> Result<Reservation, Refusal> {
        self.reservation(actor, id)
    }

    async fn cancel(&self, actor: Actor, id: ReservationId) -> Result<(), Refusal> {
        self.cancel(actor, id, |_, _| {})
    }

    async fn flush(&self) -> Result<(), String> {
        Ok(())
    }
}
