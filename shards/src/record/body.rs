//! The body of a record: what does not fit columns, as a CBOR map (RFC 8949) from small numbers to values.
//!
//! One struct has the members of all kinds, so that a number means the same in every kind. An absent
//! member takes no byte. `docs/decisions/record-form.md` lists the numbers that are reserved for later
//! members. A number is never reused.

use std::borrow::Cow;

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use crate::ids::Role;

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
    #[n(25)]
    pub(super) organizer: Option<u32>,
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
