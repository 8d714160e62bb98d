//! Replies of a shard: an [`Outcome`] or a [`Rejection`].
//!
//! A rejection is a result of the domain (sold out, not found...), never a fault of the machine.

mod orders;
mod statuses;

use std::ops::AddAssign;

use crate::api_keys::ApiKeyView;
use crate::command::Buyer;
use crate::details::EventDetails;
use crate::ids::{EventId, Lsn, OrderId, ReservationId, Role, Timestamp, UserId, Username};
use crate::record::Entry;
use crate::slots::SlotSet;
pub use orders::{OrderPart, OrderSlice, OrderStatus, OrderView, RefusedItem};
pub use statuses::{ReservationStatus, Statuses};

pub type Reply = Result<Outcome, Rejection>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Account(Option<Box<AccountView>>),
    /// A password or role was changed, an account removed, or its tokens were ended. Answered to the client only when no core
    /// accepts the account's earlier tokens any more.
    AccountChanged(UserView),
    /// Whether a token or an API key is still valid.
    Stands(bool),
    Users(Vec<UserView>),
    ApiKey(Option<Box<ApiKeyView>>),
    ApiKeys(Vec<ApiKeyView>),
    /// A key of this organizer has ended. Answered to the client only when no core accepts it any more.
    ApiKeyEnded(UserId),
    Event(Box<EventView>),
    Events(Vec<EventView>),
    EventDeleted,
    Availability(Availability),
    Availabilities(Vec<Availability>),
    Reservation(ReservationView),
    Reservations(Vec<ReservationView>),
    Order(Box<OrderView>),
    Orders(Box<OrderSlice>),
    /// Reservations of one event.
    ReservationSlice(Box<ReservationSlice>),
    Changes(Box<ChangeSlice>),
    /// Events, each with the position of its last record. None of their slots has a later record of one of them.
    ChangedEvents(Vec<(EventId, Lsn)>),
    /// The usernames of accounts, by id, removed ones included.
    Usernames(Vec<(UserId, Username)>),
    Cancelled,
    EventsCreated(u64),
    /// The event's id that a key has; `None` if it has none.
    GivenEventId(Option<EventId>),
    /// The answer that was first given to the key of a request, or to the creation of an event.
    Replayed(Box<Outcome>),
    Totals(Totals),
    /// One shard's answer to a query over all slots.
    Part(Box<Part>),
}

/// What a shard knows of its slots, and which slots these were when it looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub slots: SlotSet,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountView {
    pub id: UserId,
    pub username: Username,
    pub password_hash: Box<str>,
    pub role: Role,
    pub token_version: u64,
    /// The token version of the last change of password or role, which API keys carry.
    pub key_version: u64,
    /// Whether the account is unusable. Its username stays taken.
    pub removed: bool,
}

/// The part of an account that others may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserView {
    pub id: UserId,
    pub username: Username,
    pub role: Role,
}

/// An event. `quota = reserved + held + remaining`, always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventView {
    pub id: EventId,
    pub organizer: UserId,
    pub details: EventDetails,
    pub reserved: u32,
    pub held: u32,
    pub remaining: u32,
    /// The version of the editable part, from 1. Sales do not change it.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// The tickets of an event. `quota = reserved + held + remaining`, always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Availability {
    pub event: EventId,
    pub quota: u32,
    pub reserved: u32,
    pub held: u32,
    pub remaining: u32,
    /// The event's last record. Rises with each change of the event, and with nothing else.
    pub position: Lsn,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservationView {
    pub id: ReservationId,
    pub buyer: Buyer,
    pub quantity: u32,
    pub status: ReservationStatus,
    pub created_at: Timestamp,
    /// The end of the hold, in the steady time of its slot. Set when the status is `Held` or `Expired`, but not for a
    /// part of an order, which has no deadline of its own.
    pub expires_at: Option<Timestamp>,
    /// Set when the status is `Cancelled`.
    pub cancelled_at: Option<Timestamp>,
    /// The order that it is a part of.
    pub order: Option<OrderId>,
}

/// A part of an event's reservations, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservationSlice {
    pub views: Vec<ReservationView>,
    /// The number up to which the shard looked, if the range that was asked for goes on after it.
    pub next: Option<u32>,
    /// The event's last record.
    pub position: Lsn,
    /// The number of the event's last reservation; 0 if it has none.
    pub last: u32,
}

