//! Records as the columns of a row, and back.

use std::borrow::Cow;

use super::body::{
    Body, attempt_of_body, body_of_attempt, body_of_order, body_of_parts, body_of_step, number_of_role,
    role_of_number, step_of_body,
};
use super::{
    Answer, ApiKeyMade, EventCreated, EventEdited, Held, KeyKept, Kind, OfAnother, OrderPlaced, PartPrepared,
    PartSettled, PartStep, PasswordChanged, Record, RoleChanged, TokensEnded, Transferred, TransferredPart,
    UserCreated, UserRemoved,
};
use crate::api_keys::{ApiKey, Scopes};
use crate::command::{Buyer, CustomerRef};
use crate::details::{EventDetails, SalesRules};
use crate::ids::{
    ApiKeyNumber, Attempt, By, EventId, OrderId, Quantity, ReservationId, Role, Timestamp, UserId, Username,
    UsernameError,
};
use crate::outcome::OrderPart;

/// A record's columns. A column that a kind does not use is 0 or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns<'a> {
    pub kind: u8,
    pub event: u32,
    /// Number of the reservation within its event.
    pub number: u32,
    /// The account that the record is about, or the account that acted, depending on the kind.
    pub user: u32,
    /// A number of tickets; in `event_created` and `event_edited`, the quota.
    pub quantity: u32,
    /// CBOR, or empty.
    pub body: Cow<'a, [u8]>,
}

