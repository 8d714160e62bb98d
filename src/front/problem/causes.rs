//! Which problem a client is told of for each refusal: by the parser, a shard, or a limit of the server.

use serde_json::json;
use shards::limits::RESERVATIONS_MAX;
use shards::outcome::Rejection;

use super::{Kind, Problem};
use crate::client::Refused;
use crate::front::http::parse::Refusal;
use crate::passwords::{self, TooManyAttempts, TooManyRegistrations};

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let kind = match refusal.status {
            413 => Kind::ContentTooLarge,
            414 => Kind::UriTooLong,
            417 => Kind::ExpectationFailed,
            431 => Kind::HeadersTooLarge,
            501 => Kind::NotImplemented,
            505 => Kind::VersionNotSupported,
            _ => Kind::MalformedRequest,
        };
        assert_eq!(kind.status(), refusal.status, "a refusal without a kind: {refusal:?}");
        Problem::new(kind, refusal.detail)
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        match refused {
            Refused::Rejected(rejection) => rejection.into(),
            Refused::Overloaded => Problem::unavailable(Kind::Overloaded),
        }
    }
}

impl From<passwords::Refused> for Problem {
    fn from(refused: passwords::Refused) -> Problem {
        match refused {
            passwords::Refused::QueueFull => Problem::unavailable(Kind::Overloaded),
            passwords::Refused::TooManyAttempts(refused) => refused.into(),
            passwords::Refused::TooManyRegistrations(refused) => refused.into(),
        }
    }
}

impl From<TooManyAttempts> for Problem {
    fn from(TooManyAttempts { retry_after_seconds }: TooManyAttempts) -> Problem {
        Problem::plain(Kind::TooManyAttempts).header("Retry-After", retry_after_seconds.to_string())
    }
}

impl From<TooManyRegistrations> for Problem {
    fn from(TooManyRegistrations { retry_after_seconds }: TooManyRegistrations) -> Problem {
        Problem::plain(Kind::TooManyRegistrations).header("Retry-After", retry_after_seconds.to_string())
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Problem {
        match rejection {
            Rejection::SoldOut { remaining } => {
                let detail = match remaining {
                    0 => "No ticket is left.".to_owned(),
                    1 => "Only 1 ticket is left.".to_owned(),
                    several => format!("Only {several} tickets are left."),
                };
                Problem::new(Kind::SoldOut, detail).extend("remaining", json!(remaining))
            }
            Rejection::NumbersUsedUp => {
                let detail = format!(
                    "The event has had {RESERVATIONS_MAX} reservations, cancelled ones included, and can have no \
                     more. Nothing was done. More of them need another event."
                );
                Problem::new(Kind::IdsUsedUp, detail)
            }
            Rejection::QuotaBelowCommitted { committed } => {
                let detail = format!("{committed} tickets are reserved; the quota has to be at least that.");
                Problem::new(Kind::QuotaBelowCommitted, detail).extend("committed", json!(committed))
            }
            Rejection::HasReservations { reserved } => Problem::new(
                Kind::HasReservations,
                format!("{reserved} tickets are reserved. Add ?force=true to cancel them all."),
            ),
            Rejection::UsernameTaken => Problem::plain(Kind::UsernameTaken),
            Rejection::EventExists => Problem::plain(Kind::EventExists),
            Rejection::UserNotFound | Rejection::EventNotFound | Rejection::ReservationNotFound => {
                Problem::plain(Kind::NotFound)
            }
            Rejection::TokenEnded => Problem::unauthorized(),
            Rejection::EventDeleted => Problem::plain(Kind::EventDeleted),
            Rejection::NotYourEvent => Problem::plain(Kind::NotYours),
            Rejection::LogFull => Problem::unavailable(Kind::LogFull),
            Rejection::LogLocked => Problem::unavailable(Kind::LogLocked),
            // The slot moved while the request was on its way.
            Rejection::Elsewhere => Problem::unavailable(Kind::Overloaded),
        }
    }
}