/// How far an event's records go, and those of a page that are in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeSlice {
    /// The event's last record.
    pub position: Lsn,
    /// Whether the event is deleted, so that no record will follow.
    pub is_deleted: bool,
    /// `None` if the page has to be read from the log. The records up to `position` are in it when this answer
    /// leaves.
    pub recent: Option<RecentChanges>,
}

/// Committed records of an event that follow a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentChanges {
    /// In order, without a gap.
    pub entries: Vec<Entry>,
    /// There is no other committed record up to this position.
    pub complete_to: Lsn,
}

/// Sums over a shard's events that are not deleted, and over its accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub events: u64,
    /// The accounts that are not removed.
    pub accounts: u64,
    /// The admins among them.
    pub admins: u64,
    pub quota: u64,
    pub reserved: u64,
    pub held: u64,
    /// Idempotency keys that are kept.
    pub keys: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, part: Totals) {
        let Totals { events, accounts, admins, quota, reserved, held, keys } = part;
        self.events += events;
        self.accounts += accounts;
        self.admins += admins;
        self.quota += quota;
        self.reserved += reserved;
        self.held += held;
        self.keys += keys;
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    SoldOut {
        remaining: u32,
    },
    /// The event has had [`crate::limits::RESERVATIONS_MAX`] reservations: no number is left for another.
    NumbersUsedUp,
    /// The account has `most` reservations in this shard: as many as a setting of the server allows.
    AccountLimit {
        account: UserId,
        most: u32,
    },
    /// The event is not on sale before this time.
    SalesNotOpen {
        opens_at: Timestamp,
    },
    /// The event is no longer on sale.
    SalesClosed,
    /// A reservation of the event has at most `allowed` tickets.
    ReservationLimit {
        allowed: u32,
    },
    /// The buyer may have `allowed` more tickets of the event.
    CustomerLimit {
        allowed: u32,
    },
    /// The sale of an event would end before it starts, or at the same time.
    EmptyWindow,
    /// The event has another version than the change is meant for.
    VersionMismatch {
        version: u64,
    },
    QuotaBelowCommitted {
        committed: u32,
    },
    HasReservations {
        reserved: u32,
        held: u32,
    },
    UsernameTaken,
    UserNotFound,
    /// The account has changed since the token was issued.
    TokenEnded,
    ApiKeyNotFound,
    /// The organizer has [`crate::limits::API_KEYS_MAX`] keys that are not ended.
    TooManyApiKeys,
    EventExists,
    EventNotFound,
    EventDeleted,
    NotYourEvent,
    /// The actor may see the reservation, but neither confirm nor transfer it.
    NotYourReservation,
    ReservationNotFound,
    /// All its tickets were given back.
    ReservationCancelled,
    /// The reservation has `quantity` tickets: fewer than those that would be left.
    QuantityAbove {
        quantity: u32,
    },
    /// The hold's time is over: its tickets were given back.
    HoldExpired,
    /// The hold, or the reservation that it became, was given up.
    HoldReleased,
    /// The hold has become a reservation of `quantity` tickets.
    HoldConfirmed {
        quantity: u32,
    },
    /// These items of an order cannot be had. Nothing was done.
    OrderRefused {
        items: Box<[RefusedItem]>,
    },
    OrderNotFound,
    /// The actor may see the order, but not confirm it.
    NotYourOrder,
    /// The order cannot be confirmed, since these parts of it have ended. Nothing was done.
    PartsGone {
        parts: Box<[ReservationId]>,
    },
    /// Another request is placing or confirming the order. Nothing was done; it can be sent again.
    OrderBusy,
    /// The reservation is held for this order: only the whole order can be confirmed.
    PartOfOrder {
        order: OrderId,
    },
    /// What has become of an order is not decided yet: until then, its parts and their events cannot end.
    OrderInDoubt,
    /// A request with this key is being worked on.
    KeyInFlight,
    /// As many orders are under way as may be, or an owner of one of the events did not answer. Nothing was done.
    Overloaded,
    /// The reservation is a hold, which is not transferred before it is confirmed.
    HoldNotConfirmed,
    /// There is no customer with the name that was given.
    ReceiverNotFound,
    /// The key was used for a request with another content.
    KeyReused,
    /// The user has [`crate::limits::KEYS_OF_CUSTOMER_MAX`] keys in this slot.
    TooManyKeys {
        user: UserId,
    },
    /// The shard keeps as many keys as a setting of the server allows.
    NoRoomForKeys,
    /// The log is full: nothing can be changed.
    LogFull,
    /// Another program has locked the log: nothing can be changed.
    LogLocked,
    /// The slot has another owner: this shard did nothing.
    Elsewhere,
}
