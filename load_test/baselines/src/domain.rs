//! The types of the domain, in the form of the API, and the trait of a store.

use std::fmt;
use std::future::Future;
use std::str::FromStr;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// The maximum number of tickets of an event and of a reservation.
pub(crate) const QUOTA_MAX: i32 = 10_000_000;

/// The number of tickets of a reservation: 1 to [`QUOTA_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quantity(pub(crate) i32);

/// The quota of an event: 0 to [`QUOTA_MAX`] tickets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota(pub(crate) i32);

/// Parses a whole number. `2.0` and `2e0` are the number 2, as in JSON Schema.
fn whole_number(value: &Value) -> Option<i64> {
    let from_fraction =
        |number: f64| (number.fract() == 0.0 && number.abs() <= 9e15).then_some(number as i64);
    value.as_i64().or_else(|| value.as_f64().and_then(from_fraction))
}

fn tickets<'de, D: Deserializer<'de>>(deserializer: D, least: i32) -> Result<i32, D::Error> {
    let number = whole_number(&Value::deserialize(deserializer)?).and_then(|n| i32::try_from(n).ok());
    number
        .filter(|number| (least..=QUOTA_MAX).contains(number))
        .ok_or_else(|| D::Error::custom(format!("must be a whole number from {least} to {QUOTA_MAX}")))
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Quantity, D::Error> {
        tickets(deserializer, 1).map(Quantity)
    }
}

impl<'de> Deserialize<'de> for Quota {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Quota, D::Error> {
        tickets(deserializer, 0).map(Quota)
    }
}

/// The role of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    Customer,
    Organizer,
    Admin,
}

impl Role {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Role::Customer => "customer",
            Role::Organizer => "organizer",
            Role::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        [Role::Customer, Role::Organizer, Role::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no role"))
    }
}

/// The account of a verified token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Actor {
    pub(crate) user: i64,
    pub(crate) role: Role,
}

#[derive(Debug, Clone)]
pub(crate) struct NewAccount {
    pub(crate) username: String,
    pub(crate) role: Role,
    /// argon2id, in PHC string format.
    pub(crate) password_hash: String,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Account {
    pub(crate) id: i64,
    pub(crate) username: String,
    pub(crate) role: Role,
    #[serde(skip)]
    pub(crate) password_hash: String,
}

#[derive(Debug, Clone)]
pub(crate) struct NewEvent {
    /// `None` for the next free id.
    pub(crate) id: Option<i64>,
    pub(crate) organizer: i64,
    pub(crate) name: String,
    pub(crate) quota: i32,
}

#[derive(Debug, Clone)]
pub(crate) struct EventPatch {
    pub(crate) name: Option<String>,
    pub(crate) quota: Option<i32>,
}

/// An event: `quota = reserved + remaining` in every response.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) organizer: i64,
    pub(crate) quota: i32,
    pub(crate) reserved: i32,
    /// The number of the newest reservation; 0 before the first.
    pub(crate) last_number: i64,
    /// The version of the name and the quota.
    pub(crate) version: i64,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) deleted: bool,
}

impl Event {
    pub(crate) fn new(id: i64, new: NewEvent, now: Timestamp) -> Event {
        Event {
            id,
            name: new.name,
            organizer: new.organizer,
            quota: new.quota,
            reserved: 0,
            last_number: 0,
            version: 1,
            created_at: now,
            updated_at: now,
            deleted: false,
        }
    }

    /// Checks that the event exists.
    ///
    /// # Errors
    ///
    /// When the event was deleted.
    pub(crate) fn live(&self) -> Result<(), Refusal> {
        if self.deleted { Err(Refusal::EventDeleted) } else { Ok(()) }
    }

    /// Checks that the actor may manage the event.
    ///
    /// # Errors
    ///
    /// When the event was deleted, or belongs to another organizer and the actor is not an admin.
    pub(crate) fn managed_by(&self, actor: Actor) -> Result<(), Refusal> {
        self.live()?;
        let may = actor.role == Role::Admin || actor.user == self.organizer;
        if may { Ok(()) } else { Err(Refusal::NotYourEvent) }
    }

    /// Checks that this number of tickets is available.
    ///
    /// # Errors
    ///
    /// When the event was deleted, or has fewer tickets left.
    pub(crate) fn offers(&self, quantity: i32) -> Result<(), Refusal> {
        self.live()?;
        let remaining = self.quota - self.reserved;
        if quantity > remaining { Err(Refusal::SoldOut { remaining }) } else { Ok(()) }
    }

    /// Applies an edit.
    ///
    /// # Errors
    ///
    /// When more tickets are reserved than the new quota.
    pub(crate) fn edit(&mut self, patch: EventPatch, now: Timestamp) -> Result<(), Refusal> {
        if patch.quota.is_some_and(|quota| quota < self.reserved) {
            return Err(Refusal::QuotaBelowCommitted { committed: self.reserved });
        }
        self.name = patch.name.unwrap_or_else(|| std::mem::take(&mut self.name));
        self.quota = patch.quota.unwrap_or(self.quota);
        self.version += 1;
        self.updated_at = now;
        Ok(())
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct View<'e> {
            id: i64,
            name: &'e str,
            organizer: i64,
            quota: i32,
            reserved: i32,
            held: i32,
            remaining: i32,
            created_at: Rfc3339,
            updated_at: Rfc3339,
        }
        let view = View {
            id: self.id,
            name: &self.name,
            organizer: self.organizer,
            quota: self.quota,
            reserved: self.reserved,
            held: 0,
            remaining: self.quota - self.reserved,
            created_at: Rfc3339(self.created_at),
            updated_at: Rfc3339(self.updated_at),
        };
        view.serialize(serializer)
    }
}

