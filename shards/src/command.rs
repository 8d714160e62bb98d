//! What may be asked of a shard: a [`Command`] may change state, a [`Query`] may not.
//!
//! Everything in here is already parsed and authenticated. Whether the asker's
//! role may do it at all is decided before; what depends on who owns the thing
//! asked for is decided by the shard that has it.

use crate::ids::{EventId, Quantity, Quota, ReservationId, Role, Slot, UserId, Username};
use crate::slots::{slot_of_event, slot_of_username};

/// What is asked of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Command(Command),
    Query(Query),
}

/// Who acts, or asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor {
    pub user: UserId,
    pub role: Role,
}

/// Whom tickets are for, which may be another than who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buyer {
    Account(UserId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    CreateUser(Box<CreateUser>),
    ChangePassword(Box<ChangePassword>),
    ChangeRole(Box<ChangeRole>),
    /// The account can no longer be used; what it reserved stays.
    RemoveUser(Box<RemoveUser>),
    CreateEvent(Box<CreateEvent>),
    EditEvent(Box<EditEvent>),
    DeleteEvent {
        event: EventId,
        actor: Actor,
        /// Cancels what is reserved; without it live reservations refuse the deletion.
        force: bool,
    },
    Reserve {
        event: EventId,
        actor: Actor,
        buyer: Buyer,
        quantity: Quantity,
    },
    Cancel {
        reservation: ReservationId,
        actor: Actor,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateUser {
    /// Fresh: never given to anyone before.
    pub id: UserId,
    pub username: Username,
    /// In PHC string format.
    pub password_hash: Box<str>,
    pub role: Role,
    /// 64 random bits that this account's tokens carry.
    pub token_version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePassword {
    pub user: UserId,
    pub username: Username,
    /// What the account had when its present password was looked at.
    pub token_version: u64,
    /// In PHC string format.
    pub password_hash: Box<str>,
    /// 64 fresh random bits: tokens that carry others end.
    pub next_token_version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRole {
    pub user: UserId,
    pub username: Username,
    /// The admin.
    pub by: UserId,
    pub role: Role,
    /// 64 fresh random bits: tokens that carry others end.
    pub next_token_version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveUser {
    pub user: UserId,
    pub username: Username,
    /// The admin.
    pub by: UserId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateEvent {
    /// Fresh: never given to any event before.
    pub id: EventId,
    pub organizer: UserId,
    pub name: EventName,
    pub quota: Quota,
}

/// What is `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditEvent {
    pub event: EventId,
    pub actor: Actor,
    pub name: Option<EventName>,
    pub quota: Option<Quota>,
}

/// 1 to [`crate::limits::EVENT_NAME_CHARS_MAX`] characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventName(Box<str>);

impl EventName {
    /// `None` when it breaks the rule above, or is nothing but white space.
    pub fn new(text: &str) -> Option<EventName> {
        let length_fits = text.chars().count() <= crate::limits::EVENT_NAME_CHARS_MAX;
        // A byte order mark is white space to ECMAScript, and so to the contract's patterns.
        let is_blank = |c: char| c.is_whitespace() || c == '\u{feff}';
        let readable = !text.chars().all(is_blank) && !text.chars().any(char::is_control);
        (length_fits && readable).then(|| EventName(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_inner(self) -> Box<str> {
        self.0
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    Account {
        username: Username,
    },
    /// The account of an id, if this shard has it.
    AccountOf {
        user: UserId,
    },
    /// Whether a token of that account and version is still good.
    TokenStands {
        user: UserId,
        username: Username,
        token_version: u64,
    },
    /// This shard's part of the accounts by id, those after `after`.
    Users {
        after: Option<UserId>,
        limit: usize,
    },
    Event {
        event: EventId,
    },
    /// Events by id, those after `after`, of one organizer or of all.
    Events {
        after: Option<EventId>,
        limit: usize,
        organizer: Option<UserId>,
    },
    Reservation {
        reservation: ReservationId,
        actor: Actor,
    },
    /// An event's reservations by number, for its organizer and for admins.
    EventReservations {
        event: EventId,
        actor: Actor,
        after: Option<u32>,
        limit: usize,
    },
    /// This shard's part of a customer's reservations, by event, then number.
    CustomerReservations {
        customer: UserId,
        after: Option<ReservationId>,
        limit: usize,
    },
    /// This shard's part of the totals over everything.
    Totals,
}

impl Ask {
    /// The one slot that is asked; `None` for a question to every slot.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Ask::Command(command) => Some(command.slot()),
            Ask::Query(query) => query.slot(),
        }
    }
}

impl Command {
    /// The slot that this command changes.
    pub fn slot(&self) -> Slot {
        match self {
            Command::CreateUser(create) => slot_of_username(&create.username),
            Command::ChangePassword(change) => slot_of_username(&change.username),
            Command::ChangeRole(change) => slot_of_username(&change.username),
            Command::RemoveUser(remove) => slot_of_username(&remove.username),
            Command::CreateEvent(create) => slot_of_event(create.id),
            Command::EditEvent(edit) => slot_of_event(edit.event),
            Command::DeleteEvent { event, .. } | Command::Reserve { event, .. } => slot_of_event(*event),
            Command::Cancel { reservation, .. } => slot_of_event(reservation.event),
        }
    }
}

impl Query {
    /// The slot that this query is about; `None` for one over all slots, of which each shard answers a part.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Query::Account { username } | Query::TokenStands { username, .. } => {
                Some(slot_of_username(username))
            }
            Query::Event { event } | Query::EventReservations { event, .. } => Some(slot_of_event(*event)),
            Query::Reservation { reservation, .. } => Some(slot_of_event(reservation.event)),
            Query::AccountOf { .. }
            | Query::Users { .. }
            | Query::Events { .. }
            | Query::CustomerReservations { .. }
            | Query::Totals => None,
        }
    }
}
