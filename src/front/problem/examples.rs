//! An example of each kind of problem, for the pages and the contract.

use serde_json::Value;
use shards::api_keys::Scope;
use shards::ids::{EventId, OrderId, ReservationId, Role, Timestamp, UserId};
use shards::outcome::{RefusedItem, Rejection};

use super::{FieldErrors, Kind, Problem, Recovery, unknown};
use crate::account_limits::LimitReached;
use crate::front::http::parse::{Limits, Method, Parser};
use crate::front::registration::Registration;
use crate::passwords::{TooManyAttempts, TooManyRegistrations};

impl Kind {
    /// A problem of this kind, made by the same code as real ones.
    pub fn example(self) -> Problem {
        match self {
            Kind::MalformedRequest => refused("GET / HTTP/1.1\r\n\r\n"),
            Kind::MalformedJson => {
                let failure = serde_json::from_str::<Value>("{\"quantity\":}");
                Problem::malformed_json(&failure.expect_err("it is no JSON"))
            }
            Kind::Unauthorized => Problem::bad_token(),
            Kind::WrongCredentials => Problem::wrong_credentials(self.explanation()),
            Kind::Forbidden => Problem::forbidden(Role::Admin, &[Role::Customer]),
            Kind::MissingScope => Problem::missing_scope(Scope::Sell),
            Kind::RegistrationClosed => {
                Problem::registration_closed(Registration::Customers, Role::Organizer)
            }
            Kind::NotYours => Rejection::NotYourEvent.into(),
            Kind::MethodNotAllowed => Problem::method_not_allowed(Method::Put, "GET, HEAD, POST".to_owned()),
            Kind::SoldOut => Rejection::SoldOut { remaining: 1 }.into(),
            Kind::SalesNotOpen => Rejection::SalesNotOpen { opens_at: Timestamp(1_772_449_200_000) }.into(),
            Kind::SalesClosed => Rejection::SalesClosed.into(),
            Kind::ReservationLimit => Rejection::ReservationLimit { allowed: 4 }.into(),
            Kind::CustomerLimit => Rejection::CustomerLimit { allowed: 1 }.into(),
            Kind::QuotaBelowCommitted => Rejection::QuotaBelowCommitted { committed: 480 }.into(),
            Kind::VersionMismatch => Rejection::VersionMismatch { version: 3 }.into(),
            Kind::HasReservations => Rejection::HasReservations { reserved: 470, held: 10 }.into(),
            Kind::ReservationCancelled => Rejection::ReservationCancelled.into(),
            Kind::HoldExpired => Rejection::HoldExpired.into(),
            Kind::HoldNotConfirmed => Rejection::HoldNotConfirmed.into(),
            Kind::ReceiverNotFound => Rejection::ReceiverNotFound.into(),
            Kind::HoldReleased => Rejection::HoldReleased.into(),
            Kind::HoldConfirmed => Rejection::HoldConfirmed { quantity: 2 }.into(),
            Kind::OrderRefused => {
                let sold_out = RefusedItem { event: EventId(9), why: Rejection::SoldOut { remaining: 1 } };
                Rejection::OrderRefused { items: [sold_out].into() }.into()
            }
            Kind::OrderPartsGone => {
                Rejection::PartsGone { parts: [ReservationId { event: EventId(9), number: 11 }].into() }
                    .into()
            }
            Kind::OrderBusy => Rejection::OrderBusy.into(),
            Kind::PartOfOrder => {
                Rejection::PartOfOrder { order: OrderId { user: UserId(31), number: 5 } }.into()
            }
            Kind::OrderInDoubt => Rejection::OrderInDoubt.into(),
            Kind::KeyInFlight => Rejection::KeyInFlight.into(),
            Kind::UsernameTaken => Rejection::UsernameTaken.into(),
            Kind::TooManyAttempts => TooManyAttempts { retry_after_seconds: 30 }.into(),
            Kind::AccountLimit => {
                LimitReached::Changes { most: 200_000, per_second: 100, retry_after_seconds: 1 }.into()
            }
            Kind::TooManyRegistrations => TooManyRegistrations { retry_after_seconds: 4 }.into(),
            Kind::KeyReused => Rejection::KeyReused.into(),
            Kind::TooManyKeys => Rejection::TooManyKeys { user: UserId(31) }.into(),
            Kind::NoRoomForKeys => Rejection::NoRoomForKeys.into(),
            Kind::EventExists => Rejection::EventExists.into(),
            Kind::EventDeleted => Rejection::EventDeleted.into(),
            Kind::ContentTooLarge => {
                refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n")
            }
            Kind::UriTooLong => refused(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(16 * 1024))),
            Kind::UnsupportedMediaType => Problem::unsupported_media_type("text/xml"),
            Kind::UnsupportedContentEncoding => Problem::unsupported_content_encoding("gzip"),
            Kind::UnsupportedHeader => {
                Problem::unsupported_header("If-Match", &["PATCH /api/v1/events/{event}".to_owned()])
            }
            Kind::UnclearClientAddress => {
                Problem::unclear_client_address("X-Forwarded-For has no address.".to_owned())
            }
            Kind::ExpectationFailed => refused("GET / HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\n\r\n"),
            Kind::Invalid => {
                let mut errors = FieldErrors::of("/quantity", "must be a whole number");
                errors.add(|| "/quantitty".to_owned(), unknown(&["quantity"]));
                Problem::invalid(&errors)
            }
            Kind::HeadersTooLarge => refused(&format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100))),
            Kind::NotImplemented => refused("BREW / HTTP/1.1\r\n"),
            Kind::VersionNotSupported => refused("GET / HTTP/2.0\r\n"),
            Kind::Overloaded | Kind::TooManyConnections | Kind::LogUnreadable => Problem::unavailable(self),
            Kind::IdsUsedUp => Problem::ids_used_up("event"),
            Kind::LogFull => Rejection::LogFull.into(),
            Kind::LogLocked => Rejection::LogLocked.into(),
            Kind::NotReady => Problem::not_ready("5f2b8c90aa41d7e3"),
            Kind::Starting => {
                let recovery = Recovery { records_read: 120_000, records: 1_000_000 };
                Problem::starting("5f2b8c90aa41d7e3", recovery)
            }
            Kind::NotFound | Kind::LastAdmin | Kind::NotAcceptable | Kind::RequestTimeout => {
                Problem::plain(self)
            }
        }
    }
}

/// The problem with which the parser refuses these bytes.
fn refused(bytes: &str) -> Problem {
    let refusal = Parser::new(Limits::default()).parse(bytes.as_bytes()).err();
    refusal.expect("the examples are no requests").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::http::write::reason;

    #[test]
    fn examples_are_of_their_kind_and_whole() {
        for &kind in Kind::ALL {
            let example = kind.example();
            assert_eq!(example.kind(), kind);
            let members = example.body();
            let own = kind.members().iter().filter(|member| member.required).map(|member| member.name);
            let wanted = ["type", "title", "status", "detail"].into_iter().chain(own);
            assert_eq!(members.as_object().unwrap().len(), wanted.clone().count(), "{kind:?}");
            assert!(wanted.into_iter().all(|name| !members[name].is_null()), "{kind:?}");
            assert_ne!(reason(kind.status()), "", "{kind:?}");
        }
    }
}