/// The error of a row that holds something that this version does not write.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("record kind {0} is not known to this version. {NEWER}")]
    UnknownKind(u8),
    #[error("a {kind} record has members that are not known to this version. {NEWER}")]
    UnknownMember { kind: &'static str },
    #[error("body of a {kind} record: {source}")]
    Body { kind: &'static str, source: minicbor::decode::Error },
    #[error("body of a {kind} record: no {member}")]
    Missing { kind: &'static str, member: &'static str },
    #[error("username of an account's record: {0}")]
    Username(#[from] UsernameError),
}

/// Advice about a record with a right checksum that this version cannot have written.
const NEWER: &str = "It was written by a newer boxoffice: start that one; restore or move nothing";

impl DecodeError {
    /// Whether a newer version probably wrote the record.
    pub fn is_newer(&self) -> bool {
        match self {
            DecodeError::UnknownKind(_) | DecodeError::UnknownMember { .. } => true,
            DecodeError::Body { .. } | DecodeError::Missing { .. } | DecodeError::Username(_) => false,
        }
    }
}

impl Record {
    /// The record as columns. The inverse of [`Record::decode`].
    pub fn encode(&self) -> Columns<'_> {
        match self {
            // By far the most frequent.
            Record::Reserved { id, by, buyer: Buyer::Account(buyer), quantity }
                if *by == By::from(*buyer) =>
            {
                columns_of_change(Kind::Reserved, *id, *buyer, *quantity)
            }
            Record::Reserved { id, by, buyer, quantity } => {
                columns_of_reservation(Kind::Reserved, *id, *by, buyer, *quantity, None)
            }
            Record::Cancelled { id, by, quantity } => columns_by(Kind::Cancelled, *id, *by, *quantity),
            Record::Reduced { id, by, quantity } => columns_by(Kind::Reduced, *id, *by, *quantity),
            Record::Held(held) => {
                let Held { id, by, buyer, quantity, deadline } = &**held;
                columns_of_reservation(Kind::Held, *id, *by, buyer, *quantity, Some(*deadline))
            }
            Record::Transferred(transferred) => {
                let Transferred { id, by, to, part } = &**transferred;
                let part = part.map(|TransferredPart { number, quantity }| (number, quantity));
                let body = Body { part, api_key: by.key_number(), ..Body::of_buyer(to) };
                Columns { body: body.encode(), ..columns_of_change(Kind::Transferred, *id, by.user, 0) }
            }
            Record::Confirmed { id, by, given_back } => columns_by(Kind::Confirmed, *id, *by, *given_back),
            Record::Released { id, by, quantity } => columns_by(Kind::Released, *id, *by, *quantity),
            Record::HoldsExpired { event, up_to, tickets } => Columns {
                event: event.0,
                quantity: *tickets,
                body: body_of_deadline(*up_to),
                ..Columns::of(Kind::HoldsExpired)
            },
            Record::HoldsExtended { from } => {
                Columns { body: body_of_deadline(*from), ..Columns::of(Kind::HoldsExtended) }
            }
            Record::PartPrepared(part) => columns_of_prepared(part),
            Record::PartSettled(part) => columns_of_settled(part),
            Record::OrderPlaced(order) => columns_of_placed(order),
            Record::OrderConfirmed { id, by } => columns_of_order(Kind::OrderConfirmed, *id, *by),
            Record::OrderCancelled { id, by } => columns_of_order(Kind::OrderCancelled, *id, *by),
            Record::OrderExpired { id } => columns_of_order(Kind::OrderExpired, *id, id.user.into()),
            Record::OrderSettled { id } => columns_of_order(Kind::OrderSettled, *id, id.user.into()),
            Record::EventCreated(event) => {
                let EventCreated { id, organizer, key, details } = &**event;
                columns_of_details(Kind::EventCreated, *id, By::new(*organizer, *key), details, None)
            }
            Record::EventEdited(event) => {
                let EventEdited { id, by, details, organizer } = &**event;
                columns_of_details(Kind::EventEdited, *id, *by, details, *organizer)
            }
            Record::EventDeleted { event, by, tickets } => {
                let id = ReservationId { event: *event, number: 0 };
                columns_by(Kind::EventDeleted, id, *by, *tickets)
            }
            Record::UserCreated(user) => {
                let UserCreated { id, username, password_hash, role, token_version } = &**user;
                let body = Body {
                    username: Some(username.as_str()),
                    password_hash: Some(password_hash),
                    role: Some(number_of_role(*role)),
                    token_version: Some(*token_version),
                    ..Body::default()
                };
                Columns { user: id.0, body: body.encode(), ..Columns::of(Kind::UserCreated) }
            }
            Record::PasswordChanged(changed) => {
                let PasswordChanged { id, username, by, password_hash, token_version } = &**changed;
                let body = Body {
                    by: other_than(*by, *id),
                    username: Some(username.as_str()),
                    password_hash: Some(password_hash),
                    token_version: Some(*token_version),
                    ..Body::default()
                };
                Columns { user: id.0, body: body.encode(), ..Columns::of(Kind::PasswordChanged) }
            }
            Record::RoleChanged(changed) => {
                let RoleChanged { id, username, by, role, token_version } = &**changed;
                let body = Body {
                    by: Some(by.0),
                    username: Some(username.as_str()),
                    role: Some(number_of_role(*role)),
                    token_version: Some(*token_version),
                    ..Body::default()
                };
                Columns { user: id.0, body: body.encode(), ..Columns::of(Kind::RoleChanged) }
            }
            Record::UserRemoved(removed) => {
                let UserRemoved { id, username, by } = &**removed;
                let body = Body { by: Some(by.0), username: Some(username.as_str()), ..Body::default() };
                Columns { user: id.0, body: body.encode(), ..Columns::of(Kind::UserRemoved) }
            }
            Record::TokensEnded(ended) => {
                let TokensEnded { id, username, by, token_version } = &**ended;
                let body = Body {
                    by: other_than(*by, *id),
                    username: Some(username.as_str()),
                    token_version: Some(*token_version),
                    ..Body::default()
                };
                Columns { user: id.0, body: body.encode(), ..Columns::of(Kind::TokensEnded) }
            }
            Record::ApiKeyMade(made) => columns_of_api_key(made),
            Record::ApiKeyEnded { organizer, number } => {
                Columns { user: organizer.0, number: number.0, ..Columns::of(Kind::ApiKeyEnded) }
            }
            Record::TimeSetBack => Columns::of(Kind::TimeSetBack),
            Record::KeyKept(kept) => columns_of_key(kept),
            Record::KeysAged { since_ms } => Columns { quantity: *since_ms, ..Columns::of(Kind::KeysAged) },
        }
    }

    /// # Errors
    ///
    /// When the columns are not those of a record that this version writes.
    pub fn decode(columns: &Columns<'_>) -> Result<Record, DecodeError> {
        let kind = Kind::from_number(columns.kind).ok_or(DecodeError::UnknownKind(columns.kind))?;
        if kind == Kind::Reserved && columns.body.is_empty() {
            // By far the most frequent kind. It uses every column, so there is nothing to compare.
            let &Columns { kind: _, event, number, user, quantity, body: _ } = columns;
            let id = ReservationId { event: EventId(event), number };
            let user = UserId(user);
            return Ok(Record::Reserved { id, by: user.into(), buyer: Buyer::Account(user), quantity });
        }
        let record = Record::decode_known(kind, columns)?;
        // Refuses members of the body that this version does not know, and values in columns that the kind
        // does not use. Otherwise they would be lost.
        if record.encode() != *columns {
            return Err(DecodeError::UnknownMember { kind: kind.name() });
        }
        Ok(record)
    }

    fn decode_known(kind: Kind, columns: &Columns<'_>) -> Result<Record, DecodeError> {
        let event = EventId(columns.event);
        let user = UserId(columns.user);
        let id = ReservationId { event, number: columns.number };
        let quantity = columns.quantity;
        let order = OrderId { user, number: columns.number };
        let body = Members::decode(kind, &columns.body)?;
        Ok(match kind {
            Kind::Reserved => {
                let by = body.acted_by(body.by_or(user));
                Record::Reserved { id, by, buyer: body.buyer(user)?, quantity }
            }
            Kind::Cancelled => Record::Cancelled { id, by: body.acted_by(user), quantity },
            Kind::Held => Record::Held(Box::new(Held {
                id,
                by: body.acted_by(body.by_or(user)),
                buyer: body.buyer(user)?,
                quantity,
                deadline: body.deadline()?,
            })),
            Kind::Transferred => Record::Transferred(Box::new(Transferred {
                id,
                by: body.acted_by(user),
                to: body.receiver()?,
                part: body.body.part.map(|(number, quantity)| TransferredPart { number, quantity }),
            })),
            Kind::Confirmed => Record::Confirmed { id, by: body.acted_by(user), given_back: quantity },
            Kind::Released => Record::Released { id, by: body.acted_by(user), quantity },
            Kind::HoldsExpired => Record::HoldsExpired { event, up_to: body.deadline()?, tickets: quantity },
            Kind::HoldsExtended => Record::HoldsExtended { from: body.deadline()? },
            Kind::PartPrepared => Record::PartPrepared(Box::new(body.prepared(id, user, quantity)?)),
            Kind::PartSettled => Record::PartSettled(Box::new(PartSettled {
                id,
                by: body.acted_by(user),
                order: body.order(),
                step: body.step()?,
                given_back: quantity,
            })),
            Kind::OrderPlaced => Record::OrderPlaced(Box::new(body.placed(order)?)),
            Kind::OrderConfirmed => Record::OrderConfirmed { id: order, by: body.acted_by(body.by_or(user)) },
            Kind::OrderCancelled => Record::OrderCancelled { id: order, by: body.acted_by(body.by_or(user)) },
            Kind::OrderExpired => Record::OrderExpired { id: order },
            Kind::OrderSettled => Record::OrderSettled { id: order },
            Kind::Reduced => Record::Reduced { id, by: body.acted_by(user), quantity },
            Kind::EventCreated => Record::EventCreated(Box::new(EventCreated {
                id: event,
                organizer: user,
                key: body.api_key_used(),
                details: body.details(quantity)?,
            })),
            Kind::EventEdited => Record::EventEdited(Box::new(EventEdited {
                id: event,
                by: body.acted_by(user),
                details: body.details(quantity)?,
                organizer: body.body.organizer.map(UserId),
            })),
            Kind::EventDeleted => Record::EventDeleted { event, by: body.acted_by(user), tickets: quantity },
            Kind::UserCreated => Record::UserCreated(Box::new(UserCreated {
                id: user,
                username: body.username()?,
                password_hash: body.password_hash()?,
                role: body.role()?,
                token_version: body.token_version()?,
            })),
            Kind::PasswordChanged => Record::PasswordChanged(Box::new(PasswordChanged {
                id: user,
                username: body.username()?,
                by: body.by_or(user),
                password_hash: body.password_hash()?,
                token_version: body.token_version()?,
            })),
            Kind::RoleChanged => Record::RoleChanged(Box::new(RoleChanged {
                id: user,
                username: body.username()?,
                by: body.by()?,
                role: body.role()?,
                token_version: body.token_version()?,
            })),
            Kind::UserRemoved => Record::UserRemoved(Box::new(UserRemoved {
                id: user,
                username: body.username()?,
                by: body.by()?,
            })),
            Kind::TokensEnded => Record::TokensEnded(Box::new(TokensEnded {
                id: user,
                username: body.username()?,
                by: body.by_or(user),
                token_version: body.token_version()?,
            })),
            Kind::ApiKeyMade => Record::ApiKeyMade(Box::new(ApiKeyMade {
                organizer: user,
                number: ApiKeyNumber(columns.number),
                key: body.api_key()?,
            })),
            Kind::ApiKeyEnded => {
                Record::ApiKeyEnded { organizer: user, number: ApiKeyNumber(columns.number) }
            }
            Kind::TimeSetBack => Record::TimeSetBack,
            Kind::KeyKept => {
                let deadline = body.body.deadline.map(Timestamp);
                if let Some(id) = body.order() {
                    let answer = match deadline {
                        None => Answer::Order { id },
                        Some(deadline) => Answer::HeldOrder { id, deadline },
                    };
                    return body.key_kept(user, answer);
                }
                let id = ReservationId { event: body.answer_event()?, number: columns.number };
                let buyer = body.buyer(body.body.to.map_or(user, UserId))?;
                let answer = Answer::of(user, id, quantity, deadline, buyer);
                body.key_kept(user, answer)?
            }
            Kind::EventIdGiven => body.key_kept(user, Answer::EventId(body.answer_event()?))?,
            Kind::KeysAged => Record::KeysAged { since_ms: quantity },
        })
    }
}

/// A change of a reservation, or a usual one that is made.
fn columns_of_change(kind: Kind, id: ReservationId, by: UserId, quantity: u32) -> Columns<'static> {
    Columns { event: id.event.0, number: id.number, user: by.0, quantity, ..Columns::of(kind) }
}

