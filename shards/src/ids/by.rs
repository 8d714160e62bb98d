//! Who acted.

use std::num::NonZeroU32;

use super::{ApiKeyNumber, UserId};

/// The account that acted, and the API key that it used, if one. It has eight bytes, since each sale carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct By {
    pub user: UserId,
    key: Option<NonZeroU32>,
}

const _: () = assert!(size_of::<By>() == 8);

impl By {
    /// Keys are numbered from 1: there is no key 0.
    pub const fn new(user: UserId, key: Option<ApiKeyNumber>) -> By {
        let key = match key {
            Some(ApiKeyNumber(number)) => NonZeroU32::new(number),
            None => None,
        };
        By { user, key }
    }

    pub fn key(self) -> Option<ApiKeyNumber> {
        self.key_number().map(ApiKeyNumber)
    }

    pub(crate) fn key_number(self) -> Option<u32> {
        self.key.map(NonZeroU32::get)
    }
}

/// An account that used no key.
impl From<UserId> for By {
    fn from(user: UserId) -> By {
        By { user, key: None }
    }
}
