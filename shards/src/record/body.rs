//! The body of a record: what does not fit columns, as a CBOR map (RFC 8949) from small numbers to values.
//!
//! One struct has the members of all kinds, so that a number means the same in every kind. An absent
//! member takes no byte. `docs/decisions/record-form.md` lists the numbers that are reserved for later
//! members. A number is never reused.

use std::borrow::Cow;

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use super::PartStep;
use crate::ids::{Attempt, Epoch, OrderId, Role};
use crate::outcome::OrderPart;

#[derive(Debug, Default, Encode, Decode)]
#[cbor(map)]
pub(super) struct Body<'a> {
    /// The account that acted, if the column `user` is another one.
    #[n(0)]
    pub(super) by: Option<u32>,
    #[n(1)]
    pub(super) username: Option<&'a str>,
    #[n(2)]
    pub(super) password_hash: Option<&'a str>,
    #[n(3)]
    pub(super) role: Option<u8>,
    #[n(4)]
    pub(super) token_version: Option<u64>,
    #[n(5)]
    pub(super) name: Option<&'a str>,
    /// A deadline, in milliseconds since 1970 by the clock of the process that wrote it.
    #[n(6)]
    pub(super) deadline: Option<u64>,
    #[n(7)]
    pub(super) key_hash: Option<ByteArray<16>>,
    /// In little-endian order.
    #[n(8)]
    pub(super) fingerprint: Option<ByteArray<8>>,
    /// The event of a key's answer. It is not in the column of that name, by which the records of an event are found.
    #[n(9)]
    pub(super) answer_event: Option<u32>,
    /// The number of the API key with which the account acted.
    #[n(10)]
    pub(super) api_key: Option<u32>,
    /// The ref of the customer who has the tickets.
    #[n(11)]
    pub(super) customer_ref: Option<&'a str>,
    /// 1 guest, 2 block. A sale has none.
    #[n(12)]
    pub(super) origin: Option<u8>,
    /// The order's owner and its number.
    #[n(13)]
    pub(super) order: Option<(u32, u32)>,
    #[n(16)]
    pub(super) venue: Option<&'a str>,
    #[n(17)]
    pub(super) sales_start: Option<u64>,
    #[n(18)]
    pub(super) sales_end: Option<u64>,
    #[n(19)]
    pub(super) max_per_reservation: Option<u32>,
    #[n(20)]
    pub(super) max_per_customer: Option<u32>,
    /// The account that gets the tickets of a transfer, or has those of a key's answer, if it is not `user`.
    #[n(22)]
    pub(super) to: Option<u32>,
    /// The number of the reservation that a transfer of a part makes, and its tickets.
    #[n(23)]
    pub(super) part: Option<(u32, u32)>,
    #[n(25)]
    pub(super) organizer: Option<u32>,
    /// Epoch and number of an attempt to place or confirm an order.
    #[n(26)]
    pub(super) attempt: Option<(u64, u64)>,
    /// The event, number and quantity of each part of an order.
    #[n(27)]
    pub(super) parts: Option<Vec<(u32, u32, u32)>>,
    /// What becomes of a part of an order.
    #[n(28)]
    pub(super) step: Option<u8>,
    /// The owner of an order, or its buyer, if it is another account than the one in the column `user`.
    #[n(29)]
    pub(super) other: Option<u32>,
    /// The scopes of an API key, one bit each.
    #[n(30)]
    pub(super) scopes: Option<u8>,
    /// SHA-256 of an API key's secret.
    #[n(31)]
    pub(super) secret_hash: Option<ByteArray<32>>,
    /// The end of an API key, in milliseconds since 1970 by the wall clock.
    #[n(32)]
    pub(super) ends_at: Option<u64>,
}

impl Body<'_> {
    pub(super) fn encode<'b>(&self) -> Cow<'b, [u8]> {
        Cow::Owned(minicbor::to_vec(self).expect("memory takes everything"))
    }
}

impl<'a> Body<'a> {
    /// Decodes a body, and skips unknown members. The caller encodes the result again and compares, to notice
    /// them.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Body<'a>, minicbor::decode::Error> {
        if bytes.is_empty() { Ok(Body::default()) } else { minicbor::decode(bytes) }
    }
}

pub(super) fn body_of_order(OrderId { user, number }: OrderId) -> (u32, u32) {
    (user.0, number)
}

pub(super) fn body_of_attempt(Attempt { epoch, number }: Attempt) -> (u64, u64) {
    (epoch.0, number)
}

pub(super) fn attempt_of_body((epoch, number): (u64, u64)) -> Attempt {
    Attempt { epoch: Epoch(epoch), number }
}

pub(super) fn body_of_parts(parts: &[OrderPart]) -> Vec<(u32, u32, u32)> {
    let body = |part: &OrderPart| (part.reservation.event.0, part.reservation.number, part.quantity);
    parts.iter().map(body).collect()
}

/// A step's number, and the attempt that it names.
pub(super) fn body_of_step(step: PartStep) -> (u8, Option<(u64, u64)>) {
    match step {
        PartStep::Aborted => (0, None),
        PartStep::Held => (1, None),
        PartStep::Locked(attempt) => (2, Some(body_of_attempt(attempt))),
        PartStep::Unlocked => (3, None),
        PartStep::Confirmed => (4, None),
        PartStep::Cancelled => (5, None),
        PartStep::Expired => (6, None),
    }
}

/// The inverse of [`body_of_step`].
pub(super) fn step_of_body(number: u8, attempt: Option<(u64, u64)>) -> Option<PartStep> {
    let steps = [
        PartStep::Aborted,
        PartStep::Held,
        PartStep::Locked(attempt_of_body(attempt.unwrap_or_default())),
        PartStep::Unlocked,
        PartStep::Confirmed,
        PartStep::Cancelled,
        PartStep::Expired,
    ];
    steps.get(usize::from(number)).copied()
}

pub(super) fn number_of_role(role: Role) -> u8 {
    match role {
        Role::Customer => 0,
        Role::Organizer => 1,
        Role::Admin => 2,
    }
}

pub(super) fn role_of_number(number: u8) -> Option<Role> {
    [Role::Customer, Role::Organizer, Role::Admin].into_iter().find(|&role| number_of_role(role) == number)
}