/// A change of which nothing else is to be told than who made it.
fn columns_by(kind: Kind, id: ReservationId, by: By, quantity: u32) -> Columns<'static> {
    let columns = columns_of_change(kind, id, by.user, quantity);
    match by.key_number() {
        None => columns,
        api_key => Columns { body: Body { api_key, ..Body::default() }.encode(), ..columns },
    }
}

fn columns_of_api_key(made: &ApiKeyMade) -> Columns<'static> {
    let ApiKeyMade { organizer, number, key } = made;
    let ApiKey { name, scopes, secret_hash, username, account_version, ends_at } = key;
    let body = Body {
        username: Some(username.as_str()),
        token_version: Some(*account_version),
        name: Some(name),
        scopes: Some(scopes.bits()),
        secret_hash: Some((*secret_hash).into()),
        ends_at: ends_at.map(|time| time.0),
        ..Body::default()
    };
    Columns { user: organizer.0, number: number.0, body: body.encode(), ..Columns::of(Kind::ApiKeyMade) }
}

/// The member `by`, which a record has if the account that acted is not the one of the column `user`.
fn other_than(by: UserId, user: UserId) -> Option<u32> {
    (by != user).then_some(by.0)
}

fn columns_of_key(kept: &KeyKept) -> Columns<'static> {
    let KeyKept { user, hash, fingerprint, answer } = kept;
    let (kind, event, number, quantity, deadline) = match *answer {
        Answer::Order { .. } => (Kind::KeyKept, None, 0, 0, None),
        Answer::HeldOrder { id: _, deadline } => (Kind::KeyKept, None, 0, 0, Some(deadline)),
        Answer::Reservation { id, quantity } => (Kind::KeyKept, Some(id.event), id.number, quantity, None),
        Answer::Hold { id, quantity, deadline } => {
            (Kind::KeyKept, Some(id.event), id.number, quantity, Some(deadline))
        }
        Answer::OfAnother(ref another) => {
            let OfAnother { id, quantity, deadline, buyer: _ } = **another;
            (Kind::KeyKept, Some(id.event), id.number, quantity, deadline)
        }
        Answer::EventId(event) => (Kind::EventIdGiven, Some(event), 0, 0, None),
    };
    let of_buyer = match answer {
        Answer::OfAnother(another) => Body::of_buyer(&another.buyer),
        Answer::Reservation { .. }
        | Answer::Hold { .. }
        | Answer::Order { .. }
        | Answer::HeldOrder { .. }
        | Answer::EventId(_) => Body::default(),
    };
    let body = Body {
        key_hash: Some((*hash).into()),
        fingerprint: Some(fingerprint.to_le_bytes().into()),
        answer_event: event.map(|event| event.0),
        order: answer.order().map(body_of_order),
        deadline: deadline.map(|deadline| deadline.0),
        ..of_buyer
    };
    Columns { number, user: user.0, quantity, body: body.encode(), ..Columns::of(kind) }
}

