//! Who has the tickets of a reservation.

use arcstr::ArcStr;
use serde::{Serialize, Serializer};

use crate::details::{LineError, check_line};
use crate::ids::UserId;
use crate::limits::CUSTOMER_REF_CHARS_MAX;

/// The holder of tickets, who need not be the actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Buyer {
    Account(UserId),
    /// A customer of the event's organizer, without an account here.
    Ref(CustomerRef),
    /// A guest or walk-in of the organizer.
    Guest,
    /// Nobody: the organizer has set the tickets aside.
    Block,
}

impl Buyer {
    pub fn kind(&self) -> SaleKind {
        match self {
            Buyer::Account(_) | Buyer::Ref(_) => SaleKind::Sale,
            Buyer::Guest => SaleKind::Guest,
            Buyer::Block => SaleKind::Block,
        }
    }

    /// The customer's account, and the name that an organizer gave to a customer without one.
    pub fn names(self) -> (Option<UserId>, Option<CustomerRef>) {
        match self {
            Buyer::Account(customer) => (Some(customer), None),
            Buyer::Ref(text) => (None, Some(text)),
            Buyer::Guest | Buyer::Block => (None, None),
        }
    }
}

/// A shop's own name for a customer: 1 to [`CUSTOMER_REF_CHARS_MAX`] characters, by the rules of an event's name.
/// Refs are the same if their bytes are. An event's organizer sees them, and nobody else but admins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CustomerRef(ArcStr);

const _: () = assert!(size_of::<Buyer>() == 16, "each record of a sale has one");

impl CustomerRef {
    /// # Errors
    ///
    /// Which rule the text breaks.
    pub fn new(text: &str) -> Result<CustomerRef, LineError> {
        check_line(text, CUSTOMER_REF_CHARS_MAX)?;
        Ok(CustomerRef(text.into()))
    }

    /// One that was taken before. It is not checked again, since the rules for new ones may be stricter.
    pub(crate) fn stored(text: &str) -> CustomerRef {
        CustomerRef(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for CustomerRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// What a reservation is to its event's organizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SaleKind {
    /// Tickets of a customer.
    Sale,
    /// Tickets of a guest or walk-in.
    Guest,
    /// Tickets that are set aside, and nobody's.
    Block,
}

impl SaleKind {
    pub fn as_str(self) -> &'static str {
        match self {
            SaleKind::Sale => "sale",
            SaleKind::Guest => "guest",
            SaleKind::Block => "block",
        }
    }
}
