//! Requests to a shard: a [`Command`] may change state, a [`Query`] may not.
//!
//! Requests are parsed and authenticated before, and the actor's role is checked. What depends on the owner
//! of an event or reservation is checked by the shard that has it.

mod buyer;
mod key;
mod order;
mod query;

use crate::api_keys::ApiKey;
use crate::details::{DetailsPatch, NewDetails};
use crate::ids::{
    ApiKeyNumber, By, EventId, HoldTime, OrderId, Quantity, ReservationId, Role, Slot, UserId, Username,
};
use crate::slots::{slot_of_event, slot_of_user, slot_of_username};
pub use buyer::{Buyer, CustomerRef, SaleKind};
pub use key::{GiveEventId, IdempotencyKey, Keyed};
pub use order::{
    Doubt, OrderItem, OrderItems, OrderItemsError, OrderMessage, PartFate, PlaceOrder, Prepare, Settle,
};
pub use query::{Query, SlotPositions};

/// A request to a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Command(Command),
    Query(Query),
}

/// The account that sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor {
    pub user: UserId,
    pub role: Role,
    /// Which of its API keys it uses, if one.
    pub key: Option<ApiKeyNumber>,
}

impl Actor {
    /// An account that uses no API key.
    pub const fn new(user: UserId, role: Role) -> Actor {
        Actor { user, role, key: None }
    }