fn columns_of_prepared(part: &PartPrepared) -> Columns<'static> {
    let &PartPrepared { id, by, ref buyer, quantity, owner, attempt } = part;
    let (user, of_buyer) = match buyer {
        Buyer::Account(user) => (*user, Body { by: other_than(by.user, *user), ..Body::default() }),
        Buyer::Ref(_) | Buyer::Guest | Buyer::Block => (by.user, Body::of_buyer(buyer)),
    };
    let body = Body {
        attempt: Some(body_of_attempt(attempt)),
        other: (owner != user).then_some(owner.0),
        api_key: by.key_number(),
        ..of_buyer
    };
    let (event, number, user) = (id.event.0, id.number, user.0);
    Columns { event, number, user, quantity, body: body.encode(), ..Columns::of(Kind::PartPrepared) }
}

fn columns_of_settled(part: &PartSettled) -> Columns<'static> {
    let &PartSettled { id, by, order, step, given_back } = part;
    let (step, attempt) = body_of_step(step);
    let (order, api_key) = (order.map(body_of_order), by.key_number());
    let body = Body { order, step: Some(step), attempt, api_key, ..Body::default() };
    Columns { body: body.encode(), ..columns_of_change(Kind::PartSettled, id, by.user, given_back) }
}

fn columns_of_placed(order: &OrderPlaced) -> Columns<'static> {
    let &OrderPlaced { id, by, ref buyer, ref parts, attempt, deadline } = order;
    let of_buyer = match buyer {
        Buyer::Account(user) => Body { other: (*user != id.user).then_some(user.0), ..Body::default() },
        Buyer::Ref(_) | Buyer::Guest | Buyer::Block => Body::of_buyer(buyer),
    };
    let body = Body {
        by: other_than(by.user, id.user),
        api_key: by.key_number(),
        deadline: deadline.map(|deadline| deadline.0),
        attempt: Some(body_of_attempt(attempt)),
        parts: Some(body_of_parts(parts)),
        ..of_buyer
    };
    Columns { number: id.number, user: id.user.0, body: body.encode(), ..Columns::of(Kind::OrderPlaced) }
}

