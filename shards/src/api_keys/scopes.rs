//! What an API key may be used for, and sets of that.

/// One use of an API key. Its bit in a record is `1 << number`, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Scope {
    /// See what belongs to the organizer's events: reservations, and lists of the organizer's own.
    EventsRead = 0,
    /// Create, edit and delete events.
    EventsWrite = 1,
    /// Sell tickets of the organizer's events, and cancel what was sold.
    Sell = 2,
}

impl Scope {
    pub const ALL: [Scope; 3] = [Scope::EventsRead, Scope::EventsWrite, Scope::Sell];

    /// Its name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::EventsRead => "events:read",
            Scope::EventsWrite => "events:write",
            Scope::Sell => "sell",
        }
    }

    pub fn from_name(name: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.as_str() == name)
    }
}

/// A set of scopes, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & bit(scope) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |&scope| self.contains(scope))
    }

    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// `None` if a bit is that of no scope.
    pub(crate) fn from_bits(bits: u8) -> Option<Scopes> {
        let all: Scopes = Scope::ALL.into_iter().collect();
        (bits & !all.0 == 0).then_some(Scopes(bits))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Scopes {
        Scopes(scopes.into_iter().fold(0, |bits, scope| bits | bit(scope)))
    }
}

fn bit(scope: Scope) -> u8 {
    1 << scope as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in() {
        for bits in 0..8_u8 {
            let chosen = Scope::ALL.into_iter().filter(|&scope| bits >> scope as u8 & 1 == 1);
            let set: Scopes = chosen.clone().collect();
            assert!(set.iter().eq(chosen), "{set:?}");
            assert_eq!((set.bits(), Scopes::from_bits(bits)), (bits, Some(set)));
        }
        assert_eq!(Scopes::from_bits(8), None);
        for scope in Scope::ALL {
            assert_eq!(Scope::from_name(scope.as_str()), Some(scope));
        }
        assert_eq!(Scope::from_name("Sell"), None);
    }
}
