//! Which problem a client is told of for each refusal: by the parser, a shard, or a limit of the server.

use serde_json::json;
use shards::limits::{API_KEYS_MAX, KEY_GENERATION, KEYS_OF_CUSTOMER_MAX, RESERVATIONS_MAX};
use shards::outcome::Rejection;

use super::{FieldErrors, Kind, Problem, RefusedItem};
use crate::account_limits::LimitReached;
use crate::client::Refused;
use crate::front::http::parse::Refusal;
use crate::front::http::write::entity_tag;
use crate::front::places::NoPlace;
use crate::front::rfc3339::Rfc3339;
use crate::logging::rationed;
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
            Refused::Unreadable => Problem::unavailable(Kind::LogUnreadable),
            Refused::Overloaded => {
                rationed!(
                    warn,
                    "a request was refused: as many are in flight on a core as --max-in-flight allows"
                );
                Problem::unavailable(Kind::Overloaded)
            }
        }
    }
}

impl From<NoPlace> for Problem {
    fn from(cause: NoPlace) -> Problem {
        let cause = match cause {
            NoPlace::AllTaken => "The server holds as many connections as it may.",
            NoPlace::ShareTaken => {
                "Few connections are left, and your address has so many that these are for others."
            }
        };
        let detail = format!(
            "{cause} Nothing was done; try again after 'Retry-After' seconds, and keep fewer connections open."
        );
        Problem { detail: detail.into(), ..Problem::unavailable(Kind::TooManyConnections) }
    }
}