/// A change of an order.
fn columns_of_order(kind: Kind, id: OrderId, by: By) -> Columns<'static> {
    let columns = Columns { number: id.number, user: id.user.0, ..Columns::of(kind) };
    if by == By::from(id.user) {
        return columns;
    }
    let body = Body { by: other_than(by.user, id.user), api_key: by.key_number(), ..Body::default() };
    Columns { body: body.encode(), ..columns }
}

/// Not inlined: a reservation would save the registers that it needs.
#[inline(never)]
fn columns_of_details(
    kind: Kind,
    event: EventId,
    by: By,
    details: &EventDetails,
    handed_to: Option<UserId>,
) -> Columns<'static> {
    let EventDetails { name, quota, venue, rules: _ } = details;
    let SalesRules { max_per_reservation, max_per_customer, sales_start, sales_end } = details.rules();
    let body = Body {
        name: Some(name),
        venue: venue.as_deref(),
        sales_start: sales_start.map(|time| time.0),
        sales_end: sales_end.map(|time| time.0),
        max_per_reservation: max_per_reservation.map(Quantity::get),
        max_per_customer: max_per_customer.map(Quantity::get),
        organizer: handed_to.map(|organizer| organizer.0),
        api_key: by.key_number(),
        ..Body::default()
    };
    Columns { event: event.0, user: by.user.0, quantity: *quota, body: body.encode(), ..Columns::of(kind) }
}