    /// Who acts, for a record.
    pub fn by(self) -> By {
        By::new(self.user, self.key)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    CreateUser(Box<CreateUser>),
    ChangePassword(Box<ChangePassword>),
    ChangeRole(Box<ChangeRole>),
    /// Makes an account unusable. Its reservations stay.
    RemoveUser(Box<RemoveUser>),
    /// Ends all tokens of an account.
    EndTokens(Box<EndTokens>),
    MakeApiKey(Box<MakeApiKey>),
    EndApiKey(EndApiKey),
    CreateEvent(Box<CreateEvent>),
    /// Creates an event whose id was given to a key. If the event exists, the answer is that of its creation again.
    CreateGivenEvent(Box<CreateEvent>),
    GiveEventId(Box<GiveEventId>),
    EditEvent(Box<EditEvent>),
    DeleteEvent(Box<DeleteEvent>),
    Reserve {
        event: EventId,
        actor: Actor,
        buyer: Buyer,
        quantity: Quantity,
    },
    /// Reserves tickets for a time, in which they can be confirmed.
    Hold {
        event: EventId,
        actor: Actor,
        buyer: Buyer,
        quantity: Quantity,
        time: HoldTime,
    },
    /// Makes a hold a reservation.
    Confirm {
        reservation: ReservationId,
        actor: Actor,
        /// The tickets to keep, if not all: the others are given back.
        quantity: Option<Quantity>,
    },
    /// Gives a hold up.
    Release {
        reservation: ReservationId,
        actor: Actor,
    },
    /// Cancels a reservation, or gives a hold up.
    Cancel {
        reservation: ReservationId,
        actor: Actor,
    },
    /// Cancels a part of a reservation.
    Reduce {
        reservation: ReservationId,
        actor: Actor,
        /// The tickets that are left.
        quantity: Quantity,
    },
    /// Buys or holds tickets of several events, all or none.
    PlaceOrder(Box<PlaceOrder>),
    /// Makes all parts of a held order reservations, or none.
    ConfirmOrder {
        order: OrderId,
        actor: Actor,
    },
    /// Cancels the live parts of an order, or gives a held one up.
    CancelOrder {
        order: OrderId,
        actor: Actor,
    },
    /// Gives a reservation, or a part of it, to another buyer.
    Transfer(Box<Transfer>),
    Keyed(Box<Keyed>),
    /// From the owner of another slot. Has no answer.
    OrderMessage(Box<OrderMessage>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    pub reservation: ReservationId,
    pub actor: Actor,
    /// `None` if there is no customer with the name that was given. The event's slot does not know accounts: the
    /// sender has asked.
    pub to: Option<Buyer>,
    /// The tickets to give, if not all.
    pub quantity: Option<Quantity>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateUser {
    /// A new id, never used before.
    pub id: UserId,
    pub username: Username,
    /// The hash in PHC string format.
    pub password_hash: Box<str>,
    pub role: Role,
    /// 64 random bits, which this account's tokens carry.
    pub token_version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangePassword {
    pub user: UserId,
    pub username: Username,
    /// The account itself, or an admin.
    pub by: UserId,
    /// The version that the account had when its current password was checked; `None` if an admin sets another one,
    /// whatever it is now.
    pub token_version: Option<u64>,
    /// The hash in PHC string format.
    pub password_hash: Box<str>,
    /// 64 new random bits. Tokens with another version end.
    pub next_token_version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRole {
    pub user: UserId,
    pub username: Username,
    /// The admin.
    pub by: UserId,
    pub role: Role,
    /// 64 new random bits. Tokens with another version end.
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
pub struct EndTokens {
    pub user: UserId,
    pub username: Username,
    /// The account itself, or an admin.
    pub by: UserId,
    /// 64 new random bits. Tokens with another version end.
    pub next_token_version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MakeApiKey {
    pub organizer: UserId,
    pub key: ApiKey,
    /// Keys that a change of the account has ended. They are forgotten.
    pub over: Box<[ApiKeyNumber]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndApiKey {
    pub organizer: UserId,
    pub number: ApiKeyNumber,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateEvent {
    /// A new id, never used before.
    pub id: EventId,
    pub organizer: UserId,
    /// The organizer's API key that was used.
    pub key: Option<ApiKeyNumber>,
    pub details: NewDetails,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditEvent {
    pub event: EventId,
    pub actor: Actor,
    pub version: ExpectedVersion,
    pub changes: DetailsPatch,
    /// The account that gets the event. The event's slot does not know accounts: the sender has checked that
    /// this one is an organizer.
    pub organizer: Option<UserId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteEvent {
    pub event: EventId,
    pub actor: Actor,
    pub version: ExpectedVersion,
    /// Whether to cancel live reservations. Otherwise an event that has some is not deleted.
    pub force: bool,
}

/// The versions of an event for which a change is meant. An event with another version is not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedVersion {
    Any,
    OneOf(Box<[u64]>),
}

impl ExpectedVersion {
    pub fn allows(&self, version: u64) -> bool {
        match self {
            ExpectedVersion::Any => true,
            ExpectedVersion::OneOf(versions) => versions.contains(&version),
        }
    }
}

impl Ask {
    /// The slot of this request; `None` for a query over all slots.
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
            Command::EndTokens(end) => slot_of_username(&end.username),
            Command::MakeApiKey(make) => slot_of_user(make.organizer),
            Command::EndApiKey(end) => slot_of_user(end.organizer),
            Command::CreateEvent(create) | Command::CreateGivenEvent(create) => slot_of_event(create.id),
            Command::GiveEventId(give) => slot_of_user(give.key.user),
            Command::EditEvent(edit) => slot_of_event(edit.event),
            Command::DeleteEvent(delete) => slot_of_event(delete.event),
            Command::Reserve { event, .. } | Command::Hold { event, .. } => slot_of_event(*event),
            Command::Confirm { reservation, .. }
            | Command::Release { reservation, .. }
            | Command::Cancel { reservation, .. }
            | Command::Reduce { reservation, .. } => slot_of_event(reservation.event),
            Command::PlaceOrder(place) => slot_of_user(place.owner),
            Command::ConfirmOrder { order, .. } | Command::CancelOrder { order, .. } => {
                slot_of_user(order.user)
            }
            Command::Transfer(transfer) => slot_of_event(transfer.reservation.event),
            Command::Keyed(keyed) => keyed.command.slot(),
            Command::OrderMessage(message) => message.slot(),
        }
    }

    /// Whether the coordinator of an order decides this together with the owners of its events.
    pub fn is_about_order(&self) -> bool {
        match self {
            Command::PlaceOrder(_) | Command::ConfirmOrder { .. } | Command::CancelOrder { .. } => true,
            Command::Keyed(keyed) => keyed.command.is_about_order(),
            Command::CreateUser(_)
            | Command::ChangePassword(_)
            | Command::ChangeRole(_)
            | Command::RemoveUser(_)
            | Command::CreateEvent(_)
            | Command::CreateGivenEvent(_)
            | Command::GiveEventId(_)
            | Command::EditEvent(_)
            | Command::DeleteEvent(_)
            | Command::Reserve { .. }
            | Command::Hold { .. }
            | Command::Confirm { .. }
            | Command::Release { .. }
            | Command::Cancel { .. }
            | Command::Reduce { .. }
            | Command::Transfer(_)
            | Command::EndTokens(_)
            | Command::MakeApiKey(_)
            | Command::EndApiKey(_)
            | Command::OrderMessage(_) => false,
        }
    }

    /// The key that is kept with this command's effect.
    pub fn key(&self) -> Option<&IdempotencyKey> {
        match self {
            Command::GiveEventId(give) => Some(&give.key),
            Command::Keyed(keyed) => Some(&keyed.key),
            Command::CreateUser(_)
            | Command::ChangePassword(_)
            | Command::ChangeRole(_)
            | Command::RemoveUser(_)
            | Command::EndTokens(_)
            | Command::MakeApiKey(_)
            | Command::EndApiKey(_)
            | Command::CreateEvent(_)
            | Command::CreateGivenEvent(_)
            | Command::EditEvent(_)
            | Command::DeleteEvent(_)
            | Command::Reserve { .. }
            | Command::Hold { .. }
            | Command::Confirm { .. }
            | Command::Release { .. }
            | Command::Cancel { .. }
            | Command::Reduce { .. }
            | Command::PlaceOrder(_)
            | Command::ConfirmOrder { .. }
            | Command::CancelOrder { .. }
            | Command::OrderMessage(_)
            | Command::Transfer(_) => None,
        }
    }
}
