//! What has become of a reservation, and sets of that.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReservationStatus {
    Confirmed,
    /// Not confirmed yet.
    Held,
    Cancelled,
    /// The hold was not confirmed in time.
    Expired,
}

impl ReservationStatus {
    pub const ALL: [ReservationStatus; 4] = [
        ReservationStatus::Confirmed,
        ReservationStatus::Held,
        ReservationStatus::Cancelled,
        ReservationStatus::Expired,
    ];

    /// Its name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            ReservationStatus::Confirmed => "confirmed",
            ReservationStatus::Held => "held",
            ReservationStatus::Cancelled => "cancelled",
            ReservationStatus::Expired => "expired",
        }
    }
}

/// A set of statuses, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statuses(u8);

impl Statuses {
    pub const ALL: Statuses = Statuses(0b1111);

    pub fn contains(self, status: ReservationStatus) -> bool {
        self.0 & bit(status) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = ReservationStatus> {
        ReservationStatus::ALL.into_iter().filter(move |&status| self.contains(status))
    }
}

impl FromIterator<ReservationStatus> for Statuses {
    fn from_iter<I: IntoIterator<Item = ReservationStatus>>(statuses: I) -> Statuses {
        Statuses(statuses.into_iter().fold(0, |bits, status| bits | bit(status)))
    }
}

fn bit(status: ReservationStatus) -> u8 {
    1 << status as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in() {
        for bits in 0..16_u8 {
            let chosen = ReservationStatus::ALL.into_iter().filter(|&status| bits >> status as u8 & 1 == 1);
            let set: Statuses = chosen.clone().collect();
            assert!(set.iter().eq(chosen), "{set:?}");
        }
        assert_eq!(ReservationStatus::ALL.into_iter().collect::<Statuses>(), Statuses::ALL);
    }
}