/// A reservation or a hold. `user` is the buyer's account; the one that acted, if the buyer has none. Not inlined: the
/// usual reservation, for which the buyer's own account acts, has no body.
#[inline(never)]
fn columns_of_reservation(
    kind: Kind,
    id: ReservationId,
    by: By,
    buyer: &Buyer,
    quantity: u32,
    deadline: Option<Timestamp>,
) -> Columns<'static> {
    let deadline = deadline.map(|deadline| deadline.0);
    let (user, body) = match buyer {
        Buyer::Account(user) => (*user, Body { by: other_than(by.user, *user), ..Body::default() }),
        Buyer::Ref(_) | Buyer::Guest | Buyer::Block => (by.user, Body::of_buyer(buyer)),
    };
    let body = Body { deadline, api_key: by.key_number(), ..body };
    Columns { body: body.encode(), ..columns_of_change(kind, id, user, quantity) }
}

fn body_of_deadline(deadline: Timestamp) -> Cow<'static, [u8]> {
    Body { deadline: Some(deadline.0), ..Body::default() }.encode()
}

impl<'a> Body<'a> {
    /// The members that say who has tickets.
    fn of_buyer(buyer: &'a Buyer) -> Body<'a> {
        let none = Body::default();
        match buyer {
            Buyer::Account(user) => Body { to: Some(user.0), ..none },
            Buyer::Ref(text) => Body { customer_ref: Some(text.as_str()), ..none },
            Buyer::Guest => Body { origin: Some(1), ..none },
            Buyer::Block => Body { origin: Some(2), ..none },
        }
    }
}

impl Columns<'_> {
    pub(super) fn of(kind: Kind) -> Self {
        Columns { kind: kind as u8, event: 0, number: 0, user: 0, quantity: 0, body: Cow::Borrowed(&[]) }
    }
}

/// A body, with access to the members that its kind requires.
struct Members<'a> {
    kind: Kind,
    body: Body<'a>,
}