/// The id of a reservation. As text, `7-42` is the 42nd reservation of event 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ReservationId {
    pub(crate) event: i64,
    pub(crate) number: i64,
}

impl fmt::Display for ReservationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.event, self.number)
    }
}

impl FromStr for ReservationId {
    type Err = ();

    fn from_str(text: &str) -> Result<ReservationId, ()> {
        let (event, number) = text.split_once('-').ok_or(())?;
        let id = |text: &str| text.parse().ok().filter(|&id| id > 0).ok_or(());
        Ok(ReservationId { event: id(event)?, number: id(number)? })
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Reservation {
    pub(crate) id: ReservationId,
    pub(crate) customer: i64,
    pub(crate) quantity: i32,
    pub(crate) created_at: Timestamp,
    pub(crate) cancelled_at: Option<Timestamp>,
}

impl Reservation {
    /// Checks that the actor may see the reservation.
    ///
    /// # Errors
    ///
    /// When the reservation is neither the actor's own nor of the actor's event, and the actor is not
    /// an admin.
    pub(crate) fn seen_by(&self, actor: Actor, organizer: i64) -> Result<(), Refusal> {
        let may = match actor.role {
            Role::Customer => actor.user == self.customer,
            Role::Organizer => actor.user == organizer,
            Role::Admin => true,
        };
        if may { Ok(()) } else { Err(Refusal::NotFound) }
    }
}

impl Serialize for Reservation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct View<'r> {
            id: Text<'r, ReservationId>,
            event: i64,
            customer: i64,
            quantity: i32,
            status: &'static str,
            created_at: Rfc3339,
            #[serde(skip_serializing_if = "Option::is_none")]
            cancelled_at: Option<Rfc3339>,
        }
        let view = View {
            id: Text(&self.id),
            event: self.id.event,
            customer: self.customer,
            quantity: self.quantity,
            status: if self.cancelled_at.is_some() { "cancelled" } else { "confirmed" },
            created_at: Rfc3339(self.created_at),
            cancelled_at: self.cancelled_at.map(Rfc3339),
        };
        view.serialize(serializer)
    }
}

/// Formats a JSON string.
struct Text<'t, T>(&'t T);

impl<T: fmt::Display> Serialize for Text<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self.0)
    }
}

/// Formats a time in UTC with milliseconds.
struct Rfc3339(Timestamp);

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.3}", self.0))
    }
}

/// The current time in whole milliseconds, the precision of every store.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::now().as_millisecond();
    Timestamp::from_millisecond(now).expect("the clock is within jiff's years")
}

/// Why a store refused a request or failed.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    SoldOut {
        remaining: i32,
    },
    QuotaBelowCommitted {
        committed: i32,
    },
    HasReservations {
        reserved: i32,
    },
    UsernameTaken,
    EventExists,
    EventDeleted,
    NotYourEvent,
    NotFound,
    /// The store is overloaded, and nothing was done.
    Overloaded,
    /// PostgreSQL or Redis failed; the request may have been carried out.
    Failed(String),
}

/// The data store of a phase.
pub(crate) trait Store: Send + Sync + 'static {
    fn create_account(&self, new: NewAccount) -> impl Future<Output = Result<Account, Refusal>> + Send;
    fn account(&self, username: &str) -> impl Future<Output = Result<Option<Account>, Refusal>> + Send;

    fn create_event(&self, new: NewEvent) -> impl Future<Output = Result<Event, Refusal>> + Send;
    /// Reads an event; a deleted one is refused.
    fn event(&self, id: i64) -> impl Future<Output = Result<Event, Refusal>> + Send;
    /// Lists the events with an id above `after`, in order of their ids, without deleted ones.
    fn events(&self, after: i64, limit: usize) -> impl Future<Output = Result<Vec<Event>, Refusal>> + Send;
    fn edit_event(
        &self,
        actor: Actor,
        id: i64,
        patch: EventPatch,
    ) -> impl Future<Output = Result<Event, Refusal>> + Send;
    /// Deletes an event. With `force` its reservations are cancelled; without it they are a refusal.
    fn delete_event(
        &self,
        actor: Actor,
        id: i64,
        force: bool,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;

    fn reserve(
        &self,
        event: i64,
        customer: i64,
        quantity: i32,
    ) -> impl Future<Output = Result<Reservation, Refusal>> + Send;
    fn reservation(
        &self,
        actor: Actor,
        id: ReservationId,
    ) -> impl Future<Output = Result<Reservation, Refusal>> + Send;
    /// Cancels a reservation. Cancelling it again has no effect.
    fn cancel(&self, actor: Actor, id: ReservationId) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Writes all queued changes.
    ///
    /// # Errors
    ///
    /// The number of changes that could not be written, and the reason.
    fn flush(&self) -> impl Future<Output = Result<(), String>> + Send;
}
