//! The details of an event: what its organizer decides, at its creation and by edits.
//!
//! Conversions take these structs apart member by member, so that a new member that one of them forgets
//! does not compile.

use crate::command::EventName;
use crate::ids::Quota;

/// Details as records, state and views have them. They are not checked again: the rules for new names may
/// become stricter than those under which a name was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventDetails {
    pub name: Box<str>,
    pub quota: u32,
}

/// Details of an event that is to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDetails {
    pub name: EventName,
    pub quota: Quota,
}

/// Changes of details. What is `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DetailsPatch {
    pub name: Option<EventName>,
    pub quota: Option<Quota>,
}

impl NewDetails {
    /// Details without anything optional.
    pub fn new(name: EventName, quota: Quota) -> NewDetails {
        NewDetails { name, quota }
    }
}

impl From<NewDetails> for EventDetails {
    fn from(new: NewDetails) -> EventDetails {
        let NewDetails { name, quota } = new;
        EventDetails { name: name.into_inner(), quota: quota.get() }
    }
}

impl DetailsPatch {
    /// The details after these changes.
    pub fn apply_to(self, before: &EventDetails) -> EventDetails {
        let DetailsPatch { name, quota } = self;
        EventDetails {
            name: name.map_or_else(|| before.name.clone(), EventName::into_inner),
            quota: quota.map_or(before.quota, Quota::get),
        }
    }
}