impl<'a> Members<'a> {
    fn decode(kind: Kind, bytes: &'a [u8]) -> Result<Members<'a>, DecodeError> {
        let body = Body::decode(bytes);
        let body = body.map_err(|source| DecodeError::Body { kind: kind.name(), source })?;
        Ok(Members { kind, body })
    }

    fn required<T>(&self, member: &'static str, value: Option<T>) -> Result<T, DecodeError> {
        value.ok_or(DecodeError::Missing { kind: self.kind.name(), member })
    }

    fn by(&self) -> Result<UserId, DecodeError> {
        self.required("by", self.body.by).map(UserId)
    }

    /// Who gets the tickets of a transfer.
    fn receiver(&self) -> Result<Buyer, DecodeError> {
        match self.body.to {
            Some(account) => self.buyer(UserId(account)),
            None if self.body.customer_ref.is_none() && self.body.origin.is_none() => {
                Err(DecodeError::Missing { kind: self.kind.name(), member: "receiver" })
            }
            // No account has this id.
            None => self.buyer(UserId(0)),
        }
    }

    /// Who has the tickets: `account`, unless the body says otherwise.
    fn buyer(&self, account: UserId) -> Result<Buyer, DecodeError> {
        match (self.body.customer_ref, self.body.origin) {
            (None, None) => Ok(Buyer::Account(account)),
            (Some(text), None) => Ok(Buyer::Ref(CustomerRef::stored(text))),
            (None, Some(1)) => Ok(Buyer::Guest),
            (None, Some(2)) => Ok(Buyer::Block),
            (_, Some(_)) => Err(DecodeError::UnknownMember { kind: self.kind.name() }),
        }
    }

    fn api_key(&self) -> Result<ApiKey, DecodeError> {
        let scopes = self.required("scopes", self.body.scopes)?;
        let scopes = Scopes::from_bits(scopes);
        Ok(ApiKey {
            name: self.required("name", self.body.name)?.into(),
            scopes: scopes.ok_or(DecodeError::UnknownMember { kind: self.kind.name() })?,
            secret_hash: self.required("secret_hash", self.body.secret_hash)?.into(),
            username: self.username()?,
            account_version: self.token_version()?,
            ends_at: self.body.ends_at.map(Timestamp),
        })
    }

    fn username(&self) -> Result<Username, DecodeError> {
        Ok(Username::recorded(self.required("username", self.body.username)?)?)
    }

    fn password_hash(&self) -> Result<Box<str>, DecodeError> {
        self.required("password_hash", self.body.password_hash).map(Box::from)
    }

    fn role(&self) -> Result<Role, DecodeError> {
        let number = self.required("role", self.body.role)?;
        role_of_number(number).ok_or(DecodeError::UnknownMember { kind: self.kind.name() })
    }

    fn token_version(&self) -> Result<u64, DecodeError> {
        self.required("token_version", self.body.token_version)
    }

    fn deadline(&self) -> Result<Timestamp, DecodeError> {
        self.required("deadline", self.body.deadline).map(Timestamp)
    }

    fn by_or(&self, user: UserId) -> UserId {
        self.body.by.map_or(user, UserId)
    }

    fn api_key_used(&self) -> Option<ApiKeyNumber> {
        self.body.api_key.map(ApiKeyNumber)
    }

    fn acted_by(&self, user: UserId) -> By {
        By::new(user, self.api_key_used())
    }

    fn order(&self) -> Option<OrderId> {
        self.body.order.map(|(user, number)| OrderId { user: UserId(user), number })
    }

    fn attempt(&self) -> Result<Attempt, DecodeError> {
        self.required("attempt", self.body.attempt).map(attempt_of_body)
    }

    fn step(&self) -> Result<PartStep, DecodeError> {
        let number = self.required("step", self.body.step)?;
        let unknown = DecodeError::UnknownMember { kind: self.kind.name() };
        step_of_body(number, self.body.attempt).ok_or(unknown)
    }

    fn prepared(&self, id: ReservationId, user: UserId, quantity: u32) -> Result<PartPrepared, DecodeError> {
        Ok(PartPrepared {
            id,
            by: self.acted_by(self.by_or(user)),
            buyer: self.buyer(user)?,
            quantity,
            owner: self.body.other.map_or(user, UserId),
            attempt: self.attempt()?,
        })
    }

    fn placed(&self, id: OrderId) -> Result<OrderPlaced, DecodeError> {
        let parts = self.required("parts", self.body.parts.as_deref())?.iter();
        let parts = parts.map(|&(event, number, quantity)| OrderPart {
            reservation: ReservationId { event: EventId(event), number },
            quantity,
        });
        Ok(OrderPlaced {
            id,
            by: self.acted_by(self.by_or(id.user)),
            buyer: self.buyer(self.body.other.map_or(id.user, UserId))?,
            parts: parts.collect(),
            attempt: self.attempt()?,
            deadline: self.body.deadline.map(Timestamp),
        })
    }

    fn answer_event(&self) -> Result<EventId, DecodeError> {
        self.required("event of the answer", self.body.answer_event).map(EventId)
    }

    fn key_kept(&self, user: UserId, answer: Answer) -> Result<Record, DecodeError> {
        let hash = self.required("key", self.body.key_hash)?.into();
        let fingerprint = self.required("fingerprint", self.body.fingerprint)?;
        let fingerprint = u64::from_le_bytes(fingerprint.into());
        Ok(Record::KeyKept(Box::new(KeyKept { user, hash, fingerprint, answer })))
    }

    fn details(&self, quota: u32) -> Result<EventDetails, DecodeError> {
        let name = self.required("name", self.body.name)?.into();
        // A limit that this version does not write is left out here, and so noticed.
        let limit = |tickets: Option<u32>| Quantity::new(tickets?.into());
        let rules = SalesRules {
            max_per_reservation: limit(self.body.max_per_reservation),
            max_per_customer: limit(self.body.max_per_customer),
            sales_start: self.body.sales_start.map(Timestamp),
            sales_end: self.body.sales_end.map(Timestamp),
        };
        Ok(EventDetails { name, quota, venue: self.body.venue.map(Box::from), rules: rules.boxed() })
    }
}
