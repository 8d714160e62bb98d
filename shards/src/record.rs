//! Records: the durable facts that state is a fold over, and their form on disk.
//!
//! A record is a few integers and, for the rare kinds, a JSON body, so that each
//! is one row that a plain `sqlite3` shell can read. Later kinds join by taking
//! the next number in [`Kind`]; a number is never given again.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::ids::{Epoch, EventId, Lsn, ReservationId, Role, Slot, Timestamp, UserId, Username};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    UserCreated(Box<UserCreated>),
    EventCreated(Box<EventCreated>),
    /// Carries the whole editable part as it is afterwards.
    EventEdited(Box<EventEdited>),
    EventDeleted {
        event: EventId,
        by: UserId,
        /// Tickets of live reservations, which this cancels.
        tickets: u32,
    },
    Reserved {
        id: ReservationId,
        customer: UserId,
        quantity: u32,
    },
    Cancelled {
        id: ReservationId,
        by: UserId,
        /// Tickets given back.
        quantity: u32,
    },
    PasswordChanged(Box<PasswordChanged>),
    RoleChanged(Box<RoleChanged>),
    UserRemoved(Box<UserRemoved>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCreated {
    pub id: UserId,
    pub username: Username,
    pub password_hash: Box<str>,
    pub role: Role,
    pub token_version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordChanged {
    pub id: UserId,
    pub username: Username,
    pub password_hash: Box<str>,
    pub token_version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleChanged {
    pub id: UserId,
    pub username: Username,
    /// The admin.
    pub by: UserId,
    pub role: Role,
    pub token_version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRemoved {
    pub id: UserId,
    pub username: Username,
    /// The admin.
    pub by: UserId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventCreated {
    pub id: EventId,
    pub organizer: UserId,
    pub name: Box<str>,
    pub quota: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventEdited {
    pub id: EventId,
    pub by: UserId,
    pub name: Box<str>,
    pub quota: u32,
}

/// The number of a record's kind on disk, for ever, and its name in the `history` view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    UserCreated = 1,
    EventCreated = 2,
    EventEdited = 3,
    EventDeleted = 4,
    Reserved = 5,
    Cancelled = 6,
    PasswordChanged = 7,
    RoleChanged = 8,
    UserRemoved = 9,
}

impl Kind {
    pub const ALL: [Kind; 9] = [
        Kind::UserCreated,
        Kind::EventCreated,
        Kind::EventEdited,
        Kind::EventDeleted,
        Kind::Reserved,
        Kind::Cancelled,
        Kind::PasswordChanged,
        Kind::RoleChanged,
        Kind::UserRemoved,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::UserCreated => "user_created",
            Kind::EventCreated => "event_created",
            Kind::EventEdited => "event_edited",
            Kind::EventDeleted => "event_deleted",
            Kind::Reserved => "reserved",
            Kind::Cancelled => "cancelled",
            Kind::PasswordChanged => "password_changed",
            Kind::RoleChanged => "role_changed",
            Kind::UserRemoved => "user_removed",
        }
    }

    fn from_number(number: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|&kind| kind as u8 == number)
    }
}

/// A record's columns. What a kind has no use for is 0 or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns<'a> {
    pub kind: u8,
    pub event: u32,
    /// Number of the reservation within its event.
    pub number: u32,
    /// Whom it is about or who did it, as the kind says.
    pub user: u32,
    /// Tickets; the quota, for the kinds about an event.
    pub quantity: u32,
    /// JSON, or empty.
    pub body: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserBody<'a> {
    username: Cow<'a, str>,
    password_hash: Cow<'a, str>,
    role: Role,
    token_version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PasswordBody<'a> {
    username: Cow<'a, str>,
    password_hash: Cow<'a, str>,
    token_version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleBody<'a> {
    username: Cow<'a, str>,
    by: UserId,
    role: Role,
    token_version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RemovalBody<'a> {
    username: Cow<'a, str>,
    by: UserId,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventBody<'a> {
    name: Cow<'a, str>,
}

/// A row holds what no version of this program has written.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("record kind {0} is not known to this version")]
    UnknownKind(u8),
    #[error("body of a {kind} record: {source}")]
    Body { kind: &'static str, source: serde_json::Error },
    #[error("username of an account's record: {0}")]
    Username(#[from] crate::ids::UsernameError),
}

impl Record {
    /// The event that the record is about, if it is about one.
    pub fn event(&self) -> Option<EventId> {
        match self {
            Record::EventCreated(event) => Some(event.id),
            Record::EventEdited(event) => Some(event.id),
            Record::EventDeleted { event, .. } => Some(*event),
            Record::Reserved { id, .. } | Record::Cancelled { id, .. } => Some(id.event),
            Record::UserCreated(_)
            | Record::PasswordChanged(_)
            | Record::RoleChanged(_)
            | Record::UserRemoved(_) => None,
        }
    }

    /// The record as columns. The inverse of [`Record::decode`].
    pub fn encode(&self) -> Columns<'_> {
        match self {
            Record::UserCreated(user) => Columns {
                user: user.id.0,
                body: to_json(&UserBody {
                    username: user.username.as_str().into(),
                    password_hash: (&*user.password_hash).into(),
                    role: user.role,
                    token_version: user.token_version,
                }),
                ..Columns::of(Kind::UserCreated)
            },
            Record::EventCreated(event) => Columns {
                event: event.id.0,
                user: event.organizer.0,
                quantity: event.quota,
                body: to_json(&EventBody { name: (&*event.name).into() }),
                ..Columns::of(Kind::EventCreated)
            },
            Record::EventEdited(event) => Columns {
                event: event.id.0,
                user: event.by.0,
                quantity: event.quota,
                body: to_json(&EventBody { name: (&*event.name).into() }),
                ..Columns::of(Kind::EventEdited)
            },
            Record::EventDeleted { event, by, tickets } => {
                Columns { event: event.0, user: by.0, quantity: *tickets, ..Columns::of(Kind::EventDeleted) }
            }
            Record::Reserved { id, customer, quantity } => Columns {
                event: id.event.0,
                number: id.number,
                user: customer.0,
                quantity: *quantity,
                ..Columns::of(Kind::Reserved)
            },
            Record::Cancelled { id, by, quantity } => Columns {
                event: id.event.0,
                number: id.number,
                user: by.0,
                quantity: *quantity,
                ..Columns::of(Kind::Cancelled)
            },
            Record::PasswordChanged(changed) => Columns {
                user: changed.id.0,
                body: to_json(&PasswordBody {
                    username: changed.username.as_str().into(),
                    password_hash: (&*changed.password_hash).into(),
                    token_version: changed.token_version,
                }),
                ..Columns::of(Kind::PasswordChanged)
            },
            Record::RoleChanged(changed) => Columns {
                user: changed.id.0,
                body: to_json(&RoleBody {
                    username: changed.username.as_str().into(),
                    by: changed.by,
                    role: changed.role,
                    token_version: changed.token_version,
                }),
                ..Columns::of(Kind::RoleChanged)
            },
            Record::UserRemoved(removed) => Columns {
                user: removed.id.0,
                body: to_json(&RemovalBody { username: removed.username.as_str().into(), by: removed.by }),
                ..Columns::of(Kind::UserRemoved)
            },
        }
    }

    /// # Errors
    ///
    /// When the columns are not those of a record that this version knows.
    pub fn decode(columns: &Columns<'_>) -> Result<Record, DecodeError> {
        let kind = Kind::from_number(columns.kind).ok_or(DecodeError::UnknownKind(columns.kind))?;
        let event = EventId(columns.event);
        let user = UserId(columns.user);
        let reservation = ReservationId { event, number: columns.number };
        Ok(match kind {
            Kind::UserCreated => {
                let body: UserBody<'_> = from_json(kind, &columns.body)?;
                Record::UserCreated(Box::new(UserCreated {
                    id: user,
                    username: Username::new(&body.username)?,
                    password_hash: body.password_hash.into(),
                    role: body.role,
                    token_version: body.token_version,
                }))
            }
            Kind::EventCreated => Record::EventCreated(Box::new(EventCreated {
                id: event,
                organizer: user,
                name: from_json::<EventBody<'_>>(kind, &columns.body)?.name.into(),
                quota: columns.quantity,
            })),
            Kind::EventEdited => Record::EventEdited(Box::new(EventEdited {
                id: event,
                by: user,
                name: from_json::<EventBody<'_>>(kind, &columns.body)?.name.into(),
                quota: columns.quantity,
            })),
            Kind::EventDeleted => Record::EventDeleted { event, by: user, tickets: columns.quantity },
            Kind::Reserved => {
                Record::Reserved { id: reservation, customer: user, quantity: columns.quantity }
            }
            Kind::Cancelled => Record::Cancelled { id: reservation, by: user, quantity: columns.quantity },
            Kind::PasswordChanged => {
                let body: PasswordBody<'_> = from_json(kind, &columns.body)?;
                Record::PasswordChanged(Box::new(PasswordChanged {
                    id: user,
                    username: Username::new(&body.username)?,
                    password_hash: body.password_hash.into(),
                    token_version: body.token_version,
                }))
            }
            Kind::RoleChanged => {
                let body: RoleBody<'_> = from_json(kind, &columns.body)?;
                Record::RoleChanged(Box::new(RoleChanged {
                    id: user,
                    username: Username::new(&body.username)?,
                    by: body.by,
                    role: body.role,
                    token_version: body.token_version,
                }))
            }
            Kind::UserRemoved => {
                let body: RemovalBody<'_> = from_json(kind, &columns.body)?;
                Record::UserRemoved(Box::new(UserRemoved {
                    id: user,
                    username: Username::new(&body.username)?,
                    by: body.by,
                }))
            }
        })
    }
}

impl Columns<'_> {
    fn of(kind: Kind) -> Self {
        Columns { kind: kind as u8, event: 0, number: 0, user: 0, quantity: 0, body: Cow::Borrowed("") }
    }
}

fn to_json<'a>(body: &impl Serialize) -> Cow<'a, str> {
    let json = serde_json::to_string(body);
    Cow::Owned(json.expect("strings and integers always have a JSON form"))
}

fn from_json<'a, T: Deserialize<'a>>(kind: Kind, body: &'a str) -> Result<T, DecodeError> {
    serde_json::from_str(body).map_err(|source| DecodeError::Body { kind: kind.name(), source })
}

/// A record in its place: which slot, which position, when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub slot: Slot,
    pub epoch: Epoch,
    pub lsn: Lsn,
    pub at: Timestamp,
    pub record: Record,
    /// See [`SlotHead::chain`].
    pub chain: u64,
}