impl From<passwords::Refused> for Problem {
    fn from(refused: passwords::Refused) -> Problem {
        match refused {
            passwords::Refused::QueueFull => {
                rationed!(warn, "a login or registration was refused: too many passwords wait to be hashed");
                Problem::unavailable(Kind::Overloaded)
            }
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

const _: () = assert!(KEYS_OF_CUSTOMER_MAX == 1000, "the page of too-many-keys says so");

/// Seconds after which to try again when only a higher limit helps: rarely.
const HIGHER_LIMIT_RETRY_SECONDS: u64 = 3600;

impl From<LimitReached> for Problem {
    fn from(reached: LimitReached) -> Problem {
        let lasting = HIGHER_LIMIT_RETRY_SECONDS;
        let (detail, retry_after_seconds) = match reached {
            LimitReached::Changes { most, per_second, retry_after_seconds } => (
                format!(
                    "Your account has made the {most} changes that it may make at once, and regains {per_second} \
                     a second. Nothing was done. Wait; if you need more, ask whoever runs the server to raise \
                     --max-changes-per-account and --changes-per-second."
                ),
                retry_after_seconds,
            ),
            LimitReached::Events { most } => (
                format!(
                    "Your account has created the {most} events that it may create, deleted ones included. Nothing \
                     was done. Ask whoever runs the server to raise --max-events-per-account."
                ),
                lasting,
            ),
            LimitReached::Reservations { most } => (
                format!(
                    "The account has the {most} reservations and holds that it may have in a shard of the server, or has \
                     made so many there for others, cancelled and expired ones included. Nothing was done. Ask whoever runs the server to raise \
                     --max-reservations-per-account."
                ),
                lasting,
            ),
            LimitReached::ApiKeys => (
                format!(
                    "Your account has {API_KEYS_MAX} API keys, as many as it may have. Nothing was done. End those that \
                     are no longer used with DELETE /api/v1/keys/{{key}}."
                ),
                lasting,
            ),
        };
        Problem::new(Kind::AccountLimit, detail)
            .extend("limit", json!(reached.limit()))
            .header("Retry-After", retry_after_seconds.to_string())
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
            Rejection::SalesNotOpen { opens_at } => {
                let opens_at = Rfc3339(opens_at);
                let detail =
                    format!("Tickets are sold from {opens_at} on. Nothing was done; try again then.");
                Problem::new(Kind::SalesNotOpen, detail).extend("opens_at", json!(opens_at))
            }
            Rejection::SalesClosed => Problem::plain(Kind::SalesClosed),
            Rejection::ReservationLimit { allowed } => {
                let most = tickets(allowed);
                let detail =
                    format!("A reservation or hold of this event has at most {most}; ask for fewer.");
                Problem::new(Kind::ReservationLimit, detail).extend("allowed", json!(allowed))
            }
            Rejection::CustomerLimit { allowed } => {
                let detail = match allowed {
                    0 => "The customer has as many tickets of this event as one may have, those of holds included. Give \
                          some back first."
                        .to_owned(),
                    more => format!("Of this event the customer may have {} more; ask for fewer.", tickets(more)),
                };
                Problem::new(Kind::CustomerLimit, detail).extend("allowed", json!(allowed))
            }
            Rejection::EmptyWindow => {
                let rule = "must be later than sales_start; set one of them to null for no bound";
                Problem::invalid(&FieldErrors::of("/sales_end", rule))
            }
            Rejection::NumbersUsedUp => {
                let detail = format!(
                    "The event has had {RESERVATIONS_MAX} reservations, cancelled ones included, and can have no \
                     more. Nothing was done. More of them need another event."
                );
                Problem::new(Kind::IdsUsedUp, detail)
            }
            Rejection::AccountLimit { account: _, most } => LimitReached::Reservations { most }.into(),
            Rejection::VersionMismatch { version } => {
                Problem::plain(Kind::VersionMismatch).extend("etag", json!(entity_tag(version)))
            }
            Rejection::QuotaBelowCommitted { committed } => {
                let committed_tickets = tickets_are(committed);
                let detail =
                    format!("{committed_tickets} reserved or held; the quota has to be at least that.");
                Problem::new(Kind::QuotaBelowCommitted, detail).extend("committed", json!(committed))
            }
            Rejection::HasReservations { reserved, held } => Problem::new(
                Kind::HasReservations,
                format!(
                    "{} reserved, and {} held. Add ?force=true to cancel them all.",
                    tickets_are(reserved),
                    tickets_are(held)
                ),
            ),
            Rejection::UsernameTaken => Problem::plain(Kind::UsernameTaken),
            Rejection::EventExists => Problem::plain(Kind::EventExists),
            Rejection::UserNotFound
            | Rejection::ApiKeyNotFound
            | Rejection::EventNotFound
            | Rejection::ReservationNotFound
            | Rejection::OrderNotFound => Problem::plain(Kind::NotFound),
            Rejection::TooManyApiKeys => LimitReached::ApiKeys.into(),
            Rejection::TokenEnded => Problem::bad_token(),
            Rejection::EventDeleted => Problem::plain(Kind::EventDeleted),
            Rejection::NotYourEvent => Problem::plain(Kind::NotYours),
            Rejection::NotYourReservation => Problem::new(
                Kind::Forbidden,
                "Only its customer confirms a hold, or the event's organizer, if it has no customer with an account. \
                 Its customer and the organizer transfer a reservation.",
            ),
            Rejection::ReservationCancelled => Problem::plain(Kind::ReservationCancelled),
            Rejection::HoldExpired => Problem::plain(Kind::HoldExpired),
            Rejection::HoldNotConfirmed => Problem::plain(Kind::HoldNotConfirmed),
            Rejection::ReceiverNotFound => Problem::plain(Kind::ReceiverNotFound),
            Rejection::HoldReleased => Problem::plain(Kind::HoldReleased),
            Rejection::HoldConfirmed { quantity } => {
                let detail = format!(
                    "This is a confirmed reservation of {}. Nothing was done. Give tickets back with PATCH, or all \
                     with DELETE, of /api/v1/reservations/{{reservation}}; more tickets need another reservation.",
                    tickets(quantity)
                );
                Problem::new(Kind::HoldConfirmed, detail)
            }
            Rejection::QuantityAbove { quantity } => {
                let rule = format!("must be at most {quantity}, the tickets that the reservation has");
                Problem::invalid(&FieldErrors::of("/quantity", rule))
            }
            Rejection::OrderRefused { items } => {
                let items: Vec<_> = items.into_iter().map(RefusedItem::from).collect();
                Problem::plain(Kind::OrderRefused).extend("items", json!(items))
            }
            Rejection::NotYourOrder => Problem::new(
                Kind::Forbidden,
                "Only the account that placed an order confirms it; that account and admins cancel it.",
            ),
            Rejection::PartsGone { parts } => {
                Problem::plain(Kind::OrderPartsGone).extend("parts", json!(parts))
            }
            Rejection::OrderBusy => Problem::unavailable(Kind::OrderBusy),
            Rejection::PartOfOrder { order } => {
                Problem::plain(Kind::PartOfOrder).extend("order", json!(order))
            }
            Rejection::OrderInDoubt => Problem::unavailable(Kind::OrderInDoubt),
            Rejection::KeyInFlight => Problem::unavailable(Kind::KeyInFlight),
            Rejection::Overloaded => Problem::unavailable(Kind::Overloaded),
            Rejection::KeyReused => Problem::plain(Kind::KeyReused),
            Rejection::TooManyKeys { user: _ } => {
                Problem::plain(Kind::TooManyKeys).header("Retry-After", KEY_GENERATION.as_secs().to_string())
            }
            Rejection::NoRoomForKeys => Problem::unavailable(Kind::NoRoomForKeys),
            Rejection::LogFull => Problem::unavailable(Kind::LogFull),
            Rejection::LogLocked => Problem::unavailable(Kind::LogLocked),
            // The slot moved while the request was on its way.
            Rejection::Elsewhere => Problem::unavailable(Kind::Overloaded),
        }
    }
}

fn tickets(count: u32) -> String {
    if count == 1 { "1 ticket".to_owned() } else { format!("{count} tickets") }
}

fn tickets_are(count: u32) -> String {
    format!("{} {}", tickets(count), if count == 1 { "is" } else { "are" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_count_in_english_and_say_what_to_change() {
        for (rejection, detail) in [
            (
                Rejection::HasReservations { reserved: 1, held: 0 },
                "1 ticket is reserved, and 0 tickets are held. Add ?force=true to cancel them all.",
            ),
            (
                Rejection::QuotaBelowCommitted { committed: 1 },
                "1 ticket is reserved or held; the quota has to be at least that.",
            ),
            (
                Rejection::HoldConfirmed { quantity: 1 },
                "This is a confirmed reservation of 1 ticket. Nothing was done.",
            ),
            (Rejection::ReservationLimit { allowed: 1 }, "has at most 1 ticket; ask for fewer."),
            (Rejection::CustomerLimit { allowed: 2 }, "the customer may have 2 tickets more; ask for fewer."),
            (Rejection::CustomerLimit { allowed: 0 }, "Give some back first."),
        ] {
            let problem = Problem::from(rejection.clone());
            assert!(problem.detail.contains(detail), "{rejection:?}: {}", problem.detail);
        }
    }
}
