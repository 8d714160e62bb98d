//! The details of an event: what its organizer decides, at its creation and by edits.
//!
//! Conversions destructure these structs member by member, so that the compiler reports a conversion that
//! forgets a new member.

mod event_name;
mod line;
mod rules;
mod venue;

use crate::ids::Quota;
pub use event_name::EventName;
pub use line::LineError;
pub(crate) use line::check_line;
pub use rules::{RulesPatch, SalesRules};
pub use venue::Venue;

/// Details in records, state and views. They are not checked again, since the rules for new names may be
/// stricter than those under which a name was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventDetails {
    pub name: Box<str>,
    pub quota: u32,
    pub venue: Option<Box<str>>,
    /// `None` if all are absent.
    pub rules: Option<Box<SalesRules>>,
}

/// Details of an event that is to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDetails {
    pub name: EventName,
    pub quota: Quota,
    pub venue: Option<Venue>,
    pub rules: SalesRules,
}

/// Changes of details. A member that is `None` stays as it is; an inner `None` removes an optional detail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DetailsPatch {
    pub name: Option<EventName>,
    pub quota: Option<Quota>,
    pub venue: Option<Option<Venue>>,
    pub rules: RulesPatch,
}

impl EventDetails {
    pub fn rules(&self) -> SalesRules {
        self.rules.as_deref().copied().unwrap_or_default()
    }
}

impl NewDetails {
    /// Details without any optional ones.
    pub fn new(name: EventName, quota: Quota) -> NewDetails {
        NewDetails { name, quota, venue: None, rules: SalesRules::default() }
    }
}

impl From<NewDetails> for EventDetails {
    fn from(new: NewDetails) -> EventDetails {
        let NewDetails { name, quota, venue, rules } = new;
        EventDetails {
            name: name.into_inner(),
            quota: quota.get(),
            venue: venue.map(Venue::into_inner),
            rules: rules.boxed(),
        }
    }
}

impl DetailsPatch {
    /// The details after these changes.
    pub fn apply_to(self, before: &EventDetails) -> EventDetails {
        let DetailsPatch { name, quota, venue, rules } = self;
        EventDetails {
            name: name.map_or_else(|| before.name.clone(), EventName::into_inner),
            quota: quota.map_or(before.quota, Quota::get),
            venue: venue.map_or_else(|| before.venue.clone(), |venue| venue.map(Venue::into_inner)),
            rules: rules.apply_to(before.rules()).boxed(),
        }
    }
}
