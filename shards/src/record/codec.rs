//! Records as the columns of a row, and back.

use std::borrow::Cow;

use super::body::{Body, number_of_role, role_of_number};
use super::{
    Answer, ApiKeyMade, EventCreated, EventEdited, Held, KeyKept, Kind, PasswordChanged, Record, RoleChanged,
    TokensEnded, UserCreated, UserRemoved,
};
use crate::api_keys::{ApiKey, Scopes};
use crate::command::Buyer;
use crate::details::{EventDetails, SalesRules};
use crate::ids::{
    ApiKeyNumber, EventId, Quantity, ReservationId, Role, Timestamp, UserId, Username, UsernameError,
};

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
            &Record::Reserved { id, by, buyer: Buyer::Account(buyer), quantity } => Columns {
                event: id.event.0,
                number: id.number,
                user: buyer.0,
                quantity,
                body: body_of_reservation(by, buyer, None),
                ..Columns::of(Kind::Reserved)
            },
            Record::Cancelled { id, by, quantity } => columns_of_change(Kind::Cancelled, *id, *by, *quantity),
            Record::Reduced { id, by, quantity } => columns_of_change(Kind::Reduced, *id, *by, *quantity),
            Record::Held(held) => {
                let &Held { id, by, buyer: Buyer::Account(buyer), quantity, deadline } = &**held;
                Columns {
                    event: id.event.0,
                    number: id.number,
                    user: buyer.0,
                    quantity,
                    body: body_of_reservation(by, buyer, Some(deadline)),
                    ..Columns::of(Kind::Held)
                }
            }
            Record::Confirmed { id, by, given_back } => {
                columns_of_change(Kind::Confirmed, *id, *by, *given_back)
            }
            Record::Released { id, by, quantity } => columns_of_change(Kind::Released, *id, *by, *quantity),
            Record::HoldsExpired { event, up_to, tickets } => Columns {
                event: event.0,
                quantity: *tickets,
                body: body_of_deadline(*up_to),
                ..Columns::of(Kind::HoldsExpired)
            },
            Record::HoldsExtended { from } => {
                Columns { body: body_of_deadline(*from), ..Columns::of(Kind::HoldsExtended) }
            }
            Record::EventCreated(event) => {
                let EventCreated { id, organizer, details } = &**event;
                columns_of_details(Kind::EventCreated, *id, *organizer, details, None)
            }
            Record::EventEdited(event) => {
                let EventEdited { id, by, details, organizer } = &**event;
                columns_of_details(Kind::EventEdited, *id, *by, details, *organizer)
            }
            Record::EventDeleted { event, by, tickets } => {
                Columns { event: event.0, user: by.0, quantity: *tickets, ..Columns::of(Kind::EventDeleted) }
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
            return Ok(Record::Reserved { id, by: user, buyer: Buyer::Account(user), quantity });
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
        let body = Members::decode(kind, &columns.body)?;
        Ok(match kind {
            Kind::Reserved => {
                let by = body.by_or(user);
                Record::Reserved { id, by, buyer: Buyer::Account(user), quantity }
            }
            Kind::Cancelled => Record::Cancelled { id, by: user, quantity },
            Kind::Held => Record::Held(Box::new(Held {
                id,
                by: body.by_or(user),
                buyer: Buyer::Account(user),
                quantity,
                deadline: body.deadline()?,
            })),
            Kind::Confirmed => Record::Confirmed { id, by: user, given_back: quantity },
            Kind::Released => Record::Released { id, by: user, quantity },
            Kind::HoldsExpired => Record::HoldsExpired { event, up_to: body.deadline()?, tickets: quantity },
            Kind::HoldsExtended => Record::HoldsExtended { from: body.deadline()? },
            Kind::Reduced => Record::Reduced { id, by: user, quantity },
            Kind::EventCreated => Record::EventCreated(Box::new(EventCreated {
                id: event,
                organizer: user,
                details: body.details(quantity)?,
            })),
            Kind::EventEdited => Record::EventEdited(Box::new(EventEdited {
                id: event,
                by: user,
                details: body.details(quantity)?,
                organizer: body.body.organizer.map(UserId),
            })),
            Kind::EventDeleted => Record::EventDeleted { event, by: user, tickets: quantity },
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
                let id = ReservationId { event: body.answer_event()?, number: columns.number };
                let answer = match body.body.deadline.map(Timestamp) {
                    None => Answer::Reservation { id, quantity },
                    Some(deadline) => Answer::Hold { id, quantity, deadline },
                };
                body.key_kept(user, answer)?
            }
            Kind::EventIdGiven => body.key_kept(user, Answer::EventId(body.answer_event()?))?,
            Kind::KeysAged => Record::KeysAged { since_ms: quantity },
        })
    }
}

/// A change of a reservation.
fn columns_of_change(kind: Kind, id: ReservationId, by: UserId, quantity: u32) -> Columns<'static> {
    Columns { event: id.event.0, number: id.number, user: by.0, quantity, ..Columns::of(kind) }
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
        Answer::Reservation { id, quantity } => (Kind::KeyKept, id.event, id.number, quantity, None),
        Answer::Hold { id, quantity, deadline } => {
            (Kind::KeyKept, id.event, id.number, quantity, Some(deadline))
        }
        Answer::EventId(event) => (Kind::EventIdGiven, event, 0, 0, None),
    };
    let body = Body {
        key_hash: Some((*hash).into()),
        fingerprint: Some(fingerprint.to_le_bytes().into()),
        answer_event: Some(event.0),
        deadline: deadline.map(|deadline| deadline.0),
        ..Body::default()
    };
    Columns { number, user: user.0, quantity, body: body.encode(), ..Columns::of(kind) }
}

/// Not inlined: a reservation would save the registers that it needs.
#[inline(never)]
fn columns_of_details(
    kind: Kind,
    event: EventId,
    user: UserId,
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
        ..Body::default()
    };
    Columns { event: event.0, user: user.0, quantity: *quota, body: body.encode(), ..Columns::of(kind) }
}

/// The body of a reservation or a hold. It is empty in the usual case: a reservation for which the buyer's own
/// account acts.
fn body_of_reservation(by: UserId, buyer: UserId, deadline: Option<Timestamp>) -> Cow<'static, [u8]> {
    if by == buyer && deadline.is_none() {
        return Cow::Borrowed(&[]);
    }
    let by = other_than(by, buyer);
    Body { by, deadline: deadline.map(|deadline| deadline.0), ..Body::default() }.encode()
}

fn body_of_deadline(deadline: Timestamp) -> Cow<'static, [u8]> {
    Body { deadline: Some(deadline.0), ..Body::default() }.encode()
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

    /// The account that acted; that of the column `user`, if the body names no other.
    fn by_or(&self, user: UserId) -> UserId {
        self.body.by.map_or(user, UserId)
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
        Ok(Username::new(self.required("username", self.body.username)?)?)
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