/// Where a slot's records end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotHead {
    pub lsn: Lsn,
    /// Checksum over every record of the slot so far: each is hashed with the
    /// one before as seed, so that none can be changed, lost or moved unseen.
    pub chain: u64,
    pub at: Timestamp,
}

impl SlotHead {
    /// A slot without records. The cluster's id is the seed of every chain, so
    /// that a file of another cluster cannot fit.
    pub fn empty(cluster: u64) -> SlotHead {
        SlotHead { lsn: Lsn(0), chain: cluster, at: Timestamp(0) }
    }

    /// The checksum of the record that follows this head.
    pub fn chain_next(
        &self,
        slot: Slot,
        epoch: Epoch,
        lsn: Lsn,
        at: Timestamp,
        columns: &Columns<'_>,
    ) -> u64 {
        let mut bytes = [0; 42];
        bytes[0] = slot.0;
        bytes[1] = columns.kind;
        bytes[2..10].copy_from_slice(&epoch.0.to_le_bytes());
        bytes[10..18].copy_from_slice(&lsn.0.to_le_bytes());
        bytes[18..26].copy_from_slice(&at.0.to_le_bytes());
        bytes[26..30].copy_from_slice(&columns.event.to_le_bytes());
        bytes[30..34].copy_from_slice(&columns.number.to_le_bytes());
        bytes[34..38].copy_from_slice(&columns.user.to_le_bytes());
        bytes[38..42].copy_from_slice(&columns.quantity.to_le_bytes());
        let chain = XxHash3_64::oneshot_with_seed(self.chain, &bytes);
        if columns.body.is_empty() {
            return chain;
        }
        XxHash3_64::oneshot_with_seed(chain, columns.body.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each_kind() -> Vec<Record> {
        let id = ReservationId { event: EventId(7), number: 3 };
        vec![
            Record::UserCreated(Box::new(UserCreated {
                id: UserId(1),
                username: Username::new("ada").unwrap(),
                password_hash: "$argon2id$...".into(),
                role: Role::Organizer,
                token_version: u64::MAX,
            })),
            Record::EventCreated(Box::new(EventCreated {
                id: EventId(7),
                organizer: UserId(1),
                name: "\"Quoted\" ☂".into(),
                quota: 10,
            })),
            Record::EventEdited(Box::new(EventEdited {
                id: EventId(7),
                by: UserId(1),
                name: "New".into(),
                quota: 0,
            })),
            Record::EventDeleted { event: EventId(7), by: UserId(1), tickets: 9 },
            Record::Reserved { id, customer: UserId(2), quantity: 4 },
            Record::Cancelled { id, by: UserId(2), quantity: 4 },
            Record::PasswordChanged(Box::new(PasswordChanged {
                id: UserId(1),
                username: Username::new("ada").unwrap(),
                password_hash: "$argon2id$...".into(),
                token_version: 1,
            })),
            Record::RoleChanged(Box::new(RoleChanged {
                id: UserId(1),
                username: Username::new("ada").unwrap(),
                by: UserId(2),
                role: Role::Admin,
                token_version: u64::MAX,
            })),
            Record::UserRemoved(Box::new(UserRemoved {
                id: UserId(1),
                username: Username::new("ada").unwrap(),
                by: UserId(2),
            })),
        ]
    }

    #[test]
    fn every_kind_survives_its_columns() {
        let records = one_of_each_kind();
        let kinds: Vec<u8> = records.iter().map(|record| record.encode().kind).collect();
        assert_eq!(kinds, Kind::ALL.map(|kind| kind as u8), "a kind is missing in this test");
        for record in records {
            assert_eq!(Record::decode(&record.encode()).unwrap(), record);
        }
    }

    #[test]
    fn an_unknown_kind_is_an_error() {
        let columns = Columns { kind: 200, ..Columns::of(Kind::Reserved) };
        assert!(matches!(Record::decode(&columns), Err(DecodeError::UnknownKind(200))));
    }

    #[test]
    fn the_chain_sees_every_column() {
        let record = &one_of_each_kind()[1];
        let head = SlotHead::empty(1);
        let chain = |change: fn(&mut Columns<'_>)| {
            let mut columns = record.encode();
            change(&mut columns);
            head.chain_next(Slot(1), Epoch(1), Lsn(1), Timestamp(1), &columns)
        };
        let changes: [fn(&mut Columns<'_>); 6] = [
            |columns| columns.kind += 1,
            |columns| columns.event += 1,
            |columns| columns.number += 1,
            |columns| columns.user += 1,
            |columns| columns.quantity += 1,
            |columns| columns.body.to_mut().push(' '),
        ];
        let right = chain(|_| ());
        for (index, change) in changes.into_iter().enumerate() {
            assert_ne!(chain(change), right, "column {index}");
        }
        let columns = record.encode();
        let others = [
            head.chain_next(Slot(2), Epoch(1), Lsn(1), Timestamp(1), &columns),
            head.chain_next(Slot(1), Epoch(2), Lsn(1), Timestamp(1), &columns),
            head.chain_next(Slot(1), Epoch(1), Lsn(2), Timestamp(1), &columns),
            head.chain_next(Slot(1), Epoch(1), Lsn(1), Timestamp(2), &columns),
            SlotHead::empty(2).chain_next(Slot(1), Epoch(1), Lsn(1), Timestamp(1), &columns),
        ];
        assert!(others.into_iter().all(|chain| chain != right));
    }
}
